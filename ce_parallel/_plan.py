"""The frozen plan: everything that a worker needs to predict and explain rows.

    rows --columns, estimator--> scores --calibrator--> (value, low, high)    CalibratedModel
    grid: what is tried instead of each present value                         ExplanationPlan

A plan is never changed; to change something, make another. It is sent to each worker once.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ce_parallel._version import __version__
from ce_parallel.calibration import ConformalPredictiveSystem, InductiveVennAbers
from ce_parallel.rules import Grid
from ce_parallel.utils import Columns, estimator_scores

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class CalibratedModel:
    """A fitted estimator and its calibrator.

    Attributes
    ----------
    estimator : estimator
        A fitted classifier or regressor.
    columns : Columns
        Turns blocks of numbers into what the estimator was fitted on.
    calibrator : InductiveVennAbers or ConformalPredictiveSystem
        Turns the estimator's scores into value, low and high.
    positive : class label or None
        The class that the scores speak of; None for regressors.
    version : str
        The version of this package that made it.
    """

    estimator: Any
    columns: Columns
    calibrator: InductiveVennAbers | ConformalPredictiveSystem
    positive: Any = None
    version: str = __version__

    def predict(self, X: Floats, **options: Any) -> Floats:
        """Calibrated value, low and high of rows of numbers.

        Parameters
        ----------
        X : ndarray of shape (n, n_features)
        **options
            Passed to the calibrator: ``percentiles`` for a regressor.

        Returns
        -------
        ndarray of shape (3, n)
        """
        rows = self.columns.restore(X)
        scores = estimator_scores(self.estimator, rows, self.positive)
        return self.calibrator.predict(scores, **options)

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
class ExplanationPlan:
    """A calibrated model and the grid of one kind of explanation."""

    model: CalibratedModel
    grid: Grid

    def predict(self, X: Floats, **options: Any) -> Floats:
        """See `CalibratedModel.predict`."""
        return self.model.predict(X, **options)
