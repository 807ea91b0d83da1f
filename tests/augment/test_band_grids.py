"""Noise on the pixels that each band has, against white noise that GDAL brings to the tile's pixels."""

import json
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from affine import Affine
from rasterio.warp import Resampling, reproject
from scipy import stats
from torch import Tensor

from geoaug import Compose, get_sensor, load_recipe
from geoaug.augment import (
    RandomAffine,
    RandomCrop,
    RandomD4,
    RandomQuantization,
    RandomRotation,
    RandomSensorNoise,
    Resize,
)
from geoaug.augment.operations.sensor_noise import noise_slope
from geoaug.augment.planning.plan import Plan
from geoaug.errors import ConfigurationError
from geoaug.rng.draws import sample_keys
from geoaug.sensors import Sensor

S2 = get_sensor("sentinel-2-l1c")
LEVEL = 2000.0
Array = npt.NDArray[np.float64]


def transform_of(pixel: float, east: float = 600_000.0, north: float = 5_400_000.0, batch: int = 1) -> Tensor:
    return torch.tensor([[pixel, 0, east, 0, -pixel, north]], dtype=torch.float64).expand(batch, 6)


def noise_of(
    operations: list[torch.nn.Module], batch: int = 1, side: int = 96, sensor: Sensor = S2, seed: int = 0, **more: Any
) -> Tensor:
    """What noise adds to a flat image, in standard deviations that the sensor has at its level."""
    extra = {name: more.pop(name) for name in ("transform", "valid") if name in more}
    image = torch.full((batch, len(sensor.bands), side, side), LEVEL)
    given = {"image": image, "key": sample_keys(seed, range(batch)), **extra}
    noise = RandomSensorNoise((1, 1), sun_elevation=90.0, p=1.0)
    compose = Compose([*operations, noise], sensor=sensor, executor="torch", **more)
    slopes = torch.tensor([noise_slope(band) for band in sensor.bands], dtype=torch.float64)
    reflectance = LEVEL / 10_000
    return (compose(given)["image"].double() - reflectance) / (slopes * reflectance).sqrt()[:, None, None]


def by_gdal(coarse: Array, ratio: int, kernel: str) -> Array:
    """Planes (n, h, w) on pixels `ratio` times as fine."""
    side = coarse.shape[1] * ratio
    fine = np.zeros((len(coarse), side, side))
    grids = [Affine(10.0 * size, 0, 600_000, 0, -10.0 * size, 5_400_000) for size in (ratio, 1)]
    reproject(
        coarse,
        fine,
        src_transform=grids[0],
        dst_transform=grids[1],
        src_crs="EPSG:32632",
        dst_crs="EPSG:32632",
        resampling=Resampling[kernel],
    )
    return fine


@pytest.mark.parametrize("kernel", ["bilinear", "cubic"])
def test_noise_is_what_gdal_makes_of_noise_on_the_bands_pixels(kernel: str) -> None:
    """By the nearest pixel the draws show as they are; GDAL brings these very draws to the tile's pixels."""
    blocks = noise_of([], band_resampling="nearest")[0].numpy()
    found = noise_of([], band_resampling=kernel)[0].numpy()
    for band, ratio in ((0, 6), (4, 2), (11, 2)):
        drawn = blocks[band, ::ratio, ::ratio]
        assert np.array_equal(np.kron(drawn, np.ones((ratio, ratio))), blocks[band])
        inner = slice(2 * ratio, -2 * ratio)
        expected = by_gdal(drawn[None], ratio, kernel)[0]
        assert np.abs(found[band] - expected)[inner, inner].max() < 1e-3


def correlations(planes: Array, lags: int) -> Array:
    """Variance, and covariance along both axes at each lag."""
    along = [(planes[..., lag:] * planes[..., : planes.shape[-1] - lag]).mean() for lag in range(lags)]
    down = [(planes[..., lag:, :] * planes[..., : planes.shape[-2] - lag, :]).mean() for lag in range(lags)]
    return np.array([along, down])


@pytest.mark.parametrize("kernel", ["nearest", "bilinear", "cubic"])
def test_correlation_and_spectrum_are_those_of_upsampled_white_noise(kernel: str) -> None:
    found = noise_of([], batch=12, side=96, band_resampling=kernel).numpy()
    rng = np.random.default_rng(0)
    for bands, ratio in (([0, 9, 10], 6), ([4, 5, 6, 8, 11, 12], 2)):
        side = 96 // ratio
        white = rng.standard_normal((300, side + 4, side + 4))
        inner = slice(2 * ratio, -2 * ratio)
        expected = by_gdal(white, ratio, kernel)[:, inner, inner]
        planes = found[:, bands].reshape(-1, 96, 96)
        here, there = correlations(planes, 2 * ratio), correlations(expected, 2 * ratio)
        # Independent points of the lattice are what makes the means of products differ from one draw to the next.
        slack = 5 * np.sqrt(1 / (len(planes) * side**2) + 1 / (len(white) * side**2))
        assert np.abs(here - there).max() < slack
        powers = [np.mean(np.abs(np.fft.rfft2(part)) ** 2, axis=0) for part in (planes, expected)]
        for low, high in ((0.0, 0.1), (0.1, 0.2), (0.2, 0.35), (0.35, 0.8)):
            distance = np.hypot(np.fft.fftfreq(96)[:, None], np.fft.rfftfreq(96))
            ring = (distance >= low) & (distance < high)
            ours, theirs = (power[ring].sum() / power.sum() for power in powers)
            assert ours == pytest.approx(theirs, rel=0.12, abs=1e-4)


