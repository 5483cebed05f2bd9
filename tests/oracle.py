"""Factual explanations by plain loops, straight from the method: slow, and hard to get wrong."""

import numpy as np


def region(value, edges):
    """The region a value lies in: a bin number, or "missing"."""
    return "missing" if np.isnan(value) else sum(1 for edge in edges if edge < value)


def alternatives(x, reference, edges, percentiles):
    """Lists of values, one list per region other than the row's own."""
    own = region(x, edges)
    present = [v for v in reference if not np.isnan(v)]
    if own == "missing":
        sides = [present]
    else:
        sides = [
            [v for v in present if region(v, edges) < own],
            [v for v in present if region(v, edges) > own],
        ]
    regions = [sorted(set(np.percentile(side, percentiles))) for side in sides if side]
    if own != "missing" and len(present) < len(reference):
        regions.append([np.nan])
    return regions


def factual_weights(predict, reference, edges, X, percentiles=(25, 50, 75)):
    """Weights, low and high, array of shape (3, n, d); `predict` maps rows to (3, n)."""
    weights = np.zeros((3, *X.shape))
    for i, row in enumerate(X):
        base = predict(row[None])[0, 0]
        for f in range(X.shape[1]):
            means = []
            for values in alternatives(row[f], reference[:, f], edges[f], percentiles):
                perturbed = np.repeat(row[None], len(values), axis=0)
                perturbed[:, f] = values
                means.append(predict(perturbed).mean(axis=1))
            if means:
                value, low, high = np.mean(means, axis=0)
                weights[:, i, f] = base - value, base - high, base - low
    return weights
