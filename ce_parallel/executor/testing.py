"""`StrategyContract`: what every strategy must do, as tests to inherit.

Four lines in a test module of yours::

    from ce_parallel.executor.testing import StrategyContract

    class TestMyStrategy(StrategyContract):
        def make_strategy(self):
            return MyStrategy()

Needs pytest, and ``filterwarnings = error`` to notice a fallback nobody expected.
"""

import contextlib
import itertools
import os
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from ..exceptions import CancelledError, FallbackWarning, StrategyError
from ._config import ParallelConfig
from ._engine import LOOKAHEAD
from ._facade import ParallelExecutor
from .strategies import Strategy

N_WORKERS = 2


class OddError(Exception):
    """An exception whose constructor wants other arguments than `args` has."""

    def __init__(self, code: int, detail: Any) -> None:
        super().__init__(f"code {code}")
        self.detail = detail


def square(x: int) -> int:
    """Return x squared."""
    return x * x


def fail_on_three(x: int) -> int:
    """Raise an ordinary error for item 3."""
    if x == 3:
        raise ValueError("three is too much", x)
    return x


def fail_oddly_on_three(x: int) -> int:
    """Raise an error with an odd constructor for item 3."""
    if x == 3:
        raise OddError(3, "odd")
    return x


def fail_with_lock_on_three(x: int) -> int:
    """Raise an error that cannot be pickled for item 3."""
    if x == 3:
        raise OddError(3, threading.Lock())
    return x


def lock_on_three(x: int) -> Any:
    """Return something that cannot be pickled for item 3."""
    return threading.Lock() if x == 3 else x


def describe(shared: dict[str, np.ndarray], x: int) -> tuple[float, bool, int]:
    """Return a number computed from shared arrays."""
    return float(shared["a"][x]), bool(shared["b"].all()), os.getpid()


def kill_worker(shared: tuple[int, int], x: int) -> int:
    """Kill this process at one item, always; it must not be the caller."""
    caller, victim = shared
    if x == victim:
        assert os.getpid() != caller, "a dangerous item ran in the caller"
        os.kill(os.getpid(), getattr(signal, "SIGKILL", signal.SIGTERM))
    return x


def kill_worker_once(shared: tuple[str, int], x: int) -> int:
    """Kill this process at one item if a marker file does not exist yet."""
    marker, victim = shared
    if x == victim and not os.path.exists(marker):
        open(marker, "w").close()
        os.kill(os.getpid(), getattr(signal, "SIGKILL", signal.SIGTERM))
    return x


def wait_for_file(path: str, x: int) -> int:
    """Wait until a file exists, unless x is 0."""
    while x and not os.path.exists(path):
        time.sleep(0.01)
    return x


def drain(results: Iterator[Any], *, into: list[Any]) -> None:
    """Append results one by one, so that those before an error are kept."""
    for value in results:
        into.append(value)


