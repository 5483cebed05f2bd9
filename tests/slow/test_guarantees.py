"""What the intervals promise, over many random splits of data whose distribution is known.

Bounds are five standard deviations wide, and seeds are fixed.
"""

import numpy as np
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.tree import DecisionTreeRegressor

from ce_parallel import ParallelCalibratedExplainer

pytestmark = pytest.mark.slow

N_SPLITS = 2000


class Line(RegressorMixin, BaseEstimator):
    """A model that is wrong: calibration has something to do."""

    def fit(self, X, y):
        self.fitted_ = True
        return self

    def predict(self, X):
        return 0.7 * X[:, 0]


class Overconfident(ClassifierMixin, BaseEstimator):
    classes_ = np.array([0, 1])

    def fit(self, X, y):
        self.fitted_ = True
        return self

    def predict_proba(self, X):
        p = 1 / (1 + np.exp(-4 * X[:, 0] - 1))
        return np.column_stack([1 - p, p])


def regression_rows(rng, n):
    """Noise is three times as wide in one category as in the other."""
    X = np.column_stack([rng.normal(size=n), rng.random(n) < 0.4]).astype(float)
    return X, X[:, 0] ** 2 + (1 + 2 * X[:, 1]) * rng.normal(size=n)


def classified_rows(rng, n):
    X = rng.normal(size=(n, 1))
    return X, (rng.random(n) < 1 / (1 + np.exp(-X[:, 0]))).astype(int)


def covered(explainer, X, y):
    low, high = explainer.predict_interval(X, percentiles=(5, 95)).T
    return (low <= y) & (y <= high)


def binomial_bounds(n, p):
    """Five standard deviations of a share of n independent trials."""
    spread = 5 * np.sqrt(p * (1 - p) / n)
    return p - spread, p + spread


def calibrated(model, X, y, **options):
    frozen = FrozenEstimator(model.fit(X, y))
    return ParallelCalibratedExplainer(frozen, cv=None).calibrate(X, y, **options)


@pytest.mark.parametrize("n", [19, 30, 99])
def test_intervals_cover_as_often_as_promised(n):
    """One new row per split makes trials independent, so that binomial bounds hold.

    Between the lower percentile, rounded down, and the higher one, rounded up, the residual of
    the new row falls with probability (b - a) / (n + 1), which is 0.9 or a little more.
    """
    rng = np.random.default_rng(n)
    share = (np.ceil(0.95 * (n + 1)) - np.floor(0.05 * (n + 1))) / (n + 1)
    assert 0.9 <= share < 0.97
    inside = []
    for _ in range(N_SPLITS):
        X, y = regression_rows(rng, n + 1)
        inside.extend(covered(calibrated(Line(), X[:n], y[:n]), X[n:], y[n:]))
    low, high = binomial_bounds(N_SPLITS, share)
    assert low <= np.mean(inside) <= high


def test_intervals_cover_in_each_mondrian_category():
    rng = np.random.default_rng(0)
    n = 60
    inside = {0: [], 1: []}
    without = {0: [], 1: []}
    expected = {0: [], 1: []}
    for _ in range(N_SPLITS):
        X, y = regression_rows(rng, n + 1)
        category = X[:, 1].astype(int)
        new = category[n]
        size = (category[:n] == new).sum()
        if len(set(category[:n])) < 2:
            continue
        explainer = calibrated(Line(), X[:n], y[:n], mondrian=category[:n])
        found = explainer.predict_interval(X[n:], mondrian=category[n:])[0]
        inside[new].append(found[0] <= y[n] <= found[1])
        expected[new].append(
            (np.ceil(0.95 * (size + 1)) - np.floor(0.05 * (size + 1))) / (size + 1)
        )
        without[new].extend(covered(calibrated(Line(), X[:n], y[:n]), X[n:], y[n:]))
    for category in (0, 1):
        low, high = binomial_bounds(len(inside[category]), np.mean(expected[category]))
        assert low <= np.mean(inside[category]) <= high
    # Without categories the promise holds on average only: one has too much, one too little.
    assert np.mean(without[0]) > 0.93
    assert np.mean(without[1]) < 0.87


