"""Saving, loading, cloning and showing an explainer; errors of the estimator inside."""

import io
import pickle
from dataclasses import replace

import joblib
import numpy as np
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.model_selection import KFold

from ce_parallel import ParallelCalibratedExplainer

# What skops.io.load has to be told to trust, beside the types of the wrapped estimator.
TRUSTED = {
    "builtins.range",
    "ce_parallel._explainer.ParallelCalibratedExplainer",
    "ce_parallel._fast.Augmentation",
    "ce_parallel._fast.FastPlan",
    "ce_parallel._plan.CalibratedModel",
    "ce_parallel._plan.ExplanationPlan",
    "ce_parallel._plans.Plans",
    "ce_parallel._plans.Reference",
    "ce_parallel.calibration._classes.VennAbersClassifier",
    "ce_parallel.calibration._cps.ConformalPredictiveSystem",
    "ce_parallel.calibration._ivap.InductiveVennAbers",
    "ce_parallel.calibration._recipe.Calibration",
    "ce_parallel.calibration._recipe.Recipe",
    "ce_parallel.calibration._rows.Rows",
    "ce_parallel.executor._config.ParallelConfig",
    "ce_parallel.executor._metrics.ExecutionReport",
    "ce_parallel.executor._metrics.TaskBlock",
    "ce_parallel.executor._selection.Decision",
    "ce_parallel.rules._grid.Grid",
    "ce_parallel.utils._columns.Columns",
}


def through_skops(explainer):
    skops = pytest.importorskip("skops.io")
    data = skops.dumps(explainer)
    assert set(skops.get_untrusted_types(data=data)) <= TRUSTED
    return skops.loads(data, trusted=sorted(TRUSTED))


def through_joblib(explainer):
    file = io.BytesIO()
    joblib.dump(explainer, file)
    file.seek(0)
    return joblib.load(file)


WAYS = {
    "pickle": lambda explainer: pickle.loads(pickle.dumps(explainer)),
    "joblib": through_joblib,
    "skops": through_skops,
}


@pytest.fixture(
    scope="module", params=[LogisticRegression(C=0.1, max_iter=5000), LinearRegression()]
)
def explainer(request):
    X, y = load_breast_cancer(return_X_y=True)
    made = ParallelCalibratedExplainer(request.param, cv=3, random_state=0)
    return made.set_params(parallel_config__preferred="serial").fit(X[:, :4], y)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("used", [False, True])
def test_what_is_loaded_gives_the_same_bits(way, used, explainer):
    X = load_breast_cancer().data[:40, :4]
    kinds = "factual", "fast", "alternative"
    if used:
        for kind in kinds:
            explainer.explain(X[:3], kind=kind)
    loaded = WAYS[way](explainer)
    np.testing.assert_array_equal(loaded.predict(X), explainer.predict(X))
    for kind in kinds:
        one, other = loaded.explain(X, kind=kind), explainer.explain(X, kind=kind)
        np.testing.assert_array_equal(one.weights, other.weights)
        np.testing.assert_array_equal(one.prediction_low, other.prediction_low)


def test_a_clone_forgets_and_fits_the_same(explainer):
    X, y = load_breast_cancer(return_X_y=True)
    cloned = clone(explainer)
    assert not hasattr(cloned, "estimator_")
    cloned.fit(X[:, :4], y)
    np.testing.assert_array_equal(cloned.predict(X[:, :4]), explainer.predict(X[:, :4]))


@pytest.mark.parametrize("way", WAYS)
def test_another_version_warns(way, explainer):
    old = pickle.loads(pickle.dumps(explainer))
    old._plans.model = replace(old._plans.model, version="0.0.1")
    with pytest.warns(UserWarning, match=r"calibrated by ce_parallel 0\.0\.1 and is used under"):
        WAYS[way](old)


def test_the_notebook_shows_the_estimator_inside(explainer):
    for shown in (explainer, clone(explainer)):
        page = shown._repr_html_()
        assert "ParallelCalibratedExplainer" in page
        assert f"estimator: {type(explainer.estimator).__name__}" in page


class Picky(ClassifierMixin, BaseEstimator):
    """Fails where row 0 is held out, which is fold 1 of folds without shuffling."""

    def fit(self, X, y):
        if X[:, 0].min() > 0:
            raise ZeroDivisionError("where is row 0?")
        self.classes_ = np.unique(y)
        return self

    def predict_proba(self, X):
        return np.full((len(X), 2), 0.5)


@pytest.mark.parametrize(
    "preferred", ["serial", "threads", pytest.param("processes", marks=pytest.mark.slow)]
)
def test_an_error_in_a_fold_is_its_own_and_names_the_fold(preferred):
    X = np.arange(30.0)[:, None]
    explainer = ParallelCalibratedExplainer(Picky(), cv=KFold(3))
    explainer.set_params(parallel_config__preferred=preferred, parallel_config__max_workers=2)
    with pytest.raises(ZeroDivisionError, match=r"where is row 0") as caught:
        explainer.fit(X, np.arange(30) % 2)
    assert "This happened in the fit on fold 1 of 3." in caught.value.__notes__
