"""Where the tiles of a grid lie in a region: laid from its own corners, as a scene's grid misses much of it."""

import numpy as np
import numpy.typing as npt
import shapely

Array = npt.NDArray[np.int64]

# Tiles across, of the pieces that large regions are cut into: one piece is covered in a few milliseconds.
_MOST_TILES = 16
# Steps to a stride, by which places are tried.
_FINENESS = 4
# Share of a tile that another one must add.
_LEAST_GAIN = 1 / 16


def pieces(region: shapely.Geometry, tile: tuple[int, int]) -> list[shapely.Geometry]:
    """The parts of a region, in pixels, those wider than 16 tiles cut on lines that many tiles apart."""
    found: list[shapely.Geometry] = []
    for part in shapely.get_parts(region):
        left, top, right, bottom = shapely.bounds(part)
        # From the first whole pixel, as tiles begin there.
        lines = [
            np.arange(np.ceil(low - 1e-6), high, _MOST_TILES * side)
            for low, high, side in ((left, right, tile[1]), (top, bottom, tile[0]))
        ]
        if max(map(len, lines)) <= 1:
            found.append(part)
            continue
        xs, ys = (np.concatenate(([low - 1], line[1:], [high + 1])) for line, low, high in
                  ((lines[0], left, right), (lines[1], top, bottom)))  # fmt: skip
        cells = shapely.box(*np.meshgrid(xs[:-1], ys[:-1]), *np.meshgrid(xs[1:], ys[1:])).ravel()
        cut = shapely.get_parts(shapely.intersection(part, cells))
        found += [piece for piece in cut if piece.geom_type == "Polygon" and piece.area > 0]
    return found


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
    shapely.prepare(region)
    y, x = np.meshgrid(rows, cols, indexing="ij")
    held = shapely.covers(region, shapely.box(x, y, x + tile[1], y + tile[0]))
    if stride == tile:
        down, across = _covering(rows, cols, held, tile, _LEAST_GAIN if shift else 1.0)
    else:
        chosen = [
            (row, col)
            for row in _apart(rows, held.any(axis=1), stride[0], shift)
            for col in _apart(cols, held[row], stride[1], shift)
        ]
        down, across = np.array(chosen, np.int64).reshape(-1, 2).T
    return rows[down], cols[across]


def _tried(low: float, high: float, length: int, tile: int, stride: int) -> Array:
    """Places along an axis at which a tile may lie within a region's bounds, and within the scene."""
    first, last = max(int(np.ceil(low - 1e-6)), 0), min(int(np.floor(high + 1e-6)), length) - tile
    if last < first:
        return np.zeros(0, np.int64)
    step = max(stride // _FINENESS, 1)
    # From both ends, so that a tile at the far edge is among them.
    return np.union1d(np.arange(first, last + 1, step), np.arange(last, first - 1, -step)).astype(np.int64)


def _covering(
    rows: Array, cols: Array, held: npt.NDArray[np.bool_], tile: tuple[int, int], least: float
) -> tuple[Array, Array]:
    """Numbers of places, each in turn the one that covers most of what no tile before it does; of equals, the first.

    Args:
        rows: of places.
        cols: of places.
        held: which of them are in the region.
        tile: height and width.
        least: share of a tile that one must add.
    """
    # Between these lines everything is covered by the same tiles.
    lines = [np.union1d(places, places + length) for places, length in zip((rows, cols), tile, strict=True)]
    (top, bottom), (left, right) = (
        (np.searchsorted(line, places), np.searchsorted(line, places + length))
        for line, places, length in zip(lines, (rows, cols), tile, strict=True)
    )
    bare = np.outer(np.diff(lines[0]), np.diff(lines[1]))
    added = np.where(held, _sums(bare, (top, bottom), (left, right)), -1)
    near = [np.searchsorted(places, (places - length + 1, places + length)) for places, length in
            zip((rows, cols), tile, strict=True)]  # fmt: skip
    found: list[tuple[int, int]] = []
    while True:
        row, col = divmod(int(added.argmax()), len(cols))
        if added[row, col] < max(least * tile[0] * tile[1], 1):
            break
        found.append((row, col))
        bare[top[row] : bottom[row], left[col] : right[col]] = 0
        # Only those that overlap it add less from now on.
        high, wide = (slice(*bounds[:, place]) for bounds, place in zip(near, (row, col), strict=True))
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


def _apart(places: Array, possible: npt.NDArray[np.bool_], stride: int, shift: bool) -> list[int]:
    """Numbers of places a stride apart; nearer where a whole one does not fit, further where nothing fits between."""
    chosen: list[int] = []
    there = np.flatnonzero(possible)
    at = 0
    while at < len(there):
        chosen.append(int(there[at]))
        apart = places[there] - places[there[at]]
        beyond = int(np.searchsorted(apart, stride))  # the first one that is a stride or more away
        exact = beyond < len(there) and apart[beyond] == stride
        at = beyond - 1 if shift and not exact and beyond - 1 > at else beyond
    return chosen
