"""geoaug's operations inside kornia's containers, and kornia's operations inside `Compose`."""

from inspect import signature

import kornia.augmentation as K
import pytest
import torch
from torch import Tensor, nn

from geoaug import Compose, get_sensor
from geoaug import augment as operations
from geoaug.augment import (
    CenterCrop,
    PadTo,
    RandomAffine,
    RandomBandDropout,
    RandomCrop,
    RandomD4,
    RandomHaze,
    RandomHorizontalFlip,
    RandomIllumination,
    RandomResizedCrop,
    RandomRotation,
    RandomRotation90,
    RandomSensorNoise,
    RandomVerticalFlip,
    Resize,
)
from geoaug.augment.kernels.warp import most_places, warp
from geoaug.augment.operations.base import RadiometricOperation
from geoaug.augment.operations.stock import is_affine
from geoaug.augment.planning.matrices import Size
from geoaug.errors import ConfigurationError
from geoaug.rng.draws import sample_keys
from geoaug.sensors import generic_sensor

S2 = get_sensor("sentinel-2-l1c")

GEOMETRIC = {
    "RandomD4": lambda: RandomD4(p=0.7),
    "RandomHorizontalFlip": lambda: RandomHorizontalFlip(p=0.5),
    "RandomVerticalFlip": lambda: RandomVerticalFlip(p=0.5),
    "RandomRotation90": lambda: RandomRotation90(p=0.5),
    "RandomRotation": lambda: RandomRotation(30, p=0.5),
    "RandomAffine": lambda: RandomAffine(10, (0.1, 0.1), (0.8, 1.2), 5, p=0.5),
    "RandomCrop": lambda: RandomCrop(20),
    "RandomResizedCrop": lambda: RandomResizedCrop((24, 16)),
    "CenterCrop": lambda: CenterCrop(21),
    "PadTo": lambda: PadTo(40),
    "Resize": lambda: Resize((20, 44)),
}
RADIOMETRIC = {
    "RandomIllumination": lambda: RandomIllumination(p=0.5),
    "RandomHaze": lambda: RandomHaze(sensor=S2, p=0.5),
    "RandomSensorNoise": lambda: RandomSensorNoise(sensor="sentinel-2-l1c", p=0.5),
    "RandomBandDropout": lambda: RandomBandDropout(p=0.5),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("name", GEOMETRIC)
def test_geometric_operations_work_in_augmentation_sequential(name: str, dtype: torch.dtype) -> None:
    torch.manual_seed(3)
    image = torch.rand(6, 13, 32, 32).to(dtype)
    mask = torch.randint(0, 5, (6, 1, 32, 32)).to(dtype)
    boxes = torch.tensor([[[4.0, 5.0, 12.0, 20.0]]] * 6).to(dtype)
    operation = GEOMETRIC[name]()
    container = K.AugmentationSequential(operation, data_keys=["input", "mask", "bbox_xyxy"])
    out, labels, moved = container(image, mask, boxes)
    assert out.dtype == dtype
    assert out.shape[-2:] == labels.shape[-2:]
    assert set(labels.unique().tolist()) <= set(range(5))
    # The matrix that kornia reports describes what happened to the pixels, sample by sample.
    if dtype == torch.float32:
        matrix = container.transform_matrix.double()
        size = Size(*out.shape[-2:])
        most = most_places(operation.shrinkage(Size(32, 32)))
        assert (warp(image, matrix, size, most=most) - out).abs().max() < 1e-3
        assert moved.shape == boxes.shape
    again, _, _ = container(image, mask, boxes, params=container._params)
    assert torch.equal(again, out)


@pytest.mark.parametrize("name", RADIOMETRIC)
def test_radiometric_operations_work_in_augmentation_sequential(name: str) -> None:
    torch.manual_seed(1)
    image = torch.rand(24, 13, 8, 8) * 1.5
    image[:, :, 0, 0] = torch.nan
    mask = torch.randint(0, 5, (24, 1, 8, 8)).float()
    container = K.AugmentationSequential(RADIOMETRIC[name](), data_keys=["input", "mask"])
    out, labels = container(image, mask)
    assert torch.equal(labels, mask)
    if name != "RandomBandDropout":
        assert out[:, :, 0, 0].isnan().all()
    changed = (out != image)[..., 1:, 1:].flatten(1).any(1)
    assert 0 < changed.sum() < 24  # the gate is per sample
    assert out[..., 1:, 1:].max() > 1.05  # nothing is clamped


EVERY = sorted(
    name
    for name in operations.__all__
    if name.startswith("Random") and "p" in signature(getattr(operations, name)).parameters
)
NEEDED = {
    "RandomCrop": {"size": 24},
    "RandomResizedCrop": {"size": 24},
    "RandomRotation": {"degrees": 20},
    "RandomIncidenceAngle": {"sensor": "sentinel-1-grd"},
    "RandomSpeckle": {"sensor": "sentinel-1-grd"},
    "RandomThermalNoise": {"sensor": "sentinel-1-power"},
    **{name: {"sensor": "rgbn"} for name in ("RandomJPEG", "RandomSharpening", "RandomTone", "RandomWhiteBalance")},
}


@pytest.mark.parametrize("name", EVERY)
def test_gradients_pass_through_every_operation_in_a_container(name: str) -> None:
    kind = getattr(operations, name)
    options = {"sensor": "sentinel-2-l1c"} if "sensor" in signature(kind).parameters else {}
    options |= NEEDED.get(name, {})
    operation = kind(p=1.0, **options)
    bands = 2 if "sentinel-1" in str(options) else 4 if "rgbn" in str(options) else 13
    image = torch.rand(2, bands, 32, 32, requires_grad=True)
    made = K.AugmentationSequential(operation, data_keys=["input"])(image)
    made.sum().backward()
    assert image.grad is not None
    assert torch.isfinite(image.grad).all()
    assert image.grad.abs().sum() > 0.1 * made.numel() * (name not in ("RandomIncidenceAngle", "RandomSpeckle"))
    if not isinstance(operation, RadiometricOperation) or name in ("RandomQuantization", "RandomSensorNoise"):
        # As the operation is linear, or passes gradients on as they come.
        torch.testing.assert_close(image.grad.sum(), torch.tensor(float(made.numel())), rtol=0.2, atol=0)


def test_torchs_seed_governs_operations_outside_compose() -> None:
    image = torch.rand(4, 2, 16, 16)
    operation = RandomRotation(30, p=1.0)
    results = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        results.append(operation(image))
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])
    assert torch.equal(
        RandomRotation(30, p=1.0, same_on_batch=True)(image[:1].expand(3, -1, -1, -1)).std(0).amax(), torch.tensor(0.0)
    )


