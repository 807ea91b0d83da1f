"""Images made for the eye: the curve, what goes through it, and what weather looks like behind it."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from kornia.color import linear_rgb_to_rgb, rgb_to_linear_rgb
from torch import Tensor, nn

from geoaug import Compose, get_sensor
from geoaug.augment import (
    RandomCloud,
    RandomCloudShadow,
    RandomD4,
    RandomHaze,
    RandomIllumination,
    RandomRotation,
    RandomSensorNoise,
)
from geoaug.augment.kernels import arrays
from geoaug.augment.physics.display import display_of, light_of
from geoaug.rng.draws import sample_keys

RGB, RGBN = get_sensor("rgb"), get_sensor("rgbn")
STRAIGHT = replace(RGB, transfer=None)
EXECUTORS = ["torch", pytest.param("cpu", marks=pytest.mark.slow), pytest.param("triton", marks=pytest.mark.slow)]


def every_value(bands: int = 3) -> dict[str, Any]:
    values = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16).expand(2, bands, 16, 16).contiguous()
    return {"image": values, "key": sample_keys(0, range(2))}


def shown(operations: Sequence[nn.Module], batch: dict[str, Any], executor: str = "torch", **more: Any) -> Tensor:
    compose = Compose(operations, sensor=RGB, out_units="dn", executor=executor, **more)  # type: ignore[arg-type]
    result: Tensor = compose(batch)["image"]
    return result


def by_definition(display: np.ndarray) -> np.ndarray:
    """Reflectance of rgb's display values, 0 to 1."""
    return 0.8 * np.where(display <= 0.04045, display / 12.92, ((display + 0.055) / 1.055) ** 2.4)


def test_the_curve_is_that_of_srgb() -> None:
    values = torch.linspace(0, 1, 3001).double().expand(3, 1, -1)
    assert (light_of(values) - rgb_to_linear_rgb(values)).abs().max() < 1e-7
    assert (display_of(values) - linear_rgb_to_rgb(values)).abs().max() < 1e-6
    beyond = torch.linspace(-0.3, 4, 1000).double()
    assert (light_of(display_of(beyond)) - beyond).abs().max() < 1e-7
    assert (beyond.diff() > 0).all()


@pytest.mark.slow
def test_the_compiled_curve_is_the_same() -> None:
    loops = pytest.importorskip("geoaug.augment.kernels.loops")
    for kind, curve in ((arrays.LIGHT, light_of), (arrays.DISPLAY, display_of)):
        values = torch.linspace(-0.1, 2, 8 * 1000).reshape(8, 1000)
        run = values.numpy().copy()
        loops.curve(run, kind, 1000)
        assert np.abs(run - curve(values.double()).numpy()).max() < 2e-6


@pytest.mark.parametrize("executor", EXECUTORS)
def test_each_stored_value_comes_back(executor: str) -> None:
    """Also where an operation that passed the sample by leaves nothing but the curve, there and back."""
    batch = every_value()
    idle = [RandomIllumination(p=0.0), RandomHaze(p=0.0), RandomSensorNoise(p=0.0)]
    for operations in ([], idle):
        out = shown(operations, batch, executor, out_dtype=torch.uint8)
        assert torch.equal(out, batch["image"])
    fractions = Compose(idle, sensor=RGB, executor=executor)(batch)["image"]  # type: ignore[arg-type]
    assert (fractions * 255 - batch["image"]).abs().max() < 1e-3


def test_geometry_alone_goes_through_no_curve() -> None:
    """It moves and mixes what is stored, so that an edge rings as little as it shows."""
    batch = {"image": torch.randint(0, 256, (3, 3, 20, 20), dtype=torch.uint8), "key": sample_keys(0, range(3))}
    for operations in ([RandomD4()], [RandomRotation(30, p=1.0)]):
        plain = Compose(operations, sensor=STRAIGHT)(batch)["image"]
        assert torch.equal(Compose(operations, sensor=RGB)(batch)["image"], plain)


def test_light_changes_reflectance_and_not_the_display_value() -> None:
    batch = every_value()
    brighter = RandomIllumination((1.25, 1.25), band_jitter=0.0, p=1.0)
    out = shown([brighter], batch, out_dtype=torch.float32).double().numpy() / 255
    before = batch["image"].double().numpy() / 255
    assert np.abs(by_definition(out) / by_definition(before).clip(1e-9) - 1.25)[before > 0].max() < 1e-4
    # In kornia's containers an operation takes and gives display values, too.
    alone = RandomIllumination((1.25, 1.25), band_jitter=0.0, p=1.0, sensor=RGB)(batch["image"] / 255)
    assert np.abs(alone.double().numpy() - out).max() < 1e-5


