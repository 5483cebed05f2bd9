"""Who decides, in which order; and what the cost model says."""

import itertools
import logging
import multiprocessing
import os
import re
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import joblib
import pytest

from ce_parallel.executor import (
    Machine,
    ParallelConfig,
    ParallelExecutor,
    SerialStrategy,
    ThreadPoolExecutorStrategy,
    Workload,
    _costs,
    decide,
)
from ce_parallel.executor._gain import Gain
from ce_parallel.executor._gil import Heartbeat, known_share
from ce_parallel.executor._precedence import asked_for
from ce_parallel.executor._registry import make_strategy
from ce_parallel.executor._selection import chunk_for
from ce_parallel.executor.testing import square
from tests.executor import tasks

pytestmark = pytest.mark.timeout(60)
TWO = Machine(cpus=2)


def decision(**params):
    choice = asked_for(ParallelConfig(**params))
    return None if choice is None else choice.decision


class TestPrecedence:
    def test_1_an_object_wins_over_everything(self, monkeypatch):
        monkeypatch.setenv("CE_PARALLEL", "off")
        found = decision(preferred=ThreadPoolExecutorStrategy(), max_workers=2)
        assert (found.step, found.strategy, found.n_workers) == (1, "threads", 2)
        with ThreadPoolExecutor(3) as pool:
            found = decision(preferred=pool)
            assert (found.step, found.strategy, found.n_workers) == (1, "futures", 3)

    def test_2_off_wins_over_names(self, monkeypatch):
        monkeypatch.setenv("CE_PARALLEL", "off")
        assert decision(preferred="threads").step == 2
        assert decision(preferred="threads").strategy == "serial"

    def test_3_the_environment_wins_over_preferred(self, monkeypatch):
        monkeypatch.setenv("CE_PARALLEL", "joblib,workers=2")
        found = decision(preferred="threads")
        assert (found.step, found.strategy, found.n_workers) == (3, "joblib", 2)

    def test_max_workers_is_a_hard_cap_also_for_the_environment(self, monkeypatch):
        monkeypatch.setenv("CE_PARALLEL", "threads,workers=8")
        assert decision(max_workers=2).n_workers == 2

    def test_max_workers_of_the_environment_caps_a_joblib_context(self, monkeypatch):
        monkeypatch.setenv("CE_PARALLEL", "workers=1")
        with joblib.parallel_config("threading", n_jobs=2):
            assert decision().n_workers == 1

    def test_auto_in_the_environment_asks_for_a_measurement(self, monkeypatch):
        monkeypatch.setenv("CE_PARALLEL", "auto")
        assert decision() is None

    def test_4_a_name_wins_over_a_joblib_context(self):
        with joblib.parallel_config("threading", n_jobs=2):
            assert decision(preferred="processes", max_workers=2).step == 4

    def test_5_the_users_joblib_context_is_obeyed(self):
        with joblib.parallel_config("threading", n_jobs=2):
            found = decision()
            assert (found.step, found.strategy, found.n_workers) == (5, "joblib", 2)
            assert "ThreadingBackend" in found.reason
            with ParallelExecutor() as executor:
                assert list(executor.map(square, range(9))) == [x * x for x in range(9)]
        with joblib.parallel_config(n_jobs=2):
            assert decision().strategy == "joblib"
        with joblib.parallel_backend("threading"):  # means n_jobs=-1
            assert decision().step == 5

    def test_5_unset_jobs_mean_one_unless_max_workers_says_more(self):
        with joblib.parallel_config("threading"):
            assert (decision().strategy, decision().step) == ("serial", 5)
            assert decision(max_workers=2).n_workers == 2
        with joblib.parallel_config("sequential"):
            assert (decision().strategy, decision().step) == ("serial", 5)

    def test_6_inside_a_joblib_worker_it_is_serial(self):
        """Also in a worker of a search, whose own context is not the user's."""
        for backend in ("threading", "loky"):
            found = joblib.Parallel(n_jobs=2, backend=backend)(
                joblib.delayed(decision)() for _ in range(2)
            )
            assert {(d.step, d.strategy) for d in found} == {(6, "serial")}

    def test_6_names_get_the_inherited_share(self):
        call = joblib.delayed(decision)(preferred="threads", max_workers=8)
        (found,) = joblib.Parallel(n_jobs=2, backend="threading")([call])
        assert (found.step, found.n_workers, found.strategy) == (4, 1, "serial")
        assert "share" in found.reason

    def test_6_inside_a_daemon_process(self, monkeypatch):
        monkeypatch.setattr(multiprocessing.current_process(), "_config", {"daemon": True})
        assert (decision().step, decision().strategy) == (6, "serial")

    def test_7_nobody_has_decided(self):
        assert decision() is None


