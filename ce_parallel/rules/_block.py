"""Explain a tile: a range of rows times a set of features, with one estimator call.

    rows (n, d) --repeat, fill--> block (n_values, d) --measure, calibrate--> (3, c, n_values)
      --reduceat over regions--> (3, c, n_regions) --reduceat over cells--> (3, c, n, m)

c is the number of classes explained: 1, unless all are asked for. `explain_tile` is the only
function here that runs in workers. Sums run along one region at a time, so that no number depends
on how rows were split into tiles.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ce_parallel.calibration import Rows
from ce_parallel.rules._grid import Grid

Floats = NDArray[np.float64]
Ints = NDArray[np.integer]

# Rows and bytes of a perturbed block, chosen by tests/benchmarks/bench_tiles.py: smaller tiles pay
# a forest's fixed cost per call (10 ms for 100 trees) more often, larger ones leave a second worker
# without work on 1,000 rows of 20 features.
TILE_ROWS = 32768
TILE_BYTES = 8 * 2**20


class Model(Protocol):
    """What predicts the rows of a tile, see `CalibratedModel`."""

    @property
    def n_classes(self) -> int: ...

    @property
    def score_shape(self) -> tuple[int, ...]: ...

    def measure(self, X: Floats) -> tuple[Floats, Floats | None]: ...

    def calibrate(
        self,
        measured: tuple[Floats, Floats | None],
        rows: Rows,
        explained: Ints | None,
        **options: Any,
    ) -> tuple[Floats, Floats | None]: ...


class Plan(Protocol):
    """What a tile needs of the frozen plan, see `ExplanationPlan`."""

    @property
    def model(self) -> Model: ...

    @property
    def grid(self) -> Grid: ...

    @property
    def keeps_regions(self) -> bool: ...


@dataclass(frozen=True, eq=False)
class Tile:
    """One item of work: `rows` starting at row number `start`, and the `features` to vary.

    Attributes
    ----------
    known : Rows
        What is known of each row.
    explained : ndarray of shape (n, c) or None
        Class numbers to explain; None: the likeliest of several, class 1 of two.
    """

    start: int
    rows: Floats
    features: Ints
    with_base: bool
    known: Rows
    explained: Ints | None = None
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class TileResult:
    """What came of a tile of n rows, m features and c explained classes.

    Attributes
    ----------
    start : int
        Number of the first row.
    features : ndarray of shape (m,)
        The features that were varied.
    base : ndarray of shape (3, c, n) or None
        Calibrated value, low and high of the rows themselves, where the tile asked for them.
    likeliest : ndarray of shape (n,) or None
        The most probable class of each row, if there are more than two.
    alternative : ndarray of shape (3, c, n, m)
        Mean over the alternative regions of the mean calibrated value, low and high of each;
        NaN where there is no alternative region.
    regions : ndarray of shape (3, c, n_regions) or None
        The means of each region, in the order of rows, features and regions.
    likeliest_there : ndarray of shape (n_regions,) or None
        The most probable class in each region, if there are more than two.
    """

    start: int
    features: Ints
    base: Floats | None
    likeliest: Ints | None
    alternative: Floats
    regions: Floats | None
    likeliest_there: Ints | None


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
    def of(cls, grid: Grid, features: Ints, n_estimators: int = 1) -> TileShape:
        """Cut by the number of columns and of estimators and the grid, never by workers or memory.

        With more estimators a tile has fewer rows, and costs the same.
        """
        n_columns = len(grid.edges)
        limit = max(1, min(TILE_ROWS, TILE_BYTES // (8 * n_columns)) // n_estimators)
        most = np.maximum.reduceat(grid.values_per_cell, grid.cell_ptr[:-1])[features]
        group_of = np.cumsum(most) // limit
        groups = [features[group_of == g] for g in np.unique(group_of)] or [features]
        largest = int(np.bincount(group_of, weights=most).max(initial=1))
        n_rows = 1 << max(0, (limit // largest).bit_length() - 1)
        return cls(n_rows, groups, 8 * n_columns * n_rows * (largest + 1))


def make_tiles(
    X: Floats,
    shape: TileShape,
    known: Rows,
    explained: Ints | None,
    options: Mapping[str, Any],
) -> Iterator[Tile]:
    """Cut rows into tiles; the first tile of each range of rows asks for the rows themselves."""
    for start in range(0, len(X), shape.n_rows):
        here = slice(start, start + shape.n_rows)
        wanted = None if explained is None else explained[here]
        for i, group in enumerate(shape.groups):
            yield Tile(start, X[here], group, i == 0, known.take(here), wanted, options)


def explain_tile(plan: Plan, tile: Tile) -> TileResult:
    """Predict the alternatives of every (row, feature) of a tile with one estimator call."""
    grid, model, n = plan.grid, plan.model, len(tile.rows)
    several = model.n_classes > 2
    cells = grid.cells_of(tile.rows, tile.features)
    ahead = n if tile.with_base or several else 0  # the class to explain is that of the row
    block, owner = _perturbed(grid, tile, cells, ahead)
    if len(block):
        scores, difficulty = model.measure(block)
    else:
        scores, difficulty = np.empty((0, *model.score_shape)), None

    def calibrated(part: slice, rows: Rows, wanted: Ints | None) -> tuple[Floats, Floats | None]:
        measured = scores[part], None if difficulty is None else difficulty[part]
        return model.calibrate(measured, rows, wanted, **tile.options)

    explained, likeliest, base = tile.explained, None, None
    if several and explained is None:  # any class will do to find the likeliest
        explained = np.zeros((n, 1), dtype=np.int64)
    if ahead:
        base, every = calibrated(slice(ahead), tile.known, explained)
        likeliest = None if every is None else every.argmax(axis=1)
        if several and tile.explained is None:
            assert likeliest is not None
            explained = likeliest[:, None]
            base, _ = calibrated(slice(ahead), tile.known, explained)
    wanted = None if explained is None else explained[owner]
    predicted, every = calibrated(slice(ahead, None), tile.known.take(owner), wanted)
    sizes = _sizes_of_regions(grid, cells.ravel())
    means = _means(predicted, sizes)
    there = None
    if several and plan.keeps_regions:
        assert every is not None
        there = _means(every.T, sizes).argmax(axis=0)
    alternative = _means_of_cells(grid, cells.ravel(), means)
    return TileResult(
        start=tile.start,
        features=tile.features,
        base=base if tile.with_base else None,
        likeliest=likeliest,
        alternative=alternative.reshape(*predicted.shape[:2], n, len(tile.features)),
        regions=means if plan.keeps_regions else None,
        likeliest_there=there,
    )


def _perturbed(grid: Grid, tile: Tile, cells: Ints, ahead: int) -> tuple[Floats, Ints]:
    """Copies of each row, one per value tried instead of a present one, and whose copies.

    The first `ahead` rows stand in front of them as they are.
    """
    counts = grid.values_per_cell[cells]
    owner = np.repeat(np.arange(len(tile.rows)), counts.sum(axis=1))
    block = tile.rows.take(np.concatenate([np.arange(ahead), owner]), axis=0)
    columns = np.repeat(np.broadcast_to(tile.features, counts.shape), counts.ravel())
    first = grid.value_ptr[grid.region_ptr[cells]]
    values = grid.values[ranges(first.ravel(), counts.ravel())]
    block[np.arange(ahead, len(block)), columns] = values
    return block, owner


def _sizes_of_regions(grid: Grid, cells: Ints) -> Ints:
    """How many values each region of each cell has, one cell after the other."""
    regions = ranges(grid.region_ptr[cells], np.diff(grid.region_ptr)[cells])
    return np.diff(grid.value_ptr)[regions]


def _means(values: Floats, sizes: Ints) -> Floats:
    """Mean over consecutive stretches of the last axis, none of them empty."""
    if not len(sizes):
        return np.empty((*values.shape[:-1], 0))
    return np.add.reduceat(values, np.cumsum(sizes) - sizes, axis=-1) / sizes


def _means_of_cells(grid: Grid, cells: Ints, by_region: Floats) -> Floats:
    """Unweighted mean over the regions of each cell, NaN where there is none."""
    n_regions = np.diff(grid.region_ptr)[cells]
    filled = n_regions > 0
    means = np.full((*by_region.shape[:-1], len(cells)), np.nan)
    means[..., filled] = _means(by_region, n_regions[filled])
    return means


def ranges(starts: Ints, counts: Ints) -> Ints:
    """Concatenate ``arange(start, start + count)`` of every pair."""
    ends = np.cumsum(counts)
    total = int(ends[-1]) if len(ends) else 0
    return np.arange(total) + np.repeat(starts - ends + counts, counts)
