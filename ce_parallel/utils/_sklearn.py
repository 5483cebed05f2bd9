"""How we speak to scikit-learn, and the only private imports from it."""

from __future__ import annotations

from typing import Any

import joblib
import numpy as np
from numpy.typing import NDArray
from sklearn.base import is_classifier
from sklearn.utils import _safe_indexing as safe_indexing
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.validation import validate_data

from ce_parallel.utils._columns import Columns, is_frame

__all__ = [
    "StrOptions",
    "estimator_scores",
    "fill_random_states",
    "safe_indexing",
    "validated",
]


def validated(estimator: Any, X: Any, *target: Any, reset: bool) -> tuple[Any, ...]:
    """Validate input as scikit-learn does.

    Parameters
    ----------
    estimator : estimator
        Whose ``n_features_in_`` and ``feature_names_in_`` are set or compared.
    X : array-like of shape (n, n_features)
        NaN is left for the wrapped estimator to judge.
    *target : array-like of shape (n,)
        `y`, where there is one.
    reset : bool
        Whether to set the two attributes (fit) or to compare with them.

    Returns
    -------
    X : ndarray or DataFrame
        What the wrapped estimator should see: a frame as it came, else float64.
    numbers : ndarray of shape (n, n_features)
        The same rows as float64, never the caller's own array: it may be kept, or be given to an
        estimator that writes into it.
    y : ndarray of shape (n,)
        Only where it was given.
    """
    Columns.of(X)  # its message is clearer than that of a failed conversion
    checks = {"dtype": np.float64, "ensure_all_finite": "allow-nan", "reset": reset}
    numeric = not is_classifier(estimator)
    if target:
        checked, y = validate_data(estimator, X, *target, y_numeric=numeric, **checks)
    else:
        checked, y = validate_data(estimator, X, **checks), None
    # Not scikit-learn's copy=True: some versions miss arrays that share a frame's memory.
    numbers = checked.copy()
    rows = X if is_frame(X) else numbers
    if not target:
        return rows, numbers
    return rows, numbers, y.astype(np.float64) if numeric else y


def estimator_scores(estimator: Any, X: Any, positive: Any = None) -> NDArray[np.float64]:
    """Scores of rows under a fitted estimator: the one place where it predicts.

    Runs under a sequential joblib: a forest with ``n_jobs=2`` sums its trees in the order in which
    they finish, so that the same row gets other last bits each time.

    Parameters
    ----------
    estimator : estimator
        A fitted classifier or regressor.
    X : ndarray or DataFrame of shape (n, n_features)
    positive : class label or None
        The class whose probability is wanted; None for regressors. The probability of a class
        that the estimator has not seen is 0.

    Returns
    -------
    ndarray of shape (n,)

    Raises
    ------
    ValueError
        If the estimator returns NaN, infinity, or another shape than it should.
    """
    verb = "predict" if positive is None else "predict_proba"
    with joblib.parallel_config(backend="sequential"):
        predicted = np.asarray(getattr(estimator, verb)(X), dtype=np.float64)
    if positive is None:
        expected: tuple[int, ...] = (len(X),)
        predicted = predicted.reshape(expected) if predicted.shape == (len(X), 1) else predicted
    else:
        expected = (len(X), len(estimator.classes_))
    if predicted.shape != expected or not np.isfinite(predicted).all():
        got = "NaN or infinity" if predicted.shape == expected else f"shape {predicted.shape}"
        raise ValueError(
            f"{verb} of {estimator!r} must return finite numbers of shape {expected}. Got {got}."
        )
    if positive is None:
        return predicted
    column = np.flatnonzero(estimator.classes_ == positive)
    return predicted[:, column[0]] if len(column) else np.zeros(len(X))


def fill_random_states(estimator: Any, seed: np.random.SeedSequence) -> Any:
    """Seed the ``random_state`` parameters that the user left open; return the estimator.

    Only so do two strategies fit the same model. Parameters that hold a value keep it.
    """
    open_keys = [
        key
        for key, value in sorted(estimator.get_params(deep=True).items())
        if value is None and key.rpartition("__")[2] == "random_state"
    ]
    seeds = seed.generate_state(len(open_keys)) >> 1  # within int32, as scikit-learn wants it
    return estimator.set_params(
        **{key: int(value) for key, value in zip(open_keys, seeds, strict=True)}
    )
