"""Probabilities of events against plain loops, and where the reference is wrong or silent."""

import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from sklearn.isotonic import IsotonicRegression

from ce_parallel.calibration import EventSplit, Rows, check_threshold

INF = np.inf


def by_loops(y_hat, y, sigma, category, seed, row, event):
    """(low, high) of one row by definition: loops for the score, a refit for each bound.

    `row` is the row's prediction, difficulty and category.
    """
    order = np.random.default_rng(seed).permutation(len(y)).tolist()
    halves = order[: len(y) // 2], order[len(y) // 2 :]
    a, b = ([i for i in half if category[i] == row[2]] for half in halves)
    alphas = [(y[i] - y_hat[i]) / sigma[i] for i in a]

    def distribution(y_hat, sigma, t):
        return sum(y_hat + sigma * alpha <= t for alpha in alphas) / (len(a) + 1)

    def score(y_hat, sigma):
        return distribution(y_hat, sigma, event[1]) - distribution(y_hat, sigma, event[0])

    scores = [round(score(y_hat[i], sigma[i]), 10) for i in b]
    labels = [int(event[0] < y[i] <= event[1]) for i in b]
    extra = round(score(row[0], row[1]), 10)
    return [
        IsotonicRegression().fit([*scores, extra], [*labels, label]).predict([extra])[0]
        for label in (0, 1)
    ]


def problem(n, n_categories=1, n_test=6):
    """Targets are integers and predictions and difficulties have one decimal, so ties are common.

    Both halves of seed 0 hold every category.
    """
    rng = np.random.default_rng(n)
    y_hat, y_hat_test = (np.round(rng.normal(5, 3, size=k), 1) for k in (n, n_test))
    y = np.round(y_hat + rng.normal(scale=2, size=n))
    sigma, sigma_test = (rng.integers(1, 6, size=k) / 10 for k in (n, n_test))
    category, category_test = (np.arange(k) % n_categories for k in (n, n_test))
    category[np.random.default_rng(0).permutation(n)] = category.copy()
    return (y_hat, y, sigma, category), (y_hat_test, sigma_test, category_test)


@pytest.mark.parametrize(("n", "n_categories"), [(2, 1), (3, 1), (5, 1), (40, 1), (40, 2)])
@pytest.mark.parametrize(
    "threshold", [4.0, (2.0, 6.0), -100.0, 100.0, INF, -INF, (-100.0, 100.0), (50.0, 60.0)]
)
def test_agrees_with_its_definition(n, n_categories, threshold):
    (y_hat, y, sigma, category), (y_hat_test, sigma_test, category_test) = problem(n, n_categories)
    events, _ = check_threshold(threshold)
    split = EventSplit.fit(y_hat, y, difficulty=sigma, category=category, seed=0)
    rows = Rows(category_test, difficulty=sigma_test)
    value, low, high = split.calibrator(events).predict(y_hat_test, rows)
    expected = [
        by_loops(y_hat, y, sigma, category, 0, row, events[0])
        for row in zip(y_hat_test, sigma_test, category_test, strict=True)
    ]
    np.testing.assert_allclose(np.stack([low, high], axis=1), expected, atol=1e-12)
    np.testing.assert_array_equal(value, high / (1 - low + high))


def test_certain_and_impossible_events():
    """The reference gives a certain event the probability of an impossible one."""
    (y_hat, y, *_), (y_hat_test, *_) = problem(40)
    split = EventSplit.fit(y_hat, y, seed=0)
    for certain in [INF, 1e6, (-1e6, 1e6)]:
        value, low, high = split.calibrator(check_threshold(certain)[0]).predict(y_hat_test)
        np.testing.assert_array_equal(high, 1)
        np.testing.assert_array_equal(low, 20 / 21)
        assert (value > 0.95).all()
    for impossible in [-INF, -1e6, (1e6, 2e6)]:
        value, low, high = split.calibrator(check_threshold(impossible)[0]).predict(y_hat_test)
        np.testing.assert_array_equal(low, 0)
        np.testing.assert_array_equal(high, 1 / 21)


def test_scores_are_the_float_comparison_where_a_division_would_miss():
    rng = np.random.default_rng(0)
    y_hat, y = rng.integers(0, 100, size=(2, 400)) / 10
    sigma = rng.integers(1, 9, size=400) / 10
    halves = EventSplit.fit(y_hat, y, difficulty=sigma, seed=0).parts[0]
    t = rng.integers(0, 100, size=400) / 10
    expected = (y_hat[:, None] + sigma[:, None] * halves.alphas <= t[:, None]).sum(axis=1)
    np.testing.assert_array_equal(halves.score(y_hat, sigma, -INF, t), expected)
    assert (np.searchsorted(halves.alphas, (t - y_hat) / sigma, side="right") != expected).any()


def test_rows_do_not_depend_on_each_other():
    (y_hat, y, sigma, category), (y_hat_test, sigma_test, category_test) = problem(60, 2, 50)
    events, event = check_threshold(
        [(t, t + w) for t, w in np.random.default_rng(0).random((50, 2))]
    )
    split = EventSplit.fit(y_hat, y, difficulty=sigma, category=category, seed=0)
    predictor = split.calibrator(events)
    rows = Rows(category_test, event=event, difficulty=sigma_test)
    together = predictor.predict(y_hat_test, rows)
    for i in range(50):
        alone = predictor.predict(y_hat_test[[i]], rows.take([i]))
        np.testing.assert_array_equal(alone[:, 0], together[:, i])


def test_tables_are_kept_within_bounds_and_left_out_of_pickles():
    (y_hat, y, *_), _ = problem(40)
    split = EventSplit.fit(y_hat, y, seed=0)
    tables = split.parts[0]._tables
    fresh = len(pickle.dumps(split))
    events, event = check_threshold(np.linspace(0, 10, 300))
    predictor = split.calibrator(events)
    y_hat_test = np.full(300, 5.0)
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(predictor.predict, [y_hat_test] * 8, [Rows(event=event)] * 8))
    assert len(tables._tables) == tables.SIZE
    assert len(pickle.dumps(split)) == fresh
    copy = pickle.loads(pickle.dumps(predictor))
    for result in [*results, copy.predict(y_hat_test, Rows(event=event))]:
        np.testing.assert_array_equal(result, results[0])


