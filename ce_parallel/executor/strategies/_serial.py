"""Run calls in the caller, one after the other: the debugger's strategy."""

from collections.abc import Callable
from concurrent.futures import Future

from ._base import Strategy, T


class SerialStrategy(Strategy):
    """Run each call at once, in the calling thread."""

    name = "serial"

    def start(self, n_workers: int) -> None:
        """Do nothing: the caller is the worker."""

    def submit(self, call: Callable[[], T]) -> "Future[T]":
        """Run `call` now and return its finished future."""
        future: Future[T] = Future()
        future.set_running_or_notify_cancel()
        try:
            future.set_result(call())
        except Exception as error:
            future.set_exception(error)
        return future

    def stop(self, *, kill: bool = False) -> None:
        """Do nothing."""

    def n_workers(self, wanted: int) -> int:
        """Return 1."""
        return 1
