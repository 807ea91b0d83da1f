"""Judging the sensor of a file by its header and path."""

import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
import rasterio
from hypothesis import given
from hypothesis import strategies as st

from geoaug.data.raster.identify import Identification, identify_sensor
from geoaug.sensors import get_sensor

SHARED = Path(__file__).parents[2] / ".." / "shared" / "data"
S2_ORDER = ["B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B10", "B11", "B12"]
SAFE_1C = (
    "S2B_MSIL1C_20230823T095559_N0509_R122_T34UCF_20230823T120234.SAFE/GRANULE/"
    "L1C_T34UCF_A033753_20230823T095553/IMG_DATA/T34UCF_20230823T095559_B8A.jp2"
)


def identify(
    path: str,
    count: int = 1,
    dtype: str = "uint16",
    descriptions: Sequence[str | None] | None = None,
    tags: Mapping[str, str] | None = None,
    scales: Sequence[float] | None = None,
    offsets: Sequence[float] | None = None,
) -> Identification:
    return identify_sensor(
        path,
        count,
        [None] * count if descriptions is None else descriptions,
        dtype,
        tags or {},
        [1.0] * count if scales is None else scales,
        [0.0] * count if offsets is None else offsets,
    )


def identify_file(path: str | Path) -> tuple[Identification, int]:
    with rasterio.open(path) as file:
        found = identify_sensor(
            path, file.count, file.descriptions, file.dtypes[0], file.tags(), file.scales, file.offsets
        )
        return found, file.count


PLANETSCOPE = ["coastal_blue", "blue", "green_i", "green", "yellow", "red", "rededge", "nir"]


@pytest.mark.parametrize(
    ("path", "dtype", "sensor", "bands"),
    [
        (f"/data/{SAFE_1C}", "uint16", "sentinel-2-l1c", ["B8A"]),
        ("T29RKH_20200219T110131_B04_10m.jp2", "uint16", "sentinel-2-l2a", ["B04"]),
        ("x/S2A_29RKH_20200219_0_L2A/B05.tif", "uint16", "sentinel-2-l2a", ["B05"]),
        ("S2A_MSIL2A_20170617T113321_36_85_B8A.tif", "uint16", "sentinel-2-l2a", ["B8A"]),
        ("s2a_l2a_b02-B03-B04-B08.tif", "int16", "sentinel-2-l2a", ["B02", "B03", "B04", "B08"]),
        ("LC81070352015122LGN00_B3.tif", "uint16", "landsat-8-l1", ["B3"]),
        ("LC08_L1TP_037034_20200101_20200111_02_T1_B8.TIF", "uint16", "landsat-8-l1", ["B8"]),
        ("LC09_L2SP_037034_20220101_20220111_02_T1_SR_B4.TIF", "uint16", "landsat-9-l2", ["B4"]),
        ("LT05_L2SP_195026_19990617_20200907_02_T1_SR_B7.TIF", "uint16", "landsat-5-l2", ["B7"]),
        ("LE07_L2SP_195026_20010617_20200907_02_T1_SR_B1.TIF", "uint16", "landsat-7-l2", ["B1"]),
        ("20220501_103000_12_2475_3B_AnalyticMS_SR_8b.tif", "uint16", "planetscope-8b", PLANETSCOPE),
        ("20200501_103000_1012_3B_AnalyticMS_SR_clip.tif", "uint16", "planetscope-4b", ["blue", "green", "red", "nir"]),
        ("MOD09GA.A2020123.h18v04.061.2020125.sur_refl_b02_1.tif", "int16", "modis-sr", ["B2"]),
        ("MYD09A1.A2020121.h18v04.061.sur_refl_b07.tif", "int16", "modis-sr", ["B7"]),
        ("s1a-iw-grd-vh-20200101t000000.tiff", "uint16", "sentinel-1-grd", ["VH"]),
        ("m_4709963_se_14_1_20180716.tif", "uint8", "rgbn", ["red", "green", "blue", "nir"]),
        ("m_4709963_se_14_1_20180716.tif", "uint8", "rgb", ["red", "green", "blue"]),
        ("https://h.org/S2A_MSIL2A_N0213_x/B02.tif?key=a/B03", "uint16", "sentinel-2-l2a", ["B02"]),
    ],
)
def test_products_are_known_by_their_names(path: str, dtype: str, sensor: str, bands: list[str]) -> None:
    found = identify(path, len(bands), dtype)
    assert (found.sensor.name, list(found.sensor.band_names)) == (sensor, bands)
    assert found.certain


