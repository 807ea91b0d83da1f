"""Cubic convolution: against Keys' formula, GDAL, parabolas; weighted by validity; the same on every executor."""

import sys
from typing import Any

import numpy as np
import pytest
import torch
from rasterio.transform import Affine
from rasterio.warp import Resampling, reproject
from torch import Tensor

from geoaug import Compose, get_sensor
from geoaug.augment import RandomAffine, RandomBandShift, RandomD4, RandomRotation
from geoaug.errors import ConfigurationError
from geoaug.rng.draws import sample_keys

COMPILED = pytest.param("cpu", marks=pytest.mark.slow)
EXECUTORS = ["torch", COMPILED]
# Sixteen taps of every place, each interpreted.
INTERPRETED = pytest.param(
    "triton", marks=[pytest.mark.skipif(sys.platform != "linux", reason="no Triton here"), pytest.mark.slow]
)
DEVICE = {"triton": "cuda" if torch.cuda.is_available() else "cpu"}


def compose(*operations: torch.nn.Module, executor: str = "torch", **more: Any) -> Compose:
    return Compose(operations, interpolation="bicubic", executor=executor, **more)  # type: ignore[arg-type]


def keys_kernel(x: np.ndarray[Any, Any], a: float = -0.5) -> np.ndarray[Any, Any]:
    """The kernel as Keys printed it (1981, eq. 15)."""
    x = np.abs(x)
    near = (a + 2) * x**3 - (a + 3) * x**2 + 1
    far = a * x**3 - 5 * a * x**2 + 8 * a * x - 4 * a
    return np.where(x <= 1, near, np.where(x < 2, far, 0.0))