def test_the_share_of_ones_lies_between_mean_low_and_mean_high():
    """One of low and high is perfectly calibrated; so on average they enclose the label."""
    rng = np.random.default_rng(0)
    n, n_new = 100, 50
    lows, ones, highs, raw = [], [], [], []
    for _ in range(N_SPLITS):
        X, y = classified_rows(rng, n + n_new)
        explainer = calibrated(Overconfident(), X[:n], y[:n])
        _, low, high = explainer.predict_proba_interval(X[n:])
        lows.append(low[:, 1].mean())
        highs.append(high[:, 1].mean())
        ones.append(y[n:].mean())
        raw.append(Overconfident().predict_proba(X[n:])[:, 1].mean())
    spread = 5 * np.std(ones) / np.sqrt(N_SPLITS)
    assert np.mean(lows) - spread <= np.mean(ones) <= np.mean(highs) + spread
    assert np.mean(highs) - np.mean(lows) < 0.15  # not because they enclose everything
    assert abs(np.mean(raw) - np.mean(ones)) > 0.05  # what the model itself says is outside


def test_the_probability_of_the_true_label_is_calibrated():
    """The one of low and high that belongs to the label: E(label | it) is it, in every bin."""
    rng = np.random.default_rng(1)
    n = 60
    valid, ones = [], []
    for _ in range(N_SPLITS):
        X, y = classified_rows(rng, n + 1)
        _, low, high = calibrated(Overconfident(), X[:n], y[:n]).predict_proba_interval(X[n:])
        valid.append(high[0, 1] if y[n] else low[0, 1])
        ones.append(y[n])
    valid, ones = np.array(valid), np.array(ones)
    for part in np.array_split(np.argsort(valid), 5):
        low, high = binomial_bounds(len(part), valid[part].mean())
        assert low <= ones[part].mean() <= high


def test_events_are_enclosed_on_average():
    rng = np.random.default_rng(2)
    n, n_new = 100, 50
    lows, happened, highs = [], [], []
    for _ in range(N_SPLITS):
        X, y = regression_rows(rng, n + n_new)
        explainer = calibrated(Line(), X[:n], y[:n])
        _, low, high = explainer.predict_event(X[n:], 1.0)
        lows.append(low.mean())
        highs.append(high.mean())
        happened.append((y[n:] <= 1.0).mean())
    spread = 5 * np.std(happened) / np.sqrt(N_SPLITS)
    assert np.mean(lows) - spread <= np.mean(happened) <= np.mean(highs) + spread
    assert np.mean(highs) - np.mean(lows) < 0.25


def test_folds_of_a_model_that_does_not_learn_cover_as_often_as_promised():
    """All models are one, so the union of the folds' residuals is that of a calibration set."""
    rng = np.random.default_rng(3)
    n = 30
    share = (np.ceil(0.95 * (n + 1)) - np.floor(0.05 * (n + 1))) / (n + 1)
    inside = []
    for _ in range(N_SPLITS):
        X, y = regression_rows(rng, n + 1)
        explainer = ParallelCalibratedExplainer(Line(), cv=3, ensemble=True).fit(X[:n], y[:n])
        inside.extend(covered(explainer, X[n:], y[n:]))
    low, high = binomial_bounds(N_SPLITS, share)
    assert low <= np.mean(inside) <= high


def test_merged_folds_cover_nearly_as_often_as_one_model():
    """No less than twice the error is proved, but for terms that vanish; here it is hardly more.

    Fully grown trees differ from fold to fold as much as models can.
    """
    rng = np.random.default_rng(4)
    n, n_splits = 100, 400
    inside = []
    for _ in range(n_splits):
        X, y = regression_rows(rng, n + 1)
        explainer = ParallelCalibratedExplainer(DecisionTreeRegressor(), ensemble=True)
        inside.extend(covered(explainer.fit(X[:n], y[:n]), X[n:], y[n:]))
    assert binomial_bounds(n_splits, 0.9)[0] <= np.mean(inside)


def test_merged_probabilities_add_up_to_the_share_of_ones():
    rng = np.random.default_rng(5)
    n, n_new = 200, 200
    said, ones = [], []
    for _ in range(200):
        X, y = classified_rows(rng, n + n_new)
        explainer = ParallelCalibratedExplainer(LogisticRegression(C=100), ensemble=True)
        said.append(explainer.fit(X[:n], y[:n]).predict_proba(X[n:])[:, 1].mean())
        ones.append(y[n:].mean())
    assert abs(np.mean(said) - np.mean(ones)) < 0.02
