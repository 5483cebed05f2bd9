"""Step 7 as it happens: run the first items in the caller, watched, and decide from what they cost.

    caller      |--- item 0 ---|- 1 -|- 2 -|  decide -> SerialRun or PoolRun
    heartbeat     .  .  .  .  .  .  .  .  .  how far is the GIL released?
                      ?     ?        ?       is it worth sharing out the rest meanwhile?

Results are kept. While a long item runs, workers may be started, and the rest handed to them,
before it has ended.
"""

import itertools
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from . import _limits
from ._config import ParallelConfig
from ._engine import PoolRun
from ._gil import Heartbeat, known_share
from ._run import Job, SerialRun, Tried
from ._selection import Decision, Machine, Workload, decide
from ._transport import Raised, run_items

MAX_ITEMS = 32  # bounds what is drawn and kept before the choice
TRIAL_SECONDS = 0.004  # no further item is tried after that
WORTHWHILE_SECONDS = 0.001  # less is not worth a closer look
FIRST_LOOK = 0.005  # how long an item runs before sharing out the rest is considered
NEXT_LOOK = 1.4  # and then again after that many times as long

_END = object()


class Trial:
    """The first items of a map.

    Parameters
    ----------
    job, workload, machine, config
        What to do, and what is known beforehand.
    make_run : callable
        Return a run of the job as a `Decision` says, not begun.
    begin : callable
        Begin such a run.

    Attributes
    ----------
    tried : list of Tried
        What became of the items that ran here.
    """

    def __init__(
        self,
        job: Job,
        workload: Workload,
        machine: Machine,
        config: ParallelConfig,
        make_run: Callable[[Decision], SerialRun],
        begin: Callable[[SerialRun, Decision], None],
    ) -> None:
        self.tried: list[Tried] = []
        self._job, self._workload, self._machine, self._config = job, workload, machine, config
        self._make_run, self._begin = make_run, begin
        self._run: SerialRun | None = None  # begun while an item was still running
        self._opened: tuple[PoolRun, Decision] | None = None  # its workers are coming up
        self._item_begun = float("inf")  # no item is running
        self._next_look = FIRST_LOOK
        self._error: Exception | None = None  # of a hook, say, in the heartbeat's thread
        self._cancelled = False
        self._over = threading.Event()

    def run(self) -> SerialRun:
        """Run the first items and begin a run of the others."""
        task = self._job.task
        try:
            with _limits.one_inner_thread():
                heart = self._heart = Heartbeat(self._look)
                try:
                    for item in self._items():
                        (value,), ticks = run_items(task, [item])
                        self.tried.append((value, ticks))
                        self._item_begun = float("inf")
                        if self._has_failed() and isinstance(value.error, KeyboardInterrupt):
                            raise value.error
                finally:
                    share = heart.share()
                    self._over.set()
                    heart.stop()
            if self._error is not None:
                raise self._error
            run = self._run or self._choose(share)
            if run is self._run and isinstance(run, PoolRun) and not self._has_failed():
                run.learn(self._cost())
        except BaseException:
            for begun in (self._run, self._opened and self._opened[0]):
                if begun is not None:
                    begun.stop()
            raise
        if self._cancelled:
            run.cancel()
        return run

    def cancel(self, *, kill: bool = True) -> None:
        """Cancel the run that follows."""
        self._cancelled = True

    # -- in the caller ---------------------------------------------------------------

    def _items(self) -> Iterator[Any]:
        """Yield items until they tell enough, or the rest has been handed to workers."""
        while not self._is_enough():
            with self._heart.lock:
                if self._run is not None:
                    return
                try:
                    item = next(self._job.items, _END)
                except Exception as error:
                    self._job.items = raising(error)
                    return
                if item is _END:
                    return
                self._job.first += 1
                self._item_begun = time.perf_counter()
            yield item

    def _is_enough(self) -> bool:
        n = len(self.tried)
        if n == 0:
            return False
        if self._cancelled:
            return True
        elapsed = self.tried[-1][1][1] - self._heart.begun
        if n >= MAX_ITEMS or elapsed >= TRIAL_SECONDS or self._has_failed():
            return True
        return self._cost() * (self._workload.n_left - n) < WORTHWHILE_SECONDS

    def _has_failed(self) -> bool:
        return bool(self.tried) and isinstance(self.tried[-1][0], Raised)

    def _seconds(self) -> list[float]:
        return [end - start for _, (start, end) in self.tried]

    def _cost(self) -> float:
        """Return the mean cost of an item; a first one often pays for warming up."""
        seconds = self._seconds()
        counted = seconds[1:] or seconds
        return sum(counted) / len(counted)

    def _choose(self, share: float | None) -> SerialRun:
        if self._has_failed():
            decision = Decision("serial", 1, "a task failed")
        else:
            machine = self._machine
            if self._opened:  # workers that come up anyway cost nothing more
                machine = replace(machine, processes_warm=True)
                self._workload = replace(self._workload, load_seconds=0.0)
            decision = self._decide(self._cost(), share, len(self.tried), machine)
        run: SerialRun
        if self._opened and decision.strategy == "processes":
            run = self._opened[0]
        else:
            if self._opened:
                self._opened[0].release()
            run = self._make_run(decision)
            run.open()
        self._begin(run, decision)
        return run

    def _decide(self, cost: float, share: float | None, n_done: int, machine: Machine) -> Decision:
        self._job.cost = cost
        if cost * self._workload.n_left > WORTHWHILE_SECONDS:
            self._measure_sizes()
        known = self._workload.releases_gil
        if known is None:
            known = known_share(self._job.func, cost)
        workload = replace(
            self._workload,
            task_cost_seconds=cost,
            releases_gil=share if known is None else known,
            n_done=n_done,
        )
        spent = time.perf_counter() - self._heart.begun
        decision = decide(workload, machine, self._config)
        predicted = {name: spent + seconds for name, seconds in decision.predicted.items()}
        return replace(decision, predicted=predicted)

    def _measure_sizes(self) -> None:
        """Note the byte counts that the workload leaves open, roughly."""
        w = self._workload
        if w.result_bytes is None and self.tried:
            w = replace(w, result_bytes=approximate_bytes(self.tried[0][0]))
        if w.shared_bytes is None:
            w = replace(w, shared_bytes=approximate_bytes(self._job.shared))
        self._workload = w

    # -- in the heartbeat's thread, while an item runs -------------------------------

    def _look(self) -> bool:
        """Consider sharing out the rest; True once that is done."""
        elapsed = time.perf_counter() - self._item_begun
        if self._opened is None and elapsed < self._next_look:
            return False
        try:
            return self._share_out(elapsed)
        except Exception as error:
            self._error = error
            return True

    def _share_out(self, elapsed: float) -> bool:
        if self._opened is not None:
            opened, decision = self._opened
            return opened.is_open and self._hand_over(opened, decision)
        self._next_look = NEXT_LOOK * elapsed
        # Of a task that has lasted so long, as much again is to be expected.
        times = [*self._seconds(), 2.0 * elapsed]
        machine = replace(self._machine, caller_busy=elapsed)
        cost, n_done = sum(times) / len(times), len(times)
        decision = self._decide(cost, self._heart.share(), n_done, machine)
        if decision.strategy == "serial" or is_being_imported(self._job.func):
            return False
        if decision.strategy == "threads" and not self._job.is_sized:
            return False
        decision = replace(decision, reason=f"item {n_done - 1} was running; {decision.reason}")
        try:
            run = self._make_run(decision)
            assert isinstance(run, PoolRun)
            if decision.strategy == "threads" and run.pool.n_workers > 1:
                # The caller computes too: one thread waits for it, so that no CPU is shared.
                run.pool.session().submit(self._over.wait)
        except (RuntimeError, OSError):
            return True  # shut down, or out of threads: shows again when the trial is over
        run.open()
        self._opened = run, decision
        return run.is_open and self._hand_over(run, decision)

    def _hand_over(self, run: SerialRun, decision: Decision) -> bool:
        if not self._job.is_sized:
            return False  # another thread must not draw the items: they may wait, or mind
        self._begin(run, decision)
        self._run = run
        return True


