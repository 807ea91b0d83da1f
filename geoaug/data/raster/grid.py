"""Where a pixel grid lies: its footprint, and its pixel centres in another CRS or on another grid.

Pure geometry with pyproj and shapely. A grid is a geotransform (rasterio's convention: (0, 0) is the outer
corner of the first pixel), a CRS and a size; nothing here reads or writes a raster.
"""

from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pyproj
import shapely
from affine import Affine
from rasterio.crs import CRS

from geoaug.errors import ConfigurationError

Coordinates = npt.NDArray[np.float64]

_LATTICE_STEP = 16  # pixels between the points that are projected exactly; between them positions are interpolated
_LATTICE_TOLERANCE = 0.01  # pixels of the other grid


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
