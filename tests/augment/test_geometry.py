"""Geometry against scipy, torch.flip and torch.rot90, and numbers worked out by hand."""

import itertools
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor, nn

from geoaug.augment import (
    CenterCrop,
    Compose,
    PadTo,
    RandomAffine,
    RandomCrop,
    RandomD4,
    RandomHorizontalFlip,
    RandomResizedCrop,
    RandomRotation,
    RandomRotation90,
    RandomVerticalFlip,
    Resize,
)
from geoaug.augment.kernels import warp
from geoaug.augment.planning.plan import Plan
from geoaug.errors import ConfigurationError
from geoaug.rng.draws import sample_keys


def keyed(image: Tensor, **more: object) -> dict[str, object]:
    return {"image": image, "key": sample_keys(0, range(len(image))), **more}


def smooth(batch: int, bands: int, height: int, width: int) -> Tensor:
    noise = np.random.default_rng(0).normal(size=(batch, bands, height, width))
    return torch.from_numpy(ndimage.gaussian_filter(noise, (0, 0, 2, 2))).float()


def by_scipy(image: np.ndarray, matrix: Tensor, size: Sequence[int]) -> np.ndarray:
    """The same warp of one band by scipy, which indexes (row, column) and wants output to input.

    Where a pixel covers more than one and a half of the input along an axis, the mean over as many places as it covers.
    """
    back = np.linalg.inv(matrix.numpy())[[1, 0, 2]][:, [1, 0, 2]]
    down, across = (max(round(float(np.hypot(*back[:2, axis])) - 1e-6), 1) for axis in (0, 1))
    total = np.zeros(tuple(size))
    for row, column in itertools.product(range(down), range(across)):
        beside = np.eye(3)
        beside[:2, 2] = (row + 0.5) / down - 0.5, (column + 0.5) / across - 0.5
        total += ndimage.affine_transform(
            image.astype(np.float64), back @ beside, output_shape=tuple(size), order=1, mode="grid-constant", cval=0.0
        )
    return total / (down * across)


CHAINS = {
    "rotation": ([RandomRotation(40, p=1.0)], None),
    "affine": ([RandomAffine(30, (0.2, 0.1), (0.7, 1.5), 12, p=1.0)], None),
    "zoom out": ([RandomAffine(scale=(0.6, 0.9), p=1.0)], None),
    "zoom far out": ([RandomRotation(30, p=1.0), RandomAffine(scale=(0.2, 0.5), p=1.0)], None),
    "shrunk along one axis": ([Resize((14, 60))], None),
    "shrunk and fitted": ([RandomCrop((40, 50)), RandomAffine(10, scale=(0.3, 1.0), p=1.0)], (20, 31)),
    "resized crop": ([RandomResizedCrop((31, 46))], None),
    "resize": ([Resize((70, 33))], None),
    "chain": (
        [RandomD4(), RandomRotation(20, p=0.5), RandomAffine(scale=(0.8, 1.2), p=1.0), RandomCrop((29, 40))],
        None,
    ),
    "fitted": ([RandomRotation(20, p=1.0)], (32, 60)),
}


@pytest.mark.parametrize("name", CHAINS)
def test_warps_agree_with_scipy(name: str) -> None:
    operations, size = CHAINS[name]
    image = smooth(4, 2, 48, 57)
    compose = Compose(operations, size=size, interpolation="bilinear")
    batch = keyed(image)
    plan = compose.plan(batch)
    out = compose.apply(batch, plan)
    span = float(image.max() - image.min())
    for sample in range(4):
        support = by_scipy(np.ones((48, 57)), plan.matrix[sample], plan.size)
        valid = out["valid"][sample, 0].numpy()
        # Right at the threshold, rounding decides.
        clear = np.abs(support - 0.5) > 1e-4
        np.testing.assert_array_equal(valid[clear], (support >= 0.5)[clear])
        for band in range(2):
            expected = by_scipy(image[sample, band].numpy(), plan.matrix[sample], plan.size)
            difference = (out["image"][sample, band].numpy() - expected / np.maximum(support, 0.5))[valid]
            assert np.abs(difference).max() < 1e-4 * span


