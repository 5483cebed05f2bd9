"""Small things that every other module may use.

_columns   frames and arrays <-> blocks of numbers
_sklearn   scikit-learn: validation, and the only private imports from it
"""

from ce_parallel.utils._columns import Columns, is_frame
from ce_parallel.utils._sklearn import (
    Interval,
    StrOptions,
    estimator_scores,
    fill_random_states,
    safe_indexing,
    validated,
)

__all__ = [
    "Columns",
    "Interval",
    "StrOptions",
    "estimator_scores",
    "fill_random_states",
    "is_frame",
    "safe_indexing",
    "validated",
]
