"""Joblib's work runs through the facade as through joblib's own backends, and can be seen there."""

import multiprocessing
import os
import pickle
import threading
import time
from collections import Counter

import joblib
import numpy as np
import pytest
from joblib import Parallel, delayed
from sklearn.datasets import make_classification
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV

from ce_parallel import (
    Hook,
    ParallelCalibratedExplainer,
    ParallelConfig,
    ParallelExecutor,
    StrategyError,
    observe,
    parallel_backend,
    register_joblib_backend,
)
from ce_parallel.executor import FuturesStrategy
from ce_parallel.executor.testing import square
from tests.executor.conftest import wait_until

pytestmark = pytest.mark.timeout(60)
register_joblib_backend()


@pytest.fixture(
    params=["threads", "processes", "auto", pytest.param("joblib", marks=pytest.mark.slow)]
)
def executor(request):
    """An executor that joblib's work in the test goes through."""
    config = ParallelConfig(preferred=request.param, max_workers=2)
    with parallel_backend(config) as executor:
        yield executor


@pytest.fixture
def threads():
    with parallel_backend("threads", n_jobs=2) as executor:
        yield executor


def fail(x):
    raise ValueError(f"{x} is bad")


def fail_on_three(x):
    return fail(x) if x == 3 else x


class TestAsJoblibDocumentsIt:
    def test_results_come_in_order(self, executor):
        assert Parallel()(delayed(square)(x) for x in range(50)) == [x * x for x in range(50)]
        assert executor.report.n_tasks == 50
        assert executor.report.is_complete

    def test_a_task_that_raises_stops_the_others(self, executor):
        with pytest.raises(ValueError, match="3 is bad"):
            Parallel()(delayed(fail_on_three)(x) for x in range(10_000))
        assert executor.report.n_tasks < 10_000
        assert not executor.report.is_complete
        assert Parallel()(delayed(square)(x) for x in range(5)) == [0, 1, 4, 9, 16]

    def test_the_iterable_raises(self, executor):
        def items():
            yield delayed(square)(1)
            raise KeyError("no more")

        with pytest.raises(KeyError, match="no more"):
            Parallel()(items())
        assert Parallel()(delayed(square)(x) for x in range(3)) == [0, 1, 4]

    def test_generators_of_results(self, executor):
        results = Parallel(return_as="generator")(delayed(square)(x) for x in range(30))
        assert next(results) == 0
        assert list(results) == [x * x for x in range(1, 30)]
        unordered = Parallel(return_as="generator_unordered")(delayed(square)(x) for x in range(30))
        assert sorted(unordered) == [x * x for x in range(30)]
        assert executor.report.n_tasks == 30

    def test_a_generator_that_is_dropped(self, executor):
        results = Parallel(return_as="generator")(delayed(time.sleep)(0.02) for _ in range(1000))
        assert next(results) is None
        with pytest.warns(UserWarning, match=r"have been cancelled|not been dispatched"):
            results.close()
        assert executor.report.n_tasks < 1000
        assert Parallel()(delayed(square)(x) for x in range(3)) == [0, 1, 4]

    def test_two_generators_at_once(self, executor):
        first = Parallel(return_as="generator")(delayed(square)(x) for x in range(20))
        second = Parallel(return_as="generator")(delayed(square)(x) for x in range(20))
        assert list(zip(first, second, strict=True)) == [(x * x, x * x) for x in range(20)]

    def test_timeout(self, executor):
        in_processes = executor.config.preferred == "processes"
        nap = 600.0 if in_processes else 1.0  # threads finish what they are at
        with pytest.raises(multiprocessing.TimeoutError):
            Parallel(timeout=0.3)(delayed(time.sleep)(nap) for _ in range(4))
        assert Parallel()(delayed(square)(x) for x in range(3)) == [0, 1, 4]

    def test_items_are_drawn_as_workers_need_them(self, threads):
        drawn = []

        def items():
            for x in range(1000):
                drawn.append(x)
                yield delayed(square)(x)

        results = Parallel(return_as="generator", pre_dispatch=4, batch_size=1)(items())
        assert len(drawn) <= 8
        assert len(list(results)) == len(drawn) == 1000

    @pytest.mark.parametrize("batch_size", [1, 7, "auto"])
    def test_batches(self, executor, batch_size):
        results = Parallel(batch_size=batch_size)(delayed(square)(x) for x in range(100))
        assert results == [x * x for x in range(100)]
        assert executor.report.n_tasks == 100

    def test_a_managed_parallel_is_used_again(self, executor):
        with Parallel() as parallel:
            for n in (3, 30):
                assert parallel(delayed(square)(x) for x in range(n)) == [x * x for x in range(n)]
                assert executor.report.n_tasks == n

    def test_no_tasks(self, executor):
        assert Parallel()([]) == []

    def test_progress_messages(self, threads, capsys):
        Parallel(verbose=60)(delayed(square)(x) for x in range(4))
        assert "CeParallelBackend with 2 concurrent workers" in capsys.readouterr().out


