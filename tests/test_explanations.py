"""The columnar result: shapes, slices, the table of rules, and what a person reads."""

import pickle
import sys

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer, load_diabetes
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from ce_parallel import ParallelCalibratedExplainer

ROWS = 12


def explain(load, estimator, **options):
    data = load()
    explainer = ParallelCalibratedExplainer(
        make_pipeline(StandardScaler(), estimator), random_state=0
    )
    X = np.round(data.data, 3)
    X[:, 0] = 1.0  # constant: no rule about it
    explainer.fit(X[ROWS:], data.target[ROWS:])
    return explainer.explain(X[:ROWS], **options)


@pytest.fixture(scope="module")
def classified():
    return explain(load_breast_cancer, LogisticRegression())


@pytest.fixture(scope="module")
def regressed():
    return explain(load_diabetes, Ridge(), percentiles=(10, 90))


@pytest.fixture(params=["classified", "regressed"])
def explanations(request):
    return request.getfixturevalue(request.param)


def test_shapes(explanations):
    n, d = explanations.X.shape
    assert len(explanations) == n == ROWS
    for name in ("prediction", "prediction_low", "prediction_high"):
        assert getattr(explanations, name).shape == (n,)
    for name in ("weights", "weights_low", "weights_high"):
        assert getattr(explanations, name).shape == (n, d)
    assert (explanations.prediction_low <= explanations.prediction).all()
    assert (explanations.prediction <= explanations.prediction_high).all()
    assert (explanations.weights_low <= explanations.weights).all()
    assert (explanations.weights <= explanations.weights_high).all()
    np.testing.assert_array_equal(explanations.weights[:, 0], 0.0)


def test_classes(classified, regressed):
    assert regressed.predicted_class is None
    assert regressed.explained_class is None
    assert regressed.percentiles == (10.0, 90.0)
    np.testing.assert_array_equal(classified.explained_class, 1)
    np.testing.assert_array_equal(classified.predicted_class, classified.prediction > 0.5)


def test_slices_are_explanations_of_their_rows(explanations):
    part = explanations[3:6]
    assert len(part) == 3
    np.testing.assert_array_equal(part.weights, explanations.weights[3:6])
    np.testing.assert_array_equal(part.prediction, explanations.prediction[3:6])
    assert part.rule_text(0) == explanations.rule_text(3)
    assert len(explanations[np.arange(ROWS) % 2 == 0]) == ROWS // 2
    assert str(explanations[-1]) == str(explanations[ROWS - 1])
    assert [row.row for row in explanations] == list(range(ROWS))
    with pytest.raises(IndexError):
        explanations[ROWS]
    with pytest.raises(IndexError):
        explanations.rule_text(ROWS)


def test_rules_are_the_non_zero_weights_in_order(explanations):
    rules = explanations.rules
    row, feature = np.nonzero(explanations.weights)
    np.testing.assert_array_equal(rules.row, row)
    np.testing.assert_array_equal(rules.feature, feature)
    np.testing.assert_array_equal(rules.weight, explanations.weights[row, feature])
    value = explanations.X[row, feature]
    assert ((rules.lower < value) & (value <= rules.upper)).all()
    assert (rules.support > 0).all()
    assert (rules.size == 1).all()
    assert len(rules) == sum(len(explanations.rule_text(i)) for i in range(ROWS))


def test_frame_has_a_line_per_rule(explanations):
    pytest.importorskip("pandas")
    frame = explanations.to_frame()
    columns = list(explanations.rules.to_dict())
    assert list(frame.columns) == ["row", "rule", *columns[1:]]
    assert len(frame) == len(explanations.rules)
    assert frame.loc[frame["row"] == 2, "rule"].tolist() == explanations.rule_text(2)


def test_frame_without_pandas_says_what_to_install(explanations, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match=r"pip install 'ce-parallel\[frames\]'"):
        explanations.to_frame()
    assert set(explanations.to_dict()) > {"row", "rule", "weight"}


def test_one_row_reads_well(classified, regressed):
    lines = str(classified[4]).splitlines()
    value, low, high = classified[4].prediction
    assert lines[0] == (
        f"row 4: P(class = 1) = {value:.4g} [{low:.4g}, {high:.4g}], "
        f"predicted class {classified.predicted_class[4]}"
    )
    assert lines[1].split() == ["rule", "value", "weight", "[low,", "high]"]
    weights = [abs(rule["weight"]) for rule in classified[4].rules]
    assert weights == sorted(weights, reverse=True)
    assert len(lines) == 2 + len(weights)
    assert str(regressed[0]).startswith("row 0: prediction = ")
    assert repr(regressed) == "<Explanations of 12 rows x 10 features, regression>"


def test_a_row_without_rules_says_so():
    X, y = np.ones((40, 2)), np.arange(40) % 2
    explainer = ParallelCalibratedExplainer(LogisticRegression(), random_state=0).fit(X, y)
    explanations = explainer.explain(X[:2])
    assert "no rule" in str(explanations[0])
    assert explanations.rule_text(1) == []
    assert explanations.plot(0).rules == []


def test_pickles(explanations):
    twin = pickle.loads(pickle.dumps(explanations))
    assert str(twin[0]) == str(explanations[0])
    assert twin.execution_report.strategy == explanations.execution_report.strategy


@pytest.mark.parametrize("kind", ["factual", "alternative"])
def test_categories_and_missing_values_are_named_and_not_coded(kind):
    pd = pytest.importorskip("pandas")
    rng = np.random.default_rng(0)
    X = pd.DataFrame({"size": rng.normal(size=200), "colour": rng.choice(["green", "red"], 200)})
    X.loc[::5, "size"] = np.nan
    y = (X["colour"] == "red") ^ X["size"].isna()
    estimator = HistGradientBoostingClassifier(max_iter=5, categorical_features="from_dtype")
    X["colour"] = X["colour"].astype("category")
    explanations = (
        ParallelCalibratedExplainer(estimator, random_state=0).fit(X, y).explain(X[:9], kind=kind)
    )
    table = explanations.to_frame()
    about_colour = table[table["feature"] == "colour"]
    assert len(about_colour)
    assert ("colour = " + about_colour["value"] == about_colour["rule"]).all()
    assert table[table["feature"] == "size"]["value"].isna().all()
    values = {rule["value"] for row in explanations for rule in row.rules if rule["feature"] == 1}
    assert values == {"green", "red"}
    if kind == "factual":
        assert "size is missing    missing" in repr(explanations[0])
