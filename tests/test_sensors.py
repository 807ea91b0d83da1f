"""Sensors: the figures, the choice of bands, the scaling, and what is said of a faulty definition."""

import dataclasses
import math
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from geoaug.errors import ConfigurationError
from geoaug.sensors import (
    Band,
    Sensor,
    available_sensors,
    false_colour_bands,
    generic_sensor,
    get_sensor,
    rgb_bands,
)

# ESA's table, in the order of the product.
S2_BANDS = ["B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B10", "B11", "B12"]
S2_RADIANCE = [129, 128, 128, 108, 74.6, 68.2, 66.7, 103, 52.4, 8.77, 6, 4, 1.7]
S2_SNR = [1372, 214, 249, 230, 253, 220, 227, 221, 161, 222, 390, 159, 167]


def sun_as_black_body(wavelength_nm: float) -> float:
    """Irradiance at 1 au in W/m2/um of a black body of the sun's size at 5772 K (Planck's law)."""
    metres = wavelength_nm * 1e-9
    exponent = 6.62607015e-34 * 2.99792458e8 / (metres * 1.380649e-23 * 5772.0)
    radiance = 2 * 6.62607015e-34 * 2.99792458e8**2 / (metres**5 * math.expm1(exponent))
    return math.pi * radiance * (6.957e8 / 1.495978707e11) ** 2 * 1e-6


def optical_bands(figure: str) -> list[tuple[str, Band]]:
    """Those that state a figure: one of which no source was found is left out."""
    sensors = [get_sensor(name) for name in available_sensors()]
    bands = [(sensor.name, band) for sensor in sensors if sensor.domain == "optical" for band in sensor.bands]
    return [(name, band) for name, band in bands if getattr(band, figure) is not None]


def test_the_promised_sensors_are_built_in() -> None:
    landsat = {f"landsat-{number}-l{level}" for number in (4, 5, 7, 8, 9) for level in (1, 2)}
    assert set(available_sensors()) >= landsat | {
        "planetscope-4b",
        "planetscope-8b",
        "modis-sr",
        "sentinel-2-l1c",
        "sentinel-2-l2a",
        "sentinel-1-grd",
        "sentinel-1-power",
        "sentinel-1-db",
        "rgb",
        "rgbn",
    }
    for name in available_sensors():
        sensor = get_sensor(name)
        assert sensor.name == name
        assert sensor.title
        assert sensor.reference


def test_sentinel_2_noise_is_as_published() -> None:
    level_1c = get_sensor("sentinel-2-l1c")
    assert list(level_1c.band_names) == S2_BANDS
    assert [band.reference_radiance for band in level_1c.bands] == S2_RADIANCE
    assert [band.snr for band in level_1c.bands] == S2_SNR


@pytest.mark.real_data
def test_the_calmest_ground_has_no_less_noise_than_the_sensor_and_less_than_it_was_required_to(
    shared_data: Path,
) -> None:
    """By the second difference along both axes, which smooth ground does not have (Immerkaer 1996)."""
    band = get_sensor("sentinel-2-l1c").bands[0]
    assert band.solar_irradiance is not None
    assert band.reference_radiance is not None
    assert band.snr is not None
    with rasterio.open(shared_data / "s2-60m-jp2" / "B01.jp2") as file:
        dn = file.read(1).astype(np.float64)[:1824, :1824]
    kernel = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]]) / 6
    blocks = [part.reshape(76, 24, 76, 24).swapaxes(1, 2) for part in (dn, ndimage.convolve(dn, kernel))]
    noise = np.sqrt((blocks[1] ** 2).mean((2, 3)))[blocks[0].min((2, 3)) > 0]
    level = blocks[0].mean((2, 3))[blocks[0].min((2, 3)) > 0]
    calm = noise <= np.quantile(noise, 0.02)
    mean = level[calm].mean()
    # The sun is at some 50 degrees.
    radiance = mean / 10_000 * band.solar_irradiance * math.sin(math.radians(50)) / math.pi
    expected = [mean / snr / math.sqrt(radiance / band.reference_radiance) for snr in (band.snr, 129)]
    assert expected[0] < noise[calm].mean() < expected[1] / 2


