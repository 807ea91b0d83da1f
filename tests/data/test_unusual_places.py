"""Rasters whose place is not a plain one: none on Earth, by control points, turned, of oblong pixels, or broken."""

import logging
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.control import GroundControlPoint
from rasterio.enums import Resampling
from rasterio.rpc import RPC
from rasterio.vrt import WarpedVRT
from scenes import numbers

from geoaug.data import Catalog, GridTileSampler, TileDataset, split_by_blocks
from geoaug.data.labels.raster import RasterLabels
from geoaug.data.raster import headers
from geoaug.data.raster.grid import Grid, reproject_points, target_grid
from geoaug.data.sampling.leaks import check_leaks
from geoaug.errors import ConfigurationError, RasterError
from geoaug.io import read_manifest
from geoaug.io.augment_tiles import AugmentJob, run

SIDE = 64
PLAIN = Affine(10, 0, 500000, 0, -10, 5000000)
LOCAL = 'LOCAL_CS["plan",UNIT["metre",1]]'
MOON, MARS = "IAU_2015:30100", "+proj=eqc +R=3396190 +units=m +no_defs"
PLACELESS = {
    "local": (LOCAL, Affine(0.5, 0, 100, 0, -0.5, 100), 0.5),
    "moon": (MOON, Affine(0.01, 0, 10, 0, -0.01, 60.32), 0.01 * math.radians(1737400) * math.sqrt(0.5)),
    "mars": (MARS, Affine(100, 0, 0, 0, -100, 0), 100.0),
}
CORNERS = [(0, 0, 10, 50), (0, SIDE, 10.1, 50.01), (SIDE, 0, 9.98, 49.9), (SIDE, SIDE, 10.08, 49.91)]
POINTS = [GroundControlPoint(*corner) for corner in CORNERS]


def put(path: Path, *, side: int = SIDE, count: int = 3, **profile: Any) -> Path:
    with rasterio.open(
        path, "w", driver="GTiff", width=side, height=side, count=count, dtype="uint16", **profile
    ) as file:  # fmt: skip
        file.write(numbers((count, side, side)))
    return path


@pytest.mark.parametrize("name", PLACELESS)
def test_a_crs_without_a_place_on_earth_is_used_without_a_place(tmp_path: Path, name: str) -> None:
    crs, transform, gsd = PLACELESS[name]
    folder = tmp_path / "scenes"
    folder.mkdir()
    path = put(folder / f"{name}.tif", crs=crs, transform=transform)
    put(folder / "plain.tif", crs="EPSG:32633", transform=PLAIN)
    catalog = Catalog.from_folder(folder)
    at = catalog.ids.index(name)
    assert catalog.footprints[at] is None
    assert catalog.footprints[1 - at] is not None
    assert catalog.column("gsd_m")[at] == pytest.approx(gsd, rel=1e-4)
    np.testing.assert_array_equal(TileDataset(catalog.select([at]), SIDE)[0]["image"], numbers((3, SIDE, SIDE)))
    coarser = TileDataset(catalog.select([at]), 16, gsd_m=2 * gsd)
    assert coarser.grid(0).sides_m == pytest.approx((2 * gsd, 2 * gsd), rel=1e-4)
    with pytest.raises(ConfigurationError, match="no place on Earth to be warped from"):
        TileDataset(catalog, 32, crs="EPSG:32633")
    with pytest.raises(ConfigurationError, match=f"'{name}' has a CRS without a place on Earth"):
        split_by_blocks(catalog)
    with pytest.raises(ConfigurationError, match=f"'{name}' has no place on Earth"):
        check_leaks(catalog.with_column("split", ["train", "test"]))
    report = run(
        AugmentJob([str(folder)], tmp_path / "out", tile=32, copies=1, recipe={"operations": []}, device="cpu")
    )
    assert not report.failures
    assert any("has no place on Earth" in note and name in note for note in report.notes)
    manifest = read_manifest(tmp_path / "out" / "manifest.parquet")
    assert len(manifest) == 8
    assert manifest.geometry.isna().sum() == 4
    row = manifest[manifest.source == str(path)].iloc[0]
    with rasterio.open(tmp_path / "out" / row.image) as tile, rasterio.open(path) as stored:
        assert tile.crs == stored.crs
        window = rasterio.windows.Window(row.col, row.row, 32, 32)
        assert tile.transform == stored.window_transform(window)
        np.testing.assert_array_equal(tile.read(), stored.read(window=window))