@pytest.mark.parametrize(
    ("workload", "params", "expected", "reason"),
    [
        (Workload(100, 0.1, releases_gil=True), {}, "threads", "times as fast"),
        (Workload(100, 0.1, releases_gil=0.9), {}, "threads", "times as fast"),
        (Workload(3, 10.0, releases_gil=True), {}, "processes", "times as fast"),
        (Workload(3, 0.1, releases_gil=True), {}, "serial", "at least 4 tasks"),
        (Workload(100, 0.1, releases_gil=False), {}, "processes", "times as fast"),
        (Workload(100, 0.1), {}, "processes", "times as fast"),
        (Workload(100, 0.001), {}, "serial", "hold the GIL"),
        (Workload(10_000, 1e-6, releases_gil=True), {}, "serial", "save too little|more than"),
        (Workload(100, 0.1, payload_bytes=2**26), {}, "serial", "exceed max_payload_bytes"),
        (Workload(100, 0.1), {"task_size_hint_bytes": 2**26}, "serial", "exceed"),
        (Workload(100, 0.1), {"releases_gil": True}, "threads", "times as fast"),
        (Workload(100, 0.1), {"task_cost_hint_seconds": 1e-6}, "serial", "hold the GIL"),
        (Workload(100, 0.1), {"start_method": "spawn"}, "serial", "__main__ guard"),
        (Workload(100, 0.1), {"max_workers": 1}, "serial", "one worker"),
        (Workload(100), {}, "serial", "not known"),
        (Workload(None, 0.5), {}, "processes", "100 tasks"),
        (Workload(20, 0.1, shared_bytes=2**30), {}, "serial", "hold the GIL"),
        (Workload(100, 0.1, load_seconds=9.0), {}, "serial", "processes would save too little"),
        (Workload(100, 0.1, load_seconds=2.0), {}, "processes", "times as fast"),
        (Workload(5, 0.1, n_done=2, releases_gil=True), {}, "threads", "3 tasks"),
        (Workload(2, 9.0, n_done=1), {}, "serial", "nothing to share out"),
    ],
)
def test_the_cost_model(workload, params, expected, reason):
    found = decide(workload, TWO, ParallelConfig(**params))
    assert found.strategy == expected
    assert re.search(reason, found.reason)
    assert found.step == 7


def test_a_warm_pool_is_worth_using_sooner():
    workload = Workload(20, 0.02)
    assert decide(workload, TWO, ParallelConfig()).strategy == "serial"
    warm = Machine(cpus=2, processes_warm=True)
    assert decide(workload, warm, ParallelConfig()).strategy == "processes"


def test_a_single_task_is_shared_out_while_the_caller_is_busy():
    busy = Machine(cpus=2, caller_busy=4.0)
    assert decide(Workload(2, 8.0, n_done=1), busy, ParallelConfig()).strategy == "processes"


def test_one_cpu_never_goes_parallel():
    found = decide(Workload(100, 1.0, releases_gil=True), Machine(cpus=1), ParallelConfig())
    assert found.strategy == "serial"


