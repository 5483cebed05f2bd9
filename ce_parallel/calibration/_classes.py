"""Venn-Abers calibration of all classes of a classifier, one against the rest.

    scores (n, K), codes --one IVAP per class--> raw (3, n, K) --NORMALIZATIONS--> (3, n, K)

With two classes there is one IVAP, of class 1; class 0 is its complement, and nothing needs to
be normalised.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ce_parallel.calibration._ivap import SUMMARIES, InductiveVennAbers
from ce_parallel.calibration._rows import NOTHING_KNOWN, Rows

Floats = NDArray[np.float64]


def _scale(raw: Floats, summary: str) -> Floats:
    return raw / _row_sums(raw[0])


def _simplex(raw: Floats, summary: str) -> Floats:
    value, low, high = raw
    if summary not in ("lower", "upper"):  # those are bounds, and stay what they are
        value = value / _row_sums(value)
    return np.stack([value, low, high])


def _coherence(raw: Floats, summary: str) -> Floats:
    low = raw[1]
    high = np.clip(1 - low.sum(axis=1, keepdims=True) + low, low, 1)
    return _simplex(np.stack([SUMMARIES[summary](low, high), low, high]), summary)


def _row_sums(values: Floats) -> Floats:
    """Sum of each row, of shape (n, 1); 1 where it is 0, so that one can divide by it."""
    sums = values.sum(axis=1, keepdims=True)
    return np.where(sums == 0, 1.0, sums)


NORMALIZATIONS: dict[str, Callable[[Floats, str], Floats]] = {
    # Value and bounds divided by the sum of the values; a bound may then exceed 1.
    "scale": _scale,
    # Values alone; a value may then lie outside its bounds.
    "simplex": _simplex,
    # Bounds that lower probabilities of the other classes leave room for, then as "simplex".
    "coherence": _coherence,
    "none": lambda raw, summary: raw,
}


@dataclass(frozen=True, eq=False)
class VennAbersClassifier:
    """Inductive Venn-Abers predictors of K >= 2 classes.

    Attributes
    ----------
    tables : tuple of InductiveVennAbers or MergedVennAbers
        One per class; with two classes, that of class 1 alone.
    summary : str
        How two probabilities became one value, see `InductiveVennAbers`.
    normalization : {"scale", "simplex", "coherence", "none"}
        How the classes are brought into line if there are more than two.
    """

    tables: tuple[Any, ...]
    summary: str = "regularized_mean"
    normalization: str = "scale"

    @classmethod
    def fit(
        cls,
        scores: Floats,
        codes: ArrayLike,
        *,
        calibration_decimals: int | None = None,
        test_decimals: int | None = None,
        summary: str = "regularized_mean",
        normalization: str = "scale",
    ) -> VennAbersClassifier:
        """Build a table per class.

        Parameters
        ----------
        scores : ndarray of shape (n, n_classes)
            Probabilities of the estimator, one column per class it knows.
        codes : array-like of shape (n,)
            Class numbers. A class that none of the rows belongs to keeps its column: it is
            calibrated on rows of which none is a member.
        calibration_decimals, test_decimals, summary
            See `InductiveVennAbers.fit`.
        normalization : {"scale", "simplex", "coherence", "none"}
        """
        codes = np.asarray(codes)
        n_classes = scores.shape[1]
        tables = tuple(
            InductiveVennAbers.fit(
                scores[:, c],
                codes == c,
                calibration_decimals=calibration_decimals,
                test_decimals=test_decimals,
                summary=summary,
            )
            for c in ([1] if n_classes == 2 else range(n_classes))
        )
        return cls(tables, summary, normalization)

    def predict_all(self, scores: Floats, rows: Rows = NOTHING_KNOWN) -> Floats:
        """Calibrate the scores of all classes.

        Parameters
        ----------
        scores : ndarray of shape (n, n_classes)
            Or, for merged tables, of shape (n, n_folds, n_classes).
        rows : Rows
            Not needed.

        Returns
        -------
        ndarray of shape (3, n, n_classes)
            Probability of each class with its lower and upper bound.
        """
        if len(self.tables) == 1:
            ones = self.predict(scores)
            return np.stack([1 - ones[[0, 2, 1]], ones], axis=-1)
        raw = np.stack([t.predict(scores[..., c]) for c, t in enumerate(self.tables)], axis=-1)
        return NORMALIZATIONS[self.normalization](raw, self.summary)

    def predict(self, scores: Floats, rows: Rows = NOTHING_KNOWN) -> Floats:
        """Calibrate the score of class 1 of two.

        Parameters
        ----------
        scores : ndarray of shape (n, 2)
        rows : Rows
            Not needed.

        Returns
        -------
        ndarray of shape (3, n)
            Probability of class 1 with its lower and upper bound.

        Raises
        ------
        ValueError
            If there are more than two classes: the likeliest one could be another for each
            perturbed copy of a row.
        """
        if len(self.tables) > 1:
            raise ValueError("With more than two classes none is the one: use predict_all.")
        return self.tables[0].predict(scores[..., 1])