class StrategyContract:
    """Inherit and define `make_strategy`."""

    def make_strategy(self) -> Strategy:
        """Return the strategy to test, not started."""
        raise NotImplementedError

    @pytest.fixture(scope="class")
    @classmethod
    def executor(cls) -> Iterator[ParallelExecutor]:
        """An executor on this strategy, warm for all tests of the class."""
        config = ParallelConfig(preferred=cls().make_strategy(), max_workers=N_WORKERS)
        with ParallelExecutor(config) as executor:
            yield executor

    @pytest.fixture
    def crosses(self, executor: ParallelExecutor) -> bool:
        """Whether calls leave this process."""
        preferred = executor.config.preferred
        assert isinstance(preferred, Strategy)
        return preferred.crosses_process

    @pytest.mark.parametrize("chunksize", [None, 1, 7])
    def test_results_come_in_order(self, executor: ParallelExecutor, chunksize: int | None) -> None:
        """Whatever the chunks, and more items than the look-ahead."""
        results = list(executor.map(square, range(50), chunksize=chunksize))
        assert results == [x * x for x in range(50)]
        assert executor.report is not None
        assert executor.report.n_tasks == 50
        assert executor.report.fallbacks == []

    def test_several_iterables_end_with_the_shortest(self, executor: ParallelExecutor) -> None:
        """As with the built-in map."""
        assert list(executor.map(pow, [2, 3, 4], [3, 2])) == [8, 9]

    def test_no_items(self, executor: ParallelExecutor) -> None:
        """An empty map gives an empty result."""
        assert list(executor.map(square, [])) == []

    def test_items_are_drawn_with_bounded_look_ahead(self, executor: ParallelExecutor) -> None:
        """Only a few items beyond the last result are drawn."""
        drawn = 0

        def items() -> Iterator[int]:
            nonlocal drawn
            for item in range(1, 101):
                drawn = item
                yield item

        ahead = 0
        for n, value in enumerate(executor.map(square, items(), chunksize=1), start=1):
            assert value == n * n
            ahead = max(ahead, drawn - n)
        assert drawn == 100
        assert ahead <= LOOKAHEAD * N_WORKERS

    def test_an_error_of_the_items_comes_in_its_place(self, executor: ParallelExecutor) -> None:
        """Results before it are delivered."""

        def items() -> Iterator[int]:
            yield from range(3)
            raise OSError("the source failed")

        results = executor.map(square, items())
        assert [next(results) for _ in range(3)] == [0, 1, 4]
        with pytest.raises(OSError, match="the source failed"):
            next(results)

    def test_a_task_error_travels_unchanged(self, executor: ParallelExecutor) -> None:
        """Type and arguments are the task's; a note names the item."""
        results = executor.map(fail_on_three, range(8))
        assert [next(results) for _ in range(3)] == [0, 1, 2]
        with pytest.raises(ValueError, match="three is too much") as caught:
            next(results)
        assert caught.value.args == ("three is too much", 3)
        assert any("item 3" in note for note in caught.value.__notes__)

    def test_an_error_that_cannot_be_pickled_travels_unchanged(
        self, executor: ParallelExecutor, crosses: bool
    ) -> None:
        """The item runs again in the caller, where the error is the real one."""
        with (
            pytest.warns(FallbackWarning) if crosses else _nothing(),
            pytest.raises(OddError, match="code 3") as caught,
        ):
            list(executor.map(fail_with_lock_on_three, range(5)))
        assert type(caught.value.detail) is type(threading.Lock())

    @pytest.mark.filterwarnings("ignore::ce_parallel.exceptions.FallbackWarning")
    def test_an_error_with_an_odd_constructor_travels_unchanged(
        self, executor: ParallelExecutor
    ) -> None:
        """From a worker where something makes it picklable, as tblib does; else from the caller."""
        with pytest.raises(OddError, match="code 3") as caught:
            list(executor.map(fail_oddly_on_three, range(5)))
        assert caught.value.detail == "odd"

    def test_shared_state_reaches_workers(self, executor: ParallelExecutor) -> None:
        """Large arrays included."""
        shared = {"a": np.arange(300_000.0), "b": np.ones((3, 0, 2))}
        results = list(executor.map(describe, range(20), shared=shared))
        assert [value for value, _, _ in results] == list(map(float, range(20)))
        assert all(flag for _, flag, _ in results)

    def test_lambdas_and_closures_work(self, executor: ParallelExecutor) -> None:
        """Also as items."""
        offset = 10
        assert list(executor.map(lambda x: x + offset, range(4))) == [10, 11, 12, 13]
        assert list(executor.map(lambda f: f(2), [lambda x: x, square])) == [2, 4]

    def test_what_cannot_be_pickled_runs_in_the_caller(
        self, executor: ParallelExecutor, crosses: bool
    ) -> None:
        """An item, a result, shared state, and what a function closes over; nothing is lost."""
        lock = threading.Lock()
        with pytest.warns(FallbackWarning) if crosses else _nothing():
            assert list(executor.map(type, [1, lock, "a"])) == [int, type(lock), str]
        with pytest.warns(FallbackWarning) if crosses else _nothing():
            results = list(executor.map(lock_on_three, range(6)))
        assert results[:3] + results[4:] == [0, 1, 2, 4, 5]
        with pytest.warns(FallbackWarning) if crosses else _nothing():
            shared = list(executor.map(lambda s, x: s is lock, range(3), shared=lock))
        assert shared == [True, True, True]
        with pytest.warns(FallbackWarning) if crosses else _nothing():
            assert list(executor.map(lambda x: lock.locked() or x, range(3))) == [0, 1, 2]

    @pytest.mark.parametrize("victim", [0, 10, 19])
    def test_a_killed_worker_costs_nothing_but_time(
        self, executor: ParallelExecutor, crosses: bool, victim: int, tmp_path: Any
    ) -> None:
        """At the first task, a middle one and the last: results are complete and in order."""
        if not crosses:
            pytest.skip("no process to kill")
        shared = (str(tmp_path / "marker"), victim)
        with pytest.warns(FallbackWarning, match="died while items"):
            results = list(executor.map(kill_worker_once, range(20), shared=shared))
        assert results == list(range(20))

    def test_an_item_that_keeps_killing_is_named(
        self, executor: ParallelExecutor, crosses: bool
    ) -> None:
        """It never runs in the caller, and everything else is delivered first."""
        if not crosses:
            pytest.skip("no process to kill")
        results = executor.map(kill_worker, range(12), shared=(os.getpid(), 5))
        delivered: list[int] = []
        with (
            pytest.warns(FallbackWarning),
            pytest.raises(StrategyError, match=r"kill their workers: 5\."),
        ):
            drain(results, into=delivered)
        assert delivered == [x for x in range(12) if x != 5]

    def test_a_hanging_task_times_out(self, tmp_path: Any) -> None:
        """The error names it; the executor works on, and ends without waiting for it."""
        config = ParallelConfig(
            preferred=self.make_strategy(), max_workers=N_WORKERS, task_timeout=1.0
        )
        flag = tmp_path / "flag"
        with ParallelExecutor(config) as executor:
            results = executor.map(wait_for_file, [0, 1, 0, 0], shared=str(flag), chunksize=1)
            assert next(results) == 0
            timer = threading.Timer(2.0, flag.touch)  # lets those go that nobody can kill
            timer.start()
            with pytest.raises(TimeoutError, match=r"Item 1 took longer than task_timeout=1\.0"):
                next(results)
            timer.join()
            assert list(executor.map(square, [3])) == [9]

    def test_a_map_times_out(self, executor: ParallelExecutor) -> None:
        """Counted from the call."""
        with pytest.raises(TimeoutError, match="The map took longer than its timeout"):
            list(executor.map(time.sleep, [0.1] * 1000, timeout=0.5))
        assert list(executor.map(square, range(3))) == [0, 1, 4]

    def test_a_cancelled_map_leaves_the_executor_usable(self, executor: ParallelExecutor) -> None:
        """The consumer of endless results gets CancelledError."""
        cancelled = executor.map(square, itertools.count())
        next(cancelled)
        cancelled.cancel()
        with pytest.raises(CancelledError):
            for _ in cancelled:
                pass
        assert list(executor.map(square, range(3))) == [0, 1, 4]

    def test_submit(self, executor: ParallelExecutor) -> None:
        """One call, one future, and the task's own error."""
        assert executor.submit(pow, 2, exp=5).result() == 32
        with pytest.raises(ValueError, match="three"):
            executor.submit(fail_on_three, 3).result()

    def test_strict_configs_never_run_in_the_caller(self, crosses: bool) -> None:
        """force_serial_on_failure=False turns the fallback into an error."""
        config = ParallelConfig(
            preferred=self.make_strategy(), max_workers=N_WORKERS, force_serial_on_failure=False
        )
        with ParallelExecutor(config) as executor:
            results = executor.map(type, [1, threading.Lock()])
            with pytest.raises(StrategyError, match="Item 1") if crosses else _nothing():
                list(results)


def _nothing() -> Any:
    return contextlib.nullcontext()
