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
from ce_parallel.calibration._merge import MergedVennAbers
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
    if isinstance(calibrator, EventPredictor):
        return _OfEvents(calibrator, tuple(replicates))
    return _OneByOne(tuple(replicates))  # merged events and residuals of several folds


@dataclass(frozen=True, eq=False)
class _OneByOne:
    replicates: tuple[Any, ...]

    def values(self, scores: Floats, rows: Rows, explained: Ints | None) -> Floats:
        return np.stack([replicate.predict(scores, rows)[0] for replicate in self.replicates])


def _table(own: Any, replicates: Sequence[Any]) -> _Table | _MergedTable:
    """Table of the Venn-Abers predictors of one class."""
    if isinstance(own, InductiveVennAbers):
        read = [np.take(r.table, r.positions_of(own.knots), axis=1) for r in replicates]
        return _Table(own, np.stack(read, axis=1))
    members = zip(own.members, *(r.members for r in replicates), strict=True)
    tables = []
    for first, *others in members:
        table = _table(first, others)
        assert isinstance(table, _Table)
        with np.errstate(divide="ignore"):  # the logarithm of 0 is what it should be
            logarithms = np.stack([np.log1p(-table.table[1]), np.log(table.table[2])])
        tables.append(_Table(first, logarithms))
    return _MergedTable(own, tuple(tables))


@dataclass(frozen=True, eq=False)
class _Table:
    """Values, low and high of replicates at each position, shape (3, B, n_positions)."""

    own: InductiveVennAbers
    table: Floats

    def value(self, scores: Floats) -> Floats:
        """Calibrated value by each replicate, ndarray of shape (B, n)."""
        return np.take(self.table[0], self.own.positions(scores), axis=1)

    def every(self, scores: Floats) -> Floats:
        """Value, low and high, ndarray of shape (3, B, n)."""
        return np.take(self.table, self.own.positions(scores), axis=2)


@dataclass(frozen=True, eq=False)
class _MergedTable:
    """Tables of folds that hold logarithms, see `MergedVennAbers`."""

    own: MergedVennAbers
    tables: tuple[_Table, ...]

    def value(self, scores: Floats) -> Floats:
        """Calibrated value by each replicate, ndarray of shape (B, n)."""
        return self.every(scores)[0]

    def every(self, scores: Floats) -> Floats:
        """Value, low and high, ndarray of shape (3, B, n)."""
        folds = zip(self.tables, self.own.folds, strict=True)
        parts = [table.every(scores[:, k]) for table, k in folds]
        return self.own.merged(np.add.reduce(parts), len(parts))


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
    tables: tuple[_Table | _MergedTable, ...]

    def values(self, scores: Floats, rows: Rows, explained: Ints | None) -> Floats:
        if len(self.tables) == 1:
            ones = self.tables[0].value(scores[..., 1])
            return ones if explained is None else np.where(explained == 1, ones, 1 - ones)
        assert explained is not None
        raw = np.stack([t.every(scores[..., c]) for c, t in enumerate(self.tables)], axis=-1)
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
