"""Where the tiles of a grid lie in a region: laid from its own corners, as a scene's grid misses much of it."""

from typing import Any

import numpy as np
import numpy.typing as npt
import shapely

Array = npt.NDArray[np.int64]

# Tiles across, of the pieces that large regions are cut into: one piece is covered in a few milliseconds.
_MOST_TILES = 16
# Steps to a stride, by which starts are tried; and how many starts at least.
_FINENESS, _FEWEST_TRIED = 4, 16
# Share of a tile that another one must add.
_LEAST_GAIN = 1 / 16
# Square pixels by which a rectangle may differ from its bounds.
_RECTANGLE = 1e-6


def pieces(
    region: shapely.Geometry, size: tuple[int, int], tile: tuple[int, int], stride: tuple[int, int]
) -> list[shapely.Geometry]:
    """The parts of a region within a scene of a height and width, in pixels.

    Those wider than 16 steps from tile to tile are cut so that a lattice goes on from one piece to the next: by as many
    steps, where steps are smaller than tiles with what a tile overlaps the next one by on both sides.
    """
    found: list[shapely.Geometry] = []
    # Regions reach somewhat past the scene, so that their edges are its own.
    within = shapely.intersection(region, shapely.box(0, 0, size[1], size[0]))
    for part in shapely.get_parts(within):
        if part.geom_type != "Polygon" or part.is_empty:
            continue
        left, top, right, bottom = shapely.bounds(part)
        (xs, xs_stop), (ys, ys_stop) = (
            _stretches(*bounds, side, step)
            for bounds, side, step in zip(((left, right), (top, bottom)), tile[::-1], stride[::-1], strict=True)
        )
        if len(xs) == len(ys) == 1:
            found.append(part)
            continue
        cells = shapely.box(*np.meshgrid(xs, ys), *np.meshgrid(xs_stop, ys_stop)).ravel()
        cut = shapely.get_parts(shapely.intersection(part, cells))
        found += [piece for piece in cut if piece.geom_type == "Polygon" and piece.area > 0]
    return found


