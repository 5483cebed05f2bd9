"""Calibrated, explained predictions, computed in parallel.

_explainer      ParallelCalibratedExplainer: fit, calibrate, predict, explain
_pipeline       explain_pipeline: explain with a Pipeline whose last step is an explainer
_throughput     explanation_throughput: a scorer for searches over parallel_config
_folds          fold tasks of fit
_bootstrap      replicates of the calibration and of the estimator, for stability bands
_plan           ExplanationPlan: frozen state that crosses to workers
_plans          the plans of one calibration, made when they are first asked for
_fast           a calibrator per feature, for fast explanations
_gather         runs the tiles of an explanation and gathers what came of them
_conjoin        joins the rules of explained rows, size by size
_explanations   Explanations: columnar results, one row's view, export
rules           cuts, perturbation grid, the kernel that explains a tile, rule text
calibration     inductive Venn-Abers, conformal predictive systems; arrays only
executor        ParallelExecutor and its strategies; knows nothing of explanations
plotting        Displays; need matplotlib
utils           validation, frames; the only private scikit-learn imports
exceptions      the error tree
_lazy           imports the names below when they are first used
"""

from typing import TYPE_CHECKING

from ce_parallel._lazy import lazy_imports
from ce_parallel._version import __version__

if TYPE_CHECKING:
    from ce_parallel._explainer import ParallelCalibratedExplainer
    from ce_parallel._explanations import Explanations
    from ce_parallel._pipeline import explain_pipeline
    from ce_parallel._throughput import explanation_throughput
    from ce_parallel.exceptions import (
        CancelledError,
        FallbackWarning,
        NotCalibratedError,
        StrategyError,
    )
    from ce_parallel.executor import (
        ExecutionReport,
        FuturesStrategy,
        Hook,
        JoblibBackendStrategy,
        ParallelConfig,
        ParallelExecutor,
        ProcessPoolExecutorStrategy,
        SerialStrategy,
        ThreadPoolExecutorStrategy,
        Workload,
        observe,
        parallel_backend,
        register_joblib_backend,
    )

__all__ = [
    "CancelledError",
    "ExecutionReport",
    "Explanations",
    "FallbackWarning",
    "FuturesStrategy",
    "Hook",
    "JoblibBackendStrategy",
    "NotCalibratedError",
    "ParallelCalibratedExplainer",
    "ParallelConfig",
    "ParallelExecutor",
    "ProcessPoolExecutorStrategy",
    "SerialStrategy",
    "StrategyError",
    "ThreadPoolExecutorStrategy",
    "Workload",
    "__version__",
    "explain_pipeline",
    "explanation_throughput",
    "observe",
    "parallel_backend",
    "register_joblib_backend",
]

__getattr__, __dir__ = lazy_imports(__name__, __file__)
