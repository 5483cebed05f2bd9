"""Rankings: which rules of each row matter most, by one sort over the rules of all rows.

    rules (n_rules,) --rank_by_...--> order (n_kept,), ptr (n_rows + 1,)

``order[ptr[i]:ptr[i + 1]]`` are the numbers of the first rules of row ``i``, the most important
one first. Of rules that are equal in all that is compared the later one comes first, as in the
reversed `rank_features` of calibrated-explanations, which these agree with.
"""

from __future__ import annotations

import numpy as np

from ce_parallel.rules._filters import Alternatives, Floats, Ints


def rank_by_weight(
    row: Ints, weight: Floats, width: Floats, *, n_rows: int, top: int | Ints | None = None
) -> tuple[Ints, Ints]:
    """Rank rules by falling absolute weight, equal ones by falling width.

    Parameters
    ----------
    row : ndarray of shape (n_rules,)
        Number of the row that each rule is about, ascending.
    weight : ndarray of shape (n_rules,)
        NaN counts as 0.
    width : ndarray of shape (n_rules,)
        ``weight_high - weight_low``; NaN counts as 0.
    n_rows : int
        Number of rows, those without rules included.
    top : int, ndarray of shape (n_rows,) or None
        How many rules of each row to return; None: all.

    Returns
    -------
    order : ndarray of shape (n_kept,)
        Numbers of rules.
    ptr : ndarray of shape (n_rows + 1,)
        Where each row's rules are in `order`.
    """
    by_width = np.where(np.isnan(width), 0.0, width)
    by_weight = np.where(np.isnan(weight), 0.0, np.abs(weight))
    return _rank(row, by_width, by_weight, n_rows=n_rows, top=top)


def rank_by_uncertainty(rules: Alternatives, *, top: int | None = None) -> tuple[Ints, Ints]:
    """Rank rules by rising width of the prediction's interval, the most certain one first.

    An interval whose width is not defined (NaN) comes last. calibrated-explanations 1.0.2 ranks
    by prediction here.

    Parameters
    ----------
    rules : Alternatives
    top : int or None
        How many rules of each row to return; None: all.

    Returns
    -------
    order, ptr : ndarrays
        See `rank_by_weight`.
    """
    return _rank(rules.row, _last_if_nan(-rules.width), n_rows=rules.base.shape[1], top=top)


def rank_by_ensured(
    rules: Alternatives, *, w: float = 0.5, top: int | None = None
) -> tuple[Ints, Ints]:
    """Rank rules by certainty and prediction together.

    The score is ``(1 - |w|) * (1 - u) + w * q``, with ``u = high - low``, and ``q`` the prediction
    in regression, else the probability of the row's decision: p, or ``1 - p`` where the explained
    class is not the predicted one. Where ``u`` is infinite, q alone decides among the rules
    concerned.

    Parameters
    ----------
    rules : Alternatives
    w : float
        Weight of the prediction, from -1 to 1; negative: small predictions come first.
    top : int or None
        How many rules of each row to return; None: all.

    Returns
    -------
    order, ptr : ndarrays
        See `rank_by_weight`.

    Raises
    ------
    ValueError
        If `w` is outside [-1, 1].
    """
    if not -1 <= w <= 1:
        raise ValueError(f"w must be between -1 and 1. Got {w!r} instead.")
    q = np.where(rules.leading, rules.prediction, 1 - rules.prediction)
    merit = _last_if_nan(q if w >= 0 else -q)
    score = abs(w) * merit
    if abs(w) < 1:  # an infinite width times 0 is not a number
        score = (1 - abs(w)) * (1 - rules.width) + score
    score = _last_if_nan(score)
    among_equals = np.where(np.isfinite(score), 0.0, merit)
    return _rank(rules.row, among_equals, score, n_rows=rules.base.shape[1], top=top)


def _rank(row: Ints, *keys: Floats, n_rows: int, top: int | Ints | None) -> tuple[Ints, Ints]:
    """Sort the rules of each row by falling keys, the last key first, and cut."""
    if top is not None and np.min(top, initial=0) < 0:
        raise ValueError(f"top must be None or at least 0. Got {top!r} instead.")
    # Reversing a stable sort puts later rules first among equals, and rows in ascending order.
    order = np.lexsort((*keys, -row))[::-1]
    counts = np.bincount(row, minlength=n_rows)
    kept = counts if top is None else np.minimum(counts, top)
    place = np.arange(len(order)) - np.repeat(np.cumsum(counts) - counts, counts)
    ptr = np.concatenate([[0], np.cumsum(kept)])
    return order[place < np.repeat(kept, counts)], ptr


def _last_if_nan(score: Floats) -> Floats:
    return np.where(np.isnan(score), -np.inf, score)
