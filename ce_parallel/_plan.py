"""The frozen plan: everything that a worker needs to predict and explain rows.

    rows --columns, estimator--> scores --calibrator--> (value, low, high)    CalibratedModel
    rows --columns, K of them--> scores --calibrator--> (value, low, high)    EnsembleModel
    grid: what is tried instead of each present value                         ExplanationPlan

A plan is never changed; to change something, make another. It is sent to each worker once.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ce_parallel._version import __version__
from ce_parallel.calibration import Calibration, Rows, reshape_scores
from ce_parallel.rules import Grid, TileShape
from ce_parallel.utils import Columns, estimator_scores, score_verb

Floats = NDArray[np.float64]
Ints = NDArray[np.integer]


MOST_DIFFICULT = 1.1  # for a classifier: 1, and the little that estimators of difficulty add


@dataclass(frozen=True, eq=False)
class CalibratedModel:
    """A fitted estimator and its calibrator.

    Attributes
    ----------
    estimator : estimator
        A fitted classifier or regressor.
    columns : Columns
        Turns blocks of numbers into what the estimator was fitted on.
    calibrator : calibrator
        Turns scores and what is known of the rows into value, low and high.
    classes : ndarray of shape (n_classes,) or None
        The classes, ascending; None for regressors.
    difficulty : object or None
        Its ``apply(X)`` says how difficult rows are.
    version : str
        The version of this package that made it.
    """

    estimator: Any
    columns: Columns
    calibrator: Any
    classes: NDArray[Any] | None = None
    difficulty: Any = None
    version: str = __version__

    @property
    def n_classes(self) -> int:
        """Number of classes, 0 for regressors."""
        return 0 if self.classes is None else len(self.classes)

    @property
    def n_estimators(self) -> int:
        """How many estimators score each row."""
        return 1

    @property
    def score_shape(self) -> tuple[int, ...]:
        """Shape of the scores of one row."""
        return () if self.classes is None else (len(self.classes),)

    @property
    def verb(self) -> str:
        """Name of the method of the estimator whose output is calibrated."""
        return score_verb(self.estimator, self.classes)

    def difficulty_of(self, X: Floats) -> Floats | None:
        """Return how difficult rows are, ndarray of shape (n,), where somebody says so.

        Raises
        ------
        ValueError
            If that is not one number per row: positive ones for a regressor, from 0 to about 1
            for a classifier.
        """
        if self.difficulty is None:
            return None
        found = np.asarray(self.difficulty.apply(X))
        regression = self.classes is None
        if found.shape == (len(X),) and found.dtype.kind in "fiub":
            found = found.astype(np.float64)
            fine = (
                (found > 0) & (found < np.inf)
                if regression
                else (found >= 0) & (found <= MOST_DIFFICULT)
            )
            if fine.all():
                return found
        wanted = "positive numbers" if regression else f"numbers from 0 to {MOST_DIFFICULT}"
        raise ValueError(
            f"difficulty.apply must return {wanted}, of shape ({len(X)},). Got {found!r} from "
            f"{self.difficulty!r}."
        )

    def score(self, X: Floats) -> Floats:
        """Scores of rows of numbers, ndarray of shape (n, *score_shape)."""
        return estimator_scores(self.estimator, self.columns.restore(X), self.classes)

    def measure(self, X: Floats) -> tuple[Floats, Floats | None]:
        """Return the estimator's scores of rows of numbers, and how difficult they are."""
        difficulty = self.difficulty_of(X)
        scores = self.score(X)
        if difficulty is None or self.classes is None:
            return scores, difficulty
        return reshape_scores(scores, difficulty), None

    def calibrate(
        self,
        measured: tuple[Floats, Floats | None],
        rows: Rows,
        explained: Ints | None,
        **options: Any,
    ) -> tuple[Floats, Floats | None]:
        """Calibrate what `measure` returned.

        Parameters
        ----------
        measured : pair of ndarrays
        rows : Rows
            What is known of each row.
        explained : ndarray of shape (n, c) or None
            Class numbers that are asked for. None: the likeliest of several, class 1 of two; a
            regressor's only quantity.
        **options
            Passed to the calibrator: ``percentiles`` for a regressor.

        Returns
        -------
        calibrated : ndarray of shape (3, c, n)
            Value, low and high; c is 1 where `explained` is None.
        every : ndarray of shape (n, n_classes) or None
            Values of all classes; None where class 1 or the only quantity was asked for.
        """
        scores, difficulty = measured
        if difficulty is not None:
            rows = replace(rows, difficulty=difficulty)
        if explained is None and self.n_classes <= 2:
            return self.calibrator.predict(scores, rows, **options)[:, None], None
        every = self.calibrator.predict_all(scores, rows)
        if explained is None:
            explained = every[0].argmax(axis=1)[:, None]
        chosen = np.take_along_axis(every, explained[None], axis=2)
        return np.ascontiguousarray(chosen.transpose(0, 2, 1)), every[0]

    def predict(self, X: Floats, rows: Rows, **options: Any) -> Floats:
        """Calibrated value, low and high of rows of numbers, ndarray of shape (3, n).

        Of class 1 for a classifier of two; `predict_all` is for more.
        """
        return self.calibrate(self.measure(X), rows, None, **options)[0][:, 0]

    def predict_all(self, X: Floats, rows: Rows) -> Floats:
        """Calibrated probabilities of all classes, ndarray of shape (3, n, n_classes)."""
        every: Floats = self.calibrator.predict_all(self.measure(X)[0], rows)
        return every

    def __setstate__(self, state: dict[str, Any]) -> None:
        if state["version"] != __version__:
            warnings.warn(
                f"This model was calibrated by ce_parallel {state['version']} and is used under "
                f"{__version__}. Its numbers may differ; fit and calibrate again to be safe.",
                UserWarning,
                stacklevel=2,
            )
        self.__dict__.update(state)


