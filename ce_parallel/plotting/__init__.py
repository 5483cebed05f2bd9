"""Displays: pictures of explanations. matplotlib is imported when one is drawn.

_factual   FactualDisplay: the rules of one row as bars with their uncertainty
"""

from ce_parallel.plotting._factual import FactualDisplay

__all__ = ["FactualDisplay"]
