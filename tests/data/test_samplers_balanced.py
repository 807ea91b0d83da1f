"""Classes are drawn as often as is wanted, and tiles hold them."""

from typing import Any

import numpy as np
import pytest
import shapely
from made_catalogs import made_catalog, made_scene
from scipy.stats import chisquare

from geoaug.data import BalancedTileSampler, Catalog
from geoaug.data.raster.grid import reproject_points
from geoaug.data.sampling.coverage import Coverage, coverage_column
from geoaug.data.sampling.tile_source import CatalogTiles
from geoaug.errors import ConfigurationError

LEAST_P = 1e-3
TILE = 64


def labelled() -> tuple[Catalog, list[np.ndarray]]:
    """Two scenes: class 1 nearly everywhere, class 5 in a corner of one and a strip of the other, class 9 in a spot."""
    masks = [np.ones((300, 400), dtype=np.uint8), np.ones((200, 200), dtype=np.uint8)]
    masks[0][260:, 352:] = 5
    masks[1][:, 96:112] = 5
    masks[1][16:32, 160:176] = 9
    masks[1][:, :32] = 255
    found = [Coverage.count(np.ones(mask.shape, dtype=bool), mask) for mask in masks]
    catalog = made_catalog([mask.shape for mask in masks]).with_column("coverage", coverage_column(found))
    return catalog.with_notes(classes=["", "field", "", "", "", "water"]), masks


def classes_of(tiles: Any, masks: list[np.ndarray]) -> list[set[int]]:
    return [set(np.unique(masks[t.scene][t.row : t.row + TILE, t.col : t.col + TILE]).tolist()) for t in tiles]


def test_every_tile_holds_its_class_and_rare_ones_come_as_often() -> None:
    catalog, masks = labelled()
    sampler = BalancedTileSampler(CatalogTiles(catalog, TILE), 3000, seed=1)
    assert sampler.classes == [1, 5, 9]
    held = classes_of(sampler, masks)
    assert np.mean([9 in found for found in held]) >= 0.33
    assert np.mean([5 in found for found in held]) >= 0.33
    only = BalancedTileSampler(CatalogTiles(catalog, TILE), 300, probabilities={"water": 1.0})
    assert all(5 in found for found in classes_of(only, masks))
    # Scenes in proportion to what they hold of it.
    scene = np.bincount([tile.scene for tile in BalancedTileSampler(only.source, 4000, probabilities={5: 2})])
    pixels = np.array([(mask == 5).sum() for mask in masks])
    assert chisquare(scene, pixels / pixels.sum() * 4000).pvalue > LEAST_P


def test_a_tile_lies_anywhere_around_what_it_holds() -> None:
    catalog, _ = labelled()
    tiles = list(BalancedTileSampler(CatalogTiles(catalog, TILE), 2000, probabilities={9: 1}))
    rows, cols = {tile.row for tile in tiles}, {tile.col for tile in tiles}
    # The spot is the cell of rows 16 to 31 and columns 160 to 175; the scene ends at 200.
    assert (min(rows), max(rows)) == (0, 16)
    assert (min(cols), max(cols)) == (112, 136)
    assert len(rows) == 17
    assert len(cols) == 25


def test_powers_go_from_all_alike_to_as_they_come() -> None:
    catalog, masks = labelled()
    pixels = np.array([sum((mask == label).sum() for mask in masks) for label in (1, 5, 9)], dtype=float)
    for alpha in (0.0, 0.5, 1.0):
        sampler = BalancedTileSampler(CatalogTiles(catalog, TILE), 10, alpha=alpha)
        np.testing.assert_allclose(sampler.probabilities, pixels**alpha / (pixels**alpha).sum(), rtol=1e-6)


def test_chips_are_drawn_by_their_class() -> None:
    labels = ["forest"] * 90 + ["lake"] * 9 + ["city"]
    catalog = Catalog.from_records(made_scene(f"c{n}", 64, 64, label=label) for n, label in enumerate(labels))
    drawn = [labels[tile.scene] for tile in BalancedTileSampler(CatalogTiles(catalog, TILE), 3000)]
    assert chisquare([drawn.count(name) for name in ("forest", "lake", "city")]).pvalue > LEAST_P
    sampler = BalancedTileSampler(CatalogTiles(catalog, TILE), 500, probabilities={"lake": 3, "city": 1})
    drawn = [labels[tile.scene] for tile in sampler]
    assert chisquare([drawn.count("lake"), drawn.count("city")], [375, 125]).pvalue > LEAST_P
    assert "forest" not in drawn


def test_processes_and_resuming_are_those_of_all_samplers() -> None:
    source = CatalogTiles(labelled()[0], TILE)
    whole = list(BalancedTileSampler(source, 100, seed=2))
    parts = [list(BalancedTileSampler(source, 100, seed=2, rank=rank, world_size=2)) for rank in range(2)]
    assert [tile for pair in zip(*parts, strict=True) for tile in pair] == whole
    again = BalancedTileSampler(source, 100, seed=2)
    again.load_state_dict({**again.state_dict(), "position": 40})
    assert list(again) == whole[40:]
    assert again.replacement(3, 1) == again.replacement(3, 1) != again.replacement(3, 2)


def test_a_split_keeps_its_ground_for_each_class() -> None:
    catalog, masks = labelled()
    square = shapely.box(500000 + 10 * 180, 5200000 - 10 * 300, 500000 + 10 * 400, 5200000 - 10 * 150)
    region = shapely.transform(
        square, lambda xy: np.stack(reproject_points(xy[:, 0], xy[:, 1], "EPSG:32632", "EPSG:4326"), axis=1)
    )
    part = catalog.select([0]).with_column("region", [shapely.to_wkb(region)])
    tiles = list(BalancedTileSampler(CatalogTiles(part, TILE), 300))
    assert min(tile.row for tile in tiles) >= 149
    assert min(tile.col for tile in tiles) >= 179
    assert np.mean([5 in found for found in classes_of(tiles, masks)]) >= 0.5
    other = shapely.transform(
        shapely.box(500000, 5198500, 502000, 5200000),
        lambda xy: np.stack(reproject_points(xy[:, 0], xy[:, 1], "EPSG:32632", "EPSG:4326"), axis=1),
    )
    dry = catalog.select([0]).with_column("region", [shapely.to_wkb(other)])
    with pytest.raises(ConfigurationError, match="no scene holds the class 5 where tiles may lie"):
        BalancedTileSampler(CatalogTiles(dry, TILE), 10, probabilities={5: 1})


def test_what_is_not_known_of_classes_is_said() -> None:
    with pytest.raises(ConfigurationError, match="stats --update-catalog"):
        BalancedTileSampler(CatalogTiles(made_catalog([(100, 100)]), TILE), 10)
    catalog = labelled()[0]
    with pytest.raises(ConfigurationError, match="no scene holds the class 7; there are 1, 5, 9"):
        BalancedTileSampler(CatalogTiles(catalog, TILE), 10, probabilities={7: 1})
    with pytest.raises(ConfigurationError, match="must be 0 or more"):
        BalancedTileSampler(CatalogTiles(catalog, TILE), 10, probabilities={5: -1})
    with pytest.raises(ConfigurationError, match="no class is to be drawn"):
        BalancedTileSampler(CatalogTiles(catalog, TILE), 10, probabilities={5: 0})
