"""A header is told as it is, and every pixel of a scene comes with its validity."""

import math
import pickle
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import rasterio
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.errors import NotGeoreferencedWarning

from geoaug.data import SceneRecord, open_scene
from geoaug.data.raster.headers import SUPPORTED_DTYPES, Header, band_files, read_header
from geoaug.data.raster.reading import Pixels, Reader
from geoaug.data.raster.view import scene_view
from geoaug.data.raster.window import Window
from geoaug.errors import ConfigurationError, RasterError
from geoaug.sensors import generic_sensor

NORTH_UP = Affine(10.0, 0.0, 399960.0, 0.0, -10.0, 4200000.0)


def numbers(dtype: str = "uint16", shape: tuple[int, int, int] = (4, 60, 80)) -> npt.NDArray[Any]:
    return np.random.default_rng(5).integers(1, 120, shape).astype(dtype)


def write(
    path: Path,
    image: npt.NDArray[Any],
    *,
    descriptions: Sequence[str] = (),
    mask: npt.NDArray[np.bool_] | None = None,
    **profile: Any,
) -> Path:
    options = {"crs": "EPSG:32633", "transform": NORTH_UP, "photometric": "MINISBLACK", **profile}
    count, height, width = image.shape
    with (
        warnings.catch_warnings(action="ignore", category=NotGeoreferencedWarning),
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
        rasterio.open(
            path, "w", driver="GTiff", count=count, height=height, width=width, dtype=image.dtype, **options
        ) as dataset,
    ):
        dataset.write(image)
        for band, description in enumerate(descriptions, start=1):
            dataset.set_band_description(band, description)
        if mask is not None:
            dataset.write_mask(mask)
    return path


def vrt(path: Path, bands: Sequence[tuple[str, str, int, str]], size: tuple[int, int] = (60, 80)) -> Path:
    """A VRT of (GDAL type, source file, source band, further XML) bands."""
    body = "".join(
        f'<VRTRasterBand dataType="{kind}" band="{number}">{extra}<SimpleSource>'
        f'<SourceFilename relativeToVRT="1">{source}</SourceFilename><SourceBand>{band}</SourceBand>'
        "</SimpleSource></VRTRasterBand>"
        for number, (kind, source, band, extra) in enumerate(bands, start=1)
    )
    path.write_text(
        f'<VRTDataset rasterXSize="{size[1]}" rasterYSize="{size[0]}"><SRS>EPSG:32633</SRS>'
        f"<GeoTransform>399960, 10, 0, 4200000, 0, -10</GeoTransform>{body}</VRTDataset>"
    )
    return path


def record_of(header: Header) -> SceneRecord:
    return SceneRecord("a", "raster", header.path, band_files(header), header.sensor.name)


def read(header: Header, window: Window) -> Pixels:
    """A window, by a reader that is opened for it."""
    record = record_of(header)
    reader = Reader(2**25, 1, 2**25)
    try:
        return reader.window(scene_view(record, record.grid, fill=record.fill), window)
    finally:
        reader.close()


def everything(header: Header) -> Pixels:
    return read(header, Window(0, 0, header.height, header.width))


def test_the_header_is_told_as_rasterio_tells_it(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.tif", numbers(), descriptions=["B02", "B03", "B04", "B08"], nodata=0, tiled=True, blockxsize=32,
        blockysize=16,
    )  # fmt: skip
    scene = read_header(path)
    assert (scene.count, scene.height, scene.width) == (4, 60, 80)
    assert open_scene(path).record == replace(
        record_of(scene), size=path.stat().st_size, mtime_ns=path.stat().st_mtime_ns
    )
    assert scene.dtype == np.uint16
    assert scene.crs is not None
    assert scene.crs.to_epsg() == 32633
    assert scene.transform == NORTH_UP
    assert record_of(scene).nodata == 0
    assert scene.block_shape == (16, 32)
    assert scene.descriptions == ("B02", "B03", "B04", "B08")
    assert scene.band_indexes == (1, 2, 3, 4)
    assert scene.grid.gsd_m == pytest.approx(10.0)
    assert not scene.has_mask


def test_a_scene_travels_between_processes(tmp_path: Path) -> None:
    scene = read_header(write(tmp_path / "a.tif", numbers()))
    assert pickle.loads(pickle.dumps(scene)) == scene


@pytest.mark.parametrize("dtype", SUPPORTED_DTYPES)
def test_pixels_are_read_as_stored(tmp_path: Path, dtype: str) -> None:
    image = numbers(dtype)
    tile = everything(read_header(write(tmp_path / "a.tif", image)))
    assert tile.image.dtype == dtype
    np.testing.assert_array_equal(tile.image, image)
    assert tile.valid.all()