def test_alternatives_are_kept():
    found = decide(Workload(10, 0.1, releases_gil=True), TWO, ParallelConfig())
    assert set(found.predicted) == {"serial", "threads", "processes"}
    assert found.predicted["serial"] == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("cost", "n_tasks", "size"), [(0.01, None, 1), (0.001, None, 30), (0.001, 60, 10), (0, 7, 2)]
)
def test_chunks_group_small_tasks_only(cost, n_tasks, size):
    assert chunk_for(cost, n_tasks, 2) == size


def by_object(run):
    run(preferred=SerialStrategy())


def by_off(run, monkeypatch):
    monkeypatch.setenv("CE_PARALLEL", "off")
    run()


def by_environment(run, monkeypatch):
    monkeypatch.setenv("CE_PARALLEL", "threads,workers=2")
    run()


def by_name(run):
    run(preferred="threads", max_workers=2)


def by_joblib(run):
    with joblib.parallel_config("threading", n_jobs=2):
        run()


def by_surroundings(run):
    joblib.Parallel(n_jobs=2, backend="threading")([joblib.delayed(run)()])


def by_measurement(run):
    run()


@pytest.mark.parametrize(
    ("step", "way"),
    enumerate(
        (by_object, by_off, by_environment, by_name, by_joblib, by_surroundings, by_measurement), 1
    ),
)
def test_each_decision_is_logged_and_kept_with_its_costs(step, way, caplog, monkeypatch):
    reports = []

    def run(**params):
        with ParallelExecutor(ParallelConfig(**params)) as executor:
            assert list(executor.map(square, range(10))) == [x * x for x in range(10)]
            reports.append(executor.report)

    with caplog.at_level(logging.INFO, logger="ce_parallel"):
        way(run, monkeypatch) if "monkeypatch" in way.__code__.co_varnames else way(run)
    found = reports[0].decision
    assert found.step == step
    assert found.reason in caplog.text
    assert found.actual == reports[0].wall_time
    assert set(found.predicted) == {"serial", "threads", "processes"}
    assert all(seconds > 0 for seconds in found.predicted.values())


class TestWrongGuesses:
    def run(self, func, items, caplog, **params):
        with (
            caplog.at_level(logging.INFO, logger="ce_parallel"),
            ParallelExecutor(ParallelConfig(max_workers=2, **params)) as executor,
        ):
            list(executor.map(func, items))
            return executor.report

    def test_one_line_says_what_to_set(self, caplog):
        report = self.run(time.sleep, [0.02] * 10, caplog, task_cost_hint_seconds=1e-6)
        assert report.strategy == "serial"
        (line,) = [m for m in caplog.messages if "were predicted" in m]
        assert "by serial" in line
        assert re.search(r"set task_cost_hint_seconds=0\.02\d*, or preferred=", line)

    def test_workers_are_compared_as_well(self, caplog):
        report = self.run(square, range(8), caplog, task_cost_hint_seconds=1.0, releases_gil=True)
        assert report.strategy == "threads"
        assert [m for m in caplog.messages if "by threads where 4 s were predicted" in m]

    def test_a_good_guess_passes_without_a_word(self, caplog):
        self.run(time.sleep, [0.05] * 8, caplog, task_cost_hint_seconds=0.05, releases_gil=True)
        assert not [m for m in caplog.messages if "were predicted" in m]

    def test_a_map_that_is_not_finished_is_not_judged(self, caplog):
        with (
            caplog.at_level(logging.INFO, logger="ce_parallel"),
            ParallelExecutor(ParallelConfig(task_cost_hint_seconds=5.0)) as executor,
        ):
            results = executor.map(square, range(10))
            next(results)
            results.close()
        assert not [m for m in caplog.messages if "were predicted" in m]

    @pytest.mark.parametrize(("enough", "left"), [(99.0, True), (0.0, False)])
    def test_threads_that_gain_too_little_are_left(self, enough, left, caplog, monkeypatch):
        """A hint, or a heartbeat among many short releases, may promise too much."""
        monkeypatch.setattr("ce_parallel.executor._gain.MIN_GAIN", enough)
        monkeypatch.setattr("ce_parallel.executor._selection.MARGIN", 0.0)
        options = {"releases_gil": True, "max_payload_bytes": 0}  # no processes
        report = self.run(tasks.count_to, [100_000] * 40, caplog, **options)
        assert report.strategy == "threads"
        assert report.n_tasks == 40
        assert report.fallbacks == []
        assert ("the caller alone" in report.decision.reason) == left
        assert (report.records[-1].worker == "caller") == left


