"""Filters: which alternative rules of each row answer which question.

    rules (n_rules,) and base (3, n_rows) --is_super, is_semi, ...--> masks (n_rules,)
    masks --select_rules--> one mask: directions united, all else intersected

A rule says what would be predicted instead, with bounds. The kinds, after Löfström et al. (2024),
"Ensured: Explanations for decreasing the epistemic uncertainty in predictions", arXiv:2410.05479,
with the prediction ``p`` of a rule and ``bp`` of its row:

    kind       probabilities                        plain regression
    super      further from the other decision      p > bp
    semi       nearer to it, same decision          each interval holds the other's prediction
    counter    the other decision                   p < bp
    potential  low < 0.5 < high                     low <= bp <= high
    ensured    interval no wider than the row's     the same

The *decision* is about the explained class: whether it is the predicted one. With two classes, or
an event of a regression, ``bp > 0.5`` says so, and the rule's own p says whether the decision
changes. With more classes 0.5 does not divide: there `flips` says for each rule whether the
decision changes, and `leads` for each row what it was. A row whose explained class is the predicted
one (``leads``, the default) is argued *for* that class: super raises p, counter lets another
class win. A row whose explained class is another one is argued *against* it, as a binary row below
0.5 is: super lowers p, counter lets the explained class win. A rule may raise p and let another
class win all the same, by raising that one more: it is super and counter.

Every mask takes the same arguments, of which it may need only some; see `select_rules`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.integer]
Mask = NDArray[np.bool_]

# How close two predictions or costs are that count as equal, and to how many decimals that is.
TOLERANCE, DECIMALS = 1e-12, 12


def select_rules(
    row: Ints,
    prediction: Floats,
    low: Floats,
    high: Floats,
    base: Floats,
    *,
    probabilistic: bool,
    leads: Mask | None = None,
    flips: Mask | None = None,
    kinds: Collection[str] = (),
    include_potential: bool = True,
    only_ensured: bool = False,
    pareto_cost: str | None = None,
    size: Ints | None = None,
) -> Mask:
    """Choose rules that pass all filters asked for.

    Parameters
    ----------
    row : ndarray of shape (n_rules,)
        Number of the row that each rule is about, ascending.
    prediction, low, high : ndarray of shape (n_rules,)
        Calibrated prediction where the rule holds, and its bounds, which may be infinite.
    base : ndarray of shape (3, n_rows)
        Calibrated prediction, low and high of the rows themselves.
    probabilistic : bool
        Whether predictions are probabilities, of a class or an event, not values of the target.
    leads : ndarray of shape (n_rows,) or None
        More than two classes: whether the explained class is the predicted one; None: it always
        is. Used only with `flips`.
    flips : ndarray of shape (n_rules,) or None
        More than two classes: whether the decision about the explained class changes under the
        rule. Where it leads, another class becomes the most probable one; where it does not, it
        becomes that itself. None: two classes, an event, or plain regression.
    kinds : collection of {"super", "semi", "counter"}
        A rule of any of these kinds is kept; an empty collection keeps all.
    include_potential : bool
        Whether potential rules, whose interval holds both decisions, are kept. They have to pass
        the other filters, too.
    only_ensured : bool
        Whether to keep only rules that are no less certain than the row itself.
    pareto_cost : {"uncertainty_width", "rule_size"} or None
        Keep only the frontier of this cost, drawn on all rules, see `pareto`. None: no such filter.
    size : ndarray of shape (n_rules,) or None
        Number of features of each rule; needed for "rule_size".

    Returns
    -------
    ndarray of bool, shape (n_rules,)

    Raises
    ------
    ValueError
        If a kind or cost is unknown, or sizes are needed and missing.
    """
    unknown = [kind for kind in kinds if kind not in KINDS]
    if unknown:
        raise ValueError(f"kinds must be among {sorted(KINDS)}. Got {unknown} instead.")
    arrays = (row, prediction, low, high, base)
    meaning: dict[str, Any] = {"probabilistic": probabilistic, "leads": leads, "flips": flips}
    keep = np.full(len(row), not kinds)
    for kind in kinds:
        keep |= KINDS[kind](*arrays, **meaning)
    if not include_potential:
        keep &= ~is_potential(*arrays, **meaning)
    if only_ensured:
        keep &= is_ensured(*arrays, **meaning)
    if pareto_cost is not None:
        keep &= pareto(row, prediction, low, high, cost=pareto_cost, size=size)
    return keep


def is_super(
    row: Ints,
    prediction: Floats,
    low: Floats,
    high: Floats,
    base: Floats,
    *,
    probabilistic: bool,
    leads: Mask | None = None,
    flips: Mask | None = None,
) -> Mask:
    """Rules that speak more strongly for the decision; in regression those that raise the value.

    Arguments as of `select_rules`; returns ndarray of bool, shape (n_rules,).
    """
    value = base[0, row]
    if not probabilistic:
        return prediction > value
    leading = explained_leads(base, leads, flips)[row]
    return np.where(leading, prediction > value, prediction < value)


def is_semi(
    row: Ints,
    prediction: Floats,
    low: Floats,
    high: Floats,
    base: Floats,
    *,
    probabilistic: bool,
    leads: Mask | None = None,
    flips: Mask | None = None,
) -> Mask:
    """Rules that weaken the decision without changing it.

    In regression rule and row cannot be told apart: each prediction lies within the bounds of the
    other. Arguments as of `select_rules`; returns ndarray of bool, shape (n_rules,).
    """
    value, base_low, base_high = base[:, row]
    if not probabilistic:
        within = (low <= value) & (value <= high)
        return within & (base_low <= prediction) & (prediction <= base_high)
    leading = explained_leads(base, leads, flips)[row]
    weaker = np.where(leading, prediction < value, prediction > value)
    return weaker & ~_changes(prediction, leading, flips)


def is_counter(
    row: Ints,
    prediction: Floats,
    low: Floats,
    high: Floats,
    base: Floats,
    *,
    probabilistic: bool,
    leads: Mask | None = None,
    flips: Mask | None = None,
) -> Mask:
    """Rules that change the decision; in regression those that lower the value.

    With two classes p = 0.5 changes either decision.
    Arguments as of `select_rules`; returns ndarray of bool, shape (n_rules,).
    """
    if not probabilistic:
        return prediction < base[0, row]
    return _changes(prediction, explained_leads(base, leads, flips)[row], flips)


def is_potential(
    row: Ints,
    prediction: Floats,
    low: Floats,
    high: Floats,
    base: Floats,
    *,
    probabilistic: bool,
    leads: Mask | None = None,
    flips: Mask | None = None,
) -> Mask:
    """Rules whose interval leaves the direction open.

    It holds 0.5, in regression the row's own prediction. With more than two classes too it is 0.5:
    above it the explained class leads for certain, and how sure others are is not known here.
    Arguments as of `select_rules`; returns ndarray of bool, shape (n_rules,).
    """
    if probabilistic:
        return (low < 0.5) & (high > 0.5)
    value = base[0, row]
    return (low <= value) & (value <= high)


def is_ensured(
    row: Ints,
    prediction: Floats,
    low: Floats,
    high: Floats,
    base: Floats,
    *,
    probabilistic: bool,
    leads: Mask | None = None,
    flips: Mask | None = None,
) -> Mask:
    """Rules whose interval is no wider than the row's own; any, where that is infinite.

    Arguments as of `select_rules`; returns ndarray of bool, shape (n_rules,).
    """
    with np.errstate(invalid="ignore"):  # an infinite value minus itself
        return high - low <= np.abs(base[2] - base[1])[row]


def explained_leads(base: Floats, leads: Mask | None = None, flips: Mask | None = None) -> Mask:
    """Whether the explained class is the predicted one, ndarray of shape (n_rows,).

    Follows from ``p > 0.5`` unless there are more than two classes, see `select_rules`.
    """
    if flips is None:
        return base[0] > 0.5
    return np.ones(base.shape[1], dtype=bool) if leads is None else np.asarray(leads)


def _changes(prediction: Floats, leading: Mask, flips: Mask | None) -> Mask:
    """Whether the decision changes under each rule; `leading` is per rule."""
    if flips is not None:
        return np.asarray(flips)
    return np.where(leading, prediction <= 0.5, prediction >= 0.5)


# What `kinds` may name, and what tells whether a rule is of that kind.
KINDS: dict[str, Callable[..., Mask]] = {
    "super": is_super,
    "semi": is_semi,
    "counter": is_counter,
}


def pareto(
    row: Ints,
    prediction: Floats,
    low: Floats,
    high: Floats,
    *,
    cost: str = "uncertainty_width",
    size: Ints | None = None,
) -> Mask:
    """Rules of each row that no cheaper rule makes superfluous.

    Of rules with equal predictions (to 12 decimals) the cheapest is a candidate, the first of
    them if several are (within 1e-12). A candidate is kept if none of those with smaller
    predictions is cheaper, or none of those with larger ones. So the lowest and the highest
    prediction are always kept.

    Parameters
    ----------
    row, prediction, low, high : ndarray of shape (n_rules,)
        See `select_rules`.
    cost : {"uncertainty_width", "rule_size"}
        What to be sparing of: ``high - low``, or the number of features in a rule. A width that
        is not defined (NaN) counts as infinite.
    size : ndarray of shape (n_rules,) or None
        Number of features of each rule.

    Returns
    -------
    ndarray of bool, shape (n_rules,)

    Raises
    ------
    ValueError
        If the cost is unknown, or is the rule size and `size` is missing.
    """
    costs = _costs(low, high, cost, size)
    kept = np.zeros(len(row), dtype=bool)
    chosen = _cheapest_of_equals(row, prediction, costs)
    if len(chosen) == 0:
        return kept
    # The running minimum restarts at each row: ranks of costs, each row's below all earlier ones'.
    levels, rank = np.unique(costs[chosen], return_inverse=True)
    step = row[chosen] * len(levels)
    from_left = np.minimum.accumulate(rank - step) + step
    from_right = np.minimum.accumulate((rank + step)[::-1])[::-1] - step
    limit = np.maximum(levels[from_left], levels[from_right])
    kept[chosen] = levels[rank] <= limit + TOLERANCE
    return kept


def _costs(low: Floats, high: Floats, cost: str, size: Ints | None) -> Floats:
    """Cost of each rule, without NaN."""
    if cost == "uncertainty_width":
        with np.errstate(invalid="ignore"):
            width = high - low
        return np.where(np.isnan(width), np.inf, width)
    if cost != "rule_size":
        raise ValueError(
            f"The Pareto cost must be 'uncertainty_width' or 'rule_size'. Got {cost!r} instead."
        )
    if size is None:
        raise ValueError("The Pareto cost 'rule_size' needs the size of each rule. Got None.")
    return np.asarray(size, dtype=np.float64)


def _cheapest_of_equals(row: Ints, prediction: Floats, costs: Floats) -> Ints:
    """One rule of each row and prediction, ordered by these."""
    # From 2**13 on neighbouring doubles are further apart than 1e-12: nothing to round, and
    # np.round, which multiplies, would overflow in the end.
    small = np.abs(prediction) < 2**13
    output = np.where(small, np.round(np.where(small, prediction, 0.0), DECIMALS), prediction)
    order = np.lexsort((output, row))
    row, output, costs = row[order], output[order], costs[order]
    starts = np.ones(len(order), dtype=bool)
    starts[1:] = (row[1:] != row[:-1]) | (output[1:] != output[:-1])
    first = np.flatnonzero(starts)
    if len(first) == 0:
        return first
    group = np.cumsum(starts) - 1
    cheapest = np.flatnonzero(costs <= np.minimum.reduceat(costs, first)[group] + TOLERANCE)
    _, earliest = np.unique(group[cheapest], return_index=True)
    return order[cheapest[earliest]]
