"""What holds for every operation there is: keyed by the sample, replayable, nodata-aware, at home in kornia."""

import inspect
import json
from typing import Any

import kornia.augmentation as K
import pytest
import torch
from torch import Tensor, nn

from geoaug import Compose, get_sensor
from geoaug.augment import (
    RandomBandDropout,
    RandomBandShift,
    RandomCalibration,
    RandomCloud,
    RandomCloudShadow,
    RandomD4,
    RandomHaze,
    RandomIllumination,
    RandomLineDropout,
    RandomPointSpread,
    RandomRotation,
    RandomSensorNoise,
    RandomStriping,
    RandomSunElevation,
    RandomWaterVapour,
)
from geoaug.augment.operations.base import RadiometricOperation, TileShape
from geoaug.augment.operations.policies import Policy
from geoaug.augment.planning.band_grids import band_grids
from geoaug.augment.planning.matrices import Size
from geoaug.augment.planning.plan import Plan
from geoaug.augment.registry import own_operations
from geoaug.rng.draws import sample_keys
from geoaug.sensors import Sensor

S2, S1, RGBN = get_sensor("sentinel-2-l1c"), get_sensor("sentinel-1-power"), get_sensor("rgbn")
# No band of Sentinel-2 is coarser: noise is independent from pixel to pixel.
PIXELS_OF_60_M = torch.tensor([[60.0, 0, 0, 0, -60, 0]], dtype=torch.float64)
ARGUMENTS: dict[str, dict[str, Any]] = {
    "RandomRotation": {"degrees": 30},
    "RandomAffine": {"degrees": 10, "scale": (0.8, 1.2)},
    **{name: {"size": 24} for name in ("RandomCrop", "CenterCrop", "PadTo", "Resize", "RandomResizedCrop")},
}
SIZED = {"RandomCrop", "CenterCrop", "PadTo", "Resize", "RandomResizedCrop"}
EVERY = sorted(own_operations())
RADIOMETRIC = [name for name in EVERY if issubclass(own_operations()[name], RadiometricOperation)]


def sensor_for(name: str) -> Sensor:
    kind = own_operations()[name]
    if getattr(kind, "for_pictures", False):
        return RGBN
    return S1 if getattr(kind, "domain", None) == "sar" else S2


def shape_of(params: dict[str, Tensor], side: int = 160) -> TileShape:
    rows = len(params["batch_prob"])
    cpu = torch.device("cpu")
    grids = band_grids(tuple(band.gsd_m for band in S2.bands), None, None, None, "cubic", rows, cpu)
    return TileShape(rows, len(S2.bands), Size(side, side), cpu, sensor=S2, grids=grids, grids_here=grids)


def built(name: str, **more: Any) -> nn.Module:
    kind = own_operations()[name]
    known = inspect.signature(kind).parameters
    return kind(**ARGUMENTS.get(name, {}), **{key: value for key, value in more.items() if key in known})


def tiles(sensor: Sensor, samples: int = 7, side: int = 40) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(1)
    image = torch.rand(samples, len(sensor.bands), side, side, generator=generator) * 0.5 + 0.05
    scale = torch.tensor(sensor.quantification)[:, None, None]
    return {
        "image": image * scale,
        "mask": torch.randint(0, 4, (samples, side, side), generator=generator),
        "valid": torch.rand(samples, 1, side, side, generator=generator) > 0.1,
        "dem": torch.rand(samples, 1, side, side, generator=generator) * 30,
        "sun_azimuth": torch.full((samples,), 140.0),
        "sun_elevation": torch.full((samples,), 45.0),
        "key": sample_keys(2, range(samples)),
    }


def pick(batch: dict[str, Any], rows: list[int]) -> dict[str, Any]:
    return {name: value[rows] for name, value in batch.items()}


