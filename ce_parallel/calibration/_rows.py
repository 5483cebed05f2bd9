"""What a calibrator may know of the rows besides their scores, and rows put into groups."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.integer]


@dataclass(frozen=True, eq=False)
class Rows:
    """What is known of each row. None stands for all rows at once: there is nothing to tell apart.

    Attributes
    ----------
    category : ndarray of shape (n,) or None
        Number of the row's Mondrian category.
    event : ndarray of shape (n,) or None
        Number of the row's event, for probabilistic regression.
    difficulty : ndarray of shape (n,) or None
        Positive; a residual is expected to be in proportion to it.
    """

    category: Ints | None = None
    event: Ints | None = None
    difficulty: Floats | None = None

    def take(self, index: Any) -> Rows:
        """The rows at `index`, in that order; repeated where it repeats."""
        known = (self.category, self.event, self.difficulty)
        return Rows(*(None if values is None else values[index] for values in known))


NOTHING_KNOWN = Rows()


def group_rows(numbers: Ints) -> list[tuple[int, Any]]:
    """Pairs (number, index of the rows that have it), by ascending number.

    The index of a single group is a slice of all rows, which copies nothing.
    """
    if not len(numbers):
        return []
    if (numbers == numbers[0]).all():
        return [(int(numbers[0]), slice(None))]
    order = np.argsort(numbers, kind="stable")
    starts = np.flatnonzero(np.diff(numbers[order])) + 1
    return [(int(numbers[index[0]]), index) for index in np.split(order, starts)]
