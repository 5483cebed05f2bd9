"""Explanations: columnar results of many rows, and a readable view of one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ce_parallel.executor import ExecutionReport
from ce_parallel.rules import (
    Grid,
    ranges,
    rank_by_ensured,
    rank_by_uncertainty,
    rank_by_weight,
    rule_text,
    select_rules,
)
from ce_parallel.utils import Columns

Floats = NDArray[np.float64]
Ints = NDArray[np.integer]

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
    "threshold",
    "cells",
)
# Those whose last axis is the alternative regions of all rows, one row after the other.
BY_REGION = ("regions", "likeliest_there", "kept")


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
        By how much the rule raises the prediction, with bounds: over other values of the feature
        for a factual rule, over the row as it is for an alternative one.
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
    features : ndarray of shape (m,)
        The features that were varied.
    kind : str
        "factual" or "alternative".
    threshold : ndarray of shape (n, 2) or None
        Bounds of the event whose probability is explained, ``t1 < y <= t2``.
    regions : ndarray of shape (3, n_regions) or None
        Mean value, low and high in each alternative region of each row; see `rules`.
    likeliest_there : ndarray of shape (n_regions,) or None
        The most probable class there, if there are more than two.
    kept : ndarray of shape (n_regions,) or None
        Which of these regions still have a rule, after filtering.
    grid : Grid
        Where features are cut.
    percentiles : pair of float or None
        Which percentiles `prediction_low` and `prediction_high` are; None for classification.
    columns : Columns
        What the numbers of categorical features stand for.
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
    features: Ints
    columns: Columns
    kind: str = "factual"
    predicted_class: NDArray[Any] | None = None
    explained_class: NDArray[Any] | None = None
    percentiles: tuple[float, float] | None = None
    threshold: Floats | None = None
    regions: Floats | None = None
    likeliest_there: NDArray[Any] | None = None
    kept: NDArray[np.bool_] | None = None
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
        if self.regions is not None:
            counts = self._regions_per_cell.sum(axis=1)
            rows = np.arange(len(self))[key]
            place = ranges((np.cumsum(counts) - counts)[rows], counts[rows])
            for name in BY_REGION:
                values = getattr(self, name)
                selected[name] = None if values is None else values[..., place]
        return replace(self, **selected)

    def __repr__(self) -> str:
        kind = "regression" if self.explained_class is None else "classification"
        return f"<Explanations of {len(self)} rows x {self.X.shape[1]} features, {kind}>"

    @cached_property
    def rules(self) -> Rules:
        """The rules of all rows, see `Rules`.

        Factual: one per feature whose weight is not 0. Alternative: one per region that a feature
        could move to, unless the prediction would be the same there.
        """
        if self.regions is None:
            return self._factual_rules()
        place, row, feature, region = self._alternatives
        value, low, high = self.regions[:, place]
        base, grid = self.prediction[row], self.grid
        return Rules(
            row=row,
            feature=feature,
            lower=grid.region_lower[region],
            upper=grid.region_upper[region],
            value=grid.region_category[region],
            prediction=value,
            low=low,
            high=high,
            weight=value - base,
            weight_low=low - base,
            weight_high=high - base,
            support=grid.region_support[region],
            size=np.ones(len(row), dtype=np.int64),
        )

    def _factual_rules(self) -> Rules:
        row, feature = np.nonzero(self.weights)
        cells = self._cells[row, np.searchsorted(self.features, feature)]
        grid = self.grid
        category = np.array([codes is not None for codes in grid.categories])[feature]
        present = category & ~np.isnan(grid.lower[cells])
        return Rules(
            row=row,
            feature=feature,
            lower=grid.lower[cells],
            upper=grid.upper[cells],
            value=np.where(present, self.X[row, feature], np.nan),
            prediction=self.prediction[row],
            low=self.prediction_low[row],
            high=self.prediction_high[row],
            weight=self.weights[row, feature],
            weight_low=self.weights_low[row, feature],
            weight_high=self.weights_high[row, feature],
            support=grid.support[cells],
            size=np.ones(len(row), dtype=np.int64),
        )

    @cached_property
    def _cells(self) -> Ints:
        """Cell that each row lies in, of the features that were varied, shape (n, m)."""
        if self.cells is not None:
            return self.cells[:, self.features]
        return self.grid.cells_of(self.X, self.features)

    @cached_property
    def _regions_per_cell(self) -> Ints:
        counts: Ints = np.diff(self.grid.region_ptr)[self._cells]
        return counts

    @cached_property
    def _alternatives(self) -> tuple[Ints, Ints, Ints, Ints]:
        """Where in `regions` each rule stands, and its row, feature and region of the grid."""
        assert self.regions is not None
        counts = self._regions_per_cell.ravel()
        region = ranges(self.grid.region_ptr[self._cells].ravel(), counts)
        owner = np.repeat(np.arange(len(counts)), counts)
        row, column = np.divmod(owner, max(1, len(self.features)))
        value, low, high = self.regions
        same = (low == self.prediction_low[row]) & (high == self.prediction_high[row])
        bounded = np.isfinite(low) & np.isfinite(high)
        same &= bounded | (value == self.prediction[row])
        place = np.flatnonzero(~same if self.kept is None else ~same & self.kept)
        return place, row[place], self.features[column[place]], region[place]

    # -- filters and ranking of alternatives -----------------------------------------

    def super_(self, *, include_potential: bool = True) -> Explanations:
        """Keep alternatives that support the prediction still more.

        Parameters
        ----------
        include_potential : bool, default=True
            Whether to keep those whose interval reaches across the decision.

        Returns
        -------
        Explanations
        """
        return self._selected(kinds=("super",), include_potential=include_potential)

    def semi(self, *, include_potential: bool = True) -> Explanations:
        """Keep alternatives that support the prediction less; see `super_`."""
        return self._selected(kinds=("semi",), include_potential=include_potential)

    def counter(self, *, include_potential: bool = True) -> Explanations:
        """Keep alternatives that change the prediction; see `super_`."""
        return self._selected(kinds=("counter",), include_potential=include_potential)

    def ensured(self) -> Explanations:
        """Keep alternatives whose interval is no wider than that of the prediction."""
        return self._selected(only_ensured=True)

    def pareto(self, *, cost: str = "uncertainty_width") -> Explanations:
        """Keep alternatives that no other one beats in both prediction and cost.

        Parameters
        ----------
        cost : {"uncertainty_width", "rule_size"}, default="uncertainty_width"

        Returns
        -------
        Explanations
        """
        return self._selected(pareto_cost=cost)

    def ranking(
        self, by: str = "weight", *, top: int | None = None, w: float = 0.5
    ) -> tuple[Ints, Ints]:
        """Order the rules of each row, the most important one first.

        Parameters
        ----------
        by : {"weight", "uncertainty", "ensured"}, default="weight"
            Largest absolute weight, narrowest interval, or a mix of narrow interval and prediction
            in the direction of the decision (alternatives only).
        top : int or None, default=None
            How many rules of each row.
        w : float, default=0.5
            "ensured": weight of the prediction, between -1 and 1.

        Returns
        -------
        order, ptr : ndarray of int
            ``order[ptr[i]:ptr[i + 1]]`` are the numbers of the rules of row `i`.
        """
        rules, n = self.rules, len(self)
        if by == "weight":
            width = rules.weight_high - rules.weight_low
            return rank_by_weight(rules.row, rules.weight, width, n_rows=n, top=top)
        if by == "uncertainty":
            return rank_by_uncertainty(rules.row, rules.low, rules.high, n_rows=n, top=top)
        if by != "ensured":
            raise ValueError(f"by must be 'weight', 'uncertainty' or 'ensured'. Got {by!r}.")
        return rank_by_ensured(
            rules.row,
            rules.prediction,
            rules.low,
            rules.high,
            self._base(),
            w=w,
            top=top,
            **self._decision(),
        )

    def _selected(self, **wanted: Any) -> Explanations:
        if self.regions is None:
            raise ValueError("Only alternatives can be filtered: explain(X, kind='alternative').")
        rules = self.rules
        chosen = select_rules(
            rules.row,
            rules.prediction,
            rules.low,
            rules.high,
            self._base(),
            size=rules.size,
            **self._decision(),
            **wanted,
        )
        kept = np.zeros(self.regions.shape[1], dtype=bool)
        kept[self._alternatives[0][chosen]] = True
        return replace(self, kept=kept)

    def _base(self) -> Floats:
        return np.stack([self.prediction, self.prediction_low, self.prediction_high])

    def _decision(self) -> dict[str, Any]:
        """What is decided about a row, and whether a rule changes that."""
        found: dict[str, Any] = {
            "probabilistic": self.explained_class is not None or self.threshold is not None
        }
        if self.likeliest_there is None or self.explained_class is None:
            return found
        place, row, *_ = self._alternatives
        leads = np.asarray(self.explained_class == self.predicted_class)
        wins = self.likeliest_there[place] == self.explained_class[row]
        return found | {"leads": leads, "flips": wins != leads[row]}

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
        category = self.columns.category(int(rules.feature[rule]), rules.value[rule])
        return rule_text(name, rules.lower[rule], rules.upper[rule], category)


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
        if e.threshold is not None:
            above, most = e.threshold[self.row]
            start = "" if above == -np.inf else f"{above:.4g} < "
            return f"P({start}y <= {most:.4g}) = {numbers}"
        if e.explained_class is None or e.predicted_class is None:
            return f"prediction = {numbers}"
        return (
            f"P(class = {e.explained_class[self.row]}) = {numbers}, "
            f"predicted class {e.predicted_class[self.row]}"
        )

    def _present(self, feature: int) -> str:
        """The row's own value of a feature: a number, or the category as the reader knows it."""
        value = self.explanations.columns.category(feature, self.explanations.X[self.row, feature])
        return f"{value:.4g}" if isinstance(value, float) else str(value)

    def __repr__(self) -> str:
        lines = [f"row {self.row}: {self.headline}"]
        rules = self.rules
        if not rules:
            return f"{lines[0]}\n  no rule: no other value of any feature changes the prediction"
        width = max(len("rule"), *(len(rule["rule"]) for rule in rules))
        lines.append(f"  {'rule':<{width}}  {'value':>9}  {'weight':>9}  [low, high]")
        lines += [
            f"  {rule['rule']:<{width}}  {self._present(rule['feature']):>9}  "
            f"{rule['weight']:>+9.4g}  [{rule['weight_low']:+.4g}, {rule['weight_high']:+.4g}]"
            for rule in rules
        ]
        return "\n".join(lines)
