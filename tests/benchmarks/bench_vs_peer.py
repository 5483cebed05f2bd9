"""Explain 1,000 rows x 20 features: ours, serially, against calibrated-explanations.

Run as ``python tests/benchmarks/bench_vs_peer.py``. Both explain the same arrays with the same
fitted model in one process; weights are compared before anything is timed. "raw predict" is one
call of the model on as many rows as the method needs: no implementation can be faster.
"""

import logging
import warnings

import numpy as np
from calibrated_explanations import CalibratedExplainer
from sklearn.datasets import make_classification, make_regression
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression, Ridge
from threadpoolctl import threadpool_limits
from timing import paired_seconds, ratio

from ce_parallel import ParallelCalibratedExplainer, ParallelConfig

CELLS = {
    "logistic": (LogisticRegression(), "classification"),
    "forest of 100": (RandomForestClassifier(100, n_jobs=1, random_state=0), "classification"),
    "ridge": (Ridge(), "regression"),
    "forest of 100, regression": (
        RandomForestRegressor(100, n_jobs=1, random_state=0),
        "regression",
    ),
}


def cell(model, mode):
    """Return the candidates of one cell, after comparing what they compute."""
    make = make_classification if mode == "classification" else make_regression
    X, y = make(n_samples=5000, n_features=20, n_informative=10, random_state=0)
    model.fit(X[:3000], y[:3000])
    calibration, queries = (X[3000:4000], y[3000:4000]), X[4000:]
    peer = CalibratedExplainer(model, *(part.copy() for part in calibration), mode=mode, seed=42)
    ours = ParallelCalibratedExplainer(
        FrozenEstimator(model),
        cv=None,
        score_rounding="oracle",
        parallel_config=ParallelConfig(preferred="serial"),
    ).calibrate(*calibration)

    explanations = ours.explain(queries)
    reference = peer.explain_factual(queries.copy())
    weights = np.array([e.feature_weights["predict"] for e in reference])
    difference = np.abs(explanations.weights - weights).max()
    assert difference < 1e-9, f"weights differ by {difference}"

    grid, features = explanations.grid, np.arange(20)
    needed = int(grid.values_per_cell[grid.cells_of(queries, features)].sum()) + len(queries)
    block = np.resize(queries, (needed, 20))
    candidates = {
        "peer": lambda: peer.explain_factual(queries.copy()),
        "ours": lambda: ours.explain(queries),
        "raw predict": lambda: getattr(
            model, "predict_proba" if mode == "classification" else "predict"
        )(block),
    }
    return candidates, needed, difference


def main():
    """Print one line per cell."""
    warnings.simplefilter("ignore")
    logging.disable()
    print(f"{'':<26}{'peer s':>8}{'ours s':>8}{'ratio':>8}{'ceiling':>9}{'us/row':>8}  agree to")
    for name, (model, mode) in CELLS.items():
        candidates, needed, difference = cell(model, mode)
        with threadpool_limits(1):
            seconds = paired_seconds(candidates, repeat=5)
        ours, peer, raw = (np.median(seconds[key]) for key in ("ours", "peer", "raw predict"))
        print(
            f"{name:<26}{peer:>8.2f}{ours:>8.3f}{ratio(seconds, 'peer', 'ours'):>7.0f}x"
            f"{ratio(seconds, 'peer', 'raw predict'):>8.0f}x{1e6 * (ours - raw) / needed:>8.2f}"
            f"  {difference:.0e}"
        )


if __name__ == "__main__":
    main()
