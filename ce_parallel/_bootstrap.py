"""Bootstrap replicates: what predictions and weights would be, had other rows been drawn.

    calibration rows --resample b--> calibrator b                     scores of a row --> B values
    fitted rows -----resample b----> estimator b, out-of-bag scores --> calibrator b;  a row --> B

Replicate b draws with a generator of its own, so it does not matter who draws it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ce_parallel._folds import FoldData, fit_clone
from ce_parallel._plan import CalibratedModel, reshaped
from ce_parallel.calibration import (
    Calibration,
    EventSplit,
    LookUps,
    MergedEventSplit,
    Recipe,
    Rows,
    group_rows,
    look_ups,
)
from ce_parallel.executor import ParallelExecutor, Workload
from ce_parallel.utils import Columns, estimator_scores, in_config, safe_indexing

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]

BOOTSTRAPS = ("calibration", "estimator")
STREAM = 1  # keeps replicates apart from folds, which are seeded from the same number


def seeds_of(seed: int, n_replicates: int) -> list[np.random.SeedSequence]:
    """Return a seed per replicate."""
    return [np.random.SeedSequence(seed, spawn_key=(STREAM, b)) for b in range(n_replicates)]


def draw(groups: NDArray[np.integer] | None, n: int, rng: np.random.Generator) -> Ints:
    """Draw n of n rows with replacement, as many of each group as it has."""
    if groups is None:
        return rng.integers(n, size=n)
    drawn = np.empty(n, dtype=np.intp)
    for _, index in group_rows(groups):
        members = np.arange(n)[index]
        drawn[index] = rng.choice(members, len(members))
    return drawn


def run(task: Any, data: Any, items: list[Any], executor: ParallelExecutor) -> Any:
    """Run a task of this module once per replicate, in order."""
    workload = Workload(name="bootstrap", n_tasks=len(items))
    return list(executor.map(in_config(task), items, shared=data, workload=workload))


# -- replicates of the calibration --------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class CalibrationData:
    """What the replicates of a calibrator are made from; of events where there is a split."""

    recipe: Recipe
    calibration: Calibration
    split: EventSplit | MergedEventSplit | None


def recalibrate(data: CalibrationData, seed: np.random.SeedSequence) -> Any:
    """Fit a calibrator on resampled rows, or resample the split for events."""
    rng = np.random.default_rng(seed)
    if data.split is not None:
        return data.split.resampled(rng)
    rows = data.calibration
    return data.recipe.calibrator(rows.take(draw(rows.group, len(rows.y), rng)))


@dataclass(frozen=True, eq=False)
class CalibrationReplicates:
    """One estimator, and the look-ups of B calibrators.

    Attributes
    ----------
    look_ups : LookUps
    n_replicates : int
    """

    look_ups: LookUps
    n_replicates: int
    n_estimators: int = 0  # beside those of the model

    @classmethod
    def fit(
        cls,
        data: CalibrationData,
        calibrator: Any,
        events: Floats | None,
        seeds: list[np.random.SeedSequence],
        executor: ParallelExecutor,
    ) -> CalibrationReplicates:
        """Refit the calibrator once per seed, of events where there are any."""
        fitted = run(recalibrate, data, seeds, executor)
        if events is not None:
            fitted = [split.calibrator(events) for split in fitted]
        return cls(look_ups(calibrator, fitted), len(seeds))

    def knowing(self, columns: Columns) -> CalibrationReplicates:
        """Return these: they score nothing themselves."""
        return self

    def values(
        self,
        X: Floats,
        scores: Floats,
        difficulty: Floats | None,
        rows: Rows,
        explained: Ints | None,
    ) -> Floats:
        """Calibrated value of rows by every replicate, ndarray of shape (B, n).

        Parameters
        ----------
        X : ndarray of shape (n, n_features)
        scores, difficulty : ndarrays
            What the model measures of them, see `CalibratedModel.measure`.
        rows : Rows
        explained : ndarray of shape (n,) or None
            Number of the class that is explained; None: class 1 of two, or regression.
        """
        if difficulty is not None:
            rows = replace(rows, difficulty=difficulty)
        return self.look_ups.values(scores, rows, explained)


# -- replicates of the estimator ----------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Refitted:
    """An estimator fitted on resampled rows, and rows to calibrate it.

    Attributes
    ----------
    estimator : estimator
    rows : ndarray of shape (n_rows,)
        Numbers of those rows: the ones that were not drawn.
    scores : ndarray of shape (n_rows,) or (n_rows, n_classes)
        What the estimator says of them.
    """

    estimator: Any
    rows: Ints
    scores: Floats

    def calibration(
        self, model: CalibratedModel, y: NDArray[Any], known: Rows, used: Ints
    ) -> Calibration:
        """Return those rows that are among the `used` ones, which `y` and `known` describe.

        Raises
        ------
        ValueError
            If they lack a Mondrian category.
        """
        there = np.isin(self.rows, used)
        index = np.searchsorted(used, self.rows[there])
        found = known.take(index)
        if known.category is not None:
            lacking = np.setdiff1d(known.category, found.category)  # type: ignore[arg-type]
            if len(lacking):
                raise ValueError(
                    "bootstrap='estimator' calibrates a replicate on the rows that it did not "
                    f"draw. One of them drew all rows of Mondrian category {lacking[0]}: give more "
                    "rows, or use bootstrap='calibration'."
                )
        return reshaped(Calibration(self.scores[there], y[index], found), model)


def refit(data: FoldData, seed: np.random.SeedSequence) -> Refitted:
    """Fit a clone on resampled rows, of each class as many as there are, and score the others.

    Raises
    ------
    ValueError
        If every row was drawn.
    """
    n = len(data.y)
    codes = None if data.classes is None else np.searchsorted(data.classes, data.y)
    drawn = draw(codes, n, np.random.default_rng(seed))
    left = np.setdiff1d(np.arange(n), drawn)
    if not len(left):
        raise ValueError(
            "bootstrap='estimator' calibrates a replicate on the rows that it did not draw. It "
            f"drew all of n_samples={n}: give more rows, or use bootstrap='calibration'."
        )
    # Not seed.spawn, which counts: a task may run twice.
    for_clone = np.random.SeedSequence(seed.entropy, spawn_key=(*seed.spawn_key, 0))
    estimator = fit_clone(data, drawn, for_clone)
    scores = estimator_scores(estimator, safe_indexing(data.X, left), data.classes)
    return Refitted(estimator, left, scores)


@dataclass(frozen=True, eq=False)
class NewRows:
    """Rows that calibrate refitted estimators anew: `X` as they expect it, Mondrian categories."""

    X: Any
    category: NDArray[np.integer] | None
    classes: NDArray[Any] | None


def rescore(data: NewRows, item: tuple[Refitted, np.random.SeedSequence]) -> Refitted:
    """Draw new rows for an estimator, and score them."""
    refitted, seed = item
    drawn = draw(data.category, len(data.X), np.random.default_rng(seed))
    X = safe_indexing(data.X, drawn)
    return replace(
        refitted, rows=drawn, scores=estimator_scores(refitted.estimator, X, data.classes)
    )


@dataclass(frozen=True, eq=False)
class EstimatorReplicates:
    """B calibrated models.

    Attributes
    ----------
    models : tuple of CalibratedModel
    """

    models: tuple[CalibratedModel, ...]

    @property
    def n_replicates(self) -> int:
        """Number of replicates."""
        return len(self.models)

    @property
    def n_estimators(self) -> int:
        """How many estimators score each row, beside those of the model itself."""
        return len(self.models)

    @classmethod
    def fit(
        cls,
        model: CalibratedModel,
        refitted: list[tuple[Any, Calibration]],
        recipe: Recipe,
        events: Floats | None,
    ) -> EstimatorReplicates:
        """Calibrate refitted estimators, each on rows of its own, for events if there are any."""
        models = []
        for estimator, rows in refitted:
            calibrator = (
                recipe.calibrator(rows)
                if events is None
                else recipe.event_split(rows).calibrator(events)
            )
            models.append(
                CalibratedModel(
                    estimator, model.columns, calibrator, model.classes, model.difficulty
                )
            )
        return cls(tuple(models))

    def knowing(self, columns: Columns) -> EstimatorReplicates:
        """Return replicates that know other values of categorical features."""
        return EstimatorReplicates(tuple(replace(m, columns=columns) for m in self.models))

    def values(
        self,
        X: Floats,
        scores: Floats,
        difficulty: Floats | None,
        rows: Rows,
        explained: Ints | None,
    ) -> Floats:
        """See `CalibrationReplicates.values`; `scores` and `difficulty` are not needed."""
        wanted = None if explained is None else explained[:, None]
        return np.stack(
            [model.calibrate(model.measure(X), rows, wanted)[0][0, 0] for model in self.models]
        )
