"""Where a map of the world is cut open: at the 180th meridian, unless scenes lie across it or on both sides of it."""

import numpy as np
import numpy.typing as npt
import shapely


def map_edge(outlines: npt.NDArray[np.object_]) -> float:
    """The longitude that a map of outlines (degrees) begins at: -180, or where nothing lies if something crosses 180.

    So it is, too, where the outlines fit into half of the world across 180, and not otherwise.
    """
    bounds = shapely.bounds(outlines)
    west, east = bounds[:, 0].copy(), bounds[:, 2].copy()
    crossing = _crosses(outlines)
    for place in np.flatnonzero(crossing):
        longitudes = shapely.get_coordinates(outlines[place])[:, 0]
        west[place], east[place] = longitudes[longitudes > 0].min(), longitudes[longitudes < 0].max() + 360
    order = np.argsort(west)
    # How far east everything reaches that begins no further east; what crosses 180 covers ground in the west again.
    reached = np.maximum.accumulate(np.concatenate([[east.max() - 360], east[order]]))[: len(order)]
    gaps = west[order] - reached
    widest = int(gaps.argmax())
    wide = bounds[:, 2].max() - bounds[:, 0].min() > 180 and 360 - gaps[widest] <= 180
    if gaps[widest] <= 0 or not (crossing.any() or wide):
        return -180.0
    return float(west[order][widest] - gaps[widest] / 2)


def from_edge(shapes: npt.NDArray[np.object_], edge: float) -> npt.NDArray[np.object_]:
    """Shapes with longitudes from the edge of a map on; None stays."""
    if edge == -180:
        return shapes
    moved: npt.NDArray[np.object_] = shapely.transform(
        shapes, lambda xy: np.stack([edge + (xy[:, 0] - edge) % 360, xy[:, 1]], axis=1)
    )
    return moved


def _crosses(outlines: npt.NDArray[np.object_]) -> npt.NDArray[np.bool_]:
    """Which outlines jump from one side of the 180th meridian to the other."""
    corners, owner = shapely.get_coordinates(outlines, return_index=True)
    jumps = (np.abs(np.diff(corners[:, 0])) > 180) & (np.diff(owner) == 0)
    found = np.zeros(len(outlines), dtype=bool)
    found[owner[1:][jumps]] = True
    return found