def expected(image: Tensor, valid: Tensor, back: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Weighted means over the whole image, pixel by pixel, and their weights, in float64."""
    height, width = image.shape[-2:]
    y, x = np.mgrid[:size, :size]
    places = back.numpy() @ np.stack((x.ravel(), y.ravel(), np.ones(size * size)))
    across = keys_kernel(places[0][:, None] - np.arange(width))
    down = keys_kernel(places[1][:, None] - np.arange(height))
    weight = torch.from_numpy(down[:, :, None] * across[:, None, :]) * valid.double()
    support = weight.flatten(1).sum(1)
    total = torch.einsum("phw,chw->cp", weight, image.double())
    return (total / support).view(-1, size, size), support.view(size, size)


def holed(count: int = 2, bands: int = 2, side: int = 20) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(side)
    valid = torch.rand(count, 1, side, side, generator=generator) > 0.1
    valid[:, :, :5, :6] = False
    image = torch.rand(count, bands, side, side, generator=generator) * 100
    return {"image": image, "valid": valid, "key": sample_keys(0, range(count))}


@pytest.mark.parametrize("executor", EXECUTORS)
def test_it_is_the_weighted_mean_by_keys_kernel(executor: str) -> None:
    batch = holed()
    turn = compose(RandomAffine(40, (0.1, 0.1), (0.9, 1.6), 10, p=1.0), executor=executor)
    plan = turn.plan(batch)
    out = turn.apply(batch, plan)
    for sample in range(2):
        back = torch.linalg.inv(plan.matrix[sample])
        mean, support = expected(batch["image"][sample], batch["valid"][sample, 0], back, 20)
        clear = (support - 0.5).abs() > 1e-3
        good = out["valid"][sample, 0]
        assert torch.equal(good[clear], (support >= 0.5)[clear])
        assert (out["image"][sample].double() - mean)[:, good & clear].abs().max() < 1e-3


@pytest.mark.parametrize("executor", EXECUTORS)
def test_it_is_what_gdal_does(executor: str) -> None:
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(1, 3, 40, 40, generator=generator)
    batch = {"image": image, "key": sample_keys(0, range(1))}
    turn = compose(RandomAffine(30, (0.05, 0.05), (1.1, 1.4), p=1.0), executor=executor)
    plan = turn.plan(batch)
    out = turn.apply(batch, plan)["image"][0]
    # Pixel corners instead of centres.
    corner = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1]])
    back = corner @ np.linalg.inv(plan.matrix[0].numpy()) @ np.linalg.inv(corner)
    warped = np.zeros((3, 40, 40), np.float32)
    reproject(
        image[0].numpy(),
        warped,
        src_transform=Affine.identity(),
        dst_transform=Affine(*back[:2].ravel()),
        src_crs="EPSG:32632",
        dst_crs="EPSG:32632",
        resampling=Resampling.cubic,
        tolerance=0.0,
    )
    y, x = np.mgrid[:40, :40]
    places = np.linalg.inv(plan.matrix[0].numpy()) @ np.stack((x.ravel(), y.ravel(), np.ones(1600)))
    # GDAL treats the edge in another way.
    inner = ((places[:2] > 3) & (places[:2] < 36)).all(0).reshape(40, 40)
    assert inner.mean() > 0.3
    assert np.abs(out.numpy() - warped)[:, inner].max() < 1e-4


@pytest.mark.parametrize("executor", EXECUTORS)
def test_parabolas_come_back_as_they_are(executor: str) -> None:
    y, x = torch.meshgrid(torch.arange(24.0), torch.arange(24.0), indexing="ij")
    image = (0.3 * x**2 - 0.2 * x * y + 0.1 * y**2 - x + 5)[None, None]
    batch = {"image": image, "key": sample_keys(3, range(1))}
    turn = compose(RandomRotation(30, p=1.0), executor=executor)
    plan = turn.plan(batch)
    out = turn.apply(batch, plan)
    places = torch.linalg.inv(plan.matrix[0]) @ torch.stack((x.flatten(), y.flatten(), torch.ones(576))).double()
    a, b = places[0].view(24, 24), places[1].view(24, 24)
    inner = ((a > 1) & (a < 22) & (b > 1) & (b < 22)).view(24, 24)
    assert inner.sum() > 200
    exact = 0.3 * a**2 - 0.2 * a * b + 0.1 * b**2 - a + 5
    assert (out["image"][0, 0] - exact)[inner].abs().max() < 1e-3


@pytest.mark.parametrize("executor", EXECUTORS)
@pytest.mark.parametrize("poison", [1e6, torch.nan, torch.inf])
def test_what_stands_in_invalid_pixels_does_not_matter(poison: float, executor: str) -> None:
    batch = holed()
    turn = compose(RandomAffine(40, (0.1, 0.1), (0.4, 1.4), 10, p=1.0), executor=executor)
    clean = turn(batch)
    poisoned = turn({**batch, "image": torch.where(batch["valid"], batch["image"], poison)})
    assert torch.equal(clean["valid"], poisoned["valid"])
    assert torch.equal(clean["image"], poisoned["image"])
    flat = turn({**batch, "image": torch.where(batch["valid"], 7.0, poison).expand(-1, 2, -1, -1)})
    assert (flat["image"] - 7.0)[flat["valid"].expand(-1, 2, -1, -1)].abs().max() < 1e-4


@pytest.mark.parametrize("executor", EXECUTORS)
def test_it_overshoots_beside_edges_and_nothing_is_clamped(executor: str) -> None:
    image = torch.zeros(1, 1, 32, 32, dtype=torch.uint16)
    image[..., 16:] = 1000
    batch = {"image": image, "key": sample_keys(0, range(1))}
    out = compose(RandomRotation((10, 10), p=1.0), executor=executor)(batch)
    values = out["image"][out["valid"]]
    # By Keys' kernel, a step overshoots by up to 7 % on either side.
    assert -80 < values.min() < -30
    assert 1030 < values.max() < 1080
    whole = compose(RandomRotation((10, 10), p=1.0), executor=executor, out_units="dn", out_dtype=torch.uint16)(batch)
    assert whole["image"].view(torch.int16)[whole["valid"]].min() == 0


@pytest.mark.parametrize("executor", [COMPILED, INTERPRETED])
@pytest.mark.parametrize("dtype", [torch.uint16, torch.float32])
def test_executors_do_the_same(dtype: torch.dtype, executor: str) -> None:
    batch = holed(2, 3, 13)
    batch["mask"] = torch.randint(0, 5, (2, 13, 13), generator=torch.Generator().manual_seed(0))
    batch["image"] = (batch["image"] * 50).to(dtype)
    if dtype == torch.float32:
        batch["image"][1, 2, 9, 9] = torch.nan
    sensor = get_sensor("sentinel-2-l1c").select(["B02", "B03", "B04"])
    for operations in (
        [RandomD4(), RandomRotation(40, p=0.7)],
        [RandomRotation(40, p=1.0), RandomBandShift(p=1.0)],
        [RandomAffine(20, scale=(0.45, 0.6), p=1.0)],
    ):
        plain = compose(*operations, sensor=sensor)
        plan = plain.plan(batch)
        wanted = plain.apply(batch, plan)
        device = DEVICE.get(executor, "cpu")
        moved = {name: value.to(device) for name, value in batch.items()}
        out = compose(*operations, sensor=sensor, executor=executor).apply(moved, plan)
        assert torch.equal(out["valid"].cpu(), wanted["valid"])
        assert torch.equal(out["mask"].cpu(), wanted["mask"])
        assert (out["image"].cpu() - wanted["image"]).abs().max() < 3e-6


@pytest.mark.parametrize("executor", EXECUTORS)
@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (2, 3), (3, 2), (4, 5)])
def test_images_smaller_than_the_kernel(shape: tuple[int, int], executor: str) -> None:
    batch = {"image": torch.rand(4, 2, *shape) + 1, "key": sample_keys(0, range(4))}
    operation = RandomAffine(20, (0.2, 0.2), (0.8, 1.2), p=1.0)
    wanted, out = compose(operation)(batch), compose(operation, executor=executor)(batch)
    assert torch.equal(out["valid"], wanted["valid"])
    assert (out["image"] - wanted["image"]).abs().max() < 1e-5


def test_other_interpolations_are_refused() -> None:
    with pytest.raises(
        ConfigurationError, match="interpolation='cubic' is not one of 'sharp', 'bilinear', 'bicubic', 'nearest'"
    ):
        Compose([], interpolation="cubic")  # type: ignore[arg-type]
