"""
A search, watched
=================

Which strength of regularisation suits a pipeline? A grid search fits it many times. Here all of
these fits run in the threads of one executor; an observer keeps what it is told; a picture shows
which worker did what when.
"""

from collections import Counter

from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from ce_parallel import (
    Hook,
    ParallelCalibratedExplainer,
    ParallelConfig,
    observe,
    parallel_backend,
)

# %%
# A pipeline whose last step calibrates a model and explains it
# --------------------------------------------------------------
X, y = load_breast_cancer(return_X_y=True)
explainer = ParallelCalibratedExplainer(LogisticRegression(max_iter=500), random_state=0)
pipeline = make_pipeline(StandardScaler(), explainer)
grid = {"parallelcalibratedexplainer__estimator__C": [0.01, 0.1, 1.0, 10.0]}


# %%
# An observer
# -----------
# It is told of every map that starts within `observe`, however deep: of the search's own fits, and
# of the folds inside each of them.
class Collect(Hook):
    """Keep every report."""

    def __init__(self):
        self.reports = []

    def on_map_end(self, report):
        """Take a report when its map has ended; called from several threads."""
        self.reports.append(report)


collect = Collect()
config = ParallelConfig(preferred="threads", max_workers=2)
with observe(collect), parallel_backend(config) as executor:
    search = GridSearchCV(pipeline, grid, cv=4, n_jobs=2, refit=False).fit(X, y)
    report = executor.report

print(f"The best parameters: {search.best_params_}")
for name, maps in Counter(report.name for report in collect.reports).items():
    tasks = sum(report.n_tasks for report in collect.reports if report.name == name)
    print(f"{name}: {maps} maps, {tasks} tasks")

# %%
# What the search's report says
# -----------------------------
# Utilization is the share of the workers' time that was spent in tasks; what a task waits is the
# time from its dispatch until a worker takes it up.
print(report)
display = report.plot_timeline()
display.figure_.savefig("search_timeline.png", dpi=120)
