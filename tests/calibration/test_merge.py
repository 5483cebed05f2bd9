"""Merged calibrators against what they are defined as: means of logarithms, and one plain sort."""

import numpy as np
import pytest
from scipy.stats import gmean

from ce_parallel.calibration import (
    Calibration,
    ConformalPredictiveSystem,
    CrossConformal,
    EventSplit,
    InductiveVennAbers,
    MergedVennAbers,
    Mondrian,
    Recipe,
    Rows,
    VennAbersClassifier,
    _merge,
    merge,
)
from ce_parallel.calibration._merge import ranked

TOLERANCE = {"rtol": 0, "atol": 1e-12}


class Says:
    """A member that says what it is told."""

    def __init__(self, p0, p1):
        self.p0, self.p1 = p0, p1

    def predict(self, scores, rows):
        return np.full((3, len(scores)), [[np.nan], [self.p0], [self.p1]])


def merged(*pairs, summary="regularized_mean"):
    members = tuple(Says(*pair) for pair in pairs)
    predictor = MergedVennAbers(members, tuple(range(len(pairs))), summary)
    return predictor.predict(np.zeros((2, len(pairs))))[:, 0]


# -- Venn-Abers ------------------------------------------------------------------------------------


def test_low_and_high_are_geometric_means():
    value, low, high = merged((0.1, 0.3), (0.2, 0.5))
    np.testing.assert_allclose(low, 1 - np.sqrt(0.9 * 0.8), **TOLERANCE)
    np.testing.assert_allclose(high, np.sqrt(0.3 * 0.5), **TOLERANCE)
    np.testing.assert_allclose(value, high / (1 - low + high), **TOLERANCE)


def test_certainty_of_one_fold_is_no_accident_of_logarithms():
    np.testing.assert_array_equal(merged((0.0, 0.0), (0.0, 0.4)), [0, 0, 0])
    np.testing.assert_array_equal(merged((1.0, 1.0), (0.3, 1.0)), [1, 1, 1])


def test_tiny_probabilities_keep_their_digits():
    value, low, high = merged(*[(1e-17, 1e-16)] * 3)
    np.testing.assert_allclose([low, high], [1e-17, 1e-16], rtol=1e-12)
    np.testing.assert_allclose(value, 1e-16, rtol=1e-12)


@pytest.mark.parametrize(
    ("summary", "expected"),
    [("regularized_mean", 0.5), ("mean", 0.5), ("lower", 0.3), ("upper", 0.7)],
)
def test_bounds_of_folds_that_disagree_change_places(summary, expected):
    """GM(p) + GM(1 - p) < 1 unless all p are equal: what is called low may be above high."""
    value, low, high = merged((0.1, 0.1), (0.9, 0.9), summary=summary)
    np.testing.assert_allclose([value, low, high], [expected, 0.3, 0.7], **TOLERANCE)


@pytest.mark.parametrize("n_folds", [1, 2, 5, 12])
@pytest.mark.parametrize("n_classes", [2, 3])
def test_classes_are_merged_one_by_one_and_then_brought_into_line(n_classes, n_folds):
    rng = np.random.default_rng([n_classes, n_folds])
    parts = []
    for _ in range(n_folds):
        scores = rng.dirichlet(np.ones(n_classes), 40)
        parts.append(VennAbersClassifier.fit(scores, rng.integers(n_classes, size=40)))
    scores = rng.dirichlet(np.ones(n_classes), (50, n_folds))
    found = merge(parts, range(n_folds)).predict_all(scores)

    raw = np.empty((3, 50, n_classes))
    for c in range(n_classes):
        tables = [part.tables[c if n_classes > 2 else 0] for part in parts]
        column = c if n_classes > 2 else 1
        pairs = [t.predict(scores[:, k, column])[1:] for k, t in enumerate(tables)]
        low = 1 - gmean([1 - p0 for p0, _ in pairs])
        high = gmean([p1 for _, p1 in pairs])
        value = high / (1 - low + high)
        raw[..., c] = value, np.minimum(low, high), np.maximum(low, high)
    if n_classes == 2:
        raw[..., 0] = 1 - raw[[0, 2, 1], :, 1]
    else:
        raw = raw / raw[0].sum(axis=1, keepdims=True)
    np.testing.assert_allclose(found, raw, **TOLERANCE)
    np.testing.assert_allclose(found[0].sum(axis=1), 1, **TOLERANCE)