@settings(max_examples=60, deadline=None)
@given(
    row=st.integers(-30, 80), col=st.integers(-30, 100), height=st.integers(1, 40), width=st.integers(1, 40),
    context=st.integers(0, 15),
)  # fmt: skip
def test_a_window_is_cut_from_the_padded_scene(
    tmp_path_factory: pytest.TempPathFactory, row: int, col: int, height: int, width: int, context: int
) -> None:
    image = numbers()
    path = tmp_path_factory.getbasetemp() / "padded.tif"
    if not path.exists():
        write(path, image)
    scene = read_header(path)
    tile = read(scene, Window(row, col, height, width).padded(context))
    margin = 160
    rows = slice(row - context + margin, row + height + context + margin)
    cols = slice(col - context + margin, col + width + context + margin)
    pad = ((margin, margin), (margin, margin))
    expected = np.pad(image, ((0, 0), *pad), constant_values=0)[:, rows, cols]
    np.testing.assert_array_equal(tile.image, expected)
    np.testing.assert_array_equal(tile.valid, np.pad(np.ones((60, 80), bool), pad)[rows, cols])


def test_a_pixel_is_invalid_where_any_chosen_band_is_nodata(tmp_path: Path) -> None:
    image = numbers()
    image[1, 3, 4] = 0
    image[3, 7, 9] = 0
    path = write(tmp_path / "a.tif", image, nodata=0)
    both, first = everything(read_header(path)), everything(read_header(path, bands=[1, 2]))
    assert list(zip(*np.nonzero(~both.valid), strict=True)) == [(3, 4), (7, 9)]
    assert list(zip(*np.nonzero(~first.valid), strict=True)) == [(3, 4)]


@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning:rasterio")
@pytest.mark.parametrize("nodata", [None, math.nan, -9999.9, -3.4028234663852886e38, 1e300])
def test_what_is_not_finite_or_nodata_is_invalid_in_floats(tmp_path: Path, nodata: float | None) -> None:
    image = numbers("float32")
    image[0, 0, 0], image[1, 0, 1], image[2, 0, 2] = np.nan, np.inf, -np.inf
    expected = np.ones((60, 80), bool)
    expected[0, :3] = False
    if nodata is not None and abs(nodata) < 1e300:
        image[3, 5, 5] = nodata
        expected[5, 5] = False
    source = write(tmp_path / "a.tif", image)
    extra = "" if nodata is None else f"<NoDataValue>{nodata!r}</NoDataValue>"
    path = vrt(tmp_path / "a.vrt", [("Float32", source.name, band, extra) for band in (1, 2, 3, 4)])
    scene = read_header(path)
    np.testing.assert_array_equal(everything(scene).valid, expected)
    assert np.float32(record_of(scene).fill) == record_of(scene).fill or math.isnan(record_of(scene).fill)


@pytest.mark.parametrize("nodata", ["-9999", "nan", "0.5", "70000"])
def test_a_nodata_value_that_no_pixel_can_hold_is_none(tmp_path: Path, nodata: str) -> None:
    source = write(tmp_path / "a.tif", numbers())
    extra = f"<NoDataValue>{nodata}</NoDataValue>"
    scene = read_header(vrt(tmp_path / "a.vrt", [("UInt16", source.name, 1, extra)]), sensor=generic_sensor(1, 1e4))
    assert record_of(scene).nodata is None
    assert record_of(scene).fill == 0
    assert everything(scene).valid.all()


def test_bands_may_have_nodata_of_their_own(tmp_path: Path) -> None:
    image = numbers()
    image[0, 1, 1], image[1, 1, 1], image[1, 2, 2], image[0, 2, 2] = 7, 8, 9, 9
    image[0, 5:], image[1, 5:] = 20, 20
    image[0][(image[0] == 7)] = 20
    image[0, 1, 1] = 7
    image[1][image[1] == 9] = 20
    image[1, 2, 2] = 9
    source = write(tmp_path / "a.tif", image)
    extras = [f"<NoDataValue>{value}</NoDataValue>" for value in (7, 9)]
    path = vrt(tmp_path / "a.vrt", [("UInt16", source.name, band, extras[band - 1]) for band in (1, 2)])
    scene = read_header(path)
    assert scene.band_nodata == (7, 9)
    assert record_of(scene).fill == 7
    assert list(zip(*np.nonzero(~everything(scene).valid), strict=True)) == [(1, 1), (2, 2)]