@dataclass(frozen=True, eq=False)
class EnsembleModel(CalibratedModel):
    """The fitted estimators of K folds, and a calibrator that merges what follows from them.

    `estimator` is a tuple of K estimators.
    """

    @property
    def n_estimators(self) -> int:
        """How many estimators score each row."""
        return len(self.estimator)

    @property
    def score_shape(self) -> tuple[int, ...]:
        """Shape of the scores of one row."""
        return (len(self.estimator), *super().score_shape)

    @property
    def verb(self) -> str:
        """Name of the method of the estimators whose output is calibrated."""
        return self.member(0).verb

    def score(self, X: Floats) -> Floats:
        """Scores of rows by every estimator, ndarray of shape (n, K) or (n, K, n_classes)."""
        # A copy for each: some estimators write into what they are given.
        scores = [self.member(k).score(X.copy()) for k in range(self.n_estimators)]
        return np.stack(scores, axis=1)

    def member(self, fold: int) -> CalibratedModel:
        """Return the estimator of one fold, without a calibrator."""
        return CalibratedModel(
            self.estimator[fold], self.columns, None, self.classes, self.difficulty
        )


@dataclass(frozen=True, eq=False)
class ExplanationPlan:
    """A calibrated model and the grid of one kind of explanation.

    Attributes
    ----------
    model : CalibratedModel
    grid : Grid
    keeps_regions : bool
        Whether the prediction of each alternative region is wanted, not their mean alone.
    replicates : CalibrationReplicates, EstimatorReplicates or None
        Bootstrap replicates of the model.
    """

    model: CalibratedModel
    grid: Grid
    keeps_regions: bool = False
    replicates: Any = None

    def knowing(self, columns: Columns) -> ExplanationPlan:
        """Return a plan that knows other values of categorical features."""
        replicates = None if self.replicates is None else self.replicates.knowing(columns)
        return replace(self, model=replace(self.model, columns=columns), replicates=replicates)

    def shape(self, features: Ints) -> TileShape:
        """How rows and these features are cut into tiles."""
        n_estimators = self.model.n_estimators
        if self.replicates is not None:
            n_estimators += self.replicates.n_estimators
        return TileShape.of(
            self.grid,
            features,
            n_classes=self.model.n_classes,
            n_estimators=n_estimators,
            whole=self.replicates is not None,
        )


def reshaped(rows: Calibration, model: CalibratedModel) -> Calibration:
    """Rows as a calibrator wants them: a classifier's difficulty reshapes its scores."""
    if rows.known.difficulty is None or model.classes is None:
        return rows
    scores = reshape_scores(rows.scores, rows.known.difficulty)
    return replace(rows, scores=scores, known=replace(rows.known, difficulty=None))
