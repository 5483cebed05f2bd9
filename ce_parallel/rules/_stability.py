"""Stability: how much predictions and weights move over bootstrap replicates.

    replicated values (B, n_values) --means of regions and cells--> weights (B, n, m) --summarise-->
    standard deviation, band, agreement in sign, share of replicates in which a weight is among the
    largest of its row

This is not the calibrated interval. That says how far a probability is known, or where the target
will lie; this says how far the numbers would be others, had other rows been drawn.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

BAND = (5, 95)  # percentiles of a band
TOP = 5  # weights of a row that count as its largest


@dataclass(frozen=True, eq=False)
class Stability:
    """Bands over B bootstrap replicates of n rows with d features.

    A feature that was not varied, or of which nothing else can be tried, has weight 0 in every
    replicate.

    Attributes
    ----------
    prediction_std : ndarray of shape (n,)
        Standard deviation of the prediction, over replicates.
    prediction_band : ndarray of shape (n, 2)
        Its percentiles 5 and 95.
    weights_std : ndarray of shape (n, d)
    weights_band : ndarray of shape (n, d, 2)
        The same of each weight.
    sign_agreement : ndarray of shape (n, d)
        Share of replicates in which the weight has the sign of the one reported.
    in_top : ndarray of shape (n, d)
        Share of replicates in which the weight is one of the 5 largest of its row, by absolute
        value; weights of 0 never are.
    n_bootstraps : int
        Number of replicates, B.
    """

    prediction_std: Floats
    prediction_band: Floats
    weights_std: Floats
    weights_band: Floats
    sign_agreement: Floats
    in_top: Floats
    n_bootstraps: int

    def __len__(self) -> int:
        return len(self.prediction_std)

    @classmethod
    def unmoved(cls, n: int, d: int, n_bootstraps: int) -> Stability:
        """Return one in which no weight has moved, to be filled."""
        return cls(
            np.zeros(n),
            np.zeros((n, 2)),
            np.zeros((n, d)),
            np.zeros((n, d, 2)),
            np.ones((n, d)),
            np.zeros((n, d)),
            n_bootstraps,
        )

    @classmethod
    def joined(cls, parts: Sequence[Stability]) -> Stability:
        """Return one of the rows of all parts, one part after the other."""
        return cls._combined(parts, np.concatenate)

    @classmethod
    def interleaved(cls, parts: Sequence[Stability]) -> Stability:
        """Return row 0 of all parts, row 1 of all parts, ..."""
        return cls._combined(
            parts, lambda arrays: np.stack(arrays, axis=1).reshape(-1, *arrays[0].shape[1:])
        )

    @classmethod
    def _combined(
        cls, parts: Sequence[Stability], combine: Callable[[list[Floats]], Floats]
    ) -> Stability:
        arrays = [part.arrays() for part in parts]
        combined = {name: combine([part[name] for part in arrays]) for name in arrays[0]}
        return cls(**combined, n_bootstraps=parts[0].n_bootstraps)

    def fill(self, rows: slice, features: NDArray[np.integer], part: Stability) -> None:
        """Put some rows and features where they belong."""
        arrays = self.arrays()
        for name, values in part.arrays().items():
            where: Any = rows if name.startswith("prediction") else (rows, features)
            arrays[name][where] = values

    def arrays(self) -> dict[str, Floats]:
        """Return the arrays by name; their first axis is the row."""
        names = [column.name for column in fields(self) if column.name != "n_bootstraps"]
        return {name: getattr(self, name) for name in names}

    def __getitem__(self, rows: Any) -> Stability:
        return Stability(
            **{name: values[rows] for name, values in self.arrays().items()},
            n_bootstraps=self.n_bootstraps,
        )


def summarise(base: Floats, weights: Floats, reported: Floats) -> Stability:
    """Summarise replicates.

    Parameters
    ----------
    base : ndarray of shape (B, n)
        Prediction of each row.
    weights : ndarray of shape (B, n, m)
        Weights of its features.
    reported : ndarray of shape (n, m)
        The weights that are shown.
    """
    # Replicates last and next to each other: sums over them do not depend on the number of rows.
    base, weights = (np.ascontiguousarray(np.moveaxis(x, 0, -1)) for x in (base, weights))
    return Stability(
        prediction_std=base.std(axis=-1),
        prediction_band=_band(base),
        weights_std=weights.std(axis=-1),
        weights_band=_band(weights),
        sign_agreement=(np.sign(weights) == np.sign(reported)[..., None]).mean(axis=-1),
        in_top=_in_top(np.abs(weights)),
        n_bootstraps=base.shape[-1],
    )


def _in_top(magnitudes: Floats) -> Floats:
    """Share of replicates in which a weight is one of the largest of its row, not being 0.

    Of equal ones the first feature is taken for the largest.
    """
    m = magnitudes.shape[1]
    if m <= TOP:
        return (magnitudes > 0).mean(axis=-1)
    least = np.partition(magnitudes, m - TOP, axis=1)[:, m - TOP, None]
    chosen = (magnitudes >= least) & (magnitudes > 0)
    row, replicate = np.nonzero(chosen.sum(axis=1) > TOP)
    first = np.argsort(-magnitudes[row, :, replicate], axis=1, kind="stable")[:, :TOP]
    chosen[row, :, replicate] = False
    chosen[row[:, None], first, replicate[:, None]] = True
    return chosen.mean(axis=-1)


def _band(values: Floats) -> Floats:
    """Percentiles over the last axis, which become it."""
    return np.moveaxis(np.percentile(values, BAND, axis=-1), 0, -1)