def test_labels_on_the_moon_are_found(tmp_path: Path) -> None:
    crs, transform, _ = PLACELESS["moon"]
    scene = put(tmp_path / "scene.tif", crs=crs, transform=transform)
    with rasterio.open(
        tmp_path / "labels.tif", "w", driver="GTiff", width=32, height=32, count=1, dtype="uint8", crs=crs,
        transform=transform * Affine.scale(2),
    ) as file:  # fmt: skip
        file.write((np.arange(1024) % 7).reshape(32, 32).astype("uint8"), 1)
    sample = TileDataset(Catalog.from_files([scene]), SIDE, labels=tmp_path / "labels.tif")[0]
    expected = np.kron(np.arange(1024).reshape(32, 32) % 7, np.ones((2, 2)))
    np.testing.assert_array_equal(sample["mask"].squeeze(), expected)


@pytest.mark.parametrize("gsd_m", [None, 200.0])
def test_control_points_place_a_scene_where_a_crs_is_asked_for(tmp_path: Path, gsd_m: float | None) -> None:
    path = put(tmp_path / "scene.tif", gcps=POINTS, crs="EPSG:4326", nodata=0)
    catalog = Catalog.from_files([path])
    assert catalog.column("crs").tolist() == [None]
    assert catalog.footprints[0] is None
    np.testing.assert_array_equal(TileDataset(catalog, SIDE)[0]["image"], numbers((3, SIDE, SIDE)))
    with rasterio.open(path) as stored:
        with WarpedVRT(stored, crs="EPSG:32632") as chosen:
            shape, transform = chosen.shape, chosen.transform
        if gsd_m is not None:
            shape = tuple(round(size * transform.a / gsd_m) for size in shape)
            transform *= Affine.scale(gsd_m / transform.a)
        with WarpedVRT(
            stored, crs="EPSG:32632", transform=transform, height=shape[0], width=shape[1], tolerance=1e-6,
            resampling=Resampling.bilinear,
        ) as warped:  # fmt: skip
            expected = warped.read()
    dataset = TileDataset(catalog, shape, crs="EPSG:32632", gsd_m=gsd_m)
    assert dataset.grid(0).shape == shape
    sample = dataset[0]
    assert sample["valid"].float().mean() > 0.3
    np.testing.assert_array_equal(np.where(sample["valid"], sample["image"], 0), expected)


