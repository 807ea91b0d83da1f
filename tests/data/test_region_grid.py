"""Tiles of a small region: wholly in it, and covering what tiles can cover."""

import numpy as np
import pytest
import shapely

from geoaug.data.sampling.region_grid import _held, pieces, tiles_in

TILE = (16, 12)


def boxes(row: np.ndarray, col: np.ndarray) -> np.ndarray:
    return shapely.box(col, row, col + TILE[1], row + TILE[0])


@pytest.mark.parametrize("seed", [pytest.param(seed, marks=[pytest.mark.slow] * (seed > 3)) for seed in range(12)])
def test_a_turned_block_is_covered_as_far_as_tiles_can(seed: int) -> None:
    rng = np.random.default_rng(seed)
    height, width = rng.uniform(2.5, 6, 2) * TILE
    left, top = rng.uniform(20, 60, 2)
    block = shapely.box(left, top, left + width, top + height)
    block = shapely.affinity.rotate(block, rng.uniform(-4, 4))
    row, col = tiles_in(block, (200, 180), TILE, TILE, shift=True)
    assert shapely.covers(block, boxes(row, col)).all()
    rows, cols = np.mgrid[0 : 200 - TILE[0], 0 : 180 - TILE[1]]
    every = boxes(rows.ravel(), cols.ravel())
    possible = shapely.union_all(every[shapely.covers(block, every)])
    covered = shapely.union_all(boxes(row, col)).area
    assert covered >= 0.85 * possible.area
    scene = (rows % TILE[0] == 0) & (cols % TILE[1] == 0)
    aligned = every[scene.ravel()]
    assert covered >= shapely.union_all(aligned[shapely.covers(block, aligned)]).area
    assert len(row) <= 1.8 * possible.area / (TILE[0] * TILE[1]) + 2


@pytest.mark.parametrize("seed", range(40))
def test_tiles_are_in_a_region_by_its_edges_as_by_their_outlines(seed: int) -> None:
    rng = np.random.default_rng(seed)
    low, side = rng.integers(0, 120, (5, 2)), rng.integers(20, 90, (5, 2))
    boxes_of = [
        shapely.affinity.rotate(shapely.box(*a, *(a + b)), rng.uniform(-8, 8) * (seed % 2))
        for a, b in zip(low, side, strict=True)
    ]
    whole = shapely.difference(shapely.union_all(boxes_of), shapely.box(50, 50, 53, 54.5 - seed % 3 / 2))
    rows, cols = np.arange(0, 180, 4), np.arange(0, 190, 3)
    y, x = np.meshgrid(rows, cols, indexing="ij")
    for region in shapely.get_parts(whole):
        held = _held(region, rows, cols, TILE)
        np.testing.assert_array_equal(held, shapely.covers(region, boxes(y, x)))


@pytest.mark.parametrize("shift", [True, False])
def test_a_rectangle_is_covered_as_any_shape_is(shift: bool) -> None:
    for width in np.arange(12, 50, 1.25):
        for height in (16, 17, 33.5, 40):
            block = shapely.box(3.5, 6, 3.5 + width, 6 + height)
            row, col = tiles_in(block, (90, 90), TILE, TILE, shift=shift)
            # Not a rectangle any more, and nothing that a tile could tell.
            notched = shapely.difference(block, shapely.box(3.5, 6, 3.6, 6.1))
            other = tiles_in(notched, (90, 90), TILE, TILE, shift=shift)
            assert shapely.covers(block, boxes(row, col)).all()
            assert shapely.union_all(boxes(row, col)).area >= 0.97 * shapely.union_all(boxes(*other)).area


def test_an_exact_fit_has_no_tile_too_many() -> None:
    row, col = tiles_in(shapely.box(5, 7, 5 + 3 * 12, 7 + 2 * 16), (100, 100), TILE, TILE, shift=True)
    assert sorted(zip(row.tolist(), col.tolist(), strict=True)) == [(r, c) for r in (7, 23) for c in (5, 17, 29)]


