"""Whatever runs the work, and whatever happens to it, the arrays are the same."""

import os
import pickle
import signal
from functools import cache

import joblib
import numpy as np
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.datasets import make_classification, make_regression
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.neural_network import MLPClassifier

from ce_parallel import (
    FallbackWarning,
    ParallelCalibratedExplainer,
    ParallelConfig,
    ParallelExecutor,
)
from ce_parallel.rules import _block

ESTIMATORS = {
    "logistic": LogisticRegression(),
    "forest": RandomForestClassifier(10, n_jobs=2),
    "network": MLPClassifier((8,), max_iter=300, tol=1e-2),
    "ridge": Ridge(),
    "forest regression": RandomForestRegressor(10, n_jobs=2),
}
STRATEGIES = ["serial", "threads", "processes", "joblib", "auto"]


@cache
def serial(name):
    """An estimator, its data, and what a serial run makes of them."""
    regression = name in ("ridge", "forest regression")
    make = make_regression if regression else make_classification
    X, y = make(n_samples=3000, n_features=12, random_state=0)
    estimator = ESTIMATORS[name]
    return estimator, X, y, run(estimator, X, y, ParallelConfig(preferred="serial"))


@pytest.fixture(params=ESTIMATORS)
def case(request):
    return serial(request.param)


def run(estimator, X, y, config):
    """Fit on the first rows, explain the others; every array that comes out."""
    explainer = ParallelCalibratedExplainer(estimator, parallel_config=config, random_state=0)
    explanations = explainer.fit(X[:600], y[:600]).explain(X[600:])
    assert explanations.execution_report.n_tasks > 2
    return arrays(explanations)


def arrays(e):
    return [
        e.prediction,
        e.prediction_low,
        e.prediction_high,
        e.weights,
        e.weights_low,
        e.weights_high,
    ]


def assert_same(one, other):
    for a, b in zip(one, other, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("max_workers", [1, 2, pytest.param(3, marks=pytest.mark.slow)])
@pytest.mark.parametrize("preferred", STRATEGIES)
def test_every_strategy_and_number_of_workers(preferred, max_workers):
    config = ParallelConfig(preferred=preferred, max_workers=max_workers)
    with ParallelExecutor(config):
        for name in ESTIMATORS:
            estimator, X, y, expected = serial(name)
            assert_same(run(estimator, X, y, config), expected)


@pytest.mark.parametrize("budget", [10 * 2**20, 2**28, 2**40])
@pytest.mark.parametrize("preferred", ["serial", "threads"])
def test_every_memory_budget(budget, preferred, case):
    estimator, X, y, expected = case
    config = ParallelConfig(preferred=preferred, max_workers=2, memory_budget_bytes=budget)
    assert_same(run(estimator, X, y, config), expected)


@pytest.mark.parametrize("backend", ["loky", "threading", "multiprocessing"])
def test_a_joblib_context_changes_nothing(backend, case):
    estimator, X, y, expected = case
    with joblib.parallel_config(backend, n_jobs=2):
        assert_same(run(estimator, X, y, ParallelConfig()), expected)


def test_tiles_of_one_wide_row(monkeypatch):
    """Features fan out where the perturbed rows of one row fill a tile."""
    monkeypatch.setattr(_block, "TILE_ROWS", 64)
    X, y = make_regression(200, 60, random_state=0)
    explainer = ParallelCalibratedExplainer(RandomForestRegressor(5), random_state=0).fit(X, y)
    expected = explainer.set_params(parallel_config__preferred="serial").explain(X[:1])
    assert expected.execution_report.n_tasks > 2
    explainer.set_params(parallel_config__preferred="threads", parallel_config__max_workers=2)
    assert_same(arrays(explainer.explain(X[:1])), arrays(expected))


def test_read_only_memory_maps(tmp_path):
    X, y = make_classification(2000, 80, random_state=0)  # more than 1 MB
    np.save(tmp_path / "X.npy", X)
    mapped = np.load(tmp_path / "X.npy", mmap_mode="r")
    config = ParallelConfig(preferred="processes", max_workers=2)
    forest = RandomForestClassifier(5)
    one = run(forest, X, y, ParallelConfig(preferred="serial"))
    assert_same(run(forest, mapped, y, config), one)


class DiesOnce(ClassifierMixin, BaseEstimator):
    """A classifier whose worker is killed in the middle of an explanation, once."""

    def __init__(self, flag=None, parent=None):
        self.flag = flag
        self.parent = parent

    def fit(self, X, y):
        self.model_ = LogisticRegression().fit(X, y)
        self.classes_ = self.model_.classes_
        return self

    def predict_proba(self, X):
        armed = self.flag is not None and len(X) > 5000 and os.getpid() != self.parent
        if armed and (X[:, 0] > 3.3).any():
            try:
                os.unlink(self.flag)
            except FileNotFoundError:
                pass
            else:
                os.kill(os.getpid(), signal.SIGKILL)
        return self.model_.predict_proba(X)


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
@pytest.mark.parametrize("preferred", ["processes", "joblib"])
def test_a_killed_worker_costs_a_warning(preferred, tmp_path):
    X, y = make_classification(3000, 12, random_state=0)
    flag = tmp_path / "armed"
    flag.touch()
    X[1500, 0] = 4.0
    X[:600, 0] = X[:600, 0].clip(max=3)
    estimator = DiesOnce(str(flag), os.getpid())
    explainer = ParallelCalibratedExplainer(estimator, random_state=0)
    explainer.set_params(parallel_config__preferred="serial").fit(X[:600], y[:600])
    expected = arrays(explainer.explain(X[600:]))
    assert flag.exists()
    explainer.set_params(parallel_config__preferred=preferred, parallel_config__max_workers=2)
    with pytest.warns(FallbackWarning, match="worker") as caught:
        explanations = explainer.explain(X[600:])
    assert [warning.filename for warning in caught] == [__file__]
    assert not flag.exists()
    assert_same(arrays(explanations), expected)
    assert explanations.execution_report.fallbacks


class Broken(ClassifierMixin, BaseEstimator):
    """A classifier that fails on one row, with an error that is its own."""

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        return self

    def predict_proba(self, X):
        if (X[:, 0] > 50).any():
            raise OddError("row above 50", 50)
        return np.full((len(X), 2), 0.5)


class OddError(Exception):
    """An error that keeps more than its message."""

    def __init__(self, message, limit=0):
        super().__init__(message)
        self.limit = limit


@pytest.mark.parametrize("preferred", STRATEGIES)
def test_a_task_error_travels_unchanged(preferred):
    X, y = make_classification(3000, 12, random_state=0)
    X[2500, 0] = 99
    explainer = ParallelCalibratedExplainer(Broken(), random_state=0).fit(X[:100], y[:100])
    explainer.set_params(parallel_config__preferred=preferred, parallel_config__max_workers=2)
    with pytest.raises(OddError) as error:
        explainer.explain(X[600:])
    assert str(error.value) == "row above 50"
    assert error.value.limit == 50
    assert any("item" in note for note in error.value.__notes__)


def test_reports_survive_pickling():
    X, y = make_classification(100, 4, random_state=0)
    explainer = ParallelCalibratedExplainer(LogisticRegression(), random_state=0).fit(X, y)
    report = explainer.explain(X).execution_report
    assert pickle.loads(pickle.dumps(report)).strategy == report.strategy == "serial"
    assert "serial" in str(report)
