"""Validation as scikit-learn does it, of frames that hold more than numbers."""

import numpy as np
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin

from ce_parallel.utils import Columns, encoded

pd = pytest.importorskip("pandas")


class Classifier(ClassifierMixin, BaseEstimator):
    """Something to hang the number and names of features on."""


class Regressor(RegressorMixin, BaseEstimator):
    """The same, whose target is numbers."""


FRAME = pd.DataFrame({"age": [30, 40, 50], "sex": pd.Series(["f", "m", None], dtype=object)})


def test_fit_and_a_later_call():
    estimator = Classifier()
    columns = Columns.of(FRAME, "from_dtype")
    rows, numbers, same, y = encoded(estimator, FRAME, list("aba"), columns=columns, reset=True)
    assert rows is FRAME
    assert same is columns
    np.testing.assert_array_equal(numbers, [[30, 0], [40, 1], [50, np.nan]])
    assert y.tolist() == list("aba")
    assert estimator.n_features_in_ == 2
    assert estimator.feature_names_in_.tolist() == ["age", "sex"]

    query = FRAME.assign(sex=["x", "m", "f"])
    rows, numbers, wider = encoded(estimator, query, columns=columns, reset=False)
    assert numbers[:, 1].tolist() == [2, 1, 0]
    assert wider.restore(numbers)["sex"].tolist() == ["x", "m", "f"]
    assert not np.shares_memory(numbers, rows["age"])


def test_targets_of_a_regressor_are_numbers():
    columns = Columns.of(FRAME, "from_dtype")
    *_, y = encoded(Regressor(), FRAME, [1, 2, 3], columns=columns, reset=True)
    assert y.dtype == np.float64
    with pytest.raises(ValueError, match="could not convert string to float"):
        encoded(Regressor(), FRAME, np.array(list("aba"), object), columns=columns, reset=True)


REFUSED = {
    "other names": (FRAME.rename(columns={"sex": "gender"}), "feature names should match"),
    "another order": (FRAME[["sex", "age"]], "must be in the same order"),
    "infinity": (FRAME.assign(age=np.inf), "Input X contains infinity"),
    "no rows": (FRAME[:0], "0 sample"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case):
    estimator, columns = Classifier(), Columns.of(FRAME, "from_dtype")
    encoded(estimator, FRAME, [0, 1, 0], columns=columns, reset=True)
    X, message = REFUSED[case]
    with pytest.raises(ValueError, match=message):
        encoded(estimator, X, columns=columns, reset=False)


def test_targets_of_another_length_are_refused():
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        encoded(Classifier(), FRAME, [0, 1], columns=Columns.of(FRAME, "from_dtype"), reset=True)
