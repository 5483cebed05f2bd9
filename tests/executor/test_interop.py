"""Other people's executors under the facade, and the facade where others expect an executor."""

import math
import os
import pickle
import threading
from collections import Counter
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from unittest import mock

import numpy as np
import pytest

from ce_parallel.exceptions import FallbackWarning, StrategyError
from ce_parallel.executor import FuturesStrategy, ParallelConfig, ParallelExecutor
from ce_parallel.executor.testing import drain, kill_worker, kill_worker_once, square
from tests.executor import interop_tasks, tasks
from tests.executor.conftest import wait_until

pytestmark = pytest.mark.timeout(60)


@dataclass(frozen=True)
class Plan:
    data: np.ndarray


class Watched(Executor):
    """A process pool that notes how large the calls are that it is given."""

    def __init__(self, n_workers=2, initializer=None):
        context = get_context("forkserver")
        self.pool = ProcessPoolExecutor(n_workers, mp_context=context, initializer=initializer)
        self._max_workers = n_workers
        self.sizes = []

    def submit(self, call, /, *args, **kwargs):
        self.sizes.append(len(pickle.dumps(call)))
        return self.pool.submit(call, *args, **kwargs)

    def shutdown(self, wait=True, *, cancel_futures=False):
        self.pool.shutdown(wait, cancel_futures=cancel_futures)

    def n_large(self):
        """Return how many calls since the last question carried a large object."""
        n = sum(size > 200_000 for size in self.sizes)
        self.sizes.clear()
        return n


@contextmanager
def using(executor, **params):
    with ParallelExecutor(ParallelConfig(preferred=executor, **params)) as ours:
        yield ours


@pytest.fixture(scope="module")
def far_away():
    """Workers that cannot reach the caller's files, as on another machine."""
    with Watched(2, interop_tasks.live_far_away) as pool:
        yield pool


class TestFarAway:
    def test_workers_get_the_bytes_once_and_keep_them(self, far_away, tmp_path):
        log = tmp_path / "loads"
        shared = tasks.CountsLoads(str(log))
        far_away.n_large()
        with using(far_away) as executor:
            results = executor.map(tasks.touch, range(60), shared=shared, chunksize=1)
            assert list(results) == list(range(60))
            assert executor.report.fallbacks == []
        loads = Counter(log.read_text().split())
        assert set(loads.values()) == {1}, "each worker loads it once"
        assert 1 <= far_away.n_large() <= 8, (
            "no more than were in flight when it was first asked for"
        )

    def test_a_plan_they_have_is_not_sent_again(self, far_away):
        plan = Plan(np.arange(100_000.0))
        with using(far_away) as executor:
            for _ in range(2):
                far_away.n_large()
                results = executor.map(lambda s, x: s.data[x], range(40), shared=plan, chunksize=1)
                assert list(results) == list(range(40))
            # One worker may have been quick enough to do the whole first map alone.
            assert far_away.n_large() <= 2

    def test_arrays_are_read_only_there_too(self, far_away):
        with using(far_away) as executor:
            array = np.arange(100_000.0)
            assert list(executor.map(interop_tasks.total, range(9), shared=array)) == list(range(9))
            with pytest.raises(ValueError, match="read-only"):
                list(executor.map(tasks.write_into_shared, [1], shared=array))

    def test_submitted_calls_with_large_arguments(self, far_away):
        with using(far_away) as executor:
            arrays = [np.full(100_000, float(x)) for x in range(5)]
            futures = [executor.submit(interop_tasks.sum_of, array) for array in arrays]
        assert [f.result(timeout=0) for f in futures] == [x * 1e5 for x in range(5)]

    def test_submitted_calls_finish_after_a_shutdown_that_does_not_wait(self, far_away):
        executor = ParallelExecutor(ParallelConfig(preferred=far_away))
        future = executor.submit(interop_tasks.sum_of, np.ones(100_000))
        executor.shutdown(wait=False)
        assert future.result(timeout=30) == 1e5

    def test_nothing_runs_in_the_caller(self, far_away):
        with using(far_away, force_serial_on_failure=False) as executor:
            shared = np.arange(100_000.0)
            results = executor.map(lambda s, x: (os.getpid(), s[x]), range(20), shared=shared)
            assert os.getpid() not in {pid for pid, _ in results}

    def test_a_death_among_them(self, far_away, tmp_path):
        """What is missing goes on in a pool of this machine's."""
        with Watched(2, interop_tasks.live_far_away) as pool, using(pool) as executor:
            shared = (str(tmp_path), (7,), np.ones(100_000))
            with pytest.warns(FallbackWarning, match="died"):
                results = list(
                    executor.map(lambda s, x: tasks.kill_twice(s[:2], x), range(20), shared=shared)
                )
            assert results == list(range(20))


