"""Fast explanations against calibrated-explanations 1.0.2, and against plain loops.

The loops calibrate an ordinary explainer on rows with one noisy column, feature by feature. They
stand for the method where the reference departs from it: gaussian noise, several classes.
"""

import pickle
import threading
import warnings

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer, load_diabetes, load_wine, make_classification
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.model_selection import train_test_split

from ce_parallel import ParallelCalibratedExplainer, ParallelConfig, _fast, explain_pipeline
from ce_parallel.rules import _block
from tests.reference import load_reference

TOLERANCE = {"rtol": 0, "atol": 1e-9}
N_ROWS = 12


def data(load, n_features=6):
    """Fit, calibration and query rows of the first features, as pairs (X, y)."""
    X, y = load(return_X_y=True)
    X, rest, y, y_rest = train_test_split(X[:, :n_features], y, test_size=0.5, random_state=1)
    cal, query, y_cal, y_query = train_test_split(rest, y_rest, test_size=0.5, random_state=2)
    return (X, y), (cal, y_cal), (query[:N_ROWS], y_query[:N_ROWS])


def mixed(regression):
    """Numbers, integer categories with gaps and a constant column; parts as those of `data`."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(400, 5))
    X[:, 1] = rng.choice([0.0, 2.0, 7.0], 400)
    X[:, 3] = rng.choice([1.0, 2.0, 3.0, 4.0], 400)
    X[:, 4] = 5.0
    y = X[:, 0] + (X[:, 1] == 2) - 0.7 * (X[:, 3] == 3) + 0.3 * rng.normal(size=400)
    y = y if regression else (y > 0.2).astype(int)
    query = slice(380, 380 + N_ROWS)
    return (X[:200], y[:200]), (X[200:380], y[200:380]), (X[query], y[query])


def explainer_of(model, cal, *, mondrian=None, **parameters):
    parameters = {"score_rounding": "oracle", "random_state": 42, **parameters}
    explainer = ParallelCalibratedExplainer(FrozenEstimator(model), cv=None, **parameters)
    return explainer.calibrate(*cal, mondrian=mondrian)


def arrays(e):
    base = [e.prediction, e.prediction_low, e.prediction_high]
    return [*base, e.weights, e.weights_low, e.weights_high]


def assert_same(one, other):
    for a, b in zip(arrays(one), arrays(other), strict=True):
        np.testing.assert_array_equal(a, b)


# -- the reference --------------------------------------------------------------------------------

CASES = {
    "two classes": (LogisticRegression(max_iter=10_000), load_breast_cancer, {}),
    "forest": (RandomForestClassifier(20, random_state=0), load_breast_cancer, {}),
    "several classes": (LogisticRegression(max_iter=10_000), load_wine, {}),
    "regression": (LinearRegression(), load_diabetes, {}),
    "percentiles": (LinearRegression(), load_diabetes, {"percentiles": (10, 80)}),
    "event": (LinearRegression(), load_diabetes, {"threshold": 150.0}),
    "interval": (LinearRegression(), load_diabetes, {"threshold": (100.0, 180.0)}),
}


def reference_of(model, cal, **parameters):
    package = load_reference()
    return package.CalibratedExplainer(
        model,
        cal[0].copy(),
        cal[1].copy(),
        mode="classification" if hasattr(model, "predict_proba") else "regression",
        feature_names=[f"x{i}" for i in range(cal[0].shape[1])],
        seed=42,
        **parameters,
    )


def explained_by(reference, X, *, percentiles=(5, 95), threshold=None, bins=None):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return reference.explain_fast(
            X.copy(), low_high_percentiles=percentiles, threshold=threshold, bins=bins
        )


def check(reference, ours, rows=slice(None)):
    """Compare predictions, weights and rules of some rows."""
    keys = ("predict", "low", "high")
    explanations = [e for e, wanted in zip(reference, rows_mask(rows, ours), strict=True) if wanted]
    ours = ours[rows]
    base = np.array([[e.prediction[key] for key in keys] for e in explanations]).T
    weights = np.array([[e.feature_weights[key] for e in explanations] for key in keys])
    np.testing.assert_allclose(arrays(ours)[:3], base, **TOLERANCE)
    np.testing.assert_allclose(arrays(ours)[3:], weights, **TOLERANCE)
    rules = [e.get_rules() for e in explanations]
    said = [np.asarray(rule["weight"]) != 0 for rule in rules]  # Q19: rules of ignored features
    texts = [
        t for rule, keep in zip(rules, said, strict=True) for t in np.array(rule["rule"])[keep]
    ]
    assert [text for i in range(len(ours)) for text in ours.rule_text(i)] == texts
    for ours_column, column in {
        "prediction": "predict",
        "low": "predict_low",
        "high": "predict_high",
        "weight": "weight",
        "weight_low": "weight_low",
        "weight_high": "weight_high",
        "feature": "feature",
    }.items():
        expected = np.concatenate(
            [
                np.array(rule[column], dtype=float)[keep]
                for rule, keep in zip(rules, said, strict=True)
            ]
        )
        np.testing.assert_allclose(getattr(ours.rules, ours_column), expected, **TOLERANCE)


def rows_mask(rows, ours):
    mask = np.zeros(len(ours), dtype=bool)
    mask[rows] = True
    return mask


@pytest.mark.parametrize("case", CASES)
def test_reference(case):
    model, load, options = CASES[case]
    fit, cal, (X, _) = data(load)
    model.fit(*fit)
    explainer = explainer_of(model, cal)
    ours = explainer.explain_fast(X, **options)
    assert (ours.kind, ours.weights.shape) == ("fast", X.shape)
    rows = slice(None)
    if case == "several classes":  # Q18: rows of one and the same class under every calibrator
        rows = [i for i in range(N_ROWS) if one_class_wins(explainer, X[i : i + 1])]
        assert 3 <= len(rows) < N_ROWS
    check(explained_by(reference_of(model, cal), X, **options), ours, rows)


def one_class_wins(explainer, row):
    """Whether every feature's calibrator finds the same class likeliest."""
    every = [explainer.explain_fast(row, labels=c) for c in explainer.classes_]
    under_noise = np.array([e.prediction[0] - e.weights[0] for e in every])
    return (under_noise.argmax(axis=0) == np.argmax([e.prediction[0] for e in every])).all()


