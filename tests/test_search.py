"""Searches over the model, the folds and how it runs; the scorer of throughput."""

import pickle
from types import SimpleNamespace

import joblib
import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import make_classification
from sklearn.experimental import enable_halving_search_cv  # noqa: F401 - makes it importable
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, HalvingGridSearchCV, RandomizedSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from ce_parallel import ParallelCalibratedExplainer, explanation_throughput
from ce_parallel._throughput import _warn_that_it_is_a_tie

GRID = {
    "estimator__C": [0.01, 1.0],
    "cv": [2, 3],
    "parallel_config__preferred": ["serial", "threads"],
    "parallel_config__max_workers": [2],
}


@pytest.fixture(scope="module")
def data():
    return make_classification(240, 4, flip_y=0.2, random_state=0)


@pytest.fixture
def fresh():
    """Forget that a warning was given."""
    _warn_that_it_is_a_tie.cache_clear()
    yield
    _warn_that_it_is_a_tie.cache_clear()


def make():
    return ParallelCalibratedExplainer(LogisticRegression(), cv=3, random_state=0)


SEARCHES = {
    "grid": lambda **options: GridSearchCV(make(), GRID, cv=2, **options),
    "random": lambda **options: RandomizedSearchCV(
        make(), GRID, n_iter=4, random_state=0, cv=2, **options
    ),
    "halving": lambda **options: HalvingGridSearchCV(
        make(), GRID, min_resources=120, random_state=0, cv=2, **options
    ),
}


@pytest.mark.parametrize("kind", SEARCHES)
def test_searches_find_the_same_however_candidates_run(kind, data):
    search = SEARCHES[kind](error_score="raise").fit(*data)
    assert len(search.best_estimator_.explain(data[0][:3])) == 3
    scores = {}
    for params, score in zip(
        search.cv_results_["params"], search.cv_results_["mean_test_score"], strict=True
    ):
        model = params["estimator__C"], params["cv"]
        if kind != "halving":  # whose rounds have other rows
            assert scores.setdefault(model, score) == score


@pytest.mark.parametrize("backend", ["threading", pytest.param("loky", marks=pytest.mark.slow)])
@pytest.mark.parametrize("preferred", ["auto", "threads", "processes", "joblib"])
def test_a_parallel_search_does_not_start_workers_inside_its_own(backend, preferred, data):
    X, y = data
    explainer = make().set_params(parallel_config__preferred=preferred)
    search = GridSearchCV(
        explainer, {"estimator__C": [0.01, 1.0]}, scoring=ran_inside, cv=2, refit=False, n_jobs=2
    )
    with joblib.parallel_config(backend):
        inside = search.fit(X, y).cv_results_["mean_test_score"]
    np.testing.assert_array_equal(inside, 1)


def ran_inside(estimator, X, y):
    """The number of workers that an explanation inside a worker uses."""
    assert estimator.execution_report_.decision.n_workers == 1
    return estimator.explain(X).execution_report.decision.n_workers


# -- explanation_throughput ----------------------------------------------------------------------


def test_throughput_alone_and_beside_another(data):
    grid = {"parallel_config__preferred": ["serial", "threads"]}
    search = GridSearchCV(make(), grid, scoring=explanation_throughput, cv=2).fit(*data)
    assert (search.cv_results_["mean_test_score"] > 0).all()
    scoring = {"speed": explanation_throughput, "loss": "neg_log_loss"}
    search = GridSearchCV(make(), grid, scoring=scoring, refit="speed", cv=2).fit(*data)
    assert (search.cv_results_["mean_test_speed"] > 0).all()
    losses = search.cv_results_["mean_test_loss"]
    assert losses[0] == losses[1]


def test_throughput_counts_rows_per_second_without_what_is_built_once(data, monkeypatch):
    explained, clock = [], iter([10.0, 12.0])
    explainer = make().set_params(parallel_config__preferred="serial").fit(*data)
    explain = explainer.explain

    def watched(X):
        explained.append(len(X))
        return explain(X)

    monkeypatch.setattr(explainer, "explain", watched)
    fake = SimpleNamespace(perf_counter=lambda: next(clock))
    monkeypatch.setattr("ce_parallel._throughput.time", fake)
    assert explanation_throughput(explainer, data[0]) == 120
    assert explained == [1, 240]


def test_throughput_of_a_pipeline_and_of_frames(data):
    pandas = pytest.importorskip("pandas")
    X, y = pandas.DataFrame(data[0], columns=list("abcd")), data[1]
    pipeline = make_pipeline(StandardScaler(), make()).fit(X, y)
    assert explanation_throughput(pipeline, X, y) > 0
    assert pickle.loads(pickle.dumps(explanation_throughput)) is explanation_throughput


@pytest.mark.usefixtures("fresh")
def test_a_grid_that_the_environment_flattens_warns_once(data, monkeypatch):
    monkeypatch.setenv("CE_PARALLEL", "serial")
    grid = {"parallel_config__preferred": ["serial", "threads"]}
    search = GridSearchCV(make(), grid, scoring=explanation_throughput, cv=2, refit=False)
    with pytest.warns(
        UserWarning, match=r"CE_PARALLEL names 'serial' and decides .* a tie"
    ) as seen:
        search.fit(*data)
    assert len(seen) == 1


@pytest.mark.usefixtures("fresh")
@pytest.mark.parametrize("directives", ["auto", "workers=1", ""])
def test_an_environment_that_leaves_the_choice_does_not_warn(directives, data, monkeypatch):
    monkeypatch.setenv("CE_PARALLEL", directives)
    explainer = make().set_params(parallel_config__preferred="threads").fit(*data)
    assert explanation_throughput(explainer, data[0]) > 0


@pytest.mark.usefixtures("fresh")
def test_nothing_is_flattened_where_nothing_is_named(data, monkeypatch):
    monkeypatch.setenv("CE_PARALLEL", "off")
    assert explanation_throughput(clone(make()).fit(*data), data[0]) > 0
