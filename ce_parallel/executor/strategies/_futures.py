"""Run calls in an executor that the user brings and keeps."""

import contextlib
from collections.abc import Callable
from concurrent.futures import CancelledError, Executor, Future, ThreadPoolExecutor

from ._base import Strategy, T
from ._processes import ProcessPoolExecutorStrategy, processes_of, shut_down_killed


class FuturesStrategy(Strategy):
    """Wrap any live ``concurrent.futures.Executor``; only a broken one is shut down from here.

    Its workers stay as they are: inner threads are capped while a call of ours runs, and are as
    before afterwards. They may be on other machines: shared state then travels in the calls.

    Parameters
    ----------
    executor : concurrent.futures.Executor
    crosses_process : bool or None, default=None
        Whether calls must be pickled. ``None``: always, unless `executor` is exactly a
        ``ThreadPoolExecutor``; a subclass may run them elsewhere, as the standard library's
        ``InterpreterPoolExecutor`` does. False saves the pickling where an executor of another
        kind runs calls in threads of this process.
    """

    name = "futures"
    owns_workers = False  # so they are not capped for good

    def __init__(self, executor: Executor, crosses_process: bool | None = None) -> None:
        self.executor = executor
        if crosses_process is None:
            crosses_process = type(executor) is not ThreadPoolExecutor
        self.crosses_process = crosses_process

    def start(self, n_workers: int) -> None:
        """Take note of calls from now on: the executor is live."""
        self._unfinished: set[Future[object]] = set()

    def submit(self, call: Callable[[], T]) -> "Future[T]":
        """Schedule `call` in the user's executor."""
        future = self.executor.submit(call)
        self._unfinished.add(future)  # type: ignore[arg-type]
        future.add_done_callback(self._unfinished.discard)
        return future

    def stop(self, *, kill: bool = False) -> None:
        """Wait for our own calls, or leave them: the user shuts the executor down.

        Except a process pool that is broken but may not have noticed, and may never do so.
        """
        if kill:
            if self.lost_worker():
                shut_down_killed(self.executor)
            return
        for future in list(self._unfinished):
            with contextlib.suppress(CancelledError):  # `wait` misses one that a pool forgot
                future.exception()

    def lost_worker(self) -> bool:
        """Say whether a process of a standard pool, or of loky's, has died."""
        return any(process.exitcode for process in processes_of(self.executor))

    def fresh(self) -> Strategy:
        """Return a strategy on the same executor; a broken one cannot be renewed."""
        return FuturesStrategy(self.executor, self.crosses_process)

    def replacement(self) -> Strategy:
        """Return a private process pool to retry in once the user's executor broke."""
        return ProcessPoolExecutorStrategy()

    def n_workers(self, wanted: int) -> int:
        """Return the executor's own number of workers where it tells."""
        return int(getattr(self.executor, "_max_workers", None) or wanted)

    def __getstate__(self) -> dict[str, object]:
        raise TypeError(
            "A FuturesStrategy holds a live Executor, which cannot be pickled. Name a strategy "
            "instead (preferred='processes'), or make the strategy where it is used."
        )

    def __repr__(self) -> str:
        kind = type(self.executor).__name__
        where = "elsewhere" if self.crosses_process else "in this process"
        return f"FuturesStrategy({kind} at {id(self.executor):#x}, {where})"


def kills_workers(error: BaseException) -> bool:
    """Say whether an executor gave a call up because workers died of it, one after the other.

    That is dask's word for it; it tries a call several times before.
    """
    kind = type(error)
    return kind.__name__ == "KilledWorker" and kind.__module__.startswith("distributed.")