@pytest.mark.parametrize("case", ["two classes", "regression", "event"])
def test_reference_with_mondrian_categories(case):
    model, load, options = CASES[case]
    fit, cal, (X, _) = data(load)
    model.fit(*fit)
    middle = np.median(cal[0][:, 3])
    bins, bins_cal = ((rows[:, 3] > middle).astype(int) for rows in (X, cal[0]))
    ours = explainer_of(model, cal, mondrian=bins_cal).explain_fast(X, mondrian=bins, **options)
    check(explained_by(reference_of(model, cal, bins=bins_cal), X, bins=bins, **options), ours)


@pytest.mark.parametrize("case", ["two classes", "regression", "event"])
def test_reference_with_difficulty(case):
    extras = pytest.importorskip("crepes.extras")
    model, load, options = CASES[case]
    fit, cal, (X, _) = data(load)
    model.fit(*fit)
    difficulty = extras.DifficultyEstimator()
    difficulty.fit(X=fit[0], y=fit[1].astype(float), scaler=True)
    ours = explainer_of(model, cal, difficulty=difficulty).explain_fast(X, **options)
    check(
        explained_by(reference_of(model, cal, difficulty_estimator=difficulty), X, **options), ours
    )


@pytest.mark.parametrize("forest", [RandomForestClassifier, RandomForestRegressor])
def test_reference_with_categories(forest):
    fit, cal, (X, _) = mixed(forest is RandomForestRegressor)
    model = forest(20, random_state=0).fit(*fit)
    reference = reference_of(model, cal, categorical_features=[1, 3])
    ours = explainer_of(model, cal, categorical_features=[1, 3]).explain_fast(X)
    check(explained_by(reference, X), ours)


def test_other_noise_than_by_default():
    model, load, _ = CASES["regression"]
    fit, cal, (X, _) = data(load)
    reference = reference_of(model.fit(*fit), cal, scale_factor=3, severity=0.4)
    ours = explainer_of(model, cal).explain_fast(X, scale_factor=3, severity=0.4)
    check(explained_by(reference, X), ours)


# -- plain loops ----------------------------------------------------------------------------------


def noisy_columns(X, noise, copies, severity, categorical=(), seed=42):
    """Copies of each column with noise, in the order in which the noise is drawn."""
    rng = np.random.default_rng(seed)
    for f in range(X.shape[1]):
        column = np.concatenate([X[:, f]] * copies)
        present = [value for value in column if not np.isnan(value)]
        if f in categorical:
            yield rng.permutation(column)
        elif noise == "uniform":
            reach = severity * (max(present) - min(present))
            yield column + rng.uniform(-reach, reach, size=len(column))
        else:
            yield column + rng.normal(0, severity * np.std(present), size=len(column))


