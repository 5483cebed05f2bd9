"""Where calibrated-explanations 1.0.2 departs from the method, and what is done here instead.

One test per row of docs/differences.md: first what the reference does, with the figure that the
page gives, then what ours does, against an independent computation. The reference gets copies.
"""

# ruff: noqa: NPY002  (whether NumPy's global generator is left alone is one of the questions)

import functools
import warnings

import numpy as np
import pytest
import sklearn
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris, load_wine
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.tree import DecisionTreeClassifier
from sklearn.utils.fixes import parse_version

from ce_parallel import ParallelCalibratedExplainer
from tests import oracle
from tests.reference import load_reference
from tests.test_parity import mixed, split

pytest.importorskip("calibrated_explanations")
errors = pytest.importorskip("calibrated_explanations.utils.exceptions")

# scikit-learn 1.8 changed how trees choose among equal cuts, on which some figures rest.
FIGURES = parse_version(sklearn.__version__) >= parse_version("1.8")

EXACT = {"rtol": 0, "atol": 1e-12}
ALL_BUT_THE_LAST_BITS = {"rtol": 0, "atol": 1e-9}


@pytest.fixture(autouse=True)
def _quiet_reference():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def theirs(model, X, y, *, mended=True, **parameters):
    mode = "classification" if hasattr(model, "predict_proba") else "regression"
    return load_reference(mended=mended).CalibratedExplainer(
        model, X.copy(), y.copy(), mode=mode, seed=42, **parameters
    )


def ours(model, X, y, **parameters):
    return ParallelCalibratedExplainer(
        FrozenEstimator(model), cv=None, random_state=42, **parameters
    ).calibrate(X, y)


@functools.cache
def diabetes_forest():
    fit, cal, (X, _) = split(load_diabetes)
    return RandomForestRegressor(30, random_state=0).fit(*fit), cal, X


@functools.cache
def cancer_forest():
    fit, cal, (X, _) = split(load_breast_cancer)
    return RandomForestClassifier(30, random_state=0).fit(*fit), cal, X


def weights_of(explanations):
    return np.array([e.feature_weights["predict"] for e in explanations])


def changed(row, feature, values):
    """Copies of a row, each with another value of a feature."""
    rows = np.repeat(row[None], len(values), axis=0)
    rows[:, feature] = values
    return rows


