"""How far tasks release the GIL: known of some functions and estimators, else measured.

    caller      |------------- tasks -------------|
    heartbeat      .  .  .  .  .  .  .   how late does it wake? late means: GIL was held

A waking thread gets a free GIL within microseconds and a held one after Python's switch interval
(5 ms), so the share of time it slept without being late estimates how much of the time the GIL
is released. It says nothing of how *large* each released stretch is.
"""

import _thread
import functools
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

PERIOD = 0.0002  # seconds between the first heartbeats
LONGEST_PERIOD = 0.002
LATE = 0.001  # a wake-up later than this found the GIL held
MIN_SECONDS = 0.0008  # less says nothing
KNOWN_FROM_SECONDS = 0.001  # shorter calls spend much of their time outside the released part

# Measured with two threads against one, on large inputs; names as in their modules.
RELEASING = frozenset(
    {
        "time.sleep",
        "zlib.compress",
        "zlib.decompress",
        "numpy.argsort",
        "numpy.dot",
        "numpy.matmul",
        "numpy.partition",
        "numpy.percentile",
        "numpy.quantile",
        "numpy.searchsorted",
        "numpy.sort",
        "numpy.unique",
        "sklearn.ExtraTreesClassifier",
        "sklearn.ExtraTreesRegressor",
        "sklearn.HistGradientBoostingClassifier",
        "sklearn.HistGradientBoostingRegressor",
        "sklearn.KNeighborsClassifier",
        "sklearn.KNeighborsRegressor",
        "sklearn.LogisticRegression",
        "sklearn.MLPClassifier",
        "sklearn.MLPRegressor",
        "sklearn.RandomForestClassifier",
        "sklearn.RandomForestRegressor",
        "sklearn.SVC",
        "sklearn.SVR",
    }
)
HOLDING = frozenset({"sklearn.GradientBoostingClassifier", "sklearn.GradientBoostingRegressor"})


def known_share(func: Callable[..., Any], cost: float) -> float | None:
    """Return the share of time a known function releases the GIL, None if it is not known.

    Parameters
    ----------
    func : callable
        A function, a method of an estimator, or a partial of one.
    cost : float
        Seconds a call takes: small calls hold the GIL whatever they call.
    """
    try:
        names = _names_of(func)
    except Exception:  # an odd callable must not fail a map for a guess
        return None
    if names & HOLDING:
        return 0.0
    return 1.0 if names & RELEASING and cost >= KNOWN_FROM_SECONDS else None


def _names_of(func: Any) -> set[str]:
    """Return "package.name" of a function, or of the classes that a method is of."""
    while isinstance(func, functools.partial):
        func = func.func
    kinds = type(getattr(func, "__self__", None)).__mro__ if hasattr(func, "__self__") else ()
    names = {f"{kind.__module__.partition('.')[0]}.{kind.__name__}" for kind in kinds}
    module = (getattr(func, "__module__", None) or "").partition(".")[0]
    return names | {f"{module}.{getattr(func, '__name__', '')}"}


class Heartbeat:
    """Watch the caller from a second thread.

    Parameters
    ----------
    look : callable of no arguments, returning bool
        Asked at every beat, with `lock` held; True ends the watching.
    """

    def __init__(self, look: Callable[[], bool]) -> None:
        self.lock = threading.Lock()
        self.begun = time.perf_counter()
        self._look = look
        self._released = 0.0  # seconds slept without being late
        self._asleep = float("inf")  # since when
        self._halt, self._ended = threading.Lock(), threading.Lock()
        self._halt.acquire()
        self._ended.acquire()
        # Not threading.Thread: its start() waits for the thread, longer than a small map takes.
        try:
            _thread.start_new_thread(self._run, ())
        except RuntimeError:  # no thread can be started: nothing is watched
            self._ended.release()

    def share(self) -> float | None:
        """Return the share of time the GIL was released so far, None if too short to tell."""
        now = time.perf_counter()
        if now - self.begun < MIN_SECONDS:
            return None
        unfinished = now - self._asleep
        released = self._released + (unfinished if 0 < unfinished < PERIOD + LATE else 0.0)
        return min(1.0, released / (now - self.begun))

    def stop(self) -> None:
        """End, and wait for that: a thread waiting for the GIL slows down those that release it."""
        self._halt.release()
        self._ended.acquire()

    def _run(self) -> None:
        try:
            while not self._beat():
                pass
        finally:
            self._ended.release()

    def _beat(self) -> bool:
        """Sleep once; say whether that was the last time."""
        self._asleep = before = time.perf_counter()
        period = min(LONGEST_PERIOD, max(PERIOD, (before - self.begun) / 20))
        if self._halt.acquire(timeout=period):
            return True
        now = time.perf_counter()
        if now - before - period < LATE:
            self._released += now - before
        with self.lock:
            return self._look()


def is_enabled() -> bool:
    """Say whether this interpreter has a GIL at all."""
    return getattr(sys, "_is_gil_enabled", lambda: True)()
