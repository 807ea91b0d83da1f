"""Whether two groups of tiles can be told apart: a classifier two-sample test.

A classifier learns to tell them apart on some tiles and is asked on others (Lopez-Paz and Oquab, 2017, "Revisiting
classifier two-sample tests", ICLR). Its area under the curve (AUC) is the probability that it ranks a tile of the
second group above one of the first: .5 where nothing tells them apart, 1 where everything does. Scikit-learn is
imported when a test runs, not before.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

__all__ = ["TwoSampleTest", "area_under_curve", "folds_of", "single_feature_areas", "two_sample_test"]

_FOLDS = 4
_TREES = 40
_RESAMPLES = 200
_SHARE = 0.95
_MOST = 5.0


@dataclass(frozen=True, slots=True)
class TwoSampleTest:
    """The outcome of a test.

    Attributes:
        auc: the larger of the two classifiers' areas under the curve.
        low: with `high`, its 95 per cent interval over bootstrapped tiles.
        high: see `low`.
        logistic: by logistic regression, which sees shifts.
        trees: by extremely randomised trees, which also see a change of spread and of what goes together.
    """

    auc: float
    low: float
    high: float
    logistic: float
    trees: float


def two_sample_test(
    first: Float[np.ndarray, "n f"],
    second: Float[np.ndarray, "m f"],
    first_groups: Int[np.ndarray, " n"],
    second_groups: Int[np.ndarray, " m"],
    *,
    seed: int = 0,
) -> TwoSampleTest:
    """Test whether the rows of two tables come from one distribution.

    Args:
        first: features of one group of tiles.
        second: of the other, the same columns.
        first_groups: which ground each row shows. Rows of one ground are in one fold, so that an augmented tile is
            never learned from when its original is asked about, nor the other way round.
        second_groups: of the second.
        seed: of folds, trees and bootstrap.
    """
    values = np.concatenate([first, second])
    groups = np.concatenate([first_groups, second_groups])
    truth = np.concatenate([np.zeros(len(first), bool), np.ones(len(second), bool)])
    fold = folds_of(groups, _FOLDS, seed)
    scores = {name: np.zeros(len(truth)) for name in ("logistic", "trees")}
    for number in range(fold.max() + 1):
        asked = fold == number
        scaled = _scaled(values, ~asked)
        for name, model in _classifiers(seed).items():
            model.fit(scaled[~asked], truth[~asked])
            scores[name][asked] = model.predict_proba(scaled[asked])[:, 1]
    areas = {name: area_under_curve(found, truth) for name, found in scores.items()}
    best = max(areas, key=lambda name: areas[name])
    low, high = _interval(scores[best], truth, groups, seed)
    return TwoSampleTest(areas[best], low, high, areas["logistic"], areas["trees"])


def folds_of(groups: Int[np.ndarray, " n"], folds: int, seed: int) -> Int[np.ndarray, " n"]:
    """A fold for each row, all rows of a group in one, groups dealt evenly in a random order."""
    unique, member = np.unique(groups, return_inverse=True)
    dealt = np.random.default_rng(seed).permutation(np.arange(len(unique)) % min(folds, len(unique)))
    return np.asarray(dealt[member])


def area_under_curve(
    scores: Float[np.ndarray, " n"], truth: Bool[np.ndarray, " n"], weights: Float[np.ndarray, "b n"] | None = None
) -> Any:
    """The probability that a true row has a larger score than a false one, ties counting half.

    Args:
        scores: of rows.
        truth: which rows are of the second group.
        weights: of rows, one line for each area wanted; None: one area, all rows alike.
    """
    _, place = np.unique(scores, return_inverse=True)
    rows = np.ones((1, len(scores))) if weights is None else weights
    steps = place.max() + 1
    true = np.stack([np.bincount(place, row * truth, steps) for row in rows])
    false = np.stack([np.bincount(place, row * ~truth, steps) for row in rows])
    below = np.cumsum(false, axis=1) - false / 2
    total = true.sum(1) * false.sum(1)
    area = np.where(total > 0, (true * below).sum(1) / np.where(total > 0, total, 1.0), 0.5)
    return float(area[0]) if weights is None else area


def single_feature_areas(first: Float[np.ndarray, "n f"], second: Float[np.ndarray, "m f"]) -> Float[np.ndarray, " f"]:
    """How well each column alone tells two groups apart, by its value or by its distance from the first's median.

    Between .5 and 1, whichever way it goes.
    """
    truth = np.concatenate([np.zeros(len(first), bool), np.ones(len(second), bool)])
    values = np.concatenate([first, second])
    distance = np.abs(values - np.median(first, axis=0))
    areas = np.zeros((2, values.shape[1]))
    for row, table in enumerate((values, distance)):
        for column in range(values.shape[1]):
            areas[row, column] = area_under_curve(table[:, column], truth)
    return np.asarray(0.5 + np.abs(areas - 0.5).max(axis=0))


def _classifiers(seed: int) -> dict[str, Any]:
    from sklearn.ensemble import ExtraTreesClassifier
    from sklearn.linear_model import LogisticRegression

    return {
        "logistic": LogisticRegression(C=0.05, max_iter=300),
        "trees": ExtraTreesClassifier(_TREES, min_samples_leaf=5, random_state=seed),
    }


def _scaled(values: np.ndarray, learned: np.ndarray) -> np.ndarray:
    """Columns about their medians over the rows to learn from, in quartile ranges of these, cut off at 5.

    One tile with a cloud in it must not decide for all.
    """
    low, middle, high = np.percentile(values[learned], [25, 50, 75], axis=0)
    return np.asarray(np.clip((values - middle) / np.maximum(high - low, 1e-9), -_MOST, _MOST))


def _interval(scores: np.ndarray, truth: np.ndarray, groups: np.ndarray, seed: int) -> tuple[float, float]:
    """Between which the area lies when the ground is drawn anew with replacement, a group with all its rows."""
    unique, member = np.unique(groups, return_inverse=True)
    random = np.random.default_rng([seed, 1])
    drawn = random.multinomial(len(unique), np.full(len(unique), 1 / len(unique)), size=_RESAMPLES).astype(np.float64)
    areas = area_under_curve(scores, truth, drawn[:, member])
    low, high = np.quantile(areas, [(1 - _SHARE) / 2, (1 + _SHARE) / 2])
    return float(low), float(high)
