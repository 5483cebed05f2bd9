"""Explanations: columnar results of many rows, and a readable view of one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from functools import cached_property
from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ce_parallel._conjoin import Ranked, Source, conjoin
from ce_parallel.executor import ExecutionReport
from ce_parallel.rules import (
    Alternatives,
    Conjunctions,
    Grid,
    RuleValues,
    Stability,
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

AND = " & "  # between the members of a conjunction


@dataclass(frozen=True, eq=False)
class Rules:
    """Rules of many rows as a table of arrays of shape (n_rules,), ordered by row and feature.

    Conjunctions come after the single rules of their row, the smaller ones first.

    Attributes
    ----------
    row, feature : ndarray of int
        The row explained, counted within its `Explanations`, and the feature the rule is about;
        -1 for a conjunction.
    lower, upper : ndarray of float
        The rule holds where ``lower < x <= upper``; both NaN where it says "is missing", and for a
        conjunction.
    value : ndarray of float
        The category of a categorical rule, else NaN. A category that is no number is coded, see
        `Columns`; `Explanations.to_dict` names it.
    prediction, low, high : ndarray of float
        Calibrated prediction where the rule holds.
    weight, weight_low, weight_high : ndarray of float
        By how much the rule raises the prediction, with bounds: over other values of the feature
        for a factual rule, over the row as it is for an alternative one and for a conjunction.
    support : ndarray of int
        Reference rows for which the rule holds; -1 for a conjunction, where they are not counted.
    size : ndarray of int
        Number of features in the rule.
    members_ptr : ndarray of shape (n_rules + 1,)
        Members of each rule, one per feature.
    members : ndarray of int
        Their numbers in `Explanations.single_rules`, where features, bounds and categories stand.
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
    members_ptr: Ints
    members: Ints

    def __len__(self) -> int:
        return len(self.row)

    def to_dict(self) -> dict[str, NDArray[Any]]:
        """Return the columns of shape (n_rules,) by name, that is all but the members."""
        names = [column.name for column in fields(self)]
        return {name: getattr(self, name) for name in names if not name.startswith("members")}

    def members_of(self, rule: int) -> Ints:
        """Return the numbers of the members of a rule in `Explanations.single_rules`."""
        return self.members[self.members_ptr[rule] : self.members_ptr[rule + 1]]


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
        "factual", "alternative" or "fast".
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
    joined : Conjunctions or None
        What `conjunctions` found.
    singles_kept : ndarray of shape (n_single_rules,) or None
        Which of `single_rules` are left, where rules were filtered after `conjunctions`.
    source : Source or None
        The model and what it is to know of the rows, for `conjunctions`.
    stability : Stability or None
        How much predictions and weights move over bootstrap replicates, where there are any. The
        bounds above are calibration; this is stability.
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
    joined: Conjunctions | None = None
    singles_kept: NDArray[np.bool_] | None = None
    source: Source | None = None
    stability: Stability | None = None
    execution_report: ExecutionReport | None = None

    def __len__(self) -> int:
        return len(self.prediction)

    def __iter__(self) -> Iterator[ExplainedRow]:
        return (self[i] for i in range(len(self)))

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, (bool, np.bool_)):
            raise TypeError(f"Rows are chosen by numbers, slices or masks. Got {key!r}.")
        if np.ndim(key) == 0 and not isinstance(key, slice):
            return ExplainedRow(self, range(len(self))[key])
        selected: dict[str, Any] = {}
        for name in BY_ROW:
            values = getattr(self, name)
            selected[name] = None if values is None else values[key]
        rows = np.arange(len(self))[key]
        if self.stability is not None:
            selected["stability"] = self.stability[key]
        if self.source is not None:
            selected["source"] = self.source.take(key)
        if self.joined is not None:
            selected["joined"] = self.joined.of_rows(rows)
        if self.singles_kept is not None:
            ptr = self._single_ptr
            selected["singles_kept"] = self.singles_kept[ranges(ptr[rows], np.diff(ptr)[rows])]
        if self.regions is not None:
            counts = self._regions_per_cell.sum(axis=1)
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
        """The rules of all rows, see `Rules`: `single_rules`, and conjunctions if there are any."""
        if self.joined is None:
            return self.single_rules
        kept, order = self._order
        singles, joined = self.single_rules.to_dict(), self._joined_columns(self.joined)
        columns = {
            name: np.append(column[kept], joined[name])[order] for name, column in singles.items()
        }
        found, n_kept = self.joined, len(kept)
        starts = np.append(np.arange(n_kept), n_kept + found.members_ptr[:-1])[order]
        members = found.members + np.repeat(self._single_ptr[found.row], found.size)
        return Rules(
            **columns,
            members_ptr=np.append(0, np.cumsum(columns["size"])),
            members=np.append(kept, members)[ranges(starts, columns["size"])],
        )

    def _joined_columns(self, found: Conjunctions) -> dict[str, Any]:
        """Columns of `Rules` of conjunctions."""
        row, (value, low, high) = found.row, found.values
        base, nothing = self.prediction[row], np.full(len(row), np.nan)
        return {
            "row": row,
            "feature": np.full(len(row), -1),
            "lower": nothing,
            "upper": nothing,
            "value": nothing,
            "prediction": value,
            "low": low,
            "high": high,
            "weight": value - base,
            "weight_low": low - base,
            "weight_high": high - base,
            "support": np.full(len(row), -1),
            "size": found.size,
        }

    @cached_property
    def _order(self) -> tuple[Ints, Ints]:
        """Numbers of the single rules that are left, and the order of these and conjunctions."""
        assert self.joined is not None
        row, kept = self.single_rules.row, self.singles_kept
        left = np.arange(len(row)) if kept is None else np.flatnonzero(kept)
        return left, np.argsort(np.append(row[left], self.joined.row), kind="stable")

    @cached_property
    def _single_ptr(self) -> Ints:
        """Single rules of each row, shape (n + 1,)."""
        return np.searchsorted(self.single_rules.row, np.arange(len(self) + 1))

    @cached_property
    def single_rules(self) -> Rules:
        """The rules on single features, which conjunctions are made of.

        Factual: one per feature whose weight is not 0. Alternative: one per region that a feature
        could move to, unless the prediction would be the same there. Fast: one per feature whose
        weight is not 0, without a condition, and with what is predicted under noise on it.
        """
        if self.kind == "fast":
            return self._fast_rules()
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
            **_alone(len(row)),
        )

    def _factual_rules(self) -> Rules:
        row, feature, cells = self._factual
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
            **_alone(len(row)),
        )

    def _fast_rules(self) -> Rules:
        row, feature = np.nonzero(self.weights)
        value = self.prediction[row]
        weight, low, high = (
            weights[row, feature] for weights in (self.weights, self.weights_low, self.weights_high)
        )
        n_reference = int(self.grid.support[self.grid.cell_ptr[0] : self.grid.cell_ptr[1]].sum())
        unbounded = np.full(len(row), np.inf)
        return Rules(
            row=row,
            feature=feature,
            lower=-unbounded,
            upper=unbounded,
            value=np.full(len(row), np.nan),
            prediction=value - weight,
            low=value - high,
            high=value - low,
            weight=weight,
            weight_low=low,
            weight_high=high,
            support=np.full(len(row), n_reference),
            **_alone(len(row)),
        )

    @cached_property
    def _factual(self) -> tuple[Ints, Ints, Ints]:
        """Row, feature and cell of each factual rule."""
        row, feature = np.nonzero(self.weights)
        return row, feature, self._cells[row, np.searchsorted(self.features, feature)]

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

    # -- conjunctions ----------------------------------------------------------------

    def conjunctions(self, n_top: int | None = 5, max_size: int = 2) -> Explanations:
        """Add rules that say what is predicted where several single rules hold together.

        Size by size, every single rule is joined with the most important rules of its row; one
        conjunction is made of each set of features. Its prediction is the mean over all
        combinations of the values that represent its members: those of their regions for
        alternative rules, those of the row's own cells for factual ones. There a category, a
        missing value, and a value in a cell without reference rows stand for themselves.

        Parameters
        ----------
        n_top : int or None, default=5
            How many rules of each row others are joined with, by falling absolute weight; at least
            two are. None: as many as it has single rules.
        max_size : int, default=2
            Features of the largest conjunctions.

        Returns
        -------
        Explanations
            Their `rules` are the single rules and the conjunctions. Conjunctions that were there
            before are replaced.

        Raises
        ------
        ValueError
            If these explanations do not know the model, or a parameter is out of range.

        Notes
        -----
        The weight of a conjunction is its prediction minus that of the row, also for factual rules,
        whose own weights compare with *other* values. After ``add_conjunctions`` of
        calibrated-explanations 1.0.2, but for its defects.
        """
        _check_count("n_top", 2 if n_top is None else n_top)
        _check_count("max_size", max_size)
        if self.source is None:
            raise ValueError(
                "conjunctions need explanations that know the model: those that explain() returns "
                "for kind='factual' or 'alternative'."
            )
        start = self._without_conjunctions()
        rules = start.single_rules
        with np.errstate(invalid="ignore"):  # infinite bounds
            width = rules.weight_high - rules.weight_low
        single = Ranked(rules.row, rules.feature, rules.weight, width)
        tried = start._values_of_rules(self.source)
        found, report = conjoin(self.source, single, tried, self.prediction, n_top, max_size)
        if found.likeliest_there is not None:
            classes = self.source.plan.model.classes
            assert classes is not None
            found = replace(found, likeliest_there=classes[found.likeliest_there])
        return replace(start, joined=found, execution_report=report or self.execution_report)

    def _without_conjunctions(self) -> Explanations:
        """Only the single rules that are left."""
        if self.singles_kept is None or self.regions is None:
            return replace(self, joined=None)
        kept = np.zeros(self.regions.shape[1], dtype=bool)
        kept[self._alternatives[0][self.singles_kept]] = True
        return replace(self, joined=None, singles_kept=None, kept=kept)

    def _values_of_rules(self, source: Source) -> RuleValues:
        """The values that represent each single rule, in the units of the model."""
        grid = source.plan.grid  # numbers of cells and regions are the same in any units
        if self.regions is None:
            row, feature, cell = self._factual
            return RuleValues.of_cells(grid, feature, cell, source.rows[row, feature])
        _, _, feature, region = self._alternatives
        return RuleValues.of_regions(grid, feature, region)

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
        if top is not None:
            _check_count("top", top, least=0)
        if by == "weight":
            rules = self.rules
            width = rules.weight_high - rules.weight_low
            return rank_by_weight(rules.row, rules.weight, width, n_rows=len(self), top=top)
        if by == "uncertainty":
            return rank_by_uncertainty(self._judged(), top=top)
        if by != "ensured":
            raise ValueError(f"by must be 'weight', 'uncertainty' or 'ensured'. Got {by!r}.")
        return rank_by_ensured(self._judged(), w=w, top=top)

    def _selected(self, **wanted: Any) -> Explanations:
        if self.regions is None:
            raise ValueError("Only alternatives can be filtered: explain(X, kind='alternative').")
        chosen = select_rules(self._judged(), **wanted)
        if self.joined is not None:
            left, order = self._order
            passed = np.empty(len(chosen), dtype=bool)
            passed[order] = chosen
            singles = np.zeros(len(self.single_rules), dtype=bool)
            singles[left] = passed[: len(left)]
            return replace(
                self, singles_kept=singles, joined=self.joined.where(passed[len(left) :])
            )
        kept = np.zeros(self.regions.shape[1], dtype=bool)
        kept[self._alternatives[0][chosen]] = True
        return replace(self, kept=kept)

    def _judged(self) -> Alternatives:
        """The rules and their rows, and with several classes what is decided and what changes."""
        rules, leads, flips = self.rules, None, None
        if self.likeliest_there is not None and self.explained_class is not None:
            likeliest = self.likeliest_there[self._alternatives[0]]
            if self.joined is not None:
                (left, order), joined = self._order, self.joined.likeliest_there
                likeliest = likeliest[left]  # and, unless there are none, of conjunctions
                likeliest = likeliest if joined is None else np.append(likeliest, joined)[order]
            leads = np.asarray(self.explained_class == self.predicted_class)
            flips = (likeliest == self.explained_class[rules.row]) != leads[rules.row]
        return Alternatives(
            row=rules.row,
            prediction=rules.prediction,
            low=rules.low,
            high=rules.high,
            size=rules.size,
            base=np.stack([self.prediction, self.prediction_low, self.prediction_high]),
            probabilistic=self.explained_class is not None or self.threshold is not None,
            leads=leads,
            flips=flips,
        )

    def rule_text(self, i: int) -> list[str]:
        """Rules of row `i` as sentences, in the order of `rules`."""
        return [self._text(rule) for rule in self._rules_of(i)]

    def to_dict(self) -> dict[str, NDArray[Any]]:
        """All rules as a dict of arrays of shape (n_rules,): the columns of `rules` and the text.

        ``feature`` holds names instead of numbers, "a & b" for a conjunction, and ``value`` the
        categories themselves, where they are not numbers.
        """
        columns = self.rules.to_dict()
        every = range(len(self.rules))
        columns["feature"] = np.array([self._names_of(rule) for rule in every], dtype=object)
        if self.columns.coded:
            columns["value"] = np.array([self._category(rule) for rule in every], dtype=object)
        text = np.array([self._text(rule) for rule in every], dtype=object)
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

    def _names_of(self, rule: int) -> str:
        """Names of the features that a rule is about."""
        features = self.single_rules.feature[self.rules.members_of(rule)]
        return AND.join(self.feature_names[f] for f in features)

    def _category(self, rule: int) -> Any:
        """The category that a rule names; NaN where it names none."""
        return self.columns.category(int(self.rules.feature[rule]), self.rules.value[rule].item())

    def _text(self, rule: int) -> str:
        return AND.join(self._single_text(member) for member in self.rules.members_of(rule))

    def _single_text(self, rule: int) -> str:
        rules = self.single_rules
        name = self.feature_names[rules.feature[rule]]
        if self.kind == "fast":  # no condition
            return name
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
            {
                "rule": e._text(r),
                **{name: column[r].item() for name, column in columns.items()},
                "value": e._category(r),
            }
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

    def __repr__(self) -> str:
        lines = [f"row {self.row}: {self.headline}"]
        e, rules = self.explanations, self.rules
        if not rules:
            why = "none is left by the filters"
            if e.kept is None:
                why = "no other value of any feature changes the prediction"
            return f"{lines[0]}\n  no rule: {why}"
        width = max(len("rule"), *(len(rule["rule"]) for rule in rules))
        elsewhere = e.kind == "alternative"
        heads = ("weight", "there") if elsewhere else ("value", "weight")
        lines.append(f"  {'rule':<{width}}  {heads[0]:>9}  {heads[1]:>9}  [low, high]")
        for rule in rules:
            weight = f"{rule['weight']:+.4g}"
            if elsewhere:
                cells = weight, f"{rule['prediction']:.4g}"
                interval = f"[{rule['low']:.4g}, {rule['high']:.4g}]"
            else:
                cells = self._value(rule["feature"]), weight
                interval = f"[{rule['weight_low']:+.4g}, {rule['weight_high']:+.4g}]"
            lines.append(f"  {rule['rule']:<{width}}  {cells[0]:>9}  {cells[1]:>9}  {interval}")
        return "\n".join(lines)

    def _value(self, feature: int) -> str:
        """The row's own value of a feature, as the reader knows it; nothing for a conjunction."""
        if feature < 0:
            return ""
        e = self.explanations
        value = e.columns.category(feature, e.X[self.row, feature])
        if not isinstance(value, float):
            return str(value)
        return "missing" if np.isnan(value) else f"{value:.4g}"


def _alone(n: int) -> dict[str, Ints]:
    """Columns that are the same for any table of n single rules."""
    return {
        "size": np.ones(n, dtype=np.int64),
        "members_ptr": np.arange(n + 1),
        "members": np.arange(n),
    }


def _check_count(name: str, count: Any, least: int = 1) -> None:
    """Check that a parameter is a whole number of at least `least`."""
    if not isinstance(count, Integral) or isinstance(count, bool) or count < least:
        raise ValueError(f"{name} must be an int of at least {least}. Got {count!r}.")
