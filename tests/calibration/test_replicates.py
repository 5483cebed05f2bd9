"""Look-ups give, for every score, what each replicate itself would say."""

import numpy as np
import pytest

from ce_parallel.calibration import (
    NORMALIZATIONS,
    Calibration,
    Recipe,
    Rows,
    look_ups,
)

N, B, QUERIES = 60, 7, 200


def recipe(classes, normalization="scale", summary="regularized_mean"):
    return Recipe(classes, (4, 4), summary, normalization, seed=3)


def drawn(n, rng, category=None):
    if category is None:
        return rng.integers(n, size=n)
    index = np.arange(n)
    for c in np.unique(category):
        members = np.flatnonzero(category == c)
        index[members] = rng.choice(members, len(members))
    return index


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.mark.parametrize("mondrian", [False, True])
@pytest.mark.parametrize("n_classes", [2, 4])
@pytest.mark.parametrize("normalization", sorted(NORMALIZATIONS))
def test_classes(rng, n_classes, normalization, mondrian):
    classes = np.arange(n_classes)
    scores = np.round(rng.dirichlet(np.ones(n_classes), N), 1)  # ties
    category = rng.integers(2, size=N) if mondrian else None
    data = Calibration(scores, rng.choice(classes, N), Rows(category=category))
    make = recipe(classes, normalization).calibrator
    replicates = [make(data.take(drawn(N, rng, category))) for _ in range(B)]
    queries = np.round(rng.dirichlet(np.ones(n_classes), QUERIES), 2)
    rows = Rows(category=rng.integers(2, size=QUERIES) if mondrian else None)
    explained = rng.integers(n_classes, size=QUERIES)
    found = look_ups(make(data), replicates).values(queries, rows, explained)
    for values, replicate in zip(found, replicates, strict=True):
        every = replicate.predict_all(queries, rows)[0]
        np.testing.assert_array_equal(values, every[np.arange(QUERIES), explained])
    if n_classes == 2:
        ones = look_ups(make(data), replicates).values(queries, rows, None)
        np.testing.assert_array_equal(ones, [r.predict(queries, rows)[0] for r in replicates])


@pytest.mark.parametrize("difficult", [False, True])
def test_residuals(rng, difficult):
    difficulty = rng.uniform(0.5, 2, N) if difficult else None
    data = Calibration(rng.normal(size=N), rng.normal(size=N), Rows(difficulty=difficulty))
    make = recipe(None).calibrator
    replicates = [make(data.take(drawn(N, rng))) for _ in range(B)]
    queries = rng.normal(size=QUERIES)
    rows = Rows(difficulty=rng.uniform(0.5, 2, QUERIES) if difficult else None)
    found = look_ups(make(data), replicates).values(queries, rows, None)
    np.testing.assert_array_equal(found, [r.predict(queries, rows)[0] for r in replicates])


@pytest.mark.parametrize("mondrian", [False, True])
@pytest.mark.parametrize(
    "events", [[[-np.inf, 0.3]], [[-0.5, 0.3]], [[-np.inf, -0.2], [-0.1, 1.0], [0.0, 0.1]]]
)
def test_events(rng, events, mondrian):
    category = rng.integers(2, size=N) if mondrian else None
    rows = Rows(category=category, difficulty=rng.uniform(0.5, 2, N))
    y_hat = np.round(rng.normal(size=N), 1)
    y = np.round(y_hat + rng.normal(size=N), 1)
    split = recipe(None).event_split(Calibration(y_hat, y, rows))
    events = np.array(events)
    replicates = [split.resampled(rng).calibrator(events) for _ in range(B)]
    queries = np.round(rng.normal(size=QUERIES), 1)
    rows = Rows(
        category=rng.integers(2, size=QUERIES) if mondrian else None,
        event=rng.integers(len(events), size=QUERIES),
        difficulty=rng.uniform(0.5, 2, QUERIES),
    )
    found = look_ups(split.calibrator(events), replicates).values(queries, rows, None)
    np.testing.assert_array_equal(found, [r.predict(queries, rows)[0] for r in replicates])


@pytest.mark.parametrize("n_classes", [2, 3])
def test_merged_folds(rng, n_classes):
    classes, fold = np.arange(n_classes), np.repeat([0, 1, 2], N // 3)
    scores = np.round(rng.dirichlet(np.ones(n_classes), N), 1)
    data = Calibration(scores, rng.choice(classes, N), Rows(), fold)
    make = recipe(classes).calibrator
    replicates = [make(data.take(drawn(N, rng, data.group))) for _ in range(B)]
    queries = np.round(rng.dirichlet(np.ones(n_classes), (QUERIES, 3)), 2)
    explained = rng.integers(n_classes, size=QUERIES)
    found = look_ups(make(data), replicates).values(queries, Rows(), explained)
    for values, replicate in zip(found, replicates, strict=True):
        every = replicate.predict_all(queries, Rows())[0]
        np.testing.assert_allclose(values, every[np.arange(QUERIES), explained], atol=1e-14)


def test_merged_residuals(rng):
    fold = np.repeat([0, 1, 2], N // 3)
    data = Calibration(rng.normal(size=N), rng.normal(size=N), Rows(), fold)
    make = recipe(None).calibrator
    replicates = [make(data.take(drawn(N, rng, data.group))) for _ in range(B)]
    queries = rng.normal(size=(QUERIES, 3))
    found = look_ups(make(data), replicates).values(queries, Rows(), None)
    np.testing.assert_array_equal(found, [r.predict(queries, Rows())[0] for r in replicates])
