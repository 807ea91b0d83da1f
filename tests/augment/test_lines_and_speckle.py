"""Stripes and lost lines that follow the sensor's track, and speckle that neighbouring pixels share."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from geoaug import Compose, get_sensor
from geoaug.augment import (
    RandomAffine,
    RandomD4,
    RandomLineDropout,
    RandomSpeckle,
    RandomStriping,
    RandomThermalNoise,
)
from geoaug.augment.kernels.radiometry import cube_of_normal
from geoaug.augment.operations.sar import side_weight, speckle_correlation
from geoaug.errors import ConfigurationError
from geoaug.rng.draws import sample_keys
from geoaug.sensors import Band

S2 = get_sensor("sentinel-2-l1c")


def stripes(axis: str) -> RandomStriping:
    return RandomStriping((0.05, 0.05), axis, p=1.0)  # type: ignore[arg-type]


def lost(axis: str) -> RandomLineDropout:
    return RandomLineDropout((0.2, 0.2), fill=0.4, axis=axis, p=1.0)  # type: ignore[arg-type]


def tiles(batch: int = 4, side: int = 48) -> dict[str, Any]:
    image = torch.rand(batch, 13, side, side, generator=torch.Generator().manual_seed(0)) * 2000 + 1000
    return {"image": image, "key": sample_keys(0, range(batch))}


def run(operations: list[nn.Module], batch: dict[str, Any], **more: Any) -> dict[str, Any]:
    return Compose(operations, sensor=S2, executor="torch", **more)(batch)


@pytest.mark.parametrize("axis", ["columns", "rows"])
@pytest.mark.parametrize("make", [stripes, lost])
def test_lines_turn_with_the_tile(make: Any, axis: str) -> None:
    """The tile with its lines, flipped and turned, is the tile that was flipped and turned before."""
    batch = tiles(16)
    turned = run([RandomD4(), make(axis)], batch)["image"]
    still = run([RandomD4(p=0.0), make(axis)], batch, out_units="dn")["image"]
    moved = run([RandomD4()], {**batch, "image": still})["image"]
    assert (turned - moved).abs().max() < 1e-6


@pytest.mark.parametrize(("degrees", "scale"), [(17.0, 1.0), (75.0, 1.0), (0.0, 2.0)])
@pytest.mark.parametrize("make", [stripes, lost])
def test_lines_turn_by_any_angle_and_grow(make: Any, degrees: float, scale: float) -> None:
    batch = {**tiles(), "image": torch.full((4, 13, 64, 64), 2000.0)}
    turn, nothing = (RandomAffine((degrees, degrees), scale=(scale, scale), p=p) for p in (1.0, 0.0))
    turned = run([turn, make("columns")], batch, interpolation="bilinear")
    still = run([nothing, make("columns")], batch, out_units="dn")["image"]
    moved = run([turn], {**batch, "image": still}, interpolation="bilinear")
    inner = (slice(None), slice(None), slice(16, 48), slice(16, 48))
    assert turned["valid"][..., 16:48, 16:48].all()
    assert turned["image"][inner].std() > 0.005
    assert (turned["image"] - moved["image"])[inner].abs().max() < 2e-5


def test_stripes_are_as_wide_as_the_pixels_of_their_band() -> None:
    batch = {**tiles(6), "image": torch.full((6, 13, 96, 96), 2000.0)}
    gains = run([stripes("columns")], batch, band_resampling="nearest")["image"][:, :, 0] / 0.2 - 1
    for band, ratio in ((0, 6), (4, 2), (1, 1)):
        blocks = gains[:, band].unflatten(1, (-1, ratio))
        assert (blocks.amax(2) - blocks.amin(2)).max() < 1e-6
        assert float(gains[:, band, ::ratio].std()) == pytest.approx(0.05, rel=0.25)
    assert torch.allclose(gains[:, 1], run([stripes("columns")], batch)["image"][:, 1, 0] / 0.2 - 1, atol=1e-6)
    smooth = run([stripes("columns")], batch)["image"][:, 0, 0] / 0.2 - 1
    assert smooth.diff().abs().max() < 0.5 * gains[:, 0].diff().abs().max()


def test_a_samples_lines_are_the_same_in_every_batch() -> None:
    batch = tiles(5, 40)
    compose = Compose(
        [RandomD4(), RandomAffine(30, scale=(0.5, 1.5), p=0.6), RandomStriping(p=0.7), RandomLineDropout(p=0.7)],
        sensor=S2,
        executor="torch",
    )
    together = compose(batch)["image"]
    for n in range(5):
        alone = compose({name: value[n : n + 1] for name, value in batch.items()})["image"]
        assert torch.equal(alone, together[n : n + 1])


def speckle_of(looks: float, side: int = 512, operations: list[nn.Module] | None = None, **batch: Any) -> Tensor:
    operation = RandomSpeckle((looks, looks), present=math.inf, p=1.0)
    given = {"image": torch.ones(1, 2, side, side), "key": sample_keys(0, [0]), **batch}
    out = Compose([*(operations or []), operation], sensor="sentinel-1-power", executor="torch")(given)
    return out["image"].double()


def correlation(power: Tensor, down: int, across: int) -> float:
    height, width = power.shape[-2:]
    part = (power - power.mean()) / power.std()
    return float((part[..., down:, across:] * part[..., : height - down, : width - across]).mean())


@pytest.mark.parametrize("looks", [1.0, 4.4, 20.0])
def test_speckle_is_correlated_as_the_sensor_resolves(looks: float) -> None:
    power = speckle_of(looks)
    # sinc(10 / 20)^2 and sinc(10 / 22)^2.
    assert correlation(power, 0, 1) == pytest.approx((math.sin(math.pi / 2) / (math.pi / 2)) ** 2, abs=0.015)
    angle = math.pi * 10 / 22
    assert correlation(power, 1, 0) == pytest.approx((math.sin(angle) / angle) ** 2, abs=0.015)
    for lag in (2, 3, 4):
        assert abs(correlation(power, 0, lag)) < 0.08
    assert abs(correlation(power, 0, 3)) < 0.015
    assert float(power.mean()) == pytest.approx(1.0, rel=0.01)
    assert float(power.mean() ** 2 / power.var()) == pytest.approx(looks, rel=0.03)


def test_speckle_depends_on_pixels_and_turns() -> None:
    apart = torch.tensor([[40.0, 0, 0, 0, -40, 0]], dtype=torch.float64)
    assert abs(correlation(speckle_of(4.4, transform=apart), 0, 1)) < 0.015
    key = next(n for n in range(50) if _quarter(n))
    turned = speckle_of(4.4, operations=[RandomD4()], key=sample_keys(0, [key]))
    straight = speckle_of(4.4)
    assert correlation(turned, 1, 0) == pytest.approx(correlation(straight, 0, 1), abs=0.02)
    assert correlation(turned, 0, 1) - correlation(turned, 1, 0) > 0.04
    unknown = Compose([RandomSpeckle((2.0, 2.0), present=math.inf, p=1.0)], executor="torch")
    plain = unknown({"image": torch.ones(1, 2, 256, 256), "key": sample_keys(0, [0])})["image"].double()
    assert abs(correlation(plain, 0, 1)) < 0.02


def _quarter(number: int) -> bool:
    plan = Compose([RandomD4()]).plan({"image": torch.ones(1, 2, 8, 8), "key": sample_keys(0, [number])})
    return bool(plan.matrix[0, 0, 0] == 0)


def test_noise_power_speckles_likewise() -> None:
    noise = RandomThermalNoise((-10.0, -10.0), p=1.0)
    compose = Compose([noise], sensor="sentinel-1-power", executor="torch")
    out = compose({"image": torch.zeros(1, 2, 512, 512), "key": sample_keys(0, [0])})["image"].double()
    assert correlation(out, 0, 1) == pytest.approx(0.405, abs=0.015)
    assert float(out.mean() ** 2 / out.var()) == pytest.approx(4.4, rel=0.03)


@pytest.mark.parametrize("variance", [0.05, 0.3, 1.0])
def test_weights_of_neighbours_give_the_correlation(variance: float) -> None:
    """By quadrature over two correlated normal numbers."""
    wanted = torch.tensor([0.05, 0.3, 0.45], dtype=torch.float64)
    every = torch.full_like(wanted, variance)
    side = side_weight(wanted, every)
    shift, scale = (float(part[0]) for part in cube_of_normal(every))
    nodes, weights = np.polynomial.hermite_e.hermegauss(24)
    weights = weights / weights.sum()
    for s, target in zip(side.tolist(), wanted.tolist(), strict=True):
        r = 2 * s * math.sqrt(1 - 2 * s * s)
        second = r * nodes[:, None] + math.sqrt(1 - r * r) * nodes[None]
        product = (shift + scale * nodes[:, None]) ** 3 * (shift + scale * second) ** 3
        covariance = weights @ product @ weights - 1
        assert covariance / variance == pytest.approx(target, abs=1e-6)


def test_pixels_a_resolution_apart_are_independent() -> None:
    spacing = torch.tensor([0.0, 10.0, 20.0, 40.0], dtype=torch.float64)
    found = speckle_correlation(spacing, 20.0)
    assert found.tolist() == pytest.approx([1.0, 4 / math.pi**2, 0.0, 0.0], abs=1e-12)
    with pytest.raises(ConfigurationError, match="band 'VV': resolution_m must be positive"):
        Band("VV", resolution_m=(20.0, 0.0))
