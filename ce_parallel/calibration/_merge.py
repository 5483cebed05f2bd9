"""One calibrated prediction from the scores and the calibrators of several folds.

    scores (n, K) --column k, table of fold k--> (low, high) --geometric means--> (3, n)
    y_hat (n, K), residuals of K folds --union--> percentiles of one distribution --> (3, n)

The second axis of scores numbers the folds. A score that is NaN has no say: this is how rows of
the calibration set are predicted by those folds alone that held them out.

Vovk, Petej & Fedorova (2015), "Large-scale probabilistic predictors with and without guarantees of
validity", NeurIPS 28, section 4 (cross Venn-Abers predictors, CVAP); Vovk, Nouretdinov, Manokhin &
Gammerman (2018), "Cross-conformal predictive distributions", PMLR 91.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ce_parallel.calibration._cps import lower_rank, upper_rank
from ce_parallel.calibration._events import EventPredictor, EventSplit, Halves, count_below
from ce_parallel.calibration._ivap import SUMMARIES
from ce_parallel.calibration._mondrian import Mondrian
from ce_parallel.calibration._rows import NOTHING_KNOWN, Rows, group_rows

Floats = NDArray[np.float64]
Ints = NDArray[np.integer]

# Points of a row that are sorted rather than searched. Half or twice as many take as long, says
# tests/benchmarks/bench_folds.py.
FEW = 32

# What is held at a time while percentiles are looked for.
CHUNK_ROWS = 8192
CHUNK_BYTES = 2 * 2**20


@dataclass(frozen=True, eq=False)
class MergedVennAbers:
    """Venn-Abers predictors of several folds, merged by geometric means.

    Attributes
    ----------
    members : tuple of InductiveVennAbers or EventPredictor
        One per fold that takes part.
    folds : tuple of int
        The column of its scores, for each member.
    summary : str
        How merged low and high become one value, see `InductiveVennAbers`.
    """

    members: tuple[Any, ...]
    folds: tuple[int, ...]
    summary: str

    def predict(self, scores: Floats, rows: Rows = NOTHING_KNOWN) -> Floats:
        """Calibrate scores by every member, and merge what they say.

        With ``p0, p1`` of each fold and GM their geometric mean over folds, low is
        ``1 - GM(1 - p0)`` and high is ``GM(p1)``. Folds that disagree by more than their intervals
        are wide make low exceed high; the two then change places, after the value was computed.

        Parameters
        ----------
        scores : ndarray of shape (n, n_folds)
        rows : Rows
            What the members need.

        Returns
        -------
        ndarray of shape (3, n)
            ``low <= value <= high``.
        """
        sums, voices = np.zeros((2, len(scores))), np.zeros(len(scores), dtype=np.int64)
        for member, k in zip(self.members, self.folds, strict=True):
            p0, p1 = member.predict(scores[:, k], rows)[1:]
            heard = ~np.isnan(scores[:, k])
            with np.errstate(divide="ignore"):  # the logarithm of 0 is what it should be
                sums += np.where(heard, [np.log1p(-p0), np.log(p1)], 0.0)
            voices += heard
        return self.merged(sums, voices)

    def merged(self, sums: Floats, voices: Ints | int) -> Floats:
        """Value, low and high from sums of ``log(1 - p0)`` and ``log(p1)`` over folds.

        Parameters
        ----------
        sums : ndarray of shape (2, ...)
        voices : int or ndarray
            How many folds are in a sum.

        Returns
        -------
        ndarray of shape (3, ...)
        """
        low, high = -np.expm1(sums[0] / voices), np.exp(sums[1] / voices)
        value = SUMMARIES[self.summary](low, high)
        low, high = np.minimum(low, high), np.maximum(low, high)
        if self.summary in ("lower", "upper"):
            value = SUMMARIES[self.summary](low, high)
        return np.stack([np.clip(value, low, high), low, high])


@dataclass(frozen=True, eq=False)
class CrossConformal:
    """A cross-conformal predictive distribution.

    It is made of one point per fold and calibration row: the fold's prediction plus the residual
    of the row, times the difficulty of the new row.

    Attributes
    ----------
    alphas : tuple of ndarrays of shape (n_k,)
        Residuals of each fold that takes part, ascending, see `ConformalPredictiveSystem`.
    folds : tuple of int
        The column of its predictions, for each of them.
    """

    alphas: tuple[Floats, ...]
    folds: tuple[int, ...]

    def predict(
        self,
        y_hat: Floats,
        rows: Rows = NOTHING_KNOWN,
        *,
        percentiles: tuple[float, float] = (5, 95),
    ) -> Floats:
        """Median and interval of the predictive distribution of each row.

        Parameters
        ----------
        y_hat : ndarray of shape (n, n_folds)
            Predictions of the models of all folds.
        rows, percentiles
            See `ConformalPredictiveSystem.predict`.

        Returns
        -------
        ndarray of shape (3, n)
            Median, low and high, in units of the target.
        """
        centres = y_hat[:, self.folds]
        if np.isnan(centres).any():
            return self._of_some(y_hat, rows, percentiles)
        n = sum(map(len, self.alphas))

        def between(first: int, last: int) -> Floats:
            found = np.empty((2, len(centres)))
            for start in range(0, len(centres), CHUNK_ROWS):
                here = slice(start, start + CHUNK_ROWS)
                sigma = None if rows.difficulty is None else rows.difficulty[here]
                found[:, here] = ranked(self.alphas, centres[here], sigma, first, last)
            return found

        low, high = lower_rank(percentiles[0], n), upper_rank(percentiles[1], n)
        middle = between(lower_rank(50, n), upper_rank(50, n))
        return np.stack([(middle[0] + middle[1]) / 2, between(low, low)[0], between(high, high)[0]])

    def _of_some(self, y_hat: Floats, rows: Rows, percentiles: tuple[float, float]) -> Floats:
        """Predict rows on which not all folds have a say, those of the same folds together."""
        heard, group = np.unique(~np.isnan(y_hat[:, self.folds]), axis=0, return_inverse=True)
        out = np.empty((3, len(y_hat)))
        for number, index in group_rows(group.reshape(-1)):  # NumPy 2.0 gives it a second axis
            here = np.flatnonzero(heard[number])
            some = CrossConformal(
                tuple(self.alphas[k] for k in here), tuple(self.folds[k] for k in here)
            )
            out[:, index] = some.predict(y_hat[index], rows.take(index), percentiles=percentiles)
        return out


def ranked(
    alphas: Sequence[Floats], centres: Floats, sigma: Floats | None, first: int, last: int
) -> Floats:
    """Two order statistics of a union of shifted arrays, to the bit as sorting would find them.

    A binary search in all arrays at once leaves a short stretch of each; these are sorted.

    Parameters
    ----------
    alphas : sequence of K ndarrays
        Ascending, none of them empty; `n` numbers in all.
    centres : ndarray of shape (n_rows, K)
    sigma : ndarray of shape (n_rows,) or None
        The union holds ``centres[i, k] + sigma[i] * alpha`` for every alpha of array k.
    first, last : int
        Ranks, equal or neighbours; that of the smallest is 1. Minus infinity has rank 0, infinity
        has rank ``n + 1``.

    Returns
    -------
    ndarray of shape (2, n_rows)
    """
    sizes = np.array([len(a) for a in alphas])
    if first < 1 or last > sizes.sum():
        return np.full((2, len(centres)), -np.inf if first < 1 else np.inf)
    scale = np.ones(len(centres)) if sigma is None else sigma
    starts, stops = _stretches(alphas, centres, scale, first, last)
    width = (stops - starts).max(axis=1)
    bounded = np.concatenate([part for a in alphas for part in (a, [np.inf])])
    ends = np.cumsum(sizes + 1) - 1  # where the infinity of each array stands
    out = np.empty((2, len(centres)))
    order = np.argsort(-width, kind="stable")  # long stretches apart from short ones
    while len(order):
        n_rows = max(1, CHUNK_BYTES // (8 * len(alphas) * int(width[order[0]])))
        here, order = order[:n_rows], order[n_rows:]
        places = starts[here][:, :, None] + np.arange(width[here[0]])
        places = np.minimum(places + (ends - sizes)[:, None], ends[:, None])
        union = centres[here][:, :, None] + scale[here][:, None, None] * bounded[places]
        union = np.sort(union.reshape(len(here), -1), axis=1)
        before = starts[here].sum(axis=1)
        for i, rank in enumerate((first, last)):
            out[i, here] = union[np.arange(len(here)), rank - 1 - before]
    return out


def _stretches(
    alphas: Sequence[Floats], centres: Floats, sigma: Floats, first: int, last: int
) -> tuple[Ints, Ints]:
    """Where in each array the ranks `first` to `last` of the union are to be found.

    The middle of a row's longest stretch divides all its stretches, over and over, until few
    numbers are left, or nothing but equal ones keeps it from going on.

    Returns
    -------
    starts, stops : ndarrays of shape (n_rows, K)
        What stands before is at most as large as the number of rank `first`, what stands behind
        at least as large as that of rank `last`.
    """
    starts: Ints = np.zeros(centres.shape, dtype=np.int64)
    stops: Ints = np.tile([len(a) for a in alphas], (len(centres), 1))
    bounded = np.concatenate(alphas)
    offsets = np.cumsum([0, *map(len, alphas[:-1])])
    rows: Ints = np.arange(len(centres))
    left: Ints = np.full(len(rows), len(bounded))
    while len(rows := rows[left > FEW]):
        centre, scale, start, stop = centres[rows], sigma[rows], starts[rows], stops[rows]
        longest = (stop - start).argmax(axis=1)
        each = np.arange(len(rows)), longest
        middle = (start[each] + stop[each]) // 2 + offsets[longest]
        pivot = centre[each] + scale * bounded[middle]
        below = [count_below(a, centre[:, k], scale, pivot) for k, a in enumerate(alphas)]
        cut = np.stack(below, axis=1)
        total = cut.sum(axis=1)[:, None]
        # Equal to `first`, less than `last`: one ends the left part, one starts the right part.
        start = np.where(total < last, np.maximum(start, cut - (total == first)), start)
        stop = np.where(total >= first, np.minimum(stop, cut + (total < last)), stop)
        starts[rows], stops[rows] = start, stop
        before, left = left[left > FEW], (stop - start).sum(axis=1)
        rows, left = rows[left < before], left[left < before]
    return starts, stops


@dataclass(frozen=True, eq=False)
class MergedEventSplit:
    """Calibration rows of several folds, each split for events that are not known yet.

    Attributes
    ----------
    splits : tuple of EventSplit
        One per fold; parts may be missing.
    folds : tuple of int
        The column of its predictions, for each of them.
    """

    splits: tuple[EventSplit, ...]
    folds: tuple[int, ...]

    def __post_init__(self) -> None:
        """Raise a ValueError if a category has both halves in no fold."""
        for number, parts in enumerate(self._parts()):
            if not any(parts):
                raise ValueError(
                    "Probabilities of events split the held-out rows of each fold in two halves. "
                    f"No fold has rows of {f'category {number}' if self._mondrian else 'any kind'} "
                    "in both: use more rows, or fewer folds."
                )

    @property
    def _mondrian(self) -> bool:
        return any(split.mondrian for split in self.splits)

    def _parts(self) -> list[tuple[Halves | None, ...]]:
        """Of each category, the halves in every fold."""
        return list(zip_longest(*(split.parts for split in self.splits)))

    def resampled(self, rng: np.random.Generator) -> MergedEventSplit:
        """Draw rows with replacement, of each fold, category and half as many as there are."""
        return MergedEventSplit(tuple(s.resampled(rng) for s in self.splits), self.folds)

    def calibrator(self, events: Floats) -> MergedVennAbers | Mondrian:
        """Predictor of events, ndarray of shape (n_events, 2); see `EventSplit.calibrator`."""
        merged = []
        for parts in self._parts():
            found = [(k, p) for k, p in zip(self.folds, parts, strict=True) if p is not None]
            members = tuple(EventPredictor(halves, events) for _, halves in found)
            summary = found[0][1].summary
            merged.append(MergedVennAbers(members, tuple(k for k, _ in found), summary))
        return Mondrian(tuple(merged)) if self._mondrian else merged[0]


def merge(calibrators: Sequence[Any], folds: Sequence[int]) -> Any:
    """Merge calibrators of one kind, `VennAbersClassifier` or `ConformalPredictiveSystem`."""
    first, numbers = calibrators[0], tuple(folds)
    if not hasattr(first, "tables"):
        return CrossConformal(tuple(c.alphas for c in calibrators), numbers)
    by_class = zip(*(c.tables for c in calibrators), strict=True)
    return replace(
        first, tables=tuple(MergedVennAbers(tables, numbers, first.summary) for tables in by_class)
    )
