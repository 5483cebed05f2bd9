"""What `fit` is given beside X and y, with metadata routing and without it."""

import numpy as np
import pytest
import sklearn
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.datasets import make_classification
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import get_scorer
from sklearn.model_selection import GridSearchCV, GroupKFold, KFold
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import get_tags

from ce_parallel import ParallelCalibratedExplainer, explain_pipeline

STRATEGIES = ["serial", "threads", "processes", pytest.param("joblib", marks=pytest.mark.slow)]


def make(estimator, preferred="serial", **parameters):
    explainer = ParallelCalibratedExplainer(estimator, random_state=0, **parameters)
    return explainer.set_params(
        parallel_config__preferred=preferred, parallel_config__max_workers=2
    )


@pytest.fixture(scope="module")
def data():
    X, y = make_classification(120, 4, flip_y=0.2, random_state=0)
    weights = np.random.default_rng(0).exponential(size=120)
    return X, y, weights, np.arange(120) // 10


@pytest.fixture
def routing():
    with sklearn.config_context(enable_metadata_routing=True):
        yield


class Recorder(ClassifierMixin, BaseEstimator):
    """Keep what `fit` was given, and predict from nothing."""

    def fit(self, X, y, sample_weight=None, names=None, anything=None):
        self.given_ = X, sample_weight, names, anything
        self.classes_ = np.unique(y)
        self.n_features_in_ = X.shape[1]
        return self

    def predict_proba(self, X):
        X_fit, *_, seen = self.given_
        if seen is not None:
            seen.append((X_fit, *self.given_[1:3]))
        return np.full((len(X), 2), 0.5)


# -- without routing -----------------------------------------------------------------------------


def test_each_fold_gets_its_part_of_what_holds_one_entry_per_row(data):
    X, y, weights, _ = data
    X = X.copy()
    X[:, 0] = np.arange(120)
    names, seen = [f"row {i}" for i in range(120)], []
    explainer = make(Recorder(), cv=KFold(3))
    explainer.fit(X, y, sample_weight=weights, names=names, anything=seen)
    assert [len(X_fit) for X_fit, *_ in seen] == [80, 80, 80]
    seen.append(explainer.estimator_.given_[:3])
    for X_fit, weights_fit, names_fit in seen:
        rows = X_fit[:, 0].astype(int)
        np.testing.assert_array_equal(weights_fit, weights[rows])
        assert list(names_fit) == [names[i] for i in rows]
    assert len(seen[-1][0]) == 120


def test_weights_reach_folds_and_the_final_model(data):
    X, y, weights, _ = data
    explainer = make(LogisticRegression(), cv=KFold(3)).fit(X, y, sample_weight=weights)
    expected = LogisticRegression().fit(X, y, sample_weight=weights)
    np.testing.assert_array_equal(explainer.estimator_.coef_, expected.coef_)
    # Weights 0 and 1 are rows left out and kept, for the models but not for calibration.
    unweighted = make(LogisticRegression(), cv=KFold(3)).fit(X, y)
    assert (explainer.predict_proba(X) != unweighted.predict_proba(X)).any()
    ones = make(LogisticRegression(), cv=KFold(3)).fit(X, y, sample_weight=np.ones(120))
    np.testing.assert_array_equal(ones.predict_proba(X), unweighted.predict_proba(X))


def test_none_is_nothing(data):
    X, y, *_ = data
    make(KNeighborsClassifier(), cv=3).fit(X, y, sample_weight=None, groups=None)


@pytest.mark.parametrize("with_routing", [False, True])
def test_groups_go_to_the_splitter(with_routing, data):
    X, y, _, groups = data
    with sklearn.config_context(enable_metadata_routing=with_routing):
        explainer = make(LogisticRegression(), cv=GroupKFold(3)).fit(X, y, groups=groups)
    splits = list(GroupKFold(3).split(X, y, groups))
    expected = make(LogisticRegression(), cv=splits).fit(X, y)
    np.testing.assert_array_equal(explainer.predict_proba(X), expected.predict_proba(X))


def test_what_the_estimator_does_not_accept_is_refused_by_name(data):
    X, y, weights, _ = data
    with pytest.raises(
        TypeError, match=r"fit of KNeighborsClassifier\(\) does not accept \['sample_weight'\]"
    ):
        make(KNeighborsClassifier()).fit(X, y, sample_weight=weights)
    pipeline = make_pipeline(StandardScaler(), LogisticRegression())
    weighted = make(pipeline).fit(X, y, logisticregression__sample_weight=weights)
    assert (weighted.predict_proba(X) != make(pipeline).fit(X, y).predict_proba(X)).any()
    with pytest.raises(ValueError, match=r"Pipeline.fit does not accept the sample_weight"):
        make(pipeline).fit(X, y, sample_weight=weights)


