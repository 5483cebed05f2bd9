"""The columnar kernel against plain loops, on awkward columns."""

from dataclasses import dataclass

import numpy as np
import pytest

from ce_parallel.calibration import Rows
from ce_parallel.rules import (
    Grid,
    TileShape,
    _block,
    build_grid,
    explain_tile,
    fit_edges,
    make_tiles,
)
from tests.oracle import factual_weights


@dataclass(frozen=True)
class SmoothPlan:
    """A plan, and a model, whose prediction is a formula."""

    grid: Grid
    keeps_regions: bool = False
    replicates: object = None
    n_classes: int = 0
    score_shape: tuple = ()

    @property
    def model(self):
        return self

    def measure(self, X):
        return X, None

    def calibrate(self, measured, rows, explained, **options):
        return self.predict(measured[0], **options)[:, None], None

    def predict(self, X, scale=1.0):
        x = np.nan_to_num(X, nan=-3.0)
        value = scale * np.sin(x).sum(axis=1) + x[:, 0] * x[:, -1]
        return np.stack([value, value - 1 - x[:, 1] ** 2, value + 1])


def awkward_rows(rng, n):
    X = rng.normal(size=(n, 6))
    X[:, 1] = 4.0  # constant
    X[:, 2] = rng.integers(0, 2, n)  # two values
    X[:, 3] = np.where(rng.random(n) < 0.3, np.nan, X[:, 3])  # missing now and then
    X[:, 4] = 0.1  # constant but for one row
    X[0, 4] = 0.2
    X[:, 5] = rng.integers(0, 4, n)  # heavy ties
    return X


def explain(plan, X, features):
    out = np.zeros((3, len(X), X.shape[1]))
    base = np.zeros((3, len(X)))
    for tile in make_tiles(X, TileShape.of(plan.grid, features), Rows(), None, {}):
        result = explain_tile(plan, tile)
        rows = slice(result.start, result.start + result.alternative.shape[2])
        out[:, rows, result.features] = result.alternative[:, 0]
        if result.base is not None:
            base[:, rows] = result.base[:, 0]
    return base, out


@pytest.mark.parametrize("max_depth", [1, 3])
@pytest.mark.parametrize("missing_reference", [True, False])
@pytest.mark.parametrize("percentiles", [(25, 50, 75), (50,), (10, 30, 50, 70, 90)])
def test_agrees_with_plain_loops(max_depth, missing_reference, percentiles):
    rng = np.random.default_rng(0)
    reference, X = awkward_rows(rng, 80), awkward_rows(rng, 12)
    if not missing_reference:
        reference = np.nan_to_num(reference)
    edges = fit_edges(
        reference, np.nan_to_num(reference).sum(axis=1), classification=False, max_depth=max_depth
    )
    plan = SmoothPlan(build_grid(reference, edges, percentiles))
    base, alternative = explain(plan, X, np.arange(6))
    expected = factual_weights(plan.predict, reference, edges, X, percentiles)
    weights = np.nan_to_num(base[0][:, None] - alternative[[0, 2, 1]])
    np.testing.assert_allclose(weights, expected, atol=1e-12)


def test_categories_agree_with_plain_loops():
    rng = np.random.default_rng(2)
    reference, X = awkward_rows(rng, 80), awkward_rows(rng, 12)
    X[:3, 5] = 9.0, np.nan, -1.0  # never seen, missing, never seen
    categories = {f: np.unique(reference[:, f]) for f in (1, 2, 5)}
    edges = fit_edges(
        reference, reference[:, 0], classification=False, max_depth=3, uncut=categories
    )
    plan = SmoothPlan(build_grid(reference, edges, (25, 75), categories))
    base, alternative = explain(plan, X, np.arange(6))
    expected = factual_weights(plan.predict, reference, edges, X, (25, 75), categories)
    weights = np.nan_to_num(base[0][:, None] - alternative[[0, 2, 1]])
    np.testing.assert_allclose(weights, expected, atol=1e-12)


def test_tiles_do_not_change_a_bit(monkeypatch):
    rng = np.random.default_rng(1)
    reference, X = awkward_rows(rng, 60), awkward_rows(rng, 50)
    edges = fit_edges(reference, reference[:, 0] > 0, classification=True, max_depth=1)
    plan = SmoothPlan(build_grid(reference, edges, (25, 50, 75)))
    features = np.array([5, 0, 3])
    whole = explain(plan, X, features)
    for rows in (1, 7, 64, 300):
        monkeypatch.setattr(_block, "TILE_ROWS", rows)
        shape = TileShape.of(plan.grid, features)
        assert len(shape.groups) == (3 if rows == 1 else 2 if rows == 7 else 1)
        for one, other in zip(whole, explain(plan, X, features), strict=True):
            np.testing.assert_array_equal(one, other)


def test_one_wide_row_fans_out():
    grid = build_grid(np.random.default_rng(0).normal(size=(50, 3000)), [np.zeros(1)] * 3000, (50,))
    shape = TileShape.of(grid, np.arange(3000))
    assert shape.n_rows == 1
    assert len(shape.groups) > 1
    assert shape.nbytes <= 2 * _block.TILE_BYTES
    np.testing.assert_array_equal(np.concatenate(shape.groups), np.arange(3000))


@pytest.mark.parametrize("longest", [3, 7, 40, 300])
@pytest.mark.parametrize("shape", [(3,), (3, 2)])
def test_means_are_those_of_numpy_to_the_bit(shape, longest):
    rng = np.random.default_rng(0)
    sizes = rng.integers(1, longest + 1, 200)
    stretches = [rng.normal(size=(*shape, size)) for size in sizes]
    stretches[3][...] = np.inf
    means = _block.means_of(np.concatenate(stretches, axis=-1), sizes)
    expected = [[np.mean(line) for line in s.reshape(-1, s.shape[-1])] for s in stretches]
    np.testing.assert_array_equal(means.reshape(-1, 200), np.transpose(expected))
    nothing = _block.means_of(np.empty((*shape, 0)), sizes[:0])
    assert nothing.shape == (*shape, 0)


def test_nothing_to_vary_still_gives_the_base():
    X = np.ones((5, 2))
    plan = SmoothPlan(
        build_grid(X, fit_edges(X, X[:, 0], classification=False, max_depth=1), (50,))
    )
    base, alternative = explain(plan, X, np.arange(2))
    np.testing.assert_array_equal(base, plan.predict(X))
    assert np.isnan(alternative).all()
