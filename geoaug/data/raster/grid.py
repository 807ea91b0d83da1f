"""Grids of pixels on the ground: what can be worked out from numbers alone, without a raster.

`Grid` is the value that scenes, tiles and maps lie on, with its algebra: crop, pad, zoom, windows and bounds. Below it
are the functions that it rests on: footprints, and pixel centres in another CRS or on another grid. Geotransforms
follow rasterio: (0, 0) is the outer corner of the first pixel. Rows and columns without a place on the ground are in
`geoaug.data.raster.window`.
"""

import math
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyproj
import rasterio.transform
import rasterio.warp
import shapely
from affine import Affine
from rasterio._err import CPLE_BaseError
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS
from rasterio.errors import CRSError

from geoaug.data.raster.meridians import DEGREES, cut_at_180, in_one_piece, near_to, ring_polygon, whole_shape
from geoaug.data.raster.window import Window
from geoaug.earth import METRES_PER_DEGREE
from geoaug.errors import ConfigurationError

Coordinates = npt.NDArray[np.float64]

WORLD = "EPSG:4326"
"""What places on Earth are kept in: longitude and latitude on WGS 84."""

_SQUARE = 1e-3  # of a side, within which pixels count as square
_LATTICE_STEP = 16  # pixels between the points that are projected exactly; between them positions are interpolated
_LATTICE_TOLERANCE = 0.01  # pixels of the other grid
_CYLINDRICAL = re.compile(r"^(?!.*(transverse|oblique)).*(mercator|cylindrical)", re.IGNORECASE)


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
        """Side in metres of a square of a pixel's area, at the grid's centre; None without a CRS of known units."""
        steps = self._steps_m()
        if steps is None:
            return None
        (a, d), (b, e) = steps
        return math.sqrt(abs(a * e - b * d))

    @property
    def sides_m(self) -> tuple[float, float] | None:
        """(across, down): the lengths in metres of a pixel's sides at the grid's centre; None as `gsd_m`."""
        steps = self._steps_m()
        return None if steps is None else (math.hypot(*steps[0]), math.hypot(*steps[1]))

    def _steps_m(self) -> tuple[tuple[float, float], tuple[float, float]] | None:
        """(east, north) in metres from a pixel to the next one across, and to the next one down."""
        unit = None if self.crs is None else unit_of(self.crs)
        if unit is None:
            return None
        a, b, _, d, e, _ = self.transform[:6]
        _, y = self.transform * (self.width / 2, self.height / 2)
        east = unit.metres_at(y)
        return (a * east, d * unit.metres), (b * east, e * unit.metres)

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
            if outline is None or self.crs is None:
                return None
            bounds = self._at_hand(outline, self.crs).bounds
        own = self.bounds
        if bounds[0] >= own[2] or own[0] >= bounds[2] or bounds[1] >= own[3] or own[1] >= bounds[3]:
            return None
        return self.window_of(bounds).inside(self.height, self.width)

    @property
    def has_place(self) -> bool:
        """Whether it lies on Earth, as far as is known: not without a CRS, on a map of the Moon, or a local plan."""
        return self.crs is not None and reaches_earth(self.crs)

    def footprint(self, crs: str, *, steps: int = 5) -> shapely.Polygon | None:
        """The outline in another CRS, each side cut into `steps` parts; None where that CRS does not reach it.

        In one piece: longitudes run on beyond 180 degrees where the grid crosses them.
        """
        if self.crs is None:
            return None
        return footprint_in(self.transform, self.crs, self.height, self.width, crs, steps=steps)

    def world_footprint(self, *, steps: int = 5) -> shapely.Polygon | shapely.MultiPolygon | None:
        """The outline in longitude and latitude (WGS 84), cut at 180 degrees where it crosses them, as in RFC 7946.

        None where the grid has no place on Earth, or reaches past it.
        """
        outline = self.footprint(WORLD, steps=steps)
        return None if outline is None else cut_at_180(outline if outline.is_valid else shapely.make_valid(outline))

    def in_pixels(self, shape: shapely.Geometry, crs: str) -> shapely.Geometry:
        """A geometry of a CRS as (column, row) of this grid, counted from the outer corner of the first pixel.

        Of degrees and the like, it may lie a turn around the Earth apart, and be cut at 180 degrees.

        Raises:
            ConfigurationError: the grid has no CRS.
        """
        own = self.crs
        if own is None:
            raise ConfigurationError("a grid without a CRS has no place on the ground")
        a, b, c, d, e, f = (~self.transform)[:6]
        return shapely.transform(
            self._at_hand(reproject_shape(shape, crs, own), own),
            lambda xy: np.stack([xy @ np.array([a, b]) + c, xy @ np.array([d, e]) + f], axis=1),
        )

    def _at_hand(self, shape: shapely.Geometry, crs: str) -> shapely.Geometry:
        """A shape in the grid's own CRS where whole turns around the Earth bring it to the grid."""
        turn = turn_of(crs)
        west, _, east, _ = self.bounds
        return shape if turn is None else near_to(shape, west, east, turn)


