"""Kept fold models against plain loops: one calibrator per fold, merged by its definition."""

import copy
import pickle

import numpy as np
import pytest
from scipy.stats import gmean
from sklearn.base import clone
from sklearn.datasets import load_diabetes, load_wine, make_classification
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.model_selection import GroupKFold, KFold, RepeatedKFold, ShuffleSplit
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeRegressor

from ce_parallel import (
    ParallelCalibratedExplainer,
    ParallelConfig,
    ParallelExecutor,
    explain_pipeline,
)
from ce_parallel.calibration import EventSplit, InductiveVennAbers
from ce_parallel.rules import _block
from tests.oracle import factual_weights, interval

TOLERANCE = {"rtol": 0, "atol": 1e-12}
SPLITTERS = {
    "partition": KFold(4, shuffle=True, random_state=0),
    "overlapping": ShuffleSplit(5, test_size=0.3, random_state=0),
    "repeated": RepeatedKFold(n_splits=3, n_repeats=2, random_state=0),
    "one fold": [(np.arange(80), np.arange(80, 120))],
}


def make(estimator, **parameters):
    explainer = ParallelCalibratedExplainer(estimator, ensemble=True, random_state=0, **parameters)
    return explainer.set_params(parallel_config__preferred="serial")


@pytest.fixture(scope="module")
def binary():
    return make_classification(200, 5, n_informative=4, n_redundant=0, flip_y=0.2, random_state=0)


@pytest.fixture(scope="module")
def numbers():
    X, y = load_diabetes(return_X_y=True)
    return X[:200, :5], y[:200]


class Difficulty:
    def apply(self, X):
        return 0.1 + np.abs(X[:, 0]) / np.abs(X[:, 0]).max() * 0.8


# -- plain loops -----------------------------------------------------------------------------------


def pairs_of(calibrations, column, scores):
    """(p0, p1) of each fold; `calibrations` are (scores, labels) of what it held out."""
    rounded = {"calibration_decimals": 4, "test_decimals": 4}
    return [
        InductiveVennAbers.fit(held_out[:, column], labels == column, **rounded).predict(
            scores[k][:, column]
        )[1:]
        for k, (held_out, labels) in enumerate(calibrations)
    ]


def cross_venn_abers(pairs):
    """Vovk, Petej & Fedorova (2015): value, low and high."""
    low, high = 1 - gmean([1 - p0 for p0, _ in pairs]), gmean([p1 for _, p1 in pairs])
    return np.array([high / (1 - low + high), np.minimum(low, high), np.maximum(low, high)])


def probabilities(models, calibrations, X):
    """Merged value, low and high of all classes, ndarray of shape (3, n, n_classes)."""
    scores = [model.predict_proba(X) for model in models]
    n_classes = scores[0].shape[1]
    if n_classes == 2:
        ones = cross_venn_abers(pairs_of(calibrations, 1, scores))
        return np.stack([1 - ones[[0, 2, 1]], ones], axis=-1)
    raw = [cross_venn_abers(pairs_of(calibrations, c, scores)) for c in range(n_classes)]
    raw = np.stack(raw, axis=-1)
    return raw / raw[0].sum(axis=1, keepdims=True)


def distribution(models, calibrations, X, percentiles=(5, 95)):
    """Median, low and high of all predictions plus residuals, ndarray of shape (3, n)."""
    y_hat = [model.predict(X) for model in models]
    residuals = [y - held_out for held_out, y in calibrations]
    points = [
        np.concatenate([y_hat[k][i] + r for k, r in enumerate(residuals)]) for i in range(len(X))
    ]
    return np.array([interval(p, 0.0, percentiles) for p in points]).T


def fold_models(estimator, splits, X, y):
    models = [clone(estimator).fit(X[train], y[train]) for train, _ in splits]
    verb = "predict_proba" if hasattr(models[0], "predict_proba") else "predict"
    tests = [test for _, test in splits]
    held_out = [getattr(m, verb)(X[test]) for m, test in zip(models, tests, strict=True)]
    return models, [(scores, y[test]) for scores, test in zip(held_out, tests, strict=True)]


