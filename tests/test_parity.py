"""Predictions, intervals, weights and rules against calibrated-explanations 1.0.2, to 1e-9.

Calibration scores alone are rounded here, as the reference does (`score_rounding="oracle"`). The
reference gets copies: it freezes the arrays that it is given.
"""

import warnings

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer, load_diabetes
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.model_selection import train_test_split

from ce_parallel import ParallelCalibratedExplainer

TOLERANCE = {"rtol": 0, "atol": 1e-9}

CLASSIFIERS = {
    "forest": RandomForestClassifier(100, random_state=0),
    "logistic": LogisticRegression(max_iter=10_000),
}
REGRESSORS = {
    "forest": RandomForestRegressor(100, random_state=0),
    "linear": LinearRegression(),
}


def split(load):
    """Fit, calibration and query parts, as pairs (X, y)."""
    X, y = load(return_X_y=True)
    X_fit, X_rest, y_fit, y_rest = train_test_split(X, y, test_size=0.6, random_state=1)
    X_cal, X, y_cal, y = train_test_split(X_rest, y_rest, test_size=0.5, random_state=2)
    return (X_fit, y_fit), (X_cal, y_cal), (X, y)


def both(model, load, mode, **parameters):
    """The reference and ours, around the same fitted model and calibration rows."""
    reference = pytest.importorskip("calibrated_explanations")
    fit, cal, (X, _) = split(load)
    model.fit(*fit)
    theirs = reference.CalibratedExplainer(
        model,
        cal[0].copy(),
        cal[1].copy(),
        mode=mode,
        feature_names=[f"x{i}" for i in range(X.shape[1])],
        seed=42,
        **parameters,
    )
    ours = ParallelCalibratedExplainer(
        FrozenEstimator(model), cv=None, score_rounding="oracle", **parameters
    ).calibrate(*cal)
    return theirs, ours, X


def check_explanations(reference, ours):
    """Compare predictions, bounds, weights and rules of factual explanations."""
    keys = ("predict", "low", "high")
    base = np.array([[e.prediction[key] for key in keys] for e in reference]).T
    expected = np.array([[e.feature_weights[key] for e in reference] for key in keys])
    np.testing.assert_allclose(
        [ours.prediction, ours.prediction_low, ours.prediction_high], base, **TOLERANCE
    )
    np.testing.assert_allclose(
        [ours.weights, ours.weights_low, ours.weights_high], expected, **TOLERANCE
    )
    rules = [e.get_rules() for e in reference]
    texts = [text for rule in rules for text in rule["rule"]]
    assert [text for i in range(len(ours)) for text in ours.rule_text(i)] == texts
    np.testing.assert_allclose(
        ours.rules.weight, np.concatenate([rule["weight"] for rule in rules]), **TOLERANCE
    )


@pytest.fixture(autouse=True)
def _quiet_reference():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@pytest.fixture(params=["prediction", "observed"])
def condition_source(request):
    return request.param


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_classification(name, condition_source):
    theirs, ours, X = both(
        CLASSIFIERS[name],
        load_breast_cancer,
        "classification",
        condition_source=condition_source,
        # Numbers alone would be named "0", "1", ... there.
    )
    proba, (low, high) = theirs.predict_proba(X.copy(), uq_interval=True)
    our_proba, our_low, our_high = ours.predict_proba_interval(X)
    np.testing.assert_allclose(our_proba, proba, **TOLERANCE)
    np.testing.assert_allclose(our_low, np.column_stack([1 - high, low]), **TOLERANCE)
    np.testing.assert_allclose(our_high, np.column_stack([1 - low, high]), **TOLERANCE)
    np.testing.assert_array_equal(ours.predict(X), theirs.predict(X.copy()))
    check_explanations(theirs.explain_factual(X.copy()), ours.explain(X))


@pytest.mark.parametrize("summary", ["mean", "lower", "upper"])
def test_interval_summaries(summary):
    theirs, ours, X = both(
        CLASSIFIERS["logistic"], load_breast_cancer, "classification", interval_summary=summary
    )
    check_explanations(theirs.explain_factual(X.copy()), ours.explain(X))


@pytest.mark.parametrize("percentiles", [(5, 95), (10, 80)])
@pytest.mark.parametrize("name", REGRESSORS)
def test_regression(name, percentiles, condition_source):
    theirs, ours, X = both(
        REGRESSORS[name], load_diabetes, "regression", condition_source=condition_source
    )
    value, (low, high) = theirs.predict(
        X.copy(), uq_interval=True, low_high_percentiles=percentiles
    )
    np.testing.assert_allclose(ours.predict(X), value, **TOLERANCE)
    np.testing.assert_allclose(
        ours.predict_interval(X, percentiles=percentiles), np.column_stack([low, high]), **TOLERANCE
    )
    check_explanations(
        theirs.explain_factual(X.copy(), low_high_percentiles=percentiles),
        ours.explain(X, percentiles=percentiles),
    )


def test_sample_percentiles():
    theirs, ours, X = both(
        REGRESSORS["linear"], load_diabetes, "regression", sample_percentiles=[10, 30, 50, 70, 90]
    )
    check_explanations(theirs.explain_factual(X.copy()), ours.explain(X))


def test_ignored_features():
    theirs, ours, X = both(CLASSIFIERS["logistic"], load_breast_cancer, "classification")
    check_explanations(
        theirs.explain_factual(X.copy(), features_to_ignore=[3, 21]),
        ours.explain(X, features_to_ignore=[3, 21]),
    )


def test_infinite_bounds_of_a_tiny_calibration_set():
    reference = pytest.importorskip("calibrated_explanations")
    fit, (X_cal, y_cal), (X, _) = split(load_diabetes)
    model = REGRESSORS["linear"].fit(*fit)
    X_cal, y_cal = X_cal[:15], y_cal[:15]
    theirs = reference.CalibratedExplainer(
        model,
        X_cal.copy(),
        y_cal.copy(),
        mode="regression",
        feature_names=[f"x{i}" for i in range(10)],
        seed=42,
    )
    ours = ParallelCalibratedExplainer(FrozenEstimator(model), cv=None).calibrate(X_cal, y_cal)
    explanations = ours.explain(X)
    assert np.isinf(explanations.prediction_high).all()
    check_explanations(theirs.explain_factual(X.copy()), explanations)