def test_at_the_pixels_of_a_band_noise_has_the_variance_that_its_snr_says() -> None:
    found = noise_of([], batch=20, side=96, band_resampling="nearest")
    for band, ratio in ((0, 6), (4, 2), (1, 1)):
        drawn = found[:, band, ::ratio, ::ratio]
        assert stats.chi2(drawn.numel()).cdf(float(drawn.square().sum())) == pytest.approx(0.5, abs=0.4995)


def test_bands_as_fine_as_the_tile_keep_their_noise_to_the_bit() -> None:
    unknown = replace(S2, bands=tuple(replace(band, gsd_m=None) for band in S2.bands))
    fine = [band.gsd_m == 10 for band in S2.bands]
    before, after = noise_of([RandomRotation(20, p=1.0)], sensor=unknown), noise_of([RandomRotation(20, p=1.0)])
    assert torch.equal(before[:, fine], after[:, fine])
    assert not torch.equal(before, after)
    # Where pixels of the tile are those of the coarsest band, or nearly, no band is coarser.
    for pixel in (60.0, 57.6, 100.0):
        assert torch.equal(noise_of([], transform=transform_of(pixel)), noise_of([], sensor=unknown))
    # And on tiles of 5 m, all of them are.
    halved = noise_of([], transform=transform_of(5.0), band_resampling="nearest")
    assert torch.equal(halved[:, 1, ::2], halved[:, 1, 1::2])


def edges(plane: Tensor) -> tuple[list[int], list[int]]:
    """Columns and rows at which a new pixel of a band begins."""
    return tuple(
        (torch.nonzero((plane.diff(dim=axis).abs() > 1e-6).any(1 - axis))[:, 0] + 1).tolist() for axis in (1, 0)
    )  # type: ignore[return-value]


def test_pixels_of_a_band_lie_on_the_map_and_stay_there() -> None:
    given = transform_of(10.0, 600_020.0, 5_399_990.0)
    columns, rows = edges(noise_of([], transform=given, band_resampling="nearest")[0, 0])
    assert columns == list(range(4, 96, 6))  # 600 060 m is the next multiple of 60
    assert rows == list(range(5, 96, 6))
    image = torch.full((6, 13, 96, 96), LEVEL)
    batch = {"image": image, "key": sample_keys(3, range(6)), "transform": given.expand(6, 6)}
    turns: list[torch.nn.Module] = [RandomD4(), RandomCrop(61)]
    out = Compose([*turns, RandomSensorNoise((1, 1), p=1.0)], sensor=S2, band_resampling="nearest", executor="torch")(
        batch
    )
    kinds = set()
    for plane, transform in zip(out["image"][:, 0], out["transform"], strict=True):
        a, b, c, d, e, f = transform.tolist()
        columns, rows = edges(plane)
        kinds.add((a, b))
        for at in columns:
            assert ((a * at + c) if a else (d * at + f)) % 60 == 0
        for at in rows:
            assert ((e * at + f) if a else (b * at + c)) % 60 == 0
        assert len(columns) >= 9
    assert len(kinds) > 2


def test_pixels_of_a_band_keep_their_size_on_the_ground() -> None:
    twice = noise_of([RandomAffine(scale=(2.0, 2.0), p=1.0)], band_resampling="nearest")
    columns, _ = edges(twice[0, 0])
    assert set(np.diff(columns)) == {12}
    assert set(np.diff(edges(twice[0, 1])[0])) == {1}  # a pixel of its own for each that was read
    ratio = noise_of([RandomAffine(scale=(1.25, 1.25), p=1.0)], band_resampling="nearest")
    assert set(np.diff(edges(ratio[0, 4])[0])) == {2, 3}
    half = noise_of([Resize(48)], band_resampling="nearest")
    assert set(np.diff(edges(half[0, 4])[0])) == {1}
    assert set(np.diff(edges(half[0, 0])[0])) == {3}


