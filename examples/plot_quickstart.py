"""
Quickstart: calibrated, explained predictions
=============================================

Two forests on data that scikit-learn ships: is a tumour malignant, and how far will a disease
progress in a year? Five folds calibrate each forest. Every prediction then comes with an interval,
and with rules that say what in the row raises or lowers it.
"""

import time

from sklearn.datasets import load_breast_cancer, load_diabetes
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.model_selection import train_test_split

from ce_parallel import ParallelCalibratedExplainer

TOP = 5


def explain(model, X, y):
    """Fit on some rows, explain the others, and time that."""
    X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.4, random_state=1)
    explainer = ParallelCalibratedExplainer(model, random_state=0).fit(X_train, y_train)
    started = time.perf_counter()
    explanations = explainer.explain(X_test)
    return explanations, y_test, len(X_test) / (time.perf_counter() - started)


def tell(explanations, i, what, truth):
    """Print one row's prediction and its heaviest rules as sentences."""
    row = explanations[i]
    value, low, high = row.prediction
    print(f"{what}: {value:.3g}, from {low:.3g} to {high:.3g} (in truth: {truth})")
    for rule in row.rules[:TOP]:
        verb = "raises" if rule["weight"] > 0 else "lowers"
        print(
            f"  {rule['rule']:<28} {verb} it by {abs(rule['weight']):.3g}"
            f"   (weight from {rule['weight_low']:+.3g} to {rule['weight_high']:+.3g})"
        )


def tell_run(explanations, rows_per_second):
    """Print how the work was executed."""
    decision = explanations.execution_report.decision
    print(f"  {len(explanations)} rows explained, {rows_per_second:,.0f} per second, using")
    print(f"  {decision.strategy}: {decision.reason}\n")


# %%
# Classification
# --------------
# The probability is that of the class which comes second in alphabetical order, "malignant".

data = load_breast_cancer(as_frame=True)
tumours, truth, speed = explain(
    RandomForestClassifier(random_state=0), data.data, data.target_names[data.target]
)
tell(tumours, 26, "Probability that tumour 26 is malignant", truth[26])
tell_run(tumours, speed)

# %%
# Regression
# ----------
# The prediction is the calibrated median. The interval is meant to hold nine of ten patients, on
# average over all of them.

data = load_diabetes(as_frame=True, scaled=False)
patients, truth, speed = explain(RandomForestRegressor(random_state=0), data.data, data.target)
tell(patients, 0, "Progression of patient 0", f"{truth.iloc[0]:g}")
tell_run(patients, speed)

# %%
# One explanation as a picture
# ----------------------------
# Bars are weights, thin lines their intervals; the grey band is the interval of the prediction.

display = tumours.plot(26, max_rules=TOP)
display.figure_.savefig("quickstart.png", dpi=150)
print("The explanation of tumour 26 is drawn in quickstart.png")