def test_times_of_another_machine_are_put_on_our_clock():
    with Watched(2, interop_tasks.live_in_another_time) as pool, using(pool) as executor:
        assert list(executor.map(square, range(30))) == [x * x for x in range(30)]
        report = executor.report
    assert len(report.records) == 30
    for record in report.records:
        assert 0 <= record.queue_wait <= report.wall_time
        assert 0 <= record.start <= report.wall_time


@pytest.fixture(scope="module")
def pool():
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        yield pool


class TestBorrowedWorkersStayAsTheyWere:
    def test_limits_and_environment_of_processes(self, pool):
        pool.submit(tasks.inner_threads, 0).result()  # loads the libraries
        before = pool.submit(interop_tasks.environment).result()
        with using(pool) as executor:
            assert list(executor.map(interop_tasks.limits, range(3))) == [({1}, 1)] * 3
            assert executor.submit(interop_tasks.limits, 0).result() == ({1}, 1)
        assert pool.submit(interop_tasks.environment).result() == before

    def test_no_thread_of_ours_stays_in_them(self, pool):
        with using(pool) as executor:
            list(executor.map(square, range(3)))
        assert pool.submit(interop_tasks.thread_names).result() == ["MainThread"]

    def test_our_own_processes_stay_capped(self):
        config = ParallelConfig(preferred="processes", start_method="forkserver", max_workers=1)
        with ParallelExecutor(config) as executor:
            list(executor.map(square, range(3)))
            assert executor.submit(interop_tasks.limits, 0).result() == ({1}, 1)

    def test_threads_of_this_process(self):
        before = interop_tasks.environment()
        with PicklingThreads(2) as pool, using(pool) as executor:
            assert list(executor.map(interop_tasks.limits, range(3))) == [({1}, 1)] * 3
        assert interop_tasks.environment() == before


class PicklingThreads(ThreadPoolExecutor):
    """Threads in which nothing of this interpreter can be used but by pickling it.

    So is the standard library's InterpreterPoolExecutor.
    """

    def submit(self, call, /, *args):
        data = pickle.dumps(call)
        return super().submit(lambda: pickle.loads(data)(*args))


class TestWhereCallsRun:
    @pytest.mark.parametrize(
        ("kind", "stated", "crosses"),
        [
            (ThreadPoolExecutor, None, False),
            (PicklingThreads, None, True),
            (PicklingThreads, False, False),
            (ThreadPoolExecutor, True, True),
        ],
    )
    def test_only_threads_known_to_be_ours_are_spared_the_pickling(self, kind, stated, crosses):
        with kind(2) as pool:
            strategy = FuturesStrategy(pool, stated)
            assert strategy.crosses_process is crosses
            assert strategy.fresh().crosses_process is crosses

    def test_a_subclass_of_threads_that_pickles(self):
        lock = threading.Lock()
        with PicklingThreads(2) as pool, using(pool) as executor:
            offset = 2
            assert list(executor.map(lambda x: x + offset, range(9))) == list(range(2, 11))
            assert executor.submit(lambda: offset).result() == 2
            with pytest.warns(FallbackWarning, match="pickle"):
                assert list(executor.map(tasks.identity, [lock])) == [lock]

    def test_two_executors_are_never_taken_for_one(self):
        class Silent(ThreadPoolExecutor):
            def __repr__(self):
                return "Silent()"

        with Silent(1, "first") as first, Silent(1, "second") as second, using(first) as executor:
            names = []
            for pool in (first, second):
                executor.config.preferred = FuturesStrategy(pool, crosses_process=False)
                names += {name for _, name in executor.map(tasks.where, range(2))}
        assert names == ["first_0", "second_0"]


def test_a_users_executor_is_left_open_and_waited_for(tmp_path):
    with ThreadPoolExecutor(2) as pool:
        executor = ParallelExecutor(ParallelConfig(preferred=pool))
        future = executor.submit(interop_tasks.touch_and_wait, str(tmp_path), "call")
        assert wait_until((tmp_path / "call.started").exists)
        threading.Timer(0.1, (tmp_path / "call.go").touch).start()
        executor.shutdown()
        assert future.done()
        assert pool.submit(square, 3).result() == 9


@pytest.fixture
def loky_pool():
    loky = pytest.importorskip("loky")
    pool = loky.get_reusable_executor(2, timeout=60)
    yield pool
    pool.shutdown(wait=True, kill_workers=True)


