"""The joblib bridge, outwards: any joblib work runs on a `ParallelExecutor`.

    Parallel(n_jobs=2)(...) --batches--> CeParallelBackend --> _Call --> executor's workers
                     <------------ callback of each batch --------------------+
                                                               ExecutionReport, hooks

Inwards, what a joblib context means for maps of ours, is step 5 of `_precedence`.
"""

import contextlib
import pickle
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import replace
from functools import partial
from types import SimpleNamespace
from typing import Any

import joblib
import numpy as np
from joblib._parallel_backends import AutoBatchingMixin
from joblib.parallel import ParallelBackendBase

from ._broadcast import dumps
from ._config import ParallelConfig
from ._facade import ParallelExecutor
from ._gil import Heartbeat, known_share
from ._metrics import ExecutionReport, Hook, observers
from ._precedence import Choice, asked_for, named_strategy, worker_cap
from ._run import Job
from ._selection import Decision, Workload, decide, with_hints
from ._submit import CallFuture, give_up

NAME = "ce_parallel"
BETWEEN_CALLS = SimpleNamespace(verbose=0)
LOOK_SECONDS = 0.02  # after which a batch that is still running has told enough


def register_joblib_backend() -> None:
    """Let ``joblib.parallel_config("ce_parallel")`` run joblib's tasks on a `ParallelExecutor`.

    Parameters of `ParallelConfig` may follow the name. ``joblib.parallel_backend`` works alike.

    Examples
    --------
    >>> import joblib
    >>> from ce_parallel.executor import register_joblib_backend
    >>> register_joblib_backend()
    >>> with joblib.parallel_config("ce_parallel", preferred="threads", n_jobs=2):
    ...     joblib.Parallel()(joblib.delayed(abs)(x) for x in (-1, -2))
    [1, 2]
    """
    joblib.register_parallel_backend(NAME, CeParallelBackend)


@contextlib.contextmanager
def parallel_backend(
    config: ParallelConfig | str | None = None,
    *,
    n_jobs: int | None = None,
    hooks: Sequence[Hook] = (),
) -> Iterator[ParallelExecutor]:
    """Run all joblib work of a block, and every map of ours, on one `ParallelExecutor`.

    Parameters
    ----------
    config : ParallelConfig, str or None, default=None
        A name stands for ``ParallelConfig(preferred=name)``.
    n_jobs : int or None, default=None
        What joblib's callers get that name no number themselves. ``None``: ``max_workers`` of
        `config`, else all CPUs.
    hooks : sequence of Hook, default=()
        Watch every map and every joblib call of the block.

    Yields
    ------
    ParallelExecutor
        Its workers stay warm for the length of the block; ``report`` is that of the last map or
        joblib call.

    Notes
    -----
    With ``preferred="auto"`` what joblib's caller says decides (``require="sharedmem"``, then
    ``prefer``); else the first batch is timed in a thread. Work with ``n_jobs=1`` is run by joblib
    itself and is not in any report. A task that fails stops the others, as with joblib's own
    backends; one whose worker dies raises `StrategyError`.

    Examples
    --------
    >>> from joblib import Parallel, delayed
    >>> from ce_parallel.executor import parallel_backend
    >>> with parallel_backend("threads", n_jobs=2) as executor:
    ...     Parallel()(delayed(abs)(x) for x in (-1, -2))
    [1, 2]
    >>> executor.report.n_tasks
    2
    """
    if isinstance(config, str):
        config = ParallelConfig(preferred=config)
    with ParallelExecutor(config, hooks=hooks) as executor:
        jobs = n_jobs or executor.config.max_workers or -1
        with joblib.parallel_config(CeParallelBackend(executor=executor), n_jobs=jobs):
            yield executor


