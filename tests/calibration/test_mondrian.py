"""Mondrian calibration is each row calibrated by the calibrator of its category."""

import numpy as np
import pytest

from ce_parallel.calibration import (
    ConformalPredictiveSystem,
    InductiveVennAbers,
    Mondrian,
    Rows,
    VennAbersClassifier,
)

RNG = np.random.default_rng(0)
SCORES = RNG.dirichlet(np.ones(3), size=(4, 30))  # four categories of 30 rows
CODES = RNG.integers(3, size=(4, 30))
CLASSES = [VennAbersClassifier.fit(SCORES[c], CODES[c]) for c in range(4)]
SYSTEMS = [ConformalPredictiveSystem.fit(SCORES[c, :, 0]) for c in range(4)]
KINDS = {
    "ivap": ([InductiveVennAbers.fit(SCORES[c, :, 0], CODES[c] == 0) for c in range(4)], "predict"),
    "cps": (SYSTEMS, "predict"),
    "classes": (CLASSES, "predict_all"),
}


@pytest.mark.parametrize("categories", [4, 1])
@pytest.mark.parametrize("kind", KINDS)
def test_equals_row_by_row(kind, categories):
    calibrators, method = KINDS[kind]
    scores = RNG.dirichlet(np.ones(3), size=50)
    if kind in ("ivap", "cps"):
        scores = scores[:, 0]
    category = RNG.integers(4 - categories, 4, size=50)
    rows = Rows(category, difficulty=RNG.uniform(0.5, 2, size=50))
    together = getattr(Mondrian(tuple(calibrators)), method)(scores, rows)
    for i in range(50):
        alone = getattr(calibrators[category[i]], method)(scores[[i]], rows.take([i]))
        np.testing.assert_array_equal(alone[:, 0], together[:, i])


def test_options_reach_the_calibrators():
    median, low, high = Mondrian(tuple(SYSTEMS)).predict(
        np.zeros(2), Rows(np.array([0, 1])), percentiles=(-np.inf, 50)
    )
    assert (low == -np.inf).all()
    assert (high >= median).all()


def test_a_single_category_is_not_copied():
    seen = []

    class Spy:
        def predict(self, scores, rows):
            seen.extend([scores, rows])
            return np.zeros((3, len(scores)))

    scores, rows = np.zeros(3), Rows(np.array([1, 1, 1]))
    Mondrian((None, Spy())).predict(scores, rows)
    assert seen[0] is scores
    assert seen[1] is rows


def test_no_rows_are_no_error():
    rows = Rows(np.empty(0, dtype=int))
    mondrian = Mondrian(tuple(CLASSES))
    assert mondrian.predict_all(np.empty((0, 3)), rows).shape == (3, 0, 3)


def test_rows_without_category_are_refused():
    with pytest.raises(ValueError, match="rows must have one"):
        Mondrian(tuple(SYSTEMS)).predict(np.zeros(2))