class TestHooks:
    class Log(Hook):
        def __init__(self):
            self.events = []

        def on_map_start(self, report):
            self.events.append("start")

        def on_task_done(self, report, record):
            self.events.append("task")

        def on_map_end(self, report):
            self.events.append("end")

    def test_nothing_comes_before_the_start_or_after_the_end(self, executor):
        log = self.Log()
        with observe(log):
            for tasks in (
                [],
                [delayed(fail_on_three)(x) for x in range(10)],
                [delayed(time.sleep)(0.05) for _ in range(9)] + [delayed(fail)(0)],
            ):
                log.events.clear()
                try:
                    Parallel(batch_size=1)(tasks)
                except ValueError:
                    time.sleep(0.1)
                assert log.events[0] == "start"
                assert log.events[-1] == "end"
                assert {"task"} >= set(log.events[1:-1])

    def test_a_call_that_joblib_never_stops(self, executor):
        with pytest.raises(TypeError):
            Parallel()(5)
        for _ in range(2):
            Parallel()(delayed(square)(x) for x in range(10))
            assert executor.report.n_tasks == 10
            assert executor.report.is_complete

    @pytest.mark.parametrize("event", ["on_map_start", "on_task_done", "on_map_end"])
    def test_a_hook_that_raises_where_warnings_are_errors(self, event, caplog):
        class Bad(Hook):
            pass

        setattr(Bad, event, lambda *_: 1 / 0)
        with parallel_backend(n_jobs=2, hooks=[Bad()]) as executor:
            Parallel()(delayed(time.sleep)(0.05) for _ in range(6))
        assert "was dropped" in caplog.text
        assert executor.report.n_tasks == len(executor.report.records) == 6


class TestNumberOfJobs:
    def test_as_joblib_counts(self):
        cpus = joblib.cpu_count()
        with joblib.parallel_config("ce_parallel"):
            assert joblib.effective_n_jobs(3) == 3
            assert joblib.effective_n_jobs(-1) == cpus
            assert joblib.effective_n_jobs(-cpus) == 1
            assert Parallel().n_jobs == -1, "unset means all, as for dask"
            with pytest.raises(ValueError, match="no meaning"):
                Parallel(n_jobs=0)(delayed(square)(x) for x in range(3))
        with joblib.parallel_backend("ce_parallel"):
            assert Parallel().n_jobs == -1

    def test_max_workers_is_a_hard_cap(self):
        with parallel_backend(ParallelConfig(max_workers=2)):
            assert joblib.effective_n_jobs(8) == 2
        with joblib.parallel_config("ce_parallel", max_workers=3, n_jobs=8):
            assert joblib.effective_n_jobs(-1) <= 3

    def test_serial_means_one_job(self, monkeypatch):
        with parallel_backend("serial"):
            assert joblib.effective_n_jobs(2) == 1
        monkeypatch.setenv("CE_PARALLEL", "off")
        with parallel_backend("threads"):
            assert joblib.effective_n_jobs(2) == 1

    def test_contexts_nest(self):
        with (
            parallel_backend("processes", n_jobs=2),
            parallel_backend("threads", n_jobs=3) as inner,
        ):
            pids = Parallel()(delayed(os.getpid)() for _ in range(4))
            assert set(pids) == {os.getpid()}
            assert inner.report.n_workers == 3
            with joblib.parallel_config("threading", n_jobs=2):
                Parallel()(delayed(square)(x) for x in range(9))
            assert inner.report.n_tasks == 4, "joblib's own backend was not ours"