def by_loops(model, cal, X, predict, noise, copies=5, severity=1.0, categorical=(), **parameters):
    """Weights, low and high, ndarray of shape (3, n, ..., d); `predict` gives (3, n, ...)."""
    base = predict(explainer_of(model, cal, **parameters), X)[0]
    weights = np.zeros((3, *base.shape, X.shape[1]))
    y = np.concatenate([cal[1]] * copies)
    for f, column in enumerate(noisy_columns(cal[0], noise, copies, severity, categorical)):
        rows = np.concatenate([cal[0]] * copies)
        rows[:, f] = column
        value, low, high = predict(explainer_of(model, (rows, y), **parameters), X)
        if len(np.unique(cal[0][:, f])) > 1:
            weights[..., f] = base - value, base - high, base - low
    return weights


def of_class_1(explainer, X):
    return [p[:, 1] for p in explainer.predict_proba_interval(X)]


def of_value(explainer, X):
    return explainer.predict(X), *explainer.predict_interval(X).T


def of_event(explainer, X):
    return explainer.predict_event(X, 150.0)


def of_events(explainer, X):
    return explainer.predict_event(X, list(np.linspace(90, 200, len(X))))


LOOPS = {
    "two classes": (load_breast_cancer, of_class_1, {}),
    "regression": (load_diabetes, of_value, {}),
    "event": (load_diabetes, of_event, {"threshold": 150.0}),
    "event per row": (
        load_diabetes,
        of_events,
        {"threshold": list(np.linspace(90, 200, N_ROWS))},
    ),
}


@pytest.mark.parametrize("noise", ["uniform", "gaussian"])
@pytest.mark.parametrize("case", LOOPS)
def test_loops(case, noise):
    load, predict, options = LOOPS[case]
    fit, cal, (X, _) = data(load, 4)
    model = LogisticRegression(max_iter=10_000) if case == "two classes" else LinearRegression()
    model.fit(*fit)
    ours = explainer_of(model, cal).explain_fast(X, noise=noise, severity=0.7, **options)
    expected = by_loops(model, cal, X, predict, noise, severity=0.7)
    np.testing.assert_allclose(arrays(ours)[3:], expected, **TOLERANCE)


@pytest.mark.parametrize("noise", ["uniform", "gaussian"])
def test_several_classes_are_compared_with_themselves(noise):
    """Q18: base and every feature's calibrator speak of one class."""
    fit, cal, (X, _) = data(load_wine, 4)
    model = LogisticRegression(max_iter=10_000).fit(*fit)
    explainer = explainer_of(model, cal)
    by_class = by_loops(
        model, cal, X, lambda explainer, X: explainer.predict_proba_interval(X), noise
    )
    usual = explainer.explain_fast(X, noise=noise)
    assert (usual.explained_class == explainer.predict(X)).all()
    likeliest = by_class[:, np.arange(N_ROWS), usual.explained_class]
    np.testing.assert_allclose(arrays(usual)[3:], likeliest, **TOLERANCE)
    every = explainer.explain_fast(X, noise=noise, labels="all")
    expected = by_class.reshape(3, 3 * N_ROWS, -1)
    np.testing.assert_allclose(arrays(every)[3:], expected, **TOLERANCE)
    assert_same(every[2::3], explainer.explain_fast(X, noise=noise, labels=2))


def test_missing_values_stay_missing():
    rng = np.random.default_rng(0)
    fit, (X_cal, y_cal), (X, _) = mixed(regression=True)
    X_cal, X = X_cal.copy(), X.copy()
    X_cal[rng.random(len(X_cal)) < 0.3, 2] = np.nan
    X[3, 2] = np.nan
    model = RandomForestRegressor(20, random_state=0).fit(*fit)
    ours = explainer_of(model, (X_cal, y_cal), categorical_features=[1, 3])
    expected = by_loops(
        model,
        (X_cal, y_cal),
        X,
        of_value,
        "gaussian",
        categorical=[1, 3],
        categorical_features=[1, 3],
    )
    np.testing.assert_allclose(
        arrays(ours.explain_fast(X, noise="gaussian"))[3:], expected, **TOLERANCE
    )


def test_a_column_of_nothing_but_missing_values_gets_no_noise():
    found = _fast.Augmentation("gaussian").noisy(np.full(3, np.nan), False, _rng())
    assert np.isnan(found).all()


