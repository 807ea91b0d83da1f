"""Scenes across 180 degrees, at the poles, and in longitudes of 0 to 360, against the same ground shifted from there.

A zone of UTM is the one before it six degrees further on, so a scene in zone 60 that lies across 180 degrees has its
like in zone 59 across 174: labels, splits and tiles of the two must be equal.
"""

from pathlib import Path

import geopandas
import numpy as np
import pyproj
import pytest
import rasterio
import shapely
from affine import Affine

from geoaug.data import Catalog, GridTileSampler, TileDataset, survey_catalog
from geoaug.data.labels.opening import open_labels
from geoaug.data.raster.grid import WORLD, Grid, reproject_points, turn_of
from geoaug.data.raster.meridians import cut_at_180, in_one_piece
from geoaug.data.raster.window import Window
from geoaug.data.sampling.leaks import check_leaks
from geoaug.data.sampling.splits import split_by_blocks, summarise
from geoaug.io.manifest import Manifest, TileRecord, read_manifest
from geoaug.models.predict.polygons import save_polygons

PIXELS, SIDE_M = 96, 30.0
ZONES = {60: 180.0, 59: 174.0}
"""The longitude that the scene of each zone lies across."""


def transform_at(zone: int) -> Affine:
    x, y = reproject_points(np.array([ZONES[zone]]), np.array([-17.0]), WORLD, f"EPSG:327{zone}")
    half = PIXELS * SIDE_M / 2
    return Affine(SIDE_M, 0, round(x[0]) - half, 0, -SIDE_M, round(y[0]) + half)


def scene(folder: Path, zone: int, name: str = "scene", shift: int = 0, valid: np.ndarray | None = None) -> Path:
    path = folder / f"{name}-{zone}.tif"
    pixels = np.random.default_rng(0).integers(1, 255, (3, PIXELS, PIXELS)).astype("uint16")
    if valid is not None:
        pixels[:, ~valid] = 0
    with rasterio.open(
        path, "w", driver="GTiff", width=PIXELS, height=PIXELS, count=3, dtype="uint16", nodata=0,
        crs=f"EPSG:327{zone}", transform=transform_at(zone) * Affine.translation(shift, 0), tiled=True, blockxsize=32,
        blockysize=32,
    ) as file:  # fmt: skip
        file.write(pixels)
    return path


def quarters(meridian: float) -> list[shapely.Polygon]:
    """Four slanted fields around a place on the ground, two of them across the meridian."""
    corners = [(-0.012, 0.003), (-0.002, 0.004), (-0.008, -0.01), (0.001, -0.006)]
    field = shapely.Polygon([(0, 0), (0.01, 0.002), (0.008, 0.007)])
    return [shapely.transform(field, lambda xy, at=(meridian + x, y - 17): xy + at) for x, y in corners]


def torn(shape: shapely.Geometry) -> shapely.Geometry:
    """As one gets it by bringing point after point to degrees."""
    return shapely.transform(shape, lambda xy: np.stack([(xy[:, 0] + 180) % 360 - 180, xy[:, 1]], axis=1))


def mercator(xy: np.ndarray) -> np.ndarray:
    """Metres on the sphere, which run on beyond the date line as the longitudes do."""
    x, y = np.radians(xy).T
    return 6378137.0 * np.stack([x, np.arctanh(np.sin(y))], axis=1)


VECTORS = {
    "cut in two": cut_at_180,
    "torn": torn,
    "beyond 180": lambda shape: shape,
    "below -180": lambda shape: shapely.transform(shape, lambda xy: xy - [360, 0]),
}


