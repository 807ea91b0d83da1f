"""The random field of clouds: its moments, its spectrum, its period, and where a shadow looks at it."""

import math

import numpy as np
import pytest
import torch
from scipy import ndimage, stats

from geoaug.augment.physics.cloud_field import CloudField, CloudShade, CloudVeil, period_of, periodic_field
from geoaug.augment.planning.maps import Surroundings
from geoaug.augment.planning.matrices import Size
from geoaug.augment.planning.tree import map_tensors
from geoaug.rng.draws import sample_keys


def fields(count: int, outer: float = 30.0, inner: float = 1e-3, period: int = 256) -> torch.Tensor:
    scale = torch.full((count,), outer, dtype=torch.float64)
    return periodic_field(sample_keys(3, range(count)), scale, torch.full_like(scale, inner), period)


def cloud(count: int, threshold: float = 0.0, outer: float = 40.0) -> CloudField:
    one = torch.ones(count, dtype=torch.float64)
    linear = torch.eye(2, dtype=torch.float64).expand(count, 2, 2)
    return CloudField(sample_keys(9, range(count)), outer * one, 20 * one, linear, threshold * one, 3 * one)


@pytest.mark.parametrize("period", [256, 384])
def test_values_have_mean_zero_and_variance_one(period: int) -> None:
    field = fields(200, period=period).double()
    # Single pixels of different fields are independent.
    sample = field[:, 5, 7], field[:, 100, 31], field[:, 17, 120]
    for values in sample:
        assert abs(float(values.mean())) < 5 / math.sqrt(200)
    assert float(field.var(0).mean()) == pytest.approx(1.0, abs=0.06)


def test_the_share_above_a_quantile_is_that_of_a_normal_distribution() -> None:
    field = fields(300, outer=15.0)
    for share in (0.05, 0.2, 0.5):
        assert float((field > stats.norm.isf(share)).double().mean()) == pytest.approx(share, abs=0.02)


@pytest.mark.parametrize(("inner", "slope"), [(1e-3, -5 / 3), (1e3, -3.0)])
def test_the_spectrum_is_that_of_turbulence_and_of_smoothed_light(inner: float, slope: float) -> None:
    field = fields(64, outer=1000.0, inner=inner).double().numpy()
    power = (np.abs(np.fft.rfft(field, axis=2)) ** 2).mean((0, 1))
    # Between the outer scale and the finest lattice, along lines.
    wave = np.arange(4, 30)
    assert np.polyfit(np.log(wave), np.log(power[4:30]), 1)[0] == pytest.approx(slope, abs=0.3)


@pytest.mark.parametrize("outer", [60.0, 250.0])
def test_what_is_larger_than_the_field_shifts_all_of_it(outer: float) -> None:
    """Against the same spectrum on a field so wide that it holds everything: means of squares of 256 pixels."""
    many = fields(400, outer=outer).double()
    assert float(many.var(0).mean()) == pytest.approx(1.0, abs=0.12)
    wide = fields(8, outer=outer, period=2048).double().numpy()
    squares = wide.reshape(8, 8, 128, 8, 128).mean((2, 4))
    assert float(many.mean((1, 2)).var()) == pytest.approx(float(squares.var()), rel=0.3, abs=0.02)


def test_the_field_wraps_around_without_a_seam() -> None:
    field = fields(8).double()
    step = (field - field.roll(1, 2)).abs()
    assert float(step[:, :, 0].mean()) == pytest.approx(float(step[:, :, 1:].mean()), rel=0.3)


def test_a_field_depends_on_its_seed_alone() -> None:
    together = fields(7)
    alone = periodic_field(
        sample_keys(3, range(7))[4:5], torch.full((1,), 30.0).double(), torch.full((1,), 1e-3).double(), 256
    )
    assert torch.equal(together[4:5], alone)


def test_the_period_covers_the_tile() -> None:
    for side in (16, 64, 224, 256, 300, 512, 1000):
        period = period_of(Size(side, side // 2))
        assert period >= 256
        assert 1.5 * side <= period <= max(256, 3 * side)


def test_a_shade_is_the_veil_seen_from_elsewhere() -> None:
    size, offset = Size(96, 128), (17.0, -9.0)
    field = cloud(3)
    veil = CloudVeil(field).make(size, Surroundings())[:, 0]
    shade = CloudShade(field, torch.tensor([offset] * 3, dtype=torch.float64)).make(size, Surroundings())[:, 0]
    # A shaded pixel at x carries the cloud at x + 17, y - 9.
    assert torch.allclose(shade[:, 9:, : 128 - 17], veil[:, : 96 - 9, 17:], atol=1e-5)
    half = CloudShade(field, torch.tensor([(0.5, 0.0)] * 3, dtype=torch.float64)).make(size, Surroundings())[:, 0]
    between = (veil[..., 1:] + veil[..., :-1]) / 2
    assert float((half[..., :-1] - between).abs().mean()) < 0.01


def test_backscatter_is_two_stream_and_never_more_than_all() -> None:
    field = cloud(1)
    excess = torch.linspace(-1, 5, 601)[None, None]
    thickness = 3 * excess.clamp_min(0).double() ** 1.5
    assert torch.allclose(field.backscatter(excess).double(), thickness / (2 + thickness), atol=1e-6)
    veil = CloudVeil(cloud(5, threshold=-0.5)).make(Size(64, 64), Surroundings())
    hidden, reflected, glow = veil.unbind(1)
    assert torch.allclose(1 - hidden, (1 - reflected) ** 2, atol=1e-6)
    assert float(veil.min()) >= 0
    assert float(veil.max()) <= 1
    assert ((glow == 1) | (hidden == 0)).all()  # all of a cloud glows


def test_clouds_are_bodies_and_not_specks() -> None:
    hidden = CloudVeil(cloud(30, threshold=0.5)).make(Size(224, 224), Surroundings())[:, 0] > 0.1
    largest = []
    for mask in hidden.numpy():
        labels, count = ndimage.label(mask)
        sizes = ndimage.sum_labels(mask, labels, range(1, count + 1))
        largest.append(max(sizes) / mask.sum())
    assert np.median(largest) > 0.3


def test_a_row_is_the_same_alone() -> None:
    veil = CloudVeil(cloud(6))
    alone = map_tensors(veil, lambda tensor: tensor[2:3])
    assert torch.equal(veil.make(Size(50, 70), Surroundings())[2:3], alone.make(Size(50, 70), Surroundings()))
