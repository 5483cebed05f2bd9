"""Predictions, intervals, weights and rules against calibrated-explanations 1.0.2, to 1e-9.

Calibration scores alone are rounded here, as the reference does (`score_rounding="oracle"`). The
reference gets copies: it freezes the arrays that it is given.
"""

import warnings

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_wine
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.model_selection import train_test_split

from ce_parallel import ParallelCalibratedExplainer
from tests.reference import load_reference

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


def both(model, load, mode, *, theirs_alone=None, **parameters):
    """The reference and ours, around the same fitted model and calibration rows."""
    reference = load_reference()
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
        **(theirs_alone or {}),
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
    reference = load_reference()
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


def check_alternatives(reference, ours, texts=True):
    """Compare predictions, weights and every alternative rule."""
    keys = ("predict", "low", "high")
    expected = np.array([[e.feature_weights[key] for e in reference] for key in keys])
    np.testing.assert_allclose(
        [ours.weights, ours.weights_low, ours.weights_high], expected, **TOLERANCE
    )
    rules = [e.get_rules() for e in reference]

    def column(key):
        return np.concatenate([np.asarray(rule[key], dtype=float) for rule in rules])

    n_rules = [len(rule["rule"]) for rule in rules]
    np.testing.assert_array_equal(np.bincount(ours.rules.row, minlength=len(ours)), n_rules)
    np.testing.assert_array_equal(ours.rules.feature, column("feature"))
    ours_by_key = {
        "predict": ours.rules.prediction,
        "predict_low": ours.rules.low,
        "predict_high": ours.rules.high,
        "weight": ours.rules.weight,
        "weight_low": ours.rules.weight_low,
        "weight_high": ours.rules.weight_high,
    }
    for key, values in ours_by_key.items():
        np.testing.assert_allclose(values, column(key), err_msg=key, **TOLERANCE)
    if texts:
        # Q8: what is below an edge includes the edge, so "<" there is "<=" here.
        said = [text.replace(" < ", " <= ") for rule in rules for text in rule["rule"]]
        assert [text for i in range(len(ours)) for text in ours.rule_text(i)] == said


def explain_both(theirs, ours, X, kind="factual", bins=None, **options):
    """Explanations of both."""
    told = {}
    if "threshold" in options:
        told["threshold"] = options["threshold"]
    if "percentiles" in options:
        told["low_high_percentiles"] = options["percentiles"]
    if bins is not None:
        told["bins"] = bins
    verb = theirs.explain_factual if kind == "factual" else theirs.explore_alternatives
    return verb(X.copy(), **told), ours.explain(X, kind=kind, mondrian=bins, **options)


CHECKS = {"factual": check_explanations, "alternative": check_alternatives}


@pytest.fixture(params=CHECKS)
def kind(request):
    return request.param


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_alternatives_of_two_classes(name, condition_source):
    theirs, ours, X = both(
        CLASSIFIERS[name], load_breast_cancer, "classification", condition_source=condition_source
    )
    check_alternatives(*explain_both(theirs, ours, X, "alternative"))


@pytest.mark.parametrize("load", [load_wine, load_digits], ids=["wine", "digits"])
@pytest.mark.parametrize("name", CLASSIFIERS)
def test_several_classes(name, load, kind):
    theirs, ours, X = both(CLASSIFIERS[name], load, "classification")
    X = X[:40]
    proba, (low, high) = theirs.predict_proba(X.copy(), uq_interval=True)
    for one, other in zip(ours.predict_proba_interval(X), (proba, low, high), strict=True):
        np.testing.assert_allclose(one, other, **TOLERANCE)
    np.testing.assert_array_equal(ours.predict(X), theirs.predict(X.copy()))
    CHECKS[kind](*explain_both(theirs, ours, X, kind))


@pytest.mark.parametrize("normalization", ["simplex", "coherence", "none"])
def test_normalizations(normalization):
    theirs, ours, X = both(CLASSIFIERS["logistic"], load_wine, "classification")
    proba, (low, high) = theirs.predict_proba(
        X.copy(), uq_interval=True, normalization=normalization
    )
    data = split(load_wine)[1]
    ours.set_params(normalization=normalization).calibrate(*data)
    for one, other in zip(ours.predict_proba_interval(X), (proba, low, high), strict=True):
        np.testing.assert_allclose(one, other, **TOLERANCE)


