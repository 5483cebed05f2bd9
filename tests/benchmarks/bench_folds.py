"""What folds buy: calibration on a part held out, on out-of-fold scores, or of every fold's model.

Run as ``python tests/benchmarks/bench_folds.py``. The first tables are those of docs/folds.md: 20
random halves of data that ship with scikit-learn are fitted and calibrated on one half and judged
on the other. The last one tells what it costs to predict and to explain with five models, and to
find percentiles among the points of five folds.
"""

from time import process_time

import numpy as np
from sklearn.base import is_regressor
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import brier_score_loss, log_loss, root_mean_squared_error
from sklearn.model_selection import ShuffleSplit, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from timing import paired_seconds, ratio

from ce_parallel import ParallelCalibratedExplainer
from ce_parallel.calibration import CrossConformal, _merge

N_SPLITS = 20
SHARE = 0.3  # of the rows, where some are held out
N_BINS = 10


def large_digits(return_X_y):
    """Images of digits; the class is whether it is 5 or more."""
    X, y = load_digits(return_X_y=return_X_y)
    return X, (y >= 5).astype(int)


CASES = {
    "breast cancer, forest": (load_breast_cancer, RandomForestClassifier(100)),
    "breast cancer, logistic": (
        load_breast_cancer,
        make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)),
    ),
    "digits from 5 on, logistic": (large_digits, LogisticRegression(C=0.01, max_iter=1000)),
    "diabetes, forest": (load_diabetes, RandomForestRegressor(100)),
    "diabetes, ridge": (load_diabetes, Ridge(0.1)),
}


def held_out(estimator, X, y, seed):
    """Fit on a part of the rows and calibrate on the others."""
    stratify = None if is_regressor(estimator) else y
    X_fit, X_cal, y_fit, y_cal = train_test_split(
        X, y, test_size=SHARE, random_state=seed, stratify=stratify
    )
    explainer = ParallelCalibratedExplainer(estimator, cv=None, random_state=seed)
    return explainer.fit(X_fit, y_fit).calibrate(X_cal, y_cal)


def refitted(estimator, X, y, seed):
    """One model of all rows, calibrated on out-of-fold scores."""
    return ParallelCalibratedExplainer(estimator, cv=5, random_state=seed).fit(X, y)


def merged(estimator, X, y, seed):
    """The models of five folds, each calibrated on the rows that it has not seen."""
    explainer = ParallelCalibratedExplainer(estimator, cv=5, ensemble=True, random_state=seed)
    return explainer.fit(X, y)


WAYS = {"30 % held out": held_out, "cv=5": refitted, "cv=5, ensemble": merged}


def calibration_error(y, proba):
    """Mean distance between probability and share of ones in bins of equal width, by their size."""
    numbers = np.minimum((proba * N_BINS).astype(int), N_BINS - 1)
    bins = [numbers == number for number in np.unique(numbers)]
    return sum(abs(y[b].mean() - proba[b].mean()) * b.mean() for b in bins)


def quality(explainer, X, y):
    """What is asked of calibrated predictions of rows."""
    if is_regressor(explainer):
        low, high = explainer.predict_interval(X).T
        return {
            "coverage": ((low <= y) & (y <= high)).mean(),
            "width": (high - low).mean(),
            "RMSE": root_mean_squared_error(y, explainer.predict(X)),
        }
    proba, low, high = (array[:, 1] for array in explainer.predict_proba_interval(X))
    return {
        "log loss": log_loss(y, proba),
        "Brier": brier_score_loss(y, proba),
        "ECE": calibration_error(y, proba),
        "width": (high - low).mean(),
    }


def compare(name):
    """Print mean and standard error of every measure, a line per way of calibrating."""
    load, estimator = CASES[name]
    X, y = load(return_X_y=True)
    splits = list(ShuffleSplit(N_SPLITS, test_size=0.5, random_state=0).split(X))
    print()
    for i, (way, make) in enumerate(WAYS.items()):
        found = [
            quality(make(estimator, X[fit], y[fit], seed), X[new], y[new])
            for seed, (fit, new) in enumerate(splits)
        ]
        if i == 0:
            print(f"| {name} | " + " | ".join(found[0]) + " |")
            print("|---" * (1 + len(found[0])) + "|")
        cells = []
        for measure in found[0]:
            values = np.array([one[measure] for one in found])
            error = values.std(ddof=1) / np.sqrt(len(values))
            cells.append(f"{values.mean():.4g} ± {error:.2g}")
        print(f"| {way} | " + " | ".join(cells) + " |", flush=True)


def cost(name):
    """Print how much longer an ensemble takes than one model, and than its models alone."""
    load, estimator = CASES[name]
    X, y = load(return_X_y=True)
    one, five = refitted(estimator, X, y, 0), merged(estimator, X, y, 0)
    verb = "predict" if is_regressor(one) else "predict_proba"
    for explainer in (one, five):
        explainer.set_params(parallel_config__preferred="serial")
    block = np.repeat(X, 20, axis=0)
    seconds = paired_seconds(
        {
            "explain, one": lambda: one.explain(X),
            "explain, five": lambda: five.explain(X),
            "predict, five": lambda: getattr(five, verb)(block),
            "models alone": lambda: [getattr(m, verb)(block) for m in five.estimators_],
        },
        repeat=5,
    )
    print(
        f"{name:<26}{ratio(seconds, 'explain, five', 'explain, one'):>10.1f}"
        f"{ratio(seconds, 'predict, five', 'models alone'):>10.2f}"
    )


def percentiles():
    """Print microseconds per row of a median and an interval of five merged folds."""
    rng = np.random.default_rng(0)
    in_use, candidates = _merge.FEW, (16, 32, 64)
    print(f"\nµs per row, by how many points are left for sorting ({in_use} is in use)")
    print(f"{'points':>10}" + "".join(f"{few:>8}" for few in candidates))
    for n in (200, 1000, 5000, 20000):
        alphas = tuple(np.sort(rng.normal(size=n // 5)) for _ in range(5))
        y_hat = rng.normal(size=(20000, 1)) + 0.3 * rng.normal(size=(20000, 5))
        system = CrossConformal(alphas, tuple(range(5)))

        def merge(few, system=system, y_hat=y_hat):
            _merge.FEW = few
            system.predict(y_hat)

        runs = {few: lambda few=few, merge=merge: merge(few) for few in candidates}
        seconds = paired_seconds(runs, repeat=5, clock=process_time)
        each = (min(seconds[few]) / len(y_hat) * 1e6 for few in candidates)
        print(f"{n:>10,}" + "".join(f"{one:>8.1f}" for one in each), flush=True)
    _merge.FEW = in_use


def main():
    """Print all tables."""
    for name in CASES:
        compare(name)
    print(f"\n{'five models against':<26}{'one':>10}{'alone':>10}")
    for name in CASES:
        cost(name)
    percentiles()


if __name__ == "__main__":
    main()
