"""Cells partition every value; regions hold the reference values of the other cells."""

import warnings

import numpy as np
import pytest

from ce_parallel.rules import build_grid, fit_categories, fit_edges, rule_text
from tests.oracle import cell, regions

NAN, INF = np.nan, np.inf


def mixed_rows(rng, n):
    """Numeric, tied, constant, wholly missing; categories with gaps, rare ones, missing ones."""
    X = rng.normal(size=(n, 9))
    X[:, 1] = rng.integers(0, 4, n)
    X[:, 2] = 4.0
    X[:, 3] = NAN
    X[:, 4] = rng.choice([-7.0, 0.0, 2.5, 30.0], n)
    X[:, 5] = np.floor(rng.exponential(2.0, n))
    X[:, 6] = 1.0
    X[:, 7] = NAN
    X[:, 8] = rng.permutation(n)
    X[rng.random(n) < 0.2, 0] = NAN
    X[rng.random(n) < 0.2, 5] = NAN
    return X


@pytest.fixture(scope="module", params=[(1, (25, 50, 75)), (3, (50,)), (3, (10, 50, 90))])
def mixed(request):
    """Reference rows, edges, categories, percentiles and the grid of them."""
    max_depth, percentiles = request.param
    X = mixed_rows(np.random.default_rng(0), 90)
    with pytest.warns(UserWarning, match="No rules on 'i'"):
        categories = fit_categories(X, range(4, 9), max_categories=3, names=list("abcdefghi"))
    edges = fit_edges(
        X, np.nan_to_num(X).sum(axis=1), classification=False, max_depth=max_depth, uncut=categories
    )
    return X, edges, categories, percentiles, build_grid(X, edges, percentiles, categories)


def test_example_of_the_module():
    grid = build_grid(np.array([[1.0], [2], [3], [4], [5]]), [np.array([3.5])], (25, 50, 75))
    assert grid.cell_ptr.tolist() == [0, 3]
    assert grid.region_ptr.tolist() == [0, 1, 2, 3]
    assert grid.values.tolist() == [4.25, 4.5, 4.75, 1.5, 2.0, 2.5, 2.0, 3.0, 4.0]
    assert grid.support.tolist() == [3, 2, 0]
    np.testing.assert_array_equal(grid.lower, [-INF, 3.5, NAN])
    np.testing.assert_array_equal(grid.upper, [3.5, INF, NAN])


def test_every_value_has_one_cell():
    grid = build_grid(np.arange(6.0)[:, None], [np.array([1.0, 3.0])], (50,))
    values = np.array([-INF, 0.0, 1.0, 1.5, 3.0, 3.5, INF, NAN])[:, None]
    assert grid.cells_of(values, np.array([0])).ravel().tolist() == [0, 0, 0, 1, 1, 2, 2, 3]
    assert grid.support.sum() == 6


def test_missing_reference_values_are_one_more_region():
    grid = build_grid(np.array([[1.0], [NAN], [3], [NAN]]), [np.array([2.0])], (50,))
    assert grid.region_ptr.tolist() == [0, 2, 4, 5]
    np.testing.assert_array_equal(grid.values, [3, NAN, 1, NAN, 2])
    assert grid.support.tolist() == [1, 1, 2]


@pytest.mark.parametrize("column", [[7.0] * 4, [NAN] * 4])
def test_constant_and_wholly_missing_columns_are_not_cut(column):
    X = np.array(column)[:, None]
    edges = fit_edges(X, np.arange(4.0), classification=False, max_depth=1)
    assert edges[0].size == 0
    assert build_grid(X, edges, (50,)).region_ptr[1] == (1 if np.isnan(column[0]) else 0)


def test_every_cell_region_and_value_by_plain_loops(mixed):
    reference, edges, categories, percentiles, grid = mixed
    X = mixed_rows(np.random.default_rng(1), 40)
    X[:4, 0] = -INF, INF, NAN, 0.0
    X[:3, 4] = 1.0, NAN, 99.0  # never seen
    X[:3, 6] = 2.0, NAN, -INF
    X[0, 3], X[0, 7] = 1.0, 1.0
    X[:6, 1] = edges[1][0]
    cells = grid.cells_of(X, np.arange(9))
    for i, f in np.ndindex(X.shape):
        c, x, column, tried = cells[i, f], X[i, f], reference[:, f], categories.get(f)
        assert grid.cell_ptr[f] <= c < grid.cell_ptr[f + 1]
        own = cell(x, edges[f], [] if f == 8 else tried)
        np.testing.assert_array_equal([grid.lower[c], grid.upper[c], grid.category[c]], own)
        if f == 8:  # left out
            assert grid.region_ptr[c] == grid.region_ptr[c + 1]
            continue
        alike = [np.array_equal(cell(v, edges[f], tried), own, equal_nan=True) for v in column]
        assert grid.support[c] == sum(alike)
        expected = regions(x, column, edges[f], percentiles, tried)
        assert grid.region_ptr[c + 1] - grid.region_ptr[c] == len(expected)
        for r, (bounds, support, values) in enumerate(expected, grid.region_ptr[c]):
            np.testing.assert_array_equal(
                [grid.region_lower[r], grid.region_upper[r], grid.region_category[r]], bounds
            )
            assert grid.region_support[r] == support
            np.testing.assert_array_equal(
                grid.values[grid.value_ptr[r] : grid.value_ptr[r + 1]], values
            )


