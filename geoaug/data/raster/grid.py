"""Grids of pixels on the ground: what can be worked out from numbers alone, without a raster.

`Grid` is the value that scenes, tiles and maps lie on, with its algebra: crop, pad, zoom, windows and bounds. Below it
are the functions that it rests on: footprints, and pixel centres in another CRS or on another grid. Geotransforms
follow rasterio: (0, 0) is the outer corner of the first pixel. Rows and columns without a place on the ground are in
`geoaug.data.raster.window`.
"""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pyproj
import rasterio.transform
import rasterio.warp
import shapely
from affine import Affine
from rasterio.crs import CRS

from geoaug.data.raster.window import Window
from geoaug.earth import degrees_to_metres
from geoaug.errors import ConfigurationError

Coordinates = npt.NDArray[np.float64]

_LATTICE_STEP = 16  # pixels between the points that are projected exactly; between them positions are interpolated
_LATTICE_TOLERANCE = 0.01  # pixels of the other grid


# Pixels over the whole grid within which two grids are the same.
_SHIFT_TOLERANCE = 1e-3


@dataclass(frozen=True, slots=True)
class Grid:
    """A grid of pixels on the ground.

    Attributes:
        crs: authority code or WKT, None where nothing tells it.
        transform: rasterio's geotransform, of any rotation and shear.
        height: in pixels.
        width: in pixels.
    """

    crs: str | None
    transform: Affine
    height: int
    width: int

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return self.height, self.width

    @property
    def resolution(self) -> tuple[float, float]:
        """(across, down): the lengths of a pixel's sides in units of the CRS."""
        a, b, _, d, e, _ = self.transform[:6]
        return math.hypot(a, d), math.hypot(b, e)

    @property
    def gsd_m(self) -> float | None:
        """Side in metres of a square of a pixel's area, at the grid's centre; None without a CRS."""
        if self.crs is None:
            return None
        side = math.sqrt(abs(self.transform.determinant))
        crs = CRS.from_user_input(self.crs)
        if crs.is_geographic:
            _, latitude = self.transform * (self.width / 2, self.height / 2)
            return degrees_to_metres(side, latitude)
        return side * float(crs.linear_units_factor[1])

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """(left, bottom, right, top) of the outline, in the grid's CRS."""
        return self.bounds_of(Window(0, 0, self.height, self.width))

    def bounds_of(self, window: Window) -> tuple[float, float, float, float]:
        """(left, bottom, right, top) of a window's outline, in the grid's CRS."""
        corners = [
            self.transform * (col, row)
            for row in (window.row, window.row_stop)
            for col in (window.col, window.col_stop)
        ]
        x, y = zip(*corners, strict=True)
        return min(x), min(y), max(x), max(y)

    def window_of(self, bounds: tuple[float, float, float, float]) -> Window:
        """The smallest window of whole pixels that covers (left, bottom, right, top); it may reach past the grid."""
        left, bottom, right, top = bounds
        columns, rows = zip(*(~self.transform * (x, y) for x in (left, right) for y in (bottom, top)), strict=True)
        row, col = math.floor(min(rows) + _SHIFT_TOLERANCE), math.floor(min(columns) + _SHIFT_TOLERANCE)
        row_stop, col_stop = math.ceil(max(rows) - _SHIFT_TOLERANCE), math.ceil(max(columns) - _SHIFT_TOLERANCE)
        return Window(row, col, max(row_stop - row, 1), max(col_stop - col, 1))

    def crop(self, window: Window) -> "Grid":
        """The grid of a window, which may reach past this one's edges."""
        transform = self.transform * Affine.translation(window.col, window.row)
        return Grid(self.crs, transform, window.height, window.width)

    def pad(self, pixels: int) -> "Grid":
        """The grid with `pixels` more on each of its four sides."""
        return self.crop(Window(0, 0, self.height, self.width).padded(pixels))

    def zoom(self, factor: float) -> "Grid":
        """Pixels `factor` times as wide and as high over the same ground, to half a pixel, from the same corner."""
        height, width = max(1, round(self.height / factor)), max(1, round(self.width / factor))
        return Grid(self.crs, self.transform * Affine.scale(factor), height, width)

    def snap(self, other: "Grid") -> tuple[int, int] | None:
        """(row, column) of this grid at which another begins; None unless they differ by whole pixels alone."""
        if self == other:
            return 0, 0
        if not same_crs(self.crs, other.crs):
            return None
        a, b, c, d, e, f = (~self.transform * other.transform)[:6]
        stretch = max(abs(a - 1) * other.width, abs(b) * other.height, abs(d) * other.width, abs(e - 1) * other.height)
        if max(stretch, abs(c - round(c)), abs(f - round(f))) > _SHIFT_TOLERANCE:
            return None
        return round(f), round(c)

    def overlap(self, other: "Grid") -> Window | None:
        """The window of this grid, inside its edges, that holds what it shares with another; None if that is nothing.

        Another CRS counts by the outline of the other grid in this one.
        """
        if same_crs(self.crs, other.crs):
            bounds = other.bounds
        else:
            outline = None if self.crs is None else other.footprint(self.crs)
            if outline is None:
                return None
            bounds = outline.bounds
        own = self.bounds
        if bounds[0] >= own[2] or own[0] >= bounds[2] or bounds[1] >= own[3] or own[1] >= bounds[3]:
            return None
        return self.window_of(bounds).inside(self.height, self.width)

    def footprint(self, crs: str, *, steps: int = 5) -> shapely.Polygon | None:
        """The outline in another CRS, each side cut into `steps` parts; None where that CRS does not reach it."""
        if self.crs is None:
            return None
        return footprint_in(self.transform, self.crs, self.height, self.width, crs, steps=steps)

    def in_pixels(self, shape: shapely.Geometry, crs: str) -> shapely.Geometry:
        """A geometry of a CRS as (column, row) of this grid, counted from the outer corner of the first pixel.

        Raises:
            ConfigurationError: the grid has no CRS.
        """
        own, to_pixels = self.crs, ~self.transform
        if own is None:
            raise ConfigurationError("a grid without a CRS has no place on the ground")

        def change(points: Coordinates) -> Coordinates:
            x, y = reproject_points(points[:, 0], points[:, 1], crs, own)
            return np.stack(_apply(to_pixels, x, y), axis=1)

        return shapely.transform(shape, change)


