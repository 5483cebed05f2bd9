"""What we ask of a frame: one class without state per library that has frames.

`library_of` finds the class of a frame among the libraries that are loaded already. A further
library needs one more class with the same functions, and a line in `LIBRARIES`.

A column has a *kind*: "number", "bool", "category" (strings, objects and what its library calls
so), or "other", which is refused unless the user lists the column as categorical: dates, lists.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Mapping
from datetime import date, time, timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

# Objects that are no categories unless the user says so.
QUANTITIES = (date, time, timedelta, np.datetime64, np.timedelta64, complex)


class Pandas:
    """Frames of pandas."""

    @staticmethod
    def names(X: Any) -> Any:
        """Return the column names, as `frame` wants them."""
        return X.columns

    @staticmethod
    def column(X: Any, j: int) -> Any:
        """Return one column, by position."""
        return X.iloc[:, j]

    @staticmethod
    def kinds(X: Any, known: Collection[int] = ()) -> list[str]:
        """Return "number", "bool", "category" or "other" for each column not in `known`."""
        import pandas as pd

        plain = {"i": "number", "u": "number", "f": "number", "b": "bool"}
        kinds = [plain.get(dtype.kind, "other") for dtype in X.dtypes]
        for j in [j for j, kind in enumerate(kinds) if kind == "other" and j not in known]:
            column = X.iloc[:, j]
            if column.dtype.type in (str, pd.CategoricalDtype.type):  # those of Arrow, too
                kinds[j] = "category"
            elif column.dtype == np.dtype(object):
                first = column[column.notna().to_numpy()].head(1).tolist()
                kinds[j] = "other" if first and isinstance(first[0], QUANTITIES) else "category"
        return kinds

    @staticmethod
    def all_missing(column: Any) -> bool:
        """Tell whether a column holds nothing."""
        return bool(column.isna().all())

    @staticmethod
    def numbers(X: Any, which: list[int]) -> Floats:
        """Return columns of numbers, ndarray of shape (n, len(which)); NaN where missing."""
        numbers: Floats = X.iloc[:, which].to_numpy(dtype=np.float64, na_value=np.nan)
        return numbers

    @staticmethod
    def listed(dtype: Any) -> list[Any] | None:
        """Return the values that a dtype lists by itself, in its order; None for any other."""
        if hasattr(dtype, "categories"):
            return list(dtype.categories.tolist())
        return [False, True] if dtype.kind == "b" else None

    @staticmethod
    def factorize(column: Any) -> tuple[Ints, list[Any]]:
        """Positions of the values of a column among its distinct ones (-1: missing), and these.

        Raises
        ------
        TypeError
            If the values cannot be told apart.
        """
        codes, values = column.factorize()
        return codes, values.tolist()

    @staticmethod
    def blank(column: Any) -> tuple[Any, ...]:
        """Return the first missing value of a column of objects, or nothing if there is none."""
        if column.dtype != np.dtype(object):
            return ()
        absent = column.isna().to_numpy()
        return (column.iloc[int(absent.argmax())],) if absent.any() else ()

    @staticmethod
    def widened(dtype: Any, values: tuple[Any, ...]) -> Any:
        """Return a dtype like `dtype` that holds `values`, of which some are new."""
        import pandas as pd

        if hasattr(dtype, "categories"):
            new = pd.Index(list(values[len(dtype.categories) :]))
            return type(dtype)(dtype.categories.append(new), dtype.ordered)
        try:
            holds = pd.array(list(values), dtype=dtype).tolist() == list(values)
        except (TypeError, ValueError):
            holds = False
        return dtype if holds else np.dtype(object)

    @staticmethod
    def restored(
        dtype: Any, values: tuple[Any, ...], blank: tuple[Any, ...], positions: Ints
    ) -> Any:
        """Return a column of ``values[position]``, missing where it is -1.

        A bool column with missing values holds objects.
        """
        import pandas as pd

        if hasattr(dtype, "categories"):
            return pd.Series(pd.Categorical.from_codes(positions, dtype=dtype))
        table = list(values)
        if (positions < 0).any():
            dtype = np.dtype(object) if dtype == np.dtype(bool) else dtype
            nothing = np.nan if dtype == np.dtype(object) else None  # any other dtype takes None
            table += blank or (nothing,)  # position -1
        return pd.Series(pd.Series(table, dtype=dtype).array.take(positions), dtype=dtype)

    @staticmethod
    def frame(names: Any, numbers: Floats, coded: Mapping[int, Any]) -> Any:
        """Make a frame of numbers, but for the columns in `coded`."""
        import pandas as pd

        frame = pd.DataFrame(numbers, copy=False)
        for j, column in coded.items():
            frame.isetitem(j, column)
        frame.columns = names
        return frame

    @staticmethod
    def of_objects(X: NDArray[Any], names: Any) -> Any:
        """Make a frame of an array of objects, with the dtypes that its values suggest."""
        import pandas as pd

        frame = pd.DataFrame(X).infer_objects()
        frame.columns = names
        return frame


class Polars:
    """Frames of Polars; the same functions as `Pandas`.

    Missing numbers are restored as null.
    """

    @staticmethod
    def names(X: Any) -> Any:
        """Return the column names, a tuple of str."""
        return tuple(X.columns)

    @staticmethod
    def column(X: Any, j: int) -> Any:
        """Return one column, by position."""
        return X.to_series(j)

    @staticmethod
    def kinds(X: Any, known: Collection[int] = ()) -> list[str]:
        """Return "number", "bool", "category" or "other" for each column."""
        import polars as pl

        def kind(dtype: Any) -> str:
            if dtype.is_numeric() or dtype == pl.Null:
                return "number"
            if dtype == pl.Boolean:
                return "bool"
            return "category" if dtype in (pl.String, pl.Categorical, pl.Enum) else "other"

        return [kind(dtype) for dtype in X.dtypes]

    @staticmethod
    def all_missing(column: Any) -> bool:
        """Tell whether a column holds nothing."""
        return bool(column.null_count() == len(column))

    @staticmethod
    def numbers(X: Any, which: list[int]) -> Floats:
        """Return columns of numbers, ndarray of shape (n, len(which)); NaN where missing."""
        import polars as pl

        numbers = np.empty((len(X), len(which)))
        for k, j in enumerate(which):
            numbers[:, k] = X.to_series(j).cast(pl.Float64).to_numpy()
        return numbers

    @staticmethod
    def listed(dtype: Any) -> list[Any] | None:
        """Return the values of an Enum or a Boolean column; a Categorical one lists none itself."""
        import polars as pl

        if isinstance(dtype, pl.Enum):
            return list(dtype.categories.to_list())
        return [False, True] if dtype == pl.Boolean else None

    @staticmethod
    def factorize(column: Any) -> tuple[Ints, list[Any]]:
        """Positions of the values of a column among its distinct ones (-1: missing), and these."""
        import polars as pl

        if column.dtype in (pl.Categorical, pl.Enum):
            column = column.cast(pl.String)
        try:
            values = column.drop_nulls().unique()
            places = pl.Series(np.arange(len(values)))
            codes = column.replace_strict(values, places, default=-1, return_dtype=pl.Int64)
        except pl.exceptions.PolarsError as error:
            raise TypeError(str(error)) from None
        return codes.to_numpy(), values.to_list()

    @staticmethod
    def blank(column: Any) -> tuple[Any, ...]:
        """Return nothing: there is one null for all."""
        return ()

    @staticmethod
    def widened(dtype: Any, values: tuple[Any, ...]) -> Any:
        """Return `dtype`, or a longer Enum.

        Raises
        ------
        TypeError
            If some of `values` are of another type.
        """
        import polars as pl

        if isinstance(dtype, pl.Enum):
            return pl.Enum(values)
        pl.Series(values, dtype=dtype, strict=True)
        return dtype

    @staticmethod
    def restored(
        dtype: Any, values: tuple[Any, ...], blank: tuple[Any, ...], positions: Ints
    ) -> Any:
        """Return a column of ``values[position]``, null where it is -1."""
        import polars as pl

        table = pl.Series([*values, None], dtype=dtype)
        return table.gather(np.where(positions < 0, len(values), positions).astype(np.uint32))

    @staticmethod
    def frame(names: Any, numbers: Floats, coded: Mapping[int, Any]) -> Any:
        """Make a frame of numbers, but for the columns in `coded`."""
        import polars as pl

        return pl.DataFrame(
            [
                coded[j].alias(name) if j in coded else pl.Series(name, column, nan_to_null=True)
                for j, (name, column) in enumerate(zip(names, numbers.T, strict=True))
            ]
        )

    @staticmethod
    def of_objects(X: NDArray[Any], names: Any) -> Any:
        """Make a frame of an array of objects, with the dtypes that its values suggest."""
        import polars as pl

        columns = [[None if value != value else value for value in column] for column in X.T]
        return pl.DataFrame(dict(zip(names, columns, strict=True)))


Library = type[Pandas] | type[Polars]

LIBRARIES: dict[str, Library] = {"pandas": Pandas, "polars": Polars}


def library_of(X: Any) -> Library | None:
    """Return the library that `X` is a frame of, without importing one; None for an array.

    Raises
    ------
    TypeError
        If `X` is a lazy frame.
    """
    for name, library in LIBRARIES.items():
        module = sys.modules.get(name)
        if isinstance(X, getattr(module, "DataFrame", ())):
            return library
        if isinstance(X, getattr(module, "LazyFrame", ())):
            raise TypeError("X must be a frame. Got a LazyFrame: call its collect() first.")
    return None


def is_frame(X: Any) -> bool:
    """Tell whether `X` is a frame of a library that we know."""
    return library_of(X) is not None


def named(numbers: Floats, names: tuple[str, ...]) -> Any:
    """Return a frame of numbers, of the first of our libraries that is loaded, else of pandas."""
    library = next((found for name, found in LIBRARIES.items() if name in sys.modules), Pandas)
    return library.frame(names, numbers, {})


def refuse_others(X: Any, library: Library, except_for: Collection[int]) -> None:
    """Raise a ValueError if a column of a frame, `except_for` some, does not hold numbers.

    Strings and objects that are all missing pass for numbers: so a row with ``None`` comes alone.
    """
    names, refused = library.names(X), []
    for j, kind in enumerate(library.kinds(X, known=except_for)):
        if kind in ("number", "bool") or j in except_for:
            continue
        column = library.column(X, j)
        if kind == "other" or not library.all_missing(column):
            refused.append(f"{names[j]!r} ({column.dtype})")
    if refused:
        raise ValueError(
            "X must have numeric or boolean columns only, apart from categorical ones. Got "
            f"{', '.join(refused)}. Encode these columns as numbers before they reach the "
            "explainer (a date as days since another), drop them, or list those whose values are "
            "categories in categorical_features."
        )
