"""Point spread, resolution and band shift against Fourier transforms, plain averages and measured displacements."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor

from geoaug import Compose, get_sensor
from geoaug.augment import RandomBandShift, RandomPointSpread, RandomResolution, RandomRotation
from geoaug.errors import ConfigurationError
from geoaug.rng.draws import sample_keys

S2 = get_sensor("sentinel-2-l1c")


def impulse_response(operation: RandomPointSpread) -> np.ndarray:
    image = torch.zeros(1, 1, 64, 64)
    image[0, 0, 32, 32] = 1.0
    out: Tensor = Compose([operation])({"image": image, "key": sample_keys(0, [0])})["image"]
    return out[0, 0].double().numpy()


@pytest.mark.parametrize("mtf", [0.05, 0.15, 0.2, 0.3, 0.7, 1.0])
def test_the_transfer_at_nyquist_is_the_one_asked_for(mtf: float) -> None:
    response = impulse_response(RandomPointSpread(mtf, present=1.0, p=1.0))
    assert response.sum() == pytest.approx(1.0, abs=1e-5)
    transfer = np.abs(np.fft.fft2(response))
    assert transfer[0, 32] == pytest.approx(mtf, abs=1e-4)
    assert transfer[32, 0] == pytest.approx(mtf, abs=1e-4)
    assert transfer[32, 32] == pytest.approx(mtf**2, abs=1e-4)
    # In between it is that of a Gaussian: mtf^((f / f_N)^2).
    assert transfer[0, 16] == pytest.approx(mtf**0.25, abs=1e-4)
    between = mtf ** ((np.arange(33) / 32) ** 2)
    assert np.abs(transfer[0, :33] - between).max() < 0.07


def test_a_present_blur_is_taken_into_account() -> None:
    response = impulse_response(RandomPointSpread(0.15, present=0.3, p=1.0))
    assert np.abs(np.fft.fft2(response))[0, 32] == pytest.approx(0.5, abs=1e-4)
    same = torch.rand(1, 2, 9, 9)
    assert torch.equal(Compose([RandomPointSpread(0.3, present=0.3, p=1.0)])({"image": same})["image"], same)


@pytest.mark.parametrize("wanted", [0.12, 0.36])
def test_each_band_gets_the_quotient_of_two_transfers_at_its_own_nyquist(wanted: float) -> None:
    """By Fourier transform of what a point becomes: at 10, 20 and 60 m, softer and sharper."""
    bands = tuple(replace(band, mtf=0.24 if band.name != "B05" else 0.3) for band in S2.bands)
    sensor = replace(S2, bands=bands).with_scaling(1, 0)
    image = torch.zeros(1, 13, 144, 144)
    image[..., 72, 72] = 1.0
    compose = Compose([RandomPointSpread(wanted, p=1.0)], sensor=sensor)
    out = compose({"image": image, "key": sample_keys(0, [0])})["image"][0].double().numpy()
    for band, response in zip(sensor.bands, out, strict=True):
        ratio, pixel = wanted / (0.3 if band.name == "B05" else 0.24), int(band.gsd_m) // 10
        transfer = np.abs(np.fft.fft2(response))
        nyquist = 72 // pixel
        assert transfer[0, 0] == pytest.approx(1.0, abs=1e-5)
        assert transfer[0, nyquist] == pytest.approx(ratio, abs=1e-4), band.name
        assert transfer[nyquist, 0] == pytest.approx(ratio, abs=1e-4), band.name
        assert transfer[0, nyquist // 2] == pytest.approx(ratio**0.25, abs=1e-4), band.name
        between = ratio ** ((np.arange(nyquist + 1) / nyquist) ** 2)
        # Any filter of pixels is level at Nyquist, where a Gaussian still falls.
        assert np.abs(transfer[0, : nyquist + 1] - between).max() < 0.22 * abs(1 - ratio), band.name


def test_sharpening_is_bounded() -> None:
    response = impulse_response(RandomPointSpread(1.0, present=0.1, p=1.0))
    assert np.abs(np.fft.fft2(response))[0].max() == pytest.approx(2.0, abs=1e-4)


def test_blur_leaves_flat_ground_flat_up_to_the_edge_and_beside_nodata() -> None:
    batch = {"image": torch.full((2, 3, 20, 20), 0.3), "valid": torch.rand(2, 1, 20, 20) > 0.3}
    for operation in (RandomPointSpread(p=1.0), RandomResolution(2.5, p=1.0)):
        out = Compose([operation], fill=-1.0)(batch)
        assert torch.allclose(out["image"][batch["valid"].expand(-1, 3, -1, -1)], torch.tensor(0.3), atol=1e-6)
        assert torch.equal(out["valid"], batch["valid"])


def coarse(row: np.ndarray, factor: float, phase: float) -> np.ndarray:
    """Cell means with exact overlaps, and straight lines between their centres; only cells that hold pixels count."""
    start, count = -phase * factor if factor > 1 else 0.0, len(row)
    means, shares = {}, {}
    for cell in range(-2, int(count / factor) + 3):
        low, high = start + cell * factor, start + (cell + 1) * factor
        weights = np.array([max(0.0, min(i + 1, high) - max(i, low)) for i in range(count)])
        means[cell], shares[cell] = float(weights @ row), float(weights.sum())
    out = []
    for pixel in range(count):
        place = (pixel + 0.5 - start) / factor - 0.5
        cell, share = math.floor(place), place - math.floor(place)
        total = (1 - share) * means[cell] + share * means[cell + 1]
        out.append(total / ((1 - share) * shares[cell] + share * shares[cell + 1]))
    return np.array(out)


@pytest.mark.parametrize("factor", [1.0, 2.0, 2.5, 3.0])
def test_coarse_pixels_are_means_of_cells_interpolated_back(factor: float) -> None:
    image = torch.rand(1, 1, 1, 37)
    compose = Compose([RandomResolution(factor, p=1.0)])
    batch = {"image": image, "key": sample_keys(3, [0])}
    phase = compose.plan(batch).drawn[0].params["phase"][0, 1]
    out = compose(batch)["image"][0, 0, 0].double().numpy()
    assert np.abs(out - coarse(image[0, 0, 0].double().numpy(), factor, float(phase))).max() < 1e-5


def test_bands_that_are_as_coarse_already_stay() -> None:
    batch = {"image": torch.rand(2, 13, 24, 24) * 3000, "key": sample_keys(0, range(2))}
    plain = Compose([], sensor=S2)(batch)["image"]
    for factor, touched in ((1.9, 10), (2.0, 10), (4.0, 20), (6.0, 20), (7.0, 60)):
        out = Compose([RandomResolution(factor, p=1.0)], sensor=S2)(batch)["image"]
        for index, band in enumerate(S2.bands):
            same = torch.equal(out[:, index], plain[:, index])
            assert same == (band.gsd_m > touched), (factor, band.name)


def landscape(bands: int, side: int, seed: int = 0) -> Tensor:
    """The same smooth random image in every band."""
    noise = np.random.default_rng(seed).normal(size=(side, side))
    smooth = ndimage.gaussian_filter(noise, 3, mode="wrap")
    smooth = (smooth - smooth.min()) / (smooth.max() - smooth.min())
    return torch.from_numpy(smooth).float().expand(1, bands, side, side).contiguous()


def measured_shift(reference: np.ndarray, moved: np.ndarray) -> tuple[float, float]:
    """x and y by which `moved` is displaced: the slope of the phase of the cross-spectrum."""
    window = np.outer(np.hanning(len(reference)), np.hanning(len(reference)))
    first, second = (np.fft.fft2((part - part.mean()) * window) for part in (reference, moved))
    cross = second * first.conj()
    frequency = np.fft.fftfreq(len(reference)) * 2 * np.pi
    y, x = np.meshgrid(frequency, frequency, indexing="ij")
    low = (np.hypot(x, y) < 0.6) & (np.hypot(x, y) > 0)
    weight = np.sqrt(np.abs(cross[low]))
    design = np.stack((x[low], y[low]), axis=1) * weight[:, None]
    solution, *_ = np.linalg.lstsq(design, -np.angle(cross[low]) * weight, rcond=None)
    return float(solution[0]), float(solution[1])


@pytest.mark.parametrize("dtype", [torch.float32, torch.uint16])
def test_bands_lie_beside_one_another_by_what_was_drawn(dtype: torch.dtype) -> None:
    image = (landscape(5, 128) * 50_000).to(dtype)
    compose = Compose([RandomBandShift((0.4, 0.4), p=1.0)])
    batch = {"image": image, "key": sample_keys(2, [0])}
    params = compose.plan(batch).drawn[0].params
    out = compose(batch)["image"][0].double().numpy()
    assert params["shift_x"][0, 0] == params["shift_y"][0, 0] == 0
    for band in range(1, 5):
        x, y = measured_shift(out[0], out[band])
        # A band taken from the right of its place lies to the left.
        assert x == pytest.approx(-float(params["shift_x"][0, band]), abs=0.02)
        assert y == pytest.approx(-float(params["shift_y"][0, band]), abs=0.02)


def test_shifts_join_the_single_resampling_and_turn_with_it() -> None:
    image = landscape(4, 280)
    turn, shift = RandomRotation((30, 30), p=1.0), RandomBandShift((0.4, 0.4), p=1.0)
    compose = Compose([turn, shift])
    batch = {"image": image, "key": sample_keys(5, [0])}
    plan = compose.plan(batch)
    assert len(plan.stages) == 1
    params = plan.drawn[1].params
    out = compose.apply(batch, plan)["image"][0, :, 70:210, 70:210].double().numpy()
    linear = plan.matrix[0, :2, :2].numpy()
    for band in range(1, 4):
        drawn = np.array([float(params["shift_x"][0, band]), float(params["shift_y"][0, band])])
        assert measured_shift(out[0], out[band]) == pytest.approx(tuple(-(linear @ drawn)), abs=0.02)


def test_both_ways_of_taking_bands_apart_agree() -> None:
    """Whole integer images go without weights, others with them."""
    image = (torch.rand(3, 4, 40, 40) * 60_000).to(torch.uint16)
    compose = Compose([RandomRotation(20, p=1.0), RandomBandShift((0.3, 0.3), p=1.0)])
    batch = {"image": image, "key": sample_keys(0, range(3))}
    whole = compose(batch)
    weighed = compose({**batch, "image": image.to(torch.float32)})
    assert torch.equal(whole["valid"], weighed["valid"])
    kept = whole["valid"].expand_as(whole["image"])
    assert (whole["image"] - weighed["image"])[kept].abs().max() < 6  # of 60 000


def test_shifts_keep_the_requirement() -> None:
    compose = Compose([RandomBandShift((0.1, 0.1), p=1.0)])
    params = compose.plan({"image": torch.zeros(4000, 3, 2, 2), "key": sample_keys(0, range(4000))}).drawn[0].params
    moves = torch.stack((params["shift_x"][:, 1:], params["shift_y"][:, 1:]))
    assert float(moves.std()) == pytest.approx(0.1, rel=0.03)
    assert float(moves.abs().max()) <= 0.3 + 1e-9


def test_mistakes_are_named() -> None:
    with pytest.raises(ConfigurationError, match="mtf"):
        RandomPointSpread((0.5, 1.5))
    with pytest.raises(ConfigurationError, match="present=0"):
        RandomPointSpread(present=0.0)
    with pytest.raises(ConfigurationError, match="factor"):
        RandomResolution((0.5, 2.0))