def _stretches(low: float, high: float, tile: int, stride: int) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Where pieces begin and end along an axis; none is narrower than a tile, unless all is."""
    first = np.ceil(low - 1e-6)  # a whole pixel, as tiles begin there
    starts = np.arange(first, max(high - tile, first) + 1e-6, _MOST_TILES * stride)
    stops = starts + _MOST_TILES * stride + tile - stride
    starts[0], stops[-1] = low - 1, high + 1
    return starts, stops


def tiles_in(
    region: shapely.Geometry,
    size: tuple[int, int],
    tile: tuple[int, int],
    stride: tuple[int, int],
    *,
    shift: bool,
) -> tuple[Array, Array]:
    """Rows and columns of tiles that lie wholly in a region and cover it.

    Left out is what would take a tile for less than a sixteenth of one, and what is too narrow for a tile.

    Args:
        region: a polygon in columns and rows of a scene.
        size: of the scene, height and width; at least a tile's.
        tile: height and width.
        stride: from one tile to the next, down and across.
        shift: whether tiles may overlap others further, to cover what is left; otherwise that is left out.
    """
    left, top, right, bottom = shapely.bounds(region)
    rows = _tried(top, bottom, size[0], tile[0], stride[0])
    cols = _tried(left, right, size[1], tile[1], stride[1])
    if not len(rows) or not len(cols):
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    if stride == tile and (right - left) * (bottom - top) - region.area < _RECTANGLE:
        return _on_rectangle((rows[0], rows[-1]), (cols[0], cols[-1]), tile, _LEAST_GAIN if shift else 1.0)
    held = _held(region, rows, cols, tile)
    if stride == tile:
        down, across = _covering(rows, cols, held, tile, _LEAST_GAIN if shift else 1.0)
    else:
        chosen = [
            (row, col)
            for row in _apart(rows, np.flatnonzero(held.any(axis=1)), stride[0], shift)
            for col in _apart(cols, np.flatnonzero(held[row]), stride[1], shift)
        ]
        down, across = np.array(chosen, np.int64).reshape(-1, 2).T
    return rows[down], cols[across]


def _on_rectangle(
    down: tuple[int, int], across: tuple[int, int], tile: tuple[int, int], least: float
) -> tuple[Array, Array]:
    """Tiles on a rectangle, between the first and the last start: a lattice, and what moves inward at its ends."""
    (rows, high), (cols, wide) = (
        _to_the_end(first, last, side) for (first, last), side in zip((down, across), tile, strict=True)
    )
    row, col = (axis.ravel() for axis in np.meshgrid(rows, cols, indexing="ij"))
    kept = np.outer(high, wide).ravel() >= max(least, 1 / (tile[0] * tile[1]))
    return row[kept], col[kept]


def _to_the_end(first: int, last: int, side: int) -> tuple[Array, npt.NDArray[np.float64]]:
    """Starts a side apart and the last one, and the share of its length that each of them adds."""
    starts = np.union1d(np.arange(first, last + 1, side), [last]).astype(np.int64)
    return starts, np.diff(starts, prepend=first - side) / side


def _held(region: shapely.Geometry, rows: Array, cols: Array, tile: tuple[int, int]) -> npt.NDArray[np.bool_]:
    """Whether tiles at rows and columns lie wholly in a region.

    Most have a corner outside, or their corners inside and no edge of the region near them: both are known without an
    outline of the tile.
    """
    shapely.prepare(region)
    ys, xs = np.union1d(rows, rows + tile[0]), np.union1d(cols, cols + tile[1])
    inside = shapely.intersects_xy(region, *np.meshgrid(xs, ys))
    top, bottom = np.searchsorted(ys, rows), np.searchsorted(ys, rows + tile[0])
    left, right = np.searchsorted(xs, cols), np.searchsorted(xs, cols + tile[1])
    held: npt.NDArray[np.bool_] = np.logical_and.reduce(
        [inside[np.ix_(y, x)] for y in (top, bottom) for x in (left, right)]
    )
    edges = _sums(_crossed(region, ys, xs), (top, bottom), (left, right))
    row, col = np.nonzero(held & (edges > 0))
    outline = shapely.box(cols[col], rows[row], cols[col] + tile[1], rows[row] + tile[0])
    held[row, col] = shapely.covers(region, outline)
    return held


def _crossed(region: shapely.Geometry, ys: Array, xs: Array) -> Array:
    """How many edges of a region may cross the cells between lines; those along a line count on both sides."""
    points, ring = shapely.get_coordinates(shapely.get_rings(region), return_index=True)
    along = ring[1:] == ring[:-1]
    low, high = np.minimum(points[1:], points[:-1])[along], np.maximum(points[1:], points[:-1])[along]
    count = np.zeros((len(ys) + 1, len(xs) + 1), np.int64)
    # In each direction the first cell and the one after the last.
    (x, x_stop), (y, y_stop) = (
        (
            np.searchsorted(lines, low[:, axis], side="left").clip(1) - 1,
            np.searchsorted(lines, high[:, axis], side="right"),
        )
        for axis, lines in enumerate((xs, ys))
    )
    for rows, cols, sign in ((y, x, 1), (y, x_stop, -1), (y_stop, x, -1), (y_stop, x_stop, 1)):
        np.add.at(count, (rows, cols), sign)
    crossed: Array = count.cumsum(axis=0).cumsum(axis=1)[: len(ys) - 1, : len(xs) - 1]
    return crossed


def _tried(low: float, high: float, length: int, tile: int, stride: int) -> Array:
    """Starts along an axis at which a tile may lie within a region's bounds, and within the scene."""
    first, last = max(int(np.ceil(low - 1e-6)), 0), min(int(np.floor(high + 1e-6)), length) - tile
    if last < first:
        return np.zeros(0, np.int64)
    # Finer where there are few starts: a narrow region may hold a tile between two steps.
    step = max(min(stride // _FINENESS, (last - first) // _FEWEST_TRIED), 1)
    # From both ends, so that a tile at the far edge is among them.
    return np.union1d(np.arange(first, last + 1, step), np.arange(last, first - 1, -step)).astype(np.int64)


def _covering(
    rows: Array, cols: Array, held: npt.NDArray[np.bool_], tile: tuple[int, int], least: float
) -> tuple[Array, Array]:
    """Numbers of starts, each in turn the one that covers most of what no tile before it does; of equals, the first.

    Args:
        rows: of starts.
        cols: of starts.
        held: which of them are in the region.
        tile: height and width.
        least: share of a tile that one must add.
    """
    # Between these lines everything is covered by the same tiles.
    lines = [np.union1d(starts, starts + length) for starts, length in zip((rows, cols), tile, strict=True)]
    (top, bottom), (left, right) = (
        (np.searchsorted(line, starts), np.searchsorted(line, starts + length))
        for line, starts, length in zip(lines, (rows, cols), tile, strict=True)
    )
    bare = np.outer(np.diff(lines[0]), np.diff(lines[1]))
    added = np.where(held, _sums(bare, (top, bottom), (left, right)), -1)
    near = [np.searchsorted(starts, (starts - length + 1, starts + length)) for starts, length in
            zip((rows, cols), tile, strict=True)]  # fmt: skip
    found: list[tuple[int, int]] = []
    while True:
        row, col = divmod(int(added.argmax()), len(cols))
        if added[row, col] < max(least * tile[0] * tile[1], 1):
            break
        found.append((row, col))
        bare[top[row] : bottom[row], left[col] : right[col]] = 0
        # Only those that overlap it add less from now on.
        high, wide = (slice(*bounds[:, start]) for bounds, start in zip(near, (row, col), strict=True))
        sums = _sums(bare, (top[high], bottom[high]), (left[wide], right[wide]))
        added[high, wide] = np.where(held[high, wide], sums, -1)
    down, across = np.array(sorted(found), np.int64).reshape(-1, 2).T
    return down, across


def _sums(bare: Array, down: tuple[Array, Array], across: tuple[Array, Array]) -> Array:
    """What is bare between lines: of rectangles from `down[0]` to `down[1]` and from `across[0]` to `across[1]`."""
    top, left = int(down[0][0]), int(across[0][0])
    part = bare[top : int(down[1][-1]), left : int(across[1][-1])]
    total = np.zeros((part.shape[0] + 1, part.shape[1] + 1), np.int64)
    np.cumsum(np.cumsum(part, axis=0), axis=1, out=total[1:, 1:])
    by_rows = total[down[1] - top] - total[down[0] - top]
    sums: Array = by_rows[:, across[1] - left] - by_rows[:, across[0] - left]
    return sums


def _apart(starts: Array, there: Array, stride: int, shift: bool) -> list[int]:
    """Of some starts, by number, those a stride apart; nearer where a whole one does not fit, further where none is."""
    chosen: list[int] = []
    at = 0
    while at < len(there):
        chosen.append(int(there[at]))
        apart = starts[there] - starts[there[at]]
        beyond = int(np.searchsorted(apart, stride))  # the first one that is a stride or more away
        exact = beyond < len(there) and apart[beyond] == stride
        at = beyond - 1 if shift and not exact and beyond - 1 > at else beyond
    return chosen
