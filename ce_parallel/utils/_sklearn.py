"""How we speak to scikit-learn, and the only private imports from it."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

import joblib
import numpy as np
from numpy.typing import NDArray
from sklearn import config_context, get_config
from sklearn.base import is_classifier
from sklearn.frozen import FrozenEstimator
from sklearn.utils import _safe_indexing as safe_indexing
from sklearn.utils._metadata_requests import _routing_enabled
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions
from sklearn.utils.metadata_routing import process_routing
from sklearn.utils.validation import (
    _check_feature_names,
    _check_n_features,
    check_array,
    check_X_y,
)
from sklearn.utils.validation import _check_method_params as params_of_rows

from ce_parallel.utils._columns import Columns
from ce_parallel.utils._frames import is_frame

__all__ = [
    "HasMethods",
    "Interval",
    "StrOptions",
    "encoded",
    "estimator_scores",
    "fill_random_states",
    "in_config",
    "params_of_rows",
    "route_fit",
    "safe_indexing",
    "score_verb",
]


def encoded(estimator: Any, X: Any, *target: Any, columns: Columns, reset: bool) -> tuple[Any, ...]:
    """Validate input as scikit-learn does, and turn it into numbers.

    What ``validate_data`` does, but for asking the estimator for its tags, which takes longer than
    all the rest where one row is explained.

    Parameters
    ----------
    estimator : estimator
        Whose ``n_features_in_`` and ``feature_names_in_`` are set or compared.
    X : array-like of shape (n, n_features)
        NaN is left for the wrapped estimator to judge.
    *target : array-like of shape (n,)
        `y`, where there is one.
    columns : Columns
        What `X` should look like: ``Columns.of(X, ...)`` in fit, the same later.
    reset : bool
        Whether to set the two attributes (fit) or to compare with them.

    Returns
    -------
    X : ndarray or DataFrame
        What the wrapped estimator should see: a frame as it came, else float64.
    numbers : ndarray of shape (n, n_features)
        The same rows as float64, never the caller's own array: it may be kept, or be given to an
        estimator that writes into it.
    columns : Columns
        Restores `numbers`: the one given, or one that knows more values, see `Columns.encode`.
    y : ndarray of shape (n,)
        Only where it was given.
    """
    checks = {"dtype": np.float64, "ensure_all_finite": "allow-nan", "estimator": estimator}
    if target:
        checks["y_numeric"] = not is_classifier(estimator)
    check = check_X_y if target else partial(check_array, input_name="X")
    _check_feature_names(estimator, X, reset=reset)
    if is_frame(X) or columns.coded:
        _check_n_features(estimator, X, reset=reset)  # first: `encode` relies on it
        numbers, columns = columns.encode(X)
        checked = check(numbers, *target, **checks)
    else:
        checked = check(X, *target, **checks)
        # Not scikit-learn's copy=True: some versions miss arrays that share a frame's memory.
        numbers = (checked[0] if target else checked).copy()
        _check_n_features(estimator, numbers, reset=reset)
    rows = X if is_frame(X) else columns.restore(numbers)
    if not target:
        return rows, numbers, columns
    y = checked[1]
    return rows, numbers, columns, y if is_classifier(estimator) else y.astype(np.float64)


def estimator_scores(
    estimator: Any, X: Any, classes: NDArray[Any] | None = None
) -> NDArray[np.float64]:
    """Scores of rows under a fitted estimator: the one place where it predicts.

    Runs under a sequential joblib: a forest with ``n_jobs=2`` sums its trees in the order in which
    they finish, so that the same row gets other last bits each time.

    Parameters
    ----------
    estimator : estimator
        A fitted classifier or regressor.
    X : ndarray or DataFrame of shape (n, n_features)
    classes : ndarray of shape (n_classes,) or None
        The classes whose scores are wanted, ascending; None for regressors. The score of a class
        that the estimator has not seen is below all others: 0 among probabilities, else -inf.

    Returns
    -------
    ndarray of shape (n,) or (n, n_classes)
        Targets, probabilities, or decision values; those of two classes are (-d, d).

    Raises
    ------
    TypeError
        If a classifier has neither probabilities nor decision values.
    ValueError
        If the estimator returns NaN, infinity, or another shape than it should.
    """
    verb = score_verb(estimator, classes)
    with joblib.parallel_config(backend="sequential"):
        predicted = np.asarray(getattr(estimator, verb)(X), dtype=np.float64)
    if classes is None:
        expected: tuple[int, ...] = (len(X),)
        predicted = predicted.reshape(expected) if predicted.shape == (len(X), 1) else predicted
    else:
        expected = (len(X), len(estimator.classes_))
        if verb == "decision_function":
            predicted = _one_per_class(estimator, predicted)
    if predicted.shape != expected or not np.isfinite(predicted).all():
        got = "NaN or infinity" if predicted.shape == expected else f"shape {predicted.shape}"
        raise ValueError(
            f"{verb} of {estimator!r} must return finite numbers of shape {expected}. Got {got}."
        )
    if classes is None or np.array_equal(estimator.classes_, classes):
        return predicted
    scores = np.full((len(X), len(classes)), 0.0 if verb == "predict_proba" else -np.inf)
    scores[:, np.searchsorted(classes, estimator.classes_)] = predicted
    return scores


def score_verb(estimator: Any, classes: NDArray[Any] | None) -> str:
    """Name of the method whose output is calibrated; decision values stand in for probabilities."""
    verbs = ["predict"] if classes is None else ["predict_proba", "decision_function"]
    for verb in verbs:
        if hasattr(estimator, verb):
            return verb
    raise TypeError(
        f"An estimator must have {' or '.join(verbs)} to be calibrated. Got {estimator!r}, which "
        "has none once it is fitted."
    )


def _one_per_class(estimator: Any, values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Turn decision values into one column per class.

    Raises
    ------
    ValueError
        If they compare pairs of classes: of three classes there are as many pairs, so that the
        shape does not tell.
    """
    if values.ndim == 1:
        return np.stack([-values, values], axis=1)
    last = estimator
    while inner := _inside(last):
        last = inner
    if getattr(last, "decision_function_shape", None) == "ovo":
        raise ValueError(
            "Decision values must be one per class, not one per pair of classes. Set "
            f"decision_function_shape='ovr' in {last!r}."
        )
    return values