@pytest.mark.parametrize(
    ("path", "sensor", "bands"),
    [
        ("L8-B1-Elkton-VA.tiff", "landsat-8-l1", ["B1"]),
        ("landsat9/scene_B5.tif", "landsat-9-l1", ["B5"]),
        ("s2-60m/B01.jp2", "sentinel-2-l2a", ["B01"]),
        ("s2/B10.jp2", "sentinel-2-l1c", ["B10"]),
        ("any_B08.tif", "sentinel-2-l2a", ["B08"]),
        ("any.tif", "sentinel-2-l1c", S2_ORDER),
        ("any.tif", "sentinel-2-l2a", [band for band in S2_ORDER if band != "B10"]),
    ],
)
def test_what_is_not_stated_is_uncertain(path: str, sensor: str, bands: list[str]) -> None:
    found = identify(path, len(bands))
    assert (found.sensor.name, list(found.sensor.band_names)) == (sensor, bands)
    assert not found.certain
    assert found.reason.endswith("; choose with --sensor")


@pytest.mark.parametrize(
    ("descriptions", "dtype", "sensor", "bands", "certain"),
    [
        (["B02", "B03", "B8A"], "uint16", "sentinel-2-l2a", ["B02", "B03", "B8A"], False),
        (["B11", "b4"], "uint16", "generic", ["B11", "b4"], False),
        (["B12", "B4"], "uint16", "sentinel-2-l2a", ["B12", "B04"], False),
        (["Red", "Green", "Blue", "NIR"], "uint8", "rgbn", ["red", "green", "blue", "nir"], True),
        (["blue", "green", "red", "nir"], "uint16", "rgbn", ["blue", "green", "red", "nir"], False),
        (["coastal", "blue", "rededge1"], "uint16", "sentinel-2-l2a", ["B01", "B02", "B05"], False),
        (["SR_B4", "SR_B3"], "uint16", "landsat-8-l2", ["B4", "B3"], False),
        (["VH", "VV"], "float32", "sentinel-1-grd", ["VH", "VV"], False),
        (["B2", "B3"], "uint16", "generic", ["B2", "B3"], False),
        (["elevation", "slope"], "float32", "generic", ["elevation", "slope"], False),
        (["a", "a"], "uint16", "generic", ["band 1", "band 2"], False),
        (["red", None], "uint16", "generic", ["band 1", "band 2"], False),
        (["1", "2"], "uint16", "generic", ["band 1", "band 2"], False),
    ],
)
def test_band_descriptions_name_the_bands(
    descriptions: list[str | None], dtype: str, sensor: str, bands: list[str], certain: bool
) -> None:
    found = identify("any.tif", len(descriptions), dtype, descriptions)
    assert (found.sensor.name, list(found.sensor.band_names)) == (sensor, bands)
    assert found.certain is certain


@pytest.mark.parametrize(
    "path",
    [
        "LT05_L2SP_195026_19990617_20200907_02_T1_ST_B6.TIF",
        "LE07_L1TP_195026_20010617_20200907_02_T1_B6_VCID_1.TIF",
        "LM05_L1TP_195026_19840617_20200907_02_T1_B4.TIF",
        "20220501_103000_12_2475_3B_AnalyticMS.tif",
        "MOD09GA.A2020123.h18v04.061.SensorZenith_1.tif",
    ],
)
def test_what_is_no_reflectance_of_a_product_is_not_taken_for_it(path: str) -> None:
    assert identify(path, 1).sensor.name == "generic"


@pytest.mark.parametrize("scale", [1.0, 1e-4, 10000.0])
def test_modis_is_scaled_alike_whether_its_files_state_the_factor_or_the_divisor(scale: float) -> None:
    found = identify("MOD09GA.A2020123.h18v04.061.sur_refl_b01_1.tif", 1, "int16", scales=[scale])
    assert (found.sensor.quantification, found.sensor.offset) == ((10000.0,), (0.0,))


@pytest.mark.parametrize("name", ["s0", "s1", "s2", "l5", "field_s1", "field_l5", "sentinel-1_x"])
def test_thirteen_bands_of_16_bits_are_sentinel_2_whatever_a_word_in_the_name_says(name: str) -> None:
    found = identify(f"scenes/{name}.tif", 13)
    assert (found.sensor, found.certain) == (get_sensor("sentinel-2-l1c"), False)


