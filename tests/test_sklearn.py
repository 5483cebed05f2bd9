"""scikit-learn's own checks of an estimator."""

import importlib

import numpy as np
import pytest
from sklearn.base import is_classifier
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.svm import LinearSVC
from sklearn.tree import DecisionTreeClassifier
from sklearn.utils.estimator_checks import parametrize_with_checks

from ce_parallel import ParallelCalibratedExplainer


class CalibratedByHand(ParallelCalibratedExplainer):
    """`cv=None`: fit and calibrate are two steps, which checks know as one."""

    def fit(self, X, y):
        return super().fit(X, y).calibrate(X, y)


class OfFrames(ParallelCalibratedExplainer):
    """Sees a frame wherever it is given an array of numbers with two dimensions."""

    def fit(self, X, y):
        return super().fit(framed(X), y)

    def predict(self, X):
        return super().predict(framed(X))


class ClassesOfFrames(OfFrames):
    """The same for a classifier."""

    def predict_proba(self, X):
        return super().predict_proba(framed(X))


def framed(X):
    pandas = importlib.import_module("pandas")
    usual = isinstance(X, np.ndarray) and X.ndim == 2 and X.dtype.kind in "fiu" and X.size
    return pandas.DataFrame(X) if usual else X


# Three folds: some checks fit ten rows, with fewer than five of one class.
EXPLAINERS = [
    ParallelCalibratedExplainer(LogisticRegression(), cv=3, random_state=0),
    ParallelCalibratedExplainer(DecisionTreeClassifier(max_depth=3), cv=3, random_state=0),
    ParallelCalibratedExplainer(LinearSVC(), cv=3, random_state=0),
    ParallelCalibratedExplainer(Ridge(), cv=3, random_state=0),
    ParallelCalibratedExplainer(LogisticRegression(), cv=3, ensemble=True, random_state=0),
    ParallelCalibratedExplainer(Ridge(), cv=3, ensemble=True, random_state=0),
    CalibratedByHand(LogisticRegression(), cv=None),
    CalibratedByHand(Ridge(), cv=None),
]
FRAMES = [ClassesOfFrames(LogisticRegression(), cv=3, random_state=0), OfFrames(Ridge(), cv=3)]


def expected_failures(explainer):
    """Checks that fail, and why."""
    exempt = isinstance(explainer, CalibratedByHand) or explainer.ensemble
    if not is_classifier(explainer) or exempt:
        return {}
    reason = "weights shape the model; calibration counts each row once, those of weight 0 as well"
    return {"check_classifiers_one_label_sample_weights": reason}


@parametrize_with_checks(EXPLAINERS, expected_failed_checks=expected_failures)
def test_estimator(estimator, check):
    check(estimator)


@parametrize_with_checks(FRAMES)
def test_estimator_of_frames(estimator, check):
    pytest.importorskip("pandas")
    check(estimator)
