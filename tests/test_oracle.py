"""Whole explanations against plain loops: every kind, on frames and arrays of mixed columns."""

import functools

import numpy as np
import pytest
from sklearn.compose import make_column_transformer
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from ce_parallel import ParallelCalibratedExplainer
from tests import oracle

EXACT = {"rtol": 0, "atol": 1e-12}
SEED = 3

pd = pytest.importorskip("pandas")

# The categories of each categorical column of `mixed`, in the order of its rules.
CATEGORIES = {
    1: ["blue", "green", "red"],
    2: ["low", "mid", "high"],  # the order of the dtype
    3: [False, True],
    5: [1.0, 2.0, 4.0],  # the three most frequent ones of five
}


def mixed(n, seed, kind):
    """Rows with numbers, strings, ordered categories, bools, counts and codes; and targets."""
    rng = np.random.default_rng(seed)
    number = rng.normal(size=n)
    colour = rng.choice(["red", "green", "blue"], n).astype(object)
    grade = rng.choice(["low", "mid", "high"], n)
    flag = rng.random(n) < 0.5
    count = rng.integers(0, 30, n)
    code = rng.choice([1.0, 2.0, 4.0, 5.0, 9.0], n, p=[0.3, 0.3, 0.25, 0.1, 0.05])
    signal = number + (colour == "red") - (grade == "low") + flag + count / 15 + (code == 2)
    signal += 0.5 * rng.normal(size=n)
    number[rng.random(n) < 0.2] = np.nan
    colour[rng.random(n) < 0.15] = None
    X = pd.DataFrame(
        {
            "number": number,
            "colour": colour,
            "grade": pd.Categorical(grade, ["low", "mid", "high"]),
            "flag": flag,
            "count": count,
            "code": code,
            "constant": 1.0,
        }
    )
    X.loc[rng.random(n) < 0.15, "grade"] = np.nan
    edges = {"2": [2.0], "3": [1.2, 2.7]}
    return X, signal if kind == "regression" else np.digitize(signal, edges[kind])


def query(n, kind):
    X = mixed(n, 2, kind)[0]
    X.loc[0, ["number", "colour", "grade"]] = np.nan, None, np.nan
    X.loc[1, "colour"] = "violet"  # seen by nobody
    X.loc[2, "code"] = 9.0  # not among the most frequent
    return X


def model(kind):
    forest = RandomForestRegressor if kind == "regression" else RandomForestClassifier
    encoder = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    columns = make_column_transformer(
        (encoder, ["colour", "grade", "flag"]), remainder="passthrough"
    )
    return make_pipeline(columns, forest(12, min_samples_leaf=2, random_state=0))