def test_every_class(kind):
    """The reference's multi-label explanations."""
    theirs, ours, X = both(CLASSIFIERS["logistic"], load_wine, "classification")
    verb = theirs.explain_factual if kind == "factual" else theirs.explore_alternatives
    reference = verb(X[:9].copy(), multi_labels_enabled=True)
    every = ours.explain(X[:9], kind=kind, labels="all")
    assert every.explained_class.tolist() == [0, 1, 2] * 9
    expected = [reference.get_explanation(i, c) for i in range(9) for c in range(3)]
    CHECKS[kind](expected, every)
    for c in range(3):
        CHECKS[kind](expected[c::3], every[c::3])
        CHECKS[kind](expected[c::3], ours.explain(X[:9], kind=kind, labels=c))


@pytest.mark.parametrize("percentiles", [(5, 95), (20, 60)])
@pytest.mark.parametrize("name", REGRESSORS)
def test_alternatives_of_a_regression(name, percentiles):
    theirs, ours, X = both(REGRESSORS[name], load_diabetes, "regression")
    check_alternatives(*explain_both(theirs, ours, X, "alternative", percentiles=percentiles))


@pytest.mark.parametrize("percentiles", [(-np.inf, 90), (10, np.inf)])
def test_one_sided_intervals(percentiles):
    """Where the reference puts an extreme target for the open end, here is infinity."""
    theirs, ours, X = both(REGRESSORS["linear"], load_diabetes, "regression")
    reference, explained = explain_both(theirs, ours, X, percentiles=percentiles)
    keys = ("predict", "low", "high")
    expected = np.array([[e.feature_weights[key] for e in reference] for key in keys])
    # The low end of a weight comes from the high end of the alternatives, and the other way round.
    bounded = 2 if percentiles[0] > 0 else 1
    there = [explained.weights, explained.weights_low, explained.weights_high]
    for k in (0, bounded):
        np.testing.assert_allclose(there[k], expected[k], **TOLERANCE)


THRESHOLDS = {
    "scalar": lambda n: 150.0,
    "interval": lambda n: (100.0, 180.0),
    "scalar per row": lambda n: (90.0 + 10.0 * (np.arange(n) % 9)).tolist(),
    "interval per row": lambda n: [(90.0 + 5.0 * (i % 4), 200.0) for i in range(n)],
}


@pytest.mark.parametrize(
    "threshold",  # one event per row takes the reference long
    [pytest.param(t, marks=pytest.mark.slow) if "per row" in t else t for t in THRESHOLDS],
)
@pytest.mark.parametrize("name", REGRESSORS)
def test_events(name, threshold, kind):
    theirs, ours, X = both(REGRESSORS[name], load_diabetes, "regression")
    ours.set_params(random_state=42).calibrate(*split(load_diabetes)[1])  # the same two halves
    X = X[:20] if "per row" in threshold else X
    event = THRESHOLDS[threshold](len(X))
    proba, (low, high) = theirs.predict_proba(X.copy(), uq_interval=True, threshold=event)
    for one, other in zip(ours.predict_event(X, event), (proba[:, 1], low, high), strict=True):
        np.testing.assert_allclose(one, other, **TOLERANCE)
    CHECKS[kind](*explain_both(theirs, ours, X, kind, threshold=event))


MODES = {
    "two classes": (CLASSIFIERS["logistic"], load_breast_cancer, "classification", {}),
    "several classes": (CLASSIFIERS["logistic"], load_wine, "classification", {}),
    "regression": (REGRESSORS["linear"], load_diabetes, "regression", {}),
    "event": (REGRESSORS["linear"], load_diabetes, "regression", {"threshold": 150.0}),
}


