"""Explain 1,000 rows x 20 features: ours, serially, against calibrated-explanations.

Run as ``python tests/benchmarks/bench_vs_peer.py [cell ...] [--repeat 9]``; ``--list`` names the
cells, and a cell is chosen by a part of its name. Both explain the same arrays with the same fitted
model in one process, one thread each, in seconds of the processor; weights are compared first.
"raw" is one call of the model on the rows that the method needs: no implementation can be faster,
and "share" is how much of that speed ours reaches. "us/row" is what ours adds to it, per needed
row. Fails if a bar is missed.

Conjunctions are timed alone, on explanations that are there already.

The peer runs sequentially, which takes the least seconds of the processor. By wall clock, its
workers (``perf_parallel=ParallelExecutor(...)`` with the plugin "instance_parallel") at their best
took 0.6 times as long on two cores: 2.6 s instead of 4.4 s, logistic, two processes, chunks of 125
rows; 3.2 s instead of 4.8 s, forest, chunks of 500. Other runs of these took longer than the
sequential one; threads nearly always did, and joblib mostly.
"""

import argparse
import logging
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from time import process_time

import numpy as np
from calibrated_explanations import CalibratedExplainer
from needed import rows_predicted
from sklearn.datasets import make_classification, make_regression
from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.naive_bayes import GaussianNB
from threadpoolctl import threadpool_limits
from timing import paired_seconds, ratio

from ce_parallel import ParallelCalibratedExplainer, ParallelConfig

sys.path.append(str(Path(__file__).parents[2]))
from tests.reference import load_reference

N_FIT, N_QUERY, N_FEATURES = 3000, 1000, 20
N_TOP = 5  # rules of a row that others are joined with
# What every cell must reach: microseconds beside the estimator's own call, per needed row.
OVERHEAD = 3.0


@dataclass(frozen=True)
class Cell:
    """One comparison, and the bar it must reach: a multiple of the peer, a share of the ceiling.

    `classes` is 0 for regression. `n_calibration` rows calibrate; where `first` is set,
    calibration is timed as well; where `joined` is, conjunctions up to that size alone are. `event`
    is "", "one" for all rows or "each" row's own. `calls` in a row are timed at a time: after a
    call of the other one nothing is warm.
    """

    model: Callable
    classes: int
    kind: str = "factual"
    event: str = ""
    n_rows: int = N_QUERY
    n_calibration: int = 1000
    first: bool = False
    joined: int = 0
    calls: int = 1
    times: float = 0.0
    share: float = 0.0
    overhead: float = OVERHEAD


FOREST = {"n_estimators": 100, "n_jobs": 1, "random_state": 0}
CHEAP = {
    "logistic, binary": (LogisticRegression, 2, ""),
    "naive Bayes, binary": (GaussianNB, 2, ""),
    "ridge, regression": (Ridge, 0, ""),
    "ridge, one event": (Ridge, 0, "one"),
}
TREES = {
    "forest, binary": (partial(RandomForestClassifier, **FOREST), 2),
    "forest, 4 classes": (partial(RandomForestClassifier, **FOREST), 4),
    "forest, regression": (partial(RandomForestRegressor, **FOREST), 0),
    "boosting, binary": (partial(HistGradientBoostingClassifier, random_state=0), 2),
    "boosting, 4 classes": (partial(HistGradientBoostingClassifier, random_state=0), 4),
    "boosting, regression": (partial(HistGradientBoostingRegressor, random_state=0), 0),
}
KINDS = ("factual", "alternative")
CELLS = {
    f"{name}, {kind}": Cell(model, classes, kind, event, times=50)
    for name, (model, classes, event) in CHEAP.items()
    for kind in KINDS
}
CELLS |= {
    f"{name}, {kind}": Cell(model, classes, kind, share=0.8)
    for name, (model, classes) in TREES.items()
    for kind in KINDS
}
# The fixed costs of a call are most of what follows: no overhead per row is asked for.
SMALL = {"overhead": np.inf}
CELLS |= {
    f"ridge, 20 rows, an event each, {kind}": Cell(
        Ridge, 0, kind, "each", n_rows=20, times=1000, **SMALL
    )
    for kind in KINDS
}
CELLS |= {
    f"logistic, one row, {kind}": Cell(
        LogisticRegression, 2, kind, n_rows=1, calls=20, times=15, **SMALL
    )
    for kind in KINDS
}
CELLS |= {
    f"{name}, 100,000 calibration rows": Cell(
        model, classes, n_rows=100, n_calibration=100_000, first=True, times=1, **SMALL
    )
    for name, model, classes in (
        ("logistic", LogisticRegression, 2),
        ("forest", TREES["forest, binary"][0], 2),
        ("ridge", Ridge, 0),
    )
}
# 80 % of the ceiling of a forest would be more than 50 times the peer.
CELLS |= {
    f"{name}, conjunctions of {size}, {kind}": Cell(
        model, 2, kind, n_rows=50, joined=size, times=50
    )
    for name, model in (
        ("logistic", LogisticRegression),
        ("forest", TREES["forest, binary"][0]),
    )
    for size in (2, 3)
    for kind in KINDS
}


