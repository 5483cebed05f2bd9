"""Plans, made when they are first asked for, and kept.

calibration rows --cuts, Grid---------------> ExplanationPlan    one per kind and event
                 --noise, a calibrator each-> FastPlan           one per augmentation
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ce_parallel._bootstrap import (
    CalibrationData,
    CalibrationReplicates,
    EstimatorReplicates,
    seeds_of,
)
from ce_parallel._fast import Augmentation, FastData, FastPlan, varying
from ce_parallel._gather import fit_features
from ce_parallel._plan import CalibratedModel, ExplanationPlan
from ce_parallel.calibration import Calibration, EventSplit, MergedEventSplit, Recipe
from ce_parallel.executor import ParallelExecutor
from ce_parallel.rules import MAX_DEPTH, Grid, build_grid, fit_edges

Floats = NDArray[np.float64]

KEPT_PLANS = 8  # of explanations of events; more would hold on to old ones

# One lock for all keeps plans picklable.
_LOCK = threading.Lock()


@dataclass(frozen=True, eq=False)
class Reference:
    """Rows that cuts and perturbation values come from, and what the cuts should tell apart.

    Attributes
    ----------
    X : ndarray of shape (n, n_features)
    target : ndarray of shape (n,)
    categories : dict of int to (ndarray or None)
        Of categorical features, the categories that are tried, see `fit_categories`.
    percentiles : sequence of float
        Which percentiles of a region's values represent it.
    """

    X: Floats
    target: NDArray[Any]
    categories: dict[int, Floats | None]
    percentiles: Any

    def grid(self, *, classification: bool, max_depth: int) -> Grid:
        """Cut the features where `target` changes."""
        edges = fit_edges(
            self.X,
            self.target,
            classification=classification,
            max_depth=max_depth,
            uncut=self.categories,
        )
        return build_grid(self.X, edges, self.percentiles, self.categories)

    def uncut(self) -> Grid:
        """A grid with one cell per feature, and one for missing values."""
        nothing = dict.fromkeys(self.categories)
        return build_grid(self.X, [np.empty(0)] * self.X.shape[1], self.percentiles, nothing)


@dataclass(eq=False)
class Plans:
    """The plans that follow from one calibration.

    Attributes
    ----------
    model : CalibratedModel
    recipe : Recipe
    calibration : Calibration
        The rows that `model` was calibrated on, as scores and targets.
    reference : Reference
        The same rows, as features.
    row : ndarray of shape (n,)
        Number of the reference row that each calibration row is: a row that several folds held
        out calibrates in each.
    categories : ndarray of shape (n_categories,) or None
        Labels of the Mondrian categories, ascending.
    n_bootstraps : int
        Number of bootstrap replicates.
    refitted : list of (estimator, Calibration)
        Replicates of the estimator, with the rows that calibrate each; empty: of the calibration.
    """

    model: CalibratedModel
    recipe: Recipe
    calibration: Calibration
    reference: Reference
    row: NDArray[np.integer]
    categories: NDArray[Any] | None = None
    n_bootstraps: int = 0
    refitted: list[tuple[Any, Calibration]] = field(default_factory=list)
    _split: EventSplit | MergedEventSplit | None = None
    _grids: dict[str, Grid] = field(default_factory=dict)
    _kept: dict[Any, ExplanationPlan] = field(default_factory=dict)
    _fast: dict[Any, FastPlan] = field(default_factory=dict)

    def __getstate__(self) -> dict[str, Any]:
        """Dictionaries become lists of pairs: skops knows none with tuples as keys."""
        pairs = {name: list(getattr(self, name).items()) for name in ("_kept", "_fast")}
        return {**self.__dict__, **pairs}

    def __setstate__(self, state: dict[str, Any]) -> None:
        dictionaries = {name: dict(state[name]) for name in ("_kept", "_fast")}
        self.__dict__.update(state | dictionaries)

    def model_of(self, events: Floats | None) -> CalibratedModel:
        """Return the calibrated model, of events of shape (n_events, 2) where there are any."""
        if events is None:
            return self.model
        with _LOCK:
            if self._split is None:
                self._split = self.recipe.event_split(self.calibration)
            return replace(self.model, calibrator=self._split.calibrator(events))

    def plan(self, kind: str, events: Floats | None, executor: ParallelExecutor) -> ExplanationPlan:
        """Return the plan of `kind` and events; the grid is built when it is first asked for.

        No lock is held while replicates are fitted, as in `fast_plan`.
        """
        key = kind, None if events is None else events.tobytes()
        plan = self._kept.get(key)
        if plan is not None:
            return plan
        model = self.model_of(events)
        plan = ExplanationPlan(
            model,
            self._grid(kind),
            keeps_regions=kind == "alternative",
            replicates=self._replicates(model, events, executor) if self.n_bootstraps else None,
        )
        with _LOCK:
            while len(self._kept) >= KEPT_PLANS:
                del self._kept[next(k for k in self._kept if k[1] is not None)]
            return self._kept.setdefault(key, plan)

    def _grid(self, kind: str) -> Grid:
        with _LOCK:
            if kind not in self._grids:
                self._grids[kind] = self.reference.grid(
                    classification=self.model.classes is not None, max_depth=MAX_DEPTH[kind]
                )
            return self._grids[kind]

    def _replicates(
        self, model: CalibratedModel, events: Floats | None, executor: ParallelExecutor
    ) -> CalibrationReplicates | EstimatorReplicates:
        if self.refitted:
            return EstimatorReplicates.fit(model, self.refitted, self.recipe, events)
        split = None if events is None else self._split
        data = CalibrationData(self.recipe, self.calibration, split)
        seeds = seeds_of(self.recipe.seed, self.n_bootstraps)
        return CalibrationReplicates.fit(data, model.calibrator, events, seeds, executor)

    def fast_plan(
        self, augmentation: Augmentation, events: Floats | None, executor: ParallelExecutor
    ) -> FastPlan:
        """Return the plan of an augmentation and events.

        No lock is held while features are fitted: a worker that waited for it would never end. Two
        threads may both fit them, to the same bits; the plan of one is kept.
        """
        key = augmentation, events is not None
        plan = self._fast.get(key)
        if plan is None:
            reference, data = self.reference, self.calibration
            shared = FastData(
                self.model,
                self.recipe,
                reference.X,
                self.row,
                data,
                augmentation,
                features=varying(reference.X, reference.categories),
                events=events is not None,
            )
            plan = FastPlan(self.model, reference.uncut(), fit_features(shared, executor))
            with _LOCK:
                while len(self._fast) >= KEPT_PLANS:
                    del self._fast[next(iter(self._fast))]
                plan = self._fast.setdefault(key, plan)
        return plan if events is None else plan.of_events(self.model_of(events), events)
