"""Built-in hooks, against the real client libraries; pictures and traces of a report."""

import io
import json
import logging
import sys
import threading
import time
import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from sklearn.datasets import make_classification
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from ce_parallel import (
    FallbackWarning,
    Hook,
    ParallelCalibratedExplainer,
    ParallelConfig,
    ParallelExecutor,
    Workload,
    observe,
)
from ce_parallel.executor import (
    ExecutionReport,
    LoggingHook,
    OpenTelemetryHook,
    ProgressHook,
    PrometheusHook,
)
from ce_parallel.executor._metrics import MAX_RECORDS
from ce_parallel.executor._selection import Decision
from ce_parallel.executor.testing import fail_on_three, square

pytestmark = pytest.mark.timeout(60)
STRATEGIES = ["serial", "threads", "processes"]


def run(hook, n=6, preferred="serial", func=square, **options):
    """A map that is watched; its report."""
    config = ParallelConfig(preferred=preferred, max_workers=2)
    with ParallelExecutor(config, hooks=[hook]) as executor:
        list(executor.map(func, range(n), **options))
    return executor.report


class TestLogging:
    def test_a_block_of_text_for_every_map(self, caplog):
        with caplog.at_level(logging.INFO, "ce_parallel"):
            report = run(LoggingHook())
        assert str(report) in [record.getMessage() for record in caplog.records]

    def test_fallbacks_are_warnings(self, caplog):
        with pytest.warns(FallbackWarning):
            run(LoggingHook(), preferred="processes", func=lambda x: threading.Lock())
        fell = [r for r in caplog.records if r.levelno == logging.WARNING and "fell" in r.msg]
        assert fell

    def test_a_logger_and_a_level_of_the_users(self, caplog):
        with caplog.at_level(logging.DEBUG, "mine"):
            run(LoggingHook(logging.getLogger("mine"), logging.DEBUG))
        assert [r.levelno for r in caplog.records if r.name == "mine"] == [logging.DEBUG]


class TestProgress:
    @pytest.mark.parametrize("preferred", STRATEGIES)
    def test_a_bar(self, preferred):
        pytest.importorskip("tqdm")
        file = io.StringIO()
        run(ProgressHook(file), preferred=preferred, workload=Workload(name="squaring"))
        assert "squaring: 100%" in file.getvalue()
        assert "6/6" in file.getvalue()

    @pytest.mark.parametrize("preferred", STRATEGIES)
    def test_a_line_where_there_is_no_tqdm(self, preferred, monkeypatch):
        monkeypatch.setitem(sys.modules, "tqdm.auto", None)
        file = io.StringIO()
        run(ProgressHook(file), preferred=preferred)
        assert file.getvalue().endswith("square: 6 of 6 tasks\n")

    def test_the_number_of_tasks_may_be_unknown(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "tqdm.auto", None)
        file = io.StringIO()
        with ParallelExecutor(hooks=[ProgressHook(file)]) as executor:
            list(executor.map(square, iter(range(6))))
        assert file.getvalue().endswith("square: 6 tasks\n")

    def test_explainers_are_quiet_unless_asked(self, capsys):
        X, y = make_classification(200, 4, n_redundant=0, random_state=0)
        explainer = ParallelCalibratedExplainer(LogisticRegression(), cv=3, random_state=0)
        explainer.fit(X, y).explain(X)
        assert capsys.readouterr().err == ""
        explainer.set_params(verbose=1).fit(X, y).explain(X)
        shown = capsys.readouterr().err
        assert "fit" in shown
        assert "explain" in shown


