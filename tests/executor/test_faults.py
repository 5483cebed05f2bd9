"""Faults with real processes: nothing lost, nothing twice, nothing left behind."""

import itertools
import os
import subprocess
import threading
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np
import psutil
import pytest
from joblib.externals.loky.process_executor import ProcessPoolExecutor as LokyPool

from ce_parallel.exceptions import CancelledError, FallbackWarning, StrategyError
from ce_parallel.executor import (
    FuturesStrategy,
    JoblibBackendStrategy,
    ParallelConfig,
    ParallelExecutor,
    ProcessPoolExecutorStrategy,
    Strategy,
)
from ce_parallel.executor.testing import drain, kill_worker, square, wait_for_file
from tests.executor import tasks
from tests.executor.conftest import shut_down_joblib, wait_until, workers

pytestmark = pytest.mark.timeout(60)


# Starts quickest after a death; the contract suite kills workers of every other kind.
PROCESSES = {"preferred": "processes", "start_method": "forkserver", "max_workers": 2}


@pytest.fixture(scope="module")
def processes():
    with ParallelExecutor(ParallelConfig(**PROCESSES)) as executor:
        yield executor


def test_two_deaths_by_different_items_lose_nothing(processes, tmp_path):
    """The second death sends the rest to the caller; one warning, two fallbacks counted."""
    shared = (str(tmp_path), (3, 30))
    with pytest.warns(FallbackWarning) as caught:
        results = list(processes.map(tasks.kill_twice, range(40), shared=shared, chunksize=1))
    assert results == list(range(40))
    assert len(caught) == 1
    assert len(processes.report.fallbacks) == 2


@pytest.mark.slow
def test_a_poisoned_item_between_chunks(processes):
    """Chunks of a broken pool are taken apart, so that neighbours survive."""
    results = processes.map(kill_worker, range(20), shared=(os.getpid(), 7), chunksize=5)
    delivered = []
    with pytest.warns(FallbackWarning), pytest.raises(StrategyError, match=": 7"):
        drain(results, into=delivered)
    assert delivered == [x for x in range(20) if x != 7]


@pytest.mark.parametrize("preferred", ["processes", "joblib"])
def test_an_end_while_the_pipe_is_full(preferred):
    """What is still on its way to killed workers is let go of, with the thread that sends it."""
    before = threading.active_count()
    items = [np.zeros(250_000) for _ in range(12)]  # 2 MB each, many times what a pipe holds
    with ParallelExecutor(ParallelConfig(preferred=preferred, max_workers=2)) as executor:
        for _ in range(3):
            results = executor.map(tasks.slow_size, items)
            assert next(results) == 250_000
            results.close()
    shut_down_joblib()
    assert wait_until(lambda: threading.active_count() <= before)


@pytest.mark.parametrize("preferred", ["processes", "joblib"])
def test_a_death_half_way_through_a_result(preferred, tmp_path):
    """The pool waits for the other half of the result; somebody has to notice."""
    flag = tmp_path / "armed"
    flag.touch()
    with (
        ParallelExecutor(ParallelConfig(preferred=preferred, max_workers=2)) as executor,
        pytest.warns(FallbackWarning, match="worker"),
    ):
        sizes = list(map(len, executor.map(tasks.die_sending, range(8), shared=str(flag))))
    assert not flag.exists()
    assert sizes == [30_000_000] * 8


def test_a_death_is_an_error_when_fallback_is_off():
    config = ParallelConfig(preferred="processes", max_workers=2, force_serial_on_failure=False)
    with (
        ParallelExecutor(config) as executor,
        pytest.raises(StrategyError, match="died while items") as caught,
    ):
        list(executor.map(tasks.kill_at_once_if_worker, range(5), shared=os.getpid()))
    assert "tried once more" not in str(caught.value)


@pytest.mark.parametrize(
    "run",
    [
        lambda ex: ex.map(tasks.identity, [1, tasks.FailsToLoad(), 3]),
        lambda ex: ex.map(tasks.fails_to_return, range(4)),
    ],
    ids=["argument", "result"],
)
def test_what_fails_to_load_runs_in_the_caller(processes, run):
    with pytest.warns(FallbackWarning, match="It runs serially in the caller"):
        results = list(run(processes))
    assert len(results) == processes.report.n_tasks
    assert workers(), "the pool was not broken"


def test_many_items_that_cannot_travel_stop_the_sending(processes):
    locks = [threading.Lock() for _ in range(10)]
    with pytest.warns(FallbackWarning) as caught:
        assert list(processes.map(tasks.identity, locks)) == locks
    assert len(caught) == 1


