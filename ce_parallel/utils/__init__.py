"""Small things that every other module may use.

_checks    what users give us: read it, or say what is wrong with it
_columns   frames and arrays <-> blocks of numbers
_frames    what we ask of a frame, for each library that has frames
_sklearn   how we speak to scikit-learn, and the only private imports from it
"""

from ce_parallel.utils._checks import (
    check_estimator,
    check_labels,
    check_present,
    check_sample_percentiles,
    classes_of,
    draw_seed,
    feature_indices,
    kept_features,
)
from ce_parallel.utils._columns import CodedColumn, Columns, column_of
from ce_parallel.utils._frames import is_frame, named
from ce_parallel.utils._sklearn import (
    HasMethods,
    Interval,
    StrOptions,
    encoded,
    estimator_scores,
    fill_random_states,
    in_config,
    params_of_rows,
    route_fit,
    safe_indexing,
    score_verb,
)

__all__ = [
    "CodedColumn",
    "Columns",
    "HasMethods",
    "Interval",
    "StrOptions",
    "check_estimator",
    "check_labels",
    "check_present",
    "check_sample_percentiles",
    "classes_of",
    "column_of",
    "draw_seed",
    "encoded",
    "estimator_scores",
    "feature_indices",
    "fill_random_states",
    "in_config",
    "is_frame",
    "kept_features",
    "named",
    "params_of_rows",
    "route_fit",
    "safe_indexing",
    "score_verb",
]
