"""Filters: which alternative rules of each row answer which question.

    Alternatives --is_super, is_semi, ...--> masks (n_rules,)
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
one (``leads``) is argued *for* that class: super raises p, counter lets another class win. A row
whose explained class is another one is argued *against* it, as a binary row below 0.5 is: super
lowers p, counter lets the explained class win. A rule may raise p and let another class win all the
same, by raising that one more: it is super and counter.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.integer]
Mask = NDArray[np.bool_]

# How close two predictions or costs are that count as equal, and to how many decimals that is.
TOLERANCE, DECIMALS = 1e-12, 12


@dataclass(frozen=True, eq=False)
class Alternatives:
    """Rules that say what would be predicted instead, and the rows that they are about.

    Attributes
    ----------
    row : ndarray of shape (n_rules,)
        Number of the row that each rule is about, ascending.
    prediction, low, high : ndarray of shape (n_rules,)
        Calibrated prediction where the rule holds, and its bounds, which may be infinite.
    size : ndarray of shape (n_rules,)
        Number of features of each rule.
    base : ndarray of shape (3, n_rows)
        Calibrated prediction, low and high of the rows themselves.
    probabilistic : bool
        Whether predictions are probabilities, of a class or an event, not values of the target.
    leads : ndarray of shape (n_rows,) or None
        More than two classes: whether the explained class is the predicted one.
    flips : ndarray of shape (n_rules,) or None
        More than two classes: whether the decision about the explained class changes under the
        rule. Where it leads, another class becomes the most probable one; where it does not, it
        becomes that itself. None, like `leads`: two classes, an event, or plain regression.
    """

    row: Ints
    prediction: Floats
    low: Floats
    high: Floats
    size: Ints
    base: Floats
    probabilistic: bool
    leads: Mask | None = None
    flips: Mask | None = None

    @property
    def width(self) -> Floats:
        """Width of each rule's interval, ndarray of shape (n_rules,); NaN for inf minus inf."""
        with np.errstate(invalid="ignore"):
            return self.high - self.low

    @property
    def leading(self) -> Mask:
        """Whether each rule's row is argued for a larger prediction, ndarray of shape (n_rules,).

        That is for its explained class, or event; in regression always.
        """
        if not self.probabilistic:
            return np.ones(len(self.row), dtype=bool)
        leads = self.base[0] > 0.5 if self.leads is None else self.leads
        return leads[self.row]


def select_rules(
    rules: Alternatives,
    *,
    kinds: Collection[str] = (),
    include_potential: bool = True,
    only_ensured: bool = False,
    pareto_cost: str | None = None,
) -> Mask:
    """Choose rules that pass all filters asked for.

    Parameters
    ----------
    rules : Alternatives
    kinds : collection of {"super", "semi", "counter"}
        A rule of any of these kinds is kept; an empty collection keeps all.
    include_potential : bool
        Whether potential rules, whose interval holds both decisions, are kept. They have to pass
        the other filters, too.
    only_ensured : bool
        Whether to keep only rules that are no less certain than the row itself.
    pareto_cost : {"uncertainty_width", "rule_size"} or None
        Keep only the frontier of this cost, drawn on all rules, see `pareto`. None: no such filter.

    Returns
    -------
    ndarray of bool, shape (n_rules,)

    Raises
    ------
    ValueError
        If a kind or cost is unknown.
    """
    unknown = [kind for kind in kinds if kind not in KINDS]
    if unknown:
        raise ValueError(f"kinds must be among {sorted(KINDS)}. Got {unknown} instead.")
    keep = np.full(len(rules.row), not kinds)
    for kind in kinds:
        keep |= KINDS[kind](rules)
    if not include_potential:
        keep &= ~is_potential(rules)
    if only_ensured:
        keep &= is_ensured(rules)
    if pareto_cost is not None:
        keep &= pareto(rules, pareto_cost)
    return keep


def is_super(rules: Alternatives) -> Mask:
    """Rules that speak more strongly for the decision; in regression those that raise the value."""
    value = rules.base[0, rules.row]
    return np.where(rules.leading, rules.prediction > value, rules.prediction < value)