def test_an_inverse_brings_the_pixels_back() -> None:
    image = torch.rand(4, 1, 33, 33)
    container = K.AugmentationSequential(RandomD4(), data_keys=["input"])
    assert torch.equal(container.inverse(container(image)), image)


def test_same_on_batch_is_the_same_in_compose() -> None:
    image = torch.rand(1, 1, 16, 16).expand(5, 1, 16, 16)
    out = Compose([RandomRotation(40, p=1.0, same_on_batch=True)])({"image": image})["image"]
    assert torch.equal(out, out[:1].expand_as(out))


STOCK_AFFINE = {
    "RandomHorizontalFlip": K.RandomHorizontalFlip(p=0.5),
    "RandomVerticalFlip": K.RandomVerticalFlip(p=0.5),
    "RandomRotation": K.RandomRotation(30.0, p=0.8),
    "RandomRotation90": K.RandomRotation90((1, 3), p=0.8),
    "RandomAffine": K.RandomAffine(20.0, (0.1, 0.1), (0.8, 1.2), 5.0, align_corners=True, p=0.8),
    "RandomTranslate": K.RandomTranslate((0.0, 0.2), (0.0, 0.2), align_corners=True, p=0.8),
    "RandomShear": K.RandomShear(10.0, align_corners=True, p=0.8),
    "CenterCrop": K.CenterCrop((20, 24)),
    "RandomCrop": K.RandomCrop((20, 24)),
    "RandomResizedCrop": K.RandomResizedCrop((20, 24)),
    "Resize": K.Resize((20, 24), align_corners=True),
}