@pytest.mark.parametrize(
    ("dtype", "fill"),
    [("uint8", 0), ("uint16", 0), ("uint32", 0), ("int8", -128), ("int16", -9999), ("int32", -9999)],
)
def test_the_fill_fits_the_type_where_nothing_is_nodata(tmp_path: Path, dtype: str, fill: int) -> None:
    scene = read_header(write(tmp_path / "a.tif", numbers(dtype)), sensor=generic_sensor(4, 1.0))
    assert record_of(scene).nodata is None
    assert record_of(scene).fill == fill
    assert read(scene, Window(-1, 0, 1, 1)).image.ravel().tolist() == [fill] * 4


def test_floats_are_filled_with_nan(tmp_path: Path) -> None:
    assert math.isnan(record_of(read_header(write(tmp_path / "a.tif", numbers("float64")))).fill)


def test_the_nodata_of_the_file_comes_before_that_of_the_sensor(tmp_path: Path) -> None:
    sensor = generic_sensor(4, 1e4, nodata=0)
    assert read_header(write(tmp_path / "a.tif", numbers()), sensor=sensor).band_nodata[0] == 0
    assert read_header(write(tmp_path / "b.tif", numbers(), nodata=65535), sensor=sensor).band_nodata[0] == 65535


@pytest.mark.parametrize("sidecar", [False, True])
def test_the_mask_of_the_file_is_heeded(tmp_path: Path, sidecar: bool) -> None:
    mask = np.ones((60, 80), bool)
    mask[10:20, 30:50] = False
    path = tmp_path / "a.tif"
    if sidecar:
        write(path, numbers())
        with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=False), rasterio.open(path, "r+") as dataset:
            dataset.write_mask(mask)
        assert (tmp_path / "a.tif.msk").exists()
    else:
        write(path, numbers(), mask=mask)
    scene = read_header(path)
    assert scene.has_mask
    np.testing.assert_array_equal(everything(scene).valid, mask)


def test_an_alpha_band_is_a_mask_and_no_image_band(tmp_path: Path) -> None:
    image = numbers("uint8")
    image[3] = 255
    image[3, 4:9, 5:6] = 0
    scene = read_header(write(tmp_path / "a.tif", image, photometric="RGB", alpha="YES"))
    assert scene.count == len(scene.sensor) == 3
    assert scene.band_indexes == (1, 2, 3)
    tile = everything(scene)
    np.testing.assert_array_equal(tile.image, image[:3])
    np.testing.assert_array_equal(tile.valid, image[3] > 0)


@pytest.mark.parametrize("told_by", ["sensor", "index", "description"])
def test_near_infrared_marked_as_alpha_by_default_is_kept_where_told(tmp_path: Path, told_by: str) -> None:
    image = numbers("uint8")
    image[3, 4:9, 5:6] = 0
    described = ["red", "green", "blue", "nir"] if told_by == "description" else []
    path = write(tmp_path / "a.tif", image, photometric="RGB", alpha="YES", descriptions=described)
    scene = read_header(
        path,
        sensor=generic_sensor(4, 255.0) if told_by == "sensor" else None,
        bands="1,2,3,4" if told_by == "index" else None,
    )
    tile = everything(scene)
    np.testing.assert_array_equal(tile.image, image)
    if record_of(scene).nodata is None:
        assert tile.valid.all()


def test_bands_are_chosen_by_name_in_any_order(tmp_path: Path) -> None:
    image = numbers()
    path = write(tmp_path / "a.tif", image, descriptions=["B02", "B03", "B04", "B08"])
    scene = read_header(path, sensor="sentinel-2-l2a", bands="B08,b4")
    assert scene.sensor.band_names == ("B08", "B04")
    assert scene.band_indexes == (4, 3)
    assert scene.sensor.bands[0].wavelength_nm == pytest.approx(833, abs=10)
    np.testing.assert_array_equal(everything(scene).image, image[[3, 2]])


