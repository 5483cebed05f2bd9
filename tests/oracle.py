"""Factual explanations by plain loops, straight from the method: slow, and hard to get wrong."""

from itertools import pairwise

import numpy as np

NAN, INF = np.nan, np.inf
MISSING = (NAN, NAN, NAN)


def cell(value, edges, categories=None):
    """The cell a value lies in, as (lower, upper, category).

    `categories` are those that are tried; None for a numeric feature.
    """
    if np.isnan(value):
        return MISSING
    if categories is not None:
        return (-INF, INF, value if value in categories else NAN)
    bounds = [-INF, *edges, INF]
    return next((lo, up, NAN) for lo, up in pairwise(bounds) if value <= up)


def regions(x, reference, edges, percentiles, categories=None):
    """The regions other than the row's own, each as ((lower, upper, category), support, values)."""
    lower, upper, _ = cell(x, edges, categories)
    present = [v for v in reference if not np.isnan(v)]
    found = []
    if categories is not None:
        for code in categories:
            if code != x:
                found.append(((-INF, INF, code), present.count(code), [code]))
    elif np.isnan(x):
        found.append(((-INF, INF, NAN), len(present), quantiles(present, percentiles)))
    else:
        below = [v for v in present if v <= lower]
        above = [v for v in present if v > upper]
        found.append(((-INF, lower, NAN), len(below), quantiles(below, percentiles)))
        found.append(((upper, INF, NAN), len(above), quantiles(above, percentiles)))
    if not np.isnan(x):
        n_missing = len(reference) - len(present)
        found.append((MISSING, n_missing, [NAN] if n_missing else []))
    return [region for region in found if region[2]]


def quantiles(values, percentiles):
    return sorted(set(np.percentile(values, percentiles))) if values else []


def factual_weights(predict, reference, edges, X, percentiles=(25, 50, 75), categories=()):
    """Weights, low and high, array of shape (3, n, d); `predict` maps rows to (3, n)."""
    categories = dict(categories)
    weights = np.zeros((3, *X.shape))
    for i, row in enumerate(X):
        base = predict(row[None])[0, 0]
        for f in range(X.shape[1]):
            means = []
            for _, _, values in regions(
                row[f], reference[:, f], edges[f], percentiles, categories.get(f)
            ):
                perturbed = np.repeat(row[None], len(values), axis=0)
                perturbed[:, f] = values
                means.append(predict(perturbed).mean(axis=1))
            if means:
                value, low, high = np.mean(means, axis=0)
                weights[:, i, f] = base - value, base - high, base - low
    return weights
