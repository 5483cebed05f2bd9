"""ParallelCalibratedExplainer: remembers parameters and plans; functions elsewhere compute.

fit        rows --fold tasks--> out-of-fold scores, model --> calibrator, reference rows
                                (ensemble: models         --> calibrators, merged)
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

from ce_parallel._bootstrap import BOOTSTRAPS, NewRows, Refitted, refit, rescore, run, seeds_of
from ce_parallel._explanations import Explanations
from ce_parallel._fast import Augmentation
from ce_parallel._folds import FoldData, HeldOut, plan_folds, run_fold
from ce_parallel._gather import explain_rows
from ce_parallel._plan import CalibratedModel, EnsembleModel, reshaped
from ce_parallel._plans import Plans, Reference
from ce_parallel.calibration import (
    NORMALIZATIONS,
    SUMMARIES,
    Calibration,
    Recipe,
    Rows,
    check_percentiles,
    check_threshold,
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
    check_present,
    check_sample_percentiles,
    classes_of,
    column_of,
    draw_seed,
    encoded,
    in_config,
    kept_features,
    route_fit,
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
    "estimators_",
    "classes_",
    "calibrator_",
    "execution_report_",
    "_columns",
    "_plans",
    "_refitted",
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
    ensemble : bool, default=False
        False: one model is fitted on all rows, and calibrated on the out-of-fold scores. True: the
        models of the folds are kept, each is calibrated on the rows that it has not seen, and what
        they predict is merged; folds may then overlap, or leave rows out. Predicting takes as many
        times longer as there are folds. Plays no part for a `FrozenEstimator`.
    n_bootstraps : int, default=0
        Bootstrap replicates, over which `Explanations.stability` says how much predictions and
        weights move. It is no part of the calibrated intervals. Not for fast explanations. All
        changed copies of a row are held at once.
    bootstrap : {"calibration", "estimator"}, default="calibration"
        What a replicate draws: the calibration rows, of each Mondrian category as many as there
        are, with the estimator as it is; or the rows of `fit`, of each class as many, which a
        clone is fitted on, calibrated on the rows that were not drawn. After `calibrate` the clones
        are calibrated on resampled rows of it. Cuts and perturbation values stay in both cases.
        Clones are single models, calibrated on fewer rows than the explainer: their band need not
        be centred on what it reports.
    sample_percentiles : sequence of float, default=(25, 50, 75)
        Percentiles of the reference values of a region that stand for it.
    categorical_features : {"from_dtype"}, array-like or None, default="from_dtype"
        Features whose values are categories: names, indices or a mask. "from_dtype": category,
        string, object and bool columns of a frame (pandas or Polars). A value that was never seen
        before reaches the estimator as it is, which may refuse it; its rule names it, with support
        0, and compares it with all categories that are tried.
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
        Seeds the shuffling of folds, the ``random_state`` of clones where it is None, the halves of
        the calibration rows for events, the noise of fast explanations, and bootstrap replicates.
    verbose : int, default=0
        1 shows how far `fit` and `explain` are, by tqdm where that is installed.

    Attributes
    ----------
    estimator_ : estimator
        The fitted estimator, unless there are several.
    estimators_ : list of estimators
        The fitted estimators of the folds. Only with ``ensemble=True``.
    classes_ : ndarray of shape (n_classes,)
        Class labels, ascending. Classifiers only.
    calibrator_ : calibrator
        Turns scores into value, low and high.
    n_features_in_ : int
    feature_names_in_ : ndarray of shape (n_features,)
        Only where `X` was a frame with string column names.
    execution_report_ : ExecutionReport
        How the folds of the last `fit`, or the blocks of the last `explain`, were executed. What
        is built once, bootstrap replicates and the calibrators of fast explanations, is not in it.

    Notes
    -----
    Parameters take effect at the next `fit` or `calibrate`.

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
        "ensemble": ["boolean"],
        "n_bootstraps": [Interval(Integral, 0, None, closed="left")],
        "bootstrap": [StrOptions(set(BOOTSTRAPS))],
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
        ensemble=False,
        n_bootstraps=0,
        bootstrap="calibration",
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
        self.ensemble = ensemble
        self.n_bootstraps = n_bootstraps
        self.bootstrap = bootstrap
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
        return hasattr(self, "estimator_") or hasattr(self, "estimators_")

    # -- fit and calibrate ------------------------------------------------------------------

    def fit(self, X: Any, y: Any, *, mondrian: ArrayLike | None = None, **fit_params: Any) -> Self:
        """Fit the estimator and, unless ``cv=None``, calibrate it on folds.

        Parameters
        ----------
        X : array-like of shape (n, n_features)
            A frame (pandas or Polars) reaches the estimator as it is. NaN is left for the
            estimator to judge.
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
        self._check_parameters()
        config = self._checked_config()
        self._forget()
        check_estimator(self.estimator)
        columns = Columns.of(X, self.categorical_features)
        rows, numbers, columns, y = encoded(self, X, y, columns=columns, reset=True)
        labels = self._mondrian_labels(X, len(y), mondrian)
        seed = draw_seed(self.random_state)
        to_fit, to_split = route_fit(self, fit_params)
        if isinstance(self.estimator, FrozenEstimator):
            self._adopt_frozen(columns)
            if self.cv is not None:
                model = self._uncalibrated(columns)
                self._take_up(self._calibrate(model, numbers, y, labels, seed))
            return self
        if is_classifier(self.estimator):
            self.classes_ = classes_of(y)
        folds = list(
            plan_folds(
                self.cv,
                rows,
                y,
                classification=is_classifier(self.estimator),
                ensemble=self.ensemble,
                seed=seed,
                split_params=to_split,
            )
        )
        data = FoldData(self.estimator, rows, y, getattr(self, "classes_", None), to_fit)
        workload = Workload(name="fit", n_tasks=len(folds))
        with self._watched(), acquire_executor(config) as executor:
            results = executor.map(in_config(run_fold), folds, shared=data, workload=workload)
            models, scores = zip(*results, strict=True)
            if self.bootstrap == "estimator" and self.n_bootstraps:
                self._refitted = run(refit, data, seeds_of(seed, self.n_bootstraps), executor)
        self.execution_report_ = results.report
        self._columns = columns
        if self.ensemble:
            self.estimators_ = list(models)
        else:
            self.estimator_ = models[0]
        if self.cv is not None:
            rows_of = [fold.held_out for fold in folds if fold.held_out is not None]
            found = [some for some in scores if some is not None]
            held_out = HeldOut.of(rows_of, found, merged=self.ensemble)
            model = self._uncalibrated(columns)
            self._take_up(self._calibrate(model, numbers, y, labels, seed, held_out))
        return self

    def calibrate(self, X: Any, y: Any, *, mondrian: ArrayLike | None = None) -> Self:
        """Calibrate the fitted estimator on held-out rows; they become the reference rows.

        Parameters
        ----------
        X : array-like of shape (n, n_features)
            Rows that the estimator was not fitted on. Of an ensemble, every model is calibrated
            on all of them.
        y : array-like of shape (n,)
            Their targets. For a classifier, some classes, or all but one, may be missing.
        mondrian : array-like of shape (n,) or None, default=None
            As in `fit`.

        Returns
        -------
        ParallelCalibratedExplainer
            The explainer itself.
        """
        self._check_parameters()
        first = not self.__sklearn_is_fitted__()
        if first and not isinstance(self.estimator, FrozenEstimator):
            check_is_fitted(self)
        if first:
            check_estimator(self.estimator)
        columns = Columns.of(X, self.categorical_features) if first else self._columns
        _, numbers, columns, y = encoded(self, X, y, columns=columns, reset=first)
        labels = self._mondrian_labels(X, len(y), mondrian)
        if first:
            self._adopt_frozen(columns)
        seed = draw_seed(self.random_state)
        self._take_up(self._calibrate(self._uncalibrated(columns), numbers, y, labels, seed))
        return self

    def _check_parameters(self) -> None:
        """Check what can be checked without data."""
        self._validate_params()
        check_sample_percentiles(self.sample_percentiles)
        frozen = isinstance(self.estimator, FrozenEstimator)
        if frozen and self.n_bootstraps and self.bootstrap == "estimator":
            raise ValueError("bootstrap='estimator' cannot refit a FrozenEstimator.")
        if self.ensemble and self.cv is None and not frozen:
            raise ValueError(
                "ensemble=True keeps the models of folds, and cv=None makes none. Use cv=5, or "
                "ensemble=False."
            )

    def _adopt_frozen(self, columns: Columns) -> None:
        """Take a fitted estimator over as it is."""
        check_is_fitted(self.estimator)
        if is_classifier(self.estimator):
            self.classes_ = classes_of(self.estimator.classes_)
        self.estimator_ = self.estimator
        self._columns = columns

    def _uncalibrated(self, columns: Columns) -> CalibratedModel:
        """The fitted estimator or estimators, without a calibrator."""
        known = columns, None, getattr(self, "classes_", None), self.difficulty
        if hasattr(self, "estimators_"):
            return EnsembleModel(tuple(self.estimators_), *known)
        return CalibratedModel(self.estimator_, *known)

    def _take_up(self, plans: Plans) -> None:
        """Speak from a new calibration from now on."""
        self.calibrator_ = plans.model.calibrator
        self._columns = plans.model.columns
        self._plans = plans

    def _calibrate(
        self,
        model: CalibratedModel,
        X: Floats,
        y: NDArray[Any],
        labels: NDArray[Any] | None,
        seed: int,
        held_out: HeldOut | None = None,
    ) -> Plans:
        """Calibrate a model on reference rows; without `held_out`, no estimator has seen them."""
        if model.classes is not None:
            check_labels(y, model.classes)
        anew = held_out is None
        if held_out is None:
            held_out = _scored(model, X)
        used = np.unique(held_out.row)  # an ensemble may leave some out
        row = np.searchsorted(used, held_out.row)
        X, y = X[used], y[used]
        categories, category = None, None
        if labels is not None:
            categories, category = np.unique(labels[used], return_inverse=True)
        known = Rows(category=category, difficulty=model.difficulty_of(X.copy()))
        rows = reshaped(Calibration(held_out.scores, y[row], known.take(row), held_out.fold), model)
        recipe = self._recipe(model, seed)
        model = replace(model, calibrator=recipe.calibrator(rows))
        target = y
        if self.condition_source == "prediction":
            target = _conditions(model, _by_row(model, rows, row), known)
        tried = fit_categories(
            X,
            model.columns.categorical,
            max_categories=self.max_categories,
            names=self._names(X.shape[1]),
        )
        refitted = self._clones(model, X, known, recipe.seed, anew=anew)
        return Plans(
            model,
            recipe,
            rows,
            Reference(X, target, tried, self.sample_percentiles),
            row,
            categories,
            self.n_bootstraps,
            [(one.estimator, one.calibration(model, y, known, used)) for one in refitted],
        )

    def _recipe(self, model: CalibratedModel, seed: int) -> Recipe:
        decimals: tuple[int | None, int | None] = SCORE_DECIMALS[self.score_rounding]
        if model.verb == "decision_function":
            decimals = None, None
            if self.difficulty is not None:
                raise ValueError(
                    "difficulty draws probabilities towards one half. Got an estimator that has "
                    f"decision values only, {self.estimator!r}. Wrap it in CalibratedClassifierCV."
                )
        if isinstance(self.random_state, Integral):  # as the reference does
            seed = int(self.random_state)
        return Recipe(model.classes, decimals, self.interval_summary, self.normalization, seed)

    def _clones(
        self, model: CalibratedModel, X: Floats, known: Rows, seed: int, *, anew: bool
    ) -> list[Refitted]:
        """Refitted estimators with the rows that calibrate them; `anew`: drawn from these rows."""
        if self.bootstrap != "estimator" or not self.n_bootstraps:
            return []
        found = getattr(self, "_refitted", [])[: self.n_bootstraps]
        if len(found) < self.n_bootstraps:
            raise ValueError(
                f"bootstrap='estimator' and n_bootstraps={self.n_bootstraps} need as many clones, "
                f"which fit makes. Got {len(found)} from the last fit: fit again."
            )
        if not anew:
            return found
        data = NewRows(model.columns.restore(X.copy()), known.category, model.classes)
        pairs = list(zip(found, seeds_of(seed, self.n_bootstraps), strict=True))
        with self._watched(), acquire_executor(self._checked_config()) as executor:
            return run(rescore, data, pairs, executor)

    def _mondrian_labels(self, X: Any, n: int, labels: ArrayLike | None) -> NDArray[Any] | None:
        """Mondrian labels of rows: those given, else what the parameter makes of `X`."""
        if labels is None and self.mondrian is None:
            return None
        if labels is None:
            labels = self.mondrian(X) if callable(self.mondrian) else column_of(X, self.mondrian)
        labels = np.asarray(labels)
        if labels.shape != (n,):
            raise ValueError(f"mondrian must hold {n} labels, one per row. Got {labels.shape}.")
        check_present(labels, "mondrian")
        return labels

    def _known(self, X: Any, n: int, mondrian: ArrayLike | None, plans: Plans) -> Rows:
        """What is known of the rows of a query."""
        labels = self._mondrian_labels(X, n, mondrian)
        known = plans.categories
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
        return value if value.ndim == 1 else self.classes_[value.argmax(axis=1)]

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
        known = self._known(X, len(numbers), mondrian, plans)
        value, low, high = model.predict(numbers, replace(known, event=_per_row(event, numbers)))
        return value, low, high

    def score(
        self,
        X: Any,
        y: ArrayLike,
        sample_weight: ArrayLike | None = None,
        *,
        mondrian: ArrayLike | None = None,
    ) -> float:
        """Accuracy of a classifier, or R² of a regressor, after calibration."""
        from sklearn.metrics import accuracy_score, r2_score  # 50 ms to import

        metric = r2_score if is_regressor(self.estimator) else accuracy_score
        labels = {} if mondrian is None else {"mondrian": mondrian}
        predicted = self.predict(X, **labels)
        return float(metric(y, predicted, sample_weight=sample_weight))

    def _predict(self, X: Any, mondrian: ArrayLike | None, **options: Any) -> Floats:
        """Calibrated value, low and high, of all classes for a classifier."""
        plans = self._calibrated()
        numbers, model = self._read(X, plans.model)
        known = self._known(X, len(numbers), mondrian, plans)
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
        known = self._known(X, len(numbers), mondrian, plans)
        known = replace(known, event=_per_row(event, numbers))
        explained = self._explained(labels, len(numbers))
        names = self._names(numbers.shape[1])
        features = kept_features(features_to_ignore, names)
        config = self._checked_config()
        with self._watched(), acquire_executor(config) as executor:
            plan: Any = (
                plans.fast_plan(augmentation, events, executor)
                if kind == "fast"
                else plans.plan(kind, events, executor)
            )
            if model is not plans.model:  # it knows categories of these rows
                plan = plan.knowing(model.columns)
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
        `random_state` alone, and kept. Noisy rows are scored by `estimator_`, or in an ensemble by
        the models that have not seen them. After ``fit(cv=5)`` without `ensemble`, `estimator_`
        has seen the reference rows, so their scores are better than those of new rows, while
        the calibrated prediction itself rests on out-of-fold scores: weights then contain that
        difference, also those of features that do not matter. Rows given to `calibrate` are free
        from it. A feature that is constant among the reference rows has weight 0, and so has a
        nearly unique categorical one (`max_categories`).

        There are `scale_factor` times as many rows, so that calibrator f is more certain of itself:
        Venn-Abers intervals become narrower and probabilities more extreme. Therefore a feature
        that does not matter has a small weight rather than none. For a regressor without difficulty
        and Mondrian categories, a weight is the same for every row.

        Löfström et al. (2024), "Fast Calibrated Explanations", arXiv:2410.21129.
        """
        return self.explain(
            X, kind="fast", noise=noise, scale_factor=scale_factor, severity=severity, **options
        )

    def _calibrated(self) -> Plans:
        if not hasattr(self, "_plans"):
            check_is_fitted(self)
            raise NotCalibratedError(
                f"This {type(self).__name__} is fitted but not calibrated. Call "
                "calibrate(X_cal, y_cal) with rows that it was not fitted on, or fit with cv=5."
            )
        return self._plans

    def _events(self, threshold: Any) -> tuple[Floats | None, Ints | None]:
        if threshold is None:
            return None, None
        if self._plans.model.classes is not None:
            raise ValueError(f"threshold is for regressors. Got {threshold!r} for a classifier.")
        return check_threshold(threshold)

    def _explained(self, labels: Any, n: int) -> Ints | None:
        """Numbers of the classes to explain, ndarray of shape (n, c); None for the usual one."""
        if labels is None:
            return None
        if self._plans.model.classes is None:
            raise ValueError("labels are for classifiers. Got some for a regressor.")
        if isinstance(labels, str) and labels == "all" and "all" not in self.classes_:
            return np.tile(np.arange(len(self.classes_)), (n, 1))
        wanted = np.full(n, labels) if np.ndim(labels) == 0 else np.asarray(labels)
        if wanted.shape != (n,):
            raise ValueError(f"labels must be one label, {n} labels or 'all'. Got {wanted.shape}.")
        check_present(wanted, "labels")
        check_labels(wanted, self.classes_, what="labels")
        return np.searchsorted(self.classes_, wanted)[:, None]

    def _names(self, n_features: int) -> tuple[str, ...]:
        names = getattr(self, "feature_names_in_", [f"x{i}" for i in range(n_features)])
        return tuple(map(str, names))

    def _watched(self) -> AbstractContextManager[None]:
        return observe(*([ProgressHook()] if self.verbose else []))

    def _checked_config(self) -> ParallelConfig:
        return validate(ParallelConfig() if self.parallel_config is None else self.parallel_config)


def _conditions(model: CalibratedModel, scores: Floats, known: Rows) -> NDArray[Any]:
    """Calibrated predictions of the reference rows, which tell where features are cut."""
    if model.classes is None:
        values: Floats = model.calibrator.predict(scores, known)[0]
        return values
    every = model.calibrator.predict_all(scores, known)[0]
    return every[:, 1] >= 0.5 if every.shape[1] == 2 else every.argmax(axis=1)


def _scored(model: CalibratedModel, X: Floats) -> HeldOut:
    """Score rows that no estimator has seen by all of them."""
    scores = model.score(X.copy())  # of a copy: the reference rows stay what they are
    rows = np.arange(len(X))
    if not isinstance(model, EnsembleModel):
        return HeldOut(scores, rows)
    folds = range(model.n_estimators)
    return HeldOut.of([rows] * len(folds), [scores[:, k] for k in folds], merged=True)


def _by_row(model: CalibratedModel, rows: Calibration, row: Ints) -> Floats:
    """Scores of reference rows as the calibrator wants them; NaN where a fold has seen the row."""
    if rows.fold is None:
        return rows.scores
    table = np.full((row.max() + 1, *model.score_shape), np.nan)
    table[row, rows.fold] = rows.scores
    return table


def _event_of_each(event: Ints | None, rows: Floats) -> Ints:
    """Return the number of the event of each row."""
    return np.zeros(len(rows), dtype=np.int64) if event is None else event


def _per_row(event: Ints | None, rows: Floats) -> Ints | None:
    """Check that there is an event per row, where there is not one for all."""
    if event is not None and len(event) != len(rows):
        raise ValueError(f"threshold must hold one event per row, {len(rows)}. Got {len(event)}.")
    return event