def target_grid(grid: Grid, crs: str | None, gsd_m: float | None) -> Grid:
    """The grid that a scene's tiles are cut from: its own, or one of another CRS or ground sampling distance.

    A grid of another gsd begins at the same corner, and its pixels are squares on the ground: `gsd_m` metres wide and
    high, at the scene's centre. One of another CRS covers the scene, turned or not, with GDAL's choice of pixels
    (`gdalwarp` without -tr: square ones, as many along the diagonal as the scene has) unless `gsd_m` says otherwise.

    Raises:
        ConfigurationError: the scene has no CRS or none with a place on Earth, the CRS does not reach it, or `gsd_m` is
            no distance.
    """
    if crs is None and gsd_m is None:
        return grid
    if gsd_m is not None and not gsd_m > 0:
        raise ConfigurationError(f"gsd_m (--gsd) is {gsd_m:g}: it is a distance in metres, above 0", argument="gsd_m")
    if grid.crs is None:
        raise ConfigurationError(
            "a scene without a CRS has no place to be warped to: leave crs and gsd_m (--gsd) out", argument="gsd_m"
        )
    if crs is None or same_crs(crs, grid.crs):
        return grid if gsd_m is None else _at_gsd(grid, gsd_m)
    warped = _warped_grid(grid, crs)
    return warped if gsd_m is None else _at_gsd(warped, gsd_m)


def _at_gsd(grid: Grid, gsd_m: float) -> Grid:
    """Over the same ground, from the same corner, pixels that are squares of `gsd_m` metres."""
    sides = grid.sides_m
    if sides is None:
        raise ConfigurationError(
            f"the units of the CRS {_short(grid.crs)} are not known in metres: leave gsd_m (--gsd) out",
            argument="gsd_m",
        )
    across, down = (gsd_m / side for side in sides)
    if abs(across / down - 1) < _SQUARE:
        return grid.zoom(gsd_m / math.sqrt(sides[0] * sides[1]))
    height, width = max(1, round(grid.height / down)), max(1, round(grid.width / across))
    return Grid(grid.crs, grid.transform * Affine.scale(across, down), height, width)


def _warped_grid(grid: Grid, crs: str) -> Grid:
    """The grid of a CRS that GDAL chooses for a grid of another one."""
    assert grid.crs is not None
    across = _across_the_date_line(grid, crs)
    if across is not None:
        return across
    source, target = CRS.from_user_input(grid.crs), CRS.from_user_input(crs)
    _, b, _, d, _, _ = grid.transform[:6]
    if b or d:
        # Of a turned grid the bounds are not its corners: these say as points where it lies.
        corners = [(row, col) for row in (0, grid.height) for col in (0, grid.width)]
        points = [GroundControlPoint(row, col, *(grid.transform * (col, row)), 0.0) for row, col in corners]
        place: dict[str, Any] = {"gcps": points}
    else:
        edges = rasterio.transform.array_bounds(grid.height, grid.width, grid.transform)
        place = dict(zip(("left", "bottom", "right", "top"), edges, strict=True))
    try:
        transform, width, height = rasterio.warp.calculate_default_transform(
            source, target, grid.width, grid.height, **place
        )
    except (CRSError, CPLE_BaseError) as error:
        if not grid.has_place:
            raise ConfigurationError(
                f"a scene in {_short(grid.crs)} has no place on Earth to be warped from: leave crs out", argument="crs"
            ) from error
        raise ConfigurationError(
            f"the CRS {_short(crs)} does not reach a scene in {_short(grid.crs)} ({error})", argument="crs"
        ) from error
    if transform is None or width is None or height is None:
        raise ConfigurationError(f"the CRS {_short(crs)} does not reach a scene in {_short(grid.crs)}", argument="crs")
    return Grid(crs, transform, int(height), int(width))


