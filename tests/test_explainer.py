"""What the explainer does with its parameters, and what it says to bad input."""

import copy
import pickle
import threading
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.datasets import load_breast_cancer, load_diabetes, make_classification
from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    RandomForestClassifier,
    VotingClassifier,
)
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.model_selection import GroupKFold, KFold, ShuffleSplit
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC, LinearSVC
from sklearn.tree import DecisionTreeClassifier

from ce_parallel import NotCalibratedError, ParallelCalibratedExplainer, _plan
from ce_parallel.calibration import InductiveVennAbers

SERIAL = {"parallel_config__preferred": "serial"}


class ByHeart(ClassifierMixin, BaseEstimator):
    """A classifier that has neither probabilities nor decision values."""

    def fit(self, X, y):
        raise AssertionError("it should not come to this")


def make(estimator, **parameters):
    return ParallelCalibratedExplainer(estimator, random_state=0, **parameters).set_params(**SERIAL)


@pytest.fixture(scope="module")
def binary():
    X, y = make_classification(300, 6, n_informative=4, flip_y=0.2, random_state=0)
    return X, np.where(y == 1, "yes", "no")


@pytest.fixture(scope="module")
def numbers():
    X, y = load_diabetes(return_X_y=True)
    return X[:200], y[:200]


# -- fit and calibrate ---------------------------------------------------------------------------


def test_folds_calibrate_on_out_of_fold_scores(binary):
    X, y = binary
    explainer = make(LogisticRegression(), cv=KFold(4)).fit(X, y)
    scores = np.empty(len(y))
    for train, held_out in KFold(4).split(X):
        model = LogisticRegression().fit(X[train], y[train])
        scores[held_out] = model.predict_proba(X[held_out])[:, 1]
    expected = InductiveVennAbers.fit(
        scores, y == "yes", calibration_decimals=4, test_decimals=4
    ).predict(LogisticRegression().fit(X, y).predict_proba(X)[:, 1])
    proba, low, high = explainer.predict_proba_interval(X)
    np.testing.assert_array_equal(proba[:, 1], expected[0])
    np.testing.assert_array_equal([low[:, 1], high[:, 1]], expected[1:])
    np.testing.assert_array_equal([low[:, 0], high[:, 0]], 1 - expected[:0:-1])


def test_regression_folds_calibrate_on_out_of_fold_residuals(numbers):
    X, y = numbers
    explainer = make(Ridge(), cv=KFold(5)).fit(X, y)
    residuals = np.empty(len(y))
    for train, held_out in KFold(5).split(X):
        residuals[held_out] = y[held_out] - Ridge().fit(X[train], y[train]).predict(X[held_out])
    np.testing.assert_allclose(explainer.calibrator_.alphas, np.sort(residuals), atol=1e-9)
    interval = explainer.predict_interval(X)
    assert ((interval[:, 0] <= y) & (y <= interval[:, 1])).mean() > 0.85


@pytest.mark.parametrize(
    "estimator", [DecisionTreeClassifier(max_depth=3), RandomForestClassifier(9)]
)
def test_one_seed_makes_one_model_even_where_the_estimator_is_not_seeded(estimator, binary):
    X, y = binary
    before = pickle.dumps(np.random.mtrand._rand)
    one, other = (make(estimator).fit(X, y).predict_proba(X) for _ in range(2))
    np.testing.assert_array_equal(one, other)
    assert pickle.dumps(np.random.mtrand._rand) == before


def test_group_folds_and_plain_iterables_are_splitters(binary):
    X, y = binary
    groups = np.arange(len(y)) // 10
    splits = list(GroupKFold(5).split(X, y, groups))
    one = make(LogisticRegression(), cv=splits).fit(X, y)
    other = make(LogisticRegression(), cv=iter(splits)).fit(X, y)
    np.testing.assert_array_equal(one.predict_proba(X), other.predict_proba(X))


