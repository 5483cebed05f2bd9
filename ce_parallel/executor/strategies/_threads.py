"""Run calls in a thread pool: for I/O, and for work that releases the GIL."""

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import thread as _futures_thread

from .. import _limits
from ._base import Strategy, T


class ThreadPoolExecutorStrategy(Strategy):
    """Wrap a ``concurrent.futures.ThreadPoolExecutor``."""

    name = "threads"
    _pool: ThreadPoolExecutor

    def start(self, n_workers: int) -> None:
        """Make the pool and all its threads, as daemons so that a hung one can be abandoned.

        A thread inherits ``daemon`` from the thread that starts it, hence the starter; the
        barrier makes the pool start every thread rather than reuse an idle one.
        """
        self._pool = ThreadPoolExecutor(
            n_workers, thread_name_prefix="ce_parallel", initializer=_limits.settle_thread
        )
        barrier = threading.Barrier(n_workers)

        def make_threads() -> None:
            for _ in range(n_workers):
                self._pool.submit(barrier.wait)

        starter = threading.Thread(target=make_threads, daemon=True)
        starter.start()
        starter.join()

    def submit(self, call: Callable[[], T]) -> "Future[T]":
        """Schedule `call` in the pool."""
        return self._pool.submit(call)

    def stop(self, *, kill: bool = False) -> None:
        """Wait for submitted calls, or forget the threads so that no exit waits for them."""
        if kill:
            self._pool.shutdown(wait=False, cancel_futures=True)
            for thread in self._pool._threads:
                _futures_thread._threads_queues.pop(thread, None)  # type: ignore[attr-defined]
        else:
            self._pool.shutdown(wait=True)
