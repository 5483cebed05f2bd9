"""As the last step of a Pipeline: searches, and explanations in the units of the input."""

import numpy as np
import pytest
from sklearn.compose import make_column_transformer
from sklearn.datasets import load_diabetes, load_iris
from sklearn.decomposition import PCA
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import (
    MinMaxScaler,
    OneHotEncoder,
    QuantileTransformer,
    StandardScaler,
)

from ce_parallel import ParallelCalibratedExplainer, explain_pipeline


@pytest.fixture(scope="module")
def data():
    X, y = load_diabetes(return_X_y=True, as_frame=True, scaled=False)
    return X, y


def explainer():
    return ParallelCalibratedExplainer(LinearRegression(), random_state=0)


@pytest.mark.parametrize(
    "steps",
    [
        [StandardScaler()],
        [MinMaxScaler(), "passthrough", StandardScaler()],
        [QuantileTransformer(n_quantiles=50)],
    ],
)
def test_rules_speak_in_raw_units_behind_scalers(steps, data):
    X, y = data
    inside = explain_pipeline(make_pipeline(*steps, explainer()).fit(X, y), X[:30])
    assert inside.feature_names == tuple(X.columns)
    np.testing.assert_array_equal(inside.X, X[:30])
    rules = inside.rules
    value = inside.X[rules.row, rules.feature]
    # The way back from a quantile is exact to rounding only.
    assert ((rules.lower <= value + 1e-9) & (value <= rules.upper + 1e-9)).all()
    body_mass_index = rules.upper[(rules.feature == 2) & np.isfinite(rules.upper)]
    assert ((body_mass_index > 18) & (body_mass_index < 43)).all()


def test_constant_and_two_valued_columns_in_raw_units():
    rng = np.random.default_rng(0)
    X = np.column_stack([np.full(200, 7.1), rng.choice([0.1, 0.3], 200, p=[0.2, 0.8])])
    pipeline = make_pipeline(StandardScaler(), explainer()).fit(
        X, X[:, 1] * 0 + rng.normal(size=200)
    )
    rules = explain_pipeline(pipeline, X).rules
    assert set(rules.feature) <= {1}
    value = X[rules.row, rules.feature]
    assert ((rules.lower < value + 1e-9) & (value <= rules.upper + 1e-9)).all()


def test_inside_and_around_agree_on_linear_scaling(data):
    X, y = data
    inside = explain_pipeline(make_pipeline(StandardScaler(), explainer()).fit(X, y), X[:30])
    around = ParallelCalibratedExplainer(
        make_pipeline(StandardScaler(), LinearRegression()), random_state=0
    )
    around = around.fit(X, y).explain(X[:30])
    np.testing.assert_allclose(inside.prediction, around.prediction, rtol=1e-2)
    assert inside.rule_text(0) == around.rule_text(0)


def test_other_steps_keep_their_own_names_and_units(data):
    X, y = data
    reduced = explain_pipeline(make_pipeline(PCA(3), explainer()).fit(X, y), X[:5])
    assert reduced.feature_names == ("pca0", "pca1", "pca2")
    columns = make_column_transformer((StandardScaler(), ["bmi", "bp"]), remainder="drop")
    chosen = explain_pipeline(make_pipeline(columns, explainer()).fit(X, y), X[:5])
    assert chosen.feature_names == ("standardscaler__bmi", "standardscaler__bp")
    alone = explain_pipeline(make_pipeline(explainer()).fit(X, y), X[:5])
    assert alone.feature_names == tuple(X.columns)


def test_features_are_ignored_by_the_names_that_rules_bear(data):
    X, y = data
    pipeline = make_pipeline(StandardScaler(), explainer()).fit(X, y)
    explanations = explain_pipeline(pipeline, X[:9], features_to_ignore=["bmi", "s5"])
    assert set(np.flatnonzero(~explanations.weights.any(axis=0))) == {2, 8}
    with pytest.raises(ValueError, match=r"names \['x2'\]"):
        explain_pipeline(pipeline, X, features_to_ignore=["x2"])


def test_nullable_columns_keep_their_missing_values(data):
    X, y = data
    X = X.round(0).astype("Int64")
    X.loc[::5, "age"] = None
    model = ParallelCalibratedExplainer(
        make_pipeline(SimpleImputer(), LinearRegression()), random_state=0
    )
    explanations = explain_pipeline(make_pipeline(StandardScaler(), model).fit(X, y), X[:6])
    assert np.isnan(explanations.X[[0, 5], 0]).all()
    assert explanations.rule_text(0)[0] == "age is missing"


def test_something_else_is_refused(data):
    with pytest.raises(TypeError, match=r"last step is a ParallelCalibratedExplainer. Got Ridge"):
        explain_pipeline(make_pipeline(StandardScaler(), Ridge()), data[0])
    with pytest.raises(TypeError, match="needs a Pipeline whose last step"):
        explain_pipeline(explainer(), data[0])


def test_a_search_tunes_the_model_and_how_it_runs(data):
    X, y = data
    grid = {
        "parallelcalibratedexplainer__estimator__alpha": [0.1, 10.0],
        "parallelcalibratedexplainer__parallel_config__preferred": ["serial", "threads"],
    }
    pipeline = make_pipeline(StandardScaler(), ParallelCalibratedExplainer(Ridge(), random_state=0))
    search = GridSearchCV(pipeline, grid, cv=2, error_score="raise").fit(X, y)
    scores = search.cv_results_["mean_test_score"].reshape(2, 2)
    np.testing.assert_array_equal(scores[:, 0], scores[:, 1])
    assert len(explain_pipeline(search.best_estimator_, X[:3])) == 3


@pytest.mark.parametrize("kind", ["factual", "alternative", "fast"])
def test_every_class_in_raw_units(kind):
    X, y = load_iris(return_X_y=True)
    explainer = ParallelCalibratedExplainer(LogisticRegression(), random_state=0)
    pipeline = make_pipeline(StandardScaler(), explainer).fit(X, y)
    every = explain_pipeline(pipeline, X[::30], kind=kind, labels="all")
    np.testing.assert_array_equal(every.X, np.repeat(X[::30], 3, axis=0))
    for i, label in enumerate(np.tile(np.unique(y), 5)):
        one = explain_pipeline(pipeline, X[::30], kind=kind, labels=label)
        assert every.rule_text(i) == one.rule_text(i // 3)
        assert repr(every[i]).split("\n")[1:] == repr(one[i // 3]).split("\n")[1:]


def test_nothing_stands_before_the_explainer():
    pd = pytest.importorskip("pandas")
    rng = np.random.default_rng(0)
    X = pd.DataFrame({"a": rng.normal(size=150), "c": rng.choice(["u", "v"], 150)})
    y = (X["a"] > 0).to_numpy() ^ (rng.random(150) < 0.1)
    encoder = make_column_transformer((OneHotEncoder(), ["c"]), remainder="passthrough")
    inside = make_pipeline(encoder, LogisticRegression())
    explainer = ParallelCalibratedExplainer(inside, random_state=0)
    texts = explainer.fit(X, y).explain(X[:5]).rule_text(0)
    for steps in ([], ["passthrough"]):
        pipeline = make_pipeline(*steps, explainer).fit(X, y)
        assert explain_pipeline(pipeline, X[:5]).rule_text(0) == texts
