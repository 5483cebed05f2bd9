"""What a strategy is: start workers, submit calls, stop."""

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable
from concurrent.futures import Future
from typing import ClassVar, TypeVar

T = TypeVar("T")


class Strategy(ABC):
    """One way of running calls concurrently.

    ``__init__`` stores parameters and nothing else; ``start`` makes the workers. An
    executor starts *copies* of the strategy it is given (``fresh``), so one object may
    serve several executors, be cloned by reference and be started again after a failure.

    Attributes
    ----------
    name : str
        How reports call it.
    crosses_process : bool
        Whether calls leave this process, so that functions, items and results are pickled.
    owns_workers : bool
        Whether the workers are ours, and capped for good; else only while a call runs.
    """

    name: ClassVar[str] = "custom"
    crosses_process: bool = False
    owns_workers: bool = True

    @abstractmethod
    def start(self, n_workers: int) -> None:
        """Make `n_workers` workers. Any exception means "this strategy cannot run here"."""

    @abstractmethod
    def submit(self, call: Callable[[], T]) -> "Future[T]":
        """Schedule `call()`; a dead worker shows as ``BrokenExecutor`` in the future."""

    @abstractmethod
    def stop(self, *, kill: bool = False) -> None:
        """Release the workers.

        Finished calls keep their results. With ``kill=False`` submitted calls are waited
        for; with ``kill=True`` worker processes end at once and threads are abandoned.
        """

    def lost_worker(self) -> bool:
        """Say whether a worker process has died, where that can be seen."""
        return False

    def fresh(self) -> "Strategy":
        """Return an unstarted strategy with the same parameters."""
        return copy.copy(self)

    def replacement(self) -> "Strategy":
        """Return the unstarted strategy to retry in after a worker died."""
        return self.fresh()

    def n_workers(self, wanted: int) -> int:
        """Return how many workers `start` would give when asked for `wanted`."""
        return wanted

    def __repr__(self) -> str:
        hidden = ("_", "crosses_process", "owns_workers")
        values = {k: v for k, v in vars(self).items() if not k.startswith(hidden) and v}
        shown = ", ".join(f"{k}={v!r}" for k, v in values.items())
        return f"{type(self).__name__}({shown})"
