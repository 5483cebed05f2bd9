"""Run calls in a process pool: for CPU-bound Python."""

import contextlib
import multiprocessing
import os
import signal
from collections.abc import Callable
from concurrent.futures import Executor, Future, ProcessPoolExecutor

from joblib.externals.loky.process_executor import ProcessPoolExecutor as LokyPool

from .. import _limits
from ._base import Strategy, T

START_METHODS = (None, "spawn", "forkserver", "fork")


class ProcessPoolExecutorStrategy(Strategy):
    """Wrap a private process pool.

    Parameters
    ----------
    start_method : {None, "spawn", "forkserver", "fork"}, default=None
        ``None`` is joblib's loky pool: it needs no ``__main__`` guard, never forks a
        threaded process, and caps inner threads before any library is loaded. The others
        are the standard library's pool with that start method.
    """

    name = "processes"
    crosses_process = True
    _pool: Executor

    def __init__(self, start_method: str | None = None) -> None:
        self.start_method = start_method

    def start(self, n_workers: int) -> None:
        """Make the pool; processes start at the first call."""
        if self.start_method is None:
            self._pool = LokyPool(n_workers, env=_limits.worker_environment())
        else:
            context = multiprocessing.get_context(self.start_method)
            self._pool = ProcessPoolExecutor(n_workers, mp_context=context)

    def submit(self, call: Callable[[], T]) -> "Future[T]":
        """Schedule `call` in the pool."""
        return self._pool.submit(call)

    def stop(self, *, kill: bool = False) -> None:
        """Shut the pool down and join its processes; with `kill`, end them first."""
        if kill:
            kill_workers(self._pool)
        self._pool.shutdown(wait=True)


def kill_workers(pool: Executor) -> None:
    """End the processes of a pool, of the standard library's or loky's kind, at once.

    The pool then sees dead workers, fails its futures and cleans up by itself; loky's own
    ``kill_workers=True`` leaves its thread with an error when a future was cancelled before.
    """
    for process in list((getattr(pool, "_processes", None) or {}).values()):
        if os.name == "nt":
            process.terminate()
        else:  # loky's processes have no `kill` method
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)
