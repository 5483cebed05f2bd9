"""Started strategies: kept warm between maps, replaced when they break.

A `Pool` belongs to an executor and may serve several maps at once. It hands out its
current `Session` (one start of the strategy) and starts another when that one has ended.
"""

import atexit
import os
import threading
import time
import weakref
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import Protocol, TypeVar

from ._transport import ping
from .strategies import Strategy

T = TypeVar("T")

_live_pools: "weakref.WeakSet[Pool]" = weakref.WeakSet()
_live_runs: "weakref.WeakSet[Run]" = weakref.WeakSet()
_hooked: set[str] = set()

measured_start: dict[str, float] = {}  # strategy name -> seconds until its first answer


class PoolClosedError(RuntimeError):
    """The executor was shut down; what is left runs in the caller."""


class Session:
    """One start of a strategy.

    Attributes
    ----------
    ready : Future
        Done once a worker has answered; holds the error if none ever did.
    ended : bool
        No more calls; the pool starts another session.
    deliberate : bool
        It was ended on purpose, so calls it lost are no sign of a failing worker.
    """

    def __init__(self, strategy: Strategy, n_workers: int) -> None:
        begun = time.perf_counter()
        self.strategy = strategy
        self.ended = False
        self.deliberate = False
        self._lock = threading.Lock()
        strategy.start(n_workers)
        self.ready: Future[int] = Future()
        if strategy.crosses_process:
            try:
                self.ready = strategy.submit(partial(ping, os.getpid()))
            except BaseException:  # Ctrl-C while processes start
                strategy.stop(kill=True)
                raise
            self.ready.add_done_callback(lambda f: self._note_start(f, begun))
        else:
            self.ready.set_result(0)

    def _note_start(self, ready: "Future[int]", begun: float) -> None:
        if not ready.cancelled() and ready.exception() is None:
            measured_start.setdefault(self.strategy.name, time.perf_counter() - begun)

    @property
    def is_warm(self) -> bool:
        """Whether workers have come up and take calls."""
        if self.ended or not self.ready.done() or self.ready.cancelled():
            return False
        return self.ready.exception() is None

    def submit(self, call: Callable[[], T]) -> "Future[T]":
        """Schedule `call`."""
        return self.strategy.submit(call)

    def end(self, *, kill: bool, deliberate: bool) -> None:
        """Stop the strategy, once."""
        with self._lock:
            if self.ended:
                return
            self.ended, self.deliberate = True, deliberate
        try:
            self.strategy.stop(kill=kill)
        except BaseException:  # Ctrl-C while it waited
            self.strategy.stop(kill=True)
            raise


class Pool:
    """The workers of one strategy, for as long as its executor lives."""

    def __init__(self, prototype: Strategy, n_workers: int) -> None:
        self.prototype = prototype
        self.n_workers = n_workers
        self._session: Session | None = None
        self._closed = False
        self._lock = threading.Lock()

    @property
    def is_warm(self) -> bool:
        """Whether a call would find workers that are up."""
        session = self._session
        return session is not None and session.is_warm

    def session(self) -> Session:
        """Return the live session, starting one if need be.

        Raises
        ------
        PoolClosedError
            The executor was shut down.
        Exception
            Whatever the strategy's `start` raises.
        """
        with self._lock:
            if self._closed:
                raise PoolClosedError("the executor was shut down")
            if self._session is None or self._session.ended:
                self._session = Session(self.prototype.fresh(), self.n_workers)
                _end_at_exit(self)
            return self._session

    def renew_after(self, broken: Session) -> None:
        """Put away a session whose worker died; the next one is a fresh start."""
        broken.end(kill=True, deliberate=False)
        with self._lock:
            if self._session is broken:
                self._session = None
                self.prototype = broken.strategy.replacement()

    def take_no_more(self) -> None:
        """Refuse further calls."""
        with self._lock:
            self._closed = True

    def close(self, *, kill: bool = False) -> None:
        """Stop for good: wait for submitted calls, or kill."""
        with self._lock:
            self._closed = True
            session = self._session
        if session is not None:
            session.end(kill=kill, deliberate=True)


class Run(Protocol):
    """What uses a pool and can be told to stop."""

    def let_go(self) -> None:
        """Take back what was sent; should anyone still ask for it, it runs in the caller."""


def watch_for_exit(run: Run) -> None:
    """Let go of a run that is unfinished when the interpreter exits."""
    _live_runs.add(run)


def _end_at_exit(pool: Pool) -> None:
    """End a pool before the interpreter waits for all that its workers were sent.

    Engines register how they wait when they first start, and the last one registered is the first
    one called: hence again for every strategy, just after its start.
    """
    _live_pools.add(pool)
    name = repr(pool.prototype)
    if name not in _hooked:
        _hooked.add(name)
        getattr(threading, "_register_atexit", atexit.register)(_before_exit)


def _before_exit() -> None:
    """Drop what maps have sent, and wait for submitted calls as the standard library does."""
    pools = list(_live_pools)
    for pool in pools:
        pool.take_no_more()
    for run in list(_live_runs):
        run.let_go()
    for pool in pools:
        pool.close()
