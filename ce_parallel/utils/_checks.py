"""What users give us: read it, or say in one sentence what is wrong with it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import is_classifier, is_regressor
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets, type_of_target


def draw_seed(random_state: Any) -> int:
    """Draw one seed; None asks the operating system, never NumPy's global generator."""
    if random_state is None:
        return int(np.random.default_rng().integers(2**31))
    return int(check_random_state(random_state).randint(2**31 - 1))


def check_estimator(estimator: Any) -> None:
    """Raise a TypeError unless `estimator` can be calibrated."""
    if is_classifier(estimator):
        if not hasattr(estimator, "predict_proba"):
            raise TypeError(
                "A classifier must have predict_proba to be calibrated. Got "
                f"{estimator!r}, which has none. Wrap it in CalibratedClassifierCV, or turn "
                "its probabilities on where it has such a parameter."
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


def two_classes(y: NDArray[Any]) -> NDArray[Any]:
    """Return the two classes in `y`, ascending; raise a ValueError if it holds any other number."""
    check_classification_targets(y)
    classes = np.unique(y)
    if len(classes) == 1:
        raise ValueError(f"y must hold two classes. Got one class only: {classes.tolist()[0]!r}.")
    if len(classes) > 2:
        raise ValueError(
            "Only binary classification is supported. The type of the target is "
            f"{type_of_target(y)}. Got {len(classes)} classes; merge them into two."
        )
    return classes


def check_labels(y: NDArray[Any], classes: NDArray[Any]) -> None:
    """Raise a ValueError if `y` holds a label that the estimator does not know."""
    unknown = np.setdiff1d(y, classes)
    if len(unknown):
        raise ValueError(
            f"y must hold the classes that the estimator knows, {classes.tolist()}. Got "
            f"{unknown.tolist()} as well."
        )


def kept_features(ignored: ArrayLike | None, names: Any) -> NDArray[np.int64]:
    """Indices of the features that are not ignored; `ignored` holds names, indices or a mask."""
    n = len(names)
    if ignored is None:
        return np.arange(n)
    ignored = np.atleast_1d(np.asarray(ignored))
    if ignored.dtype.kind in "OU":
        lookup = {name: i for i, name in enumerate(names)}
        unknown = [name for name in ignored.tolist() if name not in lookup]
        if unknown:
            raise ValueError(f"features_to_ignore names {unknown}. Known are {list(lookup)}.")
        ignored = np.array([lookup[name] for name in ignored.tolist()], dtype=np.int64)
    if ignored.dtype.kind == "b":
        if ignored.shape != (n,):
            raise ValueError(
                f"A mask in features_to_ignore must have shape ({n},). Got {ignored.shape}."
            )
        return np.flatnonzero(~ignored)
    if ignored.size and (
        ignored.dtype.kind not in "iu" or ignored.min() < -n or ignored.max() >= n
    ):
        raise ValueError(
            f"features_to_ignore must hold names, a mask or indices below {n}. Got "
            f"{ignored.tolist()}."
        )
    return np.delete(np.arange(n), ignored.astype(np.int64))
