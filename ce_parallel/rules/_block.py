"""Explain a tile: a range of rows times a set of features, with one estimator call.

    rows (n, d) --repeat, fill--> block (n_values, d) --predict, calibrate--> (3, n_values)
      --reduceat over regions--> (3, n_regions) --reduceat over cells--> alternative (3, n, m)

`explain_tile` is the only function here that runs in workers. Sums run along one region at a
time, so that no number depends on how rows were split into tiles.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ce_parallel.rules._grid import Grid

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

# Rows and bytes of a perturbed block, chosen by tests/benchmarks/bench_tiles.py: smaller tiles pay
# a forest's fixed cost per call more often, larger ones leave a second worker without work.
TILE_ROWS = 16384
TILE_BYTES = 8 * 2**20


class Plan(Protocol):
    """What a tile needs of the frozen plan."""

    @property
    def grid(self) -> Grid:
        """Where features are cut, and what is tried instead."""

    def predict(self, X: Floats, **options: Any) -> Floats:
        """Calibrated value, low and high of rows, ndarray of shape (3, n)."""


@dataclass(frozen=True, eq=False)
class Tile:
    """One item of work: `rows` starting at row number `start`, and the `features` to vary."""

    start: int
    rows: Floats
    features: Ints
    with_base: bool
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class TileResult:
    """What came of a tile.

    Attributes
    ----------
    start : int
        Number of the first row.
    features : ndarray of shape (m,)
        The features that were varied.
    base : ndarray of shape (3, n) or None
        Calibrated value, low and high of the rows themselves, where the tile asked for them.
    alternative : ndarray of shape (3, n, m)
        Mean over the alternative regions of the mean calibrated value, low and high of each;
        NaN where there is no alternative region.
    """

    start: int
    features: Ints
    base: Floats | None
    alternative: Floats


@dataclass(frozen=True, eq=False)
class TileShape:
    """How rows and features are cut into tiles.

    Attributes
    ----------
    n_rows : int
        Rows of a tile, a power of two.
    groups : list of ndarrays
        Features of a tile; one group unless the perturbed rows of a single row fill a tile.
    nbytes : int
        Size of the largest perturbed block.
    """

    n_rows: int
    groups: list[Ints]
    nbytes: int

    @classmethod
    def of(cls, grid: Grid, features: Ints) -> TileShape:
        """Cut by the number of columns and the grid alone, never by workers or memory."""
        n_columns = len(grid.edges)
        limit = max(1, min(TILE_ROWS, TILE_BYTES // (8 * n_columns)))
        most = np.maximum.reduceat(grid.values_per_cell, grid.cell_ptr[:-1])[features]
        group_of = np.cumsum(most) // limit
        groups = [features[group_of == g] for g in np.unique(group_of)] or [features]
        largest = int(np.bincount(group_of, weights=most).max(initial=1))
        n_rows = 1 << max(0, (limit // largest).bit_length() - 1)
        return cls(n_rows, groups, 8 * n_columns * n_rows * (largest + 1))


def make_tiles(X: Floats, shape: TileShape, options: Mapping[str, Any]) -> Iterator[Tile]:
    """Cut rows into tiles; the first tile of each range of rows asks for the rows themselves."""
    for start in range(0, len(X), shape.n_rows):
        rows = X[start : start + shape.n_rows]
        for i, group in enumerate(shape.groups):
            yield Tile(start, rows, group, with_base=i == 0, options=options)


def explain_tile(plan: Plan, tile: Tile) -> TileResult:
    """Predict the alternatives of every (row, feature) of a tile with one estimator call."""
    grid, n = plan.grid, len(tile.rows)
    cells = grid.cells_of(tile.rows, tile.features)
    base_rows = tile.rows if tile.with_base else tile.rows[:0]
    block = np.concatenate([base_rows, _perturbed(grid, tile, cells)])
    predicted = plan.predict(block, **tile.options) if len(block) else np.empty((3, 0))
    split = len(base_rows)
    alternative = _cell_means(grid, cells.ravel(), predicted[:, split:])
    return TileResult(
        start=tile.start,
        features=tile.features,
        base=predicted[:, :split] if tile.with_base else None,
        alternative=alternative.reshape(3, n, len(tile.features)),
    )


def _perturbed(grid: Grid, tile: Tile, cells: Ints) -> Floats:
    """Copies of each row, one per value tried instead of a present one, in row-major order."""
    counts = grid.values_per_cell[cells]
    block = np.repeat(tile.rows, counts.sum(axis=1), axis=0)
    columns = np.repeat(np.broadcast_to(tile.features, counts.shape), counts.ravel())
    first = grid.value_ptr[grid.region_ptr[cells]]
    values = grid.values[_ranges(first.ravel(), counts.ravel())]
    block[np.arange(len(block)), columns] = values
    return block


def _cell_means(grid: Grid, cells: Ints, predicted: Floats) -> Floats:
    """Unweighted mean over each cell's regions of the mean over each region's values."""
    n_regions = np.diff(grid.region_ptr)[cells]
    regions = _ranges(grid.region_ptr[cells], n_regions)
    sizes = np.diff(grid.value_ptr)[regions]
    means = np.full((3, len(cells)), np.nan)
    if len(regions):
        by_region = np.add.reduceat(predicted, np.cumsum(sizes) - sizes, axis=1) / sizes
        filled = n_regions > 0
        counts = n_regions[filled]
        sums = np.add.reduceat(by_region, np.cumsum(counts) - counts, axis=1)
        means[:, filled] = sums / counts
    return means


def _ranges(starts: Ints, counts: Ints) -> Ints:
    """Concatenate ``arange(start, start + count)`` of every pair."""
    ends = np.cumsum(counts)
    total = int(ends[-1]) if len(ends) else 0
    return np.arange(total) + np.repeat(starts - ends + counts, counts)
