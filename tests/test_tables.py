"""Tables as people have them: strings, categories, missing values, whatever library they are in."""

import os
import pickle
import subprocess
import sys

import numpy as np
import pytest
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler
from sklearn.utils.validation import _get_feature_names

from ce_parallel import ParallelCalibratedExplainer, ParallelConfig
from ce_parallel.utils import Columns

pd = pytest.importorskip("pandas")

SERIAL = ParallelConfig(preferred="serial")
STRINGS = ["sex", "deck", "town"]
NUMBERS = ["age", "sibsp"]


def passengers(n=240, seed=0):
    """A pandas frame of objects, floats, ints and booleans, and who survived."""
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "sex": rng.choice(["male", "female"], n).astype(object),
            "age": np.where(rng.random(n) < 0.2, np.nan, rng.integers(1, 80, n)),
            "deck": rng.choice(np.array(["A", "B", None], object), n, p=[0.2, 0.2, 0.6]),
            "sibsp": rng.integers(0, 5, n),
            "town": rng.choice(np.array(["", " Cork ", "Lyon"], object), n),
            "alone": rng.random(n) < 0.5,
        }
    )
    odds = 2.0 * (frame["sex"] == "female") + 0.02 * frame["age"].fillna(60) - 1.5
    odds += 0.5 * frame["alone"] + (frame["deck"] == "A")
    y = np.where(rng.random(n) < 1 / (1 + np.exp(-odds)), "survived", "died")
    return frame, y


def encoded_columns(strings=(*STRINGS, "alone"), numbers=NUMBERS):
    impute = SimpleImputer(keep_empty_features=True)
    return make_pipeline(
        make_column_transformer(
            (OneHotEncoder(handle_unknown="ignore"), list(strings)),
            (make_pipeline(impute, StandardScaler()), list(numbers)),
        ),
        LogisticRegression(),
    )


def native(max_iter=10):
    return HistGradientBoostingClassifier(
        max_iter=max_iter, categorical_features="from_dtype", random_state=0
    )


MODELS = {"encoded": encoded_columns, "native": native}


def explainer(model, **parameters):
    parameters = {"cv": 3, "random_state": 0, "parallel_config": SERIAL, **parameters}
    return ParallelCalibratedExplainer(model, **parameters)


