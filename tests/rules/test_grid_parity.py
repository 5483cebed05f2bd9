"""Edges, values and counts of alternative rules against calibrated-explanations 1.0.2."""

import warnings

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer, load_diabetes
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.model_selection import train_test_split

from ce_parallel.rules import MAX_DEPTH, build_grid, fit_categories, fit_edges

PERCENTILES = [10, 50, 90]

MODELS = {
    "classification": (LogisticRegression(max_iter=10_000), load_breast_cancer),
    "regression": (LinearRegression(), load_diabetes),
}


def alternatives(mode, X, y, **options):
    """Our grid of half of the rows, the reference's explanations of ten others, and these rows."""
    reference = pytest.importorskip("calibrated_explanations")
    model = MODELS[mode][0]
    X_fit, X_cal, y_fit, y_cal = train_test_split(X, y, test_size=0.6, random_state=1)
    X_cal, rows, y_cal, _ = train_test_split(X_cal, y_cal, test_size=10, random_state=2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = reference.CalibratedExplainer(
            model.fit(X_fit, y_fit),
            X_cal.copy(),
            y_cal.copy(),
            mode=mode,
            sample_percentiles=PERCENTILES,
            seed=42,
            **options,
        )
        explanations = theirs.explore_alternatives(rows.copy())
        target = theirs.predict(X_cal.copy())
    features = options.get("categorical_features", [])
    names = [str(f) for f in range(X.shape[1])]
    categories = fit_categories(X_cal, features, max_categories=32, names=names)
    edges = fit_edges(
        X_cal,
        target,
        classification=mode == "classification",
        max_depth=MAX_DEPTH["alternative"],
        uncut=categories,
    )
    grid = build_grid(X_cal, edges, PERCENTILES, categories)
    return grid, X_cal, theirs, explanations, rows


def regions(grid, row, feature):
    """Values and supports of the regions that are tried instead of a row's value."""
    (cell,) = grid.cells_of(row[None], np.array([feature])).ravel()
    numbers = range(grid.region_ptr[cell], grid.region_ptr[cell + 1])
    values = [grid.values[grid.value_ptr[r] : grid.value_ptr[r + 1]] for r in numbers]
    return values, grid.region_support[list(numbers)], grid.support[cell]


@pytest.mark.parametrize("mode", MODELS)
def test_numeric_features(mode):
    X, y = MODELS[mode][1](return_X_y=True)
    grid, reference, theirs, explanations, rows = alternatives(mode, X, y)
    compared = 0
    for f in range(X.shape[1]):
        np.testing.assert_array_equal(grid.edges[f], theirs.discretizer.bin_edges[f])
        # Method Q8: a reference value that equals an edge is on neither side there. No feature of
        # these data is cut so; one that is has to be left out here by name.
        assert not np.isin(grid.edges[f], reference[:, f]).any(), f
        for row, explanation in zip(rows, explanations, strict=True):
            values, support, own = regions(grid, row, f)
            sides = explanation.binned["rule_values"][f][0]  # lesser, greater, current
            for ours, one in zip(values, sides[:-1], strict=True):
                np.testing.assert_array_equal(ours, one)
            np.testing.assert_array_equal([*support, own], explanation.binned["counts"][f])
            compared += len(values)
    assert compared > 10 * X.shape[1]


def test_categorical_features():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(400, 4))
    X[:, 1] = rng.choice([-2.0, 0.0, 3.0, 11.0], 400)
    X[:, 3] = rng.choice([1.0, 2.0], 400)
    y = (X[:, 0] + np.cos(X[:, 1]) + X[:, 3] + 0.3 * rng.normal(size=400) > 1.5).astype(int)
    grid, _, theirs, explanations, rows = alternatives(
        "classification", X, y, categorical_features=[1, 3]
    )
    for f in (1, 3):
        np.testing.assert_array_equal(grid.categories[f], theirs.feature_values[f])
        for row, explanation in zip(rows, explanations, strict=True):
            values, support, own = regions(grid, row, f)
            counts, current = explanation.binned["counts"][f], explanation.binned["current_bin"][f]
            assert own == counts[current]
            np.testing.assert_array_equal(support, np.delete(counts, current))
            np.testing.assert_array_equal(
                np.concatenate(values), np.delete(theirs.feature_values[f], current)
            )
