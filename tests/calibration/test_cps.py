"""The conformal predictive system against its definition, and its percentiles against misuse."""

from math import ceil, floor, inf

import numpy as np
import pytest

from ce_parallel.calibration import ConformalPredictiveSystem, Rows, check_percentiles


@pytest.mark.parametrize("n", [1, 2, 18, 19, 99, 100])
@pytest.mark.parametrize("percentiles", [(5, 95), (7, 93), (10, 50), (50, 90), (0.5, 99.5)])
def test_agrees_with_its_definition(n, percentiles):
    residuals = np.random.default_rng(n).normal(size=n)
    alphas = [-inf, *sorted(residuals), inf]
    y_hat = np.array([-1.0, 0.0, 250.0])

    def lower(q):
        return alphas[min(floor(q / 100 * (n + 1)), n + 1)]

    def upper(q):
        return alphas[min(ceil(q / 100 * (n + 1)), n + 1)]

    median, low, high = ConformalPredictiveSystem.fit(residuals).predict(
        y_hat, percentiles=percentiles
    )
    np.testing.assert_allclose(median, y_hat + (lower(50) + upper(50)) / 2, rtol=0, atol=1e-12)
    np.testing.assert_array_equal(low, y_hat + lower(percentiles[0]))
    np.testing.assert_array_equal(high, y_hat + upper(percentiles[1]))
    assert (low <= median).all()
    assert (median <= high).all()


@pytest.mark.parametrize("percentiles", [(5, 95), (10, 50), (-inf, 90)])
def test_difficulty_stretches_the_distribution_of_each_row(percentiles):
    rng = np.random.default_rng(0)
    residuals, y_hat = rng.normal(size=(2, 50))
    sigma, sigma_test = rng.uniform(0.1, 3, size=(2, 50))
    system = ConformalPredictiveSystem.fit(residuals, sigma)
    actual = system.predict(y_hat, Rows(difficulty=sigma_test), percentiles=percentiles)
    plain = ConformalPredictiveSystem.fit(residuals / sigma)
    stretched = y_hat + sigma_test * plain.predict(np.zeros(50), percentiles=percentiles)
    np.testing.assert_allclose(actual, stretched, rtol=0, atol=1e-12)


def test_two_sided_90_percent_is_finite_from_19_rows_on():
    for n, finite in [(18, False), (19, True)]:
        _, low, high = ConformalPredictiveSystem.fit(np.arange(n)).predict(np.zeros(1))
        assert np.isfinite(low[0]) == np.isfinite(high[0]) == finite


def test_an_open_end_is_infinite():
    system = ConformalPredictiveSystem.fit(np.arange(100.0))
    assert system.predict(np.zeros(1), percentiles=(-inf, 90))[1] == -inf
    assert system.predict(np.zeros(1), percentiles=(10, inf))[2] == inf


@pytest.mark.parametrize("good", [(5, 95), [50, 50], (-inf, 90), (10, inf), np.array([1, 99])])
def test_valid_percentiles_become_a_pair_of_floats(good):
    assert check_percentiles(good) == tuple(float(q) for q in good)


@pytest.mark.parametrize(
    "bad", [(95, 5), (0, 95), (5, 100), (60, 95), (-inf, inf), (5,), (1, 2, 3), 5, ("a", "b"), None]
)
def test_invalid_percentiles_are_refused_in_one_sentence(bad):
    with pytest.raises(ValueError, match=r"0 < low <= 50 <= high < 100.* Got .* instead") as error:
        check_percentiles(bad)
    assert repr(bad) in str(error.value)


@pytest.mark.slow
@pytest.mark.parametrize("percentiles", [(5, 95), (-inf, 90), (25, 75)])
def test_intervals_cover_what_they_promise(percentiles):
    """Coverage over many calibration sets is at least nominal, and not far above it."""
    rng = np.random.default_rng(0)
    low_q, high_q = max(percentiles[0], 0), min(percentiles[1], 100)
    nominal = (high_q - low_q) / 100
    covered = []
    for _ in range(2000):
        residuals = rng.gamma(2.0, size=100)
        _, low, high = ConformalPredictiveSystem.fit(residuals[:99]).predict(
            np.zeros(1), percentiles=percentiles
        )
        covered.append(low[0] <= residuals[99] <= high[0])
    assert nominal - 0.03 < np.mean(covered) < nominal + 0.03
