"""Splits keep ground apart whatever the scene, date or CRS, in the shares that were asked for."""

import itertools
import logging
from functools import cache
from typing import Any

import numpy as np
import pyproj
import pytest
import rasterio.features
import shapely
from hypothesis import given
from hypothesis import strategies as st
from made_catalogs import made_scene

from geoaug.data import Catalog, GridTileSampler, RandomTileSampler
from geoaug.data.raster.window import Window
from geoaug.data.sampling.coverage import Coverage, coverage_column
from geoaug.data.sampling.ground_blocks import GroundBlocks
from geoaug.data.sampling.leaks import LeakError, _worst, check_leaks
from geoaug.data.sampling.splits import (
    split_by_attribute,
    split_by_blocks,
    split_by_chance,
    split_by_date,
    split_by_folder,
    split_into_folds,
)
from geoaug.data.sampling.tile_ground import RegionGround
from geoaug.data.sampling.tile_source import CatalogTiles
from geoaug.errors import ConfigurationError

TILE = 64
GEOD = pyproj.Geod(ellps="WGS84")


def two_zones() -> Catalog:
    """The same ground near 12 degrees east in two UTM zones, at two dates, and in degrees; each scene of 20 km."""
    records = []
    for date in ("2023-01-05", "2023-06-05"):
        records.append(made_scene(f"z32-{date}", 1000, 1000, gsd=20.0, x=715000, y=5320000, datetime=date))
        records.append(
            made_scene(f"z33-{date}", 1000, 1000, gsd=20.0, x=276000, y=5320000, crs="EPSG:32633", datetime=date)
        )
    records.append(made_scene("degrees", 900, 900, gsd=2e-4, x=11.9, y=48.0, crs="EPSG:4326"))
    return Catalog.from_records(records)


@cache
def between(crs: str, other: str) -> pyproj.Transformer:
    """Made once: that takes longer than to move a tile."""
    return pyproj.Transformer.from_crs(crs, other, always_xy=True)


def tile_outlines(part: Catalog, stride: int = TILE) -> list[tuple[str, np.ndarray]]:
    """The tiles that a split may give: scene, and corners in longitude and latitude by pyproj alone."""
    source = CatalogTiles(part, TILE)
    found = []
    for tile in GridTileSampler(source, stride=stride):
        grid = source.grid(tile.scene)
        cols = tile.col + np.array([0, TILE, TILE, 0])
        rows = tile.row + np.array([0, 0, TILE, TILE])
        x, y = grid.transform * (cols, rows)
        found.append((part.ids[tile.scene], np.stack(between(grid.crs, "EPSG:4326").transform(x, y), axis=1)))
    return found


def least_distance(one: Catalog, other: Catalog) -> float:
    """Between tiles of two splits, by a plane that is true at the first one's place."""
    to_plane = between("EPSG:4326", "+proj=tmerc +lon_0=12 +k=1 +datum=WGS84")

    def shapes(part: Catalog) -> list[shapely.Polygon]:
        return [shapely.Polygon(np.stack(to_plane.transform(*xy.T), axis=1)) for _, xy in tile_outlines(part)]

    tree = shapely.STRtree(shapes(other))
    return float(min(shapely.distance(shape, tree.geometries[tree.nearest(shape)]) for shape in shapes(one)))


@pytest.mark.parametrize("buffer_m", [0.0, 700.0])
def test_tiles_of_blocks_keep_their_distance_across_zones_and_dates(buffer_m: float) -> None:
    catalog = split_by_blocks(two_zones(), block_m=4000, buffer_m=buffer_m, seed=1)
    parts = [catalog.split(name) for name in ("train", "val", "test")]
    for one, other in itertools.combinations(parts, 2):
        assert least_distance(one, other) >= buffer_m
    check_leaks(catalog, buffer_m)
    check_leaks(catalog, buffer_m, size=TILE)
    assert not {"regions", "region"} & set(catalog.split("train").table.column_names) - {"region"}


