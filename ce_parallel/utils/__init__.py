"""Small things that every other module may use.

_checks    what users give us: read it, or say what is wrong with it
_columns   frames and arrays <-> blocks of numbers
_sklearn   how we speak to scikit-learn, and the only private imports from it
"""

from ce_parallel.utils._checks import (
    check_estimator,
    check_labels,
    check_sample_percentiles,
    draw_seed,
    kept_features,
    two_classes,
)
from ce_parallel.utils._columns import Columns, is_frame
from ce_parallel.utils._sklearn import (
    StrOptions,
    estimator_scores,
    fill_random_states,
    safe_indexing,
    validated,
)

__all__ = [
    "Columns",
    "StrOptions",
    "check_estimator",
    "check_labels",
    "check_sample_percentiles",
    "draw_seed",
    "estimator_scores",
    "fill_random_states",
    "is_frame",
    "kept_features",
    "safe_indexing",
    "two_classes",
    "validated",
]