def test_what_shrinks_does_not_alias() -> None:
    checks = (torch.arange(64)[:, None] + torch.arange(64)) % 2
    image = checks.float().expand(1, 1, 64, 64)
    shrunk = Compose([Resize(16)])(keyed(image))["image"]
    assert torch.allclose(shrunk, torch.full_like(shrunk, 0.5), atol=1e-6)


def test_wide_tiles_agree_with_scipy_to_the_documented_limit() -> None:
    image = torch.rand(1, 1, 64, 4096, generator=torch.Generator().manual_seed(0))
    compose = Compose([RandomAffine((0.2, 0.2), scale=(1.01, 1.01), p=1.0)], interpolation="bilinear")
    plan = compose.plan(keyed(image))
    out = compose.apply(keyed(image), plan)
    support = by_scipy(np.ones((64, 4096)), plan.matrix[0], plan.size)
    expected = by_scipy(image[0, 0].numpy(), plan.matrix[0], plan.size)
    whole = support > 1 - 1e-6
    assert np.abs(out["image"][0, 0].numpy() - expected)[whole].max() < 4e-4


def test_masks_agree_with_scipy_nearest() -> None:
    image = smooth(3, 1, 64, 64)
    mask = (image[:, 0] > 0).to(torch.uint8) + 2 * (image[:, 0] > 0.1).to(torch.uint8)
    compose = Compose([RandomAffine(30, (0.1, 0.1), (0.8, 1.3), p=1.0)])
    batch = keyed(image, mask=mask)
    plan = compose.plan(batch)
    out = compose.apply(batch, plan)
    for sample in range(3):
        back = np.linalg.inv(plan.matrix[sample].numpy())
        rows, columns = np.mgrid[:64, :64]
        x, y, _ = np.einsum("ij,jhw->ihw", back, np.stack([columns, rows, np.ones_like(rows)]))
        on_edge = (np.abs(x % 1 - 0.5) < 1e-3) | (np.abs(y % 1 - 0.5) < 1e-3)
        inside = (x > -0.499) & (x < 63.499) & (y > -0.499) & (y < 63.499)
        sure = inside & ~on_edge & out["valid"][sample, 0].numpy()
        picked = mask[sample].numpy()[np.rint(y).astype(int).clip(0, 63), np.rint(x).astype(int).clip(0, 63)]
        np.testing.assert_array_equal(out["mask"][sample].numpy()[sure], picked[sure])
        assert (out["mask"][sample].numpy()[~out["valid"][sample, 0].numpy()] == 255).all()


DTYPES = [torch.uint8, torch.uint16, torch.int16, torch.float16, torch.bfloat16, torch.float32]


def numbers(dtype: torch.dtype, *shape: int) -> Tensor:
    values = torch.randint(1, 200, shape)
    if dtype.is_floating_point:
        return (values / 7).to(dtype)
    return (values * (300 if torch.iinfo(dtype).max > 60000 else 1)).to(dtype)


def exactly_equal(left: Tensor, right: Tensor) -> bool:
    return left.dtype == right.dtype and torch.equal(
        left.contiguous().view(torch.uint8), right.contiguous().view(torch.uint8)
    )


def bits(image: Tensor) -> Tensor:
    return image.view(torch.int16) if image.dtype == torch.uint16 else image


@pytest.mark.parametrize("dtype", DTYPES)
def test_symmetries_equal_flip_and_rot90_bit_for_bit(dtype: torch.dtype) -> None:
    image = numbers(dtype, 32, 3, 37, 37)
    mask = torch.randint(0, 9, (32, 37, 37))
    compose = Compose([RandomD4()], out_dtype=None, out_units="dn")
    batch = keyed(image, mask=mask)
    plan = compose.plan(batch)
    out = compose.apply(batch, plan)
    seen = set()
    for sample, row in enumerate(plan.parameters()):
        index = row["RandomD4"]["symmetry"]
        seen.add(index)
        expected, labels = bits(image[sample]), mask[sample]
        if index >= 4:
            expected, labels = expected.flip(-1), labels.flip(-1)
        expected, labels = expected.rot90(index % 4, (-2, -1)), labels.rot90(index % 4, (-2, -1))
        assert exactly_equal(bits(out["image"][sample]), expected)
        assert torch.equal(out["mask"][sample], labels)
    assert seen == set(range(8))


