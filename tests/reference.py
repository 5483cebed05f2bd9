"""The reference implementation, calibrated-explanations 1.0.2, mended in one place.

Its mean of equal numbers may be off by a bit: ``(0.1 + 0.1 + 0.1) / 3 != 0.1``. So it finds rules
that change nothing, with weights of 1e-17, and ranks them and joins them with others. Here the mean
of equal numbers is that number, as in ce_parallel.
"""

import importlib
from types import SimpleNamespace

import numpy as np
import pytest

NAME = "calibrated_explanations"
USERS = ("explanations.explanation", "core.explain.feature_task", "core.explain._legacy_explain")


def load_reference(*, mended=True):
    """Return the package, mended or as it is; skip the test if it is not installed."""
    package = pytest.importorskip(NAME)
    plain = importlib.import_module(f"{NAME}.utils.helper").safe_mean

    def mean(values, default=0.0):
        array = np.asarray(values)
        if array.size and (array == array.flat[0]).all():
            return float(array.flat[0])
        return plain(values, default)

    users = [importlib.import_module(f"{NAME}.{user}") for user in USERS]
    for user in users:
        user.safe_mean = mean if mended else plain
    # Conjunctions are averaged by NumPy itself.
    numpy = {**vars(np), "mean": lambda values: mean(np.ravel(values))}
    users[0].np = SimpleNamespace(**numpy) if mended else np
    return package
