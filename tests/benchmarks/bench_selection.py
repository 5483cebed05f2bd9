"""How near the best fixed strategy "auto" comes, over many kinds of work, cold and warm.

Run as ``python tests/benchmarks/bench_selection.py [--repeat N] [cell ...]``. Cold: a new executor,
whose workers do not exist yet. Warm: every pool that the executor could choose is up. Each round
runs all strategies in turn; figures are medians over rounds. Expected of "auto":

- geometric mean of its time over the best strategy's: at most 1.15;
- at most 1.35 in every cell longer than 50 ms, single tasks aside;
- never slower than serial by more than 5 % and 2 ms.
"""

import argparse
import math
import sys
import time
from dataclasses import dataclass, field
from functools import cache, partial
from statistics import median

import numpy as np
from sklearn.datasets import make_classification
from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from timing import paired_seconds

from ce_parallel import ParallelConfig, ParallelExecutor

FIXED = ("serial", "threads", "processes", "joblib")
N_WORKERS = 2
LONG = 0.05  # seconds; shorter cells count in the mean only
MEAN_BAR, CELL_BAR = 1.15, 1.35
SERIAL_SHARE, SERIAL_SECONDS = 1.05, 0.002


def count(n):
    """Loop in Python: holds the GIL."""
    total = 0
    for k in range(n):
        total += k * k % 7
    return total


def sort(size):
    """Sort in one NumPy call: releases the GIL for its length."""
    return float(np.sort(np.random.default_rng(size).random(size))[0])


def small_calls(n):
    """Many small NumPy calls: threads gain nothing."""
    x = np.arange(50.0)
    for _ in range(n):
        x = np.sqrt(x + 1.0)
    return float(x[0])


def mean_of(array):
    """Read a large item."""
    return float(np.sqrt(array).mean())


def sort_part(shared, k):
    """Read a part of a large shared array."""
    part = shared[k * 300_000 : (k + 1) * 300_000]
    return float(np.sort(part)[0])


def predict(shared, k):
    """Predict the k-th of 16 tiles of rows."""
    model, X = shared
    rows = len(X) // 16
    return model.predict_proba(X[k * rows : (k + 1) * rows])[:, 1].sum()


@cache
def fitted(kind, n_rows):
    """A model and rows."""
    X, y = make_classification(n_rows, 20, n_informative=10, random_state=0)
    models = {
        "forest": RandomForestClassifier(50, random_state=0),
        "boosting": GradientBoostingClassifier(random_state=0),
        "logistic": LogisticRegression(),
    }
    return models[kind].fit(X[:2000], y[:2000]), X