class Slow:
    """A fitted model, calibrated and explained by plain loops."""

    def __init__(self, model, X, y, bins=None, categories=CATEGORIES):
        self.model, self.X, self.y = model, X, y
        self.categories = categories
        self.classification = hasattr(model, "predict_proba")
        self.scores = self.score(X)
        self.bins = np.zeros(len(y), dtype=int) if bins is None else np.asarray(bins)
        self.memory = {}

    def score(self, rows):
        return self.model.predict_proba(rows) if self.classification else self.model.predict(rows)

    def calibrated(self, score, category, **options):
        """(value, low, high) of each class, or of the one quantity of a regression."""
        key = np.asarray(score).tobytes(), category, tuple(options.items())
        if key not in self.memory:
            self.memory[key] = self._calibrated(score, category, **options)
        return self.memory[key]

    def _calibrated(self, score, category, event=None, percentiles=(5, 95)):
        here = self.bins == category
        if self.classification:
            return oracle.class_probabilities(self.scores[here], self.y[here], score)
        if event is None:
            residuals = self.y[here] - self.scores[here]
            return [oracle.interval(residuals, score, percentiles)]
        n = len(self.y)
        order = np.random.default_rng(SEED).permutation(n)
        parts = [[i for i in half if here[i]] for half in (order[: n // 2], order[n // 2 :])]
        return [oracle.event_probability(self.scores, self.y, parts, score, *event)]

    def edges(self, depth):
        every = [
            [one[0] for one in self.calibrated(score, category)]
            for score, category in zip(self.scores, self.bins, strict=True)
        ]
        target = np.array(every)[:, 0]
        if self.classification and len(every[0]) == 2:
            target = np.array([one >= 0.5 for _, one in every])
        elif self.classification:
            target = np.array([np.argmax(values) for values in every])
        return [
            oracle.cuts(
                oracle.column_list(self.X, f),
                target,
                classification=self.classification,
                depth=depth,
            )
            if f not in self.categories
            else []
            for f in range(self.X.shape[1])
        ]

    def explain(self, X, kind, *, classes=None, bins=None, events=None, percentiles=(5, 95)):
        """Explain the classes given per row, by default the predicted one of several."""

        def predict(rows, i):
            category = 0 if bins is None else bins[i]
            options = {} if self.classification else {"percentiles": percentiles}
            if events is not None:
                options = {"event": events[i]}
            found = [self.calibrated(score, category, **options) for score in self.score(rows)]
            return [every[explained[i]] for every in found]

        explained = classes
        if explained is None:
            category = np.zeros(len(X), dtype=int) if bins is None else bins
            values = [
                [value for value, _, _ in self.calibrated(score, c)]
                for score, c in zip(self.score(X), category, strict=True)
            ]
            n_classes = len(values[0])
            explained = [np.argmax(v) if n_classes > 2 else n_classes - 1 for v in values]
        return oracle.explain(
            predict,
            X,
            self.X,
            self.edges({"factual": 1, "alternative": 3}[kind]),
            kind=kind,
            categories=self.categories,
        )


def check(explanations, expected):
    base, weights, rules = expected
    found = explanations
    np.testing.assert_allclose(
        [found.prediction, found.prediction_low, found.prediction_high], base, **EXACT
    )
    np.testing.assert_allclose(
        [found.weights, found.weights_low, found.weights_high], weights, **EXACT
    )
    table = found.rules
    assert len(table) == len(rules) > 0
    row, feature, lower, upper, category, *numbers, support = zip(*rules, strict=True)
    assert table.row.tolist() == list(row)
    assert table.feature.tolist() == list(feature)
    np.testing.assert_array_equal(table.lower, lower)
    np.testing.assert_array_equal(table.upper, upper)
    values = [found.columns.category(f, v) for f, v in zip(feature, table.value, strict=True)]
    assert list(map(str, values)) == list(map(str, category))
    names = ("prediction", "low", "high", "weight", "weight_low", "weight_high")
    for name, expected_column in zip(names, numbers, strict=True):
        np.testing.assert_allclose(getattr(table, name), expected_column, err_msg=name, **EXACT)
    assert table.support.tolist() == list(support)


@functools.cache
def both(task, bins=None):
    """Ours and the slow one, around the same model and calibration rows; and a query."""
    fitted = model(task).fit(*mixed(150, 0, task))
    X_cal, y_cal = mixed(90, 1, task)
    categories = None if bins is None else bins(X_cal)
    ours = ParallelCalibratedExplainer(
        FrozenEstimator(fitted),
        cv=None,
        categorical_features=["colour", "grade", "flag", "code"],
        max_categories=3,
        random_state=SEED,
    ).calibrate(X_cal, y_cal, mondrian=categories)
    return ours, Slow(fitted, X_cal, y_cal, categories), query(6, task)


@pytest.fixture(params=["factual", "alternative"])
def kind(request):
    return request.param


@pytest.mark.parametrize("task", ["2", "3", "regression"])
def test_the_usual_explanation(task, kind):
    ours, slow, X = both(task)
    check(ours.explain(X, kind=kind), slow.explain(X, kind))


@pytest.mark.parametrize("task", ["2", "3", "regression"])
def test_arrays(task, kind):
    def numbers(rows):
        return rows[["number", "code", "count", "constant"]].to_numpy(dtype=float)

    forest = model(task)[-1].fit(numbers(mixed(150, 0, task)[0]), mixed(150, 0, task)[1])
    X, y = mixed(90, 1, task)
    X, query_rows = numbers(X), numbers(query(6, task))
    X[::7, 1] = np.nan  # a missing code is one more category
    ours = ParallelCalibratedExplainer(
        FrozenEstimator(forest), cv=None, categorical_features=[1], max_categories=3
    ).calibrate(X, y)
    slow = Slow(forest, X, y, categories={1: CATEGORIES[5]})
    check(ours.explain(query_rows, kind=kind), slow.explain(query_rows, kind))


@pytest.mark.parametrize("task", ["2", "3"])
def test_a_class_per_row(task, kind):
    ours, slow, X = both(task)
    labels = np.arange(len(X)) % int(task)
    check(ours.explain(X, kind=kind, labels=labels), slow.explain(X, kind, classes=labels))


def test_every_class(kind):
    ours, slow, X = both("3")
    every = ours.explain(X, kind=kind, labels="all")
    assert every.explained_class.tolist() == [0, 1, 2] * len(X)
    for c in range(3):
        check(every[c::3], slow.explain(X, kind, classes=[c] * len(X)))


def test_another_interval(kind):
    ours, slow, X = both("regression")
    check(
        ours.explain(X, kind=kind, percentiles=(20, 70)),
        slow.explain(X, kind, percentiles=(20, 70)),
    )


def test_an_event_per_row(kind):
    ours, slow, X = both("regression")
    events = [(-np.inf, 1.0), (0.5, 2.5), (-np.inf, 2.0), (1.0, 3.0), (0.5, 2.5), (-np.inf, 1.0)]
    check(ours.explain(X, kind=kind, threshold=events), slow.explain(X, kind, events=events))


def bins(X):
    return (X["count"].to_numpy() > 14).astype(int)


@pytest.mark.parametrize("task", ["2", "3", "regression", "event"])
def test_mondrian_categories(task, kind):
    ours, slow, X = both("regression" if task == "event" else task, bins=bins)
    options, theirs = {}, {}
    if task == "event":
        options, theirs = {"threshold": 2.0}, {"events": [(-np.inf, 2.0)] * len(X)}
    check(
        ours.explain(X, kind=kind, mondrian=bins(X), **options),
        slow.explain(X, kind, bins=bins(X), **theirs),
    )


def test_a_row_names_its_event_and_its_categories():
    ours, _, X = both("regression")
    events = [(-np.inf, 1.0), (0.5, 2.0), *[(-np.inf, 0.001)] * 4]
    explained = ours.explain(X, kind="factual", threshold=events)
    starts = [explained[i].headline.split(" = ")[0] for i in range(3)]
    assert starts == ["P(y <= 1)", "P(0.5 < y <= 2)", "P(y <= 0.001)"]
    lines = [(i, line.split()) for i in range(1, 6) for line in str(explained[i]).splitlines()]
    shown = [(i, words[3]) for i, words in lines if words[:2] == ["grade", "="]]
    assert shown  # the category, and not the number that stands for it
    assert shown == [(i, str(X["grade"][i])) for i, _ in shown]
