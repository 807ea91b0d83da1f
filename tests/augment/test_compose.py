"""`Compose` on a batch: what follows the pixels, what identity means, and the errors for what does not fit."""

import json
import math
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import kornia.augmentation as K
import pytest
import torch
from torch import Tensor, nn

from geoaug import Compose, get_sensor, load_recipe
from geoaug.augment import (
    Plan,
    RandomAffine,
    RandomBandDropout,
    RandomCrop,
    RandomD4,
    RandomHaze,
    RandomIllumination,
    RandomRotation,
    RandomSensorNoise,
    Resize,
)
from geoaug.errors import ConfigurationError
from geoaug.rng.draws import sample_keys
from geoaug.sensors import generic_sensor

SENSOR = generic_sensor(3, 10000.0)


def everything() -> list[nn.Module]:
    return [
        RandomD4(),
        RandomRotation(20, p=0.8),
        RandomAffine(scale=(0.8, 1.25), translate=(0.1, 0.1), p=0.9),
        RandomCrop(28),
        RandomIllumination(),
        RandomHaze(),
        RandomSensorNoise(),
        RandomBandDropout(p=0.3),
    ]


def tiles(count: int = 8, side: int = 32, bands: int = 3) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        "image": torch.randint(1, 10000, (count, bands, side, side), generator=generator).to(torch.uint16),
        "mask": torch.randint(0, 4, (count, side, side), generator=generator),
        "key": sample_keys(5, range(count)),
        "label": torch.arange(count),
    }


def pick(batch: dict[str, Tensor], index: list[int]) -> dict[str, Tensor]:
    return {
        name: value.view(torch.int16)[index].view(torch.uint16) if value.dtype == torch.uint16 else value[index]
        for name, value in batch.items()
    }


def test_a_sample_does_not_depend_on_its_batch() -> None:
    compose = Compose(everything(), sensor=SENSOR)
    batch = tiles(23)
    whole = compose(batch)
    for index in ([4], [22, 0, 4], list(range(1, 17))):
        part = compose(pick(batch, index))
        for name in ("image", "valid", "mask"):
            assert torch.equal(part[name], whole[name][index])


def test_another_seed_or_epoch_is_another_result() -> None:
    compose = Compose(everything(), sensor=SENSOR)
    batch = tiles(4)
    first = compose(batch)["image"]
    for key in (sample_keys(6, range(4)), sample_keys(5, range(4), epoch=1)):
        assert (compose({**batch, "key": key})["image"] != first).flatten(1).any(1).all()


def test_without_keys_torchs_seed_governs() -> None:
    compose = Compose(everything(), sensor=SENSOR)
    batch = tiles(4)
    del batch["key"]
    results = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        results.append(compose(batch)["image"])
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])


def test_a_plan_goes_through_json_and_replays_exactly() -> None:
    operations = [*everything(), K.RandomGaussianBlur((3, 3), (0.5, 1.0), p=1.0), K.RandomRotation(10.0, p=0.5)]
    compose = Compose(operations, sensor=SENSOR)
    batch = tiles()
    plan = compose.plan(batch)
    back = Plan.from_dict(json.loads(json.dumps(plan.to_dict())))
    first, second = compose.apply(batch, plan), compose.apply(batch, back)
    assert torch.equal(first["image"], second["image"])
    assert torch.equal(first["mask"], second["mask"])
    assert plan.parameters() == back.parameters()
    assert torch.equal(first["image"], compose(batch)["image"])


def test_parameters_say_what_happened() -> None:
    compose = Compose([RandomRotation(20, p=0.5), RandomRotation((5, 5), p=1.0)])
    plan = compose.plan({"image": torch.zeros(50, 1, 8, 8), "key": sample_keys(0, range(50))})
    rows = plan.parameters()
    assert 10 < sum("RandomRotation" in row for row in rows) < 40
    for index, row in enumerate(rows):
        assert row["RandomRotation#2"] == {"degrees": 5.0}
        angle = 5 + row.get("RandomRotation", {"degrees": 0.0})["degrees"]
        assert math.degrees(math.atan2(plan.matrix[index, 0, 1], plan.matrix[index, 0, 0])) == pytest.approx(angle)
    json.dumps(rows)