def splits_of(name, X):
    splitter = SPLITTERS[name]
    return splitter if isinstance(splitter, list) else list(splitter.split(X))


@pytest.mark.parametrize("name", SPLITTERS)
@pytest.mark.parametrize("n_classes", [2, 3])
def test_probabilities(name, n_classes, binary):
    X, y = binary if n_classes == 2 else load_wine(return_X_y=True)
    X = StandardScaler().fit_transform(X)
    everything = np.random.default_rng(0).permutation(len(X))
    splits = splits_of(name, X)
    if name == "one fold":
        splits = [(everything[:100], everything[100:])]
    models, calibrations = fold_models(LogisticRegression(), splits, X, y)
    explainer = make(LogisticRegression(), cv=iter(splits)).fit(X, y)
    assert len(explainer.estimators_) == len(splits)
    assert not hasattr(explainer, "estimator_")
    found = np.array(explainer.predict_proba_interval(X))
    np.testing.assert_allclose(found, probabilities(models, calibrations, X), **TOLERANCE)
    np.testing.assert_array_equal(explainer.predict(X), explainer.classes_[found[0].argmax(axis=1)])
    np.testing.assert_array_equal(explainer.predict_proba(X), found[0])
    assert explainer.score(X, y) > 0.7


@pytest.mark.parametrize("percentiles", [(5, 95), (20, 60), (1, 99)])
@pytest.mark.parametrize("name", SPLITTERS)
def test_intervals(name, percentiles, numbers):
    X, y = numbers
    splits = splits_of(name, X)
    models, calibrations = fold_models(Ridge(0.1), splits, X, y)
    explainer = make(Ridge(0.1), cv=splits).fit(X, y)
    median, low, high = distribution(models, calibrations, X, percentiles)
    np.testing.assert_allclose(explainer.predict(X), median, atol=1e-10)
    found = explainer.predict_interval(X, percentiles=percentiles)
    np.testing.assert_allclose(found, np.transpose([low, high]), atol=1e-10)


def test_events(numbers):
    X, y = numbers
    splits = splits_of("partition", X)
    models, calibrations = fold_models(Ridge(0.1), splits, X, y)
    thresholds = [(100.0, 150.0) if i % 2 else (-np.inf, 120.0) for i in range(len(X))]
    pairs = []
    for model, (held_out, targets) in zip(models, calibrations, strict=True):
        split = EventSplit.fit(held_out, targets, seed=0)
        one, other = (
            split.calibrator(np.array([event])).predict(model.predict(X))[1:]
            for event in ((-np.inf, 120.0), (100.0, 150.0))
        )
        pairs.append(np.where(np.arange(len(X)) % 2, other, one))
    found = make(Ridge(0.1), cv=splits).fit(X, y).predict_event(X, thresholds)
    np.testing.assert_allclose(found, cross_venn_abers(pairs), **TOLERANCE)


@pytest.mark.parametrize("name", ["partition", "overlapping"])
def test_explanations_move_the_merged_prediction(name, binary, numbers):
    for (X, y), estimator in ((binary, LogisticRegression()), (numbers, Ridge(0.1))):
        splits = splits_of(name, X)
        models, calibrations = fold_models(estimator, splits, X, y)

        def predict(rows, models=models, calibrations=calibrations, estimator=estimator):
            if isinstance(estimator, Ridge):
                return distribution(models, calibrations, rows)
            return probabilities(models, calibrations, rows)[..., 1]

        e = make(estimator, cv=splits).fit(X, y).explain(X[:6])
        used = np.unique(np.concatenate([test for _, test in splits]))
        weights = factual_weights(predict, X[used], e.grid.edges, X[:6])
        found = np.stack([e.weights, e.weights_low, e.weights_high])
        np.testing.assert_allclose(found, weights, atol=1e-10)
        np.testing.assert_allclose(e.prediction, predict(X[:6])[0], atol=1e-10)