def test_one_event_is_built_once(monkeypatch):
    (y_hat, y, *_), (y_hat_test, *_) = problem(40)
    split = EventSplit.fit(y_hat, y, seed=0)
    events, _ = check_threshold(4.0)
    expected = split.calibrator(events).predict(y_hat_test)
    monkeypatch.setattr(type(split.parts[0]), "_build", None)
    np.testing.assert_array_equal(split.calibrator(events).predict(y_hat_test), expected)


def test_too_few_rows_are_refused_with_the_category_that_lacks_them():
    with pytest.raises(ValueError, match=r"at least 2 calibration rows.* Got 1\."):
        EventSplit.fit([1.0], [1.0], seed=0)
    with pytest.raises(ValueError, match=r"Category 1 has . and .: use more"):
        EventSplit.fit(np.zeros(9), np.zeros(9), category=[0, 0, 0, 0, 1, 0, 0, 0, 0], seed=0)


def test_no_rows_are_no_error():
    split = EventSplit.fit(np.arange(4.0), np.arange(4.0), seed=0)
    rows = Rows(event=np.empty(0, dtype=int))
    for known in (rows, Rows()):
        assert split.calibrator(check_threshold(1)[0]).predict(np.empty(0), known).shape == (3, 0)


@pytest.mark.parametrize(
    ("threshold", "events", "event"),
    [
        (3, [[-INF, 3]], None),
        (np.float32(3), [[-INF, 3]], None),
        ((1, 2), [[1, 2]], None),
        ((-INF, 2), [[-INF, 2]], None),
        ([2, 1, 2], [[-INF, 1], [-INF, 2]], [1, 0, 1]),
        ([1, 2], [[-INF, 1], [-INF, 2]], [0, 1]),
        (np.array([1, 1]), [[-INF, 1]], [0, 0]),
        ([(1, 3), (1, 2), (1, 3)], [[1, 2], [1, 3]], [1, 0, 1]),
        (np.array([[1, 2]]), [[1, 2]], [0]),
    ],
)
def test_thresholds_become_distinct_events(threshold, events, event):
    our_events, our_event = check_threshold(threshold)
    np.testing.assert_array_equal(our_events, events)
    assert (our_event is None) == (event is None)
    if event is not None:
        np.testing.assert_array_equal(our_event, event)


@pytest.mark.parametrize(
    "bad",
    [
        None,
        "high",
        np.nan,
        (2, 1),
        (1, 1),
        (1, np.nan),
        [1, (1, 2)],
        [(1, 2, 3)],
        [(2, 1)],
        [[[1]]],
    ],
)
def test_invalid_thresholds_are_refused_in_one_sentence(bad):
    with pytest.raises(ValueError, match=r"threshold must be a number t.* Got .* instead") as error:
        check_threshold(bad)
    assert repr(bad) in str(error.value)
