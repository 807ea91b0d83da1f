"""How pictures are made: JPEG against Pillow, white balance against Planck's law, tone and sharpening against numpy."""

import io
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage
from torch import Tensor, nn

from geoaug import Compose, get_sensor
from geoaug.augment import RandomJPEG, RandomSharpening, RandomTone, RandomWhiteBalance
from geoaug.errors import ConfigurationError
from geoaug.rng.draws import sample_keys
from geoaug.sensors import Sensor

RGB, RGBN, STRAIGHT = get_sensor("rgb"), get_sensor("rgbn"), get_sensor("sentinel-2-tci")


def scene(bands: int = 3, height: int = 64, width: int = 80, samples: int = 1) -> Tensor:
    """Fields, edges and texture of 8 bits, colours that go together."""
    rng = np.random.default_rng(1)
    images = []
    for _ in range(samples):
        large = ndimage.gaussian_filter(rng.normal(size=(height, width)), 6) * 8
        fields = np.digitize(large, [-0.5, 0.0, 0.4]) * 40 + 40
        texture = ndimage.gaussian_filter(rng.normal(size=(height, width)), 0.7) * 15
        hue = ndimage.gaussian_filter(rng.normal(size=(bands, height, width)), (0, 4, 4)) * 80
        images.append(np.clip(fields + texture + hue, 0, 255))
    return torch.from_numpy(np.stack(images)).to(torch.uint8)


def done(operation: nn.Module, image: Tensor, sensor: Sensor | None = RGB, **more: Any) -> np.ndarray:
    """Digital numbers, unrounded."""
    compose = Compose([operation], sensor=sensor, out_units="dn", executor="torch", **more)
    result: Tensor = compose({"image": image, "key": sample_keys(2, range(len(image)))})["image"]
    return result.double().numpy()


def by_pillow(image: Tensor, quality: int) -> np.ndarray:
    file = io.BytesIO()
    grey = len(image) == 1
    pixels = image[0].numpy() if grey else image.permute(1, 2, 0).numpy()
    Image.fromarray(pixels).save(file, "JPEG", quality=quality, **({} if grey else {"subsampling": 2}))
    found = np.asarray(Image.open(io.BytesIO(file.getvalue()))).astype(float)
    return found[None] if grey else found.transpose(2, 0, 1)


@pytest.mark.parametrize("sensor", [RGB, STRAIGHT], ids=lambda sensor: sensor.name)
@pytest.mark.parametrize("quality", [20, 50, 75, 95, 100])
def test_jpeg_is_that_of_libjpeg(quality: int, sensor: Sensor) -> None:
    image = scene(height=61, width=83)  # no whole number of blocks
    out = done(RandomJPEG((quality, quality), whole=True, p=1.0), image, sensor)[0]
    theirs = by_pillow(image[0], quality)
    assert np.abs(out - np.round(out)).max() < 2e-3
    loss = np.abs(theirs - image[0].numpy()).mean()
    assert np.abs(out - theirs).mean() < 0.5 < loss
    assert np.abs(out - image[0].numpy()).mean() == pytest.approx(loss, rel=0.02)


def test_bands_beside_the_colours_are_pictures_in_grey() -> None:
    image = scene(4)
    out = done(RandomJPEG((60, 60), whole=True, p=1.0), image, RGBN)[0]
    assert np.abs(out[3:] - by_pillow(image[0, 3:], 60)).mean() < 0.15
    assert np.abs(out[:3] - by_pillow(image[0, :3], 60)).mean() < 0.5


def test_a_tile_begins_anywhere_in_its_picture() -> None:
    image = scene(1, samples=8)
    grey = RGB.select(["green"])
    operation = RandomJPEG((40, 40), p=1.0)
    batch = {"image": image, "key": sample_keys(2, range(8))}
    phase = Compose([operation], sensor=grey).plan(batch).drawn[0].params["phase"].long()
    assert len({tuple(row) for row in phase.tolist()}) > 5
    out = done(operation, image, grey)
    for number, (down, across) in enumerate(phase.tolist()):
        padded = np.pad(image[number].numpy(), ((0, 0), (down, 0), (across, 0)), mode="edge")
        theirs = by_pillow(torch.from_numpy(padded), 40)[:, down:, across:]
        assert np.abs(out[number] - theirs).mean() < 0.1 * np.abs(theirs - image[number].numpy()).mean()


def test_a_second_file_of_the_same_quality_loses_little_more() -> None:
    image = scene()
    operation = RandomJPEG((50, 50), whole=True, p=1.0)
    once = done(operation, image)
    twice = done(operation, torch.from_numpy(once).round().to(torch.uint8))
    assert np.abs(twice - once).mean() < 0.25 * np.abs(once - image.numpy()).mean()