@pytest.mark.parametrize("name", STOCK_AFFINE)
def test_stock_affine_operations_join_and_do_what_kornia_does(name: str) -> None:
    operation = STOCK_AFFINE[name]
    image = nn.functional.avg_pool2d(torch.rand(5, 2, 36, 36), 5, 1)
    compose = Compose([operation], interpolation="bilinear")
    batch = {"image": image, "key": sample_keys(0, range(5))}
    plan = compose.plan(batch)
    assert len(plan.stages) == 1
    out = compose.apply(batch, plan)
    step = compose._steps[0]
    # The same seeds through kornia's own resampling, one sample at a time.
    from geoaug.augment.operations.stock import seeded
    from geoaug.rng.draws import Draws

    for sample, seed in enumerate(Draws.for_streams(plan.key, 1)[0].seeds().tolist()):
        with seeded(seed, torch.device("cpu")):
            expected = operation(image[sample : sample + 1])
        inner = nn.functional.max_pool2d((~out["valid"][sample : sample + 1]).float(), 5, 1, 2) == 0
        inner[..., :2, :], inner[..., -2:, :], inner[..., :, :2], inner[..., :, -2:] = False, False, False, False
        assert inner.any()
        difference = (out["image"][sample : sample + 1] - expected).abs()[inner.expand_as(expected)]
        assert difference.max() < 2e-3, (name, step)


def test_geoaug_and_stock_geometry_are_one_resampling() -> None:
    image = torch.rand(2, 1, 64, 64)
    compose = Compose([RandomRotation((20, 20), p=1.0), K.RandomRotation((-20.0, -20.0), p=1.0)])
    plan = compose.plan({"image": image})
    assert len(plan.stages) == 1
    # Kornia's float32 sine leaves a millionth of a pixel.
    assert torch.allclose(compose.apply({"image": image}, plan)["image"], image, atol=1e-4)


def test_opaque_operations_split_the_plan_and_work_in_reflectance() -> None:
    sensor = generic_sensor(3, 10000.0)
    image = torch.randint(1, 5000, (4, 3, 24, 24)).to(torch.uint16)
    blur = K.RandomGaussianBlur((5, 5), (1.0, 1.0), p=1.0)
    batch = {"image": image, "key": sample_keys(0, range(4))}
    compose = Compose([RandomD4(), blur, RandomIllumination((2, 2), 0.0, p=1.0)], sensor=sensor)
    plan = compose.plan(batch)
    assert len(plan.stages) == 3
    turned = Compose([RandomD4()], sensor=sensor)(batch)["image"]
    assert torch.allclose(compose(batch)["image"], 2 * blur(turned), atol=1e-6)


def test_opaque_operations_depend_on_the_sample_alone() -> None:
    operations = [
        K.RandomGaussianNoise(0.0, 0.1, p=1.0),
        K.RandomMotionBlur((3, 7), 30.0, 0.5, p=0.8),
        K.RandomErasing(p=0.5),
    ]
    compose = Compose(operations)
    image, key = torch.rand(6, 3, 16, 16), sample_keys(0, range(6))
    state = torch.get_rng_state()
    whole = compose({"image": image, "key": key})["image"]
    assert torch.equal(torch.get_rng_state(), state)  # torch's own stream is left as it was
    assert torch.equal(compose({"image": image[[4, 1]], "key": key[[4, 1]]})["image"], whole[[4, 1]])
    assert not torch.equal(whole, image)


@pytest.mark.parametrize(
    "operation", [K.RandomElasticTransform(alpha=(4.0, 4.0), p=1.0), K.RandomPerspective(0.3, p=1.0)]
)
def test_bending_operations_carry_masks_and_validity_along(operation: nn.Module) -> None:
    generator = torch.Generator().manual_seed(0)
    classes = torch.randint(0, 4, (3, 1, 4, 4), generator=generator).float()
    truth = nn.functional.interpolate(classes, size=40, mode="nearest")
    valid = torch.ones(3, 1, 40, 40, dtype=torch.bool)
    valid[..., :12, :12] = False
    image = torch.where(valid, truth, 1e6)
    batch = {"image": image, "mask": truth[:, 0].long(), "valid": valid, "key": sample_keys(0, range(3))}
    out = Compose([operation], fill=-1.0)(batch)
    assert 0 < (~out["valid"]).sum() < valid.numel() // 2
    assert (out["mask"][~out["valid"][:, 0]] == 255).all()
    assert set(out["mask"].unique().tolist()) <= {0, 1, 2, 3, 255}
    values = out["image"][out["valid"]]
    assert values.min() > -1e-3
    assert values.max() < 3.001
    known = out["valid"][:, 0] & (out["mask"] != 255)
    assert ((out["image"][:, 0] - out["mask"]).abs() < 0.5)[known].float().mean() > 0.95


