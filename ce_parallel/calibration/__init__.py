"""Calibrators: arrays of scores in, calibrated value and bounds out.

    scores, labels          -> _ivap.InductiveVennAbers          -> (value, low, high)
    scores of all classes   -> _classes.VennAbersClassifier      -> (value, low, high)
    residuals               -> _cps.ConformalPredictiveSystem    -> (value, low, high)
    predictions, targets    -> _events.EventSplit.calibrator     -> (value, low, high)
    any of them, categories -> _mondrian.Mondrian                -> (value, low, high)
    any of them, folds      -> _merge.merge                      -> (value, low, high)

    _replicates  bootstrap replicates of a calibrator, read all at once
    _recipe      calibration rows, and how a calibrator is made from them
    _rows        what is known of a row besides its score: category, event, difficulty
    _difficulty  scores of a classifier reshaped by difficulty, before they get here

A calibrator never sees an estimator or its features, so it can be tested against a slow
oracle, pickled in a few kilobytes and reused. Each is frozen once fitted;
`predict(scores, rows, **options)` returns one `ndarray of shape (3, n)` whose rows are the
calibrated value, its lower and its upper bound. `predict_all`, where there are classes, returns
`(3, n, n_classes)`.
"""

from ce_parallel.calibration._classes import NORMALIZATIONS, VennAbersClassifier
from ce_parallel.calibration._cps import ConformalPredictiveSystem, check_percentiles
from ce_parallel.calibration._difficulty import reshape_scores
from ce_parallel.calibration._events import EventPredictor, EventSplit, check_threshold
from ce_parallel.calibration._ivap import SUMMARIES, InductiveVennAbers
from ce_parallel.calibration._merge import (
    CrossConformal,
    MergedEventSplit,
    MergedVennAbers,
    merge,
)
from ce_parallel.calibration._mondrian import Mondrian
from ce_parallel.calibration._recipe import Calibration, Recipe
from ce_parallel.calibration._replicates import LookUps, look_ups
from ce_parallel.calibration._rows import Rows, group_rows

__all__ = [
    "NORMALIZATIONS",
    "SUMMARIES",
    "Calibration",
    "ConformalPredictiveSystem",
    "CrossConformal",
    "EventPredictor",
    "EventSplit",
    "InductiveVennAbers",
    "LookUps",
    "MergedEventSplit",
    "MergedVennAbers",
    "Mondrian",
    "Recipe",
    "Rows",
    "VennAbersClassifier",
    "check_percentiles",
    "check_threshold",
    "group_rows",
    "look_ups",
    "merge",
    "reshape_scores",
]