def peek(items: Iterator[Any], n: int) -> tuple[list[Any], Iterator[Any]]:
    """Return the first `n` items, and all items; those raise what drawing them raised."""
    seen: list[Any] = []
    try:
        for item in itertools.islice(items, n):
            seen.append(item)
    except Exception as error:
        items = raising(error)
    return seen, itertools.chain(seen, items)


def is_being_imported(func: Callable[..., Any]) -> bool:
    """Say whether pickling `func` in another thread would wait for an import in this one."""
    module = sys.modules.get(getattr(func, "__module__", None) or "")
    return bool(getattr(getattr(module, "__spec__", None), "_initializing", False))


def raising(error: Exception) -> Iterator[Any]:
    """Return an iterator that raises `error`."""
    raise error
    yield


def approximate_bytes(obj: Any, depth: int = 3) -> int:
    """Return roughly how large `obj` is when pickled, without pickling it.

    Looks at arrays, strings and, `depth` levels down, into containers and attributes; at most
    at some elements of each. What cannot be estimated counts nothing.
    """
    try:
        return _bytes_of(obj, depth)
    except Exception:  # an odd object must not fail a map for an estimate
        return 0


def _bytes_of(obj: Any, depth: int) -> int:
    size = getattr(obj, "nbytes", None)
    if isinstance(size, int):
        return size
    if isinstance(obj, str | bytes | bytearray):
        return len(obj)
    if hasattr(obj, "memory_usage"):  # a pandas object
        return int(np.sum(obj.memory_usage(index=False)))
    if hasattr(obj, "estimated_size"):  # a Polars object
        return int(obj.estimated_size())
    if depth == 0:
        return 64
    if isinstance(obj, dict):
        parts = list(obj.values())
    elif isinstance(obj, list | tuple | set | frozenset):
        parts = list(obj)
    else:
        parts = list(getattr(obj, "__dict__", {}).values())
    seen = [_bytes_of(part, depth - 1) for part in parts[: 4 * depth**2]]
    return 64 + int(sum(seen) * (len(parts) / max(1, len(seen))))
