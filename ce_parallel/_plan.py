"""The frozen plan: everything that a worker needs to predict and explain rows.

    rows --columns, estimator--> scores --calibrator--> (value, low, high)
    grid: what is tried instead of each present value

A plan is never changed; to change something, make another with `dataclasses.replace`. It is sent
to each worker once.
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
class ExplanationPlan:
    """Fitted estimator, calibrator and grid.

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
    grid : Grid or None
        None until an explanation is asked for.
    version : str
        The version of this package that made the plan.
    """

    estimator: Any
    columns: Columns
    calibrator: InductiveVennAbers | ConformalPredictiveSystem
    positive: Any = None
    grid: Grid | None = None
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
                f"This plan was made by ce_parallel {state['version']} and is used under "
                f"{__version__}. Its numbers may differ; fit and calibrate again to be safe.",
                UserWarning,
                stacklevel=2,
            )
        self.__dict__.update(state)
