"""What recording costs: maps of 1 ms tasks with and without it, and with each built-in hook.

Run as ``python tests/benchmarks/bench_recording.py``. Expected: recording adds less than 3 %.
Hooks are on top of that, and are printed without a bar.
"""

import io
import logging
import sys
import time
from unittest import mock

import prometheus_client
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from timing import paired_seconds, ratio

from ce_parallel import ExecutionReport, ParallelConfig, ParallelExecutor
from ce_parallel.executor import LoggingHook, OpenTelemetryHook, ProgressHook, PrometheusHook

REPEAT = 21
BAR = 1.03
N_TASKS = 300
SECONDS = 0.001


def work(x):
    """Compute for a millisecond of this thread's own time."""
    end = time.thread_time() + SECONDS
    while time.thread_time() < end:
        x += 1
    return x


def hooks():
    """Every built-in hook, writing to memory."""
    quiet = logging.getLogger("quiet")
    quiet.setLevel(logging.CRITICAL)
    meter = MeterProvider([InMemoryMetricReader()]).get_meter("bench")
    return {
        "log": LoggingHook(quiet),
        "progress": ProgressHook(io.StringIO()),
        "OpenTelemetry": OpenTelemetryHook(TracerProvider().get_tracer("bench"), meter),
        "Prometheus": PrometheusHook(prometheus_client.CollectorRegistry()),
    }


def candidates(preferred, chunksize):
    """Return a map with recording, one without, and one for each hook."""
    config = ParallelConfig(preferred=preferred, max_workers=2)

    def run(executor):
        for _ in executor.map(work, range(N_TASKS), chunksize=chunksize):
            pass

    def unrecorded(executor):
        with mock.patch.object(ExecutionReport, "add", return_value=None):
            run(executor)

    plain = ParallelExecutor(config)
    watched = {name: ParallelExecutor(config, hooks=[hook]) for name, hook in hooks().items()}
    runs = {"without": lambda: unrecorded(plain), "recording": lambda: run(plain)}
    runs |= {name: lambda executor=executor: run(executor) for name, executor in watched.items()}
    return runs, [plain, *watched.values()]


def main():
    """Print times over that without recording, one line per strategy."""
    fine = True
    for preferred, chunksize in (("serial", None), ("threads", 1), ("processes", 1)):
        runs, executors = candidates(preferred, chunksize)
        seconds = paired_seconds(runs, repeat=REPEAT)
        for executor in executors:
            executor.shutdown()
        ratios = {name: ratio(seconds, name, "without") for name in runs if name != "without"}
        print(f"{preferred:<10}", *(f"{name} {r:.3f}" for name, r in ratios.items()), flush=True)
        fine = fine and ratios["recording"] <= BAR
    sys.exit(not fine)


if __name__ == "__main__":
    main()