@pytest.mark.parametrize("count", [2, 6, 7])
def test_numbered_scenes_of_one_layout_are_taken_for_the_same(count: int) -> None:
    names = [f"{letter}{number}" for letter in "sl" for number in range(10)]
    assert len({identify(f"scenes/{name}.tif", count).sensor for name in names}) == 1


@pytest.mark.parametrize("number", [5, 7])
def test_a_scale_that_differs_by_scene_leaves_level_1_uncertain(number: int) -> None:
    letter = "T" if number == 5 else "E"
    found = identify(f"L{letter}0{number}_L1TP_195026_20010617_20200907_02_T1_B3.TIF", 1, "uint8")
    assert (found.sensor.name, found.sensor.band_names, found.certain) == (f"landsat-{number}-l1", ("B3",), False)
    assert found.sensor.bands[0] == get_sensor(f"landsat-{number}-l1").select("B3").bands[0]


def test_descriptions_go_before_the_file_name() -> None:
    found = identify("S2A_L2A_B02_B03.tif", 2, descriptions=["B08", "B04"])
    assert found.sensor.band_names == ("B08", "B04")


def test_tags_of_gdals_sentinel_2_driver_are_read() -> None:
    tags = {"PRODUCT_TYPE": "S2MSI2A", "PROCESSING_BASELINE": "05.09"}
    descriptions = ["B4, central wavelength 665 nm", "B3, central wavelength 560 nm"]
    found = identify("any.tif", 2, descriptions=descriptions, tags=tags)
    assert found.certain
    assert found.sensor.name == "sentinel-2-l2a"
    assert found.sensor.band_names == ("B04", "B03")
    assert found.sensor.offset == (-1000, -1000)


@pytest.mark.parametrize(
    ("path", "offset"),
    [
        (SAFE_1C, -1000),
        ("S2A_MSIL2A_20220201T000000_N0301_R1_T29RKH_x/B02.tif", 0),
        ("S2A_MSIL2A_20160201T000000_N0500_R1_T29RKH_x/B02.tif", -1000),
        ("S2A_MSIL2A_20230201T000000_N9999_R1_T29RKH_x/B02.tif", 0),
        ("S2A_MSIL2A_20230617T113321_36_85_B02.tif", 0),
    ],
)
def test_the_offset_comes_from_the_baseline_and_never_from_the_date(path: str, offset: float) -> None:
    found = identify(path)
    assert found.sensor.offset == (offset,)
    stated = "N9999" not in path and "_N" in path
    assert ("no processing baseline being stated" in found.reason) is not stated


def test_scale_and_offset_of_the_file_win() -> None:
    found = identify(SAFE_1C.replace("N0509", "N0301"), scales=[0.0001], offsets=[-0.1])
    assert found.sensor.quantification == (10000,)
    assert found.sensor.offset == (-1000,)
    landsat = identify("LC08_L1TP_037034_20200101_20200111_02_T1_B4.TIF", scales=[2.75e-5], offsets=[-0.2])
    reflectance = (18639 + landsat.sensor.offset[0]) / landsat.sensor.quantification[0]
    assert reflectance == pytest.approx(0.313, abs=5e-4)  # the example of USGS
    some = identify("any.tif", 2, "uint16", scales=[1.0, 0.001])
    assert some.sensor.quantification == (10000, 1000)


@pytest.mark.parametrize("scale", [0.0, -1.0, float("nan"), float("inf")])
def test_a_senseless_scale_is_left_out_and_said(scale: float) -> None:
    found = identify("any.tif", scales=[scale])
    assert found.sensor.quantification == (10000,)
    assert "makes no sense" in found.reason or "make no sense" in found.reason


@pytest.mark.parametrize(
    ("dtype", "quantification"),
    [("uint8", 255), ("uint16", 10000), ("int16", 10000), ("int32", 10000), ("float32", 1), ("float64", 1)],
)
def test_unrecognised_files_get_a_plain_scale(dtype: str, quantification: float) -> None:
    for kind in (dtype, np.dtype(dtype)):
        found = identify_sensor("x.tif", 2, [None] * 2, kind, {}, [1.0] * 2, [0.0] * 2)
        assert found.sensor.quantification == (quantification,) * 2
        assert not found.certain


def test_the_sentence_for_people() -> None:
    assert identify("any.tif", 8).reason == (
        "not recognised: treated as 8 optical bands of unknown wavelength, reflectance = DN / 10000; "
        "choose with --sensor"
    )


