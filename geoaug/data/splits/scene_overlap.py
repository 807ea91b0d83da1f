"""Which scenes lie over each other, or near each other."""

from typing import Any

import numpy as np
import numpy.typing as npt
import shapely

from geoaug.data.catalogs.arrow_arrays import to_numpy
from geoaug.data.catalogs.catalog import Catalog
from geoaug.data.surveys.ground_blocks import unwrapped

Array = npt.NDArray[Any]

_OVERLAP = 1e-3  # of the smaller one's area: less is where two outlines of neighbours differ by rounding
_WGS84_A, _WGS84_E2 = 6378137.0, 0.00669437999014


class Outlines:
    """The outlines of a catalog's scenes in degrees, each once, and which of them may be near each other.

    Attributes:
        of_scene: which outline each scene has; -1 without a CRS. Scenes with one outline lie over each other.
        pairs: (2, n) pairs of different outlines whose boxes are nearer than the distance.
    """

    def __init__(self, catalog: Catalog, distance_m: float) -> None:
        placed = np.flatnonzero(to_numpy(catalog.table.column("geometry").is_valid()))
        stored, which = np.unique(shapely.to_wkb(catalog.footprints[placed]), return_inverse=True)
        self.distance_m = distance_m
        self.of_scene = np.full(len(catalog), -1)
        self.of_scene[placed] = which
        self._shapes = unwrapped(shapely.from_wkb(stored))
        bounds = shapely.bounds(self._shapes).reshape(-1, 4)
        north, east = _metres_per_degree(np.abs(bounds[:, [1, 3]]).max(axis=1))
        tall, wide = distance_m / north * 1.01, distance_m / east * 1.01
        boxes = shapely.box(bounds[:, 0] - wide, bounds[:, 1] - tall, bounds[:, 2] + wide, bounds[:, 3] + tall)
        one, other = shapely.STRtree(self._shapes).query(boxes, predicate="intersects")
        self.pairs = np.stack([one, other])[:, one < other]
        self._latitude = bounds[:, [1, 3]].mean(axis=1)

    def near(self, pairs: Array) -> npt.NDArray[np.bool_]:
        """Whether pairs come nearer to each other than the distance; for 0, whether they overlap."""
        first, second = self._shapes[pairs[0]], self._shapes[pairs[1]]
        if self.distance_m > 0:
            latitude = self._latitude[pairs[0]]
            return np.asarray(shapely.distance(_scaled(first, latitude), _scaled(second, latitude)) < self.distance_m)
        least = np.minimum(shapely.area(first), shapely.area(second))
        return np.asarray(shapely.area(shapely.intersection(first, second)) > _OVERLAP * least)


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
