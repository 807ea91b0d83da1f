"""Radar: speckle by its moments and its distribution, in whatever unit the image is stored."""

import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from geoaug import Compose, get_sensor
from geoaug.augment import (
    RandomD4,
    RandomHaze,
    RandomIncidenceAngle,
    RandomRotation,
    RandomSpeckle,
    RandomThermalNoise,
)
from geoaug.augment.kernels.radiometry import cube_of_normal
from geoaug.errors import ConfigurationError
from geoaug.rng.draws import sample_keys

UNITS = ("sentinel-1-power", "sentinel-1-db", "sentinel-1-grd")
SIDE = 512


def stored(power: Tensor, name: str) -> Tensor:
    """Power as the sensor stores it."""
    quantity = get_sensor(name).quantity
    return {"power": power, "db": 10 * power.clamp_min(1e-30).log10(), "amplitude": power.sqrt()}[str(quantity)]


def speckled(looks: float, mean: float = 0.1, seed: int = 0) -> Tensor:
    gamma = np.random.default_rng(seed).gamma(looks, 1 / looks, (1, 2, SIDE, SIDE))
    return torch.from_numpy(mean * gamma).float()


def looks_of(power: Tensor) -> float:
    values = power.double()
    return float(values.mean() ** 2 / values.var())


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("looks", [1.0, 2.0, 3.0])
def test_looks_come_back_out(looks: float, unit: str) -> None:
    mean = 0.1 if unit != "sentinel-1-grd" else 40_000.0
    key = sample_keys(1, [0])
    for present, image in ((4.4, speckled(4.4, mean)), (math.inf, torch.full((1, 2, SIDE, SIDE), mean))):
        compose = Compose([RandomSpeckle((looks, looks), present=present, p=1.0)], sensor=unit)
        out = compose({"image": stored(image, unit), "key": key})["image"]
        for band in range(2):
            assert looks_of(out[0, band]) == pytest.approx(looks, rel=0.03)
            assert float(out[0, band].double().mean()) == pytest.approx(mean, rel=0.01)


def test_speckle_is_only_added() -> None:
    image = speckled(4.4)
    out = Compose([RandomSpeckle((4.4, 20.0), p=1.0)], sensor="sentinel-1-power")({"image": image})["image"]
    assert torch.allclose(out, image, rtol=1e-6)


@pytest.mark.parametrize(("looks", "distance"), [(1.0, 0.03), (3.0, 0.004), (10.0, 0.003)])
def test_speckle_is_gamma_distributed(looks: float, distance: float) -> None:
    compose = Compose([RandomSpeckle((looks, looks), present=math.inf, p=1.0)], sensor="sentinel-1-power")
    out = compose({"image": torch.ones(1, 2, SIDE, SIDE), "key": sample_keys(0, [0])})["image"]
    sample = out.double().flatten().numpy()
    assert stats.kstest(sample, stats.gamma(looks, scale=1 / looks).cdf).statistic < distance
    assert sample.min() >= 0


def test_the_cube_has_its_moments_exactly() -> None:
    variance = torch.tensor([1e-6, 0.05, 0.2, 0.5, 1.0, 2.0], dtype=torch.float64)
    shift, scale = cube_of_normal(variance)
    nodes, weights = np.polynomial.hermite_e.hermegauss(20)
    weights = weights / weights.sum()
    for a, b, v in zip(shift.tolist(), scale.tolist(), variance.tolist(), strict=True):
        value = (a + b * nodes) ** 3
        assert weights @ value == pytest.approx(1.0, abs=1e-9)
        assert weights @ value**2 - (weights @ value) ** 2 == pytest.approx(v, rel=1e-6)


