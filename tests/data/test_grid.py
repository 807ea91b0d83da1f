"""The algebra of grids, on numbers worked out by hand and against rasterio."""

import math

import numpy as np
import pytest
import rasterio.transform
import rasterio.windows
import shapely
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.warp import transform_bounds

from geoaug.data.raster.grid import Grid, target_grid
from geoaug.data.raster.window import Window
from geoaug.errors import ConfigurationError

UTM = "EPSG:32633"
GRID = Grid(UTM, Affine(10, 0, 500000, 0, -10, 5400000), 60, 80)


def test_a_crop_begins_at_its_first_pixel() -> None:
    part = GRID.crop(Window(5, 7, 20, 30))
    assert part == Grid(UTM, Affine(10, 0, 500070, 0, -10, 5399950), 20, 30)
    assert GRID.crop(Window(-2, -3, 4, 5)).transform == Affine(10, 0, 499970, 0, -10, 5400020)


def test_padding_and_cropping_give_the_grid_back() -> None:
    padded = GRID.pad(4)
    assert padded == Grid(UTM, Affine(10, 0, 499960, 0, -10, 5400040), 68, 88)
    assert padded.crop(Window(4, 4, 60, 80)) == GRID


@pytest.mark.parametrize(("factor", "shape"), [(2, (30, 40)), (0.5, (120, 160)), (3, (20, 27)), (1000, (1, 1))])
def test_zooming_keeps_the_corner_and_the_ground(factor: float, shape: tuple[int, int]) -> None:
    zoomed = GRID.zoom(factor)
    assert zoomed.shape == shape
    assert zoomed.resolution == (10 * factor, 10 * factor)
    assert zoomed.transform * (0, 0) == GRID.transform * (0, 0)


@settings(max_examples=60, deadline=None)
@given(angle=st.floats(-180, 180), across=st.floats(0.1, 50), down=st.floats(0.1, 50))
def test_the_resolution_is_that_of_the_sides_of_a_turned_pixel(angle: float, across: float, down: float) -> None:
    grid = Grid(None, Affine.translation(3, 4) * Affine.rotation(angle) * Affine.scale(across, -down), 5, 6)
    assert grid.resolution == pytest.approx((across, down))


def test_a_degree_is_shorter_towards_the_pole() -> None:
    def gsd(latitude: float) -> float:
        grid = Grid("EPSG:4326", Affine(1e-4, 0, 12, 0, -1e-4, latitude + 0.005), 100, 100)
        found = grid.gsd_m
        assert found is not None
        return found

    assert gsd(0) == pytest.approx(1e-4 * math.radians(6378137), rel=1e-6)
    assert gsd(60) / gsd(0) == pytest.approx(math.sqrt(0.5), rel=1e-6)
    assert Grid(None, Affine.identity(), 1, 1).gsd_m is None


@settings(max_examples=100, deadline=None)
@given(
    row=st.integers(-20, 60), col=st.integers(-20, 80), height=st.integers(1, 40), width=st.integers(1, 40),
    angle=st.sampled_from([0, 90, 180, 270]), south_up=st.booleans(),
)  # fmt: skip
def test_windows_and_bounds_are_each_others_inverse(
    row: int, col: int, height: int, width: int, angle: int, south_up: bool
) -> None:
    transform = Affine.translation(5e5, 5e6) * Affine.rotation(angle) * Affine.scale(10, 10 if south_up else -10)
    grid, window = Grid(UTM, transform, 60, 80), Window(row, col, height, width)
    assert grid.window_of(grid.bounds_of(window)) == window


def test_bounds_are_those_of_rasterio() -> None:
    window = Window(5, 7, 20, 30)
    other = rasterio.windows.Window(7, 5, 30, 20)
    assert GRID.bounds_of(window) == rasterio.windows.bounds(other, GRID.transform)
    assert GRID.bounds == rasterio.transform.array_bounds(60, 80, GRID.transform)


def test_bounds_between_pixels_take_the_pixels_that_they_touch() -> None:
    assert GRID.window_of((500005, 5399935, 500025, 5399995)) == Window(0, 0, 7, 3)


def test_grids_that_differ_by_whole_pixels_snap() -> None:
    assert GRID.snap(GRID) == (0, 0)
    assert GRID.snap(GRID.crop(Window(12, -3, 7, 9))) == (12, -3)
    assert GRID.snap(GRID.crop(Window(12, -3, 7, 9)).zoom(2)) is None
    half = Grid(UTM, GRID.transform * Affine.translation(0.5, 0), 60, 80)
    assert GRID.snap(half) is None
    assert GRID.snap(Grid("EPSG:32632", GRID.transform, 60, 80)) is None
    hair = Grid(UTM, GRID.transform * Affine.translation(2 + 1e-5, 1), 60, 80)
    assert GRID.snap(hair) == (1, 2)


def test_what_two_grids_share_is_a_window_of_each() -> None:
    other = GRID.crop(Window(50, 70, 40, 40)).zoom(2)
    assert GRID.overlap(other) == Window(50, 70, 10, 10)
    assert other.overlap(GRID) == Window(0, 0, 5, 5)
    assert GRID.overlap(GRID.crop(Window(60, 0, 5, 5))) is None
    assert GRID.overlap(Grid(None, GRID.transform, 60, 80)) is None


def test_what_is_shared_across_two_crs_holds_the_other_grid() -> None:
    inner = GRID.crop(Window(20, 30, 10, 10))
    left, bottom, right, top = transform_bounds(UTM, "EPSG:4326", *inner.bounds)
    degrees = Grid("EPSG:4326", Affine((right - left) / 10, 0, left, 0, (bottom - top) / 10, top), 10, 10)
    found = GRID.overlap(degrees)
    assert found is not None
    assert (found.row, found.col) <= (20, 30)
    assert (found.row_stop, found.col_stop) >= (30, 40)
    assert found.height <= 14
    assert found.width <= 14


def test_a_shape_in_pixels_is_counted_from_the_outer_corner() -> None:
    shape = shapely.box(500100, 5399800, 500200, 5399900)
    found = shapely.bounds(GRID.in_pixels(shape, UTM))
    np.testing.assert_allclose(found, [10, 10, 20, 20], atol=1e-6)


def test_a_grid_of_another_gsd_covers_the_same_ground() -> None:
    twenty = target_grid(GRID, None, 20)
    assert (twenty.shape, twenty.bounds) == ((30, 40), GRID.bounds)
    assert target_grid(GRID, None, None) is GRID
    with pytest.raises(ConfigurationError, match="without a CRS"):
        target_grid(Grid(None, Affine.identity(), 5, 5), None, 20)