@pytest.mark.parametrize("executor", EXECUTORS)
def test_haze_brightens_dark_ground_and_dims_bright_ground(executor: str) -> None:
    """On NAIP's fields, whose dark pixels have 35 to 60, a depth of 0.2 took away 3 to 9."""
    image = torch.tensor([40, 60, 200], dtype=torch.uint8).repeat_interleave(100)[None, None, None].expand(1, 3, 1, 300)
    batch = {"image": image.contiguous(), "key": sample_keys(0, [0]), "sun_elevation": torch.tensor([50.0])}
    haze = RandomHaze((0.2, 0.2), adjacency=False, p=1.0)
    change = shown([haze], batch, executor, out_dtype=torch.float32)[0, :, 0, ::100] - torch.tensor([40.0, 60, 200])
    assert (change[:, 0] > 8).all()
    assert (change[:, 1] > 5).all()
    assert (change[:, 2] < -3).all()
    assert (change[2] > change[0])[:2].all()  # blue more than red


@pytest.mark.parametrize("executor", EXECUTORS[:2])
def test_haze_sees_the_light_of_the_surroundings(executor: str) -> None:
    """Over ground of one colour there is no adjacency; over one of many it mixes light, which is no mean of DN."""
    even = {"image": torch.full((1, 3, 48, 48), 60, dtype=torch.uint8), "key": sample_keys(0, [0])}
    near, apart = (
        shown([RandomHaze((0.4, 0.4), adjacency=mixed, p=1.0)], even, executor, out_dtype=torch.float32)
        for mixed in (True, False)
    )
    assert (near - apart).abs().max() < 0.5
    # Two fields on 24 m: all light from above comes from everywhere alike.
    halves = (torch.arange(48) >= 24).to(torch.uint8)
    board = {**even, "image": (halves * 200 + 20).expand(1, 3, 48, 48).contiguous()}
    board["transform"] = torch.tensor([[0.5, 0, 0, 0, -0.5, 0]], dtype=torch.float64)
    haze = RandomHaze((0.4, 0.4), p=1.0)
    out = shown([haze], board, executor, out_dtype=torch.float32).double().numpy() / 255
    mean = by_definition(np.array([20, 220]) / 255).mean()
    flat = {**even, "image": torch.full((1, 3, 48, 48), 255 * float(display_of(torch.tensor(mean / 0.8))))}
    level = shown([haze], flat, executor, out_dtype=torch.float32).double().numpy() / 255
    # Mixing with the surroundings leaves the mean of the light that uniform ground of that mean has.
    assert by_definition(out).mean() == pytest.approx(by_definition(level).mean(), rel=0.01)


@pytest.mark.parametrize("executor", EXECUTORS[:2])
def test_thick_clouds_are_white_and_shadows_are_not_black(executor: str) -> None:
    image = torch.full((4, 3, 64, 64), 80, dtype=torch.uint8)
    batch = {"image": image, "key": sample_keys(1, range(4)), "sun_elevation": torch.full((4,), 45.0)}
    cloud = RandomCloud((0.6, 0.6), (60.0, 60.0), cirrus=0.0, thick_cloud="keep", p=1.0)
    compose = Compose([cloud], sensor=RGB, out_units="dn", executor=executor)  # type: ignore[arg-type]
    out = compose(batch)
    brightest = out["image"].amax((0, 2, 3))
    assert (brightest > 230).all()
    assert brightest.max() - brightest.min() < 12
    shadow = RandomCloudShadow(coverage=(0.6, 0.6), thickness=(60.0, 60.0), p=1.0)
    compose = Compose([shadow], sensor=RGB, out_units="dn", executor=executor)  # type: ignore[arg-type]
    darkest = compose(batch)["image"].amin((0, 2, 3))
    assert (darkest < 60).all()
    assert (darkest > 20).all()
    assert darkest[2] > darkest[0]  # skylight is blue


@pytest.mark.parametrize("executor", EXECUTORS[1:])
def test_executors_agree_on_display_images(executor: str) -> None:
    operations = [
        RandomRotation(30, p=0.7),
        RandomHaze((0.1, 0.4), p=1.0),
        RandomCloud(p=0.7),
        RandomSensorNoise(p=1.0),
    ]
    compose = Compose(operations, sensor=RGBN, executor="torch")
    generator = torch.Generator().manual_seed(3)
    image = torch.randint(0, 256, (3, 4, 20, 25), dtype=torch.uint8, generator=generator)
    batch = {"image": image, "key": sample_keys(5, range(3)), "valid": torch.rand(3, 1, 20, 25) > 0.05}
    plan = compose.plan(batch)
    plain = compose.apply(batch, plan)
    compose.executor = executor  # type: ignore[assignment]
    out = compose.apply(batch, plan)
    assert torch.equal(plain["valid"], out["valid"])
    # The curve is steepest at black: thirteen times.
    assert (plain["image"] - out["image"]).abs().max() < 3e-4


def test_stock_operations_see_display_values() -> None:
    """Between two of geoaug's stages a photographic operation gets what it was written for."""
    import kornia.augmentation as K

    class Seen(K.RandomBrightness):  # type: ignore[misc]
        def apply_transform(self, input: Tensor, *rest: Any, **more: Any) -> Tensor:
            seen.append(input.clone())
            return input

    seen: list[Tensor] = []
    batch = every_value()
    idle = RandomIllumination(p=0.0)
    Compose([idle, Seen(p=1.0), idle], sensor=RGB)(batch)
    assert (seen[0] * 255 - batch["image"][:1]).abs().max() < 1e-3
