"""Noise, spectra and combs are what closed forms say they are."""

from itertools import pairwise

import numpy as np
import pytest

from geoaug.audit.artefacts import COMBS, artefact_features, comb_roughness
from geoaug.audit.description import describe, inner_window
from geoaug.audit.detail import BIN_EDGES, HIGH, MIDDLE, detail_of, radial_power, residuals
from geoaug.sensors import generic_sensor

SENSOR = generic_sensor(2, 10000.0)


def white(count: int = 8, side: int = 64, sigma: float = 20.0, mean: float = 3000.0, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(mean, sigma, (count, 2, side, side)).astype(np.float32)


def everywhere(x: np.ndarray) -> np.ndarray:
    return np.ones((len(x), *x.shape[2:]), bool)


def test_white_noise_on_a_plane_has_its_own_standard_deviation() -> None:
    x = white(sigma=20.0)
    rows, columns = np.indices(x.shape[2:])
    noise = detail_of(x + 5 * rows - 3 * columns, everywhere(x)).noise
    assert noise.mean() == pytest.approx(20.0, rel=0.02)


def test_edges_along_rows_or_columns_are_no_noise() -> None:
    x = np.zeros((1, 1, 32, 32), np.float32)
    x[..., 11:, :] += 500
    x[..., 7:] += 300
    assert detail_of(x, everywhere(x)).noise == pytest.approx(0, abs=1e-3)


def test_invalid_pixels_take_no_part() -> None:
    x = white(sigma=20.0)
    valid = everywhere(x)
    valid[:, 20:30, 5:40] = False
    spoiled = np.where(valid[:, None], x, 30000).astype(np.float32)
    np.testing.assert_allclose(residuals(spoiled, valid)[0], residuals(x, valid)[0], rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(radial_power(spoiled, valid), radial_power(x, valid), rtol=1e-2)


def test_white_noise_has_a_flat_spectrum_of_its_variance() -> None:
    x = white(count=32, sigma=20.0)
    window = np.outer(*[np.hanning(66)[1:-1]] * 2)
    expected = 20.0**2 * (window**2).sum()
    power = radial_power(x, everywhere(x)).mean((0, 1))
    # The lowest bins lose what the mean takes away.
    np.testing.assert_allclose(power[1:] / expected, 1.0, atol=0.08)


def test_a_blur_lowers_high_frequencies_by_its_transfer_function() -> None:
    scipy_filter = pytest.importorskip("scipy.ndimage").gaussian_filter
    sigma, x = 1.0, white(count=12, side=64)
    blurred = np.stack([[scipy_filter(band, sigma, mode="wrap", truncate=8) for band in tile] for tile in x])
    before, after = (detail_of(one.astype(np.float32), everywhere(x)) for one in (x, blurred))
    change = float((after.high_frequencies_db - before.high_frequencies_db).mean())
    radius = np.hypot(*np.meshgrid(np.fft.fftfreq(64), np.fft.fftfreq(64)))
    # At this width, sampled Gaussians are Gaussians: |H|^2 = exp(-(2 pi sigma f)^2), averaged over the
    # rings that the measure averages over.
    transfer = np.exp(-((2 * np.pi * sigma * radius) ** 2))
    rings = [transfer[(radius >= low) & (radius < high)].mean() for low, high in pairwise(BIN_EDGES)]
    expected = 10 * np.log10(np.mean(rings[HIGH]) / np.mean(rings[MIDDLE]))
    assert change == pytest.approx(expected, abs=0.25)
    assert expected < -4


def test_quarter_turns_and_flips_change_no_artefact_feature() -> None:
    x = white().astype(np.uint16)
    x[:, :, ::3] += 40  # stripes, so that directions matter
    mask = everywhere(x)
    before = describe(x, mask, SENSOR).artefacts.values
    for moved in (x.swapaxes(2, 3), x[:, :, ::-1], x[..., ::-1]):
        np.testing.assert_allclose(describe(moved, mask, SENSOR).artefacts.values, before, atol=1e-3)


def test_light_changes_no_artefact_feature_of_values_that_are_not_rounded() -> None:
    x = white()
    before, after = (describe(one.astype(np.float32), everywhere(x), SENSOR).artefacts for one in (x, 0.7 * x + 500))
    np.testing.assert_allclose(after.values, before.values, atol=5e-3)


def test_stripes_are_seen_as_lines() -> None:
    x = white(sigma=10.0)
    striped = x + np.random.default_rng(1).normal(0, 10, (len(x), 2, 1, x.shape[3])).astype(np.float32)
    before, after = (describe(one, everywhere(x), SENSOR).artefacts for one in (x, striped))
    lines = [number for number, name in enumerate(before.names) if name.measure == "lines, more"]
    assert (after.values[:, lines] - before.values[:, lines]).min() > 1.5


def test_a_smooth_histogram_has_a_roughness_of_one_and_combs_have_more() -> None:
    random = np.random.default_rng(0)
    smooth = [np.sort(random.normal(120, 20, (1, 60000)).round().astype(np.uint8), axis=1) for _ in range(6)]
    assert comb_roughness(smooth, np.full((6, 1), 0.5)).mean() == pytest.approx(1.0, abs=0.15)
    stretched = [np.sort(np.rint(values * 1.3).astype(np.uint8), axis=1) for values in smooth]
    assert comb_roughness(stretched, np.full((6, 1), 0.5)).min() > 20


def test_combs_finer_than_the_noise_do_not_count() -> None:
    random = np.random.default_rng(0)
    values = [np.sort(np.rint(1.1 * random.normal(1500, 150, (1, 20000)).round()), axis=1) for _ in range(6)]
    assert comb_roughness(values, np.full((6, 1), 0.4)).min() > 1.5
    assert comb_roughness(values, np.full((6, 1), 20.0)).mean() == pytest.approx(1.0, abs=0.5)


def test_floats_have_no_combs() -> None:
    names = describe(white(), everywhere(white()), SENSOR).artefacts.names
    assert all(name.family != COMBS for name in names)
    assert artefact_features.__doc__


@pytest.mark.parametrize("side", [32, 63, 64, 100, 256])
def test_the_middle_of_a_tile_is_filled_after_any_turn(side: int) -> None:
    rows, columns = inner_window(side, side)
    assert rows == columns
    assert rows.start == side - rows.stop
    corner = np.hypot(rows.stop - rows.start, rows.stop - rows.start) / 2
    assert corner <= side / 2 + 1e-9
    assert corner > side / 2 - 2.9
