"""The facade is an executor as the standard library, asyncio and dask know it."""

import asyncio
import math
import operator
import os
import signal
import threading
from concurrent.futures import (
    ALL_COMPLETED,
    FIRST_COMPLETED,
    FIRST_EXCEPTION,
    CancelledError,
    as_completed,
    wait,
)

import pytest

from ce_parallel.exceptions import StrategyError
from ce_parallel.executor import ParallelConfig, ParallelExecutor
from ce_parallel.executor.testing import square
from tests.executor import interop_tasks, tasks
from tests.executor.conftest import wait_until
from tests.executor.interop_tasks import touch_and_wait

pytestmark = pytest.mark.timeout(60)

EVERYWHERE = ["serial", "threads", "processes", "joblib"]


def make(preferred, max_workers=1):
    """Return an executor whose processes, if any, start quickly; "loky" asks for the default."""
    params = {"preferred": preferred, "start_method": "forkserver"}
    if preferred == "loky":
        params = {"preferred": "processes"}
    return ParallelExecutor(ParallelConfig(**params, max_workers=max_workers))


@pytest.fixture(scope="module", params=EVERYWHERE)
def executor(request):
    with make(request.param, max_workers=2) as made:
        yield made


class Busy:
    """An executor of one worker that is held by one call, with more calls behind it."""

    def __init__(self, preferred, folder, n_pending=4):
        self.folder = folder
        self.executor = make(preferred)
        self.running = self.executor.submit(touch_and_wait, str(folder), "held")
        assert wait_until((folder / "held.started").exists)
        self.pending = [self.executor.submit(square, x) for x in range(n_pending)]

    def let_go(self):
        (self.folder / "held.go").touch()


@pytest.fixture(params=["threads", "processes"])
def busy(request, tmp_path):
    made = Busy(request.param, tmp_path)
    yield made
    made.let_go()
    made.executor.shutdown()


