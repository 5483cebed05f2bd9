"""Classifiers that have decision values instead of probabilities."""

import warnings

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, load_iris
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import RidgeClassifier
from sklearn.model_selection import GridSearchCV, KFold, StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC, LinearSVC

from ce_parallel import ParallelCalibratedExplainer
from ce_parallel.calibration import InductiveVennAbers
from ce_parallel.utils import estimator_scores


def make(estimator, **parameters):
    explainer = ParallelCalibratedExplainer(estimator, random_state=0, **parameters)
    return explainer.set_params(parallel_config__preferred="serial")


@pytest.fixture(scope="module")
def tumours():
    X, y = load_breast_cancer(return_X_y=True)
    return StandardScaler().fit_transform(X)[:, :6], y


ESTIMATORS = [
    SVC(),
    LinearSVC(),
    RidgeClassifier(),
    make_pipeline(StandardScaler(), LinearSVC()),
    GridSearchCV(LinearSVC(), {"C": [0.1, 1.0]}, cv=2),
]


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=lambda e: type(e).__name__)
def test_two_classes_against_one_venn_abers_predictor(estimator, tumours):
    X, y = tumours
    cv = StratifiedKFold(3)
    explainer = make(estimator, cv=cv).fit(X[:300], y[:300])
    scores = np.empty(300)
    for train, held_out in cv.split(X[:300], y[:300]):
        model = clone(estimator).fit(X[train], y[train])
        scores[held_out] = model.decision_function(X[held_out])
    table = InductiveVennAbers.fit(scores, y[:300] == 1)
    model = clone(estimator).fit(X[:300], y[:300])
    expected = table.predict(model.decision_function(X[300:]))
    for ours, theirs in zip(explainer.predict_proba_interval(X[300:]), expected, strict=True):
        np.testing.assert_array_equal(ours[:, 1], theirs)
    assert explainer.score(X[300:], y[300:]) > 0.85
    for kind in ("factual", "alternative", "fast"):
        explanations = explainer.explain(X[300:305], kind=kind)
        np.testing.assert_array_equal(explanations.prediction, expected[0][:5])
        assert explanations.weights.any()


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=lambda e: type(e).__name__)
def test_several_classes(estimator):
    X, y = load_iris(return_X_y=True)
    explainer = make(estimator).fit(X, y)
    proba = explainer.predict_proba(X)
    np.testing.assert_allclose(proba.sum(axis=1), 1)
    assert explainer.score(X, y) > 0.8
    explanations = explainer.explain(X[::50], labels="all")
    np.testing.assert_array_equal(explanations.prediction.reshape(3, 3), proba[::50])


@pytest.mark.parametrize("scale", [1e-9, 1.0, 1e9])
def test_any_scale_gives_the_same_probabilities(scale, tumours):
    class Scaled(RidgeClassifier):
        def decision_function(self, X):
            return scale * super().decision_function(X)

    X, y = tumours
    expected = make(RidgeClassifier()).fit(X, y).predict_proba(X)
    np.testing.assert_array_equal(make(Scaled()).fit(X, y).predict_proba(X), expected)


def test_a_class_that_a_fold_has_not_seen_is_below_everything():
    X, y = load_iris(return_X_y=True)
    model = LinearSVC().fit(X[y != 1], y[y != 1])
    scores = estimator_scores(model, X, np.arange(3))
    assert (scores[:, 1] == -np.inf).all()
    np.testing.assert_array_equal(scores[:, 2], model.decision_function(X))
    np.testing.assert_array_equal(scores[:, 0], -scores[:, 2])
    # Folds without shuffling: each one's model has never seen the class that it scores.
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        explainer = make(LinearSVC(), cv=KFold(3)).fit(X, y)
        value, low, high = explainer.predict_proba_interval(X)
        explainer.explain(X[::50])
    for part in (value, low, high):
        assert np.isfinite(part).all()
    assert ((low <= value) & (value <= high)).all()


def test_held_out_rows_calibrate_a_frozen_machine(tumours):
    X, y = tumours
    model = SVC().fit(X[:200], y[:200])
    explainer = make(FrozenEstimator(model), cv=None).calibrate(X[200:400], y[200:400])
    table = InductiveVennAbers.fit(model.decision_function(X[200:400]), y[200:400])
    expected = table.predict(model.decision_function(X[400:]))
    np.testing.assert_array_equal(explainer.predict_proba(X[400:])[:, 1], expected[0])


def test_pairs_of_two_classes_are_one(tumours):
    X, y = tumours
    pairs = make(SVC(decision_function_shape="ovo")).fit(X, y)
    np.testing.assert_array_equal(pairs.predict_proba(X), make(SVC()).fit(X, y).predict_proba(X))