@pytest.mark.parametrize("unit", UNITS)
def test_what_was_stored_comes_back_in_its_unit(unit: str) -> None:
    power = speckled(4.4, 0.1 if unit != "sentinel-1-grd" else 1e5)[..., :64, :64]
    batch = {"image": stored(power, unit), "key": sample_keys(0, [0])}
    sensor = get_sensor(unit)
    turned = Compose([RandomD4()], sensor=sensor, out_units="dn")
    plain = Compose([RandomD4()])(batch)["image"]
    assert torch.equal(turned(batch)["image"], plain)  # bit for bit: nothing was decoded
    assert torch.allclose(Compose([], sensor=sensor)(batch)["image"], power, rtol=1e-5)
    assert torch.allclose(Compose([], sensor=sensor, out_units="db")(batch)["image"], 10 * power.log10(), atol=1e-4)
    there = Compose([RandomSpeckle(p=1.0)], sensor=sensor, out_units="dn")(batch)["image"]
    linear = Compose([RandomSpeckle(p=1.0)], sensor=sensor)(batch)["image"]
    assert torch.allclose(there, stored(linear, unit), rtol=1e-4, atol=1e-4)


def test_backscatter_is_interpolated_as_power() -> None:
    power = speckled(4.4)[..., :48, :48]
    key = sample_keys(0, [0])
    outs = [
        Compose([RandomRotation((30, 30), p=1.0)], sensor=unit)({"image": stored(power, unit), "key": key})["image"]
        for unit in UNITS
    ]
    for out in outs[1:]:
        assert torch.allclose(out, outs[0], rtol=1e-4, atol=1e-6)


def test_nodata_that_would_decode_to_infinity_does_not_bleed() -> None:
    image = torch.full((1, 2, 16, 16), -10.0)
    valid = torch.ones(1, 1, 16, 16, dtype=torch.bool)
    image[..., 5, 5], valid[..., 5, 5] = 3e38, False
    image[..., 9, 9], valid[..., 9, 9] = -torch.inf, False
    turned = Compose([RandomRotation((10, 10), p=1.0), RandomSpeckle(p=0.0)], sensor="sentinel-1-db")
    out = turned({"image": image, "valid": valid, "key": sample_keys(0, [0])})
    kept = out["image"][out["valid"].expand(-1, 2, -1, -1)]
    assert torch.allclose(kept, torch.tensor(0.1), rtol=1e-4)


def test_thermal_noise_lifts_the_dark() -> None:
    for level in (0.0, 0.001, 0.1):
        compose = Compose([RandomThermalNoise((-22, -22), p=1.0)], sensor="sentinel-1-power")
        out = compose({"image": torch.full((1, 2, SIDE, SIDE), level), "key": sample_keys(0, [0])})["image"].double()
        noise = 10**-2.2
        assert float(out.mean()) == pytest.approx(level + noise, rel=0.01)
        assert float(out.var()) == pytest.approx(noise**2 / 4.4, rel=0.03)
    with pytest.raises(ConfigurationError, match="uncalibrated amplitudes"):
        Compose([RandomThermalNoise()], sensor="sentinel-1-grd")


def test_a_flatter_view_scatters_less_back() -> None:
    compose = Compose([RandomIncidenceAngle(6, 35, 2, p=1.0)], sensor="sentinel-1-power")
    out = compose({"image": torch.full((1, 2, 4, 4), 0.2), "key": sample_keys(0, [0])})["image"]
    expected = 0.2 * (math.cos(math.radians(41)) / math.cos(math.radians(35))) ** 2
    assert torch.allclose(out, torch.tensor(expected, dtype=torch.float32), rtol=1e-5)


def test_optical_and_radar_refuse_each_other() -> None:
    with pytest.raises(
        ConfigurationError, match=r"RandomSpeckle is for sar .* is optical, for which .* preset 'standard'"
    ):
        Compose([RandomSpeckle()], sensor="sentinel-2-l1c")
    with pytest.raises(
        ConfigurationError, match=r"RandomHaze is for optical images; .* is sar, .* preset 'sentinel-1'"
    ):
        Compose([RandomHaze()], sensor="sentinel-1-db")
    with pytest.raises(ConfigurationError, match="out_units='db' is for backscatter"):
        Compose([], sensor="sentinel-2-l1c", out_units="db")
    with pytest.raises(ConfigurationError, match=r"present=0\.1"):
        RandomSpeckle(present=0.1)
