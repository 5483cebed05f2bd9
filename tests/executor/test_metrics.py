"""Reports count exactly, hooks watch and do not steer."""

import json

import pytest

from ce_parallel.executor import (
    ExecutionReport,
    Hook,
    ParallelConfig,
    ParallelExecutor,
    observe,
)
from ce_parallel.executor._metrics import MAX_RECORDS
from ce_parallel.executor._selection import Decision
from ce_parallel.executor.testing import fail_on_three, square

pytestmark = pytest.mark.timeout(60)


class Log(Hook):
    def __init__(self):
        self.events = []

    def on_map_start(self, report):
        self.events.append("start")

    def on_task_done(self, report, record):
        self.events.append(record.item)

    def on_map_end(self, report):
        self.events.append("end")


@pytest.mark.parametrize("preferred", ["serial", "threads", "auto"])
def test_hooks_see_every_event_in_order(preferred):
    given, observing = Log(), Log()
    config = ParallelConfig(preferred=preferred, max_workers=2)
    with observe(observing), ParallelExecutor(config, hooks=[given]) as executor:
        list(executor.map(square, range(5)))
    assert given.events == observing.events == ["start", 0, 1, 2, 3, 4, "end"]


def test_the_end_is_seen_when_a_map_fails():
    log = Log()
    with (
        ParallelExecutor(ParallelConfig(preferred="serial"), hooks=[log]) as executor,
        pytest.raises(ValueError, match="three"),
    ):
        list(executor.map(fail_on_three, range(5)))
    assert log.events == ["start", 0, 1, 2, "end"]


def test_a_hook_that_raises_is_dropped_and_the_run_goes_on():
    class Bad(Hook):
        def on_task_done(self, report, record):
            raise KeyError("oops")

    log = Log()
    with (
        ParallelExecutor(ParallelConfig(preferred="serial"), hooks=[Bad(), log]) as executor,
        pytest.warns(RuntimeWarning, match=r"raised KeyError\('oops'\).*was dropped") as caught,
    ):
        assert list(executor.map(square, range(3))) == [0, 1, 4]
    assert len(caught) == 1
    assert log.events == ["start", 0, 1, 2, "end"]


def test_totals_are_exact_and_records_bounded():
    report = ExecutionReport(Decision("serial", 1, "a test"))
    n = 5 * MAX_RECORDS
    for index in range(n):
        report.add(index, (0.0, 0.5))
    assert report.n_tasks == n
    assert report.busy_time == n * 0.5
    assert MAX_RECORDS // 2 <= len(report.records) <= MAX_RECORDS + 1
    steps = {b.item - a.item for a, b in zip(report.records, report.records[1:], strict=False)}
    assert len(steps) == 1, "an even sample"


def test_the_report_of_a_process_map():
    config = ParallelConfig(preferred="processes", max_workers=2, start_method="forkserver")
    with ParallelExecutor(config) as executor:
        results = executor.map(square, range(40), chunksize=2)
        list(results)
    report = results.report
    assert report is executor.report
    assert (report.strategy, report.n_workers, report.n_tasks) == ("processes", 2, 40)
    assert report.payload_bytes > 0
    assert report.result_bytes > 0
    assert all(record.queue_wait >= 0 for record in report.records)
    assert all(record.worker.startswith("process ") for record in report.records)
    assert 0 <= report.utilization <= 1
    assert json.loads(json.dumps(report.to_dict()))["decision"]["step"] == 4
    assert str(report).startswith("square: 40 tasks in ")
    assert "because preferred='processes'" in str(report)


def test_to_frame():
    pytest.importorskip("pandas")
    with ParallelExecutor() as executor:
        list(executor.map(square, range(7)))
    frame = executor.report.to_frame()
    assert list(frame["item"]) == list(range(7))
    assert (frame["run_time"] >= 0).all()
