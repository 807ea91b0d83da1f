"""Which scenes lie over each other, or near each other."""

from typing import Any

import numpy as np
import numpy.typing as npt
import shapely

from geoaug.data.catalog import Catalog

Array = npt.NDArray[Any]

_OVERLAP = 1e-3  # of the smaller one's area: less is where two outlines of neighbours differ by rounding
_WGS84_A, _WGS84_E2 = 6378137.0, 0.00669437999014


def near_outlines(catalog: Catalog, distance_m: float) -> tuple[Array, Array, Array]:
    """Which outline each scene has (-1: none, without a CRS), and pairs of outlines that are near each other.

    Scenes with one outline lie over each other. Two outlines are near where they come nearer to each other than a
    distance in metres; for 0, where they overlap.
    """
    placed = np.flatnonzero(catalog.table.column("geometry").is_valid().to_numpy())
    outlines, which = np.unique(shapely.to_wkb(catalog.footprints[placed]), return_inverse=True)
    numbers = np.full(len(catalog), -1)
    numbers[placed] = which
    one, other = near_shapes(shapely.from_wkb(outlines), distance_m)
    return numbers, one, other


def near_shapes(shapes: Array, distance_m: float) -> tuple[Array, Array]:
    """Pairs of different shapes in degrees that lie nearer to each other than a distance in metres; for 0, overlap."""
    tree = shapely.STRtree(shapes)
    bounds = shapely.bounds(shapes)
    north, east = _metres_per_degree(np.abs(bounds[:, [1, 3]]).max(axis=1))
    tall, wide = distance_m / north * 1.01, distance_m / east * 1.01
    boxes = shapely.box(bounds[:, 0] - wide, bounds[:, 1] - tall, bounds[:, 2] + wide, bounds[:, 3] + tall)
    one, other = tree.query(boxes, predicate="intersects")
    one, other = one[one < other], other[one < other]
    if distance_m > 0:
        latitude = (bounds[one, 1] + bounds[one, 3]) / 2
        near = shapely.distance(_scaled(shapes[one], latitude), _scaled(shapes[other], latitude)) < distance_m
    else:
        least = np.minimum(shapely.area(shapes[one]), shapely.area(shapes[other]))
        near = shapely.area(shapely.intersection(shapes[one], shapes[other])) > _OVERLAP * least
    return one[near], other[near]


def overlap_groups(catalog: Catalog, distance_m: float) -> npt.NDArray[np.int64]:
    """A number for each scene, the same for those that overlap or lie nearer than a distance, and all linked so."""
    which, one, other = near_outlines(catalog, distance_m)
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
