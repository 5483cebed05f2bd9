"""A frame becomes numbers and comes back as it was, whatever its columns hold."""

import importlib.util
import pickle

import numpy as np
import pytest

from ce_parallel.utils import Columns

pd = pytest.importorskip("pandas")

NA, NAN = pd.NA, np.nan
DAYS = pd.to_datetime(["2026-01-02", "2026-01-01", "2026-01-02", None])

# Columns that come back exactly as they were.
EXACT = {
    "float": pd.Series([1.5, NAN, -0.0, 2.0]),
    "bool": pd.Series([True, False, True, True]),
    "one bool": pd.Series([True, True, True, True]),
    "nullable bool": pd.Series([True, NA, False, True], dtype="boolean"),
    "bool and NaN": pd.Series([True, NAN, False, True], dtype=object),
    "bool and None": pd.Series([True, None, False, True], dtype=object),
    "object": pd.Series(["b", "a", None, "b"], dtype=object),
    "object and NA": pd.Series(["b", "a", NA, "b"], dtype=object),
    "mixed": pd.Series(["b", 2, None, (1, 2)], dtype=object),
    "no missing": pd.Series(["b", "a", "c", "b"], dtype=object),
    "all missing object": pd.Series([None] * 4, dtype=object),
    "all missing float": pd.Series([NAN] * 4),
    "all missing category": pd.Series([NAN] * 4, dtype="category"),
    "string": pd.Series(["b", "a", NA, "b"], dtype="string"),
    "default string": pd.Series(["b", "a", None, "b"]),
    "category": pd.Series(["b", "a", None, "b"], dtype="category"),
    "unused": pd.Series(pd.Categorical(["b", "a", None, "b"], categories=["c", "b", "z", "a"])),
    "ordered": pd.Series(pd.Categorical(list("lhlm"), categories=list("lmh"), ordered=True)),
    "numbers as categories": pd.Series([30, 10, 10, 20], dtype="category"),
    "intervals": pd.cut(pd.Series([1.0, 5.0, 9.0, NAN]), [0, 4, 8, 12]),
    "days as categories": pd.Series(DAYS).astype("category"),
}
if importlib.util.find_spec("pyarrow") is not None:
    import pyarrow

    EXACT["arrow string"] = pd.Series(["b", "a", None, "b"], dtype=pd.ArrowDtype(pyarrow.string()))
    EXACT["arrow categories"] = pd.Series(
        ["b", "a", None, "b"],
        dtype=pd.ArrowDtype(pyarrow.dictionary(pyarrow.int32(), pyarrow.string())),
    )
    EXACT["arrow bool"] = pd.Series([True, None, False, True], dtype=pd.ArrowDtype(pyarrow.bool_()))
# Numbers become float64.
AS_FLOAT = {
    "int": pd.Series([3, 1, 2, 3]),
    "float32": pd.Series([1.5, NAN, 2, 3], dtype=np.float32),
    "Int64": pd.Series([3, NA, 2, 3], dtype="Int64"),
    "Float64": pd.Series([3.5, NA, 2, 3], dtype="Float64"),
}


def fitted(frame, categorical_features="from_dtype"):
    columns = Columns.of(frame, categorical_features)
    numbers, same = columns.encode(frame)
    assert same is columns  # nothing to learn from what it was made of
    assert numbers.dtype == np.float64
    return columns, numbers


def same_column(one, other):
    """Equal to the type of each value: None is not NaN."""
    pd.testing.assert_series_equal(one, other, check_exact=True)
    assert [type(v) for v in one] == [type(v) for v in other]


@pytest.mark.parametrize("name", EXACT)
def test_round_trip(name):
    frame = pd.DataFrame({"before": [1.0, 2, 3, 4], name: EXACT[name], "after": 0.5})
    kept = frame.copy()
    columns, numbers = fitted(frame)
    block = numbers.copy()
    restored = columns.restore(block)
    np.testing.assert_array_equal(block, numbers)
    for column in frame:
        same_column(restored[column], frame[column])
    np.testing.assert_array_equal(np.isnan(numbers[:, 1]), frame[name].isna())
    pd.testing.assert_frame_equal(frame, kept)
    again = pickle.loads(pickle.dumps(columns)).restore(numbers)
    pd.testing.assert_frame_equal(again, restored)


@pytest.mark.parametrize("name", AS_FLOAT)
def test_numbers_become_float64(name):
    frame = pd.DataFrame({"x": AS_FLOAT[name]})
    columns, numbers = fitted(frame)
    restored = columns.restore(numbers)
    assert restored["x"].dtype == np.float64
    np.testing.assert_array_equal(restored["x"], AS_FLOAT[name].to_numpy(float, na_value=NAN))
    assert columns.categorical == ()