def test_calibrate_after_folds_replaces_the_calibrator(binary):
    X, y = binary
    explainer = make(LogisticRegression()).fit(X[:200], y[:200])
    before = explainer.predict_proba(X[:5]), explainer.explain(X[:5]).weights
    model = explainer.estimator_
    explainer.calibrate(X[200:], y[200:])
    assert explainer.estimator_ is model
    assert (explainer.predict_proba(X[:5]) != before[0]).any()
    assert (explainer.explain(X[:5]).weights != before[1]).any()


def test_held_out_and_frozen_agree(binary):
    X, y = binary
    model = LogisticRegression().fit(X[:150], y[:150])
    held_out = make(LogisticRegression(), cv=None).fit(X[:150], y[:150])
    held_out.calibrate(X[150:], y[150:])
    without_fit = make(FrozenEstimator(model), cv=None).calibrate(X[150:], y[150:])
    after_fit = make(FrozenEstimator(model), cv=None).fit(X[:9], y[:9]).calibrate(X[150:], y[150:])
    on_all_rows = make(FrozenEstimator(model)).fit(X[150:], y[150:])
    for other in (without_fit, after_fit, on_all_rows):
        np.testing.assert_array_equal(other.predict_proba(X), held_out.predict_proba(X))
        np.testing.assert_array_equal(other.explain(X).weights, held_out.explain(X).weights)


def test_a_class_missing_from_the_calibration_rows_keeps_its_column(binary):
    X, y = binary
    explainer = make(LogisticRegression(), cv=None).fit(X, y)
    explainer.calibrate(X[y == "yes"], y[y == "yes"])
    proba, _, high = explainer.predict_proba_interval(X)
    assert proba.shape == (len(X), 2)
    np.testing.assert_array_equal(high[:, 1], 1.0)


def test_a_fold_without_a_class_scores_it_zero():
    X, y = make_classification(60, 4, random_state=0)
    order = np.argsort(y, kind="stable")
    X, y = X[order], y[order]
    whole = np.arange(60)
    ones = whole[y == 1]
    zeros = whole[y == 0]
    splits = [(ones, zeros), (zeros, ones)]  # each fold sees one class only
    explainer = make(DecisionTreeClassifier(max_depth=2), cv=splits).fit(X, y)
    assert explainer.predict_proba(X).shape == (60, 2)


@pytest.mark.parametrize("source", ["prediction", "observed"])
def test_missing_values_where_the_estimator_accepts_them(source, binary):
    X, y = binary
    X = np.where(np.random.default_rng(0).random(X.shape) < 0.2, np.nan, X)
    explainer = make(HistGradientBoostingClassifier(max_iter=20), condition_source=source)
    explanations = explainer.fit(X, y).explain(X[:50])
    assert np.isfinite(explanations.weights).all()
    texts = {text for i in range(50) for text in explanations.rule_text(i)}
    assert any(text.endswith("is missing") for text in texts)


def test_frames_reach_the_estimator_as_frames():
    X, y = load_breast_cancer(return_X_y=True, as_frame=True)
    X = X.iloc[:200, :5].assign(large=X["mean area"].iloc[:200] > 600, count=np.arange(200))
    y = y.iloc[:200]

    class Picky(LogisticRegression):
        def predict_proba(self, X):
            assert list(X.columns) == list(self.feature_names_in_)
            assert X["large"].dtype == bool
            return super().predict_proba(X)

    explainer = make(Picky(max_iter=5000)).fit(X, y)
    original = X.copy()
    explanations = explainer.explain(X)
    assert explanations.feature_names == tuple(X.columns)
    assert X.equals(original)
    np.testing.assert_array_equal(explanations.prediction, explainer.predict_proba(X)[:, 1])


def test_a_missing_boolean_stays_missing():
    pandas = pytest.importorskip("pandas")
    flag = pandas.array([True, False, None] * 60, dtype="boolean")
    X = pandas.DataFrame({"flag": flag, "noise": np.arange(180) % 7})
    y = np.asarray(X["flag"].isna())
    explainer = make(HistGradientBoostingClassifier(max_iter=20)).fit(X, y)
    assert explainer.score(X, y) == 1.0
    assert explainer.explain(X[2:3]).rule_text(0) == ["flag is missing"]


