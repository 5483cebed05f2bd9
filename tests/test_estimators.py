"""Estimators of every kind, wrapped: each is fitted, calibrated, explained and pickled."""

import pickle
from importlib import import_module

import numpy as np
import pytest
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import make_classification
from sklearn.ensemble import (
    ExtraTreesClassifier,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
    StackingClassifier,
    StackingRegressor,
)
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge, RidgeClassifier
from sklearn.model_selection import TunedThresholdClassifierCV
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC, SVR

from ce_parallel import ParallelCalibratedExplainer


def boosted(module, name, **parameters):
    """An estimator of another package, or a test that is skipped."""

    def make():
        pytest.importorskip(module)
        return getattr(import_module(module), name)(n_estimators=5, n_jobs=1, **parameters)

    return make


PAIR = [("linear", LogisticRegression()), ("neighbours", KNeighborsClassifier())]
ESTIMATORS = {
    "logistic": LogisticRegression(),
    "forest": RandomForestClassifier(5),
    "extra trees": ExtraTreesClassifier(5),
    "hist gradient boosting": HistGradientBoostingClassifier(max_iter=5),
    "svc": SVC(),
    "neighbours": KNeighborsClassifier(),
    "naive bayes": GaussianNB(),
    "mlp": MLPClassifier((5,), solver="lbfgs", max_iter=15000),
    "pipeline": make_pipeline(StandardScaler(), RidgeClassifier()),
    "stacking": StackingClassifier(PAIR, cv=2),
    "calibrated": CalibratedClassifierCV(GaussianNB(), cv=2),
    "tuned": TunedThresholdClassifierCV(GaussianNB(), cv=2),
    "xgboost": boosted("xgboost", "XGBClassifier"),
    "lightgbm": boosted("lightgbm", "LGBMClassifier", min_child_samples=5, verbose=-1),
    "linear": LinearRegression(),
    "forest regression": RandomForestRegressor(5),
    "hist regression": HistGradientBoostingRegressor(max_iter=5),
    "svr": SVR(),
    "neighbours regression": KNeighborsRegressor(),
    "stacking regression": StackingRegressor([("a", Ridge()), ("b", KNeighborsRegressor())], cv=2),
    "xgboost regression": boosted("xgboost", "XGBRegressor"),
    "lightgbm regression": boosted("lightgbm", "LGBMRegressor", min_child_samples=5, verbose=-1),
}


@pytest.fixture(scope="module")
def data():
    X, y = make_classification(160, 4, flip_y=0.1, random_state=0)
    return X, y


def explainer_of(name, **parameters):
    estimator = ESTIMATORS[name]
    if not hasattr(estimator, "fit"):
        estimator = estimator()
    explainer = ParallelCalibratedExplainer(estimator, cv=3, random_state=0, **parameters)
    return explainer.set_params(parallel_config__preferred="serial")


def everything(explainer, X):
    """All that an explainer says of some rows."""
    found = [explainer.predict(X)]
    for kind in ("factual", "alternative"):
        explanations = explainer.explain(X, kind=kind)
        found += [explanations.weights, explanations.prediction_low, explanations.prediction_high]
        found += [explanations.rules.prediction]
    return found


def assert_same(found, expected):
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("name", ESTIMATORS)
def test_fit_calibrate_explain_pickle(name, data):
    X, y = data
    explainer = explainer_of(name).fit(X[:120], y[:120])
    assert explainer.score(X[:120], y[:120]) > 0.1
    explainer.calibrate(X[120:], y[120:])
    expected = everything(explainer, X[:10])
    assert any(part.any() for part in expected)
    assert_same(everything(pickle.loads(pickle.dumps(explainer)), X[:10]), expected)


@pytest.mark.slow
@pytest.mark.parametrize("name", ESTIMATORS)
def test_processes_give_the_same_bits(name, data):
    X, y = data
    expected = everything(explainer_of(name).fit(X[:90], y[:90]), X[:10])
    explainer = explainer_of(name)
    explainer.set_params(parallel_config__preferred="processes", parallel_config__max_workers=2)
    explainer.fit(X[:90], y[:90])
    assert explainer.execution_report_.strategy == "processes"
    assert_same(everything(explainer, X[:10]), expected)


@pytest.mark.parametrize("kind", [HistGradientBoostingClassifier, HistGradientBoostingRegressor])
def test_missing_values_and_categories_of_a_frame(kind, data):
    pandas = pytest.importorskip("pandas")
    X, y = data
    frame = pandas.DataFrame(X.copy(), columns=list("abcd"))
    frame.loc[::7, "a"] = np.nan
    frame["colour"] = pandas.Categorical(np.where(y ^ (X[:, 3] > 1.5), "red", "blue"))
    frame.loc[::9, "colour"] = np.nan
    model = kind(max_iter=20, categorical_features="from_dtype")
    explainer = ParallelCalibratedExplainer(model, cv=3, random_state=0).fit(frame, y)
    assert explainer.calibrate(frame, y).score(frame, y) > 0.7
    texts = explainer.explain_factual(frame).rule_text(0)
    assert "a is missing" in texts
    assert "colour is missing" in texts
    assert explainer.explain_factual(frame[1:2]).rule_text(0)[-1] in (
        "colour = red",
        "colour = blue",
    )


def test_inside_of_what_calibrates_and_cuts(data):
    X, y = data
    for around in (
        CalibratedClassifierCV(explainer_of("forest"), cv=2),
        TunedThresholdClassifierCV(explainer_of("forest"), cv=2),
        StackingClassifier([("one", explainer_of("logistic"))], cv=2),
    ):
        assert around.fit(X, y).score(X, y) > 0.8
        np.testing.assert_allclose(around.predict_proba(X).sum(axis=1), 1)