class TestWhereTasksRun:
    def test_nested_calls_use_threads_of_the_worker(self, executor):
        def outer():
            inner = Parallel(n_jobs=2)(delayed(os.getpid)() for _ in range(4))
            return os.getpid(), set(inner), type(joblib.parallel.get_active_backend()[0]).__name__

        for pid, inner, backend in Parallel()(delayed(outer)() for _ in range(4)):
            assert inner == {pid}
            assert backend == "ThreadingBackend"

    def test_shared_memory_when_it_is_required(self, executor):
        seen = []
        Parallel(require="sharedmem")(delayed(seen.append)(x) for x in range(10))
        assert sorted(seen) == list(range(10))
        assert executor.report.n_tasks == 10
        assert executor.report.strategy == "threads"

    @pytest.mark.parametrize("prefer", ["threads", "processes"])
    def test_auto_follows_what_the_caller_prefers(self, prefer):
        with parallel_backend(n_jobs=2) as executor:
            pids = Parallel(prefer=prefer)(delayed(os.getpid)() for _ in range(4))
        assert (set(pids) == {os.getpid()}) == (prefer == "threads")
        assert prefer in executor.report.decision.reason

    def test_auto_measures(self):
        with parallel_backend(n_jobs=2) as executor:
            Parallel()(delayed(time.sleep)(0.03) for _ in range(8))
            assert executor.report.strategy == "threads"
            assert executor.report.n_workers == 2
            assert executor.report.decision.step == 7
            Parallel()(delayed(square)(x) for x in range(8))
            assert executor.report.n_workers == 1, executor.report.decision.reason

    def test_auto_changes_its_mind_about_many_tasks(self):
        with parallel_backend(n_jobs=2) as executor:
            Parallel()(delayed(time.sleep)(0.0003) for _ in range(2000))
        assert executor.report.n_tasks == 2000
        assert executor.report.n_workers == 2, executor.report.decision.reason

    def test_a_pool_of_the_users(self):
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(2, thread_name_prefix="mine") as pool:
            config = ParallelConfig(preferred=FuturesStrategy(pool), max_workers=2)
            with parallel_backend(config):
                names = Parallel()(
                    delayed(lambda: threading.current_thread().name)() for _ in range(8)
                )
        assert all(name.startswith("mine") for name in names)

    def test_workers_stay_warm(self):
        def pids():
            return set(Parallel()(delayed(os.getpid)() for _ in range(8)))

        with parallel_backend("processes", n_jobs=2):
            assert len(pids() | pids()) <= 2
        with joblib.parallel_config("ce_parallel", n_jobs=2, preferred="processes"):
            assert len(pids() | pids()) <= 2


class TestFaults:
    def test_a_worker_that_dies(self):
        with parallel_backend("processes", n_jobs=2):
            with pytest.raises(StrategyError, match="lost"):
                Parallel(batch_size=1)(delayed(os._exit)(1) for _ in range(4))
            assert Parallel()(delayed(square)(x) for x in range(3)) == [0, 1, 4]

    def test_arguments_and_results_that_cannot_be_pickled(self):
        with parallel_backend("processes", n_jobs=2):
            with pytest.raises(pickle.PicklingError, match="Could not pickle the task"):
                Parallel()(delayed(id)(threading.Lock()) for _ in range(300))
            with pytest.raises(StrategyError, match="send its result"):
                Parallel()(delayed(threading.Lock)() for _ in range(300))

    def test_auto_keeps_what_cannot_be_pickled_in_threads(self):
        lock = threading.Lock()

        def burn(_):
            with lock:
                return sum(k * k % 7 for k in range(300_000))

        with parallel_backend(n_jobs=2) as executor:
            assert len(set(Parallel(batch_size=1)(delayed(burn)(k) for k in range(30)))) == 1
        assert executor.report.strategy == "threads"

    def test_keyboard_interrupt_in_a_task(self, threads):
        def interrupt():
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            Parallel()(delayed(interrupt)() for _ in range(4))

    def test_an_executor_that_was_shut_down(self):
        with parallel_backend("threads", n_jobs=2) as executor:
            executor.shutdown()
            with pytest.raises(RuntimeError, match="shut down"):
                Parallel()(delayed(square)(x) for x in range(4))

    def test_workers_go_with_the_context(self):
        with joblib.parallel_config("ce_parallel", n_jobs=2, preferred="processes"):
            pids = set(Parallel()(delayed(os.getpid)() for _ in range(8)))
        assert wait_until(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in pids))


@pytest.fixture(scope="module")
def data():
    return make_classification(400, 8, random_state=0)