@pytest.mark.parametrize("mode", MODES)
def test_mondrian_categories(mode, kind):
    model, load, of_kind, options = MODES[mode]
    cal = split(load)[1]
    column = 3
    middle = np.median(cal[0][:, column])

    def categories(X):
        return (X[:, column] > middle).astype(int)

    theirs, _, X = both(model, load, of_kind, theirs_alone={"bins": categories(cal[0])})
    ours = ParallelCalibratedExplainer(
        FrozenEstimator(model), cv=None, score_rounding="oracle", random_state=42
    ).calibrate(*cal, mondrian=categories(cal[0]))
    CHECKS[kind](*explain_both(theirs, ours, X[:40], kind, categories(X[:40]), **options))
    ours.set_params(mondrian=categories).calibrate(*cal)
    reference, _ = explain_both(theirs, ours, X[:40], kind, categories(X[:40]), **options)
    CHECKS[kind](reference, ours.explain(X[:40], kind=kind, **options))


@pytest.mark.parametrize("mode", MODES)
def test_difficulty(mode, kind):
    extras = pytest.importorskip("crepes.extras")
    model, load, of_kind, options = MODES[mode]
    fit, cal, _ = split(load)
    difficulty = extras.DifficultyEstimator()
    difficulty.fit(X=fit[0], y=fit[1].astype(float), scaler=True)
    theirs, _, X = both(model, load, of_kind, theirs_alone={"difficulty_estimator": difficulty})
    ours = ParallelCalibratedExplainer(
        FrozenEstimator(model),
        cv=None,
        score_rounding="oracle",
        random_state=42,
        difficulty=difficulty,
    ).calibrate(*cal)
    CHECKS[kind](*explain_both(theirs, ours, X[:40], kind, **options))


def mixed(mode, seed=0):
    """Numeric columns, integer categories with gaps, a constant column; parts as in `split`."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(500, 5))
    X[:, 1] = rng.choice([0.0, 2.0, 7.0], 500)
    X[:, 3] = rng.choice([1.0, 2.0, 3.0, 4.0], 500)
    X[:, 4] = 5.0
    signal = X[:, 0] + (X[:, 1] == 2) - 0.7 * (X[:, 3] == 3) + 0.3 * rng.normal(size=500)
    y = signal if mode == "regression" else np.digitize(signal, [-0.3, 0.6][: int(mode) - 1])
    return (X[:250], y[:250]), (X[250:420], y[250:420]), (X[420:], y[420:])


@pytest.mark.parametrize("mode", ["2", "3", "regression"])
def test_categories(mode, kind):
    """Alternatives of categories are compared with `binned`: the rules are misaligned (Q5)."""
    reference = load_reference()
    fit, cal, (X, _) = mixed(mode)
    regression = mode == "regression"
    model = (REGRESSORS if regression else CLASSIFIERS)["forest"].fit(*fit)
    theirs = reference.CalibratedExplainer(
        model,
        cal[0].copy(),
        cal[1].copy(),
        mode="regression" if regression else "classification",
        categorical_features=[1, 3],
        feature_names=[f"x{i}" for i in range(5)],
    )
    ours = ParallelCalibratedExplainer(
        FrozenEstimator(model), cv=None, score_rounding="oracle", categorical_features=[1, 3]
    ).calibrate(*cal)
    expected, explained = explain_both(theirs, ours, X, kind)
    if kind == "factual":
        check_explanations(expected, explained)
        return
    rules = explained.rules
    for i, e in enumerate(expected):
        for f in (1, 3):
            here = (rules.row == i) & (rules.feature == f)
            values = np.unique(cal[0][:, f])
            binned = np.stack([e.binned[key][f] for key in ("predict", "low", "high")])
            base = np.array([e.prediction[key] for key in ("predict", "low", "high")])
            wanted = [
                v
                for v, (_, low, high) in zip(values, binned.T, strict=True)
                if v != X[i, f] and not (low == base[1] and high == base[2])
            ]
            assert rules.value[here].tolist() == wanted
            there = binned[:, np.isin(values, wanted)]
            ours_there = np.stack([rules.prediction[here], rules.low[here], rules.high[here]])
            np.testing.assert_allclose(ours_there, there, **TOLERANCE)
            texts = np.array(explained.rule_text(i))[here[rules.row == i]]
            assert texts.tolist() == [f"x{f} = {v}" for v in wanted]
