"""Haze mixes each pixel with its surroundings: against 6S, and against sums over all pixels."""

import csv
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from geoaug import Compose, get_sensor
from geoaug.augment import RandomHaze, RandomIllumination, RandomRotation, RandomSensorNoise
from geoaug.augment.kernels.coarse import coarse_means
from geoaug.augment.physics.adjacency import ENVIRONMENT, Background, environment
from geoaug.augment.physics.aerosols import KIND_NAMES, angstrom_exponents
from geoaug.augment.planning.maps import Surroundings
from geoaug.augment.planning.matrices import Size, identity
from geoaug.errors import ConfigurationError
from geoaug.rng.draws import sample_keys

L1C = get_sensor("sentinel-2-l1c").select(["B02", "B04", "B8A"])
L2A = get_sensor("sentinel-2-l2a").select(["B02", "B04", "B8A"])
SIXS = list(csv.DictReader(Path(__file__).with_name("sixs_sentinel2.csv").read_text().splitlines()))


def board(side: int, cell: int) -> Tensor:
    y, x = torch.arange(side)[:, None] // cell, torch.arange(side) // cell
    return ((y + x) % 2).float() * 2 - 1


def in_6s(kind: str, band: str, aod: str, ground: Tensor) -> Tensor:
    """Fine detail at the top of the atmosphere: direct light from the pixel, diffuse light from the mean."""
    row = next(
        {name: float(value) for name, value in line.items() if name not in ("aerosol", "band")}
        for line in SIXS
        if (line["aerosol"], line["band"], line["aod550"], line["sun_zenith_deg"]) == (kind, band, aod, "30")
    )
    direct, mean = math.exp(-row["tau_rayleigh"] - row["tau_aerosol"]), float(ground.mean())
    mixed = direct * ground + (row["transmittance_up"] - direct) * mean
    through = row["transmittance_down"] * mixed / (1 - row["spherical_albedo"] * mean)
    return row["path_reflectance"] + through


@pytest.mark.parametrize("kind", KIND_NAMES)
def test_fine_detail_keeps_the_contrast_that_6s_leaves_it(kind: str) -> None:
    ground = 0.15 + 0.05 * board(96, 5)  # fields of 50 m
    own = float(angstrom_exponents(torch.device("cpu"))[KIND_NAMES.index(kind)])
    haze = RandomHaze(0.4, aerosol=kind, angstrom=own, sun_elevation=60, present=0.2, p=1.0)  # type: ignore[arg-type]
    compose = Compose([haze], sensor=L1C, executor="torch")
    for band in L1C.band_names:
        before, after = (in_6s(kind, band, aod, ground) for aod in ("0.2", "0.6"))
        image = (before * 10000).expand(1, 3, 96, 96).contiguous()
        found = compose({"image": image, "key": sample_keys(0, [0])})["image"][0, L1C.index(band)]
        assert float(found.std()) == pytest.approx(float(after.std()), rel=0.03)
        assert float(found.mean()) == pytest.approx(float(after.mean()), rel=0.025)


def test_the_environment_functions_are_those_of_tanre() -> None:
    for aerosol in (True, False):
        assert environment(0, aerosol) == pytest.approx(0)
        shares = [environment(r, aerosol) for r in (0.1, 0.3, 1.0, 3.0, 30.0)]
        assert shares == sorted(shares)
    # Aerosol: a third within 300 m, six tenths within a kilometre; molecules: a tenth within a kilometre.
    assert 0.3 < environment(0.3, True) < 0.4
    assert 0.58 < environment(1.0, True) < 0.64
    assert 0.08 < environment(1.0, False) < 0.2
    assert environment(60, False) == pytest.approx(1, abs=0.01)


def background(image: Tensor, gsd: float, aerosol: float, valid: Tensor | None = None) -> Tensor:
    rows, bands, *size = image.shape
    every = torch.ones(rows, bands, dtype=torch.float64)
    around = Background(torch.full((rows,), gsd).double(), aerosol * every, 0 * every, 0 * every, every, 0 * every)
    cells = Surroundings(cells=lambda: coarse_means(image, valid, identity(rows, image.device), Size(*size)))
    return around.make(Size(*size), cells)


@pytest.mark.parametrize(("gsd", "aerosol"), [(10.0, 1.0), (10.0, 0.0), (30.0, 1.0), (0.6, 1.0)])
def test_the_surroundings_are_the_sum_over_all_pixels(gsd: float, aerosol: float) -> None:
    side = 128
    image = torch.rand(1, 1, side, side, generator=torch.Generator().manual_seed(0)) * 0.2
    image[..., 50:, :70] += 0.5
    found = background(image, gsd, aerosol)[0, 0].numpy()
    y, x = np.mgrid[:side, :side]
    values, pixel = image[0, 0].numpy().astype(float), gsd / 1000
    for row, column in ((10, 10), (64, 64), (47, 66), (100, 20), (127, 127)):
        distance = np.hypot(y - row, x - column) * pixel
        weights = np.zeros((side, side))
        for share, rate in ENVIRONMENT[0 if aerosol else 1]:
            ring = rate * np.exp(-rate * distance) * pixel**2 / (2 * np.pi * np.maximum(distance, pixel / 4))
            ring[row, column] = 1 - np.exp(-rate * pixel / math.sqrt(math.pi))
            weights += share * ring
        beyond = (weights * values).sum() / weights.sum() if aerosol else values.mean()
        expected = (weights * values).sum() + (1 - weights.sum()) * beyond
        assert found[row, column] == pytest.approx(
            expected, abs=0.06 if gsd > 10 else 0.03
        )  # of a step of half; cells are 11 wide