def target_grid(grid: Grid, crs: str | None, gsd_m: float | None) -> Grid:
    """The grid that a scene's tiles are cut from: its own, or one of another CRS or ground sampling distance.

    A grid of another gsd begins at the same corner. One of another CRS covers the scene, with GDAL's choice of pixel
    size unless `gsd_m` (in metres; for a geographic CRS, at the scene's centre) says otherwise.

    Raises:
        ConfigurationError: the scene has no CRS, the CRS does not reach it, or `gsd_m` is no distance.
    """
    if crs is None and gsd_m is None:
        return grid
    if gsd_m is not None and not gsd_m > 0:
        raise ConfigurationError(f"gsd_m (--gsd) is {gsd_m:g}: it is a distance in metres, above 0", argument="gsd_m")
    own = grid.gsd_m
    if own is None:
        raise ConfigurationError(
            "a scene without a CRS has no place to be warped to: leave crs and gsd_m (--gsd) out", argument="gsd_m"
        )
    if crs is None or same_crs(crs, grid.crs):
        return grid.zoom(1.0 if gsd_m is None else gsd_m / own)
    bounds = rasterio.transform.array_bounds(grid.height, grid.width, grid.transform)
    source, target = CRS.from_user_input(grid.crs), CRS.from_user_input(crs)
    transform, width, height = rasterio.warp.calculate_default_transform(
        source, target, grid.width, grid.height, *bounds
    )
    if transform is None or width is None or height is None:
        raise ConfigurationError(f"the CRS {crs} does not reach a scene in {grid.crs}", argument="crs")
    warped = Grid(crs, transform, int(height), int(width))
    return warped if gsd_m is None else target_grid(warped, None, gsd_m)


def crs_text(crs: CRS | str | None) -> str | None:
    """A CRS as text that pyproj and rasterio read (the authority code where `crs` was given so, else WKT)."""
    if crs is None or isinstance(crs, str):
        return crs or None
    return str(crs.to_wkt()) or None


def same_crs(first: CRS | str | None, second: CRS | str | None) -> bool:
    """Whether two CRS are the same, the order of axes aside; no CRS is the same as no CRS only."""
    one, other = crs_text(first), crs_text(second)
    if one is None or other is None:
        return one is other
    return one == other or _equal(one, other)


def reproject_points(x: Coordinates, y: Coordinates, source: str, target: str) -> tuple[Coordinates, Coordinates]:
    """Points (easting or longitude, northing or latitude) from one CRS to another; infinite where that has no
    image."""
    east, north = _transformer(source, target).transform(x, y, errcheck=False)
    return np.asarray(east, dtype=np.float64), np.asarray(north, dtype=np.float64)


def footprint(transform: Affine, height: int, width: int, *, steps: int = 1) -> shapely.Polygon:
    """The outline of a grid in its own CRS, each side cut into `steps` parts; rotation and shear are kept."""
    along = np.arange(steps) / steps
    x = np.concatenate([along, np.ones(steps), 1 - along, np.zeros(steps)]) * width
    y = np.concatenate([np.zeros(steps), along, np.ones(steps), 1 - along]) * height
    return shapely.Polygon(np.stack(_apply(transform, x, y), axis=1))


