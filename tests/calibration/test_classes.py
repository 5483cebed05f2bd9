"""Venn-Abers of all classes against plain loops, and with classes that nobody belongs to."""

import numpy as np
import pytest

from ce_parallel.calibration import InductiveVennAbers, VennAbersClassifier
from ce_parallel.calibration._classes import NORMALIZATIONS
from ce_parallel.calibration._ivap import SUMMARIES


def problem(n_classes, n=60):
    rng = np.random.default_rng(n_classes)
    scores = rng.dirichlet(np.ones(n_classes), size=n)
    codes = (scores.cumsum(axis=1) > rng.random((n, 1))).argmax(axis=1)
    return scores, codes, rng.dirichlet(np.ones(n_classes), size=40)


def by_loops(scores, codes, row, summary, normalization):
    """Triples (value, low, high) of one row, one per class."""
    classes = range(len(row))
    merge = SUMMARIES[summary]
    ivaps = [InductiveVennAbers.fit(scores[:, c], codes == c, summary=summary) for c in classes]
    triples = [tuple(ivap.predict(row[[c]])[:, 0]) for c, ivap in enumerate(ivaps)]
    if normalization == "scale":
        total = sum(p for p, _, _ in triples) or 1
        return [(p / total, low / total, high / total) for p, low, high in triples]
    if normalization == "coherence":
        room = 1 - sum(low for _, low, _ in triples)
        highs = [min(max(room + low, low), 1) for _, low, _ in triples]
        triples = [
            (merge(low, high), low, high) for (_, low, _), high in zip(triples, highs, strict=True)
        ]
    if normalization != "none" and summary in ("mean", "regularized_mean"):
        total = sum(p for p, _, _ in triples) or 1
        triples = [(p / total, low, high) for p, low, high in triples]
    return triples


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
@pytest.mark.parametrize("summary", SUMMARIES)
@pytest.mark.parametrize("n_classes", [3, 9])
def test_agrees_with_its_definition(n_classes, summary, normalization):
    scores, codes, tests = problem(n_classes)
    ours = VennAbersClassifier.fit(scores, codes, summary=summary, normalization=normalization)
    actual = ours.predict_all(tests)
    expected = [by_loops(scores, codes, row, summary, normalization) for row in tests]
    np.testing.assert_allclose(actual.transpose(1, 2, 0), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("n_classes", [2, 3, 9])
def test_rows_do_not_depend_on_each_other(n_classes):
    scores, codes, tests = problem(n_classes)
    ours = VennAbersClassifier.fit(scores, codes)
    everything = ours.predict_all(tests)
    for i in range(len(tests)):
        np.testing.assert_array_equal(ours.predict_all(tests[[i]])[:, 0], everything[:, i])


def test_two_classes_complement_each_other():
    scores, codes, tests = problem(2)
    ours = VennAbersClassifier.fit(scores, codes)
    value, low, high = InductiveVennAbers.fit(scores[:, 1], codes == 1).predict(tests[:, 1])
    np.testing.assert_array_equal(ours.predict(tests), [value, low, high])
    np.testing.assert_array_equal(ours.predict_all(tests)[..., 1], [value, low, high])
    np.testing.assert_array_equal(ours.predict_all(tests)[..., 0], [1 - value, 1 - high, 1 - low])


def test_more_than_two_classes_are_asked_for_together():
    scores, codes, tests = problem(3)
    with pytest.raises(ValueError, match="more than two classes none is the one: use predict_all"):
        VennAbersClassifier.fit(scores, codes).predict(tests)


@pytest.mark.parametrize("members", [[0, 2], [1], [2]])
def test_a_class_without_calibration_rows_keeps_its_column(members):
    """The reference would call the last of two classes present by the column of the second."""
    scores, _, tests = problem(3)
    codes = np.resize(members, len(scores))
    ours = VennAbersClassifier.fit(scores, codes, normalization="none")
    actual = ours.predict_all(tests)
    assert actual.shape == (3, len(tests), 3)
    for c in range(3):
        expected = InductiveVennAbers.fit(scores[:, c], codes == c).predict(tests[:, c])
        np.testing.assert_array_equal(actual[..., c], expected)
        assert (actual[1, :, c] == 0).all() == (c not in members)


@pytest.mark.parametrize("code", [0, 1])
def test_one_class_of_two_alone_is_legal(code):
    scores, _, tests = problem(2)
    _, low, high = VennAbersClassifier.fit(scores, np.full(len(scores), code)).predict(tests)
    assert (high == 1).all() if code else (low == 0).all()


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_values_that_add_up_to_nothing_stay_zero(normalization):
    fit = {"summary": "lower", "normalization": normalization}
    ours = VennAbersClassifier.fit(np.full((4, 3), 0.5), [0, 1, 2, 0], **fit)
    value, low, high = ours.predict_all(np.full((2, 3), 0.1))
    np.testing.assert_array_equal(value, 0)
    np.testing.assert_array_equal(low, 0)
    assert np.isfinite(high).all()


@pytest.mark.parametrize("n_classes", [2, 3])
def test_one_calibration_row_and_no_test_rows(n_classes):
    ours = VennAbersClassifier.fit(np.full((1, n_classes), 1 / n_classes), [0])
    assert ours.predict_all(np.empty((0, n_classes))).shape == (3, 0, n_classes)
    value, low, high = ours.predict_all(np.full((1, n_classes), 1 / n_classes))
    assert ((low <= value) & (value <= high)).all()


@pytest.mark.parametrize("n_classes", [2, 4])
def test_scale_makes_values_add_up_to_one_between_their_bounds(n_classes):
    scores, codes, tests = problem(n_classes)
    value, low, high = VennAbersClassifier.fit(scores, codes).predict_all(tests)
    np.testing.assert_allclose(value.sum(axis=1), 1, rtol=0, atol=1e-12)
    assert ((low <= value) & (value <= high)).all()