def test_eval_only_scales_fits_and_normalises() -> None:
    compose = Compose(everything(), sensor=SENSOR, size=24, normalize=([0.1, 0.2, 0.3], [0.5, 0.4, 0.2])).eval()
    batch = tiles()
    out = compose(batch)
    reflectance = batch["image"].to(torch.float32)[..., 4:28, 4:28] / 10000
    mean, std = torch.tensor([0.1, 0.2, 0.3])[:, None, None], torch.tensor([0.5, 0.4, 0.2])[:, None, None]
    assert torch.allclose(out["image"], (reflectance - mean) / std, atol=1e-6)
    assert torch.equal(out["mask"], batch["mask"][:, 4:28, 4:28])
    assert torch.equal(compose(batch)["image"], out["image"])
    resized = Compose([], sensor=SENSOR, size=64, fit="resize", interpolation="bilinear").eval()(batch)
    expected = nn.functional.interpolate(batch["image"].float() / 10000, size=64, mode="bilinear")
    inner = (..., slice(2, -2), slice(2, -2))
    assert torch.allclose(resized["image"][inner], expected[inner], atol=1e-5)


def test_dn_in_dn_out_is_the_identity_and_offsets_are_honoured() -> None:
    sensor = get_sensor("sentinel-2-l2a").for_baseline("04.00").select("B02,B03,B04")
    batch = tiles()
    same = Compose([], sensor=sensor, out_units="dn", out_dtype=None)(batch)
    assert torch.equal(same["image"].view(torch.int16), batch["image"].view(torch.int16))
    reflectance = Compose([], sensor=sensor)(batch)["image"]
    assert torch.allclose(reflectance, (batch["image"].to(torch.float32) - 1000) / 10000, atol=1e-6)
    lit = [RandomIllumination((2, 2), 0.0, p=1.0)]
    doubled = Compose(lit, sensor=sensor, out_units="dn", out_dtype=torch.uint16, reserve_fill=True)
    expected = 2 * (batch["image"].to(torch.float32) - 1000) + 1000
    assert torch.equal(doubled(batch)["image"].float(), expected.clamp(1, 65535).round())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_the_output_has_the_dtype_asked_for(dtype: torch.dtype) -> None:
    out = Compose(everything(), sensor=SENSOR, out_dtype=dtype)(tiles())
    assert out["image"].dtype == dtype
    assert out["image"].isfinite().all()


def test_the_geotransform_leads_every_output_pixel_to_its_ground() -> None:
    # The image holds its own ground coordinates; after augmentation, value and geotransform must agree.
    a, b, c, d, e, f = 10.0, 0.5, 4e5, -0.25, -10.0, 5e6
    rows, columns = torch.meshgrid(torch.arange(40.0), torch.arange(50.0), indexing="ij")
    east, north = a * (columns + 0.5) + b * (rows + 0.5), d * (columns + 0.5) + e * (rows + 0.5)
    image = torch.stack((east, north)).expand(6, 2, 40, 50).contiguous()
    transform = torch.tensor([[a, b, c, d, e, f]] * 6, dtype=torch.float64)
    compose = Compose([*everything()[:4], Resize((20, 35))], interpolation="bilinear")
    out = compose({"image": image, "transform": transform, "key": sample_keys(0, range(6))})
    rows, columns = torch.meshgrid(torch.arange(20).double() + 0.5, torch.arange(35).double() + 0.5, indexing="ij")
    for sample in range(6):
        a, b, c, d, e, f = out["transform"][sample].tolist()
        # Where a neighbour is missing, what remains is not the middle: two pixels in from every edge.
        missing = nn.functional.pad((~out["valid"][sample]).float(), (2, 2, 2, 2), value=1.0)
        inner = nn.functional.max_pool2d(missing, 5, 1)[0] == 0
        assert inner.any()
        expected = torch.stack((a * columns + b * rows + c - 4e5, d * columns + e * rows + f - 5e6))
        assert (out["image"][sample] - expected)[:, inner].abs().max() < 0.02


