"""The optics of the air against closed forms, published figures, 6S, and photons followed one by one."""

import csv
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import integrate

from geoaug import get_sensor
from geoaug.augment.physics import air
from geoaug.augment.physics.aerosols import ANGLES, KIND_NAMES, Aerosol, aerosol_of, angstrom_exponents, clear_aerosol
from geoaug.augment.physics.cloud_optics import cloud_spectrum, shadow_gain
from geoaug.augment.physics.gases import ozone_depth, vapour_transmittance
from geoaug.sensors import generic_sensor


def numbers(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def henyey_greenstein(cosine: float, asymmetry: float) -> float:
    return (1 - asymmetry**2) / (1 + asymmetry**2 - 2 * asymmetry * cosine) ** 1.5


def aerosol(
    aod: float, wavelength: torch.Tensor, angstrom: float = 1.3, albedo: float = 0.93, asymmetry: float = 0.65
) -> Aerosol:
    """One of a phase function that has a formula."""
    phase = [math.log(henyey_greenstein(math.cos(math.radians(angle)), asymmetry)) for angle in ANGLES]
    every = torch.ones(1, len(wavelength), dtype=torch.float64)
    extinction = (wavelength / 550) ** -angstrom * every
    return Aerosol(numbers(aod), extinction, albedo * every, asymmetry * every, numbers(*phase) * every[..., None])


def test_molecules_scatter_all_they_meet() -> None:
    total, _ = integrate.quad(lambda cosine: float(air.rayleigh_phase(numbers(cosine))), -1, 1)
    assert total / 2 == pytest.approx(1.0, rel=1e-6)


def test_optical_depths_are_the_published_ones() -> None:
    depth = air.rayleigh_optical_depth(numbers(443, 665, 1610))
    assert depth.tolist() == pytest.approx([0.236, 0.045, 0.0013], rel=0.02)
    standard = aerosol_of(torch.arange(4), numbers(0.2, 0.2, 0.2, 0.2), (443.0, 550.0, 860.0))
    assert standard.extinction[:, 1].tolist() == pytest.approx([1.0] * 4)
    exponent = (standard.extinction[:, 0] / standard.extinction[:, 2]).log() / math.log(860 / 443)
    assert torch.allclose(exponent, angstrom_exponents(torch.device("cpu")))
    # Sea salt is coarse and grey, smoke is fine and blue (Dubovik et al., 2002: 0 to 1.5, and 1.2 to 2.1).
    assert 0 < exponent[1] < 0.5 < exponent[0] < 1.9 < exponent[3] < 2.1
    finer = aerosol_of(torch.arange(4), numbers(0.2, 0.2, 0.2, 0.2), (443.0, 550.0, 860.0), torch.full((4,), 0.3))
    changed = (finer.extinction[:, 0] / finer.extinction[:, 2]).log() / math.log(860 / 443)
    assert torch.allclose(changed, exponent + 0.3)


# Six bands, four aerosols, two depths and two suns of 6SV2.1 (nadir view, sea level, no gases, bands at their centres).
SIXS = list(csv.DictReader(Path(__file__).with_name("sixs_sentinel2.csv").read_text().splitlines()))


def sixs(column: str, kind: str) -> torch.Tensor:
    return numbers(*(float(row[column]) for row in SIXS if row["aerosol"] == kind))


@pytest.mark.parametrize("kind", KIND_NAMES)
def test_the_air_is_that_of_6s(kind: str) -> None:
    rows = [row for row in SIXS if row["aerosol"] == kind]
    assert len(rows) == 24
    centres = tuple(float(row["wavelength_nm"]) for row in rows)
    each = aerosol_of(torch.full((24,), KIND_NAMES.index(kind)), sixs("aod550", kind), centres)
    wavelength = numbers(*centres)
    ours = air.layer(wavelength, 90 - sixs("sun_zenith_deg", kind), each)

    def own(values: torch.Tensor) -> torch.Tensor:
        """Each row at its own wavelength."""
        return values.diagonal()

    assert torch.allclose(air.rayleigh_optical_depth(wavelength), sixs("tau_rayleigh", kind), rtol=0.015)
    assert torch.allclose(own(each.extinction) * each.aod, sixs("tau_aerosol", kind), rtol=0.005)
    path = (own(ours.path) / sixs("path_reflectance", kind) - 1).abs()
    assert path.median() < 0.02
    assert path.max() < 0.09
    for found, column, most in (
        (ours.down, "transmittance_down", 0.015),
        (ours.up, "transmittance_up", 0.006),
        (ours.spherical_albedo, "spherical_albedo", 0.01),
    ):
        assert (own(found) - sixs(column, kind)).abs().max() < most
    depth = sixs("tau_rayleigh", kind) + sixs("tau_aerosol", kind)
    assert torch.allclose(own(ours.direct_up), torch.exp(-depth), rtol=0.01)


def test_nothing_in_the_way_changes_nothing() -> None:
    clear = air.layer(numbers(490, 2200), numbers(45), molecules=False)
    assert clear.path.abs().max() < 1e-12
    assert torch.allclose(clear.transmittance, torch.ones(1, 2, dtype=torch.float64))
    assert torch.allclose(clear.direct_up, torch.ones(1, 2, dtype=torch.float64))
    assert clear.spherical_albedo.abs().max() < 1e-12


def test_thin_layers_scatter_once() -> None:
    mu = math.sin(math.radians(40))
    thin = air.layer(numbers(550), numbers(40), aerosol(1e-5, numbers(550)), molecules=False)
    once = 1e-5 * 0.93 * henyey_greenstein(-mu, 0.65) / (4 * mu)
    assert float(thin.path) == pytest.approx(once, rel=2e-3)  # the phase function is tabulated
    molecules = air.layer(numbers(3000), numbers(40))
    depth = float(air.rayleigh_optical_depth(numbers(3000)))
    assert float(molecules.path) == pytest.approx(depth * 0.75 * (1 + mu**2) / (4 * mu), rel=3e-3)


def test_sun_and_view_may_be_exchanged_and_the_nadir_is_the_usual_view() -> None:
    wavelength = numbers(443, 865)
    hazy = aerosol(0.3, wavelength)
    there = air.layer(wavelength, numbers(60), hazy, view_zenith=numbers(45), relative_azimuth=numbers(70))
    back = air.layer(wavelength, numbers(45), hazy, view_zenith=numbers(30), relative_azimuth=numbers(70))
    # Helmholtz: reflectance and both-way transmittance do not know which end the light came from.
    assert torch.allclose(there.path, back.path, atol=1e-12)
    assert torch.allclose(there.transmittance, back.transmittance, atol=1e-12)
    usual, nadir = air.layer(wavelength, numbers(60)), air.layer(wavelength, numbers(60), view_zenith=numbers(0))
    assert torch.allclose(usual.path, nadir.path, atol=1e-12)
    sides = [
        air.layer(wavelength, numbers(40), hazy, view_zenith=numbers(40), relative_azimuth=numbers(angle)).path
        for angle in (0.0, 180.0)
    ]
    assert (sides[1] > sides[0])[0, 1]  # aerosol throws light forward: brighter across from the sun


@pytest.mark.parametrize("elevation", [30.0, 50.0, 70.0])
def test_no_light_is_made(elevation: float) -> None:
    wavelength = numbers(*range(400, 2300, 50))
    for aod in (0.0, 0.3, 1.0, 3.0):
        seen = air.layer(wavelength, numbers(elevation), aerosol(aod, wavelength))
        assert (seen.path >= 0).all()
        assert (seen.path + seen.transmittance <= 1 + 1e-9).all()


def followed(rayleigh: float, depth: float, sun: float, photons: int = 150_000) -> tuple[float, float]:
    """Path reflectance towards the nadir and transmittance of a layer by Monte Carlo, with aerosol .93, .65."""
    rng = np.random.default_rng(0)
    total, albedo, g = rayleigh + depth, 0.93, 0.65
    direction = np.tile([math.sqrt(1 - sun**2), 0.0, sun], (photons, 1))
    height, weight = np.zeros(photons), np.ones(photons)
    path = through = 0.0
    while len(height):
        height = height - np.log(rng.random(len(height))) * direction[:, 2]
        through += weight[height > total].sum()
        inside = (height > 0) & (height < total) & (weight > 1e-4)
        height, weight, direction = height[inside], weight[inside], direction[inside]
        molecule = rng.random(len(height)) < rayleigh / total
        weight = weight * np.where(molecule, 1.0, albedo)
        cosine = -direction[:, 2]  # straight up
        phase = np.where(molecule, 0.75 * (1 + cosine**2), (1 - g * g) / (1 + g * g - 2 * g * cosine) ** 1.5)
        path += (weight * phase / 4 * np.exp(-height)).sum()
        u = rng.random(len(height))
        root = np.cbrt(4 * u - 2 + np.sqrt(1 + (4 * u - 2) ** 2))
        forward = (1 + g * g - ((1 - g * g) / (1 - g + 2 * g * u)) ** 2) / (2 * g)
        turn = np.where(molecule, root - 1 / root, forward)
        side, angle = np.sqrt(np.maximum(0, 1 - turn**2)), 2 * np.pi * rng.random(len(height))
        x, y, z = direction.T
        z = np.clip(z, -1, 1)
        level = np.sqrt(np.maximum(1e-12, 1 - z**2))
        direction = np.stack(
            (
                side * (x * z * np.cos(angle) - y * np.sin(angle)) / level + x * turn,
                side * (y * z * np.cos(angle) + x * np.sin(angle)) / level + y * turn,
                -side * np.cos(angle) * level + z * turn,
            ),
            axis=1,
        )
    return path / photons, through / photons


@pytest.mark.parametrize("elevation", [30.0, 60.0])
@pytest.mark.parametrize(("wavelength", "aod"), [(443.0, 0.0), (443.0, 0.3), (665.0, 0.3), (865.0, 0.6)])
def test_the_layer_is_what_followed_photons_see(wavelength: float, aod: float, elevation: float) -> None:
    rayleigh = float(air.rayleigh_optical_depth(numbers(wavelength)))
    depth = aod * (wavelength / 550) ** -1.3 + 1e-9
    path, down = followed(rayleigh, depth, math.sin(math.radians(elevation)))
    _, up = followed(rayleigh, depth, 0.9999)
    seen = air.layer(numbers(wavelength), numbers(elevation), aerosol(aod, numbers(wavelength)))
    assert float(seen.down) == pytest.approx(down, abs=0.015)
    assert float(seen.up) == pytest.approx(up, abs=0.015)
    assert float(seen.path) == pytest.approx(path, rel=0.06)


def test_the_sky_is_blue() -> None:
    ratio = air.diffuse_over_direct(
        numbers(443, 560, 865, 2200), numbers(45), clear_aerosol(numbers(45), (443.0, 560.0, 865.0, 2200.0))
    )[0]
    assert (ratio[:-1] > ratio[1:]).all()
    assert 0.2 < float(ratio[0]) < 0.4
    assert float(ratio[-1]) < 0.02


def test_vapour_takes_the_bands_that_it_is_known_for() -> None:
    sensor = get_sensor("sentinel-2-l1c")
    centres, widths = air.centres_nm(sensor), air.band_widths_nm(sensor)
    kept = dict(zip(sensor.band_names, vapour_transmittance(centres, widths, numbers(4.6))[0].tolist(), strict=True))
    assert kept["B10"] < 0.01
    assert 0.2 < kept["B09"] < 0.4
    for name in ("B01", "B02", "B03", "B04", "B8A", "B11"):
        assert kept[name] > 0.98, name
    # Kaufman and Gao (1992) have exp(-0.651 sqrt(u)) at 940 nm, by an older list of lines than 6S.
    wide = vapour_transmittance((940.0,), (20.0,), numbers(1.0, 4.0))[:, 0]
    assert wide.tolist() == pytest.approx([math.exp(-0.651), math.exp(-1.302)], abs=0.09)
    # 6SV2.1 for 0.5, 1.5 and 4 g/cm2, the sun and the sensor 2.3 air masses apart.
    u = numbers(0.5, 1.5, 4.0) * 2.3
    for name, expected in (
        ("B05", (0.985, 0.961, 0.916)),
        ("B06", (0.990, 0.974, 0.942)),
        ("B09", (0.536, 0.338, 0.182)),
    ):
        band = sensor.index(name)
        found = vapour_transmittance(centres[band : band + 1], widths[band : band + 1], u)[:, 0]
        assert found.tolist() == pytest.approx(expected, abs=0.012), name
    # More is darker, none is clear, and thermal bands see nothing.
    falling = vapour_transmittance((*centres, 10_800.0), (*widths, 600.0), numbers(0, 1, 2, 5, 20))
    assert (falling[1:] <= falling[:-1]).all()
    assert torch.allclose(falling[0], torch.ones(14, dtype=torch.float64))
    assert torch.allclose(falling[:, -1], torch.ones(5, dtype=torch.float64))


def test_ozone_is_green_to_red() -> None:
    # Chappuis: 5e-21 cm2 at 603 nm (Gorshelev et al., 2014), times 2.687e19 molecules in an atm cm.
    depth = ozone_depth((350.0, 443.0, 560.0, 603.0, 665.0, 865.0), torch.device("cpu"))
    assert float(depth[3]) == pytest.approx(5.1e-21 * 2.687e19, rel=0.15)
    assert depth.argmax() == 3
    assert depth[0] == depth[-1] == 0


def test_curves_over_the_wavelength_keep_their_variance_and_share_it_with_neighbours() -> None:
    wavelength = numbers(443, 490, 560, 665, 865, 1610, 2200)
    normals = torch.randn(40_000, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    curves = air.correlated_by_wavelength(normals, wavelength)
    assert curves.var(0).tolist() == pytest.approx([1.0] * 7, abs=0.03)
    correlation = torch.corrcoef(curves.T)
    apart = (wavelength.log()[:, None] - wavelength.log()) / 0.35
    expected = 0.99 * torch.exp(-apart.square() / 2) + 0.01 * torch.eye(7)
    assert torch.allclose(correlation, expected, atol=0.03)


def test_clouds_are_white_where_nothing_absorbs_and_cirrus_alone_is_seen_at_1375() -> None:
    water, ice = cloud_spectrum(numbers(443, 665, 865, 1373.5, 1610, 2200))
    assert torch.equal(water[:3], torch.ones(3, dtype=torch.float64))
    assert float(water[3]) < 0.01
    assert float(ice[3]) > 0.7
    assert (ice[4:] < water[4:]).all()
    assert torch.equal(cloud_spectrum(numbers(100, 5000))[0], numbers(1.0, 0.4))


def test_shadows_are_darkest_in_the_long_wavelengths_and_under_a_high_sun() -> None:
    high, low = shadow_gain((443.0, 665.0, 865.0, 2200.0), numbers(65, 30))
    assert (high[:-1] > high[1:]).all()
    assert (low > high).all()
    assert 0.35 < float(high[0]) < 0.5
    assert 0.25 < float(high[-1]) < 0.27


def test_only_products_of_the_top_of_the_atmosphere_hold_the_air() -> None:
    like = torch.zeros(2, 13, dtype=torch.float64)
    seen = air.path_of_clear_air(get_sensor("sentinel-2-l1c"), like)
    assert 0.05 < float(seen[0, 1]) < 0.08
    assert not air.path_of_clear_air(get_sensor("sentinel-2-l2a"), like[:, :12]).any()
    assert not air.path_of_clear_air(generic_sensor(13, 1.0), like).any()
    assert not air.path_of_clear_air(None, like).any()
