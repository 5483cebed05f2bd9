"""Rules as sentences."""

from __future__ import annotations

import numpy as np


def rule_text(name: str, lower: float, upper: float) -> str:
    """Describe the region ``lower < name <= upper`` of a feature.

    Infinite bounds are left out; NaN bounds stand for a missing value.

    Examples
    --------
    >>> rule_text("age", 18.5, 31.0)
    '18.50 < age <= 31.00'
    >>> rule_text("age", float("-inf"), 18.5)
    'age <= 18.50'
    >>> rule_text("age", float("nan"), float("nan"))
    'age is missing'
    """
    if np.isnan(lower):
        return f"{name} is missing"
    if lower == -np.inf and upper == np.inf:
        return f"{name} is present"
    if lower == -np.inf:
        return f"{name} <= {upper:.2f}"
    if upper == np.inf:
        return f"{name} > {lower:.2f}"
    return f"{lower:.2f} < {name} <= {upper:.2f}"