def test_a_bent_tile_has_no_place_and_no_boxes() -> None:
    compose = Compose([K.RandomElasticTransform(p=1.0)])
    image = torch.rand(2, 1, 16, 16)
    assert not compose.keeps_place
    assert compose({"image": image, "transform": torch.ones(2, 6, dtype=torch.float64)})["transform"].isnan().all()
    with pytest.raises(ConfigurationError, match="boxes cannot follow"):
        compose({"image": image, "bbox_xyxy": [torch.ones(1, 4)] * 2})


def test_photographic_operations_see_the_dates_of_a_series_one_by_one() -> None:
    series = torch.rand(2, 4, 3, 12, 12)
    out = Compose([K.ColorJiggle(0.3, 0.3, 0.3, 0.1, p=1.0)])({"image": series})
    assert out["image"].shape == series.shape
    assert not torch.equal(out["image"], series)


def test_operations_that_cannot_be_in_a_list_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="mixes samples"):
        Compose([K.RandomMixUpV2()])
    with pytest.raises(ConfigurationError, match="changes the tile"):
        Compose([K.PadTo((40, 40))])({"image": torch.rand(1, 1, 16, 16)})
    with pytest.raises(ConfigurationError, match="needs p=1"):
        Compose([K.RandomCrop((8, 8), p=0.5)])({"image": torch.rand(1, 1, 16, 16)})


def test_invalid_pixels_do_not_bleed_poison_through_a_blur() -> None:
    valid: Tensor = torch.ones(1, 1, 24, 24, dtype=torch.bool)
    valid[..., :8] = False
    image = torch.where(valid, 0.5, 1e6)
    out = Compose([K.RandomGaussianBlur((7, 7), (2.0, 2.0), p=1.0)])({"image": image, "valid": valid})
    assert torch.allclose(out["image"][valid], torch.tensor(0.5), atol=1e-5)
    assert torch.equal(out["valid"], valid)


def test_same_on_batch_draws_as_many_words_for_every_batch() -> None:
    compose = Compose([RandomHaze(p=0.5, same_on_batch=True)], sensor="sentinel-2-l1c")
    batch = {"image": torch.rand(3, 13, 8, 8), "key": torch.arange(3)}
    first = compose.plan(batch).to_dict()
    assert compose.plan(batch).to_dict() == first


def test_stock_operations_honour_same_on_batch_and_are_recorded() -> None:
    image = torch.rand(1, 2, 16, 16).expand(6, 2, 16, 16)
    operations = [
        K.RandomRotation(45.0, p=1.0, same_on_batch=True),
        K.RandomGaussianBlur((3, 3), (0.1, 1.0), p=1.0, same_on_batch=True),
    ]
    compose = Compose(operations)
    plan = compose.plan({"image": image})
    assert len(plan.matrix.unique(dim=0)) == 1
    out = compose.apply({"image": image}, plan)["image"]
    assert torch.equal(out, out[:1].expand_as(out))
    for row in plan.parameters():
        assert 0.1 <= row["kornia.RandomGaussianBlur"]["sigma"] <= 1.0
    gated = Compose([K.RandomGaussianBlur((3, 3), (0.5, 1.0), p=0.5)])
    batch = {"image": torch.rand(20, 1, 12, 12), "key": sample_keys(0, range(20))}
    plan = gated.plan(batch)
    changed = (gated.apply(batch, plan)["image"] != batch["image"]).flatten(1).any(1)
    assert [bool(row) for row in plan.parameters()] == changed.tolist()


@pytest.mark.parametrize(
    "operation",
    [
        K.RandomAffine(10.0, padding_mode="reflection", p=1.0),
        K.Resize((24, 24), antialias=True),
        K.RandomRotation(9.0, resample="nearest", p=1.0),
    ],
)
def test_a_stock_operation_with_ways_of_its_own_is_left_alone(operation: nn.Module) -> None:
    assert not is_affine(operation)  # type: ignore[arg-type]


def test_a_stock_operation_that_fails_is_named() -> None:
    with pytest.raises(ConfigurationError, match=r"kornia\.ColorJiggle cannot work on this batch"):
        Compose([K.ColorJiggle(0.1, 0.1, 0.1, 0.1, p=1.0)])({"image": torch.rand(1, 13, 8, 8)})
