"""Frames and arrays as blocks of numbers, and back.

    frame --encode--> numbers (n, n_features), columns --restore--> frame

Numbers stay what they are. Strings, categories, objects and booleans become *codes*: positions
among the values that the column is known to hold. `encode` learns values that it has not met, so
that the columns which it returns can restore every row, and no code changes its meaning.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ce_parallel.utils._checks import feature_indices

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def is_frame(X: Any) -> bool:
    """Tell whether `X` is a pandas DataFrame, without importing pandas."""
    pandas = sys.modules.get("pandas")
    return pandas is not None and isinstance(X, pandas.DataFrame)


@dataclass(frozen=True, eq=False)
class CodedColumn:
    """A column of a frame whose values are not numbers.

    Attributes
    ----------
    dtype : dtype
        What the column is restored to.
    values : tuple
        Code ``k`` stands for ``values[k]``: those of a category dtype in its order, others
        ascending, then those learned later. Values that compare equal (1 and True) are one.
    missing : tuple
        What a missing value of an object column is restored to: the first one met (None, NaN,
        NA); empty while none has been met.
    """

    dtype: Any
    values: tuple[Any, ...]
    missing: tuple[Any, ...] = ()

    @classmethod
    def of(cls, column: Any, name: Any) -> CodedColumn:
        """Describe a Series; `name` is what an error calls it."""
        if hasattr(column.dtype, "categories"):
            values = column.dtype.categories.tolist()
        elif column.dtype.kind == "b":
            values = [False, True]
        else:
            values = _ordered(_factorized(column, name)[1])
        return cls(column.dtype, tuple(values)).extended((), column)

    def encode(self, column: Any, name: Any) -> tuple[Floats, CodedColumn]:
        """Codes of a Series (NaN where it is missing), and the column that knows all of them."""
        codes, values = _factorized(column, name)
        known = {value: code for code, value in enumerate(self.values)}
        new = [value for value in values if value not in known]
        known.update({value: len(self.values) + k for k, value in enumerate(new)})
        table = np.array([*(known[value] for value in values), np.nan])  # code -1 is the last one
        return table[codes], self.extended(tuple(new), column)

    def extended(self, new: tuple[Any, ...], column: Any) -> CodedColumn:
        """Add `new` values, and learn from a Series what stands for a missing one."""
        import pandas as pd

        values, dtype, missing = self.values + new, self.dtype, self.missing
        if new and hasattr(dtype, "categories"):
            dtype = type(dtype)(dtype.categories.append(pd.Index(list(new))), dtype.ordered)
        elif new and not _holds(dtype, values):
            dtype = np.dtype(object)
        if dtype == np.dtype(object) and not missing:
            absent = column.isna().to_numpy()
            missing = (column.iloc[int(absent.argmax())],) if absent.any() else ()
        if not new and missing == self.missing:
            return self
        return replace(self, dtype=dtype, values=values, missing=missing)

    def restore(self, codes: Floats) -> Any:
        """Turn codes, ndarray of shape (n,), into a Series; bool with missing values is object."""
        import pandas as pd

        absent = np.isnan(codes)
        positions = np.where(absent, -1, codes).astype(np.intp)
        dtype = self.dtype
        if hasattr(dtype, "categories"):
            return pd.Series(pd.Categorical.from_codes(positions, dtype=dtype))
        table = list(self.values)
        if absent.any():
            dtype = np.dtype(object) if dtype == np.dtype(bool) else dtype
            blank = np.nan if dtype == np.dtype(object) else None  # any other dtype takes None
            table += self.missing or (blank,)  # position -1
        return pd.Series(pd.Series(table, dtype=dtype).array.take(positions), dtype=dtype)


@dataclass(frozen=True, eq=False)
class Columns:
    """What the estimator was fitted on: an array, or a frame with these columns.

    Attributes
    ----------
    names : Index, tuple or None
        Column names of a frame; None for an array.
    coded : mapping of int to CodedColumn
        The columns of a frame that hold booleans or categories that are not numbers. All others
        become float64.
    categorical : tuple of int
        The categorical features, ascending: coded ones and those whose numbers name categories.
    """

    names: Any = None
    coded: Mapping[int, CodedColumn] = field(default_factory=dict)
    categorical: tuple[int, ...] = ()

    @classmethod
    def of(cls, X: Any, categorical_features: ArrayLike | str | None = None) -> Columns:
        """Describe `X`, and refuse columns that hold neither numbers nor categories.

        Parameters
        ----------
        X : array-like or DataFrame of shape (n, n_features)
        categorical_features : array-like, "from_dtype" or None, default=None
            Names, indices or a mask. "from_dtype": the category, string, object and bool columns
            of a frame. The columns of an array are called "x0", "x1", ...

        Raises
        ------
        ValueError
            If a column of a frame that is not categorical holds strings, categories, dates or
            objects, or a categorical one holds values that cannot be told apart (lists).
        """
        if not is_frame(X):
            if isinstance(categorical_features, str):
                _check_word(categorical_features)
                categorical_features = None
            shape = () if categorical_features is None else np.asarray(X).shape
            if len(shape) != 2:  # nothing to describe, or for validation to refuse
                return cls()
            return cls(
                categorical=_indices(categorical_features, [f"x{j}" for j in range(shape[1])])
            )
        if isinstance(categorical_features, str):
            _check_word(categorical_features)
            categorical_features = np.array([dtype.kind in "bOU" for dtype in X.dtypes], dtype=bool)
        categorical = _indices(categorical_features, list(X.columns))
        _refuse(X, except_for=categorical)
        coded = {
            j: CodedColumn.of(X.iloc[:, j], X.columns[j])
            for j, dtype in enumerate(X.dtypes)
            if dtype == np.dtype(bool) or (j in categorical and dtype.kind not in "iuf")
        }
        return cls(X.columns, coded, categorical)

    def encode(self, X: Any) -> tuple[Floats, Columns]:
        """Turn rows into numbers.

        Parameters
        ----------
        X : array-like or DataFrame of shape (n, n_features)
            Rows of the same columns, in the same order.

        Returns
        -------
        numbers : ndarray of shape (n, n_features)
            A new array; NaN where a value is missing.
        columns : Columns
            Restores them: `self`, or one that knows the values that `self` does not.

        Raises
        ------
        ValueError
            If a column holds what it cannot hold, as in `of`.
        """
        if self.coded and not is_frame(X):
            X = _as_frame(X, self.names)
        if not is_frame(X):
            return np.array(X, dtype=np.float64), self
        _refuse(X, except_for=self.coded)
        numbers = np.empty(X.shape)
        plain = [j for j in range(X.shape[1]) if j not in self.coded]
        numbers[:, plain] = X.iloc[:, plain].to_numpy(dtype=np.float64, na_value=np.nan)
        coded = {}
        for j, column in self.coded.items():
            numbers[:, j], coded[j] = column.encode(X.iloc[:, j], X.columns[j])
        if all(coded[j] is column for j, column in self.coded.items()):
            return numbers, self
        return numbers, replace(self, coded=coded)

    def restore(self, X: Floats) -> Any:
        """Turn a block of numbers, shape (n, n_features), into what the estimator expects."""
        if self.names is None:
            return X
        import pandas as pd

        frame = pd.DataFrame(X, copy=False)
        for j, column in self.coded.items():
            frame.isetitem(j, column.restore(X[:, j]))
        frame.columns = self.names
        return frame

    def category(self, feature: int, number: float) -> Any:
        """Return the value of a categorical feature that `number` stands for; NaN stays NaN.

        A number that is not coded stands for itself. For values that were never seen in fit, ask
        the columns that `encode` returned with them.
        """
        if feature not in self.coded or np.isnan(number):
            return number
        return self.coded[feature].values[int(number)]


def column_of(X: Any, column: Any) -> NDArray[Any]:
    """Return one column of a frame (by name or position) or an array (by position)."""
    if is_frame(X):
        if column in X.columns:
            return np.asarray(X[column])
        if isinstance(column, str):
            raise ValueError(f"mondrian names the column {column!r}, which X has not.")
        return np.asarray(X.iloc[:, column])
    if isinstance(column, str):
        raise ValueError(f"mondrian={column!r} names a column, but X is no frame.")
    return np.asarray(X)[:, column]


def _check_word(categorical_features: str) -> None:
    if categorical_features != "from_dtype":
        raise ValueError(
            "categorical_features must be 'from_dtype', None, or hold names, a mask or indices. "
            f"Got {categorical_features!r}."
        )


def _indices(which: ArrayLike | None, names: list[Any]) -> tuple[int, ...]:
    return tuple(np.unique(feature_indices(which, names, "categorical_features")).tolist())


def _refuse(X: Any, except_for: Any) -> None:
    """Raise a ValueError if a column of a frame, `except_for` some, does not hold numbers.

    Objects that are all missing pass for numbers: so a row with ``None`` comes alone.
    """
    refused = [
        f"{X.columns[j]!r} ({dtype})"
        for j, dtype in enumerate(X.dtypes)
        if dtype.kind not in "biuf"
        and j not in except_for
        and not (dtype == np.dtype(object) and X.iloc[:, j].isna().all())
    ]
    if refused:
        raise ValueError(
            "X must have numeric or boolean columns only, apart from categorical ones. Got "
            f"{', '.join(refused)}. Encode these columns before they reach the explainer."
        )


def _factorized(column: Any, name: Any) -> tuple[Ints, list[Any]]:
    """Positions of the values of a Series among its distinct ones (-1: missing), and these."""
    try:
        codes, values = column.factorize()
    except TypeError as error:
        raise ValueError(f"Column {name!r} holds values that are no categories: {error}.") from None
    return codes, values.tolist()


def _ordered(values: list[Any]) -> list[Any]:
    """Sort what can be sorted; mixed types by type and text, so that row order plays no part."""
    try:
        return sorted(values)
    except TypeError:
        return sorted(values, key=lambda value: (type(value).__name__, str(value)))


def _holds(dtype: Any, values: tuple[Any, ...]) -> bool:
    """Whether a column of `dtype` gives back the values that are put into it."""
    import pandas as pd

    try:
        return pd.array(list(values), dtype=dtype).tolist() == list(values)
    except (TypeError, ValueError):
        return False


def _as_frame(X: Any, names: Any) -> Any:
    """Make a frame of an array that holds objects, with the dtypes its values suggest."""
    import pandas as pd

    frame = pd.DataFrame(np.asarray(X, dtype=object)).infer_objects()
    frame.columns = names
    return frame
