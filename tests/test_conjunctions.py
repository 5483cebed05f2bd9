"""Conjunctions against calibrated-explanations 1.0.2 and against plain loops.

Where the reference is known to err it is asked what it does right: factual conjunctions one row at
a time, several classes with one sample percentile. Its factual conjunctions are evaluated at
percentiles of the calibration values within closed bounds, ``lower <= x <= upper``; here a cell is
``lower < x <= upper``. The data have no values that equal a cut, where the two would differ.
"""

import itertools
import pickle
from functools import cache

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, load_diabetes, load_wine
from sklearn.ensemble import RandomForestClassifier
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from ce_parallel import ParallelCalibratedExplainer, ParallelConfig, explain_pipeline
from ce_parallel._conjoin import Source
from ce_parallel.executor import ParallelExecutor
from ce_parallel.rules import _block
from tests import oracle
from tests.reference import load_reference
from tests.test_parity import CLASSIFIERS, REGRESSORS, TOLERANCE, both, explain_both, mixed, split

MODES = {
    "two classes": (CLASSIFIERS["logistic"], load_breast_cancer, "classification", {}),
    "regression": (REGRESSORS["linear"], load_diabetes, "regression", {}),
    "event": (REGRESSORS["linear"], load_diabetes, "regression", {"threshold": 150.0}),
}
COLUMNS = {
    "prediction": "predict",
    "low": "predict_low",
    "high": "predict_high",
    "weight": "weight",
    "weight_low": "weight_low",
    "weight_high": "weight_high",
}


@cache
def prepared(mode):
    model, load, of_kind, _ = MODES[mode]
    model = clone(model)
    theirs, ours, X = both(model, load, of_kind)
    if mode == "event":
        ours.set_params(random_state=42).calibrate(*split(load)[1])  # the same two halves
    return theirs, ours, X


@cache
def wine(**parameters):
    """An explainer of five columns of wine, rows, and calibration data."""
    fit, cal, (X, _) = split(load_wine)
    scaler = StandardScaler().fit(fit[0])

    def five(X):
        return scaler.transform(X)[:, [0, 4, 6, 9, 12]]

    model = LogisticRegression().fit(five(fit[0]), fit[1])
    cal = five(cal[0]), cal[1]
    explainer = ParallelCalibratedExplainer(
        FrozenEstimator(model),
        cv=None,
        score_rounding="oracle",
        **{k: list(v) for k, v in parameters.items()},
    )
    return explainer.calibrate(*cal), five(X), cal


def check(reference, ours, n_top, max_size):
    """Compare every rule, the single ones and the conjunctions; returns how many of these."""
    ours = ours.conjunctions(n_top, max_size)
    rules, n_compared = ours.rules, 0
    for i, e in enumerate(reference):
        theirs = e.add_conjunctions(n_top, max_size).get_rules()
        here = np.flatnonzero(rules.row == i)
        # Q8: what is below an edge includes the edge, so "<" there is "<=" here.
        said = [text.replace("\n", "").replace(" < ", " <= ") for text in theirs["rule"]]
        assert [text.replace(" < ", " <= ") for text in ours.rule_text(i)] == said
        features = [np.ravel(f).tolist() for f in theirs["feature"]]
        members = [ours.single_rules.feature[rules.members_of(r)].tolist() for r in here]
        assert members == features
        assert rules.size[here].tolist() == [len(f) for f in features]
        for name, theirs_name in COLUMNS.items():
            np.testing.assert_allclose(
                getattr(rules, name)[here],
                np.array(theirs[theirs_name], dtype=float),
                err_msg=name,
                **TOLERANCE,
            )
        n_compared += np.count_nonzero(theirs["is_conjunctive"])
    return n_compared


@pytest.fixture(params=[(5, 2), (5, 3), (None, 2)], ids=str)
def sizes(request):
    return request.param


@pytest.fixture(params=["factual", "alternative"])
def kind(request):
    return request.param


