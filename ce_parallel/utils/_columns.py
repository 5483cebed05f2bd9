"""Frames and arrays as blocks of numbers, and back."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


def is_frame(X: Any) -> bool:
    """Tell whether `X` is a pandas DataFrame, without importing pandas."""
    pandas = sys.modules.get("pandas")
    return pandas is not None and isinstance(X, pandas.DataFrame)


@dataclass(frozen=True)
class Columns:
    """What the estimator was fitted on: an array, or a frame with these columns.

    Attributes
    ----------
    names : tuple or None
        Column names of a frame; None for an array.
    booleans : tuple
        The plain boolean columns among them keep their dtype; all others become float64.
    """

    names: tuple[Any, ...] | None = None
    booleans: tuple[Any, ...] = ()

    @classmethod
    def of(cls, X: Any) -> Columns:
        """Describe `X`, and refuse columns that do not hold numbers.

        Raises
        ------
        ValueError
            If a column of a frame holds strings, categories, dates or objects.
        """
        if not is_frame(X):
            return cls()
        refused = [
            f"{name!r} ({dtype})" for name, dtype in X.dtypes.items() if dtype.kind not in "biuf"
        ]
        if refused:
            raise ValueError(
                "X must have numeric or boolean columns only. Got "
                f"{', '.join(refused)}. Encode these columns before they reach the explainer."
            )
        # A nullable boolean may hold a missing value, which has no place in a plain one.
        booleans = tuple(name for name, dtype in X.dtypes.items() if dtype == np.dtype(bool))
        return cls(tuple(X.columns), booleans)

    def restore(self, X: NDArray[np.float64]) -> Any:
        """Turn a block of numbers, shape (n, n_features), into what the estimator expects."""
        if self.names is None:
            return X
        import pandas as pd

        frame = pd.DataFrame(X, columns=list(self.names), copy=False)
        return frame.astype(dict.fromkeys(self.booleans, bool)) if self.booleans else frame