def test_steps_overlap_holes_and_edges() -> None:
    row, _ = tiles_in(shapely.box(0, 0, 12, 48), (48, 12), TILE, (8, 12), shift=True)
    assert row.tolist() == [0, 8, 16, 24, 32]
    row, _ = tiles_in(shapely.box(0, 0, 12, 48.9), (200, 12), TILE, TILE, shift=True)
    assert row.tolist() == [0, 16, 32]
    row, _ = tiles_in(shapely.box(0, 0, 12, 50), (200, 12), TILE, TILE, shift=True)
    assert row.tolist() == [0, 16, 32, 34]
    row, _ = tiles_in(shapely.box(0, 0, 12, 50), (200, 12), TILE, TILE, shift=False)
    assert row.tolist() == [0, 16, 32]
    row, _ = tiles_in(shapely.box(0, -30, 12, 50), (40, 12), TILE, TILE, shift=True)
    assert row.tolist() == [0, 16, 24], "not beyond the scene"
    holed = shapely.difference(shapely.box(0, 0, 12, 100), shapely.box(2, 30, 4, 45))
    row, _ = tiles_in(holed, (100, 12), TILE, TILE, shift=True)
    assert not ((row < 45) & (row + 16 > 30)).any()
    assert row.min() == 0
    assert row.max() == 84
    for narrow in (
        shapely.box(0, 0, 11, 50),
        shapely.box(150, 0, 170, 50),
        shapely.Polygon([(0, 0), (20, 0), (0, 20)]),
    ):
        assert len(tiles_in(narrow, (100, 160), TILE, TILE, shift=True)[0]) == 0


def covered_by(region: shapely.Geometry, size: tuple[int, int]) -> shapely.Geometry:
    found = [tiles_in(piece, size, TILE, TILE, shift=True) for piece in pieces(region, size, TILE, TILE)]
    row, col = (np.concatenate(parts) for parts in zip(*found, strict=True))
    assert len(np.unique(np.stack((row, col)), axis=1).T) == len(row)
    assert shapely.covers(region, boxes(row, col)).all()
    return shapely.union_all(boxes(row, col))


def test_wide_regions_are_cut_where_tiles_end() -> None:
    region = shapely.box(7, 9, 7 + 12 * 40, 9 + 16 * 33)
    assert len(pieces(region, (600, 600), TILE, TILE)) == 9
    assert covered_by(region, (600, 600)).area == region.area
    assert len(pieces(shapely.box(0, 0, 12 * 16, 16 * 16), (300, 300), TILE, TILE)) == 1


def test_a_lattice_of_blocks_is_covered_though_it_is_wide() -> None:
    """Blocks that touch make one part, wide as the scene, whose arms are two or three tiles wide."""
    rng = np.random.default_rng(5)
    side = 41
    blocks = [
        shapely.box(11 + side * i, 5 + side * j, 11 + side * (i + 1), 5 + side * (j + 1))
        for i in range(14)
        for j in range(14)
        if rng.uniform() < 0.6
    ]
    region = shapely.union_all(blocks)
    rows, cols = np.mgrid[0:590:2, 0:600:2]
    every = boxes(rows.ravel(), cols.ravel())
    shapely.prepare(region)
    possible = shapely.union_all(every[shapely.covers(region, every)]).area
    assert covered_by(region, (600, 610)).area > 0.93 * possible


@pytest.mark.parametrize("stride", [118, 59])
def test_a_region_as_wide_as_its_scene_is_covered_wholly(stride: int) -> None:
    """A last piece narrower than a tile would be left out."""
    size, tile, step = (2000, 2000), (118, 118), (stride, stride)
    region = shapely.box(0, 0, 2000, 2000)
    cut = pieces(region, size, tile, step)
    row, col = (
        np.concatenate(parts)
        for parts in zip(*(tiles_in(piece, size, tile, step, shift=True) for piece in cut), strict=True)
    )
    covered = shapely.union_all(shapely.box(col, row, col + 118, row + 118))
    assert covered.area == region.area
    across = -(-(2000 - 118) // stride) + 1
    assert len(row) <= (across + len(cut) ** 0.5) ** 2


def test_what_does_not_reach_the_scene_has_no_pieces() -> None:
    for beside in (shapely.box(200, 200, 300, 300), shapely.box(100, 0, 150, 100), shapely.Polygon()):
        assert pieces(beside, (100, 100), TILE, TILE) == []
