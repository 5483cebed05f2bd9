"""Every strategy keeps the contract."""

from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import ExitStack
from multiprocessing import get_context

import pytest

from ce_parallel.executor import (
    FuturesStrategy,
    JoblibBackendStrategy,
    ParallelConfig,
    ParallelExecutor,
    ProcessPoolExecutorStrategy,
    SerialStrategy,
    ThreadPoolExecutorStrategy,
)
from ce_parallel.executor.testing import StrategyContract, square

pytestmark = pytest.mark.timeout(90)


class TestSerial(StrategyContract):
    def make_strategy(self):
        return SerialStrategy()


class TestThreads(StrategyContract):
    def make_strategy(self):
        return ThreadPoolExecutorStrategy()


class TestProcesses(StrategyContract):
    def make_strategy(self):
        return ProcessPoolExecutorStrategy()


@pytest.mark.slow
class TestJoblibLoky(StrategyContract):
    def make_strategy(self):
        return JoblibBackendStrategy("loky")


class TestJoblibThreading(StrategyContract):
    def make_strategy(self):
        return JoblibBackendStrategy("threading")


@pytest.mark.slow
class TestJoblibMultiprocessing(StrategyContract):
    def make_strategy(self):
        return JoblibBackendStrategy("multiprocessing")


class UsersPool(StrategyContract):
    """The user's own executor, closed by the user."""

    @pytest.fixture(autouse=True, scope="class")
    @classmethod
    def users_pools(cls):
        with ExitStack() as cls.open_pools:
            yield


class TestUsersThreads(UsersPool):
    def make_strategy(self):
        return FuturesStrategy(self.open_pools.enter_context(ThreadPoolExecutor(2)))


@pytest.mark.slow
class TestUsersProcesses(UsersPool):
    def make_strategy(self):
        pool = ProcessPoolExecutor(2, mp_context=get_context("forkserver"))
        return FuturesStrategy(self.open_pools.enter_context(pool))


def test_an_executor_starts_copies_of_a_strategy():
    """So that clones of a config may share one strategy object."""
    strategy = ThreadPoolExecutorStrategy()
    config = ParallelConfig(preferred=strategy, max_workers=2)
    with ParallelExecutor(config) as first, ParallelExecutor(config) as second:
        pairs = zip(first.map(abs, range(9)), second.map(abs, range(9)), strict=True)
        assert list(pairs) == [(x, x) for x in range(9)]
    assert vars(strategy) == {}


@pytest.mark.parametrize("start_method", ["spawn", "forkserver"])
def test_other_start_methods(start_method):
    config = ParallelConfig(preferred="processes", start_method=start_method, max_workers=2)
    with ParallelExecutor(config) as executor:
        assert list(executor.map(square, range(20))) == [x * x for x in range(20)]
        assert executor.report.fallbacks == []