class CeParallelBackend(AutoBatchingMixin, ParallelBackendBase):  # type: ignore[misc]
    """A joblib backend that sends batches to a `ParallelExecutor`.

    Parameters
    ----------
    executor : ParallelExecutor or None, default=None
        ``None``: one of its own, for as long as the backend is in use.
    nesting_level : int or None, default=None
        Joblib's: 0 outside of all workers.
    **config
        Parameters of the `ParallelConfig` of an executor of its own.
    """

    supports_retrieve_callback = True
    supports_sharedmem = True  # calls that require it get threads
    default_n_jobs = -1

    def __init__(
        self,
        *,
        executor: ParallelExecutor | None = None,
        nesting_level: int | None = None,
        **config: Any,
    ) -> None:
        super().__init__(nesting_level=nesting_level)
        self._given = executor
        self._config = ParallelConfig(**config)
        self._own: dict[int | None, ParallelExecutor] = {}
        self._call: _Call | None = None
        self.parallel: Any = BETWEEN_CALLS

    def config_for(self, n_jobs: int) -> ParallelConfig:
        """Return the config of work with at most `n_jobs` workers, counted as joblib counts."""
        config = (self._config if self._given is None else self._given.config).__sklearn_clone__()
        wanted = n_jobs if n_jobs > 0 else max(1, joblib.cpu_count() + 1 + n_jobs)
        config.max_workers = min(wanted, config.max_workers or wanted)
        return config

    def executor_for(self, n_jobs: int) -> ParallelExecutor:
        """Return the executor of work with `n_jobs` workers; it stays warm."""
        if self._given is not None:
            return self._given
        config = self.config_for(n_jobs)
        if config.max_workers not in self._own:
            executor = self._own[config.max_workers] = ParallelExecutor(config)
            weakref.finalize(self, executor.shutdown, wait=False).atexit = False
        return self._own[config.max_workers]

    # -- what joblib calls -----------------------------------------------------------

    def effective_n_jobs(self, n_jobs: int | None) -> int:
        """Return how many workers a call with `n_jobs` gets."""
        if n_jobs == 0:
            raise ValueError("n_jobs == 0 in Parallel has no meaning")
        if n_jobs is None:
            return 1
        config = self.config_for(n_jobs)
        choice = asked_for(config)
        return worker_cap(config) if choice is None else choice.decision.n_workers

    def configure(
        self,
        n_jobs: int = 1,
        parallel: Any = None,
        prefer: str | None = None,
        require: str | None = None,
        **_: Any,
    ) -> int:
        """Get ready for calls of `parallel`."""
        self.parallel = parallel
        n_workers = self.effective_n_jobs(n_jobs)
        executor, config = self.executor_for(n_jobs), self.config_for(n_workers)
        self._new_call = partial(_Call, executor, config, _stated(config, prefer, require))
        return n_workers

    def start_call(self) -> None:
        """Begin a report; a call that joblib never stopped, for an error of its own, ends here."""
        self.stop_call()
        self._call = self._new_call()

    def stop_call(self) -> None:
        """End the report."""
        if self._call is not None:
            self._call.finish()

    def submit(
        self, func: Callable[[], Any], callback: Callable[["Future[Any]"], None]
    ) -> "Future[Any] | None":
        """Send a batch of joblib's."""
        assert self._call is not None
        return self._call.submit(func, callback)

    def retrieve_result_callback(self, out: "Future[Any]") -> Any:
        """Return the results of a batch, or raise what a task raised."""
        return out.result()

    def abort_everything(self, ensure_ready: bool = True) -> None:
        """Cancel what waits, and end worker processes that are at it."""
        if self._call is not None:
            self._call.abort()

    def terminate(self) -> None:
        """Forget the call; workers stay warm."""
        self.parallel = BETWEEN_CALLS  # not None: callbacks of aborted tasks may still look at it
        self.reset_batch_stats()


def _stated(config: ParallelConfig, prefer: str | None, require: str | None) -> Choice | None:
    """Return the choice that the user, or else the caller of joblib, has made."""
    choice = asked_for(config)
    if require == "sharedmem" and (choice is None or choice.strategy.crosses_process):
        name, why = "threads", "joblib's caller requires shared memory"
    elif choice is None and prefer is not None:
        name, why = prefer, f"joblib's caller prefers {prefer}"
    else:
        return choice
    return Choice(Decision(name, worker_cap(config), why, 5), named_strategy(name, config))