def test_levels_of_one_instrument_agree() -> None:
    without_cirrus = [name for name in S2_BANDS if name != "B10"]
    assert get_sensor("sentinel-2-l2a").bands == get_sensor("sentinel-2-l1c").select(without_cirrus).bands
    for number in (4, 5, 7, 8, 9):
        level_2 = get_sensor(f"landsat-{number}-l2")
        level_1 = get_sensor(f"landsat-{number}-l1").select(level_2.band_names)
        for band_1, band_2 in zip(level_1.bands, level_2.bands, strict=True):
            figures = ("wavelength_nm", "bandwidth_nm", "gsd_m", "solar_irradiance", "snr", "reference_radiance")
            assert [getattr(band_1, f) for f in figures] == [getattr(band_2, f) for f in figures]


@pytest.mark.parametrize(("sensor", "band"), optical_bands("solar_irradiance"), ids=lambda v: getattr(v, "name", v))
def test_solar_irradiance_is_that_of_the_sun(sensor: str, band: Band) -> None:
    # The sun is no black body: at 1.6 um its opaque layer lies deeper and is hotter, by 22 % in irradiance.
    assert band.wavelength_nm is not None
    assert band.solar_irradiance == pytest.approx(sun_as_black_body(band.wavelength_nm), rel=0.25)


@pytest.mark.parametrize(("sensor", "band"), optical_bands("reference_radiance"), ids=lambda v: getattr(v, "name", v))
def test_reference_radiance_is_that_of_a_natural_surface(sensor: str, band: Band) -> None:
    assert band.reference_radiance is not None
    assert band.solar_irradiance is not None
    assert 0.02 < math.pi * band.reference_radiance / band.solar_irradiance < 0.4


@pytest.mark.parametrize(
    ("name", "scale", "add"),
    [
        ("landsat-8-l1", 2e-5, -0.1),
        ("landsat-9-l1", 2e-5, -0.1),
        ("landsat-8-l2", 2.75e-5, -0.2),
        ("landsat-9-l2", 2.75e-5, -0.2),
        ("landsat-4-l2", 2.75e-5, -0.2),
        ("landsat-5-l2", 2.75e-5, -0.2),
        ("landsat-7-l2", 2.75e-5, -0.2),
    ],
)
@pytest.mark.parametrize("number", [1, 7273, 18639, 65535])
def test_landsat_is_scaled_as_usgs_says(name: str, scale: float, add: float, number: int) -> None:
    for band in get_sensor(name).bands:
        assert (number + band.offset) / band.quantification == pytest.approx(scale * number + add, abs=1e-12)
        assert band.nodata == 0


def test_the_nominal_scale_of_tm_and_etm_is_near_that_of_a_scene() -> None:
    """Against REFLECTANCE_MULT and _ADD in the MTL file of a scene of Landsat 7, whose B4 and B8 are in low gain.

    The scene's distance of the sun accounts for 3.4 %, an irradiance that is fitted to Landsat 8 for 7 %.
    """
    stated = {"B4": (2.9351e-3, -0.018378), "B8": (2.3987e-3, -0.013955)}
    sensor = get_sensor("landsat-7-l1")
    for name, (multiplier, add) in stated.items():
        band = sensor.bands[sensor.index(name)]
        assert band.offset == pytest.approx(add / multiplier, rel=2e-4)
        assert band.quantification * multiplier == pytest.approx(1.0, abs=0.08)
    for number in (4, 5, 7):
        for band in get_sensor(f"landsat-{number}-l1").bands:
            # Snow may saturate, ground does not; and zero radiance is stored above the fill.
            assert 0.25 < (255 + band.offset) / band.quantification < 1.0
            assert 1 < -band.offset < 10
        assert not get_sensor(f"landsat-{number}-l1").of_8_bits


@pytest.mark.parametrize(
    ("baseline", "offset"),
    [("02.08", 0), ("03.01", 0), ("04.00", -1000), ("N0400", -1000), ("05.10", -1000), ("0500", -1000)],
)
def test_sentinel_2_offset_follows_the_baseline(baseline: str, offset: float) -> None:
    for name in ("sentinel-2-l1c", "sentinel-2-l2a"):
        plain = get_sensor(name)
        assert set(plain.offset) == {0.0}
        assert set(plain.for_baseline(baseline).offset) == {offset}
        assert plain.for_baseline("04.00").for_baseline(baseline).offset == (offset,) * len(plain)


@pytest.mark.parametrize(("name", "baseline"), [("landsat-8-l1", "04.00"), ("sentinel-2-l2a", "2022-01-25")])
def test_baselines_are_sentinel_2s(name: str, baseline: str) -> None:
    with pytest.raises(ConfigurationError, match="baseline"):
        get_sensor(name).for_baseline(baseline)


