"""Stability bands: against plain loops over replicates, on every strategy."""

import pickle

import numpy as np
import pytest
from sklearn.compose import make_column_transformer
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from ce_parallel import ParallelCalibratedExplainer
from ce_parallel.rules import _block

B, ROWS = 11, 12


class Scale:
    """Difficulty: how far a row lies from the origin."""

    def apply(self, X):
        return 0.5 + np.abs(X).mean(axis=1) / (1 + np.abs(X).mean(axis=1))


CASES = {
    "binary": (load_breast_cancer, LogisticRegression(), {}, {}),
    "binary, alternatives": (load_breast_cancer, LogisticRegression(), {}, {"kind": "alternative"}),
    "classes": (load_iris, DecisionTreeClassifier(max_depth=2), {}, {}),
    "every class": (load_iris, LogisticRegression(), {"normalization": "coherence"}, "all"),
    "regression": (load_diabetes, Ridge(), {"difficulty": Scale()}, {}),
    "events": (load_diabetes, Ridge(), {}, {"threshold": 140.0}),
    "folds": (load_iris, LogisticRegression(), {"ensemble": True}, {}),
    "folds, two classes": (load_breast_cancer, LogisticRegression(), {"ensemble": True}, {}),
    "folds, regression": (load_diabetes, Ridge(), {"ensemble": True, "difficulty": Scale()}, {}),
    "folds, events": (load_diabetes, Ridge(), {"ensemble": True}, {"threshold": 140.0}),
    "folds, mondrian": (load_diabetes, Ridge(), {"ensemble": True, "mondrian": 1}, {}),
    "mondrian": (load_diabetes, Ridge(), {"mondrian": 1}, {"threshold": (100.0, 200.0)}),
}


def fitted(case, **options):
    load, estimator, parameters, explained = CASES[case]
    X, y = load(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(y))[:260]
    X, y = np.round(X[order], 2), y[order]
    explainer = ParallelCalibratedExplainer(
        make_pipeline(StandardScaler(), estimator),
        random_state=0,
        **{"cv": 3, "n_bootstraps": B} | parameters | options,
    )
    explained = {"labels": "all"} if explained == "all" else explained
    return explainer.fit(X[ROWS:], y[ROWS:]), X[:ROWS], explained


def replicated(explainer, X, explained):
    """Weights of each replicate by explaining with its model, and its predictions."""
    reported = explainer.explain(X, **explained)
    events, _ = explainer._events(explained.get("threshold"))
    plan = explainer._plans.plan(explained.get("kind", "factual"), events, None)  # it is there
    event = np.zeros(len(X), dtype=int) if "threshold" in explained else None
    known = _block.Rows(
        category=explainer._known(X, len(X), None, explainer._plans).category,
        event=event,
    )
    classes = None
    if reported.explained_class is not None:
        classes = np.searchsorted(explainer.classes_, reported.explained_class)
    every = len(reported) // len(X)  # rows of each row
    owner = np.repeat(np.arange(len(X)), every)
    base = np.empty((B, len(reported)))
    weights = np.zeros((B, *reported.weights.shape))
    grid = plan.grid

    def values(rows, i):
        measured = plan.model.measure(rows)
        wanted = None if classes is None else np.repeat(classes[i], len(rows))
        here = known.take(np.repeat(owner[i], len(rows)))
        return plan.replicates.values(rows, *measured, here, wanted)

    for i, x in enumerate(X[owner]):
        base[:, i] = values(x[None], i)[:, 0]
        for f, cell in enumerate(grid.cells_of(x[None], np.arange(X.shape[1]))[0]):
            means = []
            for region in range(*grid.region_ptr[[cell, cell + 1]]):
                tried = grid.values[slice(*grid.value_ptr[[region, region + 1]])]
                rows = np.repeat(x[None], len(tried), axis=0)
                rows[:, f] = tried
                means.append(mean(values(rows, i)))
            if means:
                weights[:, i, f] = base[:, i] - mean(np.transpose(means))
    return reported, base, weights


def mean(values):
    """Mean of each line; that of equal numbers is exact."""
    equal = (values == values[:, :1]).all(axis=1)
    return np.where(equal, values[:, 0], values.mean(axis=1))


def top_five(weights):
    """Share of replicates in which each weight of a row is among the five largest."""
    counts = np.zeros(weights.shape[1:])
    for replicate in np.abs(weights):
        for i, row in enumerate(replicate):
            for f in np.argsort(-row, kind="stable")[:5]:
                counts[i, f] += row[f] > 0
    return counts / len(weights)


