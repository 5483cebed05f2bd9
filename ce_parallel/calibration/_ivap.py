"""Inductive Venn-Abers prediction (IVAP) for binary labels.

    scores, labels --group--> knots, cumulative sum diagram --hulls--> (p0, p1) per knot
    test score --searchsorted--> one column of a table (value, low, high)

Implements Algorithms 1-4 of Vovk, Petej & Fedorova (2015), "Large-scale probabilistic
predictors with and without guarantees of validity", NeurIPS 28. All sums are integers, so every
table entry is one correctly rounded division and equals refitting isotonic regression with the
test object added.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ce_parallel.calibration._rows import NOTHING_KNOWN, Rows

Floats = NDArray[np.float64]

SUMMARIES: dict[str, Callable[[Floats, Floats], Floats]] = {
    # The merge that is minimax for log loss, section 4 of the paper.
    "regularized_mean": lambda low, high: high / (1 - low + high),
    "mean": lambda low, high: (low + high) / 2,
    "lower": lambda low, high: low,
    "upper": lambda low, high: high,
}


@dataclass(frozen=True, eq=False)
class InductiveVennAbers:
    """Look-up table of an inductive Venn-Abers predictor.

    Attributes
    ----------
    knots : ndarray of shape (n_knots,)
        The distinct calibration scores, ascending.
    table : ndarray of shape (3, 2 * n_knots + 1)
        Value, low and high for a score strictly below knot ``j`` (and above its predecessor)
        in column ``2 * j``, and for a score equal to knot ``j`` in column ``2 * j + 1``.
    decimals : int or None
        Test scores are rounded to this many decimals before the look-up.
    """

    knots: Floats
    table: Floats
    decimals: int | None = None

    @classmethod
    def fit(
        cls,
        scores: ArrayLike,
        labels: ArrayLike,
        *,
        calibration_decimals: int | None = None,
        test_decimals: int | None = None,
        summary: str = "regularized_mean",
    ) -> InductiveVennAbers:
        """Build the table in O(n log n).

        Parameters
        ----------
        scores : array-like of shape (n,)
            Calibration scores; higher means more of class 1.
        labels : array-like of shape (n,)
            1 (or True) for members of class 1. One class alone is legal.
        calibration_decimals, test_decimals : int or None
            Rounding of the calibration scores, and of the scores given to `predict`.
        summary : {"regularized_mean", "mean", "lower", "upper"}
            How the two probabilities become one value.
        """
        scores = np.asarray(scores, dtype=np.float64)
        if calibration_decimals is not None:
            scores = np.round(scores, calibration_decimals)
        knots, group, sizes = np.unique(scores, return_inverse=True, return_counts=True)
        positives = np.bincount(group[np.asarray(labels, dtype=bool)], minlength=len(knots))

        p1 = np.append(np.divide(*_slopes_with_extra_one(sizes, positives)), 1.0)
        # A label 0 added to a knot is a label 1 added to the mirrored problem.
        rise, run = _slopes_with_extra_one(sizes[::-1], (sizes - positives)[::-1])
        p0 = np.append(0.0, ((run - rise) / run)[::-1])

        low = np.repeat(p0, 2)[1:]  # at knot j and above it: an extra 0 pools downwards
        high = np.repeat(p1, 2)[:-1]  # below knot j and at it: an extra 1 pools upwards
        table = np.stack([SUMMARIES[summary](low, high), low, high])
        return cls(knots, table, test_decimals)

    def predict(self, scores: Floats, rows: Rows = NOTHING_KNOWN) -> Floats:
        """Calibrate scores.

        Parameters
        ----------
        scores : ndarray of shape (n,)
        rows : Rows
            Not needed.

        Returns
        -------
        ndarray of shape (3, n)
            Probability of class 1 with its lower and upper bound; ``low <= value <= high``.
        """
        return np.take(self.table, self.positions(scores), axis=1)

    def positions(self, scores: Floats) -> NDArray[np.int64]:
        """Column of `table` for each score, ndarray of shape (n,)."""
        if self.decimals is not None:
            scores = np.round(scores, self.decimals)
        below = np.searchsorted(self.knots, scores, side="left")
        hit = self.knots[np.minimum(below, len(self.knots) - 1)] == scores
        return 2 * below + hit

    def positions_of(self, knots: Floats) -> NDArray[np.int64]:
        """Column of `table` for each column of a table with more `knots`, of which it has some."""
        below = np.searchsorted(self.knots, knots, side="left")
        hit = self.knots[np.minimum(below, len(self.knots) - 1)] == knots
        return np.append(np.column_stack([2 * below, 2 * below + hit]), 2 * len(self.knots))


def _slopes_with_extra_one(sizes: NDArray[np.int64], positives: NDArray[np.int64]):
    """Isotonic value of each group once an extra object of label 1 has joined it.

    The extra object is a step (1, 1) of the cumulative sum diagram. It starts in front of all
    groups and walks right past one group at a time, while a stack holds the corners of the
    greatest convex minorant to its right; each corner is pushed and popped at most once.

    Returns
    -------
    rise, run : ndarray of shape (n_groups,)
        Integer numerators and denominators of the slopes.
    """
    n = len(sizes)
    xs = [-1, 0, *np.cumsum(sizes).tolist()]
    ys = [-1, 0, *np.cumsum(positives).tolist()]
    hull: list[tuple[int, int]] = []
    for corner in zip(reversed(xs), reversed(ys), strict=True):
        _push_corner(hull, corner)
    rise, run = np.empty(n, dtype=np.int64), np.empty(n, dtype=np.int64)
    for j in range(n):
        (x0, y0), (x1, y1) = hull[-1], hull[-2]
        rise[j], run[j] = y1 - y0, x1 - x0
        # Swap the extra step with group j: only the corner between the two moves.
        corner = (xs[j] + xs[j + 2] - xs[j + 1], ys[j] + ys[j + 2] - ys[j + 1])
        xs[j + 1], ys[j + 1] = corner
        if rise[j] * (corner[0] - x0) > run[j] * (corner[1] - y0):  # strictly below the minorant
            hull.pop()
            _push_corner(hull, corner)
    return rise, run


def _push_corner(hull: list[tuple[int, int]], corner: tuple[int, int]) -> None:
    """Put a corner in front (left) of a convex chain, dropping corners that it hides."""
    x, y = corner
    while len(hull) > 1:
        (x1, y1), (x2, y2) = hull[-1], hull[-2]
        if (y1 - y) * (x2 - x1) < (y2 - y1) * (x1 - x):
            break
        hull.pop()
    hull.append(corner)
