"""What runs in workers, and how calls get there and back.

    caller                                        worker
    pack(items) -> RemoteCall --- strategy --->   call():
      func handle   (see _broadcast)                load func and shared once, keep them
      shared handle (file, mapped read-only)        for each item: run, read the clock
      items as bytes                                stop at the first task error
    unpack(reply) -> values <------ strategy ---  Reply(worker, values as bytes, ticks)

Everything is pickled to bytes *here*, inside the call, so that something that cannot be
pickled is the trouble of one item (of its call, if a value cannot be read back) and never breaks
a pool. Calls that stay in the process
(`LocalCall`) give the same replies without any pickling.
"""

import math
import os
import pickle
import platform
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import count
from typing import Any, NamedTuple, Self

from . import _limits
from ._broadcast import Handle, MissingError, dumps

PLAIN = frozenset({int, float, complex, bool, str, bytes, range, type(None)})
_call_number = count()


class Raised(NamedTuple):
    """Stands for the value of the item whose task raised `error`."""

    error: BaseException


class Stays(NamedTuple):
    """Stands for the value of an item that could not travel; says why."""

    why: str


class Packed(NamedTuple):
    """A value, or an error, that was pickled by itself."""

    data: bytes
    is_error: bool


class Reply(NamedTuple):
    """What one call sends back: values of consecutive items, in one of three forms.

    `values` from this process, `packed` where one pickle holds them all, else `parts`.
    Item ``k`` ran from ``ticks[k]`` to ``ticks[k + 1]``, readings of ``time.perf_counter``.
    """

    worker: str
    ticks: Sequence[float] = ()
    values: list[Any] | None = None
    packed: bytes | None = None
    parts: "Sequence[Packed | Stays]" = ()
    failure: str | None = None  # the whole call could not arrive, and why
    missing: bool = False  # it did not run: the worker needs it `with_bytes`

    @property
    def n_bytes(self) -> int:
        """Size of what was pickled."""
        if self.packed is not None:
            return len(self.packed)
        return sum(len(part.data) for part in self.parts if isinstance(part, Packed))


def bind(func: Callable[..., Any], shared: Any, has_shared: bool, star: bool) -> Callable[..., Any]:
    """Return a function of one item: `func(shared, item)`, `func(item)` or `func(*item)`."""
    if star:
        return (lambda item: func(shared, *item)) if has_shared else (lambda item: func(*item))
    return (lambda item: func(shared, item)) if has_shared else func


def run_items(
    task: Callable[..., Any], items: Iterable[Any], until: float = math.inf
) -> tuple[list[Any], list[float]]:
    """Run `task` on each item, up to and including the first error; return values and ticks.

    Begins no item after the time `until`.
    """
    clock = time.perf_counter
    values: list[Any] = []
    ticks = [clock()]
    try:
        for item in items:
            values.append(task(item))
            ticks.append(now := clock())
            if now > until:
                break
    except BaseException as error:
        values[len(ticks) - 1 :] = [Raised(error)]
        ticks.append(clock())
    return values, ticks


@dataclass(slots=True)
class LocalCall:
    """Run a chunk in another thread of this process."""

    task: Callable[..., Any]
    items: Sequence[Any]

    def __call__(self) -> Reply:
        """Return the reply; nothing is pickled."""
        with _limits.borrowed_thread():
            values, ticks = run_items(self.task, self.items)
        return Reply(threading.current_thread().name, ticks, values)


@dataclass(slots=True, eq=False)
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
    number: int

    def __reduce__(self) -> Any:  # what dataclasses do for slots takes far longer
        fields = self.func, self.shared, self.star, self.items, self.owner, self.number
        return RemoteCall, fields

    @classmethod
    def make(
        cls,
        func: Handle,
        shared: Handle | None,
        star: bool,
        items: Sequence[Any],
        owner: int | None,
    ) -> Self:
        """Return a call, with `items` pickled.

        By cloudpickle, because an item may be a lambda or a local class; unless all are plain.
        """
        quick = PLAIN.issuperset(map(type, items))
        packed = pickle.dumps(items, pickle.HIGHEST_PROTOCOL) if quick else dumps(items)
        return cls(func, shared, star, packed, owner, next(_call_number))

    def __call__(self) -> Reply:
        """Return the reply, with every value pickled."""
        worker = _settle(self.owner)
        try:
            func = self.func.load()
            shared = None if self.shared is None else self.shared.load()
            items = pickle.loads(self.items)
        except MissingError:
            return Reply(worker, missing=True)
        except BaseException as error:
            return Reply(worker, failure=_in_words("arrive in the worker", error))
        task = bind(func, shared, self.shared is not None, self.star)
        with _limits.borrowed_process():
            values, ticks = run_items(task, items)
        return _pack_reply(worker, values, ticks)

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


def unpack(reply: Reply) -> list[Any] | Stays:
    """Return a reply's values, with `Raised` and `Stays` in the places of those it lacks."""
    if reply.values is not None:
        return reply.values
    if reply.packed is None:
        return [_unpack_one(part) if isinstance(part, Packed) else part for part in reply.parts]
    try:
        values: list[Any] = pickle.loads(reply.packed)
    except Exception as error:
        return Stays(_in_words("be read back", error))
    return values


def _unpack_one(part: Packed) -> Any:
    try:
        value = pickle.loads(part.data)
    except Exception as error:
        return Stays(_in_words("be read back", error))
    return Raised(value) if part.is_error else value


def on_our_clock(ticks: Sequence[float], sent: float) -> Sequence[float]:
    """Return ticks that can be compared with `sent`, when the call was sent.

    The clock of another machine starts elsewhere; what it measured counts from `sent` then.
    """
    if sent <= ticks[0] and ticks[-1] <= time.perf_counter():
        return ticks
    shift = sent - ticks[0]
    return [tick + shift for tick in ticks]


def _pack_reply(worker: str, values: list[Any], ticks: list[float]) -> Reply:
    """Pickle values at once where plain pickle can, else one by one."""
    if not (values and type(values[-1]) is Raised):
        try:
            packed = pickle.dumps(values, pickle.HIGHEST_PROTOCOL)
        except Exception:
            pass  # one by one then, to find which item it is
        else:
            return Reply(worker, ticks, packed=packed)
    return Reply(worker, ticks, parts=[_pack_one(value) for value in values])


def _pack_one(value: Any) -> Packed | Stays:
    if not isinstance(value, Raised):
        try:
            return Packed(dumps(value), False)
        except Exception as error:
            return Stays(_in_words("send its result", error))
    try:
        _annotate_with_traceback(value.error)
        data = dumps(value.error)
        _check_round_trip(value.error, pickle.loads(data))
    except Exception as error:
        return Stays(_in_words("send its exception", error))
    return Packed(data, True)


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
