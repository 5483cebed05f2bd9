"""Inner threads: capped for as long as anybody needs it, restored by whoever is last."""

import ast
import pickle
import subprocess
import sys
import threading
from pathlib import Path

import joblib
import numpy as np
import psutil
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.model_selection import GridSearchCV
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


def threads_of_predict(shared, _):
    """Return how many threads this process has before and after a model predicted."""
    model, X = shared
    before = psutil.Process().num_threads()
    model.predict(X)
    return before, psutil.Process().num_threads()


@pytest.fixture(scope="module")
def boosting():
    X = np.random.default_rng(0).normal(size=(20_000, 4))
    return HistGradientBoostingClassifier(max_iter=5).fit(X[:500], X[:500, 0] > 0), X


@pytest.mark.skipif(joblib.cpu_count() < 2, reason="one CPU has nothing to cap")
def test_histogram_boosting_would_start_threads_of_its_own(boosting):
    """Else the next test would show nothing."""
    code = (
        "import pickle, sys; sys.path.insert(0, '.');"
        "from tests.executor.test_limits import threads_of_predict;"
        "print(threads_of_predict(pickle.load(sys.stdin.buffer), 0))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parents[2],
        input=pickle.dumps(boosting),
        capture_output=True,
        check=True,
    )
    before, after = ast.literal_eval(done.stdout.decode())
    assert after > before


@pytest.mark.parametrize("preferred", ["processes", "joblib"])
def test_histogram_boosting_starts_no_thread_in_workers(boosting, preferred):
    with ParallelExecutor(ParallelConfig(preferred=preferred, max_workers=2)) as executor:
        counts = list(executor.map(threads_of_predict, range(6), shared=boosting))
    assert all(before == after for before, after in counts)


class Searched(ClassifierMixin, BaseEstimator):
    """Scores with the step of the order of precedence that decided a map of its own."""

    def __init__(self, parallel_config=None, depth=1):
        self.parallel_config = parallel_config
        self.depth = depth

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        with ParallelExecutor(self.parallel_config) as executor:
            assert list(executor.map(abs, [-1, -2, -3])) == [1, 2, 3]
            self.decision_ = executor.report.decision
        return self

    def score(self, X, y):
        return 10 * self.decision_.step + self.decision_.n_workers


@pytest.mark.parametrize(
    ("config", "score"),
    [(None, 61), (ParallelConfig(preferred="threads", max_workers=2), 41)],
    ids=["auto", "named"],
)
def test_in_the_workers_of_a_search_a_map_keeps_to_its_share(config, score):
    X, y = np.zeros((8, 1)), np.array([0, 1] * 4)
    search = GridSearchCV(Searched(config), {"depth": [1, 2]}, cv=2, n_jobs=2, refit=False)
    assert set(search.fit(X, y).cv_results_["mean_test_score"]) == {score}
