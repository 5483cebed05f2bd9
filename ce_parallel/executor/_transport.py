"""What runs in workers, and how calls get there and back.

    caller                                        worker
    pack(items) -> RemoteCall --- strategy --->   call():
      func handle   (see _broadcast)                load func and shared once, keep them
      shared handle (file, mapped read-only)        for each item: run, time, pickle
      items as bytes                                stop at the first task error
    unpack(reply) -> outcomes <--- strategy ---   Reply(worker, outcomes as bytes)

Everything is pickled to bytes *here*, inside the call, so that something that cannot be
pickled is an ordinary outcome of one item and never breaks a pool. Calls that stay in the
process (`LocalCall`) give the same outcomes without any pickling.
"""

import os
import pickle
import platform
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any, NamedTuple, Self

from . import _limits
from ._broadcast import Handle, MissingError, dumps

VALUE, ERROR, TRANSPORT = "value", "error", "transport"


class Outcome(NamedTuple):
    """What became of one item; times are readings of ``time.perf_counter`` in seconds."""

    kind: str  # VALUE, ERROR (the task's) or TRANSPORT (it could not travel)
    value: Any
    start: float
    end: float


class Reply(NamedTuple):
    """What one call sends back."""

    worker: str
    outcomes: list[Outcome]
    packed: bytes | None = None  # instead of outcomes: all values, when plain pickle can
    times: tuple[list[float], list[float]] = ([], [])  # and their starts and ends
    n_bytes: int = 0
    is_local: bool = False  # nothing was pickled
    failure: str | None = None  # the whole call could not arrive, and why
    missing: bool = False  # it did not run: the worker needs it `with_bytes`


def bind(func: Callable[..., Any], shared: Any, has_shared: bool, star: bool) -> Callable[..., Any]:
    """Return a function of one item: `func(shared, item)`, `func(item)` or `func(*item)`."""
    if star:
        return (lambda item: func(shared, *item)) if has_shared else (lambda item: func(*item))
    return (lambda item: func(shared, item)) if has_shared else func


def run_items(task: Callable[..., Any], items: Sequence[Any]) -> list[Outcome]:
    """Run `task` on each item, up to and including the first error."""
    clock = time.perf_counter
    outcomes = []
    for item in items:
        start = clock()
        try:
            value = task(item)
        except BaseException as error:
            outcomes.append(Outcome(ERROR, error, start, clock()))
            break
        outcomes.append(Outcome(VALUE, value, start, clock()))
    return outcomes


@dataclass(frozen=True, slots=True)
class LocalCall:
    """Run a chunk in another thread of this process."""

    task: Callable[..., Any]
    items: Sequence[Any]

    def __call__(self) -> Reply:
        """Return the reply; nothing is pickled."""
        if _limits.in_worker():
            _limits.cap_openmp_for_good()
            outcomes = run_items(self.task, self.items)
        else:
            with _limits.borrowed_thread():
                outcomes = run_items(self.task, self.items)
        return Reply(threading.current_thread().name, outcomes, is_local=True)


@dataclass(frozen=True, slots=True)
class RemoteCall:
    """Run a chunk in another process. `func` and `shared` lead to state cached there.

    `owner` is the process whose worker that process is for good, or None where it is borrowed
    for the length of the call. `number` tells apart calls that are otherwise equal: dask runs
    equal calls once.
    """

    func: Handle
    shared: Handle | None
    star: bool
    items: bytes
    owner: int | None
    number: int = field(default_factory=count().__next__)

    def __call__(self) -> Reply:
        """Return the reply, with every value pickled."""
        worker = _settle(self.owner)
        try:
            func = self.func.load()
            shared = None if self.shared is None else self.shared.load()
            items = pickle.loads(self.items)
        except MissingError:
            return Reply(worker, [], missing=True)
        except BaseException as error:
            return Reply(worker, [], failure=_in_words("arrive in the worker", error))
        task = bind(func, shared, self.shared is not None, self.star)
        with _limits.borrowed_process():
            outcomes = run_items(task, items)
        return _pack_reply(worker, outcomes)

    def with_bytes(self) -> Self:
        """Return the call with all it refers to, for a worker that cannot reach our files."""
        shared = None if self.shared is None else self.shared.with_bytes()
        return replace(self, func=self.func.with_bytes(), shared=shared)


