"""One call, one future: what `ParallelExecutor.submit` does with each kind of strategy."""

import contextlib
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import BrokenExecutor, Future, wait
from functools import partial
from typing import Any, NamedTuple

from ..exceptions import StrategyError
from . import _limits
from ._broadcast import Broadcast
from ._metrics import Hook, observe
from ._pool import Pool, cancel_call, owner_of
from ._run import brief
from ._transport import LocalCall, Raised, RemoteCall, Reply, Stays, on_our_clock, unpack


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


def submit_out(
    call: Callable[[], Any], pool: Pool, broadcast: Broadcast, hooks: tuple[Hook, ...]
) -> "CallFuture":
    """Run `call` in a worker, with its inner threads capped. Raises what pickling it raises.

    In a thread, `hooks` watch maps within it.
    """
    held = contextlib.ExitStack()
    sent: LocalCall | RemoteCall
    try:
        if pool.prototype.crosses_process:
            (handle,) = held.enter_context(broadcast.lease(call))
            sent = RemoteCall.make(handle, None, True, [()], owner_of(pool.prototype))
        else:
            held.enter_context(_limits.one_blas_thread())
            sent = LocalCall(partial(_call_here, hooks), [call])
        return CallFuture(sent, pool, held.close)
    except BaseException:
        held.close()
        raise


def _call_here(hooks: tuple[Hook, ...], call: Callable[[], Any]) -> Any:
    """Run `call` in a thread, where `hooks` watch what its sender lets them watch."""
    with observe(*hooks):
        return call()


class Trace(NamedTuple):
    """How a call went, as `ExecutionReport.add` wants it."""

    ticks: Sequence[float]
    submitted: float
    worker: str
    payload_bytes: int
    result_bytes: int


class CallFuture(Future[Any]):
    """What becomes of one call in a thread or another process.

    Follows the pool's own future, `inner`. The call is sent again when its worker could not
    reach the file of its arguments, and when a map that shared the workers ended them.

    Parameters
    ----------
    call : LocalCall or RemoteCall
        Of one item.
    pool : Pool
    release : callable
        Called once the call will not be sent again.

    Attributes
    ----------
    trace : Trace or None
        How the call went, once it has an answer.
    """

    def __init__(
        self, call: LocalCall | RemoteCall, pool: Pool, release: Callable[[], None]
    ) -> None:
        super().__init__()
        self.trace: Trace | None = None
        self._call: LocalCall | RemoteCall | None = call
        self._pool, self._release = pool, release
        self._abandoned = False
        self._send()

    def cancel(self) -> bool:
        """Cancel the call, unless it runs or has ended."""
        inner = self._inner
        return (self.cancelled() or (inner is not None and cancel_call(inner))) and super().cancel()

    def running(self) -> bool:
        """Say whether the call can no longer be cancelled and has no result yet."""
        inner = self._inner
        return inner is not None and inner.running()

    def abandon(self) -> None:
        """Cancel the call even if it runs: its workers are ended, where they are ours."""
        self._abandoned = self._session.strategy.crosses_process
        if self._abandoned and self.running():
            self._session.end(kill=True, deliberate=True)

    @property
    def is_borrowed(self) -> bool:
        """Whether the worker is somebody else's."""
        call = self._call
        return isinstance(call, RemoteCall) and call.owner is None

    def _send(self) -> None:
        """Submit to the pool's session, or to the next one if that has broken or ended."""
        self._sent, call = time.perf_counter(), self._call
        assert call is not None
        session = self._pool.session()
        try:
            inner = session.submit(call)
        except RuntimeError as error:
            if isinstance(error, BrokenExecutor):
                self._pool.renew_after(session)
            elif not session.deliberate:
                raise
            session = self._pool.session()
            inner = session.submit(call)
        self._session = session
        self._inner: Future[Reply] | None = inner
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
        if self.set_running_or_notify_cancel():
            if isinstance(outcome, Raised):
                self.set_exception(outcome.error)
            else:
                self.set_result(outcome)
        # Let go of the arguments, and of what refers to this, and this perhaps to much else.
        self._inner = self._call = None

    def _goes_again(self, inner: "Future[Reply]") -> bool:
        if self._abandoned or inner.cancelled():
            return False
        if inner.exception() is not None:
            return self._session.deliberate
        if inner.result().missing and isinstance(self._call, RemoteCall):
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
        if reply.ticks:
            size = self._call.func.n_bytes if isinstance(self._call, RemoteCall) else 0
            ticks = on_our_clock(reply.ticks, self._sent)
            self.trace = Trace(ticks, self._sent, reply.worker, size, reply.n_bytes)
        values = Stays(reply.failure) if reply.failure else unpack(reply)
        value = values if isinstance(values, Stays) else values[0]
        if isinstance(value, Stays):
            return Raised(StrategyError(f"The call {value.why}."))
        return value


def give_up(futures: Iterable[CallFuture]) -> None:
    """Cancel calls; those that run already are abandoned."""
    for future in list(futures):
        if not (future.cancel() or future.done()):
            future.abandon()


def wait_for_borrowed(futures: Iterable[CallFuture]) -> None:
    """Wait for calls that workers of somebody else's may still ask to have sent again."""
    wait([future for future in list(futures) if future.is_borrowed])


def _lost(why: str, cause: BaseException) -> StrategyError:
    error = StrategyError(f"The call was lost ({why}).")
    error.__cause__ = cause
    return error