@cache
def large(n_bytes):
    """Random doubles."""
    return np.random.default_rng(0).random(n_bytes // 8)


@dataclass(frozen=True)
class Cell:
    """A workload: a function, a maker of items, perhaps shared state."""

    func: object
    items: object
    shared: object = None
    options: dict = field(default_factory=dict)

    def run(self, executor):
        """Map it."""
        shared = None if self.shared is None else self.shared()
        for _ in executor.map(self.func, self.items(), shared=shared, **self.options):
            pass


CELLS = {
    "no tasks": Cell(count, lambda: []),
    "1 task": Cell(count, lambda: [2_000_000]),
    "2 huge": Cell(count, lambda: [30_000_000] * 2),
    "10,000 tiny": Cell(abs, lambda: range(10_000)),
    "200 small Python": Cell(count, lambda: [20_000] * 200),
    "200 small NumPy": Cell(sort, lambda: [20_000] * 200),
    "200 small calls": Cell(small_calls, lambda: [600] * 200),
    "8 large Python": Cell(count, lambda: [6_000_000] * 8),
    "8 large NumPy": Cell(sort, lambda: [5_000_000] * 8),
    "4 middling NumPy": Cell(sort, lambda: [400_000] * 4),
    "forest tiles": Cell(predict, lambda: range(16), partial(fitted, "forest", 64_000)),
    "small forest tiles": Cell(predict, lambda: range(16), partial(fitted, "forest", 320)),
    "boosting tiles": Cell(predict, lambda: range(16), partial(fitted, "boosting", 640_000)),
    "logistic tiles": Cell(predict, lambda: range(16), partial(fitted, "logistic", 640_000)),
    "20 MB payload": Cell(mean_of, lambda: [large(20_000_000)] * 12),
    "300 MB shared": Cell(sort_part, lambda: range(40), partial(large, 300_000_000)),
    "sleeping I/O": Cell(time.sleep, lambda: [0.02] * 40),
    "unknown length": Cell(count, lambda: iter([200_000] * 100)),
}
SINGLE = {"1 task"}


def executor_of(preferred):
    """Return a new executor."""
    return ParallelExecutor(ParallelConfig(preferred=preferred, max_workers=N_WORKERS))


def end_joblibs_workers():
    """joblib's own workers outlive executors; a cold run must not find them."""
    from joblib.externals.loky import reusable_executor

    if reusable_executor._executor is not None:
        reusable_executor._executor.shutdown(wait=True, kill_workers=True)


def run_cold(cell, preferred, chosen):
    """One map with a new executor, its end not included."""
    if preferred == "joblib":
        end_joblibs_workers()
    executor = executor_of(preferred)
    begun = time.perf_counter()
    cell.run(executor)
    seconds = time.perf_counter() - begun
    chosen.append(executor.report.strategy)
    executor.shutdown()
    return seconds


def run_warm(cell, executor, chosen):
    """One map with an executor whose pools are up."""
    begun = time.perf_counter()
    cell.run(executor)
    seconds = time.perf_counter() - begun
    chosen.append(executor.report.strategy)
    return seconds


def warm_executor(preferred):
    """Return an executor that has used every pool it could choose."""
    executor = executor_of(preferred)
    for name in ("threads", "processes") if preferred == "auto" else (preferred,):
        executor.config.set_params(preferred=name)
        for _ in executor.map(count, [1000] * 8):
            pass
    executor.config.set_params(preferred=preferred)
    return executor


def measure(cell, warm, repeat):
    """Return seconds by strategy, and what "auto" chose."""
    chosen = {name: [] for name in (*FIXED, "auto")}
    if warm:
        executors = {name: warm_executor(name) for name in chosen}
        runs = {n: partial(run_warm, cell, executors[n], chosen[n]) for n in chosen}
    else:
        executors = {}
        runs = {name: partial(run_cold, cell, name, chosen[name]) for name in chosen}
    seconds = paired_seconds(runs, repeat=repeat)
    for executor in executors.values():
        executor.shutdown()
    picks = sorted({f"{pick} {chosen['auto'][1:].count(pick)}" for pick in chosen["auto"][1:]})
    return {name: median(of) for name, of in seconds.items()}, ", ".join(picks)


def main():
    """Print a line per cell and state, then the verdict."""
    parser = argparse.ArgumentParser()
    parser.add_argument("cells", nargs="*", default=list(CELLS))
    parser.add_argument("--repeat", type=int, default=5)
    options = parser.parse_args()
    names = (*FIXED, "auto")
    print(f"{'milliseconds':<24}" + "".join(f"{n:>11}" for n in names) + "  auto/best  chosen")
    ratios, broken = [], []
    for name in options.cells or list(CELLS):
        for state in ("cold", "warm"):
            seconds, picks = measure(CELLS[name], state == "warm", options.repeat)
            best = min(seconds[n] for n in FIXED)
            ratio = seconds["auto"] / best
            ratios.append(ratio)
            row = "".join(f"{1e3 * seconds[n]:>11.2f}" for n in names)
            print(f"{name + ', ' + state:<24}{row}{ratio:>11.2f}  {picks}", flush=True)
            if best > LONG and ratio > CELL_BAR and name not in SINGLE:
                broken.append(f"{name}, {state}: {ratio:.2f} times the best")
            if seconds["auto"] > SERIAL_SHARE * seconds["serial"] + SERIAL_SECONDS:
                broken.append(f"{name}, {state}: slower than serial")
    mean = math.exp(sum(map(math.log, ratios)) / len(ratios))
    print(f"geometric mean {mean:.3f} (bar {MEAN_BAR})")
    print("\n".join(broken) or "every cell within its bars")
    sys.exit(bool(broken) or mean > MEAN_BAR)


if __name__ == "__main__":
    main()