def is_semi(rules: Alternatives) -> Mask:
    """Rules that weaken the decision without changing it.

    In regression rule and row cannot be told apart: each prediction lies within the bounds of the
    other.
    """
    value, low, high = rules.base[:, rules.row]
    if not rules.probabilistic:
        within = (rules.low <= value) & (value <= rules.high)
        return within & (low <= rules.prediction) & (rules.prediction <= high)
    weaker = np.where(rules.leading, rules.prediction < value, rules.prediction > value)
    return weaker & ~is_counter(rules)


def is_counter(rules: Alternatives) -> Mask:
    """Rules that change the decision; in regression those that lower the value.

    With two classes p = 0.5 changes either decision.
    """
    if rules.flips is not None:
        return rules.flips
    if not rules.probabilistic:
        return rules.prediction < rules.base[0, rules.row]
    return np.where(rules.leading, rules.prediction <= 0.5, rules.prediction >= 0.5)


def is_potential(rules: Alternatives) -> Mask:
    """Rules whose interval leaves the direction open.

    It holds 0.5, in regression the row's own prediction. With more than two classes too it is 0.5:
    above it the explained class leads for certain, and how sure others are is not known here.
    """
    if rules.probabilistic:
        return (rules.low < 0.5) & (rules.high > 0.5)
    value = rules.base[0, rules.row]
    return (rules.low <= value) & (value <= rules.high)


def is_ensured(rules: Alternatives) -> Mask:
    """Rules whose interval is no wider than the row's own; any, where that is infinite."""
    _, low, high = rules.base[:, rules.row]
    with np.errstate(invalid="ignore"):  # an infinite value minus itself
        return rules.width <= np.abs(high - low)


# What `kinds` may name, and what tells whether a rule is of that kind.
KINDS: dict[str, Callable[[Alternatives], Mask]] = {
    "super": is_super,
    "semi": is_semi,
    "counter": is_counter,
}


def pareto(rules: Alternatives, cost: str) -> Mask:
    """Rules of each row that no cheaper rule makes superfluous.

    Of rules with equal predictions (to 12 decimals) the cheapest is a candidate, the first of
    them if several are (within 1e-12). A candidate is kept if none of those with smaller
    predictions is cheaper, or none of those with larger ones. So the lowest and the highest
    prediction are always kept.

    Parameters
    ----------
    rules : Alternatives
    cost : {"uncertainty_width", "rule_size"}
        What to be sparing of: ``high - low``, or the number of features in a rule. A width that
        is not defined (NaN) counts as infinite.

    Returns
    -------
    ndarray of bool, shape (n_rules,)

    Raises
    ------
    ValueError
        If the cost is unknown.
    """
    if cost not in COSTS:
        raise ValueError(
            f"The Pareto cost must be 'uncertainty_width' or 'rule_size'. Got {cost!r} instead."
        )
    costs = COSTS[cost](rules)
    kept = np.zeros(len(rules.row), dtype=bool)
    chosen = _cheapest_of_equals(rules.row, rules.prediction, costs)
    if len(chosen) == 0:
        return kept
    # The running minimum restarts at each row: ranks of costs, each row's below all earlier ones'.
    levels, rank = np.unique(costs[chosen], return_inverse=True)
    step = rules.row[chosen] * len(levels)
    from_left = np.minimum.accumulate(rank - step) + step
    from_right = np.minimum.accumulate((rank + step)[::-1])[::-1] - step
    limit = np.maximum(levels[from_left], levels[from_right])
    kept[chosen] = levels[rank] <= limit + TOLERANCE
    return kept


# What `pareto` may be sparing of, without NaN.
COSTS: dict[str, Callable[[Alternatives], Floats]] = {
    "uncertainty_width": lambda rules: np.where(np.isnan(rules.width), np.inf, rules.width),
    "rule_size": lambda rules: np.asarray(rules.size, dtype=np.float64),
}


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