def test_boxes_follow_the_pixels() -> None:
    image = torch.zeros(8, 1, 32, 32)
    image[..., 6:11, 20:27] = 1.0
    boxes = [torch.tensor([[20.0, 6.0, 27.0, 11.0], [0.0, 0.0, 32.0, 32.0]])] * 7 + [torch.zeros(0, 4)]
    out = Compose([RandomD4(), RandomCrop(30)])({"image": image, "bbox_xyxy": boxes, "key": sample_keys(0, range(8))})
    for sample in range(7):
        rows, columns = torch.nonzero(out["image"][sample, 0], as_tuple=True)
        expected = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        assert out["bbox_xyxy"][sample][0].tolist() == [float(edge) for edge in expected]
        assert out["bbox_xyxy"][sample][1].tolist() == [0.0, 0.0, 30.0, 30.0]
    assert out["bbox_xyxy"][7].shape == (0, 4)


def test_a_box_that_leaves_the_tile_keeps_its_place_in_the_list() -> None:
    boxes = [torch.tensor([[0.0, 0.0, 2.0, 2.0], [10.0, 10.0, 12.0, 12.0]])]
    out = Compose([], size=16)({"image": torch.zeros(1, 1, 32, 32), "bbox_xyxy": boxes})
    areas = (out["bbox_xyxy"][0][:, 2:] - out["bbox_xyxy"][0][:, :2]).prod(1)
    assert areas.tolist() == [0.0, 4.0]


@pytest.mark.parametrize(
    ("operation", "expected"),
    [
        (RandomRotation((90, 90), p=1.0), 30.0),
        (RandomRotation((-30, -30), p=1.0), 150.0),
        (K.RandomHorizontalFlip(p=1.0), 240.0),
        (K.RandomVerticalFlip(p=1.0), 60.0),
    ],
)
def test_the_suns_azimuth_turns_with_the_image(operation: nn.Module, expected: float) -> None:
    out = Compose([operation])({"image": torch.zeros(1, 1, 8, 8), "sun_azimuth": torch.tensor([120.0])})
    assert float(out["sun_azimuth"]) == pytest.approx(expected, abs=1e-3)


def test_a_time_series_shares_geometry_and_not_radiometry() -> None:
    batch = tiles(4)
    series = torch.stack([batch["image"].view(torch.int16)] * 3, dim=1).view(torch.uint16)
    geometric = Compose(everything()[:4], sensor=SENSOR)
    out = geometric({**batch, "image": series})
    assert out["image"].shape == (4, 3, 3, 28, 28)
    alone = geometric(batch)
    for date in range(3):
        assert torch.equal(out["image"][:, date], alone["image"])
    assert torch.equal(out["mask"], alone["mask"])
    lit = Compose([RandomIllumination((0.5, 2.0), 0.0, p=1.0)], sensor=SENSOR)
    plan = lit.plan({**batch, "image": series})
    gains = lit.apply({**batch, "image": series}, plan)["image"] / (series.to(torch.float32) / 10000)
    assert gains.std((2, 3, 4)).max() < 1e-5
    means = gains.mean((2, 3, 4))
    assert (means.std(1) > 1e-3).all()
    recorded = torch.tensor([row["RandomIllumination"]["gain"] for row in plan.parameters()])
    assert torch.allclose(recorded.float(), means, atol=1e-5)


def test_other_keys_and_ranks_pass_through() -> None:
    batch = tiles(2)
    out = Compose([RandomD4()], sensor=SENSOR)({**batch, "mask": batch["mask"][:, None], "note": "kept"})
    assert out["note"] == "kept"
    assert torch.equal(out["label"], batch["label"])
    assert out["mask"].shape == (2, 1, 32, 32)


