"""Explain with a Pipeline whose last step is an explainer, in the units of its input."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.utils import check_array

from ce_parallel._explainer import ParallelCalibratedExplainer
from ce_parallel._explanations import Explanations
from ce_parallel.rules import Grid
from ce_parallel.utils import kept_features, named

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline

# Steps that turn each column into one column, monotonically, and know the way back. Looked up in
# sklearn.preprocessing only when asked for: importing it would slow down importing this package.
SCALERS = (
    "StandardScaler",
    "MinMaxScaler",
    "MaxAbsScaler",
    "RobustScaler",
    "PowerTransformer",
    "QuantileTransformer",
)


def explain_pipeline(pipeline: Pipeline, X: Any, **options: Any) -> Explanations:
    """Explain rows with a fitted Pipeline whose last step is a `ParallelCalibratedExplainer`.

    The steps before the explainer transform `X`. Rules bear the names that these steps give their
    output; where all of them are scalers that treat each column by itself, rules speak in the
    units of `X`.

    Parameters
    ----------
    pipeline : Pipeline
    X : array-like of shape (n, n_features)
        Input of the first step.
    **options
        Passed to `ParallelCalibratedExplainer.explain`.

    Returns
    -------
    Explanations

    Raises
    ------
    TypeError
        If the last step is something else.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from sklearn.linear_model import LinearRegression
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> X, y = load_diabetes(return_X_y=True, as_frame=True, scaled=False)
    >>> explainer = ParallelCalibratedExplainer(LinearRegression(), random_state=0)
    >>> pipeline = make_pipeline(StandardScaler(), explainer).fit(X, y)
    >>> explain_pipeline(pipeline, X[:1]).rule_text(0)[2]
    'bmi > 26.55'
    """
    from sklearn.pipeline import Pipeline

    explainer = pipeline[-1] if isinstance(pipeline, Pipeline) else pipeline
    if not isinstance(pipeline, Pipeline) or not isinstance(explainer, ParallelCalibratedExplainer):
        raise TypeError(
            "explain_pipeline needs a Pipeline whose last step is a ParallelCalibratedExplainer. "
            f"Got {explainer!r}."
        )
    before = pipeline[:-1]
    steps = [step for _, step in before.steps if step not in (None, "passthrough")]
    if not steps:
        return explainer.explain(X, **options)
    transformed = before.transform(X)
    names = _output_names(before)
    if names is not None:
        kept = kept_features(options.pop("features_to_ignore", None), names)
        options["features_to_ignore"] = np.setdiff1d(np.arange(len(names)), kept)
    explanations = explainer.explain(transformed, **options)
    if names is not None:
        explanations = replace(explanations, feature_names=names)
    if not all(map(_is_scaler, steps)):
        return explanations
    everything = np.arange(explanations.X.shape[1])
    raw = check_array(X, dtype=np.float64, ensure_all_finite="allow-nan", copy=True)
    n_each = len(explanations) // len(raw)  # all classes of a row
    return replace(
        explanations,
        cells=explanations.grid.cells_of(explanations.X, everything),
        X=np.repeat(raw, n_each, axis=0) if n_each > 1 else raw,
        grid=_in_raw_units(explanations.grid, steps),
    )


def _is_scaler(step: Any) -> bool:
    """Whether a step treats each column by itself, monotonically, and knows the way back."""
    from sklearn import preprocessing

    kinds = tuple(getattr(preprocessing, name) for name in SCALERS)
    return isinstance(step, kinds) and not getattr(step, "clip", False)


def _output_names(before: Pipeline) -> tuple[str, ...] | None:
    """Names of the columns that reach the explainer, where the steps give them names."""
    if not hasattr(before, "get_feature_names_out"):
        return None
    return tuple(str(name) for name in before.get_feature_names_out())


def _in_raw_units(grid: Grid, steps: list[Any]) -> Grid:
    """Undo the scalers on every edge, bound and perturbation value of a grid."""
    features = np.arange(len(grid.edges))
    cell_features = np.repeat(features, np.diff(grid.cell_ptr))
    region_features = np.repeat(cell_features, np.diff(grid.region_ptr))
    value_features = np.repeat(region_features, np.diff(grid.value_ptr))

    def undo(values: np.ndarray, feature: np.ndarray) -> np.ndarray:
        finite = np.isfinite(values)
        if not finite.any():
            return values
        table = np.zeros((int(finite.sum()), len(features)))
        table[np.arange(len(table)), feature[finite]] = values[finite]
        for step in reversed(steps):
            names = getattr(step, "feature_names_in_", None)
            X = table if names is None else named(table, tuple(names))
            table = np.asarray(step.inverse_transform(X))
        raw = values.copy()
        raw[finite] = table[np.arange(len(table)), feature[finite]]
        return raw

    return replace(
        grid,
        edges=tuple(undo(edges, np.full(len(edges), f)) for f, edges in enumerate(grid.edges)),
        categories=tuple(
            None if codes is None else undo(codes, np.full(len(codes), f))
            for f, codes in enumerate(grid.categories)
        ),
        values=undo(grid.values, value_features),
        lower=undo(grid.lower, cell_features),
        upper=undo(grid.upper, cell_features),
        category=undo(grid.category, cell_features),
        region_lower=undo(grid.region_lower, region_features),
        region_upper=undo(grid.region_upper, region_features),
        region_category=undo(grid.region_category, region_features),
        covered=undo(grid.covered, np.repeat(cell_features, np.diff(grid.covered_ptr))),
    )