@pytest.mark.parametrize("preferred", ["serial", "threads", "processes"])
def test_estimators_that_write_into_their_input(preferred, numbers):
    X, y = numbers
    X = 3 * X + 7
    original = X.copy()
    writing = make_pipeline(StandardScaler(copy=False), LinearRegression(copy_X=False))
    expected = make(make_pipeline(StandardScaler(), LinearRegression())).fit(X, y).explain(X[:20])
    explainer = make(writing).set_params(
        parallel_config__preferred=preferred, parallel_config__max_workers=2
    )
    explainer.fit(X, y)
    explainer.predict(X)
    np.testing.assert_array_equal(explainer.explain(X[:20]).weights, expected.weights)
    np.testing.assert_array_equal(X, original)


@pytest.mark.parametrize("frame", [False, True])
def test_what_the_caller_does_to_the_data_after_fit_does_not_matter(frame, numbers):
    X, y = numbers
    if frame:
        X = pytest.importorskip("pandas").DataFrame(X, columns=list("abcdefghij"))
    data = X.copy()
    explainer = make(LinearRegression()).fit(data, y)
    data[:] = 0.0
    expected = make(LinearRegression()).fit(X.copy(), y).explain(X[:20])
    np.testing.assert_array_equal(explainer.explain(X[:20]).weights, expected.weights)


def test_inputs_may_be_read_only_lists_integers_or_not_contiguous(binary):
    X, y = binary
    X = np.round(3 * X)
    explainer = make(LogisticRegression()).fit(X, y)
    expected = explainer.explain(X[:20]).weights
    frozen = X[:20].copy()
    frozen.flags.writeable = False
    for rows in (frozen, X[:20].tolist(), X[:20].astype(int), np.asfortranarray(X[:20])):
        np.testing.assert_array_equal(explainer.explain(rows).weights, expected)


def test_one_row_is_enough(binary, numbers):
    for (X, y), estimator in ((binary, LogisticRegression()), (numbers, LinearRegression())):
        explanations = make(estimator).fit(X, y).explain(X[:1])
        assert len(explanations) == 1
        assert str(explanations[0]).startswith("row 0: ")


def test_predict_is_the_more_probable_class_and_a_tie_goes_to_the_first():
    X = np.zeros((4, 1))
    explainer = make(LogisticRegression(), cv=None).fit(X, ["a", "b", "a", "b"])
    explainer.calibrate(X, ["a", "b", "a", "b"])
    np.testing.assert_array_equal(explainer.predict_proba(X), 0.5)
    assert explainer.predict(X).tolist() == ["a"] * 4


def test_regressor_predicts_the_calibrated_median_and_scores_it(numbers):
    X, y = numbers
    explainer = make(LinearRegression()).fit(X, y + 100)
    median = explainer.predict_interval(X, percentiles=(50, 50)).mean(axis=1)
    np.testing.assert_allclose(explainer.predict(X), median)
    assert 0.3 < explainer.score(X, y + 100) < 1


def test_ignored_features_by_name_index_and_mask():
    X, y = load_diabetes(return_X_y=True, as_frame=True)
    explainer = make(LinearRegression()).fit(X, y)
    mask = np.isin(X.columns, ["bmi", "s5"])
    expected = np.where(mask, 0.0, explainer.explain(X[:9]).weights)
    for ignored in (["bmi", "s5"], np.flatnonzero(mask), [2, -2], mask):
        explanations = explainer.explain(X[:9], features_to_ignore=ignored)
        np.testing.assert_array_equal(explanations.weights, expected)
    nothing = explainer.explain(X[:9], features_to_ignore=np.ones(10, dtype=bool))
    np.testing.assert_array_equal(nothing.weights, 0.0)
    np.testing.assert_allclose(nothing.prediction, explainer.predict(X[:9]), rtol=1e-12)


def test_two_threads_ask_for_the_first_explanation(binary):
    X, y = binary
    explainer = make(RandomForestClassifier(10, random_state=0)).fit(X, y)
    results = [None, None]

    def ask(i):
        results[i] = explainer.explain(X)

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results[0].grid is results[1].grid
    np.testing.assert_array_equal(results[0].weights, results[1].weights)


