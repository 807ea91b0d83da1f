"""Labels arrive on the grid of the tile: at the right place, and with no class that was not there."""

import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import numpy.typing as npt
import pytest
import rasterio
import rasterio.warp
import shapely
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.enums import Resampling

from geoaug.data.labels import raster as raster_labels
from geoaug.data.labels.label_source import label_dtype
from geoaug.data.labels.opening import open_labels
from geoaug.data.labels.raster import RasterLabels
from geoaug.data.labels.vector import VectorLabels
from geoaug.data.raster.grid import centres_on
from geoaug.errors import ConfigurationError, RasterError

UTM = "EPSG:32633"
GRID = Affine(10.0, 0.0, 399960.0, 0.0, -10.0, 4200000.0)


def patches(height: int = 120, width: int = 150, cell: int = 12, dtype: str = "uint8") -> npt.NDArray[Any]:
    coarse = np.random.default_rng(2).integers(0, 6, (-(-height // cell), -(-width // cell)))
    return np.kron(coarse, np.ones((cell, cell), int))[:height, :width].astype(dtype)


def write(path: Path, labels: npt.NDArray[Any], **profile: Any) -> Path:
    options = {"crs": UTM, "transform": GRID, **profile}
    bands = labels if labels.ndim == 3 else labels[None]
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        count=bands.shape[0],
        height=bands.shape[1],
        width=bands.shape[2],
        dtype=bands.dtype,
        **options,
    ) as dataset:
        dataset.write(bands)
    return path


def away_from_borders(labels: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Pixels whose 3 x 3 neighbourhood is of one class."""
    padded = np.pad(labels.astype(int), 1, mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3))
    return np.asarray(windows.min(axis=(2, 3)) == windows.max(axis=(2, 3)))


@settings(max_examples=50, deadline=None)
@given(row=st.integers(-40, 130), col=st.integers(-40, 160), size=st.integers(1, 60))
def test_on_its_own_grid_a_raster_is_read_exactly(
    tmp_path_factory: pytest.TempPathFactory, row: int, col: int, size: int
) -> None:
    labels = patches()
    path = tmp_path_factory.getbasetemp() / "own_grid.tif"
    if not path.exists():
        write(path, labels)
    source = open_labels(path)
    found = source.read(GRID * Affine.translation(col, row), UTM, size, size)
    padded = np.pad(labels, 200, constant_values=255)
    np.testing.assert_array_equal(found, padded[200 + row : 200 + row + size, 200 + col : 200 + col + size])
    assert found.dtype == np.uint8
    source.close()


@pytest.mark.parametrize(
    "change",
    [
        Affine.scale(0.7, 0.7),
        Affine.scale(3.3, 2.1),
        Affine.rotation(33),
        Affine.rotation(-140) * Affine.scale(0.6, 0.6),
        Affine.translation(0.37, -0.21),
        Affine.scale(1, -1) * Affine.translation(0, -50),
    ],
    ids=["finer", "coarser", "rotated", "turned over", "shifted", "south up"],
)
@pytest.mark.parametrize("south_up", [False, True])
def test_in_its_own_crs_each_pixel_has_the_class_at_its_centre(tmp_path: Path, change: Affine, south_up: bool) -> None:
    labels = patches()
    grid = GRID * Affine.translation(0, 120) * Affine.scale(1, -1) if south_up else GRID
    path = write(tmp_path / "l.tif", labels[::-1] if south_up else labels, transform=grid)
    transform = GRID * Affine.translation(60, 50) * change
    found = open_labels(path).read(transform, UTM, 40, 50)
    for row, col in np.ndindex(40, 50):
        x, y = ~GRID * (transform * (col + 0.5, row + 0.5))
        expected = labels[int(y), int(x)] if 0 <= x < 150 and 0 <= y < 120 else 255
        assert found[row, col] == expected or min(x % 1, 1 - x % 1, y % 1, 1 - y % 1) < 1e-5


@pytest.mark.parametrize("crs", ["EPSG:4326", "EPSG:32632", "EPSG:3035", "EPSG:3857"])
@pytest.mark.parametrize("angle", [0.0, 25.0])
def test_across_crs_labels_agree_with_the_warper_of_gdal(tmp_path: Path, crs: str, angle: float) -> None:
    labels = patches(300, 300)
    grid, width, height = rasterio.warp.calculate_default_transform(
        UTM, crs, 300, 300, *rasterio.transform.array_bounds(300, 300, GRID)
    )
    stored = np.full((height, width), 255, np.uint8)
    rasterio.warp.reproject(
        labels, stored, src_transform=GRID, src_crs=UTM, dst_transform=grid, dst_crs=crs, init_dest_nodata=False
    )
    path = write(tmp_path / "l.tif", stored, crs=crs, transform=grid, nodata=255)
    transform = GRID * Affine.translation(120, 60) * Affine.rotation(angle)
    expected = np.full((100, 130), 255, np.uint8)
    rasterio.warp.reproject(
        stored,
        expected,
        src_transform=grid,
        src_crs=crs,
        src_nodata=255,
        dst_transform=transform,
        dst_crs=UTM,
        dst_nodata=255,
        resampling=Resampling.nearest,
        tolerance=0.0,
    )
    found = open_labels(path).read(transform, UTM, 100, 130)
    assert (found == expected).mean() > 0.999
    assert set(np.unique(found)) <= set(np.unique(stored))
    rows, cols = np.mgrid[:100, :130] + 0.5
    x, y = ~GRID * transform * (cols.ravel(), rows.ravel())
    truth = labels[y.astype(int), x.astype(int)].reshape(100, 130)
    inner = away_from_borders(truth)
    assert (found == truth)[inner].mean() > 0.99


def test_interpolated_centres_are_right_to_a_hundredth_of_a_pixel() -> None:
    labels = Affine(1e-4, 0, 13.8, 0, -1e-4, 38.0)
    columns, rows = centres_on(labels, "EPSG:4326", GRID, UTM, 130, 111)
    y, x = np.mgrid[:130, :111] + 0.5
    east, north = GRID * (x.ravel(), y.ravel())
    longitude, latitude = rasterio.warp.transform(UTM, "EPSG:4326", east, north)
    exact_columns, exact_rows = ~labels * (np.array(longitude), np.array(latitude))
    np.testing.assert_allclose(columns.ravel(), exact_columns, atol=0.01)
    np.testing.assert_allclose(rows.ravel(), exact_rows, atol=0.01)


def test_over_the_antimeridian_no_class_of_the_other_side_of_the_world_appears(tmp_path: Path) -> None:
    world = np.full((180, 360), 3, np.uint8)
    world[:, :2], world[:, -2:] = 1, 2
    path = write(tmp_path / "w.tif", world, crs="EPSG:4326", transform=Affine(1, 0, -180, 0, -1, 90))
    # UTM zone 1 begins at the antimeridian, some 167 km east of its false easting at the equator.
    found = open_labels(path).read(Affine(1000, 0, 100000, 0, -1000, 50000), "EPSG:32601", 64, 130)
    assert set(np.unique(found)) == {1, 2}
    assert (found[:, 0] == 2).all()
    assert (found[:, -1] == 1).all()


def test_labels_much_finer_than_the_tile_are_read_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    labels = patches(240, 300, 5)
    source = open_labels(write(tmp_path / "l.tif", labels))
    transform = GRID * Affine.rotation(11) * Affine.scale(7, 7)
    whole = source.read(transform, UTM, 20, 30)
    monkeypatch.setattr(raster_labels, "_LARGEST_READ", 200)
    np.testing.assert_array_equal(source.read(transform, UTM, 20, 30), whole)
    assert source.classes == (0, 1, 2, 3, 4, 5)


def test_nodata_masked_and_nan_labels_are_ignored(tmp_path: Path) -> None:
    labels = patches()
    labels[labels == 5] = 4
    as_float = labels.astype("float32")
    as_float[:10] = np.nan
    expected = labels.astype(int)
    expected[labels == 4] = 99
    found = open_labels(write(tmp_path / "n.tif", labels, nodata=4), ignore_index=99).read(GRID, UTM, 120, 150)
    np.testing.assert_array_equal(found, expected)

    expected[:10] = 99
    floats = open_labels(write(tmp_path / "f.tif", as_float, nodata=4), ignore_index=99)
    np.testing.assert_array_equal(floats.read(GRID, UTM, 120, 150), expected)
    assert floats.classes == (0, 1, 2, 3)

    path = write(tmp_path / "m.tif", labels)
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=False), rasterio.open(path, "r+") as dataset:
        dataset.write_mask(labels != 0)
    masked = open_labels(path).read(GRID, UTM, 120, 150)
    np.testing.assert_array_equal(masked, np.where(labels == 0, 255, labels))


@pytest.mark.parametrize(
    ("stored", "ignore_index", "dtype"),
    [
        ("uint8", 255, "uint8"),
        ("uint8", -100, "int16"),
        ("uint8", 65535, "uint16"),
        ("uint16", 255, "uint16"),
        ("int16", 255, "int16"),
        ("uint16", -1, "int32"),
        ("int32", 255, "int32"),
        ("float32", 255, "int32"),
    ],
)
def test_the_type_holds_every_class_and_the_ignore_index(
    tmp_path: Path, stored: str, ignore_index: int, dtype: str
) -> None:
    source = open_labels(write(tmp_path / "l.tif", patches(dtype=stored)), ignore_index=ignore_index)
    found = source.read(GRID * Affine.translation(-1, 0), UTM, 120, 150)
    assert found.dtype == source.dtype == dtype
    assert (found[:, 0] == ignore_index).all()
    np.testing.assert_array_equal(found[:, 1:], patches()[:, :149])


def test_labels_that_are_no_whole_numbers_are_refused(tmp_path: Path) -> None:
    labels = patches(dtype="float32")
    labels[3, 4] = 1.5
    with pytest.raises(ConfigurationError, match=r"l\.tif: holds 1\.5 where class ids are expected"):
        open_labels(write(tmp_path / "l.tif", labels)).read(GRID, UTM, 120, 150)
    labels[3, 4] = 3e9
    with pytest.raises(ConfigurationError, match="more than 32 bits"):
        open_labels(write(tmp_path / "l.tif", labels)).read(GRID, UTM, 120, 150)
    with pytest.raises(ConfigurationError, match="do not fit 32 bits"):
        label_dtype(0, 2**40, 255)


def test_a_raster_of_several_bands_is_no_label_raster(tmp_path: Path) -> None:
    path = write(tmp_path / "l.tif", np.stack([patches(), patches()]))
    with pytest.raises(ConfigurationError, match="has 2 bands, and a raster of labels has one"):
        open_labels(path)


def test_a_damaged_label_raster_names_itself_and_the_window(tmp_path: Path) -> None:
    path = write(tmp_path / "l.tif", patches(512, 512))
    path.write_bytes(path.read_bytes()[: 512 * 256])
    with pytest.raises(RasterError, match=r"l\.tif: cannot read labels at rows 300 to 309"):
        open_labels(path).read(GRID * Affine.translation(0, 300), UTM, 10, 10)


def test_raster_labels_are_read_by_many_threads_and_travel_to_processes(tmp_path: Path) -> None:
    labels = patches(256, 256)
    source = open_labels(write(tmp_path / "l.tif", labels, tiled=True, blockxsize=64, blockysize=64))
    copied = pickle.loads(pickle.dumps(source))

    def right(number: int) -> bool:
        row, reader = number % 200, source if number % 2 else copied
        return bool((reader.read(GRID * Affine.translation(0, row), UTM, 56, 256) == labels[row : row + 56]).all())

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(right, range(400)))
    source.close()
    assert right(1), "a closed source opens its file again"


def test_a_palette_goes_with_the_labels(tmp_path: Path) -> None:
    path = write(tmp_path / "l.tif", patches())
    plain = open_labels(path)
    assert isinstance(plain, RasterLabels)
    assert plain.colormap is None
    with rasterio.open(path, "r+") as dataset:
        dataset.write_colormap(1, {0: (1, 2, 3, 255)})
    palette = RasterLabels(str(path)).colormap
    assert palette is not None
    assert palette[0] == (1, 2, 3, 255)


def fields(**columns: Any) -> geopandas.GeoDataFrame:
    """Three polygons on the grid: a square, a triangle over it, and a circle apart."""
    shapes = [
        shapely.box(400100, 4199500, 400700, 4199900),
        shapely.Polygon([(400500, 4199400), (401000, 4199450), (400600, 4199950)]),
        shapely.Point(401200, 4199200).buffer(170),
    ]
    return geopandas.GeoDataFrame(columns, geometry=shapes, crs=UTM)


def drawn(
    table: geopandas.GeoDataFrame, ids: list[int], transform: Affine, height: int, width: int
) -> npt.NDArray[np.int64]:
    """What shapely says of each pixel's centre; later features win."""
    rows, cols = np.mgrid[:height, :width] + 0.5
    x, y = transform * (cols.ravel(), rows.ravel())
    labels = np.full(height * width, 255)
    for shape, number in zip(table.geometry, ids, strict=True):
        labels[shapely.contains_xy(shape, x, y)] = number
    return labels.reshape(height, width)


@pytest.mark.parametrize("angle", [0.0, 30.0, 180.0])
@pytest.mark.parametrize("flip", [1, -1])
@pytest.mark.parametrize("crs", [UTM, "EPSG:4326", "EPSG:3035"])
@pytest.mark.parametrize("suffix", ["gpkg", pytest.param("parquet", marks=pytest.mark.slow)])
def test_polygons_are_drawn_where_shapely_says(tmp_path: Path, angle: float, flip: int, crs: str, suffix: str) -> None:
    table = fields(crop=[3, 7, 9])
    path = tmp_path / f"fields.{suffix}"
    stored = table.to_crs(crs)
    stored.to_parquet(path) if suffix == "parquet" else stored.to_file(path)
    transform = GRID * Affine.translation(75, 60) * Affine.rotation(angle) * Affine.scale(1, flip)
    transform = transform * Affine.translation(-75, -60)
    source = open_labels(path, field="crop")
    found = source.read(transform, UTM, 120, 150)
    expected = drawn(table, [3, 7, 9], transform, 120, 150)
    assert (found == expected).mean() > (0.9999 if crs == UTM else 0.998)
    assert (found == expected)[away_from_borders(expected)].all()
    assert found.dtype == np.uint8
    assert source.classes == (3, 7, 9)
    assert source.class_names == {}


def test_text_gets_ids_in_the_order_of_its_sorted_names(tmp_path: Path) -> None:
    table = fields(crop=["wheat", "maize", "wheat"])
    table.to_file(tmp_path / "f.geojson")
    source = open_labels(tmp_path / "f.geojson", field="crop")
    assert source.class_names == {0: "maize", 1: "wheat"}
    found = source.read(GRID, UTM, 120, 150)
    expected = drawn(table, [1, 0, 1], GRID, 120, 150)
    assert (found == expected)[away_from_borders(expected)].all()


def test_without_a_field_every_feature_is_class_1(tmp_path: Path) -> None:
    table = fields(crop=["wheat", "maize", "wheat"])
    table.to_file(tmp_path / "f.shp")
    source = open_labels(tmp_path / "f.shp")
    np.testing.assert_array_equal(source.read(GRID, UTM, 120, 150), drawn(table, [1, 1, 1], GRID, 120, 150))
    assert source.classes == (1,)


def test_features_without_a_class_or_a_shape_are_unlabelled(tmp_path: Path) -> None:
    three = fields(crop=[3.0, None, 9.0])
    table = geopandas.GeoDataFrame({"crop": [*three.crop, 4.0]}, geometry=[*three.geometry, None], crs=three.crs)
    table.to_file(tmp_path / "f.gpkg")
    source = open_labels(tmp_path / "f.gpkg", field="crop")
    assert source.classes == (3, 9)
    expected = drawn(table.iloc[[0, 2]], [3, 9], GRID, 120, 150)
    np.testing.assert_array_equal(source.read(GRID, UTM, 120, 150), expected)

    named = fields(crop=["wheat", None, " "])
    named.to_file(tmp_path / "t.gpkg")
    assert open_labels(tmp_path / "t.gpkg", field="crop").class_names == {0: "wheat"}


@pytest.mark.parametrize(
    ("ids", "ignore_index", "dtype"),
    [([1, 2, 3], 255, "uint8"), ([1, 2, 300], 255, "uint16"), ([-4, 2, 3], 255, "int16"), ([1, 2, 9], -1, "int16")],
)
def test_the_type_of_drawn_labels_holds_all_ids(tmp_path: Path, ids: list[int], ignore_index: int, dtype: str) -> None:
    fields(crop=ids).to_file(tmp_path / "f.gpkg")
    source = open_labels(tmp_path / "f.gpkg", field="crop", ignore_index=ignore_index)
    found = source.read(GRID, UTM, 120, 150)
    assert found.dtype == source.dtype == dtype
    assert set(np.unique(found)) == {*ids, ignore_index}


def test_wrong_fields_and_layers_are_told_with_the_right_ones(tmp_path: Path) -> None:
    path = tmp_path / "f.gpkg"
    table = fields(crop_type=[1, 2, 255], share=[0.5, 1.0, 1.0])
    table.to_file(path, layer="parcels")
    with pytest.raises(
        ConfigurationError, match=r"no field 'Crop_typ' among crop_type, share; did you mean 'crop_type'"
    ):
        open_labels(path, field="Crop_typ")
    with pytest.raises(ConfigurationError, match="class 255 is the ignore_index"):
        open_labels(path, field="crop_type")
    with pytest.raises(ConfigurationError, match=r"field 'share' holds 0\.5: class ids are whole numbers"):
        open_labels(path, field="share")
    table.to_file(path, layer="roads")
    with pytest.raises(ConfigurationError, match=r"holds the layers parcels, roads: name one"):
        open_labels(path)
    assert open_labels(f"{path}|layername=roads").classes == (1,)
    with pytest.raises(ConfigurationError, match="has no layer 'rivers'; its layers are parcels, roads"):
        open_labels(f"{path}|layername=rivers")


def test_files_that_hold_no_labels_are_told(tmp_path: Path) -> None:
    (tmp_path / "a.dat").write_text("no")
    with pytest.raises(ConfigurationError, match=r"a\.dat: neither a raster nor a vector file"):
        open_labels(tmp_path / "a.dat")
    (tmp_path / "a.gpkg").write_text("no")
    with pytest.raises(ConfigurationError, match=r"a\.gpkg: not a vector file"):
        open_labels(tmp_path / "a.gpkg")
    with pytest.raises(ConfigurationError, match=r"none\.tif: no such file"):
        open_labels(tmp_path / "none.tif")
    with pytest.raises(ConfigurationError, match="applies to vectors only"):
        open_labels(write(tmp_path / "l.tif", patches()), field="crop")


@pytest.mark.parametrize("kind", ["raster", "vector"])
@pytest.mark.parametrize("crs", [UTM, "EPSG:4326"])
def test_overlap_is_that_of_the_ground(tmp_path: Path, kind: str, crs: str) -> None:
    if kind == "raster":
        grid, width, height = rasterio.warp.calculate_default_transform(
            UTM, crs, 150, 120, *rasterio.transform.array_bounds(120, 150, GRID)
        )
        path = write(tmp_path / "l.tif", patches(height, width), crs=crs, transform=grid)
    else:
        path = tmp_path / "f.gpkg"
        fields(crop=[1, 2, 3]).to_crs(crs).to_file(path)
    source = open_labels(path)
    assert source.overlaps(GRID, UTM, 120, 150)
    assert source.overlaps(GRID * Affine.translation(50, 40) * Affine.rotation(40), UTM, 20, 20)
    assert not source.overlaps(GRID * Affine.translation(1000, 0), UTM, 120, 150)
    # The box around this turned strip covers the labels; the strip itself passes them by.
    strip = GRID * Affine.translation(-300, 200) * Affine.rotation(-45)
    assert not source.overlaps(strip, UTM, 10, 900)
    assert not source.overlaps(Affine(10, 0, 0, 0, -10, 0), "EPSG:32733", 10, 10)
    far = source.read(GRID * Affine.translation(1000, 0), UTM, 30, 40)
    assert far.shape == (30, 40)
    assert (far == 255).all()


@pytest.mark.filterwarnings("ignore:'crs' was not provided:UserWarning")
@pytest.mark.parametrize("kind", ["raster", "vector"])
def test_one_side_without_a_crs_is_an_error_and_both_are_not(tmp_path: Path, kind: str) -> None:
    if kind == "raster":
        path, bare = write(tmp_path / "l.tif", patches()), write(tmp_path / "b.tif", patches(), crs=None)
    else:
        path, bare = tmp_path / "f.gpkg", tmp_path / "b.gpkg"
        fields(crop=[1, 2, 3]).to_file(path)
        fields(crop=[1, 2, 3]).set_crs(None, allow_override=True).to_file(bare)
    with pytest.raises(ConfigurationError, match="scene has no CRS"):
        open_labels(path).read(GRID, None, 8, 8)
    with pytest.raises(ConfigurationError, match=r"labels .*b\.\w+ have no CRS"):
        open_labels(bare).overlaps(GRID, UTM, 8, 8)
    np.testing.assert_array_equal(
        open_labels(bare).read(GRID, None, 120, 150), open_labels(path).read(GRID, UTM, 120, 150)
    )
    assert open_labels(bare).overlaps(GRID, None, 120, 150)


def test_a_feature_that_spans_a_continent_is_drawn_at_its_place_after_projection(tmp_path: Path) -> None:
    band = shapely.Polygon([(-10, 37.9), (60, 37.9), (60, 37.905), (-10, 37.905)])
    geopandas.GeoDataFrame(geometry=[band], crs="EPSG:4326").to_file(tmp_path / "f.gpkg")
    transform = Affine(10.0, 0.0, 400000.0, 0.0, -10.0, 4200000.0)
    found = VectorLabels(str(tmp_path / "f.gpkg")).read(transform, UTM, 600, 100)
    rows, cols = np.mgrid[:600, :100] + 0.5
    _, latitude = rasterio.warp.transform(UTM, "EPSG:4326", *(transform * (cols.ravel(), rows.ravel())))
    truth = (np.array(latitude) > 37.9) & (np.array(latitude) < 37.905)
    assert truth.any()
    assert ((found == 1) == truth.reshape(600, 100)).mean() > 0.9999
