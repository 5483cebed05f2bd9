"""Calibrators: arrays of scores in, calibrated value and bounds out.

    scores, labels    -> _ivap.InductiveVennAbers         -> (value, low, high)
    residuals         -> _cps.ConformalPredictiveSystem   -> (value, low, high)

A calibrator never sees an estimator or its features, so it can be tested against a slow
oracle, pickled in a few kilobytes and reused. Each is frozen once fitted; `predict` returns
one `ndarray of shape (3, n)` whose rows are the calibrated value, its lower and its upper bound.
"""

from ce_parallel.calibration._cps import ConformalPredictiveSystem, check_percentiles
from ce_parallel.calibration._ivap import SUMMARIES, InductiveVennAbers

__all__ = ["SUMMARIES", "ConformalPredictiveSystem", "InductiveVennAbers", "check_percentiles"]