# -- parameters, copies, pickles -----------------------------------------------------------------


def test_nested_parameters_work_from_the_default_on():
    explainer = ParallelCalibratedExplainer(LogisticRegression())
    assert explainer.parallel_config is None
    explainer.set_params(parallel_config__max_workers=2, estimator__C=3.0)
    assert explainer.get_params()["parallel_config__max_workers"] == 2
    assert explainer.get_params()["estimator__C"] == 3.0
    copied = clone(explainer)
    assert copied.parallel_config is not explainer.parallel_config
    assert copied.parallel_config.max_workers == 2
    with pytest.raises(ValueError, match="max_wokers"):
        explainer.set_params(parallel_config__max_wokers=2)


@pytest.mark.parametrize("fitted", [False, True])
def test_copies_and_pickles_predict_the_same(fitted, binary):
    X, y = binary
    explainer = make(LogisticRegression())
    expected = explainer.fit(X, y).explain(X).weights if fitted else None
    for twin in (pickle.loads(pickle.dumps(explainer)), copy.deepcopy(explainer)):
        assert twin.get_params().keys() == explainer.get_params().keys()
        if fitted:
            np.testing.assert_array_equal(twin.explain(X).weights, expected)


def test_a_plan_of_another_version_warns(binary, monkeypatch):
    frozen = pickle.dumps(make(LogisticRegression()).fit(*binary))
    monkeypatch.setattr(_plan, "__version__", "99.0")
    with pytest.warns(
        UserWarning, match=r"calibrated by ce_parallel 0\.1\.0 and is used under 99\.0"
    ):
        pickle.loads(frozen)


def test_a_failed_fit_leaves_no_mixture(binary):
    X, y = binary
    explainer = make(LogisticRegression()).fit(X, y)
    with pytest.raises(ValueError, match="NaN"):
        explainer.fit(np.full_like(X, np.nan), y)
    with pytest.raises(NotFittedError):
        explainer.predict(X)


# -- bad input: one sentence, of the right type --------------------------------------------------


def test_unfitted_and_uncalibrated_use_is_told_apart(binary):
    X, y = binary
    explainer = make(LogisticRegression(), cv=None)
    for verb in ("predict", "predict_proba", "predict_proba_interval", "explain"):
        with pytest.raises(NotFittedError, match="is not fitted yet"):
            getattr(explainer, verb)(X)
    with pytest.raises(NotFittedError, match="is not fitted yet"):
        explainer.calibrate(X, y)
    explainer.fit(X, y)
    for verb in ("predict", "predict_proba", "predict_proba_interval", "explain"):
        with pytest.raises(NotCalibratedError, match=r"Call calibrate\(X_cal, y_cal\) .*or fit"):
            getattr(explainer, verb)(X)


@pytest.mark.parametrize("verb", ["predict", "predict_proba", "explain"])
def test_wrong_columns(verb, binary):
    pandas = pytest.importorskip("pandas")
    X, y = binary
    explainer = make(LogisticRegression()).fit(X, y)
    with pytest.raises(ValueError, match=r"X has 5 features, but .* is expecting 6 features"):
        getattr(explainer, verb)(X[:, :5])
    frame = pandas.DataFrame(X, columns=list("abcdef"))
    explainer.fit(frame, y)
    with pytest.raises(
        ValueError, match=r"feature names should match(.|\n)*unseen at fit time:\n- z"
    ):
        getattr(explainer, verb)(frame.rename(columns={"a": "z"}))


def test_columns_that_are_not_numbers():
    pandas = pytest.importorskip("pandas")
    X = pandas.DataFrame({"age": [1, 2, 3], "sex": ["f", "m", "f"]})
    explainer = make(LogisticRegression()).set_params(categorical_features=None)
    with pytest.raises(ValueError, match=r"Got 'sex' \(.*\)\. Encode these columns"):
        explainer.fit(X, [0, 1, 0])
    X = X.assign(born=pandas.to_datetime(["2001-01-01"] * 3))
    with pytest.raises(ValueError, match=r"Got 'born' \(.*\)\. Encode these columns"):
        make(LogisticRegression()).fit(X, [0, 1, 0])