@pytest.mark.slow
def test_random_tiles_of_splits_keep_their_distance_too() -> None:
    catalog = split_by_blocks(two_zones(), block_m=4000, buffer_m=500, seed=2)
    outlines = {}
    for name in ("train", "test"):
        source = CatalogTiles(catalog.split(name), TILE)
        outlines[name] = []
        for tile in RandomTileSampler(source, 600):
            grid = source.grid(tile.scene).crop(Window(tile.row, tile.col, TILE, TILE))
            outlines[name].append(grid.footprint("EPSG:32632"))
    tree = shapely.STRtree(outlines["test"])
    nearest = min(shapely.distance(shape, tree.geometries[tree.nearest(shape)]) for shape in outlines["train"])
    assert nearest >= 500 * 0.999  # metres of a UTM zone that is left by two degrees


def test_shares_are_those_of_the_ground() -> None:
    catalog = split_by_blocks(two_zones(), {"a": 0.5, "b": 0.3, "c": 0.2}, block_m=2000, seed=3)
    tiles = {name: len(list(GridTileSampler(CatalogTiles(catalog.split(name), 16)))) for name in "abc"}
    total = sum(tiles.values())
    for name, share in (("a", 0.5), ("b", 0.3), ("c", 0.2)):
        assert tiles[name] / total == pytest.approx(share, abs=0.04)


def test_what_is_not_valid_does_not_count() -> None:
    mask = np.zeros((1000, 1000), dtype=bool)
    mask[:, :200] = True
    scenes = [made_scene("s", 1000, 1000)]
    catalog = Catalog.from_records(scenes).with_column("coverage", coverage_column([Coverage.count(mask)]))
    found = split_by_blocks(catalog, {"a": 0.5, "b": 0.5}, block_m=500, seed=0)
    columns = np.zeros((2, 1000))
    for number, name in enumerate("ab"):
        for tile in GridTileSampler(CatalogTiles(found.split(name), 10)):
            columns[number, tile.col : tile.col + 10] += 10
    assert columns[:, :200].sum(axis=1) / columns[:, :200].sum() == pytest.approx([0.5, 0.5], abs=0.06)


def chips(count: int, step: float = 640.0, dates: int = 1, **options: Any) -> Catalog:
    records = [
        made_scene(
            f"c{date}-{row}-{col}", 64, 64, x=400000 + step * col, y=5400000 - step * row, label="ABC"[(row + col) % 3],
            **options,
        )
        for date in range(dates)
        for row in range(count)
        for col in range(count)
    ]  # fmt: skip
    return Catalog.from_records(records)


def test_chips_stay_whole_and_together_with_their_other_dates() -> None:
    catalog = split_by_blocks(chips(30, dates=2), block_m=3000)
    assert "regions" not in catalog.table.column_names
    split = catalog.column("split").reshape(2, -1)
    assert (split[0] == split[1]).all()
    assert np.mean([value is None for value in split[0]]) == 0, "chips beside each other do not overlap"
    shares = [np.mean(split[0] == name) for name in ("train", "val", "test")]
    assert shares == pytest.approx([0.7, 0.15, 0.15], abs=0.03)
    check_leaks(catalog)


def test_chips_that_overlap_those_of_another_split_are_left_out() -> None:
    for step, buffer_m in ((500.0, 0.0), (640.0, 1000.0)):
        catalog = split_by_blocks(chips(30, step), block_m=4000, buffer_m=buffer_m)
        out = np.mean([value is None for value in catalog.column("split")])
        assert 0 < out < 0.5
        check_leaks(catalog, buffer_m)
        check_leaks(catalog, buffer_m, size=TILE)
    everywhere = chips(30, 500.0).with_column("split", ["train" if n % 2 else "test" for n in range(900)])
    with pytest.raises(
        LeakError, match=r"scene 'c0-0-.' of the split '.*' and scene 'c0-.*' of .* lie over each other"
    ):
        check_leaks(everywhere)