def test_unnamed_bands_take_the_names_told_in_the_order_of_the_file(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", numbers())
    scene = read_header(path, sensor="sentinel-2-l2a", bands=["B02", "B03", "B04", "B08"])
    assert (scene.sensor.band_names, scene.band_indexes) == (("B02", "B03", "B04", "B08"), (1, 2, 3, 4))
    with pytest.raises(ConfigurationError, match=r"a\.tif: has 4 bands and the sensor 'sentinel-2-l2a' has 12"):
        read_header(path, sensor="sentinel-2-l2a")


@pytest.mark.parametrize(
    ("bands", "message"),
    [("B02,B99", "B99"), ([5], "5"), ([0], "0"), ("", "no bands"), ([], "no bands"), ("B02,B02", "twice")],
)
def test_bands_that_are_not_there_are_named(tmp_path: Path, bands: Any, message: str) -> None:
    path = write(tmp_path / "a.tif", numbers(), descriptions=["B02", "B03", "B04", "B08"])
    with pytest.raises(ConfigurationError, match=message):
        read_header(path, bands=bands)


@pytest.mark.parametrize(
    "transform",
    [
        NORTH_UP * Affine.rotation(25),
        Affine(10.0, 0.0, 0.0, 0.0, 10.0, 0.0),
        Affine(-10.0, 2.0, 5.0, 1.0, 10.0, 7.0),
    ],
)
def test_any_geotransform_is_carried(tmp_path: Path, transform: Affine) -> None:
    scene = read_header(write(tmp_path / "a.tif", numbers(), transform=transform))
    assert scene.grid.crop(Window(5, 9, 8, 8).padded(3)).transform * (3, 3) == pytest.approx(transform * (9, 5))
    assert scene.grid.gsd_m == pytest.approx(math.sqrt(abs(transform.determinant)))


def test_a_raster_without_a_place_is_read_without_a_warning(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", numbers(), crs=None, transform=None)
    with warnings.catch_warnings():
        warnings.simplefilter("error", NotGeoreferencedWarning)
        scene = read_header(path)
        assert everything(scene).valid.all()
    assert scene.crs is None
    assert scene.transform == Affine.identity()
    assert scene.grid.gsd_m is None


def test_the_ground_sampling_distance_in_degrees_and_feet(tmp_path: Path) -> None:
    degrees = read_header(
        write(tmp_path / "d.tif", numbers(), crs="EPSG:4326", transform=Affine(1e-4, 0, 12.0, 0, -1e-4, 60.0))
    )
    assert degrees.grid.gsd_m == pytest.approx(11.132 * math.sqrt(0.5), rel=1e-3)
    feet = read_header(write(tmp_path / "f.tif", numbers(), crs="EPSG:2264", transform=NORTH_UP))
    assert feet.grid.gsd_m == pytest.approx(3.048, rel=1e-4)


@pytest.mark.parametrize("tiled", [True, False])
def test_a_file_cut_short_names_itself_and_the_window(tmp_path: Path, tiled: bool) -> None:
    layout: dict[str, Any] = {"tiled": True, "compress": "deflate"} if tiled else {}
    path = write(tmp_path / "a.tif", numbers(shape=(2, 512, 512)), **layout)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    scene = read_header(path)
    with pytest.raises(RasterError, match=r"cannot read rows 256 to 511, columns 128 to 383 of .*a\.tif") as caught:
        read(scene, Window(256, 128, 256, 256))
    assert (caught.value.path, caught.value.scene) == (str(path), "a")
    assert read(scene, Window(0, 0, 64, 64)).valid.all() or not tiled


def test_what_is_no_raster_is_named(tmp_path: Path) -> None:
    text = tmp_path / "a.tif"
    text.write_text("no raster")
    with pytest.raises(RasterError, match=r"a\.tif: not a raster that GDAL can read"):
        read_header(text)
    with pytest.raises(RasterError, match=r"b\.tif: no such file"):
        read_header(tmp_path / "b.tif")


def test_types_that_are_not_supported_are_named(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", numbers("complex64"))
    with pytest.raises(RasterError, match=r"a\.tif: pixels of type complex64 are not supported"):
        read_header(path)


def test_bands_of_different_types_are_refused_unless_one_is_chosen(tmp_path: Path) -> None:
    source = write(tmp_path / "a.tif", numbers())
    path = vrt(tmp_path / "a.vrt", [("UInt16", source.name, 1, ""), ("Float32", source.name, 2, "")])
    with pytest.raises(RasterError, match=r"different types \(float32, uint16\)"):
        read_header(path)
    assert read_header(path, bands=[2]).dtype == np.float32


def test_threads_that_share_a_reader_read_what_one_thread_reads(tmp_path: Path) -> None:
    image = numbers(shape=(3, 256, 256))
    scene = read_header(write(tmp_path / "a.tif", image, tiled=True, compress="deflate"))

    record = record_of(scene)
    view, reader = scene_view(record, record.grid), Reader(2**25, 8, 2**25)

    def part(row: int) -> bool:
        tile = reader.window(view, Window(row, 0, 32, 256))
        return bool((tile.image == image[:, row : row + 32]).all() and tile.valid.all())

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(part, list(range(0, 224, 4)) * 4))
    reader.close()
