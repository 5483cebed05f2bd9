"""What a calibrator is made of: calibration rows, and how to make it from them.

`Calibration` and `Recipe` travel to workers that fit many calibrators, one for each feature of a
fast explanation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ce_parallel.calibration._classes import VennAbersClassifier
from ce_parallel.calibration._cps import ConformalPredictiveSystem
from ce_parallel.calibration._events import EventSplit
from ce_parallel.calibration._mondrian import Mondrian
from ce_parallel.calibration._rows import Rows, group_rows

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Calibration:
    """Scores and targets of the calibration rows, and what is known of them.

    Attributes
    ----------
    scores : ndarray of shape (n,) or (n, n_classes)
        What the estimator says of them; for a classifier after reshaping by difficulty.
    y : ndarray of shape (n,)
        Class labels, or numbers.
    known : Rows
        Their Mondrian categories and, for a regressor, their difficulty.
    """

    scores: Floats
    y: NDArray[Any]
    known: Rows

    def take(self, index: Any) -> Calibration:
        """Return some of the rows."""
        return Calibration(self.scores[index], self.y[index], self.known.take(index))


@dataclass(frozen=True, eq=False)
class Recipe:
    """How scores and targets become a calibrator.

    Attributes
    ----------
    classes : ndarray of shape (n_classes,) or None
        The classes, ascending; None for regression.
    decimals : pair of (int or None)
        Decimals of calibration and of test scores, see `VennAbersClassifier.fit`.
    summary, normalization : str
        See `VennAbersClassifier`.
    seed : int
        Of the permutation that halves the rows for events.
    """

    classes: NDArray[Any] | None
    decimals: tuple[int | None, int | None]
    summary: str
    normalization: str
    seed: int

    def calibrator(self, data: Calibration) -> Any:
        """Fit a calibrator, or one per Mondrian category."""
        if data.known.category is not None:
            parts = [data.take(index) for _, index in group_rows(data.known.category)]
            return Mondrian(tuple(map(self._calibrator_of, parts)))
        return self._calibrator_of(data)

    def _calibrator_of(self, data: Calibration) -> Any:
        if self.classes is None:
            return ConformalPredictiveSystem.fit(data.y - data.scores, data.known.difficulty)
        for_calibration, for_test = self.decimals
        return VennAbersClassifier.fit(
            data.scores,
            np.searchsorted(self.classes, data.y),
            calibration_decimals=for_calibration,
            test_decimals=for_test,
            summary=self.summary,
            normalization=self.normalization,
        )

    def event_split(self, data: Calibration) -> EventSplit:
        """Halve the rows of a regression for events that are not known yet."""
        return EventSplit.fit(
            data.scores,
            data.y,
            difficulty=data.known.difficulty,
            category=data.known.category,
            seed=self.seed,
            summary=self.summary,
        )
