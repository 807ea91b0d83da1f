"""Cells of a scene: counted exactly from windows in any order, encoded without promising too much."""

import numpy as np
import numpy.typing as npt
import pytest
import rasterio.features
import rasterio.warp
import shapely
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st

from geoaug.data.catalog.catalog import Catalog
from geoaug.data.raster.grid import Grid
from geoaug.data.raster.record import BandFile, SceneRecord
from geoaug.data.sampling.coverage import Coverage, CoverageCounter, cell_size, coverage_column


def scene_masks(height: int, width: int, seed: int = 0) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.uint8]]:
    generator = np.random.default_rng(seed)
    valid = generator.random((height, width)) < 0.7
    valid[: height // 3, : width // 2] = False
    labels = generator.choice(np.array([0, 3, 7, 255], dtype=np.uint8), (height, width))
    return valid, labels


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 1_000_000), st.integers(1, 1_000_000))
def test_a_scene_has_at_most_64_cells_a_side_and_a_cell_at_least_16_pixels(height: int, width: int) -> None:
    cell = cell_size(height, width)
    assert cell >= 16
    assert -(-max(height, width) // cell) <= 64
    assert cell == 16 or -(-max(height, width) // (cell - 1)) > 64


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 300), st.integers(1, 300), st.integers(1, 90), st.integers(1, 90))
def test_windows_in_any_order_count_what_each_cell_holds(height: int, width: int, down: int, across: int) -> None:
    valid, labels = scene_masks(height, width)
    counter, other = (CoverageCounter(height, width) for _ in range(2))
    windows = [(row, col) for row in range(0, height, down) for col in range(0, width, across)]
    for number, (row, col) in enumerate(reversed(windows)):
        part = np.s_[row : row + down, col : col + across]
        (counter if number % 2 else other).add(row, col, valid[part], labels[part])
    counter.merge(other)
    found = counter.coverage()
    cell = found.cell
    assert found.class_ids == tuple(sorted(set(labels[valid].tolist()) - {255}))
    for row in range(found.valid.shape[0]):
        for col in range(found.valid.shape[1]):
            part = np.s_[row * cell : (row + 1) * cell, col * cell : (col + 1) * cell]
            assert found.valid[row, col] == np.float32(valid[part].mean())
            for place, number in enumerate(found.class_ids):
                assert found.class_pixels[place, row, col] == ((labels[part] == number) & valid[part]).sum()
    assert found.valid_share(height, width) == pytest.approx(valid.mean(), abs=1e-6)
    assert sum(found.class_counts.values()) == (valid & (labels != 255)).sum()


def test_a_share_is_0_or_1_only_where_no_pixel_or_all_are_valid() -> None:
    valid = np.ones((1024 * 8, 1024 * 8), dtype=bool)
    valid[5, 5] = False
    valid[-128:, -128:] = False
    valid[-1, -1] = True
    coverage = through_a_catalog(Coverage.count(valid))
    assert coverage.cell == 128
    assert 0 < coverage.valid[0, 0] < 1
    assert 0 < coverage.valid[-1, -1] < 1
    assert (coverage.valid[0, 1:] == 1).all()


def test_a_catalog_gives_back_what_was_put_in() -> None:
    valid, labels = scene_masks(300, 210)
    counted = Coverage.count(valid, labels)
    kept = through_a_catalog(counted)
    assert kept.cell == counted.cell
    assert kept.class_ids == counted.class_ids
    np.testing.assert_array_equal(kept.class_pixels, counted.class_pixels)
    np.testing.assert_allclose(kept.valid, counted.valid, atol=1 / 255)
    np.testing.assert_array_equal(kept.valid > 0, counted.valid > 0)


def test_a_scene_that_was_not_surveyed_has_none() -> None:
    catalog = Catalog.from_records([record(64, 64, "a"), record(64, 64, "b")])
    assert Coverage.of(catalog, 0) is None
    catalog = catalog.with_column("coverage", coverage_column([None, Coverage.count(np.ones((64, 64), dtype=bool))]))
    assert Coverage.of(catalog, 0) is None
    assert Coverage.of(catalog, 1) is not None


def test_the_outline_holds_the_valid_cells_and_no_others() -> None:
    valid = np.zeros((200, 320), dtype=bool)
    valid[:64, :64] = True
    valid[100, 300] = True
    coverage = Coverage.count(valid)
    grid = Grid("EPSG:32633", Affine(10, 0, 500000, 0, -10, 5400000), 200, 320)
    outline = coverage.outline(grid)
    assert outline is not None
    assert outline.is_valid
    back = shapely.geometry.shape(
        rasterio.warp.transform_geom("EPSG:4326", grid.crs, shapely.geometry.mapping(outline))
    )
    inside = rasterio.features.rasterize([back.buffer(0.1)], out_shape=valid.shape, transform=grid.transform) == 1
    cells = np.kron(coverage.valid > 0, np.ones((16, 16), dtype=bool))[:200, :320]
    np.testing.assert_array_equal(inside, cells)
    assert coverage.outline(Grid(None, grid.transform, 200, 320)) is None
    assert Coverage.count(np.zeros((200, 320), dtype=bool)).outline(grid).is_empty  # type: ignore[union-attr]


def record(height: int, width: int, name: str = "scene") -> SceneRecord:
    grid = Grid("EPSG:32633", Affine(10, 0, 500000, 0, -10, 5400000), height, width)
    return SceneRecord(name, "raster", name, (BandFile("B1", name, 1, grid, "uint16", 0, (256, 256)),), "generic")


def through_a_catalog(coverage: Coverage) -> Coverage:
    catalog = Catalog.from_records([record(64, 64)]).with_column("coverage", coverage_column([coverage]))
    found = Coverage.of(catalog, 0)
    assert found is not None
    return found