# -- with routing --------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("preferred", STRATEGIES)
def test_routed_weights_in_every_strategy(preferred, data):
    X, y, weights, groups = data
    outside = make_pipeline(StandardScaler(), LogisticRegression())
    expected = make(outside, cv=GroupKFold(3)).fit(
        X, y, groups=groups, logisticregression__sample_weight=weights
    )
    with sklearn.config_context(enable_metadata_routing=True):
        inner = make_pipeline(
            StandardScaler().set_fit_request(sample_weight=False),
            LogisticRegression().set_fit_request(sample_weight=True),
        )
        explainer = make(inner, preferred, cv=GroupKFold(3))
        explainer.fit(X, y, sample_weight=weights, groups=groups)
        explanations = explainer.explain(X)
    assert explainer.execution_report_.strategy == preferred
    np.testing.assert_array_equal(explanations.weights, expected.explain(X).weights)


@pytest.mark.parametrize("preferred", STRATEGIES)
def test_workers_see_the_configuration_of_the_caller(preferred, data):
    X, y, *_ = data
    before = sklearn.get_config()
    with sklearn.config_context(assume_finite=True, working_memory=77):
        explainer = make(Configured(), preferred, cv=3).fit(X, y)
        explainer.explain(X)
    assert sklearn.get_config() == before
    assert explainer.execution_report_.strategy == preferred


class Configured(ClassifierMixin, BaseEstimator):
    """Checks the configuration wherever it is used."""

    def fit(self, X, y):
        self._look()
        self.classes_ = np.unique(y)
        return self

    def predict_proba(self, X):
        self._look()
        return np.tile([0.4, 0.6], (len(X), 1))

    def _look(self):
        config = sklearn.get_config()
        assert config["assume_finite"]
        assert config["working_memory"] == 77


@pytest.mark.usefixtures("routing")
def test_who_asks_for_nothing_gets_nothing(data):
    X, y, weights, groups = data
    with pytest.raises(ValueError, match=r"sample_weight.* not explicitly set as requested or not"):
        make(LogisticRegression()).fit(X, y, sample_weight=weights)
    with pytest.raises(TypeError, match=r"unexpected argument\(s\) .*groups"):
        make(LogisticRegression()).fit(X, y, groups=groups)


@pytest.mark.usefixtures("routing")
def test_a_generator_of_splits_survives_a_look_at_the_routing(data):
    X, y, *_ = data
    explainer = make(LogisticRegression(), cv=iter(list(KFold(3).split(X))))
    explainer.get_metadata_routing()
    explainer.fit(X, y)


@pytest.mark.usefixtures("routing")
def test_weights_groups_and_categories_in_a_search_over_a_pipeline(data):
    X, y, weights, groups = data
    model = LogisticRegression().set_fit_request(sample_weight=True)
    splitter = GroupKFold(3).set_split_request(groups=True)
    explainer = make(model, cv=splitter).set_fit_request(mondrian=True)
    explainer = explainer.set_predict_proba_request(mondrian=True)
    scaler = StandardScaler().set_fit_request(sample_weight=False)
    pipeline = make_pipeline(scaler, explainer)
    sex = np.arange(120) % 2
    search = GridSearchCV(
        pipeline,
        {"parallelcalibratedexplainer__estimator__C": [0.1, 1.0]},
        cv=GroupKFold(2),
        scoring=get_scorer("neg_log_loss").set_score_request(sample_weight=False),
        error_score="raise",
    ).fit(X, y, sample_weight=weights, groups=groups)
    Z = StandardScaler().fit_transform(X)
    expected = clone(search.best_estimator_[-1]).fit(Z, y, sample_weight=weights, groups=groups)
    np.testing.assert_array_equal(search.predict_proba(X), expected.predict_proba(Z))
    assert len(explain_pipeline(search.best_estimator_, X[:3])) == 3
    pipeline.fit(X, y, sample_weight=weights, groups=groups, mondrian=sex)
    expected.fit(Z, y, sample_weight=weights, groups=groups, mondrian=sex)
    np.testing.assert_array_equal(
        pipeline.predict_proba(X, mondrian=sex), expected.predict_proba(Z, mondrian=sex)
    )
    assert get_tags(pipeline).estimator_type == "classifier"
