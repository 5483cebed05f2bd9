"""Who did what when: a report's records as a picture, and as a trace for Perfetto.

Both are drawn from the records, which of a large map are an even sample.
"""

import json
import os
from collections.abc import Sequence
from typing import Any, Self

from ._metrics import ExecutionReport, TaskRecord

# Blue and sky blue of Okabe and Ito's palette: neighbours differ in lightness, not in hue alone.
SHADES = ("#0072B2", "#56B4E9")
PARENT = 1  # process id under which a trace shows everything
MICROSECONDS = 1e6


class TimelineDisplay:
    """Tasks as bars on one lane per worker.

    Parameters
    ----------
    records : sequence of TaskRecord
    wall_time : float
        Seconds the map took.
    title : str, default=""

    Attributes
    ----------
    bars_ : list of matplotlib collections
        One per worker, the caller first.
    ax_, figure_ : matplotlib Axes and Figure

    Examples
    --------
    >>> from ce_parallel.executor import ParallelConfig, ParallelExecutor
    >>> with ParallelExecutor(ParallelConfig(preferred="threads", max_workers=2)) as executor:
    ...     _ = list(executor.map(abs, range(9)))
    >>> display = executor.report.plot_timeline()  # doctest: +SKIP
    """

    def __init__(self, records: Sequence[TaskRecord], wall_time: float, *, title: str = "") -> None:
        self.records = records
        self.wall_time = wall_time
        self.title = title

    @classmethod
    def from_report(cls, report: ExecutionReport) -> Self:
        """Take the records of a report."""
        records = report.records
        title = (
            f"{report.name}: {report.n_tasks:,} tasks in {report.wall_time:.3g} s by "
            f"{report.strategy}, {report.utilization:.0%} of {report.n_workers} "
            f"worker{'s' if report.n_workers != 1 else ''} used"
        )
        if 0 < len(records) < report.n_tasks:
            title += f"\n({len(records):,} of the tasks are drawn)"
        return cls(records, report.wall_time, title=title)

    def plot(self, ax: Any = None) -> Self:
        """Draw on `ax`, or on a new figure; returns the display itself."""
        lanes = lanes_of(self.records)
        if ax is None:
            import matplotlib.pyplot as plt

            height = 1.4 + 0.34 * max(1, len(lanes))
            _, ax = plt.subplots(figsize=(8, height), layout="constrained")
        self.bars_ = []
        for place, records in enumerate(lanes.values()):
            ordered = sorted(records, key=lambda record: record.start)
            spans = [(record.start, record.run_time) for record in ordered]
            colors = [SHADES[k % 2] for k in range(len(spans))]
            bars = ax.broken_barh(spans, (place - 0.38, 0.76), facecolors=colors, linewidth=0)
            self.bars_.append(bars)
        ax.set_yticks(range(len(lanes)), lanes)
        ax.set_ylim(max(1, len(lanes)) - 0.4, -0.6)
        ax.set_xlim(0, self.wall_time or 1.0)
        ax.set_xlabel("seconds since the map was called")
        ax.set_title(self.title, fontsize="medium", loc="left")
        ax.spines[["top", "right"]].set_visible(False)
        self.ax_, self.figure_ = ax, ax.figure
        return self


def lanes_of(records: Sequence[TaskRecord]) -> dict[str, list[TaskRecord]]:
    """Return records by worker: the caller first, then workers in the order they appeared."""
    lanes: dict[str, list[TaskRecord]] = {}
    for record in sorted(records, key=lambda r: (r.worker != "caller", r.start)):
        lanes.setdefault(record.worker, []).append(record)
    return lanes


def write_chrome_trace(report: ExecutionReport, path: "str | os.PathLike[str]") -> None:
    """Write a report in the Trace Event Format (JSON object form), times in microseconds."""
    lanes = lanes_of(report.records)
    events = [_named("process_name", 0, f"{report.name} by {report.strategy}")]
    events += [_named("thread_name", tid, worker) for tid, worker in enumerate(lanes, 1)]
    for tid, records in enumerate(lanes.values(), 1):
        events += [_complete(report.name, tid, record) for record in records]
    trace = {
        "traceEvents": events,
        "displayTimeUnit": "ms",
        "otherData": {"report": json.dumps(report.to_dict())},
    }
    with open(path, "w", encoding="utf-8") as file:
        json.dump(trace, file)


def _named(event: str, tid: int, name: str) -> dict[str, Any]:
    """Return a metadata event, which names a lane."""
    return {"ph": "M", "pid": PARENT, "tid": tid, "ts": 0, "name": event, "args": {"name": name}}


def _complete(name: str, tid: int, record: TaskRecord) -> dict[str, Any]:
    """Return the event of a task, from its start to its end."""
    details = record._asdict()
    return {
        "ph": "X",
        "cat": "task",
        "name": f"{name} {record.item}",
        "pid": PARENT,
        "tid": tid,
        "ts": details.pop("start") * MICROSECONDS,
        "dur": details.pop("run_time") * MICROSECONDS,
        "args": details,
    }
