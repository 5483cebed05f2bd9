"""Mondrian calibration: one calibrator per category of rows.

Vovk, Gammerman & Shafer (2005), "Algorithmic Learning in a Random World", section 4.5: what a
calibrator promises, it then promises within each category.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ce_parallel.calibration._rows import NOTHING_KNOWN, Rows, group_rows

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Mondrian:
    """Calibrators of one kind, and each row sent to the one of its category.

    Attributes
    ----------
    calibrators : tuple of calibrators
        At position ``c``, the calibrator that was fitted on the rows of category ``c``.
    """

    calibrators: tuple[Any, ...]

    def predict(self, scores: Floats, rows: Rows = NOTHING_KNOWN, **options: Any) -> Floats:
        """Calibrate scores; see the calibrators for `scores` and `options`.

        Returns
        -------
        ndarray of shape (3, n)

        Raises
        ------
        ValueError
            If `rows` has no categories.
        """
        return self._dispatch("predict", scores, rows, options)

    def predict_all(self, scores: Floats, rows: Rows = NOTHING_KNOWN, **options: Any) -> Floats:
        """Calibrate the scores of all classes, ndarray of shape (3, n, n_classes)."""
        return self._dispatch("predict_all", scores, rows, options)

    def _dispatch(self, method: str, scores: Floats, rows: Rows, options: dict[str, Any]) -> Floats:
        if rows.category is None:
            raise ValueError("Calibrated by Mondrian category: rows must have one. Got none.")
        groups = group_rows(rows.category)
        if len(groups) < 2:
            number = groups[0][0] if groups else 0
            return getattr(self.calibrators[number], method)(scores, rows, **options)
        parts = [
            getattr(self.calibrators[number], method)(scores[index], rows.take(index), **options)
            for number, index in groups
        ]
        out = np.empty((3, len(scores), *parts[0].shape[2:]))
        for (_, index), part in zip(groups, parts, strict=True):
            out[:, index] = part
        return out