def test_products_that_a_user_lets_be_rough_are_not_used() -> None:
    image = 1000 + 3000 * torch.rand(2, 3, 70, 50, generator=torch.Generator().manual_seed(1))
    batch = {"image": image, "key": sample_keys(0, [0, 1])}
    compose = Compose([RandomHaze(0.4, p=1.0)], sensor=L1C, executor="torch")
    exact = compose(batch)["image"]
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        assert torch.allclose(compose(batch)["image"], exact, rtol=1e-6, atol=1e-7)
    finally:
        torch.set_float32_matmul_precision(before)


def test_surroundings_know_no_invalid_pixel_and_no_other_sample() -> None:
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(5, 3, 60, 50, generator=generator)
    valid = torch.rand(5, 1, 60, 50, generator=generator) > 0.3
    valid[3, :, :, 20:] = False
    clean = background(torch.where(valid, image, 0.0), 10.0, 0.7, valid)
    assert torch.equal(background(torch.where(valid, image, torch.nan), 10.0, 0.7, valid), clean)
    for sample in range(5):
        alone = background(image[sample : sample + 1], 10.0, 0.7, valid[sample : sample + 1])
        assert torch.equal(alone[0], clean[sample])
    # Where little is valid, the mean of what is stands for the rest.
    assert abs(float(clean[3, :, :, 45:].mean()) - 0.5) < 0.05
    assert torch.equal(background(image, 10.0, 0.7, torch.zeros_like(valid)), torch.zeros(5, 3, 60, 50))


def test_ground_of_one_colour_is_its_own_surroundings_whatever_came_before() -> None:
    for sensor, options in ((L1C, {}), (L2A, {"residual": False, "missed": 0.4})):
        image = 3000 + 0 * board(64, 8).expand(2, 3, 64, 64)
        image = image + (1000.0 if sensor is L2A and sensor.offset[0] else 0.0)
        batch = {"image": image.contiguous(), "key": sample_keys(0, [0, 1])}
        haze = RandomHaze(0.4, angstrom=1.0, sun_elevation=50, p=1.0, **options)
        level = RandomHaze(0.4, angstrom=1.0, sun_elevation=50, p=1.0, adjacency=False, **options)
        for before in ([], [RandomIllumination((1.1, 1.1), 0.0, p=1.0)], [RandomSensorNoise((0, 0), p=1.0)]):
            outs = [Compose([*before, each], sensor=sensor, executor="torch")(batch)["image"] for each in (haze, level)]
            assert outs[0].std((2, 3)).max() < 2e-6
            # Light between air and ground adds at most three hundredths.
            ratio = outs[0] / outs[1]
            assert ((ratio > 0.999) & (ratio < 1.03)).all()


def test_a_field_brightens_its_neighbour_less_and_less_with_distance() -> None:
    image = torch.full((1, 3, 128, 128), 1000.0)
    image[..., :64] = 4000.0
    haze = RandomHaze(0.5, angstrom=1.3, p=1.0)
    dark = Compose([haze], sensor=L1C, executor="torch")({"image": image, "key": sample_keys(0, [0])})["image"][
        0, 0, 64, 64:
    ]
    assert (dark[:-1] >= dark[1:] - 1e-4).all()
    assert dark[4] > dark[60] + 0.004


def test_the_surroundings_turn_with_the_tile() -> None:
    image = 1000 + 3000 * torch.rand(1, 3, 96, 96, generator=torch.Generator().manual_seed(1))
    image[..., :30] += 2000
    batch = {"image": image, "key": sample_keys(0, [0])}
    haze = RandomHaze(0.5, angstrom=1.3, sun_elevation=50, p=1.0)
    out = Compose([haze], sensor=L1C, executor="torch")(batch)["image"]
    turned = Compose([RandomRotation((90, 90), p=1.0), haze], sensor=L1C, executor="torch")(batch)["image"]
    assert torch.allclose(turned, torch.rot90(out, 1, (2, 3)), atol=8e-4)  # places in a cell differ


def test_a_map_without_pixels_says_so() -> None:
    around = Background(*(torch.ones(1, dtype=torch.float64),) * 1, *(torch.ones(1, 3, dtype=torch.float64),) * 5)
    with pytest.raises(ValueError, match="cells="):
        around.make(Size(8, 8), Surroundings())
    assert RandomHaze(adjacency=False).flags["adjacency"] is False
    with pytest.raises(ConfigurationError, match="aerosol"):
        RandomHaze(aerosol="fog", adjacency=True)  # type: ignore[arg-type]
