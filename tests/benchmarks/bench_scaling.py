"""How cost grows with the data, what two workers gain, and how much memory an explanation takes.

Run as ``python tests/benchmarks/bench_scaling.py [rows] [workers] [memory]``; without arguments all
three. Exits with the bars that were missed.

rows     seconds of the processor, of serial calls, against the number of rows n, of features d and
         of calibration rows m, as exponents of fitted powers. The method needs about 3 n d rows of
         d columns, so that seconds per needed row may grow as d does, but no faster.
workers  wall clock of a forest, and the share of a serial call that is spent outside of its tasks:
         the parent's own, which no worker can take from it.
memory   the most that a process held, beside its input, its output, and what it held when it only
         called the model on blocks of the same size. Linux alone.
"""

import argparse
import resource
import subprocess
import sys
from contextlib import ExitStack
from contextvars import copy_context
from functools import partial
from statistics import median
from time import perf_counter, process_time

import numpy as np
from needed import rows_predicted
from sklearn.datasets import make_classification, make_regression
from sklearn.ensemble import RandomForestClassifier
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression, Ridge
from threadpoolctl import threadpool_limits
from timing import paired_seconds, ratio

from ce_parallel import ParallelCalibratedExplainer, ParallelConfig, ParallelExecutor
from ce_parallel.rules import TileShape

SIZES = {
    "rows": (2_000, 4_000, 8_000, 16_000, 32_000, 64_000),
    "features": (10, 20, 40, 80),
    "calibration rows": (1_000, 4_000, 16_000, 64_000),
}
USUAL = {"rows": 4_000, "features": 20, "calibration rows": 1_000}
# Bars: exponents, times as fast as serial, share of serial seconds.
EXPONENT, BELOW, SPEEDUP, PARENT = 1.1, 1.0, 1.8, 0.03
MEBIBYTE = 2**20


def explainer_of(model, n, d, m, **config):
    """Return a calibrated explainer, a call that calibrates it anew, and n rows of d features."""
    classification = hasattr(model, "predict_proba")
    make = make_classification if classification else make_regression
    X, y = make(3_000 + m + n, d, n_informative=5, random_state=0)
    frozen = FrozenEstimator(model.fit(X[:3_000], y[:3_000]))
    explainer = ParallelCalibratedExplainer(
        frozen, cv=None, random_state=0, parallel_config=ParallelConfig(**config)
    )
    here = slice(3_000, 3_000 + m)

    def calibrate():
        return explainer.calibrate(X[here], y[here])

    calibrate()
    return explainer, calibrate, X[3_000 + m :].copy()


def exponent(sizes, values):
    """Return b of the power ``a * size ** b`` that fits best."""
    return np.polyfit(np.log(sizes), np.log(values), 1)[0]


def missed(name, got, bar, fine):
    """Print a figure, and return it in a list if its bar is missed."""
    line = f"{name}: {got:.3g}, bar {bar:g}"
    print(line + ("" if fine else "  MISSED"), flush=True)
    return [] if fine else [line]


# -- rows, features, calibration rows ----------------------------------------------------


def growth(model, what):
    """Return median seconds of each size: of an explanation, and calibrated anew; needed rows."""
    calls, needed = {}, []
    for size in SIZES[what]:
        sizes = (USUAL | {what: size}).values()
        explainer, calibrate, X = explainer_of(model(), *sizes, preferred="serial")
        explain = calls[size, "explain"] = lambda explainer=explainer, X=X: explainer.explain(X)
        needed.append(len(rows_predicted(explainer.estimator.estimator, explain)))
        if what == "calibration rows":
            calls[size, "first"] = lambda first=calibrate, then=explain: (first(), then())
    seconds = {k: median(s) for k, s in paired_seconds(calls, repeat=5, clock=process_time).items()}
    return *(
        np.array([s for (_, k), s in seconds.items() if k == kind]) for kind in ("explain", "first")
    ), np.array(needed)


