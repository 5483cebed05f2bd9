"""Discretisers: where a numeric feature is cut, and which categories of others are tried."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

# Depth of the tree of each kind of explanation: 1 gives two cells per feature, 3 up to eight.
MAX_DEPTH = {"factual": 1, "alternative": 3}


def fit_edges(
    X: NDArray[np.float64],
    target: NDArray,
    *,
    classification: bool,
    max_depth: int,
    uncut: Collection[int] = (),
) -> tuple[NDArray[np.float64], ...]:
    """Cut every feature where `target` changes most.

    Parameters
    ----------
    X : ndarray of shape (n_reference, n_features)
        Reference rows. Missing values (NaN) take no part.
    target : ndarray of shape (n_reference,)
        What the cuts should tell apart: calibrated classes (or values) or observed ones.
    classification : bool
        Whether `target` holds classes (entropy) or numbers (absolute error).
    max_depth : int
        Depth of the tree; at most ``2**max_depth - 1`` edges result.
    uncut : collection of int
        Features that are not cut: categorical ones, or those that get no rule.

    Returns
    -------
    tuple of n_features ndarrays
        Ascending edges ``q``; bin ``k`` is ``q[k-1] < x <= q[k]``. Empty for a feature that is
        constant, wholly missing or `uncut`. A feature that no cut helps is cut at its median.
    """
    from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor  # 60 ms to import

    if classification:
        tree = DecisionTreeClassifier(criterion="entropy", max_depth=max_depth, random_state=0)
    else:
        tree = DecisionTreeRegressor(
            criterion="absolute_error", max_depth=max_depth, random_state=0
        )
    edges = []
    for f, column in enumerate(X.T):
        present = ~np.isnan(column)
        values = column[present]
        if f in uncut or values.size == 0 or (values == values[0]).all():
            edges.append(np.empty(0))
            continue
        nodes = tree.fit(values[:, None], target[present]).tree_
        cuts = np.unique(nodes.threshold[nodes.children_left != -1])
        edges.append(cuts if cuts.size else np.array([np.median(values)]))
    return tuple(edges)


def fit_categories(
    X: NDArray[np.float64],
    features: Iterable[int],
    *,
    max_categories: int,
    names: Sequence[str],
) -> dict[int, NDArray[np.float64] | None]:
    """Choose the categories that are tried instead of others: the most frequent ones.

    A feature is left out if it has more than `max_categories` categories and more than half of
    its present values occur only once: its values are names of rows rather than categories.

    Parameters
    ----------
    X : ndarray of shape (n_reference, n_features)
        Reference rows, categories as numbers. NaN is missing, and no category here.
    features : iterable of int
        The categorical features.
    max_categories : int
        How many categories of a feature are tried; of equally frequent ones the lower numbers.
    names : sequence of n_features str
        What the warning calls the features.

    Returns
    -------
    dict
        Ascending categories of each of `features`; None for one that is left out.

    Warns
    -----
    UserWarning
        Once, naming the features that are left out.
    """
    chosen: dict[int, NDArray[np.float64] | None] = {}
    for f in features:
        column = X[:, f]
        codes, counts = np.unique(column[~np.isnan(column)], return_counts=True)
        if len(codes) > max_categories:
            if 2 * (counts == 1).sum() > counts.sum():
                chosen[f] = None
                continue
            codes = np.sort(codes[np.argsort(-counts, kind="stable")[:max_categories]])
        chosen[f] = codes
    left_out = [names[f] for f, codes in chosen.items() if codes is None]
    if left_out:
        warnings.warn(
            f"No rules on {', '.join(map(repr, left_out))}: more than max_categories="
            f"{max_categories} categories, and most of their values occur only once.",
            UserWarning,
            stacklevel=2,
        )
    return chosen
