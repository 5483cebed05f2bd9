"""Explain the same rows of the same fitted models by ce_parallel, shap and lime.

Run as ``python tests/benchmarks/bench_explainers.py [task ...] [--rows 50] [--repeat 5]`` after
``pip install shap lime``, which the project itself does not need. It takes two to three minutes,
one thread each, in seconds of the processor. Columns, from left to right:

- what happens once, before any row: seconds, and rows that the model predicts;
- then per row explained: milliseconds, rows that the model predicts, and rows per second as a
  multiple of those of factual rules. A run of more than `SLOW` seconds is timed once, others in
  pairs;
- agreement with factual rules, and again with shap's permutations: the rank correlation (Spearman)
  of absolute weights, how often the heaviest feature is the same, and how often the sign is, where
  both weights have one. Means over `rows`: those whose absolute weights have ranks in both.

docs/comparison.md says what to make of the numbers.
"""

import argparse
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from statistics import median
from time import process_time

import numpy as np
import shap
from lime.lime_tabular import LimeTabularExplainer
from scipy.stats import spearmanr
from sklearn.datasets import load_breast_cancer, load_diabetes
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits
from timing import paired_seconds, ratio

from ce_parallel import ParallelCalibratedExplainer, ParallelConfig

N_CALIBRATION, N_BACKGROUND = 150, 100
SLOW = 4.0
FOREST = {"n_estimators": 100, "n_jobs": 1, "random_state": 0}
# Not scaled: shap 0.51 narrows the cuts of trees to single precision where there is a background,
# and scaled values are so close together that its attributions would no longer add up.
diabetes = partial(load_diabetes, scaled=False)
TASKS = {
    "forest, breast cancer": (RandomForestClassifier(**FOREST), load_breast_cancer),
    "logistic, breast cancer": (
        make_pipeline(StandardScaler(), LogisticRegression()),
        load_breast_cancer,
    ),
    "forest, diabetes": (RandomForestRegressor(**FOREST), diabetes),
}
PACKAGES = ("ce-parallel", "shap", "lime", "numpy", "scipy", "scikit-learn")


class Problem:
    """A fitted model, the rows to explain, and a count of the rows the model was asked about."""

    def __init__(self, model, load, n_rows):
        X, y = load(return_X_y=True)
        order = np.random.default_rng(0).permutation(len(X))
        ends = [n_rows, n_rows + N_CALIBRATION]
        self.queries, self.X_cal, self.X_fit = np.split(X[order], ends)
        _, self.y_cal, y_fit = np.split(y[order], ends)
        self.background = self.X_fit[:N_BACKGROUND]
        self.model = model.fit(self.X_fit, y_fit)
        self.classifies = hasattr(model, "predict_proba")
        self.asked = 0
        verb = "predict_proba" if self.classifies else "predict"
        self._predict = getattr(model, verb)
        setattr(model, verb, self.predict)  # whoever asks, it is counted

    def predict(self, X):
        """Return all probabilities, or numbers."""
        self.asked += len(X)
        return self._predict(X)

    def value(self, X):
        """Return the probability of class 1, or numbers."""
        predicted = self.predict(X)
        return predicted[:, 1] if self.classifies else predicted


def calibrated(problem):
    """Our explainer, calibrated."""
    serial = ParallelConfig(preferred="serial")
    explainer = ParallelCalibratedExplainer(
        FrozenEstimator(problem.model), cv=None, random_state=0, parallel_config=serial
    )
    return explainer.calibrate(problem.X_cal, problem.y_cal)


def rules(problem, kind):
    """Weights of the rules of a kind."""
    explainer = calibrated(problem)
    explainer.explain(
        problem.queries[:1], kind=kind
    )  # finds cuts, or fits a calibrator per feature
    return lambda: explainer.explain(problem.queries, kind=kind).weights


def tree_shap(problem, background):
    """Shapley values from within the trees: over a background, or over the rows of their nodes."""
    perturbation = "tree_path_dependent" if background is None else "interventional"
    explainer = shap.TreeExplainer(
        problem.model, background, feature_perturbation=perturbation, model_output="raw"
    )

    def run():
        values = explainer.shap_values(problem.queries)
        return values[..., 1] if problem.classifies else values

    return run


def permutation_shap(problem, value):
    """Shapley values of the function `value`, from as many evaluations as shap makes unasked."""
    explainer = shap.PermutationExplainer(value, problem.background, seed=0)
    return lambda: explainer(problem.queries, silent=True).values


def lime(problem):
    """Coefficients of all features of the row's quartiles, from 5,000 samples per row."""
    mode = "classification" if problem.classifies else "regression"
    explainer = LimeTabularExplainer(problem.X_fit, mode=mode, random_state=0)

    def weights(row):
        found = explainer.explain_instance(row, problem.predict, num_features=len(row))
        return [weight for _, weight in sorted(found.local_exp[1])]

    return lambda: np.array([weights(row) for row in problem.queries])


