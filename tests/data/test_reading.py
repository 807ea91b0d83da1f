"""Tiles hold what the files hold: bit for bit where nothing is resampled, and as GDAL warps it where something is."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.crs import CRS
from rasterio.enums import Resampling
from rasterio.vrt import WarpedVRT
from rasterio.windows import Window
from scenes import PLACE, UTM32, band_files, catalog_of, numbers, scene_of, write_raster

from geoaug.data import Catalog, QualityLayer, TileDataset, TileRef
from geoaug.data.raster.grid import Grid
from geoaug.data.raster.record import BandFile, SceneRecord
from geoaug.data.raster.view import scene_view

LAYOUTS: dict[str, dict[str, Any]] = {
    "blocks by pixel": {
        "tiled": True,
        "blockxsize": 64,
        "blockysize": 32,
        "interleave": "pixel",
        "compress": "deflate",
    },
    "blocks by band": {"tiled": True, "blockxsize": 64, "blockysize": 64, "interleave": "band", "compress": "zstd"},
    "strips": {"tiled": False, "blockysize": 3, "compress": "lzw", "predictor": 2},
    "one strip": {"tiled": False, "blockysize": 150},
}


def read_padded(path: Path, window: Window) -> tuple[np.ndarray, np.ndarray]:
    """All bands of a window by rasterio alone, and where it lies inside the file."""
    with rasterio.open(path) as file:
        image = file.read(window=window, boundless=True, fill_value=0)
        inside = np.zeros(image.shape[1:], dtype=bool)
        rows = slice(max(0, -window.row_off), max(0, file.height - window.row_off))
        cols = slice(max(0, -window.col_off), max(0, file.width - window.col_off))
        inside[rows, cols] = True
    return image, inside


@pytest.mark.parametrize(
    "dtype",
    [
        "uint16",
        "float32",
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("uint8", "int16", "int32", "float64")),
    ],
)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_windows_are_those_of_rasterio_bit_for_bit(tmp_path: Path, layout: str, dtype: str) -> None:
    path = write_raster(tmp_path / "scene.tif", numbers((3, 150, 170), dtype), **LAYOUTS[layout])
    with TileDataset(catalog_of(path), (40, 50)) as dataset:

        @settings(max_examples=15, deadline=None)
        @given(st.lists(st.tuples(st.integers(-60, 170), st.integers(-60, 190)), min_size=1, max_size=6))
        def check(places: list[tuple[int, int]]) -> None:
            batch = dataset.read([TileRef(0, row, col) for row, col in places])
            for slot, (row, col) in enumerate(places):
                image, inside = read_padded(path, Window(col, row, 50, 40))
                np.testing.assert_array_equal(batch["valid"][slot, 0], inside)
                np.testing.assert_array_equal(batch["image"].numpy()[slot][:, inside], image[:, inside])

        check()
        assert batch_dtype(dataset) == np.dtype(dtype)


def batch_dtype(dataset: TileDataset) -> np.dtype[Any]:
    return dataset.read([TileRef(0, 0, 0)])["image"].numpy().dtype


def test_bands_in_files_of_their_own_come_in_the_order_asked_for(tmp_path: Path) -> None:
    image = numbers((5, 90, 100))
    paths = [write_raster(tmp_path / f"B{band}.tif", image[band : band + 1], tiled=True, blockxsize=32, blockysize=32)
             for band in range(5)]  # fmt: skip
    catalog = Catalog.from_records([scene_of(*paths)])
    with TileDataset(catalog, 48, bands="B4,B1,B5") as dataset:
        found = dataset.read([TileRef(0, 17, 33)])["image"].numpy()[0]
    np.testing.assert_array_equal(found, image[[3, 0, 4], 17:65, 33:81])


def test_bands_of_one_file_come_in_the_order_asked_for(tmp_path: Path) -> None:
    image = numbers((5, 90, 100))
    path = write_raster(tmp_path / "scene.tif", image)
    with TileDataset(catalog_of(path), 48, bands=["B4", "B1", "B5"]) as dataset:
        found = dataset.read([TileRef(0, 17, 33)])["image"].numpy()[0]
    np.testing.assert_array_equal(found, image[[3, 0, 4], 17:65, 33:81])


@pytest.mark.parametrize("resampling", ["bilinear", "nearest", "cubic", "average"])
def test_coarser_bands_are_warped_as_gdal_does(tmp_path: Path, resampling: str) -> None:
    fine = write_raster(tmp_path / "fine.tif", numbers((2, 120, 120)))
    coarse = write_raster(
        tmp_path / "coarse.tif", numbers((2, 60, 60), seed=1), transform=PLACE * Affine.scale(2), nodata=7
    )
    catalog = Catalog.from_records([scene_of(fine, coarse)])
    windows = [(0, 0), (31, 57), (72, 72)]
    with TileDataset(catalog, 48, resampling=resampling) as dataset:
        batch = dataset.read([TileRef(0, row, col) for row, col in windows])
    with rasterio.open(coarse) as file, WarpedVRT(
        file, crs=UTM32, transform=PLACE, height=120, width=120, resampling=Resampling[resampling], tolerance=1e-9,
        UNIFIED_SRC_NODATA="NO",  # a 7 in one band is no data, whatever the other holds
    ) as warped:  # fmt: skip
        whole = warped.read()
    for slot, (row, col) in enumerate(windows):
        place = np.s_[:, row : row + 48, col : col + 48]
        np.testing.assert_array_equal(batch["image"].numpy()[slot, 2:], whole[place])
        np.testing.assert_array_equal(batch["valid"][slot, 0], (whole[place] != 7).all(axis=0))


@pytest.mark.parametrize(("crs", "gsd_m"), [(None, 25.0), (None, 4.0), ("EPSG:3035", None), ("EPSG:32633", 15.0)])
def test_tiles_on_another_grid_are_those_of_a_warped_vrt(tmp_path: Path, crs: str | None, gsd_m: float | None) -> None:
    path = write_raster(tmp_path / "scene.tif", numbers((2, 200, 220), "int16"), nodata=-1)
    with TileDataset(catalog_of(path), 32, crs=crs, gsd_m=gsd_m) as dataset:
        grid = dataset.grid(0)
        refs = [TileRef(0, row, col) for row, col in [(0, 0), (13, 29), (grid.height - 32, grid.width - 32)]]
        batch = dataset.read(refs)
    assert grid.crs == (crs or UTM32)
    if gsd_m is not None:
        assert grid.gsd_m == pytest.approx(gsd_m)
    with rasterio.open(path) as file, WarpedVRT(
        file, crs=grid.crs, transform=grid.transform, height=grid.height, width=grid.width,
        resampling=Resampling.bilinear, tolerance=1e-9,
    ) as warped:  # fmt: skip
        for slot, ref in enumerate(refs):
            expected = warped.read(window=Window(ref.col, ref.row, 32, 32))
            np.testing.assert_array_equal(batch["image"].numpy()[slot], expected)
            np.testing.assert_array_equal(batch["valid"][slot, 0], (expected != -1).all(axis=0))


def ground(longitude: np.ndarray, latitude: np.ndarray) -> np.ndarray:
    """A number for a place on the ground that no other place nearby has."""
    return 1000 + (longitude - 11) * 2000 + (latitude - 47) * 3000


def scene_on_the_ground(path: Path, crs: str, transform: Affine, size: int = 96) -> SceneRecord:
    from pyproj import Transformer

    cols, rows = np.meshgrid(np.arange(size) + 0.5, np.arange(size) + 0.5)
    x, y = transform * (cols, rows)
    longitude, latitude = Transformer.from_crs(crs, "EPSG:4326", always_xy=True).transform(x, y)
    return scene_of(
        write_raster(path, ground(longitude, latitude)[None].astype("float32"), crs=crs, transform=transform)
    )


def test_each_tile_lies_at_its_true_place_in_its_own_crs(tmp_path: Path) -> None:
    """Two UTM zones and a scene in degrees; labels in a fourth CRS."""
    from pyproj import Transformer

    scenes = [
        scene_on_the_ground(tmp_path / "east32.tif", "EPSG:32632", Affine(30, 0, 728000, 0, -30, 5255000)),
        scene_on_the_ground(tmp_path / "west33.tif", "EPSG:32633", Affine(20, 0, 273000, 0, -20, 5256000)),
        scene_on_the_ground(tmp_path / "degrees.tif", "EPSG:4326", Affine(3e-4, 0, 12.01, 0, -2e-4, 47.42)),
    ]
    # Labels in Lambert's azimuthal projection: the class says which 500 m strip of its easting a place is in.
    labels_place = Affine(25, 0, 4460000, 0, -25, 2710000)
    columns = np.arange(1200)
    ids = np.broadcast_to((columns // 20 % 7).astype("uint8"), (1, 1600, 1200))
    labels = write_raster(tmp_path / "labels.tif", ids, crs="EPSG:3035", transform=labels_place, nodata=255)
    with TileDataset(Catalog.from_records(scenes), 32, labels=labels, classes=7) as dataset:
        refs = [TileRef(scene, row, col) for scene in range(3) for row, col in [(0, 0), (40, 9), (64, 64)]]
        batch = dataset.read(refs)
    assert set(batch["crs"]) == {"EPSG:32632", "EPSG:32633", "EPSG:4326"}
    for slot in range(len(refs)):
        transform = Affine(*batch["transform"][slot].tolist())
        x, y = transform * tuple(np.meshgrid(np.arange(32) + 0.5, np.arange(32) + 0.5))
        longitude, latitude = Transformer.from_crs(batch["crs"][slot], "EPSG:4326", always_xy=True).transform(x, y)
        np.testing.assert_allclose(batch["image"].numpy()[slot, 0], ground(longitude, latitude), rtol=1e-6)
        east, north = Transformer.from_crs(batch["crs"][slot], "EPSG:3035", always_xy=True).transform(x, y)
        column, row = ~labels_place * (east, north)
        inside = (column >= 0) & (column < 1200) & (row >= 0) & (row < 1600)
        assert inside.all(), "the labels of this test must cover its scenes"
        clear = np.abs(column / 20 - np.round(column / 20)) > 0.01  # not on the edge of a strip
        assert clear.mean() > 0.9
        expected = (np.floor(column) // 20 % 7).astype("uint8")
        np.testing.assert_array_equal(batch["mask"].numpy()[slot][clear], expected[clear])


def test_vector_labels_are_those_that_rasterio_burns(tmp_path: Path) -> None:
    import geopandas
    import rasterio.features
    from shapely.geometry import Point, Polygon

    path = write_raster(tmp_path / "scene.tif", numbers((1, 120, 120)), crs=UTM32)
    shapes = [Point(600420, 5399450).buffer(190), Polygon([(600560, 5399950), (601150, 5399500), (600600, 5398900)])]
    fields = tmp_path / "fields.gpkg"
    geopandas.GeoDataFrame({"kind": [2, 5]}, geometry=shapes, crs=UTM32).to_file(fields)
    with TileDataset(catalog_of(path), 64, labels=fields, label_field="kind") as dataset:
        batch = dataset.read([TileRef(0, 0, 0), TileRef(0, 22, 30)])
    for slot in range(2):
        expected = rasterio.features.rasterize(
            list(zip(shapes, [2, 5], strict=True)),
            (64, 64),
            fill=255,
            transform=Affine(*batch["transform"][slot].tolist()),
        )
        assert set(np.unique(expected)) == {2, 5, 255}
        np.testing.assert_array_equal(batch["mask"].numpy()[slot], expected)


def test_validity_is_nodata_masks_and_nan_of_all_bands(tmp_path: Path) -> None:
    generator = np.random.default_rng(3)
    with_nodata = numbers((2, 64, 64), "int16")
    with_nodata[0][generator.random((64, 64)) < 0.2] = -9999
    floats = numbers((1, 64, 64), "float32")
    floats[0][generator.random((64, 64)) < 0.1] = np.nan
    floats[0][3, 3] = np.inf
    masked = generator.random((64, 64)) < 0.7
    paths = [
        write_raster(tmp_path / "a.tif", with_nodata, nodata=-9999),
        write_raster(tmp_path / "b.tif", floats),
        write_raster(tmp_path / "c.tif", numbers((2, 64, 64), "uint8"), mask=masked),
    ]
    with TileDataset(Catalog.from_records([scene_of(*paths)]), 40, dtype="float32") as dataset:
        valid = dataset.read([TileRef(0, 11, 24)])["valid"][0, 0].numpy()
    expected = (with_nodata[0] != -9999) & np.isfinite(floats[0]) & masked
    np.testing.assert_array_equal(valid, expected[11:51, 24:64])


@pytest.mark.parametrize(
    ("kind", "invalid", "bad"),
    [
        ("classes", (3, 8, 9), lambda q: np.isin(q, [3, 8, 9])),
        ("bits", (1, 4), lambda q: (q & 0b10010) != 0),
    ],
)
def test_quality_layers_are_taken_to_the_grid_by_nearest_neighbour(
    tmp_path: Path, kind: Any, invalid: tuple[int, ...], bad: Any
) -> None:
    image = write_raster(tmp_path / "image.tif", numbers((2, 96, 96)))
    layer = np.random.default_rng(0).integers(0, 32, (1, 48, 48)).astype("uint8")
    quality = write_raster(tmp_path / "quality.tif", layer, transform=PLACE * Affine.scale(2))
    scene = replace(scene_of(image), quality=QualityLayer(band_files(quality)[0], kind, invalid))
    with TileDataset(Catalog.from_records([scene]), 50) as dataset:
        batch = dataset.read([TileRef(0, 13, 20)])
    whole = np.kron(bad(layer[0]), np.ones((2, 2), dtype=bool))
    np.testing.assert_array_equal(batch["valid"][0, 0], ~whole[13:63, 20:70])
    np.testing.assert_array_equal(batch["image"].numpy()[0], read_padded(image, Window(20, 13, 50, 50))[0])


def test_scenes_with_other_offsets_are_brought_to_one(tmp_path: Path) -> None:
    """As Sentinel-2's processing baseline 04.00 has them: numbers 1000 higher for the same reflectance."""
    image = numbers((1, 40, 40)).astype("uint16")
    old = scene_of(write_raster(tmp_path / "old.tif", image, nodata=0))
    shifted = np.where(image > 5, image + 1000, 0).astype("uint16")
    new = scene_of(write_raster(tmp_path / "new.tif", shifted, nodata=0))
    new = replace(new, bands=tuple(replace(band, quantification=1e4, offset=-1000.0) for band in new.bands))
    old = replace(old, bands=tuple(replace(band, quantification=1e4) for band in old.bands))
    with TileDataset(Catalog.from_records([old, new]), 32) as dataset:
        batch = dataset.read([TileRef(0, 4, 4), TileRef(1, 4, 4)])
        sensor = dataset.sensor
    reflectance = (batch["image"].numpy().astype(float) + sensor.offset[0]) / sensor.quantification[0]
    valid = batch["valid"].numpy()
    np.testing.assert_array_equal(valid[1, 0], image[0, 4:36, 4:36] > 5)
    np.testing.assert_allclose(reflectance[1][valid[1]], (image[0, 4:36, 4:36] / 1e4)[valid[1, 0]])
    np.testing.assert_allclose(reflectance[0], image[:, 4:36, 4:36] / 1e4)


