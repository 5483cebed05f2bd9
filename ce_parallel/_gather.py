"""Run the tiles of an explanation, and gather what came of them.

rows --make_tiles--> executor.map(explain_tile) --> Found --flatten--> Explanations
noisy columns -----> executor.map(fit_feature) --> calibrators of a fast explanation
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ce_parallel._conjoin import Source
from ce_parallel._explanations import Explanations
from ce_parallel._fast import FastData, FastPlan, explain_fast_tile, fit_feature
from ce_parallel._plan import ExplanationPlan
from ce_parallel.calibration import Rows
from ce_parallel.executor import ExecutionReport, ParallelConfig, ParallelExecutor, Workload
from ce_parallel.rules import (
    Stability,
    Tile,
    TileResult,
    explain_tile,
    make_tiles,
    ranges,
)
from ce_parallel.utils import in_config

Floats = NDArray[np.float64]
Ints = NDArray[np.integer]

COUNTED_ROWS = 4096  # at a time; each takes two integers per feature


@dataclass(eq=False)
class Found:
    """Arrays of n rows, c explained classes and d features, filled tile by tile.

    Attributes
    ----------
    base : ndarray of shape (3, c, n)
        Calibrated value, low and high.
    weights : ndarray of shape (3, c, n, d)
        Base value minus the alternatives' value, low and high; 0 where there is no alternative.
    source : Source or None
        What the rows came from, without the classes explained; None for a fast explanation.
    likeliest : ndarray of shape (n,) or None
        Number of the most probable class, where several were looked at.
    regions : ndarray of shape (3, c, n_regions) or None
        Means of alternative regions, in the order of rows, features and regions.
    likeliest_there : ndarray of shape (n_regions,) or None
    stability : list of c Stability
        How much numbers move over bootstrap replicates; empty without any.
    """

    plan: ExplanationPlan | FastPlan
    rows: Floats
    features: Ints
    explained: Ints | None
    base: Floats
    weights: Floats
    report: ExecutionReport
    source: Source | None
    likeliest: Ints | None = None
    regions: Floats | None = None
    likeliest_there: Ints | None = None
    stability: list[Stability] = field(default_factory=list)

    def explanations(self, *, threshold: Floats | None, **described: Any) -> Explanations:
        """Return them with a row per row and explained class, described as the caller says."""
        n_classes, n = self.base.shape[1:]
        base = self.base.transpose(0, 2, 1).reshape(3, -1)
        weights = self.weights.transpose(0, 2, 1, 3).reshape(3, n * n_classes, -1)
        repeated = np.repeat(np.arange(n), n_classes)
        rows = self.rows if n_classes == 1 else self.rows[repeated]
        predicted, explained = self._class_numbers()
        classes = self.plan.model.classes
        source = self.source
        if source is not None:
            source = source if n_classes == 1 else source.take(repeated)
            if self.explained is not None or self.plan.model.n_classes > 2:
                source = replace(source, explained=explained)
        regions, there = self._flat_regions()
        return Explanations(
            prediction=base[0],
            prediction_low=base[1],
            prediction_high=base[2],
            weights=weights[0],
            weights_low=weights[2],
            weights_high=weights[1],
            X=rows,
            grid=self.plan.grid,
            features=self.features,
            columns=self.plan.model.columns,
            predicted_class=None if classes is None else classes[predicted][repeated],
            explained_class=None if classes is None else classes[explained],
            threshold=threshold,
            regions=regions,
            likeliest_there=there,
            source=source,
            stability=Stability.interleaved(self.stability) if self.stability else None,
            execution_report=self.report,
            **described,
        )

    def _class_numbers(self) -> tuple[Ints | None, Ints | None]:
        """Numbers of the predicted class of each row, and of each explained one."""
        classes = self.plan.model.classes
        if classes is None:
            return None, None
        likeliest = self.likeliest
        if likeliest is None:  # two classes: a tie goes to the first one
            likeliest = (self.base[0, 0] > 0.5).astype(np.int64)
        explained = self.explained
        if explained is None:
            several = len(classes) > 2
            explained = likeliest[:, None] if several else np.ones((len(self.rows), 1), dtype=int)
        return likeliest, explained.ravel()

    def _flat_regions(self) -> tuple[Floats | None, NDArray[Any] | None]:
        """Regions row by row and class by class, and the labels of the likeliest classes there."""
        if self.regions is None:
            return None, None
        n_classes, n = self.base.shape[1:]
        there, classes = self.likeliest_there, self.plan.model.classes
        if there is not None and classes is not None:
            there = classes[there]
        if n_classes == 1:
            return self.regions[:, 0], there
        counts = regions_per_row(self.plan, self.rows, self.features)
        starts = np.cumsum(counts) - counts
        place = ranges(np.repeat(starts, n_classes), np.repeat(counts, n_classes))
        of_class = np.repeat(np.tile(np.arange(n_classes), n), np.repeat(counts, n_classes))
        return self.regions[:, of_class, place], None if there is None else there[place]


def fit_features(data: FastData, executor: ParallelExecutor) -> dict[int, Any]:
    """Fit the calibrators of features by their numbers, one task each; see `fit_feature`."""
    workload = Workload(
        name="fit fast",
        n_tasks=len(data.features),
        payload_bytes=8 * len(data.X) * data.augmentation.scale_factor,
    )
    fitted = executor.map(in_config(fit_feature), data.columns(), shared=data, workload=workload)
    return dict(zip(data.features.tolist(), fitted, strict=True))


def explain_rows(
    plan: ExplanationPlan | FastPlan,
    rows: Floats,
    features: Ints,
    known: Rows,
    explained: Ints | None,
    options: Mapping[str, Any],
    executor: ParallelExecutor,
    config: ParallelConfig,
) -> Found:
    """Run the tiles, and put their results where they belong.

    Parameters
    ----------
    plan : ExplanationPlan or FastPlan
    rows : ndarray of shape (n, n_features)
    features : ndarray of shape (m,)
        Those to vary.
    known : Rows
        What is known of each row.
    explained : ndarray of shape (n, c) or None
        See `Tile`.
    options : mapping
        For the calibrator.
    executor : ParallelExecutor
    config : ParallelConfig
        For its memory budget.
    """
    task: Callable[[Any, Tile], TileResult] = explain_tile
    source = None
    if isinstance(plan, FastPlan):
        task, features = explain_fast_tile, features[np.isin(features, list(plan.calibrators))]
    else:
        source = Source(plan, rows, known, None, options, config)
    shape = plan.shape(features)
    if shape.nbytes > config.memory_budget_bytes:
        raise ValueError(
            f"memory_budget_bytes must be at least {shape.nbytes}, the size of one tile of these "
            f"data. Got {config.memory_budget_bytes}. Bootstrap replicates keep all features of a "
            "row in one tile; without them, tiles are smaller."
        )
    tiles = list(make_tiles(rows, shape, known, explained, options))
    workload = Workload(
        name="explain", n_tasks=len(tiles), payload_bytes=max(tile.rows.nbytes for tile in tiles)
    )
    n_classes = 1 if explained is None else explained.shape[1]
    results = executor.map(in_config(task), tiles, shared=plan, workload=workload)
    found = Found(
        plan,
        rows,
        features,
        explained,
        base=np.empty((3, n_classes, len(rows))),
        weights=np.zeros((3, n_classes, *rows.shape)),
        report=results.report,
        source=source,
    )
    if plan.replicates is not None:
        n, d = rows.shape
        found.stability = [
            Stability.unmoved(n, d, plan.replicates.n_replicates) for _ in range(n_classes)
        ]
    parts, n_regions = [], 0
    for result in results:
        _place(found, result)
        if result.regions is None:
            continue
        parts.append(result)
        if len(parts) == len(shape.groups):  # all of a range of rows
            n_regions = _place_regions(found, parts, n_regions)
            parts = []
    return found


def _place(found: Found, result: TileResult) -> None:
    """Put predictions and weights where they belong."""
    here = slice(result.start, result.start + result.alternative.shape[2])
    if result.base is not None:
        found.base[..., here] = result.base
        if result.likeliest is not None:
            if found.likeliest is None:
                found.likeliest = np.empty(len(found.rows), dtype=np.int64)
            found.likeliest[here] = result.likeliest
    with np.errstate(invalid="ignore"):  # infinite bounds
        weight = found.base[0][:, here, None] - result.alternative
    weight[np.isnan(result.alternative)] = 0.0  # no alternative
    found.weights[:, :, here, result.features] = weight
    for stability, part in zip(found.stability, result.stability, strict=True):
        stability.fill(here, result.features, part)


def _place_regions(found: Found, parts: list[TileResult], n_before: int) -> int:
    """Put the regions of a range of rows behind those before; return how many there are now."""
    first = parts[0]
    n = first.alternative.shape[2]
    regions = np.concatenate([part.regions for part in parts], axis=-1)
    there = None
    if first.likeliest_there is not None:
        there = np.concatenate([part.likeliest_there for part in parts])
    if len(parts) > 1:
        order = _order_of_regions(found, parts)
        regions, there = regions[..., order], None if there is None else there[order]
    if n == len(found.rows):
        found.regions, found.likeliest_there = regions, there
        return regions.shape[-1]
    if found.regions is None:  # room for all: a list of them would have to be copied at the end
        total = _count_regions(found)
        found.regions = np.empty((*regions.shape[:-1], total))
        found.likeliest_there = None if there is None else np.empty(total, dtype=there.dtype)
    here = slice(n_before, n_before + regions.shape[-1])
    found.regions[..., here] = regions
    if there is not None and found.likeliest_there is not None:
        found.likeliest_there[here] = there
    return here.stop


def _order_of_regions(found: Found, parts: list[TileResult]) -> Ints:
    """Order that brings row 0 of every group of features in front of row 1."""
    start, n = parts[0].start, parts[0].alternative.shape[2]
    grid = found.plan.grid
    counts = np.diff(grid.region_ptr)[grid.cells_of(found.rows[start : start + n], found.features)]
    starts = (np.cumsum(counts) - counts.ravel()).reshape(counts.shape)
    column = {f: j for j, f in enumerate(found.features.tolist())}
    places = []
    for part in parts:
        columns = [column[f] for f in part.features.tolist()]
        places.append(ranges(starts[:, columns].ravel(), counts[:, columns].ravel()))
    return np.argsort(np.concatenate(places))


def _count_regions(found: Found) -> int:
    """Count the alternative regions of all rows, some rows at a time."""
    blocks = np.split(found.rows, range(COUNTED_ROWS, len(found.rows), COUNTED_ROWS))
    counts = [regions_per_row(found.plan, block, found.features).sum() for block in blocks]
    return int(np.sum(counts))


def regions_per_row(plan: ExplanationPlan | FastPlan, rows: Floats, features: Ints) -> Ints:
    """Count the alternative regions of each row."""
    grid = plan.grid
    counts: Ints = np.diff(grid.region_ptr)[grid.cells_of(rows, features)].sum(axis=1)
    return counts
