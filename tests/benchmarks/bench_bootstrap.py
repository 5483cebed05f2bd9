"""What stability bands cost: 200 replicates of the calibration against none.

Run as ``python tests/benchmarks/bench_bootstrap.py [--repeat 9]``. 1,000 rows of 20 features, 1,000
calibration rows, serially, one thread; the explainers are warm, and what refitting 200 calibrators
costs once is shown beside it. Fails if 200 replicates cost 3 times as much as none with a forest.
"""

import argparse
import sys
from statistics import median
from time import perf_counter, process_time

from sklearn.datasets import make_classification, make_regression
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits
from timing import paired_seconds, ratio

from ce_parallel import ParallelCalibratedExplainer, ParallelConfig

REPLICATES, BAR = 200, 3.0
FOREST = {"n_estimators": 100, "n_jobs": 1, "random_state": 0}
MODELS = {
    "forest, binary": (RandomForestClassifier(**FOREST), 2, BAR),
    "forest, 4 classes": (RandomForestClassifier(**FOREST), 4, None),
    "forest, regression": (RandomForestRegressor(**FOREST), 0, BAR),
    "logistic, binary": (LogisticRegression(), 2, None),
}


def run(name, model, n_classes, bar, repeat):
    """Time a model, print its line; return what it misses."""
    shape = {"n_samples": 5000, "n_features": 20, "n_informative": 10, "random_state": 0}
    make = make_classification if n_classes else make_regression
    X, y = make(**shape, **({"n_classes": n_classes} if n_classes else {"noise": 20.0}))
    frozen = FrozenEstimator(model.fit(X[:3000], y[:3000]))
    calls, once = {}, {}
    for n in (0, REPLICATES):
        explainer = ParallelCalibratedExplainer(
            frozen,
            cv=None,
            n_bootstraps=n,
            random_state=0,
            parallel_config=ParallelConfig(preferred="serial"),
        ).calibrate(X[3000:4000], y[3000:4000])
        started = perf_counter()
        explainer.explain(X[4000:4001])
        once[n] = perf_counter() - started
        calls[n] = lambda explainer=explainer: explainer.explain(X[4000:])
    seconds = paired_seconds(calls, repeat=repeat, clock=process_time)
    times = ratio(seconds, REPLICATES, 0)
    without, with_bands = (median(seconds[n]) for n in (0, REPLICATES))
    print(
        f"{name:<20}{without:>10.3f}{with_bands:>10.3f}{times:>8.2f}x"
        f"{once[REPLICATES] - once[0]:>14.2f}{f'< {bar:.0f}x' if bar else '':>8}",
        flush=True,
    )
    return [f"{name}: {times:.2f} times, not {bar:g}"] if bar and times >= bar else []


def main():
    """Print one line per model."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeat", type=int, default=5)
    repeat = parser.parse_args().repeat
    print(f"{'':<20}{'B=0 s':>10}{'B=200 s':>10}{'times':>9}{'refitting s':>14}{'bar':>8}")
    with threadpool_limits(1):
        missed = [miss for k, model in MODELS.items() for miss in run(k, *model, repeat)]
    sys.exit("\n".join(missed) if missed else 0)


if __name__ == "__main__":
    main()
