"""Choose a strategy: what was asked for, else what a small cost model predicts.

    asked_for(config)                    steps 1-6: somebody has decided already
    decide(workload, machine, config)    step 7: a pure function of three records

The cost model compares, for n tasks of c seconds on w workers,

    serial      n c
    threads     start + n dispatch + c (ceil(n / w) r + n (1 - r))
    processes   start + state + n (dispatch + bytes) + c ceil(n / w)

(r: share of the time the GIL is released; dispatch is shared by the items of a chunk),

and the three rules of the original design stay visible in it: threads need tasks that release
the GIL and at least 4 of them; processes need a payload under the threshold; else serial.
"""

import math
import multiprocessing
import os
import sys
from dataclasses import dataclass, field, replace
from typing import Any

import joblib
from joblib.parallel import ParallelBackendBase, SequentialBackend

from . import _limits
from ._config import ParallelConfig, read_environment
from ._registry import make_strategy
from .strategies import (
    FuturesStrategy,
    JoblibBackendStrategy,
    ProcessPoolExecutorStrategy,
    SerialStrategy,
    Strategy,
)

MIN_TASKS_FOR_THREADS = 4
MIN_GIL_SHARE = 0.5  # below it two threads gained nothing on small calls
MARGIN = 1.08  # how much better than serial a prediction must be
UNKNOWN_N_TASKS = 100  # what an iterable of unknown length counts for
CHUNK_SECONDS = 0.03  # work per call that hides dispatch; see `chunk_for`
SMALL_TASK_SECONDS = 0.002
MAX_CHUNK = 1000  # bounds the look-ahead over endless iterables


@dataclass(frozen=True)
class Workload:
    """What is known about the tasks of a map; ``None`` means not known.

    Parameters
    ----------
    n_tasks : int
    task_cost_seconds : float
        Duration of one task in the caller.
    payload_bytes, result_bytes : int
        Pickled size of one item, and of one result.
    shared_bytes : int
        Size of the shared state, 0 once workers have it.
    releases_gil : bool or float
        Whether, or for which share of their time, tasks release the GIL.
    name : str
        How logs call it.
    """

    n_tasks: int | None = None
    task_cost_seconds: float | None = None
    payload_bytes: int | None = None
    result_bytes: int | None = None
    shared_bytes: int | None = None
    releases_gil: bool | float | None = None
    name: str | None = None


@dataclass(frozen=True)
class Machine:
    """What this process may use, and what things cost here, in seconds.

    The defaults were measured on a 2-core Linux machine; start-up of processes is replaced
    by what was measured in this process, once a pool has come up.
    """

    cpus: int = 1
    cap: int | None = None  # workers allowed from outside, where CE_PARALLEL says so
    threads_start: float = 0.0005
    threads_dispatch: float = 20e-6
    threads_per_item: float = 4e-6
    processes_start: float = 1.2
    processes_dispatch: float = 150e-6
    processes_per_item: float = 10e-6
    per_byte: float = 4e-9
    threads_warm: bool = False
    processes_warm: bool = False


@dataclass(frozen=True)
class Decision:
    """Which strategy, with how many workers, and why.

    Attributes
    ----------
    step : int
        Which step of the order of precedence decided, 1 to 7.
    predicted : dict of str to float
        Seconds the cost model expects of each alternative; empty for steps 1 to 6.
    actual : float or None
        Seconds the map took, once it has ended.
    """

    strategy: str
    n_workers: int
    reason: str
    step: int = 7
    predicted: dict[str, float] = field(default_factory=dict)
    actual: float | None = None

    def with_actual(self, seconds: float) -> "Decision":
        """Return this decision with what it really cost."""
        return replace(self, actual=seconds)


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
    if named not in (None, "auto"):
        cap = worker_cap(config)
        inside, share = _surroundings()
        if inside and share < cap:
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
    with joblib.parallel_config() as active:
        backend, n_jobs = active["backend"], active["n_jobs"]
    named = isinstance(backend, ParallelBackendBase)
    n_jobs = n_jobs if isinstance(n_jobs, int) else None
    if not named and n_jobs is None:
        return None
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
    with joblib.parallel_config() as active:
        level = getattr(active["backend"], "nesting_level", None) or 0
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


