"""ParallelCalibratedExplainer: remembers parameters and plans; functions elsewhere compute.

fit        rows --fold tasks--> out-of-fold scores, model --> calibrator, reference rows
calibrate  rows --model-------> scores -----------------> calibrator, reference rows
explain    rows --tiles-------> alternative predictions --> weights
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, MetaEstimatorMixin, is_classifier, is_regressor
from sklearn.frozen import FrozenEstimator
from sklearn.utils import get_tags
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from ce_parallel._explanations import Explanations
from ce_parallel._folds import FoldData, plan_folds, run_fold
from ce_parallel._plan import CalibratedModel, ExplanationPlan
from ce_parallel.calibration import (
    SUMMARIES,
    ConformalPredictiveSystem,
    InductiveVennAbers,
    check_percentiles,
)
from ce_parallel.exceptions import NotCalibratedError
from ce_parallel.executor import (
    ExecutionReport,
    ParallelConfig,
    ProgressHook,
    Workload,
    acquire_executor,
    observe,
)
from ce_parallel.executor._config import validate
from ce_parallel.rules import (
    MAX_DEPTH,
    TileShape,
    build_grid,
    explain_tile,
    fit_edges,
    make_tiles,
)
from ce_parallel.utils import (
    Columns,
    StrOptions,
    check_estimator,
    check_labels,
    check_sample_percentiles,
    draw_seed,
    estimator_scores,
    kept_features,
    two_classes,
    validated,
)

Floats = NDArray[np.float64]

# Decimals of calibration and of test scores, by `score_rounding`.
SCORE_DECIMALS = {"consistent": (4, 4), "oracle": (4, None)}

# What fit and calibrate leave behind, beside scikit-learn's own.
FITTED = (
    "estimator_",
    "classes_",
    "calibrator_",
    "execution_report_",
    "_columns",
    "_reference",
    "_model",
    "_plans",
)

# Guards the grids that explainers build when a kind is first asked for. One lock for all keeps
# explainers picklable.
_GRID_LOCK = threading.Lock()


@dataclass(frozen=True, eq=False)
class Reference:
    """Rows that cuts and perturbation values come from, and what the cuts should tell apart."""

    X: Floats
    target: NDArray[Any]


def _is_classifier(self: ParallelCalibratedExplainer) -> bool:
    return is_classifier(self.estimator)


def _is_regressor(self: ParallelCalibratedExplainer) -> bool:
    return is_regressor(self.estimator)


class ParallelCalibratedExplainer(MetaEstimatorMixin, BaseEstimator):
    """Calibrate a classifier or regressor, and explain its predictions by weighted rules.

    Binary classifiers are calibrated by inductive Venn-Abers prediction, regressors by a conformal
    predictive system. Each prediction is explained by rules on single features, whose weights
    carry the uncertainty of the calibration ("Calibrated Explanations"): Löfström et al. (2024),
    Expert Systems with Applications, 10.1016/j.eswa.2024.123154, and Löfström et al. (2025),
    Machine Learning 114:100, 10.1007/s10994-024-06642-8.

    Parameters
    ----------
    estimator : estimator
        A scikit-learn classifier with ``predict_proba``, or a regressor; a Pipeline or a
        `FrozenEstimator` around a fitted one are accepted.
    cv : int, splitter, iterable or None, default=5
        Folds whose out-of-fold scores calibrate the model that is refitted on all rows: an int
        (shuffled, seeded; stratified for classifiers) or anything that partitions the rows. With
        None, `fit` only fits and `calibrate` must be called.
    sample_percentiles : sequence of float, default=(25, 50, 75)
        Percentiles of the reference values of a region that stand for it.
    condition_source : {"prediction", "observed"}, default="prediction"
        What features are cut by: calibrated predictions of the reference rows, or their targets.
    interval_summary : {"regularized_mean", "mean", "lower", "upper"}, default="regularized_mean"
        How the two probabilities of Venn-Abers prediction become one.
    score_rounding : {"consistent", "oracle"}, default="consistent"
        Round scores to 4 decimals at calibration and prediction, or at calibration only, as
        calibrated-explanations 1.0.2 does.
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
    classes_ : ndarray of shape (2,)
        Class labels; the second one is the positive class. Classifiers only.
    calibrator_ : InductiveVennAbers or ConformalPredictiveSystem
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
        "condition_source": [StrOptions({"prediction", "observed"})],
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
        condition_source="prediction",
        interval_summary="regularized_mean",
        score_rounding="consistent",
        parallel_config=None,
        random_state=None,
        verbose=0,
    ):
        self.estimator = estimator
        self.cv = cv
        self.sample_percentiles = sample_percentiles
        self.condition_source = condition_source
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
            tags.classifier_tags.multi_class = False
            tags.classifier_tags.multi_label = False
        tags.target_tags.required = True
        tags.input_tags.allow_nan = inner.input_tags.allow_nan
        return tags

    def __sklearn_is_fitted__(self):
        return hasattr(self, "estimator_")

    # -- fit and calibrate ------------------------------------------------------------------

    def fit(self, X: Any, y: Any) -> ParallelCalibratedExplainer:
        """Fit the estimator on all rows and, unless ``cv=None``, calibrate it on folds.

        Parameters
        ----------
        X : array-like of shape (n, n_features)
            A frame reaches the estimator as it is. NaN is left for the estimator to judge.
        y : array-like of shape (n,)
            Two classes, or numbers.

        Returns
        -------
        ParallelCalibratedExplainer
            The explainer itself.

        Notes
        -----
        A `FrozenEstimator` is not fitted; all rows calibrate it.
        """
        self._validate_params()
        check_sample_percentiles(self.sample_percentiles)
        config = self._checked_config()
        self._forget()
        check_estimator(self.estimator)
        rows, numbers, y = validated(self, X, y, reset=True)
        if isinstance(self.estimator, FrozenEstimator):
            self._adopt_frozen(rows)
            return self if self.cv is None else self._freeze(numbers, y)
        if is_classifier(self.estimator):
            self.classes_ = two_classes(y)
        folds = list(
            plan_folds(
                self.cv,
                rows,
                y,
                classification=is_classifier(self.estimator),
                seed=draw_seed(self.random_state),
            )
        )
        data = FoldData(self.estimator, rows, y, self._positive)
        with self._watched(), acquire_executor(config) as executor:
            results = executor.map(
                run_fold, folds, shared=data, workload=Workload(name="fit", n_tasks=len(folds))
            )
            estimator = next(results)
            scores = np.empty(len(y))
            for fold, held_out_scores in zip(folds[1:], results, strict=True):
                scores[fold.held_out] = held_out_scores
        self.estimator_ = estimator
        self.execution_report_ = results.report
        self._columns = Columns.of(rows)
        return self if self.cv is None else self._freeze(numbers, y, scores)

    def calibrate(self, X: Any, y: Any) -> ParallelCalibratedExplainer:
        """Calibrate the fitted estimator on held-out rows; they become the reference rows.

        Parameters
        ----------
        X : array-like of shape (n, n_features)
            Rows that the estimator was not fitted on.
        y : array-like of shape (n,)
            Their targets. For a classifier, one class alone is legal.

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
        rows, numbers, y = validated(self, X, y, reset=first)
        if first:
            self._adopt_frozen(rows)
        return self._freeze(numbers, y)

    def _adopt_frozen(self, rows: Any) -> None:
        """Take a fitted estimator over as it is."""
        check_is_fitted(self.estimator)
        if is_classifier(self.estimator):
            self.classes_ = two_classes(self.estimator.classes_)
        self.estimator_ = self.estimator
        self._columns = Columns.of(rows)

    def _freeze(
        self, X: Floats, y: NDArray[Any], scores: Floats | None = None
    ) -> ParallelCalibratedExplainer:
        """Build the calibrator and the plan from reference rows and their scores."""
        classification = is_classifier(self.estimator)
        if classification:
            check_labels(y, self.classes_)
        if scores is None:  # of a copy: the reference rows stay what they are
            scores = estimator_scores(
                self.estimator_, self._columns.restore(X.copy()), self._positive
            )
        calibrator: InductiveVennAbers | ConformalPredictiveSystem
        if classification:
            for_calibration, for_test = SCORE_DECIMALS[self.score_rounding]
            calibrator = InductiveVennAbers.fit(
                scores,
                y == self._positive,
                calibration_decimals=for_calibration,
                test_decimals=for_test,
                summary=self.interval_summary,
            )
        else:
            calibrator = ConformalPredictiveSystem.fit(y - scores)
        target = y
        if self.condition_source == "prediction":
            target = calibrator.predict(scores)[0]
            if classification:
                target = target >= 0.5
        self.calibrator_ = calibrator
        self._reference = Reference(X, target)
        self._model = CalibratedModel(
            self.estimator_, self._columns, self.calibrator_, self._positive
        )
        self._plans: dict[str, ExplanationPlan] = {}
        return self

    def _forget(self) -> None:
        """Drop what an earlier fit left, so that a failing one leaves no mixture."""
        for name in FITTED:
            self.__dict__.pop(name, None)

    # -- predict ----------------------------------------------------------------------------

    def predict(self, X: Any) -> NDArray[Any]:
        """Predict the class with the higher calibrated probability, or the calibrated median.

        Parameters
        ----------
        X : array-like of shape (n, n_features)

        Returns
        -------
        ndarray of shape (n,)
            Class labels (a tie goes to the first class), or values in units of the target.
        """
        value = self._predict(X)[0]
        if is_regressor(self.estimator):
            return value
        return self.classes_[_both_classes(value).argmax(axis=1)]

    @available_if(_is_classifier)
    def predict_proba(self, X: Any) -> Floats:
        """Calibrated class probabilities of rows, ndarray of shape (n, 2)."""
        return _both_classes(self._predict(X)[0])

    @available_if(_is_classifier)
    def predict_proba_interval(self, X: Any) -> tuple[Floats, Floats, Floats]:
        """Calibrated class probabilities with their Venn-Abers bounds.

        Parameters
        ----------
        X : array-like of shape (n, n_features)

        Returns
        -------
        proba, low, high : ndarrays of shape (n, 2)
        """
        value, low, high = self._predict(X)
        return (
            _both_classes(value),
            np.column_stack([1 - high, low]),
            np.column_stack([1 - low, high]),
        )

    @available_if(_is_regressor)
    def predict_interval(self, X: Any, *, percentiles: tuple[float, float] = (5, 95)) -> Floats:
        """Percentiles of the conformal predictive distribution of each row.

        Parameters
        ----------
        X : array-like of shape (n, n_features)
        percentiles : pair of float
            ``0 < low <= 50 <= high < 100``; ``-inf`` or ``inf`` leave one end open.

        Returns
        -------
        ndarray of shape (n, 2)
            In units of the target. Infinite where an end is open, or where the calibration set is
            too small for the percentile.
        """
        return self._predict(X, percentiles=check_percentiles(percentiles))[1:].T

    def score(self, X: Any, y: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
        """Accuracy of a classifier, or R² of a regressor, after calibration."""
        from sklearn.metrics import accuracy_score, r2_score  # 50 ms to import

        metric = r2_score if is_regressor(self.estimator) else accuracy_score
        return float(metric(y, self.predict(X), sample_weight=sample_weight))

    def _predict(self, X: Any, **options: Any) -> Floats:
        model = self._calibrated()
        return model.predict(validated(self, X, reset=False)[1], **options)

    # -- explain ----------------------------------------------------------------------------

    def explain(
        self,
        X: Any,
        *,
        kind: str = "factual",
        percentiles: tuple[float, float] = (5, 95),
        features_to_ignore: ArrayLike | None = None,
    ) -> Explanations:
        """Explain the calibrated prediction of each row.

        Parameters
        ----------
        X : array-like of shape (n, n_features)
        kind : {"factual"}
            Factual rules say what the present value of each feature does to the prediction.
        percentiles : pair of float
            Regression: the interval that predictions and weights carry, as in `predict_interval`.
        features_to_ignore : array-like or None
            Features that get no rule: names, indices or a mask of shape (n_features,).

        Returns
        -------
        Explanations
        """
        plan = self._explaining_plan(kind)
        classification = is_classifier(self.estimator)
        percentiles = check_percentiles(percentiles)
        options = {} if classification else {"percentiles": percentiles}
        rows = validated(self, X, reset=False)[1]
        names = getattr(self, "feature_names_in_", [f"x{i}" for i in range(rows.shape[1])])
        features = kept_features(features_to_ignore, names)
        config = self._checked_config()
        with self._watched():
            base, weights, report = _explain_rows(plan, rows, features, options, config)
        self.execution_report_ = report
        value, low, high = base
        predicted = explained = None
        if classification:
            predicted = self.classes_[_both_classes(value).argmax(axis=1)]
            explained = np.repeat(self.classes_[1:], len(rows))
        return Explanations(
            prediction=value,
            prediction_low=low,
            prediction_high=high,
            weights=weights[0],
            weights_low=weights[2],
            weights_high=weights[1],
            X=rows,
            grid=plan.grid,
            feature_names=tuple(str(name) for name in names),
            predicted_class=predicted,
            explained_class=explained,
            percentiles=options.get("percentiles"),
            execution_report=report,
        )

    def explain_factual(self, X: Any, **options: Any) -> Explanations:
        """``explain(X, kind="factual", **options)``."""
        return self.explain(X, kind="factual", **options)

    def _calibrated(self) -> CalibratedModel:
        check_is_fitted(self)
        if not hasattr(self, "_model"):
            raise NotCalibratedError(
                f"This {type(self).__name__} is fitted but not calibrated. Call "
                "calibrate(X_cal, y_cal) with rows that it was not fitted on, or fit with cv=5."
            )
        return self._model

    def _explaining_plan(self, kind: str) -> ExplanationPlan:
        """Return the plan of `kind`; its grid is built when it is first asked for."""
        model = self._calibrated()
        if not isinstance(kind, str) or kind not in MAX_DEPTH:
            raise ValueError(f"kind must be one of {sorted(MAX_DEPTH)}. Got {kind!r} instead.")
        with _GRID_LOCK:
            if kind not in self._plans:
                reference = self._reference
                edges = fit_edges(
                    reference.X,
                    reference.target,
                    classification=is_classifier(self.estimator),
                    max_depth=MAX_DEPTH[kind],
                )
                grid = build_grid(reference.X, edges, self.sample_percentiles)
                self._plans[kind] = ExplanationPlan(model, grid)
            return self._plans[kind]

    # -- small things -----------------------------------------------------------------------

    @property
    def _positive(self) -> Any:
        """The class that scores speak of; None for regressors."""
        return self.classes_[1] if is_classifier(self.estimator) else None

    def _watched(self) -> AbstractContextManager[None]:
        return observe(*([ProgressHook()] if self.verbose else []))

    def _checked_config(self) -> ParallelConfig:
        return validate(ParallelConfig() if self.parallel_config is None else self.parallel_config)


def _explain_rows(
    plan: ExplanationPlan,
    rows: Floats,
    features: NDArray[np.int64],
    options: Mapping[str, Any],
    config: ParallelConfig,
) -> tuple[Floats, Floats, ExecutionReport]:
    """Run the tiles, and put their results where they belong.

    Returns
    -------
    base : ndarray of shape (3, n)
        Calibrated value, low and high.
    weights : ndarray of shape (3, n, n_features)
        Base value minus the alternatives' value, low and high; 0 where there is no alternative.
    report : ExecutionReport
    """
    shape = TileShape.of(plan.grid, features)
    if shape.nbytes > config.memory_budget_bytes:
        raise ValueError(
            f"memory_budget_bytes must be at least {shape.nbytes}, the size of one tile of these "
            f"data. Got {config.memory_budget_bytes}."
        )
    tiles = list(make_tiles(rows, shape, options))
    base = np.empty((3, len(rows)))
    weights = np.zeros((3, *rows.shape))
    workload = Workload(
        name="explain", n_tasks=len(tiles), payload_bytes=max(tile.rows.nbytes for tile in tiles)
    )
    with acquire_executor(config) as executor:
        results = executor.map(explain_tile, tiles, shared=plan, workload=workload)
        for result in results:
            here = slice(result.start, result.start + result.alternative.shape[1])
            if result.base is not None:
                base[:, here] = result.base
            weight = base[0, here, None] - result.alternative
            weight[np.isnan(weight)] = 0.0  # no alternative
            weights[:, here, result.features] = weight
    return base, weights, results.report


def _both_classes(positive: Floats) -> Floats:
    """Probabilities of both classes, shape (n, 2), from that of the positive one."""
    return np.column_stack([1 - positive, positive])
