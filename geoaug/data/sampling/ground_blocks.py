"""The ground cut into blocks of about equal size, and how much of what lies there: valid ground, and each class.

Blocks lie in rows of equal latitude from the south pole, each cut into as many as make them about square, so that a
block is the same ground for all scenes, whatever their CRS. Amounts are of scenes, or of the parts of them that a split
holds. Which block goes to which split is decided in `geoaug.data.sampling.split_ground`.
"""

import math
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyproj
import shapely
from affine import Affine

from geoaug.data.catalog.catalog import Catalog
from geoaug.data.raster.grid import WORLD, reproject_points
from geoaug.data.raster.meridians import DEGREES, in_one_piece
from geoaug.data.sampling.coverage import Coverage, cell_size
from geoaug.errors import ConfigurationError

GEOGRAPHIC: Final = WORLD

Array = npt.NDArray[Any]

_RADIUS_M = 6371008.8  # of the sphere with the Earth's mean radius
LEAST_SIDE_M, GREATEST_SIDE_M = 1.0, 2_000_000.0
_EDGE_DEGREES = 0.009  # between points on an edge: a parallel bends by a centimetre at most between them


class GroundBlocks:
    """Blocks of about `side_m` x `side_m` metres.

    A block is known by a number: the one of its row from the south pole, times 2^32, and of its column from 180 degrees
    west.
    """

    def __init__(self, side_m: float) -> None:
        if not LEAST_SIDE_M <= side_m <= GREATEST_SIDE_M:
            raise ConfigurationError(
                f"blocks of {side_m:g} m: their side must be from {LEAST_SIDE_M:g} m to {GREATEST_SIDE_M / 1000:g} km "
                "(block_m, --block-m)",
                argument="block_m",
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
    """Metres east and north around a point: distances from there are right, and others nearby to a hundredth."""

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


def cell_centres(crs: str, transform: Affine, height: int, width: int) -> tuple[Array, Array, Array]:
    """(longitude, latitude, pixels) of the cells of a grid, as a survey counts them, row by row."""
    cell = cell_size(height, width)
    rows, cols = (np.arange(0, size, cell) for size in (height, width))
    tall, wide = np.minimum(rows + cell, height) - rows, np.minimum(cols + cell, width) - cols
    col, row = (axis.ravel() for axis in np.meshgrid(cols + wide / 2, rows + tall / 2))
    a, b, c, d, e, f = transform[:6]
    longitude, latitude = reproject_points(a * col + b * row + c, d * col + e * row + f, crs, GEOGRAPHIC)
    return longitude, latitude, np.outer(tall, wide).ravel()


def ground_m2(catalog: Catalog) -> npt.NDArray[np.float64]:
    """The valid ground of each scene in square metres, as far as is known; in pixels without a CRS."""
    gsd = catalog.column("gsd_m").astype(np.float64)
    area = (
        catalog.column("height").astype(np.float64) * catalog.column("width") * np.where(np.isfinite(gsd), gsd, 1) ** 2
    )
    if "valid_share" in catalog.table.column_names:
        share = catalog.column("valid_share").astype(np.float64)
        area *= np.where(np.isfinite(share), share, 1.0)
    return np.asarray(area)


def class_ids(catalog: Catalog) -> list[Any]:
    """What classes are known by: labels of chips, else ids that a survey counted."""
    labels = catalog.table.column("label").drop_null().unique().to_pylist()
    if labels:
        return sorted(labels)
    if "class_counts" not in catalog.table.column_names:
        return []
    flat = catalog.table.column("class_counts").combine_chunks().flatten()
    return sorted(flat.field("id").unique().to_pylist())


def class_amounts(catalog: Catalog) -> npt.NDArray[np.float64]:
    """(scenes, classes): chips or pixels of each of `class_ids` in each scene."""
    ids = class_ids(catalog)
    column = {value: number for number, value in enumerate(ids)}
    amounts = np.zeros((len(catalog), len(ids)))
    labels = catalog.table.column("label").to_pylist()
    if any(label is not None for label in labels):
        for scene, label in enumerate(labels):
            if label is not None:
                amounts[scene, column[label]] = 1
    elif ids:
        for scene, counts in enumerate(catalog.table.column("class_counts").to_pylist()):
            for count in counts or ():
                amounts[scene, column[count["id"]]] = count["count"]
    return amounts


def class_name(catalog: Catalog, number: Any) -> str:
    """A class as a person knows it."""
    if isinstance(number, int) and 0 <= number < len(catalog.classes):
        return f"{catalog.classes[number]}"
    return f"class {number}" if isinstance(number, int) else str(number)


def class_amounts_in(part: Catalog, ids: Sequence[Any]) -> npt.NDArray[np.float64]:
    """How much there is of each class in the scenes of a split: in their regions, where they have such."""
    there = class_ids(part)
    amounts = class_amounts(part)
    column = {value: number for number, value in enumerate(ids)}
    total = np.zeros(len(ids))
    limited = [False] * len(part)
    if "region" in part.table.column_names:
        limited = part.table.column("region").is_valid().to_pylist()
    for scene in np.flatnonzero(limited).tolist():
        coverage = Coverage.of(part, scene)
        if coverage is not None:
            inside = cells_inside(part, scene)
            amounts[scene] = 0
            counts = (coverage.class_pixels * inside).sum(axis=(1, 2))
            for number, count in zip(coverage.class_ids, counts.tolist(), strict=True):
                if number in there:
                    amounts[scene, there.index(number)] = count
    for number, value in enumerate(there):
        total[column[value]] = amounts[:, number].sum()
    return total


def cells_inside(part: Catalog, scene: int) -> npt.NDArray[np.bool_]:
    """(rows, cols): the cells of a scene whose centres lie in its region."""
    grid = part[scene].grid
    assert grid.crs is not None
    longitude, latitude, _ = cell_centres(grid.crs, grid.transform, grid.height, grid.width)
    region = in_one_piece(shapely.from_wkb(part.table.column("region")[scene].as_py()))
    west = float(shapely.bounds(region)[0])
    longitude = west + (longitude - west) % DEGREES
    shapely.prepare(region)
    coverage = Coverage.of(part, scene)
    assert coverage is not None
    return np.asarray(shapely.contains_xy(region, longitude, latitude).reshape(coverage.valid.shape))
