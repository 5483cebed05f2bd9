"""The picture of one explanation: what was computed is what is drawn."""

import numpy as np
import pytest

from ce_parallel.plotting import FactualDisplay

pytest.importorskip("matplotlib")


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    import matplotlib.pyplot as plt

    plt.close("all")


def display(weights, spread=0.1, **options):
    weights = np.asarray(weights, dtype=float)
    rules = [f"rule {i}" for i in range(len(weights))]
    return FactualDisplay(weights, weights - spread, weights + spread, rules, **options)


def test_bars_and_intervals_are_the_weights():
    drawn = display([0.3, -0.2, 0.1], title="P = 0.7", interval=(-0.5, 0.2)).plot()
    assert [bar.get_width() for bar in drawn.bars_] == [0.3, -0.2, 0.1]
    ends = [(line[0][0], line[1][0]) for line in drawn.errorbars_.get_segments()]
    np.testing.assert_allclose(ends, [(0.2, 0.4), (-0.3, -0.1), (0.0, 0.2)])
    assert drawn.band_.get_x() == -0.5
    assert [label.get_text() for label in drawn.ax_.get_yticklabels()] == drawn.rules
    low, high = drawn.ax_.get_xlim()
    assert low < -0.5
    assert high > 0.4


@pytest.mark.parametrize("weights", [[], [0.0], [-1e6] * 50])
def test_any_number_of_rules_is_drawn(weights):
    drawn = display(weights).plot()
    drawn.figure_.canvas.draw()
    assert len(drawn.bars_) == len(weights)


def test_infinite_intervals_do_not_stretch_the_axis():
    drawn = display([2.0, -1.0], spread=np.inf, interval=(-np.inf, np.inf)).plot()
    drawn.figure_.canvas.draw()
    low, high = drawn.ax_.get_xlim()
    assert -1.5 < low < high < 2.5


def test_an_axes_of_ones_own_is_used():
    import matplotlib.pyplot as plt

    _, ax = plt.subplots()
    assert display([1.0]).plot(ax=ax).ax_ is ax
