"""Bootstrap replicates of a calibrator, read all at once.

    calibrator, B refitted on resamples --look_ups--> tables (n_positions, B)
    scores --ranked once--> positions --take--> values (n, B)

A score has one place among the calibration scores, and each replicate, which knows some of these,
has one value there. So B replicates cost B look-ups, and no more predictions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ce_parallel.calibration._classes import NORMALIZATIONS, VennAbersClassifier
from ce_parallel.calibration._cps import ConformalPredictiveSystem
from ce_parallel.calibration._events import EventPredictor
from ce_parallel.calibration._ivap import InductiveVennAbers
from ce_parallel.calibration._mondrian import Mondrian
from ce_parallel.calibration._rows import Rows, group_rows

Floats = NDArray[np.float64]


class LookUps(Protocol):
    """What `look_ups` returns."""

    def values(self, scores: Floats, rows: Rows) -> Floats:
        """Calibrated value by each replicate, ndarray of shape (n, B).

        Parameters
        ----------
        scores : ndarray of shape (n,) or (n, n_classes)
        rows : Rows
            As the calibrator itself needs it; of several classes the one that is explained.
        """
        ...


def look_ups(calibrator: Any, replicates: Sequence[Any]) -> LookUps:
    """Make the tables of replicates.

    Parameters
    ----------
    calibrator : calibrator
    replicates : sequence of B calibrators of the same kind
        Each fitted on rows drawn from those of `calibrator`; of each Mondrian category, rows drawn
        from that category.
    """
    if isinstance(calibrator, Mondrian):
        parts = zip(calibrator.calibrators, *(r.calibrators for r in replicates), strict=True)
        return _ByCategory(tuple(look_ups(own, others) for own, *others in parts))
    if isinstance(calibrator, VennAbersClassifier):
        tables = zip(calibrator.tables, *(r.tables for r in replicates), strict=True)
        return _OfClasses(calibrator, tuple(_table(own, others) for own, *others in tables))
    if isinstance(calibrator, ConformalPredictiveSystem):
        return _OfResiduals(np.array([r.median_residuals() for r in replicates]).T)
    assert isinstance(calibrator, EventPredictor), calibrator
    return _OfEvents(calibrator, tuple(replicates))


def _table(own: InductiveVennAbers, replicates: Sequence[InductiveVennAbers]) -> Floats:
    """Values, low and high of replicates at each position of `own`, shape (3, n_positions, B)."""
    return np.stack([np.take(r.table, r.positions_of(own.knots), axis=1) for r in replicates], -1)


@dataclass(frozen=True, eq=False)
class _ByCategory:
    parts: tuple[LookUps, ...]

    def values(self, scores: Floats, rows: Rows) -> Floats:
        assert rows.category is not None
        found = [
            (index, self.parts[number].values(scores[index], rows.take(index)))
            for number, index in group_rows(rows.category)
        ]
        values = np.empty((len(scores), found[0][1].shape[1] if found else 0))
        for index, part in found:
            values[index] = part
        return values


@dataclass(frozen=True, eq=False)
class _OfClasses:
    calibrator: VennAbersClassifier
    tables: tuple[Floats, ...]

    def values(self, scores: Floats, rows: Rows) -> Floats:
        own, explained = self.calibrator.tables, rows.explained
        if len(own) == 1:
            ones = np.take(self.tables[0][0], own[0].positions(scores[:, 1]), axis=0)
            if explained is None:
                return ones
            return np.where((explained == 1)[:, None], ones, 1 - ones)
        assert explained is not None
        raw = np.stack(
            [
                np.take(table, ivap.positions(scores[:, c]), axis=1)
                for c, (ivap, table) in enumerate(zip(own, self.tables, strict=True))
            ],
            axis=-1,
        )
        n, n_replicates, n_classes = raw.shape[1:]
        flat = raw.reshape(3, n * n_replicates, n_classes)
        normalized = NORMALIZATIONS[self.calibrator.normalization](flat, self.calibrator.summary)
        values = normalized[0].reshape(n, n_replicates, n_classes)
        return np.take_along_axis(values, explained[:, None, None], axis=2)[:, :, 0]


@dataclass(frozen=True, eq=False)
class _OfResiduals:
    """Lower and upper median of the residuals of each replicate, shape (2, B)."""

    medians: Floats

    def values(self, scores: Floats, rows: Rows) -> Floats:
        sigma = np.float64(1.0) if rows.difficulty is None else rows.difficulty[:, None]
        lower, upper = self.medians
        return (scores[:, None] + sigma * lower + (scores[:, None] + sigma * upper)) / 2


@dataclass(frozen=True, eq=False)
class _OfEvents:
    predictor: EventPredictor
    replicates: tuple[EventPredictor, ...]

    def values(self, scores: Floats, rows: Rows) -> Floats:
        halves, event = self.predictor.halves, rows.event
        every = np.zeros(len(scores), dtype=np.int64) if event is None else event
        low, high = self.predictor.events[every].T
        below = halves.counts(scores, rows.difficulty, low, high)
        # Where half A of a replicate stands among the alphas of half A.
        steps = np.array(
            [np.searchsorted(r.halves.alphas, halves.alphas, "right") for r in self.replicates]
        ).T
        steps = np.concatenate([np.zeros((1, len(self.replicates)), dtype=steps.dtype), steps])
        counts = steps[below[1]] - steps[below[0]]
        values = np.empty(counts.shape)
        for number, index in group_rows(every):
            bounds = self.predictor.events[number].tolist()
            tables = np.stack([r.halves.table(*bounds)[0] for r in self.replicates], axis=-1)
            values[index] = np.take_along_axis(tables, counts[index], axis=0)
        return values