def test_a_sample_without_a_batch_dimension_keeps_its_rank() -> None:
    batch = tiles(1)
    sample = {"image": batch["image"][0], "mask": batch["mask"][0], "key": int(batch["key"][0])}
    compose = Compose(everything(), sensor=SENSOR)
    out = compose(sample)
    assert out["image"].shape == (3, 28, 28)
    assert out["mask"].shape == (28, 28)
    assert torch.equal(out["image"], compose(batch)["image"][0])


def test_odd_layouts_and_sizes_are_handled() -> None:
    compose = Compose(everything()[:3] + everything()[4:], sensor=SENSOR)
    batch = tiles(5, side=33)
    image = batch["image"].view(torch.int16)
    layouts = [
        image.to(memory_format=torch.channels_last).view(torch.uint16),
        torch.cat([image, image], dim=-1)[..., :33].view(torch.uint16),
    ]
    expected = compose(batch)
    for layout in layouts:
        assert torch.equal(compose({**batch, "image": layout})["image"], expected["image"])
    for count in (0, 1):
        out = compose(pick(batch, list(range(count))))
        assert out["image"].shape == (count, 3, 33, 33)


def test_the_input_is_left_as_it_was() -> None:
    batch = {**tiles(), "transform": torch.ones(8, 6, dtype=torch.float64), "image": torch.rand(8, 3, 32, 32)}
    before = {name: value.clone() for name, value in batch.items()}
    Compose(everything(), sensor=SENSOR)(batch)
    for name, value in batch.items():
        assert torch.equal(value, before[name])


def test_compose_is_a_module_like_any_other() -> None:
    network = nn.Sequential(Compose([RandomD4()]), nn.Linear(2, 2))
    network.apply(lambda module: None)
    network.to(torch.float64).eval()
    assert not network[0].training
    assert network.state_dict().keys() == {"1.weight", "1.bias"}


BAD_BATCHES = [
    ({"pixels": 1}, "tensor under 'image'"),
    ({"image": torch.zeros(4, 4)}, r"\(B, C, H, W\)"),
    ({"image": torch.zeros(1, 3, 8, 8, dtype=torch.float64)}, "convert it first"),
    ({"image": torch.zeros(1, 4, 8, 8)}, "has 4 bands"),
    ({"image": torch.zeros(1, 3, 8, 8), "mask": torch.zeros(1, 8, 8)}, "integer tensor"),
    ({"image": torch.zeros(1, 3, 8, 8), "mask": torch.zeros(1, 9, 8, dtype=torch.int64)}, "'mask' is"),
    ({"image": torch.zeros(1, 3, 8, 8), "mask": torch.zeros(1, 8, 8, dtype=torch.int8)}, "ignore_index=255"),
    ({"image": torch.zeros(1, 3, 8, 8), "valid": torch.ones(1, 8, 8, dtype=torch.bool)}, "'valid' is"),
    ({"image": torch.zeros(1, 3, 8, 8), "key": torch.zeros(2, dtype=torch.int64)}, "'key' is"),
    ({"image": torch.zeros(1, 3, 8, 8), "transform": torch.zeros(1, 9)}, "'transform' is"),
]


@pytest.mark.parametrize(("batch", "message"), BAD_BATCHES)
def test_a_batch_that_does_not_fit_says_why(batch: dict[str, Tensor], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        Compose([RandomD4()], sensor=SENSOR)(batch)


@pytest.mark.parametrize(
    "arguments",
    [
        {"fit": "squeeze"},
        {"out_units": "radiance"},
        {"out_dtype": torch.uint8},
        {"size": 0},
        {"min_support": 0.0},
        {"sensor": "sentinel-9"},
    ],
)
def test_bad_arguments_are_refused(arguments: dict[str, object]) -> None:
    with pytest.raises(ConfigurationError):
        Compose([], **arguments)  # type: ignore[arg-type]


def test_what_is_no_augmentation_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="Linear is not an augmentation"):
        Compose([nn.Linear(2, 2)])
    with pytest.raises(ConfigurationError, match="context=5 does not fit"):
        Compose([])({"image": torch.zeros(1, 1, 10, 10)}, context=5)
    compose = Compose([])
    plan = compose.plan({"image": torch.zeros(2, 1, 4, 4)})
    with pytest.raises(ConfigurationError, match="plan is for 2 samples"):
        compose.apply({"image": torch.zeros(3, 1, 4, 4)}, plan)


