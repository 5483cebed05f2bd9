"""One call, one future: what `ParallelExecutor.submit` does with each kind of strategy."""

import contextlib
import os
import warnings
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, Future, InvalidStateError
from typing import Any

from ..exceptions import FallbackWarning, StrategyError
from . import _limits
from ._broadcast import Broadcast
from ._pool import Pool
from ._transport import TRANSPORT, VALUE, RemoteCall, Reply, pack_items, unpack


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
        remote = RemoteCall(handle, None, True, pack_items([()]), os.getpid())
        inner = _send(remote, pool)
    except Exception as error:
        held.close()
        message = f"{call.func} could not be sent ({type(error).__name__}: {error})"  # type: ignore[attr-defined]
        if strict:
            raise StrategyError(f"{message}.") from error
        warnings.warn(f"{message}; it runs in the caller.", FallbackWarning, stacklevel=3)
        return submit_here(call)
    outer: Future[Any] = Future()

    def done(finished: "Future[Reply]") -> None:
        held.close()
        _pass_on(finished, outer)

    def cancelled(future: "Future[Any]") -> None:
        if future.cancelled():
            inner.cancel()

    outer.add_done_callback(cancelled)
    inner.add_done_callback(done)
    return outer


def _send(call: RemoteCall, pool: Pool) -> "Future[Reply]":
    """Submit to the pool, or to a fresh one if it broke earlier."""
    session = pool.session()
    try:
        return session.submit(call)
    except BrokenExecutor:
        pool.renew_after(session)
        return pool.session().submit(call)


def _pass_on(inner: "Future[Reply]", outer: "Future[Any]") -> None:
    """Fill `outer` with what came of `inner`."""
    if inner.cancelled():
        outer.cancel()
    with contextlib.suppress(InvalidStateError):  # cancelled meanwhile
        if not outer.set_running_or_notify_cancel():
            return
        failure = inner.exception()
        if failure is not None:
            outer.set_exception(_chained(f"The call was lost ({failure}).", failure))
            return
        reply = inner.result()
        outcome = None if reply.failure else unpack(reply)[0]
        if outcome is None or outcome.kind == TRANSPORT:
            why = reply.failure if outcome is None else outcome.value
            outer.set_exception(StrategyError(f"The call {why}."))
        elif outcome.kind == VALUE:
            outer.set_result(outcome.value)
        else:
            outer.set_exception(outcome.value)


def _chained(message: str, cause: BaseException) -> StrategyError:
    error = StrategyError(message)
    error.__cause__ = cause
    return error