def same(one, other):
    """Equal to the last bit, and in words."""
    for name in ("prediction", "prediction_low", "prediction_high", "weights", "X"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    assert [one.rule_text(i) for i in range(len(one))] == [
        other.rule_text(i) for i in range(len(other))
    ]


def sentences(found):
    return {text for i in range(len(found)) for text in found.rule_text(i)}


# -- Polars -------------------------------------------------------------------------------------


@pytest.fixture
def pl():
    polars = pytest.importorskip("polars")
    if _get_feature_names(polars.DataFrame({"a": [1]})) is None:
        pytest.skip("this scikit-learn reads Polars by a protocol that this Polars has no longer")
    return polars


def polars_of(pl, frame, kind):
    strings = {"String": pl.String, "Categorical": pl.Categorical, "Enum": None}[kind]
    columns = []
    for name in frame:
        values = [None if pd.isna(v) else v for v in frame[name].tolist()]
        dtype = None
        if name in STRINGS:
            dtype = strings or pl.Enum(sorted({v for v in values if v is not None}))
        columns.append(pl.Series(name, values, dtype=dtype))
    return pl.DataFrame(columns)


@pytest.mark.parametrize("kind", ["factual", "alternative", "fast"])
@pytest.mark.parametrize(
    ("model", "dtype"),
    [("encoded", "String"), ("encoded", "Enum"), ("native", "Categorical"), ("native", "Enum")],
)
def test_polars_and_pandas_agree(pl, model, dtype, kind):
    frame, y = passengers()
    if dtype != "String":
        frame = frame.astype(dict.fromkeys(STRINGS, "category"))
    other = polars_of(pl, frame, dtype)
    one = explainer(MODELS[model]()).fit(frame[:200], y[:200])
    two = explainer(MODELS[model]()).fit(other[:200], y[:200])
    assert two.feature_names_in_.tolist() == list(frame)
    np.testing.assert_array_equal(one.predict_proba(frame[200:]), two.predict_proba(other[200:]))
    same(one.explain(frame[200:], kind=kind), two.explain(other[200:], kind=kind))
    one, two = (
        explainer(MODELS[model](), cv=None).fit(X[:100], y[:100]).calibrate(X[100:200], y[100:200])
        for X in (frame, other)
    )
    same(one.explain(frame[200:], kind=kind), two.explain(other[200:], kind=kind))


def test_polars_columns_come_back_as_they_were(pl):
    from datetime import date
    from decimal import Decimal

    frame = pl.DataFrame(
        {
            "f": [1.5, None, -0.0],
            "i": [1, None, 2],
            "decimal": [Decimal("1.5"), None, Decimal(2)],
            "bool": [True, None, False],
            "string": ["b", None, ""],
            "categorical": pl.Series(["b", None, "a"], dtype=pl.Categorical),
            "enum": pl.Series(["b", None, "a"], dtype=pl.Enum(["z", "b", "a"])),
            "date": [date(2026, 1, 2), None, date(2026, 1, 1)],
            "nothing": pl.Series([None] * 3, dtype=pl.Null),
        }
    )
    columns = Columns.of(frame, ["string", "categorical", "enum", "date"])
    numbers, same = columns.encode(frame)
    assert same is columns
    np.testing.assert_array_equal(numbers[0], [1.5, 1, 1.5, 1, 1, 1, 1, 1, np.nan])
    assert np.isnan(numbers[1]).all()
    numeric = ["i", "decimal", "nothing"]
    expected = frame.with_columns(pl.col(numeric).cast(pl.Float64))
    for restored in (columns, pickle.loads(pickle.dumps(columns))):
        assert restored.restore(numbers).rows() == expected.rows()
        assert restored.restore(numbers).schema == expected.schema
    one_row = pl.DataFrame([dict.fromkeys(frame.columns)])
    assert np.isnan(columns.encode(one_row)[0]).all()
    objects = np.array([frame.row(k) for k in range(3)], dtype=object)
    np.testing.assert_array_equal(columns.encode(objects)[0], numbers)


class Watched(TransformerMixin, BaseEstimator):
    """Passes frames on, and refuses what is not as it was in fit."""

    def fit(self, X, y=None):
        self.library_, self.dtypes_ = type(X), self._dtypes(X)
        return self

    def transform(self, X):
        assert type(X) is self.library_
        assert self._dtypes(X) == self.dtypes_
        return X

    def _dtypes(self, X):
        return [str(X[name].dtype) for name in X.columns if name != "sibsp"]


@pytest.mark.parametrize("library", ["pandas", "String", "Categorical", "Enum"])
def test_the_estimator_is_given_what_it_was_fitted_on(request, library):
    frame, y = passengers()
    X = frame
    if library != "pandas":
        X = polars_of(request.getfixturevalue("pl"), frame.assign(age=frame["age"] + 0.5), library)
    fitted = explainer(make_pipeline(Watched(), encoded_columns())).fit(X, y)
    assert fitted.explain(X[:3], kind="alternative").rules.row.size


class OneThread(Watched):
    """Looks how many threads Polars has in a worker."""

    def fit(self, X, y=None):
        self.pid_ = os.getpid()
        return super().fit(X)

    def transform(self, X):
        import polars

        assert os.getpid() == self.pid_ or polars.thread_pool_size() == 1
        return super().transform(X)


def test_workers_restore_polars_frames(pl):
    frame, y = passengers()
    X = polars_of(pl, frame, "Enum")
    fitted = explainer(make_pipeline(OneThread(), encoded_columns())).fit(X, y)
    expected = fitted.explain(X)
    fitted.set_params(parallel_config=ParallelConfig(preferred="processes", max_workers=2))
    same(fitted.explain(X), expected)
    assert fitted.execution_report_.strategy == "processes"


def test_one_library_in_fit_and_another_one_later(pl):
    frame, y = passengers()
    objects = frame.to_numpy(dtype=object)
    other = polars_of(pl, frame, "String")
    for X in (frame, other):
        fitted = explainer(encoded_columns()).fit(X[:200], y[:200])
        expected = fitted.explain(X[200:])
        same(fitted.explain(frame[200:]), expected)
        same(fitted.explain(other[200:]), expected)
        with pytest.warns(UserWarning, match="does not have valid feature names"):
            same(fitted.explain(objects[200:]), expected)


def test_mondrian_categories_of_a_polars_column(pl):
    frame, y = passengers()
    other = polars_of(pl, frame, "Enum")
    for mondrian in ("sex", 0, lambda X: X["sex"].to_numpy()):
        one = explainer(encoded_columns(), mondrian=mondrian).fit(frame, y)
        two = explainer(encoded_columns(), mondrian=mondrian).fit(other, y)
        same(one.explain(frame[:9]), two.explain(other[:9]))


def test_polars_needs_no_pandas_and_pandas_no_polars(pl):
    script = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("pandas", "pyarrow"):
            raise ModuleNotFoundError(name, name=name)
sys.meta_path.insert(0, Absent())
import numpy as np
import ce_parallel
from sklearn.compose import make_column_transformer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder
assert "polars" not in sys.modules
import polars as pl
X = pl.DataFrame({"s": ["a", "b", None, "a"] * 20, "x": [1, 2, 3, None] * 20})
encode = make_column_transformer((OneHotEncoder(handle_unknown="ignore"), ["s"]))
model = make_pipeline(encode, LogisticRegression())
y = np.arange(80) % 4 == 1
explainer = ce_parallel.ParallelCalibratedExplainer(model, random_state=0).fit(X, y)
print(explainer.explain(X[:1], kind="alternative").rule_text(0))
print(explainer.explain(X[:1].to_numpy().astype(object), kind="alternative").rule_text(0))
"""
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script], capture_output=True, text=True, check=False
    )
    assert run.stderr == ""
    assert run.stdout.splitlines() == ["['s = b', 's is missing']"] * 2


def test_polars_frames_that_are_refused(pl):
    from datetime import date

    y = [0, 1] * 10
    X = pl.DataFrame({"d": [date(2026, 1, 1)] * 20, "l": [[1]] * 20, "s": ["a"] * 20})
    with pytest.raises(ValueError, match=r"Got 'd' \(Date\), 'l' \(List\(Int64\)\)\. Encode"):
        explainer(native()).fit(X, y)
    with pytest.raises(TypeError, match="Got a LazyFrame: call its collect"):
        explainer(native()).fit(X.lazy(), y)
    frame, y = passengers()
    fitted = explainer(encoded_columns()).fit(polars_of(pl, frame, "String"), y)
    query = frame[:2].assign(sex=pd.Series([1, "male"], dtype=object))
    with pytest.raises(
        ValueError, match=r"'sex' must hold values as in fit \(String\)\. Got \[1\]"
    ):
        fitted.explain(query)


# -- dtypes of pandas ---------------------------------------------------------------------------


def nullable(frame):
    return frame.astype(
        {"age": "Float64", "sibsp": "Int64", "alone": "boolean"} | dict.fromkeys(STRINGS, "string")
    )


def arrow(frame):
    pa = pytest.importorskip("pyarrow")
    kinds = {"age": pa.float64(), "sibsp": pa.int64(), "alone": pa.bool_()}
    kinds |= dict.fromkeys(STRINGS, pa.string())
    return frame.astype({name: pd.ArrowDtype(kind) for name, kind in kinds.items()})


@pytest.mark.parametrize("backend", [nullable, arrow])
@pytest.mark.parametrize("model", MODELS)
def test_nullable_and_arrow_dtypes_agree_with_those_of_numpy(model, backend):
    frame, y = passengers()
    frame["deck"] = frame["deck"].fillna("?")  # scikit-learn's encoders refuse NA among strings
    other = backend(frame)
    if model == "native":  # it understands categories, and booleans as numbers
        as_category = dict.fromkeys(STRINGS, "category")
        frame, other = frame.astype(as_category), other.astype(as_category)
    for cv in (3, None):
        one, two = explainer(MODELS[model](), cv=cv), explainer(MODELS[model](), cv=cv)
        one.fit(frame[:100], y[:100])
        two.fit(other[:100], y[:100])
        if cv is None:
            one.calibrate(frame[100:200], y[100:200])
            two.calibrate(other[100:200], y[100:200])
        for kind in ("factual", "alternative"):
            same(one.explain(frame[200:], kind=kind), two.explain(other[200:], kind=kind))


def test_missing_integers_and_booleans():
    frame, y = passengers()
    frame = frame[["age", "sibsp", "alone"]].astype({"sibsp": "Int64", "alone": "boolean"})
    frame.loc[::7, "sibsp"] = pd.NA
    frame.loc[::5, "alone"] = pd.NA
    fitted = explainer(native()).fit(frame, y)
    rules = fitted.explain(frame[:36], kind="alternative")
    text = sentences(rules)
    assert {"sibsp is missing", "alone is missing", "alone = False", "alone = True"} <= text


# -- what is refused ----------------------------------------------------------------------------


N = 20
REFUSED = {
    "dates": (pd.date_range("2026-01-01", periods=N), r"'x' \(datetime64"),
    "durations": (pd.to_timedelta(np.arange(N), unit="D"), r"'x' \(timedelta64"),
    "periods": (pd.period_range("2026-01", periods=N, freq="M"), r"'x' \(period"),
    "date objects": (
        pd.Series(pd.date_range("2026-01-01", periods=N).date, dtype=object),
        r"'x' \(object\)",
    ),
    "complex": (np.arange(N) * 1j, r"'x' \(complex128\)"),
    "lists": (pd.Series([[k] for k in range(N)]), "Column 'x' holds values that are no categories"),
    "dicts": (pd.Series([{"a": k} for k in range(N)]), "'x' holds values that are no categories"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_columns_that_hold_neither_numbers_nor_categories(case):
    column, message = REFUSED[case]
    frame = pd.DataFrame({"a": np.arange(float(N)), "x": column})
    with pytest.raises(ValueError, match=message) as caught:
        explainer(native()).fit(frame, [0, 1] * (N // 2))
    assert "before they reach" in str(caught.value) or "before it reaches" in str(caught.value)


def test_strings_and_numbers_in_one_column_are_categories():
    frame, y = passengers()
    frame["deck"] = np.where(frame["sex"] == "male", frame["sibsp"].astype(object), "none")
    model = make_pipeline(
        make_column_transformer((AsText(), ["deck"])), OneHotEncoder(), LogisticRegression()
    )
    rules = explainer(model).fit(frame, y).explain(frame[:30])
    text = sentences(rules)
    assert "deck = none" in text
    assert text & {f"deck = {k}" for k in range(5)}


class AsText(TransformerMixin, BaseEstimator):
    def fit(self, X, y=None):
        self.fitted_ = True
        return self

    def transform(self, X):
        return X.astype(str)


def test_what_an_encoder_refuses_is_its_own_error():
    frame, y = passengers()
    model = make_pipeline(
        make_column_transformer((OneHotEncoder(handle_unknown="error"), ["sex"])),
        LogisticRegression(),
    )
    fitted = explainer(model).fit(frame, y)
    with pytest.raises(ValueError, match="Found unknown categories"):
        fitted.explain(frame[:2].assign(sex="other"))


# -- categories never seen ----------------------------------------------------------------------


def ordinal():
    encoder = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)
    return make_pipeline(
        make_column_transformer(
            (encoder, ["sex", "deck", "town", "alone"]), (SimpleImputer(), NUMBERS)
        ),
        HistGradientBoostingClassifier(max_iter=10, random_state=0),
    )


@pytest.mark.parametrize("model", [encoded_columns, ordinal, native])
def test_a_category_never_seen(model):
    frame, y = passengers()
    if model is native:
        frame = frame.astype(dict.fromkeys(STRINGS, "category"))
    fitted = explainer(model(), cv=None).fit(frame[:100], y[:100])
    fitted.calibrate(frame[100:], y[100:])
    query = frame[:3].astype({"sex": object})
    query["sex"] = ["other", "male", "new"]
    if model is native:
        query = query.astype({"sex": "category"})
    factual, alternative = fitted.explain(query), fitted.explain(query, kind="alternative")
    rules = factual.rules
    for row, value in ((0, "other"), (2, "new")):
        (rule,) = np.flatnonzero((rules.row == row) & (rules.feature == 0))
        assert f"sex = {value}" in factual.rule_text(row)
        assert rules.support[rule] == 0
        assert factual.to_dict()["value"][rule] == value
        offered = [text for text in alternative.rule_text(row) if text.startswith("sex")]
        assert offered
        assert set(offered) <= {"sex = female", "sex = male"}  # unless nothing would change
        assert len(offered) == 2 or model is not encoded_columns
    # Of row 1 nothing changes because its neighbours are strange.
    same(fitted.explain(query[1:2]), factual[1:2])
    if model is native:  # an unseen category reads as missing
        gone = query.assign(sex=query["sex"].cat.remove_categories(["other", "new"]))
        np.testing.assert_array_equal(fitted.predict_proba(query), fitted.predict_proba(gone))


@pytest.mark.parametrize("dtype", ["String", "Categorical", "Enum"])
def test_a_category_never_seen_in_polars(pl, dtype):
    frame, y = passengers()
    query = frame[:3].assign(sex=["other", "male", "new"])
    fitted = explainer(encoded_columns()).fit(polars_of(pl, frame, dtype), y)
    expected = explainer(encoded_columns()).fit(frame, y).explain(query)
    assert "sex = new" in expected.rule_text(2)
    for other in ("String", "Categorical", "Enum"):
        same(fitted.explain(polars_of(pl, query, other)), expected)
    if dtype == "Enum":
        fitted = explainer(native()).fit(polars_of(pl, frame, dtype), y)
        gone = polars_of(pl, query.assign(sex=[None, "male", None]), dtype)
        np.testing.assert_array_equal(
            fitted.predict_proba(polars_of(pl, query, dtype)), fitted.predict_proba(gone)
        )


# -- columns ------------------------------------------------------------------------------------


def test_names_that_are_no_strings_or_occur_twice():
    frame, y = passengers()
    X = frame[NUMBERS].to_numpy()
    expected = explainer(native()).fit(X, y).explain(X[:9])
    frame = pd.DataFrame(X, columns=[7, 8])
    same(explainer(native()).fit(frame, y).explain(frame[:9]), expected)
    with pytest.raises(ValueError, match=r"names that differ\. Got 'a' more than once"):
        explainer(native()).fit(pd.DataFrame(X, columns=["a", "a"]), y)
    with pytest.raises(TypeError, match="only supported if all input features have string names"):
        explainer(native()).fit(pd.DataFrame(X, columns=["a", 1]), y)


def test_other_columns_than_in_fit():
    frame, y = passengers()
    fitted = explainer(encoded_columns()).fit(frame, y)
    for query, message in (
        (frame[frame.columns[::-1]], "must be in the same order"),
        (frame.assign(more=1), "unseen at fit time:\n- more"),
        (frame.drop(columns="sex"), "seen at fit time, yet now missing:\n- sex"),
    ):
        with pytest.raises(ValueError, match=message):
            fitted.explain(query[:2])


def test_columns_in_which_little_happens():
    frame, y = passengers()
    unused = pd.Categorical(frame["town"], categories=["z", "Lyon", " Cork ", "", "a" * 500])
    frame = frame.assign(
        town=unused,
        size=pd.Categorical(frame["sibsp"], ordered=True),
        nothing=np.nan,
        constant=1.5,
        alone=frame["alone"].astype(object).where(frame["sibsp"] > 0, None),
    )
    script = "<script>alert(1)</script>"
    frame = frame.rename(columns={"age": script})
    model = encoded_columns(
        ["sex", "deck", "alone", "town", "size"], [script, "sibsp", "nothing", "constant"]
    )
    found = explainer(model).fit(frame, y).explain(frame, kind="alternative")
    text = sentences(found)
    assert {"town = ", "town =  Cork ", "alone is missing", "alone = True"} <= text
    assert any(rule.startswith("<script>alert(1)</script> <= ") for rule in text)
    assert {rule for rule in text if rule.startswith("size")} <= {f"size = {k}" for k in range(5)}
    assert not {rule for rule in text if rule.startswith(("town = z", "constant", "nothing"))}


def test_a_name_of_rows_is_left_out_with_one_warning():
    frame, y = passengers()
    frame["ticket"] = [f"T{k}" for k in range(len(frame))]
    with pytest.warns(UserWarning, match="No rules on 'ticket'") as caught:
        fitted = explainer(encoded_columns()).fit(frame, y)
    assert len(caught) == 1
    assert not np.isin(fitted.explain(frame[:9]).rules.feature, [6]).any()


def test_numbers_that_name_categories():
    frame, y = passengers()
    X = frame[["sibsp", "age"]]
    found = explainer(native(), categorical_features=["sibsp"]).fit(X, y).explain(X[:30])
    text = sentences(found)
    assert text & {f"sibsp = {k}.0" for k in range(5)}
    assert "age is missing" in text


def test_rules_read_like_sentences_about_the_table():
    frame, y = passengers(600)
    model = encoded_columns()
    fitted = explainer(model).fit(frame, y)
    found = fitted.explain(frame[:60])
    text = sentences(found)
    assert {"sex = female", "sex = male", "deck = A", "deck is missing", "age is missing"} <= text
    i = int(np.flatnonzero(frame["sex"][:60] == "female")[0])
    assert "sex = female" in repr(found[i])


def test_regression_on_a_table():
    frame, _ = passengers()
    y = 3 * frame["sibsp"] + (frame["sex"] == "male") + np.arange(len(frame)) / 300
    X = frame.astype(dict.fromkeys(STRINGS, "category"))
    model = HistGradientBoostingRegressor(categorical_features="from_dtype", max_iter=20)
    found = explainer(model).fit(X[:200], y[:200]).explain(X[200:], threshold=6.0)
    assert any(rule.startswith("sibsp") for rule in found.rule_text(0))
    assert ((found.prediction_low <= found.prediction) & (found.prediction <= 1)).all()


def test_selectors_by_dtype_choose_the_same_columns_of_a_perturbed_block():
    frame, y = passengers()
    model = make_pipeline(
        make_column_transformer(
            (OneHotEncoder(handle_unknown="ignore"), make_column_selector(dtype_exclude="number")),
            remainder=make_pipeline(SimpleImputer(), StandardScaler()),
        ),
        LogisticRegression(),
    )
    expected = explainer(encoded_columns()).fit(frame, y).explain(frame[:5])
    same(explainer(model).fit(frame, y).explain(frame[:5]), expected)


# -- many rows ----------------------------------------------------------------------------------

MANY = """
import resource, sys
import numpy as np
sys.path.insert(0, sys.argv[1])
from tests.test_tables import ParallelConfig, encoded_columns, explainer, passengers

frame, y = passengers(30_000)
many = np.array([f"region {k}" for k in range(30)], dtype=object)
frame["region"] = many[np.arange(len(frame)) % 30]
config = ParallelConfig(preferred="serial", memory_budget_bytes=16 * 2**20)
model = encoded_columns(strings=("sex", "deck", "town", "alone", "region"))
fitted = explainer(model, parallel_config=config, verbose=1).fit(frame[-1000:], y[-1000:])
fitted.explain(frame[:2000], kind="alternative")  # what one tile takes is taken
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
found = fitted.explain(frame, kind="alternative")
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
output = sum(a.nbytes for a in vars(found).values() if isinstance(a, np.ndarray))
print(peak * 1024, output, len(found), found.execution_report.n_tasks)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in KiB on Linux")
def test_thirty_thousand_rows_in_bounded_memory(pytestconfig):
    run = subprocess.run(
        [sys.executable, "-c", MANY, str(pytestconfig.rootpath)],
        capture_output=True,
        text=True,
        check=True,
    )
    peak, output, n, n_tasks = map(int, run.stdout.split())
    assert n == 30_000
    assert n_tasks > 20
    assert "explain" in run.stderr  # progress
    assert peak < output + 16 * 2**20, (peak, output)
