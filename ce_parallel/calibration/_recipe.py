"""What a calibrator is made of: calibration rows, and how to make it from them.

`Calibration` and `Recipe` travel to workers that fit many calibrators, one for each feature of a
fast explanation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ce_parallel.calibration._classes import VennAbersClassifier
from ce_parallel.calibration._cps import ConformalPredictiveSystem
from ce_parallel.calibration._events import EventSplit
from ce_parallel.calibration._merge import MergedEventSplit, merge
from ce_parallel.calibration._mondrian import Mondrian
from ce_parallel.calibration._rows import Ints, Rows, group_rows

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
    fold : ndarray of shape (n,) or None
        The fold that held them out, where each fold gets a calibrator of its own.
    """

    scores: Floats
    y: NDArray[Any]
    known: Rows
    fold: Ints | None = None

    def take(self, index: Any) -> Calibration:
        """Return some of the rows."""
        fold = None if self.fold is None else self.fold[index]
        return Calibration(self.scores[index], self.y[index], self.known.take(index), fold)

    @property
    def group(self) -> Ints | None:
        """Number of the category and fold of each row; None where all belong together."""
        category, fold = self.known.category, self.fold
        if category is None or fold is None:
            return fold if category is None else category
        return fold * (int(category.max(initial=0)) + 1) + category

    @classmethod
    def joined(cls, parts: Sequence[Calibration]) -> Calibration:
        """Return the rows of all parts, one after the other."""
        known = Rows(
            category=_joined([part.known.category for part in parts]),
            difficulty=_joined([part.known.difficulty for part in parts]),
        )
        scores = np.concatenate([part.scores for part in parts])
        y = np.concatenate([part.y for part in parts])
        return cls(scores, y, known, _joined([part.fold for part in parts]))

    def by_fold(self) -> tuple[list[Calibration], list[int]]:
        """Return the rows of each fold that has any, and the numbers of these folds."""
        assert self.fold is not None
        groups = group_rows(self.fold)
        parts = [replace(self.take(index), fold=None) for _, index in groups]
        return parts, [number for number, _ in groups]


def _joined(parts: list[NDArray[Any] | None]) -> NDArray[Any] | None:
    there = [part for part in parts if part is not None]
    return np.concatenate(there) if there else None


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
        """Fit a calibrator, or one per Mondrian category; those of folds are merged."""
        if data.known.category is not None:
            parts = [data.take(index) for _, index in group_rows(data.known.category)]
            return Mondrian(tuple(map(self._calibrator_of, parts)))
        return self._calibrator_of(data)

    def _calibrator_of(self, data: Calibration) -> Any:
        if data.fold is not None:
            parts, folds = data.by_fold()
            return merge([self._calibrator_of(part) for part in parts], folds)
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

    def event_split(self, data: Calibration) -> EventSplit | MergedEventSplit:
        """Halve the rows of a regression, those of each fold, for events not known yet."""
        if data.fold is not None:
            parts, folds = data.by_fold()
            splits = tuple(self._event_split_of(part, partial=True) for part in parts)
            return MergedEventSplit(splits, tuple(folds))
        return self._event_split_of(data)

    def _event_split_of(self, data: Calibration, *, partial: bool = False) -> EventSplit:
        return EventSplit.fit(
            data.scores,
            data.y,
            difficulty=data.known.difficulty,
            category=data.known.category,
            seed=self.seed,
            summary=self.summary,
            partial=partial,
        )
