"""Fold tasks: fit a clone on some rows, score the rows that were held out.

plan_folds --> run_fold, one task each --> HeldOut: scores of rows by models that have not seen them
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import joblib
import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone

from ce_parallel.utils import estimator_scores, fill_random_states, params_of_rows, safe_indexing

Ints = NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class FoldData:
    """What every fold shares: the unfitted estimator, the rows, the classes, parameters of fit."""

    estimator: Any
    X: Any
    y: NDArray[Any]
    classes: NDArray[Any] | None = None
    fit_params: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Fold:
    """One item of work: rows to fit on (None: all), rows to score, whether the model is wanted."""

    seed: np.random.SeedSequence
    train: Ints | None = None
    held_out: Ints | None = None
    keep: bool = False
    name: str = "all rows"


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Scores of rows by models that have not seen them.

    Attributes
    ----------
    scores : ndarray of shape (m,) or (m, n_classes)
    row : ndarray of shape (m,)
        Whose scores they are.
    fold : ndarray of shape (m,) or None
        Which of several models they come from; None: it does not matter.
    """

    scores: NDArray[np.float64]
    row: Ints
    fold: Ints | None = None

    @classmethod
    def of(cls, rows: list[Ints], scores: list[NDArray[np.float64]], *, merged: bool) -> HeldOut:
        """Join the scores of folds: those of all rows in order, unless they are to be `merged`."""
        joined, row = np.concatenate(scores), np.concatenate(rows)
        if merged:
            return cls(joined, row, np.repeat(np.arange(len(rows)), [len(r) for r in rows]))
        order = np.argsort(row)
        return cls(joined[order], row[order])


def run_fold(data: FoldData, fold: Fold) -> tuple[Any, NDArray[np.float64] | None]:
    """Fit one model; return it, where it is wanted, and its scores of the held-out rows.

    An error of the estimator is raised as it is, with a note that names the fold.
    """
    try:
        estimator = fit_clone(data, fold.train, fold.seed)
        scores = None
        if fold.held_out is not None:
            X = safe_indexing(data.X, fold.held_out)
            scores = estimator_scores(estimator, X, data.classes)
    except Exception as error:
        error.add_note(f"This happened in the fit on {fold.name}.")
        raise
    return estimator if fold.keep else None, scores


def fit_clone(data: FoldData, train: Ints | None, seed: np.random.SeedSequence) -> Any:
    """Fit a clone of the estimator on some rows; None: on all."""
    estimator = fill_random_states(clone(data.estimator), seed)
    # A copy in every case: some estimators write into what they are given.
    X = deepcopy(data.X) if train is None else safe_indexing(data.X, train)
    y = data.y.copy() if train is None else data.y[train]
    every = np.arange(len(data.y)) if train is None else train
    with joblib.parallel_config(backend="sequential"):
        estimator.fit(X, y, **params_of_rows(data.X, data.fit_params, every))
    return estimator


def plan_folds(
    cv: Any,
    X: Any,
    y: NDArray[Any],
    *,
    classification: bool,
    ensemble: bool,
    seed: int,
    split_params: Mapping[str, Any] = MappingProxyType({}),
) -> Iterator[Fold]:
    """Yield the fit on all rows, then (unless `cv` is None) one fold per split.

    With `ensemble` the models of the folds are kept, and there is no fit on all rows.

    Raises
    ------
    ValueError
        If there are too few rows, or too few members of a class, for the folds; or if the
        splits are not a partition of the rows, which an `ensemble` does not ask for.
    """
    seeds = np.random.SeedSequence(seed)
    whole = Fold(seeds.spawn(1)[0], keep=True)
    if not ensemble:
        yield whole
    if cv is None:
        return
    everything = np.arange(len(y))
    splitter = _splitter(cv, y, classification=classification, seed=seed)
    splits = [
        (everything[train], everything[test])
        for train, test in splitter.split(X, y, **split_params)
    ]
    if ensemble:
        _check_not_empty(cv, splits)
    else:
        _check_partition(cv, splits, len(y))
    if any(np.isin(test, train).any() for train, test in splits):
        raise ValueError(
            f"cv must not fit on rows that it holds out. Got {_named(cv)}, which does."
        )
    for k, (train, held_out) in enumerate(splits, 1):
        name = f"fold {k} of {len(splits)}"
        yield Fold(seeds.spawn(1)[0], train, held_out, keep=ensemble, name=name)


def _check_not_empty(cv: Any, splits: list[tuple[Ints, Ints]]) -> None:
    """Raise a ValueError unless there are splits, and each holds out some rows."""
    least = min((len(test) for _, test in splits), default=0)
    if not least:
        raise ValueError(
            "cv must have folds, and each must hold out a row at least: that is what its model is "
            f"calibrated on. Got {_named(cv)}, with {len(splits)} folds, not all of which do."
        )


def _named(cv: Any) -> str:
    """How an error calls `cv`: a list of splits would fill pages."""
    known = hasattr(cv, "split") or isinstance(cv, (int, np.integer))
    return repr(cv) if known else f"a {type(cv).__name__}"


def _check_partition(cv: Any, splits: list[tuple[Ints, Ints]], n: int) -> None:
    """Raise a ValueError unless each row is held out once."""
    held_out = np.concatenate([np.empty(0, dtype=np.intp), *(test for _, test in splits)])
    times = np.bincount(held_out, minlength=n)
    if not (times == 1).all():
        raise ValueError(
            "cv must hold out every row exactly once, so that each gets one out-of-fold score. Got "
            f"{_named(cv)}, which holds out rows {times.min()} to {times.max()} times. Use "
            "KFold or StratifiedKFold, or for groups GroupKFold and fit(X, y, groups=groups); or "
            "ensemble=True, which merges any folds."
        )


def _splitter(cv: Any, y: NDArray[Any], *, classification: bool, seed: int) -> Any:
    """Turn `cv` into a splitter; an int means shuffled, seeded and, for classes, stratified."""
    from sklearn.model_selection import KFold, StratifiedKFold, check_cv  # 60 ms to import

    if not isinstance(cv, (int, np.integer)):
        return check_cv(cv, y, classifier=classification)
    if len(y) < cv:
        raise ValueError(
            f"cv={cv} needs at least {cv} rows. Got n_samples={len(y)}. Use fewer folds, or "
            "cv=None and calibrate(X_cal, y_cal)."
        )
    if not classification:
        return KFold(cv, shuffle=True, random_state=seed)
    classes, sizes = np.unique(y, return_counts=True)
    if sizes.min() < cv:
        raise ValueError(
            f"cv={cv} needs at least {cv} rows of each class. Class {classes[sizes.argmin()]} has "
            f"{sizes.min()}. Use fewer folds, or cv=None and calibrate(X_cal, y_cal)."
        )
    return StratifiedKFold(cv, shuffle=True, random_state=seed)
