"""Predictions and explanations by plain loops, straight from the method: slow, hard to get wrong.

Values stay what they are: a category is its own string, number or bool, and a missing value is
None, NaN or NA.
"""

from itertools import pairwise
from math import ceil, floor

import numpy as np
from sklearn.isotonic import IsotonicRegression
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

NAN, INF = np.nan, np.inf
MISSING = (NAN, NAN, NAN)


# -- calibration ------------------------------------------------------------------------------


def venn_abers(scores, labels, score):
    """(value, low, high): isotonic regression refitted with the new object, as a 0 and as a 1."""
    low, high = (
        IsotonicRegression().fit([*scores, score], [*labels, label]).predict([score])[0]
        for label in (0.0, 1.0)
    )
    return high / (1 - low + high), low, high


def class_probabilities(scores, y, row_scores, decimals=4):
    """(value, low, high) of each class: one against the rest, divided by the sum of the values."""
    scores, row_scores = np.round(scores, decimals), np.round(row_scores, decimals)
    if len(row_scores) == 2:
        value, low, high = venn_abers(scores[:, 1], y == 1, row_scores[1])
        return [(1 - value, 1 - high, 1 - low), (value, low, high)]
    raw = [venn_abers(scores[:, c], y == c, score) for c, score in enumerate(row_scores)]
    total = sum(value for value, _, _ in raw)
    return [tuple(number / total for number in one) for one in raw]


def interval(alphas, y_hat, percentiles=(5, 95)):
    """(median, low, high) of the predictive distribution that residuals give."""
    steps = [-INF, *sorted(alphas), INF]

    def ends(q):
        place = q / 100 * (len(alphas) + 1)
        return y_hat + steps[floor(place)], y_hat + steps[ceil(place)]

    return sum(ends(50)) / 2, ends(percentiles[0])[0], ends(percentiles[1])[1]


def event_probability(y_hat, y, halves, row_y_hat, t1, t2):
    """(value, low, high) of ``t1 < y <= t2``; the first of two halves scores the second one."""
    half_a, half_b = halves

    def score(prediction):
        return sum(t1 < prediction + (y[i] - y_hat[i]) <= t2 for i in half_a)

    return venn_abers(
        [score(y_hat[i]) for i in half_b],
        [float(t1 < y[i] <= t2) for i in half_b],
        score(row_y_hat),
    )


# -- what is tried instead of a value ---------------------------------------------------------


def missing(value):
    return value is None or (not isinstance(value, str) and bool(np.isnan(value)))


def cell(value, edges, categories=None):
    """The cell a value lies in, as (lower, upper, category).

    `categories` are those that are tried; None for a numeric feature.
    """
    if missing(value):
        return MISSING
    if categories is not None:
        return (-INF, INF, value if value in categories else NAN)
    bounds = [-INF, *edges, INF]
    return next((lo, up, NAN) for lo, up in pairwise(bounds) if value <= up)


def regions(x, reference, edges, percentiles, categories=None):
    """The regions other than the row's own, each as ((lower, upper, category), support, values)."""
    lower, upper, _ = cell(x, edges, categories)
    present = [v for v in reference if not missing(v)]
    found = []
    if categories is not None:
        for code in categories:
            if code != x:
                found.append(((-INF, INF, code), present.count(code), [code]))
    elif missing(x):
        found.append(((-INF, INF, NAN), len(present), quantiles(present, percentiles)))
    else:
        below = [v for v in present if v <= lower]
        above = [v for v in present if v > upper]
        found.append(((-INF, lower, NAN), len(below), quantiles(below, percentiles)))
        found.append(((upper, INF, NAN), len(above), quantiles(above, percentiles)))
    if not missing(x):
        n_missing = len(reference) - len(present)
        found.append((MISSING, n_missing, [NAN] if n_missing else []))
    return [region for region in found if region[2]]


def quantiles(values, percentiles):
    return sorted(set(np.percentile(values, percentiles))) if values else []


