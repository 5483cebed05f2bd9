"""Inner threads: capped for as long as anybody needs it, restored by whoever is last."""

import threading

import pytest
from threadpoolctl import ThreadpoolController

from ce_parallel.executor import ParallelConfig, ParallelExecutor, _limits
from tests.executor import tasks

pytestmark = pytest.mark.timeout(30)


def blas_threads():
    return {pool["num_threads"] for pool in ThreadpoolController().select(user_api="blas").info()}


@pytest.fixture
def two_threads():
    """Let BLAS use two threads, and see that a test leaves it so."""
    with ThreadpoolController().limit(limits=2, user_api="blas"):
        yield
        assert blas_threads() == {2}


def hold(entered, leave):
    with _limits.one_blas_thread():
        entered.set()
        leave.wait(20)


def test_the_last_one_out_restores_even_where_another_thread_came_first(two_threads):
    marks = [threading.Event() for _ in range(4)]
    first = threading.Thread(target=hold, args=marks[:2])
    second = threading.Thread(target=hold, args=marks[2:])
    first.start()
    assert marks[0].wait(20)
    second.start()
    assert marks[2].wait(20)
    marks[1].set()
    first.join()
    assert blas_threads() == {1}
    marks[3].set()
    second.join()
    assert blas_threads() == {2}


@pytest.mark.parametrize("preferred", ["serial", "threads"])
def test_a_thread_that_limited_blas_before_does_not_keep_us_from_it(two_threads, preferred):
    """It lives on, and threadpoolctl would let only that thread change the limit."""
    limited, leave = threading.Event(), threading.Event()

    def limit():
        ThreadpoolController().limit(limits=2, user_api="blas")
        limited.set()
        leave.wait(20)

    thread = threading.Thread(target=limit)
    thread.start()
    assert limited.wait(20)
    with ParallelExecutor(ParallelConfig(preferred=preferred, max_workers=2)) as executor:
        assert set(executor.map(tasks.inner_threads, range(4))) == {1}
    leave.set()
    thread.join()
