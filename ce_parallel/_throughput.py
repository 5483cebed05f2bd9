"""A scorer that says how fast an explainer explains, for searches over `parallel_config`."""

from __future__ import annotations

import time
import warnings
from functools import cache, partial
from typing import Any

from sklearn.pipeline import Pipeline

from ce_parallel._pipeline import explain_pipeline
from ce_parallel.executor._config import read_environment
from ce_parallel.utils import safe_indexing


def explanation_throughput(estimator: Any, X: Any, y: Any = None) -> float:
    """Rows explained per second by a fitted explainer; higher is better.

    A scorer: ``scoring=explanation_throughput``, or one of several, ``scoring={"speed":
    explanation_throughput, "loss": "neg_log_loss"}``.

    Parameters
    ----------
    estimator : ParallelCalibratedExplainer, or Pipeline whose last step is one
        Fitted and calibrated.
    X : array-like of shape (n, n_features)
        In a search, the rows that are held out.
    y : object
        Not needed.

    Returns
    -------
    float
        Rows per second of one factual explanation of `X`.

    Warns
    -----
    UserWarning
        Once, if `parallel_config` names a strategy, but the variable CE_PARALLEL decides.

    Notes
    -----
    One row is explained first and not counted, because the first explanation builds what later
    ones use again. Starting workers is counted, because every explanation pays for it, unless an
    executor is open around the search. Candidates should have the machine to themselves: search
    with ``n_jobs=None``, since workers of a search run what is inside them serially.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from sklearn.linear_model import LinearRegression
    >>> from sklearn.model_selection import GridSearchCV
    >>> from ce_parallel import ParallelCalibratedExplainer
    >>> X, y = load_diabetes(return_X_y=True)
    >>> search = GridSearchCV(
    ...     ParallelCalibratedExplainer(LinearRegression(), random_state=0),
    ...     {"parallel_config__preferred": ["serial", "threads"]},
    ...     scoring=explanation_throughput,
    ...     cv=2,
    ... )
    >>> bool(search.fit(X, y).best_score_ > 0)
    True
    """
    piped = isinstance(estimator, Pipeline)
    explain = partial(explain_pipeline, estimator) if piped else estimator.explain
    _check_who_decides(estimator[-1] if piped else estimator)
    explain(safe_indexing(X, [0]))
    started = time.perf_counter()
    explanations = explain(X)
    return len(explanations) / (time.perf_counter() - started)


def _check_who_decides(explainer: Any) -> None:
    """Warn if `parallel_config` names a strategy, but CE_PARALLEL decides."""
    config, named = explainer.parallel_config, read_environment().strategy
    names_one = config is not None and isinstance(config.preferred, str)
    if names_one and config.preferred != "auto" and named not in (None, "auto"):
        _warn_that_it_is_a_tie(named)


@cache  # once per process, however many candidates and folds there are
def _warn_that_it_is_a_tie(named: str) -> None:
    warnings.warn(
        f"CE_PARALLEL names {named!r} and decides how explanations run, whatever "
        "parallel_config__preferred says: candidates that differ in nothing else are a tie.",
        UserWarning,
        stacklevel=2,
    )
