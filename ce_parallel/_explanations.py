"""Explanations: columnar results of many rows, and a readable view of one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ce_parallel.executor import ExecutionReport
from ce_parallel.rules import Grid, rule_text

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

# The arrays of `Explanations` whose first axis is the rows.
BY_ROW = (
    "prediction",
    "prediction_low",
    "prediction_high",
    "weights",
    "weights_low",
    "weights_high",
    "X",
    "predicted_class",
    "explained_class",
    "cells",
)


@dataclass(frozen=True, eq=False)
class Rules:
    """Rules of many rows as a table of arrays of shape (n_rules,), ordered by row and feature.

    Attributes
    ----------
    row, feature : ndarray of int
        The row explained, counted within its `Explanations`, and the feature the rule is about.
    lower, upper : ndarray of float
        The rule holds where ``lower < x <= upper``; both NaN where it says "is missing".
    value : ndarray of float
        The category of a categorical rule, else NaN.
    prediction, low, high : ndarray of float
        Calibrated prediction where the rule holds.
    weight, weight_low, weight_high : ndarray of float
        By how much the rule raises the prediction, with bounds.
    support : ndarray of int
        Reference rows for which the rule holds.
    size : ndarray of int
        Number of features in the rule.
    """

    row: Ints
    feature: Ints
    lower: Floats
    upper: Floats
    value: Floats
    prediction: Floats
    low: Floats
    high: Floats
    weight: Floats
    weight_low: Floats
    weight_high: Floats
    support: Ints
    size: Ints

    def __len__(self) -> int:
        return len(self.row)

    def to_dict(self) -> dict[str, NDArray[Any]]:
        """Return the columns by name."""
        return {column.name: getattr(self, column.name) for column in fields(self)}


@dataclass(frozen=True, eq=False, repr=False)
class Explanations:
    """Explanations of n rows with d features, as arrays.

    Made by `ParallelCalibratedExplainer.explain`. ``e[i]`` is a readable view of one row,
    ``e[2:5]`` the explanations of some rows.

    Attributes
    ----------
    prediction, prediction_low, prediction_high : ndarray of shape (n,)
        Calibrated prediction and its bounds: the probability of `explained_class`, or the median
        and the percentiles of the predictive distribution, in units of the target.
    weights, weights_low, weights_high : ndarray of shape (n, d)
        By how much the present value of a feature raises the prediction over what other values
        would give, with bounds; 0 where there is no other value to try. Section 3.2 of Löfström
        et al. (2024), Expert Systems with Applications, 10.1016/j.eswa.2024.123154.
    predicted_class, explained_class : ndarray of shape (n,) or None
        Class labels; None for regression.
    X : ndarray of shape (n, d)
        The rows explained.
    feature_names : tuple of str
    grid : Grid
        Where features are cut.
    percentiles : pair of float or None
        Which percentiles `prediction_low` and `prediction_high` are; None for classification.
    cells : ndarray of shape (n, d) or None
        Cell of the grid that each value lies in, where it was found in other units than X has.
    stability : object or None
        Bands from bootstrap replicates, where there are any.
    execution_report : ExecutionReport or None
        How the run that made this was executed.
    """

    prediction: Floats
    prediction_low: Floats
    prediction_high: Floats
    weights: Floats
    weights_low: Floats
    weights_high: Floats
    X: Floats
    grid: Grid
    feature_names: tuple[str, ...]
    predicted_class: NDArray[Any] | None = None
    explained_class: NDArray[Any] | None = None
    percentiles: tuple[float, float] | None = None
    cells: Ints | None = None
    stability: Any = None
    execution_report: ExecutionReport | None = None

    def __len__(self) -> int:
        return len(self.prediction)

    def __iter__(self) -> Iterator[ExplainedRow]:
        return (self[i] for i in range(len(self)))

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, (int, np.integer)):
            return ExplainedRow(self, range(len(self))[key])
        selected: dict[str, Any] = {}
        for name in BY_ROW:
            values = getattr(self, name)
            selected[name] = None if values is None else values[key]
        return replace(self, **selected)

    def __repr__(self) -> str:
        kind = "regression" if self.explained_class is None else "classification"
        return f"<Explanations of {len(self)} rows x {self.X.shape[1]} features, {kind}>"

    @cached_property
    def rules(self) -> Rules:
        """The rules of all rows: one per feature whose weight is not 0, see `Rules`."""
        row, feature = np.nonzero(self.weights)
        cells = self.cells
        if cells is None:
            cells = self.grid.cells_of(self.X, np.arange(self.X.shape[1]))
        cells = cells[row, feature]
        return Rules(
            row=row,
            feature=feature,
            lower=self.grid.lower[cells],
            upper=self.grid.upper[cells],
            value=np.full(len(row), np.nan),
            prediction=self.prediction[row],
            low=self.prediction_low[row],
            high=self.prediction_high[row],
            weight=self.weights[row, feature],
            weight_low=self.weights_low[row, feature],
            weight_high=self.weights_high[row, feature],
            support=self.grid.support[cells],
            size=np.ones(len(row), dtype=np.int64),
        )

    def rule_text(self, i: int) -> list[str]:
        """Rules of row `i` as sentences, in the order of features, as in `rules`."""
        return [self._text(rule) for rule in self._rules_of(i)]

    def to_dict(self) -> dict[str, NDArray[Any]]:
        """All rules as a dict of arrays of shape (n_rules,): the columns of `rules` and the text.

        ``feature`` holds names instead of numbers.
        """
        columns = self.rules.to_dict()
        columns["feature"] = np.array(self.feature_names, dtype=object)[columns["feature"]]
        text = np.array([self._text(rule) for rule in range(len(self.rules))], dtype=object)
        return {"row": columns.pop("row"), "rule": text, **columns}

    def to_frame(self) -> Any:
        """All rules as a pandas DataFrame, one line per rule.

        Raises
        ------
        ImportError
            If pandas is not installed; `to_dict` works without it.
        """
        try:
            import pandas as pd
        except ImportError as error:
            raise ImportError(
                "to_frame needs pandas. Install it with: pip install 'ce-parallel[frames]', or "
                "use to_dict()."
            ) from error
        return pd.DataFrame(self.to_dict())

    def plot(self, i: int, *, max_rules: int = 10, ax: Any = None) -> Any:
        """Draw the explanation of row `i`; returns a `plotting.FactualDisplay`."""
        from ce_parallel.plotting import FactualDisplay

        return FactualDisplay.from_explanations(self, i, max_rules=max_rules).plot(ax=ax)

    def _rules_of(self, i: int) -> Ints:
        """Numbers of the rules of row `i`."""
        i = range(len(self))[i]
        return np.arange(*np.searchsorted(self.rules.row, [i, i + 1]))

    def _text(self, rule: int) -> str:
        rules = self.rules
        name = self.feature_names[rules.feature[rule]]
        return rule_text(name, rules.lower[rule], rules.upper[rule])


@dataclass(frozen=True, eq=False, repr=False)
class ExplainedRow:
    """The explanation of one row, for a person to read.

    Attributes
    ----------
    explanations : Explanations
    row : int
        Its number in `explanations`.
    """

    explanations: Explanations
    row: int

    @property
    def prediction(self) -> tuple[float, float, float]:
        """Calibrated prediction, low and high."""
        e = self.explanations
        low, high = e.prediction_low[self.row], e.prediction_high[self.row]
        return float(e.prediction[self.row]), float(low), float(high)

    @property
    def rules(self) -> list[dict[str, Any]]:
        """Rules by falling absolute weight; each a dict of the columns of `Rules` and the text."""
        e = self.explanations
        columns = e.rules.to_dict()
        rules = [
            {"rule": e._text(r), **{name: column[r].item() for name, column in columns.items()}}
            for r in e._rules_of(self.row)
        ]
        return sorted(rules, key=lambda rule: (-abs(rule["weight"]), rule["rule"]))

    @property
    def headline(self) -> str:
        """What is predicted, in one line."""
        e, (value, low, high) = self.explanations, self.prediction
        numbers = f"{value:.4g} [{low:.4g}, {high:.4g}]"
        if e.explained_class is None or e.predicted_class is None:
            return f"prediction = {numbers}"
        return (
            f"P(class = {e.explained_class[self.row]}) = {numbers}, "
            f"predicted class {e.predicted_class[self.row]}"
        )

    def __repr__(self) -> str:
        lines = [f"row {self.row}: {self.headline}"]
        rules = self.rules
        if not rules:
            return f"{lines[0]}\n  no rule: no other value of any feature changes the prediction"
        width = max(len("rule"), *(len(rule["rule"]) for rule in rules))
        lines.append(f"  {'rule':<{width}}  {'value':>9}  {'weight':>9}  [low, high]")
        lines += [
            f"  {rule['rule']:<{width}}  {self.explanations.X[self.row, rule['feature']]:>9.4g}  "
            f"{rule['weight']:>+9.4g}  [{rule['weight_low']:+.4g}, {rule['weight_high']:+.4g}]"
            for rule in rules
        ]
        return "\n".join(lines)
