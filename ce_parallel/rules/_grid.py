"""The perturbation grid: what is tried instead of each value that a feature can have.

A *cell* is the place where a row's present value lies: one bin, or one category, of one feature.
Each cell has zero or more alternative *regions*, and each region is represented by one or more
*values*. Three levels, stored flat:

    feature f --cell_ptr--> cells --region_ptr--> regions --value_ptr--> values

Two numeric bins around the edge 3.5, reference values 1 2 3 | 4 5:

    cell (-inf, 3.5]  ->  region above  ->  4.25 4.5 4.75
    cell (3.5, inf)   ->  region below  ->  1.5 2.0 2.5
    cell missing      ->  region present  ->  2.0 3.0 4.0

Categories 1 and 7, some reference values missing:

    cell 1            ->  regions 7, missing     ->  7 | NaN
    cell 7            ->  regions 1, missing     ->  1 | NaN
    any other value   ->  regions 1, 7, missing  ->  1 | 7 | NaN
    cell missing      ->  regions 1, 7           ->  1 | 7

Cells and regions are described alike, by ``lower < x <= upper`` and a category:

    a numeric range        bounds, category NaN; without bounds: "present"
    a category             no bounds (-inf, inf), its number
    any other category     no bounds (-inf, inf), category NaN
    missing                all NaN
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.integer]


@dataclass(frozen=True, eq=False)
class Grid:
    """Cells, alternative regions and perturbation values of every feature.

    Attributes
    ----------
    edges : tuple of n_features ndarrays
        Ascending cuts of each feature; empty for a categorical one.
    categories : tuple of n_features (ndarray or None)
        Ascending categories of each categorical feature, as numbers; None for a numeric one.
    cell_ptr : ndarray of shape (n_features + 1,)
        Cells of feature ``f`` are ``cell_ptr[f]`` up to ``cell_ptr[f + 1]``: its bins in
        ascending order (or its categories, and one cell for any other value), then one cell for
        a missing value.
    region_ptr : ndarray of shape (n_cells + 1,)
        Regions of each cell: below, above and missing, or the other categories and missing.
    value_ptr : ndarray of shape (n_regions + 1,)
        Values of each region.
    values : ndarray of shape (n_values,)
        Perturbation values; NaN stands for "missing".
    lower, upper : ndarray of shape (n_cells,)
        Bounds of each cell, ``lower < x <= upper``; NaN where the cell is "missing".
    category : ndarray of shape (n_cells,)
        Category of each cell; NaN where it is not that of one category.
    support : ndarray of shape (n_cells,)
        Number of reference rows in each cell.
    region_lower, region_upper, region_category, region_support : ndarray of shape (n_regions,)
        The same of each region.
    covered_ptr : ndarray of shape (n_cells + 1,)
        Covered values of each cell.
    covered : ndarray of shape (n_covered,)
        What represents a numeric cell itself: percentiles of the reference values in it, equal
        ones kept. None for a category, for "missing" and for a cell without reference values.
    """

    edges: tuple[Floats, ...]
    categories: tuple[Floats | None, ...]
    cell_ptr: Ints
    region_ptr: Ints
    value_ptr: Ints
    values: Floats
    lower: Floats
    upper: Floats
    category: Floats
    support: Ints
    region_lower: Floats
    region_upper: Floats
    region_category: Floats
    region_support: Ints
    covered_ptr: Ints
    covered: Floats

    @cached_property
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
        missing = np.isnan(X)
        found: Ints
        for j, f in enumerate(features):
            codes = self.categories[f]
            if codes is None:
                # NaN sorts after every edge; one more finds the last cell, "missing".
                found = self.edges[f].searchsorted(X[:, f], side="left") + missing[:, f]
            else:
                found = _find(codes, X[:, f])
            cells[:, j] = self.cell_ptr[f] + found
        return cells


def build_grid(
    X: Floats,
    edges: Sequence[Floats],
    percentiles: Sequence[float],
    categories: Mapping[int, Floats | None] | None = None,
) -> Grid:
    """Collect the alternative regions of every cell from reference rows.

    Parameters
    ----------
    X : ndarray of shape (n_reference, n_features)
        Reference rows; NaN is missing.
    edges : sequence of n_features ndarrays
        See `fit_edges`. Those of categorical features play no part.
    percentiles : sequence of float
        Which percentiles of a region's reference values represent it; equal ones count once.
    categories : mapping of int to ndarray or None
        Of each categorical feature the ascending categories that are tried, see `fit_categories`;
        None for a categorical feature that is left out: nothing is tried instead of its values.

    Returns
    -------
    Grid
        A numeric region without reference values does not exist. Where reference values of a
        feature are missing, "missing" is one more region of each of its other cells.
    """
    categories = categories or {}
    parts = [
        _categorical(column, categories[f])
        if f in categories
        else _numeric(column, cuts, percentiles)
        for f, (column, cuts) in enumerate(zip(X.T, edges, strict=True))
    ]
    nothing = np.empty(0)
    cells = np.concatenate([np.empty((0, 4)), *(part.cells for part in parts)])
    regions = np.concatenate([np.empty((0, 4)), *(part.regions for part in parts)])
    return Grid(
        edges=tuple(nothing if f in categories else cuts for f, cuts in enumerate(edges)),
        categories=tuple(
            _or_empty(categories[f]) if f in categories else None for f in range(len(parts))
        ),
        cell_ptr=_pointers([np.array([len(part.cells)]) for part in parts]),
        region_ptr=_pointers([part.n_regions for part in parts]),
        value_ptr=_pointers([part.n_values for part in parts]),
        values=np.concatenate([nothing, *(part.values for part in parts)]),
        lower=cells[:, 0].copy(),
        upper=cells[:, 1].copy(),
        category=cells[:, 2].copy(),
        support=cells[:, 3].astype(np.int64),
        region_lower=regions[:, 0].copy(),
        region_upper=regions[:, 1].copy(),
        region_category=regions[:, 2].copy(),
        region_support=regions[:, 3].astype(np.int64),
        covered_ptr=_pointers([part.n_covered for part in parts]),
        covered=np.concatenate([nothing, *(part.covered for part in parts)]),
    )


@dataclass(frozen=True, eq=False)
class _Part:
    """The grid of one feature; rows of `cells` and `regions` are (lower, upper, category, support).

    `n_regions` counts the regions of each cell, `n_values` the values of each region, `n_covered`
    those that represent each cell itself.
    """

    cells: Floats
    n_regions: Ints
    regions: Floats
    n_values: Ints
    values: Floats
    n_covered: Ints
    covered: Floats


def _numeric(column: Floats, cuts: Floats, percentiles: Sequence[float]) -> _Part:
    """Bins: all that is below, all that is above, missing."""
    absent = column[np.isnan(column)]
    present = np.sort(column[~np.isnan(column)])
    n = len(present)
    bounds = np.concatenate([[-np.inf], cuts, [np.inf]])
    ends = np.concatenate([[0], np.searchsorted(present, cuts, side="right"), [n]])
    missing = (np.nan, np.nan, np.nan, len(absent))
    cells, n_regions = [], []
    regions: list[tuple[float, ...]] = []
    values: list[Floats] = []
    for k in range(len(cuts) + 2):
        if k <= len(cuts):
            low, high, start, stop = bounds[k], bounds[k + 1], ends[k], ends[k + 1]
            cells.append((low, high, np.nan, stop - start))
            tried = [
                ((-np.inf, low, np.nan, start), present[:start]),
                ((high, np.inf, np.nan, n - stop), present[stop:]),
                (missing, absent),
            ]
        else:
            cells.append(missing)
            tried = [((-np.inf, np.inf, np.nan, n), present)]
        tried = [(region, part) for region, part in tried if len(part)]
        n_regions.append(len(tried))
        regions.extend(region for region, _ in tried)
        values.extend(np.unique(np.percentile(part, percentiles)) for _, part in tried)
    n_covered, covered = _covered(present, ends, percentiles)
    return _Part(
        cells=np.array(cells),
        n_regions=np.array(n_regions),
        regions=np.array(regions).reshape(-1, 4),
        n_values=np.array([len(part) for part in values], dtype=np.int64),
        values=np.concatenate([np.empty(0), *values]),
        n_covered=np.append(n_covered, 0),  # missing
        covered=covered,
    )


def _covered(present: Floats, ends: Ints, percentiles: Sequence[float]) -> tuple[Ints, Floats]:
    """Percentiles of consecutive parts of ascending values, how many of each part and which.

    As `numpy.percentile` finds them, of all parts at once. An empty part has none.
    """
    size = np.diff(ends)
    filled = size > 0
    place = np.asarray(percentiles, dtype=np.float64) / 100 * (size[filled] - 1)[:, None]
    before = np.floor(place).astype(np.int64)
    fraction = place - before
    start = ends[:-1][filled][:, None]
    left = present[start + before]
    right = present[start + np.minimum(before + 1, (size[filled] - 1)[:, None])]
    step = right - left
    values = np.where(fraction < 0.5, left + step * fraction, right - step * (1 - fraction))
    return np.where(filled, len(percentiles), 0), values.ravel()


def _categorical(column: Floats, codes: Floats | None) -> _Part:
    """Categories, any other value, missing: every other category, missing."""
    known = _or_empty(codes)
    n = len(known)
    cells = np.empty((n + 2, 4))
    cells[:, :2] = -np.inf, np.inf
    cells[:, 2] = np.append(known, [np.nan, np.nan])
    cells[:, 3] = np.bincount(_find(known, column), minlength=n + 2)
    cells[n + 1, :3] = np.nan
    tried = np.ones((n + 2, n + 2), dtype=bool)  # cell, region
    np.fill_diagonal(tried, False)
    tried[:, n] = False  # "any other value" represents nothing
    tried[:, n + 1] &= cells[n + 1, 3] > 0
    if codes is None:
        tried[:] = False
    regions = cells[np.nonzero(tried)[1]]
    return _Part(
        cells=cells,
        n_regions=tried.sum(axis=1),
        regions=regions,
        n_values=np.ones(len(regions), dtype=np.int64),
        values=regions[:, 2].copy(),
        n_covered=np.zeros(len(cells), dtype=np.int64),
        covered=np.empty(0),
    )


def _find(codes: Floats, column: Floats) -> Ints:
    """Positions of values among ascending `codes`; n_codes for any other, n_codes + 1 for NaN."""
    found: Ints = np.searchsorted(codes, column)
    found[np.append(codes, np.nan)[found] != column] = len(codes)
    found[np.isnan(column)] = len(codes) + 1
    return found


def _or_empty(codes: Floats | None) -> Floats:
    return np.empty(0) if codes is None else np.asarray(codes, dtype=np.float64)


def _pointers(counts: list[Ints]) -> Ints:
    """Where each of consecutive pieces begins and ends, from their sizes."""
    return np.cumsum(np.concatenate([np.zeros(1, dtype=np.int64), *counts]))
