"""The random field of clouds: its moments, its spectrum, its period, and where a shadow looks at it."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import ndimage, stats

from geoaug.augment.physics import cloud_field
from geoaug.augment.physics.cloud_field import (
    FARTHEST,
    CloudField,
    CloudShade,
    CloudVeil,
    CloudViews,
    period_of,
    periodic_field,
)
from geoaug.augment.planning import maps as planning_maps
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


def veil(field: CloudField, views: CloudViews | None = None) -> CloudVeil:
    """Of drops, over ground as stored."""
    every = torch.ones(len(field.seed), 2, dtype=torch.float64)
    return CloudVeil(field, every[:, 0] / 0.3, every, 0 * every, views)


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
    reflected = veil(field).make(size, Surroundings())[:, 1]
    above = 1 - (1 - reflected) ** 2
    shade = CloudShade(field, torch.tensor([offset] * 3, dtype=torch.float64)).make(size, Surroundings())[:, 0]
    # A shaded pixel at x carries the cloud at x + 17, y - 9.
    assert torch.allclose(shade[:, 9:, : 128 - 17], above[:, : 96 - 9, 17:], atol=1e-5)
    half = CloudShade(field, torch.tensor([(0.5, 0.0)] * 3, dtype=torch.float64)).make(size, Surroundings())[:, 0]
    between = (above[..., 1:] + above[..., :-1]) / 2
    assert float((half[..., :-1] - between).abs().mean()) < 0.01


def test_backscatter_is_two_stream_and_never_more_than_all() -> None:
    field = cloud(1)
    excess = torch.linspace(-1, 5, 601)[None, None]
    thickness = 3 * excess.clamp_min(0).double() ** 1.5
    assert torch.allclose(field.backscatter(excess).double(), thickness / (2 + thickness), atol=1e-6)
    layers = veil(cloud(5, threshold=-0.5)).make(Size(64, 64), Surroundings())
    hidden, reflected, glow, diffuse = layers.unbind(1)
    # What is left of the pixel and what comes from around it is all that passes twice.
    assert torch.allclose(1 - hidden + diffuse, (1 - reflected) ** 2, atol=1e-6)
    assert float(layers.min()) >= 0
    assert float(layers.max()) <= 1
    assert ((glow == 1) | (hidden == 0)).all()  # all of a cloud glows


def test_clouds_are_bodies_and_not_specks() -> None:
    hidden = veil(cloud(30, threshold=0.5)).make(Size(224, 224), Surroundings())[:, 1] > 0.05
    largest = []
    for mask in hidden.numpy():
        labels, count = ndimage.label(mask)
        sizes = ndimage.sum_labels(mask, labels, range(1, count + 1))
        largest.append(max(sizes) / mask.sum())
    assert np.median(largest) > 0.3


def test_a_row_is_the_same_alone() -> None:
    generator = torch.Generator().manual_seed(0)
    beside = torch.randint(-FARTHEST, FARTHEST + 1, (6, 2, 2), generator=generator)
    side = torch.tensor([[1, 6], [1, 2], [1, 5], [2, 12], [1, 1], [1, 16]])
    together = veil(cloud(6), CloudViews(beside, side, (0, 1)))
    alone, size = map_tensors(together, lambda tensor: tensor[2:3]), Size(50, 70)
    assert torch.equal(together.make(size, Surroundings())[2:3], alone.make(size, Surroundings()))
    every, one = (each.by_band(size, Surroundings()) for each in (together, alone))
    assert every is not None
    assert one is not None
    assert torch.equal(every.planes[2:3], one.planes)


def test_bands_see_a_cloud_beside_and_averaged_over_their_pixels() -> None:
    """Against the layers themselves, moved by slices, and against scipy's means."""
    size, places = Size(60, 80), [(0, 0), (-7, 11), (FARTHEST, -FARTHEST)]
    side = torch.tensor([[1, 2, 6]])
    views = CloudViews(torch.tensor([places]), side, (0, 1, 2))
    field = cloud(1, threshold=-0.3)
    seen = veil(field, views).by_band(size, Surroundings())
    assert seen is not None
    wide = Size(60 + 80, 80 + 80)  # of the same period
    layers = veil(field).make(wide, Surroundings())[0].double().numpy()
    for index in range(4):
        found = seen.layer(index, size)[0].numpy()
        for band, (x, y) in enumerate(places):
            many = int(side[0, band])
            # Of an even number of pixels about one, scipy takes one more before it, and here it is one more after.
            mean = ndimage.uniform_filter(layers[index], many, mode="constant", origin=-1 if many % 2 == 0 else 0)
            top, left = 40 + y, 40 + x
            assert np.abs(found[band] - mean[top : top + 60, left : left + 80]).max() < 1e-5
        assert torch.equal(seen.labels(index, size), seen.layer(index, size)[:, 0])
    assert layers[0].std() > 0.1


def test_bands_see_the_same_where_nobody_may_look_at_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on devices: by sums along lines and by indices, in place of slices."""
    beside = torch.tensor([[[3, -4], [0, 24]], [[-24, 1], [7, 7]]])
    maps = veil(cloud(2, threshold=-0.3), CloudViews(beside, torch.tensor([[1, 6], [2, 15]]), (1, 0)))
    size = Size(40, 50)
    near = maps.by_band(size, Surroundings())
    for module in (cloud_field, planning_maps):
        monkeypatch.setattr(module, "may_look", lambda tensor: False)
    far = maps.by_band(size, Surroundings())
    assert near is not None
    assert far is not None
    assert torch.allclose(near.planes, far.planes, atol=1e-6)
    for index in range(4):
        elsewhere = far.layer(index, size)
        with monkeypatch.context() as patch:
            patch.setattr(planning_maps, "may_look", lambda tensor: True)
            assert torch.equal(far.layer(index, size), elsewhere)


@pytest.mark.parametrize("thickness", [0.05, 0.3, 1.0, 3.0])
def test_ground_under_cloud_keeps_the_contrast_of_light_that_goes_straight(thickness: float) -> None:
    """Half of what a cloud scatters is diffracted, and goes straight on: `exp(-t / 2)` of the light that came down."""
    backwards = 0.15
    field = replace(cloud(1, threshold=-20.0), reach=torch.tensor([backwards * thickness / 20**1.5]))
    every = torch.ones(1, 1, dtype=torch.float64)
    hidden, reflected, _, diffuse = (
        CloudVeil(field, every[0] / (2 * backwards), every, 0 * every)
        .make(Size(128, 128), Surroundings())[0]
        .double()
        .mean((1, 2))
        .tolist()
    )
    through = 2 / (2 + backwards * thickness)
    assert reflected == pytest.approx(1 - through, rel=0.03)
    assert 1 - hidden == pytest.approx(through * math.exp(-thickness / 2), rel=0.12 if thickness > 1 else 0.02)
    assert diffuse + 1 - hidden == pytest.approx(through**2, rel=0.02)