REFUSED_FITS = {
    "one class": (
        LogisticRegression(),
        {},
        (np.zeros((9, 2)), np.ones(9)),
        ValueError,
        r"must hold at least two classes. Got one class only: .*1\.0",
    ),
    "numbers as classes": (
        LogisticRegression(),
        {},
        (np.zeros((9, 2)), np.linspace(0, 1, 9)),
        ValueError,
        "Unknown label type: continuous",
    ),
    "fewer rows than folds": (
        LinearRegression(),
        {"cv": 7},
        (np.zeros((6, 2)), np.arange(6)),
        ValueError,
        r"cv=7 needs at least 7 rows. Got n_samples=6. Use fewer folds, or",
    ),
    "a small class": (
        LogisticRegression(),
        {},
        (np.zeros((20, 2)), np.arange(20) < 3),
        ValueError,
        r"cv=5 needs at least 5 rows of each class. Class True has 3. Use fewer folds",
    ),
    "missing values": (
        LogisticRegression(),
        {},
        (np.full((20, 2), np.nan), np.arange(20) % 2),
        ValueError,
        r"Input X contains NaN.\nLogisticRegression does not accept missing values",
    ),
    "infinity": (
        LinearRegression(),
        {},
        (np.full((20, 2), np.inf), np.arange(20)),
        ValueError,
        "Input X contains infinity",
    ),
    "no scores": (
        VotingClassifier([("one", LinearSVC()), ("two", LinearSVC())]),
        {},
        (np.zeros((20, 2)), np.arange(20) % 2),
        TypeError,
        r"must have predict_proba or decision_function (.|\n)* which has none once it is fitted",
    ),
    "no scores whatever the parameters": (
        ByHeart(),
        {},
        (np.zeros((20, 2)), np.arange(20) % 2),
        TypeError,
        r"must have predict_proba or decision_function .* Got ByHeart\(\), which has neither",
    ),
    "decision values of pairs": (
        make_pipeline(SVC(decision_function_shape="ovo")),
        {},
        (np.arange(60.0).reshape(30, 2), np.arange(30) % 3),
        ValueError,
        r"one per class, not one per pair of classes. Set decision_function_shape='ovr' in SVC",
    ),
    "difficulty of decision values": (
        LinearSVC(),
        {"difficulty": SimpleNamespace(apply=lambda X: np.zeros(len(X)))},
        (np.arange(40.0).reshape(20, 2), np.arange(20) % 2),
        ValueError,
        r"difficulty draws probabilities .* decision values only, LinearSVC\(\). Wrap",
    ),
    "no predictor": (
        StandardScaler(),
        {},
        (np.zeros((9, 2)), np.arange(9) % 2),
        TypeError,
        r"estimator must be a classifier or a regressor. Got StandardScaler\(\)",
    ),
    "one fold": (
        LinearRegression(),
        {"cv": 1},
        (np.zeros((9, 2)), np.arange(9)),
        ValueError,
        r"'cv' parameter .* must be an int in the range \[2, inf\).* Got 1 instead",
    ),
    "splits that are no partition": (
        LinearRegression(),
        {"cv": ShuffleSplit(3, random_state=0)},
        (np.zeros((9, 2)), np.arange(9)),
        ValueError,
        r"cv must hold out every row exactly once.*rows 0 to .* Use KFold",
    ),
    "splits that leak": (
        LinearRegression(),
        {"cv": [(np.arange(9), np.arange(9))]},
        (np.zeros((9, 2)), np.arange(9)),
        ValueError,
        r"cv must not fit on rows that it holds out",
    ),
    "no splits": (
        LinearRegression(),
        {"cv": []},
        (np.zeros((9, 2)), np.arange(9)),
        ValueError,
        r"cv must hold out every row exactly once.*0 to 0 times",
    ),
    "words as numbers": (
        LinearRegression(),
        {},
        (np.zeros((9, 2)), ["much"] * 9),
        ValueError,
        r"could not convert string to float: .*much",
    ),
    "words as percentiles": (
        LinearRegression(),
        {"sample_percentiles": ["low", "high"]},
        (np.zeros((9, 2)), np.arange(9)),
        ValueError,
        r"sample_percentiles must be one or more numbers .* Got \['low', 'high'\] instead",
    ),
    "an unknown summary": (
        LogisticRegression(),
        {"interval_summary": "middle"},
        (np.zeros((9, 2)), np.arange(9) % 2),
        ValueError,
        r"'interval_summary' parameter .* must be a str among .* Got 'middle' instead",
    ),
    "percentiles out of range": (
        LinearRegression(),
        {"sample_percentiles": [25, 150]},
        (np.zeros((9, 2)), np.arange(9)),
        ValueError,
        r"sample_percentiles must .* between 0 and 100. Got \[25, 150\]",
    ),
    "several targets": (
        LinearRegression(),
        {},
        (np.zeros((9, 2)), np.zeros((9, 2))),
        ValueError,
        r"y should be a 1d array",
    ),
}