@pytest.mark.parametrize("crs", [WORLD, "EPSG:4269", "EPSG:3857"])
@pytest.mark.parametrize("form", VECTORS)
def test_vector_labels_across_the_date_line_are_those_of_shifted_ground(tmp_path: Path, form: str, crs: str) -> None:
    read = {}
    for zone, meridian in ZONES.items():
        shapes = [VECTORS[form](shape) if zone == 60 else shape for shape in quarters(meridian)]
        if crs == "EPSG:3857":
            shapes = [shapely.transform(shape, mercator) for shape in shapes]
        path = tmp_path / f"{zone}.gpkg"
        geopandas.GeoDataFrame({"c": range(1, 5)}, geometry=shapes, crs=crs).to_file(path, engine="pyogrio")
        labels = open_labels(str(path), field="c")
        assert labels.overlaps(transform_at(zone), f"EPSG:327{zone}", PIXELS, PIXELS)
        read[zone] = labels.read(transform_at(zone), f"EPSG:327{zone}", PIXELS, PIXELS)
    assert set(np.unique(read[59])) == {1, 2, 3, 4, 255}
    np.testing.assert_array_equal(read[60], read[59])


def world_raster(path: Path, west: float, east: float) -> Path:
    """Classes that change from cell to cell in the same way everywhere: by the longitude from 180 and the latitude."""
    step = 0.002
    south, north = -17.03, -16.97
    cols, rows = round((east - west) / step), round((north - south) / step)
    x = (west + (np.arange(cols) + 0.5) * step - 174) % 6  # 180 and 174 are alike
    y = np.arange(rows)
    classes = ((np.floor(x / step + 1e-3).astype(int)[None] * 7 + y[:, None] * 13) % 11).astype("uint8")
    with rasterio.open(
        path, "w", driver="GTiff", width=cols, height=rows, count=1, dtype="uint8", crs=WORLD,
        transform=Affine(step, 0, west, 0, -step, north), compress="deflate",
    ) as file:  # fmt: skip
        file.write(classes, 1)
    return path


@pytest.mark.parametrize(("west", "east"), [(-180, 180), (0, 360), (179, 181), (-181, -179), (-10, 350)])
def test_raster_labels_across_the_date_line_are_those_of_shifted_ground(
    tmp_path: Path, west: float, east: float
) -> None:
    there = open_labels(str(world_raster(tmp_path / "there.tif", west, east)))
    here = open_labels(str(world_raster(tmp_path / "here.tif", 173, 175)))
    assert there.overlaps(transform_at(60), "EPSG:32760", PIXELS, PIXELS)
    read = there.read(transform_at(60), "EPSG:32760", PIXELS, PIXELS)
    assert len(np.unique(read)) == 11
    np.testing.assert_array_equal(read, here.read(transform_at(59), "EPSG:32759", PIXELS, PIXELS))


@pytest.mark.parametrize(("west", "east"), [(-180, 180), (0, 360)])
def test_raster_labels_in_the_scenes_own_degrees_are_found_a_turn_away(
    tmp_path: Path, west: float, east: float
) -> None:
    labels = open_labels(str(world_raster(tmp_path / "labels.tif", west, east)))
    here = open_labels(str(world_raster(tmp_path / "here.tif", 173, 175)))
    expected = here.read(Affine(0.002, 0, 173.98, 0, -0.002, -16.98), WORLD, 10, 20)
    for left in (179.98, -180.02):
        tile = Affine(0.002, 0, left, 0, -0.002, -16.98)
        assert labels.overlaps(tile, WORLD, 10, 20)
        np.testing.assert_array_equal(labels.read(tile, WORLD, 10, 20), expected)


def test_labels_elsewhere_do_not_reach_a_scene_across_the_date_line(tmp_path: Path) -> None:
    labels = open_labels(str(world_raster(tmp_path / "labels.tif", 173, 175)))
    assert not labels.overlaps(transform_at(60), "EPSG:32760", PIXELS, PIXELS)
    path = tmp_path / "fields.gpkg"
    geopandas.GeoDataFrame(geometry=quarters(174.0), crs=WORLD).to_file(path, engine="pyogrio")
    assert not open_labels(str(path)).overlaps(transform_at(60), "EPSG:32760", PIXELS, PIXELS)