class TestFutures:
    def test_wait(self, executor):
        futures = [executor.submit(square, x) for x in range(6)]
        done, pending = wait(futures, timeout=30, return_when=ALL_COMPLETED)
        assert not pending
        assert {f.result() for f in done} == {x * x for x in range(6)}

    def test_wait_for_the_first_error(self, executor):
        futures = [executor.submit(math.sqrt, -1), executor.submit(math.sqrt, 4)]
        done, _ = wait(futures, timeout=30, return_when=FIRST_EXCEPTION)
        assert futures[0] in done
        assert isinstance(futures[0].exception(timeout=30), ValueError)
        assert futures[1].result(timeout=30) == 2

    def test_as_completed(self, executor):
        futures = [executor.submit(square, x) for x in range(6)]
        assert {f.result() for f in as_completed(futures, timeout=30)} == {x * x for x in range(6)}

    def test_positional_and_keyword_arguments_of_any_name(self, executor):
        assert executor.submit(dict, fn=1, self=2, shared=3).result(timeout=30) == {
            "fn": 1,
            "self": 2,
            "shared": 3,
        }

    def test_callbacks(self, executor):
        """Before and after the end; one that raises is logged and stops nobody."""
        seen = []
        future = executor.submit(square, 3)
        future.add_done_callback(lambda f: seen.append(("early", f.result())))
        wait([future], timeout=30)
        future.add_done_callback(lambda f: seen.append(("late", f.result())))
        assert wait_until(lambda: len(seen) == 2)
        assert sorted(seen) == [("early", 9), ("late", 9)]

    def test_submit_from_a_callback(self, executor):
        second = []
        chained = threading.Event()

        def go_on(future):
            second.append(executor.submit(square, future.result()))
            chained.set()

        executor.submit(square, 2).add_done_callback(go_on)
        assert chained.wait(30)
        assert second[0].result(timeout=30) == 16

    def test_submit_from_several_threads(self, executor):
        results = {}

        def many(k):
            futures = [executor.submit(operator.mul, k, x) for x in range(20)]
            results[k] = [f.result(timeout=30) for f in futures]

        threads = [threading.Thread(target=many, args=(k,)) for k in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert results == {k: [k * x for x in range(20)] for k in range(4)}

    @pytest.mark.parametrize("inner", ["threads", "auto"])
    def test_submit_from_inside_a_task(self, executor, inner):
        assert executor.submit(interop_tasks.submit_again, inner).result(timeout=30) == 32

    def test_submit_to_the_same_executor_from_inside_its_workers(self):
        """However many are waited for: those inside run at once."""
        with make("threads", max_workers=2) as one:

            def nest(x):
                return one.submit(square, x).result(timeout=20)

            nested = [one.submit(nest, x) for x in range(6)]
            assert [f.result(timeout=30) for f in nested] == [0, 1, 4, 9, 16, 25]


class TestCancelling:
    def test_a_pending_call(self, busy):
        victim = busy.pending[-1]
        assert victim.cancel()
        assert victim.cancelled()
        assert victim.cancel(), "again, harmlessly"
        busy.let_go()
        pending = wait(busy.pending, timeout=30).not_done
        assert not pending
        with pytest.raises(CancelledError):
            victim.result(timeout=0)
        assert [f.result() for f in busy.pending[:-1]] == [0, 1, 4]

    def test_a_running_call_cannot_be_cancelled(self, busy):
        assert busy.running.running()
        assert not busy.running.cancel()
        assert not busy.running.done()
        with pytest.raises(TimeoutError):
            busy.running.result(timeout=0)
        busy.let_go()
        assert busy.running.result(timeout=30) == "held"
        assert not busy.running.cancel()
        assert not busy.running.running()

    def test_shutdown_can_cancel_what_is_pending_and_leaves_what_runs(self, busy):
        busy.executor.shutdown(wait=False, cancel_futures=True)
        assert busy.pending[-1].cancelled()
        assert not busy.running.cancelled()
        busy.let_go()
        pending = wait([busy.running, *busy.pending], timeout=30).not_done
        assert not pending
        assert busy.running.result() == "held"

    def test_shutdown_leaves_a_running_call_when_a_map_is_cancelled(self, busy):
        results = busy.executor.map(square, range(100), chunksize=1)
        busy.executor.shutdown(wait=False, cancel_futures=True)
        with pytest.raises(CancelledError):
            next(results)
        busy.let_go()
        assert busy.running.result(timeout=30) == "held"

    def test_the_executors_own_cancel_ends_what_runs_in_processes(self, busy):
        busy.executor.cancel()
        assert busy.pending[-1].cancelled()
        if busy.executor.config.preferred == "threads":
            busy.let_go()
            assert busy.running.result(timeout=30) == "held"
        else:
            wait([busy.running], timeout=30)
            assert busy.running.cancelled()
        assert busy.executor.submit(square, 3).result(timeout=30) == 9

    def test_a_closed_map_does_not_take_submitted_calls_along(self, busy):
        """They share workers, which are ended for the map's sake; the calls are sent again."""
        results = busy.executor.map(square, range(100), chunksize=1)
        results.close()
        busy.let_go()
        assert busy.running.result(timeout=30) == "held"
        assert [f.result(timeout=30) for f in busy.pending] == [0, 1, 4, 9]

    @pytest.mark.parametrize("preferred", ["processes", "loky"])
    def test_a_death_after_a_pending_call_was_cancelled(self, preferred, tmp_path):
        """The pool's thread must not stumble over the cancelled ones and forget the others."""
        with make(preferred) as executor:
            pid = executor.submit(os.getpid).result(timeout=30)
            held = executor.submit(touch_and_wait, str(tmp_path), "held")
            assert wait_until((tmp_path / "held.started").exists)
            pending = [executor.submit(square, x) for x in range(6)]
            assert pending[3].cancel()
            assert pending[4].cancel()
            os.kill(pid, 9)
            left = wait([held, *pending], timeout=20).not_done
            assert not left
            assert held.exception() is not None
            assert executor.submit(square, 3).result(timeout=30) == 9


class TestShutdown:
    @pytest.mark.parametrize("preferred", EVERYWHERE)
    def test_waits_for_submitted_calls(self, preferred):
        executor = make(preferred)
        futures = [executor.submit(square, x) for x in range(5)]
        executor.shutdown()
        assert [f.result(timeout=0) for f in futures] == [0, 1, 4, 9, 16]
        with pytest.raises(RuntimeError, match="shut down"):
            executor.submit(square, 1)

    def test_returns_at_once_if_it_is_not_to_wait(self, busy):
        busy.executor.shutdown(wait=False)
        assert not busy.running.done()
        with pytest.raises(RuntimeError, match="shut down"):
            busy.executor.submit(square, 1)
        busy.let_go()
        assert busy.running.result(timeout=30) == "held"
        assert [f.result(timeout=30) for f in busy.pending] == [0, 1, 4, 9]

    def test_the_end_of_a_block_waits(self, tmp_path):
        with make("threads") as executor:
            future = executor.submit(touch_and_wait, str(tmp_path), "held")
            threading.Timer(0.05, (tmp_path / "held.go").touch).start()
        assert future.result(timeout=0) == "held"


class TestAsyncio:
    def test_run_in_executor(self, executor):
        async def main():
            loop = asyncio.get_running_loop()
            calls = [loop.run_in_executor(executor, square, x) for x in range(5)]
            with pytest.raises(ValueError, match="math domain"):
                await loop.run_in_executor(executor, math.sqrt, -1)
            return await asyncio.gather(*calls)

        assert asyncio.run(main()) == [0, 1, 4, 9, 16]

    def test_cancelling(self, busy):
        async def main():
            loop = asyncio.get_running_loop()
            waiting = loop.run_in_executor(busy.executor, square, 7)
            held = asyncio.wrap_future(busy.running)
            assert waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(asyncio.shield(held), timeout=0.01)
            busy.let_go()
            return await held

        assert asyncio.run(main()) == "held"

    def test_a_running_call_outlives_the_cancelled_wait_for_it(self, busy):
        async def main():
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(asyncio.wrap_future(busy.running), timeout=0.01)

        asyncio.run(main())
        assert not busy.running.cancelled()
        busy.let_go()
        assert busy.running.result(timeout=30) == "held"

    def test_as_the_loops_default_where_it_is_one_of_threads(self):
        async def main():
            return await asyncio.to_thread(square, 5)

        assert asyncio.run(main()) == 25


class TestDaskGraphs:
    def test_a_graph_runs_on_it(self, executor):
        dask = pytest.importorskip("dask")
        total = dask.delayed(sum)([dask.delayed(square)(x) for x in range(10)])
        assert dask.compute(total, scheduler=executor) == (285,)

    @pytest.mark.parametrize(
        ("params", "n_workers"),
        [
            ({"preferred": "threads", "max_workers": 3}, 3),
            ({"preferred": "auto", "max_workers": 3}, 3),
            ({"preferred": "serial", "max_workers": 3}, 1),
        ],
    )
    def test_it_knows_how_many_calls_may_run_at_once(self, params, n_workers):
        with ParallelExecutor(ParallelConfig(**params)) as executor:
            assert executor._max_workers == n_workers

    def test_errors_are_the_tasks_own(self, executor):
        dask = pytest.importorskip("dask")
        with pytest.raises(ValueError, match="math domain"):
            dask.compute(dask.delayed(math.sqrt)(-1), scheduler=executor)


def test_first_completed(tmp_path):
    with make("threads", max_workers=2) as executor:
        held = executor.submit(touch_and_wait, str(tmp_path), "held")
        quick = executor.submit(tasks.identity, 3)
        done, pending = wait([held, quick], timeout=30, return_when=FIRST_COMPLETED)
        assert (done, pending) == ({quick}, {held})
        (tmp_path / "held.go").touch()


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
@pytest.mark.parametrize("preferred", ["processes", pytest.param("loky", marks=pytest.mark.slow)])
def test_a_death_half_way_through_the_result_of_a_call(preferred, tmp_path):
    """The pool waits for the other half, and nobody waits for the pool to notice."""
    flag = tmp_path / "armed"
    flag.touch()
    with make(preferred) as executor:
        future = executor.submit(tasks.die_sending, str(flag), 3)
        waiting = executor.submit(square, 3)
        assert not wait([future, waiting], timeout=20).not_done
        with pytest.raises(StrategyError, match="The call was lost"):
            future.result()
        assert executor.submit(square, 3).result(timeout=20) == 9


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
@pytest.mark.parametrize("preferred", ["processes", pytest.param("loky", marks=pytest.mark.slow)])
def test_a_shutdown_at_the_moment_of_a_death(preferred):
    """An idle worker that dies takes the lock of the pool's queue along."""
    for _ in range(5):
        executor = make(preferred, max_workers=2)
        pids = {pid for pid, _ in executor.map(tasks.where, range(20))}
        os.kill(min(pids), signal.SIGKILL)
        executor.shutdown()


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_a_shutdown_after_a_death_half_way_through_a_result(tmp_path):
    flag = tmp_path / "armed"
    flag.touch()
    executor = make("processes")
    future = executor.submit(tasks.die_sending, str(flag), 3)
    executor.shutdown()
    with pytest.raises(StrategyError, match="The call was lost"):
        future.result(timeout=0)