@pytest.mark.parametrize(
    ("chosen", "names"),
    [
        ("B04,B03,B02,B08", ["B04", "B03", "B02", "B08"]),
        (" b4 , B3,B08A", ["B04", "B03", "B8A"]),
        (["red", "NIR", "Red Edge 1", "swir-1"], ["B04", "B08", "B05", "B11"]),
        ([1, "10", 12], ["B01", "B09", "B12"]),
        ("coastal", ["B01"]),
    ],
)
def test_bands_are_chosen_by_name_alias_or_number(chosen: str | list[str | int], names: list[str]) -> None:
    assert list(get_sensor("sentinel-2-l2a").select(chosen).band_names) == names


def test_a_name_goes_before_a_number() -> None:
    sensor = Sensor("odd", (Band("2"), Band("1"), Band("x")))
    assert sensor.index("1") == 1
    assert sensor.index(1) == 0
    assert sensor.index("3") == 2


@pytest.mark.parametrize(
    ("chosen", "said"),
    [
        ("B04,B99", "band 'B99' is not one of B01 B02"),
        ("B04,swri1", "did you mean 'B11'"),
        ("B10", "'sentinel-2-l2a'"),
        ("B04,red", "band 'B04' is asked for twice"),
        (["B04", 4], "asked for twice"),
        ([0], "bands 1 to 12"),
        ([13], "bands 1 to 12"),
        ([-1], "bands 1 to 12"),
        ([True], "not by True"),
        ("", "no bands"),
        (" , ", "no bands"),
    ],
)
def test_a_wrong_choice_is_explained(chosen: str | list[str | int], said: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        get_sensor("sentinel-2-l2a").select(chosen)
    assert said in str(caught.value)


@given(st.permutations(S2_BANDS), st.integers(1, 13))
def test_selection_keeps_every_band_whole_and_in_the_order_asked_for(order: list[str], count: int) -> None:
    sensor = get_sensor("sentinel-2-l1c")
    chosen = sensor.select(order[:count])
    assert list(chosen.band_names) == order[:count]
    assert [chosen.index(name) for name in order[:count]] == list(range(count))
    assert all(band is sensor.bands[sensor.index(band.name)] for band in chosen.bands)


def test_sensors_cannot_be_changed() -> None:
    sensor = get_sensor("rgb")
    with pytest.raises(dataclasses.FrozenInstanceError):
        sensor.name = "other"  # type: ignore[misc]
    with pytest.raises(dataclasses.FrozenInstanceError):
        sensor.bands[0].offset = 3.0  # type: ignore[misc]
    assert sensor.with_scaling(offset=3.0).offset == (3.0,) * 3
    assert sensor.offset == (0.0,) * 3
    assert hash(sensor) == hash(get_sensor("rgb"))


def test_scaling_is_for_all_bands_or_for_each() -> None:
    sensor = get_sensor("rgb").with_scaling(quantification=[1.0, 2.0, 3.0], offset=-4)
    assert sensor.quantification == (1.0, 2.0, 3.0)
    assert sensor.offset == (-4.0,) * 3
    with pytest.raises(ConfigurationError, match="2 values of offset for the 3 bands"):
        sensor.with_scaling(offset=[1.0, 2.0])
    with pytest.raises(ConfigurationError, match="quantification must be positive"):
        sensor.with_scaling(quantification=0)


def test_nodata_is_common_or_none() -> None:
    assert get_sensor("sentinel-2-l2a").nodata == 0
    assert get_sensor("rgb").nodata is None
    assert Sensor("mixed", (Band("a", nodata=0), Band("b", nodata=-9999))).nodata is None
    nan = Sensor("nan", (Band("a", nodata=float("nan")), Band("b", nodata=float("nan")))).nodata
    assert nan is not None
    assert math.isnan(nan)


@pytest.mark.parametrize(
    ("name", "true_colour", "false_colour"),
    [
        ("sentinel-2-l2a", ("B04", "B03", "B02"), ("B08", "B04", "B03")),
        ("landsat-8-l1", ("B4", "B3", "B2"), ("B5", "B4", "B3")),
        ("landsat-9-l2", ("B4", "B3", "B2"), ("B5", "B4", "B3")),
        ("rgbn", ("red", "green", "blue"), ("nir", "red", "green")),
        ("rgb", ("red", "green", "blue"), None),
        ("sentinel-1-grd", None, None),
    ],
)
def test_pictures_find_their_bands_by_wavelength(
    name: str, true_colour: tuple[str, ...] | None, false_colour: tuple[str, ...] | None
) -> None:
    sensor = get_sensor(name).select(list(reversed(get_sensor(name).band_names)))
    for bands, names in ((rgb_bands(sensor), true_colour), (false_colour_bands(sensor), false_colour)):
        assert (None if bands is None else tuple(sensor.band_names[band] for band in bands)) == names


def test_a_panchromatic_band_is_no_colour() -> None:
    assert rgb_bands(get_sensor("landsat-8-l1").select("B4,B8,B2")) is None


def test_generic_sensor_knows_nothing_but_the_scaling() -> None:
    sensor = generic_sensor(3, 10000, nodata=-1)
    assert sensor.band_names == ("band 1", "band 2", "band 3")
    assert sensor.quantification == (10000,) * 3
    assert sensor.nodata == -1
    assert {band.wavelength_nm for band in sensor.bands} == {None}
    assert rgb_bands(sensor) is None
    assert generic_sensor(2, 1, names=["x", "y"]).band_names == ("x", "y")
    with pytest.raises(ConfigurationError, match="1 names for 2 bands"):
        generic_sensor(2, 1, names=["x"])
    with pytest.raises(ConfigurationError, match="not 0"):
        generic_sensor(0, 1)


def test_sensors_are_found_by_name_path_or_as_they_are(tmp_path: Path) -> None:
    sensor = get_sensor("Sentinel-2_L2A")
    assert sensor.name == "sentinel-2-l2a"
    assert get_sensor(sensor) is sensor
    file = tmp_path / "mine.yaml"
    file.write_text(
        "name: mine\ndefaults: {quantification: 1000, nodata: 0}\nbands:\n"
        "  - {name: blue, wavelength_nm: 480}\n  - {name: red, wavelength_nm: 660, offset: -5, aliases: [R]}\n"
    )
    for given_as in (file, str(file)):
        mine = get_sensor(given_as)
        assert mine.band_names == ("blue", "red")
        assert mine.quantification == (1000, 1000)
        assert mine.offset == (0, -5)
        assert mine.nodata == 0
        assert mine.index("r") == 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name: x\nbands:\n- {name: a, wavelenght_nm: 480}", ["band 'a' (number 1)", "'wavelength_nm'"]),
        ("name: x\nbands:\n- {name: a}\n- {wavelength_nm: 3}", ["band number 2", "'name' is missing"]),
        ("name: x\nbands:\n- {name: a, snr: high}", ["band 'a'", "'snr'", "not 'high'"]),
        ("name: x\nbands:\n- {name: a, quantification: 0}", ["'quantification'", "greater than 0"]),
        ("name: x\nbands:\n- {name: a, snr: 50}", ["band 'a'", "snr and reference_radiance belong together"]),
        ("name: x\nbands:\n- {name: B4}\n- {name: B04}", ["'B04' (number 2)", "'B4'"]),
        ("name: x\nbands:\n- {name: a}\n- {name: b, aliases: [A]}", ["'b' (number 2)", "'a'"]),
        ("name: x\nbands: []", ["'bands'"]),
        ("name: x", ["'bands' is missing"]),
        ("nmae: x\nbands:\n- {name: a}", ["'nmae'", "'name'"]),
        ("name: x\ndomain: radar\nbands:\n- {name: a}", ["'domain'", "'sar'"]),
        ("name: x\ndefaults: {ofset: 3}\nbands:\n- {name: a}", ["defaults", "'offset'"]),
        ("name: x\nbands:\n- a", ["band number 1", "not 'a'"]),
        ("- a", ["mapping"]),
        ("name: [", ["not valid YAML"]),
        ("", ["mapping"]),
    ],
)
def test_a_faulty_definition_is_explained_in_one_line(tmp_path: Path, text: str, said: list[str]) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    with pytest.raises(ConfigurationError) as caught:
        get_sensor(file)
    message = str(caught.value)
    assert message.startswith(f"{file}: ")
    assert "\n" not in message
    for part in said:
        assert part in message


