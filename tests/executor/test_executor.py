"""The facade: same results everywhere, shared state, ambient use, misuse."""

import os
import pickle
import subprocess
import sys
import threading
import weakref
from collections import Counter
from concurrent.futures import CancelledError, Executor, wait
from dataclasses import dataclass

import numpy as np
import pytest

from ce_parallel.executor import (
    ParallelConfig,
    ParallelExecutor,
    Workload,
    acquire_executor,
)
from ce_parallel.executor.testing import drain, square
from tests.executor import interop_tasks, tasks
from tests.executor.conftest import wait_until, workers

pytestmark = pytest.mark.timeout(60)

STRATEGIES = ["serial", "threads", "processes", "joblib", "auto"]


@dataclass(frozen=True)
class Plan:
    data: np.ndarray


def quick(preferred, **params):
    """Return a config whose processes, if any, start quickly (see conftest)."""
    return ParallelConfig(preferred=preferred, start_method="forkserver", **params)


@pytest.fixture(scope="module")
def executors():
    """One warm executor for each strategy."""
    made = {
        name: ParallelExecutor(ParallelConfig(preferred=name, max_workers=2)) for name in STRATEGIES
    }
    yield made
    for executor in made.values():
        executor.shutdown()


@pytest.fixture(scope="module")
def matrix():
    return np.random.default_rng(0).normal(size=(300, 257))


@pytest.mark.parametrize("chunksize", [None, 1, 5])
@pytest.mark.parametrize("name", STRATEGIES)
def test_every_strategy_computes_the_same_bits(executors, matrix, name, chunksize):
    """BLAS included: it runs with one thread everywhere."""
    seeds = range(12)
    expected = list(executors["serial"].map(tasks.noisy_sum, seeds, shared=matrix))
    got = list(executors[name].map(tasks.noisy_sum, seeds, shared=matrix, chunksize=chunksize))
    assert got == expected


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("name", ["threads", "processes"])
def test_the_number_of_workers_changes_nothing(executors, matrix, name, workers):
    expected = list(executors["serial"].map(tasks.noisy_sum, range(7), shared=matrix))
    with ParallelExecutor(quick(name, max_workers=workers)) as executor:
        assert list(executor.map(tasks.noisy_sum, range(7), shared=matrix)) == expected


@pytest.mark.parametrize("name", ["serial", "threads", "processes", "joblib"])
def test_inner_parallelism_is_capped_in_tasks_and_restored_afterwards(executors, name):
    before = tasks.inner_threads(0)
    results = executors[name].map(tasks.inner_threads, range(6))
    assert set(results) == {1}
    assert tasks.inner_threads(0) == before
    if name != "serial":
        assert set(executors[name].map(tasks.inner_joblib, range(6))) == {1}


def test_one_joblib_job_is_capped_as_well():
    with ParallelExecutor(ParallelConfig(preferred="joblib", max_workers=1)) as executor:
        assert set(executor.map(tasks.inner_threads, range(3))) == {1}


def test_interleaved_maps_restore_inner_threads(executors):
    before = tasks.inner_threads(0)
    first = executors["serial"].map(square, range(3))
    second = executors["serial"].map(square, range(5))
    for _ in zip(first, second, strict=False):
        pass
    second.close()
    first.close()
    assert tasks.inner_threads(0) == before


def test_shared_is_loaded_once_per_worker_and_map(executors, tmp_path):
    path = tmp_path / "loads"
    shared = tasks.CountsLoads(str(path))
    assert list(executors["processes"].map(tasks.touch, range(50), shared=shared)) == list(
        range(50)
    )
    loads = Counter(path.read_text().split())
    assert 1 <= len(loads) <= 2
    assert set(loads.values()) == {1}


def test_a_frozen_plan_is_not_sent_again(executors, temp_root):
    executor = executors["processes"]
    plan = Plan(np.arange(100_000.0))
    first = {r[0]: r[2] for r in executor.map(tasks.load_and_flags, range(20), shared=plan)}
    files = {p for p in temp_root.rglob("*") if p.is_file()}
    again = {r[0]: r[2] for r in executor.map(tasks.load_and_flags, range(20), shared=plan)}
    assert {p for p in temp_root.rglob("*") if p.is_file()} == files
    assert all(first[pid] == address for pid, address in again.items() if pid in first)


def test_state_that_may_change_is_sent_by_every_map(executors, temp_root):
    array = np.zeros(100_000)
    executor = executors["processes"]
    for value in (1.0, 2.0):
        array[:] = value
        assert set(executor.map(lambda s, _: float(s[-1]), range(4), shared=array)) == {value}
    held = [p for p in temp_root.rglob("*") if p.is_file() and p.stat().st_size > 800_000]
    assert len(held) <= 1  # the frozen plan of another test may still be there


