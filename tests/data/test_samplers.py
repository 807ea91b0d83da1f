"""Orders of tiles: what is drawn how often, by whom, and how an order is taken up again."""

import itertools
from collections import Counter
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_catalogs import made_catalog, made_scene
from scipy.stats import chisquare

from geoaug.data import (
    Catalog,
    GridTileSampler,
    LocalityTileSampler,
    RandomTileSampler,
    TileRef,
    WeightedTileSampler,
)
from geoaug.data.sampling.locality_sampler import RegionAxis, region_side
from geoaug.data.sampling.tile_source import CatalogTiles
from geoaug.errors import ConfigurationError

LEAST_P = 1e-3  # seeds are fixed: these are not chances to fail, but measures


def random(source: Any, length: int, **options: Any) -> RandomTileSampler:
    return RandomTileSampler(source, length, **options)


def locality(source: Any, length: int, **options: Any) -> LocalityTileSampler:
    return LocalityTileSampler(source, length, **{"mixed": 5, "windows": 7, **options})


def grid(source: Any, length: int, **options: Any) -> GridTileSampler:
    return GridTileSampler(source, **options)


def weighted(source: Any, length: int, **options: Any) -> WeightedTileSampler:
    return WeightedTileSampler(source, np.arange(1, len(source.catalog) + 1), length, **options)


ALL = [random, locality, grid, weighted]
DRAWN = [random, locality, weighted]
Make = Callable[..., Any]


def scenes_source() -> CatalogTiles:
    return CatalogTiles(made_catalog([(200, 320), (128, 128), (65, 300)]), 64)


@pytest.mark.parametrize("make", DRAWN)
def test_an_order_lies_inside_the_scenes_and_has_its_length(make: Make) -> None:
    source = scenes_source()
    tiles = list(make(source, 500))
    assert len(tiles) == 500
    for tile in tiles:
        assert 0 <= tile.row <= source.grids.height[tile.scene] - 64
        assert 0 <= tile.col <= source.grids.width[tile.scene] - 64
    assert len({tile.key for tile in tiles}) == 500


@pytest.mark.parametrize("make", [random, locality])
def test_scenes_are_drawn_by_their_ground_and_not_by_their_pixels_or_number(make: Make) -> None:
    records = [
        made_scene("coarse", 100, 120, gsd=20.0),
        made_scene("fine", 300, 200, gsd=5.0),
        made_scene("degrees", 300, 300, gsd=1e-4, x=10.0, y=60.0, crs="EPSG:4326"),
    ]
    source = CatalogTiles(Catalog.from_records(records), 32)
    # A degree of latitude is 111.32 km on the sphere that the scale of pixels is taken from.
    degrees = (300 * 1e-4 * 111_319.49) ** 2 * np.cos(np.radians(60.0 - 0.015))
    area = np.array([100 * 120 * 400.0, 300 * 200 * 25.0, degrees])
    count = 6000
    drawn = np.bincount([tile.scene for tile in make(source, count, seed=3)], minlength=3)
    if make is random:
        assert chisquare(drawn, area / area.sum() * count).pvalue > LEAST_P
    else:  # regions are gone through in turn: nearer than chance
        np.testing.assert_allclose(drawn / count, area / area.sum(), atol=0.02)


def place_counts(tiles: list[TileRef], places: tuple[int, int], cell: int) -> tuple[np.ndarray, np.ndarray]:
    """How many tiles begin in each cell of the places, and how many places each has."""
    edges = [np.append(np.arange(0, size, cell), size) for size in places]
    rows, cols = np.array([tile.row for tile in tiles]), np.array([tile.col for tile in tiles])
    counts = np.histogram2d(rows, cols, bins=edges)[0]
    return counts, np.outer(np.diff(edges[0]), np.diff(edges[1]))


@pytest.mark.parametrize("make", [random, pytest.param(locality, marks=pytest.mark.slow)])
def test_every_place_of_a_scene_is_drawn_equally_often(make: Make) -> None:
    source = CatalogTiles(made_catalog([(330, 270)]), 64)
    count = 40000
    counts, places = place_counts(list(make(source, count, seed=1)), (267, 207), 20)
    expected = places / places.sum() * count
    statistic = ((counts - expected) ** 2 / expected).sum() / counts.size
    # Regions are gone through evenly, which can only come nearer to the mean than chance does; a bias would show.
    assert statistic < (1.25 if make is random else 1.1)
    assert abs(counts[-1].sum() / expected[-1].sum() - 1) < 0.1


