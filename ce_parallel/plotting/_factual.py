"""The factual explanation of one row: a bar per rule, heaviest on top."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from ce_parallel._explanations import Explanations

Floats = NDArray[np.float64]

# Blue and orange of Okabe and Ito's palette, which colour-blind readers can tell apart.
RAISES, LOWERS = "#0072B2", "#E69F00"


class FactualDisplay:
    """Weights of one row's factual rules, with their intervals.

    Parameters
    ----------
    weights, weights_low, weights_high : ndarray of shape (n_rules,)
        Heaviest rule first.
    rules : list of str
        The rules as sentences.
    title : str
    interval : pair of float, optional
        How far the row's own calibrated interval reaches below and above its prediction; drawn as
        a band around 0.

    Attributes
    ----------
    bars_ : matplotlib BarContainer
    errorbars_ : matplotlib LineCollection
    band_ : matplotlib Rectangle
    ax_, figure_ : matplotlib Axes and Figure
    """

    def __init__(
        self,
        weights: Floats,
        weights_low: Floats,
        weights_high: Floats,
        rules: list[str],
        *,
        title: str = "",
        interval: tuple[float, float] | None = None,
    ):
        self.weights = weights
        self.weights_low = weights_low
        self.weights_high = weights_high
        self.rules = rules
        self.title = title
        self.interval = interval

    @classmethod
    def from_explanations(
        cls, explanations: Explanations, i: int, *, max_rules: int = 10
    ) -> FactualDisplay:
        """Take the `max_rules` heaviest rules of row `i`."""
        row = explanations[i]
        heaviest = row.rules[:max_rules]
        value, low, high = row.prediction
        return cls(
            np.array([rule["weight"] for rule in heaviest]),
            np.array([rule["weight_low"] for rule in heaviest]),
            np.array([rule["weight_high"] for rule in heaviest]),
            [rule["rule"] for rule in heaviest],
            title=row.headline,
            interval=(low - value, high - value),
        )

    def plot(self, ax: Any = None) -> FactualDisplay:
        """Draw on `ax`, or on a new figure; returns the display itself."""
        if ax is None:
            import matplotlib.pyplot as plt

            height = 1.6 + 0.32 * len(self.rules)
            _, ax = plt.subplots(figsize=(8, height), layout="constrained")
        places = np.arange(len(self.rules))
        colors = [RAISES if weight > 0 else LOWERS for weight in self.weights]
        interval = self.interval or (0.0, 0.0)
        finite = np.concatenate([self.weights, self.weights_low, self.weights_high, [0, *interval]])
        finite = finite[np.isfinite(finite)]
        # An infinite interval is drawn to far outside; the limits stay on what is finite.
        reach = 10 * (np.abs(finite).max() + 1)
        low, high = (np.clip(w, -reach, reach) for w in (self.weights_low, self.weights_high))

        self.band_ = ax.axvspan(*np.clip(interval, -reach, reach), color="0.92", zorder=0)
        self.bars_ = ax.barh(places, self.weights, color=colors, height=0.62, zorder=2)
        self.errorbars_ = ax.hlines(places, low, high, color="0.25", linewidth=1.4, zorder=3)
        ax.axvline(0, color="0.25", linewidth=0.8, zorder=1)
        ax.set_yticks(places, self.rules)
        ax.set_ylim(len(self.rules) - 0.4, -0.6)
        margin = 0.06 * (np.ptp(finite) or 1.0)
        ax.set_xlim(finite.min() - margin, finite.max() + margin)
        ax.set_xlabel("weight: by how much the rule raises the calibrated prediction")
        ax.set_title(self.title, fontsize="medium", loc="left")
        ax.spines[["top", "right"]].set_visible(False)
        self.ax_, self.figure_ = ax, ax.figure
        return self
