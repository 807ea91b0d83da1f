"""Radiometric operations against closed forms and the moments of what they draw."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor

from geoaug import Compose, get_sensor, load_recipe
from geoaug.augment import RandomBandDropout, RandomHaze, RandomIllumination, RandomSensorNoise
from geoaug.augment.operations.base import TileShape
from geoaug.augment.operations.sensor_noise import noise_slope
from geoaug.augment.planning.matrices import Size
from geoaug.augment.planning.terms import Terms
from geoaug.errors import ConfigurationError
from geoaug.rng.draws import sample_keys
from geoaug.sensors import Sensor, generic_sensor

S2 = get_sensor("sentinel-2-l1c")


def flat(sensor: Sensor, reflectance: float, samples: int = 4, side: int = 64) -> dict[str, Tensor]:
    """Fields of one reflectance, as digital numbers in float32, on pixels that no band is coarser than."""
    scale, offset = torch.tensor(sensor.quantification), torch.tensor(sensor.offset)
    dn = (reflectance * scale - offset)[None, :, None, None].float()
    return {
        "image": dn.expand(samples, -1, side, side).contiguous(),
        "key": sample_keys(0, range(samples)),
        "transform": torch.tensor([60.0, 0, 0, 0, -60, 0], dtype=torch.float64).expand(samples, 6),
    }


finite = st.floats(0.1, 2.0)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(finite, finite, finite, finite), min_size=2, max_size=6), st.floats(0.0, 1.0))
def test_terms_compose_as_random_variables_do(chain: list[tuple[float, float, float, float]], x: float) -> None:
    total = Terms.identity(1, 1, torch.device("cpu"))
    mean, variance = x, 0.0
    for gain, offset, floor, slope in chain:
        step = Terms(*(torch.tensor([[value]], dtype=torch.float64) for value in (gain, offset, floor, slope)))
        total = total.then(step)
        # The law of total variance: what an operation adds depends on the mean that reaches it.
        variance = gain**2 * variance + floor + slope * mean
        mean = gain * mean + offset
    floor_total, slope_total = (float(part) for part in total.variance())
    assert float(total.gain * x + total.offset) == pytest.approx(mean, rel=1e-9)
    assert floor_total + slope_total * x == pytest.approx(variance, rel=1e-9)


@pytest.mark.parametrize("name", ["sentinel-2-l1c", "sentinel-2-l2a", "landsat-8-l2"])
def test_a_chain_equals_its_operations_one_by_one_in_mean_and_variance(name: str) -> None:
    sensor = get_sensor(name)
    operations = [
        RandomIllumination(p=1.0),
        RandomSensorNoise((2, 2), p=1.0),
        RandomHaze((0.2, 0.3), adjacency=False, p=1.0),
        RandomSensorNoise((3, 3), p=1.0),
        RandomIllumination(p=1.0),
    ]
    batch = flat(sensor, 0.2, samples=3, side=128)
    compose = Compose(operations, sensor=sensor)
    plan = compose.plan(batch)
    together = compose.apply(batch, plan)["image"].double()
    one_by_one = torch.full_like(together, 0.2)
    generator = torch.Generator().manual_seed(1)
    for drawn, operation in zip(plan.drawn, operations, strict=True):
        shape = TileShape(3, len(sensor.bands), Size(128, 128), torch.device("cpu"), sensor=sensor)
        (segment,) = operation.segments(drawn.params, shape)
        terms = segment.terms
        floor, slope = (part[..., None, None] for part in terms.variance())
        noise = torch.randn(one_by_one.shape, generator=generator, dtype=torch.float64)
        deviation = (floor + slope * one_by_one).clamp_min(0).sqrt()
        one_by_one = terms.gain[..., None, None] * one_by_one + terms.offset[..., None, None] + deviation * noise
    count = 128 * 128
    spread = one_by_one.std((-2, -1))
    assert ((together.mean((-2, -1)) - one_by_one.mean((-2, -1))).abs() < 6 * spread / math.sqrt(count)).all()
    ratio = together.var((-2, -1)) / one_by_one.var((-2, -1))
    assert ((ratio - 1).abs() < 6 * math.sqrt(4 / count)).all()


@pytest.mark.parametrize("level", [0.02, 0.1, 0.4, 1.2])
def test_noise_has_the_variance_of_the_sensor(level: float) -> None:
    compose = Compose([RandomSensorNoise((1, 1), sun_elevation=90, p=1.0)], sensor=S2)
    out = compose(flat(S2, level, samples=2, side=200))["image"].double()
    count = 2 * 200 * 200
    for index, band in enumerate(S2.bands):
        expected = level * math.pi * band.reference_radiance / band.solar_irradiance / band.snr**2
        statistic = float((out[:, index] - level).square().sum()) / expected
        assert stats.chi2(count).cdf(statistic) == pytest.approx(0.5, abs=0.4999), band.name


def test_signal_to_noise_comes_back_out_at_the_reference_radiance() -> None:
    for index, band in enumerate(S2.bands):
        reflectance = math.pi * band.reference_radiance / band.solar_irradiance
        compose = Compose([RandomSensorNoise((1, 1), sun_elevation=90, p=1.0)], sensor=S2)
        out = compose(flat(S2, reflectance, samples=1, side=256))["image"][0, index].double()
        assert float(out.mean() / out.std()) == pytest.approx(band.snr, rel=0.02), band.name


def test_a_given_signal_to_noise_ratio_needs_no_sensor() -> None:
    image = torch.full((1, 2, 256, 256), 0.1)
    out = RandomSensorNoise((1, 1), snr=50, p=1.0)(image).double()
    assert float(out.mean() / out.std()) == pytest.approx(50, rel=0.02)
    with pytest.raises(ConfigurationError, match="sensor, or snr="):
        Compose([RandomSensorNoise()])


def test_noise_is_independent_between_bands_and_samples() -> None:
    compose = Compose([RandomSensorNoise((1, 1), p=1.0)], sensor=S2)
    out = compose(flat(S2, 0.2, samples=2, side=128))["image"].double().reshape(26, -1)
    correlation = np.corrcoef(out.numpy()) - np.eye(26)
    assert np.abs(correlation).max() < 6 / 128


def test_unknown_radiometry_falls_back_to_the_documented_ratio() -> None:
    assert noise_slope(generic_sensor(1, 1.0).bands[0]) == pytest.approx(0.1 / 100**2)


def test_haze_lifts_blue_over_dark_ground_and_lowers_contrast_everywhere() -> None:
    sensor = S2.select("B02,B04,B08,B12")
    compose = Compose([RandomHaze((0.3, 0.3), p=1.0)], sensor=sensor)
    dark, bright = (compose(flat(sensor, level, samples=1, side=2))["image"][0, :, 0, 0] for level in (0.02, 0.4))
    added = dark - 0.02
    assert (added[:-1] > added[1:]).all()
    assert added[0] > 0
    contrast = (bright - dark) / (0.4 - 0.02)
    assert (contrast < 1).all()
    assert (contrast[:-1] < contrast[1:]).all()


def test_illumination_stays_in_its_range_and_bands_move_little_apart() -> None:
    sensor = generic_sensor(6, 10000.0)
    compose = Compose([RandomIllumination((0.8, 1.25), 0.02, p=1.0)], sensor=sensor)
    out = compose(flat(sensor, 0.3, samples=4000, side=1))["image"][..., 0, 0].double() / 0.3
    common, apart = out.mean(1), out / out.mean(1, keepdim=True)
    assert common.min() > 0.8 * 0.94
    assert common.max() < 1.25 * 1.06
    assert float(common.log().mean()) == pytest.approx(0.0, abs=0.01)
    assert float(apart.std()) == pytest.approx(0.02 * math.sqrt(5 / 6), rel=0.05)


@pytest.mark.parametrize(("bands", "most"), [(1, 1), (2, 5), (4, 1), (13, 3)])
def test_band_dropout_loses_what_it_says_and_never_all(bands: int, most: int) -> None:
    sensor = generic_sensor(bands, 10000.0)
    compose = Compose([RandomBandDropout(most, fill=0.5, p=1.0)], sensor=sensor)
    out = compose(flat(sensor, 0.1, samples=600, side=2))["image"]
    lost = (out[..., 0, 0] - 0.5).abs() < 1e-6
    counts = lost.sum(1)
    assert set(counts.tolist()) == (set(range(1, min(most, bands - 1) + 1)) or {0})
    if bands > 1:
        assert stats.chisquare(lost.sum(0).numpy()).pvalue > 1e-4


def test_the_gate_applies_to_the_share_it_says() -> None:
    sensor = generic_sensor(1, 10000.0)
    compose = Compose([RandomIllumination((2.0, 2.0), 0.0, p=0.3)], sensor=sensor)
    out = compose(flat(sensor, 0.1, samples=3000, side=1))["image"].flatten()
    changed = int((out > 0.15).sum())
    assert stats.binomtest(changed, 3000, 0.3).pvalue > 1e-3
    assert set(out.mul(1000).round().tolist()) == {100.0, 200.0}


@pytest.mark.parametrize("preset", ["light", "standard", "strong"])
@pytest.mark.parametrize("bands", [1, 4, 12, 13, 20])
def test_uint16_passes_every_preset_unclamped(preset: str, bands: int) -> None:
    known = {13: get_sensor("sentinel-2-l1c"), 12: get_sensor("sentinel-2-l2a")}
    sensor = known.get(bands, generic_sensor(bands, 10000.0))
    dn = torch.randint(1, 10001, (24, bands, 48, 48)).to(torch.uint16)
    compose = load_recipe(preset).compose(sensor=sensor, out_units="dn", out_dtype=None, fill=0)
    out = compose({"image": dn, "key": sample_keys(1, range(24))})
    values, valid = out["image"].int(), out["valid"].expand(24, bands, 48, 48)
    kept = values[valid].double()
    assert out["image"].dtype == torch.uint16
    assert kept.mean() > 2500  # not squeezed into [0, 1]
    assert (kept == 1).float().mean() < 0.15  # dropped bands and the darkest pixels, no more
    assert kept.max() < 65535
    bright = kept.max()
    assert bright > 9000
    if preset != "light":
        assert bright > 10000  # reflectance above 1 is allowed
    reflectance = load_recipe(preset).compose(sensor=sensor)({"image": dn, "key": sample_keys(1, range(24))})["image"]
    assert float(reflectance[valid].max()) == pytest.approx(float(bright) / 10000, abs=2e-4)


def test_operations_refuse_what_they_cannot_describe() -> None:
    radar = get_sensor("sentinel-1-grd")
    for operation in (RandomHaze(), RandomIllumination(), RandomSensorNoise()):
        with pytest.raises(ConfigurationError, match="is for optical images"):
            Compose([operation], sensor=radar)
    Compose([RandomBandDropout()], sensor=radar)
    with pytest.raises(ConfigurationError, match="needs to know the bands"):
        Compose([RandomHaze()])
    with pytest.raises(ConfigurationError, match=r"has 3 bands, .* 13"):
        Compose([RandomHaze()], sensor=S2)({"image": torch.zeros(1, 3, 4, 4)})
