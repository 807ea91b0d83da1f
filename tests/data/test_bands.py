"""A sensor that is told keeps the file's own scaling, and its bands are found wherever the file names them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine

from geoaug.data.raster.headers import read_header
from geoaug.errors import ConfigurationError
from geoaug.sensors import generic_sensor, get_sensor

PRODUCT = "S2A_MSIL2A_20230617T113321_N0509_R080_T29RKH_20230617T150000"
L1C = ["B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B10", "B11", "B12"]


def write(
    path: Path,
    count: int,
    descriptions: Sequence[str] = (),
    scale: tuple[float, float] | None = None,
    dtype: str = "uint16",
) -> Path:
    profile: dict[str, Any] = {"crs": "EPSG:32633", "transform": Affine(10, 0, 4e5, 0, -10, 4.2e6)}
    with rasterio.open(
        path, "w", driver="GTiff", count=count, height=8, width=9, dtype=dtype, photometric="MINISBLACK", **profile
    ) as dataset:
        dataset.write(np.full((count, 8, 9), 7, dtype))
        for band, description in enumerate(descriptions, start=1):
            dataset.set_band_description(band, description)
        if scale is not None:
            dataset.scales, dataset.offsets = (scale[0],) * count, (scale[1],) * count
    return path


@pytest.mark.parametrize(
    ("count", "descriptions", "bands"),
    [
        (12, (), None),
        (4, ("B02", "B03", "B04", "B08"), None),
        (4, (), "B02,B03,B04,B08"),
        (13, L1C, "B04,B03"),
        (14, (), ",".join(map(str, range(1, 13)))),
    ],
)
@pytest.mark.parametrize(
    ("name", "scale", "offset"),
    [(PRODUCT, None, -1000), (PRODUCT, (0.0001, 0.0), 0), ("a", (0.0001, -0.1), -1000), ("a", None, 0)],
)
def test_a_told_sensor_keeps_the_offset_that_the_file_states(
    tmp_path: Path, count: int, descriptions: Sequence[str], bands: str | None, name: str, scale: Any, offset: float
) -> None:
    # A scale of 0.0001 without an offset is stated too: it comes before the baseline of the name.
    scene = read_header(
        write(tmp_path / f"{name}.tif", count, descriptions, scale), sensor="sentinel-2-l2a", bands=bands
    )
    assert set(scene.sensor.offset) == {offset}
    assert set(scene.sensor.quantification) == {10000}
    assert scene.identification.certain
    formula = "DN / 10000" if offset == 0 else "(DN - 1000) / 10000"
    assert f"reflectance = {formula}" in scene.identification.reason
    assert "choose with" not in scene.identification.reason


def test_the_scaling_that_a_person_gave_a_sensor_comes_before_the_baseline_but_not_the_files_scale(
    tmp_path: Path,
) -> None:
    own = get_sensor("sentinel-2-l2a").with_scaling(offset=-500.0)
    plain = read_header(write(tmp_path / f"{PRODUCT}.tif", 12), sensor=own)
    assert set(plain.sensor.offset) == {-500}
    stated = read_header(write(tmp_path / "b.tif", 12, scale=(0.0001, -0.1)), sensor=own)
    assert set(stated.sensor.offset) == {-1000}
    floats = read_header(write(tmp_path / "c.tif", 2, dtype="float32"), sensor=generic_sensor(2, 50.0))
    assert floats.sensor.quantification == (50, 50)


@pytest.mark.parametrize(
    ("name", "sensor", "band"),
    [
        ("L8-B4-Elkton-VA.tif", "landsat-8-l1", "B4"),
        ("B01.tif", "sentinel-2-l2a", "B01"),
        (f"{PRODUCT}_B8A.tif", "sentinel-2-l2a", "B8A"),
    ],
)
def test_a_band_is_known_by_the_file_name_where_the_sensor_is_told(
    tmp_path: Path, name: str, sensor: str, band: str
) -> None:
    scene = read_header(write(tmp_path / name, 1), sensor=sensor)
    assert scene.sensor.band_names == (band,)
    assert scene.sensor.bands[0].wavelength_nm == get_sensor(sensor).select(band).bands[0].wavelength_nm
    assert band in scene.identification.reason


@pytest.mark.parametrize("bands", ["1,2,3,4", [6, 4, 2, 8]])
def test_as_many_numbers_as_the_sensor_has_bands_are_its_bands_in_order(tmp_path: Path, bands: Any) -> None:
    scene = read_header(write(tmp_path / "a.tif", 8, dtype="uint8"), sensor="rgbn", bands=bands)
    assert scene.sensor.band_names == ("red", "green", "blue", "nir")
    assert scene.band_indexes == ((1, 2, 3, 4) if isinstance(bands, str) else (6, 4, 2, 8))


@pytest.mark.parametrize("bands", ["1,2,3", "1,2,3,9", "1,2,3,3", None])
def test_numbers_that_cannot_be_the_bands_of_the_sensor_are_refused(tmp_path: Path, bands: str | None) -> None:
    with pytest.raises(ConfigurationError, match=r"a\.tif: has"):
        read_header(write(tmp_path / "a.tif", 8), sensor="rgbn", bands=bands)


def test_only_the_bands_that_are_chosen_must_be_of_the_sensor(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", 13, L1C)
    scene = read_header(path, sensor="sentinel-2-l2a", bands="B04,B03,B02,B08")
    assert scene.band_indexes == (4, 3, 2, 8)
    assert read_header(path, sensor="sentinel-2-l2a", bands="B11").band_indexes == (12,)
    for bands in (None, "11", "1,11"):
        with pytest.raises(ConfigurationError, match="B10 is not in 'sentinel-2-l2a'; choose among"):
            read_header(path, sensor="sentinel-2-l2a", bands=bands)
    with pytest.raises(ConfigurationError, match="'B10' is not one of"):
        read_header(path, sensor="sentinel-2-l2a", bands="B04,B10")


@pytest.mark.parametrize(
    "described", [("elevation", "slope", "aspect", "wet"), ("Band 1", "Band 2", "Band 3", "Band 4")]
)
def test_descriptions_that_name_no_band_of_the_sensor_do_not_stand_in_the_way(
    tmp_path: Path, described: tuple[str, ...]
) -> None:
    path = write(tmp_path / "x.tif", 4, described)
    numbered = read_header(path, sensor="rgb", bands="4,1,3")
    assert (numbered.sensor.band_names, numbered.band_indexes) == (("red", "green", "blue"), (4, 1, 3))
    named = read_header(path, sensor="sentinel-2-l2a", bands="B08,B02,B11,B12")
    assert (named.sensor.band_names, named.band_indexes) == (("B08", "B02", "B11", "B12"), (1, 2, 3, 4))
    with pytest.raises(ConfigurationError, match="as many by their numbers as the sensor has"):
        read_header(path, sensor="rgb")


def test_descriptions_that_name_one_band_twice_leave_the_choice_to_numbers(tmp_path: Path) -> None:
    path = write(tmp_path / "x.tif", 4, ("red", "red", "x", "y"))
    assert read_header(path, sensor="rgb", bands="2,3,4").band_indexes == (2, 3, 4)