@pytest.fixture(autouse=True)
def _quiet_reference(recwarn):
    """The reference warns of what it deprecates."""


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("mode", MODES)
def test_alternatives_as_the_reference(mode, sizes):
    theirs, ours, X = prepared(mode)
    X = X[:8] if sizes[1] == 2 and sizes[0] else X[:4]
    explained = explain_both(theirs, ours, X, "alternative", **MODES[mode][-1])
    assert check(*explained, *sizes) > 50


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("mode", MODES)
def test_factual_as_the_reference(mode, sizes):
    """One row at a time there (Q3), all at once here."""
    theirs, ours, X = prepared(mode)
    X, options = X[:4], MODES[mode][-1]
    reference = [explain_both(theirs, ours, X[i : i + 1], **options)[0][0] for i in range(len(X))]
    explanations = ours.explain(X, **options)
    assert check(reference, explanations, *sizes) > 20


@pytest.mark.filterwarnings("ignore")
def test_several_classes_as_the_reference(kind):
    """With one value of each rule: of more, only the first combination is used there (Q6)."""
    reference = load_reference()
    ours, X, cal = wine(sample_percentiles=(50,))
    theirs = reference.CalibratedExplainer(
        ours.estimator_.estimator,
        cal[0].copy(),
        cal[1].copy(),
        mode="classification",
        feature_names=[f"x{i}" for i in range(5)],
        sample_percentiles=[50],
    )
    X = X[:3]
    explained = [explain_both(theirs, ours, X[i : i + 1], kind)[0][0] for i in range(len(X))]
    assert check(explained, ours.explain(X, kind=kind), 5, 3) > 20


# -- plain loops ------------------------------------------------------------------------


def values_of(explanations, rule, reference, percentiles, categorical):
    """What represents a single rule, straight from its bounds and the reference rows."""
    rules = explanations.single_rules
    f, lower, upper = rules.feature[rule], rules.lower[rule], rules.upper[rule]
    own = explanations.X[rules.row[rule], f]
    if explanations.kind == "factual":
        if f in categorical or np.isnan(own):
            return [own]
    elif np.isnan(lower):
        return [np.nan]
    elif f in categorical:
        return [rules.value[rule]]
    column = reference[:, f]
    inside = column[(lower < column) & (column <= upper)]
    found = np.percentile(inside, percentiles)
    return found if explanations.kind == "factual" else np.unique(found)


def by_loops(explanations, i, n_top, max_size, predict, values):
    """Conjunctions of row `i` as {members: value, low, high}; `predict` maps rows to (3, n)."""
    rules = explanations.single_rules
    singles = np.flatnonzero(rules.row == i).tolist()
    state = [((r,), rules.weight[r], rules.weight_high[r] - rules.weight_low[r]) for r in singles]
    k = min(len(singles), len(singles) if n_top is None else max(2, n_top))
    found, met = {}, set()
    for size in range(2, max_size + 1):
        top = sorted(state, key=lambda rule: (abs(rule[1]), rule[2]))[len(state) - k :]
        for r, (members, *_) in itertools.product(singles, top):
            joined = (r, *members)
            features = rules.feature[list(joined)].tolist()
            if len(members) != size - 1 or len(set(features)) < size or set(features) in met:
                continue
            met.add(frozenset(features))
            block = []
            for combination in itertools.product(*(values[m] for m in joined)):
                block.append(explanations.X[i].copy())
                block[-1][features] = combination
            value, low, high = predict(np.array(block), i).mean(axis=1)
            found[joined] = value, low, high
            base = explanations.prediction[i]
            state.append((joined, value - base, (high - base) - (low - base)))

    return found


def check_by_loops(explanations, reference, predict, percentiles=(25, 50, 75), categorical=()):
    for n_top, max_size in [(5, 2), (2, 4), (None, 3)]:
        joined = explanations.conjunctions(n_top, max_size)
        rules = joined.rules
        values = [
            values_of(explanations, r, reference, percentiles, categorical)
            for r in range(len(explanations.single_rules))
        ]
        total = 0
        for i in range(len(explanations)):
            expected = by_loops(explanations, i, n_top, max_size, predict, values)
            here = np.flatnonzero((rules.row == i) & (rules.feature == -1))
            assert [tuple(rules.members_of(r).tolist()) for r in here] == list(expected)
            ours = np.stack([rules.prediction, rules.low, rules.high], axis=1)[here]
            np.testing.assert_allclose(ours, list(expected.values()) or ours, **TOLERANCE)
            total += len(expected)
        assert total > 0