def test_a_score_that_is_missing_has_no_say():
    rng = np.random.default_rng(0)
    tables = tuple(InductiveVennAbers.fit(rng.random(30), rng.random(30) < 0.5) for _ in range(3))
    scores = rng.random((20, 3))
    some = MergedVennAbers(tables[::2], (0, 2), "regularized_mean").predict(scores)
    scores[:, 1] = np.nan
    every = MergedVennAbers(tables, (0, 1, 2), "regularized_mean").predict(scores)
    np.testing.assert_array_equal(every, some)


@pytest.mark.parametrize("summary", ["regularized_mean", "mean", "lower", "upper"])
def test_value_lies_between_the_bounds(summary):
    rng = np.random.default_rng(2)
    tables = tuple(
        InductiveVennAbers.fit(scores := rng.random(200), rng.random(200) < scores)
        for _ in range(5)
    )
    scores = rng.random((5000, 1)) + 0.1 * rng.normal(size=(5000, 5))
    value, low, high = MergedVennAbers(tables, tuple(range(5)), summary).predict(scores)
    assert ((low >= 0) & (low <= value) & (value <= high) & (high <= 1)).all()


# -- regression ------------------------------------------------------------------------------------


def sorted_union(alphas, centres, sigma):
    """Every point of every fold, ascending, between minus and plus infinity."""
    sigma = np.ones(len(centres)) if sigma is None else sigma
    points = [centres[:, [k]] + sigma[:, None] * a for k, a in enumerate(alphas)]
    ends = np.full((len(centres), 1), np.inf)
    return np.hstack([-ends, np.sort(np.hstack(points), axis=1), ends])