class _Call:
    """One call of ``joblib.Parallel``: where its batches go, and what its report says."""

    def __init__(
        self, executor: ParallelExecutor, config: ParallelConfig, choice: Choice | None
    ) -> None:
        undecided = Decision("threads", worker_cap(config), "not decided yet")
        self._executor, self._config, self._choice = executor, config, choice
        self._threads = Choice(undecided, named_strategy("threads", config))
        self._watch_at = sys.maxsize if choice else 0  # number of tasks, for a measured choice
        self._watching = False  # a batch that has not told enough yet
        self._lock = threading.RLock()
        self._futures: set[CallFuture] = set()
        self._held: list[tuple[int, Any, Callable[..., None]]] = []  # until it is decided
        self._n_sent = 0
        self._aborted = self._over = False
        self._observers = observers()  # joblib sends most batches from other threads
        hooks = executor.hooks + self._observers
        self.report = executor.report = ExecutionReport(undecided, hooks, name="joblib")
        if choice is not None:
            self.report.begin(choice.decision)

    def submit(self, batch: Any, callback: Callable[..., None]) -> "Future[Any] | None":
        """Send a batch, or hold it until the first one has been timed."""
        with self._lock:
            first, n = self._n_sent, len(batch)
            self._n_sent += n
            if self._choice is None and first > 0:
                self._held.append((first, batch, callback))
                return None
            choice, watched = self._choice or self._threads, first >= self._watch_at
            if watched:
                self._watch_at, self._watching = sys.maxsize, True
        call = partial(self._watch, batch) if watched else batch
        return self._send(first, n, call, callback, choice)

    def finish(self) -> None:
        """End the report, once; what comes later is not in it."""
        with self._lock:
            if self._over:
                return
            if self._choice is None:
                self._settle(self._threads)
            self._over = True
            self.report.is_complete = not self._aborted and self.report.n_tasks == self._n_sent
            self.report.finish()

    def abort(self) -> None:
        """Give up what is unfinished."""
        with self._lock:
            self._aborted = True
            self._held.clear()
            futures = list(self._futures)
        give_up(futures)

    def _send(
        self,
        first: int,
        n: int,
        call: Callable[[], Any],
        callback: Callable[..., None],
        choice: Choice,
    ) -> "Future[Any]":
        future: Future[Any]
        try:
            future = self._executor._send(call, choice, self._observers)
        except Exception as error:  # joblib expects it in the future
            future = Future()
            future.set_exception(_as_joblib_says(error, choice))
        if isinstance(future, CallFuture):
            with self._lock:
                self._futures.add(future)
            future.add_done_callback(partial(self._note, first, n))
        future.add_done_callback(callback)
        return future

    def _note(self, first: int, n: int, future: "Future[Any]") -> None:
        """Count the tasks of a batch, as if each had taken the same time."""
        assert isinstance(future, CallFuture)
        with self._lock:
            self._futures.discard(future)
            failed = future.cancelled() or future.exception() is not None
            if failed or self._over or future.trace is None:
                return
            start, end = future.trace.ticks
            ticks = np.linspace(start, end, n + 1).tolist()
            self.report.add(first, *future.trace._replace(ticks=ticks))

    # -- a measured choice -----------------------------------------------------------

    def _watch(self, batch: Any) -> Any:
        """Run a batch in a thread, and decide from what it costs."""
        heart: Heartbeat

        def look() -> bool:
            elapsed = time.perf_counter() - heart.begun
            if elapsed < LOOK_SECONDS:
                return False
            self._decide(batch, 2.0 * elapsed, heart.share())  # as much again is to be expected
            return True

        heart = Heartbeat(look)
        try:
            return batch()
        finally:
            share = heart.share()
            heart.stop()
            self._decide(batch, time.perf_counter() - heart.begun, share)

    def _decide(self, batch: Any, seconds: float, share: float | None) -> None:
        """Choose, once for a watched batch, and send what was held."""
        with self._lock:
            if not self._watching:
                return
            self._watching = False
            try:
                choice = self._chosen(batch, self._measured(batch, seconds, share))
            except Exception as error:  # what is held must go somewhere
                decision = replace(self._threads.decision, reason=f"measuring failed: {error}")
                choice = replace(self._threads, decision=decision)
            self._settle(choice)
            held, self._held = self._held, []
        for first, waiting, callback in held:
            if not self._aborted:
                self._send(first, len(waiting), waiting, callback, choice)

    def _settle(self, choice: Choice) -> None:
        tell = self.report.begin if self._choice is None else self.report.revise
        self._choice = choice
        if not self._over:
            tell(choice.decision)

    def _measured(self, batch: Any, seconds: float, share: float | None) -> Workload:
        func, *arguments = batch.items[0]
        cost = seconds / len(batch)
        known = known_share(func, cost)
        n = self._n_sent  # of many, as many again are to be expected
        workload = Workload(
            n_tasks=None if self._choice is None else 2 * n,
            n_done=n,
            task_cost_seconds=cost,
            releases_gil=share if known is None else known,
        )
        job = Job(func, iter(()), workload.n_tasks)
        return with_hints(self._executor._described(workload, job, arguments), self._config)

    def _chosen(self, batch: Any, workload: Workload) -> Choice:
        """Return the choice of the cost model; "serial" is one thread here, for the time being."""
        decision = decide(workload, self._executor._machine(self._config), self._config)
        name, why = decision.strategy, decision.reason
        if name == "processes" and not _can_be_pickled(batch):
            name, why = "threads", f"{why}, but tasks cannot be pickled"
        elif name == "serial":
            name, why = "threads", f"{why}; one thread"
            self._watch_at = 2 * max(self._n_sent, 8)
        decision = replace(decision, strategy=name, reason=why)
        return Choice(decision, named_strategy(name, self._config))


def _can_be_pickled(batch: Any) -> bool:
    try:
        dumps(batch)
    except Exception:
        return False
    return True


def _as_joblib_says(error: Exception, choice: Choice) -> Exception:
    """Return a PicklingError for what could not be sent to another process."""
    if not choice.strategy.crosses_process or isinstance(error, RuntimeError):
        return error
    wrapped = pickle.PicklingError(f"Could not pickle the task to send it to the workers: {error}")
    wrapped.__cause__ = error
    return wrapped
