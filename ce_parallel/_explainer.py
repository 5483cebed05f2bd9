"""ParallelCalibratedExplainer: remembers parameters and plans; functions elsewhere compute.

fit        rows --fold tasks--> out-of-fold scores, model --> calibrator, reference rows
calibrate  rows --model-------> scores -----------------> calibrator, reference rows
explain    rows --tiles-------> alternative predictions --> weights
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import replace
from numbers import Integral
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, MetaEstimatorMixin, is_classifier, is_regressor
from sklearn.frozen import FrozenEstimator
from sklearn.utils import get_tags
from sklearn.utils.metadata_routing import MetadataRouter, MethodMapping
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from ce_parallel._explanations import Explanations
from ce_parallel._fast import Augmentation
from ce_parallel._folds import FoldData, plan_folds, run_fold
from ce_parallel._gather import explain_rows
from ce_parallel._plan import CalibratedModel, difficulty_of
from ce_parallel._plans import Plans, Reference
from ce_parallel.calibration import (
    NORMALIZATIONS,
    SUMMARIES,
    Calibration,
    Recipe,
    Rows,
    check_percentiles,
    check_threshold,
    reshape_scores,
)
from ce_parallel.exceptions import NotCalibratedError
from ce_parallel.executor import (
    ParallelConfig,
    ProgressHook,
    Workload,
    acquire_executor,
    observe,
)
from ce_parallel.executor._config import validate
from ce_parallel.rules import MAX_DEPTH, fit_categories
from ce_parallel.utils import (
    Columns,
    HasMethods,
    Interval,
    StrOptions,
    check_estimator,
    check_labels,
    check_sample_percentiles,
    classes_of,
    column_of,
    draw_seed,
    encoded,
    estimator_scores,
    in_config,
    kept_features,
    route_fit,
    score_verb,
    seed_of,
)

Floats = NDArray[np.float64]
Ints = NDArray[np.integer]

# Decimals of calibration and of test scores, by `score_rounding`.
SCORE_DECIMALS = {"consistent": (4, 4), "oracle": (4, None)}

# Kinds of explanations that `explain` gives.
KINDS = sorted([*MAX_DEPTH, "fast"])

# What fit and calibrate leave behind, beside scikit-learn's own.
FITTED = (
    "estimator_",
    "classes_",
    "calibrator_",
    "execution_report_",
    "_columns",
    "_categories",
    "_plans",
)


def _is_classifier(self: ParallelCalibratedExplainer) -> bool:
    return is_classifier(self.estimator)


def _is_regressor(self: ParallelCalibratedExplainer) -> bool:
    return is_regressor(self.estimator)


class ParallelCalibratedExplainer(MetaEstimatorMixin, BaseEstimator):
    """Calibrate a classifier or regressor, and explain its predictions by weighted rules.

    Classifiers are calibrated by inductive Venn-Abers prediction, several classes one against the
    rest; regressors by a conformal predictive system. Each prediction is explained by rules on
    single features, whose weights carry the uncertainty of the calibration ("Calibrated
    Explanations"): Löfström et al. (2024), Expert Systems with Applications,
    10.1016/j.eswa.2024.123154, and Löfström et al. (2025), Machine Learning 114:100,
    10.1007/s10994-024-06642-8.

    Parameters
    ----------
    estimator : estimator
        A scikit-learn classifier or regressor; a Pipeline or a `FrozenEstimator` around a fitted
        one are accepted. Of a classifier without ``predict_proba`` the ``decision_function`` is
        calibrated, of several classes one against the rest: only the order of scores matters.
    cv : int, splitter, iterable or None, default=5
        Folds whose out-of-fold scores calibrate the model that is refitted on all rows: an int
        (shuffled, seeded; stratified for classifiers) or anything that partitions the rows. With
        None, `fit` only fits and `calibrate` must be called.
    sample_percentiles : sequence of float, default=(25, 50, 75)
        Percentiles of the reference values of a region that stand for it.
    categorical_features : {"from_dtype"}, array-like or None, default="from_dtype"
        Features whose values are categories: names, indices or a mask. "from_dtype": category,
        string, object and bool columns of a frame.
    max_categories : int, default=32
        The most frequent categories of a feature are tried; a feature with more, most of whose
        values occur only once, gets no rule.
    condition_source : {"prediction", "observed"}, default="prediction"
        What features are cut by: calibrated predictions of the reference rows, or their targets.
    mondrian : str, int, callable or None, default=None
        Mondrian categories, within each of which calibration holds: a column (name or index), or a
        callable that returns labels of rows, array-like of shape (n,), when called with `X`.
    difficulty : object or None, default=None
        Its ``apply(X)`` returns how difficult rows are, array of shape (n,): positive for
        regressors, whose intervals become wider in proportion; from 0 to 1 for classifiers, whose
        probabilities are drawn towards one half (decision values have no such middle). For example
        a fitted crepes ``DifficultyEstimator``.
    normalization : {"scale", "simplex", "coherence", "none"}, default="scale"
        How probabilities of more than two classes are brought into line.
    interval_summary : {"regularized_mean", "mean", "lower", "upper"}, default="regularized_mean"
        How the two probabilities of Venn-Abers prediction become one.
    score_rounding : {"consistent", "oracle"}, default="consistent"
        Round probabilities to 4 decimals at calibration and prediction, or at calibration only, as
        calibrated-explanations 1.0.2 does. Decision values, of any scale, are not rounded.
    parallel_config : ParallelConfig or None, default=None
        How work is executed; None means the defaults. ``set_params(parallel_config__...)`` works
        in both cases.
    random_state : int, RandomState instance or None, default=None
        Seeds the shuffling of folds, and the ``random_state`` of clones where it is None.
    verbose : int, default=0
        1 shows how far `fit` and `explain` are, by tqdm where that is installed.

    Attributes
    ----------
    estimator_ : estimator
        The fitted estimator.
    classes_ : ndarray of shape (n_classes,)
        Class labels, ascending. Classifiers only.
    calibrator_ : calibrator
        Turns scores into value, low and high.
    n_features_in_ : int
    feature_names_in_ : ndarray of shape (n_features,)
        Only where `X` was a frame with string column names.
    execution_report_ : ExecutionReport
        How the last `fit` or `explain` was executed.

    Examples
    --------
    >>> from sklearn.datasets import load_breast_cancer
    >>> from sklearn.ensemble import RandomForestClassifier
    >>> X, y = load_breast_cancer(return_X_y=True, as_frame=True)
    >>> forest = RandomForestClassifier(20, random_state=0)
    >>> explainer = ParallelCalibratedExplainer(forest, random_state=0).fit(X[:-10], y[:-10])
    >>> explanations = explainer.explain(X[-10:])
    >>> explanations.weights.shape
    (10, 30)
    """

    _parameter_constraints: dict[str, list[Any]] = {
        "estimator": [BaseEstimator, object],
        "cv": ["cv_object"],
        "sample_percentiles": ["array-like"],
        "categorical_features": [StrOptions({"from_dtype"}), "array-like", None],
        "max_categories": [Interval(Integral, 1, None, closed="left")],
        "condition_source": [StrOptions({"prediction", "observed"})],
        "mondrian": [str, Integral, callable, None],
        "difficulty": [HasMethods("apply"), None],
        "normalization": [StrOptions(set(NORMALIZATIONS))],
        "interval_summary": [StrOptions(set(SUMMARIES))],
        "score_rounding": [StrOptions(set(SCORE_DECIMALS))],
        "parallel_config": [ParallelConfig, None],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        estimator,
        *,
        cv=5,
        sample_percentiles=(25, 50, 75),
        categorical_features="from_dtype",
        max_categories=32,
        condition_source="prediction",
        mondrian=None,
        difficulty=None,
        normalization="scale",
        interval_summary="regularized_mean",
        score_rounding="consistent",
        parallel_config=None,
        random_state=None,
        verbose=0,
    ):
        self.estimator = estimator
        self.cv = cv
        self.sample_percentiles = sample_percentiles
        self.categorical_features = categorical_features
        self.max_categories = max_categories
        self.condition_source = condition_source
        self.mondrian = mondrian
        self.difficulty = difficulty
        self.normalization = normalization
        self.interval_summary = interval_summary
        self.score_rounding = score_rounding
        self.parallel_config = parallel_config
        self.random_state = random_state
        self.verbose = verbose

    # -- scikit-learn's protocol ------------------------------------------------------------

    def set_params(self, **params):
        """Set parameters; ``parallel_config__*`` makes a `ParallelConfig` where there is none."""
        nested = any(key.startswith("parallel_config__") for key in params)
        if nested and params.get("parallel_config", self.parallel_config) is None:
            params["parallel_config"] = ParallelConfig()
        return super().set_params(**params)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        inner = get_tags(self.estimator)
        tags.estimator_type = inner.estimator_type
        tags.classifier_tags = inner.classifier_tags
        tags.regressor_tags = inner.regressor_tags
        if tags.classifier_tags is not None:
            tags.classifier_tags.multi_label = False
        tags.target_tags.required = True
        tags.input_tags.allow_nan = inner.input_tags.allow_nan
        return tags

    def get_metadata_routing(self):
        """Say who asks for which metadata: the explainer itself, the estimator and the splitter."""
        router = MetadataRouter(owner=type(self).__name__).add_self_request(self)
        router.add(
            estimator=self.estimator,
            method_mapping=MethodMapping().add(caller="fit", callee="fit"),
        )
        return router.add(
            splitter=self.cv if hasattr(self.cv, "split") else None,
            method_mapping=MethodMapping().add(caller="fit", callee="split"),
        )

    def __sklearn_is_fitted__(self):
        return hasattr(self, "estimator_")

    # -- fit and calibrate ------------------------------------------------------------------

    def fit(self, X: Any, y: Any, *, mondrian: ArrayLike | None = None, **fit_params: Any) -> Self:
        """Fit the estimator on all rows and, unless ``cv=None``, calibrate it on folds.

        Parameters
        ----------
        X : array-like of shape (n, n_features)
            A frame reaches the estimator as it is. NaN is left for the estimator to judge.
        y : array-like of shape (n,)
            Classes, or numbers.
        mondrian : array-like of shape (n,) or None, default=None
            Mondrian categories of the rows, instead of those of the parameter `mondrian`. Every
            other verb then needs them, too.
        **fit_params
            With metadata routing, what the estimator and the splitter `cv` request. Without it,
            ``groups`` goes to the splitter and everything else to the ``fit`` of the estimator. Of
            what holds one entry per row, such as ``sample_weight``, each fold gets its own part.

        Returns
        -------
        ParallelCalibratedExplainer
            The explainer itself.

        Notes
        -----
        A `FrozenEstimator` is not fitted; all rows calibrate it. Weights shape the model alone:
        calibration counts each row once.
        """
        self._validate_params()
        check_sample_percentiles(self.sample_percentiles)
        config = self._checked_config()
        self._forget()
        check_estimator(self.estimator)
        columns = Columns.of(X, self.categorical_features)
        rows, numbers, columns, y = encoded(self, X, y, columns=columns, reset=True)
        labels = self._mondrian_labels(X, len(y), mondrian)
        if isinstance(self.estimator, FrozenEstimator):
            self._adopt_frozen(columns)
            return self if self.cv is None else self._freeze(numbers, y, labels)
        if is_classifier(self.estimator):
            self.classes_ = classes_of(y)
        to_fit, to_split = route_fit(self, fit_params)
        folds = list(
            plan_folds(
                self.cv,
                rows,
                y,
                classification=is_classifier(self.estimator),
                seed=draw_seed(self.random_state),
                split_params=to_split,
            )
        )
        data = FoldData(self.estimator, rows, y, getattr(self, "classes_", None), to_fit)
        workload = Workload(name="fit", n_tasks=len(folds))
        with self._watched(), acquire_executor(config) as executor:
            results = executor.map(in_config(run_fold), folds, shared=data, workload=workload)
            estimator = next(results)
            scores = np.empty((len(y), *np.shape(getattr(self, "classes_", 0.0))))
            for fold, held_out_scores in zip(folds[1:], results, strict=True):
                scores[fold.held_out] = held_out_scores
        self.estimator_ = estimator
        self.execution_report_ = results.report
        self._columns = columns
        return self if self.cv is None else self._freeze(numbers, y, labels, scores)

    def calibrate(self, X: Any, y: Any, *, mondrian: ArrayLike | None = None) -> Self:
        """Calibrate the fitted estimator on held-out rows; they become the reference rows.

        Parameters
        ----------
        X : array-like of shape (n, n_features)
            Rows that the estimator was not fitted on.
        y : array-like of shape (n,)
            Their targets. For a classifier, some classes, or all but one, may be missing.
        mondrian : array-like of shape (n,) or None, default=None
            As in `fit`.

        Returns
        -------
        ParallelCalibratedExplainer
            The explainer itself.
        """
        self._validate_params()
        check_sample_percentiles(self.sample_percentiles)
        first = not hasattr(self, "estimator_")
        if first and not isinstance(self.estimator, FrozenEstimator):
            check_is_fitted(self)
        if first:
            check_estimator(self.estimator)
        columns = Columns.of(X, self.categorical_features) if first else self._columns
        _, numbers, columns, y = encoded(self, X, y, columns=columns, reset=first)
        labels = self._mondrian_labels(X, len(y), mondrian)
        if first:
            self._adopt_frozen(columns)
        self._columns = columns
        return self._freeze(numbers, y, labels)

    def _adopt_frozen(self, columns: Columns) -> None:
        """Take a fitted estimator over as it is."""
        check_is_fitted(self.estimator)
        if is_classifier(self.estimator):
            self.classes_ = classes_of(self.estimator.classes_)
        self.estimator_ = self.estimator
        self._columns = columns

    def _freeze(
        self,
        X: Floats,
        y: NDArray[Any],
        labels: NDArray[Any] | None,
        scores: Floats | None = None,
    ) -> Self:
        """Build the calibrator and the model from reference rows, with scores where there are."""
        classes = getattr(self, "classes_", None)
        if classes is not None:
            check_labels(y, classes)
        if scores is None:  # of a copy: the reference rows stay what they are
            scores = estimator_scores(self.estimator_, self._columns.restore(X.copy()), classes)
        decimals: tuple[int | None, int | None] = SCORE_DECIMALS[self.score_rounding]
        if score_verb(self.estimator_, classes) == "decision_function":
            decimals = None, None
            if self.difficulty is not None:
                raise ValueError(
                    "difficulty draws probabilities towards one half. Got an estimator that has "
                    f"decision values only, {self.estimator!r}. Wrap it in CalibratedClassifierCV."
                )
        difficulty = None
        if self.difficulty is not None:
            difficulty = difficulty_of(self.difficulty, X.copy())
            if classes is not None:
                scores, difficulty = reshape_scores(scores, difficulty), None
        self._categories, category = None, None
        if labels is not None:
            self._categories, category = np.unique(labels, return_inverse=True)
        known = Rows(category=category, difficulty=difficulty)
        calibration = Calibration(scores, y, known)
        recipe = Recipe(
            classes,
            decimals,
            self.interval_summary,
            self.normalization,
            seed_of(self.random_state),
        )
        self.calibrator_ = recipe.calibrator(calibration)
        target = y
        if self.condition_source == "prediction":
            target = self._conditions(scores, known)
        tried = fit_categories(
            X,
            self._columns.categorical,
            max_categories=self.max_categories,
            names=self._names(X.shape[1]),
        )
        model = CalibratedModel(
            self.estimator_, self._columns, self.calibrator_, classes, self.difficulty
        )
        reference = Reference(X, target, tried, self.sample_percentiles)
        self._plans = Plans(model, recipe, calibration, reference)
        return self

    def _conditions(self, scores: Floats, known: Rows) -> NDArray[Any]:
        """Calibrated predictions of the reference rows, which tell where features are cut."""
        if is_regressor(self.estimator):
            return self.calibrator_.predict(scores, known)[0]
        every = self.calibrator_.predict_all(scores, known)[0]
        return every[:, 1] >= 0.5 if every.shape[1] == 2 else every.argmax(axis=1)

    def _mondrian_labels(self, X: Any, n: int, labels: ArrayLike | None) -> NDArray[Any] | None:
        """Mondrian labels of rows: those given, else what the parameter makes of `X`."""
        if labels is None and self.mondrian is None:
            return None
        if labels is None:
            labels = self.mondrian(X) if callable(self.mondrian) else column_of(X, self.mondrian)
        labels = np.asarray(labels)
        if labels.shape != (n,):
            raise ValueError(f"mondrian must hold {n} labels, one per row. Got {labels.shape}.")
        return labels

    def _known(self, X: Any, n: int, mondrian: ArrayLike | None) -> Rows:
        """What is known of the rows of a query."""
        labels = self._mondrian_labels(X, n, mondrian)
        known = self._categories
        if known is None and labels is None:
            return Rows()
        if known is None or labels is None:
            raise ValueError(
                "mondrian labels must be given either in calibration and in every call, or never."
            )
        category = np.minimum(np.searchsorted(known, labels), len(known) - 1)
        unknown = np.unique(labels[known[category] != labels])
        if len(unknown):
            raise ValueError(
                f"mondrian must hold the categories of the calibration rows, {known.tolist()}. Got "
                f"{unknown.tolist()} as well."
            )
        return Rows(category=category)

    def _forget(self) -> None:
        """Drop what an earlier fit left, so that a failing one leaves no mixture."""
        for name in FITTED:
            self.__dict__.pop(name, None)

    # -- predict ----------------------------------------------------------------------------

    def predict(self, X: Any, *, mondrian: ArrayLike | None = None) -> NDArray[Any]:
        """Predict the class with the highest calibrated probability, or the calibrated median.

        Parameters
        ----------
        X : array-like of shape (n, n_features)
        mondrian : array-like of shape (n,) or None, default=None
            Mondrian categories of the rows, where calibration was given them.

        Returns
        -------
        ndarray of shape (n,)
            Class labels (a tie goes to the first class), or values in units of the target.
        """
        value = self._predict(X, mondrian)[0]
        return value if is_regressor(self.estimator) else self.classes_[value.argmax(axis=1)]

    @available_if(_is_classifier)
    def predict_proba(self, X: Any, *, mondrian: ArrayLike | None = None) -> Floats:
        """Calibrated class probabilities of rows, ndarray of shape (n, n_classes)."""
        return self._predict(X, mondrian)[0]

    @available_if(_is_classifier)
    def predict_proba_interval(
        self, X: Any, *, mondrian: ArrayLike | None = None
    ) -> tuple[Floats, Floats, Floats]:
        """Calibrated class probabilities with their Venn-Abers bounds.

        Parameters
        ----------
        X : array-like of shape (n, n_features)
        mondrian : array-like of shape (n,) or None, default=None
            As in `predict`.

        Returns
        -------
        proba, low, high : ndarrays of shape (n, n_classes)
        """
        value, low, high = self._predict(X, mondrian)
        return value, low, high

    @available_if(_is_regressor)
    def predict_interval(
        self,
        X: Any,
        *,
        percentiles: tuple[float, float] = (5, 95),
        mondrian: ArrayLike | None = None,
    ) -> Floats:
        """Percentiles of the conformal predictive distribution of each row.

        Parameters
        ----------
        X : array-like of shape (n, n_features)
        percentiles : pair of float
            ``0 < low <= 50 <= high < 100``; ``-inf`` or ``inf`` leave one end open.
        mondrian : array-like of shape (n,) or None, default=None
            As in `predict`.

        Returns
        -------
        ndarray of shape (n, 2)
            In units of the target. Infinite where an end is open, or where the calibration set is
            too small for the percentile.
        """
        return self._predict(X, mondrian, percentiles=check_percentiles(percentiles))[1:].T

    @available_if(_is_regressor)
    def predict_event(
        self, X: Any, threshold: Any, *, mondrian: ArrayLike | None = None
    ) -> tuple[Floats, Floats, Floats]:
        """Calibrated probability that the target is at most `threshold`, or within two bounds.

        Parameters
        ----------
        X : array-like of shape (n, n_features)
        threshold : float, pair of float, or sequence of either
            ``t`` for ``y <= t``, a tuple ``(t1, t2)`` for ``t1 < y <= t2``; or one of them per
            row, as a list or an array of shape (n,) or (n, 2).
        mondrian : array-like of shape (n,) or None, default=None
            As in `predict`.

        Returns
        -------
        proba, low, high : ndarrays of shape (n,)
        """
        plans = self._calibrated()
        events, event = check_threshold(threshold)
        numbers, model = self._read(X, plans.model_of(events))
        known = self._known(X, len(numbers), mondrian)
        value, low, high = model.predict(numbers, replace(known, event=_per_row(event, numbers)))
        return value, low, high

    def score(self, X: Any, y: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
        """Accuracy of a classifier, or R² of a regressor, after calibration."""
        from sklearn.metrics import accuracy_score, r2_score  # 50 ms to import

        metric = r2_score if is_regressor(self.estimator) else accuracy_score
        return float(metric(y, self.predict(X), sample_weight=sample_weight))

    def _predict(self, X: Any, mondrian: ArrayLike | None, **options: Any) -> Floats:
        """Calibrated value, low and high, of all classes for a classifier."""
        numbers, model = self._read(X, self._calibrated().model)
        known = self._known(X, len(numbers), mondrian)
        if model.classes is None:
            return model.predict(numbers, known, **options)
        return model.predict_all(numbers, known)

    def _read(self, X: Any, model: CalibratedModel) -> tuple[Floats, CalibratedModel]:
        """Return rows as numbers, and a model that knows every category among them."""
        _, numbers, columns = encoded(self, X, columns=model.columns, reset=False)
        return numbers, model if columns is model.columns else replace(model, columns=columns)

    # -- explain ----------------------------------------------------------------------------

    def explain(
        self,
        X: Any,
        *,
        kind: str = "factual",
        threshold: Any = None,
        percentiles: tuple[float, float] = (5, 95),
        labels: Any = None,
        features_to_ignore: ArrayLike | None = None,
        mondrian: ArrayLike | None = None,
        noise: str = "uniform",
        scale_factor: int = 5,
        severity: float = 1,
    ) -> Explanations:
        """Explain the calibrated prediction of each row.

        Parameters
        ----------
        X : array-like of shape (n, n_features)
        kind : {"factual", "alternative", "fast"}
            Factual rules say what the present value of each feature does to the prediction,
            alternative rules what the prediction would be elsewhere; fast ones weigh whole
            features, see `explain_fast`.
        threshold : float, pair of float, sequence of either, or None
            Regression: explain the probability of an event, as in `predict_event`.
        percentiles : pair of float
            Regression: the interval that predictions and weights carry, as in `predict_interval`.
        labels : label, array-like of shape (n,), "all" or None
            Classification: whose probability is explained, for all rows or one label per row;
            "all" explains every class of every row, one after the other. None: the positive class
            of two, the predicted one of several.
        features_to_ignore : array-like or None
            Features that get no rule: names, indices or a mask of shape (n_features,).
        mondrian : array-like of shape (n,) or None, default=None
            As in `predict`.
        noise, scale_factor, severity : str, int, float
            For ``kind="fast"`` alone, see `explain_fast`.

        Returns
        -------
        Explanations
        """
        plans = self._calibrated()
        classification = plans.model.classes is not None
        if not isinstance(kind, str) or kind not in KINDS:
            raise ValueError(f"kind must be one of {KINDS}. Got {kind!r} instead.")
        augmentation = Augmentation.of(noise, scale_factor, severity, kind=kind)
        percentiles = check_percentiles(percentiles)
        options = {} if classification or threshold is not None else {"percentiles": percentiles}
        events, event = self._events(threshold)
        numbers, model = self._read(X, plans.model)
        known = replace(self._known(X, len(numbers), mondrian), event=_per_row(event, numbers))
        explained = self._explained(labels, len(numbers))
        names = self._names(numbers.shape[1])
        features = kept_features(features_to_ignore, names)
        config = self._checked_config()
        with self._watched(), acquire_executor(config) as executor:
            plan: Any = (
                plans.fast_plan(augmentation, events, executor)
                if kind == "fast"
                else plans.plan(kind, events)
            )
            if model is not plans.model:  # it knows categories of these rows
                plan = replace(plan, model=replace(plan.model, columns=model.columns))
            found = explain_rows(
                plan, numbers, features, known, explained, options, executor, config
            )
        self.execution_report_ = found.report
        return found.explanations(
            kind=kind,
            feature_names=names,
            threshold=None if events is None else events[_event_of_each(event, numbers)],
            percentiles=options.get("percentiles"),
        )

    def explain_factual(self, X: Any, **options: Any) -> Explanations:
        """``explain(X, kind="factual", **options)``."""
        return self.explain(X, kind="factual", **options)

    def _calibrated(self) -> Plans:
        if not hasattr(self, "_plans"):
            check_is_fitted(self)
            raise NotCalibratedError(
                f"This {type(self).__name__} is fitted but not calibrated. Call "
                "calibrate(X_cal, y_cal) with rows that it was not fitted on, or fit with cv=5."
            )
        return self._plans

    def explore_alternatives(self, X: Any, **options: Any) -> Explanations:
        """``explain(X, kind="alternative", **options)``."""
        return self.explain(X, kind="alternative", **options)

    def explain_fast(
        self,
        X: Any,
        *,
        noise: str = "uniform",
        scale_factor: int = 5,
        severity: float = 1,
        **options: Any,
    ) -> Explanations:
        """Explain by one calibrator per feature: a weight is a look-up, and a row is scored once.

        Calibrator f is fitted on copies of the reference rows with noise on feature f. The weight
        of f is the calibrated prediction of the row, minus what calibrator f makes of its score.

        Parameters
        ----------
        X : array-like of shape (n, n_features)
        noise : {"uniform", "gaussian"}, default="uniform"
            What is added to the values of a numeric feature. Categories are permuted.
        scale_factor : int, default=5
            Copies of each reference row.
        severity : float, default=1
            Uniform noise reaches as many ranges of the feature to either side; gaussian noise has
            as many of its standard deviations.
        **options
            Others of `explain`.

        Returns
        -------
        Explanations
            Of kind "fast". A rule is the name of a feature, without a condition.

        Raises
        ------
        ValueError
            If one of the parameters is not what it should be.

        Notes
        -----
        The calibrators are built when they are first asked for, one task per feature, from
        `random_state` alone, and kept. Noisy rows are scored by `estimator_`. After ``fit(cv=5)``
        it has seen the reference rows, so their scores are better than those of new rows, while
        the calibrated prediction itself rests on out-of-fold scores: weights then contain that
        difference, also those of features that do not matter. Rows given to `calibrate` are free
        from it. A feature that is constant among the reference rows has weight 0, and so has a
        nearly unique categorical one (`max_categories`).

        There are `scale_factor` times as many rows, so that calibrator f is more certain of itself:
        Venn-Abers intervals become narrower and probabilities more extreme. Therefore a feature
        that does not matter has a small weight rather than none.

        Löfström et al. (2024), "Fast Calibrated Explanations", arXiv:2410.21129.
        """
        return self.explain(
            X, kind="fast", noise=noise, scale_factor=scale_factor, severity=severity, **options
        )

    def _events(self, threshold: Any) -> tuple[Floats | None, Ints | None]:
        if threshold is None:
            return None, None
        if is_classifier(self.estimator):
            raise ValueError(f"threshold is for regressors. Got {threshold!r} for a classifier.")
        return check_threshold(threshold)

    def _explained(self, labels: Any, n: int) -> Ints | None:
        """Numbers of the classes to explain, ndarray of shape (n, c); None for the usual one."""
        if labels is None:
            return None
        if is_regressor(self.estimator):
            raise ValueError("labels are for classifiers. Got some for a regressor.")
        if isinstance(labels, str) and labels == "all" and "all" not in self.classes_:
            return np.tile(np.arange(len(self.classes_)), (n, 1))
        wanted = np.full(n, labels) if np.ndim(labels) == 0 else np.asarray(labels)
        if wanted.shape != (n,):
            raise ValueError(f"labels must be one label, {n} labels or 'all'. Got {wanted.shape}.")
        check_labels(wanted, self.classes_, what="labels")
        return np.searchsorted(self.classes_, wanted)[:, None]

    def _names(self, n_features: int) -> tuple[str, ...]:
        names = getattr(self, "feature_names_in_", [f"x{i}" for i in range(n_features)])
        return tuple(map(str, names))

    def _watched(self) -> AbstractContextManager[None]:
        return observe(*([ProgressHook()] if self.verbose else []))

    def _checked_config(self) -> ParallelConfig:
        return validate(ParallelConfig() if self.parallel_config is None else self.parallel_config)


def _event_of_each(event: Ints | None, rows: Floats) -> Ints:
    """Return the number of the event of each row."""
    return np.zeros(len(rows), dtype=np.int64) if event is None else event


def _per_row(event: Ints | None, rows: Floats) -> Ints | None:
    """Check that there is an event per row, where there is not one for all."""
    if event is not None and len(event) != len(rows):
        raise ValueError(f"threshold must hold one event per row, {len(rows)}. Got {len(event)}.")
    return event