def _across_the_date_line(grid: Grid, crs: str) -> Grid | None:
    """GDAL's choice for a grid that goes on beyond the edge of the other map; None where it does not.

    GDAL takes what lies there for the other side of the map, and its grid for one around the world. As it chooses
    elsewhere (`GDALSuggestedWarpOutput2`), pixels are squares, as many along the diagonal as the grid has.
    """
    turn, steps = turn_of(crs), 20
    outline = None if turn is None else grid.footprint(crs, steps=steps)
    if turn is None or outline is None:
        return None
    points = shapely.get_coordinates(outline)
    west, south, east, north = outline.bounds
    middle = _middle_of_map(crs)
    if (abs(west - middle) <= turn / 2 and abs(east - middle) <= turn / 2) or east - west >= turn:
        return None
    pixel = math.dist(points[0], points[2 * steps]) / math.hypot(grid.width, grid.height)
    height, width = max(1, int((north - south) / pixel + 0.5)), max(1, int((east - west) / pixel + 0.5))
    return Grid(crs, Affine(pixel, 0, west, 0, -pixel, north), height, width)


def _short(crs: str | None) -> str:
    """A CRS in a message: its code, or its name."""
    if crs is None or len(crs) < 40:
        return str(crs)
    return str(_crs(crs).name)


class CrsUnit(NamedTuple):
    """What a unit of a CRS is on the ground.

    Attributes:
        metres: along y.
        radians: of latitude, where x shrinks with its cosine; None where it does not.
    """

    metres: float
    radians: float | None

    def metres_at(self, y: float) -> float:
        """Along x, at a latitude in units of the CRS."""
        return self.metres if self.radians is None else self.metres * max(math.cos(y * self.radians), 0.0)


