"""Cells partition every value; regions hold the reference values of the other cells."""

import numpy as np
import pytest

from ce_parallel.rules import build_grid, fit_edges, rule_text

NAN, INF = np.nan, np.inf


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