def test_polygons_in_a_crs_that_tears_at_the_date_line_are_found_by_pixel_centres(tmp_path: Path) -> None:
    sinusoidal = "+proj=sinu +R=6371007.181"
    read = {}
    for zone, meridian in ZONES.items():
        shapes = [part for shape in quarters(meridian) for part in shapely.get_parts(cut_at_180(shape))]
        number = [n for n, shape in enumerate(quarters(meridian), 1) for _ in shapely.get_parts(cut_at_180(shape))]
        frame = geopandas.GeoDataFrame({"c": number}, geometry=[shapely.segmentize(s, 1e-4) for s in shapes], crs=WORLD)
        # A hair away from 180 degrees, which are both edges of such a map.
        frame.geometry = shapely.transform(frame.geometry.array, lambda xy: np.clip(xy, -180 + 1e-9, 180 - 1e-9))
        frame.to_crs(sinusoidal).to_parquet(tmp_path / f"{zone}.parquet")
        labels = open_labels(str(tmp_path / f"{zone}.parquet"), field="c")
        assert labels.overlaps(transform_at(zone), f"EPSG:327{zone}", PIXELS, PIXELS)
        read[zone] = labels.read(transform_at(zone), f"EPSG:327{zone}", PIXELS, PIXELS)
    # The sphere of this map and the ellipsoid of the other give each edge the same bend in both zones.
    assert (read[60] != read[59]).mean() < 0.002
    assert set(np.unique(read[60])) == {1, 2, 3, 4, 255}


MOON = "IAU_2015:30100"
POLAR = Affine(1000, 0, -40500, 0, -1000, 61500)


WORLD_WIDE = Grid(WORLD, Affine(1, 0, 0, 0, -1, 90), 180, 360)
BEYOND_180 = Grid(WORLD, Affine(0.1, 0, 175, 0, -0.1, 5), 100, 100)
MERCATOR = Grid("EPSG:3857", Affine(1000, 0, 20000000, 0, -1000, 5e4), 100, 100)


@pytest.mark.parametrize(
    ("name", "grid", "holds", "not_there"),
    [
        ("UTM", Grid("EPSG:32760", transform_at(60), PIXELS, PIXELS), [(180, -17), (-179.99, -17)], [(0, -17)]),
        ("north pole", Grid("EPSG:3413", POLAR, 100, 100), [(0, 90), (120, 89.99), (-45, 89.7)], [(0, -90), (0, 89)]),
        ("south pole", Grid("EPSG:3031", POLAR, 100, 100), [(0, -90), (120, -89.99)], [(0, 90), (0, -89)]),
        ("0 to 360", WORLD_WIDE, [(0, 0), (180, 0), (-90, 80)], []),
        ("beyond 180", BEYOND_180, [(179, 0), (-179, 0)], [(0, 0), (-174, 0)]),
        ("Mercator", MERCATOR, [(179.9, 0), (-179.9, 0)], [(0, 0)]),
    ],
)
def test_footprints_hold_what_they_should_and_nothing_else(name: str, grid: Grid, holds: list, not_there: list) -> None:
    outline = grid.world_footprint()
    assert outline is not None
    assert outline.is_valid
    assert shapely.box(-180, -90, 180, 90).covers(outline)
    for point in holds:
        assert outline.distance(shapely.Point(point)) < 1e-9
    for point in not_there:
        assert outline.distance(shapely.Point(point)) > 1e-3
    # Each pixel centre lies in it, all other ones outside: by projecting each by itself.
    cols, rows = np.meshgrid(np.arange(-20, grid.width + 20, 3) + 0.5, np.arange(-20, grid.height + 20, 3) + 0.5)
    x, y = grid.transform * (cols.ravel(), rows.ravel())
    longitude, latitude = reproject_points(x, y, grid.crs or "", WORLD)
    longitude = (longitude + 180) % 360 - 180
    inside = (cols > 0) & (cols < grid.width) & (rows > 0) & (rows < grid.height)
    if grid.width < 360:
        found = shapely.intersects_xy(grid.world_footprint(steps=101), longitude, latitude)
        assert (found == inside.ravel()).mean() > 0.998
    # And back to the pixels: the grid itself, where a map has no pole.
    if "pole" not in name:
        back = grid.in_pixels(grid.world_footprint(steps=101), WORLD)
        frame = shapely.box(0, 0, grid.width, grid.height)
        assert frame.difference(back).area < 1e-2 * grid.width
        # A map of the whole Earth goes on a little beyond its edges.
        assert back.difference(frame).area < 1e-2 * grid.width or grid.width == 360


