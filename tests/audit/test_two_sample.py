"""Areas under curves are those of closed forms, nothing is found where nothing is, and folds keep ground apart."""

from math import erf

import numpy as np
import pytest

from geoaug.audit.two_sample import area_under_curve, folds_of, single_feature_areas, two_sample_test


def test_the_area_is_that_of_the_mann_whitney_statistic() -> None:
    stats = pytest.importorskip("scipy.stats")
    random = np.random.default_rng(0)
    first, second = random.integers(0, 12, 80).astype(float), random.integers(3, 15, 120).astype(float)
    truth = np.r_[np.zeros(80, bool), np.ones(120, bool)]
    expected = stats.mannwhitneyu(second, first).statistic / (80 * 120)
    assert area_under_curve(np.r_[first, second], truth) == pytest.approx(expected)


def test_weights_count_rows_several_times() -> None:
    random = np.random.default_rng(1)
    scores, truth = random.normal(size=40), random.random(40) < 0.5
    counts = random.integers(0, 4, 40)
    weighted = area_under_curve(scores, truth, counts[None].astype(float))
    assert weighted[0] == pytest.approx(area_under_curve(scores.repeat(counts), truth.repeat(counts)))


@pytest.mark.parametrize("shift", [0.5, 1.0, 2.0])
def test_a_known_shift_gives_its_area(shift: float) -> None:
    random = np.random.default_rng(0)
    first, second = random.normal(size=(400, 4)), random.normal(size=(400, 4))
    second[:, 0] += shift
    found = two_sample_test(first, second, np.arange(400), np.arange(400, 800))
    expected = 0.5 * (1 + erf(shift / 2))  # P(y > x) of two normal laws, a shift apart
    assert found.auc == pytest.approx(expected, abs=0.05)
    assert found.low - 0.02 < expected < found.high + 0.02
    assert 0.02 < found.high - found.low < 0.12
    assert found.auc == max(found.logistic, found.trees)


def test_a_change_of_spread_is_seen_by_trees_alone() -> None:
    random = np.random.default_rng(0)
    first, second = random.normal(size=(300, 3)), random.normal(size=(300, 3)) * [3, 1, 1]
    found = two_sample_test(first, second, np.arange(300), np.arange(300, 600))
    assert found.trees > 0.7
    assert found.logistic < 0.6
    assert single_feature_areas(first, second)[0] > 0.7


def test_where_there_is_nothing_to_tell_the_area_is_near_one_half() -> None:
    random = np.random.default_rng(0)
    areas = []
    for seed in range(3):
        first, second = random.normal(size=(150, 20)), random.normal(size=(150, 20))
        areas.append(two_sample_test(first, second, np.arange(150), np.arange(150, 300), seed=seed).auc)
    assert np.mean(areas) == pytest.approx(0.5, abs=0.06)


def test_a_copy_that_only_its_own_tile_would_give_away_is_not_told() -> None:
    # Were a tile and its copy in different folds, trees would know the copy by its tile.
    random = np.random.default_rng(0)
    first = random.normal(size=(200, 30))
    second = first + random.normal(0, 1e-3, first.shape)
    found = two_sample_test(first, second, np.arange(200), np.arange(200))
    assert found.auc == pytest.approx(0.5, abs=0.08)


def test_all_rows_of_a_group_are_in_one_fold_and_folds_are_even() -> None:
    groups = np.random.default_rng(0).integers(0, 40, 500)
    fold = folds_of(groups, 5, seed=3)
    for group in np.unique(groups):
        assert len(np.unique(fold[groups == group])) == 1
    _, counts = np.unique([fold[groups == group][0] for group in np.unique(groups)], return_counts=True)
    assert counts.max() - counts.min() <= 1


def test_the_same_seed_gives_the_same_test() -> None:
    random = np.random.default_rng(0)
    first, second = random.normal(size=(60, 5)), random.normal(0.3, 1, size=(60, 5))
    assert two_sample_test(first, second, np.arange(60), np.arange(60), seed=1) == two_sample_test(
        first, second, np.arange(60), np.arange(60), seed=1
    )
