"""Discretisers: where a feature is cut, learned by one small tree per feature."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# Depth of the tree of each kind of explanation: 1 gives two regions per feature.
MAX_DEPTH = {"factual": 1}


def fit_edges(
    X: NDArray[np.float64],
    target: NDArray,
    *,
    classification: bool,
    max_depth: int,
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

    Returns
    -------
    tuple of n_features ndarrays
        Ascending edges ``q``; bin ``k`` is ``q[k-1] < x <= q[k]``. Empty for a feature that is
        constant or wholly missing. A feature that no cut helps is cut at its median.
    """
    from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor  # 60 ms to import

    if classification:
        tree = DecisionTreeClassifier(criterion="entropy", max_depth=max_depth, random_state=0)
    else:
        tree = DecisionTreeRegressor(
            criterion="absolute_error", max_depth=max_depth, random_state=0
        )
    edges = []
    for column in X.T:
        present = ~np.isnan(column)
        values = column[present]
        if values.size == 0 or (values == values[0]).all():
            edges.append(np.empty(0))
            continue
        nodes = tree.fit(values[:, None], target[present]).tree_
        cuts = np.unique(nodes.threshold[nodes.children_left != -1])
        edges.append(cuts if cuts.size else np.array([np.median(values)]))
    return tuple(edges)
