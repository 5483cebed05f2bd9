"""Rules as sentences."""

from __future__ import annotations

from typing import Any

import numpy as np


def rule_text(name: str, lower: float, upper: float, category: Any = None) -> str:
    """Describe the region ``lower < name <= upper``, or a category, of a feature.

    Parameters
    ----------
    name : str
        Name of the feature.
    lower, upper : float
        Infinite bounds are left out; NaN bounds stand for a missing value.
    category : object, default=None
        The category as the reader knows it: a label, or the number as it is. In the cell of
        values that no rule tries, the row's own value. None and NaN: not a category.

    Returns
    -------
    str

    Examples
    --------
    >>> rule_text("age", 18.5, 31.0)
    '18.50 < age <= 31.00'
    >>> rule_text("age", float("-inf"), 18.5)
    'age <= 18.50'
    >>> rule_text("age", float("nan"), float("nan"))
    'age is missing'
    >>> rule_text("deck", float("-inf"), float("inf"), "C")
    'deck = C'
    >>> rule_text("class", float("-inf"), float("inf"), 2.0)
    'class = 2.0'
    """
    if np.isnan(lower):
        return f"{name} is missing"
    if category is not None and not (isinstance(category, float) and np.isnan(category)):
        return f"{name} = {category}"
    if lower == -np.inf and upper == np.inf:
        return f"{name} is present"
    if lower == -np.inf:
        return f"{name} <= {upper:.2f}"
    if upper == np.inf:
        return f"{name} > {lower:.2f}"
    return f"{lower:.2f} < {name} <= {upper:.2f}"