def test_grids_share_what_they_share_on_the_ground_whatever_their_longitudes() -> None:
    across = Grid("EPSG:32760", transform_at(60), PIXELS, PIXELS)
    middle = {180.0: (-17.05, 179.95), -180.0: (-17.05, -180.05)}
    for south, west in middle.values():
        other = Grid(WORLD, Affine(0.001, 0, west, 0, -0.001, south + 0.1), 100, 100)
        shared = other.overlap(across)
        assert shared is not None
        assert shared.col < 50 < shared.col_stop
        assert 20 < shared.width < 35
        assert across.overlap(other) == Window(0, 0, PIXELS, PIXELS)


def tile(name: str, grid: Grid) -> TileRecord:
    return TileRecord(
        image=name, source=name, scene=name, row=0, col=0, height=grid.height, width=grid.width, copy=0, seed=0, key=0,
        transform=grid.transform, valid_fraction=1.0, crs=grid.crs,
    )  # fmt: skip


def test_footprints_in_a_manifest_are_cut_at_the_date_line_and_hold_the_pole(tmp_path: Path) -> None:
    across = Grid("EPSG:32760", transform_at(60), PIXELS, PIXELS)
    beside = across.crop(Window(0, 0, 8, 8))
    pole = Grid("EPSG:3413", POLAR, 100, 100)
    manifest = Manifest()
    for name, grid in (("across", across), ("beside", beside), ("pole", pole), ("moon", Grid(MOON, POLAR, 10, 10))):
        manifest.add(tile(name, grid))
    manifest.write(tmp_path / "manifest.parquet")
    table = read_manifest(tmp_path / "manifest.parquet").set_index("image")
    shapes = table.geometry
    assert shapes["moon"] is None
    assert [shapes[name].geom_type for name in ("across", "beside", "pole")] == ["MultiPolygon", "Polygon", "Polygon"]
    assert all(shape.is_valid for shape in shapes.iloc[:3])
    assert all(part.exterior.is_ccw for shape in shapes.iloc[:3] for part in shapely.get_parts(shape))
    assert shapes["pole"].intersects(shapely.Point(77, 90))
    # The area on the ellipsoid, in one piece or two.
    side = PIXELS * SIDE_M
    areas = {
        name: abs(pyproj.Geod(ellps="WGS84").geometry_area_perimeter(shapes[name])[0]) for name in shapes.index[:3]
    }
    assert areas["across"] == pytest.approx(side**2, rel=2e-3)
    assert areas["beside"] == pytest.approx((8 * SIDE_M) ** 2, rel=2e-3)
    # True to scale at 70 degrees north: k = (1 + sin 70) / 2 at the pole (Snyder 1987, eq. 21-4, e = 0).
    assert areas["pole"] == pytest.approx(1e10 * (2 / (1 + np.sin(np.radians(70)))) ** 2, rel=0.01)


def in_zones(tmp_path: Path, **changes: object) -> dict[int, Catalog]:
    found = {}
    for zone in ZONES:
        folder = tmp_path / str(zone)
        folder.mkdir()
        scene(folder, zone, "a")
        scene(folder, zone, "b", PIXELS + 40)
        found[zone] = Catalog.from_folder(folder, **changes)
    return found