def planck(wavelength_m: float, kelvin: float) -> float:
    exponent = 6.62607015e-34 * 2.99792458e8 / (wavelength_m * 1.380649e-23 * kelvin)
    return float(wavelength_m**-5 / np.expm1(exponent))


@pytest.mark.parametrize("kelvin", [4500.0, 6500.0])
def test_white_balance_follows_planck(kelvin: float) -> None:
    operation = RandomWhiteBalance((1e6 / kelvin - 1e6 / 5500,) * 2, tint=0.0, p=1.0)
    grey = torch.full((1, 4, 6, 6), 118, dtype=torch.uint8)
    out = done(operation, grey, RGBN)[0, :, 0, 0] / 255
    light = ((out + 0.055) / 1.055) ** 2.4 / ((118 / 255 + 0.055) / 1.055) ** 2.4
    wanted = np.array([planck(nm * 1e-9, kelvin) / planck(nm * 1e-9, 5500.0) for nm in (635, 560, 460, 860)])
    wanted /= np.exp(np.log(wanted).mean())
    assert light == pytest.approx(wanted, rel=1e-4)
    assert (out[2] > out[0]) == (kelvin > 5500)


def test_white_balance_leaves_black_black_and_tints_green() -> None:
    dark = replace(RGB, bands=tuple(replace(band, black=0.05) for band in RGB.bands))
    ground = torch.tensor([0, 128], dtype=torch.uint8).view(1, 1, 1, 2).expand(1, 3, 4, 2).contiguous()
    out = done(RandomWhiteBalance((30, 30), (0.05, 0.05), p=1.0), ground, dark)[0]
    assert np.abs(out[:, :, 0]).max() < 1e-3
    plain = done(RandomWhiteBalance((30, 30), 0.0, p=1.0), ground, dark)[0]
    assert out[1, 0, 1] > plain[1, 0, 1]
    assert out[0, 0, 1] < plain[0, 0, 1]


@pytest.mark.parametrize("sensor", [None, RGB, STRAIGHT], ids=["none", "curved", "straight"])
@pytest.mark.parametrize(("gamma", "contrast"), [(1.0, 0.3), (0.8, 0.0), (1.2, -0.15)])
def test_tone_is_one_curve_that_keeps_black_and_white(gamma: float, contrast: float, sensor: Sensor | None) -> None:
    values = torch.arange(256, dtype=torch.uint8).repeat(3, 1).view(1, 3, 16, 16)
    operation = RandomTone((gamma, gamma), (contrast, contrast), p=1.0)
    image = values if sensor is not None else values / 255
    out = done(operation, image, sensor)[0] / (255 if sensor is not None else 1)
    v = (np.arange(256) / 255) ** gamma
    wanted = v - contrast * np.sin(2 * np.pi * v) / (2 * np.pi)
    assert np.abs(out.reshape(3, 256) - wanted).max() < 1e-4
    assert (np.diff(out.reshape(3, 256)) > 0).all()


def test_sharpening_is_an_unsharp_mask_of_display_values() -> None:
    image = scene()
    out = done(RandomSharpening((0.7, 0.7), (0.8, 0.8), p=1.0), image)[0]
    shown = image[0].double().numpy()
    weights = np.exp(-((np.arange(-3, 4) / 0.8) ** 2) / 2)
    weights /= weights.sum()
    blurred = ndimage.convolve1d(ndimage.convolve1d(shown, weights, axis=1), weights, axis=2)
    wanted = (shown + 0.7 * (shown - blurred)).clip(0, 255)
    inner = (slice(None), slice(4, -4), slice(4, -4))
    assert np.abs(out - wanted)[inner].max() < 0.01
    flat = torch.full((1, 3, 20, 20), 90, dtype=torch.uint8)
    assert np.abs(done(RandomSharpening((0.8, 0.8), p=1.0), flat) - 90).max() < 1e-2


@pytest.mark.parametrize("operation", [RandomJPEG, RandomSharpening, RandomTone, RandomWhiteBalance])
def test_images_that_hold_reflectance_are_refused_with_the_reason(operation: type[nn.Module]) -> None:
    with pytest.raises(ConfigurationError, match="'sentinel-2-l2a' measures reflectance"):
        Compose([operation(p=1.0)], sensor="sentinel-2-l2a")
    with pytest.raises(ConfigurationError, match="optical"):
        Compose([operation(p=1.0)], sensor="sentinel-1-grd")
