"""Run calls in a process pool: for CPU-bound Python."""

import contextlib
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from typing import Any

from joblib.externals.loky.process_executor import ProcessPoolExecutor as LokyPool

from .. import _limits
from ._base import Strategy, T

NOTICE_SECONDS = 1.0  # that a pool may take to see that all its processes have died
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
        # Settled before the first call, so that no worker outlives a caller killed early.
        if self.start_method is None:
            self._pool = LokyPool(
                n_workers,
                initializer=_limits.settle_process,
                initargs=(os.getpid(),),
                env=_limits.worker_environment(),
            )
        else:
            context = multiprocessing.get_context(self.start_method)
            self._pool = ProcessPoolExecutor(
                n_workers, context, _limits.settle_process, (os.getpid(),)
            )

    def submit(self, call: Callable[[], T]) -> "Future[T]":
        """Schedule `call` in the pool."""
        return self._pool.submit(call)

    def stop(self, *, kill: bool = False) -> None:
        """Shut the pool down and join its processes; with `kill`, end them first."""
        if kill:
            shut_down_killed(self._pool)
            return
        over = threading.Event()
        args = processes_of(self._pool), over
        watcher = threading.Thread(target=_end_locked_out, args=args, daemon=True)
        watcher.start()
        try:
            self._pool.shutdown(wait=True)
        finally:
            over.set()
            watcher.join()  # a daemon must not be the last to hold them; see `shut_down_killed`
        _join_the_dead()

    def lost_worker(self) -> bool:
        """Say whether a process of the pool has died."""
        return any(not process.is_alive() for process in processes_of(self._pool))


def processes_of(pool: Any) -> list[Any]:
    """Return the processes that a pool believes to have."""
    return list((getattr(pool, "_processes", None) or {}).values())


def _join_the_dead() -> None:
    """Let go of processes that were killed, and of their locks: loky forgets to."""
    multiprocessing.active_children()


def _end_locked_out(processes: list[Any], over: threading.Event) -> None:
    """End processes that cannot end by themselves, because another died as the pool shut down.

    It has taken the lock along under which all of them wait to be told.
    """
    while not over.wait(1.0):
        if any(process.exitcode for process in processes):
            kill_all([process for process in processes if process.is_alive()])


def kill_all(processes: list[Any]) -> None:
    """End processes at once."""
    for process in processes:
        if os.name == "nt":
            process.terminate()
        else:  # loky's processes have no `kill` method
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)


def shut_down_killed(pool: Any) -> None:
    """End the processes of a pool, of the standard library's or loky's kind, and then the pool.

    Loky's own ``kill_workers=True`` leaves its thread with an error when a future was cancelled
    before.
    """
    drainer = end_processes(pool)
    pool.shutdown(wait=True)
    if drainer is not None:
        # It holds the pool's threads: what they hold must not be let go of by a daemon, which the
        # end of the interpreter stops anywhere, between unlinking a semaphore and saying so too.
        drainer.join()
    _join_the_dead()


def end_processes(pool: Any) -> threading.Thread | None:
    """Kill the processes of a pool and see that it notices; it fails its futures by itself.

    Returns
    -------
    thread or None
        Empties the pipe to the processes, and ends with the pool's own threads.
    """
    drainer = None
    manager = getattr(pool, "_executor_manager_thread", None)
    queue, results = getattr(pool, "_call_queue", None), getattr(pool, "_result_queue", None)
    if manager is not None and queue is not None and os.name == "posix":
        threads = [thread for thread in (manager, queue._thread) if thread]
        with contextlib.suppress(OSError):  # the pool has come so far as to close its queue
            args = os.dup(queue._reader.fileno()), threads
            drainer = threading.Thread(target=drain, args=args, daemon=True)
            drainer.start()
    kill_all(processes_of(pool))
    if manager is None or results is None:
        return drainer
    manager.join(NOTICE_SECONDS)
    if manager.is_alive():
        # A process died half-way through a result. With the last writer gone, the pool's thread
        # reads an end of file instead of waiting for the other half for ever. It will close the
        # writer, too: a number that is closed twice may be another file's the second time.
        writer = results._writer
        handle, writer._handle = writer._handle, None
        type(writer)(handle, readable=False).close()
    return drainer


def drain(reader: int, threads: list[threading.Thread]) -> None:
    """Read what was on its way to dead workers until the pool's own threads have ended.

    A full pipe would hold the thread that feeds it for ever, with all that it was to send; and,
    before Python 3.11.5, the end of a standard pool with it (CPython issue 94777).
    """
    os.set_blocking(reader, False)
    while any(thread.is_alive() for thread in threads):
        try:
            os.read(reader, 2**20)
        except BlockingIOError:
            time.sleep(0.005)
    os.close(reader)