@pytest.mark.parametrize("names", [[0, 1, 2, 3], [("a", 1), ("a", 2), ("b", 1), None]])
def test_names_may_be_anything(names):
    frame = pd.concat([EXACT[c] for c in ("float", "bool", "object", "category")], axis=1)
    frame.columns = pd.Index(names, tupleize_cols=False)
    columns, numbers = fitted(frame)
    pd.testing.assert_frame_equal(columns.restore(numbers), frame)
    assert columns.categorical == (1, 2, 3)


def test_every_column_at_once_and_in_any_order_of_rows():
    frame = pd.DataFrame({**EXACT, **AS_FLOAT})
    columns, numbers = fitted(frame)
    backwards, same = columns.encode(frame[::-1])
    assert same is columns
    np.testing.assert_array_equal(backwards, numbers[::-1])
    restored = columns.restore(backwards)
    pd.testing.assert_frame_equal(
        restored[list(EXACT)], frame[list(EXACT)][::-1].reset_index(drop=True)
    )


def test_codes_ascend_whatever_the_order_of_rows():
    for values in (["b", "a", "c"], ["c", "b", "a"]):
        columns = Columns.of(pd.DataFrame({"x": pd.Series(values, dtype=object)}), "from_dtype")
        assert [columns.category(0, k) for k in range(3)] == ["a", "b", "c"]
    columns = Columns.of(pd.DataFrame({"x": EXACT["unused"]}), "from_dtype")
    assert [columns.category(0, k) for k in range(4)] == ["c", "b", "z", "a"]  # the dtype's order
    assert np.isnan(columns.category(0, NAN))


UNSEEN = {
    "bool": (pd.Series([True, "maybe", None], dtype=object), 2),
    "nullable bool": (pd.Series([True, "maybe", None], dtype=object), 2),
    "object": (pd.Series(["new", "a", None], dtype=object), 2),
    "string": (pd.Series(["new", "a", NA], dtype="string"), 2),
    "category": (pd.Series(["new", "a", None], dtype="category"), 2),
    "ordered": (pd.Series(["new", "h", None], dtype="category"), 3),
    "numbers as categories": (pd.Series([15, 10, None], dtype="category"), 3),
    "days as categories": (pd.Series(pd.to_datetime(["2020-01-01", "2026-01-01", None])), 2),
    "intervals": (pd.Series(["new", pd.Interval(0, 4), None], dtype=object), 3),
}


@pytest.mark.parametrize("name", UNSEEN)
def test_values_never_seen_keep_their_identity(name):
    columns, numbers = fitted(pd.DataFrame({"x": EXACT[name]}))
    query, n_known = UNSEEN[name]
    codes, wider = columns.encode(pd.DataFrame({"x": query}))
    assert np.isnan(codes[2, 0])
    assert sorted(codes[:2, 0])[1] == n_known
    restored = wider.restore(codes)["x"]
    assert restored[:2].tolist() == query[:2].tolist()
    assert restored.isna().tolist() == [False, False, True]
    assert [wider.category(0, code) for code in codes[:2, 0]] == query[:2].tolist()
    # What was known stays what it was, and is still restored.
    old = wider.restore(numbers)["x"]
    assert old.dropna().tolist() == EXACT[name].dropna().tolist()
    if "categories" in dir(EXACT[name].dtype):
        assert old.dtype.ordered == EXACT[name].dtype.ordered
        assert old.dtype.categories[:n_known].tolist() == EXACT[name].dtype.categories.tolist()
    again, same = wider.encode(pd.DataFrame({"x": query}))
    assert same is wider
    np.testing.assert_array_equal(again, codes)


@pytest.mark.parametrize("dtype", [object, "string", "category"])
def test_another_dtype_of_the_same_values_is_restored_as_in_fit(dtype):
    columns, _ = fitted(pd.DataFrame({"x": EXACT["unused"]}))
    codes, same = columns.encode(pd.DataFrame({"x": pd.Series(["z", "b"], dtype=dtype)}))
    assert same is columns
    assert codes.ravel().tolist() == [2, 1]
    assert columns.restore(codes)["x"].dtype == EXACT["unused"].dtype


def test_dates_may_be_listed_as_categories():
    frame = pd.DataFrame({"d": DAYS})
    columns, numbers = fitted(frame, ["d"])
    np.testing.assert_array_equal(numbers.ravel(), [1, 0, 1, NAN])
    pd.testing.assert_frame_equal(columns.restore(numbers), frame)