@pytest.mark.parametrize("case", REFUSED_FITS)
def test_refused_fits(case):
    estimator, parameters, (X, y), error, message = REFUSED_FITS[case]
    with pytest.raises(error, match=message):
        make(estimator, **parameters).fit(X, y)


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (lambda n: np.full((n, 2), np.nan), r"finite numbers of shape \(9, 2\)\. Got NaN"),
        (lambda n: np.zeros((n, 3)), r"finite numbers of shape \(9, 2\)\. Got shape \(9, 3\)"),
        (lambda n: np.zeros(n), r"finite numbers of shape \(9, 2\)\. Got shape \(9,\)"),
    ],
)
def test_what_an_estimator_must_not_return(returned, message, binary):
    class Odd(LogisticRegression):
        def predict_proba(self, X):
            return returned(len(X))

    X, y = binary
    odd = make(FrozenEstimator(Odd().fit(X, y)), cv=None)
    with pytest.raises(
        ValueError, match=rf"predict_proba of FrozenEstimator\(.*\) must return {message}"
    ):
        odd.calibrate(X[:9], y[:9])


def test_a_column_of_predictions_is_as_good_as_a_row(numbers):
    X, y = numbers
    columnar = FrozenEstimator(LinearRegression().fit(X, y[:, None]))
    plain = FrozenEstimator(LinearRegression().fit(X, y))
    one, other = (make(model).fit(X, y).explain(X[:9]).weights for model in (columnar, plain))
    np.testing.assert_allclose(one, other, atol=1e-9)


def test_missing_values_at_prediction_show_the_estimators_own_error(binary):
    X, y = binary
    explainer = make(LogisticRegression()).fit(X, y)
    for verb in (explainer.predict, explainer.explain):
        with pytest.raises(ValueError, match="LogisticRegression does not accept missing values"):
            verb(np.full((3, 6), np.nan))


def test_unknown_labels_at_calibration(binary):
    X, y = binary
    explainer = make(LogisticRegression(), cv=None).fit(X, y)
    with pytest.raises(ValueError, match=r"\['no', 'yes'\]\. Got \['maybe'\] as well"):
        explainer.calibrate(X[:3], ["yes", "maybe", "no"])


def test_percentiles_are_checked_for_classifiers_too(binary):
    explainer = make(LogisticRegression()).fit(*binary)
    with pytest.raises(ValueError, match="Got 'junk' instead"):
        explainer.explain(binary[0], percentiles="junk")


@pytest.mark.parametrize("verb", ["predict_interval", "explain"])
def test_percentiles_out_of_order(verb, numbers):
    explainer = make(LinearRegression()).fit(*numbers)
    with pytest.raises(ValueError, match=r"0 < low <= 50 <= high < 100.* Got \(95, 5\) instead"):
        getattr(explainer, verb)(numbers[0], percentiles=(95, 5))