def test_arrays_are_read_only_in_workers_and_untouched_here(executors):
    array = np.zeros(100_000)
    results = list(executors["processes"].map(tasks.load_and_flags, range(4), shared=array))
    assert not any(writeable for _, writeable, _ in results)
    with pytest.raises(ValueError, match="read-only"):
        list(executors["processes"].map(tasks.write_into_shared, [1], shared=array))
    assert array.flags.writeable


def test_results_start_before_they_are_asked_for(executors):
    event = threading.Event()
    results = executors["threads"].map(lambda x: event.set(), [1])
    assert event.wait(10)
    results.close()


@pytest.mark.parametrize("name", ["threads", "processes"])
def test_two_threads_map_on_one_executor(executors, name):
    got = {}

    def consume(start):
        items = range(start, start + 200)
        got[start] = list(executors[name].map(square, items, chunksize=3))

    threads = [threading.Thread(target=consume, args=(k * 1000,)) for k in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got == {k: [x * x for x in range(k, k + 200)] for k in (0, 1000, 2000)}


def test_pools_stay_warm_between_maps_and_are_gone_after():
    with ParallelExecutor(quick("processes", max_workers=1)) as executor:
        first = set(executor.map(tasks.where, range(5)))
        assert set(executor.map(tasks.where, range(5))) == first
        (pid,) = {pid for pid, _ in first}
    assert pid not in {child.pid for child in workers()}


def test_the_executor_is_a_standard_one(executors):
    executor = executors["threads"]
    assert isinstance(executor, Executor)
    futures = [executor.submit(square, x) for x in range(5)]
    done, pending = wait(futures, timeout=20)
    assert not pending
    assert sorted(f.result() for f in done) == [0, 1, 4, 9, 16]


def test_submit_runs_at_once_when_serial(executors):
    future = executors["serial"].submit(tasks.where, 1)
    assert future.done()
    assert future.result()[1] == threading.current_thread().name


def test_nested_maps_run_serially_in_workers(executors):
    """And find no deadlock."""

    def outer(x):
        with acquire_executor(ParallelConfig(max_workers=2)) as executor:
            values = list(executor.map(square, range(x + 2)))
            return executor.report.decision.step, sum(values)

    for name in ("threads", "processes", "joblib"):
        assert list(executors[name].map(outer, [1, 2])) == [(6, 5), (6, 14)]


def test_a_task_may_map_on_the_executor_that_runs_it():
    """Even where that has one worker, which cannot wait for itself."""
    with ParallelExecutor(ParallelConfig(preferred="threads", max_workers=1)) as executor:
        totals = executor.map(lambda n: sum(executor.map(square, range(n))), [2, 3])
        assert list(totals) == [1, 5]


class TestAmbient:
    def test_code_inside_the_block_shares_the_executor(self):
        with ParallelExecutor() as outer:
            with acquire_executor(ParallelConfig(max_workers=1)) as inner:
                assert inner is outer
            assert list(outer.map(square, [2])) == [4], "still open"

    def test_without_one_a_new_executor_lives_for_the_block(self):
        config = ParallelConfig(preferred="threads", max_workers=2)
        with acquire_executor(config) as executor:
            assert executor.config is config
            assert list(executor.map(square, [2, 3])) == [4, 9]
        with pytest.raises(RuntimeError, match="shut down"):
            executor.map(square, [2])

    def test_blocks_nest(self):
        with ParallelExecutor() as outer:
            with ParallelExecutor() as inner, acquire_executor() as found:
                assert found is inner
            with acquire_executor() as found:
                assert found is outer

    def test_other_threads_are_not_inside_the_block(self):
        found = []
        with ParallelExecutor() as outer:

            def look():
                with acquire_executor() as executor:
                    found.append(executor is outer)

            thread = threading.Thread(target=look)
            thread.start()
            thread.join()
        assert found == [False]


class TestShutdown:
    @pytest.mark.parametrize("preferred", ["serial", "threads", "processes"])
    def test_a_live_iterator_finishes_in_the_caller(self, preferred):
        executor = ParallelExecutor(quick(preferred, max_workers=2))
        results = executor.map(square, range(50), chunksize=1)
        first = next(results)
        executor.shutdown()
        assert [first, *results] == [x * x for x in range(50)]

    def test_twice_is_harmless_and_without_waiting_works(self):
        executor = ParallelExecutor(ParallelConfig(preferred="threads", max_workers=2))
        future = executor.submit(square, 3)
        executor.shutdown(wait=False)
        executor.shutdown()
        assert future.result(timeout=20) == 9

    def test_more_work_is_refused(self):
        executor = ParallelExecutor()
        executor.shutdown()
        for attempt in (lambda: executor.map(square, [1]), lambda: executor.submit(square, 1)):
            with pytest.raises(RuntimeError, match=r"was shut down.*Make a new one"):
                attempt()


class TestMisuse:
    @pytest.mark.parametrize(
        ("call", "error", "message"),
        [
            (lambda ex: ex.map(3, [1]), TypeError, "func must be callable. Got 3 instead."),
            (lambda ex: ex.map(abs), TypeError, "map needs at least one iterable"),
            (lambda ex: ex.map(abs, 3), TypeError, "not iterable"),
            (lambda ex: ex.map(abs, [1], chunksize=0), ValueError, "chunksize must be an int >= 1"),
            (lambda ex: pickle.dumps(ex), TypeError, "Pass its ParallelConfig instead"),
        ],
    )
    def test_one_clear_sentence(self, call, error, message):
        with ParallelExecutor() as executor, pytest.raises(error, match=message):
            call(executor)

    def test_a_config_of_another_kind(self):
        with pytest.raises(TypeError, match=r"config must be a ParallelConfig.* Got 'x'"):
            ParallelExecutor("x").map(abs, [1])


def test_probing_runs_every_item_once_in_order(tmp_path):
    """However the choice falls: at the first item, the second, or while the first runs."""
    with ParallelExecutor(ParallelConfig(max_workers=2)) as executor:
        for cost, n in ((0, 100), (0.003, 60), (0.08, 8)):
            seen = tmp_path / str(n)

            def task(x, cost=cost, seen=str(seen)):
                interop_tasks.append_line(seen, x)
                threading.Event().wait(cost)
                return x

            assert list(executor.map(task, iter(range(n)))) == list(range(n))
            assert sorted(map(int, seen.read_text().split())) == list(range(n))


def test_an_error_in_the_probed_item_comes_from_the_iterator():
    with ParallelExecutor(ParallelConfig(max_workers=2)) as executor:
        results = executor.map(lambda x: 1 // x, [0, 1, 2])
        with pytest.raises(ZeroDivisionError) as caught:
            next(results)
    assert any("item 0" in note for note in caught.value.__notes__)


@pytest.mark.parametrize("good", [0, 1, 2, 30])
def test_an_error_of_the_items_comes_in_its_place_when_probing(good):
    def items():
        yield from range(good)
        raise OSError("the source failed")

    delivered = []
    with ParallelExecutor(ParallelConfig(max_workers=2)) as executor:
        results = executor.map(square, items())
        with pytest.raises(OSError, match="the source failed"):
            drain(results, into=delivered)
    assert delivered == [x * x for x in range(good)]


def test_a_workload_can_say_it_all():
    workload = Workload(task_cost_seconds=0.05, releases_gil=True)
    with ParallelExecutor(ParallelConfig(max_workers=2)) as executor:
        names = list(executor.map(tasks.where, range(40), workload=workload))
        assert executor.report.strategy == "threads"
    assert {pid for pid, _ in names} == {os.getpid()}
    assert threading.current_thread().name not in {name for _, name in names}


def test_importing_loads_no_optional_dependency():
    """Beyond what scikit-learn and joblib load themselves."""
    code = (
        "import sys, sklearn.base, joblib; before = set(sys.modules); import ce_parallel.executor;"
        "names = ('pandas', 'matplotlib', 'dask', 'distributed', 'ray', 'pytest');"
        "print([m for m in names if m in sys.modules and m not in before])"
    )
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=50
    )
    assert out.stdout.strip() == "[]"


@pytest.mark.parametrize("preferred", ["serial", "threads", "processes"])
def test_a_future_does_not_keep_its_arguments(preferred):
    argument = tasks.CountsLoads(os.devnull)
    seen = weakref.ref(argument)
    with ParallelExecutor(ParallelConfig(preferred=preferred, max_workers=2)) as executor:
        future = executor.submit(type, argument)
        assert future.result() is tasks.CountsLoads
        del argument
        assert wait_until(lambda: seen() is None)


def test_a_measured_serial_map_that_is_cancelled():
    with ParallelExecutor() as executor:
        results = executor.map(abs, range(10_000))
        for _ in range(500):
            next(results)
        results.cancel()
        with pytest.raises(CancelledError):
            next(results)


def test_the_error_of_the_items_of_a_measured_serial_map_names_no_item():
    class Items(list):
        def __iter__(self):
            yield from range(1000)
            raise KeyError("no more")

    with ParallelExecutor() as executor:
        results = executor.map(abs, Items(range(2000)))
        assert [next(results) for _ in range(1000)] == list(range(1000))
        with pytest.raises(KeyError, match="no more") as caught:
            next(results)
    assert not hasattr(caught.value, "__notes__")