@pytest.mark.parametrize(
    ("operation", "expected"),
    [
        (RandomHorizontalFlip(p=1.0), lambda image: image.flip(-1)),
        (RandomVerticalFlip(p=1.0), lambda image: image.flip(-2)),
        (RandomRotation90((1, 1), p=1.0), lambda image: image.rot90(1, (-2, -1))),
        (RandomRotation90((-1, -1), p=1.0), lambda image: image.rot90(-1, (-2, -1))),
        (RandomRotation((90, 90), p=1.0), lambda image: image.rot90(1, (-2, -1))),
        (RandomRotation((-180, -180), p=1.0), lambda image: image.rot90(2, (-2, -1))),
        (CenterCrop(11), lambda image: image[..., 7:18, 7:18]),
        (PadTo(35), lambda image: nn.functional.pad(image, (5, 5, 5, 5))),
        (RandomAffine(p=1.0), lambda image: image),
    ],
)
def test_exact_operations_are_exact(operation: nn.Module, expected: object) -> None:
    image = torch.randn(3, 2, 25, 25)
    out = Compose([operation])(keyed(image))
    assert torch.equal(out["image"], expected(image))  # type: ignore[operator]


def test_the_fit_is_exact_and_keeps_the_centre() -> None:
    image = torch.arange(36.0).view(1, 1, 6, 6)
    assert torch.equal(Compose([], size=4)({"image": image})["image"], image[..., 1:5, 1:5])
    padded = Compose([], size=8, fill=-1.0)({"image": image})
    assert torch.equal(padded["image"], nn.functional.pad(image, (1, 1, 1, 1), value=-1.0))
    assert padded["valid"].sum() == 36