@pytest.mark.parametrize(
    ("ignored", "message"),
    [
        (["x9"], r"names \['x9'\]. Known are \['x0', "),
        ([7], r"indices below 6. Got \[7\]"),
        ([True, False], r"shape \(6,\). Got \(2,\)"),
        ([0.5], "names, a mask or indices"),
    ],
)
def test_unknown_features_to_ignore(ignored, message, binary):
    explainer = make(LogisticRegression()).fit(*binary)
    with pytest.raises(ValueError, match=message):
        explainer.explain(binary[0], features_to_ignore=ignored)


def test_unknown_kind(binary):
    explainer = make(LogisticRegression()).fit(*binary)
    with pytest.raises(
        ValueError, match=r"one of \['alternative', 'factual', 'fast'\]. Got 'facts' instead"
    ):
        explainer.explain(binary[0], kind="facts")


def test_parallel_parameters_are_checked_at_use(binary, monkeypatch):
    explainer = make(LogisticRegression()).set_params(parallel_config__max_workers=0)
    with pytest.raises(ValueError, match=r"max_workers.* Got 0 instead"):
        explainer.fit(*binary)
    explainer.set_params(parallel_config__max_workers=1).fit(*binary)
    with pytest.raises(ValueError, match=r"memory_budget_bytes must be at least \d+, .* Got 10"):
        explainer.set_params(parallel_config__memory_budget_bytes=10).explain(binary[0])
    explainer = ParallelCalibratedExplainer(LogisticRegression())
    monkeypatch.setenv("CE_PARALLEL", "nonsense")
    with pytest.raises(ValueError, match=r"CE_PARALLEL.*nonsense"):
        explainer.fit(*binary)


def test_a_verb_of_the_other_kind_does_not_exist(binary, numbers):
    assert not hasattr(make(LinearRegression()), "predict_proba")
    assert not hasattr(make(LogisticRegression()), "predict_interval")


class Difficulty:
    def __init__(self, value):
        self.value = value

    def apply(self, X):
        return np.full(len(X), self.value)


@pytest.mark.parametrize(
    ("estimator", "value"),
    [(Ridge(), 0.0), (Ridge(), -1.0), (LogisticRegression(), 3.0), (LogisticRegression(), -0.1)],
)
def test_difficulties_that_mean_nothing(estimator, value, binary):
    X, y = binary
    y = X[:, 0] if isinstance(estimator, Ridge) else y
    explainer = ParallelCalibratedExplainer(estimator, difficulty=Difficulty(value))
    with pytest.raises(ValueError, match=r"difficulty\.apply must return"):
        explainer.fit(X, y)


def test_a_calibration_that_fails_changes_nothing(binary):
    X, y = binary
    X, y = X[:120], y[:120]
    labels = np.array(["b", "c"])[np.arange(120) % 2]
    explainer = ParallelCalibratedExplainer(
        LogisticRegression(), categorical_features=[0], max_categories=200, random_state=0
    ).fit(X, y, mondrian=labels)
    before = explainer.predict_proba(X[:2], mondrian=["b", "b"])
    explainer.set_params(max_categories=2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(UserWarning, match="categories"):
            explainer.calibrate(X, y, mondrian=np.array(["a", "b"])[np.arange(120) % 2])
    np.testing.assert_array_equal(explainer.predict_proba(X[:2], mondrian=["b", "b"]), before)


@pytest.mark.parametrize("missing", [None, np.nan])
def test_missing_labels_are_refused(missing, binary):
    X, y = binary
    labels = np.array([missing, *["a"] * (len(y) - 1)], dtype=object)
    with pytest.raises(ValueError, match="mondrian must not hold missing labels"):
        ParallelCalibratedExplainer(LogisticRegression()).fit(X, y, mondrian=labels)
    explainer = ParallelCalibratedExplainer(LogisticRegression()).fit(X, y)
    with pytest.raises(ValueError, match="labels must not hold missing labels"):
        explainer.explain(X, labels=labels)


def test_score_by_category(binary):
    X, y = binary
    labels = np.arange(len(y)) % 2
    explainer = ParallelCalibratedExplainer(LogisticRegression()).fit(X, y, mondrian=labels)
    assert explainer.score(X, y, mondrian=labels) > 0.5