@given(
    st.integers(1, 300), st.integers(1, 70), st.integers(1, 90), st.one_of(st.none(), st.integers(1, 200)), st.data()
)
def test_regions_share_all_places_evenly(
    length: int, tile: int, block: int, wanted: int | None, data: st.DataObject
) -> None:
    blocks = np.array([min(block, length)])
    side = region_side(tile, blocks, wanted)
    axis = RegionAxis(np.array([length]), tile, blocks, side)
    steps = 40 * int(axis.starts[0])
    scene = np.zeros(steps, dtype=np.int64)
    region, share = axis.split(scene, (np.arange(steps) + 0.5) / steps)
    begun = axis.begin(scene, region, share)
    # The shares of regions times what each does with a share of its own are the uniform distribution.
    np.testing.assert_allclose(np.bincount(begun, minlength=axis.starts[0]) / 40, 1, atol=0.2)
    if length > tile:
        assert (begun - region * axis.step[0] >= 0).all()
        assert (begun + tile - region * axis.step[0] <= side[0]).all()
    assert (axis.step % blocks == 0).all()


def test_chips_come_once_each_before_any_comes_again() -> None:
    source = CatalogTiles(made_catalog([(64, 64)] * 300), 64)
    sampler = locality(source, 300, windows=None, mixed=16)
    epochs = []
    for epoch in range(2):
        sampler.set_epoch(epoch)
        epochs.append([tile.scene for tile in sampler])
        assert sorted(epochs[-1]) == list(range(300))
    assert epochs[0] != epochs[1]


@pytest.mark.parametrize("make", ALL)
def test_an_order_is_taken_up_anywhere(make: Make) -> None:
    sampler = make(scenes_source(), 400, seed=5)
    sampler.set_epoch(3)
    whole = list(sampler)
    for start in (0, 1, 17, len(whole) - 1):
        assert list(itertools.islice(sampler.order(start), len(whole) - start)) == whole[start:]


@pytest.mark.parametrize("make", ALL)
def test_an_epoch_goes_on_after_a_stop(make: Make) -> None:
    sampler = make(scenes_source(), 40, seed=5)
    sampler.set_epoch(2)
    whole = list(sampler)
    begun = iter(sampler)
    for _ in range(7):
        next(begun)
    state = sampler.state_dict()
    other = make(scenes_source(), 40)
    other.load_state_dict(state)
    assert other.state_dict() == state
    other.set_epoch(2)  # as trainers do before each epoch
    assert list(other) == whole[7:]
    assert list(other) == whole, "the next epoch is a whole one"


@pytest.mark.parametrize("make", ALL)
def test_seeds_and_epochs_change_keys_and_orders(make: Make) -> None:
    def tiles(seed: int, epoch: int) -> list[TileRef]:
        sampler = make(scenes_source(), 40, seed=seed)
        sampler.set_epoch(epoch)
        return list(sampler)

    first = tiles(1, 0)
    assert first == tiles(1, 0)
    for other in (tiles(2, 0), tiles(1, 1)):
        assert not {tile.key for tile in first} & {tile.key for tile in other}
        if make is not grid:
            assert [tile[:3] for tile in first] != [tile[:3] for tile in other]


@pytest.mark.parametrize("make", ALL)
@pytest.mark.parametrize("world_size", [3, pytest.param(2, marks=pytest.mark.slow)])
def test_processes_share_an_epoch(make: Make, world_size: int) -> None:
    length = 400
    single = list(make(scenes_source(), length, seed=5))
    parts = [
        list(make(scenes_source(), length, seed=5, rank=rank, world_size=world_size)) for rank in range(world_size)
    ]
    assert len({len(part) for part in parts}) == 1
    together = [tile for turn in zip(*parts, strict=True) for tile in turn]
    if make is locality:
        assert len({tile.key for tile in together}) == len(together)
    elif make is grid:
        assert together[: len(single)] == single
        assert together[len(single) :] == single[: len(together) - len(single)]
    else:
        assert together[: len(single)] == single
        assert len(together) - len(single) < world_size


def test_processes_have_regions_of_their_own() -> None:
    source = CatalogTiles(made_catalog([(64, 64)] * 90), 64)
    parts = [[t.scene for t in locality(source, 90, windows=None, rank=r, world_size=2)] for r in range(2)]
    assert sorted(parts[0] + parts[1]) == list(range(90))


def test_a_run_of_the_locality_order_holds_each_region_in_use_once() -> None:
    source = CatalogTiles(made_catalog([(128, 128)] * 200, block=(128, 128)), 32)
    tiles = list(LocalityTileSampler(source, 3000, mixed=12, windows=6))
    for start in range(0, 1000, 12):  # the first round of all scenes
        assert len({tile.scene for tile in tiles[start : start + 12]}) == 12
    visits = Counter(tile.scene for tile in tiles)
    assert max(visits.values()) <= 3 * 6