def test_values_lie_in_the_regions_that_they_represent(mixed):
    *_, grid = mixed
    for f, r in grid_regions(grid):
        values = grid.values[grid.value_ptr[r] : grid.value_ptr[r + 1]]
        if np.isnan(grid.region_lower[r]):
            assert np.isnan(values).all()
        elif grid.categories[f] is not None:
            assert values.tolist() == [grid.region_category[r]]
        else:
            assert (grid.region_lower[r] <= values).all()
            assert (values <= grid.region_upper[r]).all()


def grid_regions(grid):
    for f, (first, last) in enumerate(zip(grid.cell_ptr[:-1], grid.cell_ptr[1:], strict=True)):
        for r in range(grid.region_ptr[first], grid.region_ptr[last]):
            yield f, r


def test_categories_are_tried_one_by_one():
    X = np.array([7.0, 1, 1, NAN, 3])[:, None]
    grid = build_grid(X, [np.empty(0)], (50,), {0: np.array([1.0, 7.0])})
    assert grid.cells_of(X, np.array([0])).ravel().tolist() == [1, 0, 0, 3, 2]
    np.testing.assert_array_equal(grid.category, [1, 7, NAN, NAN])
    np.testing.assert_array_equal(grid.lower, [-INF, -INF, -INF, NAN])
    assert grid.support.tolist() == [2, 1, 1, 1]
    assert grid.region_ptr.tolist() == [0, 2, 4, 7, 9]
    np.testing.assert_array_equal(grid.values, [7, NAN, 1, NAN, 1, 7, NAN, 1, 7])
    np.testing.assert_array_equal(grid.region_category, grid.values)
    assert grid.region_support.tolist() == [1, 1, 2, 1, 2, 1, 1, 2, 1]


def test_uncut_features_have_no_edges():
    X = np.random.default_rng(0).normal(size=(50, 3))
    whole = fit_edges(X, X.sum(axis=1), classification=False, max_depth=3)
    part = fit_edges(X, X.sum(axis=1), classification=False, max_depth=3, uncut=[1])
    assert part[1].size == 0
    for f in (0, 2):
        np.testing.assert_array_equal(part[f], whole[f])


def test_the_most_frequent_categories_are_tried():
    column = np.repeat([5.0, 4, 3, 2, 1, NAN], [1, 3, 3, 2, 3, 9])[:, None]

    def chosen(max_categories):
        found = fit_categories(column, [0], max_categories=max_categories, names=["x"])
        return found[0].tolist()

    assert chosen(5) == [1, 2, 3, 4, 5]
    assert chosen(4) == [1, 2, 3, 4]
    assert chosen(2) == [1, 3]  # of equals, the lower numbers


def test_nearly_unique_columns_are_left_out_with_one_warning():
    n = 60
    names = np.arange(n, dtype=float)
    half = np.where(names < n / 2, -1.0, names)  # as many rows share a category as have their own
    X = np.column_stack([names, half, names, names % 30])
    with pytest.warns(UserWarning, match=r"No rules on 'a', 'c': more than max_categories=20") as w:
        found = fit_categories(X, range(4), max_categories=20, names=list("abcd"))
    assert len(w) == 1
    assert [f for f, codes in found.items() if codes is None] == [0, 2]
    assert len(found[1]) == len(found[3]) == 20
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # few rows are no reason
        assert len(fit_categories(X[:20], [0], max_categories=20, names=["a"])[0]) == 20


def test_without_a_useful_cut_the_median_divides():
    X = np.array([[1.0], [2], [3], [10]])
    (edges,) = fit_edges(X, np.zeros(4), classification=True, max_depth=1)
    assert edges.tolist() == [2.5]


def test_rule_text_of_each_shape():
    assert rule_text("x", -INF, 1.234) == "x <= 1.23"
    assert rule_text("x", 1.235, INF) == "x > 1.24"
    assert rule_text("x", 1, 2) == "1.00 < x <= 2.00"
    assert rule_text("x", -INF, INF) == "x is present"
    assert rule_text("x", NAN, NAN) == "x is missing"
    assert rule_text("x", -INF, 1.234, NAN) == "x <= 1.23"
    assert rule_text("x", -INF, INF, np.float64(2)) == "x = 2.0"
    assert rule_text("x", -INF, INF, "red") == "x = red"
    assert rule_text("x", -INF, INF, False) == "x = False"
    assert rule_text("x", NAN, NAN, NAN) == "x is missing"