def test_features_that_cannot_be_made_noisy():
    nan = np.nan
    X = np.array(
        [[1.0, 2, nan, 2, 1, 1, 1], [2.0, 2, nan, nan, 2, 1, nan], [3.0, 2, nan, 2, 3, 1, 1]]
    )
    tried = np.array([1.0])
    categories = {4: None, 5: tried, 6: tried}
    assert _fast.varying(X, categories).tolist() == [0, 6]


def test_permutation_of_a_column_that_has_few():
    for column in ([3.0], [3.0, 3.0], [1.0, 2.0]):
        found = _fast.Augmentation(scale_factor=1).noisy(np.array(column), True, _rng())
        assert sorted(found) == column
        assert found.tolist() != column or len(set(column)) == 1


def _rng():
    return np.random.default_rng(0)


# -- what holds for every kind --------------------------------------------------------------------


@pytest.fixture(scope="module")
def fitted():
    X, y = make_classification(500, 6, n_informative=4, n_classes=3, random_state=0)
    config = ParallelConfig(preferred="serial")
    model = RandomForestClassifier(5, random_state=0)
    explainer = ParallelCalibratedExplainer(model, random_state=0, parallel_config=config)
    return explainer.fit(X[:200], y[:200]), X[200:]


def fresh(explainer, **parameters):
    """The same calibration, without any fast calibrators."""
    copy = pickle.loads(pickle.dumps(explainer))
    copy._plans._fast.clear()
    return copy.set_params(**parameters)


@pytest.mark.parametrize(
    "preferred", ["threads", pytest.param("processes", marks=pytest.mark.slow)]
)
def test_same_bits_for_every_strategy(preferred, fitted, monkeypatch):
    monkeypatch.setattr(_block, "TILE_BYTES", 2**14)
    explainer, X = fitted
    expected = fresh(explainer).explain_fast(X, labels="all")
    assert expected.execution_report.n_tasks > 2
    config = ParallelConfig(preferred=preferred, max_workers=2)
    if preferred == "processes":  # workers see the usual size of a block of calibration rows
        monkeypatch.undo()
    assert_same(fresh(explainer, parallel_config=config).explain_fast(X, labels="all"), expected)


def test_rows_alone_and_among_others(fitted):
    explainer, X = fitted
    whole = explainer.explain_fast(X[:20])
    assert_same(whole[4:5], explainer.explain_fast(X[4:5]))


def test_two_threads_that_ask_first(fitted):
    explainer, X = fitted
    explainer = fresh(explainer)
    together = threading.Barrier(2)
    found = []

    def ask():
        together.wait(timeout=30)
        found.append(explainer.explain_fast(X))

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert_same(*found)
    assert len(explainer._plans._fast) == 1


def test_calibrators_are_built_once_and_travel_in_a_pickle(fitted, monkeypatch):
    explainer, X = fitted
    explainer = fresh(explainer)
    expected = explainer.explain_fast(X)
    other = explainer.explain_fast(X, noise="gaussian")
    assert not np.array_equal(other.weights, expected.weights)
    monkeypatch.setattr("ce_parallel._plans.fit_features", None)
    assert_same(explainer.explain_fast(X), expected)
    assert_same(pickle.loads(pickle.dumps(explainer)).explain(X, kind="fast"), expected)
    assert_same(pickle.loads(pickle.dumps(expected)), expected)


def test_a_new_build_draws_the_same_noise_and_no_global_one(fitted):
    """Q19: the generator is neither shared with other builds nor NumPy's global one."""
    explainer, X = fitted
    np.random.seed(0)  # noqa: NPY002 - that generator is what is watched
    expected_draw = np.random.random()  # noqa: NPY002
    np.random.seed(0)  # noqa: NPY002
    explainer.explain_fast(X, severity=0.5)
    expected = explainer.explain_fast(X)
    assert_same(fresh(explainer).explain_fast(X), expected)
    assert np.random.random() == expected_draw  # noqa: NPY002


def test_calibrate_replaces_the_calibrators():
    fit, cal, (X, _) = data(load_diabetes)
    explainer = explainer_of(LinearRegression().fit(*fit), cal)
    before = explainer.explain_fast(X)
    after = explainer.calibrate(cal[0][:60], cal[1][:60]).explain_fast(X)
    assert not np.array_equal(before.weights, after.weights)


def test_few_augmentations_are_kept(fitted):
    explainer, X = fitted
    explainer = fresh(explainer)
    for severity in range(10):
        explainer.explain_fast(X[:1], severity=severity, scale_factor=1)
    assert [key[0].severity for key in explainer._plans._fast] == list(range(2, 10))


