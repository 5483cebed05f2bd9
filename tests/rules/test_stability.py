"""Summaries of replicates: ties, few features, zeros."""

import numpy as np
import pytest

from ce_parallel.rules._stability import TOP, summarise


def by_loops(weights):
    """Share of replicates in which a weight is one of the largest of its row."""
    found = np.zeros(weights.shape[1:])
    for replicate in np.abs(weights):
        for i, row in enumerate(replicate):
            largest = sorted(range(len(row)), key=lambda f: (-row[f], f))[:TOP]
            for f in largest:
                found[i, f] += row[f] > 0
    return found / len(weights)


@pytest.mark.parametrize("m", [1, TOP, TOP + 1, 20])
@pytest.mark.parametrize("decimals", [0, 1, 8])
def test_shares_of_the_largest_with_ties(m, decimals):
    weights = np.round(np.random.default_rng(m).normal(size=(9, 6, m)), decimals)
    found = summarise(weights[..., 0], weights, weights[0])
    np.testing.assert_allclose(found.in_top, by_loops(weights))
    assert (found.in_top.sum(axis=1) <= min(m, TOP) + 1e-9).all()


def test_weights_that_are_always_zero():
    zeros = np.zeros((4, 3, 8))
    found = summarise(zeros[..., 0], zeros, zeros[0])
    assert not found.in_top.any()
    assert not found.weights_band.any()
    assert (found.sign_agreement == 1).all()


def test_no_feature_at_all():
    found = summarise(np.ones((4, 3)), np.empty((4, 3, 0)), np.empty((3, 0)))
    assert found.weights_band.shape == (3, 0, 2)