def explainers_of(problem):
    """Return the functions that set explainers up, by name."""
    makers = {
        "factual rules": lambda: rules(problem, "factual"),
        "fast rules": lambda: rules(problem, "fast"),
    }
    if hasattr(problem.model, "estimators_"):
        makers["shap, trees, paths"] = lambda: tree_shap(problem, None)
        makers["shap, trees, background"] = lambda: tree_shap(problem, problem.background)
    makers["shap, permutations"] = lambda: permutation_shap(problem, problem.value)
    if problem.classifies:  # a calibrated number is the model's plus a constant
        ours = calibrated(problem)
        makers["the same, calibrated"] = lambda: permutation_shap(
            problem, lambda X: ours.predict_proba(X)[:, 1]
        )
    makers["lime"] = lambda: lime(problem)
    return makers


@dataclass
class Found:
    """What the first run of an explainer showed."""

    run: Callable
    setup: float
    setup_asked: int
    seconds: float
    asked: int
    weights: np.ndarray


def first_run(problem, make):
    """Set an explainer up and let it run once."""
    times, counts = [process_time()], [problem.asked]
    run = make()
    times.append(process_time())
    counts.append(problem.asked)
    weights = run()
    times.append(process_time())
    counts.append(problem.asked)
    (setup, seconds), (setup_asked, asked) = np.diff(times), np.diff(counts)
    return Found(run, setup, setup_asked, seconds, asked, weights)


def agreement(a, b):
    """Return rank correlation, share of heaviest features and of signs, and the number of rows.

    Where several features are heaviest, one that both have is enough.
    """
    ranked = (np.ptp(np.abs(a), axis=1) > 0) & (np.ptp(np.abs(b), axis=1) > 0)
    a, b = a[ranked], b[ranked]
    ranks = [spearmanr(*pair).statistic for pair in zip(np.abs(a), np.abs(b), strict=True)]
    heaviest = [np.abs(w) == np.abs(w).max(axis=1, keepdims=True) for w in (a, b)]
    top = (heaviest[0] & heaviest[1]).any(axis=1)
    signed = (a != 0) & (b != 0)
    same = (signed & (np.sign(a) == np.sign(b))).sum(axis=1) / signed.sum(axis=1)
    return np.mean(ranks), np.mean(top), np.nanmean(same), len(a)


def run(name, problem, repeat):
    """Print the lines of a task."""
    found = {key: first_run(problem, make) for key, make in explainers_of(problem).items()}
    quick = {key: one.run for key, one in found.items() if one.seconds < SLOW}
    seconds = paired_seconds(quick, repeat=repeat, clock=process_time)
    for key, one in found.items():
        seconds.setdefault(key, [one.seconds] * repeat)
    n, d = problem.queries.shape
    title = f"{name}: {n} rows, {d} features"
    columns = f"{'ranks':>10}{'top':>6}{'signs':>7}{'rows':>6}"
    print(
        f"\n{title:<59}{'':<21}{'with factual rules':>29}{'with shap, permutations':>29}\n"
        f"{'':<25}{'once s':>9}{'predicted':>11}{'ms':>13}{'predicted':>11}{'speed':>11}"
        f"{columns * 2}"
    )
    for key, one in found.items():
        ms, speed = 1e3 * median(seconds[key]) / n, ratio(seconds, "factual rules", key)
        line = (
            f"{key:<25}{one.setup:>9.3f}{one.setup_asked:>11,}"
            f"{ms:>13.3f}{one.asked / n:>11,.0f}{speed:>11.3g}"
        )
        for other in ("factual rules", "shap, permutations"):
            ranks, top, signs, rows = agreement(one.weights, found[other].weights)
            line += f"{ranks:>10.2f}{top:>6.0%}{signs:>7.0%}{rows:>6}"
        print(line, flush=True)


def main():
    """Print a table per task."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tasks", nargs="*", default=[""], help="parts of names; all by default")
    parser.add_argument("--rows", type=int, default=50, help="how many rows are explained")
    parser.add_argument("--repeat", type=int, default=5, help="runs of the quick ones")
    asked = parser.parse_args()
    warnings.simplefilter("ignore")
    print(f"Python {sys.version.split()[0]}", *(f"{name} {version(name)}" for name in PACKAGES))
    nothing = np.zeros((2, 2))
    with threadpool_limits(1):
        shap.PermutationExplainer(lambda X: X[:, 0], nothing)(nothing + 1, silent=True)  # compiles
        for name, task in TASKS.items():
            if any(part in name for part in asked.tasks):
                run(name, Problem(*task, asked.rows), asked.repeat)


if __name__ == "__main__":
    main()
