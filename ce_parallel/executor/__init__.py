"""Run tasks in parallel: one facade, several strategies, a measured choice.

``_facade``      `ParallelExecutor`, `acquire_executor`: what users and callers hold
``_config``      `ParallelConfig` and the grammar of ``CE_PARALLEL``
``_precedence``  who decides on a strategy before anything is measured
``_selection``   the cost model: what each strategy would take
``_trial``       runs the first items in the caller and decides from what they cost
``_gil``         how far tasks release the GIL
``_costs``       what workers of this process cost, as measured
``_run``         a map's job, its serial run, the iterator users hold
``_engine``      a map's run on workers: order, look-ahead, cancellation
``_recovery``    what such a run does when workers die
``_gain``        whether threads that were chosen by measurement gain anything
``_submit``      runs one call
``_pool``        started strategies, kept warm, replaced when they break
``_transport``   what runs in a worker; everything is pickled to bytes there
``_broadcast``   sends functions and shared state to worker processes once
``_limits``      one inner BLAS/OpenMP thread per task
``_joblib_bridge``  joblib's tasks on our executor
``_metrics``     `ExecutionReport`, `TaskRecord`, `Hook`, `observe`
``_hooks``       log, progress, OpenTelemetry, Prometheus
``_timeline``    a report as a picture or a trace
``_registry``    names of strategies
``strategies``   one file per way of running calls
``testing``      `StrategyContract`, for authors of strategies

What crosses to a worker process::

    once per worker      func, shared        file -> read-only memory map (small: in the call)
    per call             items as bytes      ---->  run, time, pickle  ----> results as bytes

Nothing here knows what the tasks compute.
"""

from typing import TYPE_CHECKING

from .._lazy import lazy_imports

if TYPE_CHECKING:
    from ._config import ParallelConfig
    from ._facade import ParallelExecutor, acquire_executor
    from ._hooks import LoggingHook, OpenTelemetryHook, ProgressHook, PrometheusHook
    from ._joblib_bridge import parallel_backend, register_joblib_backend
    from ._metrics import ExecutionReport, Hook, TaskRecord, observe
    from ._run import MapIterator
    from ._selection import Decision, Machine, Workload, decide
    from ._timeline import TimelineDisplay
    from .strategies import (
        FuturesStrategy,
        JoblibBackendStrategy,
        ProcessPoolExecutorStrategy,
        SerialStrategy,
        Strategy,
        ThreadPoolExecutorStrategy,
    )

__all__ = [
    "Decision",
    "ExecutionReport",
    "FuturesStrategy",
    "Hook",
    "JoblibBackendStrategy",
    "LoggingHook",
    "Machine",
    "MapIterator",
    "OpenTelemetryHook",
    "ParallelConfig",
    "ParallelExecutor",
    "ProcessPoolExecutorStrategy",
    "ProgressHook",
    "PrometheusHook",
    "SerialStrategy",
    "Strategy",
    "TaskRecord",
    "ThreadPoolExecutorStrategy",
    "TimelineDisplay",
    "Workload",
    "acquire_executor",
    "decide",
    "observe",
    "parallel_backend",
    "register_joblib_backend",
]

__getattr__, __dir__ = lazy_imports(__name__, __file__)