@lru_cache(maxsize=256)
def unit_of(crs: str) -> CrsUnit | None:
    """What a unit of a CRS is on the ground; None where that is not known.

    A degree is one of the CRS's own body: 30 km on the Moon, 111 km on Earth (of WGS 84, whatever the ellipsoid).
    """
    known = _crs(crs)
    if known.is_compound:
        known = known.sub_crs_list[0]
    if not known.axis_info:
        return None
    factor = float(known.axis_info[0].unit_conversion_factor)
    if not known.is_geographic:
        return CrsUnit(factor, None) if factor > 0 else None
    radians = math.radians(1) if math.isclose(factor, math.radians(1), rel_tol=1e-9) else factor
    if reaches_earth(crs) or known.ellipsoid is None:
        return CrsUnit(METRES_PER_DEGREE * (radians / math.radians(1)), radians)
    return CrsUnit(float(known.ellipsoid.semi_major_metre) * radians, radians)


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
    image, or where no way leads from one CRS to the other.

    From degrees to degrees a longitude keeps its turn: 181 does not become -179.
    """
    transformer = _transformer(source, target)
    if transformer is None:
        nowhere = np.full(np.shape(x), np.inf)
        return nowhere, nowhere.copy()
    east, north = transformer.transform(x, y, errcheck=False)
    east, north = np.asarray(east, dtype=np.float64), np.asarray(north, dtype=np.float64)
    if transformer.source_crs.is_geographic and transformer.target_crs.is_geographic:
        one, other = turn_of(source), turn_of(target)
        if one == other == DEGREES:
            with np.errstate(invalid="ignore"):
                east = east + DEGREES * np.round((np.asarray(x) - east) / DEGREES)
    return east, north


def reproject_shape(shape: shapely.Geometry, source: str, target: str) -> shapely.Geometry:
    """A geometry from one CRS to another, its polygons in one piece; infinite points where that has no image."""
    if turn_of(source) == DEGREES:
        shape = in_one_piece(shape)
    if same_crs(source, target):
        return shape
    there = shapely.transform(shape, lambda xy: np.stack(reproject_points(xy[:, 0], xy[:, 1], source, target), axis=1))
    turn = turn_of(target)
    if turn is None or not np.isfinite(shapely.get_coordinates(there)).all():
        return there
    return whole_shape(there, turn)


def reaches_earth(crs: CRS | str) -> bool:
    """Whether a CRS is one of places on Earth: not of the Moon, nor a local plan (LOCAL_CS)."""
    return _transformer(crs_text(crs) or "", WORLD) is not None


@lru_cache(maxsize=256)
def _middle_of_map(crs: str) -> float:
    """The x that lies half a turn from both edges of a map of the world; of a CRS that has a turn."""
    known = _crs(crs)
    known = known.sub_crs_list[0] if known.is_compound else known
    operation = known.coordinate_operation if known.is_projected else None
    parameters = () if operation is None else operation.params
    return next((float(one.value) for one in parameters if one.name == "False easting"), 0.0)


@lru_cache(maxsize=256)
def turn_of(crs: str) -> float | None:
    """How far x grows in one turn around the Earth, in units of the CRS; None where it does not go on like this.

    360 for degrees; for cylindrical projections (Mercator, Plate Carree, EASE-Grid) the width of the map of the world.
    """
    known = _crs(crs)
    if known.is_compound:
        known = known.sub_crs_list[0]
    if known.is_geographic:
        radians = float(known.axis_info[0].unit_conversion_factor)
        return DEGREES if math.isclose(radians, math.radians(1), rel_tol=1e-9) else math.tau / radians
    operation = known.coordinate_operation if known.is_projected else None
    if operation is None or not _CYLINDRICAL.search(operation.method_name):
        return None
    # The longitude that such a map begins at lies in one of these steps at most.
    x, _ = reproject_points(np.array([0.0, 1.0, 90.0, 91.0]), np.zeros(4), WORLD, crs)
    step = min(abs(float(x[1] - x[0])), abs(float(x[3] - x[2])))
    return DEGREES * step if math.isfinite(step) and step > 0 else None


def footprint(transform: Affine, height: int, width: int, *, steps: int = 1) -> shapely.Polygon:
    """The outline of a grid in its own CRS, each side cut into `steps` parts; rotation and shear are kept."""
    along = np.arange(steps) / steps
    x = np.concatenate([along, np.ones(steps), 1 - along, np.zeros(steps)]) * width
    y = np.concatenate([np.zeros(steps), along, np.ones(steps), 1 - along]) * height
    return shapely.Polygon(np.stack(_apply(transform, x, y), axis=1))


def footprint_in(
    transform: Affine, crs: CRS | str, height: int, width: int, target: CRS | str, *, steps: int = 21
) -> shapely.Polygon | None:
    """The outline of a grid in the CRS `target`, in one piece, or None where that CRS does not reach it.

    Its longitudes run on beyond 180 degrees where the grid crosses them, and it reaches to a pole that the grid holds.
    """
    source, goal = crs_text(crs), crs_text(target)
    outline = footprint(transform, height, width, steps=steps)
    if source is None or goal is None or same_crs(source, goal):
        return outline
    points = shapely.get_coordinates(outline)
    x, y = reproject_points(points[:, 0], points[:, 1], source, goal)
    if not np.isfinite([x, y]).all():
        return None
    turn, there = turn_of(goal), np.stack([x, y], axis=1)
    return shapely.Polygon(there) if turn is None else ring_polygon(there, turn)


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
    """None where no way leads from one CRS to the other, such as from the Moon to the Earth."""
    try:
        return pyproj.Transformer.from_crs(_crs(source), _crs(target), always_xy=True)
    except pyproj.exceptions.ProjError:
        return None
