"""Who decides on a strategy before anything is measured: steps 1 to 6 of the order of precedence.

    1  a strategy object or a live Executor in the config
    2  CE_PARALLEL=off
    3  CE_PARALLEL names a strategy
    4  the config names a strategy
    5  a joblib context that the user opened
    6  this is somebody else's worker, whose CPUs are shared out already

If none of them does, the cost model decides (step 7, `_selection`).
"""

import multiprocessing
import os
import sys
from dataclasses import dataclass
from typing import Any

import joblib
from joblib.parallel import ParallelBackendBase, SequentialBackend

from . import _limits
from ._config import ParallelConfig, read_environment
from ._registry import make_strategy
from ._selection import Decision
from .strategies import (
    FuturesStrategy,
    JoblibBackendStrategy,
    ProcessPoolExecutorStrategy,
    SerialStrategy,
    Strategy,
)


@dataclass(frozen=True)
class Choice:
    """A decision with the strategy object that carries it out."""

    decision: Decision
    strategy: Strategy


def asked_for(config: ParallelConfig) -> Choice | None:
    """Return what somebody has decided already (steps 1-6), else None."""
    directives = read_environment()
    preferred = config.preferred
    if not isinstance(preferred, str):
        strategy = preferred if isinstance(preferred, Strategy) else FuturesStrategy(preferred)
        return _choice(
            1, strategy, worker_cap(config), f"preferred={preferred!r} was passed as an object"
        )
    if directives.strategy == "off":
        return _choice(2, SerialStrategy(), 1, "CE_PARALLEL=off")
    named, step = directives.strategy, 3
    why = f"CE_PARALLEL names {named!r}"
    if named is None and preferred != "auto":
        named, step, why = preferred, 4, f"preferred={preferred!r}"
    if named == "serial":
        return _choice(step, SerialStrategy(), 1, why)
    if named not in (None, "auto"):
        cap = worker_cap(config)
        inside, share = _surroundings()
        if inside and share <= cap:  # also where they are equal: a worker cannot wait for itself
            cap, why = share, f"{why}, within the share of {inside}"
            if cap == 1:
                return _choice(step, SerialStrategy(), 1, why)
        return _choice(step, named_strategy(str(named), config), cap, why)
    return _joblib_context(config) or _somebody_elses_worker()


def named_strategy(name: str, config: ParallelConfig) -> Strategy:
    """Return the strategy called `name`, with what `config` says about it."""
    if name == "processes":
        return ProcessPoolExecutorStrategy(config.start_method)
    return make_strategy(name)


def worker_cap(config: ParallelConfig) -> int:
    """Return how many workers are allowed: CE_PARALLEL, then `max_workers`, then the CPUs.

    The environment may lower ``max_workers``, never raise it: that is a hard cap.
    """
    caps = [c for c in (config.max_workers, read_environment().workers) if c is not None]
    return min(caps) if caps else int(joblib.cpu_count())


def _choice(step: int, strategy: Strategy, workers: int, reason: str) -> Choice:
    n_workers = strategy.n_workers(workers)
    return Choice(Decision(strategy.name, n_workers, reason, step), strategy)


def _joblib_context(config: ParallelConfig) -> Choice | None:
    """Step 5: a joblib context that the user opened, at nesting level 0."""
    if _limits.in_worker():
        return None  # the context is ours
    backend, n_jobs = active_context()
    named = isinstance(backend, ParallelBackendBase)
    if not named and n_jobs is None:
        return None
    if is_ours(backend):  # unwrapped: entering it would only lead back here
        ours = backend.config_for(n_jobs or backend.default_n_jobs)
        choice = None if ours.preferred == "auto" else asked_for(ours)
        why = f"a joblib context is active ({type(backend).__name__})"
        return choice and _choice(5, choice.strategy, choice.decision.n_workers, why)
    if not named:
        backend, _ = joblib.parallel.get_active_backend()
    target = backend if named else _backend_name(backend)
    if backend.nesting_level not in (0, None):
        return None
    if n_jobs is None:
        n_jobs = config.max_workers or backend.default_n_jobs
        unset = ", whose n_jobs is unset" if config.max_workers is None else ""
    else:
        unset = ""
    caps = config.max_workers, read_environment().workers
    jobs = min(backend.effective_n_jobs(n_jobs), *(cap or sys.maxsize for cap in caps))
    why = f"a joblib context is active ({type(backend).__name__}, n_jobs={jobs}{unset})"
    if jobs == 1 or isinstance(backend, SequentialBackend):
        return _choice(5, SerialStrategy(), 1, why)
    return _choice(5, JoblibBackendStrategy(target), jobs, why)


def active_context() -> tuple[Any, int | None]:
    """Return the backend and the n_jobs of the joblib context, as far as they are set."""
    with joblib.parallel_config() as active:
        backend, n_jobs = active["backend"], active["n_jobs"]
    return backend, n_jobs if isinstance(n_jobs, int) else None


def is_ours(backend: Any) -> bool:
    """Say whether a joblib backend sends its work to an executor of ours."""
    return hasattr(backend, "executor_for")


def _backend_name(backend: ParallelBackendBase) -> Any:
    """Return the name joblib makes this kind of backend by, so that pools can be found again."""
    names = [name for name, cls in joblib.parallel.BACKENDS.items() if cls is type(backend)]
    return names[0] if names else backend


def _somebody_elses_worker() -> Choice | None:
    """Step 6: inside a worker, the CPUs are already shared out."""
    inside, _ = _surroundings()
    if not inside:
        return None
    return _choice(6, SerialStrategy(), 1, f"this is {inside}, whose CPUs are shared out already")


def _surroundings() -> tuple[str, int]:
    """Return whose worker this is ("" for nobody's) and the CPUs it may use."""
    if _limits.in_worker():
        return "a worker of ce_parallel", 1
    level = getattr(active_context()[0], "nesting_level", None) or 0
    if level > 0:
        inherited = os.environ.get("OMP_NUM_THREADS", "1")
        is_process = multiprocessing.parent_process() is not None
        share = int(inherited) if is_process and inherited.isdigit() else 1
        return "a joblib worker", max(1, share)
    if multiprocessing.current_process().daemon:
        return "a daemon process", 1
    if multiprocessing.parent_process() is not None:
        return "a child process", 1
    if "distributed" in sys.modules:
        from joblib._parallel_backends import inside_dask_worker

        if inside_dask_worker():
            return "a dask worker", 1
    return "", 0
