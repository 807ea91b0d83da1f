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

from geoaug.data.catalogs.catalog import Catalog
from geoaug.data.catalogs.parts import scenes_of_split, split_names
from geoaug.data.scenes.grids import footprint_in
from geoaug.data.splits.scene_overlap import overlapping
from geoaug.data.surveys.ground_blocks import GEOGRAPHIC, LocalMetres, unwrapped
from geoaug.errors import ConfigurationError

Array = npt.NDArray[Any]

_TOLERANCE = 1e-3  # of the distance: outlines are made of straight lines
_DEGREE_M = 110_000.0  # a degree of latitude is longer everywhere


class Leak(NamedTuple):
    """Two scenes of different splits that come too near to each other."""

    splits: tuple[str, str]
    scenes: tuple[str, str]
    distance_m: float


class LeakError(ConfigurationError):
    """Splits whose ground is too near to each other.

    Attributes:
        leak: the worst that was found.
    """

    def __init__(self, leak: Leak, distance_m: float) -> None:
        self.leak = leak
        how = "lie over each other" if leak.distance_m == 0 else f"are {leak.distance_m:.0f} m apart"
        asked = f", less than {distance_m:g} m" if distance_m else ""
        super().__init__(
            f"scene '{leak.scenes[0]}' of the split '{leak.splits[0]}' and scene '{leak.scenes[1]}' of the split "
            f"'{leak.splits[1]}' {how}{asked}: split by blocks with a buffer, or leave one out"
        )


def check_leaks(
    catalog: Catalog, distance_m: float = 0.0, *, size: int | tuple[int, int] | None = None, splits: Any = None
) -> None:
    """Make sure that no tile of one split comes nearer than a distance to one of another.

    Args:
        catalog: with splits; scenes without a CRS cannot be compared and are refused.
        distance_m: in metres; 0 asks only that no ground is in two splits.
        size: of tiles in pixels: those of a dense grid in each split are compared. Without it the whole ground of the
            splits is, which is stricter.
        splits: names of those to compare; all, unless told. A fold is compared with what it is trained with.

    Raises:
        LeakError: two scenes are too near; it names them and their distance.
    """
    names = split_names(catalog) if splits is None else list(splits)
    if len(names) < 2:
        raise ConfigurationError(f"the catalog has {len(names)} split(s): there is nothing to compare")
    parts = {name: _ground(scenes_of_split(catalog, name), size) for name in names}
    folds = [(name, f"{name}-train") for name in names if f"{name}-train" in names]
    for one, other in folds or itertools.combinations(names, 2):
        leak = _worst(parts[one], parts[other], distance_m)
        if leak is not None:
            scenes, found = leak
            raise LeakError(Leak((one, other), scenes, found), distance_m)


def _ground(part: Catalog, size: int | tuple[int, int] | None) -> tuple[list[str], Array]:
    """Names of scenes and their ground in degrees: a polygon for each scene, or for each tile."""
    crs = part.table.column("crs").to_pylist()
    if None in crs:
        raise ConfigurationError(f"scene '{part.ids[crs.index(None)]}' has no CRS, so it cannot be compared")
    ids = part.ids
    if size is not None:
        return _tiles(part, size)
    shapes = part.footprints.copy()
    if "region" in part.table.column_names:
        regions = part.table.column("region").to_pylist()
        for scene, stored in enumerate(regions):
            if stored is not None:
                # With its scene it is plain on which side of 180 degrees a region lies.
                outline, region = unwrapped(np.array([shapes[scene], shapely.from_wkb(stored)]))
                shapes[scene] = shapely.intersection(outline, region)
    return ids, shapes


def _tiles(part: Catalog, size: int | tuple[int, int]) -> tuple[list[str], Array]:
    from geoaug.data.samplers.grid_sampler import GridTileSampler
    from geoaug.data.samplers.tile_source import CatalogTiles

    source = CatalogTiles(part, size)
    height, width = source.size
    tiles = GridTileSampler(source, stride=(max(height // 2, 1), max(width // 2, 1)))
    ids, names, shapes = part.ids, [], []
    grids = {}
    for tile in tiles.refs(0, tiles.length):
        if tile.scene not in grids:
            grids[tile.scene] = source.grid(tile.scene)
        grid = grids[tile.scene].shifted(tile.row, tile.col, height, width)
        assert grid.crs is not None
        names.append(ids[tile.scene])
        shapes.append(footprint_in(grid.transform, grid.crs, height, width, GEOGRAPHIC, steps=2))
    return names, np.array(shapes, dtype=object)


def _worst(one: tuple[list[str], Array], other: tuple[list[str], Array], distance_m: float) -> Any:
    """The two scenes that are nearest to each other, and how near, where that is too near."""
    (names, shapes), (others, other_shapes) = one, other
    shapes, other_shapes = np.split(unwrapped(np.concatenate([shapes, other_shapes])), [len(shapes)])
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
        for place, (a, b) in enumerate(zip(mine.tolist(), theirs.tolist(), strict=True)):
            both = shapely.intersection(shapes[a], other_shapes[b])
            west, south, east, north = shapely.bounds(both).tolist()
            if not both.area:
                continue
            there = LocalMetres((west + east) / 2, (south + north) / 2).metres(both)
            if overlapping(np.array([there]))[0]:
                worst = place, 0.0
                break
    if worst is None:
        return None
    return (names[int(mine[worst[0]])], others[int(theirs[worst[0]])]), worst[1]


def _narrowed(shapes: Array, latitude: Array) -> Array:
    points, index = shapely.get_coordinates(shapes, return_index=True)
    points[:, 0] *= np.cos(np.deg2rad(latitude))[index]
    return np.asarray(shapely.set_coordinates(shapes.copy(), points))
