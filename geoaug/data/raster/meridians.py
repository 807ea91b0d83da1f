"""Shapes on a round Earth: what crosses the meridian of 180 degrees, what holds a pole, and longitudes of 0 to 360.

Outlines are worked with in one piece: their longitudes run on beyond 180 where the ground does. They are kept as
GeoJSON wants them (RFC 7946, section 3.1.9: https://datatracker.ietf.org/doc/html/rfc7946#section-3.1.9), cut at 180
degrees into parts between -180 and 180. Here are the steps from each to the other, as functions of numbers alone. What
holds for degrees holds for every CRS whose x grows steadily with the longitude (Mercator's, say), so functions take the
length of a turn around the Earth in its units; `geoaug.data.raster.grid.turn_of` knows it.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import shapely

DEGREES = 360.0
"""A turn in degrees."""

_HALF = DEGREES / 2
_MARGIN = 0.01  # of a width, beyond which nothing is kept

Coordinates = npt.NDArray[np.float64]


def run_on(x: Coordinates, turn: float) -> Coordinates:
    """Coordinates (n,) of points along a line without their jumps by a turn: no step is longer than half of one."""
    jumps = -turn * np.round(np.diff(x) / turn)
    return x if not jumps.any() else np.concatenate([x[:1], x[1:] + np.cumsum(jumps)])


def is_torn(points: Coordinates, turn: float) -> bool:
    """Whether a closed line of points (n, 2) jumps by more than half a turn, as those across the date line do.

    The straight edge of a box from -180 to 180 degrees is as long as a turn, and is meant.
    """
    jumps = np.abs(np.diff(points[:, 0]))
    return bool(((jumps > turn / 2) & (jumps < turn * (1 - 1e-12))).any())


def ring_polygon(points: Coordinates, turn: float) -> shapely.Polygon:
    """The polygon within a closed line of points (n, 2) which may cross the date line, in one piece.

    A line that goes once around the Earth encloses the pole on its side of the equator: the polygon reaches up to it.
    """
    if not is_torn(points, turn):
        return shapely.Polygon(points)
    x, y = run_on(points[:, 0], turn), points[:, 1]
    if round((x[-1] - x[0]) / turn):
        # In degrees a quarter of a turn is the pole; maps on which it lies infinitely far off end somewhere, too.
        pole = np.copysign(max(turn / 4, float(np.abs(y).max())), y.mean())
        x, y = np.append(x, [x[-1], x[0]]), np.append(y, [pole, pole])
    return shapely.Polygon(np.stack([x, y], axis=1))


def whole_shape(shape: shapely.Geometry, turn: float) -> shapely.Geometry:
    """A shape whose polygons may be torn, as coordinates brought one by one to a map tear them, each in one piece."""
    if not _any_torn(shape, turn):
        return shape
    return _polygons([_whole_polygon(part, turn) for part in shapely.get_parts(shape)])


def _any_torn(shape: shapely.Geometry, turn: float) -> bool:
    west, _, east, _ = shapely.bounds(shape)
    if not east - west > turn / 2:
        return False
    parts = shapely.get_parts(shape)
    rings = shapely.get_rings(parts[shapely.get_type_id(parts) == 3])
    return any(is_torn(shapely.get_coordinates(ring), turn) for ring in rings)


def _whole_polygon(polygon: shapely.Geometry, turn: float) -> shapely.Geometry:
    if polygon.geom_type != "Polygon" or polygon.is_empty:
        return polygon
    outer, *inner = (shapely.get_coordinates(ring) for ring in shapely.get_rings(polygon))
    whole: shapely.Geometry = shapely.make_valid(ring_polygon(outer, turn))
    for ring in inner:
        hole = shapely.make_valid(ring_polygon(ring, turn))
        for turns in (-1, 0, 1):  # the hole lies in one of these places
            whole = shapely.difference(whole, moved(hole, turns * turn))
    return whole


def moved(shape: Any, distance: float) -> Any:
    """A shape, or an array of them, further along x."""
    return shape if distance == 0 else shapely.transform(shape, lambda xy: xy + np.array([distance, 0.0]))


def near_to(shape: shapely.Geometry, west: float, east: float, turn: float) -> shapely.Geometry:
    """What of a shape lies between two coordinates of x, wherever turns take it; all of it where none is needed."""
    left, bottom, right, top = shapely.bounds(shape).tolist()
    about = min(east - west, (turn - (east - west)) / 2)
    if not np.isfinite(left) or (left >= west - about and right <= east + about):
        return shape
    first, last = int(np.ceil((west - right) / turn)), int(np.floor((east - left) / turn))
    if first == last:
        return moved(shape, first * turn)
    margin = _MARGIN * (east - west)
    box = shapely.box(west - margin, bottom - 1, east + margin, top + 1)
    return _polygons([shapely.intersection(moved(shape, turns * turn), box) for turns in range(first, last + 1)])


def cut_at_180(shape: shapely.Geometry) -> shapely.Geometry:
    """A shape in degrees, in one piece, with longitudes from -180 to 180: cut where it crosses them (RFC 7946)."""
    west, south, east, north = shapely.bounds(shape).tolist()
    if not (west < -_HALF or east > _HALF):
        return shape
    box = shapely.box(-_HALF, south - 1, _HALF, north + 1)
    turns = range(int(np.floor((west + _HALF) / DEGREES)), int(np.ceil((east - _HALF) / DEGREES)) + 1)
    return _polygons([shapely.intersection(moved(shape, -number * DEGREES), box) for number in turns])


def _polygons(shapes: list[shapely.Geometry]) -> shapely.Geometry:
    """All polygons of some shapes, those that touch made one."""
    parts = shapely.get_parts(shapely.get_parts(np.array(shapes, dtype=object)))
    return shapely.union_all(parts[(shapely.get_type_id(parts) == 3) & (shapely.area(parts) > 0)])


def map_edge(shapes: npt.NDArray[np.object_]) -> float:
    """The longitude that a map of shapes (degrees) begins at: -180, or where nothing lies if something crosses 180.

    So it is, too, where the shapes fit into half of the world across 180, and not otherwise.
    """
    parts, owner = shapely.get_parts(shapes, return_index=True)
    bounds = shapely.bounds(parts)
    if not len(parts) or not np.isfinite(bounds).any():
        return -_HALF
    west, east = bounds[:, 0].copy(), bounds[:, 2].copy()
    torn = _torn(parts)
    for part in np.flatnonzero(torn):
        longitudes = shapely.get_coordinates(parts[part])[:, 0]
        west[part], east[part] = longitudes[longitudes > 0].min(), longitudes[longitudes < 0].max() + DEGREES
    cut = np.intersect1d(owner[west == -_HALF], owner[east == _HALF]).size > 0
    crossing = cut or torn.any() or (east > _HALF).any()
    order = np.argsort(west)
    # How far east everything reaches that begins no further east; what crosses 180 covers ground in the west again.
    reached = np.maximum.accumulate(np.concatenate([[np.nanmax(east) - DEGREES], east[order]]))[: len(order)]
    gaps = west[order] - reached
    widest = int(np.nanargmax(gaps))
    wide = np.nanmax(bounds[:, 2]) - np.nanmin(bounds[:, 0]) > _HALF and DEGREES - gaps[widest] <= _HALF
    if gaps[widest] <= 0 or not (crossing or wide):
        return -_HALF
    return float(west[order][widest] - gaps[widest] / 2)


def from_edge(shapes: npt.NDArray[np.object_], edge: float) -> npt.NDArray[np.object_]:
    """Shapes with longitudes from the edge of a map on, at which none lies, and each in one piece; None stays."""
    if edge == -_HALF:
        return shapes
    bounds = shapely.bounds(shapes)
    turned = np.asarray(
        shapely.transform(shapes, lambda xy: np.stack([edge + (xy[:, 0] - edge) % DEGREES, xy[:, 1]], axis=1))
    )
    for number in np.flatnonzero((bounds[:, 0] == -_HALF) & (bounds[:, 2] == _HALF)).tolist():
        turned[number] = shapely.union_all(turned[number : number + 1])
    return turned


def in_one_piece(shapes: Any) -> Any:
    """Shapes in degrees, one or an array, none of them cut or torn at 180 degrees: on one map, as `map_edge` has it.

    Those that lie around the whole Earth stay as they are, as no map has them otherwise.
    """
    several = np.atleast_1d(np.asarray(shapes, dtype=object))
    turned = from_edge(several, map_edge(several))
    return turned if isinstance(shapes, np.ndarray) else turned[0]


def _torn(parts: npt.NDArray[np.object_]) -> npt.NDArray[np.bool_]:
    """Which polygons jump from one side of 180 degrees to the other."""
    corners, owner = shapely.get_coordinates(parts, return_index=True)
    jumps = (np.abs(np.diff(corners[:, 0])) > _HALF) & (np.diff(owner) == 0)
    found = np.zeros(len(parts), dtype=bool)
    for part in np.unique(owner[1:][jumps]).tolist():
        found[part] = any(is_torn(shapely.get_coordinates(ring), DEGREES) for ring in shapely.get_rings(parts[part]))
    return found