def cuts(column, target, *, classification, depth):
    """Where a numeric feature is cut: the splits of a tree, or else the median."""
    here = [i for i, value in enumerate(column) if not missing(value)]
    values = np.array([column[i] for i in here], dtype=float)
    if len(set(values)) < 2:
        return []
    tree = (
        DecisionTreeClassifier(criterion="entropy", max_depth=depth)
        if classification
        else DecisionTreeRegressor(criterion="absolute_error", max_depth=depth)
    )
    nodes = tree.fit(values[:, None], np.asarray(target)[here]).tree_
    splits = zip(nodes.threshold, nodes.children_left, strict=True)
    return sorted({cut for cut, left in splits if left != -1}) or [np.median(values)]


# -- explanations -----------------------------------------------------------------------------


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


def explain(predict, X, reference, edges, *, kind, categories=(), percentiles=(25, 50, 75)):
    """Whole explanations of rows.

    Parameters
    ----------
    predict : callable
        ``predict(rows, i)``: a list of (value, low, high), one per row, of what is explained of
        row `i` of `X`, of which `rows` are changed copies.
    X, reference : ndarray or DataFrame
    edges : list of lists
        Where each feature is cut.
    categories : mapping of int to list
        The values that are tried of each categorical feature, in order.

    Returns
    -------
    base : ndarray of shape (3, n)
    weights : ndarray of shape (3, n, d)
        Value, low and high.
    rules : list of tuples
        (row, feature, lower, upper, category, prediction, low, high, weight, weight_low,
        weight_high, support)
    """
    categories = dict(categories)
    n, d = X.shape
    known = [column_list(reference, f) for f in range(d)]
    base, weights, rules = np.zeros((3, n)), np.zeros((3, n, d)), []
    for i in range(n):
        p, low, high = base[:, i] = predict(replaced(X, i, 0, [column_list(X, 0)[i]]), i)[0]
        for f in range(d):
            x = column_list(X, f)[i]
            means = []
            for where, support, values in regions(
                x, known[f], edges[f], percentiles, categories.get(f)
            ):
                there = mean(predict(replaced(X, i, f, values), i))
                means.append(there)
                same = there[1:] == (low, high) and (np.isfinite(there[1:]).all() or there[0] == p)
                if kind == "alternative" and not same:
                    change = [number - p for number in there]
                    rules.append((i, f, *where, *there, *change, support))
            if not means:
                continue
            value, value_low, value_high = mean(means)
            weight = weights[:, i, f] = p - value, p - value_high, p - value_low
            if kind == "factual" and weight[0] != 0:
                lower, upper, category = own = cell(x, edges[f], categories.get(f))
                own_cells = [cell(v, edges[f], categories.get(f)) for v in known[f]]
                support = sum(same_place(place, own) for place in own_cells)
                if f in categories and not missing(x):
                    category = x  # in the rule, even if it is none of those tried
                rules.append((i, f, lower, upper, category, p, low, high, *weight, support))
    return base, weights, rules


def mean(triples):
    """Means of values, of lows and of highs; that of equal numbers is exact."""
    return tuple(
        numbers[0] if len(set(numbers)) == 1 else sum(numbers) / len(numbers)
        for numbers in zip(*triples, strict=True)
    )


def same_place(one, other):
    return all(a == b or (missing(a) and missing(b)) for a, b in zip(one, other, strict=True))


def column_list(X, f):
    """A column as a list of plain values."""
    return X[:, f].tolist() if isinstance(X, np.ndarray) else X.iloc[:, f].tolist()


def replaced(X, i, f, values):
    """Copies of row `i`, each with another of `values` in column `f`."""
    rows = [i] * len(values)
    if isinstance(X, np.ndarray):
        copies = X[rows]
        copies[:, f] = values
        return copies
    import pandas as pd

    copies = X.iloc[rows].reset_index(drop=True)
    dtype = copies.dtypes.iloc[f]
    if dtype.kind == "O" and isinstance(dtype, np.dtype) and X.iloc[:, f].isna().any():
        # As missing values look in this column.
        absent = X.iloc[int(X.iloc[:, f].isna().to_numpy().argmax()), f]
        values = [absent if missing(value) else value for value in values]
    if dtype.kind in "iu":
        dtype = float
    elif dtype.kind == "b" and any(missing(value) for value in values):
        dtype = object
    copies[copies.columns[f]] = pd.Series(values, dtype=dtype)
    return copies