@pytest.mark.parametrize(
    ("case", "bootstrap"),
    [(case, "calibration") for case in CASES]
    + [pytest.param(case, "estimator", marks=pytest.mark.slow) for case in CASES],
)
def test_bands_equal_those_of_plain_loops(case, bootstrap):
    explainer, X, explained = fitted(case, bootstrap=bootstrap)
    reported, base, weights = replicated(explainer, X, explained)
    stability = reported.stability
    same = {"atol": 1e-9, "rtol": 1e-9}
    np.testing.assert_allclose(stability.prediction_std, base.std(axis=0), **same)
    np.testing.assert_allclose(stability.weights_std, weights.std(axis=0), **same)
    for band, replicates in (
        (stability.prediction_band, base),
        (stability.weights_band, weights),
    ):
        expected = np.percentile(replicates, (5, 95), axis=0)
        np.testing.assert_allclose(band, np.moveaxis(expected, 0, -1), **same)
    if case != "regression":  # there rounding may decide about the sign of nothing
        agreement = (np.sign(weights) == np.sign(reported.weights)).mean(axis=0)
        settled = np.abs(weights).min(axis=0) > 1e-12
        np.testing.assert_allclose(stability.sign_agreement[settled], agreement[settled])
    if explained.get("threshold") is None and case == "binary":
        np.testing.assert_allclose(stability.in_top, top_five(weights))
    assert stability.n_bootstraps == B
    assert len(stability) == len(reported)


def test_replicates_do_not_depend_on_how_many_there_are():
    few, X, _ = fitted("binary")
    more, _, _ = fitted("binary", n_bootstraps=B + 4)
    scores = np.random.default_rng(0).random((50, 2))

    def values(explainer):
        explainer.explain(X)
        plan = explainer._plans.plan("factual", None, None)
        return plan.replicates.values(None, scores, None, _block.Rows(), None)

    np.testing.assert_array_equal(values(few), values(more)[:B])


@pytest.mark.parametrize("bootstrap", ["calibration", "estimator"])
def test_every_strategy_finds_the_same_bits(bootstrap):
    found = []
    for preferred in ("serial", "threads", "processes"):
        explainer, X, _ = fitted("binary", bootstrap=bootstrap)
        explainer.set_params(parallel_config__preferred=preferred, parallel_config__max_workers=2)
        found.append(explainer.explain(X).stability.arrays())
    for other in found[1:]:
        for name, values in found[0].items():
            np.testing.assert_array_equal(values, other[name], err_msg=name)


def test_rows_in_small_steps_and_wide_tables(monkeypatch):
    explainer, X, _ = fitted("binary")
    whole = explainer.explain(X).stability
    monkeypatch.setattr(_block, "TILE_BYTES", 8 * 30 * 40)  # less than a row needs
    steps = explainer.explain(X).stability
    for name, values in whole.arrays().items():
        np.testing.assert_array_equal(values, steps.arrays()[name], err_msg=name)


def test_stability_follows_its_rows_and_survives_a_pickle():
    explainer, X, explained = fitted("every class")
    explanations = explainer.explain(X, **explained)
    some = pickle.loads(pickle.dumps(explanations))[4:7]
    np.testing.assert_array_equal(
        some.stability.weights_band, explanations.stability.weights_band[4:7]
    )
    again = pickle.loads(pickle.dumps(explainer)).explain(X, **explained)
    np.testing.assert_array_equal(again.stability.weights_std, explanations.stability.weights_std)


def test_intervals_and_weights_are_the_same_with_and_without():
    explainer, X, _ = fitted("binary")
    plain, _, _ = fitted("binary", n_bootstraps=0)
    with_bands, without = explainer.explain(X), plain.explain(X)
    assert without.stability is None
    for name in ("prediction", "prediction_low", "weights", "weights_low", "weights_high"):
        np.testing.assert_array_equal(getattr(with_bands, name), getattr(without, name))
    assert explainer.explain(X, kind="fast").stability is None


def test_ignored_features_do_not_move():
    explainer, X, _ = fitted("binary")
    stability = explainer.explain(X, features_to_ignore=[0, 3]).stability
    for values in (stability.weights_std, stability.weights_band, stability.in_top):
        assert not values[:, [0, 3]].any()


