"""Who decides, in which order; and what the cost model says."""

import logging
import multiprocessing
import threading
from concurrent.futures import ThreadPoolExecutor

import joblib
import pytest

from ce_parallel.executor import (
    Machine,
    ParallelConfig,
    ParallelExecutor,
    SerialStrategy,
    ThreadPoolExecutorStrategy,
    Workload,
    decide,
)
from ce_parallel.executor._precedence import asked_for
from ce_parallel.executor._registry import make_strategy
from ce_parallel.executor._selection import chunk_for
from ce_parallel.executor.testing import square

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
    ],
)
def test_the_cost_model(workload, params, expected, reason):
    import re

    found = decide(workload, TWO, ParallelConfig(**params))
    assert found.strategy == expected
    assert re.search(reason, found.reason)
    assert found.step == 7


def test_a_warm_pool_is_worth_using_sooner():
    workload = Workload(20, 0.02)
    assert decide(workload, TWO, ParallelConfig()).strategy == "serial"
    warm = Machine(cpus=2, processes_warm=True)
    assert decide(workload, warm, ParallelConfig()).strategy == "processes"


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


def test_the_decision_is_logged_and_kept_with_its_cost(caplog):
    with caplog.at_level(logging.INFO, logger="ce_parallel"), ParallelExecutor() as executor:
        list(executor.map(square, range(10)))
    assert executor.report.decision.reason in caplog.text
    assert executor.report.decision.actual == executor.report.wall_time


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
