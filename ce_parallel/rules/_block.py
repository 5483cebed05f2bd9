"""Explain a tile: a range of rows times a set of features, with one estimator call.

    rows (n, d) --repeat, fill--> block (n_values, d) --measure, calibrate--> (3, c, n_values)
      --means_of regions--> (3, c, n_regions) --means_of cells--> (3, c, n, m)

c is the number of classes explained: 1, unless all are asked for. `explain_tile` is the only
function here that runs in workers. Sums run along one region at a time, so that no number depends
on how rows were split into tiles.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from math import prod
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ce_parallel.calibration import Rows
from ce_parallel.rules._grid import Grid
from ce_parallel.rules._stability import Stability, summarise

Floats = NDArray[np.float64]
Ints = NDArray[np.integer]

# Rows and bytes of a perturbed block, chosen by tests/benchmarks/bench_tiles.py: smaller tiles pay
# a forest's fixed cost per call (10 ms for 100 trees) more often, larger ones leave a second worker
# without work on 1,000 rows of 20 features.
TILE_ROWS = 32768
TILE_BYTES = 8 * 2**20


def block_rows(n_numbers: int) -> int:
    """How many rows a block may have if each of them needs `n_numbers` of 8 bytes."""
    return max(1, min(TILE_ROWS, TILE_BYTES // (8 * n_numbers)))


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


class Replicates(Protocol):
    """Bootstrap replicates of a model, see `CalibrationReplicates`."""

    @property
    def n_replicates(self) -> int: ...

    def values(
        self,
        X: Floats,
        scores: Floats,
        difficulty: Floats | None,
        rows: Rows,
        explained: Ints | None,
    ) -> Floats: ...


class Plan(Protocol):
    """What a tile needs of the frozen plan, see `ExplanationPlan`."""

    @property
    def model(self) -> Model: ...

    @property
    def grid(self) -> Grid: ...

    @property
    def keeps_regions(self) -> bool: ...

    @property
    def replicates(self) -> Replicates | None: ...


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
    stability : tuple of c Stability
        How much numbers move over bootstrap replicates; empty without any.
    """

    start: int
    features: Ints
    base: Floats | None
    likeliest: Ints | None
    alternative: Floats
    regions: Floats | None = None
    likeliest_there: Ints | None = None
    stability: tuple[Stability, ...] = ()


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
    def of(
        cls,
        grid: Grid,
        features: Ints,
        *,
        n_classes: int = 0,
        n_estimators: int = 1,
        whole: bool = False,
    ) -> TileShape:
        """Cut by the shape of the data and the grid alone, never by workers or memory.

        With more estimators a tile has fewer rows, and costs the same; so it has with many classes,
        whose scores, values and bounds fill more memory than the rows do. `whole` keeps the
        features of a row together.
        """
        n_numbers = max(len(grid.edges), 4 * n_classes)  # of a perturbed row
        limit = max(1, block_rows(n_numbers) // n_estimators)
        most = np.maximum.reduceat(grid.values_per_cell, grid.cell_ptr[:-1])[features]
        group_of = np.cumsum(most) // limit * (not whole)
        groups = [features[group_of == g] for g in np.unique(group_of)] or [features]
        largest = int(np.bincount(group_of, weights=most).max(initial=1))
        n_rows = 1 << max(0, (limit // largest).bit_length() - 1)
        return cls(n_rows, groups, 8 * n_numbers * n_rows * (largest + 1))


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
    # The class to explain is that of the row, and a replicate's weights start from its own base.
    ahead = n if tile.with_base or several or plan.replicates is not None else 0
    block, owner = _perturbed(grid, tile, cells, ahead)
    if len(block):
        scores, difficulty = model.measure(block)
    else:
        scores, difficulty = np.empty((0, *model.score_shape)), None

    def calibrated(part: slice, rows: Rows, wanted: Ints | None) -> tuple[Floats, Floats | None]:
        measured = scores[part], None if difficulty is None else difficulty[part]
        return model.calibrate(measured, rows, wanted, **tile.options)

    explained, likeliest, base = tile.explained, None, None
    if ahead:
        base, every = calibrated(slice(ahead), tile.known, explained)
        likeliest = None if every is None else every.argmax(axis=1)
        if explained is None and likeliest is not None:
            explained = likeliest[:, None]
    wanted = None if explained is None else explained[owner]
    predicted, every = calibrated(slice(ahead, None), tile.known.take(owner), wanted)
    sizes = _sizes_of_regions(grid, cells.ravel())
    means = means_of(predicted, sizes)
    there = None
    if several and plan.keeps_regions:
        assert every is not None
        there = means_of(every.T, sizes).argmax(axis=0)
    alternative = _means_of_cells(grid, cells.ravel(), means)
    alternative = alternative.reshape(*predicted.shape[:2], n, len(tile.features))
    stability: tuple[Stability, ...] = ()
    if plan.replicates is not None and base is not None:
        weights = np.nan_to_num(base[0][..., None] - alternative[0], nan=0.0)
        stability = _stability(plan, tile, cells, (block, scores, difficulty), explained, weights)
    return TileResult(
        start=tile.start,
        features=tile.features,
        base=base if tile.with_base else None,
        likeliest=likeliest,
        alternative=alternative,
        regions=means if plan.keeps_regions else None,
        likeliest_there=there,
        stability=stability,
    )


def _stability(
    plan: Plan,
    tile: Tile,
    cells: Ints,
    block: tuple[Floats, Floats, Floats | None],
    explained: Ints | None,
    reported: Floats,
) -> tuple[Stability, ...]:
    """Weights by every replicate, some rows at a time, and what is to be said of them.

    `block` holds the rows, their perturbed copies, and what was measured of them; `reported` the
    weights of each class explained, of shape (c, n, m).
    """
    assert plan.replicates is not None
    grid, n = plan.grid, len(tile.rows)
    counts = grid.values_per_cell[cells].sum(axis=1)
    ends = n + np.cumsum(counts)
    n_classes = plan.model.n_classes
    n_numbers = plan.replicates.n_replicates * (6 * n_classes if n_classes > 2 else 1)
    step = max(1, block_rows(n_numbers) // (1 + int(counts.max())))
    found: list[list[Stability]] = [[] for _ in reported]
    for rows in np.split(np.arange(n), np.arange(step, n, step)):
        here = slice(rows[0], rows[-1] + 1)
        first = ends[rows[0]] - counts[rows[0]]
        index = np.append(rows, np.arange(first, ends[rows[-1]]))
        owner = np.append(rows, np.repeat(rows, counts[here]))
        copies, scores = block[0][index], block[1][index]
        difficulty = None if block[2] is None else block[2][index]
        sizes = _sizes_of_regions(grid, cells[here].ravel())
        for c, weights in enumerate(reported):
            wanted = None if explained is None else explained[owner, c]
            values = plan.replicates.values(
                copies, scores, difficulty, tile.known.take(owner), wanted
            )
            base, tried = values[:, : len(rows)], values[:, len(rows) :]
            means = _means_of_cells(grid, cells[here].ravel(), means_of(tried, sizes))
            moved = base[..., None] - means.reshape(*base.shape, -1)
            moved[np.isnan(moved)] = 0.0
            found[c].append(summarise(base, moved, weights[here]))
    return tuple(map(Stability.joined, found))


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


def means_of(values: Floats, sizes: Ints) -> Floats:
    """Mean over consecutive stretches of the last axis, none of them empty.

    Each to the bit as `numpy.mean` of it, so that rules whose weights are equal, but for rounding,
    are ranked as in the reference. The mean of equal values is that value, where numpy's may be off
    by a bit: a rule that changes nothing would get a weight.
    """
    owner = np.arange(len(sizes)).repeat(sizes)
    lines = values.reshape(prod(values.shape[:-1]), len(owner))
    means = np.empty((len(lines), len(sizes)))
    starts = np.cumsum(sizes) - sizes
    for mean, line in zip(means, lines, strict=True):
        np.divide(np.bincount(owner, line, len(sizes)), sizes, out=mean)
    for size in set(sizes[sizes >= 8].tolist()):  # up to 7 numpy too adds from left to right
        of_size = np.flatnonzero(sizes == size)
        place = starts[of_size][:, None] + np.arange(size)
        means[:, of_size] = lines.take(place, axis=1).mean(axis=-1)
    several = np.flatnonzero(sizes > 1)
    for mean, line in zip(means, lines, strict=True):
        first = line[starts]
        differs = np.bincount(owner, line != first[owner], len(sizes))
        equal = several[differs[several] == 0]
        mean[equal] = first[equal]
    return means.reshape(*values.shape[:-1], len(sizes))


def _means_of_cells(grid: Grid, cells: Ints, by_region: Floats) -> Floats:
    """Unweighted mean over the regions of each cell, NaN where there is none."""
    n_regions = np.diff(grid.region_ptr)[cells]
    filled = n_regions > 0
    means = np.full((*by_region.shape[:-1], len(cells)), np.nan)
    means[..., filled] = means_of(by_region, n_regions[filled])
    return means


def ranges(starts: Ints, counts: Ints) -> Ints:
    """Concatenate ``arange(start, start + count)`` of every pair."""
    ends = np.cumsum(counts)
    total = int(ends[-1]) if len(ends) else 0
    return np.arange(total) + np.repeat(starts - ends + counts, counts)