def test_features_are_cut_by_what_the_folds_say_of_rows_that_they_held_out(binary, numbers):
    """A row's condition is merged from the folds that held it out, one or several."""
    for (X, y), estimator in ((binary, LogisticRegression()), (numbers, Ridge(0.1))):
        splits = splits_of("overlapping", X)
        models, calibrations = fold_models(estimator, splits, X, y)
        explainer = make(estimator, cv=splits).fit(X, y)
        reference = explainer._plans.reference
        used = np.unique(np.concatenate([test for _, test in splits]))
        assert 10 < len(used) < len(X)
        np.testing.assert_array_equal(reference.X, X[used])
        for i, target in zip(used, reference.target, strict=True):
            folds = [k for k, (_, test) in enumerate(splits) if i in test]
            some = [models[k] for k in folds], [calibrations[k] for k in folds], X[[i]]
            if isinstance(estimator, Ridge):
                assert target == pytest.approx(distribution(*some)[0, 0], abs=1e-10)
            else:
                assert target == (probabilities(*some)[0, 0, 1] >= 0.5)


def test_calibrate_calibrates_every_kept_model(binary, numbers):
    for (X, y), estimator in ((binary, LogisticRegression()), (numbers, Ridge(0.1))):
        explainer = make(estimator, cv=KFold(4)).fit(X[:120], y[:120])
        models = explainer.estimators_
        explainer.calibrate(X[120:], y[120:])
        assert explainer.estimators_ is models
        if isinstance(estimator, Ridge):
            held_out = [(m.predict(X[120:]), y[120:]) for m in models]
            expected = distribution(models, held_out, X)
            found = np.vstack([explainer.predict(X), explainer.predict_interval(X).T])
        else:
            held_out = [(m.predict_proba(X[120:]), y[120:]) for m in models]
            expected = probabilities(models, held_out, X)
            found = np.array(explainer.predict_proba_interval(X))
        np.testing.assert_allclose(found, expected, atol=1e-10)
        np.testing.assert_array_equal(explainer._plans.reference.X, X[120:])
        assert np.isfinite(explainer.explain(X[:5]).weights).all()


# -- categories, difficulty, missing classes -------------------------------------------------------


def test_a_category_that_some_folds_do_not_hold_out(binary, numbers):
    """Each category is predicted as if only the folds that have it were there."""
    for (X, y), estimator in ((binary, LogisticRegression()), (numbers, Ridge(0.1))):
        category = np.repeat(["a", "b", "c"], [100, 50, 50])
        splits = list(KFold(4).split(X))  # folds 0 and 1: a, fold 2: b, fold 3: c
        explainer = make(estimator, cv=splits).fit(X, y, mondrian=category)
        found = explainer.predict(X, mondrian=category)
        for label, folds in {"a": [0, 1], "b": [2], "c": [3]}.items():
            rows = category == label
            alone = make(estimator, cv=[splits[k] for k in folds]).fit(X, y)
            np.testing.assert_array_equal(found[rows], alone.predict(X)[rows])
        e = explainer.explain(X[:3], mondrian=category[:3])
        np.testing.assert_array_equal(e.weights.shape, (3, 5))
        assert e.conjunctions().rules is not None
        if isinstance(estimator, Ridge):
            low, high = explainer.predict_event(X, 120.0, mondrian=category)[1:]
            assert (low <= high).all()


def test_difficulty(binary, numbers):
    for (X, y), estimator in ((binary, LogisticRegression()), (numbers, Ridge(0.1))):
        explainer = make(estimator, difficulty=Difficulty(), cv=KFold(3)).fit(X, y)
        plain = make(estimator, cv=KFold(3)).fit(X, y)
        assert (explainer.predict(X) != plain.predict(X)).any()
        assert np.isfinite(explainer.explain(X[:5], kind="fast").weights).all()
        if isinstance(estimator, Ridge):
            sigma = Difficulty().apply(X)
            models, held_out = fold_models(estimator, list(KFold(3).split(X)), X, y)
            tests = [test for _, test in KFold(3).split(X)]
            for i in range(5):
                points = [
                    m.predict(X[[i]])[0] + sigma[i] * (targets - scores) / sigma[test]
                    for m, (scores, targets), test in zip(models, held_out, tests, strict=True)
                ]
                median, low, high = interval(np.concatenate(points), 0.0)
                found = explainer.predict(X)[i], *explainer.predict_interval(X)[i]
                np.testing.assert_allclose(found, (median, low, high), atol=1e-10)


