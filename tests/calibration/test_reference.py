"""Every calibrator against calibrated-explanations 1.0.2, to 1e-9.

The model under calibration echoes its features, so that the scores are ours to choose: with ties,
at the edges, rounded or not. The reference gets copies: it freezes the arrays that it is given.
"""

import warnings

import numpy as np
import pytest

from ce_parallel.calibration import (
    ConformalPredictiveSystem,
    EventSplit,
    Mondrian,
    Rows,
    VennAbersClassifier,
    check_threshold,
    reshape_scores,
)

reference = pytest.importorskip("calibrated_explanations")

TOLERANCE = {"rtol": 0, "atol": 1e-9}
SUMMARIES = ["regularized_mean", "mean", "lower", "upper"]
SEED = 7


class Echo:
    """A fitted model whose scores are all features but the last, which is the difficulty."""

    fitted = True

    def fit(self, X, y):
        return self

    def predict_proba(self, X):
        return X[:, :-1]

    def predict(self, X):
        return X[:, 0]

    def apply(self, X):
        return X[:, -1]


def theirs(X, y, mode, bins=None, difficult=False, **parameters):
    return reference.CalibratedExplainer(
        Echo(),
        X.copy(),
        y.copy(),
        mode=mode,
        bins=None if bins is None else bins.copy(),
        difficulty_estimator=Echo() if difficult else None,
        seed=SEED,
        **parameters,
    )


@pytest.fixture(autouse=True)
def _quiet_reference():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@pytest.fixture(params=[False, True], ids=["", "difficult"])
def difficult(request):
    return request.param


@pytest.fixture(params=[1, 3], ids=["", "mondrian"])
def n_categories(request):
    return request.param


def classes(n_classes, n_categories, n=240):
    """Features (scores and difficulty), codes and categories of calibration and test rows."""
    rng = np.random.default_rng(n_classes)
    logits = rng.normal(size=(2 * n, n_classes)) * 1.5
    proba = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    proba[n : n + n // 2] = np.round(proba[n : n + n // 2], 3)  # some that meet rounded knots
    codes = (proba.cumsum(axis=1) > rng.random((2 * n, 1))).argmax(axis=1)
    X = np.column_stack([proba, rng.random(2 * n)])
    category = rng.integers(n_categories, size=2 * n)
    return X[:n], codes[:n], category[:n], X[n:], category[n:]


def classifier(scores, codes, category, n_categories, **parameters):
    fit = {"calibration_decimals": 4, **parameters}
    return Mondrian(
        tuple(
            VennAbersClassifier.fit(scores[category == c], codes[category == c], **fit)
            for c in range(n_categories)
        )
    )


def scores_of(X, difficult):
    return reshape_scores(X[:, :-1], X[:, -1]) if difficult else X[:, :-1]


@pytest.mark.parametrize("summary", SUMMARIES)
@pytest.mark.parametrize("n_classes", [2, 3, 10])
def test_classes(n_classes, summary, n_categories, difficult):
    X_cal, codes, cal_category, X, category = classes(n_classes, n_categories)
    explainer = theirs(
        X_cal,
        codes,
        "classification",
        cal_category if n_categories > 1 else None,
        difficult,
        interval_summary=summary,
    )
    rows = Rows(category=category)
    for normalization in ["scale", "simplex", "coherence", "none"]:
        expected, (low, high) = explainer.predict_proba(
            X.copy(),
            uq_interval=True,
            normalization=normalization,
            bins=category.copy() if n_categories > 1 else None,
        )
        if n_classes == 2:
            low, high = np.column_stack([1 - high, low]), np.column_stack([1 - low, high])
        ours = classifier(
            scores_of(X_cal, difficult),
            codes,
            cal_category,
            n_categories,
            summary=summary,
            normalization=normalization,
        )
        scores = scores_of(X, difficult)
        np.testing.assert_allclose(
            ours.predict_all(scores, rows), [expected, low, high], **TOLERANCE
        )


@pytest.mark.parametrize("percentiles", [(5, 95), (10, 50), (7, 93)])
@pytest.mark.parametrize("size", [60, 12], ids=["", "tiny"])  # the bounds of 12 are infinite
def test_regression(size, percentiles, n_categories, difficult):
    X_cal, y, cal_category, X, category = numbers(n_categories, size * n_categories)
    mondrian = n_categories > 1
    explainer = theirs(X_cal, y, "regression", cal_category if mondrian else None, difficult)
    median, (low, high) = explainer.predict(
        X.copy(),
        uq_interval=True,
        low_high_percentiles=percentiles,
        bins=category.copy() if mondrian else None,
    )
    ours = Mondrian(
        tuple(
            ConformalPredictiveSystem.fit(
                (y - X_cal[:, 0])[cal_category == c],
                X_cal[cal_category == c, 1] if difficult else None,
            )
            for c in range(n_categories)
        )
    )
    rows = Rows(category, difficulty=X[:, 1] if difficult else None)
    actual = ours.predict(X[:, 0], rows, percentiles=percentiles)
    np.testing.assert_allclose(actual, [median, low, high], **TOLERANCE)


def numbers(n_categories, n=180, integers=False):
    """Features (prediction and difficulty), targets and categories; integers make ties."""
    rng = np.random.default_rng(n_categories)
    y_hat = rng.normal(100, 30, size=2 * n)
    sigma = rng.uniform(0.2, 2, size=2 * n)
    y = y_hat + 10 * sigma * rng.normal(size=2 * n)
    if integers:
        y_hat, y = np.round(y_hat / 10) * 10, np.round(y / 5) * 5
        sigma = np.round(sigma, 1) + 0.1
    category = rng.integers(n_categories, size=2 * n)
    X = np.column_stack([y_hat, sigma])
    return X[:n], y[:n], category[:n], X[n:], category[n:]


def per_row(n, pairs):
    """A threshold for each row: a few numbers, or a few pairs."""
    rng = np.random.default_rng(0)
    t = rng.choice([70.0, 85.0, 100.0, 115.0, 130.0], size=n).tolist()
    return [(low, low + rng.choice([10.0, 40.0])) for low in t] if pairs else t


@pytest.mark.parametrize("integers", [False, True], ids=["", "ties"])
@pytest.mark.parametrize("summary", SUMMARIES[:2])
def test_events(summary, integers, n_categories, difficult):
    X_cal, y, cal_category, X, category = numbers(n_categories, integers=integers)
    mondrian = n_categories > 1
    explainer = theirs(
        X_cal,
        y,
        "regression",
        cal_category if mondrian else None,
        difficult,
        interval_summary=summary,
    )
    split = EventSplit.fit(
        X_cal[:, 0],
        y,
        difficulty=X_cal[:, 1] if difficult else None,
        category=cal_category if mondrian else None,
        seed=SEED,
        summary=summary,
    )
    pairs = [(80.0, 120.0), (95.0, 105.0)]
    for threshold in [70.0, 100.0, *pairs, per_row(40, False), per_row(40, True)]:
        n = 40 if isinstance(threshold, list) else len(X)  # the reference refits for every row
        proba, (low, high) = explainer.predict_proba(
            X[:n].copy(),
            uq_interval=True,
            threshold=threshold,
            bins=category[:n].copy() if mondrian else None,
        )
        events, event = check_threshold(threshold)
        rows = Rows(category[:n], event=event, difficulty=X[:n, 1] if difficult else None)
        actual = split.calibrator(events).predict(X[:n, 0], rows)
        np.testing.assert_allclose(actual, [proba[:, 1], low, high], **TOLERANCE)