@pytest.mark.parametrize("name", EVERY)
def test_a_sample_does_not_depend_on_its_batch(name: str) -> None:
    sensor = sensor_for(name)
    compose = Compose([built(name, p=0.8)], sensor=sensor)
    batch = tiles(sensor)
    whole = compose(batch)
    for rows in ([3], [6, 0, 3]):
        part = compose(pick(batch, rows))
        for key in ("image", "valid", "mask", *(["cloud"] if "cloud" in whole else [])):
            assert torch.equal(part[key], whole[key][rows]), key


@pytest.mark.parametrize("name", EVERY)
def test_a_plan_goes_through_json_and_replays_exactly(name: str) -> None:
    sensor = sensor_for(name)
    compose = Compose([RandomD4(), built(name, p=0.8)], sensor=sensor)
    batch = tiles(sensor, 4)
    plan = compose.plan(batch)
    back = Plan.from_dict(json.loads(json.dumps(plan.to_dict())))
    first, second = compose.apply(batch, plan), compose.apply(batch, back)
    assert torch.equal(first["image"], second["image"])
    assert torch.equal(first["image"], compose(batch)["image"])
    assert plan.parameters() == back.parameters()
    json.dumps(plan.parameters())


@pytest.mark.parametrize("name", EVERY)
def test_what_stands_in_invalid_pixels_changes_nothing(name: str) -> None:
    sensor = sensor_for(name)
    compose = Compose([built(name, p=1.0)], sensor=sensor, fill=-7.0)
    batch = tiles(sensor, 5)
    clean = compose(batch)
    poison = torch.tensor([0.0, 1e6, torch.nan, torch.inf]).repeat(10)  # from column to column
    out = compose({**batch, "image": torch.where(batch["valid"], batch["image"], poison)})
    assert torch.equal(out["valid"], clean["valid"])
    assert torch.equal(out["image"], clean["image"])
    assert torch.isfinite(clean["image"]).all()
    assert (clean["image"][~clean["valid"].expand_as(clean["image"])] == -7).all()


@pytest.mark.parametrize("name", [name for name in EVERY if not issubclass(own_operations()[name], Policy)])
def test_it_works_alone_in_kornias_container_with_masks(name: str) -> None:
    torch.manual_seed(2)
    sensor = sensor_for(name)
    operation = built(name, p=0.5, sensor=sensor)
    batch = tiles(sensor, 16, 32)
    image = batch["image"] / torch.tensor(sensor.quantification)[:, None, None]
    image[:, :, 3, 3] = torch.nan
    container = K.AugmentationSequential(operation, data_keys=["input", "mask"])
    out, labels = container(image, batch["mask"][:, None, :32, :32].float())
    assert set(labels.unique().tolist()) <= {0.0, 1.0, 2.0, 3.0}
    if name in RADIOMETRIC:
        assert out.shape == image.shape
        missing = out.isnan()
        if not isinstance(operation, RandomBandShift):
            assert not missing[..., torch.arange(32) != 3, :].any()  # NaN never spreads
        assert float(missing.double().mean()) < 0.01
    if name not in SIZED:
        untouched = (torch.nan_to_num(out) == torch.nan_to_num(image)).flatten(1).all(1)
        assert untouched.any() or name == "RandomD4"
        # Level ground is not shaded, and nothing here is bright enough to saturate.
        assert not untouched.all() or name in ("RandomTerrainShading", "RandomSaturation")
    again, _ = container(image, batch["mask"][:, None, :32, :32].float(), params=container._params)
    assert torch.equal(torch.nan_to_num(again), torch.nan_to_num(out))


@pytest.mark.parametrize("name", RADIOMETRIC)
def test_dates_are_drawn_apart_or_together(name: str) -> None:
    sensor = sensor_for(name)
    batch = tiles(sensor, 3, 24)
    image = batch.pop("image")[:, None].expand(-1, 3, -1, -1, -1).contiguous()
    for shared in (False, True):
        operation = built(name, p=1.0, same_on_time=shared)
        plan = Compose([RandomD4(), operation], sensor=sensor).plan({**batch, "image": image})
        params = plan.drawn[1].params
        assert all(len(value) == 9 for value in params.values())
        varies = any(
            not torch.equal(rows[:, 0], rows[:, 1]) for value in params.values() for rows in [value.reshape(3, 3, -1)]
        )
        assert varies != shared
        out = Compose([RandomD4(), operation], sensor=sensor)({**batch, "image": image})
        assert out["image"].shape == image.shape


