"""The cost model: what a map would take in each way, and which way that makes the choice.

`decide(workload, machine, config)` is a pure function of three records. For the n tasks of c
seconds that remain, on w workers, it compares

    serial      n c
    threads     start + calls d + n i + c (ceil(n / w) r + n (1 - r))
    processes   start + load + state + calls d + n (i + bytes) + c ceil(n / w)

(r: share of a task in which the GIL is released; d: dispatch of a call, i: of an item in it).
While processes start and load packages, the caller works: it is as if that many tasks were not
there. While it is still busy with an earlier task, nothing ends before that task does.

The three rules of the original design stay visible: threads need tasks that release the GIL and
at least 4 of them; processes need a payload under the threshold; else serial.
"""

import math
from dataclasses import dataclass, field, replace
from typing import Any

from ._config import ParallelConfig

MIN_TASKS_FOR_THREADS = 4
MIN_GIL_SHARE = 0.5  # below it two threads gained nothing on small calls
MARGIN = 1.08  # how much better than the next simpler way a prediction must be
MIN_SAVING_SECONDS = 0.005  # what workers may cost beyond any prediction; see bench_selection
HELP = 0.5  # speed of the caller while workers start beside it
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
    load_seconds : float
        Time a worker takes to import what the tasks need, 0 once it has.
    releases_gil : bool or float
        Whether, or for which share of their time, tasks release the GIL.
    name : str
        How logs call it.
    n_done : int, default=0
        How many of the tasks have run, or are running, in the caller.
    """

    n_tasks: int | None = None
    task_cost_seconds: float | None = None
    payload_bytes: int | None = None
    result_bytes: int | None = None
    shared_bytes: int | None = None
    load_seconds: float | None = None
    releases_gil: bool | float | None = None
    name: str | None = None
    n_done: int = 0

    @property
    def n_left(self) -> int:
        """Tasks that remain; a guess where the number is unknown."""
        return UNKNOWN_N_TASKS if self.n_tasks is None else max(0, self.n_tasks - self.n_done)


@dataclass(frozen=True)
class Machine:
    """What this process may use, and what things cost here, in seconds.

    The defaults were measured on a 2-core Linux machine by ``tests/benchmarks/bench_overhead.py``.
    What a pool of this process took to start and to answer replaces them (`_costs`).

    Parameters
    ----------
    cpus : int
        CPUs allowed to this process (affinity and cgroup quota).
    cap : int or None
        Workers allowed from outside, where CE_PARALLEL says so.
    has_gil : bool
        False on free-threaded Python: threads then run Python code in parallel.
    caller_busy : float
        Seconds for which the caller will be busy with an earlier task of the map.
    """

    cpus: int = 1
    cap: int | None = None
    has_gil: bool = True
    caller_busy: float = 0.0
    threads_start: float = 0.0005
    threads_dispatch: float = 40e-6
    threads_per_item: float = 0.5e-6
    processes_start: float = 0.5
    processes_dispatch: float = 200e-6
    processes_per_item: float = 1e-6
    per_byte: float = 3e-9
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
        Seconds the cost model expects of the whole map in each way. Steps 1 to 6 measure nothing
        beforehand: theirs is filled in when the map has ended, from what its tasks took.
    actual : float or None
        Seconds the map took, once it has ended.
    task_cost_seconds : float or None
        What the cost model took for the cost of one task.
    """

    strategy: str
    n_workers: int
    reason: str
    step: int = 7
    predicted: dict[str, float] = field(default_factory=dict)
    actual: float | None = None
    task_cost_seconds: float | None = None