def test_sys_exit_in_a_task_travels(processes):
    with pytest.raises(SystemExit) as caught:
        list(processes.map(tasks.exit_politely, range(4)))
    assert caught.value.code == 5


def test_the_warning_points_at_the_caller(processes):
    with pytest.warns(FallbackWarning) as caught:
        list(processes.map(tasks.fails_to_return, range(4)))
    assert caught[0].filename == __file__


def raise_timeout(x):
    raise TimeoutError("the task's own")


@pytest.mark.parametrize("preferred", ["threads", "processes"])
def test_a_tasks_own_timeout_is_an_ordinary_error(preferred):
    with ParallelExecutor(ParallelConfig(**{**PROCESSES, "preferred": preferred})) as executor:
        with pytest.raises(TimeoutError, match="the task's own"):
            list(executor.map(raise_timeout, range(4)))
        assert list(executor.map(square, [3])) == [9]


def test_a_submitted_call_that_kills_its_worker_is_lost_and_nothing_else(processes):
    with pytest.raises(StrategyError, match="The call was lost"):
        processes.submit(os._exit, 3).result()
    assert processes.submit(square, 3).result() == 9
    with pytest.raises(StrategyError, match="The call was lost"):
        processes.submit(os._exit, 3).result()
    assert list(processes.map(square, range(5))) == [0, 1, 4, 9, 16]
    assert processes.report.fallbacks == []


def test_submitted_calls_that_cannot_travel(processes):
    lock = threading.Lock()
    with pytest.warns(FallbackWarning, match="it runs in the caller"):
        assert processes.submit(tasks.identity, lock).result() is lock
    with pytest.raises(StrategyError, match="cannot be read back"):
        processes.submit(tasks.fails_to_return, 2).result()


class CannotStart(Strategy):
    name = "broken"

    def start(self, n_workers):
        raise OSError("no cluster here")

    def submit(self, call):
        raise AssertionError

    def stop(self, *, kill=False):
        pass


class CannotSubmit(CannotStart):
    def start(self, n_workers):
        pass

    def submit(self, call):
        raise ConnectionError("lost the cluster")


@pytest.mark.parametrize("strategy", [CannotStart(), CannotSubmit()])
def test_a_strategy_that_fails_is_replaced_by_the_caller(strategy):
    config = ParallelConfig(preferred=strategy, max_workers=2)
    with ParallelExecutor(config) as executor:
        with pytest.warns(FallbackWarning, match="run serially in the caller"):
            assert list(executor.map(square, range(30))) == [x * x for x in range(30)]
        config.set_params(force_serial_on_failure=False)
        with pytest.raises(StrategyError, match="could not start") as caught:
            list(executor.map(square, range(30)))
    assert isinstance(caught.value.__cause__, OSError)


class DiesAtStart(ProcessPoolExecutorStrategy):
    """Workers that exit before they take a call."""

    def start(self, n_workers):
        if self.start_method is None:
            self._pool = LokyPool(n_workers, initializer=os._exit, initargs=(3,))
        else:
            context = get_context(self.start_method)
            self._pool = ProcessPoolExecutor(n_workers, context, os._exit, (3,))


def exits_at_start(backend):
    return JoblibBackendStrategy(backend, initializer=os._exit, initargs=(3,))


@pytest.mark.parametrize(
    "make",
    [
        lambda: DiesAtStart(),
        lambda: DiesAtStart("fork"),
        lambda: DiesAtStart("forkserver"),
        lambda: DiesAtStart("spawn"),
        pytest.param(lambda: exits_at_start("multiprocessing"), marks=pytest.mark.slow),
        pytest.param(lambda: exits_at_start("loky"), marks=pytest.mark.slow),
        lambda: FuturesStrategy(
            ProcessPoolExecutor(2, get_context("forkserver"), tasks.fail_at_start)
        ),
    ],
    ids=["loky", "fork", "forkserver", "spawn", "joblib-multiprocessing", "joblib-loky", "users"],
)
def test_workers_that_exit_during_start_up_blame_no_item(make):
    strategy = make()
    config = ParallelConfig(preferred=strategy, max_workers=2)
    with ParallelExecutor(config) as executor, pytest.warns(FallbackWarning):
        assert list(executor.map(tasks.square_slowly, range(4))) == [0, 1, 4, 9]
    if isinstance(strategy, FuturesStrategy):
        strategy.executor.shutdown()