class TestOpenTelemetry:
    @pytest.fixture
    def telemetry(self):
        """A hook whose spans and metrics stay in memory."""
        sdk = pytest.importorskip("opentelemetry.sdk.trace")
        from opentelemetry.sdk.metrics import MeterProvider
        from opentelemetry.sdk.metrics.export import InMemoryMetricReader
        from opentelemetry.sdk.trace.export import SimpleSpanProcessor
        from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

        spans, reader = InMemorySpanExporter(), InMemoryMetricReader()
        tracers = sdk.TracerProvider()
        tracers.add_span_processor(SimpleSpanProcessor(spans))
        meters = MeterProvider([reader])
        tracer = tracers.get_tracer("test")
        yield OpenTelemetryHook(tracer, meters.get_meter("test"), 4), spans, reader, tracer
        meters.shutdown()
        tracers.shutdown()

    @staticmethod
    def points(reader):
        """The data points of every metric, by name."""
        (resource,) = reader.get_metrics_data().resource_metrics
        metrics = [metric for scope in resource.scope_metrics for metric in scope.metrics]
        return {metric.name: list(metric.data.data_points) for metric in metrics}

    @pytest.mark.parametrize("preferred", STRATEGIES)
    def test_spans_and_metrics(self, telemetry, preferred):
        hook, exporter, reader, tracer = telemetry
        begun = time.time_ns()
        with tracer.start_as_current_span("the user's"):
            run(hook, preferred=preferred)
        *tasks, a_map, users = exporter.get_finished_spans()
        assert a_map.name == "ce_parallel.map"
        assert a_map.parent.span_id == users.context.span_id
        assert a_map.attributes["ce_parallel.strategy"] == preferred
        assert a_map.attributes["ce_parallel.n_tasks"] == 6
        assert a_map.status.is_unset
        assert begun <= a_map.start_time <= a_map.end_time <= time.time_ns()
        assert [span.attributes["ce_parallel.item"] for span in tasks] == [0, 1, 2, 3]
        for span in tasks:
            assert span.parent.span_id == a_map.context.span_id
            assert a_map.start_time <= span.start_time <= span.end_time <= a_map.end_time
        (duration,) = self.points(reader)["ce_parallel.task.duration"]
        assert duration.count == 6
        assert duration.attributes["ce_parallel.name"] == "square"

    def test_a_map_that_fails(self, telemetry):
        hook, exporter, _, _ = telemetry
        with pytest.raises(ValueError, match="three"):
            run(hook, func=fail_on_three)
        a_map = exporter.get_finished_spans()[-1]
        assert not a_map.status.is_ok
        assert a_map.attributes["ce_parallel.n_tasks"] == 3

    def test_fallbacks(self, telemetry):
        hook, exporter, reader, _ = telemetry
        with pytest.warns(FallbackWarning):
            report = run(hook, n=2, preferred="processes", func=lambda x: threading.Lock())
        (fallbacks,) = self.points(reader)["ce_parallel.fallbacks"]
        assert fallbacks.value == len(report.fallbacks)
        assert len(exporter.get_finished_spans()[-1].events) == len(report.fallbacks)


class TestPrometheus:
    @pytest.mark.parametrize("preferred", STRATEGIES)
    def test_counts(self, preferred):
        client = pytest.importorskip("prometheus_client")
        registry = client.CollectorRegistry()
        labels = {"name": "square", "strategy": preferred}

        def value(name, **more):
            return registry.get_sample_value(f"ce_parallel_{name}", {**labels, **more})

        for hook in (PrometheusHook(registry), PrometheusHook(registry)):
            report = run(hook, preferred=preferred)
        assert value("maps_total", complete="yes") == 2
        assert value("task_seconds_count") == value("queue_wait_seconds_count") == 12
        assert value("map_seconds_count") == 2
        assert value("payload_bytes_total") == 2 * report.payload_bytes
        with pytest.raises(ValueError, match="three"):
            run(PrometheusHook(registry), func=fail_on_three)
        assert "fail_on_three" in client.generate_latest(registry).decode()
        failed = {"name": "fail_on_three", "strategy": "serial", "complete": "no"}
        assert registry.get_sample_value("ce_parallel_maps_total", failed) == 1


class Tally(Hook):
    """Items by map."""

    def __init__(self):
        self.items = {}

    def on_map_start(self, report):
        self.items[report] = []

    def on_task_done(self, report, record):
        self.items[report].append(record.item)


def test_maps_in_several_threads_do_not_mix():
    tally = Tally()

    def one(n):
        with observe(tally), ParallelExecutor(ParallelConfig(preferred="threads")) as executor:
            return list(executor.map(square, range(n), chunksize=1))

    with ThreadPoolExecutor(4) as pool:
        assert [len(result) for result in pool.map(one, range(1, 30))] == list(range(1, 30))
    assert sorted(len(items) for items in tally.items.values()) == list(range(1, 30))
    assert all(items == sorted(items) for items in tally.items.values())


def test_observers_of_one_thread_are_not_those_of_another():
    tally = Tally()
    with observe(tally):
        thread = threading.Thread(target=run, args=(Hook(),))
        thread.start()
        thread.join()
    assert not tally.items


@pytest.mark.parametrize("n_jobs", [None, 2])
def test_observing_a_search_over_a_pipeline(n_jobs):
    """With workers of joblib's, what runs in them is out of sight; the refit is not."""
    X, y = make_classification(200, 4, n_redundant=0, random_state=0)
    explainer = ParallelCalibratedExplainer(LogisticRegression(), cv=3, random_state=0)
    pipeline = make_pipeline(StandardScaler(), explainer)
    grid = {"parallelcalibratedexplainer__estimator__C": [0.1, 1.0]}
    tally = Tally()
    with observe(tally):
        GridSearchCV(pipeline, grid, cv=2, n_jobs=n_jobs).fit(X, y)
    assert [report.name for report in tally.items] == ["fit"] * (1 if n_jobs else 5)
    assert all(len(items) == 4 for items in tally.items.values())