def decide(workload: Workload, machine: Machine, config: ParallelConfig) -> Decision:
    """Choose by predicted cost (step 7).

    Parameters
    ----------
    workload : Workload
        Hints in `config` override it.
    machine : Machine
    config : ParallelConfig

    Returns
    -------
    Decision
    """
    w = with_hints(workload, config)
    n, cost = w.n_left, w.task_cost_seconds
    caps = [cap for cap in (config.max_workers, machine.cap) if cap is not None]
    allowed = min(caps, default=machine.cpus)
    workers = max(1, min(allowed, n))
    if cost is None:
        return Decision("serial", 1, "the cost of a task is not known")
    predicted = predict(w, machine, workers)

    def decision(strategy: str, why: str) -> Decision:
        reason = f"{n} task{'s' if n != 1 else ''} of {cost:.2g} s: {why}"
        n_workers = 1 if strategy == "serial" else workers
        return Decision(strategy, n_workers, reason, predicted=predicted, task_cost_seconds=cost)

    if allowed == 1:
        return decision("serial", "one worker is allowed")
    if n + bool(machine.caller_busy) < 2:
        return decision("serial", "nothing to share out")
    refused = _refusals(w, machine, config)
    best = "serial"
    for name in ("threads", "processes"):  # each costs more resources than those before it
        if name in refused:
            continue
        if predicted[name] * MARGIN + MIN_SAVING_SECONDS < predicted[best]:
            best = name
        elif best == "serial":
            refused[name] = f"{name} would save too little"
    if best == "serial":
        return decision("serial", "; ".join(refused.values()))
    gain = predicted["serial"] / predicted[best]
    return decision(best, f"{best} should be {gain:.1f} times as fast as serial")


def predict(w: Workload, machine: Machine, workers: int) -> dict[str, float]:
    """Return the predicted seconds of each strategy for what remains, on `workers` workers."""
    n, busy, cost = w.n_left, machine.caller_busy, w.task_cost_seconds or 0.0
    lanes = max(1, min(workers, machine.cpus))
    chunk = chunk_for(cost, n, workers)
    share = gil_share(w.releases_gil, machine)
    moved = (w.payload_bytes or 0) + (w.result_bytes or 0)
    thread_item = machine.threads_per_item + machine.threads_dispatch / chunk
    process_item = machine.processes_per_item + machine.processes_dispatch / chunk
    process_item += moved * machine.per_byte
    threads_start = 0.0 if machine.threads_warm else machine.threads_start
    process_start = 0.0 if machine.processes_warm else machine.processes_start
    process_start += w.load_seconds or 0.0
    helped = HELP * max(0.0, process_start - busy) / max(cost, 1e-9)
    left = max(0.0, n - helped)
    process_start += (w.shared_bytes or 0) * machine.per_byte
    serial = busy + n * cost
    threads = threads_start + n * thread_item
    threads += cost * (math.ceil(n / lanes) * share + n * (1.0 - share))
    processes = process_start + left * process_item + cost * math.ceil(left / lanes)
    return {
        "serial": serial,
        "threads": max(busy, threads),
        "processes": max(busy, processes) if left else serial,
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


def gil_share(releases_gil: bool | float | None, machine: Machine) -> float:
    """Return the share of time the GIL is released; unknown counts as never."""
    if not machine.has_gil:
        return 1.0
    return min(1.0, max(0.0, float(releases_gil or 0.0)))


def with_hints(workload: Workload, config: ParallelConfig) -> Workload:
    """Return `workload` with what the user said in `config`."""
    hints = {
        "task_cost_seconds": config.task_cost_hint_seconds,
        "payload_bytes": config.task_size_hint_bytes,
        "releases_gil": config.releases_gil,
    }
    given: dict[str, Any] = {k: v for k, v in hints.items() if v is not None}
    return replace(workload, **given)


def _refusals(w: Workload, machine: Machine, config: ParallelConfig) -> dict[str, str]:
    """Return the strategies that a rule excludes, with the rule in words."""
    refused = {}
    share = gil_share(w.releases_gil, machine)
    if share < MIN_GIL_SHARE:
        refused["threads"] = f"tasks hold the GIL (released {share:.0%} of the time)"
    elif w.n_left + w.n_done < MIN_TASKS_FOR_THREADS:
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
