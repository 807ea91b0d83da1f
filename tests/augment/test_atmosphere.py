"""Haze, vapour, sun and calibration by what they do to products of either level."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from geoaug import Compose, get_sensor, load_recipe
from geoaug.augment import (
    RandomCalibration,
    RandomHaze,
    RandomIllumination,
    RandomSunElevation,
    RandomSwathBrightness,
    RandomTerrainShading,
    RandomWaterVapour,
)
from geoaug.augment.physics import air
from geoaug.augment.physics.aerosols import Aerosol, aerosol_of, angstrom_exponents
from geoaug.augment.physics.air import centres_nm, wavelengths_nm
from geoaug.augment.physics.gases import vapour_transmittance
from geoaug.augment.physics.ground import reflectance
from geoaug.augment.physics.terrain import surface_normals
from geoaug.errors import ConfigurationError
from geoaug.rng.draws import sample_keys
from geoaug.sensors import Sensor

L1C, L2A = get_sensor("sentinel-2-l1c"), get_sensor("sentinel-2-l2a")
CPU = torch.device("cpu")


def flat(sensor: Sensor, reflectance: float, samples: int = 4, side: int = 2, **more: object) -> dict[str, object]:
    scale, offset = torch.tensor(sensor.quantification), torch.tensor(sensor.offset)
    dn = (reflectance * scale - offset)[None, :, None, None].float()
    image = dn.expand(samples, -1, side, side).contiguous()
    return {"image": image, "key": sample_keys(0, range(samples)), **more}


def seen(operation: torch.nn.Module, sensor: Sensor, reflectance: float, samples: int = 4, **more: object) -> Tensor:
    out: Tensor = Compose([operation], sensor=sensor)(flat(sensor, reflectance, samples, **more))["image"]
    return out[..., 0, 0].double()


def aerosol(aod: float, sensor: Sensor = L1C) -> Aerosol:
    kind = torch.zeros(1, dtype=torch.int64)
    return aerosol_of(kind, torch.tensor([aod], dtype=torch.float64), centres_nm(sensor))


CONTINENTAL = float(angstrom_exponents(CPU)[0])


def test_haze_over_a_top_of_atmosphere_product_is_a_change_of_aerosol() -> None:
    haze = RandomHaze(0.3, angstrom=CONTINENTAL, sun_elevation=50, present=0.1, p=1.0)
    elevation = torch.tensor([50.0])
    wavelength = wavelengths_nm(L1C, CPU)
    thin, thick = (air.layer(wavelength, elevation, aerosol(aod)) for aod in (0.1, 0.4))
    for ground in (0.02, 0.3):
        before, expected = (
            each.path + each.transmittance * ground / (1 - each.spherical_albedo * ground) for each in (thin, thick)
        )
        # The same ground through more aerosol: Rayleigh's path is in both, and stays.
        scale = torch.tensor(L1C.quantification)
        image = (before[0] * scale)[None, :, None, None].float()
        out = Compose([haze], sensor=L1C)({"image": image, "key": sample_keys(0, [0])})["image"][0, :, 0, 0]
        assert torch.allclose(out.double(), expected[0], atol=2e-4)


def test_no_more_aerosol_is_no_change() -> None:
    assert torch.allclose(seen(RandomHaze(0.0, p=1.0), L1C, 0.2), torch.tensor(0.2).double(), atol=1e-6)
    without = RandomHaze(0.0, residual=False, p=1.0)
    assert torch.allclose(seen(without, L2A, 0.2), torch.tensor(0.2).double(), atol=1e-6)


@pytest.mark.parametrize("aerosol_kind", ["continental", "maritime", "dust", "smoke"])
def test_haze_lifts_blue_more_than_swir_and_lowers_contrast(aerosol_kind: str) -> None:
    for sensor in (L1C, L2A):
        haze = RandomHaze(0.4, aerosol_kind, residual=False, missed=0.4, sun_elevation=50, p=1.0)
        dark, bright = seen(haze, sensor, 0.02)[0], seen(haze, sensor, 0.4)[0]
        blue, swir = sensor.index("B02"), sensor.index("B12")
        assert dark[blue] - 0.02 > dark[swir] - 0.02
        assert dark[blue] > 0.02
        contrast = (bright - dark) / 0.38
        assert (contrast < 1).all()
        assert contrast[blue] < contrast[swir]


def test_the_remainder_of_a_correction_has_the_stated_size_and_is_smooth_over_the_wavelength() -> None:
    for ground in (0.0, 0.3):
        left = seen(RandomHaze(p=1.0), L2A, ground, samples=4000) - ground
        expected = math.hypot(0.005, 0.05 * ground)
        # Draws are cut at three deviations, which takes 1.3 % from the variance.
        assert left.std(0).tolist() == pytest.approx([expected] * 12, rel=0.05)
        correlation = np.corrcoef(left.T.numpy())
        names = L2A.band_names
        assert correlation[names.index("B02"), names.index("B03")] > 0.85
        assert abs(correlation[names.index("B02"), names.index("B12")]) < 0.2


def test_a_corrected_product_keeps_no_haze_but_what_the_correction_left() -> None:
    # A desert: bright, and redder than haze. Whatever is put on level 1C, level 2A stays within its uncertainty.
    left = seen(RandomHaze((0.5, 0.5), p=1.0), L2A, 0.3, samples=2000) - 0.3
    assert left.std(0).max() < 1.05 * math.hypot(0.005, 0.05 * 0.3)
    assert left.mean(0).abs().max() < 0.002
    missed = seen(RandomHaze(missed=0.2, residual=False, p=1.0), L2A, 0.05)[0] - 0.05
    assert missed[L2A.index("B02")] > 0.005
    for preset in ("standard", "strong", "sentinel-2-classification", "sentinel-2-segmentation"):
        haze = next(each for each in load_recipe(preset).compose(sensor=L2A).operations if isinstance(each, RandomHaze))
        assert haze.missed == (0.0, 0.0)


def test_a_gradient_runs_from_less_to_more_and_keeps_the_middle() -> None:
    batch = flat(L1C, 0.05, samples=6, side=65)
    even = Compose([RandomHaze(0.3, p=1.0)], sensor=L1C)(batch)["image"]
    out = Compose([RandomHaze(0.3, gradient=0.5, p=1.0)], sensor=L1C)(batch)["image"]
    blue = out[:, 1]
    assert torch.allclose(blue[:, 32, 32], even[:, 1, 32, 32], rtol=0.02)
    corners = torch.stack([blue[:, 0, 0], blue[:, 0, -1], blue[:, -1, 0], blue[:, -1, -1]], dim=1)
    assert (corners.amax(1) - corners.amin(1) > 0.01).all()
    # Along every line the change is even: a plane.
    for line in (blue[:, 32], blue[:, :, 32]):
        step = line[:, 1:] - line[:, :-1]
        assert (step.amax(1) - step.amin(1) < 1e-5).all()


def test_the_sun_of_the_sample_is_used() -> None:
    low = seen(RandomHaze(0.3, p=1.0), L1C, 0.05, sun_elevation=torch.full((4,), 25.0))
    high = seen(RandomHaze(0.3, p=1.0), L1C, 0.05, sun_elevation=torch.full((4,), 70.0))
    assert (low[:, 1] > high[:, 1]).all()
    assert low[:, 1].std() < 1e-9 + 1e-2 * float(low[:, 1].mean())  # only the exponent varies


def test_the_view_of_the_sample_is_used() -> None:
    more = {"sun_elevation": torch.full((4,), 45.0), "sun_azimuth": torch.full((4,), 150.0)}
    nadir = seen(RandomHaze(0.3, angstrom=1.3, p=1.0), L1C, 0.05, **more)
    forward = {"view_zenith": torch.full((4,), 40.0), "view_azimuth": torch.full((4,), 330.0)}
    slanted = seen(RandomHaze(0.3, angstrom=1.3, p=1.0), L1C, 0.05, **more, **forward)
    assert (slanted[:, :8] > nadir[:, :8] + 0.005).all()
    from geoaug.augment import RandomRotation

    turned = Compose([RandomRotation((30, 30), p=1.0)], sensor=L1C)(flat(L1C, 0.1, side=8, **more, **forward))
    assert torch.allclose(turned["view_azimuth"], torch.tensor(300.0), atol=1e-3)


def test_vapour_darkens_its_own_bands() -> None:
    wet = seen(RandomWaterVapour(4.0, ozone=300, sun_elevation=50, p=1.0), L1C, 0.3)[0] / 0.3
    dry = seen(RandomWaterVapour(0.5, ozone=300, sun_elevation=50, p=1.0), L1C, 0.3)[0] / 0.3
    inside = L1C.index("B09")
    assert float(wet[inside]) < 0.7
    assert float(dry[inside]) > 1.3
    for name in ("B02", "B03", "B04", "B11"):
        assert float(wet[L1C.index(name)]) == pytest.approx(1.0, abs=0.05)
    mass = 1 + 1 / math.sin(math.radians(50))
    paths = torch.tensor([4.0, 1.5], dtype=torch.float64) * mass
    through = (vapour_transmittance((945.1,), (20.0,), paths)[:, 0] + 0.02).tolist()
    assert float(wet[inside]) == pytest.approx(through[0] / through[1], rel=1e-4)
    corrected = seen(RandomWaterVapour(4.0, ozone=300, sun_elevation=50, p=1.0), L2A, 0.3)[0] / 0.3
    assert wet[inside] < corrected[L2A.index("B09")] < 1


def test_ozone_darkens_green_and_leaves_corrected_products() -> None:
    thick = seen(RandomWaterVapour(1.5, ozone=400, sun_elevation=50, p=1.0), L1C, 0.3)[0] / 0.3
    mass = 1 + 1 / math.sin(math.radians(50))
    assert float(thick[L1C.index("B03")]) == pytest.approx(math.exp(-0.1 * mass * 0.1), abs=0.001)
    assert float(thick[L1C.index("B11")]) == pytest.approx(1.0, abs=1e-6)
    left = seen(RandomWaterVapour(1.5, ozone=400, sun_elevation=50, p=1.0), L2A, 0.3)[0] / 0.3
    assert torch.allclose(left, torch.ones(12, dtype=torch.float64), atol=1e-5)


def test_a_higher_sun_is_seen_by_the_ground_and_by_the_air() -> None:
    sun = torch.full((4,), 25.0)
    lifted = RandomSunElevation(25.0, p=1.0)
    from_side = torch.tensor([0.0]).double(), torch.tensor([90.0]).double()
    ground, low_l2a = (
        reflectance(centres_nm(sensor), torch.tensor([40.0]), *from_side)
        / reflectance(centres_nm(sensor), torch.tensor([65.0]), *from_side)
        for sensor in (L1C, L2A)
    )
    seen_from_above = seen(lifted, L2A, 0.3, sun_elevation=sun) / 0.3
    assert torch.allclose(seen_from_above, low_l2a.expand(4, -1), rtol=1e-5)
    # Roy et al. (2016): from 40 to 65 degrees from the vertical red keeps nine tenths.
    assert float(1 / seen_from_above[0, L2A.index("B04")]) == pytest.approx(0.90, abs=0.005)
    wavelength, clear = wavelengths_nm(L1C, CPU), aerosol(0.1)
    old, new = (air.layer(wavelength, torch.tensor([e]), clear) for e in (25.0, 50.0))
    expected = new.path + new.transmittance * (0.3 - old.path) / old.transmittance * ground
    assert torch.allclose(seen(lifted, L1C, 0.3, sun_elevation=sun)[:1], expected, atol=1e-5)
    landsat = get_sensor("landsat-8-l1")
    out = seen(lifted, landsat, 0.2, sun_elevation=sun)[0]
    ratio = math.sin(math.radians(50)) / math.sin(math.radians(25))  # not divided by the sine
    assert float(out[landsat.index("B6")] / 0.2) == pytest.approx(ratio / 0.899, rel=0.03)


def test_the_ground_is_seen_from_where_the_sample_says() -> None:
    more = {"sun_elevation": torch.full((4,), 50.0), "sun_azimuth": torch.full((4,), 150.0)}
    change, view = RandomSunElevation(-15.0, p=1.0), torch.tensor([30.0])
    for azimuth, apart in ((150.0, 0.0), (330.0, 180.0)):
        angles = {"view_zenith": view.expand(4), "view_azimuth": torch.full((4,), azimuth)}
        kept = seen(change, L2A, 0.3, **more, **angles)[0] / 0.3
        later, sooner = (
            reflectance(centres_nm(L2A), torch.tensor([zenith]), view, torch.tensor([apart])) for zenith in (55.0, 40.0)
        )
        assert torch.allclose(kept, (later / sooner)[0], rtol=1e-5)


def test_illumination_leaves_the_air_of_a_top_of_atmosphere_product() -> None:
    path = air.path_of_clear_air(L1C, torch.zeros(1, 13, dtype=torch.float64))[0]
    out = seen(RandomIllumination(1.5, 0.0, p=1.0), L1C, 0.2)[0]
    assert torch.allclose(out, path + 1.5 * (0.2 - path), atol=1e-6)
    assert torch.allclose(seen(RandomIllumination(1.5, 0.0, p=1.0), L2A, 0.2), torch.tensor(0.3).double(), atol=1e-6)
    # Calibration scales all that is seen.
    out = seen(RandomCalibration(0.05, 0.0, p=1.0), L1C, 0.2, samples=500) / 0.2
    assert torch.allclose(out, out[:, :1].expand_as(out), atol=1e-6)
    assert 0.95 <= float(out.min()) < 0.955
    assert 1.045 < float(out.max()) <= 1.05
    apart = seen(RandomCalibration(0.0, 0.01, p=1.0), L1C, 0.2, samples=2000) / 0.2
    assert float((apart - 1).std()) == pytest.approx(0.01, rel=0.05)


def test_brightness_across_the_swath_is_a_place_and_a_ramp() -> None:
    batch = flat(L2A, 0.2, samples=200, side=33)
    wide = Compose([RandomSwathBrightness(0.1, p=1.0)], sensor=L2A)(batch)["image"][:, 3].double() / 0.2
    assert float(wide.min()) >= 0.95 - 1e-4
    assert float(wide.max()) <= 1.05 + 1e-4
    assert float((wide[:, 0, 0] - wide[:, -1, -1]).abs().max()) < 1e-3
    narrow = (
        Compose([RandomSwathBrightness(0.1, swath_m=330.0, p=1.0)], sensor=L2A)(batch)["image"][:, 3].double() / 0.2
    )
    steps = torch.stack((narrow[:, 16, 32] - narrow[:, 16, 0], narrow[:, 32, 16] - narrow[:, 0, 16]), dim=1)
    # 33 pixels of 10 m are the whole swath: the ramp's length is the amplitude, in whatever direction.
    assert steps.norm(dim=1).tolist() == pytest.approx([0.1 * 32 / 33] * 200, rel=1e-3)


def test_the_swath_of_usual_ground_is_as_bright_as_its_kernels_say() -> None:
    batch = {**flat(L2A, 0.2, samples=400), "sun_elevation": torch.full((400,), 50.0)}
    wide = Compose([RandomSwathBrightness(p=1.0)], sensor=L2A)(batch)["image"][..., 0, 0].double() / 0.2 - 1
    # 10.4 degrees on either side: a tenth to an eighth from edge to edge in the plane of the sun, half of it to a side.
    greatest = wide.abs().amax(0)
    assert ((greatest > 0.04) & (greatest < 0.07)).all()
    assert abs(float(wide.mean())) < 0.005
    none = Compose([RandomSwathBrightness(swath_m=10.0, p=1.0)], sensor=L2A)(batch)["image"] / 0.2 - 1
    assert none.abs().max() < 1e-5
    unknown = Compose([RandomSwathBrightness(p=1.0)])({"image": torch.ones(2, 5, 4, 4)})["image"]
    assert ((unknown - 1).abs() < 0.07).all()


def hills(side: int = 48) -> Tensor:
    y, x = torch.meshgrid(torch.arange(side).float(), torch.arange(side).float(), indexing="ij")
    return (15 * torch.sin(x / 6) + 10 * torch.cos(y / 9))[None, None]


def test_normals_are_those_of_the_surface() -> None:
    x = torch.arange(12.0)
    plane = (3 * x + 2 * torch.arange(10.0)[:, None])[None, None]
    normal = surface_normals(plane, torch.tensor([10.0]))[0]
    expected = torch.tensor([-0.3, -0.2, 1.0]) / math.sqrt(1 + 0.09 + 0.04)
    assert torch.allclose(normal, expected[:, None, None].expand(3, 10, 12), atol=1e-6)


def test_slopes_are_lit_as_the_c_correction_says() -> None:
    batch = {
        **flat(L2A, 0.2, samples=1, side=48),
        "dem": hills(),
        "sun_azimuth": torch.tensor([150.0]),
        "sun_elevation": torch.tensor([40.0]),
    }
    out = Compose([RandomTerrainShading(30.0, -10.0, p=1.0)], sensor=L2A)(batch)
    down, across = np.gradient(hills()[0, 0].double().numpy(), 10.0)
    slope, aspect = np.arctan(np.hypot(across, down)), np.arctan2(-across, down)  # clockwise from the top, downhill
    diffuse = air.diffuse_over_direct(wavelengths_nm(L2A, CPU), torch.tensor([40.0]), aerosol(0.1, L2A))[0].numpy()

    def lit(elevation: float, azimuth: float, c: float) -> np.ndarray:
        zenith = math.radians(90 - elevation)
        facing = np.cos(zenith) * np.cos(slope) + np.sin(zenith) * np.sin(slope) * np.cos(
            math.radians(azimuth) - aspect
        )
        return (np.maximum(facing, 0) + c) / (math.cos(zenith) + c)

    for band in (1, 7, 11):
        expected = 0.2 * lit(30, 180, diffuse[band]) / lit(40, 150, diffuse[band])
        found = out["image"][0, band].double().numpy()
        assert np.abs(found - expected)[1:-1, 1:-1].max() < 2e-3
    steep = Compose([RandomTerrainShading(90.0, p=1.0)], sensor=L2A)({**batch, "dem": 20 * hills()})["image"] / 0.2
    assert 1 / 3 - 1e-4 < float(steep.min()) < float(steep.max()) < 3 + 1e-4  # shade holds no light to be lit
    contrast = out["image"][0].flatten(1).std(1)
    assert contrast[1] < contrast[7]  # the sky fills shadows with blue


def test_without_elevations_the_ground_is_level_and_with_them_they_follow_the_pixels() -> None:
    from geoaug.augment import RandomD4

    shading = RandomTerrainShading(40.0, p=1.0)
    assert torch.allclose(seen(shading, L2A, 0.2), torch.tensor(0.2).double(), atol=1e-6)
    level = {**flat(L2A, 0.2, samples=1, side=16), "dem": torch.full((1, 1, 16, 16), 300.0)}
    assert torch.allclose(Compose([shading], sensor=L2A)(level)["image"], torch.tensor(0.2), atol=1e-6)
    batch = {"image": hills().expand(5, 1, 48, 48).contiguous(), "dem": hills().expand(5, 1, 48, 48).contiguous()}
    out = Compose([RandomD4()])({**batch, "key": sample_keys(0, range(5))})
    assert torch.equal(out["dem"], out["image"])
    unknown = {**level, "dem": torch.full((1, 1, 16, 16), torch.nan)}
    assert torch.allclose(Compose([shading], sensor=L2A)(unknown)["image"], torch.tensor(0.2), atol=1e-6)
    with pytest.raises(ConfigurationError, match="'dem' is a floating tensor"):
        Compose([shading], sensor=L2A)({**level, "dem": torch.zeros(1, 16, 16)})


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: RandomHaze(aerosol="pollen"), "aerosol='pollen' is one of continental"),  # type: ignore[arg-type]
        (lambda: RandomHaze(gradient=2.0), "gradient"),
        (lambda: RandomHaze(missed=-0.1), "missed"),
        (lambda: RandomWaterVapour(present=0.0), "present=0"),
        (lambda: RandomSunElevation(sun_elevation=95), "sun_elevation"),
        (lambda: RandomCalibration(absolute=0.9), "absolute=0.9"),
        (lambda: RandomSwathBrightness(swath_m=0.0), "swath_m=0"),
        (lambda: RandomSwathBrightness(height_m=-1.0), "height_m=-1"),
    ],
)
def test_mistakes_are_named(build: object, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        build()  # type: ignore[operator]
