"""What a run of a map is: the job, its pieces, the serial run, and the iterator users hold.

Job       what to do: function, items, shared state, limits
SerialRun does it here; `_engine.PoolRun` does it on workers
Piece     consecutive items that travel in one call
MapIterator  results in order, with ``report`` and ``close``
"""

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass
from itertools import islice
from typing import Any, Self

from . import _limits
from ._metrics import ExecutionReport
from ._pool import Session
from ._transport import Raised, Reply, bind, run_items

AHEAD_SECONDS = 0.0005  # of work that is done ahead, where many tiny tasks lie ready
MAX_AHEAD = 1000

Tried = tuple[Any, Sequence[float]]  # a value, or Raised, and when its item began and ended


@dataclass(slots=True)
class Job:
    """What a map has to do: `n_tasks` in all, if known; `items` begin with number `first`."""

    func: Callable[..., Any]
    items: Iterator[Any]
    n_tasks: int | None
    shared: Any = None
    has_shared: bool = False
    star: bool = False
    is_sized: bool = False  # the items lie ready: any thread may draw them
    first: int = 0
    chunksize: int | None = None
    cost: float | None = None  # of a task, where the choice of a strategy rests on it
    packages: frozenset[str] = frozenset()  # that the function and the shared state need
    deadline: float | None = None
    task_timeout: float | None = None
    strict: bool = False

    @property
    def task(self) -> Callable[..., Any]:
        """A function of one item."""
        return bind(self.func, self.shared, self.has_shared, self.star)


def add_note(error: BaseException, index: int) -> None:
    """Name the item on its error."""
    error.add_note(f"Raised by item {index} of a ce_parallel map.")


def caller_level() -> int:
    """Return the `stacklevel` of the first frame outside ce_parallel."""
    here = os.path.dirname(os.path.dirname(__file__))
    frame, level = sys._getframe(1), 1
    while frame.f_back is not None and frame.f_code.co_filename.startswith(here):
        frame, level = frame.f_back, level + 1
    return level


def name_of(func: Callable[..., Any]) -> str:
    """Return what reports call a map of `func`."""
    try:
        return str(func.__name__)
    except Exception:  # a partial has none, and an odd callable may do anything
        return "map"


