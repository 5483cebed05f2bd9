"""IVAP is isotonic regression refitted with the test object; the table must be just that."""

import numpy as np
import pytest
from sklearn.isotonic import IsotonicRegression

from ce_parallel.calibration import InductiveVennAbers


def refitted(scores, labels, score):
    """(p0, p1) by definition: isotonic regression with the test object added under each label."""
    return [
        IsotonicRegression().fit([*scores, score], [*labels, label]).predict([score])[0]
        for label in (0, 1)
    ]


@pytest.mark.parametrize("decimals", [0, 1, 2, 8])
@pytest.mark.parametrize("rate", [0.0, 0.2, 0.5, 1.0])
def test_agrees_with_brute_force_refitting(decimals, rate):
    rng = np.random.default_rng([decimals, int(10 * rate)])
    for _ in range(12):
        scores = np.round(rng.random(rng.integers(1, 25)), decimals)  # ties where decimals are few
        labels = (rng.random(len(scores)) < rate).astype(int)
        tests = np.concatenate([scores, rng.random(5), [-1.0, 2.0]])
        _, low, high = InductiveVennAbers.fit(scores, labels).predict(tests)
        expected = np.array([refitted(scores, labels, score) for score in tests])
        np.testing.assert_allclose(np.stack([low, high], axis=1), expected, atol=1e-12)


def test_equals_the_reference_bit_for_bit():
    venn_abers = pytest.importorskip("venn_abers")
    rng = np.random.default_rng(0)
    scores = np.round(rng.random(1000), 4)
    labels = (rng.random(1000) < scores).astype(int)
    tests = np.concatenate([scores, rng.random(2000)])
    reference = venn_abers.VennAbers()
    reference.fit(np.column_stack([1 - scores, scores]), labels)
    _, bounds = reference.predict_proba(np.column_stack([1 - tests, tests]))
    np.testing.assert_array_equal(
        InductiveVennAbers.fit(scores, labels).predict(tests)[1:].T, bounds
    )


def test_one_class_alone_is_legal():
    scores = np.array([0.1, 0.1, 0.3, 0.9])
    value, low, high = InductiveVennAbers.fit(scores, np.ones(4)).predict(np.array([0.0, 0.1, 0.5]))
    np.testing.assert_array_equal(high, 1.0)
    np.testing.assert_array_equal(low, [0, 2 / 3, 3 / 4])
    value, low, high = InductiveVennAbers.fit(scores, np.zeros(4)).predict(
        np.array([0.1, 0.5, 1.0])
    )
    np.testing.assert_array_equal(low, 0.0)
    np.testing.assert_array_equal(high, [1 / 5, 1 / 2, 1.0])
    np.testing.assert_array_equal(value, high / (1 + high))


@pytest.mark.parametrize("summary", ["regularized_mean", "mean", "lower", "upper"])
def test_value_lies_between_the_bounds_and_rises_with_the_score(summary):
    rng = np.random.default_rng(1)
    scores = rng.random(500)
    table = InductiveVennAbers.fit(scores, rng.random(500) < scores, summary=summary)
    value, low, high = table.predict(np.sort(rng.random(5000)))
    assert ((low >= 0) & (low <= value) & (value <= high) & (high <= 1)).all()
    for column in (low, high, value):
        assert (np.diff(column) >= -1e-15).all()


def test_consistent_rounding_equals_no_rounding_on_repeating_decimals():
    scores = np.arange(31) / 30
    labels = np.random.default_rng(0).random(31) < scores
    exact = InductiveVennAbers.fit(scores, labels).predict(scores)
    rounded = {"calibration_decimals": 4, "test_decimals": 4}
    np.testing.assert_array_equal(
        InductiveVennAbers.fit(scores, labels, **rounded).predict(scores), exact
    )
    one_sided = InductiveVennAbers.fit(scores, labels, calibration_decimals=4).predict(scores)
    assert (one_sided != exact).any()