def rows():
    """Print cost by each size; return the bars missed."""
    found = []
    for model in (LogisticRegression, Ridge):
        for what, sizes in SIZES.items():
            explain, first, needed = growth(model, what)
            name = f"{model.__name__}, {what}"
            print(f"\n{name:<34}" + "".join(f"{size:>11,}" for size in sizes))
            print(f"{'needed rows':<34}" + "".join(f"{n:>11,}" for n in needed))
            print(f"{'ms':<34}" + "".join(f"{1e3 * s:>11.2f}" for s in explain))
            each = explain / needed
            print(f"{'us per needed row':<34}" + "".join(f"{1e6 * s:>11.3f}" for s in each))
            power = exponent(sizes, explain)
            if what == "features":
                print(f"exponent: {power:.2f}, of needed rows {exponent(sizes, needed):.2f}")
                power = exponent(sizes, each)
                found += missed(f"{name}, exponent per needed row", power, BELOW, power < BELOW)
            elif what == "rows":
                found += missed(f"{name}, exponent", power, EXPONENT, power < EXPONENT)
            else:
                print(f"{'ms, calibrated anew':<34}" + "".join(f"{1e3 * s:>11.2f}" for s in first))
                print(f"exponent, calibrated anew: {exponent(sizes, first):.2f}")
                found += missed(f"{name}, exponent", power, BELOW, power < BELOW)
    return found


# -- workers -----------------------------------------------------------------------------


def workers():
    """Print what two warm workers gain, and the parent's own share; return the bars missed."""
    forest = RandomForestClassifier(100, n_jobs=1, random_state=0)
    explainer, _, X = explainer_of(forest, 20_000, 20, 1_000)
    shares, calls = [], {}

    def explain(preferred):
        begun = perf_counter()
        report = explainer.explain(X).execution_report
        if preferred == "serial":
            shares.append(1 - report.busy_time / (perf_counter() - begun))

    names = ("serial", "threads", "processes", "auto")
    with ExitStack() as stack:
        for name in names:  # an executor for each, ambient in its own context
            context = copy_context()
            executor = ParallelExecutor(ParallelConfig(preferred=name, max_workers=2))
            context.run(executor.__enter__)
            stack.callback(context.run, executor.__exit__, None, None, None)
            calls[name] = partial(context.run, explain, name)
        seconds = paired_seconds(calls, repeat=5)
    print(f"\nforest of 100 trees, {len(X):,} rows, serial: {median(seconds['serial']):.2f} s")
    found = []
    for name in names[1:]:
        times = ratio(seconds, "serial", name)
        found += missed(f"{name}, times as fast as serial", times, SPEEDUP, times >= SPEEDUP)
    share = median(shares[1:])
    return found + missed("parent's share of a serial call", share, PARENT, share < PARENT)


# -- memory ------------------------------------------------------------------------------


def peak(part, kind):
    """In a child: hold the input, then explain it or only call the model; print bytes."""
    explainer, _, few = explainer_of(LogisticRegression(), 100, 30, 1_000, preferred="serial")
    few = explainer.explain(few, kind=kind)  # what is built once is there
    X = np.random.default_rng(0).standard_normal((200_000, 30))  # made in place
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    output = 0
    if part == "explain":
        explanations = explainer.explain(X, kind=kind)
        owned = (getattr(explanations, name) for name in vars(explanations))
        output = sum(a.nbytes for a in owned if isinstance(a, np.ndarray) and a is not X)
    else:
        size = TileShape.of(few.grid, few.features).nbytes // X[0].nbytes
        for _ in range(20):
            explainer.estimator.predict_proba(np.ones((size, X.shape[1])))
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(before * 1024, after * 1024, X.nbytes, output)


def memory():
    """Print the peaks of children; return the bars missed."""
    budget, found = ParallelConfig().memory_budget_bytes, []
    for kind in ("factual", "alternative"):
        told = {}
        for part in ("explain", "control"):
            command = [sys.executable, __file__, "--child", part, kind]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            told[part] = np.array(done.stdout.split(), dtype=float) / MEBIBYTE
        _, most, given, output = told["explain"]
        control = told["control"][1]
        print(
            f"\n{kind}: 200,000 rows of 30 features, MiB: peak {most:.0f}, input {given:.0f}, "
            f"output {output:.0f}, control {control:.0f} with its input"
        )
        beside, bar = most - output - control, budget / MEBIBYTE
        found += missed(f"{kind}, MiB beside these", beside, bar, beside < bar)
    return found


PARTS = {"rows": rows, "workers": workers, "memory": memory}


def main():
    """Run the parts that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", help=f"of {', '.join(PARTS)}; all by default")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    with threadpool_limits(1):
        if asked.child:
            peak(*asked.child)
            return
        found = [miss for part in asked.parts or PARTS for miss in PARTS[part]()]
    sys.exit("\n".join(found) if found else 0)


if __name__ == "__main__":
    main()
