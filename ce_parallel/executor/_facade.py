"""`ParallelExecutor`: choose a strategy, run maps on it, keep its workers warm.

map --> validate --> asked_for? --no--> Trial --> decide
                         |                          |
                         +---------> SerialRun or PoolRun --> MapIterator --> caller
"""

import contextlib
import logging
import threading
import time
import warnings
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future
from contextvars import ContextVar, Token
from dataclasses import replace
from functools import partial
from typing import Any, Self

from ..exceptions import FallbackWarning, StrategyError
from . import _costs
from ._broadcast import Broadcast
from ._config import ParallelConfig, read_environment, validate
from ._engine import PoolRun
from ._metrics import ExecutionReport, Hook, observers
from ._pool import Pool
from ._precedence import Choice, active_context, asked_for, is_ours, named_strategy, worker_cap
from ._run import Job, MapIterator, SerialRun, brief, name_of
from ._selection import Decision, Machine, Workload, decide, with_hints
from ._submit import (
    CallFuture,
    give_up,
    submit_here,
    submit_out,
    wait_for_borrowed,
)
from ._trial import Trial, approximate_bytes, peek
from .strategies import SerialStrategy, Strategy

_logger = logging.getLogger("ce_parallel")
_ambient: "ContextVar[ParallelExecutor | None]" = ContextVar("ce_parallel_executor", default=None)