@pytest.mark.parametrize("height_term", [0.0, 0.5])
def test_rpcs_place_a_scene_where_a_crs_is_asked_for(tmp_path: Path, height_term: float) -> None:
    """Of a file that holds its own columns and rows; where these should lie follows from the RPCs by hand."""
    rational = RPC(
        height_off=100, height_scale=500, lat_off=50, lat_scale=0.05, long_off=10, long_scale=0.05, line_off=32,
        line_scale=32, samp_off=32, samp_scale=32, line_num_coeff=[0, 0.1, -1] + [0] * 17,
        line_den_coeff=[1] + [0] * 19, samp_num_coeff=[0, 1, 0, height_term] + [0] * 16,
        samp_den_coeff=[1] + [0] * 19,
    )  # fmt: skip
    with rasterio.open(
        tmp_path / "scene.tif", "w", driver="GTiff", width=SIDE, height=SIDE, count=2, dtype="float32", rpcs=rational,
        nodata=-1,
    ) as file:  # fmt: skip
        file.write(np.stack(np.meshgrid(np.arange(SIDE), np.arange(SIDE))).astype("float32"))
    catalog = Catalog.from_files([tmp_path / "scene.tif"])
    assert catalog.footprints[0] is None
    with pytest.raises(ConfigurationError, match="leave gsd_m"):
        TileDataset(catalog, 16, crs="EPSG:32632", gsd_m=200.0)
    shape = TileDataset(catalog, 16, crs="EPSG:32632").grid(0).shape
    dataset = TileDataset(catalog, shape, crs="EPSG:32632")
    sample, grid = dataset[0], dataset.grid(0)
    cols, rows = np.meshgrid(np.arange(shape[1]) + 0.5, np.arange(shape[0]) + 0.5)
    longitude, latitude = reproject_points(*(grid.transform * (cols, rows)), "EPSG:32632", "EPSG:4326")
    across = (longitude - 10) / 0.05  # at the height of the RPCs' own centre
    column, line = 32 + 32 * across, 32 + 32 * (0.1 * across - (latitude - 50) / 0.05)
    inner = (column > 1) & (column < SIDE - 2) & (line > 1) & (line < SIDE - 2)
    assert inner.mean() > 0.6
    assert sample["valid"][0].numpy()[inner].all()
    # RPCs count from the middle of the first pixel, as the numbers in the file do; GDAL places them to 0.1 pixel.
    np.testing.assert_allclose(sample["image"][0].numpy()[inner], column[inner], atol=0.1)
    np.testing.assert_allclose(sample["image"][1].numpy()[inner], line[inner], atol=0.1)


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_a_place_that_is_lacking_is_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    headers._said.cache_clear()
    scenes = [put(tmp_path / f"{number}.tif", gcps=POINTS, crs="EPSG:4326") for number in range(3)]
    bare = put(tmp_path / "bare.tif", crs="EPSG:32633")
    with caplog.at_level(logging.WARNING, "geoaug"):
        catalog = Catalog.from_files([*scenes, bare])
    assert [shape for shape in catalog.footprints if shape is not None] == []
    assert catalog.column("crs").tolist() == [None] * 4
    lines = sorted(line for line in caplog.messages if "without a place" in line)
    assert len(lines) == 2
    assert "has a CRS and no geotransform" in lines[1]
    assert "has ground control points" in lines[0]
    with pytest.raises(ConfigurationError, match="no CRS, ground control points or RPCs"):
        TileDataset(Catalog.from_files([bare]), 32, crs="EPSG:32633")
    with rasterio.open(
        tmp_path / "labels.tif", "w", driver="GTiff", width=SIDE, height=SIDE, count=1, dtype="uint8", crs="EPSG:32633"
    ) as file:
        file.write(np.full((SIDE, SIDE), 3, "uint8"), 1)
    sample = TileDataset(Catalog.from_files([bare]), SIDE, labels=tmp_path / "labels.tif")[0]
    assert (sample["mask"] == 3).all()


@pytest.mark.parametrize("degrees", [0, 17, 45, 90, 200])
@pytest.mark.parametrize("crs", ["EPSG:32632", "EPSG:4326", "EPSG:3035"])
def test_a_turned_scene_is_warped_to_the_grid_of_gdals_choice(tmp_path: Path, degrees: int, crs: str) -> None:
    transform = PLAIN * Affine.rotation(degrees)
    path = put(tmp_path / "turned.tif", crs="EPSG:32633", transform=transform, nodata=0)
    found = target_grid(Grid("EPSG:32633", transform, SIDE, SIDE), crs, None)
    with (
        rasterio.open(path) as stored,
        WarpedVRT(stored, crs=crs, resampling=Resampling.bilinear, tolerance=1e-6) as warped,
    ):
        assert found.shape == warped.shape
        assert found.transform.almost_equals(warped.transform, 1e-6 * abs(warped.transform.a))
        expected = warped.read()
    sample = TileDataset(Catalog.from_files([path]), found.shape, crs=crs)[0]
    seen = np.where(sample["valid"], sample["image"], 0)
    assert (expected > 0).any(0).mean() > 0.4
    close = np.abs(seen.astype(int) - expected.astype(int)) <= 2
    assert close.mean() > 0.999


