"""Conjunctions: rules that hold together, and what is predicted where they do.

    single rules --pair_rules--> pairs of a rule and what it joins      once per size, see _conjoin
    rows (n, d), values of each member --every combination--> block (n_combinations, d)
      --measure, calibrate--> (3, c, n_combinations) --means_of--> (3, n_conjunctions)

A conjunction of s features is evaluated at every combination of the values that represent its
members: those of their regions for alternative rules, those of the row's own cells for factual
ones. `evaluate_conjunctions` is the only function here that runs in workers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ce_parallel.calibration import Rows
from ce_parallel.rules._block import Plan, block_rows, means_of, ranges
from ce_parallel.rules._grid import Grid

Floats = NDArray[np.float64]
Ints = NDArray[np.integer]


@dataclass(frozen=True, eq=False)
class Conjunctions:
    """Conjunctions of n rows, one row after the other, those of a row by size.

    Attributes
    ----------
    ptr : ndarray of shape (n + 1,)
        Conjunctions of each row.
    members_ptr : ndarray of shape (n_conjunctions + 1,)
        Members of each conjunction.
    members : ndarray of int
        Numbers of the rules that are joined, counted among the single rules of their row.
    values : ndarray of shape (3, n_conjunctions)
        Calibrated value, low and high where all members hold.
    likeliest_there : ndarray of shape (n_conjunctions,) or None
        Number of the most probable class there, if there are more than two.
    """

    ptr: Ints
    members_ptr: Ints
    members: Ints
    values: Floats
    likeliest_there: Ints | None = None

    @property
    def row(self) -> Ints:
        """Row of each conjunction, ndarray of shape (n_conjunctions,)."""
        return np.repeat(np.arange(len(self.ptr) - 1), np.diff(self.ptr))

    @property
    def size(self) -> Ints:
        """Number of members of each conjunction, ndarray of shape (n_conjunctions,)."""
        return np.diff(self.members_ptr)

    @classmethod
    def none(cls, n: int) -> Conjunctions:
        """No conjunctions of n rows."""
        nothing = np.zeros(0, dtype=np.int64)
        return cls(
            np.zeros(n + 1, dtype=np.int64), np.zeros(1, np.int64), nothing, np.empty((3, 0))
        )

    def of_rows(self, rows: Ints) -> Conjunctions:
        """Return those of some rows, in that order."""
        counts = np.diff(self.ptr)[rows]
        return replace(
            self._at(ranges(self.ptr[:-1][rows], counts)), ptr=np.append(0, np.cumsum(counts))
        )

    def where(self, kept: NDArray[np.bool_]) -> Conjunctions:
        """Return those that are kept, of a mask of shape (n_conjunctions,)."""
        before = np.append(0, np.cumsum(kept))
        return replace(self._at(np.flatnonzero(kept)), ptr=before[self.ptr])

    def joined_with(self, more: Conjunctions) -> Conjunctions:
        """Return these and `more` of the same rows, which come later in each row."""
        there = None
        if more.likeliest_there is not None:
            earlier = self.likeliest_there
            earlier = np.zeros(0, dtype=np.int64) if earlier is None else earlier
            there = np.append(earlier, more.likeliest_there)
        both = Conjunctions(
            ptr=self.ptr + more.ptr,
            members_ptr=np.append(self.members_ptr, self.members_ptr[-1] + more.members_ptr[1:]),
            members=np.append(self.members, more.members),
            values=np.concatenate([self.values, more.values], axis=1),
            likeliest_there=there,
        )
        return both._at(np.argsort(np.append(self.row, more.row), kind="stable"))

    def _at(self, index: Ints) -> Conjunctions:
        """Return the conjunctions at `index`, with pointers from rows as they were."""
        there, sizes = self.likeliest_there, self.size[index]
        return Conjunctions(
            ptr=self.ptr,
            members_ptr=np.append(0, np.cumsum(sizes)),
            members=self.members[ranges(self.members_ptr[:-1][index], sizes)],
            values=self.values[:, index],
            likeliest_there=None if there is None else there[index],
        )


def pair_rules(
    single_ptr: Ints, feature: Ints, top_row: Ints, top_members: Ints
) -> tuple[Ints, Ints]:
    """Join every single rule of a row with every important rule of that row.

    One conjunction per row and set of features, the first that is met: single rules in their order,
    and for each of them the important ones in theirs.

    Parameters
    ----------
    single_ptr : ndarray of shape (n_rows + 1,)
        Single rules of each row.
    feature : ndarray of shape (n_single,)
        What each of them is about.
    top_row : ndarray of shape (n_top,)
        Row of each important rule, ascending.
    top_members : ndarray of shape (n_top, size - 1)
        The single rules that it consists of, all important rules being of one size.

    Returns
    -------
    row : ndarray of shape (n_found,)
        Ascending.
    members : ndarray of shape (n_found, size)
        Numbers of single rules.
    """
    n_rows, size = len(single_ptr) - 1, top_members.shape[1] + 1
    tops = np.bincount(top_row, minlength=n_rows)
    counts = np.repeat(tops, np.diff(single_ptr))
    first = np.repeat(np.cumsum(tops) - tops, np.diff(single_ptr))
    partner = ranges(first, counts)
    single = np.repeat(np.arange(len(feature)), counts)
    members = np.column_stack([single, top_members[partner]])
    names = np.sort(feature[members], axis=1)
    row = top_row[partner]
    possible = np.flatnonzero((np.diff(names, axis=1) > 0).all(axis=1))
    keys = np.column_stack([row, names])[possible]
    if not len(keys):
        return np.zeros(0, dtype=np.int64), np.zeros((0, size), dtype=np.int64)
    _, earliest = np.unique(keys, axis=0, return_index=True)
    found = possible[np.sort(earliest)]
    return row[found], members[found]


@dataclass(frozen=True, eq=False)
class RuleValues:
    """The values that represent single rules, as stretches of one array.

    Attributes
    ----------
    feature : ndarray of shape (n_single,)
    ptr : ndarray of shape (n_single + 1,)
    values : ndarray of float
        Those of rule `r` are ``values[ptr[r]:ptr[r + 1]]``.
    """

    feature: Ints
    ptr: Ints
    values: Floats

    @classmethod
    def of_regions(cls, grid: Grid, feature: Ints, region: Ints) -> RuleValues:
        """Values of alternative rules: those of their regions."""
        return cls._stretches(feature, grid.value_ptr, grid.values, region)

    @classmethod
    def of_cells(cls, grid: Grid, feature: Ints, cell: Ints, own: Floats) -> RuleValues:
        """Values of factual rules: those of their cells; the row's own where there are none.

        So a category stands for itself, and so does a missing value.
        """
        # One more stretch per rule, of its own value, to choose instead.
        alone = np.diff(grid.covered_ptr)[cell] == 0
        ptr = np.append(grid.covered_ptr, grid.covered_ptr[-1] + np.arange(1, len(own) + 1))
        instead = len(grid.covered_ptr) - 1 + np.arange(len(own))
        values = np.append(grid.covered, own)
        return cls._stretches(feature, ptr, values, np.where(alone, instead, cell))

    @classmethod
    def _stretches(cls, feature: Ints, ptr: Ints, values: Floats, which: Ints) -> RuleValues:
        counts = np.diff(ptr)[which]
        chosen = values[ranges(ptr[which], counts)]
        return cls(feature, np.append(0, np.cumsum(counts)), chosen)

    def take(self, rules: Ints) -> RuleValues:
        """Return those of some rules, in that order."""
        return self._stretches(self.feature[rules], self.ptr, self.values, rules)


@dataclass(frozen=True, eq=False)
class ConjunctionTile:
    """One item of work: conjunctions of one size.

    Attributes
    ----------
    rows : ndarray of shape (n, d)
    owner : ndarray of shape (n_conjunctions,)
        Row of each conjunction, counted in `rows`.
    members : ndarray of shape (n_conjunctions, size)
        Numbers of rules in `tried`.
    tried : RuleValues
    known : Rows
        What is known of each row.
    explained : ndarray of shape (n,) or None
        Number of the class explained; None: a regressor's only quantity, class 1 of two.
    options : mapping
        For the calibrator.
    """

    rows: Floats
    owner: Ints
    members: Ints
    tried: RuleValues
    known: Rows
    explained: Ints | None = None
    options: Mapping[str, Any] = field(default_factory=dict)


def make_conjunction_tiles(
    X: Floats,
    row: Ints,
    members: Ints,
    tried: RuleValues,
    known: Rows,
    explained: Ints | None,
    options: Mapping[str, Any],
) -> Iterator[ConjunctionTile]:
    """Cut conjunctions, ordered by row, into tiles that fill one perturbed block each.

    By the number of columns and of combinations alone, never by workers or memory.
    """
    counts = np.diff(tried.ptr)[members].prod(axis=1)
    room = max(1, block_rows(X.shape[1]) - int(counts.max(initial=1)) + 1)
    tile = (np.cumsum(counts) - 1) // room
    for part in np.split(np.arange(len(row)), np.flatnonzero(np.diff(tile)) + 1):
        rows, owner = np.unique(row[part], return_inverse=True)
        rules, place = np.unique(members[part], return_inverse=True)
        yield ConjunctionTile(
            rows=X[rows],
            owner=owner,
            members=place.reshape(len(part), -1),
            tried=tried.take(rules),
            known=known.take(rows),
            explained=None if explained is None else explained[rows],
            options=options,
        )


def evaluate_conjunctions(plan: Plan, tile: ConjunctionTile) -> tuple[Floats, Ints | None]:
    """Predict where the conjunctions of a tile hold.

    Parameters
    ----------
    plan : Plan
    tile : ConjunctionTile

    Returns
    -------
    values : ndarray of shape (3, n_conjunctions)
        Mean calibrated value, low and high over all combinations.
    likeliest : ndarray of shape (n_conjunctions,) or None
        The most probable class in the mean, if there are more than two.
    """
    model, tried = plan.model, tile.tried
    counts = np.diff(tried.ptr)[tile.members]
    sizes = counts.prod(axis=1)
    which = np.repeat(np.arange(len(sizes)), sizes)
    combination = ranges(np.zeros_like(sizes), sizes)
    limit = block_rows(tile.rows.shape[1])
    predicted, every = [], []
    for start in range(0, len(which), limit):  # one conjunction may be larger than a block
        here = slice(start, start + limit)
        owner = tile.owner[which[here]]
        block = _combined(tile, counts, which[here], combination[here])
        explained = None if tile.explained is None else tile.explained[owner][:, None]
        measured = model.measure(block)
        values, probabilities = model.calibrate(
            measured, tile.known.take(owner), explained, **tile.options
        )
        predicted.append(values[:, 0])
        if probabilities is not None and model.n_classes > 2:
            every.append(probabilities.T)
    means = means_of(np.concatenate(predicted, axis=1), sizes)
    if not every:
        return means, None
    return means, means_of(np.concatenate(every, axis=1), sizes).argmax(axis=0)


def _combined(tile: ConjunctionTile, counts: Ints, which: Ints, combination: Ints) -> Floats:
    """Copies of the owners' rows with the values of combinations, the last member fastest."""
    tried = tile.tried
    block = tile.rows[tile.owner[which]]
    place, rest = np.arange(len(block)), combination
    for j in reversed(range(tile.members.shape[1])):
        member = tile.members[which, j]
        rest, digit = np.divmod(rest, counts[which, j])
        block[place, tried.feature[member]] = tried.values[tried.ptr[member] + digit]
    return block