def test_random_crops_cover_every_place_and_are_exact() -> None:
    image = torch.arange(64.0).view(1, 1, 8, 8).expand(400, 1, 8, 8)
    out = Compose([RandomCrop(6)])(keyed(image))["image"]
    corners = out[:, 0, 0, 0].unique().tolist()
    assert corners == [0.0, 1.0, 2.0, 8.0, 9.0, 10.0, 16.0, 17.0, 18.0]
    assert torch.equal(
        out[0, 0], image[0, 0].roll((-(int(out[0, 0, 0, 0]) // 8), -(int(out[0, 0, 0, 0]) % 8)), (0, 1))[:6, :6]
    )


def test_a_tile_that_is_not_square_keeps_its_shape_under_symmetries() -> None:
    image = torch.randn(40, 1, 6, 9)
    for operation in (RandomD4(), RandomRotation90(p=1.0)):
        out = Compose([operation])(keyed(image))
        assert out["valid"].all()
        for sample in range(40):
            same = [image[sample], image[sample].flip(-1), image[sample].flip(-2), image[sample].flip(-1, -2)]
            assert any(torch.equal(out["image"][sample], candidate) for candidate in same)


def test_positive_rotation_is_counter_clockwise() -> None:
    image = torch.zeros(1, 1, 21, 21)
    image[0, 0, 10, 18] = 1.0  # to the right of the centre
    turned = Compose([RandomRotation((45, 45), p=1.0)])(keyed(image))["image"][0, 0]
    row, column = divmod(int(turned.argmax()), 21)
    assert row < 10 < column  # up, still to the right


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_sampled_at_the_same_places(dtype: torch.dtype) -> None:
    # A ramp over 600 pixels: float16 coordinates would be off by half a pixel there.
    ramp = torch.linspace(0, 1, 600).expand(2, 1, 600, 600).contiguous()
    compose = Compose([RandomRotation(30, p=1.0)], out_dtype=torch.float32)
    half, full = compose(keyed(ramp.to(dtype))), compose(keyed(ramp.to(dtype).float()))
    assert torch.equal(half["image"], full["image"])


def high_frequency_energy(image: Tensor) -> float:
    spectrum = torch.fft.fft2(image.double() - image.double().mean((-2, -1), keepdim=True)).abs().square()
    frequency = torch.fft.fftfreq(image.shape[-1]).abs()
    high = torch.maximum(frequency[:, None], frequency) > 0.25
    return float(spectrum[..., high].mean() / spectrum.mean())


def test_five_operations_lose_no_more_detail_than_one() -> None:
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(8, 1, 160, 160, generator=generator)
    angles = [13.0, -7.0, 21.0, -9.0, 5.0]
    total = RandomRotation((sum(angles), sum(angles)), p=1.0)
    chain = [RandomRotation((angle, angle), p=1.0) for angle in angles]
    one = Compose([total, CenterCrop(96)], interpolation="bilinear")(keyed(image))["image"]
    five = Compose([*chain, CenterCrop(96)], interpolation="bilinear")(keyed(image))["image"]
    again = image
    for operation in chain:
        again = Compose([operation], interpolation="bilinear")(keyed(again))["image"]
    again = again[..., 32:128, 32:128]
    kept = high_frequency_energy(five) / high_frequency_energy(one)
    assert kept == pytest.approx(1.0, abs=0.01)
    assert high_frequency_energy(again) < 0.7 * high_frequency_energy(one)  # what resampling five times costs


@pytest.mark.parametrize("operation", [RandomCrop(40), CenterCrop((10, 40))])
def test_a_crop_larger_than_the_tile_is_refused(operation: nn.Module) -> None:
    with pytest.raises(ConfigurationError, match="larger than the tile 32x32"):
        Compose([operation])(keyed(torch.zeros(1, 1, 32, 32)))


@pytest.mark.parametrize(
    "build",
    [
        lambda: RandomRotation((30, 10)),
        lambda: RandomRotation(400),
        lambda: RandomAffine(scale=(0.0, 1.0)),
        lambda: RandomAffine(translate=(0.1, 1.5)),
        lambda: RandomCrop(0),
        lambda: RandomD4(p=1.5),
        lambda: RandomRotation90((0.5, 1.5)),
        lambda: RandomResizedCrop(8, scale=(0.5, 1.5)),
    ],
)
def test_arguments_out_of_range_are_refused(build: object) -> None:
    with pytest.raises(ConfigurationError):
        build()  # type: ignore[operator]


def test_both_samplers_agree() -> None:
    image = smooth(3, 2, 33, 47)
    compose = Compose([RandomAffine(50, (0.3, 0.3), (0.5, 2), 20, p=1.0)], size=(51, 29))
    plan = compose.plan(keyed(image))
    x, y = warp.sampling_coordinates(plan.matrix, plan.size)
    difference = warp.bilinear(image, x, y) - warp.bilinear_exact(image, x, y)
    assert difference.abs().max() < 1e-4 * (image.max() - image.min())


def test_the_context_fills_rotated_corners_with_what_is_really_there() -> None:
    scene = smooth(1, 1, 128, 128)
    operations = [RandomRotation((30, 30), p=1.0)]
    compose = Compose(operations, size=64, interpolation="bilinear")
    context = compose.required_context(64)
    assert 0 < context <= 32
    whole = Compose(operations, size=64, interpolation="bilinear")(keyed(scene))
    tile = compose(keyed(scene[..., 32 - context : 96 + context, 32 - context : 96 + context]), context=context)
    assert tile["image"].shape[-2:] == (64, 64)
    assert tile["valid"].all()
    assert (tile["image"] - whole["image"]).abs().max() < 1e-4
    without = compose(keyed(scene[..., 32:96, 32:96]))
    assert not without["valid"].all()
    assert torch.equal(
        without["image"][without["valid"]].isfinite(), torch.ones(int(without["valid"].sum()), dtype=torch.bool)
    )


def test_exact_recipes_need_no_context() -> None:
    assert Compose([RandomD4(), RandomCrop(16)]).required_context(32) == 0
    assert Compose([RandomAffine(translate=(0.25, 0.0), p=1.0)]).required_context(40) == pytest.approx(11, abs=1)


def test_a_plan_is_made_without_pixels_and_prints() -> None:
    compose = Compose([RandomRotation(10, p=1.0)])
    plan = compose.plan({"image": torch.empty(3, 1, 8, 8), "key": torch.arange(3)})
    assert isinstance(plan, Plan)
    assert len(repr(plan)) < 5000
    assert [sorted(row) for row in plan.parameters()] == [["RandomRotation"]] * 3
