"""Scores reshaped by difficulty, against a plain loop."""

import numpy as np
import pytest

from ce_parallel.calibration import reshape_scores


def by_loops(row, d):
    power = 1 + 5 * (1 - d)
    sharp = [q**power if row[0] < 0.5 else 1 - (1 - q) ** power for q in row]
    flat = [(1 - d) * q + 0.5 * d for q in sharp]
    return [q / sum(flat) for q in flat]


@pytest.mark.parametrize("n_classes", [2, 3, 9])
def test_agrees_with_its_definition(n_classes):
    rng = np.random.default_rng(n_classes)
    proba = rng.dirichlet(np.ones(n_classes), size=50)
    proba[:3] = np.eye(n_classes)[[0, 1, -1]]
    proba[3, :2] = 0.5
    difficulty = np.r_[0, 1, 0.5, 0.5, rng.random(46)]
    kept = proba.copy()
    expected = [by_loops(row, d) for row, d in zip(proba, difficulty, strict=True)]
    np.testing.assert_allclose(reshape_scores(proba, difficulty), expected, rtol=0, atol=1e-14)
    np.testing.assert_array_equal(proba, kept)


def test_the_hardest_rows_know_nothing_and_the_easiest_are_sharpened():
    proba = np.array([[0.2, 0.8], [0.2, 0.8]])
    easy, hard = reshape_scores(proba, np.array([0.0, 1.0]))
    np.testing.assert_array_equal(hard, 0.5)
    assert easy[1] > 0.99