def test_a_fold_without_a_class_keeps_its_column():
    X, y = load_wine(return_X_y=True)
    explainer = make(LogisticRegression(max_iter=9999), cv=list(GroupKFold(3).split(X, y, y)))
    explainer.fit(X, y)  # each fold holds out one class, and has not seen it
    proba = explainer.predict_proba(X)
    assert proba.shape == (len(X), 3)
    np.testing.assert_allclose(proba.sum(axis=1), 1)
    assert np.isfinite(explainer.explain(X[:3], labels="all").weights).all()


# -- every kind and every verb ---------------------------------------------------------------------


CASES = {
    "two classes": RandomForestClassifier(5),
    "three classes": RandomForestClassifier(5),
    "regression": RandomForestRegressor(5),
    "event": RandomForestRegressor(5),
}


def every_array(name, kind, X, y):
    options = {"threshold": 120.0} if name == "event" else {}
    e = make(CASES[name], cv=3).set_params(parallel_config__preferred="auto").fit(X, y)
    e = e.explain(X[:60], kind=kind, **options)
    assert e.execution_report.n_tasks > 1
    arrays = [e.prediction, e.prediction_low, e.prediction_high]
    arrays += [e.weights, e.weights_low, e.weights_high]
    if kind != "fast":
        arrays.append(e.conjunctions(n_top=2).rules.prediction)
    return arrays


@pytest.mark.parametrize(
    "preferred", ["threads", pytest.param("processes", marks=pytest.mark.slow)]
)
def test_every_strategy_gives_the_same_bits(preferred, binary, numbers, monkeypatch):
    monkeypatch.setattr(_block, "TILE_ROWS", 96)
    data = {"two classes": binary, "three classes": load_wine(return_X_y=True)}

    def arrays(strategy):
        with ParallelExecutor(ParallelConfig(preferred=strategy, max_workers=2)):
            return [
                array
                for name in CASES
                for kind in ("factual", "alternative", "fast")
                for array in every_array(name, kind, *data.get(name, numbers))
            ]

    for one, other in zip(arrays("serial"), arrays(preferred), strict=True):
        np.testing.assert_array_equal(one, other)


def test_fast_explanations_by_plain_loops(binary):
    """Noisy copies are scored by the model that has not seen them; one calibrator per fold."""
    X, y = binary
    splits = list(KFold(3).split(X))
    models, calibrations = fold_models(LogisticRegression(), splits, X, y)
    explainer = make(LogisticRegression(), cv=splits).fit(X, y)
    e = explainer.explain_fast(X[:9], scale_factor=2)
    rng = np.random.default_rng(0)
    base = probabilities(models, calibrations, X[:9])[0, :, 1]
    for f in range(X.shape[1]):
        copies = np.tile(X, (2, 1))
        reach = np.ptp(copies[:, f])
        copies[:, f] += rng.uniform(-reach, reach, len(copies))
        noisy = []
        for model, (_, test) in zip(models, splits, strict=True):
            rows = np.concatenate([test, test + len(X)])
            noisy.append((model.predict_proba(copies[rows]), np.tile(y[test], 2)))
        value = probabilities(models, noisy, X[:9])[0, :, 1]
        np.testing.assert_allclose(e.weights[:, f], base - value, **TOLERANCE)


def test_a_tile_of_more_models_has_fewer_rows():
    X, y = make_classification(2000, 8, random_state=0)
    one = ParallelCalibratedExplainer(LogisticRegression(), random_state=0).fit(X[:500], y[:500])
    several = make(LogisticRegression(), cv=8).fit(X[:500], y[:500])
    tasks = [e.explain(X[500:]).execution_report.n_tasks for e in (one, several)]
    assert tasks[1] >= 4 * tasks[0]


