"""What happened in a map: task records, the report, and what a hook is.

    engine --add/fallback--> ExecutionReport --calls--> Hook.on_* (parent process only)

Totals are exact. Details are sampled: beyond `MAX_RECORDS` every second record is dropped
and only every second (then fourth, ...) task is kept, so memory stays bounded.
"""

import contextlib
import logging
import os
import time
import warnings
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from . import _costs
from ._selection import Decision, Workload, predict

if TYPE_CHECKING:
    import pandas as pd

    from ._timeline import TimelineDisplay

MAX_RECORDS = 4096
FAR = 2.0  # times longer or shorter than predicted is worth a line in the log
FAR_SECONDS = 0.05
_logger = logging.getLogger("ce_parallel")


class TaskRecord(NamedTuple):
    """One task: the number of its item; times in seconds, `start` from the map call."""

    item: int
    start: float
    queue_wait: float
    run_time: float
    worker: str
    payload_bytes: int
    result_bytes: int


class TaskBlock(NamedTuple):
    """Tasks that travelled together: numbers of their items, and what they have in common."""

    items: range
    starts: Sequence[float]
    ends: Sequence[float]
    submitted: float | None
    worker: str
    payload_bytes: int
    result_bytes: int

    def thinned(self, stride: int) -> "TaskBlock":
        """Keep the items that `stride` divides; the step of `items` must divide it."""
        every = stride // self.items.step
        kept = slice(-self.items.start % stride // self.items.step, None, every)
        return self._replace(items=self.items[kept], starts=self.starts[kept], ends=self.ends[kept])

    def records(self, begun: float) -> Iterator[TaskRecord]:
        """Yield a record of each task of a map that began then."""
        times = zip(self.items, self.starts, self.ends, strict=True)
        for item, start, end in times:
            wait = 0.0 if self.submitted is None else max(0.0, start - self.submitted)
            sizes = self.payload_bytes, self.result_bytes
            yield TaskRecord(item, start - begun, wait, end - start, self.worker, *sizes)


class Hook:
    """Watch maps: override what you need. A hook that raises is dropped with a warning.

    Hooks run in the parent process: in the thread that takes a map's results; for joblib's calls,
    in a thread of the executor, which they hold up. Maps in several threads may call one hook at
    the same time; the report tells them apart.

    Examples
    --------
    >>> class Count(Hook):
    ...     n = 0
    ...     def on_task_done(self, report, record):
    ...         self.n += 1
    >>> from ce_parallel.executor import ParallelExecutor, observe
    >>> count = Count()
    >>> with observe(count), ParallelExecutor() as executor:
    ...     _ = list(executor.map(abs, [-1, 2]))
    >>> count.n
    2
    """

    def on_map_start(self, report: "ExecutionReport") -> None:
        """Watch a map begin, after its strategy was decided."""

    def on_task_done(self, report: "ExecutionReport", record: TaskRecord) -> None:
        """Watch a result being delivered (in order)."""

    def on_fallback(self, report: "ExecutionReport", reason: str) -> None:
        """Watch work go on in another way than decided."""

    def on_map_end(self, report: "ExecutionReport") -> None:
        """Watch a map end: exhausted, failed, cancelled or closed."""


_observers: ContextVar[tuple[Hook, ...]] = ContextVar("ce_parallel_observers", default=())


@contextlib.contextmanager
def observe(*hooks: Hook) -> Iterator[None]:
    """Let `hooks` watch every map started in this context, however deep."""
    token = _observers.set(_observers.get() + hooks)
    try:
        yield
    finally:
        _observers.reset(token)


def observers() -> tuple[Hook, ...]:
    """Return the hooks of the surrounding `observe` blocks."""
    return _observers.get()


class ExecutionReport:
    """What one map decided and did; readable while it runs.

    Totals are exact. Of the tasks, up to 4,096 records are kept, an even sample.

    Attributes
    ----------
    name : str
        What ran: the workload's name, else the function's.
    n_expected : int or None
        How many tasks there are in all, where that is known.
    started_at : float
        When the map was called, in seconds since the epoch.
    n_tasks : int
        Tasks done whose results are delivered, or next in line in the call they came with.
    is_complete : bool
        Whether every result was delivered.
    away : float
        Seconds between results that were asked for, when workers ran: the consumer's own.
    busy_time : float
        Seconds spent in tasks, over all workers.
    fallbacks : list of str
        Why work went on in another way than decided; empty when all went well.
    payload_bytes, result_bytes : int
        Pickled size of the items on their way to workers, and of results on their way back.
    """

    def __init__(
        self,
        decision: Decision,
        hooks: Sequence[Hook] = (),
        *,
        name: str = "map",
        n_expected: int | None = None,
    ) -> None:
        self._decision = decision
        self.name = name
        self.n_expected = n_expected
        self.started_at = time.time()
        self.is_complete = False
        self.away = 0.0
        self.n_tasks = 0
        self.busy_time = 0.0
        self.fallbacks: list[str] = []
        self._blocks: list[TaskBlock] = []
        self._n_kept = 0
        self.payload_bytes = 0
        self.result_bytes = 0
        self._hooks = list(hooks)
        self._stride = 1
        self._begun = time.perf_counter()
        self._ended: float | None = None

    @property
    def decision(self) -> Decision:
        """Strategy, number of workers, the reason, and predicted and actual seconds."""
        if self._ended and self.n_tasks and not self._decision.predicted:
            self._decision = replace(self._decision, predicted=self._hindsight())
        return self._decision

    @property
    def records(self) -> list[TaskRecord]:
        """Every task of a small map, an even sample of a large one."""
        return [record for block in self._blocks for record in block.records(self._begun)]

    @property
    def strategy(self) -> str:
        """Name of the strategy that was chosen."""
        return self._decision.strategy

    @property
    def n_workers(self) -> int:
        """Number of workers that was chosen."""
        return self._decision.n_workers

    @property
    def wall_time(self) -> float:
        """Seconds from the map call to its end, or to now."""
        return (self._ended or time.perf_counter()) - self._begun

    @property
    def utilization(self) -> float:
        """Share of the workers' time spent in tasks, between 0 and 1."""
        return min(1.0, self.busy_time / (self.wall_time * self.n_workers or 1.0))

    @property
    def speedup_estimate(self) -> float:
        """Seconds in tasks per second of wall time: near `n_workers` is as good as it gets.

        Tasks that slow one another down look busier than they would be alone.
        """
        return self.busy_time / (self.wall_time or 1.0)

    @property
    def queue_wait(self) -> dict[str, float]:
        """Quantiles of the seconds tasks waited for a worker: "p50", "p90" and "max"."""
        return _quantiles([record.queue_wait for record in self.records])

    @property
    def run_time(self) -> dict[str, float]:
        """Quantiles of the seconds tasks ran: "p50", "p90" and "max"."""
        return _quantiles([record.run_time for record in self.records])

    def to_dict(self) -> dict[str, Any]:
        """Return everything but the records, as plain Python values."""
        return {
            "name": self.name,
            "started_at": self.started_at,
            "decision": asdict(self.decision),
            "strategy": self.strategy,
            "n_workers": self.n_workers,
            "n_tasks": self.n_tasks,
            "wall_time": self.wall_time,
            "busy_time": self.busy_time,
            "utilization": self.utilization,
            "speedup_estimate": self.speedup_estimate,
            "queue_wait": self.queue_wait,
            "run_time": self.run_time,
            "payload_bytes": self.payload_bytes,
            "result_bytes": self.result_bytes,
            "fallbacks": list(self.fallbacks),
        }

    def to_frame(self) -> "pd.DataFrame":
        """Return the records as a pandas DataFrame, one row per (sampled) task."""
        import pandas as pd

        return pd.DataFrame(self.records, columns=list(TaskRecord._fields))

    def plot_timeline(self, ax: Any = None) -> "TimelineDisplay":
        """Draw which worker ran which task when; returns a `TimelineDisplay`."""
        from ._timeline import TimelineDisplay

        return TimelineDisplay.from_report(self).plot(ax)

    def to_chrome_trace(self, path: "str | os.PathLike[str]") -> None:
        """Write the records as a trace that https://ui.perfetto.dev and chrome://tracing open."""
        from ._timeline import write_chrome_trace

        write_chrome_trace(self, path)

    def __str__(self) -> str:
        wait, run = self.queue_wait, self.run_time
        lines = [
            f"{self.name}: {self.n_tasks} task{'s' if self.n_tasks != 1 else ''} in "
            f"{self.wall_time:.3g} s by {self.strategy}, "
            f"{self.n_workers} worker{'s' if self.n_workers != 1 else ''}",
            f"  because {self.decision.reason}",
            f"  busy {self.busy_time:.3g} s: utilization {self.utilization:.0%}, "
            f"speed-up at most {self.speedup_estimate:.2g}",
            f"  a task ran {run['p50']:.2g} s (p90 {run['p90']:.2g}, max {run['max']:.2g}), "
            f"after waiting {wait['p50']:.2g} s (p90 {wait['p90']:.2g}, max {wait['max']:.2g})",
        ]
        if self.payload_bytes or self.result_bytes:
            lines.append(f"  sent {self.payload_bytes:,} bytes, got {self.result_bytes:,} bytes")
        lines += [f"  fell back: {reason}" for reason in self.fallbacks]
        return "\n".join(lines)

    def __repr__(self) -> str:
        return f"<ExecutionReport: {str(self).splitlines()[0]}>"

    # What follows is called by the engine.

    def begin(self, decision: Decision) -> None:
        """Tell the hooks that the map starts as decided."""
        self._decision = decision
        self._tell("on_map_start")

    def note(self, reason: str) -> None:
        """Add to the decision's reason what was found out later."""
        self.revise(replace(self._decision, reason=f"{self._decision.reason}, {reason}"))

    def revise(self, decision: Decision) -> None:
        """Replace the decision by a later one."""
        self._decision = decision
        _logger.info("%s", decision.reason)

    def add(
        self,
        first: int,
        ticks: Sequence[float],
        submitted: float | None = None,
        worker: str = "caller",
        payload_bytes: int = 0,
        result_bytes: int = 0,
    ) -> None:
        """Count tasks from number `first` on, the k-th from ``ticks[k]`` to ``ticks[k + 1]``.

        Keeps those of the sample; the byte counts are those of a task.
        """
        n = len(ticks) - 1
        self.n_tasks += n
        self.busy_time += ticks[-1] - ticks[0]
        if n == 1 and first % self._stride and not self._hooks:
            return
        items = range(first, first + n)
        sizes = payload_bytes, result_bytes
        block = TaskBlock(items, ticks[:-1], ticks[1:], submitted, worker, *sizes)
        kept = block.thinned(self._stride) if n > 1 else block
        self._blocks.append(kept)
        self._n_kept += len(kept.items)
        if self._n_kept > MAX_RECORDS:
            self._thin_out()
        if self._hooks:
            for record in block.records(self._begun):
                self._tell("on_task_done", record)

    def _thin_out(self) -> None:
        """Keep every second task."""
        self._stride *= 2
        kept = [b for b in self._blocks if len(b.items) > 1 or not b.items.start % self._stride]
        self._blocks = [b.thinned(self._stride) if len(b.items) > 1 else b for b in kept]
        self._n_kept = sum(len(block.items) for block in self._blocks)

    def fallback(self, reason: str) -> None:
        """Note that work goes on in another way."""
        self.fallbacks.append(reason)
        self._tell("on_fallback", reason)

    def finish(self) -> None:
        """Stop the clock, once."""
        if self._ended is None:
            self._ended = time.perf_counter()
            self._decision = replace(self._decision, actual=self._ended - self._begun)
            self._tell("on_map_end")
            if self.is_complete:
                self._compare()

    def _hindsight(self) -> dict[str, float]:
        """Predict from what tasks really took; unmeasured, they count as holding the GIL."""
        n = self.n_tasks
        workload = Workload(
            n_tasks=n,
            task_cost_seconds=self.busy_time / n,
            payload_bytes=self.payload_bytes // n,
            result_bytes=self.result_bytes // n,
        )
        machine = _costs.this_machine()
        workers = self.n_workers if self.strategy != "serial" else machine.cpus
        return predict(workload, machine, workers)

    def _compare(self) -> None:
        """Say what to set when a measured choice turns out to rest on a wrong guess."""
        decision, cost = self._decision, self._decision.task_cost_seconds
        expected = decision.predicted.get(self.strategy)
        if decision.step != 7 or expected is None or cost is None:
            return
        took = self.busy_time if self.strategy == "serial" else self.wall_time - self.away
        if abs(took - expected) < FAR_SECONDS or expected / FAR < took < expected * FAR:
            return
        mean = self.busy_time / self.n_tasks
        advice = f"task_cost_hint_seconds={mean:.2g}"
        if self.strategy == "threads" and took > expected:
            advice = f"releases_gil=False or {advice}"
        _logger.info(
            "The map took %.2g s by %s where %.2g s were predicted (its tasks %.2g s each, not "
            "%.2g s). If the choice was wrong, set %s, or preferred=... to override it.",
            *(took, self.strategy, expected, mean, cost, advice),
        )

    def _tell(self, event: str, *args: Any) -> None:
        for hook in list(self._hooks):
            try:
                getattr(hook, event)(self, *args)
            except Exception as error:
                self._hooks.remove(hook)
                message = (
                    f"The hook {hook!r} raised {error!r} in {event} and was dropped; "
                    "the run goes on."
                )
                try:
                    warnings.warn(message, RuntimeWarning, stacklevel=2)
                except RuntimeWarning:  # an error by the user's filter, and the run goes on
                    _logger.error("%s", message)


def _quantiles(seconds: list[float]) -> dict[str, float]:
    values = np.quantile(seconds, [0.5, 0.9, 1.0]) if seconds else np.zeros(3)
    return dict(zip(("p50", "p90", "max"), map(float, values), strict=True))