def test_splits_across_the_date_line_are_those_of_shifted_ground(tmp_path: Path) -> None:
    tiles = {}
    for zone, catalog in in_zones(tmp_path).items():
        split = split_by_blocks(catalog, {"train": 0.6, "test": 0.4}, block_m=700, buffer_m=60, cut=True, size=8)
        check_leaks(split, 60, size=8)
        rows = summarise(split, 8)
        assert all(row.tiles > 20 for row in rows)
        ground = sum(row.ground_km2 for row in rows)
        whole = 2 * (PIXELS * SIDE_M / 1000) ** 2
        assert 0.6 * whole < ground < whole
        tiles[zone] = ground
        for name in ("train", "test"):
            part = split.split(name)
            for stored in part.table.column("region").drop_null().to_pylist():
                region = shapely.from_wkb(stored)
                assert region.is_valid
                assert shapely.box(-180, -90, 180, 90).covers(region)
            dataset = TileDataset(part, 8)
            seen = [(ref.scene, ref.row, ref.col) for ref in GridTileSampler(dataset)]
            # Tiles lie on both sides of the date line, and over it.
            cols = np.array([col for which, _, col in seen if which == 0])
            assert (cols < 40).any()
            assert (cols > 56).any()
    # The blocks differ a little in where they begin.
    assert tiles[60] == pytest.approx(tiles[59], rel=0.15)


@pytest.mark.parametrize("crs", [WORLD, "EPSG:3857"])
def test_a_scene_across_the_date_line_is_warped_as_shifted_ground_is(tmp_path: Path, crs: str) -> None:
    grids, samples = {}, {}
    for zone in ZONES:
        catalog = Catalog.from_files([scene(tmp_path, zone)])
        grids[zone] = TileDataset(catalog, 64, crs=crs).grid(0)
        samples[zone] = TileDataset(catalog, grids[zone].shape, crs=crs)[0]
    assert grids[60].shape == grids[59].shape
    shift = turn_of(crs) / 60
    a, _, c, _, e, f = grids[59].transform[:6]
    assert grids[60].transform.almost_equals(Affine(a, 0, c + shift, 0, e, f), 1e-9 * shift)
    assert samples[59]["valid"].float().mean() > 0.9
    different = samples[60]["image"].int() - samples[59]["image"].int()
    assert different.abs().max() <= 1  # roundings of the longitude


def test_polygons_of_maps_of_several_crs_are_cut_at_the_date_line(tmp_path: Path) -> None:
    x, y = reproject_points(np.array([180.0]), np.array([-17.0]), WORLD, "EPSG:32760")
    across = geopandas.GeoDataFrame(
        {"c": [1]}, geometry=[shapely.box(x[0] - 50, y[0], x[0] + 50, y[0] + 80)], crs=32760
    )
    beside = geopandas.GeoDataFrame({"c": [2]}, geometry=[shapely.box(5e5, 8e6, 5e5 + 100, 8e6 + 80)], crs=32733)
    save_polygons([across, beside], tmp_path / "map.gpkg")
    found = geopandas.read_file(tmp_path / "map.gpkg")
    assert found.crs.to_epsg() == 4326
    assert found.geometry.is_valid.all()
    areas = [abs(pyproj.Geod(ellps="WGS84").geometry_area_perimeter(shape)[0]) for shape in found.geometry]
    np.testing.assert_allclose(areas, [8000, 8000], rtol=2e-3)


def test_surveyed_ground_across_the_date_line_is_that_of_shifted_ground(tmp_path: Path) -> None:
    valid = np.add.outer(np.arange(PIXELS), np.arange(PIXELS)) > PIXELS
    areas = {}
    for zone in ZONES:
        catalog = survey_catalog(Catalog.from_files([scene(tmp_path, zone, valid=valid)])).catalog
        outline = shapely.from_wkb(catalog.table.column("valid_geometry")[0].as_py())
        assert outline.is_valid
        assert shapely.box(-180, -90, 180, 90).covers(outline)
        areas[zone] = outline.area
    assert areas[60] == pytest.approx(areas[59], rel=1e-9)


def test_shapes_on_one_map_keep_their_neighbours() -> None:
    shapes = np.array(
        [cut_at_180(shapely.box(170, 0, 190, 5)), shapely.box(-150, 0, -140, 5), shapely.box(100, 0, 110, 5)]
    )
    west, _, east, _ = shapely.bounds(in_one_piece(shapes)).T
    np.testing.assert_allclose(np.stack([west, east], axis=1), [[170, 190], [210, 220], [100, 110]])
    world = np.array([shapely.box(-180, -90, 180, 90)])
    assert in_one_piece(world)[0].equals(world[0])