@pytest.mark.parametrize("make", ALL)
def test_a_scene_smaller_than_a_tile_is_held_whole(make: Make) -> None:
    source = CatalogTiles(made_catalog([(40, 300), (300, 50)]), 64)
    for tile in itertools.islice(make(source, 60).order(), 200 if make is not grid else None):
        height, width = source.grids.height[tile.scene], source.grids.width[tile.scene]
        assert (tile.row <= 0 and tile.row + 64 >= height) if height < 64 else 0 <= tile.row <= height - 64
        assert (tile.col <= 0 and tile.col + 64 >= width) if width < 64 else 0 <= tile.col <= width - 64


def test_weights_decide_how_often_a_scene_is_drawn() -> None:
    catalog = made_catalog([(200, 200), (80, 80), (100, 300)]).with_column("importance", [1.0, 3.0, 0.0])
    source = CatalogTiles(catalog, 64)
    for weights in ("importance", [1, 3, 0]):
        drawn = np.bincount([t.scene for t in WeightedTileSampler(source, weights, 4000)], minlength=3)
        assert drawn[2] == 0
        assert chisquare(drawn[:2], [1000, 3000]).pvalue > LEAST_P


@pytest.mark.parametrize(
    ("weights", "said"),
    [
        ([1, 2], "2 weights for 3 scenes"),
        ([1, -1, 0], "'s1' has the weight -1"),
        ([0, 0, 0], "no scene"),
        ("path", "numbers"),
    ],
)
def test_weights_that_are_none_are_refused(weights: Any, said: str) -> None:
    source = CatalogTiles(made_catalog([(200, 200)] * 3), 64)
    with pytest.raises(ConfigurationError, match=said):
        WeightedTileSampler(source, weights, 10)


def test_what_cannot_be_meant_is_refused() -> None:
    source = scenes_source()
    with pytest.raises(ConfigurationError, match="epoch of 0 tiles"):
        RandomTileSampler(source, 0)
    with pytest.raises(ConfigurationError, match="rank 2 of 2"):
        RandomTileSampler(source, 5, rank=2, world_size=2)
    with pytest.raises(ConfigurationError, match="go together"):
        RandomTileSampler(source, 5, rank=0)
    with pytest.raises(ConfigurationError, match="windows is 0"):
        LocalityTileSampler(source, 5, windows=0)
    with pytest.raises(ConfigurationError, match="holds no scene"):
        RandomTileSampler(CatalogTiles(source.catalog.select([]), 64), 5)
    state = RandomTileSampler(source, 5).state_dict()
    with pytest.raises(ConfigurationError, match="epoch of 5 tiles"):
        RandomTileSampler(source, 6).load_state_dict(state)


def test_a_tile_that_was_left_out_has_others_in_its_place() -> None:
    for make in DRAWN:
        sampler = make(scenes_source(), 100)
        found = [sampler.replacement(7, attempt) for attempt in (1, 2, 1)]
        assert found[0] == found[2] != found[1]
        assert found[0].key == list(sampler)[7].key


def test_as_many_regions_are_mixed_as_the_memory_for_blocks_holds() -> None:
    source: Any = CatalogTiles(made_catalog([(4096, 4096)] * 3, block=(512, 512)), 256)
    sampler = LocalityTileSampler(source, 10)
    assert (sampler.windows, sampler.mixed, sampler.regions) == (32, 16, 3 * 7 * 7)
    source.tile_bytes = 256 * 256 * 27
    for megabytes, mixed in ((16, 8), (512, 15), (2048, 60), (10**5, 128)):
        source.memory = SimpleNamespace(chunks=megabytes * 2**20)
        sampler = LocalityTileSampler(source, 10)
        assert sampler.mixed == mixed
        # All decoded scenes are 1.3 GB: where they stay in memory, windows need not come from few regions.
        assert sampler.windows == (1 if megabytes == 10**5 or 0.8 * megabytes * 2**20 >= 3 * 4096**2 * 27 else 32)
    assert LocalityTileSampler(source, 10, windows=7).windows == 7


def test_regions_follow_the_blocks() -> None:
    for block, tile, windows in ((256, 256, 8), (512, 256, 32), (128, 64, 32), (512, 512, 8)):
        catalog = made_catalog([(4096, 4096)], block=(block, block))
        assert LocalityTileSampler(CatalogTiles(catalog, tile), 10).windows == windows
    # Strips are as wide as the scene, so a region is, too; chips are regions of one tile.
    strips = LocalityTileSampler(CatalogTiles(made_catalog([(1000, 900)], block=(8, 900)), 128), 10)
    assert strips.windows == round(2 * 256 * 900 / 128**2)
    assert LocalityTileSampler(CatalogTiles(made_catalog([(100, 100)] * 5), 64), 10).windows in (1, 5)