def test_a_block_is_decoded_once_however_many_tiles_touch_it(tmp_path: Path) -> None:
    path = write_raster(
        tmp_path / "scene.tif", numbers((4, 1024, 1024)), tiled=True, blockxsize=256, blockysize=256, compress="deflate"
    )
    generator = np.random.default_rng(0)
    refs = [TileRef(0, *map(int, place)) for place in generator.integers(0, 1024 - 64, (200, 2))]
    touched = {
        (row // 256, col // 256) for ref in refs for row in (ref.row, ref.row + 63) for col in (ref.col, ref.col + 63)
    }
    with TileDataset(catalog_of(path), 64) as dataset:
        dataset.read(refs)
        assert dataset.reader.chunks.decoded == len(touched)
        dataset.read(refs)
        assert dataset.reader.chunks.decoded == len(touched), "what the budget holds is not decoded again"


def test_blocks_of_files_for_each_band_are_planned_and_kept_as_one(tmp_path: Path) -> None:
    image = numbers((6, 512, 512))
    image[1, 40:60, 70:90] = 0
    paths = [write_raster(tmp_path / f"B{band}.tif", image[band : band + 1], tiled=True, blockxsize=256, blockysize=256,
                          nodata=0 if band == 1 else None) for band in range(6)]  # fmt: skip
    with TileDataset(Catalog.from_records([scene_of(*paths)]), 64) as dataset:
        batch = dataset.read([TileRef(0, 32, 64), TileRef(0, 230, 30)])
        assert dataset.reader.chunks.decoded == 2, "a chunk for each block, not for each block of each file"
    for slot, place in enumerate([np.s_[32:96, 64:128], np.s_[230:294, 30:94]]):
        np.testing.assert_array_equal(batch["image"].numpy()[slot], image[:, *place])
        np.testing.assert_array_equal(batch["valid"][slot, 0], image[1][place] != 0)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(["uint8", "uint16"]), st.sampled_from([64, 128])), min_size=1, max_size=8),
    st.integers(0, 2**17),
)
def test_files_that_lie_alike_are_stacked_within_the_bytes_allowed(kinds: list[tuple[str, int]], most: int) -> None:
    grid = Grid(UTM32, PLACE, 256, 256)
    bands = tuple(
        BandFile(f"B{number}", f"B{number}.tif", 1, grid, dtype, None, (block, block), False)
        for number, (dtype, block) in enumerate(kinds)
    )
    record = SceneRecord("scene", "bands", "B0.tif", bands, "generic")
    stacks = scene_view(record, grid, dtype="uint16", shift=[0] * len(bands), most_stacked=most).stacks
    assert sorted(place for stack in stacks for place in stack.positions) == list(range(len(bands)))
    for stack in stacks:
        assert len({(view.dtype, view.chunk) for view in stack.views}) == 1
        assert stack.chunk_bytes <= most or len(stack.views) == 1


