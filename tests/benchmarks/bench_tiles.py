"""How large a tile should be: time of 1,000 rows by tile size, relative to the size in use.

Run as ``python tests/benchmarks/bench_tiles.py``. Small tiles pay the estimator's fixed cost per
call more often; large ones leave nothing for a second worker.
"""

from sklearn.datasets import make_classification
from sklearn.ensemble import RandomForestClassifier
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from timing import paired_seconds, ratio

from ce_parallel import ParallelCalibratedExplainer, ParallelConfig, ParallelExecutor
from ce_parallel.rules import _block

SIZES = [2**k for k in range(10, 18)]


def main():
    """Print a line per model and strategy."""
    X, y = make_classification(n_samples=5000, n_features=20, n_informative=10, random_state=0)
    in_use = _block.TILE_ROWS
    print(f"{'rows of a block':<28}" + "".join(f"{size:>9,}" for size in SIZES))
    for model in (LogisticRegression(), RandomForestClassifier(100, random_state=0)):
        frozen = FrozenEstimator(model.fit(X[:3000], y[:3000]))
        explainer = ParallelCalibratedExplainer(frozen, cv=None).calibrate(
            X[3000:4000], y[3000:4000]
        )

        def explain(size, explainer=explainer):
            _block.TILE_ROWS = size
            explainer.explain(X[4000:])

        for preferred in ("serial", "threads"):
            with ParallelExecutor(ParallelConfig(preferred=preferred, max_workers=2)):
                runs = {size: lambda size=size: explain(size) for size in SIZES}
                seconds = paired_seconds(runs, repeat=7)
            name = f"{type(model).__name__[:18]}, {preferred}"
            print(f"{name:<28}" + "".join(f"{ratio(seconds, s, in_use):>9.2f}" for s in SIZES))


if __name__ == "__main__":
    main()
