"""The perturbation grid: what is tried instead of each value that a feature can have.

A *cell* is one bin of one feature, the place where a row's present value lies. Each cell has
zero or more alternative *regions* (for factual rules: all that is below it, all that is above),
and each region is represented by one or more *values*. Three levels, stored flat:

    feature f --cell_ptr--> cells --region_ptr--> regions --value_ptr--> values

Two numeric bins around the edge 3.5, reference values 1 2 3 | 4 5:

    cell (-inf, 3.5]  ->  region above  ->  4.25 4.5 4.75
    cell (3.5, inf)   ->  region below  ->  1.5 2.0 2.5
    cell missing      ->  region present  ->  2.0 3.0 4.0
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Grid:
    """Cells, alternative regions and perturbation values of every feature.

    Attributes
    ----------
    edges : tuple of n_features ndarrays
        Ascending cuts of each feature.
    cell_ptr : ndarray of shape (n_features + 1,)
        Cells of feature ``f`` are ``cell_ptr[f]`` up to ``cell_ptr[f + 1]``: its bins in
        ascending order, then one cell for a missing value.
    region_ptr : ndarray of shape (n_cells + 1,)
        Regions of each cell.
    value_ptr : ndarray of shape (n_regions + 1,)
        Values of each region.
    values : ndarray of shape (n_values,)
        Perturbation values; NaN stands for "missing".
    lower, upper : ndarray of shape (n_cells,)
        Bounds of each cell, ``lower < x <= upper``; NaN where the cell is "missing".
    support : ndarray of shape (n_cells,)
        Number of reference rows in each cell.
    """

    edges: tuple[Floats, ...]
    cell_ptr: Ints
    region_ptr: Ints
    value_ptr: Ints
    values: Floats
    lower: Floats
    upper: Floats
    support: Ints

    @property
    def values_per_cell(self) -> Ints:
        """Number of perturbation values of each cell, ndarray of shape (n_cells,)."""
        return np.diff(self.value_ptr[self.region_ptr])

    def cells_of(self, X: Floats, features: Ints) -> Ints:
        """Find the cells that rows lie in.

        Parameters
        ----------
        X : ndarray of shape (n, n_features)
        features : ndarray of shape (m,)
            The features wanted.

        Returns
        -------
        ndarray of shape (n, m)
            Cell numbers.
        """
        cells = np.empty((len(X), len(features)), dtype=np.int64)
        for j, f in enumerate(features):
            # NaN sorts after infinity, so that it finds the last cell, "missing".
            cuts = np.append(self.edges[f], np.inf)
            cells[:, j] = self.cell_ptr[f] + np.searchsorted(cuts, X[:, f], side="left")
        return cells


def build_grid(X: Floats, edges: Sequence[Floats], percentiles: Sequence[float]) -> Grid:
    """Collect the alternative regions of every cell from reference rows.

    Parameters
    ----------
    X : ndarray of shape (n_reference, n_features)
        Reference rows; NaN is missing.
    edges : sequence of n_features ndarrays
        See `fit_edges`.
    percentiles : sequence of float
        Which percentiles of a region's reference values represent it; equal ones count once.

    Returns
    -------
    Grid
        A region without reference values does not exist. Where reference values of a feature
        are missing, "missing" is one more region of each of its other cells.
    """
    cell_ptr, region_ptr, value_ptr = [0], [0], [0]
    values: list[Floats] = []
    lower, upper, support = [], [], []
    for column, cuts in zip(X.T, edges, strict=True):
        for low, high, count, regions in _cells(column, cuts, percentiles):
            for region in regions:
                values.append(region)
                value_ptr.append(value_ptr[-1] + len(region))
            region_ptr.append(region_ptr[-1] + len(regions))
            lower.append(low)
            upper.append(high)
            support.append(count)
        cell_ptr.append(len(support))
    return Grid(
        edges=tuple(edges),
        cell_ptr=np.array(cell_ptr),
        region_ptr=np.array(region_ptr),
        value_ptr=np.array(value_ptr),
        values=np.concatenate([np.empty(0), *values]),
        lower=np.array(lower),
        upper=np.array(upper),
        support=np.array(support),
    )


def _cells(
    column: Floats, cuts: Floats, percentiles: Sequence[float]
) -> Iterator[tuple[float, float, int, list[Floats]]]:
    """Yield (lower, upper, support, regions) of each cell of one feature."""
    present = np.sort(column[~np.isnan(column)])
    n_missing = len(column) - len(present)
    missing = [np.array([np.nan])] if n_missing else []

    def represent(part: Floats) -> list[Floats]:
        return [np.unique(np.percentile(part, percentiles))] if len(part) else []

    bounds = np.concatenate([[-np.inf], cuts, [np.inf]])
    ends = np.concatenate([[0], np.searchsorted(present, cuts, side="right"), [len(present)]])
    for k in range(len(cuts) + 1):
        below, above = present[: ends[k]], present[ends[k + 1] :]
        regions = represent(below) + represent(above) + missing
        yield bounds[k], bounds[k + 1], int(ends[k + 1] - ends[k]), regions
    yield np.nan, np.nan, n_missing, represent(present)