def test_decoded_pixels_stay_within_the_budget(tmp_path: Path) -> None:
    path = write_raster(
        tmp_path / "scene.tif", numbers((8, 1024, 1024)), tiled=True, blockxsize=256, blockysize=256, compress="deflate"
    )
    with TileDataset(catalog_of(path), 64, memory_mb=8) as dataset:
        generator = np.random.default_rng(0)
        for _ in range(5):
            dataset.read([TileRef(0, *map(int, place)) for place in generator.integers(0, 1024 - 64, (50, 2))])
            assert dataset.reader.chunks.nbytes <= 4 * 2**20


def test_a_scene_of_60000_pixels_square_is_read_within_the_budget(tmp_path: Path) -> None:
    """A sparse file, whose missing blocks are nodata: gigabytes once decoded."""
    path = tmp_path / "huge.tif"
    with rasterio.open(
        path, "w", driver="GTiff", width=60000, height=60000, count=4, dtype="uint16", tiled=True, blockxsize=512,
        blockysize=512, compress="deflate", sparse_ok=True, nodata=0, crs=CRS.from_string(UTM32), transform=PLACE,
    ) as file:  # fmt: skip
        file.write(numbers((4, 512, 512)), window=Window(30000 // 512 * 512, 30000 // 512 * 512, 512, 512))
    generator = np.random.default_rng(0)
    with TileDataset(catalog_of(path), 256, memory_mb=64) as dataset:
        assert len(dataset) == 235**2
        for _ in range(4):
            batch = dataset.read([TileRef(0, *map(int, place)) for place in generator.integers(0, 59744, (16, 2))])
            assert dataset.reader.chunks.nbytes <= 32 * 2**20
        batch = dataset.read([TileRef(0, 29600, 29600)])
    with rasterio.open(path) as file:
        np.testing.assert_array_equal(batch["image"].numpy()[0], file.read(window=Window(29600, 29600, 256, 256)))
    assert 0 < batch["valid"].float().mean() < 1
