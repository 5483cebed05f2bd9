"""Run calls in an executor that the user brings and keeps."""

from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor

from ._base import Strategy, T
from ._processes import ProcessPoolExecutorStrategy


class FuturesStrategy(Strategy):
    """Wrap any live ``concurrent.futures.Executor``; it is never shut down from here.

    Parameters
    ----------
    executor : concurrent.futures.Executor
        Everything but a ``ThreadPoolExecutor`` is taken to run calls in other processes.
    """

    name = "futures"

    def __init__(self, executor: Executor) -> None:
        self.executor = executor
        self.crosses_process = not isinstance(executor, ThreadPoolExecutor)

    def start(self, n_workers: int) -> None:
        """Do nothing: the executor is live."""

    def submit(self, call: Callable[[], T]) -> "Future[T]":
        """Schedule `call` in the user's executor."""
        return self.executor.submit(call)

    def stop(self, *, kill: bool = False) -> None:
        """Do nothing: the user shuts the executor down."""

    def fresh(self) -> Strategy:
        """Return itself; a broken executor cannot be renewed (see `replacement`)."""
        return self

    def replacement(self) -> Strategy:
        """Return a private process pool to retry in once the user's executor broke."""
        return ProcessPoolExecutorStrategy()

    def n_workers(self, wanted: int) -> int:
        """Return the executor's own number of workers where it tells."""
        return int(getattr(self.executor, "_max_workers", wanted))

    def __getstate__(self) -> dict[str, object]:
        raise TypeError(
            "A FuturesStrategy holds a live Executor, which cannot be pickled. Name a strategy "
            "instead (preferred='processes'), or make the strategy where it is used."
        )

    def __repr__(self) -> str:
        return f"FuturesStrategy({self.executor!r})"
