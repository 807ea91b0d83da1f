"""`GroundBlocks`: the whole ground cut into blocks of about one area, the same for every scene, date and CRS.

Bands of latitude of one height, each cut along meridians into equal parts that are about as wide as they are high: the
grid of MODIS' integerised sinusoidal products. It hangs on nothing but the side of a block, so new scenes of known
ground fall into known blocks. Also here: where the ground of a scene lies, and polygons in metres around a place.
"""

import math
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyproj
import shapely
from affine import Affine

from geoaug.data.scenes.grids import reproject_points
from geoaug.data.surveys.coverage import cell_size
from geoaug.errors import ConfigurationError

GEOGRAPHIC: Final = "EPSG:4326"

Array = npt.NDArray[Any]

_RADIUS_M = 6371008.8  # of the sphere with the Earth's mean radius
_LEAST_SIDE_M, _GREATEST_SIDE_M = 1.0, 2_000_000.0
_DATE_LINE_EAST = -160.0
_EDGE_DEGREES = 0.009  # between points on an edge: a parallel bends by a centimetre at most between them


class GroundBlocks:
    """Blocks of about `side_m` x `side_m` metres.

    A block is known by a number: the one of its row from the south pole, times 2^32, and of its column from 180 degrees
    west.
    """

    def __init__(self, side_m: float) -> None:
        if not _LEAST_SIDE_M <= side_m <= _GREATEST_SIDE_M:
            raise ConfigurationError(
                f"blocks of {side_m:g} m: their side must be from {_LEAST_SIDE_M:g} m to {_GREATEST_SIDE_M / 1000:g} km"
            )
        self.rows = max(1, round(math.pi * _RADIUS_M / side_m))
        self.side_m = math.pi * _RADIUS_M / self.rows
        self.height = 180.0 / self.rows

    def columns(self, row: Array) -> Array:
        """How many blocks a row has."""
        middle = np.deg2rad((row + 0.5) * self.height - 90.0)
        return np.maximum(np.round(2 * self.rows * np.cos(middle)), 1).astype(np.int64)

    def at(self, longitude: Array, latitude: Array) -> npt.NDArray[np.int64]:
        """The blocks that hold points."""
        row = np.clip(np.floor((latitude + 90.0) / self.height), 0, self.rows - 1).astype(np.int64)
        count = self.columns(row)
        col = np.floor((longitude + 180.0) / 360.0 * count).astype(np.int64) % count
        return np.asarray(row << 32 | col)

    def around(self, bounds: tuple[float, float, float, float]) -> npt.NDArray[np.int64]:
        """The blocks that touch a box of (west, south, east, north) degrees; east may be greater than 180."""
        west, south, east, north = bounds
        lowest, highest = (
            min(max(math.floor((latitude + 90.0) / self.height), 0), self.rows - 1) for latitude in (south, north)
        )
        rows = np.arange(lowest, highest + 1)
        found = []
        for row, count in zip(rows.tolist(), self.columns(rows).tolist(), strict=True):
            first = math.floor((west + 180.0) / 360.0 * count)
            last = min(math.floor((east + 180.0) / 360.0 * count), first + count - 1)
            found.append(row << 32 | np.arange(first, last + 1) % count)
        return np.concatenate(found) if found else np.zeros(0, dtype=np.int64)

    def boxes(self, block: npt.NDArray[np.int64]) -> npt.NDArray[np.object_]:
        """Outlines of blocks in degrees; neighbours have the very same numbers where they meet."""
        row, col = block >> 32, block & 0xFFFFFFFF
        width = 360.0 / self.columns(row)
        south, north = (row * self.height - 90.0, (row + 1) * self.height - 90.0)
        return np.asarray(shapely.box(col * width - 180.0, south, (col + 1) * width - 180.0, north))

    def union(self, block: npt.NDArray[np.int64], bounds: tuple[float, float, float, float]) -> Any:
        """What blocks cover of a box of (west, south, east, north) degrees; east may be greater than 180.

        Its edges have points close enough for straight lines in degrees to be straight in any CRS, to a centimetre.
        """
        boxes = self.boxes(block)
        turned = [shapely.transform(boxes, lambda xy, turn=turn: xy + np.array([turn, 0.0])) for turn in (-360, 360)]
        around = np.concatenate([boxes, *turned])
        covered = shapely.union_all(shapely.intersection(around, shapely.box(*bounds)))
        return shapely.segmentize(covered, _EDGE_DEGREES)


class LocalMetres:
    """Metres east and north around a place: distances from there are right, and others nearby to a hundredth."""

    def __init__(self, longitude: float, latitude: float) -> None:
        # As a pipeline, which takes a hundredth of the time that a transformer between two CRS does.
        self._to = pyproj.Transformer.from_pipeline(
            "+proj=pipeline +step +proj=unitconvert +xy_in=deg +xy_out=rad "
            f"+step +proj=aeqd +lat_0={latitude:.6f} +lon_0={longitude:.6f} +ellps=WGS84"
        )

    def metres(self, geometry: Any) -> Any:
        """Geometries in degrees, one or an array, in metres."""
        return shapely.transform(geometry, lambda xy: np.stack(self._to.transform(xy[:, 0], xy[:, 1]), axis=1))

    def degrees(self, geometry: Any) -> Any:
        """Geometries in metres, one or an array, in degrees."""
        return shapely.transform(
            geometry, lambda xy: np.stack(self._to.transform(xy[:, 0], xy[:, 1], direction="INVERSE"), axis=1)
        )


def unwrapped(shapes: Any) -> Any:
    """Shapes in degrees, one or an array, of which none is torn at 180 degrees.

    Those that lie across it, and in their company those just east of it, get longitudes of up to 360.
    """
    several = np.atleast_1d(shapes)
    bounds = shapely.bounds(several)
    across = (bounds[:, 2] - bounds[:, 0] > 180) | (bounds[:, 2] > 180)
    if not across.any():
        return shapes
    across |= bounds[:, 2] < _DATE_LINE_EAST
    turned = several.copy()
    turned[across] = shapely.transform(several[across], lambda xy: np.stack([xy[:, 0] % 360, xy[:, 1]], axis=1))
    return turned if isinstance(shapes, np.ndarray) else turned[0]


def cell_centres(crs: str, transform: Affine, height: int, width: int) -> tuple[Array, Array, Array]:
    """(longitude, latitude, pixels) of the cells of a grid, as a survey counts them, row by row."""
    cell = cell_size(height, width)
    rows, cols = (np.arange(0, size, cell) for size in (height, width))
    tall, wide = np.minimum(rows + cell, height) - rows, np.minimum(cols + cell, width) - cols
    col, row = (axis.ravel() for axis in np.meshgrid(cols + wide / 2, rows + tall / 2))
    a, b, c, d, e, f = transform[:6]
    longitude, latitude = reproject_points(a * col + b * row + c, d * col + e * row + f, crs, GEOGRAPHIC)
    return longitude, latitude, np.outer(tall, wide).ravel()
