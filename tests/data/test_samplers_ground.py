"""Tiles lie where a survey saw valid pixels and where a split lets them, and are uniform there."""

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import shapely
from made_catalogs import made_catalog, made_scene
from scipy.stats import chisquare

from geoaug.data import Catalog, GridTileSampler, LocalityTileSampler, RandomTileSampler, TileRef, tile_grid
from geoaug.data.raster.grid import reproject_points
from geoaug.data.sampling.coverage import Coverage, coverage_column
from geoaug.data.sampling.tile_ground import TileGround
from geoaug.data.sampling.tile_source import CatalogTiles
from geoaug.errors import ConfigurationError

LEAST_P = 1e-3
TILE = 64


def locality(source: Any, length: int, **options: Any) -> LocalityTileSampler:
    return LocalityTileSampler(source, length, **{"mixed": 5, "windows": 6, **options})


DRAWN = [RandomTileSampler, locality]
Make = Callable[..., Any]


def surveyed(*masks: np.ndarray | None, block: tuple[int, int] = (64, 64)) -> Catalog:
    sizes = [(300, 400) if mask is None else mask.shape for mask in masks]
    found = [None if mask is None else Coverage.count(mask) for mask in masks]
    return made_catalog(sizes, block=block).with_column("coverage", coverage_column(found))


def half_valid() -> np.ndarray:
    mask = np.zeros((300, 400), dtype=bool)
    mask[:, :160] = True
    mask[200:, :] = True
    return mask