def test_presets_run_on_a_plain_rgb_batch() -> None:
    for preset in ("light", "standard", "strong"):
        compose = load_recipe(preset).compose(sensor="rgb")
        out = compose({"image": torch.randint(0, 256, (4, 3, 20, 20)).to(torch.uint8)})
        assert out["image"].shape == (4, 3, 20, 20)
        assert out["image"].max() < 2


def test_an_output_is_never_overwritten_while_anything_still_sees_it() -> None:
    compose = Compose([RandomRotation(40, p=1.0)])
    batch = {"image": torch.rand(8, 4, 256, 256)}  # large enough for memory that is used again
    kept, views, copies = [], [], []
    for _ in range(7):
        out = compose(batch)["image"]
        kept.append(out)
        views.append(out[3:5, 1])
        copies.append(out.clone())
    addresses = {out.data_ptr() for out in kept}
    assert len(addresses) == 7
    for out, view, copy in zip(kept, views, copies, strict=True):
        assert torch.equal(out, copy)
        assert torch.equal(view, copy[3:5, 1])
    del kept, out
    again = [compose(batch)["image"] for _ in range(3)]
    for view, copy in zip(views, copies, strict=True):
        assert torch.equal(view, copy[3:5, 1])
    del views, view, again
    free = compose(batch)["image"].data_ptr()
    assert compose(batch)["image"].data_ptr() == free  # dropped, and used again


def test_a_transform_of_a_sample_keeps_its_metres() -> None:
    place = (10.0, 0.0, 399961.3, 0.0, -10.0, 4900023.7)
    assert Compose([])({"image": torch.rand(3, 8, 8), "transform": place})["transform"].tolist() == list(place)
    with pytest.raises(ConfigurationError, match="float32 loses metres"):
        Compose([])({"image": torch.rand(1, 3, 8, 8), "transform": torch.zeros(1, 6)})


def test_many_threads_may_share_a_compose() -> None:
    stock = [K.RandomRotation(30.0, p=0.8), K.RandomGaussianBlur((3, 3), (0.1, 1.0), p=0.6), K.RandomElasticTransform()]
    compose = Compose([*everything(), *stock], sensor=SENSOR)
    batches = [{**tiles(3, side=40), "key": sample_keys(seed, range(3))} for seed in range(6)]
    expected = [compose(batch) for batch in batches]
    state = torch.get_rng_state()
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(compose, batches))
    assert torch.equal(torch.get_rng_state(), state)
    for one, other in zip(expected, found, strict=True):
        assert torch.equal(one["image"], other["image"])
        assert torch.equal(one["mask"], other["mask"])


def test_the_number_of_threads_changes_no_bit() -> None:
    compose = Compose(everything(), sensor=SENSOR)
    batch = tiles(9, side=301)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = compose(batch)["image"]
        torch.set_num_threads(3)
        three = compose(batch)["image"]
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(one, three)


def test_a_full_support_is_enough_for_the_strictest_threshold() -> None:
    compose = Compose([RandomRotation((20, 20), p=1.0)], size=32, min_support=1.0)
    assert compose({"image": torch.rand(2, 1, 64, 64)})["valid"].all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"fill": -1.0, "out_units": "dn", "out_dtype": None}, "fill=-1.0 does not fit"),
        ({"normalize": ([0.0] * 3, [1.0, 0.0, 1.0])}, "every std above 0"),
    ],
)
def test_what_would_wrap_or_divide_by_zero_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        Compose([], sensor=SENSOR, **arguments)(tiles())


def test_boxes_for_another_number_of_samples_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="list of 2 tensors"):
        Compose([])({"image": torch.zeros(2, 1, 8, 8), "bbox_xyxy": [torch.zeros(1, 4)]})