def test_ignored_features_have_no_weight_and_no_rule(fitted):
    """Q19; and the noise of the other features is the same."""
    explainer, X = fitted
    whole = explainer.explain_fast(X)
    some = explainer.explain_fast(X, features_to_ignore=[1, 4])
    assert not some.weights[:, [1, 4]].any()
    assert not some.weights_low[:, [1, 4]].any()
    assert not np.isin(some.rules.feature, [1, 4]).any()
    others = [0, 2, 3, 5]
    np.testing.assert_array_equal(some.weights[:, others], whole.weights[:, others])
    nothing = explainer.explain_fast(X, features_to_ignore=range(6))
    assert len(nothing.rules) == 0
    np.testing.assert_array_equal(nothing.prediction, whole.prediction)


def test_other_kinds_stay_what_they_are(fitted):
    explainer, X = fitted
    before = explainer.explain_factual(X[:20])
    explainer.explain_fast(X[:20])
    assert_same(explainer.explain_factual(X[:20]), before)


def test_rules_to_read(fitted):
    explainer, X = fitted
    e = explainer.explain_fast(X[:5])
    rules = e.rules
    np.testing.assert_array_equal(rules.weight, e.weights[rules.row, rules.feature])
    assert (rules.low <= rules.high).all()
    assert (rules.support == 200).all()
    assert np.isinf(rules.lower).all()
    assert np.isnan(rules.value).all()
    assert e.rule_text(0) == [f"x{f}" for f in np.flatnonzero(e.weights[0])]
    assert e.to_dict()["rule"][0] == e.to_dict()["feature"][0]
    assert "x" in repr(e[0])
    with pytest.raises(ValueError, match="Only alternatives can be filtered"):
        e.counter()


def test_frames_with_categories_that_are_new_in_the_query():
    pd = pytest.importorskip("pandas")
    from sklearn.compose import make_column_transformer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder

    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "size": rng.normal(size=200),
            "color": rng.choice(["red", "green", "blue"], 200),
            "old": rng.random(200) < 0.5,
        }
    )
    y = (frame["size"] + frame["old"] + (frame["color"] == "red") > 1).astype(int)
    encode = make_column_transformer(
        (OneHotEncoder(handle_unknown="ignore"), ["color"]), remainder="passthrough"
    )
    model = make_pipeline(encode, LogisticRegression())
    explainer = ParallelCalibratedExplainer(model, random_state=0).fit(frame, y)
    query = frame[:4].assign(color=["red", "pink", "blue", None])
    e = explainer.explain_fast(query, severity=3)
    assert set(e.rule_text(1)) <= {"size", "color", "old"}
    # Numbers that only two values exist for cannot be noisy, whatever they count as.
    numeric = explainer.set_params(categorical_features=["color"]).fit(frame, y)
    assert_same(numeric.explain_fast(query, severity=3), e)


def test_a_pipeline_is_explained():
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    fit, _, (X, _) = data(load_diabetes)
    inner = ParallelCalibratedExplainer(LinearRegression(), random_state=0)
    pipeline = make_pipeline(StandardScaler(), inner).fit(*fit)
    e = explain_pipeline(pipeline, X, kind="fast", noise="gaussian")
    np.testing.assert_array_equal(e.X, X)
    assert set(e.rule_text(0)) == {f"x{i}" for i in range(6)}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"noise": "pink"}, r"noise must be one of \['gaussian', 'uniform'\]. Got 'pink' instead."),
        ({"noise": None}, r"noise must be one of \['gaussian', 'uniform'\]. Got None instead."),
        ({"scale_factor": 0}, "scale_factor must be an int >= 1. Got 0 instead."),
        ({"scale_factor": 2.5}, "scale_factor must be an int >= 1. Got 2.5 instead."),
        ({"severity": -1}, "severity must be a finite number >= 0. Got -1 instead."),
        ({"severity": np.inf}, "severity must be a finite number >= 0. Got inf instead."),
        ({"severity": "much"}, "severity must be a finite number >= 0. Got 'much' instead."),
    ],
)
def test_parameters(options, message, fitted):
    explainer, X = fitted
    with pytest.raises(ValueError, match=f"^{message}$"):
        explainer.explain_fast(X, **options)


def test_noise_is_for_fast_explanations(fitted):
    explainer, X = fitted
    with pytest.raises(ValueError, match=r"are for kind='fast'. Got kind='factual'."):
        explainer.explain(X, severity=2)