@pytest.mark.parametrize("decimals", [0, 1, 12], ids="decimals={}".format)
@pytest.mark.parametrize("most", [1, 3, 30, 400], ids="most={}".format)
@pytest.mark.parametrize("few", [0, 32])
def test_ranks_are_those_of_a_plain_sort(most, decimals, few, monkeypatch):
    """With ties where decimals are few, folds of one row, and folds far from each other."""
    monkeypatch.setattr(_merge, "FEW", few)
    monkeypatch.setattr(_merge, "CHUNK_BYTES", 4096)
    rng = np.random.default_rng([most, decimals, few])
    for trial in range(40):
        scale = 10.0 ** rng.integers(-3, 4)
        sizes = rng.integers(1, most + 1, size=rng.integers(1, 7))
        alphas = [np.sort(np.round(scale * rng.normal(size=n), decimals)) for n in sizes]
        centres = rng.normal(size=(9, 1)) + rng.normal(size=(9, len(sizes)))
        centres = np.round(10.0 ** rng.integers(-2, 4) * centres, decimals)
        sigma = rng.uniform(0.1, 3, 9) if trial % 2 else None
        expected = sorted_union(alphas, centres, sigma)
        n = sizes.sum()
        for first in {0, 1, n // 20, n // 2, n, n + 1}:
            last = min(first + trial % 3 % 2, n) if 1 <= first <= n else first
            found = ranked(alphas, centres, sigma, int(first), int(last))
            np.testing.assert_array_equal(found, expected[:, [first, last]].T)


def test_equal_numbers_do_not_keep_the_search_from_ending():
    alphas = [np.zeros(500), np.repeat([0.0, 1.0], 300)]
    centres = np.zeros((3, 2))
    expected = sorted_union(alphas, centres, None)
    for rank in (1, 799, 800, 801, 1100):
        found = ranked(alphas, centres, None, rank, rank)
        np.testing.assert_array_equal(found[0], expected[:, rank])


@pytest.mark.parametrize("percentiles", [(5, 95), (50, 50), (0.1, 99.9), (-np.inf, 80)])
@pytest.mark.parametrize("difficult", [False, True])
def test_percentiles_are_those_of_all_points_together(percentiles, difficult):
    rng = np.random.default_rng(3)
    alphas = tuple(np.sort(rng.normal(size=n)) for n in (40, 7, 1))
    y_hat = rng.normal(size=(300, 3))
    sigma = rng.uniform(0.5, 2, 300) if difficult else None
    found = CrossConformal(alphas, (0, 1, 2)).predict(
        y_hat, Rows(difficulty=sigma), percentiles=percentiles
    )
    for i, points in enumerate(sorted_union(alphas, y_hat, sigma)):
        one = ConformalPredictiveSystem(points[1:-1]).predict(np.zeros(1), percentiles=percentiles)
        np.testing.assert_array_equal(found[:, i], one[:, 0])


def test_one_fold_is_a_split_conformal_predictive_system():
    rng = np.random.default_rng(4)
    plain = ConformalPredictiveSystem.fit(rng.normal(size=77))
    y_hat = rng.normal(size=100)
    np.testing.assert_array_equal(
        CrossConformal((plain.alphas,), (0,)).predict(y_hat[:, None]), plain.predict(y_hat)
    )


# -- recipes ---------------------------------------------------------------------------------------

REGRESSION = Recipe(None, (4, 4), "regularized_mean", "scale", 0)


def folds_of(n, n_folds, n_categories=None):
    rng = np.random.default_rng(5)
    scores, y = rng.normal(size=n), rng.normal(size=n)
    category = None if n_categories is None else np.arange(n) * n_categories // n
    return Calibration(scores, y, Rows(category=category), np.arange(n) * n_folds // n)


def test_a_category_is_calibrated_by_the_folds_that_have_it():
    data = folds_of(60, 3, n_categories=2)  # fold 0: category 0, fold 1: both, fold 2: category 1
    calibrator = REGRESSION.calibrator(data)
    assert isinstance(calibrator, Mondrian)
    assert [part.folds for part in calibrator.calibrators] == [(0, 1), (1, 2)]
    y_hat = np.random.default_rng(6).normal(size=(10, 3))
    events = REGRESSION.event_split(data).calibrator(np.array([[-np.inf, 0.0]]))
    for category, folds in enumerate([(0, 1), (1, 2)]):
        known = Rows(category=np.full(10, category))
        parts = [data.take((data.fold == k) & (data.known.category == category)) for k in folds]
        alphas = tuple(np.sort(part.y - part.scores) for part in parts)
        expected = CrossConformal(alphas, folds).predict(y_hat)
        np.testing.assert_array_equal(calibrator.predict(y_hat, known), expected)
        assert events.predict(y_hat, known).shape == (3, 10)


def test_events_are_merged_like_classes():
    data = folds_of(90, 3)
    events = np.array([[-np.inf, 0.3], [-0.5, 0.5]])
    y_hat, event = np.random.default_rng(7).normal(size=(20, 3)), np.arange(20) % 2
    found = REGRESSION.event_split(data).calibrator(events).predict(y_hat, Rows(event=event))
    pairs = []
    for k in range(3):
        part = data.take(data.fold == k)
        split = EventSplit.fit(part.scores, part.y, seed=0)
        pairs.append(split.calibrator(events).predict(y_hat[:, k], Rows(event=event))[1:])
    low, high = 1 - gmean([1 - p0 for p0, _ in pairs]), gmean([p1 for _, p1 in pairs])
    np.testing.assert_allclose(found[0], high / (1 - low + high), **TOLERANCE)
    np.testing.assert_allclose(found[1:], np.sort([low, high], axis=0), **TOLERANCE)


def test_folds_too_small_for_events():
    some = folds_of(5, 4)  # one of the folds has two rows
    y_hat = np.zeros((2, 4))
    found = REGRESSION.event_split(some).calibrator(np.array([[-np.inf, 0.0]])).predict(y_hat)
    assert np.isfinite(found).all()
    with pytest.raises(ValueError, match=r"No fold has rows of any kind in both: use more rows"):
        REGRESSION.event_split(folds_of(4, 4))
    with pytest.raises(ValueError, match=r"No fold has rows of category 0 in both"):
        REGRESSION.event_split(folds_of(8, 4, n_categories=8))