def test_a_shutdown_does_not_wait_for_a_call_that_its_pool_forgot(tmp_path):
    """A pool that is shut down with `cancel_futures` tells nobody who waits."""
    with ThreadPoolExecutor(1) as pool:
        executor = ParallelExecutor(ParallelConfig(preferred=pool))
        executor.submit(interop_tasks.touch_and_wait, str(tmp_path), "call")
        assert wait_until((tmp_path / "call.started").exists)
        forgotten = executor.submit(square, 3)
        closing = threading.Thread(target=executor.shutdown)
        closing.start()
        pool.shutdown(wait=False, cancel_futures=True)
        assert forgotten.cancelled()
        (tmp_path / "call.go").touch()
        closing.join(timeout=20)
        assert not closing.is_alive()


class TestLoky:
    def test_its_reusable_executor(self, loky_pool):
        with using(loky_pool) as executor:
            shared = np.arange(100_000.0)
            results = executor.map(lambda s, x: (os.getpid(), s[x]), range(40), shared=shared)
            pids, values = zip(*results, strict=True)
            assert list(values) == list(range(40))
            assert os.getpid() not in pids
            assert executor.report.n_workers == 2
            assert executor.submit(square, 4).result() == 16
        assert loky_pool.submit(square, 5).result() == 25, "still open"

    def test_a_death_in_it(self, loky_pool, tmp_path):
        shared = (str(tmp_path / "marker"), 4)
        with using(loky_pool) as executor, pytest.warns(FallbackWarning, match="died"):
            results = list(executor.map(kill_worker_once, range(9), shared=shared))
        assert results == list(range(9))


@pytest.fixture(scope="module")
def cluster():
    distributed = pytest.importorskip("distributed")
    import dask

    settings = {
        "distributed.scheduler.allowed-failures": 0,
        "distributed.scheduler.worker-ttl": None,
        "distributed.admin.tick.limit": "1h",
    }
    with (
        mock.patch.dict(os.environ),  # a nanny sets OMP_NUM_THREADS=1, for good, in this process
        dask.config.set(settings),
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


class TestDaskWorkers:
    def test_map_and_submit(self, cluster):
        with using(cluster.get_executor()) as executor:
            shared = np.arange(100_000.0)
            results = executor.map(lambda s, x: (os.getpid(), s[x]), range(40), shared=shared)
            pids, values = zip(*results, strict=True)
            assert list(values) == list(range(40))
            assert os.getpid() not in pids
            assert executor.report.fallbacks == []
            assert executor.submit(pow, 2, exp=5).result() == 32
            with pytest.raises(ValueError, match="math domain"):
                executor.submit(math.sqrt, -1).result()

    def test_workers_without_our_files(self, cluster, tmp_path):
        cluster.run(interop_tasks.live_far_away)
        try:
            log = tmp_path / "loads"
            shared = tasks.CountsLoads(str(log))
            with using(cluster.get_executor()) as executor:
                results = executor.map(tasks.touch, range(30), shared=shared, chunksize=1)
                assert list(results) == list(range(30))
                assert executor.report.fallbacks == []
                assert executor.submit(interop_tasks.sum_of, np.ones(100_000)).result() == 1e5
            assert set(Counter(log.read_text().split()).values()) == {1}
        finally:
            cluster.restart()

    def test_equal_calls_are_different_calls(self, cluster, tmp_path):
        """Dask takes calls for pure by default, and runs equal ones once."""
        path = str(tmp_path / "lines")
        with using(cluster.get_executor()) as executor:
            list(executor.map(partial(interop_tasks.append_line, path), ["x"] * 5, chunksize=1))
            for _ in range(2):
                executor.submit(interop_tasks.append_line, path, "y").result()
        assert Counter((tmp_path / "lines").read_text().split()) == {"x": 5, "y": 2}

    def test_a_call_that_kills_workers_never_runs_here(self, cluster):
        delivered = []
        with (
            using(cluster.get_executor()) as executor,
            pytest.warns(FallbackWarning, match="KilledWorker"),
            pytest.raises(StrategyError, match=r"kill their workers: 5\."),
        ):
            drain(executor.map(kill_worker, range(8), shared=(os.getpid(), 5)), into=delivered)
        assert delivered == [x for x in range(8) if x != 5]


def test_a_death_half_way_through_a_result_of_a_users_pool(tmp_path):
    """It is broken, waits for the other half, and would do so for ever."""
    flag = tmp_path / "armed"
    flag.touch()
    pool = ProcessPoolExecutor(2, mp_context=get_context("forkserver"))
    with using(pool) as executor, pytest.warns(FallbackWarning, match="died"):
        sizes = list(map(len, executor.map(tasks.die_sending, range(6), shared=str(flag))))
    assert sizes == [30_000_000] * 6
    pool.shutdown()