@pytest.mark.parametrize("dtype", ["float32", "uint8"])
def test_numbers_that_are_not_the_products_lose_its_scaling_and_nodata(dtype: str) -> None:
    found = identify("S2A_MSIL2A_N0509_T29RKH_B02.tif", 1, dtype)
    assert found.sensor.band_names == ("B02",)
    assert not found.certain
    assert found.sensor.quantification == ((1,) if dtype == "float32" else (255,))
    assert found.sensor.offset == (0,)
    assert found.sensor.nodata is None


@pytest.mark.parametrize(
    ("path", "dtype"),
    [
        ("S2A_L2A/SCL.tif", "uint8"),
        ("L8-BQA-Elkton-VA.tiff", "uint16"),
        ("LC08_L2SP_037034_20200101_20200111_02_T1_QA_PIXEL.TIF", "uint16"),
        ("L8-Labels-Elkton-VA.tiff", "uint8"),
        ("LC08_L2SP_037034_20200101_20200111_02_T1_ST_B10.TIF", "uint16"),
        ("LC08_L1TP_037034_20200101_20200111_01_T1_sr_band4.tif", "int16"),
        ("LM30220491979322AAA01_B5.tif", "uint8"),
        ("HLS.S30.T29RKH.2020050T110131.v2.0.B04.tif", "int16"),
    ],
)
def test_classes_temperatures_and_other_products_are_not_taken_for_reflectance_bands(path: str, dtype: str) -> None:
    found = identify(path, 1, dtype)
    assert found.sensor.name == "generic"
    assert not found.certain


@given(
    st.text(max_size=30),
    st.integers(1, 20),
    st.sampled_from(["uint8", "int16", "uint16", "float32", "complex64"]),
    st.data(),
)
def test_any_header_gets_a_sensor_with_its_bands_and_one_line(
    path: str, count: int, dtype: str, data: st.DataObject
) -> None:
    texts = st.one_of(st.none(), st.text(max_size=8), st.sampled_from(["B02", "red", "VV", "B8A", "SR_B4", "1"]))
    descriptions = data.draw(st.lists(texts, min_size=count, max_size=count))
    found = identify(path, count, dtype, descriptions)
    assert len(found.sensor) == count
    assert found.reason


needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="the shared test data is not beside the project")


@needs_shared
@pytest.mark.parametrize(
    ("folder", "expected"),
    [
        ("bigearthnet-patch", {"sentinel-2-l2a"}),
        ("landsat7-opengeo", {"generic"}),
        ("landsat8-150m", {"landsat-8-l1"}),
        ("landsat8-elkton", {"landsat-8-l1", "generic"}),
        ("naip-nd", {"rgbn"}),
        ("s2-29rkh", {"sentinel-2-l2a", "generic"}),
        ("s2-ftw-8band", {"generic"}),
        ("s2-60m-jp2", {"sentinel-2-l2a"}),
    ],
)
def test_real_files_are_taken_for_what_they_are(folder: str, expected: set[str]) -> None:
    suffixes = {".tif", ".tiff", ".gtif", ".jp2"}
    paths = sorted(p for p in (SHARED / folder).rglob("*") if p.suffix in suffixes)
    if not paths:
        pytest.skip(f"no rasters in {folder}")
    names = set()
    for path in paths:
        found, count = identify_file(path.resolve())
        assert len(found.sensor) == count
        assert "\n" not in found.reason
        names.add(found.sensor.name)
        if path.stem.endswith(("SCL", "Elkton-VA")) and any(k in path.stem for k in ("SCL", "BQA", "Labels")):
            assert found.sensor.name == "generic"
    assert names == expected


@needs_shared
def test_eurosats_band_order_is_the_one_its_values_show() -> None:
    archive = (SHARED / "eurosat" / "EuroSAT_MS_subset.zip").resolve()
    if not archive.is_file():
        pytest.skip("EuroSAT_MS_subset.zip is absent")
    chips = [name for name in zipfile.ZipFile(archive).namelist() if "/Forest/" in name and name.endswith(".tif")]
    for chip in chips[:5]:
        path = f"/vsizip/{archive}/{chip}"
        names = identify_file(path)[0].sensor.band_names
        with rasterio.open(path) as file:
            mean = dict(zip(names, file.read().mean(axis=(1, 2)), strict=True))
        # Cirrus is dark over any surface; over forest water vapour halves B09, and B8A is as bright as B08.
        assert min(mean, key=lambda band: mean[band]) == "B10"
        assert mean["B09"] < 0.6 * mean["B08"]
        assert mean["B8A"] == pytest.approx(mean["B08"], rel=0.25)
