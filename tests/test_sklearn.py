"""scikit-learn's own checks of an estimator."""

from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.tree import DecisionTreeClassifier
from sklearn.utils.estimator_checks import parametrize_with_checks

from ce_parallel import ParallelCalibratedExplainer

# Three folds: some checks fit ten rows, with fewer than five of one class.
EXPLAINERS = [
    ParallelCalibratedExplainer(LogisticRegression(), cv=3),
    ParallelCalibratedExplainer(DecisionTreeClassifier(max_depth=3), cv=3),
    ParallelCalibratedExplainer(Ridge(), cv=3),
    ParallelCalibratedExplainer(LogisticRegression(), cv=3, ensemble=True),
    ParallelCalibratedExplainer(Ridge(), cv=3, ensemble=True),
]


@parametrize_with_checks(EXPLAINERS)
def test_estimator(estimator, check):
    check(estimator)