@pytest.mark.parametrize(
    ("crs", "transform", "sides"),
    [
        ("EPSG:32633", Affine(10, 0, 500000, 0, -20, 5000000), (10, 20)),
        ("EPSG:32633", Affine.translation(500000, 5000000) @ Affine.rotation(30) @ Affine.scale(10, -30), (10, 30)),
        ("EPSG:4326", Affine(0.001, 0, 10, 0, -0.001, 60.032), (111.3195 / 2, 111.3195)),
    ],
)
@pytest.mark.parametrize("gsd", [15.0, 40.0])
def test_gsd_gives_square_metres_whatever_the_pixels(
    crs: str, transform: Affine, sides: tuple[float, float], gsd: float
) -> None:
    own = Grid(crs, transform, SIDE, SIDE)
    assert own.sides_m == pytest.approx(sides, rel=1e-4)
    found = target_grid(own, None, gsd)
    assert found.sides_m == pytest.approx((gsd, gsd), rel=1e-4)
    assert found.gsd_m == pytest.approx(gsd, rel=1e-4)
    assert found.shape == tuple(round(SIDE * side / gsd) for side in sides[::-1])
    assert found.transform * (0, 0) == own.transform * (0, 0)


BROKEN = {
    "nan": (Affine(10, 0, math.nan, 0, -10, 5e6), "not finite"),
    "infinite": (Affine(10, 0, 5e5, 0, math.inf, 5e6), "not finite"),
    "flat": (Affine(10, 0, 5e5, 20, 0, 5e6), "without an area"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_geotransform_is_an_error_that_says_so_and_spares_the_others(tmp_path: Path, name: str) -> None:
    transform, message = BROKEN[name]
    broken = put(tmp_path / "broken.tif", crs="EPSG:32633", transform=transform)
    good = put(tmp_path / "good.tif", crs="EPSG:32633", transform=PLAIN)
    with pytest.raises(RasterError, match=f"broken.tif: its geotransform .* {message}.*: give it another one"):
        Catalog.from_files([broken])
    catalog = Catalog.from_files([broken, good], on_error="skip")
    assert catalog.ids == ["good"]
    with pytest.raises(RasterError, match=message):
        RasterLabels(str(put(tmp_path / "labels.tif", count=1, crs="EPSG:32633", transform=transform)))
    report = run(
        AugmentJob(
            [str(broken), str(good)], tmp_path / "out", tile=32, copies=1, recipe={"operations": []}, device="cpu"
        )
    )
    assert [failure.path for failure in report.failures] == [str(broken)]


def test_blocks_for_tiles_of_thousands_of_kilometres_are_refused_with_a_size_that_fits(tmp_path: Path) -> None:
    quarter = put(tmp_path / "quarter.tif", side=140, crs="EPSG:4326", transform=Affine(0.25, 0, -10, 0, -0.25, 70))
    catalog = Catalog.from_files([quarter])
    with pytest.raises(ConfigurationError, match=r"tiles of 256 pixels of 21.* km .*--size 16") as caught:
        split_by_blocks(catalog, size=256)
    assert caught.value.argument == "size"
    split = split_by_blocks(catalog, size=16)
    for name in ("train", "val", "test"):
        assert len(GridTileSampler(TileDataset(split.split(name), 16))) > 0
    world = put(tmp_path / "world.tif", side=90, crs="EPSG:4326", transform=Affine(4, 0, -180, 0, -2, 90))
    for size in (256, 8):
        with pytest.raises(ConfigurationError, match="'world' covers more than half of the Earth"):
            split_by_blocks(Catalog.from_files([world]), size=size)
    # Pixels of millimetres: blocks that were not asked for are not smaller than what blocks can be.
    fine = put(tmp_path / "fine.tif", crs="EPSG:32633", transform=Affine(0.05, 0, 5e5, 0, -0.05, 5e6))
    assert split_by_blocks(Catalog.from_files([fine])).split_names == ["train", "val", "test"]
