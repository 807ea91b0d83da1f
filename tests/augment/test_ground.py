"""The reflectance of ground against closed forms and against the published integrals of its kernels."""

import math

import numpy as np
import pytest
import torch

from geoaug.augment.physics.ground import WEIGHTS, geometric_kernel, reflectance, volume_kernel


def degrees(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def test_kernels_are_nought_where_sun_and_view_are_vertical() -> None:
    for kernel in (volume_kernel, geometric_kernel):
        assert float(kernel(degrees(0), degrees(0), degrees(37))) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("angle", [10.0, 30.0, 60.0])
def test_the_hot_spot_has_a_closed_form(angle: float) -> None:
    secant = 1 / math.cos(math.radians(angle))
    both = degrees(angle), degrees(angle), degrees(0)
    assert float(volume_kernel(*both)) == pytest.approx(math.pi / 4 * (secant - 1), abs=1e-6)
    assert float(geometric_kernel(*both)) == pytest.approx(secant * secant - secant, abs=1e-6)


def test_sun_and_view_may_be_exchanged() -> None:
    generator = torch.Generator().manual_seed(0)
    sun, view, azimuth = (torch.rand(50, generator=generator).double() * most for most in (70, 70, 180))
    for kernel in (volume_kernel, geometric_kernel):
        assert torch.allclose(kernel(sun, view, azimuth), kernel(view, sun, azimuth), atol=1e-12)
        assert torch.allclose(kernel(sun, view, azimuth), kernel(sun, view, -azimuth), atol=1e-12)


def over_all_views(sun: float) -> tuple[float, float]:
    """Means of both kernels over all views, weighted by the cosine: their black-sky integrals."""
    nodes, weights = np.polynomial.legendre.leggauss(120)
    zenith, azimuth = (nodes + 1) * 45, (nodes + 1) * 90
    z, a = (torch.from_numpy(each.ravel()) for each in np.meshgrid(zenith, azimuth, indexing="ij"))
    area = np.outer(weights * np.sin(2 * np.radians(zenith)) * math.pi / 4, weights / 2).ravel()
    around = torch.full_like(z, sun)
    return tuple(float((kernel(around, z, a).numpy() * area).sum()) for kernel in (volume_kernel, geometric_kernel))  # type: ignore[return-value]


def test_integrals_are_the_published_ones() -> None:
    # Lucht, Schaaf and Strahler (2000), table 1: white-sky integrals, and polynomials of the black-sky ones.
    nodes, weights = np.polynomial.legendre.leggauss(24)
    zenith = (nodes + 1) * 45
    area = weights * np.sin(2 * np.radians(zenith)) * math.pi / 4
    white = (np.array([over_all_views(float(each)) for each in zenith]) * area[:, None]).sum(0)
    assert white.tolist() == pytest.approx([0.189184, -1.377622], rel=0.01)
    for sun in (0.0, 30.0, 50.0):
        x = math.radians(sun)
        volume, geometric = over_all_views(sun)
        assert volume == pytest.approx(-0.007574 - 0.070987 * x**2 + 0.307588 * x**3, abs=0.02)
        assert geometric == pytest.approx(-1.284909 - 0.166314 * x**2 + 0.041840 * x**3, abs=0.03)


def test_reflectance_is_that_of_the_published_weights_at_nadir_and_stays_above_nought() -> None:
    centres = tuple(row[0] for row in WEIGHTS)
    nadir = reflectance(centres, degrees(0), degrees(0), degrees(0))[0]
    assert nadir.tolist() == pytest.approx([row[1] for row in WEIGHTS])
    low = reflectance((400.0, *centres, 2400.0), degrees(75, 89), degrees(0, 60), degrees(90, 180))
    assert (low > 0.01).all()
    ratio = reflectance(centres, degrees(65), degrees(0), degrees(90)) / reflectance(
        centres, degrees(40), degrees(0), degrees(90)
    )
    assert float(ratio[0, 2]) == pytest.approx(0.90, abs=0.005)  # red
    assert (ratio < 0.95).all()
    # The red edge lies between red and near infrared.
    edge = reflectance((665.0, 705.0, 740.0, 865.0), degrees(30), degrees(0), degrees(90))[0]
    assert (edge[1:] > edge[:-1]).all()
