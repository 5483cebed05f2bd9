"""One call, one future: what `ParallelExecutor.submit` does with each kind of strategy."""

import contextlib
import warnings
from collections.abc import Callable, Iterable
from concurrent.futures import BrokenExecutor, Future, wait
from typing import Any

from ..exceptions import FallbackWarning, StrategyError
from . import _limits
from ._broadcast import Broadcast
from ._pool import Pool, cancel_call, owner_of
from ._run import brief
from ._transport import Raised, RemoteCall, Reply, Stays, unpack


def submit_here(call: Callable[[], Any]) -> "Future[Any]":
    """Run `call` at once, in the caller."""
    future: Future[Any] = Future()
    future.set_running_or_notify_cancel()
    try:
        with _limits.one_inner_thread():
            future.set_result(call())
    except Exception as error:
        future.set_exception(error)
    return future


def submit_thread(call: Callable[[], Any], pool: Pool) -> "Future[Any]":
    """Run `call` in a thread, with inner threads capped while it is under way."""
    held = contextlib.ExitStack()
    held.enter_context(_limits.one_blas_thread())

    def run() -> Any:
        with _limits.borrowed_thread():
            return call()

    try:
        future = pool.session().submit(run)
    except BaseException:
        held.close()
        raise
    future.add_done_callback(lambda _: held.close())
    return future


def submit_remote(
    call: Callable[[], Any], pool: Pool, broadcast: Broadcast, strict: bool
) -> "Future[Any]":
    """Run `call` in another process; one that cannot be sent runs here, with a warning."""
    held = contextlib.ExitStack()
    try:
        (handle,) = held.enter_context(broadcast.lease(call))
        remote = RemoteCall.make(handle, None, True, [()], owner_of(pool.prototype))
        return RemoteFuture(remote, pool, held.close)
    except Exception as error:
        held.close()
        message = f"{call.func} could not be sent ({brief(error)})"  # type: ignore[attr-defined]
        if strict:
            raise StrategyError(f"{message}.") from error
        warnings.warn(f"{message}; it runs in the caller.", FallbackWarning, stacklevel=3)
        return submit_here(call)


class RemoteFuture(Future[Any]):
    """What becomes of one call in another process.

    Follows the pool's own future, `inner`. The call is sent again when its worker could not
    reach the file of its arguments, and when a map that shared the workers ended them.

    Parameters
    ----------
    call : RemoteCall
    pool : Pool
    release : callable
        Called once the call will not be sent again.
    """

    def __init__(self, call: RemoteCall, pool: Pool, release: Callable[[], None]) -> None:
        super().__init__()
        self._call, self._pool, self._release = call, pool, release
        self._abandoned = False
        self._send()

    def cancel(self) -> bool:
        """Cancel the call, unless it runs or has ended."""
        return (self.cancelled() or cancel_call(self._inner)) and super().cancel()

    def running(self) -> bool:
        """Say whether the call can no longer be cancelled and has no result yet."""
        return self._inner.running()

    def abandon(self) -> None:
        """Cancel the call even if it runs: its workers are ended, where they are ours."""
        self._abandoned = True
        if self._inner.running():
            self._session.end(kill=True, deliberate=True)

    @property
    def is_borrowed(self) -> bool:
        """Whether the worker is somebody else's."""
        return self._call.owner is None

    def _send(self) -> None:
        """Submit to the pool's session, or to the next one if that has broken or ended."""
        session = self._pool.session()
        try:
            inner = session.submit(self._call)
        except RuntimeError as error:
            if isinstance(error, BrokenExecutor):
                self._pool.renew_after(session)
            elif not session.deliberate:
                raise
            session = self._pool.session()
            inner = session.submit(self._call)
        self._session, self._inner = session, inner
        inner.add_done_callback(self._arrived)

    def _arrived(self, inner: "Future[Reply]") -> None:
        """Send the call again, or pass on what came of it; runs in a thread of the pool's."""
        try:
            if self._goes_again(inner):
                self._send()
                return
            outcome = self._outcome(inner)
        except Exception as error:
            outcome = Raised(_lost(brief(error), error))
        self._release()
        if inner.cancelled() or (self._ended_it() and inner.exception() is not None):
            super().cancel()
        if not self.set_running_or_notify_cancel():
            return
        if isinstance(outcome, Raised):
            self.set_exception(outcome.error)
        else:
            self.set_result(outcome)

    def _goes_again(self, inner: "Future[Reply]") -> bool:
        if self._abandoned or inner.cancelled():
            return False
        if inner.exception() is not None:
            return self._session.deliberate
        if inner.result().missing:
            self._call = self._call.with_bytes()
            return True
        return False

    def _ended_it(self) -> bool:
        return self._abandoned and self._session.deliberate

    def _outcome(self, inner: "Future[Reply]") -> Any:
        """Return the value of a finished call, or `Raised` an error."""
        failure = inner.exception()
        if failure is not None:
            return Raised(_lost(str(failure), failure))
        reply = inner.result()
        value = Stays(reply.failure) if reply.failure else unpack(reply)[0]
        return (
            Raised(StrategyError(f"The call {value.why}.")) if isinstance(value, Stays) else value
        )


def wait_for_borrowed(futures: Iterable["Future[Any]"]) -> None:
    """Wait for calls that workers of somebody else's may still ask to have sent again."""
    wait([f for f in list(futures) if isinstance(f, RemoteFuture) and f.is_borrowed])


def _lost(why: str, cause: BaseException) -> StrategyError:
    error = StrategyError(f"The call was lost ({why}).")
    error.__cause__ = cause
    return error
