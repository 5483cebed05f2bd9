"""Started strategies: kept warm between maps, replaced when they break.

A `Pool` belongs to an executor and may serve several maps at once. It hands out its
current `Session` (one start of the strategy) and starts another when that one has ended.
"""

import os
import threading
import time
import weakref
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from functools import partial
from typing import Any, TypeVar

from ._transport import ping
from .strategies import Strategy

T = TypeVar("T")

WATCH_SECONDS = 1.0  # between looks at worker processes
measured_start: dict[str, float] = {}  # strategy name -> seconds until its first answer


class PoolClosedError(RuntimeError):
    """The executor was shut down; what is left runs in the caller."""


def owner_of(strategy: Strategy) -> int | None:
    """Return the process whose workers a strategy's are for good; None if they are borrowed."""
    return os.getpid() if getattr(strategy, "owns_workers", True) else None


def cancel_call(future: "Future[Any]") -> bool:
    """Cancel a call unless it runs or has ended; say whether it is cancelled.

    A standard process pool that breaks later must not stumble over it: in Python 3.11, that
    would end the pool's thread and leave its other futures unfinished for ever.
    """
    if not future.cancel():
        return False
    future.set_exception = _ignore  # type: ignore[method-assign, assignment]
    return True


def _ignore(error: BaseException | None) -> None:
    pass


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
        self._unfinished: set[Future[Any]] = set()
        strategy.start(n_workers)
        self.ready: Future[int] = Future()
        if strategy.crosses_process:
            self.ready = strategy.submit(partial(ping, owner_of(strategy)))
            self.ready.add_done_callback(lambda f: self._note_start(f, begun))
            watch = threading.Thread(target=_watch, args=(weakref.ref(self),), daemon=True)
            watch.start()
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
        future = self.strategy.submit(call)
        self._unfinished.add(future)
        future.add_done_callback(self._unfinished.discard)
        return future

    def end(self, *, kill: bool, deliberate: bool) -> None:
        """Stop the strategy, once: after its calls have finished, or `kill` them.

        One that lost a worker is killed in any case: a standard pool that is shut down before it
        noticed would wait for ever.
        """
        with self._lock:
            if self.ended:
                return
            self.ended, self.deliberate = True, deliberate
        self.strategy.stop(kill=kill or not self._finish() or self.strategy.lost_worker())

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
            return self._session

    def renew_after(self, broken: Session) -> None:
        """Put away a session whose worker died; the next one is a fresh start."""
        broken.end(kill=True, deliberate=False)
        with self._lock:
            if self._session is broken:
                self._session = None
                self.prototype = broken.strategy.replacement()

    def close(self, *, kill: bool = False) -> None:
        """Stop for good: wait for submitted calls, or kill."""
        with self._lock:
            self._closed = True
            session = self._session
        if session is not None:
            session.end(kill=kill, deliberate=True)