def _inside(estimator: Any) -> Any:
    """The estimator that decides in a Pipeline, a frozen estimator or a search; else None."""
    if hasattr(estimator, "steps"):
        return estimator.steps[-1][1]
    if isinstance(estimator, FrozenEstimator):
        return estimator.estimator
    return getattr(estimator, "best_estimator_", None)


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


def in_config(task: Callable[..., Any]) -> Callable[..., Any]:
    """Make a task run under scikit-learn's configuration of this thread, wherever it runs."""
    return partial(_under, get_config(), task)


def _under(config: dict[str, Any], task: Callable[..., Any], *arguments: Any) -> Any:
    with config_context(**config):
        return task(*arguments)


def route_fit(explainer: Any, params: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Divide parameters of `fit` among the estimator and the splitter.

    Raises
    ------
    TypeError
        If the estimator does not accept one of them, or, with metadata routing, nobody asks for it.
    """
    given = {name: value for name, value in params.items() if value is not None}
    if given and _routing_enabled():
        routed = process_routing(explainer, "fit", **given)
        return dict(routed["estimator"]["fit"]), dict(routed["splitter"]["split"])
    to_split = {name: given.pop(name) for name in ["groups"] if name in given}
    if not given:
        return given, to_split
    accepted = inspect.signature(explainer.estimator.fit).parameters
    unknown = sorted(given.keys() - accepted.keys())
    if unknown and not any(p.kind is p.VAR_KEYWORD for p in accepted.values()):
        raise TypeError(f"fit of {explainer.estimator!r} does not accept {unknown}.")
    return given, to_split