def test_nothing_to_explain(binary):
    explainer = make(LogisticRegression()).fit(*binary)
    nothing = explainer.explain(binary[0][:4], features_to_ignore=np.arange(5))
    np.testing.assert_array_equal(nothing.weights, 0.0)


def test_in_a_pipeline(numbers):
    X, y = numbers
    pipe = make_pipeline(StandardScaler(), make(Ridge(), cv=KFold(3))).fit(X, y)
    inside = explain_pipeline(pipe, X[:5])
    scaled = StandardScaler().fit_transform(X)
    alone = make(Ridge(), cv=KFold(3)).fit(scaled, y).explain(scaled[:5])
    np.testing.assert_allclose(inside.weights, alone.weights, atol=1e-9)


def test_estimators_that_write_into_their_input(numbers):
    X, y = numbers
    X = 3 * X + 7
    writing = make_pipeline(StandardScaler(copy=False), LinearRegression(copy_X=False))
    plain = make_pipeline(StandardScaler(), LinearRegression())
    one, other = (make(model).fit(X, y).explain(X[:9]).weights for model in (writing, plain))
    np.testing.assert_array_equal(one, other)


def test_copies_and_pickles(numbers):
    X, y = numbers
    explainer = make(DecisionTreeRegressor(max_depth=3)).fit(X, y)
    expected = explainer.explain(X[:9]).weights
    for twin in (pickle.loads(pickle.dumps(explainer)), copy.deepcopy(explainer)):
        np.testing.assert_array_equal(twin.explain(X[:9]).weights, expected)
        assert len(twin.estimators_) == 5
    with pytest.raises(NotFittedError):
        clone(explainer).predict(X)


def test_fitting_again_leaves_one_kind_of_model(numbers):
    explainer = make(Ridge()).fit(*numbers)
    explainer.set_params(ensemble=False).fit(*numbers)
    assert hasattr(explainer, "estimator_")
    assert not hasattr(explainer, "estimators_")
    expected = ParallelCalibratedExplainer(Ridge(), random_state=0).fit(*numbers)
    np.testing.assert_array_equal(explainer.predict(numbers[0]), expected.predict(numbers[0]))


def test_every_fold_is_fitted_once_and_nothing_else(numbers):
    explainer = make(Ridge(), cv=4).fit(*numbers)
    assert explainer.execution_report_.n_tasks == 4


def test_a_frozen_model_is_one_model(binary):
    X, y = binary
    frozen = FrozenEstimator(LogisticRegression().fit(X[:100], y[:100]))
    for cv in (5, None):
        alone = make(frozen, cv=cv).fit(X[100:], y[100:]).calibrate(X[100:], y[100:])
        expected = ParallelCalibratedExplainer(frozen, cv=None).calibrate(X[100:], y[100:])
        assert alone.estimator_ is frozen
        np.testing.assert_array_equal(alone.predict_proba(X), expected.predict_proba(X))


REFUSED = {
    "no folds": (None, r"cv=None makes none. Use cv=5, or ensemble=False"),
    "no splits": ([], r"each must hold out a row at least.* with 0 folds"),
    "an empty fold": (
        [(np.arange(5), np.arange(5, 9)), (np.arange(9), np.arange(0))],
        r"each must hold out a row at least.* with 2 folds",
    ),
    "a fold that leaks": (
        [(np.arange(9), np.arange(3))],
        r"cv must not fit on rows that it holds out",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_folds(case):
    cv, message = REFUSED[case]
    with pytest.raises(ValueError, match=message):
        make(LinearRegression(), cv=cv).fit(np.eye(9), np.arange(9.0))


def test_ensemble_is_a_boolean(numbers):
    explainer = make(Ridge()).set_params(ensemble="yes")
    with pytest.raises(ValueError, match="'ensemble' parameter"):
        explainer.fit(*numbers)


def test_splits_that_are_no_partition_point_to_ensembles(numbers):
    explainer = make(Ridge(), cv=ShuffleSplit(3, random_state=0)).set_params(ensemble=False)
    with pytest.raises(ValueError, match="or ensemble=True, which merges any folds"):
        explainer.fit(*numbers)
