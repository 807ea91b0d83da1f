"""Which scenes lie over each other, or near each other."""

from typing import Any

import numpy as np
import numpy.typing as npt
import shapely

from geoaug.data.catalog.arrow_arrays import to_numpy
from geoaug.data.catalog.catalog import Catalog
from geoaug.data.raster.meridians import in_one_piece

Array = npt.NDArray[Any]

LEAST_OVERLAP_M = 0.1  # across, on average: less is where two outlines differ, which are made of straight lines
_PAIRS_LOOKED_AT = 5000
_WGS84_A, _WGS84_E2 = 6378137.0, 0.00669437999014


class Outlines:
    """The outlines of a catalog's scenes in degrees, each once, and which of them may be near each other.

    Attributes:
        of_scene: which outline each scene has; -1 without a CRS. Scenes with one outline lie over each other.
        pairs: (2, n) pairs of different outlines whose boxes are nearer than the distance.
    """

    def __init__(self, catalog: Catalog, distance_m: float) -> None:
        located = np.flatnonzero(to_numpy(catalog.table.column("geometry").is_valid()))
        stored, which = np.unique(shapely.to_wkb(catalog.footprints[located]), return_inverse=True)
        self.distance_m = distance_m
        self.of_scene = np.full(len(catalog), -1)
        self.of_scene[located] = which
        self._shapes = in_one_piece(shapely.from_wkb(stored))
        bounds = shapely.bounds(self._shapes).reshape(-1, 4)
        north, east = _metres_per_degree(np.abs(bounds[:, [1, 3]]).max(axis=1))
        tall, wide = distance_m / north * 1.01, distance_m / east * 1.01
        boxes = shapely.box(bounds[:, 0] - wide, bounds[:, 1] - tall, bounds[:, 2] + wide, bounds[:, 3] + tall)
        one, other = shapely.STRtree(self._shapes).query(boxes, predicate="intersects")
        self.pairs = np.stack([one, other])[:, one < other]
        self._latitude = bounds[:, [1, 3]].mean(axis=1)

    def near(self, pairs: Array) -> npt.NDArray[np.bool_]:
        """Whether pairs come nearer to each other than the distance; for 0, whether they overlap."""
        latitude = self._latitude[pairs[0]]
        first, second = (_scaled(self._shapes[one], latitude) for one in pairs)
        if self.distance_m > 0:
            return np.asarray(shapely.distance(first, second) < self.distance_m)
        # By half of what counts as a leak, as this is true to some parts in a thousand only.
        return overlapping(shapely.intersection(first, second), LEAST_OVERLAP_M / 2)

    def crowded(self) -> bool:
        """Whether any scenes come nearer to each other than the distance; of many pairs some thousands are tried."""
        some = self.pairs[:, :: max(1, self.pairs.shape[1] // _PAIRS_LOOKED_AT)]
        return bool(self.near(some).any())

    def ground_m2(self) -> float:
        """The ground that all of them cover, each spot once; to a hundredth."""
        parts = shapely.get_parts(shapely.union_all(self._shapes))
        return float(shapely.area(_scaled(parts, shapely.get_y(shapely.centroid(parts)))).sum())


def overlapping(both: Array, least_m: float = LEAST_OVERLAP_M) -> npt.NDArray[np.bool_]:
    """Whether what pairs of outlines have in common, in metres, is more than a rounding of their edges."""
    pieces, index = shapely.get_parts(both, return_index=True)
    found = np.zeros(len(both), dtype=bool)
    found[index[2 * shapely.area(pieces) > least_m * shapely.length(pieces)]] = True
    return found


def overlap_groups(catalog: Catalog, distance_m: float) -> npt.NDArray[np.int64]:
    """A number for each scene, the same for those that overlap or lie nearer than a distance, and all linked so."""
    outlines = Outlines(catalog, distance_m)
    which = outlines.of_scene
    one, other = outlines.pairs[:, outlines.near(outlines.pairs)]
    group = np.arange(which.max(initial=-1) + 1)
    while True:
        lower = np.minimum(group[one], group[other])
        found = group.copy()
        np.minimum.at(found, one, lower)
        np.minimum.at(found, other, lower)
        found = found[found]
        if (found == group).all():
            return np.where(which < 0, len(group) + np.arange(len(which)), group[which] if len(group) else 0)
        group = found


def _metres_per_degree(latitude: Array) -> tuple[Array, Array]:
    """North and east, on the ellipsoid of WGS 84."""
    sine = np.sin(np.deg2rad(latitude))
    bent = 1 - _WGS84_E2 * sine**2
    north = np.deg2rad(1.0) * _WGS84_A * (1 - _WGS84_E2) / bent**1.5
    return north, np.maximum(np.deg2rad(1.0) * _WGS84_A / np.sqrt(bent) * np.sqrt(1 - sine**2), 1.0)


def _scaled(shapes: Array, latitude: Array) -> Array:
    """Shapes in degrees in metres, each as at its latitude."""
    points, index = shapely.get_coordinates(shapes, return_index=True)
    north, east = _metres_per_degree(latitude)
    return np.asarray(shapely.set_coordinates(shapes.copy(), points * np.stack([east, north], axis=1)[index]))