@pytest.mark.parametrize("name", EVERY)
def test_it_takes_one_band_and_no_samples_and_one_draw_for_all(name: str) -> None:
    sensor = sensor_for(name).select([1])
    batch = tiles(sensor, 3)
    out = Compose([built(name, p=1.0)], sensor=sensor)(batch)
    assert out["image"].shape[1] == 1
    none = Compose([built(name, p=1.0)], sensor=sensor)({key: value[:0] for key, value in batch.items()})
    assert len(none["image"]) == 0
    if "same_on_batch" in inspect.signature(own_operations()[name]).parameters:
        alike = {key: value[:1].expand_as(value).contiguous() for key, value in batch.items()} | {"key": batch["key"]}
        same = Compose([built(name, p=1.0, same_on_batch=True)], sensor=sensor)(alike)
        if name != "RandomSensorNoise":  # one strength, but noise of their own
            assert torch.equal(same["image"][0], same["image"][2])


def test_ten_radiometric_operations_are_one_segment_and_equal_their_sequence() -> None:
    operations = [
        RandomIllumination(p=1.0),
        RandomHaze((0.1, 0.3), adjacency=False, p=1.0),
        RandomSensorNoise((2, 2), p=1.0),
        RandomWaterVapour(p=1.0),
        RandomSunElevation(p=1.0),
        RandomCalibration(p=1.0),
        RandomSensorNoise((3, 3), p=1.0),
        RandomHaze((0.0, 0.1), "smoke", adjacency=False, p=1.0),
        RandomIllumination(p=1.0),
        RandomBandDropout(p=1.0),
    ]
    dn = torch.full((3, 13, 160, 160), 2000.0)
    batch = {"image": dn, "key": sample_keys(0, range(3)), "transform": PIXELS_OF_60_M.expand(3, 6)}
    compose = Compose(operations, sensor=S2)
    plan = compose.plan(batch)
    assert len(plan.stages) == 1
    assert len(plan.stages[0].segments) == 1
    together = compose.apply(batch, plan)["image"].double()
    generator = torch.Generator().manual_seed(1)
    apart = torch.full_like(together, 0.2)
    for drawn, operation in zip(plan.drawn, operations, strict=True):
        (segment,) = operation.segments(drawn.params, shape_of(drawn.params))
        floor, slope = (part[..., None, None] for part in segment.terms.variance())
        noise = torch.randn(apart.shape, generator=generator, dtype=torch.float64)
        deviation = (floor + slope * apart).clamp_min(0).sqrt()
        apart = segment.terms.gain[..., None, None] * apart + segment.terms.offset[..., None, None] + deviation * noise
    count = 160 * 160
    spread = apart.std((-2, -1))
    assert ((together.mean((-2, -1)) - apart.mean((-2, -1))).abs() <= 6 * spread / count**0.5 + 1e-7).all()
    noisy = spread > 1e-9
    ratio = together.var((-2, -1))[noisy] / apart.var((-2, -1))[noisy]
    assert ((ratio - 1).abs() < 6 * (4 / count) ** 0.5).all()