def data_of(cell):
    """Return the parts (X, y) to fit, calibrate and explain."""
    n = N_FIT + cell.n_calibration + cell.n_rows
    shape = {"n_samples": n, "n_features": N_FEATURES, "n_informative": 10, "random_state": 0}
    X, y = make_classification(**shape, n_classes=cell.classes or 2)
    if not cell.classes:
        X, y = make_regression(**shape, noise=20.0)
    ends = N_FIT, N_FIT + cell.n_calibration
    return zip(np.split(X, ends), np.split(y, ends), strict=True)


def both(cell):
    """Return the peer's call and ours, by name, and the model."""
    fit, calibration, (queries, y) = data_of(cell)
    model = cell.model().fit(*fit)
    event = {"": None, "one": 0.0, "each": y.tolist()}[cell.event]
    told = {} if event is None else {"threshold": event}
    mode = "classification" if cell.classes else "regression"
    verb = "explain_factual" if cell.kind == "factual" else "explore_alternatives"

    def make_peer():
        copies = (part.copy() for part in calibration)  # it freezes what it is given
        return CalibratedExplainer(model, *copies, mode=mode, seed=42)

    def make_ours():
        serial = ParallelConfig(preferred="serial")
        frozen = FrozenEstimator(model)
        explainer = ParallelCalibratedExplainer(
            frozen, cv=None, score_rounding="oracle", random_state=42, parallel_config=serial
        )
        return explainer.calibrate(*calibration)

    peer, ours = make_peer(), make_ours()

    def explain_theirs(rows=queries):
        return getattr(make_peer() if cell.first else peer, verb)(rows.copy(), **told)

    def explain_ours():
        return (make_ours() if cell.first else ours).explain(queries, kind=cell.kind, **told)

    if not cell.joined:
        return {"peer": explain_theirs, "ours": explain_ours}, model
    # It joins factual rules rightly of one row at a time.
    theirs = [explain_theirs(queries[i : i + 1])[0] for i in range(len(queries))]
    return joining(theirs, explain_ours(), cell.joined), model


def joining(reference, explanations, size):
    """Return the calls that join the rules of explanations which are there already."""

    def join_theirs():
        for e in reference:
            e.remove_conjunctions().add_conjunctions(N_TOP, size)  # else it goes on from them
        return reference

    def join_ours():
        joined = explanations.conjunctions(N_TOP, size)
        assert len(joined.rules)  # a table, which is made when it is asked for
        return joined

    return {"peer": join_theirs, "ours": join_ours}


def check_weights(reference, ours):
    """Compare the weights of all features."""
    weights = np.array([e.feature_weights["predict"] for e in reference])
    difference = np.abs(ours.weights - weights).max()
    assert difference < 1e-9, f"weights differ by {difference}"