def test_calibrating_again_resamples_the_new_rows():
    explainer, X, _ = fitted("binary", bootstrap="estimator")
    data, y = load_breast_cancer(return_X_y=True)
    before = explainer.explain(X).stability
    explainer.calibrate(np.round(data[-100:], 2), y[-100:])
    after = explainer.explain(X).stability
    assert not np.array_equal(before.weights_std, after.weights_std)
    assert {len(rows.y) for _, rows in explainer._plans.refitted} == {100}


def test_a_frozen_estimator_cannot_be_refitted():
    X, y = load_iris(return_X_y=True)
    frozen = FrozenEstimator(LogisticRegression(max_iter=500).fit(X, y))
    explainer = ParallelCalibratedExplainer(frozen, n_bootstraps=5, bootstrap="estimator")
    with pytest.raises(ValueError, match="cannot refit a FrozenEstimator"):
        explainer.fit(X, y)


def test_too_few_rows_to_leave_one_out():
    X, y = np.arange(2.0)[:, None], np.arange(2.0)
    explainer = ParallelCalibratedExplainer(
        Ridge(), cv=2, n_bootstraps=20, bootstrap="estimator", random_state=0
    )
    with pytest.raises(ValueError, match="did not draw"):
        explainer.fit(X, y)


def rare():
    """Rows of which two alone are of Mondrian category "b"."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(120, 4))
    y = (X[:, 0] + rng.normal(size=120) > 0).astype(int)
    return X, y, np.array(["a"] * 50 + ["b"] * 2 + ["c"] * 68)


def test_a_replicate_that_drew_all_of_a_category_says_so():
    X, y, labels = rare()
    explainer = ParallelCalibratedExplainer(
        LogisticRegression(), n_bootstraps=30, bootstrap="estimator", random_state=0
    )
    with pytest.raises(ValueError, match="drew all rows of Mondrian category"):
        explainer.fit(X, y, mondrian=labels)
    explainer.set_params(bootstrap="calibration").fit(X, y, mondrian=labels)
    assert explainer.explain(X, mondrian=labels).stability.n_bootstraps == 30


@pytest.mark.parametrize("bootstrap", ["calibration", "estimator"])
def test_categories_that_fit_has_not_seen(bootstrap):
    pd = pytest.importorskip("pandas")
    rng = np.random.default_rng(0)
    X = pd.DataFrame({"a": rng.normal(size=120), "c": rng.choice(list("xyz"), 120)})
    y = (X["a"] > 0).to_numpy() ^ (rng.random(120) < 0.1)
    encoder = make_column_transformer(
        (OneHotEncoder(handle_unknown="ignore"), ["c"]), remainder="passthrough"
    )
    explainer = ParallelCalibratedExplainer(
        make_pipeline(encoder, LogisticRegression()),
        n_bootstraps=4,
        bootstrap=bootstrap,
        random_state=0,
    ).fit(X, y)
    query = X[:3].copy()
    query.loc[0, "c"] = "new"
    assert np.isfinite(explainer.explain(query).stability.weights_band).all()


def test_what_changes_between_fit_and_calibrate():
    X, y, _ = rare()
    explainer = ParallelCalibratedExplainer(
        LogisticRegression(), n_bootstraps=6, bootstrap="estimator", random_state=0
    ).fit(X, y)
    few = explainer.set_params(n_bootstraps=4).calibrate(X, y).explain(X[:3])
    assert few.stability.n_bootstraps == 4
    with pytest.raises(ValueError, match="fit again"):
        explainer.set_params(n_bootstraps=7).calibrate(X, y)
    assert explainer.explain(X[:3]).stability.n_bootstraps == 4  # as before
    explainer.set_params(bootstrap="calibration").calibrate(X, y)
    assert explainer.explain(X[:3]).stability.n_bootstraps == 7
    assert explainer.set_params(n_bootstraps=0).calibrate(X, y).explain(X[:3]).stability is None


def test_equal_numbers_do_not_move():
    X, y = load_diabetes(return_X_y=True)
    explainer = ParallelCalibratedExplainer(
        DecisionTreeRegressor(max_depth=3), n_bootstraps=20, random_state=0
    ).fit(X[20:], y[20:])
    explanations = explainer.explain(X[:20])
    nothing = explanations.weights == 0
    assert nothing.any()
    assert (explanations.stability.sign_agreement[nothing] == 1).all()
    assert (explanations.stability.in_top[nothing] == 0).all()
    assert (np.abs(explainer.explain(X[:20], kind="alternative").rules.weight) > 1e-12).all()