@pytest.mark.parametrize("preferred", ["forkserver", "joblib"])
def test_a_result_for_which_memory_is_short_is_computed_in_the_caller(preferred):
    """The worker cannot hold a second, pickled copy of it."""
    config = PROCESSES if preferred == "forkserver" else {"preferred": preferred, "max_workers": 2}
    with (
        ParallelExecutor(ParallelConfig(**config)) as executor,
        pytest.warns(FallbackWarning, match="cannot send its result"),
    ):
        results = list(executor.map(tasks.large_in_little_memory, range(4), shared=os.getpid()))
    assert [r if isinstance(r, int) else r.shape for r in results] == [0, 1, (10_000_000,), 3]
    shut_down_joblib()


@pytest.mark.slow
@pytest.mark.skipif(psutil.virtual_memory().available < 16 * 2**30, reason="needs 16 GB")
@pytest.mark.parametrize("strategy", [None, "multiprocessing"])
def test_a_result_over_two_gigabytes(strategy):
    """Larger than what a signed 32-bit length can say."""
    preferred = ProcessPoolExecutorStrategy(strategy)
    if strategy == "multiprocessing":
        preferred = JoblibBackendStrategy(strategy)
    with ParallelExecutor(ParallelConfig(preferred=preferred, max_workers=2)) as executor:
        assert list(map(len, executor.map(bytes, [1, 2**31 + 10, 2]))) == [1, 2**31 + 10, 2]
        assert executor.report.fallbacks == []


@pytest.mark.parametrize("preferred", ["threads", "processes"])
def test_cancel_from_another_thread_wakes_the_consumer(preferred, tmp_path):
    flag = tmp_path / "flag"
    config = ParallelConfig(**{**PROCESSES, "preferred": preferred})
    with ParallelExecutor(config) as executor:
        results = executor.map(wait_for_file, [0, 1, 1, 1], shared=str(flag))
        assert next(results) == 0
        timer = threading.Timer(0.2, executor.cancel)
        timer.start()
        with pytest.raises(CancelledError):
            next(results)
        timer.join()
        flag.touch()


@pytest.mark.parametrize("preferred", ["serial", "threads", "processes"])
def test_closing_or_dropping_an_endless_map_ends_it(preferred):
    config = ParallelConfig(**{**PROCESSES, "preferred": preferred})
    with ParallelExecutor(config) as executor:
        closed = executor.map(square, itertools.count())
        assert next(closed) == 0
        closed.close()
        assert list(closed) == []
        assert next(executor.map(square, itertools.count())) == 0
        assert list(executor.map(square, range(3))) == [0, 1, 4]


def test_cancelling_one_map_does_not_disturb_another(processes, tmp_path):
    """They share workers; those of the cancelled map are killed, the other sends again."""
    flag = tmp_path / "flag"
    blocked = processes.map(wait_for_file, [1] * 4, shared=str(flag))
    other = processes.map(square, range(30))
    blocked.cancel()
    assert list(other) == [x * x for x in range(30)]
    assert other.report.fallbacks == []


def test_full_disk_while_sharing_state(processes, temp_root, monkeypatch):
    from ce_parallel.executor import _broadcast

    def no_space(path, parts):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(_broadcast, "_write", no_space)
    shared = np.zeros(100_000)
    with pytest.warns(FallbackWarning, match="No space left"):
        assert list(processes.map(lambda s, x: s.size + x, [1, 2], shared=shared)) == [
            100_001,
            100_002,
        ]
    assert list(processes.map(square, [2])) == [4]


@pytest.fixture
def tiny_disk(tmp_path):
    """A file system of 64 KB."""
    folder = tmp_path / "tiny"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("only root can mount one")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize("preferred", ["processes", "joblib"])
def test_a_disk_that_is_really_full(preferred, tiny_disk, monkeypatch):
    monkeypatch.setenv("JOBLIB_TEMP_FOLDER", str(tiny_disk))
    config = ParallelConfig(**{**PROCESSES, "preferred": preferred})
    with ParallelExecutor(config) as executor:
        with pytest.warns(FallbackWarning, match="No space left"):
            sums = list(executor.map(lambda s, x: s[x], range(3), shared=np.arange(100_000)))
        assert sums == [0, 1, 2]
        assert list(executor.map(square, range(3))) == [0, 1, 4], "the pool is as good as before"
        assert executor.report.fallbacks == []
    shut_down_joblib()
    assert list(tiny_disk.iterdir()) == []