def test_an_unknown_sensor_is_answered_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"did you mean 'sentinel-2-l2a'"):
        get_sensor("sentinel2-l2a")
    with pytest.raises(ConfigurationError, match="no such sensor definition"):
        get_sensor(tmp_path / "absent.yaml")


def test_import_is_light() -> None:
    program = (
        "import sys; import geoaug.sensors;"
        "print([m for m in ('torch', 'rasterio', 'numpy', 'pydantic', 'yaml') if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout == "[]\n"


DOCUMENTATION = Path(__file__).parents[1] / "docs" / "sensors.md"


def test_the_documentation_states_the_figures_of_the_definitions() -> None:
    lines = [line for line in DOCUMENTATION.read_text().splitlines() if line.startswith("| ")]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]
    tabulated = {
        (row[0], row[1]): [float(cell) if cell else None for cell in row[2:]]
        for row in rows[1:]
        if len(row) == 8 and row[0] in available_sensors()
    }
    for name in available_sensors():
        for band in get_sensor(name).bands:
            assert tabulated[name, band.name] == [
                band.wavelength_nm,
                band.bandwidth_nm,
                band.gsd_m,
                band.solar_irradiance,
                band.snr,
                band.reference_radiance,
            ]


def test_the_documented_definition_and_error_are_real(tmp_path: Path) -> None:
    text = DOCUMENTATION.read_text()
    example = re.search(r"```yaml\n(.*?)```", text, re.DOTALL)
    assert example is not None
    file = tmp_path / "mine.yaml"
    file.write_text(example[1])
    sensor = get_sensor(file)
    assert sensor.band_names == ("blue", "green", "red", "rededge", "nir", "thermal")
    assert (29315 + sensor.offset[-1]) / sensor.quantification[-1] == pytest.approx(20.0)
    file.write_text(example[1].replace("name: red, wavelength_nm", "name: red, wavelenght_nm"))
    with pytest.raises(ConfigurationError) as caught:
        get_sensor(file)
    assert str(caught.value).replace(str(file), "mine.yaml") in text