def test_an_array_of_objects_stands_for_a_frame():
    frame = pd.DataFrame({"x": [1.0, 2.0], "y": pd.Series(["a", "b"], dtype=object)})
    columns, numbers = fitted(frame)
    np.testing.assert_array_equal(columns.encode(frame.to_numpy())[0], numbers)


def test_a_missing_boolean_that_fit_did_not_know():
    columns, _ = fitted(pd.DataFrame({"x": EXACT["bool"]}))
    codes, same = columns.encode(pd.DataFrame({"x": pd.Series([True, NA], dtype="boolean")}))
    assert same is columns
    assert columns.restore(codes[:1])["x"].dtype == np.dtype(bool)
    assert columns.restore(codes)["x"].tolist()[0] is True
    assert columns.restore(codes)["x"].isna().tolist() == [False, True]


@pytest.mark.parametrize(
    "which", [["s", "n"], [3, 1], [-1, 1], [False, True, False, True], np.array([1, 3])]
)
def test_categorical_features_by_name_index_and_mask(which):
    frame = pd.DataFrame(
        {"x": [1.0, 2.0], "n": [7, 3], "b": [True, False], "s": pd.Series(list("ba"), dtype=object)}
    )
    columns, numbers = fitted(frame, which)
    assert columns.categorical == (1, 3)
    assert numbers[:, 1].tolist() == [7, 3]  # numbers stay what they are
    assert columns.category(1, 7.0) == 7.0
    assert columns.category(3, 1.0) == "b"
    assert columns.restore(numbers).dtypes.astype(str).tolist()[1:3] == ["float64", "bool"]


def test_arrays_are_numbers_already():
    X = np.array([[1.0, 30], [2, 10], [NAN, NAN]])
    for which, expected in [(None, ()), ("from_dtype", ()), ([1], (1,)), (["x1"], (1,))]:
        columns = Columns.of(X, which)
        numbers, same = columns.encode(X.tolist())
        assert same is columns
        assert columns.categorical == expected
        np.testing.assert_array_equal(numbers, X)
        assert columns.restore(numbers) is numbers


def test_one_row_without_a_number():
    columns, _ = fitted(pd.DataFrame({"age": [1.0, 2.0], "s": EXACT["string"][:2]}))
    numbers, same = columns.encode(pd.DataFrame([{"age": None, "s": "a"}]))
    assert same is columns
    np.testing.assert_array_equal(numbers, [[NAN, 0]])


def test_encoding_copies():
    for X in (np.ones((3, 2)), pd.DataFrame(np.ones((3, 2)))):
        numbers, _ = Columns.of(X).encode(X)
        assert not np.shares_memory(numbers, np.asarray(X))


REFUSED = {
    "a string that is not categorical": (None, r"Got 's' \(.*\), 'd' \(datetime64.*\)\. Encode"),
    "dates are no categories by themselves": ("from_dtype", r"Got 'd' \(datetime64.*\)\. Encode"),
    "a word": ("dtype", r"must be 'from_dtype', None, or hold names.*Got 'dtype'"),
    "an unknown name": (["s", "z"], r"categorical_features names \['z'\]. Known are \['s', 'd'\]"),
    "an index": ([5], r"categorical_features must hold .* indices below 2. Got \[5\]"),
    "a mask": ([True], r"A mask in categorical_features must have shape \(2,\)"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case):
    which, message = REFUSED[case]
    frame = pd.DataFrame({"s": ["a", "b"], "d": DAYS[:2]})
    with pytest.raises(ValueError, match=message):
        Columns.of(frame, which)


def test_values_that_cannot_be_told_apart_are_refused():
    frame = pd.DataFrame({"tags": [["a"], ["b"]]})
    with pytest.raises(ValueError, match=r"Column 'tags' holds values that are no categories: unh"):
        Columns.of(frame, "from_dtype")


@pytest.mark.parametrize("values", [["1", "2"], pd.to_datetime([None, None])])
def test_a_numeric_column_that_comes_as_another_kind_is_refused(values):
    columns = Columns.of(pd.DataFrame({"x": [1.0, 2.0]}))
    with pytest.raises(ValueError, match=r"Got 'x' \(.*\)\. Encode"):
        columns.encode(pd.DataFrame({"x": values}))


@pytest.mark.parametrize("dtype", [object, "string", "category"])
def test_a_numeric_column_without_values_may_have_another_dtype(dtype):
    columns = Columns.of(pd.DataFrame({"x": [1.0, 2.0]}))
    numbers, _ = columns.encode(pd.DataFrame({"x": pd.Series([None, None], dtype=dtype)}))
    assert np.isnan(numbers).all()
