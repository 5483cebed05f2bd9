"""Join the rules of explained rows, size by size, and predict where they hold together.

    single rules --rank, pair_rules--> pairs --executor.map(evaluate_conjunctions)--> Conjunctions
         ^                                                                                  |
         +------------------- ranked together for the next size <---------------------------+

After the reference, calibrated-explanations 1.0.2: `add_conjunctions`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ce_parallel._plan import ExplanationPlan
from ce_parallel.calibration import Rows
from ce_parallel.executor import ExecutionReport, ParallelConfig, Workload, acquire_executor
from ce_parallel.rules import (
    Conjunctions,
    RuleValues,
    evaluate_conjunctions,
    make_conjunction_tiles,
    pair_rules,
    rank_by_weight,
)

Floats = NDArray[np.float64]
Ints = NDArray[np.integer]


@dataclass(frozen=True, eq=False)
class Source:
    """What n explanations came from, so that more can be predicted about their rows.

    Attributes
    ----------
    plan : ExplanationPlan
        With the grid in the units of the model.
    rows : ndarray of shape (n, n_features)
        In the same units.
    known : Rows
        What is known of each row.
    explained : ndarray of shape (n,) or None
        Number of the class explained; None: a regressor's only quantity, class 1 of two.
    options : mapping
        For the calibrator.
    config : ParallelConfig or None
        How to execute what is to be predicted; None, the defaults, after pickling.
    """

    plan: ExplanationPlan
    rows: Floats
    known: Rows
    explained: Ints | None
    options: Mapping[str, Any]
    config: ParallelConfig | None

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"config": None}  # it may hold a live executor

    def take(self, index: Any) -> Source:
        """Return what some of the rows came from."""
        explained = self.explained
        return replace(
            self,
            rows=self.rows[index],
            known=self.known.take(index),
            explained=None if explained is None else explained[index],
        )

    def predict(
        self, row: Ints, members: Ints, tried: RuleValues
    ) -> tuple[Floats, Ints | None, ExecutionReport]:
        """Predict conjunctions, see `make_conjunction_tiles` and `evaluate_conjunctions`."""
        tiles = list(
            make_conjunction_tiles(
                self.rows, row, members, tried, self.known, self.explained, self.options
            )
        )
        workload = Workload(
            name="conjunctions",
            n_tasks=len(tiles),
            payload_bytes=max(tile.rows.nbytes for tile in tiles),
        )
        with acquire_executor(self.config) as executor:
            results = executor.map(
                evaluate_conjunctions, tiles, shared=self.plan, workload=workload
            )
            values, likeliest = zip(*results, strict=True)
        there = [numbers for numbers in likeliest if numbers is not None]
        return (
            np.concatenate(values, axis=1),
            np.concatenate(there) if there else None,
            results.report,
        )


@dataclass(frozen=True, eq=False)
class Ranked:
    """Single rules as their ranking sees them, arrays of shape (n_single,), ordered by row."""

    row: Ints
    feature: Ints
    weight: Floats
    width: Floats


def conjoin(
    source: Source,
    single: Ranked,
    tried: RuleValues,
    base: Floats,
    n_top: int | None,
    max_size: int,
) -> tuple[Conjunctions, ExecutionReport | None]:
    """Join single rules with the most important rules of their row, round by round.

    Parameters
    ----------
    source : Source
    single : Ranked
    tried : RuleValues
        The values that represent each single rule.
    base : ndarray of shape (n_rows,)
        Prediction of each row.
    n_top : int or None
        How many rules of each row are joined to others in a round, at least two; None: as many as
        there are single rules.
    max_size : int
        Members of the largest conjunctions.

    Returns
    -------
    found : Conjunctions
    report : ExecutionReport or None
        Of the last round; None if there was nothing to predict.
    """
    n = len(base)
    single_ptr = np.searchsorted(single.row, np.arange(n + 1))
    found, report = Conjunctions.none(n), None
    for size in range(2, max_size + 1):
        top_row, top_members = _most_important(single, single_ptr, found, base, n_top, size - 1)
        row, members = pair_rules(single_ptr, single.feature, top_row, top_members)
        if not len(row):
            break
        values, there, report = source.predict(row, members, tried)
        new = Conjunctions(
            ptr=np.searchsorted(row, np.arange(n + 1)),
            members_ptr=np.arange(len(row) + 1) * size,
            members=(members - single_ptr[row][:, None]).ravel(),
            values=values,
            likeliest_there=there,
        )
        found = found.joined_with(new)
    return found, report


def _most_important(
    single: Ranked,
    single_ptr: Ints,
    found: Conjunctions,
    base: Floats,
    n_top: int | None,
    size: int,
) -> tuple[Ints, Ints]:
    """Row and members of those of the most important rules that have `size` members.

    Of each row the least important one first, as the reference goes through them.
    """
    n, n_single = len(base), len(single.row)
    row = np.append(single.row, found.row)
    above, below, over = found.values - base[found.row]
    with np.errstate(invalid="ignore"):  # infinite bounds
        weight, width = np.append(single.weight, above), np.append(single.width, over - below)
    by_row = np.argsort(row, kind="stable")
    counts = np.diff(single_ptr)
    limit = counts if n_top is None else np.minimum(counts, max(2, n_top))
    order, _ = rank_by_weight(row[by_row], weight[by_row], width[by_row], n_rows=n, top=limit)
    rules = by_row[order[::-1]]
    rules = rules[np.argsort(row[rules], kind="stable")]
    if size == 1:
        rules = rules[rules < n_single]
        return row[rules], rules[:, None]
    joined = rules[rules >= n_single] - n_single
    joined = joined[found.size[joined] == size]
    members = found.members[found.members_ptr[joined][:, None] + np.arange(size)]
    return found.row[joined], members + single_ptr[found.row[joined]][:, None]
