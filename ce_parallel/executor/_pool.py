"""Started strategies: kept warm between maps, replaced when they break.

A `Pool` belongs to an executor and may serve several maps at once. It hands out its
current `Session` (one start of the strategy) and starts another when that one has ended.
"""

import atexit
import contextlib
import os
import threading
import time
import weakref
from collections.abc import Callable
from concurrent.futures import CancelledError, Future, InvalidStateError
from functools import partial
from typing import Any, Protocol, TypeVar

from . import _costs
from ._transport import ping
from .strategies import Strategy

T = TypeVar("T")

BUSY_SECONDS = 0.005  # workers that have not answered by then have other work
WATCH_SECONDS = 1.0  # between looks at worker processes
_live_pools: "weakref.WeakSet[Pool]" = weakref.WeakSet()
_live_runs: "weakref.WeakSet[Run]" = weakref.WeakSet()
_hooked: set[str] = set()


class PoolClosedError(RuntimeError):
    """The executor was shut down; what is left runs in the caller."""


def owner_of(strategy: Strategy) -> int | None:
    """Return the process whose workers a strategy's are for good; None if they are borrowed."""
    return os.getpid() if strategy.owns_workers else None


def cancel_call(future: "Future[Any]") -> bool:
    """Cancel a call unless it runs or has ended; say whether it is cancelled.

    A standard process pool that breaks later must not stumble over it: in Python 3.11, that
    would end the pool's thread and leave its other futures unfinished for ever.
    """
    set_exception = partial(_set_exception, type(future).set_exception, future)
    future.set_exception = set_exception  # type: ignore[method-assign]
    return future.cancel()


def _set_exception(method: Callable[..., None], *args: Any) -> None:
    with contextlib.suppress(InvalidStateError):
        method(*args)


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
    used : bool
        Somebody has submitted a call.
    """

    def __init__(self, strategy: Strategy, n_workers: int) -> None:
        self._begun = self._up = time.perf_counter()
        self.strategy = strategy
        self.ended = False
        self.used = False
        self.loaded: set[frozenset[str]] = {frozenset()}
        self.deliberate = False
        self._lock = threading.Lock()
        self._unfinished: set[Future[Any]] = set()
        strategy.start(n_workers)
        self.ready: Future[int] = Future()
        if strategy.crosses_process:
            try:
                self.ready = strategy.submit(partial(ping, owner_of(strategy)))
            except BaseException:  # Ctrl-C while processes start
                strategy.stop(kill=True)
                raise
            watch = threading.Thread(target=_watch, args=(weakref.ref(self),), daemon=True)
            watch.start()
        else:
            self.ready.set_result(0)
        self.ready.add_done_callback(self._note_start)

    def _note_start(self, done: "Future[int]") -> None:
        if not done.cancelled() and done.exception() is None:
            self._up = time.perf_counter()
            _costs.start[self.strategy.name] = self._up - self._begun

    @property
    def is_warm(self) -> bool:
        """Whether workers have come up and take calls."""
        if self.ended or not self.ready.done() or self.ready.cancelled():
            return False
        return self.ready.exception() is None

    def preload(self, call: Callable[[], T], packages: frozenset[str]) -> "Future[T]":
        """Schedule a call that only makes a worker load `packages`."""
        begun = time.perf_counter()

        def note(done: "Future[T]") -> None:
            if not packages or done.cancelled() or done.exception() is not None:
                return
            reply: Any = done.result()
            if not (reply.missing or reply.failure):
                _costs.load[packages] = time.perf_counter() - max(begun, self._up)
                self.loaded.add(packages)

        future = self.strategy.submit(call)
        future.add_done_callback(note)
        return future

    def submit(self, call: Callable[[], T]) -> "Future[T]":
        """Schedule `call`."""
        self.used = True
        future = self.strategy.submit(call)
        self._unfinished.add(future)
        future.add_done_callback(self._unfinished.discard)
        return future

    def end(self, *, kill: bool, deliberate: bool) -> None:
        """Stop the strategy, once: after its calls have finished, or `kill` them.

        One that lost a worker is killed in any case: it may wait for it for ever.
        """
        with self._lock:
            if self.ended:
                return
            self.ended, self.deliberate = True, deliberate
        try:
            kill = kill or not self._finish() or self.strategy.lost_worker()
            self.strategy.stop(kill=kill)
        except BaseException:  # Ctrl-C while it waited
            self.strategy.stop(kill=True)
            raise

    def _finish(self) -> bool:
        """Wait for every call; return whether none is left that would never finish."""
        was_lost = False
        while self._unfinished:
            for future in list(self._unfinished):
                try:  # not `wait`: a pool may forget to tell it of cancelled ones
                    future.exception(WATCH_SECONDS)
                except CancelledError:
                    pass
                except TimeoutError:
                    lost = self.strategy.lost_worker()
                    if lost and was_lost:
                        return False
                    was_lost = lost
        return True


def _watch(watched: "weakref.ref[Session]") -> None:
    """End a session that lost a worker a while ago and has not noticed.

    That is a pool whose worker died half-way through a result: it waits for the other half.
    """
    was_lost = False
    while True:
        time.sleep(WATCH_SECONDS)
        session = watched()
        if session is None or session.ended:
            return
        lost = session.strategy.lost_worker()
        if lost and was_lost:
            session.end(kill=True, deliberate=False)
        was_lost = lost
        del session


class Pool:
    """The workers of one strategy, for as long as its executor lives."""

    def __init__(self, prototype: Strategy, n_workers: int) -> None:
        self.prototype = prototype
        self.n_workers = n_workers
        self._session: Session | None = None
        self._closed = False
        self._timed = False
        self._lock = threading.Lock()

    @property
    def is_warm(self) -> bool:
        """Whether a call would find workers that are up."""
        return self.has_loaded(frozenset())

    def has_loaded(self, packages: frozenset[str]) -> bool:
        """Say whether a call that needs `packages` would find them loaded."""
        session = self._session
        return (
            session is not None
            and session.is_warm
            and any(packages <= known for known in session.loaded)
        )

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

    def measure_dispatch(self) -> None:
        """Time one answer of warm workers, once per process; give up if they are busy."""
        name = self.prototype.name
        if self._timed or name in _costs.dispatch or not self.is_warm:
            return
        self._timed = True  # workers that were busy are not asked again
        begun = time.perf_counter()
        with contextlib.suppress(TimeoutError, RuntimeError, CancelledError):
            self.session().submit(os.getpid).result(timeout=BUSY_SECONDS)
            _costs.dispatch[name] = time.perf_counter() - begun

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
            came_up_in_vain = not (session.used or session.ready.done())
            session.end(kill=kill or came_up_in_vain, deliberate=True)


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
