"""Tile grids cover a scene wholly, and nothing outside it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from geoaug.data.raster.window import Window, tile_grid
from geoaug.errors import ConfigurationError, RasterError


@st.composite
def scenes_and_tiles(draw: st.DrawFn) -> tuple[int, int, int, int]:
    tile = draw(st.integers(1, 20))
    height, width = draw(st.integers(tile, 70)), draw(st.integers(tile, 70))
    return height, width, tile, draw(st.integers(1, tile))


def counted(windows: list[Window], height: int, width: int) -> np.ndarray:
    count = np.zeros((height, width), int)
    for window in windows:
        count[window.row : window.row_stop, window.col : window.col_stop] += 1
    return count


@given(scenes_and_tiles())
def test_every_pixel_is_covered_and_every_window_is_inside(case: tuple[int, int, int, int]) -> None:
    height, width, tile, stride = case
    windows = tile_grid(height, width, tile, stride)
    assert counted(windows, height, width).min() >= 1
    assert all(w.row >= 0 and w.col >= 0 and w.row_stop <= height and w.col_stop <= width for w in windows)
    assert all((w.height, w.width) == (tile, tile) for w in windows)
    assert len(set(windows)) == len(windows)
    assert windows == sorted(windows)


@given(scenes_and_tiles())
def test_dropping_the_edge_keeps_only_whole_steps(case: tuple[int, int, int, int]) -> None:
    height, width, tile, stride = case
    windows = tile_grid(height, width, tile, stride, edge="drop")
    assert windows == [
        window for window in tile_grid(height, width, tile, stride) if window.row % stride == window.col % stride == 0
    ]
    assert len(windows) == ((height - tile) // stride + 1) * ((width - tile) // stride + 1)


def test_a_scene_of_whole_tiles_is_cut_without_overlap() -> None:
    windows = tile_grid(512, 768, 256)
    assert len(windows) == 6
    assert (counted(windows, 512, 768) == 1).all()


def test_the_last_tile_is_shifted_inward() -> None:
    assert [window.col for window in tile_grid(10, 25, 10, 10)] == [0, 10, 15]


def test_a_tile_larger_than_the_scene_says_the_sizes_and_what_to_do() -> None:
    with pytest.raises(RasterError, match=r"256 x 256.*169 x 186.*169 pixels or less"):
        tile_grid(169, 186, 256)


@pytest.mark.parametrize(("tile", "stride"), [(0, 1), (-3, 1), (4, 0), (4, -1)])
def test_sizes_below_one_pixel_are_refused(tile: int, stride: int) -> None:
    with pytest.raises(ConfigurationError, match="at least 1 pixel"):
        tile_grid(10, 10, tile, stride)


def test_the_part_inside_a_scene() -> None:
    assert Window(-2, 3, 6, 6).inside(10, 8) == Window(0, 3, 4, 5)
    assert Window(2, 3, 4, 4).inside(10, 8) == Window(2, 3, 4, 4)
    assert Window(-6, 0, 6, 4).inside(10, 8) is None
    assert Window(2, 3, 4, 5).padded(2) == Window(0, 1, 8, 9)
