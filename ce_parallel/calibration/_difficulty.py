"""Class probabilities drawn towards one half where a row is difficult."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def reshape_scores(proba: Floats, difficulty: Floats) -> Floats:
    """Sharpen the probabilities of easy rows and flatten those of difficult ones.

    Applied to the scores of calibration rows before fitting and to those of test rows before
    prediction, as calibrated-explanations 1.0.2 does; its side is chosen by class 0 alone.

    Parameters
    ----------
    proba : ndarray of shape (n, n_classes) or (n, n_folds, n_classes)
        Probabilities of an estimator, or of those of several folds.
    difficulty : ndarray of shape (n,)
        From 0 (easy) to 1 (hard).

    Returns
    -------
    ndarray of the same shape
        Rows that add up to 1.
    """
    d = np.asarray(difficulty, dtype=np.float64).reshape(-1, *[1] * (proba.ndim - 1))
    power = 1 + 5 * (1 - d)
    upper = proba[..., :1] >= 0.5
    sharp = np.where(upper, 1 - proba, proba) ** power
    sharp = np.where(upper, 1 - sharp, sharp)
    flat = (1 - d) * sharp + d * 0.5
    return flat / flat.sum(axis=-1, keepdims=True)
