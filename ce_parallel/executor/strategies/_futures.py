"""Run calls in an executor that the user brings and keeps."""

from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor

from ._base import Strategy, T
from ._processes import ProcessPoolExecutorStrategy, end_processes, processes_of


class FuturesStrategy(Strategy):
    """Wrap any live ``concurrent.futures.Executor``; it is never shut down from here.

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
        """Do nothing: the executor is live."""

    def submit(self, call: Callable[[], T]) -> "Future[T]":
        """Schedule `call` in the user's executor."""
        return self.executor.submit(call)

    def stop(self, *, kill: bool = False) -> None:
        """Do nothing: the user shuts the executor down.

        Except that the rest of a broken process pool is ended, which may not have noticed.
        """
        if kill and self.lost_worker():
            end_processes(self.executor)

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
