"""Hooks that come with the package: a log, a progress bar, OpenTelemetry, Prometheus.

The last two need the optional packages of the extras ``otel`` and ``prometheus``.
"""

import logging
import sys
import threading
import time
import weakref
from typing import Any

from ._metrics import ExecutionReport, Hook, TaskRecord

PLAIN_SECONDS = 0.2  # between lines of a progress without tqdm
SECONDS_BUCKETS = (0.0001, 0.001, 0.01, 0.1, 0.5, 1.0, 5.0, 10.0, 60.0, 600.0)
MAX_TASK_SPANS = 100


class LoggingHook(Hook):
    """Log every map's end as a block of text, and fallbacks as warnings.

    Parameters
    ----------
    logger : logging.Logger or None, default=None
        ``None``: the logger ``ce_parallel``.
    level : int, default=logging.INFO
        Of the block.
    """

    def __init__(self, logger: logging.Logger | None = None, level: int = logging.INFO) -> None:
        self.logger = logging.getLogger("ce_parallel") if logger is None else logger
        self.level = level

    def on_fallback(self, report: ExecutionReport, reason: str) -> None:
        """Log why work goes on in another way."""
        self.logger.warning("%s fell back: %s", report.name, reason)

    def on_map_end(self, report: ExecutionReport) -> None:
        """Log the report."""
        self.logger.log(self.level, "%s", report)


class ProgressHook(Hook):
    """Show how far each map is: a tqdm bar where tqdm is installed, else a line of text.

    Parameters
    ----------
    file : text stream or None, default=None
        ``None``: standard error.
    leave : bool, default=True
        Whether finished bars stay on the screen.
    """

    def __init__(self, file: Any = None, leave: bool = True) -> None:
        self.file = file
        self.leave = leave
        self._bars: dict[ExecutionReport, Any] = {}

    def on_map_start(self, report: ExecutionReport) -> None:
        """Open a bar."""
        file = sys.stderr if self.file is None else self.file
        try:
            from tqdm.auto import tqdm
        except ImportError:
            self._bars[report] = _Line(file, report)
        else:
            self._bars[report] = tqdm(
                total=report.n_expected, desc=report.name, unit="task", file=file, leave=self.leave
            )

    def on_task_done(self, report: ExecutionReport, record: TaskRecord) -> None:
        """Move it on."""
        if report in self._bars:
            self._bars[report].update()

    def on_map_end(self, report: ExecutionReport) -> None:
        """Close it."""
        bar = self._bars.pop(report, None)
        if bar is not None:
            bar.close()


class _Line:
    """A progress of one line, rewritten a few times a second."""

    def __init__(self, file: Any, report: ExecutionReport) -> None:
        self._file, self._name = file, report.name
        self._total = "" if report.n_expected is None else f" of {report.n_expected}"
        self._n, self._shown = 0, 0.0

    def update(self) -> None:
        self._n += 1
        if time.perf_counter() - self._shown > PLAIN_SECONDS:
            self._show()

    def close(self) -> None:
        self._show("\n")

    def _show(self, end: str = "") -> None:
        self._shown = time.perf_counter()
        text = f"\r{self._name}: {self._n}{self._total} tasks"
        print(text, end=end, file=self._file, flush=True)


