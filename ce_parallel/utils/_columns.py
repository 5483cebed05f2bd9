"""Frames and arrays as blocks of numbers, and back.

    frame --encode--> numbers (n, n_features), columns --restore--> frame

Numbers stay what they are. Strings, categories, objects and booleans become *codes*: positions
among the values that the column is known to hold. `encode` learns values that it has not met, so
that the columns which it returns can restore every row, and no code changes its meaning.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ce_parallel.utils._checks import feature_indices
from ce_parallel.utils._frames import Library, library_of, refuse_others

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class CodedColumn:
    """A column of a frame whose values are not numbers.

    Attributes
    ----------
    library : class
        Whose frames it belongs to, see `_frames`.
    dtype : dtype
        What the column is restored to.
    values : tuple
        Code ``k`` stands for ``values[k]``: those of a category dtype in its order, others
        ascending, then those learned later. Values that compare equal (1 and True) are one.
    missing : tuple
        What a missing value of an object column is restored to: the first one met (None, NaN,
        NA); empty while none has been met.
    """

    library: Library
    dtype: Any
    values: tuple[Any, ...]
    missing: tuple[Any, ...] = ()

    @classmethod
    def of(cls, library: Library, column: Any, name: Any) -> CodedColumn:
        """Describe a column of a frame; `name` is what an error calls it."""
        values = library.listed(column.dtype)
        if values is None:
            values = _ordered(_factorized(library, column, name)[1])
        return cls(library, column.dtype, tuple(values), library.blank(column))

    def encode(self, library: Library, column: Any, name: Any) -> tuple[Floats, CodedColumn]:
        """Codes of a column (NaN where it is missing), and the one that knows all of them."""
        codes, values = _factorized(library, column, name)
        known = {value: code for code, value in enumerate(self.values)}
        new = _ordered([value for value in values if value not in known])
        known.update({value: len(self.values) + k for k, value in enumerate(new)})
        table = np.array([*(known[value] for value in values), np.nan])  # code -1 is the last one
        return table[codes], self._extended(new, library.blank(column), name)

    def _extended(self, new: list[Any], blank: tuple[Any, ...], name: Any) -> CodedColumn:
        """Add `new` values, and what stands for a missing one."""
        values, dtype = (*self.values, *new), self.dtype
        if new:
            try:
                dtype = self.library.widened(dtype, values)
            except TypeError:
                raise ValueError(
                    f"Column {name!r} must hold values as in fit ({dtype}). Got {new[:5]}."
                ) from None
        missing = self.missing or (blank if dtype == np.dtype(object) else ())
        if not new and missing == self.missing:
            return self
        return replace(self, dtype=dtype, values=values, missing=missing)

    def restore(self, codes: Floats) -> Any:
        """Turn codes, ndarray of shape (n,), into a column of a frame."""
        positions = np.where(np.isnan(codes), -1, codes).astype(np.intp)
        return self.library.restored(self.dtype, self.values, self.missing, positions)


@dataclass(frozen=True, eq=False)
class Columns:
    """What the estimator was fitted on: an array, or a frame with these columns.

    Attributes
    ----------
    library : class or None
        Whose frame it is, see `_frames`; None for an array.
    names : Index, tuple or None
        Column names of a frame; None for an array.
    coded : mapping of int to CodedColumn
        The columns of a frame that hold booleans or categories that are not numbers. All others
        become float64, those of nullable dtypes, too, with NaN (pandas) or null (Polars) for what
        is missing.
    categorical : tuple of int
        The categorical features, ascending: coded ones and those whose numbers name categories.
    """

    library: Library | None = None
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
        if isinstance(categorical_features, str) and categorical_features != "from_dtype":
            raise ValueError(
                "categorical_features must be 'from_dtype', None, or hold names, a mask or "
                f"indices. Got {categorical_features!r}."
            )
        from_dtype = isinstance(categorical_features, str)
        library = library_of(X)
        if library is None:
            shape = () if categorical_features is None or from_dtype else np.asarray(X).shape
            if len(shape) != 2:  # nothing to describe, or for validation to refuse
                return cls()
            names: Any = [f"x{j}" for j in range(shape[1])]
            return cls(categorical=_indices(categorical_features, names))
        names = library.names(X)
        _refuse_twins(names)
        kinds = library.kinds(X)
        if from_dtype:
            categorical_features = np.array([kind in ("bool", "category") for kind in kinds], bool)
        categorical = _indices(categorical_features, list(names))
        refuse_others(X, library, except_for=categorical)
        coded = {
            j: CodedColumn.of(library, library.column(X, j), names[j])
            for j, kind in enumerate(kinds)
            if kind == "bool" or (j in categorical and kind != "number")
        }
        return cls(library, names, coded, categorical)

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
        library = library_of(X)
        if library is None:
            if not self.coded:
                return np.array(X, dtype=np.float64), self
            assert self.library is not None
            library, X = self.library, self.library.of_objects(np.asarray(X, object), self.names)
        refuse_others(X, library, except_for=self.coded)
        numbers = np.empty(X.shape)
        plain = [j for j in range(X.shape[1]) if j not in self.coded]
        numbers[:, plain] = library.numbers(X, plain)
        coded, names = {}, library.names(X)
        for j, column in self.coded.items():
            numbers[:, j], coded[j] = column.encode(library, library.column(X, j), names[j])
        if all(coded[j] is column for j, column in self.coded.items()):
            return numbers, self
        return numbers, replace(self, coded=coded)

    def restore(self, X: Floats) -> Any:
        """Turn a block of numbers, shape (n, n_features), into what the estimator expects."""
        if self.library is None:
            return X
        coded = {j: column.restore(X[:, j]) for j, column in self.coded.items()}
        return self.library.frame(self.names, X, coded)

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
    library = library_of(X)
    if library is None:
        if isinstance(column, str):
            raise ValueError(f"mondrian={column!r} names a column, but X is no frame.")
        return np.asarray(X)[:, column]
    names = list(library.names(X))
    if column in names:
        return np.asarray(X[column])
    if isinstance(column, str):
        raise ValueError(f"mondrian names the column {column!r}, which X has not.")
    return np.asarray(library.column(X, column))


def _indices(which: ArrayLike | None, names: list[Any]) -> tuple[int, ...]:
    return tuple(np.unique(feature_indices(which, names, "categorical_features")).tolist())


def _refuse_twins(names: Any) -> None:
    """Raise a ValueError if two columns have the same name: nobody could tell their rules apart."""
    twins = [name for name, times in Counter(names).items() if times > 1]
    if twins:
        raise ValueError(
            "The columns of X must have names that differ. Got "
            f"{', '.join(map(repr, twins))} more than once."
        )


def _factorized(library: Library, column: Any, name: Any) -> tuple[Ints, list[Any]]:
    """As the library does it, with an error that names the column."""
    try:
        return library.factorize(column)
    except (TypeError, NotImplementedError) as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(
            f"Column {name!r} holds values that are no categories: {reason}. Drop it, or make "
            "numbers or strings of it before it reaches the explainer."
        ) from None


def _ordered(values: list[Any]) -> list[Any]:
    """Sort what can be sorted; mixed types by type and text, so that row order plays no part."""
    try:
        return sorted(values)
    except TypeError:
        return sorted(values, key=lambda value: (type(value).__name__, str(value)))
