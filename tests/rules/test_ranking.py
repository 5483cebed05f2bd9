"""Rankings of all rows at once are those of `sorted`, row by row, and of the reference."""

import functools
import warnings
from itertools import pairwise

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer, load_diabetes
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from ce_parallel.rules import Alternatives, rank_by_ensured, rank_by_uncertainty, rank_by_weight

INF, NAN = np.inf, np.nan
N_ROWS = 30


def slow_rank(row, keys, top):
    """Rules of each row by falling tuples of keys; the later of equals first."""
    ranked = []
    for i in range(N_ROWS):
        members = sorted(np.flatnonzero(row == i), key=lambda r: (*(k[r] for k in keys), r))
        ranked.append(members[::-1][:top])
    return ranked


def alternatives(row, prediction, low, high, base, *, probabilistic, **meaning):
    """Rules of one feature each."""
    size = np.ones(len(row), dtype=int)
    return Alternatives(row, prediction, low, high, size, base, probabilistic, **meaning)


def rows_of(order, ptr):
    return [order[start:stop].tolist() for start, stop in pairwise(ptr)]


def random_row(rng):
    return np.repeat(np.arange(N_ROWS), rng.integers(0, 9, N_ROWS) * (rng.random(N_ROWS) < 0.8))


def odd_values(rng, n):
    """Many ties, infinities and NaN."""
    return rng.choice([-INF, -2.0, -1.0, 0.0, 0.5, 1.0, 2.0, INF, NAN], n)


@pytest.mark.parametrize("top", [None, 0, 1, 3, 100])
@pytest.mark.parametrize("seed", range(3))
def test_by_weight(seed, top):
    rng = np.random.default_rng(seed)
    row = random_row(rng)
    weight, width = odd_values(rng, len(row)), odd_values(rng, len(row))
    keys = [np.abs(np.nan_to_num(weight)), np.nan_to_num(width)]
    ranked = rows_of(*rank_by_weight(row, weight, width, n_rows=N_ROWS, top=top))
    assert ranked == slow_rank(row, keys, top)


@pytest.mark.parametrize("top", [None, 2])
@pytest.mark.parametrize("seed", range(3))
def test_by_uncertainty(seed, top):
    rng = np.random.default_rng(seed)
    row = random_row(rng)
    low = rng.choice([-INF, 0.0, 0.1, 0.2], len(row))
    with np.errstate(invalid="ignore"):
        high = low + rng.choice([0.0, 0.25, 0.5, INF], len(row))
        width = high - low
    width[np.isnan(width)] = INF
    rules = alternatives(row, low, low, high, np.ones((3, N_ROWS)), probabilistic=False)
    ranked = rows_of(*rank_by_uncertainty(rules, top=top))
    assert ranked == slow_rank(row, [-width], top)


@pytest.mark.parametrize("w", [-1, -0.3, 0, 0.5, 1])
@pytest.mark.parametrize("setting", ["binary", "multiclass", "any class", "regression"])
def test_by_ensured(setting, w):
    rng = np.random.default_rng(0)
    row = random_row(rng)
    p = rng.choice([0.1, 0.25, 0.5, 0.75], len(row))
    low, high = p - rng.choice([0, 0.0625], len(row)), p + rng.choice([0, 0.125], len(row))
    base = rng.choice([0.25, 0.5, 0.75], (3, N_ROWS))
    leads, meaning = base[0] > 0.5, {"probabilistic": setting != "regression"}
    if setting in ("multiclass", "any class"):
        meaning["flips"] = rng.random(len(row)) < 0.5
        leads = rng.random(N_ROWS) < (0.5 if setting == "any class" else 1)
        meaning["leads"] = leads
    score = []
    for r, i in enumerate(row):
        q = p[r] if leads[i] or setting == "regression" else 1 - p[r]
        score.append((1 - abs(w)) * (1 - (high[r] - low[r])) + w * q)
    rules = alternatives(row, p, low, high, base, **meaning)
    ranked = rows_of(*rank_by_ensured(rules, w=w, top=3))
    assert ranked == slow_rank(row, [score], 3)


@pytest.mark.parametrize("w", [0.5, 1, -1])
def test_behind_infinite_intervals_the_prediction_decides(w):
    row, p = np.zeros(4, dtype=int), np.array([2.0, 4.0, 3.0, NAN])
    low, high, base = np.full(4, -INF), np.full(4, INF), np.zeros((3, 1))
    rules = alternatives(row, p, low, high, base, probabilistic=False)
    order, ptr = rank_by_ensured(rules, w=w)
    assert ptr.tolist() == [0, 4]
    assert order.tolist() == ([1, 2, 0, 3] if w > 0 else [0, 2, 1, 3])