def scattered(count: int, side: int, spread: float) -> Catalog:
    """Square scenes at random places, over each other, in pixels of 10 m."""
    rng = np.random.default_rng(count)
    extent = 10 * side * np.sqrt(count) * spread
    x, y = (rng.uniform(-extent / 2, extent / 2, (2, count)) // 10 * 10).tolist()
    return Catalog.from_records(
        made_scene(f"s{number}", side, side, x=500000 + x[number], y=5200000 + y[number], block=(512, 512))
        for number in range(count)
    )


@pytest.mark.slow
@pytest.mark.parametrize("buffer_m", [0.0, 1000.0])
def test_large_scenes_over_each_other_are_cut_along_large_blocks_too(buffer_m: float) -> None:
    catalog = split_by_blocks(scattered(300, 10980, 0.5), buffer_m=buffer_m)
    told = catalog.notes["splits"]
    assert told["block_m"] > 109_800, "no scene is larger than a block"
    assert told["cut"]
    check_leaks(catalog, buffer_m)
    assert sum(len(catalog.split(name)) for name in ("train", "val", "test")) > 300
    assert all(sum(name in (kept or ()) for kept in splits_of(catalog)) for name in ("train", "val", "test"))
    assert all(splits_of(catalog)), "none is left out"


def splits_of(catalog: Catalog) -> list[list[str]]:
    """The splits that each scene is in, wholly or in part."""
    whole, regions = (catalog.table.column(name).to_pylist() for name in ("split", "regions"))
    return [
        [name] if name else [part["split"] for part in parts or []] for name, parts in zip(whole, regions, strict=True)
    ]


@pytest.mark.slow
def test_blocks_are_wider_where_chips_lie_over_each_other() -> None:
    crowded = split_by_blocks(scattered(2000, 256, 0.5))
    told = crowded.notes["splits"]
    assert not told["cut"]
    apart = split_by_blocks(chips(44))
    assert apart.notes["splits"]["block_m"] < 3.5 * 640 < 3.5 * 2560 < told["block_m"]
    check_leaks(crowded)
    narrow = split_by_blocks(scattered(2000, 256, 0.5), block_m=5000)
    kept = [sum(name is not None for name in one.table.column("split").to_pylist()) for one in (crowded, narrow)]
    assert kept[0] > 1500
    assert kept[0] > kept[1] + 300


def test_scenes_that_overlap_by_a_strip_are_no_neighbours() -> None:
    """A strip of 10 m is less than a thousandth of these scenes, and still ground in two splits."""
    records = [made_scene(f"s{number}", 2000, 2000, x=400000 + 19990 * number) for number in range(12)]
    catalog = split_by_blocks(Catalog.from_records(records), {"train": 0.5, "test": 0.5}, block_m=50_000, cut=False)
    check_leaks(catalog)
    assert None in catalog.table.column("split").to_pylist()


@pytest.mark.slow
@pytest.mark.parametrize("whole", [True, False])
def test_folds_share_the_ground_and_train_apart_from_it(whole: bool) -> None:
    catalog = chips(30) if whole else two_zones()
    found = split_into_folds(catalog, 4, block_m=3000, buffer_m=400, seed=1)
    assert found.split_names == [name for n in range(4) for name in (f"fold{n}", f"fold{n}-train")]
    counts = []
    for number in range(4):
        tests, training = found.split(f"fold{number}"), found.split(f"fold{number}-train")
        counts.append(len(list(GridTileSampler(CatalogTiles(tests, 16)))))
        assert len(list(GridTileSampler(CatalogTiles(training, 16)))) > counts[-1]
        check_leaks(found, 400, splits=[f"fold{number}", f"fold{number}-train"])
    check_leaks(found, 400)
    assert np.array(counts) / sum(counts) == pytest.approx([0.25] * 4, abs=0.05)


def test_the_classes_of_chips_come_near_to_the_shares() -> None:
    rng = np.random.default_rng(0)
    records = [
        made_scene(
            f"c{n}",
            64,
            64,
            x=400000 + 640 * (n % 30),
            y=5400000 - 640 * (n // 30),
            label="rare" if n % 450 < 20 else "usual",
        )
        for n in rng.permutation(900)
    ]
    catalog = split_by_blocks(Catalog.from_records(records), {"train": 0.6, "test": 0.4}, block_m=2500)
    label, split = catalog.column("label"), catalog.column("split")
    assert np.mean(split[label == "rare"] == "train") == pytest.approx(0.6, abs=0.15)


def test_a_class_that_a_split_lacks_is_named(caplog: pytest.LogCaptureFixture) -> None:
    catalog = chips(6).with_column("season", ["dry" if n < 30 else "wet" for n in range(36)])
    labels = ["only-dry" if n == 0 else "both" for n in range(36)]
    place = catalog.table.schema.get_field_index("label")
    catalog = Catalog(catalog.table.set_column(place, "label", [labels]), catalog.notes)
    with caplog.at_level(logging.WARNING, logger="geoaug"):
        split_by_attribute(catalog, "season", {"train": ["dry"], "test": ["wet"]})
    assert "the split 'test' holds nothing of only-dry" in caplog.text


def test_splits_by_column_date_and_folder() -> None:
    records = [
        made_scene(
            f"s{n}", 64, 64, x=400000 + 5000 * n, datetime=f"202{n}-05-01", folder="train/a" if n < 2 else "Testing"
        )
        for n in range(4)
    ]
    catalog = Catalog.from_records(records, attributes={"biome": ["w", "d", "w", "d"]})
    found = split_by_attribute(catalog, "biome", {"train": ["w"], "test": ["d"]})
    assert found.split("train").ids == ["s0", "s2"]
    found = split_by_date(catalog, {"train": None, "val": "2021-05-01", "test": "2022-07-01"})
    assert [found.split(name).ids for name in ("train", "val", "test")] == [["s0"], ["s1", "s2"], ["s3"]]
    found = split_by_folder(catalog)
    assert [found.split(name).ids for name in ("train", "test")] == [["s0", "s1"], ["s2", "s3"]]
    assert found.split_names == ["train", "test"]


def test_scenes_that_overlap_stay_together_by_chance() -> None:
    # Pairs that overlap, and a chain of three.
    records = []
    for n in range(40):
        x = 300000 + 3000 * n
        records += [made_scene(f"a{n}", 100, 100, x=x), made_scene(f"b{n}", 100, 100, x=x + 600)]
    records.append(made_scene("bridge", 100, 100, x=300000 + 1500, y=5200000))
    catalog = split_by_chance(Catalog.from_records(records), {"train": 0.75, "test": 0.25})
    split = dict(zip(catalog.ids, catalog.column("split"), strict=True))
    assert all(split[f"a{n}"] == split[f"b{n}"] for n in range(40))
    assert split["a0"] == split["bridge"]
    assert np.mean([value == "train" for value in split.values()]) == pytest.approx(0.75, abs=0.04)
    check_leaks(catalog)
    with pytest.raises(ConfigurationError, match=r"make 1 group\(s\)"):
        split_by_chance(Catalog.from_records(records), {"train": 0.75, "test": 0.25}, buffer_m=5000)


def test_a_leak_names_the_scenes_and_their_distance() -> None:
    records = [made_scene("left", 100, 100), made_scene("right", 100, 100, x=501500.0), made_scene("far", 9, 9, x=6e5)]
    catalog = Catalog.from_records(records).with_column("split", ["train", "test", "test"])
    check_leaks(catalog, 499)
    with pytest.raises(
        LeakError, match=r"'right' of the split 'test' and scene 'left' of the split 'train' are 500 m apart"
    ) as found:
        check_leaks(catalog, 510)
    east = pyproj.Transformer.from_crs("EPSG:32632", "EPSG:4326", always_xy=True)
    one, other = east.transform(501000, 5200000), east.transform(501500, 5200000)
    assert found.value.leak.distance_m == pytest.approx(GEOD.inv(*one, *other)[2], rel=1e-3)


def test_borders_that_miss_each_other_by_millimetres_are_no_leak() -> None:
    """Of straight lines in two zones, whose overlap is needles of a kilometre and a thousandth of a metre."""
    rng = np.random.default_rng(4)
    along = np.linspace(9.0, 9.1, 60)
    borders = 47 + rng.normal(scale=1e-8, size=(2, 60))
    above = shapely.Polygon([*zip(along, borders[0], strict=True), (9.1, 47.05), (9.0, 47.05)])
    below = shapely.Polygon([*zip(along, borders[1], strict=True), (9.1, 46.95), (9.0, 46.95)])
    assert shapely.intersection(above, below).area > 0
    one, other = (["a"], np.array([above])), (["b"], np.array([below]))
    assert _worst(one, other, 0.0) is None
    wide = shapely.Polygon([*zip(along, borders[1] + 3e-6, strict=True), (9.1, 46.95), (9.0, 46.95)])
    assert _worst(one, (["b"], np.array([wide])), 0.0) == (("a", "b"), 0.0), "0.3 m"


def test_a_split_is_kept_with_the_catalog(tmp_path: Any) -> None:
    catalog = split_by_blocks(two_zones(), block_m=4000, buffer_m=300, seed=1)
    catalog.save(tmp_path / "c.parquet")
    again = Catalog.open(tmp_path / "c.parquet")
    for name in ("train", "val", "test"):
        one, other = catalog.split(name), again.split(name)
        assert one.ids == other.ids
        assert one.table.column("region").to_pylist() == other.table.column("region").to_pylist()
    assert again.notes["splits"]["buffer_m"] == 300
    assert split_by_blocks(again, block_m=4000, buffer_m=300, seed=1).table == catalog.table
    assert split_by_blocks(again, block_m=4000, buffer_m=300, seed=2).table != catalog.table


def test_what_cannot_be_split_is_refused() -> None:
    catalog = two_zones()
    with pytest.raises(ConfigurationError, match="no split 'train'; make one with geoaug split"):
        catalog.split("train")
    with pytest.raises(ConfigurationError, match="no split 'dev'; it has train, val, test"):
        split_by_blocks(catalog).split("dev")
    with pytest.raises(ConfigurationError, match=r"add up to 0.9"):
        split_by_blocks(catalog, {"a": 0.5, "b": 0.4})
    with pytest.raises(ConfigurationError, match="too few for 3 splits"):
        split_by_blocks(catalog, block_m=500_000)
    with pytest.raises(ConfigurationError, match="at least 2 x"):
        split_by_blocks(catalog, block_m=1000, buffer_m=900)
    with pytest.raises(ConfigurationError, match="'nowhere' has no CRS"):
        split_by_blocks(Catalog.from_records([made_scene("nowhere", 100, 100, crs=None)]))
    with pytest.raises(ConfigurationError, match="no column 'biome'"):
        split_by_attribute(catalog, "biome", {"train": ["x"]})
    with pytest.raises(ConfigurationError, match="no scene has the id 'x'"):
        split_by_attribute(catalog, "id", {"train": ["x"]})
    with pytest.raises(ConfigurationError, match="the split 'val' would hold no scene"):
        split_by_date(catalog, {"train": None, "val": "2030-01-01"})
    with pytest.raises(ConfigurationError, match="is no date"):
        split_by_date(catalog, {"train": "soon"})


def test_ground_across_the_date_line_is_split_like_any_other() -> None:
    records = [
        made_scene("west", 1000, 1000, gsd=20, x=695000, y=6000000, crs="EPSG:32660"),
        made_scene("east", 1000, 1000, gsd=20, x=290000, y=6000000, crs="EPSG:32601"),
    ]
    catalog = split_by_blocks(Catalog.from_records(records), block_m=3000, buffer_m=300)
    check_leaks(catalog, 300)
    check_leaks(catalog, 300, size=32)
    tiles = [len(GridTileSampler(CatalogTiles(catalog.split(name), 32))) for name in ("train", "val", "test")]
    assert np.array(tiles) / sum(tiles) == pytest.approx([0.7, 0.15, 0.15], abs=0.1)  # buffers take more off small ones
    whole = Catalog.from_records(records).with_column("split", ["train", "test"])
    with pytest.raises(LeakError, match="lie over each other"):
        check_leaks(whole)
    chance = split_by_chance(Catalog.from_records([*records, *two_zones()]), {"train": 0.6, "test": 0.4})
    assert len(set(chance.column("split")[:2])) == 1


@given(
    st.floats(100, 500_000),
    st.lists(st.tuples(st.floats(-180, 179.999), st.floats(-90, 90)), min_size=1, max_size=30),
)
def test_every_point_lies_in_the_block_that_is_told(side: float, points: list[tuple[float, float]]) -> None:
    blocks = GroundBlocks(side)
    longitude, latitude = np.array(points).T
    found = blocks.at(longitude, latitude)
    boxes = shapely.bounds(blocks.boxes(found))
    assert (boxes[:, 0] <= longitude + 1e-9).all()
    assert (longitude <= boxes[:, 2] + 1e-9).all()
    assert (boxes[:, 1] <= latitude + 1e-9).all()
    assert (latitude <= boxes[:, 3] + 1e-9).all()
    for place, block in zip(points, found.tolist(), strict=True):
        assert block in blocks.around((place[0], place[1], place[0], place[1]))


def test_blocks_have_about_one_area_everywhere() -> None:
    blocks = GroundBlocks(10_000)
    for latitude in (0.0, 35.0, -52.0, 70.0):
        (box,) = blocks.boxes(blocks.at(np.array([13.0]), np.array([latitude])))
        outline = shapely.segmentize(box, 0.001)
        area = abs(GEOD.geometry_area_perimeter(outline)[0])
        assert area == pytest.approx(1e8, rel=0.01)


@pytest.mark.slow
def test_many_thousand_chips_are_split_in_seconds() -> None:
    catalog = split_by_blocks(chips(150), block_m=10_000, buffer_m=100)
    assert len(catalog) == 150**2
    check_leaks(catalog, 100)


def test_tiles_lie_across_the_seams_of_blocks_of_one_split() -> None:
    """Blocks meet along edges that bend a little differently on a plane: no tile may be lost to that."""
    scene = made_scene("s", 1000, 1000, gsd=100.0, x=300000, y=5400000)
    catalog = split_by_blocks(Catalog.from_records([scene]), {"a": 0.8, "b": 0.2}, block_m=20_000, seed=0)
    part = catalog.split("a")
    region = RegionGround(CatalogTiles(part, 100)).region(0)
    holes = [hole for piece in shapely.get_parts(region) for hole in piece.interiors]
    assert all(shapely.Polygon(hole).area > 1 for hole in holes), "no slivers, in pixels"
    # Where tiles may begin, by pixels alone: those whose pixels all lie in the region.
    inside = rasterio.features.rasterize([(region, 1)], (1000, 1000)).astype(bool)
    sums = np.pad(inside.astype(int).cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    allowed = sums[100:, 100:] - sums[:-100, 100:] - sums[100:, :-100] + sums[:-100, :-100] == 100 * 100
    places = np.array([(tile.row, tile.col) for tile in RandomTileSampler(CatalogTiles(part, 100), 20_000, seed=1)])
    assert allowed[tuple(places.T)].mean() > 0.98  # centres of pixels tell of corners up to a half
    edges = np.linspace(0, 901, 10)
    rows, cols = np.nonzero(allowed)
    expected, _, _ = np.histogram2d(rows, cols, bins=[edges, edges])
    found, _, _ = np.histogram2d(*places.T, bins=[edges, edges])
    many = expected > 3000  # of 10,000: nearly all of a bin may hold tiles, or a good part
    ratio = (found / found.sum())[many] / (expected / expected.sum())[many]
    assert ratio.min() > 0.7
    assert ratio.max() < 1.3


def test_ground_that_a_tile_can_cover_counts_in_a_check_of_tiles() -> None:
    """Tiles drawn at random lie anywhere, so borders that meet are a leak whatever the tile; narrow strips are none."""
    scene = made_scene("s", 2000, 2000, x=400000, y=5400000)
    catalog = split_by_blocks(Catalog.from_records([scene]), {"train": 0.5, "test": 0.5}, block_m=5000)
    check_leaks(catalog, size=64)
    for distance in (1, 5, 100):
        with pytest.raises(LeakError, match=r"apart|meet or lie over"):
            check_leaks(catalog, distance, size=64)
    strip = made_scene("strip", 40, 2000, x=400000, y=5400000 + 390)
    whole = Catalog.from_records([scene, strip]).with_column("split", ["train", "test"])
    with pytest.raises(LeakError):
        check_leaks(whole, 100)
