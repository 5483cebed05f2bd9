"""Fast explanations: a calibrator per feature instead of perturbed rows.

    reference rows, s copies --noise on column f--> estimator --> scores --Recipe--> calibrator f
    row --estimator--> score --calibrator-----> base       (3, c, n)
                             --calibrator f---> (3, c, n, d)  --base minus it--> weights

Löfström, Yapicioglu, Stramiglio, Löfström & Vitali (2024), "Fast Calibrated Explanations",
arXiv:2410.21129. Calibrator f knows the calibration rows with feature f made noisy, so it says what
the row's score is worth where that feature tells little. A row is scored once; each weight is a
look-up. `fit_feature` and `explain_fast_tile` run in workers.

Where this departs from calibrated-explanations 1.0.2: gaussian noise is added to the column, not
put in its place; with several classes, all calibrators speak of the same class; ignored features
get no rule; the noise of a build comes from a generator of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ce_parallel._plan import CalibratedModel, EnsembleModel
from ce_parallel.calibration import Calibration, Recipe, group_rows
from ce_parallel.rules import Grid, Tile, TileResult, TileShape, block_rows
from ce_parallel.utils import Columns

Floats = NDArray[np.float64]
Ints = NDArray[np.integer]

PERMUTATIONS = 5  # tries for one that differs from the column


# -- noise --------------------------------------------------------------------------------------


def _uniform(column: Floats, present: Floats, severity: float, rng: np.random.Generator) -> Floats:
    reach = np.ptp(present) * severity if len(present) else 0.0
    return column + rng.uniform(-reach, reach, len(column))


def _gaussian(column: Floats, present: Floats, severity: float, rng: np.random.Generator) -> Floats:
    deviation = present.std() * severity if len(present) else 0.0
    return column + rng.normal(0, deviation, len(column))


def _permuted(column: Floats, rng: np.random.Generator) -> Floats:
    """Values in another order; the first two change places if chance finds none."""
    for _ in range(PERMUTATIONS):
        candidate = rng.permutation(column)
        if not np.array_equal(candidate, column):
            return candidate
    swapped = column.copy()
    swapped[:2] = column[:2][::-1]
    return swapped


NOISES = {"uniform": _uniform, "gaussian": _gaussian}


@dataclass(frozen=True)
class Augmentation:
    """How calibration rows are copied and made noisy.

    Attributes
    ----------
    noise : {"uniform", "gaussian"}
        What is added to a value: up to `severity` times the range of its column on either side, or
        normal with `severity` times its standard deviation. Missing values stay missing, and
        categories are permuted.
    scale_factor : int
        Copies of each calibration row, at least 1.
    severity : float
        Not negative, without unit.
    """

    noise: str = "uniform"
    scale_factor: int = 5
    severity: float = 1.0

    @classmethod
    def of(
        cls, noise: Any, scale_factor: Any, severity: Any, *, kind: str = "fast"
    ) -> Augmentation:
        """Check what a user gave for explanations of a kind.

        Raises
        ------
        ValueError
            If it is none of what the attributes say, or not the default for another kind.
        """
        if not isinstance(noise, str) or noise not in NOISES:
            raise ValueError(f"noise must be one of {sorted(NOISES)}. Got {noise!r} instead.")
        whole = isinstance(scale_factor, Integral) and not isinstance(scale_factor, bool)
        if not whole or scale_factor < 1:
            raise ValueError(f"scale_factor must be an int >= 1. Got {scale_factor!r} instead.")
        number = isinstance(severity, Real) and not isinstance(severity, bool)
        if not number or not 0 <= severity < np.inf:
            raise ValueError(f"severity must be a finite number >= 0. Got {severity!r} instead.")
        found = cls(noise, int(scale_factor), float(severity))
        if kind != "fast" and found != cls():
            raise ValueError(
                f"noise, scale_factor and severity are for kind='fast'. Got kind={kind!r}."
            )
        return found

    def noisy(self, column: Floats, categorical: bool, rng: np.random.Generator) -> Floats:
        """Copies of a column with noise, ndarray of shape (scale_factor * n,)."""
        copies = np.tile(column, self.scale_factor)
        if categorical:
            return _permuted(copies, rng)
        return NOISES[self.noise](copies, copies[~np.isnan(copies)], self.severity, rng)


# -- calibrators of features --------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class FastData:
    """What the calibrators of all features are made from.

    Attributes
    ----------
    model : CalibratedModel
        Scores the noisy rows.
    recipe : Recipe
    X : ndarray of shape (n, n_features)
        The reference rows.
    row : ndarray of shape (m,)
        Which of them each calibration row is.
    calibration : Calibration
        Targets of m calibration rows, and what is known of them; not their scores.
    augmentation : Augmentation
    features : ndarray of shape (m,)
        Features that get a calibrator, see `varying`.
    events : bool
        Whether an `EventSplit` is wanted instead of a calibrator.
    """

    model: CalibratedModel
    recipe: Recipe
    X: Floats
    row: Ints
    calibration: Calibration
    augmentation: Augmentation
    features: Ints
    events: bool = False

    def columns(self) -> Iterator[NoisyColumn]:
        """Draw the noise of every feature, one after the other, from the plan's seed.

        Features without a calibrator draw, too. A new generator each time: the same noise each
        time.
        """
        rng = np.random.default_rng(self.recipe.seed)
        columns = self.model.columns
        permuted = {*columns.categorical, *columns.coded}
        for f, column in enumerate(self.X.T):
            noisy = self.augmentation.noisy(column, f in permuted, rng)
            if f in self.features:
                yield NoisyColumn(f, noisy)


def varying(X: Floats, categories: Mapping[int, Floats | None]) -> Ints:
    """Features that can be made noisy: all but constant ones and categorical ones left out.

    Parameters
    ----------
    X : ndarray of shape (n, n_features)
        The reference rows.
    categories : mapping of int to ndarray or None
        Of each categorical feature those that are tried, see `fit_categories`.

    Returns
    -------
    ndarray of shape (m,)
    """
    found = []
    for f, column in enumerate(X.T):
        # Missing is one more category, but no number.
        values = np.unique(column if f in categories else column[~np.isnan(column)])
        if len(values) > 1 and categories.get(f, values) is not None:
            found.append(f)
    return np.array(found, dtype=np.int64)


@dataclass(frozen=True, eq=False)
class NoisyColumn:
    """One item of work: a feature and its noisy values, ndarray of shape (scale_factor * n,)."""

    feature: int
    values: Floats


def fit_feature(data: FastData, item: NoisyColumn) -> Any:
    """Score the rows with a noisy column; return what the recipe makes of the scores."""
    fold = data.calibration.fold
    if fold is None:
        noisy = _noisy(data, item, data.model, slice(None))
    else:  # each row is scored by the model that has not seen it
        assert isinstance(data.model, EnsembleModel)
        noisy = Calibration.joined(
            [_noisy(data, item, data.model.member(k), index) for k, index in group_rows(fold)]
        )
    return data.recipe.event_split(noisy) if data.events else data.recipe.calibrator(noisy)


def _noisy(data: FastData, item: NoisyColumn, model: CalibratedModel, index: Any) -> Calibration:
    """Copies of the calibration rows at `index` with a noisy column, and their scores."""
    n, n_columns = data.X.shape
    times = data.augmentation.scale_factor
    place = (np.arange(times)[:, None] * n + data.row[index]).ravel()
    step = block_rows(n_columns)
    parts = []
    for start in range(0, len(place), step):
        here = place[start : start + step]
        block = data.X[here % n]
        block[:, item.feature] = item.values[here]
        parts.append(model.measure(block))
    scores = np.concatenate([scores for scores, _ in parts])
    difficulty = np.concatenate([d for _, d in parts if d is not None] or [np.empty(0)])
    copies = data.calibration.take(np.tile(np.arange(len(data.row))[index], times))
    known = replace(copies.known, difficulty=difficulty if len(difficulty) else None)
    return replace(copies, scores=scores, known=known)


# -- explanations -------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class FastPlan:
    """A calibrated model and a calibrator per feature.

    Attributes
    ----------
    model : CalibratedModel
    grid : Grid
        Without a cut: nothing is tried instead of a value.
    calibrators : mapping of int to calibrator
        Fitted with noise on a feature; or the `EventSplit` s that they come from. Features without
        one have no weight.
    """

    model: CalibratedModel
    grid: Grid
    calibrators: Mapping[int, Any]
    replicates: None = None  # there are none of fast explanations

    def of_events(self, model: CalibratedModel, events: Floats) -> FastPlan:
        """Return the plan of events, ndarray of shape (n_events, 2), from one of splits."""
        calibrators = {f: split.calibrator(events) for f, split in self.calibrators.items()}
        return replace(self, model=model, calibrators=calibrators)

    def knowing(self, columns: Columns) -> FastPlan:
        """Return a plan that knows other values of categorical features."""
        return replace(self, model=replace(self.model, columns=columns))

    def shape(self, features: Ints) -> TileShape:
        """Cut by the number of columns, classes and estimators; a tile holds all features."""
        row = 3 * max(1, self.model.n_classes) * len(self.grid.edges)
        limit = max(1, block_rows(row) // self.model.n_estimators)
        n_rows = 1 << (limit.bit_length() - 1)
        return TileShape(n_rows, [features], 8 * row * n_rows)


def explain_fast_tile(plan: FastPlan, tile: Tile) -> TileResult:
    """Score the rows of a tile once, and look the scores up in every calibrator.

    Returns
    -------
    TileResult
        Its `alternative` holds value, low and high by the calibrator of each feature, of the class
        that the row's own calibrator explains.
    """
    model, explained = plan.model, tile.explained
    measured = model.measure(tile.rows)
    base, every = model.calibrate(measured, tile.known, explained, **tile.options)
    likeliest = None if every is None else every.argmax(axis=1)
    if explained is None and likeliest is not None:
        explained = likeliest[:, None]
    by_feature = np.empty((*base.shape, len(tile.features)))
    for j, f in enumerate(tile.features):
        noisy = replace(model, calibrator=plan.calibrators[f])
        by_feature[..., j], _ = noisy.calibrate(measured, tile.known, explained, **tile.options)
    return TileResult(tile.start, tile.features, base, likeliest, by_feature)