def test_no_rules_and_no_rows():
    none, row = np.empty(0), np.empty(0, dtype=int)
    for n_rows in (0, 3):
        order, ptr = rank_by_weight(row, none, none, n_rows=n_rows)
        assert order.tolist() == []
        assert ptr.tolist() == [0] * (n_rows + 1)


def test_weights_of_the_ranking_and_numbers_of_rules_are_checked():
    row, none = np.empty(0, dtype=int), np.empty(0)
    with pytest.raises(ValueError, match=r"w must be between -1 and 1. Got 1.5 instead"):
        rank_by_ensured(
            alternatives(row, none, none, none, np.ones((3, 1)), probabilistic=True), w=1.5
        )
    with pytest.raises(ValueError, match=r"top must be None or at least 0. Got -1 instead"):
        rank_by_weight(row, none, none, n_rows=1, top=-1)


REFERENCE = {
    "breast_cancer": (
        load_breast_cancer,
        make_pipeline(StandardScaler(), LogisticRegression()),
        {},
    ),
    "diabetes": (load_diabetes, LinearRegression(), {}),
    "threshold": (load_diabetes, LinearRegression(), {"threshold": 140.0}),
    "one-sided": (load_diabetes, LinearRegression(), {"low_high_percentiles": (-INF, 90)}),
}
COLUMNS = ("predict", "predict_low", "predict_high", "weight", "weight_low", "weight_high")


@functools.cache
def reference(name):
    """Alternatives of the reference, made from copies, and their rules: one dict per row."""
    package = pytest.importorskip("calibrated_explanations")
    load, model, options = REFERENCE[name]
    X, y = load(return_X_y=True)
    X_fit, X, y_fit, y = train_test_split(X, y, test_size=0.6, random_state=1)
    X_cal, X, y_cal, _ = train_test_split(X, y, test_size=0.5, random_state=2)
    model.fit(X_fit, y_fit)
    mode = "regression" if load is load_diabetes else "classification"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        explainer = package.CalibratedExplainer(
            model, X_cal.copy(), y_cal.copy(), mode=mode, seed=42
        )
        found = list(explainer.explore_alternatives(X[:25].copy(), **options))
    rules = [e.get_rules() for e in found]
    return found, [{key: np.array(r[key], dtype=float) for key in COLUMNS} for r in rules]


def flat(dicts):
    """Row of each rule, first rule of each row, and the columns of all rules."""
    counts = [len(d["predict"]) for d in dicts]
    assert max(counts) > 5
    columns = [np.concatenate([d[key] for d in dicts]) for key in COLUMNS]
    return np.repeat(np.arange(len(dicts)), counts), np.cumsum([0, *counts]), columns


@pytest.mark.parametrize("top", [3, None])
@pytest.mark.parametrize("name", REFERENCE)
def test_weights_rank_as_in_the_reference(name, top):
    found, dicts = reference(name)
    row, first, (_, _, _, weight, low, high) = flat(dicts)
    ours = rows_of(*rank_by_weight(row, weight, high - low, n_rows=len(found), top=top))
    for i, (e, d) in enumerate(zip(found, dicts, strict=True)):
        width = d["weight_high"] - d["weight_low"]
        theirs = e.rank_features(d["weight"], width=width, num_to_show=top)
        assert [r - first[i] for r in ours[i]] == theirs[::-1]


# Not one-sided: every score is -inf there, and ours goes on by prediction.
@pytest.mark.parametrize("w", [-1, -0.5, 0, 0.5, 1])
@pytest.mark.parametrize("name", ["breast_cancer", "diabetes", "threshold"])
def test_ensured_scores_rank_as_in_the_reference(name, w):
    found, dicts = reference(name)
    from calibrated_explanations.utils.helper import calculate_metrics

    row, first, (p, low, high, *_) = flat(dicts)
    base = np.array([[float(e.prediction[k]) for k in ("predict", "low", "high")] for e in found]).T
    probabilistic = name != "diabetes"
    rules = alternatives(row, p, low, high, base, probabilistic=probabilistic)
    ours = rows_of(*rank_by_ensured(rules, w=w))
    for i, (e, d) in enumerate(zip(found, dicts, strict=True)):
        score = calculate_metrics(
            uncertainty=d["predict_high"] - d["predict_low"],
            prediction=1 - d["predict"] if probabilistic and base[0, i] <= 0.5 else d["predict"],
            w=w,
            metric="ensured",
        )
        theirs = e.rank_features(width=score)[::-1]
        # Their sort is not stable: of equal scores only the score is compared.
        assert sorted(ours[i]) == list(range(first[i], first[i + 1]))
        assert score[np.array(ours[i], dtype=int) - first[i]].tolist() == score[theirs].tolist()
