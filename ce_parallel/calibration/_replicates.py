"""Bootstrap replicates of a calibrator, read all at once.

    calibrator, B refitted on resamples --look_ups--> tables (B, n_positions)
    scores --ranked once--> positions --take--> values (B, n)

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
from ce_parallel.calibration._rows import Ints, Rows, group_rows

Floats = NDArray[np.float64]


class LookUps(Protocol):
    """What `look_ups` returns."""

    def values(self, scores: Floats, rows: Rows, explained: Ints | None) -> Floats:
        """Calibrated value by each replicate, ndarray of shape (B, n).

        Parameters
        ----------
        scores : ndarray of shape (n,) or (n, n_classes)
        rows : Rows
            As the calibrator itself needs it.
        explained : ndarray of shape (n,) or None
            Numbers of the classes that are asked for; None: class 1 of two, or regression.
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
        return _OfResiduals(np.array([r.median_residuals() for r in replicates])[:, :, None])
    assert isinstance(calibrator, EventPredictor), calibrator
    return _OfEvents(calibrator, tuple(replicates))


def _table(own: InductiveVennAbers, replicates: Sequence[InductiveVennAbers]) -> Floats:
    """Values, low and high of replicates at each position of `own`, shape (3, B, n_positions)."""
    return np.stack([np.take(r.table, r.positions_of(own.knots), axis=1) for r in replicates], 1)


@dataclass(frozen=True, eq=False)
class _ByCategory:
    parts: tuple[LookUps, ...]

    def values(self, scores: Floats, rows: Rows, explained: Ints | None) -> Floats:
        assert rows.category is not None
        found = []
        for number, index in group_rows(rows.category):
            wanted = None if explained is None else explained[index]
            part = self.parts[number].values(scores[index], rows.take(index), wanted)
            found.append((index, part))
        values = np.empty((len(found[0][1]), len(scores)))
        for index, part in found:
            values[:, index] = part
        return values


@dataclass(frozen=True, eq=False)
class _OfClasses:
    calibrator: VennAbersClassifier
    tables: tuple[Floats, ...]

    def values(self, scores: Floats, rows: Rows, explained: Ints | None) -> Floats:
        own = self.calibrator.tables
        if len(own) == 1:
            ones = np.take(self.tables[0][0], own[0].positions(scores[:, 1]), axis=1)
            return ones if explained is None else np.where(explained == 1, ones, 1 - ones)
        assert explained is not None
        positions = [ivap.positions(scores[:, c]) for c, ivap in enumerate(own)]
        raw = np.stack(
            [np.take(t, p, axis=2) for t, p in zip(self.tables, positions, strict=True)], axis=-1
        )
        _, n_replicates, n, n_classes = raw.shape
        flat = raw.reshape(3, -1, n_classes)
        normalized = NORMALIZATIONS[self.calibrator.normalization](flat, self.calibrator.summary)
        return normalized[0, np.arange(flat.shape[1]), np.tile(explained, n_replicates)].reshape(
            n_replicates, n
        )


@dataclass(frozen=True, eq=False)
class _OfResiduals:
    """Lower and upper median of the residuals of each replicate, shape (B, 2, 1)."""

    medians: Floats

    def values(self, scores: Floats, rows: Rows, explained: Ints | None) -> Floats:
        sigma = 1.0 if rows.difficulty is None else rows.difficulty
        lower, upper = self.medians[:, 0], self.medians[:, 1]
        return (scores + sigma * lower + (scores + sigma * upper)) / 2


@dataclass(frozen=True, eq=False)
class _OfEvents:
    predictor: EventPredictor
    replicates: tuple[EventPredictor, ...]

    def values(self, scores: Floats, rows: Rows, explained: Ints | None) -> Floats:
        halves = self.predictor.halves
        event = np.zeros(len(scores), dtype=np.int64) if rows.event is None else rows.event
        below, above = halves.counts(scores, rows.difficulty, *self.predictor.events[event].T)
        values = np.empty((len(self.replicates), len(scores)))
        groups = group_rows(event)
        for out, replicate in zip(values, self.replicates, strict=True):
            # How much of its half A is at most as large as each alpha of half A.
            steps = np.searchsorted(replicate.halves.alphas, halves.alphas, side="right")
            steps = np.append(0, steps)
            counts = steps[above] - steps[below]
            for number, index in groups:
                bounds = self.predictor.events[number].tolist()
                out[index] = replicate.halves.table(*bounds)[0, counts[index]]
        return values
