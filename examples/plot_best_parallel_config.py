"""
The best parallel_config on this machine
========================================

How a model is best explained in parallel depends on the model, the data and the machine. A grid
search can find out, with the number of rows explained per second as its score.
"""

from sklearn.datasets import load_breast_cancer
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import GridSearchCV

from ce_parallel import ParallelCalibratedExplainer, explanation_throughput

# %%
# Candidates
# ----------
# "auto" leaves the choice to a measurement. Each candidate gets the whole machine: the search
# itself runs without ``n_jobs``.
X, y = load_breast_cancer(return_X_y=True, as_frame=True)
forest = RandomForestClassifier(20, random_state=0)
explainer = ParallelCalibratedExplainer(forest, cv=3, random_state=0)
grid = [
    {"parallel_config__preferred": ["serial", "threads", "processes", "auto"]},
    {"parallel_config__preferred": ["threads"], "parallel_config__max_workers": [2]},
]

# %%
# The search
# ----------
# The loss is the same for all of them, because results do not depend on how they are computed.
scoring = {"rows_per_second": explanation_throughput, "loss": "neg_log_loss"}
search = GridSearchCV(explainer, grid, scoring=scoring, cv=2, refit="rows_per_second").fit(X, y)
print(f"The fastest: {search.best_params_}")

# %%
# All of them, the fastest one first
# ----------------------------------
results = search.cv_results_
print(f"{'preferred':<10} {'max_workers':>11} {'rows per second':>16} {'log loss':>9}")
for i in results["mean_test_rows_per_second"].argsort()[::-1]:
    candidate = results["params"][i]
    print(
        f"{candidate['parallel_config__preferred']:<10} "
        f"{candidate.get('parallel_config__max_workers') or 'all':>11} "
        f"{results['mean_test_rows_per_second'][i]:>16,.0f} "
        f"{-results['mean_test_loss'][i]:>9.4f}"
    )
