"""Measure the first item of a map while it runs in the caller; its result is kept.

    caller      |---------------- first item ----------------|
    heartbeat      .  .  .  .  .  .  .   how late does it wake? late means: GIL was held
    consider             ?     ?           ?  -> the rest may be dispatched meanwhile

A waking thread gets a free GIL within microseconds and a held one after Python's switch
interval (5 ms), so the share of punctual wake-ups estimates how much of the time the GIL is
released. It says nothing of how *large* each released stretch is.
"""

import _thread
import itertools
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from . import _limits
from ._transport import Outcome, run_items

PERIOD = 0.0002  # seconds between the first heartbeats
LATE = 0.001  # a wake-up later than this found the GIL held
MIN_BEATS = 4  # fewer say nothing
FIRST_LOOK = 0.005  # the first time `consider` is asked; then at twice that, and so on

Consider = Callable[[float, float | None], bool]


class Heartbeat:
    """Watch one item from a second thread."""

    def __init__(self, consider: Consider) -> None:
        self._consider = consider
        self._lock = threading.Lock()  # held while considering, so that `stop` waits for it
        self._stopped = False
        self._beats = 0
        self._punctual = 0
        self._begun = time.perf_counter()
        # Not threading.Thread: its start() waits for the thread, longer than a small map takes.
        _thread.start_new_thread(self._run, ())

    def share(self) -> float | None:
        """Return the share of time the GIL was released, None if too short to tell."""
        return self._punctual / self._beats if self._beats >= MIN_BEATS else None

    def stop(self) -> None:
        """End; after this returns, nothing is considered any more."""
        with self._lock:
            self._stopped = True

    def _run(self) -> None:
        next_look, period = FIRST_LOOK, PERIOD
        while not self._stopped:
            before = time.perf_counter()
            time.sleep(period)
            now = time.perf_counter()
            self._beats += 1
            self._punctual += now - before - period < LATE
            elapsed = now - self._begun
            if elapsed < next_look:
                continue
            next_look, period = 2.0 * elapsed, min(10.0 * PERIOD, elapsed / 20)
            with self._lock:
                if self._stopped or self._consider(elapsed, self.share()):
                    return


def probe(task: Callable[..., Any], item: Any, consider: Consider) -> tuple[Outcome, float | None]:
    """Run `task(item)` here; return its outcome and the GIL's released share.

    Parameters
    ----------
    consider : callable of (elapsed seconds, share or None), returning bool
        Asked from the heartbeat's thread while the item runs; True ends the watching.
    """
    heartbeat = Heartbeat(consider)
    try:
        with _limits.one_inner_thread():
            (outcome,) = run_items(task, [item])
    finally:
        heartbeat.stop()
    return outcome, heartbeat.share()


def peek(items: Iterator[Any], n: int) -> tuple[list[Any], Iterator[Any]]:
    """Return the first `n` items and the rest, which raises what drawing them raised."""
    seen: list[Any] = []
    try:
        for item in itertools.islice(items, n):
            seen.append(item)
    except Exception as error:
        return seen, _raising(error)
    return seen, items


def _raising(error: Exception) -> Iterator[Any]:
    raise error
    yield


def approximate_bytes(obj: Any, depth: int = 3) -> int:
    """Return roughly how large `obj` is when pickled, without pickling it.

    Looks at arrays, strings and, `depth` levels down, into containers and attributes; at most
    at 1,000 elements of each. What cannot be estimated counts nothing.
    """
    try:
        return _bytes_of(obj, depth)
    except Exception:  # an odd object must not fail a map for an estimate
        return 0


def _bytes_of(obj: Any, depth: int) -> int:
    size = getattr(obj, "nbytes", None)
    if isinstance(size, int):
        return size
    if isinstance(obj, str | bytes | bytearray):
        return len(obj)
    if hasattr(obj, "memory_usage"):  # a pandas object
        return int(np.sum(obj.memory_usage(index=False)))
    if depth == 0:
        return 64
    if isinstance(obj, dict):
        parts = list(obj.values())
    elif isinstance(obj, list | tuple | set | frozenset):
        parts = list(obj)
    else:
        parts = list(getattr(obj, "__dict__", {}).values())
    seen = [_bytes_of(part, depth - 1) for part in parts[:1000]]
    return 64 + int(sum(seen) * (len(parts) / max(1, len(seen))))