def test_a_samples_noise_is_the_same_in_every_batch_and_from_json() -> None:
    batch = {
        "image": torch.full((5, 13, 40, 33), LEVEL),
        "key": sample_keys(1, range(5)),
        "transform": torch.cat([transform_of(pixel) for pixel in (10.0, 20.0, 60.0, 4.0, 10.0)]),
    }
    compose = Compose(
        [RandomAffine(20, scale=(0.6, 1.5), p=0.7), RandomSensorNoise(p=0.7)], sensor=S2, executor="torch"
    )
    plan = compose.plan(batch)
    together = compose.apply(batch, plan)["image"]
    assert torch.equal(together, compose.apply(batch, Plan.from_dict(json.loads(json.dumps(plan.to_dict()))))["image"])
    for n in range(5):
        alone = compose({name: value[n : n + 1] for name, value in batch.items()})["image"]
        assert torch.equal(alone, together[n : n + 1])
    # Invalid pixels change nothing for the others.
    valid = torch.rand(5, 1, 40, 33, generator=torch.Generator().manual_seed(0)) > 0.2
    still = Compose([RandomSensorNoise(p=0.7)], sensor=S2, executor="torch")
    whole, holes = still(batch)["image"], still({**batch, "valid": valid})["image"]
    assert torch.equal(torch.where(valid, whole, 0.0), holes)


def test_bands_in_any_order_and_dates_of_a_series() -> None:
    reverse = S2.select(S2.band_names[::-1])
    found = noise_of([], sensor=reverse, side=48, band_resampling="nearest")
    ratios = [round((band.gsd_m or 0) / 10) for band in reverse.bands]
    assert [int(np.diff(edges(plane)[0]).min()) for plane in found[0]] == ratios
    only = S2.select("B11,B12")  # the tile is taken to be as fine as the finest
    assert set(np.diff(edges(noise_of([], sensor=only, band_resampling="nearest")[0, 0])[0])) == {1}
    series = {"image": torch.full((2, 3, 13, 36, 36), LEVEL), "key": sample_keys(0, range(2))}
    compose = Compose([RandomSensorNoise((1, 1), p=1.0)], sensor=S2, band_resampling="nearest", executor="torch")
    out = compose(series)["image"]
    assert torch.equal(out[:, :, 0, ::6], out[:, :, 0, 5::6])
    assert not torch.equal(out[:, 0], out[:, 1])


def test_noise_before_and_after_steps_is_two_noises() -> None:
    operations = [RandomSensorNoise((1, 1), sun_elevation=90.0, p=1.0), RandomQuantization((16, 16), p=1.0)]
    found = noise_of([*operations], batch=8, band_resampling="nearest")
    assert float(found[:, 0].var()) == pytest.approx(2.0, rel=0.12)
    assert torch.equal(found[0, 0, 0], found[0, 0, 5])


def test_steps_are_those_of_the_bands_own_numbers() -> None:
    """The coarse image, rounded and then brought to the tile's pixels by GDAL, is the tile rounded by the operation."""
    rng = np.random.default_rng(0)
    step = 1 / (2**5 - 1)
    for band, ratio in ((0, 6), (4, 2)):
        side = 96 // ratio
        coarse = 0.3 + 0.05 * np.cumsum(rng.standard_normal((1, side, side)), axis=2) / side**0.5
        rounded = np.round(coarse / step) * step
        for kernel in ("nearest", "cubic"):
            image = torch.full((1, 13, 96, 96), 3000.0)
            image[0, band] = torch.from_numpy(by_gdal(coarse, ratio, kernel)[0] * 10_000)
            compose = Compose([RandomQuantization((5, 5), p=1.0)], sensor=S2, band_resampling=kernel, executor="torch")  # type: ignore[arg-type]
            out = compose({"image": image})["image"][0].double().numpy()
            error = np.abs(out[band] - by_gdal(rounded, ratio, kernel)[0])[
                2 * ratio : -2 * ratio, 2 * ratio : -2 * ratio
            ]
            if kernel == "nearest":
                assert error.max() < 1e-5
            # By cubic, values at the points of the lattice come from four pixels beside them, and may round elsewhere.
            assert np.median(error) < 0.1 * step
            assert (error < 0.25 * step).mean() > 0.8
    plain = out[1]
    assert np.abs(plain / step - np.round(plain / step)).max() < 1e-4


def test_the_recipe_tells_how_bands_came_to_the_tile() -> None:
    recipe = load_recipe({"band_resampling": "nearest", "operations": ["RandomSensorNoise"]})
    assert recipe.compose(sensor=S2).band_resampling == "nearest"
    assert recipe.compose(sensor=S2, band_resampling="bilinear").band_resampling == "bilinear"
    assert recipe.resolved()["band_resampling"] == "nearest"
    assert "band_resampling" not in load_recipe("standard").resolved()
    with pytest.raises(ConfigurationError, match="band_resampling='average' is not one of 'nearest'"):
        Compose([], band_resampling="average")  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="band_resampling"):
        load_recipe({"band_resampling": "average", "operations": []})
