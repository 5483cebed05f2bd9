"""Split conformal predictive systems (CPS) for regression.

    residuals / sigma --sort--> alphas
    y_hat + sigma * alphas[index(percentile)] -> value, low, high

Vovk, Shen, Manokhin & Xie (2019), "Nonparametric predictive distributions based on conformal
prediction", Machine Learning 108; as used by Löfström et al. (2025), "Calibrated explanations
for regression", Machine Learning 114:100. Unsmoothed: nothing here is random. Sigma is the
difficulty of a row; without it all rows are equally difficult, and sigma is 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ce_parallel.calibration._rows import NOTHING_KNOWN, Rows

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class ConformalPredictiveSystem:
    """Sorted calibration residuals, read as a predictive distribution around a prediction.

    Attributes
    ----------
    alphas : ndarray of shape (n,)
        Residuals ``y - y_hat`` of the calibration rows, ascending, in units of the target; divided
        by the difficulty of their row if there is one.
    """

    alphas: Floats

    @classmethod
    def fit(
        cls, residuals: ArrayLike, difficulty: ArrayLike | None = None
    ) -> ConformalPredictiveSystem:
        """Sort residuals ``y - y_hat``, array-like of shape (n,).

        With `difficulty`, array-like of shape (n,), positive, every `predict` needs it too.
        """
        alphas = np.asarray(residuals, dtype=np.float64)
        return cls(np.sort(alphas if difficulty is None else alphas / np.asarray(difficulty)))

    def predict(
        self,
        y_hat: Floats,
        rows: Rows = NOTHING_KNOWN,
        *,
        percentiles: tuple[float, float] = (5, 95),
    ) -> Floats:
        """Median and interval of the predictive distribution of each prediction.

        Parameters
        ----------
        y_hat : ndarray of shape (n,)
            Predictions of the underlying model.
        rows : Rows
            ``rows.difficulty`` widens the distribution of each row.
        percentiles : pair of float
            Lower and upper percentile, see `check_percentiles`.

        Returns
        -------
        ndarray of shape (3, n)
            Median, low and high. A bound that the calibration set is too small to give, or that
            was not asked for, is infinite.
        """
        sigma = 1.0 if rows.difficulty is None else rows.difficulty
        n = len(self.alphas)
        steps = np.concatenate([[-np.inf], self.alphas, [np.inf]])
        below, above = self.median_residuals()
        low, high = steps[lower_rank(percentiles[0], n)], steps[upper_rank(percentiles[1], n)]
        median = (y_hat + sigma * below + (y_hat + sigma * above)) / 2
        return np.stack([median, y_hat + sigma * low, y_hat + sigma * high])

    def median_residuals(self) -> tuple[float, float]:
        """Lower and upper median of the residuals; the same if their number is odd."""
        n = len(self.alphas)
        return self.alphas[lower_rank(50, n) - 1], self.alphas[upper_rank(50, n) - 1]


def lower_rank(q: float, n: int) -> int:
    """Rank of the largest of `n` residuals that is a valid lower end at percentile `q`, or 0."""
    # This order of evaluation is part of the method: 7 / 100 * 100 > 7.
    return 0 if q == -np.inf else int(q / 100 * (n + 1))


def upper_rank(q: float, n: int) -> int:
    """Rank of the smallest of `n` residuals that is a valid upper end, or n + 1."""
    return n + 1 if q == np.inf else ceil(q / 100 * (n + 1))


def check_percentiles(percentiles: Any) -> tuple[float, float]:
    """Return `percentiles` as a valid pair, or say what is wrong with it.

    A pair is valid when ``0 < low <= 50 <= high < 100``; ``-inf`` and ``inf`` in place of the
    lower or the upper one leave that end of the interval open.

    Raises
    ------
    ValueError
        If the pair is out of order, out of range, open at both ends, or no pair.
    """
    message = (
        "percentiles must be a pair (low, high) with 0 < low <= 50 <= high < 100, where one of "
        f"the two may be -inf or inf for an open end. Got {percentiles!r} instead."
    )
    try:
        low, high = (float(q) for q in percentiles)
    except (TypeError, ValueError) as error:
        raise ValueError(message) from error
    low_open, high_open = low == -np.inf, high == np.inf
    if (low_open and high_open) or not (low_open or 0 < low <= 50):
        raise ValueError(message)
    if not (high_open or 50 <= high < 100):
        raise ValueError(message)
    return low, high
