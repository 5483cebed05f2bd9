"""Fold tasks: fit a clone on some rows, score the rows that were held out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
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
    """One item of work: rows to fit on (None: all) and rows to score (None: return the model)."""

    seed: np.random.SeedSequence
    train: Ints | None = None
    held_out: Ints | None = None
    name: str = "all rows"


def run_fold(data: FoldData, fold: Fold) -> Any:
    """Fit one model; return its scores of the held-out rows, or the model itself.

    An error of the estimator is raised as it is, with a note that names the fold.
    """
    try:
        return _fit_and_score(data, fold)
    except Exception as error:
        error.add_note(f"This happened in the fit on {fold.name}.")
        raise


def _fit_and_score(data: FoldData, fold: Fold) -> Any:
    estimator = fill_random_states(clone(data.estimator), fold.seed)
    # A copy in every case: some estimators write into what they are given.
    X = data.X.copy() if fold.train is None else safe_indexing(data.X, fold.train)
    y = data.y.copy() if fold.train is None else data.y[fold.train]
    every = np.arange(len(data.y)) if fold.train is None else fold.train
    with joblib.parallel_config(backend="sequential"):
        estimator.fit(X, y, **params_of_rows(data.X, data.fit_params, every))
    if fold.held_out is None:
        return estimator
    return estimator_scores(estimator, safe_indexing(data.X, fold.held_out), data.classes)


def plan_folds(
    cv: Any,
    X: Any,
    y: NDArray[Any],
    *,
    classification: bool,
    seed: int,
    split_params: Mapping[str, Any] = MappingProxyType({}),
) -> Iterator[Fold]:
    """Yield the fit on all rows, then (unless `cv` is None) one fold per split.

    Raises
    ------
    ValueError
        If there are too few rows, or too few members of a class, for the folds; or if the
        splits are not a partition of the rows.
    """
    seeds = np.random.SeedSequence(seed)
    yield Fold(seeds.spawn(1)[0])
    if cv is None:
        return
    everything = np.arange(len(y))
    splitter = _splitter(cv, y, classification=classification, seed=seed)
    splits = [
        (everything[train], everything[test])
        for train, test in splitter.split(X, y, **split_params)
    ]
    _check_partition(cv, splits, len(y))
    for k, (train, held_out) in enumerate(splits, 1):
        yield Fold(seeds.spawn(1)[0], train, held_out, f"fold {k} of {len(splits)}")


def _check_partition(cv: Any, splits: list[tuple[Ints, Ints]], n: int) -> None:
    """Raise a ValueError unless each row is held out once, from a model that has not seen it."""
    held_out = np.concatenate([np.empty(0, dtype=np.intp), *(test for _, test in splits)])
    times = np.bincount(held_out, minlength=n)
    if not (times == 1).all():
        raise ValueError(
            "cv must hold out every row exactly once, so that each gets one out-of-fold score. Got "
            f"{cv!r}, which holds out rows between {times.min()} and {times.max()} times. Use "
            "KFold or StratifiedKFold, or for groups GroupKFold and fit(X, y, groups=groups)."
        )
    if any(np.isin(test, train).any() for train, test in splits):
        raise ValueError(f"cv must not fit on rows that it holds out. Got {cv!r}, which does.")


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