def check_conjunctions(reference, ours):
    """Compare features joined, predictions and bounds."""
    rules, feature = ours.rules, ours.single_rules.feature
    n_same = n_theirs = 0
    for i, e in enumerate(reference):
        theirs = e.get_rules()
        values = np.array([theirs[k] for k in ("predict", "predict_low", "predict_high")]).T
        there = {frozenset(np.ravel(f)): v for f, v in zip(theirs["feature"], values, strict=True)}
        for r in np.flatnonzero((rules.row == i) & (rules.size > 1)):
            expected = there.get(frozenset(feature[rules.members_of(r)]), np.nan)
            found = rules.prediction[r], rules.low[r], rules.high[r]
            n_same += np.abs(np.subtract(found, expected)).max() < 1e-9
        n_theirs += np.sum(theirs["is_conjunctive"])
    n_ours = np.sum(rules.size > 1)
    assert n_same == n_theirs == n_ours, f"{n_same} of {n_theirs} and {n_ours} agree"


def compared(calls, model, cell):
    """Compare the results; return the rows that ours predicts, and the seconds the peer took.

    Conjunctions are compared with a peer that is mended, see tests/reference.py; from then on it is
    as it came.
    """
    if cell.joined:
        check_conjunctions(calls["peer"](), calls["ours"]())
        load_reference(mended=False)
    started = process_time()
    reference = calls["peer"]()
    seconds = process_time() - started
    explanations = calls["ours"]()  # builds the grid, where that is not what is measured
    if not cell.joined:
        check_weights(reference, explanations)
    return rows_predicted(model, calls["ours"]), seconds


def run(name, cell, repeat):
    """Time a cell, print its line, and return the bars that it misses."""
    load_reference(mended=cell.joined > 0)
    calls, model = both(cell)
    rows, peer = compared(calls, model, cell)
    needed = len(rows)
    predict = model.predict_proba if cell.classes else model.predict
    candidates = {"ours": calls["ours"], "raw": lambda: predict(rows)}
    if peer < 1:  # else far from its bar: one run tells enough
        candidates["peer"] = calls["peer"]
    seconds = paired_seconds(candidates, repeat=repeat, calls=cell.calls, clock=process_time)
    seconds.setdefault("peer", [peer] * repeat)
    ours, peer, raw = (median(seconds[key]) for key in ("ours", "peer", "raw"))
    times, share = ratio(seconds, "peer", "ours"), ratio(seconds, "raw", "ours")
    overhead = 1e6 * (ours - raw) / needed
    missed = [
        f"{name}: {what} is {got:.3g}, not {wanted:g}"
        for what, got, wanted, misses in (
            ("times the peer", times, cell.times, times < cell.times),
            ("share of the ceiling", share, cell.share, share < cell.share),
            ("us/row", overhead, cell.overhead, overhead >= cell.overhead),
        )
        if misses
    ]
    bar = f"{cell.times:.0f}x" if cell.times else f"{cell.share:.0%}"
    print(
        f"{name:<42}{needed:>8}{peer:>8.3f}{ours:>9.4f}{raw:>9.4f}{times:>7.0f}x"
        f"{peer / raw:>8.0f}x{share:>7.0%}{overhead:>8.2f}{bar:>7}"
        f"{'  MISSED' if missed else ''}",
        flush=True,
    )
    return missed


def main():
    """Print one line per cell."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cells", nargs="*", default=[""], help="parts of names; all by default")
    parser.add_argument("--repeat", type=int, default=5, help="runs of ours and of the model")
    parser.add_argument("--list", action="store_true", help="name the cells")
    asked = parser.parse_args()
    chosen = {k: c for k, c in CELLS.items() if any(part in k for part in asked.cells)}
    if asked.list:
        print("\n".join(chosen))
        return
    warnings.simplefilter("ignore")
    logging.disable()
    print(
        f"{'':<42}{'needed':>8}{'peer s':>8}{'ours s':>9}{'raw s':>9}{'times':>8}{'ceiling':>9}"
        f"{'share':>7}{'us/row':>8}{'bar':>7}"
    )
    with threadpool_limits(1):
        missed = [miss for k, cell in chosen.items() for miss in run(k, cell, asked.repeat)]
    sys.exit("\n".join(missed) if missed else 0)


if __name__ == "__main__":
    main()