def test_products_know_their_level_and_quantity() -> None:
    levels = {name: get_sensor(name).level for name in available_sensors()}
    assert {name for name, level in levels.items() if level == "toa"} >= {
        "sentinel-2-l1c",
        "landsat-8-l1",
        "landsat-9-l1",
    }
    assert {name for name, level in levels.items() if level == "surface"} >= {
        "sentinel-2-l2a",
        "landsat-8-l2",
        "landsat-9-l2",
    }
    assert {name for name in available_sensors() if not get_sensor(name).sun_corrected} >= {
        "landsat-8-l1",
        "landsat-9-l1",
    }
    assert [get_sensor(f"sentinel-1-{kind}").quantity for kind in ("grd", "power", "db")] == [
        "amplitude",
        "power",
        "db",
    ]
    assert {get_sensor(name).quantity for name, level in levels.items() if level} == {"reflectance"}
    assert Sensor("mine", (Band("VV"),), domain="sar").quantity == "power"
    kept = get_sensor("landsat-8-l1").select("B2,B3").with_scaling(offset=0)
    assert (kept.level, kept.sun_corrected) == ("toa", False)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Sensor("mine", (Band("VV"),), domain="sar", quantity="reflectance"), "'power', 'amplitude' or 'db'"),
        (lambda: Sensor("mine", (Band("red"),), quantity="db"), "is 'reflectance', not 'db'"),
        (lambda: Sensor("mine", (Band("VV"),), domain="sar", level="toa"), "leave it out for SAR"),
        (lambda: Band("red", noise_alpha=1.0), "noise_alpha and noise_beta belong together"),
        (lambda: Band("red", noise_alpha=1.0, noise_beta=-1.0), "noise_beta must not be negative"),
        (lambda: Band("VV", looks=0.0), "looks must be positive"),
        (lambda: Band("red", parallax=math.inf), "parallax must be finite"),
    ],
)
def test_facts_that_contradict_each_other_are_refused(build: Callable[[], object], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        build()


@pytest.mark.parametrize("name", ["sentinel-2-l1c", "sentinel-2-l2a"])
def test_the_parallax_of_sentinel_2_is_the_delay_between_its_bands(name: str) -> None:
    """Seconds after B02, in which the satellite flies 7.44 km, in an orbit of 786 km."""
    order = ["B02", "B08", "B03", "B10", "B04", "B05", "B11", "B06", "B07", "B8A", "B12", "B01", "B09"]
    delays = (0, 0.264, 0.527, 0.851, 1.005, 1.269, 1.468, 1.525, 1.790, 2.055, 2.085, 2.314, 2.586)
    sensor = get_sensor(name)
    for band in sensor.bands:
        expected = delays[order.index(band.name)] * 7.44 / 786
        assert band.parallax == pytest.approx(expected, abs=6e-5), band.name
    assert all(band.parallax is None for band in get_sensor("rgb").bands)