def footprint_in(
    transform: Affine, crs: CRS | str, height: int, width: int, target: CRS | str, *, steps: int = 21
) -> shapely.Polygon | None:
    """The outline of a grid in the CRS `target`, or None where that CRS does not reach it."""
    source, goal = crs_text(crs), crs_text(target)
    outline = footprint(transform, height, width, steps=steps)
    if source is None or goal is None or same_crs(source, goal):
        return outline
    points = shapely.get_coordinates(outline)
    x, y = reproject_points(points[:, 0], points[:, 1], source, goal)
    return shapely.Polygon(np.stack([x, y], axis=1)) if np.isfinite([x, y]).all() else None


def centres_on(
    other_transform: Affine,
    other_crs: CRS | str | None,
    transform: Affine,
    crs: CRS | str | None,
    height: int,
    width: int,
) -> tuple[Coordinates, Coordinates]:
    """The (columns, rows) on another grid of the centres of a grid's pixels, each of shape (height, width).

    Fractional, counted from the outer corner of the other grid's first pixel: `floor` gives the pixel that
    holds the centre. Across CRS every 16th pixel is projected and positions between are interpolated where
    that is right to a hundredth of the other grid's pixel; where it is not (at the edge of a projection, or
    over the antimeridian), every centre is projected.
    """
    x: Coordinates = np.arange(width, dtype=np.float64) + 0.5
    y: Coordinates = np.arange(height, dtype=np.float64) + 0.5
    to_other = ~other_transform
    if same_crs(crs, other_crs):
        columns, rows = _apply(to_other * transform, *np.meshgrid(x, y))
        return columns, rows
    source, target = crs_text(crs), crs_text(other_crs)
    if source is None or target is None:
        raise ConfigurationError("two grids can only be compared where both have a CRS or neither has one")

    def project(x: Coordinates, y: Coordinates) -> Coordinates:
        points = reproject_points(*_apply(transform, *np.meshgrid(x, y)), source, target)
        return np.stack(_apply(to_other, *points))

    knots_x, knots_y = _knots(width), _knots(height)
    coarse = project(knots_x, knots_y)
    middle = project((knots_x[1:] + knots_x[:-1]) / 2, (knots_y[1:] + knots_y[:-1]) / 2)
    guess = (coarse[:, 1:, 1:] + coarse[:, 1:, :-1] + coarse[:, :-1, 1:] + coarse[:, :-1, :-1]) / 4
    if np.isfinite(coarse).all() and np.isfinite(middle).all() and np.abs(guess - middle).max() < _LATTICE_TOLERANCE:
        across, down = _weights(x, knots_x), _weights(y, knots_y)
        return down @ coarse[0] @ across.T, down @ coarse[1] @ across.T
    columns, rows = project(x, y)
    return columns, rows


def _apply(transform: Affine, x: Coordinates, y: Coordinates) -> tuple[Coordinates, Coordinates]:
    a, b, c, d, e, f = transform[:6]
    return a * x + b * y + c, d * x + e * y + f


def _knots(size: int) -> Coordinates:
    """Pixel centres from the first to the last, at least two and about a lattice step apart."""
    return np.linspace(0.5, max(size, 2) - 0.5, max(-(-(size - 1) // _LATTICE_STEP), 1) + 1)


def _weights(positions: Coordinates, knots: Coordinates) -> Coordinates:
    """Linear interpolation from `knots` (even) to `positions`, as a matrix."""
    place = (positions - knots[0]) / (knots[1] - knots[0])
    first = np.clip(np.floor(place).astype(int), 0, len(knots) - 2)
    weights = np.zeros((len(positions), len(knots)))
    index = np.arange(len(positions))
    weights[index, first] = 1 - (place - first)
    weights[index, first + 1] = place - first
    return weights


@lru_cache(maxsize=256)
def _crs(text: str) -> pyproj.CRS:
    crs = pyproj.CRS.from_user_input(text)
    # The registry's own definition knows where a CRS is used, by which the best datum shift is chosen; WKT 1
    # does not.
    authority = crs.to_authority(min_confidence=100)
    return pyproj.CRS.from_authority(*authority) if authority else crs


@lru_cache(maxsize=256)
def _equal(first: str, second: str) -> bool:
    return bool(_crs(first).equals(_crs(second), ignore_axis_order=True))


@lru_cache(maxsize=256)
def _transformer(source: str, target: str) -> Any:
    return pyproj.Transformer.from_crs(_crs(source), _crs(target), always_xy=True)
