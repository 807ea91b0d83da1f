"""`check_leaks`: whether the splits of a catalog keep their distance on the ground.

Computed from the ground of scenes, or from tiles, and distances on the ellipsoid; nothing here knows how a split was
made.
"""

import itertools
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyproj
import shapely

from geoaug.data.catalog.catalog import Catalog
from geoaug.data.raster.meridians import in_one_piece
from geoaug.data.sampling.ground_blocks import LocalMetres
from geoaug.data.sampling.scene_overlap import overlapping
from geoaug.errors import ConfigurationError

Array = npt.NDArray[Any]

_TOLERANCE = 1e-3  # of the distance: outlines are made of straight lines
_DEGREE_M = 110_000.0  # a degree of latitude is longer everywhere


class Leak(NamedTuple):
    """Two scenes of different splits that come too near to each other."""

    splits: tuple[str, str]
    scenes: tuple[str, str]
    distance_m: float

    def in_words(self, asked_m: float = 0.0) -> str:
        """Which scenes come how near."""
        over = "meet or lie over each other" if asked_m else "lie over each other"
        how = f"are {self.distance_m:.3g} m apart" if self.distance_m else over
        return (
            f"scene '{self.scenes[0]}' of the split '{self.splits[0]}' and scene '{self.scenes[1]}' of the split "
            f"'{self.splits[1]}' {how}"
        )


class LeakError(ConfigurationError):
    """Splits whose ground is too near to each other.

    Attributes:
        leak: the worst that was found.
    """

    def __init__(self, leak: Leak, distance_m: float) -> None:
        self.leak = leak
        asked = f", less than {distance_m:g} m" if distance_m else ""
        super().__init__(f"{leak.in_words(distance_m)}{asked}: split by blocks with a buffer, or leave one out")


def check_leaks(
    catalog: Catalog, distance_m: float = 0.0, *, size: int | tuple[int, int] | None = None, splits: Any = None
) -> None:
    """Make sure that no tile of one split comes nearer than a distance to one of another.

    Args:
        catalog: with splits; scenes without a CRS cannot be compared and are refused.
        distance_m: in metres; 0 asks only that no ground is in two splits.
        size: of tiles in pixels: parts of the ground that are narrower than a tile do not count. Without it the whole
            ground of the splits does.
        splits: names of those to compare; by default all. A fold is compared with what it is trained with.

    Raises:
        LeakError: two scenes are too near; it names them and their distance.
    """
    names = catalog.split_names if splits is None else list(splits)
    if len(names) < 2:
        raise ConfigurationError(f"the catalog has {len(names)} split(s): there is nothing to compare")
    parts = {name: _ground(catalog.split(name), size) for name in names}
    folds = [(name, f"{name}-train") for name in names if f"{name}-train" in names]
    for one, other in folds or itertools.combinations(names, 2):
        leak = _worst(parts[one], parts[other], distance_m)
        if leak is not None:
            scenes, found = leak
            raise LeakError(Leak((one, other), scenes, found), distance_m)


def shared_ground(catalog: Catalog) -> str | None:
    """Which scenes of different splits lie over each other, in words; None where none do, or no CRS tells."""
    try:
        check_leaks(catalog)
    except LeakError as error:
        return error.leak.in_words()
    except ConfigurationError:
        return None
    return None


def _ground(part: Catalog, size: int | tuple[int, int] | None) -> tuple[list[str], Array]:
    """Names of scenes and their ground in degrees; with a size, the ground that a tile of it can cover."""
    crs = part.table.column("crs").to_pylist()
    if None in crs:
        raise ConfigurationError(f"scene '{part.ids[crs.index(None)]}' has no CRS, so it cannot be compared")
    ids = part.ids
    shapes = part.footprints.copy()
    if None in (found := shapes.tolist()):
        raise ConfigurationError(f"scene '{ids[found.index(None)]}' has no place on Earth, so it cannot be compared")
    gsd = part.column("gsd_m")
    side = None if size is None else min(size) if isinstance(size, tuple) else size
    if "region" in part.table.column_names:
        regions = part.table.column("region").to_pylist()
        for scene, stored in enumerate(regions):
            if stored is not None:
                # With its scene it is plain on which side of 180 degrees a region lies.
                outline, region = in_one_piece(np.array([shapes[scene], shapely.from_wkb(stored)]))
                shapes[scene] = shapely.intersection(outline, region)
                if side is not None and not shapes[scene].is_empty:
                    shapes[scene] = _wide_enough(shapes[scene], side * float(gsd[scene]))
    held = ~shapely.is_empty(shapes)
    return [name for name, kept in zip(ids, held.tolist(), strict=True) if kept], shapes[held]


def _wide_enough(shape: shapely.Geometry, side_m: float) -> shapely.Geometry:
    """What of a shape in degrees a square of some metres can cover, its narrow parts left out; to a few per cent."""
    half = 0.49 * side_m
    local = LocalMetres(*shapely.get_coordinates(shapely.centroid(shape))[0])
    ground = local.metres(shape)
    opened = ground.buffer(-half, join_style="mitre").buffer(half, join_style="mitre")
    return local.degrees(opened.intersection(ground))


def _worst(one: tuple[list[str], Array], other: tuple[list[str], Array], distance_m: float) -> Any:
    """The two scenes that are nearest to each other, and how near, where that is too near."""
    (names, shapes), (others, other_shapes) = one, other
    shapes, other_shapes = np.split(in_one_piece(np.concatenate([shapes, other_shapes])), [len(shapes)])
    bounds = shapely.bounds(shapes)
    tall = 1.01 * distance_m / _DEGREE_M
    wide = tall / np.maximum(np.cos(np.deg2rad(np.abs(bounds[:, [1, 3]]).max(axis=1) + tall)), 1e-3)
    boxes = shapely.box(bounds[:, 0] - wide, bounds[:, 1] - tall, bounds[:, 2] + wide, bounds[:, 3] + tall)
    mine, theirs = shapely.STRtree(other_shapes).query(boxes, predicate="intersects")
    worst = None
    if distance_m > 0:
        # The nearest points as on a map that is true at their latitude; their distance on the ellipsoid.
        middle = (bounds[mine, 1] + bounds[mine, 3]) / 2
        lines = shapely.get_coordinates(
            shapely.shortest_line(_narrowed(shapes[mine], middle), _narrowed(other_shapes[theirs], middle))
        ).reshape(-1, 2, 2)
        lines[..., 0] /= np.cos(np.deg2rad(middle))[:, None]
        apart = pyproj.Geod(ellps="WGS84").inv(*lines[:, 0].T, *lines[:, 1].T)[2]
        if len(apart) and apart.min() < distance_m * (1 - _TOLERANCE):
            worst = int(np.argmin(apart)), float(apart.min())
    else:
        for pair, (a, b) in enumerate(zip(mine.tolist(), theirs.tolist(), strict=True)):
            both = shapely.intersection(shapes[a], other_shapes[b])
            west, south, east, north = shapely.bounds(both).tolist()
            if not both.area:
                continue
            there = LocalMetres((west + east) / 2, (south + north) / 2).metres(both)
            if overlapping(np.array([there]))[0]:
                worst = pair, 0.0
                break
    if worst is None:
        return None
    return (names[int(mine[worst[0]])], others[int(theirs[worst[0]])]), worst[1]


def _narrowed(shapes: Array, latitude: Array) -> Array:
    points, index = shapely.get_coordinates(shapes, return_index=True)
    points[:, 0] *= np.cos(np.deg2rad(latitude))[index]
    return np.asarray(shapely.set_coordinates(shapes.copy(), points))