def predictor(explainer, explanations, **options):
    """The quantity explained of a row, of perturbed copies of it."""
    classes = getattr(explainer, "classes_", ())

    def predict(rows, i):
        if not len(classes):
            return np.array([explainer.predict(rows), *explainer.predict_interval(rows).T])
        c = np.searchsorted(classes, explanations.explained_class[i])
        return np.stack([part[:, c] for part in explainer.predict_proba_interval(rows)])

    return predict


@pytest.mark.parametrize("mode", ["2", "3", "regression"])
def test_categories_by_plain_loops(mode, kind):
    fit, cal, (X, _) = mixed(mode)
    model = (REGRESSORS if mode == "regression" else CLASSIFIERS)["forest"]
    model = type(model)(20, random_state=0).fit(*fit)
    explainer = ParallelCalibratedExplainer(
        FrozenEstimator(model), cv=None, categorical_features=[1, 3]
    ).calibrate(*cal)
    explanations = explainer.explain(X[:6], kind=kind)
    check_by_loops(explanations, cal[0], predictor(explainer, explanations), categorical=(1, 3))


def test_several_classes_by_plain_loops(kind):
    explainer, X, cal = wine()
    for options in ({}, {"labels": "all"}):
        explanations = explainer.explain(X[:3], kind=kind, **options)
        check_by_loops(explanations[:2], cal[0], predictor(explainer, explanations))


def test_missing_values_by_plain_loops(kind):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(400, 4))
    y = (X[:, 0] + X[:, 1] - X[:, 2] + 0.3 * rng.normal(size=400) > 0).astype(int)
    X[rng.random(X.shape) < 0.2] = np.nan
    model = RandomForestClassifier(10, max_depth=4, random_state=0).fit(X[:200], y[:200])
    explainer = ParallelCalibratedExplainer(FrozenEstimator(model), cv=None)
    explainer.calibrate(X[200:390], y[200:390])
    explanations = explainer.explain(X[390:], kind=kind)
    assert np.isnan(explanations.X).any()
    check_by_loops(explanations, X[200:390], predictor(explainer, explanations))


def test_what_is_known_of_the_rows_stays_known(kind):
    """Categories, difficulty and events of the rows hold for their conjunctions."""

    class Distance:
        def apply(self, X):
            return 1.0 + np.abs(X[:, 0])

    fit, cal, (X, _) = split(load_diabetes)
    X, group = X[:6], (np.arange(6) % 2)
    explainer = ParallelCalibratedExplainer(
        FrozenEstimator(Ridge(0.01).fit(*fit)), cv=None, difficulty=Distance(), random_state=0
    )
    explainer.calibrate(*cal, mondrian=np.arange(len(cal[1])) % 2)
    events = [120.0, 150.0, 180.0, 120.0, 160.0, 200.0]
    explanations = explainer.explain(X, kind=kind, mondrian=group, threshold=events)

    def predict(rows, i):
        return np.array(
            explainer.predict_event(rows, events[i], mondrian=np.repeat(group[i], len(rows)))
        )

    check_by_loops(explanations, cal[0], predict)


# -- what must hold whatever the numbers ------------------------------------------------


@cache
def explained(kind, preferred="serial"):
    fit, cal, (X, _) = split(load_wine)
    explainer = ParallelCalibratedExplainer(
        FrozenEstimator(RandomForestClassifier(10, random_state=0).fit(*fit)),
        cv=None,
        parallel_config=ParallelConfig(preferred=preferred, max_workers=2),
    )
    return explainer.calibrate(*cal).explain(X[:20], kind=kind)


def assert_same(one, other):
    for name, column in one.rules.to_dict().items():
        np.testing.assert_array_equal(column, other.rules.to_dict()[name], err_msg=name)
    for i in range(len(one)):
        assert one.rule_text(i) == other.rule_text(i)


@pytest.mark.parametrize("preferred", ["serial", "threads"])
def test_same_bits_whatever_runs_them(kind, preferred, monkeypatch):
    expected = explained(kind).conjunctions(5, 3)
    monkeypatch.setattr(_block, "TILE_ROWS", 500)
    explanations = explained(kind)
    with ParallelExecutor(ParallelConfig(preferred=preferred, max_workers=2)):
        joined = explanations.conjunctions(5, 3)
    assert joined.execution_report.strategy == preferred
    assert joined.execution_report.n_tasks > 2
    assert_same(expected, joined)