class TestScikitLearn:
    def test_a_forest(self, data, executor):
        X, y = data
        alone = RandomForestClassifier(20, random_state=0)
        with joblib.parallel_config("sequential"):
            expected = alone.fit(X, y).predict_proba(X)
        forest = RandomForestClassifier(20, random_state=0, n_jobs=2).fit(X, y)
        assert executor.report.n_tasks == 20
        assert np.array_equal(forest.predict_proba(X), expected)
        assert executor.report.strategy == "threads", "predicting requires shared memory"

    def test_a_search(self, data, executor):
        grid = {"C": [0.01, 0.1, 1.0, 10.0]}
        with joblib.parallel_config("sequential"):
            expected = GridSearchCV(LogisticRegression(), grid, cv=3).fit(*data)
        # Without a refit, which in scikit-learn 1.6 would be one more call of joblib.
        search = GridSearchCV(LogisticRegression(), grid, cv=3, n_jobs=2, refit=False).fit(*data)
        name = "mean_test_score"
        assert np.array_equal(search.cv_results_[name], expected.cv_results_[name])
        assert search.best_params_ == expected.best_params_
        assert executor.report.n_tasks == 12

    def test_hooks_see_a_search_and_the_maps_in_its_threads(self, data):
        class Log(Hook):
            def __init__(self):
                self.steps = []

            def on_map_end(self, report):
                self.steps.append((report.name, report.n_tasks, report.decision.step))

        log = Log()
        explainer = ParallelCalibratedExplainer(LogisticRegression(), cv=3, random_state=0)
        grid = {"estimator__C": [0.1, 1.0, 10.0]}
        with observe(log), parallel_backend("threads", n_jobs=2):
            GridSearchCV(explainer, grid, cv=4, n_jobs=2).fit(*data)
        assert Counter(log.steps) == {("joblib", 12, 4): 1, ("fit", 4, 6): 12, ("fit", 4, 4): 1}

    def test_explainers_share_the_executor(self, data):
        explainer = ParallelCalibratedExplainer(LogisticRegression(), cv=3, random_state=0)
        with parallel_backend(ParallelConfig(preferred="threads", max_workers=2)) as executor:
            report = explainer.fit(*data).execution_report_
            assert report is executor.report
            assert (report.strategy, report.n_workers) == ("threads", 2)
        with joblib.parallel_config("ce_parallel", n_jobs=2, preferred="threads"):
            report = explainer.fit(*data).execution_report_
            assert (report.strategy, report.n_workers) == ("threads", 2)

    def test_a_bare_executor_obeys_the_context(self):
        with (
            joblib.parallel_config("ce_parallel", n_jobs=2, preferred="threads"),
            ParallelExecutor() as executor,
        ):
            assert list(executor.map(square, range(3))) == [0, 1, 4]
            assert executor.report.decision.step == 5
            assert (executor.report.strategy, executor.report.n_workers) == ("threads", 2)


CONTEXTS = ["loky", "threading", "multiprocessing", "dask", "ce_parallel"]


@pytest.fixture(scope="module")
def client():
    distributed = pytest.importorskip("distributed")
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=False, dashboard_address=None
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


def explain(data, verb=joblib.parallel_config, **context):
    """Fit, calibrate and explain in a joblib context."""
    X, y = data
    explainer = ParallelCalibratedExplainer(
        RandomForestRegressor(8, random_state=0, n_jobs=2), cv=3, random_state=0
    )
    with verb(**context):
        fitted = explainer.fit(X[:200], y[:200]).execution_report_
        explainer.calibrate(X[200:300], y[200:300])
        explained = explainer.explain(X[300:])
    return explained, [fitted, explained.execution_report]


@pytest.fixture(scope="module")
def expected(data):
    return explain(data, backend="sequential")


class TestContextsOfTheUser:
    """Inwards: whoever opens a joblib context around our verbs gets its backend and n_jobs."""

    # Of joblib 1.5's own backend for dask.
    @pytest.mark.filterwarnings("ignore:`apply_async` is deprecated:DeprecationWarning")
    @pytest.mark.parametrize("verb", [joblib.parallel_config, joblib.parallel_backend])
    @pytest.mark.parametrize("backend", CONTEXTS)
    def test_fit_calibrate_explain(self, data, expected, backend, verb, request):
        if backend == "dask":
            request.getfixturevalue("client")
        explained, reports = explain(data, verb, backend=backend, n_jobs=2)
        assert np.array_equal(explained.weights, expected[0].weights)
        assert np.array_equal(explained.prediction_low, expected[0].prediction_low)
        if backend != "ce_parallel":  # that measures
            assert [report.decision.step for report in reports] == [5, 5]
            assert [report.strategy for report in reports] == ["joblib", "joblib"]
            assert [report.n_workers for report in reports] == [2, 2]
            assert not any(report.fallbacks for report in reports)

    def test_n_jobs_alone(self, data, expected):
        explained, reports = explain(data, n_jobs=2)
        assert np.array_equal(explained.weights, expected[0].weights)
        assert {report.n_workers for report in reports} == {2}
        _, reports = explain(data, n_jobs=1)
        assert {report.strategy for report in reports} == {"serial"}

    def test_the_innermost_context_counts(self):
        with joblib.parallel_config("loky", n_jobs=2), ParallelExecutor() as executor:
            with joblib.parallel_config(n_jobs=1):
                list(executor.map(square, range(4)))
                assert executor.report.strategy == "serial"
            with joblib.parallel_config("threading", n_jobs=3):
                list(executor.map(square, range(4)))
                assert executor.report.n_workers == 3
                assert "Threading" in executor.report.decision.reason
