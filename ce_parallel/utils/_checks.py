"""What users give us: read it, or say in one sentence what is wrong with it."""

from __future__ import annotations

from collections.abc import Sequence, Set
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import is_classifier, is_regressor
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets


def draw_seed(random_state: Any) -> int:
    """Draw one seed; None asks the operating system, never NumPy's global generator."""
    if random_state is None:
        return int(np.random.default_rng().integers(2**31))
    return int(check_random_state(random_state).randint(2**31 - 1))


def check_estimator(estimator: Any) -> None:
    """Raise a TypeError unless `estimator` can be calibrated.

    Asks its class, too, whether it has scores: some estimators know only when they are fitted.
    """
    if is_classifier(estimator):
        verbs = "predict_proba", "decision_function"
        if not any(
            hasattr(asked, verb) for asked in (estimator, type(estimator)) for verb in verbs
        ):
            raise TypeError(
                "A classifier must have predict_proba or decision_function to be calibrated. Got "
                f"{estimator!r}, which has neither."
            )
    elif not is_regressor(estimator):
        raise TypeError(f"estimator must be a classifier or a regressor. Got {estimator!r}.")


def check_sample_percentiles(percentiles: ArrayLike) -> None:
    """Raise a ValueError unless `percentiles` are some numbers between 0 and 100."""
    values = np.asarray(percentiles)
    if (
        values.dtype.kind not in "iuf"
        or values.ndim != 1
        or not values.size
        or not ((values >= 0) & (values <= 100)).all()
    ):
        raise ValueError(
            "sample_percentiles must be one or more numbers between 0 and 100. Got "
            f"{percentiles!r} instead."
        )


def classes_of(y: NDArray[Any]) -> NDArray[Any]:
    """Return the classes in `y`, ascending; raise a ValueError if there is only one."""
    check_classification_targets(y)
    classes = np.unique(y)
    if len(classes) == 1:
        raise ValueError(
            f"y must hold at least two classes. Got one class only: {classes.tolist()[0]!r}."
        )
    return classes


def check_labels(y: NDArray[Any], classes: NDArray[Any], what: str = "y") -> None:
    """Raise a ValueError if `y` holds a label that the estimator does not know."""
    unknown = np.setdiff1d(y, classes)
    if len(unknown):
        raise ValueError(
            f"{what} must hold classes that the estimator knows, {_some(classes)}. Got "
            f"{_some(unknown)} as well."
        )


def _some(labels: NDArray[Any]) -> str:
    """The first labels, as a person reads them."""
    shown = ", ".join(map(repr, labels[:10].tolist()))
    return f"[{shown}]" if len(labels) <= 10 else f"[{shown}, ...] ({len(labels)} in all)"


def check_present(labels: NDArray[Any], what: str) -> None:
    """Raise a ValueError if a label is missing: None, NaN or NA."""
    if labels.dtype.kind in "fO" and any(map(_is_missing, labels.tolist())):
        raise ValueError(f"{what} must not hold missing labels. Got some; give them a name.")


def _is_missing(label: Any) -> bool:
    return label is None or type(label).__name__ == "NAType" or label != label


def kept_features(ignored: ArrayLike | None, names: Sequence[Any]) -> NDArray[np.int64]:
    """Indices of the features that are not ignored; `ignored` holds names, indices or a mask."""
    return np.delete(np.arange(len(names)), feature_indices(ignored, names, "features_to_ignore"))


def feature_indices(
    which: ArrayLike | None, names: Sequence[Any], parameter: str
) -> NDArray[np.int64]:
    """Indices of features that are given by names, indices or a mask.

    Parameters
    ----------
    which : array-like or None
        None: no feature. A name stands for every feature that bears it.
    names : sequence of n_features names
    parameter : str
        What errors call `which`.

    Raises
    ------
    ValueError
        If a name is unknown, or an index or mask does not fit.
    """
    n = len(names)
    if which is None:
        return np.empty(0, dtype=np.int64)
    given = np.atleast_1d(np.asarray(sorted(which) if isinstance(which, Set) else which))
    if given.dtype.kind in "OU":
        wanted, known = set(given.tolist()), set(names)
        unknown = [name for name in given.tolist() if name not in known]
        if unknown:
            raise ValueError(f"{parameter} names {unknown}. Known are {list(names)}.")
        return np.array([i for i, name in enumerate(names) if name in wanted], dtype=np.int64)
    if given.dtype.kind == "b":
        if given.shape != (n,):
            raise ValueError(f"A mask in {parameter} must have shape ({n},). Got {given.shape}.")
        return np.flatnonzero(given)
    if given.size and (given.dtype.kind not in "iu" or given.min() < -n or given.max() >= n):
        raise ValueError(
            f"{parameter} must hold names, a mask or indices below {n}. Got {given.tolist()}."
        )
    return given.astype(np.int64) % max(n, 1)