def test_maps_fold_what_stands_beside_them_and_keep_order_and_noise_right() -> None:
    """Operations that are more than terms, run together, against the same ones each in a `Compose` of its own."""
    operations = [
        RandomIllumination(p=1.0),
        RandomCloudShadow(p=1.0),
        RandomCloud(p=1.0),
        RandomPointSpread(p=1.0),
        RandomHaze((0.1, 0.3), gradient=0.5, adjacency=False, p=1.0),
        RandomStriping((0.05, 0.05), p=1.0),
        RandomCalibration(p=1.0),
        RandomLineDropout((0.2, 0.2), p=1.0),
    ]
    batch = {"image": torch.rand(4, 13, 48, 48) * 5000, "key": sample_keys(0, range(4))}
    compose = Compose(operations, sensor=S2)
    plan = compose.plan(batch)
    assert len(plan.stages) == 1
    together = compose.apply(batch, plan)["image"]
    from geoaug.augment.kernels.coarse import coarse_means
    from geoaug.augment.kernels.radiometry import Block, run_segments
    from geoaug.augment.planning.maps import Surroundings
    from geoaug.augment.planning.matrices import Size, identity
    from geoaug.augment.planning.tree import map_tensors

    values = batch["image"] / 10000
    lit = values
    valid = torch.ones(4, 1, 48, 48, dtype=torch.bool)
    for drawn, operation in zip(plan.drawn, operations, strict=True):
        # The ground whose mean clouds mix into it is that before maps, such as shadows, and after terms.
        around = Surroundings(
            cells=lambda ground=lit: coarse_means(ground, valid, identity(4, valid.device), Size(48, 48))
        )
        block = Block(values.clone(), valid, around, batch["key"], 0)
        segments = operation.segments(drawn.params, shape_of(drawn.params))
        run_segments(block, map_tensors(segments, lambda part: part.float() if part.is_floating_point() else part))
        values = block.values
        if drawn.name == "RandomIllumination":
            lit = values
    assert torch.allclose(together, values, atol=2e-6)


def test_noise_before_a_map_has_the_variance_that_the_map_gives_it() -> None:
    haze = RandomHaze(0.5, gradient=1.0, adjacency=False, p=1.0)
    noisy = [RandomSensorNoise((10, 10), p=1.0), haze, RandomSensorNoise((5, 5), p=1.0)]
    batch = {"image": torch.full((1, 13, 256, 256), 3000.0), "key": sample_keys(0, [5]), "transform": PIXELS_OF_60_M}
    compose = Compose(noisy, sensor=S2)
    plan = compose.plan(batch)
    out = compose.apply(batch, plan)["image"][0].double()
    first = noisy[0].segments(plan.drawn[0].params, shape_of(plan.drawn[0].params))[0].terms.variance()[1][0]
    last = noisy[2].segments(plan.drawn[2].params, shape_of(plan.drawn[2].params))[0].terms.variance()[1][0]
    (hazy,) = noisy[1].segments(plan.drawn[1].params, shape_of(plan.drawn[1].params))
    from geoaug.augment.planning.maps import Surroundings
    from geoaug.augment.planning.matrices import Size

    ramp = hazy.modulation.maps.make(Size(256, 256), Surroundings())[0].double()
    gain = hazy.terms.gain[0][:, None, None] + ramp * hazy.modulation.gain[0, :, 0][:, None, None]
    offset = hazy.terms.offset[0][:, None, None] + ramp * hazy.modulation.offset[0, :, 0][:, None, None]
    mean = gain * 0.3 + offset
    variance = gain.square() * 0.3 * first[:, None, None] + last[:, None, None] * mean
    standard = (out - mean) / variance.sqrt()
    for part in standard.split(64, dim=1):
        assert part.mean((-2, -1)).abs().max() < 6 / 128
        assert (part.var((-2, -1)) - 1).abs().max() < 6 * (2 / (64 * 256)) ** 0.5


def test_geometry_joins_whatever_the_radiometry_is() -> None:
    several: list[nn.Module] = [RandomRotation(20, p=1.0), RandomCloud(p=1.0), RandomD4(), RandomPointSpread(p=1.0)]
    plan = Compose([*several, RandomRotation(9, p=1.0)], sensor=S2).plan(tiles(S2, 2))
    assert len(plan.stages) == 1