def test_longer_tasks_are_told_from_threads_that_wait_for_one_another():
    gain = Gain(alone=0.01, n_workers=2)
    assert [gain.add(0.02, 1) for _ in range(3)] == [None] * 3
    assert "gain a factor of 1.0, the caller alone" in gain.add(0.02, 1)
    assert gain.paused
    assert [gain.add(0.02, 1) for _ in range(3)] == [None] * 3
    assert "gain a factor of 2.0, threads again" in gain.add(0.02, 1)
    assert [gain.add(0.02, 1) for _ in range(8)] == [None] * 8, "they are known to be longer"
    assert not gain.paused


def test_hints_are_believed_without_a_trial():
    """Even of the first item."""
    config = ParallelConfig(max_workers=2, task_cost_hint_seconds=1.0, releases_gil=True)
    with ParallelExecutor(config) as executor:
        names = {name for _, name in executor.map(tasks.where, range(8))}
    assert threading.current_thread().name not in names


def test_the_caller_works_while_cold_workers_come_up():
    """And workers take over once they are up, in order."""
    config = ParallelConfig(max_workers=2, task_cost_hint_seconds=1.0, releases_gil=False)
    with ParallelExecutor(config) as executor:
        results = executor.map(tasks.number_and_process, itertools.count())
        here = os.getpid()
        assert next(results) == (0, here)
        for expected, (number, process) in enumerate(results, start=1):
            assert number == expected
            if process != here:
                break
        results.close()
        assert executor.report.fallbacks == []


def test_workers_load_only_what_tasks_need():
    """scikit-learn takes much longer to import than a worker takes to start."""
    with ParallelExecutor(ParallelConfig(preferred="processes", max_workers=1)) as executor:
        loaded = executor.map(lambda name: name in sys.modules, ["numpy", "sklearn", "scipy"])
        assert list(loaded) == [True, False, False]


class TestGil:
    def test_known_functions(self):
        import numpy as np
        from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier

        forest, boosting = RandomForestClassifier(), GradientBoostingClassifier()
        assert known_share(time.sleep, 0.01) == 1.0
        assert known_share(partial(np.sort, axis=0), 0.01) == 1.0
        assert known_share(forest.predict, 0.01) == 1.0
        assert known_share(boosting.predict, 0.01) == 0.0
        assert known_share(square, 0.01) is None

    def test_small_calls_of_known_functions_are_measured(self):
        assert known_share(time.sleep, 1e-5) is None

    @pytest.mark.parametrize(
        ("work", "low", "high"),
        [(lambda: time.sleep(0.1), 0.6, 1.0), (lambda: tasks.count_to(2_000_000), 0.0, 0.4)],
        ids=["sleep", "loop"],
    )
    def test_the_heartbeat_tells_them_apart(self, work, low, high):
        heart = Heartbeat(lambda: False)
        work()
        share = heart.share()
        heart.stop()
        assert low <= share <= high

    def test_threads_count_as_parallel_where_there_is_no_gil(self, monkeypatch):
        free = Machine(cpus=2, has_gil=False)
        found = decide(Workload(100, 0.1, releases_gil=False), free, ParallelConfig())
        assert found.strategy == "threads"
        monkeypatch.setattr(sys, "_is_gil_enabled", lambda: False, raising=False)
        assert not ParallelExecutor()._machine(ParallelConfig()).has_gil