class OpenTelemetryHook(Hook):
    """Record maps as spans, and tasks as metrics, of OpenTelemetry.

    A span ``ce_parallel.map`` is a child of the span that is current where `map` is called. Its
    first tasks are its children. Metrics: ``ce_parallel.task.duration`` and
    ``ce_parallel.task.queue_wait`` (histograms, seconds), ``ce_parallel.fallbacks`` (counter).
    All carry the attributes ``ce_parallel.name`` and ``ce_parallel.strategy``.

    Parameters
    ----------
    tracer : opentelemetry.trace.Tracer or None, default=None
    meter : opentelemetry.metrics.Meter or None, default=None
        ``None``: those of the global providers.
    max_task_spans : int, default=100
        Tasks of a map that get a span.
    """

    def __init__(
        self, tracer: Any = None, meter: Any = None, max_task_spans: int = MAX_TASK_SPANS
    ) -> None:
        from opentelemetry import metrics, trace

        self._trace = trace
        self.tracer = trace.get_tracer("ce_parallel") if tracer is None else tracer
        meter = metrics.get_meter("ce_parallel") if meter is None else meter
        self.max_task_spans = max_task_spans
        self._spans: dict[ExecutionReport, Any] = {}
        self._duration = meter.create_histogram("ce_parallel.task.duration", "s")
        self._queue_wait = meter.create_histogram("ce_parallel.task.queue_wait", "s")
        self._fallbacks = meter.create_counter("ce_parallel.fallbacks")

    def on_map_start(self, report: ExecutionReport) -> None:
        """Start a span."""
        attributes: dict[str, Any] = {
            **self._labels(report),
            "ce_parallel.n_workers": report.n_workers,
            "ce_parallel.reason": report.decision.reason,
        }
        self._spans[report] = self.tracer.start_span(
            "ce_parallel.map", attributes=attributes, start_time=_nanoseconds(report.started_at)
        )

    def on_task_done(self, report: ExecutionReport, record: TaskRecord) -> None:
        """Record times, and a span of the first tasks."""
        labels = self._labels(report)
        self._duration.record(record.run_time, labels)
        self._queue_wait.record(record.queue_wait, labels)
        if record.item < self.max_task_spans and report in self._spans:
            begun = report.started_at + record.start
            span = self.tracer.start_span(
                "ce_parallel.task",
                context=self._trace.set_span_in_context(self._spans[report]),
                attributes={"ce_parallel.item": record.item, "ce_parallel.worker": record.worker},
                start_time=_nanoseconds(begun),
            )
            span.end(_nanoseconds(begun + record.run_time))

    def on_fallback(self, report: ExecutionReport, reason: str) -> None:
        """Count it, and add an event to the span."""
        self._fallbacks.add(1, self._labels(report))
        if report in self._spans:
            self._spans[report].add_event("fallback", {"ce_parallel.reason": reason})

    def on_map_end(self, report: ExecutionReport) -> None:
        """End the span."""
        span = self._spans.pop(report, None)
        if span is None:
            return
        span.set_attribute("ce_parallel.n_tasks", report.n_tasks)
        span.set_attribute("ce_parallel.busy_seconds", report.busy_time)
        span.set_attribute("ce_parallel.utilization", report.utilization)
        if not report.is_complete:
            span.set_status(self._trace.StatusCode.ERROR, "not every result was delivered")
        span.end(_nanoseconds(report.started_at + report.wall_time))

    @staticmethod
    def _labels(report: ExecutionReport) -> dict[str, str]:
        return {"ce_parallel.name": report.name, "ce_parallel.strategy": report.strategy}


def _nanoseconds(seconds: float) -> int:
    return int(seconds * 1e9)


_families: "weakref.WeakKeyDictionary[Any, dict[str, Any]]" = weakref.WeakKeyDictionary()
_families_lock = threading.Lock()


class PrometheusHook(Hook):
    """Count maps and tasks for Prometheus.

    Metrics, labelled by ``name`` and ``strategy``: ``ce_parallel_maps_total`` (and ``complete``,
    "yes" or "no"), ``ce_parallel_fallbacks_total``, ``ce_parallel_payload_bytes_total``,
    ``ce_parallel_result_bytes_total``, and the histograms ``ce_parallel_task_seconds``,
    ``ce_parallel_queue_wait_seconds`` and ``ce_parallel_map_seconds``.

    Parameters
    ----------
    registry : prometheus_client.CollectorRegistry or None, default=None
        ``None``: the client's global one. Several hooks may share a registry.
    """

    def __init__(self, registry: Any = None) -> None:
        import prometheus_client

        registry = prometheus_client.REGISTRY if registry is None else registry
        with _families_lock:
            if registry not in _families:
                _families[registry] = _register(prometheus_client, registry)
            self._family = _families[registry]

    def on_task_done(self, report: ExecutionReport, record: TaskRecord) -> None:
        """Observe its times."""
        labels = report.name, report.strategy
        self._family["task"].labels(*labels).observe(record.run_time)
        self._family["wait"].labels(*labels).observe(record.queue_wait)

    def on_fallback(self, report: ExecutionReport, reason: str) -> None:
        """Count it."""
        self._family["fallbacks"].labels(report.name, report.strategy).inc()

    def on_map_end(self, report: ExecutionReport) -> None:
        """Count the map and its bytes."""
        labels = report.name, report.strategy
        self._family["maps"].labels(*labels, "yes" if report.is_complete else "no").inc()
        self._family["map"].labels(*labels).observe(report.wall_time)
        self._family["sent"].labels(*labels).inc(report.payload_bytes)
        self._family["got"].labels(*labels).inc(report.result_bytes)


def _register(client: Any, registry: Any) -> dict[str, Any]:
    labels = ("name", "strategy")
    seconds: dict[str, Any] = {"registry": registry, "buckets": SECONDS_BUCKETS}
    return {
        "task": client.Histogram("ce_parallel_task_seconds", "Run time", labels, **seconds),
        "wait": client.Histogram("ce_parallel_queue_wait_seconds", "Wait", labels, **seconds),
        "map": client.Histogram("ce_parallel_map_seconds", "Wall time", labels, **seconds),
        "maps": client.Counter(
            "ce_parallel_maps", "Maps that ended", (*labels, "complete"), registry=registry
        ),
        "fallbacks": client.Counter("ce_parallel_fallbacks", "Why", labels, registry=registry),
        "sent": client.Counter("ce_parallel_payload_bytes", "Sent", labels, registry=registry),
        "got": client.Counter("ce_parallel_result_bytes", "Received", labels, registry=registry),
    }