def brief(error: BaseException) -> str:
    """Return type and first line of an error."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


class SerialRun:
    """Run every item here, when its result is asked for."""

    def __init__(self, job: Job, report: ExecutionReport) -> None:
        self.job = job
        self.report = report
        self.cancelled = False
        self.timed_out = False

    def open(self) -> None:
        """Do nothing: there are no workers to come up."""

    def start(self) -> None:
        """Do nothing: items run as they are asked for."""

    def cancel(self, *, kill: bool = True) -> None:
        """Raise ``CancelledError`` instead of the next result; `kill` tasks that run elsewhere."""
        self.cancelled = True

    def stop(self) -> None:
        """End the run; harmless when it has ended."""
        self.report.finish()

    def results(self) -> Iterator[Any]:
        """Yield results in order."""
        job = self.job
        limited = job.deadline is not None or job.task_timeout is not None
        ahead = job.is_sized and job.cost is not None and not limited
        with _limits.one_inner_thread():
            yield from self._ahead() if ahead else self._one_by_one()

    def _one_by_one(self) -> Iterator[Any]:
        task, add, clock = self.job.task, self.report.add, time.perf_counter
        limited = self.job.deadline is not None or self.job.task_timeout is not None
        for index, item in enumerate(self.job.items, self.job.first):
            if limited or self.cancelled:
                self.check()
            start = clock()
            try:
                value = task(item)
            except BaseException as error:
                add_note(error, index)
                raise
            end = clock()
            if limited:
                self.check_task(index, end - start)
            add(index, (start, end))
            yield value

    def _ahead(self) -> Iterator[Any]:
        """Run tiny tasks ahead: to take stock of each would cost more than the task."""
        first, task = self.job.first, self.job.task
        failures: list[Exception] = []  # of the iterable
        while not failures:
            until = time.perf_counter() + AHEAD_SECONDS
            values, ticks = run_items(task, _drawn(self.job.items, failures), until)
            raised = values.pop() if values and isinstance(values[-1], Raised) else None
            if raised is not None and not isinstance(raised.error, Exception):
                values.clear()  # Ctrl-C does not wait
            if values:
                self.report.add(first, ticks[: len(values) + 1])
            for value in values:
                if self.cancelled:
                    self.check()
                yield value
            first += len(values)
            if raised is not None:
                add_note(raised.error, first)
                raise raised.error
            if not values:
                break
        if failures:
            raise failures[0]

    def check(self) -> None:
        """Raise if the map was cancelled or its time is over."""
        if self.cancelled:
            raise CancelledError("The map was cancelled.")
        if self.job.deadline is not None and time.perf_counter() > self.job.deadline:
            self.timed_out = True
            raise TimeoutError("The map took longer than its timeout.")

    def check_task(self, index: int, seconds: float) -> None:
        """Raise if item `index` took too long."""
        allowed = self.job.task_timeout
        if allowed is not None and seconds > allowed:
            self.timed_out = True
            raise TimeoutError(f"Item {index} took longer than task_timeout={allowed} s.")


@dataclass(slots=True, eq=False)
class Piece:
    """Consecutive items that travel in one call.

    A piece with a `failure` runs in the caller; the empty string is a failure that has been
    announced already.
    """

    first: int
    items: list[Any]
    future: "Future[Reply] | None" = None
    session: Session | None = None
    submitted: float = 0.0
    n_bytes: int = 0
    deaths: int = 0
    alone: bool = False
    returned: bool = False  # its worker lacked a shared file
    with_bytes: bool = False
    failure: str | None = None
    cause: BaseException | None = None

    def split(self) -> "list[Piece]":
        """Return one unsent piece per item, with one more death."""
        first, deaths = self.first, self.deaths + 1
        return [Piece(first + k, [item], deaths=deaths) for k, item in enumerate(self.items)]

    def is_out(self) -> bool:
        """Say whether the piece was sent and has no reply, or never will have one."""
        if self.future is None:
            return False
        return not self.future.done() or self.future.cancelled() or bool(self.future.exception())

    def is_lost(self, session: Session) -> bool:
        """Say whether `session` took the piece and will not answer."""
        return self.session is session and self.is_out()


class MapIterator(Iterator[Any]):
    """Results of one map, in order.

    Attributes
    ----------
    report : ExecutionReport
        Of this map.
    """

    def __init__(self, run: SerialRun, head: Sequence[Tried] = ()) -> None:
        self.report = run.report
        self._run = run
        self._results = _results(run, head)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Any:
        return next(self._results)

    def cancel(self) -> None:
        """Cancel from any thread; the next result is a ``CancelledError``."""
        self._run.cancel()

    def close(self) -> None:
        """Cancel what has not been asked for."""
        self._results.close()  # type: ignore[attr-defined]
        self._run.stop()

    def __del__(self) -> None:
        with contextlib.suppress(Exception):
            self.close()


def _drawn(items: Iterator[Any], failures: list[Exception]) -> Iterator[Any]:
    """Yield items of an iterable; what it raises ends them, and is put into `failures`."""
    try:
        yield from islice(items, MAX_AHEAD)
    except Exception as error:
        failures.append(error)


def _results(run: SerialRun, head: Sequence[Tried]) -> Iterator[Any]:
    """Yield measured results first, then those of `run`."""
    try:
        for index, (value, ticks) in enumerate(head):
            run.check()
            if isinstance(value, Raised):
                add_note(value.error, index)
                raise value.error
            run.check_task(index, ticks[1] - ticks[0])
            run.report.add(index, ticks)
            left = time.perf_counter()
            yield value
            run.report.away += time.perf_counter() - left
        yield from run.results()
        run.report.is_complete = True
    finally:
        run.stop()
