"""Every public verb under every joblib context: the same bits."""

import warnings
from functools import cache
from itertools import product

import joblib
import numpy as np
import pytest
from sklearn.datasets import make_classification, make_regression
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor

from ce_parallel import ParallelCalibratedExplainer, ParallelConfig, parallel_backend
from ce_parallel.rules import _block

N = 160


def arrays_of(explanations):
    """All numbers of explanations: predictions, weights, rules, conjunctions, stability."""
    found = [explanations.prediction, explanations.weights, explanations.weights_high]
    if explanations.stability is not None:
        found += explanations.stability.arrays().values()
    if explanations.kind == "alternative":
        explanations = explanations.counter()
    if explanations.kind != "fast":
        explanations = explanations.conjunctions()
    return [*found, *explanations.rules.to_dict().values()]


def every_verb(classification, **parameters):
    """Call every public verb; return all numbers that come out, by the name of the verb."""
    make = make_classification if classification else make_regression
    X, y = make(N + 40, 6, n_informative=4, random_state=0)
    forest = RandomForestClassifier if classification else RandomForestRegressor
    explainer = ParallelCalibratedExplainer(
        forest(5, n_jobs=2), cv=3, random_state=0, n_bootstraps=6, **parameters
    ).fit(X[:N], y[:N])
    found = {"fit": arrays_of(explainer.explain(X[N:]))}
    explainer.calibrate(X[N // 2 : N], y[N // 2 : N])
    found["calibrate"] = [explainer.predict(X)]
    found["score"] = [np.array(explainer.score(X, y))]
    if classification:
        found["predict_proba"] = [explainer.predict_proba(X)]
        found["predict_proba_interval"] = list(explainer.predict_proba_interval(X))
        options = {"labels": "all"}
    else:
        found["predict_interval"] = [explainer.predict_interval(X)]
        found["predict_event"] = list(explainer.predict_event(X, 0.0))
        options = {"threshold": 0.0}
    for verb in ("explain_factual", "explore_alternatives", "explain_fast"):
        found[verb] = arrays_of(getattr(explainer, verb)(X[N:], **options))
    return found


@cache
def expected(classification, bootstrap, ensemble):
    return every_verb(
        classification,
        bootstrap=bootstrap,
        ensemble=ensemble,
        parallel_config=ParallelConfig(preferred="serial"),
    )


def ours():
    return parallel_backend(ParallelConfig(preferred="threads", max_workers=2))


CONTEXTS = {
    "threading": lambda: joblib.parallel_config("threading", n_jobs=2),
    "ce_parallel": ours,
    "loky": lambda: joblib.parallel_config("loky", n_jobs=2),
    "multiprocessing": lambda: joblib.parallel_config("multiprocessing", n_jobs=2),
    "dask": lambda: joblib.parallel_config("dask", n_jobs=2),
    "the older name": lambda: joblib.parallel_backend("loky", n_jobs=2),
}


@pytest.fixture(scope="module")
def cluster():
    distributed = pytest.importorskip("distributed")
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=False, dashboard_address=None
        ) as cluster,
        distributed.Client(cluster),
    ):
        yield


USUAL = {("threading", True, "calibration", False), ("ce_parallel", False, "estimator", True)}
CASES = [
    case if case in USUAL else pytest.param(*case, marks=pytest.mark.slow)
    for case in product(CONTEXTS, [True, False], ["calibration", "estimator"], [False, True])
]


@pytest.mark.parametrize(("context", "classification", "bootstrap", "ensemble"), CASES)
def test_every_verb(context, classification, bootstrap, ensemble, monkeypatch, request):
    if context == "dask":
        request.getfixturevalue("cluster")
    monkeypatch.setattr(_block, "TILE_ROWS", 256)
    serial = expected(classification, bootstrap, ensemble)
    with CONTEXTS[context](), warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", module="distributed")
        found = every_verb(classification, bootstrap=bootstrap, ensemble=ensemble)
    assert found.keys() == serial.keys()
    for verb, arrays in serial.items():
        for one, other in zip(arrays, found[verb], strict=True):
            np.testing.assert_array_equal(one, other, err_msg=verb)