class ParallelExecutor(Executor):
    """Run tasks serially, in threads or in processes: whichever was asked for or is fastest.

    Parameters
    ----------
    config : ParallelConfig or None, default=None
        ``None`` means the defaults. It is read anew by every map.
    hooks : sequence of Hook, default=()
        Watch every map of this executor.

    Attributes
    ----------
    report : ExecutionReport or None
        Of the last map started.

    Notes
    -----
    Workers start when they are needed, stay warm between maps and are gone after
    `shutdown`. As a context manager the executor is also *ambient*: code inside the block
    that uses `acquire_executor` shares it. Threads may share one executor.

    Examples
    --------
    >>> from ce_parallel.executor import ParallelConfig, ParallelExecutor
    >>> with ParallelExecutor(ParallelConfig(preferred="threads")) as executor:
    ...     list(executor.map(pow, [2, 3], [5, 2]))
    [32, 9]
    """

    def __init__(self, config: ParallelConfig | None = None, *, hooks: Sequence[Hook] = ()) -> None:
        self.config = ParallelConfig() if config is None else config
        self.hooks = tuple(hooks)
        self.report: ExecutionReport | None = None
        self._lock = threading.RLock()
        self._pools: dict[Any, Pool] = {}
        self._broadcast = Broadcast()
        self._live: weakref.WeakSet[SerialRun | Trial] = weakref.WeakSet()
        self._submitted: weakref.WeakSet[CallFuture] = weakref.WeakSet()
        self._closed = False
        self._tokens: list[Token[ParallelExecutor | None]] = []

    # -- map -------------------------------------------------------------------------

    def map(
        self,
        func: Callable[..., Any],
        *iterables: Iterable[Any],
        shared: Any = None,
        workload: Workload | None = None,
        timeout: float | None = None,
        chunksize: int | None = None,
    ) -> MapIterator:
        """Run `func` on every item, in order, with bounded look-ahead.

        Parameters
        ----------
        func : callable
            Called as ``func(item)``, or ``func(*items)`` with several iterables, or
            ``func(shared, item)`` with `shared`. Lambdas and closures work everywhere.
        *iterables : iterables
            May be endless; the shortest ends the map.
        shared : object or None, default=None
            State that every task reads. It reaches each worker once; arrays in it are
            read-only there. A frozen dataclass is not sent again by later maps.
        workload : Workload or None, default=None
            What is known about the tasks, for the choice of a strategy.
        timeout : float or None, default=None
            Seconds from this call until the last result, or ``TimeoutError``.
        chunksize : int or None, default=None
            Items per call. ``None``: adapts to what a task costs. Never changes results.

        Returns
        -------
        MapIterator
            Has ``report`` and ``close()``.

        Raises
        ------
        RuntimeError
            The executor was shut down.
        TypeError, ValueError
            An argument, a parameter of the config or ``CE_PARALLEL`` is unusable.

        Notes
        -----
        The iterator raises a task's own exception unchanged, with a note naming the item;
        ``TimeoutError``; ``CancelledError`` once cancelled; and `StrategyError` for items
        that killed their workers, or for any failure with ``force_serial_on_failure=False``.

        While a map runs here or in threads, BLAS and OpenMP use one thread in this process,
        so that every strategy computes the same bits; afterwards they are as before.
        A task whose result cannot travel runs a second time, in the caller.
        """
        self._check_open()
        config = validate(self.config)
        job = self._job(func, iterables, shared, timeout, chunksize, config)
        undecided = Decision("serial", 1, "not decided yet")
        hooks = self.hooks + observers()
        workload = workload or Workload()
        name = workload.name or name_of(func)
        report = ExecutionReport(undecided, hooks, name=name, n_expected=job.n_tasks)
        choice = asked_for(config)
        if choice is None:
            return self._choose(job, workload, config, report)
        run = self._make_run(job, report, choice.decision, choice.strategy)
        self._begin(run, choice.decision)
        return MapIterator(run)

    def _job(
        self,
        func: Callable[..., Any],
        iterables: tuple[Iterable[Any], ...],
        shared: Any,
        timeout: float | None,
        chunksize: int | None,
        config: ParallelConfig,
    ) -> Job:
        """Check the arguments of `map` and put them in order."""
        if not callable(func):
            raise TypeError(f"func must be callable. Got {func!r} instead.")
        if not iterables:
            raise TypeError("map needs at least one iterable. Got none.")
        if chunksize is not None and (not isinstance(chunksize, int) or chunksize < 1):
            raise ValueError(f"chunksize must be an int >= 1 or None. Got {chunksize!r} instead.")
        lengths = [len(it) if hasattr(it, "__len__") else None for it in iterables]  # type: ignore[arg-type]
        known = [n for n in lengths if n is not None]
        star = len(iterables) > 1
        return Job(
            func,
            zip(*iterables, strict=False) if star else iter(iterables[0]),
            n_tasks=min(known) if len(known) == len(lengths) else None,
            is_sized=len(known) == len(lengths),
            shared=shared,
            has_shared=shared is not None,
            star=star,
            chunksize=chunksize,
            deadline=None if timeout is None else time.perf_counter() + timeout,
            task_timeout=config.task_timeout,
            strict=not config.force_serial_on_failure,
        )

    def _make_run(
        self, job: Job, report: ExecutionReport, decision: Decision, strategy: Strategy
    ) -> SerialRun:
        if isinstance(strategy, SerialStrategy):
            return SerialRun(job, report)
        return PoolRun(job, report, self._pool(strategy, decision.n_workers), self._broadcast)

    def _begin(self, run: SerialRun, decision: Decision) -> None:
        """Announce a run, and let it send its first items."""
        self.report = run.report
        _logger.info("%s, %d worker(s): %s", decision.strategy, decision.n_workers, decision.reason)
        self._live.add(run)
        run.report.begin(decision)
        run.start()

    def _choose(
        self, job: Job, workload: Workload, config: ParallelConfig, report: ExecutionReport
    ) -> MapIterator:
        """Step 7: find out what a task costs, by a trial if nobody said, and decide."""

        def make_run(decision: Decision) -> SerialRun:
            if decision.strategy != "serial":
                decision = replace(decision, n_workers=self._size(decision, config))
            return self._make_run(job, report, decision, named_strategy(decision.strategy, config))

        job.n_tasks = workload.n_tasks if job.n_tasks is None else job.n_tasks
        first, job.items = peek(job.items, 2)
        machine = self._machine(config) if len(first) == 2 else Machine()
        if len(first) < 2:
            decision = Decision("serial", 1, "there is no second task")
        elif (machine.cap or machine.cpus) == 1:
            decision = Decision("serial", 1, "one worker is allowed")
        else:
            workload = with_hints(self._described(workload, job, first[0]), config)
            if workload.task_cost_seconds is None:
                trial = Trial(job, workload, machine, config, make_run, self._begin)
                self._live.add(trial)
                return MapIterator(trial.run(), trial.tried)
            decision = decide(workload, machine, config)
            job.cost = workload.task_cost_seconds
        run = make_run(decision)
        run.open()
        self._begin(run, decision)
        return MapIterator(run)

    def _described(self, workload: Workload, job: Job, item: Any) -> Workload:
        """Return what is known of a workload before any of it has run."""
        job.packages = _costs.packages_of(job.func, job.shared)
        known: dict[str, Any] = {"n_tasks": job.n_tasks}
        if workload.payload_bytes is None:
            known["payload_bytes"] = approximate_bytes(item)
        if not job.has_shared or self._broadcast.knows(job.shared):
            known["shared_bytes"] = 0
        if workload.load_seconds is None:
            loaded = any(p.has_loaded(job.packages) for p in self._pools_of("processes"))
            known["load_seconds"] = 0.0 if loaded else _costs.load_seconds(job.packages)
        return replace(workload, **known)

    def _machine(self, config: ParallelConfig) -> Machine:
        """Return what this process has and what it measured."""
        warm = []
        for name in ("threads", "processes"):
            for pool in [pool for pool in self._pools_of(name) if pool.is_warm][:1]:
                pool.measure_dispatch()
                warm.append(name)
        capped = config.max_workers or read_environment().workers
        return _costs.this_machine(worker_cap(config) if capped else None, warm)

    def _size(self, decision: Decision, config: ParallelConfig) -> int:
        """Return how many workers an automatic pool has: of few sizes, so that pools are few."""
        cap = worker_cap(config)
        live = [p.n_workers for p in self._pools_of(decision.strategy) if p.is_warm]
        enough = [n for n in live if decision.n_workers <= n <= cap]
        doubled = 2 ** (decision.n_workers - 1).bit_length()
        return min(enough, default=min(doubled, cap))

    def _pools_of(self, name: str) -> list[Pool]:
        return [pool for pool in list(self._pools.values()) if pool.prototype.name == name]

    def _pool(self, strategy: Strategy, n_workers: int) -> Pool:
        """Return the pool of `strategy`, the same one for equal strategies."""
        key = (type(strategy), repr(strategy), n_workers)
        with self._lock:
            self._check_open()
            if key not in self._pools:
                self._pools[key] = Pool(strategy, n_workers)
            return self._pools[key]

    # -- submit, cancel, shutdown ----------------------------------------------------

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> "Future[Any]":
        """Schedule one call; never measures.

        Runs where the config, the environment or a joblib context say, else in a thread;
        at once, here, when that is serial.

        Returns
        -------
        concurrent.futures.Future
            Holds the result, the task's own exception, or a `StrategyError`.
        """
        self._check_open()
        config = validate(self.config)
        choice = asked_for(config)
        if choice is None:
            name = "threads"
            decision = Decision(name, worker_cap(config), "submit without a stated choice")
            choice = Choice(decision, named_strategy(name, config))
        call = partial(fn, *args, **kwargs)
        try:
            return self._send(call, choice, observers())
        except Exception as error:
            if not choice.strategy.crosses_process:
                raise
            message = f"{fn} could not be sent ({brief(error)})"
            if not config.force_serial_on_failure:
                raise StrategyError(f"{message}.") from error
            warnings.warn(f"{message}; it runs in the caller.", FallbackWarning, stacklevel=2)
            return submit_here(call)

    def _send(
        self, call: Callable[[], Any], choice: Choice, hooks: tuple[Hook, ...]
    ) -> "Future[Any]":
        """Schedule one call as `choice` says. Raises what sending it raises."""
        if isinstance(choice.strategy, SerialStrategy):
            return submit_here(call)
        pool = self._pool(choice.strategy, choice.decision.n_workers)
        future = submit_out(call, pool, self._broadcast, hooks)
        self._submitted.add(future)
        return future

    @property
    def _max_workers(self) -> int:
        """How many calls may run at once; dask, among others, asks for it by this name."""
        choice = asked_for(validate(self.config))
        return worker_cap(self.config) if choice is None else choice.decision.n_workers

    def cancel(self) -> None:
        """Cancel every map and submitted call of this executor, from any thread.

        Worker processes with unfinished calls are killed; threads finish their task.
        """
        give_up(self._submitted)
        for run in list(self._live):
            run.cancel()

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Release the workers; calling it again is harmless.

        Calls that were sent finish first; with `cancel_futures`, those that run already do, and
        maps are cancelled. An iterator that still lives runs what it has not sent in the caller.
        """
        with self._lock:
            self._closed = True
            pools, self._pools = list(self._pools.values()), {}
        if cancel_futures:
            for run in list(self._live):
                run.cancel(kill=False)
            for future in list(self._submitted):
                future.cancel()
        if wait:
            self._close(pools)
        else:
            threading.Thread(target=self._close, args=(pools,), name="ce_parallel-close").start()

    def _close(self, pools: list[Pool]) -> None:
        with contextlib.ExitStack() as ending:  # goes on to the end when one is interrupted
            ending.callback(self._broadcast.close)
            for pool in pools:
                ending.callback(pool.close)
            wait_for_borrowed(self._submitted)

    def __enter__(self) -> Self:
        self._check_open()
        self._tokens.append(_ambient.set(self))
        return self

    def __exit__(self, exc_type: object, exc_value: object, traceback: object) -> None:
        with contextlib.suppress(ValueError):  # left in another context than entered
            _ambient.reset(self._tokens.pop())
        if exc_type is not None:
            self.cancel()
        self.shutdown()

    def _check_open(self) -> None:
        if self._closed:
            raise RuntimeError(
                "This ParallelExecutor was shut down and takes no more work. Make a new one."
            )

    def __reduce__(self) -> Any:
        raise TypeError(
            "A ParallelExecutor holds live workers, which cannot be pickled. "
            "Pass its ParallelConfig instead."
        )


@contextlib.contextmanager
def acquire_executor(config: ParallelConfig | None = None) -> Iterator[ParallelExecutor]:
    """Yield the ambient executor, or one for the length of the block if there is none.

    A joblib context of our own backend has an executor, too.

    Parameters
    ----------
    config : ParallelConfig or None, default=None
        Of the new executor; an ambient one keeps its own.
    """
    ambient = _ambient.get()
    if ambient is None:
        backend, n_jobs = active_context()
        if is_ours(backend):
            ambient = backend.executor_for(n_jobs or backend.default_n_jobs)
    if ambient is not None and not ambient._closed:
        yield ambient
        return
    executor = ParallelExecutor(config)
    try:
        yield executor
    except BaseException:
        executor.cancel()
        raise
    finally:
        executor.shutdown()