def test_a_conjunction_larger_than_a_block(kind, monkeypatch):
    explanations = explained(kind)[:4]
    expected = explanations.conjunctions(3, 3)
    monkeypatch.setattr(_block, "TILE_ROWS", 7)
    assert_same(expected, explanations.conjunctions(3, 3))


def test_slices(kind):
    explanations = explained(kind)
    joined = explanations.conjunctions(4, 3)
    for key in (slice(2, 5), np.array([7, 0, 7]), np.arange(20) % 3 == 0, slice(0, 0)):
        part = joined[key]
        assert_same(part, explanations[key].conjunctions(4, 3))
        rows = np.arange(20)[key]
        assert [part.rule_text(i) for i in range(len(part))] == [joined.rule_text(i) for i in rows]
    assert str(joined[-1]) == str(joined[19])


def test_filters_and_slices_commute():
    joined = explained("alternative").conjunctions(4, 3)
    chosen = {
        "super": lambda e: e.super_(include_potential=False),
        "semi": lambda e: e.semi(),
        "counter": lambda e: e.counter(),
        "ensured": lambda e: e.ensured(),
        "pareto": lambda e: e.pareto(cost="rule_size"),
        "two": lambda e: e.ensured().super_(),
    }
    everything = {(i, text) for i in range(20) for text in joined.rule_text(i)}
    for name, choose in chosen.items():
        kept = choose(joined)
        assert 0 < len(kept.rules) < len(joined.rules), name
        assert {(i, text) for i in range(20) for text in kept.rule_text(i)} < everything
        assert_same(kept[[3, 11]], choose(joined[[3, 11]]))
    counter = joined.counter()
    assert (counter.rules.size > 1).any()
    # Joined anew: of the single rules that are left.
    again = counter.conjunctions(5, 2)
    assert again.rule_text(0)[:1] == counter.rule_text(0)[:1]
    np.testing.assert_array_equal(
        again.rules.row[again.rules.size == 1], counter.rules.row[counter.rules.size == 1]
    )


def test_filtered_rules_are_joined():
    explanations = explained("alternative")
    before = explanations.ensured().conjunctions(5, 3)
    singles = before.rules.size == 1
    assert 0 < singles.sum() < len(explanations.rules)
    after = explanations.conjunctions(None, 2).ensured().conjunctions(5, 3)
    assert_same(before, after)
    # Filters in a row, of explanations of several classes without any conjunction.
    alone = explanations.conjunctions(max_size=1).ensured().counter()
    assert_same(alone, explanations.ensured().counter())


def test_counter_of_several_classes_looks_at_the_winner():
    explainer, X, _ = wine()
    joined = explainer.explain(X[:6], kind="alternative").conjunctions()
    there = joined.counter().rules
    joined_there = there.size == 2
    assert joined_there.any()
    # A class below one third cannot be the most probable one of three.
    every = joined.rules
    beaten = (every.prediction < 1 / 3) & (every.size == 2)
    assert beaten.sum() <= joined_there.sum()


def test_filters_as_the_reference():
    reference = load_reference()
    assert reference
    theirs, ours, X = prepared("two classes")
    expected, explanations = explain_both(theirs, ours, X[:4], "alternative")
    expected.add_conjunctions(5, 2)
    joined = explanations.conjunctions(5, 2)
    for name in ("super", "semi", "counter", "ensured"):
        found = getattr(expected, f"{name}_explanations")(copy=True)
        mine = {"super": joined.super_}.get(name) or getattr(joined, name)
        for i, e in enumerate(found):
            said = [t.replace("\n", "").replace(" < ", " <= ") for t in e.get_rules()["rule"]]
            assert mine().rule_text(i) == said, name


def test_ranking_and_tables(kind):
    joined = explained(kind).conjunctions(4, 3)
    rules = joined.rules
    assert (np.diff(rules.row) >= 0).all()
    order, ptr = joined.ranking(top=6)
    assert (np.diff(ptr) == 6).all()
    first = order[ptr[3] : ptr[4]]
    weights = np.abs(rules.weight[rules.row == 3])
    np.testing.assert_array_equal(np.abs(rules.weight[first]), np.sort(weights)[::-1][:6])
    table = joined.to_dict()
    assert {len(column) for column in table.values()} == {len(rules)}
    r = np.flatnonzero(rules.size == 3)[0]
    assert table["rule"][r].count(" & ") == table["feature"][r].count(" & ") == 2
    assert np.isnan([rules.lower[r], rules.upper[r], rules.value[r]]).all()
    assert rules.support[r] == rules.feature[r] == -1
    np.testing.assert_array_equal(np.diff(rules.members_ptr), rules.size)
    np.testing.assert_array_equal(
        rules.weight[r], rules.prediction[r] - joined.prediction[rules.row[r]]
    )
    readable = joined[0]
    assert len(readable.rules) == (rules.row == 0).sum()
    assert " & " in str(readable)


