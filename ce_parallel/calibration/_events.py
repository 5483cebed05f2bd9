"""Probabilistic regression: the probability of an event ``t1 < y <= t2``.

    calibration rows --permuted, halved--> A: residuals -> alphas
                                           B: predictions, targets
    event -> B scored by counting alphas below the event's bounds -> IVAP -> table (3, |A| + 1)
    test row, event -> count -> a column of the table: (value, low, high)

As in Löfström et al. (2025), "Calibrated explanations for regression", Machine Learning 114:100.
The score of a row is the conformal predictive distribution of half A at the event's bounds:
``(count + 1) / (|A| + 1)``. Only its order matters to Venn-Abers, so the count itself is used. A
one-sided event ``y <= t`` is ``-inf < y <= t``.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ce_parallel.calibration._ivap import InductiveVennAbers
from ce_parallel.calibration._mondrian import Mondrian
from ce_parallel.calibration._rows import NOTHING_KNOWN, Ints, Rows, group_rows

Floats = NDArray[np.float64]


class _Tables:
    """The tables of the events that were asked for last; pickled as if it were empty."""

    SIZE = 64

    def __init__(self) -> None:
        self._tables: OrderedDict[tuple[float, float], Floats] = OrderedDict()
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[Any, ...]:
        return _Tables, ()

    def get(self, low: float, high: float, build: Callable[[float, float], Floats]) -> Floats:
        """The table of an event. Two threads may both build it; one of the two is kept."""
        event = low, high
        with self._lock:
            if event in self._tables:
                self._tables.move_to_end(event)
                return self._tables[event]
        table = build(low, high)
        with self._lock:
            self._tables[event] = table
            if len(self._tables) > self.SIZE:
                self._tables.popitem(last=False)
        return table


@dataclass(frozen=True, eq=False)
class Halves:
    """The calibration rows of one Mondrian category, halved.

    Attributes
    ----------
    alphas : ndarray of shape (n_a,)
        Residuals of half A divided by their difficulty, ascending.
    y_hat, y : ndarray of shape (n_b,)
        Predictions and targets of half B.
    difficulty : ndarray of shape (n_b,) or None
        Difficulties of half B.
    summary : str
        How two probabilities become one value, see `InductiveVennAbers`.
    """

    alphas: Floats
    y_hat: Floats
    y: Floats
    difficulty: Floats | None = None
    summary: str = "regularized_mean"
    _tables: _Tables = field(default_factory=_Tables, init=False, repr=False)

    def score(
        self,
        y_hat: Floats,
        difficulty: Floats | None,
        low: Floats | float,
        high: Floats | float,
    ) -> Ints:
        """How many alphas put the target of each row in ``(low, high]``.

        Parameters
        ----------
        y_hat : ndarray of shape (n,)
        difficulty : ndarray of shape (n,) or None
        low, high : float or ndarray of shape (n,)

        Returns
        -------
        ndarray of shape (n,)
        """
        below, above = self.counts(y_hat, difficulty, low, high)
        return above - below

    def counts(
        self,
        y_hat: Floats,
        difficulty: Floats | None,
        low: Floats | float,
        high: Floats | float,
    ) -> Ints:
        """How many alphas put the target of each row at most at `low` and at `high`, (2, n)."""
        sigma = 1.0 if difficulty is None else difficulty
        count = count_below(self.alphas, y_hat, sigma, high)
        if np.all(np.isneginf(low)):
            return np.stack([np.zeros_like(count), count])
        return np.stack([count_below(self.alphas, y_hat, sigma, low), count])

    def resampled(self, rng: np.random.Generator) -> Halves:
        """Draw as many rows from each half as it has, with replacement."""
        a = np.sort(rng.integers(len(self.alphas), size=len(self.alphas)))
        b = rng.integers(len(self.y), size=len(self.y))
        difficulty = None if self.difficulty is None else self.difficulty[b]
        return Halves(self.alphas[a], self.y_hat[b], self.y[b], difficulty, self.summary)

    def table(self, low: float, high: float) -> Floats:
        """Value, low and high of the event ``low < y <= high``, one column per score."""
        return self._tables.get(low, high, self._build)

    def _build(self, low: float, high: float) -> Floats:
        scores = self.score(self.y_hat, self.difficulty, low, high)
        labels = (low < self.y) & (self.y <= high)
        ivap = InductiveVennAbers.fit(scores, labels, summary=self.summary)
        return ivap.predict(np.arange(len(self.alphas) + 1.0))


@dataclass(frozen=True, eq=False)
class EventPredictor:
    """Calibrated probabilities of events.

    Attributes
    ----------
    halves : Halves
        What the tables of the events are built from, each when it is first needed.
    events : ndarray of shape (n_events, 2)
        Bounds ``t1 < t2`` of each event ``t1 < y <= t2``, in units of the target.
    """

    halves: Halves
    events: Floats

    def predict(self, y_hat: Floats, rows: Rows = NOTHING_KNOWN) -> Floats:
        """Probability of each row's event.

        Parameters
        ----------
        y_hat : ndarray of shape (n,)
            Predictions of the underlying model.
        rows : Rows
            ``rows.event`` numbers the events (None: all are event 0); ``rows.difficulty`` is
            needed if the calibration rows had one.

        Returns
        -------
        ndarray of shape (3, n)
            Probability with its lower and upper bound; ``low <= value <= high``.
        """
        event = rows.event
        low, high = self.events[0 if event is None else event].T
        groups = [(0, slice(None))] if event is None else group_rows(event)
        scores = self.halves.score(y_hat, rows.difficulty, low, high)
        out = np.empty((3, len(y_hat)))
        for number, index in groups:
            table = self.halves.table(*self.events[number].tolist())
            out[:, index] = np.take(table, scores[index], axis=1)
        return out


@dataclass(frozen=True, eq=False)
class EventSplit:
    """Calibration rows split for events that are not known yet.

    Attributes
    ----------
    parts : tuple of (Halves or None)
        One per Mondrian category; one for all rows without categories. None: a half has no rows.
    mondrian : bool
        Whether there are categories.
    """

    parts: tuple[Halves | None, ...]
    mondrian: bool = False

    @classmethod
    def fit(
        cls,
        y_hat: ArrayLike,
        y: ArrayLike,
        *,
        difficulty: ArrayLike | None = None,
        category: ArrayLike | None = None,
        seed: int,
        summary: str = "regularized_mean",
        partial: bool = False,
    ) -> EventSplit:
        """Permute the calibration rows and halve them.

        Parameters
        ----------
        y_hat, y : array-like of shape (n,)
            Predictions and targets.
        difficulty : array-like of shape (n,), optional
            Positive.
        category : array-like of shape (n,), optional
            Numbers of Mondrian categories, from 0 on.
        seed : int
            Seed of the permutation.
        summary : {"regularized_mean", "mean", "lower", "upper"}
            See `InductiveVennAbers.fit`.
        partial : bool
            Whether parts may be missing.

        Raises
        ------
        ValueError
            If a half is empty, or has no row of some category, and `partial` is False.
        """
        y_hat, y = np.asarray(y_hat, dtype=np.float64), np.asarray(y, dtype=np.float64)
        sigma = None if difficulty is None else np.asarray(difficulty, dtype=np.float64)
        order = np.random.default_rng(seed).permutation(len(y))
        half = len(y) // 2
        parts: list[Halves | None] = []
        for a, b in _by_category(order[:half], order[half:], category, partial):
            if not len(a) or not len(b):
                parts.append(None)
                continue
            alphas = y[a] - y_hat[a]
            if sigma is not None:
                alphas = alphas / sigma[a]
            rest = None if sigma is None else sigma[b]
            parts.append(Halves(np.sort(alphas), y_hat[b], y[b], rest, summary))
        return cls(tuple(parts), category is not None)

    def resampled(self, rng: np.random.Generator) -> EventSplit:
        """Draw rows with replacement, of each category and half as many as there are."""
        parts = (None if halves is None else halves.resampled(rng) for halves in self.parts)
        return EventSplit(tuple(parts), self.mondrian)

    def calibrator(self, events: Floats) -> EventPredictor | Mondrian:
        """Predictor of events, ndarray of shape (n_events, 2); see `check_threshold`.

        It shares the tables of this split, and rows need a category if the split has any.
        """
        predictors = tuple(EventPredictor(halves, events) for halves in self.parts if halves)
        return Mondrian(predictors) if self.mondrian else predictors[0]


def check_threshold(threshold: Any) -> tuple[Floats, Ints | None]:
    """Return the distinct events of `threshold`, or say what is wrong with it.

    Parameters
    ----------
    threshold : float, pair of float, or sequence of either
        ``t`` for ``y <= t``, a tuple ``(t1, t2)`` for ``t1 < y <= t2``; or one of them per row,
        as a list or an array of shape (n,) or (n, 2).

    Returns
    -------
    events : ndarray of shape (n_events, 2)
        Bounds of the distinct events; the lower one of ``y <= t`` is ``-inf``.
    event : ndarray of shape (n,) or None
        Number of each row's event; None where there is one event for all rows.

    Raises
    ------
    ValueError
        If an event is no number and no pair, holds NaN, or has ``t1 >= t2``.
    """
    message = (
        "threshold must be a number t, a tuple (t1, t2) with t1 < t2, or a list of either with "
        f"one entry per row. Got {threshold!r} instead."
    )
    try:
        given = np.asarray(threshold)
        bounds = given.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(message) from error
    if given.dtype.kind not in "iuf":
        raise ValueError(message)
    one_for_all = bounds.ndim == 0 or (isinstance(threshold, tuple) and bounds.shape == (2,))
    if one_for_all:
        bounds = bounds[None]
    if bounds.ndim == 1:
        bounds = np.column_stack([np.full(len(bounds), -np.inf), bounds])
        valid = not np.isnan(bounds).any()
    else:
        valid = bounds.shape[1:] == (2,) and bool((bounds[:, 0] < bounds[:, 1]).all())
    if not valid:
        raise ValueError(message)
    if one_for_all:
        return bounds, None
    events, event = np.unique(bounds, axis=0, return_inverse=True)
    return events, event.reshape(-1)  # NumPy 2.0 gives it a second axis


def _by_category(
    a: Ints, b: Ints, category: ArrayLike | None, partial: bool
) -> list[tuple[Ints, Ints]]:
    """Members of both halves per category, each in the order of its half."""
    if category is None:
        if not len(a) and not partial:
            raise ValueError(
                "Probabilities of events need at least 2 calibration rows, because they are split "
                f"in two halves. Got {len(b)}."
            )
        return [(a, b)]
    category = np.asarray(category)
    parts = []
    for number in range(int(category.max(initial=-1)) + 1):
        in_a, in_b = a[category[a] == number], b[category[b] == number]
        if not partial and (not len(in_a) or not len(in_b)):
            raise ValueError(
                "Probabilities of events need rows of each Mondrian category in both halves of "
                f"the calibration set. Category {number} has {len(in_a)} and {len(in_b)}: use "
                "more calibration rows, fewer categories, or another seed."
            )
        parts.append((in_a, in_b))
    return parts


def count_below(alphas: Floats, y_hat: Floats, sigma: Floats | float, t: Floats | float) -> Ints:
    """How many `alphas` have ``y_hat + sigma * alpha <= t``, for each row.

    The search divides where the definition multiplies, so at a tie it may miss; the definition
    then has the last word, and moves past equal alphas in one step.
    """
    with np.errstate(all="ignore"):  # a quotient that overflows only starts the walk far away
        count = np.searchsorted(alphas, (t - y_hat) / sigma, side="right")
    while len(miss := np.flatnonzero((count > 0) & (y_hat + sigma * alphas[count - 1] > t))):
        count[miss] = np.searchsorted(alphas, alphas[count[miss] - 1], side="left")
    following = np.append(alphas, np.nan)  # what is not there is not below
    while len(miss := np.flatnonzero(y_hat + sigma * following[count] <= t)):
        count[miss] = np.searchsorted(alphas, alphas[count[miss]], side="right")
    return count