def points(tiles: list[TileRef], shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Where in the scene the tiles' points lie: each divides its tile as it divides the scene."""
    rows, cols = np.array([tile.row for tile in tiles]), np.array([tile.col for tile in tiles])
    sizes = shape[0] - TILE + 1, shape[1] - TILE + 1
    return (rows + 0.5) / sizes[0] * shape[0], (cols + 0.5) / sizes[1] * shape[1]


@pytest.mark.slow
@pytest.mark.parametrize("make", DRAWN)
def test_points_are_uniform_over_valid_ground_and_nowhere_else(make: Make) -> None:
    mask = half_valid()
    tiles = list(make(CatalogTiles(surveyed(mask), TILE), 12000, seed=2))
    row, col = points(tiles, mask.shape)
    # Cells of 16 pixels do not divide 200: the 9th row of cells is half valid.
    share = Coverage.count(mask).valid.repeat(16, 0).repeat(16, 1)[:300, :400]
    assert (share[row.astype(int), col.astype(int)] > 0).all()
    edges = np.arange(0, 301, 50), np.arange(0, 401, 50)
    counts = np.histogram2d(row, col, bins=edges)[0]
    ground = share.reshape(6, 50, 8, 50).sum((1, 3))
    expected = ground / ground.sum() * len(tiles)
    there = ground > 0
    assert counts[~there].sum() == 0
    assert ((counts - expected)[there] ** 2 / expected[there]).sum() / there.sum() < 1.6


@pytest.mark.parametrize("make", DRAWN)
def test_scenes_are_drawn_by_their_valid_ground(make: Make) -> None:
    sparse = np.zeros((300, 400), dtype=bool)
    sparse[100:130, 100:150] = True
    source = CatalogTiles(surveyed(half_valid(), None, sparse), TILE)
    drawn = np.bincount([tile.scene for tile in make(source, 4000, seed=1)], minlength=3)
    valid = np.array([half_valid().sum(), 300 * 400, sparse.sum()])
    np.testing.assert_allclose(drawn / 4000, valid / valid.sum(), atol=0.03)


@pytest.mark.parametrize("make", [*DRAWN, GridTileSampler])
def test_tiles_that_cannot_hold_enough_valid_pixels_are_not_given(make: Make) -> None:
    mask = half_valid()
    source = CatalogTiles(surveyed(mask), TILE)
    options = {"min_valid": 0.9}
    sampler = make(source, **options) if make is GridTileSampler else make(source, 1500, **options)
    shares = [mask[t.row : t.row + TILE, t.col : t.col + TILE].mean() for t in sampler]
    assert min(shares) > 0.7
    assert np.mean([share >= 0.9 for share in shares]) > 0.9
    # None that would do is lost.
    every = GridTileSampler(CatalogTiles(made_catalog([mask.shape]), TILE), stride=7)
    good = {t[:3] for t in every if mask[t.row : t.row + TILE, t.col : t.col + TILE].mean() >= 0.9}
    ground = TileGround(source, min_valid=0.9)
    scene, row, col = (np.array(values) for values in zip(*good, strict=True))
    assert (ground.most_valid(scene, row, col) >= 0.9).all()


@pytest.mark.slow
def test_a_sparse_scene_gives_its_few_places() -> None:
    mask = np.zeros((4000, 4000), dtype=bool)
    mask[3000:3050, 200:260] = True
    for make in DRAWN:
        tiles = list(make(CatalogTiles(surveyed(mask, block=(512, 512)), TILE), 300))
        held = [mask[t.row : t.row + TILE, t.col : t.col + TILE].any() for t in tiles]
        assert np.mean(held) > 0.4  # one in a thousand of all places would


def test_chips_without_a_valid_pixel_are_never_drawn() -> None:
    full, empty = np.ones((64, 64), dtype=bool), np.zeros((64, 64), dtype=bool)
    source = CatalogTiles(surveyed(full, empty, full, empty), TILE)
    for make in (*DRAWN, lambda source, _: GridTileSampler(source)):
        assert {tile.scene for tile in make(source, 40)} == {0, 2}
    with pytest.raises(ConfigurationError, match="no scene has any ground"):
        RandomTileSampler(CatalogTiles(surveyed(empty, empty), TILE), 5)


def in_region(catalog: Catalog, *polygons: shapely.Geometry | None) -> Catalog:
    """The catalog with regions given in metres of UTM zone 32."""
    stored = [
        None
        if polygon is None
        else shapely.to_wkb(
            shapely.transform(
                shapely.segmentize(polygon, 200.0),
                lambda xy: np.stack(reproject_points(xy[:, 0], xy[:, 1], "EPSG:32632", "EPSG:4326"), axis=1),
            )
        )
        for polygon in polygons
    ]
    return catalog.with_column("region", stored)


# A triangle and a square in a scene of 3000 x 4000 m whose upper left corner is at 500000, 5200000.
REGION = shapely.MultiPolygon(
    [
        shapely.Polygon([(500100, 5199900), (502000, 5199950), (500200, 5198000)]),
        shapely.box(502503.0, 5197104.0, 503707.0, 5198206.0),
    ]
)


def on_the_ground(row: Any, col: Any) -> Any:
    return shapely.box(500000 + 10 * col, 5200000 - 10 * (row + TILE), 500000 + 10 * (col + TILE), 5200000 - 10 * row)


@pytest.mark.slow
@pytest.mark.parametrize("make", [*DRAWN, GridTileSampler])
def test_tiles_lie_wholly_in_their_regions(make: Make) -> None:
    source = CatalogTiles(in_region(made_catalog([(300, 400), (300, 400)]), REGION, None), TILE)
    tiles = list(make(source, stride=9) if make is GridTileSampler else make(source, 2000))
    boxes = [on_the_ground(t.row, t.col) for t in tiles if t.scene == 0]
    assert len(boxes) > 20
    assert shapely.covers(shapely.buffer(REGION, 0.01), boxes).all()
    if make is GridTileSampler:
        assert {(t.row, t.col) for t in tiles if t.scene == 1} == {(w.row, w.col) for w in tile_grid(300, 400, TILE, 9)}
        possible = shapely.union_all([on_the_ground(row, col) for row in range(237) for col in range(337)
                                      if REGION.covers(on_the_ground(row, col))])  # fmt: skip
        assert shapely.union_all(boxes).area > 0.93 * possible.area
        order = [(t.scene, t.row // 512) for t in tiles]
        assert order == sorted(order)


def test_regions_have_grids_of_their_own_and_edges_are_dropped_where_told() -> None:
    wide, small = shapely.box(500105, 5183000, 519000, 5199895), shapely.box(520125, 5198930, 520975, 5199835)
    catalog = in_region(made_catalog([(3000, 3000)]), shapely.MultiPolygon([wide, small]))
    tiles = [(t.row, t.col) for t in GridTileSampler(CatalogTiles(catalog, TILE))]
    assert len(set(tiles)) == len(tiles)
    every = shapely.union_all([on_the_ground(*place) for place in tiles])
    assert shapely.intersection(every, wide).area > 0.97 * wide.area
    assert len(tiles) < 1.15 * wide.area / (10 * TILE) ** 2
    others = [place for place in tiles if place[1] >= 1950]
    assert len(others) == 4, "85 x 90 pixels: two tiles of 64 along each axis, shifted"
    dropped = GridTileSampler(CatalogTiles(catalog, TILE), edge="drop")
    assert len([t for t in dropped if t.col >= 1950]) == 1


@pytest.mark.slow
@pytest.mark.parametrize("make", DRAWN)
def test_tiles_are_uniform_over_the_places_that_a_region_holds(make: Make) -> None:
    source = CatalogTiles(in_region(made_catalog([(300, 400)]), REGION), TILE)
    places = np.zeros((237, 337), dtype=int)
    rows, cols = np.mgrid[0:237, 0:337]
    shapely.prepare(REGION)
    places[:] = shapely.covers(REGION, on_the_ground(rows, cols))
    counts = np.zeros_like(places)
    tiles = list(make(source, 6000, seed=4))
    for tile in tiles:
        counts[tile.row, tile.col] += 1
    edges = [np.arange(0, size, 12) for size in places.shape]
    pooled = np.add.reduceat(np.add.reduceat(counts, edges[0], 0), edges[1], 1)
    expected = np.add.reduceat(np.add.reduceat(places, edges[0], 0), edges[1], 1) * (len(tiles) / places.sum())
    assert pooled[expected == 0].sum() <= 3  # by the millimetres between two ways to the same border
    enough = expected > 5
    statistic = ((pooled - expected)[enough] ** 2 / expected[enough]).sum() / enough.sum()
    assert statistic < 1.5


def test_scenes_are_drawn_by_the_places_of_their_regions() -> None:
    catalog = in_region(made_catalog([(300, 400), (300, 400)]), shapely.box(500000, 5197000, 502000, 5200000), None)
    drawn = np.bincount([t.scene for t in RandomTileSampler(CatalogTiles(catalog, TILE), 6000)], minlength=2)
    # Columns 0 to 136 of 337 for the first scene.
    expected = np.array([137 / 337, 1.0])
    assert chisquare(drawn, expected / expected.sum() * 6000).pvalue > LEAST_P


def test_a_region_too_narrow_for_a_tile_gives_none() -> None:
    narrow = shapely.box(500000, 5197000, 500600, 5200000)
    catalog = in_region(made_catalog([(300, 400), (300, 400)]), narrow, None)
    assert {t.scene for t in RandomTileSampler(CatalogTiles(catalog, TILE), 200)} == {1}
    with pytest.raises(ConfigurationError, match="no scene has any ground"):
        RandomTileSampler(CatalogTiles(catalog.select([0]), TILE), 5)


def test_a_region_of_a_scene_without_a_crs_is_refused() -> None:
    catalog = in_region(Catalog.from_records([made_scene("nowhere", 100, 100, crs=None)]), REGION)
    with pytest.raises(ConfigurationError, match="'nowhere' has a region on the ground, but no CRS"):
        RandomTileSampler(CatalogTiles(catalog, TILE), 5)


@pytest.mark.parametrize("edge", ["shift", "drop", "pad"])
def test_the_grid_covers_scenes_as_the_edge_policy_says(edge: Any) -> None:
    source = CatalogTiles(made_catalog([(200, 333), (64, 64), (130, 70)]), TILE)
    for stride in (64, 40, 100, 150):
        tiles = list(GridTileSampler(source, stride=stride, edge=edge))
        for scene, (height, width) in enumerate([(200, 333), (64, 64), (130, 70)]):
            found = sorted((tile.row, tile.col) for tile in tiles if tile.scene == scene)
            if edge != "pad":
                assert found == sorted((w.row, w.col) for w in tile_grid(height, width, TILE, stride, edge=edge))
                continue
            assert all(row % stride == col % stride == 0 for row, col in found)
            assert all(row < height and col < width for row, col in found)
            assert (
                len(found)
                == len(set(found))
                == min(-(-height // stride), -(-(height - TILE) // stride) + 1)
                * min(-(-width // stride), -(-(width - TILE) // stride) + 1)
            )
            if stride <= TILE:
                count = np.zeros((height, width), dtype=int)
                for row, col in found:
                    count[row : row + TILE, col : col + TILE] += 1
                assert count.min() >= 1


def test_the_grid_gives_any_slice_and_reads_a_block_at_a_time() -> None:
    source = CatalogTiles(made_catalog([(1000, 1500), (512, 700)], block=(256, 256)), 128)
    sampler = GridTileSampler(source)
    whole = list(sampler)
    assert sampler.between(0, len(sampler)) == whole
    assert sampler.between(13, 29) == whole[13:29]
    assert sampler.between(len(whole) - 2, len(whole) + 5) == whole[-2:]
    blocks = [(t.scene, t.row // 256, t.col // 256) for t in whole if t.row % 128 == t.col % 128 == 0]
    runs = [key for key, _ in itertools.groupby(blocks)]
    assert len(runs) == len(set(runs)), "tiles of a block follow each other"


def test_a_grid_without_tiles_says_so() -> None:
    source = CatalogTiles(made_catalog([(40, 300)]), TILE)
    with pytest.raises(ConfigurationError, match="take smaller tiles"):
        GridTileSampler(source, edge="drop")
    with pytest.raises(ConfigurationError, match="stride is 0"):
        GridTileSampler(source, stride=0)
    with pytest.raises(ConfigurationError, match="edge is 'mirror'"):
        GridTileSampler(source, edge="mirror")  # type: ignore[arg-type]