def test_joined_anew_and_pickled(kind):
    explanations = explained(kind)
    joined = explanations.conjunctions(4, 3)
    assert_same(joined, explanations.conjunctions(5, 2).conjunctions(4, 3))
    assert_same(joined, pickle.loads(pickle.dumps(joined)))
    assert_same(joined, pickle.loads(pickle.dumps(explanations)).conjunctions(4, 3))
    assert not hasattr(joined.source, "explainer")
    assert isinstance(joined.source, Source)


def test_a_plot_shows_them():
    joined = explained("factual").conjunctions()
    assert any(" & " in rule for rule in joined.plot(0).rules)


def test_nothing_to_join():
    X, y = np.ones((40, 2)), np.arange(40) % 2
    explainer = ParallelCalibratedExplainer(LogisticRegression(), random_state=0).fit(X, y)
    none = explainer.explain(X[:2])
    assert len(none.conjunctions(5, 3).rules) == 0
    assert len(none[:0].conjunctions().rules) == 0
    X[:, 0] = np.linspace(-1, 1, 40)
    y = (X[:, 0] > 0).astype(int)
    one = explainer.fit(X, y).explain(X[:2])
    assert len(one.rules) == len(one.conjunctions(5, 3).rules) == 2
    alone = explained("factual")
    assert_same(alone, alone.conjunctions(max_size=1))
    assert alone.conjunctions(max_size=1).joined.ptr[-1] == 0


def test_units_of_a_pipeline(kind):
    X, y = load_diabetes(return_X_y=True, scaled=False)
    explainer = ParallelCalibratedExplainer(LinearRegression(), random_state=0)
    pipeline = make_pipeline(StandardScaler(), explainer).fit(X[10:], y[10:])
    raw = explain_pipeline(pipeline, X[:5], kind=kind).conjunctions()
    scaled = explainer.explain(pipeline[0].transform(X[:5]), kind=kind).conjunctions()
    np.testing.assert_array_equal(raw.rules.prediction, scaled.rules.prediction)
    np.testing.assert_array_equal(raw.rules.members, scaled.rules.members)
    assert raw.rule_text(0) != scaled.rule_text(0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_top": 0}, "n_top must be an int of at least 1. Got 0."),
        ({"max_size": 2.5}, "max_size must be an int of at least 1. Got 2.5."),
        ({"max_size": None}, "max_size must be an int of at least 1. Got None."),
    ],
)
def test_bad_sizes(options, message):
    with pytest.raises(ValueError, match=message):
        explained("factual").conjunctions(**options)


def test_without_a_model():
    from dataclasses import replace

    with pytest.raises(ValueError, match="conjunctions need explanations that know the model"):
        replace(explained("factual"), source=None).conjunctions()


def test_covered_values_are_numpy_percentiles():
    rng = np.random.default_rng(0)
    from ce_parallel.rules import build_grid

    column = np.round(rng.normal(size=97), 1)
    column[:5] = np.nan
    cuts = np.array([-0.52, 0.3, 0.31, 1.17])
    percentiles = (0, 10, 25, 50, 75, 99.9, 100)
    grid = build_grid(column[:, None], [cuts], percentiles)
    bounds = [-np.inf, *cuts, np.inf]
    for k, (lower, upper) in enumerate(itertools.pairwise(bounds)):
        inside = column[(lower < column) & (column <= upper)]
        expected = np.percentile(inside, percentiles) if len(inside) else []
        here = grid.covered[grid.covered_ptr[k] : grid.covered_ptr[k + 1]]
        np.testing.assert_array_equal(here, expected)
    assert oracle.cell(0.305, cuts)[:2] == (0.3, 0.31)  # a cell that may well be empty