@pytest.mark.parametrize(
    ("event", "label"), [(1e6, 1), ((-1e6, 1e6), 1), (-1e6, 0)], ids=["<=", "within", "never"]
)
def test_q1_a_certain_event_is_certain(event, label):
    model, (X_cal, y_cal), X = diabetes_forest()
    proba, (_, high) = theirs(model, X_cal, y_cal).predict_proba(
        X[:5].copy(), uq_interval=True, threshold=event
    )
    assert proba[:, 1].round(4).tolist() == [0.0145] * 5  # whether it is certain or impossible
    assert high.round(4).tolist() == [0.0147] * 5
    found = ours(model, X_cal, y_cal).predict_event(X[:5], event)
    order = np.random.default_rng(42).permutation(len(y_cal))
    halves = order[: len(order) // 2], order[len(order) // 2 :]
    low, high = event if isinstance(event, tuple) else (-np.inf, event)
    scores = model.predict(X_cal)
    for i, y_hat in enumerate(model.predict(X[:5])):
        expected = oracle.event_probability(scores, y_cal, halves, y_hat, low, high)
        np.testing.assert_allclose([one[i] for one in found], expected, **EXACT)
    assert found[0].round(4).tolist() == [0.9855 if label else 0.0145] * 5


def test_q2_equal_scores_stay_equal():
    model, (X_cal, y_cal), X = cancer_forest()
    _, (low, high) = theirs(model, X_cal, y_cal).predict_proba(X.copy(), uq_interval=True)
    _, our_low, our_high = ours(model, X_cal, y_cal).predict_proba_interval(X)
    gap = np.maximum(abs(low - our_low[:, 1]), abs(high - our_high[:, 1]))
    assert (len(X), (gap > 1e-9).sum(), gap.max().round(2)) == (171, 21, 0.47)
    scores = model.predict_proba(X_cal)[:, 1]  # multiples of 1/30, not rounded
    for i, score in enumerate(model.predict_proba(X)[:, 1]):
        here = scores.round(9), y_cal, round(score, 9)
        np.testing.assert_allclose(
            [our_low[i, 1], our_high[i, 1]], oracle.venn_abers(*here)[1:], **EXACT
        )
    _, same_low, same_high = ours(
        model, X_cal, y_cal, score_rounding="oracle"
    ).predict_proba_interval(X)
    np.testing.assert_allclose([same_low[:, 1], same_high[:, 1]], [low, high], **EXACT)


def test_q5_a_category_has_its_own_prediction():
    fit, (X_cal, y_cal), (X, _) = mixed("2")
    model = RandomForestClassifier(100, random_state=0).fit(*fit)
    features, X = [1, 3], X[:20]
    found = theirs(model, X_cal, y_cal, categorical_features=features).explore_alternatives(
        X.copy()
    )
    explainer = ours(model, X_cal, y_cal, categorical_features=features, score_rounding="oracle")

    def right(i, f, category):
        return explainer.predict_proba(changed(X[i], f, [category]))[0, 1]

    gaps = []
    for i, explanation in enumerate(found):
        rules = explanation.get_rules()
        for f, category, value in zip(
            rules["feature"], rules["sampled_values"], rules["predict"], strict=True
        ):
            if f in features:
                gaps.append(abs(value - right(i, f, category)))
    assert (sum(gap > 1e-9 for gap in gaps), len(gaps), round(max(gaps), 2)) == (25, 59, 0.69)
    rules = explainer.explain(X, kind="alternative").rules
    here = np.flatnonzero(np.isin(rules.feature, features))
    expected = [right(rules.row[r], rules.feature[r], rules.value[r]) for r in here]
    np.testing.assert_allclose(rules.prediction[here], expected, **EXACT)
    for i in range(len(X)):  # and none is missing, unless it changes nothing
        for f in features:
            there = rules.value[(rules.row == i) & (rules.feature == f)]
            others = set(np.unique(X_cal[:, f])) - {X[i, f]} - set(there)
            base = [one[i, 1] for one in explainer.predict_proba_interval(X)]
            for category in others:
                same = explainer.predict_proba_interval(changed(X[i], f, [category]))
                assert [one[0, 1] for one in same] == base


def test_q7_nothing_of_the_callers_is_touched():
    model, (X_cal, y_cal), X = diabetes_forest()
    explainer, rows = theirs(model, X_cal, y_cal), X[:3].copy()
    explainer.explain_factual(rows)
    assert not rows.flags.writeable
    np.random.seed(1)
    explainer.predict(X[:3].copy())
    assert np.random.rand() == np.random.RandomState(42).rand()

    inputs = [X[:40].copy(), X_cal[:40].copy(), y_cal[:40].copy()]
    X, X_cal, y_cal = inputs
    before = [one.copy() for one in inputs]
    np.random.seed(1)
    state = np.random.get_state()
    explainer = ParallelCalibratedExplainer(RandomForestRegressor(5), cv=3).fit(X_cal, y_cal)
    explainer.calibrate(X_cal, y_cal)
    explainer.predict(X)
    explainer.predict_interval(X)
    explainer.predict_event(X, 150.0)
    for kind in ("factual", "alternative"):
        explainer.explain(X, kind=kind)
        explainer.explain(X, kind=kind, threshold=150.0)
    classes = (y_cal > 140).astype(int)
    classifier = ParallelCalibratedExplainer(RandomForestClassifier(5), cv=3).fit(X_cal, classes)
    classifier.predict_proba_interval(X)
    classifier.explain(X, kind="alternative", labels="all")
    for one, other in zip(state, np.random.get_state(), strict=True):
        np.testing.assert_array_equal(one, other)
    for one, other in zip(inputs, before, strict=True):
        np.testing.assert_array_equal(one, other)
        assert one.flags.writeable


class Steps(ClassifierMixin, BaseEstimator):
    """Never near 0.5: no tree finds a cut, and every feature is cut at its median."""

    classes_ = np.array([0, 1])

    def fit(self, X, y):
        self.fitted_ = True
        return self

    def predict_proba(self, X):
        p = 0.1 + 0.05 * (X[:, 1] > 0) + 0.1 * (X[:, 0] > 1) + 0.1 * (X[:, 2] == 2)
        return np.column_stack([1 - p, p])


def test_q8_a_median_divides_the_data():
    rng = np.random.default_rng(0)
    X = np.column_stack(
        [rng.normal(size=300), rng.random(300) < 0.7, rng.integers(0, 5, 300)]
    ).astype(float)
    y = (rng.random(300) < Steps().predict_proba(X)[:, 1]).astype(int)
    model, X, y, query = Steps().fit(X, y), X[:200], y[:200], X[200:206]
    found = theirs(model, X, y).explain_factual(query.copy())
    first = found[0].get_rules()
    weight = dict(zip(first["rule"], first["weight"], strict=True))["1 <= 1.00"]
    assert weight == found[0].prediction["predict"] == pytest.approx(0.209, abs=5e-4)
    assert found[0].feature_weights["predict"][1] == 0  # there is nothing else to try
    # Row 3 has x2 = 4, and its alternatives leave 2 out, where the prediction is another one.
    assert found[3].binned["counts"][2].tolist() == [(X[:, 2] < 2).sum(), (X[:, 2] >= 2).sum()]
    assert found[3].feature_weights["predict"][2] == 0

    explainer = ours(model, X, y, score_rounding="oracle")
    explained = explainer.explain(query)
    assert not (explained.rules.feature == 1).any()
    assert (explained.weights[:, 1] == 0).all()
    medians = [[np.median(column)] for column in X.T]

    def predict(rows):
        return np.array([one[:, 1] for one in explainer.predict_proba_interval(rows)])

    expected = oracle.factual_weights(predict, X, medians, query)
    np.testing.assert_allclose(explained.weights, expected[0], **EXACT)
    assert explained.weights[3, 2] == pytest.approx(-0.042, abs=5e-4)
    grid = explained.grid
    per_feature = np.add.reduceat(grid.support, grid.cell_ptr[:-1])
    assert per_feature.tolist() == [len(X)] * 3


def test_the_mean_of_equal_numbers_is_that_number():
    fit, cal, (X, _) = split(load_wine)
    model = DecisionTreeClassifier(max_depth=3, random_state=0).fit(*fit)
    found = theirs(model, *cal, mended=False).explain_factual(X.copy())
    weights = np.abs(np.concatenate([e.get_rules()["weight"] for e in found]))
    assert (len(weights), (weights < 1e-12).sum()) == (464, 363)
    rules = ours(model, *cal, score_rounding="oracle").explain(X).rules
    assert (np.abs(rules.weight) > 1e-12).all()
    assert len(rules) == (weights > 1e-12).sum()


def test_q9_a_class_without_calibration_rows_keeps_its_column():
    X, y = load_iris(return_X_y=True)
    model = RandomForestClassifier(30, random_state=0).fit(X[::2], y[::2])
    X, y = X[1::2], y[1::2]
    X_cal, y_cal, query = X[y != 1], y[y != 1], X[y == 1]
    explainer = theirs(model, X_cal, y_cal)
    assert explainer.predict(query.copy()).tolist() == [2] * 25
    assert explainer.predict_proba(query[:1].copy())[0].round(2).tolist() == [0.11, 0.89, 0.0]

    explainer = ours(model, X_cal, y_cal)
    proba, low, high = explainer.predict_proba_interval(query)
    scores = model.predict_proba(X_cal)
    for i, score in enumerate(model.predict_proba(query)):
        expected = oracle.class_probabilities(scores, y_cal, score)
        np.testing.assert_allclose(np.column_stack([proba[i], low[i], high[i]]), expected, **EXACT)
    assert (explainer.predict(query) == 1).mean() == 0.92
    of_it = explainer.explain(query, labels=1)
    assert of_it.explained_class.tolist() == [1] * 25
    np.testing.assert_allclose(of_it.prediction, proba[:, 1], **EXACT)


@pytest.mark.parametrize("only", [0, 1])
def test_q9_one_class_of_two_is_enough(only):
    model, (X_cal, y_cal), X = cancer_forest()
    X_cal, y_cal, X = X_cal[y_cal == only], y_cal[y_cal == only], X[:20]
    with pytest.raises(errors.ValidationError, match="at least two unique target classes"):
        theirs(model, X_cal, y_cal)
    explainer = ours(model, X_cal, y_cal)
    found = explainer.predict_proba_interval(X)
    scores = model.predict_proba(X_cal)
    for i, score in enumerate(model.predict_proba(X)):
        expected = oracle.class_probabilities(scores, y_cal, score)
        np.testing.assert_allclose(np.array([one[i] for one in found]).T, expected, **EXACT)
    for label in (0, 1):
        explained = explainer.explain(X, kind="alternative", labels=label)
        np.testing.assert_allclose(explained.prediction, found[0][:, label], **EXACT)


def test_q10_features_are_cut_where_the_present_calibration_rows_say():
    fit, (X_cal, y_cal), (X, _) = split(load_wine)
    model, X = LogisticRegression(max_iter=10_000).fit(*fit), X[:2]
    half = len(X_cal) // 2
    explainer = theirs(model, X_cal, y_cal)
    explainer.explain_factual(X.copy(), features_to_ignore=[2])
    with pytest.raises(errors.ConfigurationError, match="failed for mode 'factual': 2"):
        explainer.explain_factual(X.copy())
    explainer = theirs(model, X_cal[:half], y_cal[:half])
    before = explainer.explain_factual(X.copy())[0].get_rules()["rule"]
    explainer.reinitialize(model, X_cal[half:].copy(), y_cal[half:].copy())
    assert len(explainer.x_cal) == len(X_cal)  # those of before and those that came
    after = explainer.explain_factual(X.copy())[0].get_rules()["rule"]
    fresh = theirs(model, X_cal, y_cal).explain_factual(X.copy())[0].get_rules()["rule"]
    assert "1 <= 2.38" in before
    assert "1 <= 2.38" in after
    assert "1 > 1.41" in fresh

    explainer = ours(model, X_cal[:half], y_cal[:half])
    for ignored in ([2], [0, 5], None):
        explained = explainer.explain(X, features_to_ignore=ignored)
        assert explained.features.tolist() == [f for f in range(13) if f not in (ignored or [])]
    explainer.calibrate(X_cal, y_cal)
    for kind in ("factual", "alternative"):
        again = explainer.explain(X, kind=kind)
        expected = ours(model, X_cal, y_cal).explain(X, kind=kind)
        assert again.rule_text(0) == expected.rule_text(0)
        np.testing.assert_array_equal(again.weights, expected.weights)
    target = explainer.predict(X_cal)
    cuts = [oracle.cuts(x.tolist(), target, classification=True, depth=3) for x in X_cal.T]
    for found, expected in zip(again.grid.edges, cuts, strict=True):
        np.testing.assert_array_equal(found, expected)


def test_q12_uncertainty_ranks_by_width(monkeypatch):
    fit, (X_cal, y_cal), (X, _) = split(load_breast_cancer)
    model, X = LogisticRegression(max_iter=10_000).fit(*fit), X[:20]
    explanation = theirs(model, X_cal, y_cal).explore_alternatives(X[:1].copy())[0]
    module = load_reference().explanations.explanation
    asked = []

    def watched(**options):
        asked.append((options["prediction"], module_metrics(**options)))
        raise InterruptedError  # before anything is drawn

    module_metrics = module.calculate_metrics
    monkeypatch.setattr(module, "calculate_metrics", watched)
    with pytest.raises(InterruptedError):
        explanation.plot(rnk_metric="uncertainty", show=False)
    [(prediction, merit)] = asked
    np.testing.assert_array_equal(merit, prediction)  # no width in it

    explained = ours(model, X_cal, y_cal).explain(X, kind="alternative")
    order, ptr = explained.ranking("uncertainty")
    width = explained.rules.high - explained.rules.low
    for i in range(len(X)):
        ranked = order[ptr[i] : ptr[i + 1]]
        here = np.flatnonzero(explained.rules.row == i)
        assert sorted(ranked) == here.tolist()
        np.testing.assert_array_equal(width[ranked], sorted(width[here]))


def test_q13_integers_are_not_truncated():
    rng = np.random.default_rng(0)
    X = rng.integers(0, 60, (400, 4))
    y = (X @ [1, -1, 0.5, 0] + 5 * rng.normal(size=400) > 15).astype(int)
    model = LogisticRegression(max_iter=10_000).fit(X[:150], y[:150])
    X_cal, y_cal, X = X[150:350], y[150:350], X[350:380]

    def weights(dtype):
        explainer = theirs(model, X_cal.astype(float), y_cal)
        return weights_of(explainer.explore_alternatives(X.astype(dtype)))

    gap = abs(weights(int) - weights(float))
    assert ((gap > 0).sum(), gap.size, gap.max().round(3)) == (17, 120, 0.02)
    expected = ours(model, X_cal, y_cal, score_rounding="oracle").explain(
        X.astype(float), kind="alternative"
    )
    np.testing.assert_allclose(expected.weights, weights(float), **ALL_BUT_THE_LAST_BITS)
    for dtype in (int, np.int8):
        explainer = ours(model, X_cal.astype(dtype), y_cal, score_rounding="oracle")
        explained = explainer.explain(X.astype(dtype), kind="alternative")
        np.testing.assert_array_equal(explained.weights, expected.weights)


def test_q14_super_raises_the_predicted_class_and_counter_lets_another_one_win():
    fit, (X_cal, y_cal), (X, _) = split(load_wine)
    fit, X_cal, X = (fit[0][:, :3], fit[1]), X_cal[:, :3], X[:, :3]
    model = RandomForestClassifier(5, max_depth=2, random_state=0).fit(*fit)
    found = theirs(model, X_cal, y_cal).explore_alternatives(X.copy())
    base = np.array([e.prediction["predict"] for e in found])
    undecided = np.flatnonzero(base <= 0.5)
    wrong = [found[int(i)].super_explanations().get_rules()["predict"] for i in undecided]
    assert all(max(values) < base[i] for i, values in zip(undecided, wrong, strict=True))
    assert (len(undecided), base[1].round(3)) == (8, 0.384)
    assert np.round(wrong[0], 3).tolist() == [0.154, 0.202, 0.156]

    explainer = ours(model, X_cal, y_cal, score_rounding="oracle")
    explained = explainer.explain(X, kind="alternative")
    for i in range(len(X)):
        predicted = explainer.predict(X[[i]])[0]
        rules = explained[[i]].rules
        more, flips = [], []
        for lower, upper, f in zip(rules.lower, rules.upper, rules.feature, strict=True):
            there = [v for v in X_cal[:, f] if lower < v <= upper]
            values = sorted(set(np.percentile(there, [25, 50, 75])))
            every = explainer.predict_proba(changed(X[i], f, values)).mean(axis=0)
            more.append(every[predicted] > base[i])
            flips.append(every.argmax() != predicted)
        super_, counter = explained[[i]].super_().rules, explained[[i]].counter().rules
        np.testing.assert_array_equal(super_.prediction, rules.prediction[more])
        np.testing.assert_array_equal(counter.prediction, rules.prediction[flips])
    assert explained[[1]].super_().rules.prediction.round(3).tolist() == [0.623]


def test_q15_infinite_intervals_have_alternatives():
    fit, (X_cal, y_cal), (X, _) = split(load_diabetes)
    model, X, X_cal, y_cal = LinearRegression().fit(*fit), X[:10], X_cal[:15], y_cal[:15]
    found = theirs(model, X_cal, y_cal).explore_alternatives(X.copy())
    assert [len(e.get_rules()["rule"]) for e in found] == [0] * 10
    explained = ours(model, X_cal, y_cal).explain(X, kind="alternative")
    residuals = y_cal - model.predict(X_cal)

    def predict(rows, i):
        return [oracle.interval(residuals, y_hat) for y_hat in model.predict(rows)]

    target = [value for value, _, _ in predict(X_cal, 0)]
    cuts = [oracle.cuts(x.tolist(), target, classification=False, depth=3) for x in X_cal.T]
    _, weights, rules = oracle.explain(predict, X, X_cal, cuts, kind="alternative")
    assert len(explained.rules) == len(rules)
    if FIGURES:
        assert len(rules) == 147
    # A linear model may round a row differently when it comes alone.
    np.testing.assert_allclose(explained.weights, weights[0], **ALL_BUT_THE_LAST_BITS)
    np.testing.assert_allclose(
        explained.rules.prediction, [rule[5] for rule in rules], **ALL_BUT_THE_LAST_BITS
    )
    assert np.isinf(explained.rules.high).all()


def test_open_ends_are_infinite():
    """Not numbered: the reference puts the smallest or largest target of the calibration rows."""
    model, (X_cal, y_cal), X = diabetes_forest()
    median, (_, high) = theirs(model, X_cal, y_cal).predict(
        X.copy(), uq_interval=True, low_high_percentiles=(45, np.inf)
    )
    assert (high == y_cal.max()).all()
    explainer = ours(model, X_cal, y_cal)
    assert np.isposinf(explainer.predict_interval(X, percentiles=(45, np.inf))[:, 1]).all()
    assert np.isneginf(explainer.predict_interval(X, percentiles=(-np.inf, 55))[:, 0]).all()
    np.testing.assert_allclose(explainer.predict(X), median, **ALL_BUT_THE_LAST_BITS)


class Undecided(ClassifierMixin, BaseEstimator):
    classes_ = np.array([0, 1])

    def fit(self, X, y):
        self.fitted_ = True
        return self

    def predict_proba(self, X):
        return np.full((len(X), 2), 0.5)


def test_a_tie_goes_to_the_first_class():
    """Not numbered: the reference prefers class 1 of two."""
    X, y = np.arange(20.0)[:, None], np.arange(20) % 2
    model = Undecided().fit(X, y)
    assert theirs(model, X, y).predict(X[:2].copy()).tolist() == [1, 1]
    explainer = ours(model, X, y)
    assert (explainer.predict_proba(X) == 0.5).all()
    assert explainer.predict(X[:2]).tolist() == [0, 0]


def conjunctions_of(explanation):
    """Predictions of the reference's conjunctions of two features, by these features."""
    explanation.add_conjunctions(5, 2)
    rules = explanation.get_rules()
    columns = zip(rules["feature"], rules["predict"], rules["is_conjunctive"], strict=True)
    return {tuple(features): p for features, p, joined in columns if joined}


def our_conjunctions(explained, i):
    joined = explained.conjunctions(5, 2)
    rules, features = joined.rules, joined.single_rules.feature
    here = np.flatnonzero((rules.row == i) & (rules.size == 2))
    return {tuple(features[rules.members_of(r)].tolist()): rules.prediction[r] for r in here}


def test_3_factual_conjunctions_do_not_depend_on_the_batch():
    fit, cal, (X, _) = split(load_breast_cancer)
    model, X = LogisticRegression(max_iter=10_000).fit(*fit), X[:20]
    there = theirs(model, *cal)
    batch = [conjunctions_of(e) for e in there.explain_factual(X.copy())]
    alone = [conjunctions_of(there.explain_factual(X[i : i + 1].copy())[0]) for i in range(20)]
    moved = [
        abs(batch[i][k] - alone[i][k]) for i in range(20) for k in batch[i].keys() & alone[i].keys()
    ]
    differ = sum(m > 1e-9 for m in moved)
    assert differ > 300
    if FIGURES:
        assert (len(moved), differ) == (434, 387)
        assert max(moved) == pytest.approx(0.90, abs=0.005)
    here = ours(model, *cal, score_rounding="oracle").explain(X)
    for i in range(3):
        single = ours(model, *cal, score_rounding="oracle").explain(X[i : i + 1])
        assert our_conjunctions(here, i) == our_conjunctions(single, 0)


def test_6_conjunctions_of_several_classes_use_every_combination():
    fit, cal, (X, _) = split(load_wine)
    model, X = LogisticRegression(max_iter=10_000).fit(*fit), X[:10]
    there = [conjunctions_of(e) for e in theirs(model, *cal).explore_alternatives(X.copy())]
    here = ours(model, *cal, score_rounding="oracle").explain(X, kind="alternative")
    differ = []
    for i in range(10):
        found = our_conjunctions(here, i)
        differ += [abs(there[i][k] - found[k]) for k in there[i].keys() & found.keys()]
    assert (len(differ), sum(d > 1e-9 for d in differ)) == (259, 252)
    assert max(differ) == pytest.approx(0.32, abs=0.005)
