"""Shifts, ratios and angles are those that were put in."""

import numpy as np
import pytest
from affine import Affine

from geoaug.audit.appearance import index_pairs, normalised_differences
from geoaug.audit.description import Description, describe
from geoaug.audit.measures import Measures, label_agreement, measure
from geoaug.sensors import get_sensor

SENSOR = get_sensor("sentinel-2-l1c").select("B02,B03,B04,B08,B12")


def tiles(seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    means = random.uniform(800, 3000, (40, 5, 1, 1))
    return (means + random.normal(0, 20, (40, 5, 48, 48))).astype(np.uint16)


def described(x: np.ndarray) -> Description:
    return describe(x, np.ones((len(x), *x.shape[2:]), bool), SENSOR)


def compared(before: np.ndarray, after: np.ndarray) -> Measures:
    first = described(before)
    return measure(
        first, described(after), spread_of=first, index_names=tuple(index_pairs(SENSOR)), invalid=0.0, labels=None
    )


def test_added_noise_is_found_again_as_a_ratio() -> None:
    x = tiles().astype(np.float64)
    added = np.random.default_rng(1).normal(0, 20 * np.sqrt(3), x.shape)
    found = compared(x.round().astype(np.uint16), (x + added).round().astype(np.uint16))
    np.testing.assert_allclose(found.noise_ratio, 2.0, rtol=0.03)  # sqrt(1 + 3)


def test_a_shift_is_in_units_of_the_spread_between_tiles() -> None:
    x = tiles()
    spread = x.mean((2, 3)).std(0) / 10000
    found = compared(x, x + 300)
    np.testing.assert_allclose(found.mean_bias, 0.03 / spread, rtol=1e-3)
    np.testing.assert_allclose(found.mean_change, 0.03 / spread, rtol=1e-3)
    np.testing.assert_allclose(found.wasserstein, 0.03 / spread, rtol=1e-3)
    np.testing.assert_allclose(found.std_change, 0, atol=1e-3)
    np.testing.assert_allclose(found.noise_ratio, 1, rtol=1e-3)
    np.testing.assert_allclose(found.sharpness_db, 0, atol=1e-2)


def test_the_wasserstein_distance_is_scipys() -> None:
    distance = pytest.importorskip("scipy.stats").wasserstein_distance
    random = np.random.default_rng(0)
    x = tiles()[:30, :, ::2, ::2]
    y = (x + random.gamma(2.0, 200.0, x.shape)).astype(np.uint16)
    spread = x.mean((2, 3)).std(0)
    expected = np.mean(
        [[distance(a.ravel(), b.ravel()) for a, b in zip(t, u, strict=True)] for t, u in zip(x, y, strict=True)], 0
    )
    np.testing.assert_allclose(compared(x, y).wasserstein, expected / spread, rtol=0.03)


def test_a_brighter_scene_has_the_same_spectral_angle_and_another_colour_has_not() -> None:
    x = tiles()
    assert compared(x, (x * 1.2).astype(np.uint16)).spectral_angle == pytest.approx(0, abs=0.05)
    y = x.astype(np.float64)
    y[:, 0] *= 1.2
    first, second = x.mean((2, 3)), y.mean((2, 3))
    cosine = (first * second).sum(1) / np.linalg.norm(first, axis=1) / np.linalg.norm(second, axis=1)
    expected = float(np.median(np.degrees(np.arccos(cosine))))
    assert compared(x, y.round().astype(np.uint16)).spectral_angle == pytest.approx(expected, rel=0.01)


def test_indices_are_of_the_right_bands() -> None:
    assert index_pairs(SENSOR) == {"NDVI": (3, 2), "NDWI": (1, 3), "NBR": (3, 4)}
    assert index_pairs(get_sensor("rgb")) == {}
    means = np.array([[0.05, 0.08, 0.1, 0.4, 0.2]])
    np.testing.assert_allclose(normalised_differences(means, SENSOR), [[0.3 / 0.5, -0.32 / 0.48, 0.2 / 0.6]])


def test_clipped_and_impossible_values_are_counted() -> None:
    x = tiles()
    y = x.copy()
    y[:, :, :12] = 65535
    found = compared(x, y)
    assert found.clipped == pytest.approx(0.25)
    assert found.unphysical == pytest.approx(0.25)


def test_labels_that_moved_with_their_pixels_agree_and_others_do_not() -> None:
    labels = np.random.default_rng(0).integers(0, 3, (20, 30)).astype(np.uint8)
    here = Affine(10, 0, 500000, 0, -10, 5400000)
    # Flipped left to right: columns run from the right edge.
    flipped, mirrored = labels[:, ::-1], here * Affine(-1, 0, 30, 0, 1, 0)
    assert label_agreement(labels, here, flipped, mirrored, 255) == (600, 600, 600)
    counted, kept, same = label_agreement(labels, here, flipped, here, 255)
    assert counted == kept == 600
    assert same < 300
    lost = flipped.copy()
    lost[:10] = 255
    assert label_agreement(labels, here, lost, mirrored, 255) == (600, 300, 300)