def decide(workload: Workload, machine: Machine, config: ParallelConfig) -> Decision:
    """Choose by predicted cost (step 7).

    Parameters
    ----------
    workload : Workload
        What remains to be done. Hints in `config` override it.
    machine : Machine
    config : ParallelConfig

    Returns
    -------
    Decision
    """
    w = _with_hints(workload, config)
    n = UNKNOWN_N_TASKS if w.n_tasks is None else w.n_tasks
    caps = [cap for cap in (config.max_workers, machine.cap) if cap is not None]
    workers = max(1, min(*caps, n) if caps else min(machine.cpus, n))
    if w.task_cost_seconds is None:
        return Decision("serial", 1, "the cost of a task is not known")
    predicted = predict(w, machine, n, workers)
    cost = f"{n} task{'s' if n > 1 else ''} of {w.task_cost_seconds:.2g} s"
    if workers == 1:
        why = "nothing to share out" if n == 1 else "one worker is allowed"
        return Decision("serial", 1, f"{cost}: {why}", predicted=predicted)
    refused = _refusals(w, config, n)
    best = min((name for name in predicted if name not in refused), key=predicted.__getitem__)
    if best != "serial" and predicted["serial"] < MARGIN * predicted[best]:
        refused[best] = f"{best} would save too little"
        best = "serial"
    if best == "serial":
        why = "; ".join(refused.values()) or "starting workers would cost more than it saves"
        return Decision("serial", 1, f"{cost}: {why}", predicted=predicted)
    gain = predicted["serial"] / predicted[best]
    reason = f"{cost}: {best} should be {gain:.1f} times as fast as serial"
    return Decision(best, workers, reason, predicted=predicted)


def predict(w: Workload, machine: Machine, n: int, workers: int) -> dict[str, float]:
    """Return the predicted seconds of each strategy, for `n` tasks on `workers` workers."""
    cost = w.task_cost_seconds or 0.0
    share = gil_share(w.releases_gil)
    waves = math.ceil(n / max(1, min(workers, machine.cpus)))
    calls = n / chunk_for(cost, n, workers)
    moved = (w.payload_bytes or 0) + (w.result_bytes or 0)
    threads_start = 0.0 if machine.threads_warm else machine.threads_start
    processes_start = 0.0 if machine.processes_warm else machine.processes_start
    return {
        "serial": n * cost,
        "threads": threads_start
        + calls * machine.threads_dispatch
        + n * machine.threads_per_item
        + cost * (waves * share + n * (1.0 - share)),
        "processes": processes_start
        + (w.shared_bytes or 0) * machine.per_byte
        + calls * machine.processes_dispatch
        + n * (machine.processes_per_item + moved * machine.per_byte)
        + cost * waves,
    }


def chunk_for(cost: float, n_tasks: int | None, workers: int) -> int:
    """Return how many items go into one call: 1 unless tasks are small.

    Small tasks are grouped to `CHUNK_SECONDS` of work, but so that every worker still gets
    a few calls.
    """
    if cost >= SMALL_TASK_SECONDS:
        return 1
    size = int(min(CHUNK_SECONDS / max(cost, 1e-7), MAX_CHUNK))
    if n_tasks is not None:
        size = min(size, math.ceil(n_tasks / (3 * workers)))
    return max(1, size)


def gil_share(releases_gil: bool | float | None) -> float:
    """Return the share of time the GIL is released; unknown counts as never."""
    return min(1.0, max(0.0, float(releases_gil or 0.0)))


def _with_hints(workload: Workload, config: ParallelConfig) -> Workload:
    hints = {
        "task_cost_seconds": config.task_cost_hint_seconds,
        "payload_bytes": config.task_size_hint_bytes,
        "releases_gil": config.releases_gil,
    }
    given: dict[str, Any] = {k: v for k, v in hints.items() if v is not None}
    return replace(workload, **given)


def _refusals(w: Workload, config: ParallelConfig, n: int) -> dict[str, str]:
    """Return the strategies that a rule excludes, with the rule in words."""
    refused = {}
    share = gil_share(w.releases_gil)
    if share < MIN_GIL_SHARE:
        refused["threads"] = f"tasks hold the GIL (released {share:.0%} of the time)"
    elif n < MIN_TASKS_FOR_THREADS:
        refused["threads"] = f"threads need at least {MIN_TASKS_FOR_THREADS} tasks"
    payload = w.payload_bytes or 0
    if payload > config.max_payload_bytes:
        refused["processes"] = (
            f"{payload} bytes per task exceed max_payload_bytes={config.max_payload_bytes}"
        )
    elif config.start_method in ("spawn", "forkserver"):
        refused["processes"] = (
            f"start_method={config.start_method!r} needs a __main__ guard, so it must be asked for"
        )
    return refused