def test_automatic_pools_are_few():
    config = ParallelConfig(max_workers=8, task_cost_hint_seconds=1.0, releases_gil=True)
    with ParallelExecutor(config) as executor:
        for n in range(4, 9):
            assert list(executor.map(square, range(n))) == [x * x for x in range(n)]
            assert executor.report.n_workers == n
        assert sorted(pool.n_workers for pool in executor._pools.values()) == [4, 8]


def test_odd_callables_are_only_not_known():
    class Odd:
        __module__ = 7

        def __call__(self, x):
            return x

        def __getattr__(self, name):
            raise RuntimeError(name)

    with ParallelExecutor(ParallelConfig(max_workers=2)) as executor:
        assert list(executor.map(Odd(), range(30))) == list(range(30))


def test_items_that_do_not_lie_ready_are_drawn_by_the_caller():
    """They may wait for something, or belong to a thread, as a cursor does."""
    drawers = set()

    def items():
        for x in range(6):
            drawers.add(threading.get_ident())
            yield x

    config = ParallelConfig(max_workers=2, releases_gil=True)
    with ParallelExecutor(config) as executor:
        list(executor.map(lambda x: time.sleep(0.05), items()))
    assert drawers == {threading.get_ident()}


def test_a_task_that_is_tried_is_timed():
    config = ParallelConfig(max_workers=2, task_timeout=0.05)
    with ParallelExecutor(config) as executor, pytest.raises(TimeoutError, match="Item 0 took"):
        list(executor.map(time.sleep, [0.2, 0.0, 0.0]))


def test_ctrl_c_in_a_task_that_is_tried_ends_the_call():
    def interrupt(x):
        raise KeyboardInterrupt

    with ParallelExecutor(ParallelConfig(max_workers=2)) as executor:
        with pytest.raises(KeyboardInterrupt):
            executor.map(interrupt, range(5))
        assert list(executor.map(square, [2])) == [4]


def test_what_is_measured_of_pools_is_used():
    with ParallelExecutor(ParallelConfig(preferred="threads", max_workers=2)) as executor:
        list(executor.map(square, range(4)))
        machine = executor._machine(executor.config)
    assert machine.threads_warm
    assert not machine.processes_warm
    assert machine.threads_start == _costs.start["threads"]
    assert machine.threads_dispatch == _costs.dispatch["threads"]


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs CPU affinity")
def test_the_cpus_of_the_process_count_not_those_of_the_machine():
    code = (
        "import os; os.sched_setaffinity(0, list(os.sched_getaffinity(0))[:1]);"
        "from ce_parallel import ParallelExecutor; import time;"
        "executor = ParallelExecutor(); list(executor.map(time.sleep, [0.01] * 20));"
        "print(executor.report.decision)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "serial" in done.stdout
    assert "one worker is allowed" in done.stdout


def test_one_task_starts_no_thread(monkeypatch):
    monkeypatch.setattr("ce_parallel.executor._gil._thread.start_new_thread", None)
    before = threading.active_count()
    with ParallelExecutor() as executor:
        assert list(executor.map(square, [3])) == [9]
        assert list(executor.map(square, iter([]))) == []
        assert threading.active_count() == before
        assert executor.report.strategy == "serial"


class TestRegistry:
    def test_entry_points_add_names(self, monkeypatch):
        from importlib.metadata import EntryPoint, EntryPoints

        from ce_parallel.executor import _registry

        entry = EntryPoint(
            "mine", "ce_parallel.executor.strategies:SerialStrategy", _registry.GROUP
        )
        missing = EntryPoint("gone", "no_such_package:Strategy", _registry.GROUP)
        points = EntryPoints([entry, missing])
        monkeypatch.setattr(_registry, "entry_points", lambda **kw: points.select(**kw))
        assert isinstance(make_strategy("mine"), SerialStrategy)
        assert decision(preferred="mine").step == 4
        with pytest.raises(ImportError, match=r"'gone' could not be imported\. Install"):
            make_strategy("gone")

    def test_an_unknown_name_lists_the_known_ones(self):
        with pytest.raises(ValueError, match=r"Unknown strategy 'x'.*'threads'"):
            make_strategy("x")