def ping(owner: int | None) -> int:
    """Return this process' id: the sign that a pool has come up."""
    _settle(owner)
    return os.getpid()


def _settle(owner: int | None) -> str:
    """Make this a worker of process `owner`, if it has one; return how reports call it."""
    if owner is None:
        return f"process {os.getpid()} on {platform.node()}"
    _limits.settle_process(owner)
    return f"process {os.getpid()}"


def pack_items(items: Sequence[Any]) -> bytes:
    """Pickle a chunk of items; cloudpickle, because an item may be a lambda or a local class."""
    return dumps(items)


def unpack(reply: Reply) -> list[Outcome]:
    """Turn bytes of a reply back into values; what cannot be read is a TRANSPORT outcome."""
    if reply.is_local:
        return reply.outcomes
    if reply.packed is None:
        return [_unpack_one(o) if isinstance(o.value, bytes) else o for o in reply.outcomes]
    starts, ends = reply.times
    try:
        values = pickle.loads(reply.packed)
    except Exception as error:
        words = _in_words("be read back", error)
        return [Outcome(TRANSPORT, words, *times) for times in zip(starts, ends, strict=True)]
    return [Outcome(VALUE, *of) for of in zip(values, starts, ends, strict=True)]


def on_our_clock(outcomes: list[Outcome], sent: float) -> list[Outcome]:
    """Return outcomes with times that can be compared with `sent`, when the call was sent.

    The clock of another machine starts elsewhere; what it measured counts from `sent` then.
    """
    first, last = outcomes[0].start, outcomes[-1].end
    if sent <= first and last <= time.perf_counter():
        return outcomes
    shift = sent - first
    return [o._replace(start=o.start + shift, end=o.end + shift) for o in outcomes]


def _unpack_one(outcome: Outcome) -> Outcome:
    try:
        return outcome._replace(value=pickle.loads(outcome.value))
    except Exception as error:
        return outcome._replace(kind=TRANSPORT, value=_in_words("be read back", error))


def _pack_reply(worker: str, outcomes: list[Outcome]) -> Reply:
    """Pickle values at once where plain pickle can, else one by one."""
    if outcomes and all(o.kind == VALUE for o in outcomes):
        try:
            packed = pickle.dumps([o.value for o in outcomes], pickle.HIGHEST_PROTOCOL)
        except Exception:
            pass  # one by one then, to find which item it is
        else:
            times = [o.start for o in outcomes], [o.end for o in outcomes]
            return Reply(worker, [], packed, times, len(packed))
    single = [_pack_one(o) for o in outcomes]
    size = sum(len(o.value) for o in single if isinstance(o.value, bytes))
    return Reply(worker, single, n_bytes=size)


def _pack_one(outcome: Outcome) -> Outcome:
    what = "send its result" if outcome.kind == VALUE else "send its exception"
    try:
        if outcome.kind == ERROR:
            _annotate_with_traceback(outcome.value)
        data = dumps(outcome.value)
        if outcome.kind == ERROR:
            _check_round_trip(outcome.value, pickle.loads(data))
    except Exception as error:
        return outcome._replace(kind=TRANSPORT, value=_in_words(what, error))
    return outcome._replace(value=data)


def _annotate_with_traceback(error: BaseException) -> None:
    lines = traceback.format_exception(error)
    error.add_note(f"Traceback in worker process {os.getpid()}:\n{''.join(lines).rstrip()}")


def _check_round_trip(error: BaseException, copy: Any) -> None:
    """Refuse a copy that differs, as when a constructor rewrites its message each time."""
    if type(copy) is not type(error) or repr(copy) != repr(error) or str(copy) != str(error):
        raise pickle.PicklingError(f"{type(error).__name__} changes when it is pickled")


def _in_words(what: str, error: BaseException) -> str:
    """Describe a transport failure in words, which always travel."""
    return f"cannot {what} ({type(error).__name__}: {error})"