class TestSamples:
    def test_a_million_tasks_cost_a_few_megabytes(self):
        report = ExecutionReport(Decision("threads", 2, "a test"))
        tracemalloc.start()
        for first in range(0, 1_000_000, 500):
            report.add(first, np.linspace(first, first + 500, 501).tolist(), 0.0, "a worker", 8, 8)
        size, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert size < 4e6
        assert report.n_tasks == 1_000_000
        assert report.busy_time == 1_000_000
        assert MAX_RECORDS / 2 <= len(report.records) <= MAX_RECORDS
        assert set(np.diff([record.item for record in report.records])) == {256}
        assert report.run_time == {"p50": 1.0, "p90": 1.0, "max": 1.0}

    def test_blocks_of_any_size_make_an_even_sample(self):
        rng = np.random.default_rng(0)
        report, first = ExecutionReport(Decision("threads", 2, "a test")), 0
        while first < 30_000:
            n = int(rng.integers(1, 700))
            report.add(first, [float(first + k) for k in range(n + 1)])
            first += n
        assert report.n_tasks == first
        items = [record.item for record in report.records]
        assert items == list(range(0, first, items[1]))
        assert all(record.run_time == 1.0 for record in report.records)


class TestPictures:
    @pytest.mark.parametrize(("workers", "n"), [(1, 3), (2, 3), (2, 3000), (16, 3), (16, 200)])
    def test_a_timeline(self, workers, n):
        pytest.importorskip("matplotlib").use("Agg")
        config = ParallelConfig(preferred="threads", max_workers=workers)
        with ParallelExecutor(config) as executor:
            list(executor.map(square, range(n), chunksize=1))
        display = executor.report.plot_timeline()
        assert sum(len(bars.get_paths()) for bars in display.bars_) == n
        assert 1 <= len(display.bars_) <= workers
        labels = [label.get_text() for label in display.ax_.get_yticklabels()]
        assert len(set(labels)) == len(display.bars_)
        assert f"{n:,} tasks" in display.ax_.get_title(loc="left")
        display.figure_.draw_without_rendering()

    def test_nothing_to_draw_and_axes_of_the_users(self):
        plt = pytest.importorskip("matplotlib.pyplot")
        plt.switch_backend("Agg")
        figure, ax = plt.subplots()
        with ParallelExecutor() as executor:
            list(executor.map(square, []))
        display = executor.report.plot_timeline(ax)
        assert display.ax_ is ax
        assert display.figure_ is figure
        plt.close(figure)

    def test_a_sample_says_that_it_is_one(self):
        pytest.importorskip("matplotlib").use("Agg")
        title = run(Hook(), n=3 * MAX_RECORDS).plot_timeline().ax_.get_title(loc="left")
        assert "of the tasks are drawn" in title

    @pytest.mark.parametrize("preferred", STRATEGIES)
    def test_a_trace_has_the_structure_of_the_format(self, preferred, tmp_path):
        report = run(Hook(), n=40, preferred=preferred)
        report.to_chrome_trace(tmp_path / "trace.json")
        trace = json.loads((tmp_path / "trace.json").read_text())
        assert trace["displayTimeUnit"] in ("ms", "ns")
        lanes = {e["tid"]: e["args"]["name"] for e in trace["traceEvents"] if e["ph"] == "M"}
        tasks = [e for e in trace["traceEvents"] if e["ph"] == "X"]
        assert len(tasks) == 40
        assert sorted(e["args"]["item"] for e in tasks) == list(range(40))
        for event in tasks:
            assert {"name", "cat", "ph", "ts", "dur", "pid", "tid", "args"} <= set(event)
            assert event["ts"] >= 0
            assert event["dur"] >= 0
            assert event["ts"] + event["dur"] <= 1e6 * report.wall_time
            assert event["tid"] in lanes
        by_lane = {}
        for event in sorted(tasks, key=lambda e: e["ts"]):
            assert event["ts"] >= by_lane.get(event["tid"], 0.0) - 1.0, "one task at a time"
            by_lane[event["tid"]] = event["ts"] + event["dur"]


def test_a_report_is_short_and_readable():
    report = run(Hook(), n=40, preferred="processes")
    lines = str(report).splitlines()
    assert len(lines) <= 6
    assert all(len(line) <= 100 for line in lines)
    assert lines[0].startswith("square: 40 tasks in ")
    assert "because preferred='processes'" in lines[1]
    assert json.loads(json.dumps(report.to_dict()))["run_time"]["max"] > 0
