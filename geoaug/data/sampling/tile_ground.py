"""`TileGround`: where tiles may lie in each scene, and how much ground that is.

A point is drawn uniformly from the valid ground of all scenes, and a tile laid around it so that the point divides the
tile as it divides the scene. So a scene is drawn in proportion to its valid ground in square metres, whatever its size,
resolution or number of files; in it the centres of tiles are uniform over valid ground, as far from the edges as half a
tile; and a scene no larger than a tile is taken whole. What is drawn with which random number is decided in the
samplers.
"""

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import shapely

from geoaug.data.catalog.arrow_arrays import to_numpy
from geoaug.data.catalog.catalog import Catalog
from geoaug.data.raster.grid import WORLD, Grid
from geoaug.data.sampling.coverage import COLUMN
from geoaug.data.sampling.region_grid import pieces
from geoaug.data.sampling.tile_source import TileSource
from geoaug.errors import ConfigurationError

Array = npt.NDArray[Any]

REGION_COLUMN = "region"
_MOST_KEPT = 4096


class RegionGround:
    """Regions of scenes in the pixels of the grids that tiles are cut from.

    Args:
        source: of tiles whose catalog has a column "region": WKB in WGS 84, or null for the whole scene.
    """

    def __init__(self, source: TileSource) -> None:
        column = source.catalog.table.column(REGION_COLUMN)
        self._source = source
        self._wkb = column.combine_chunks()
        self.limited: npt.NDArray[np.bool_] = to_numpy(column.is_valid())
        self._kept: OrderedDict[int, shapely.Geometry] = OrderedDict()

    @staticmethod
    def of(source: TileSource) -> "RegionGround | None":
        """The regions of a source; None where all its scenes are whole."""
        if REGION_COLUMN not in source.catalog.table.column_names:
            return None
        ground = RegionGround(source)
        return ground if ground.limited.any() else None

    def region(self, scene: int) -> shapely.Geometry:
        """The region of a scene that has one, in columns and rows of its grid; prepared for many questions."""
        if (known := self._kept.get(scene)) is not None:
            self._kept.move_to_end(scene)
            return known
        stored = shapely.from_wkb(self._wkb[scene].as_py())
        region = in_pixels(stored, self._source.grid(scene), self._source.catalog, scene)
        shapely.prepare(region)
        self._kept[scene] = region
        if len(self._kept) > _MOST_KEPT:
            self._kept.popitem(last=False)
        return region

    def holds(self, scene: Array, row: Array, col: Array, row_stop: Array, col_stop: Array) -> npt.NDArray[np.bool_]:
        """Whether rectangles of pixels lie wholly in the regions of their scenes."""
        result = ~self.limited[scene]
        for number in np.unique(scene[~result]).tolist():
            which = scene == number
            boxes = shapely.box(col[which], row[which], col_stop[which], row_stop[which])
            result[which] = shapely.covers(self.region(number), boxes)
        return np.asarray(result)


def in_pixels(region: shapely.Geometry, grid: Grid, catalog: Catalog, scene: int) -> shapely.Geometry:
    """A geometry in WGS 84 in columns and rows of a scene's grid."""
    if grid.crs is None:
        name = catalog.ids[scene]
        raise ConfigurationError(f"scene '{name}' has a region on the ground, but no CRS to find it by")
    return grid.in_pixels(region, WORLD)


Numbers = npt.NDArray[np.float64]

_ALL = 255
_AT_ONCE = 2**20  # cells that are summed together


@dataclass(frozen=True, slots=True, eq=False)
class SurveyedGround:
    """Cells of all scenes, one after the other.

    Attributes:
        known: whether a scene was surveyed.
        height, width: of each scene in pixels, as in the catalog.
        cell: side of its cells in pixels.
        rows, cols: number of its cells.
        first: index of its first cell among all.
        valid: of all cells, 0 where no pixel is valid and 255 where all are.
        share: of the valid pixels in each scene; 1 where it was not surveyed.
        whole: whether all pixels of a scene are valid, as far as is known.
    """

    known: npt.NDArray[np.bool_]
    height: Array
    width: Array
    cell: Array
    rows: Array
    cols: Array
    first: Array
    valid: npt.NDArray[np.uint8]
    share: Numbers
    whole: npt.NDArray[np.bool_]

    @staticmethod
    def of(catalog: Catalog) -> "SurveyedGround | None":
        """What the catalog knows; None where no scene was surveyed."""
        if COLUMN not in catalog.table.column_names:
            return None
        column = catalog.table.column(COLUMN).combine_chunks()
        known = to_numpy(column.is_valid())
        if not known.any():
            return None
        lists = column.field("valid")
        first = to_numpy(lists.offsets)[:-1].astype(np.int64)
        cell, rows, cols = (
            np.where(known, to_numpy(column.field(name)), 1).astype(np.int64) for name in ("cell", "rows", "cols")
        )
        ground = SurveyedGround(
            known,
            catalog.column("height").astype(np.int64),
            catalog.column("width").astype(np.int64),
            cell,
            rows,
            cols,
            first,
            to_numpy(lists.values),
            np.ones(len(catalog)),
            np.ones(len(catalog), dtype=bool),
        )
        ground._sum()
        return ground

    def at(self, scene: Array, down: Numbers, across: Numbers) -> Numbers:
        """The share of valid pixels in the cells that hold points, given as shares (0 to 1) of a scene's sides."""
        row = np.minimum((down * self.height[scene]) // self.cell[scene], self.rows[scene] - 1)
        col = np.minimum((across * self.width[scene]) // self.cell[scene], self.cols[scene] - 1)
        return self._cells(scene, row.astype(np.int64), col.astype(np.int64)) / _ALL

    def most_valid(self, scene: Array, row: Numbers, col: Numbers, height: Numbers, width: Numbers) -> Numbers:
        """The greatest share of valid pixels that tiles can have, by what is known of the cells that they touch.

        Rows, columns and sizes are in the scenes' own pixels, as the catalog has them.
        """
        cell = self.cell[scene]
        down, across = np.maximum(row, 0) // cell, np.maximum(col, 0) // cell
        total = np.zeros(len(scene))
        wide = range(int((width / cell).max(initial=0)) + 2)
        for i in range(int((height / cell).max(initial=0)) + 2):
            rows, tall = _overlap(down + i, cell, row, height, self.height[scene])
            for j in wide:
                cols, broad = _overlap(across + j, cell, col, width, self.width[scene])
                share = self._cells(
                    scene,
                    np.minimum(down + i, self.rows[scene] - 1).astype(np.int64),
                    np.minimum(across + j, self.cols[scene] - 1).astype(np.int64),
                ).astype(np.float64)
                share += 0.5 * ((share > 0) & (share < _ALL))  # as much as rounding may have hidden
                total += np.minimum(rows * cols, share / _ALL * tall * broad)
        return np.where(self.known[scene], total / (height * width), 1.0)

    def _cells(self, scene: Array, row: Array, col: Array) -> npt.NDArray[np.uint8]:
        known = self.known[scene]
        index = np.where(known, self.first[scene] + row * self.cols[scene] + col, 0)
        return np.where(known, self.valid[index], np.uint8(_ALL))

    def _sum(self) -> None:
        """Fill in the shares, scenes of one shape at a time."""
        kinds = np.stack([self.height, self.width, self.cell], axis=1)
        scenes = np.flatnonzero(self.known)
        shapes, which = np.unique(kinds[scenes], axis=0, return_inverse=True)
        for number, (height, width, cell) in enumerate(shapes.tolist()):
            pixels = np.outer(_lengths(height, cell), _lengths(width, cell)).ravel()
            same = scenes[which.ravel() == number]
            for some in np.array_split(same, -(-len(same) * len(pixels) // _AT_ONCE)):
                cells = self.valid[self.first[some][:, None] + np.arange(len(pixels))]
                self.share[some] = cells @ pixels / (_ALL * height * width)
                self.whole[some] = (cells == _ALL).all(axis=1)


def _overlap(number: Array, cell: Array, start: Numbers, size: Numbers, length: Array) -> tuple[Numbers, Numbers]:
    """How far tiles reach over their cells of a number along an axis, and how long those cells are."""
    begin = number * cell
    end = np.maximum(np.minimum(begin + cell, length), begin)
    return np.maximum(np.minimum(start + size, end) - np.maximum(start, begin), 0), end - begin


def _lengths(size: int, cell: int) -> Array:
    starts = np.arange(0, size, cell)
    return np.minimum(starts + cell, size) - starts


_LOOKED_AT = 24  # positions down, and across, by which the ground of a limited scene is measured
_LOOKED_AT_AGAIN = 160  # where none of those would do


class TileGround:
    """The positions of tiles.

    Where a catalog was surveyed, what is valid is known by cells (see `geoaug.data.sampling.coverage`). Where a split
    gave a scene a region, tiles lie wholly in it.

    Args:
        source: of the scenes and the size of a tile.
        min_valid: where the catalog was surveyed, only tiles that may hold this share of valid pixels.
        measured: whether scenes are to be drawn by their ground, which takes a while where many of them have regions.

    Attributes:
        area_m2: of the ground of each scene that tiles are drawn from (of all of it, unless measured); in pixels for
            scenes without a CRS.
        rows: number of rows that a tile may begin at, by scene.
        cols: number of columns.
        plain: whether every position in every scene is as good as another.

    Raises:
        ConfigurationError: there is no ground to draw from.
    """

    def __init__(self, source: TileSource, *, min_valid: float = 0.0, measured: bool = True) -> None:
        if not len(source.catalog):
            raise ConfigurationError("the catalog holds no scene: there is nothing to draw tiles from")
        if not 0 <= min_valid <= 1:
            raise ConfigurationError(f"min_valid is {min_valid}: it is a share from 0 to 1")
        grids = source.grids
        self.tile, self.min_valid = source.size, min_valid
        self.height, self.width = grids.height, grids.width
        self.rows = np.abs(grids.height - self.tile[0]) + 1
        self.cols = np.abs(grids.width - self.tile[1]) + 1
        # Cells tell nothing of grids that were warped away from the scenes' own.
        self._survey = None if getattr(source, "crs", None) else SurveyedGround.of(source.catalog)
        self._regions = RegionGround.of(source)
        whole = np.ones(len(grids), dtype=bool) if self._survey is None else self._survey.whole
        limited = np.zeros(len(grids), dtype=bool) if self._regions is None else self._regions.limited
        self.plain = bool(whole.all() and not limited.any())
        self._sure: dict[int, tuple[Array, Array]] = {}
        self.area_m2: Numbers = grids.pixel_area_m2 * grids.height * grids.width
        if measured:
            self.area_m2 *= self._shares(whole, limited)
            self._cumulative = cumulative(self.area_m2)

    def scenes(self, share: Numbers) -> Array:
        """The scenes at shares (0 to 1) of all ground."""
        return np.searchsorted(self._cumulative, share, side="right")

    def within(self, share: Numbers) -> tuple[Array, Numbers]:
        """The scenes at shares of all ground, and which share of the scene that is."""
        scene = self.scenes(share)
        start = np.where(scene > 0, self._cumulative[scene - 1], 0.0)
        return scene, np.clip((share - start) / (self._cumulative[scene] - start), 0.0, np.nextafter(1.0, 0.0))

    def corners(self, scene: Array, down: Array, across: Array) -> tuple[Array, Array]:
        """Rows and columns of the tiles that begin at the `down`-th row and `across`-th column of those they may.

        A tile larger than its scene begins before it, so that it holds the scene wholly.
        """
        row = np.where(self.height[scene] < self.tile[0], -down, down)
        return row, np.where(self.width[scene] < self.tile[1], -across, across)

    def accepts(self, scene: Array, down: Array, across: Array, coin: Numbers) -> npt.NDArray[np.bool_]:
        """Whether tiles are taken, each with its chance (against its coin)."""
        return coin < self.chance(scene, down, across)

    def chance(self, scene: Array, down: Array, across: Array) -> Numbers:
        """How often tiles at these positions are taken, from 0 to 1: how much ground at their points is valid."""
        chance = np.ones(len(scene))
        row, col = self.corners(scene, down, across)
        if self._survey is not None:
            single = self.rows[scene] * self.cols[scene] == 1
            point = (down + 0.5) / self.rows[scene], (across + 0.5) / self.cols[scene]
            chance = np.where(single, self._survey.share[scene], self._survey.at(scene, *point))
            if self.min_valid > 0:
                chance[self.most_valid(scene, row, col) < self.min_valid] = 0.0
        if self._regions is not None:
            chance[~self.inside(scene, row, col)] = 0.0
        return chance

    def most_valid(self, scene: Array, row: Array, col: Array) -> Numbers:
        """The greatest share of valid pixels that tiles at rows and columns can have, by what is known."""
        survey = self._survey
        if survey is None:
            return np.ones(len(scene))
        tall, wide = survey.height[scene] / self.height[scene], survey.width[scene] / self.width[scene]
        return survey.most_valid(scene, row * tall, col * wide, self.tile[0] * tall, self.tile[1] * wide)

    def region_pieces(self, stride: tuple[int, int]) -> Iterator[tuple[int, shapely.Geometry]]:
        """Scenes with regions, and pieces of these in pixels that together are all of them."""
        if self._regions is None:
            return
        for scene in np.flatnonzero(self._regions.limited).tolist():
            if self.height[scene] >= self.tile[0] and self.width[scene] >= self.tile[1]:
                size = int(self.height[scene]), int(self.width[scene])
                yield from ((scene, piece) for piece in pieces(self._regions.region(scene), size, self.tile, stride))

    def inside(self, scene: Array, row: Array, col: Array) -> npt.NDArray[np.bool_]:
        """Whether tiles lie wholly in the regions of their scenes; what reaches past a scene does not count."""
        if self._regions is None:
            return np.ones(len(scene), dtype=bool)
        row_stop = np.minimum(row + self.tile[0], self.height[scene])
        col_stop = np.minimum(col + self.tile[1], self.width[scene])
        return self._regions.holds(scene, np.maximum(row, 0), np.maximum(col, 0), row_stop, col_stop)

    def whole(self, scene: Array) -> npt.NDArray[np.bool_]:
        """Whether scenes have no region, or are smaller than a tile."""
        if self._regions is None:
            return np.ones(len(scene), dtype=bool)
        small = (self.height[scene] < self.tile[0]) | (self.width[scene] < self.tile[1])
        return np.asarray(small | ~self._regions.limited[scene])

    def sure(self, scene: int, number: float) -> tuple[int, int]:
        """A position in a scene that is taken for certain; `number` (0 to 1) chooses among those that are known."""
        if scene not in self._sure:
            down, across, chance = self._look(scene, _LOOKED_AT)
            if not (chance > 0).any():
                down, across, chance = self._look(scene, _LOOKED_AT_AGAIN)
            self._sure[scene] = down[chance > 0], across[chance > 0]
        down, across = self._sure[scene]
        if not len(down):  # valid pixels in a sliver of a cell at the edge alone
            return int(self.rows[scene]) - 1, int(self.cols[scene]) - 1
        index = int(number * len(down))
        return int(down[index]), int(across[index])

    def _shares(self, whole: npt.NDArray[np.bool_], limited: npt.NDArray[np.bool_]) -> Numbers:
        """The share of each scene's ground that tiles are drawn from."""
        share = np.ones(len(whole)) if self._survey is None else self._survey.share.copy()
        narrowed = limited if self.min_valid == 0 else limited | ~whole
        single = narrowed & ~limited & (self.rows * self.cols == 1)
        share[single] = self.chance(*_at_zero(np.flatnonzero(single)))
        for scene in np.flatnonzero(narrowed & ~single).tolist():
            share[scene] = self._share_of(scene)
        return share

    def _share_of(self, scene: int) -> float:
        """The share of a scene's ground that tiles are drawn from, measured at positions spread over it."""
        for count in (_LOOKED_AT, _LOOKED_AT_AGAIN):
            down, across, chance = self._look(scene, count)
            if (chance > 0).any():
                rows, cols = down.max() - down.min() + 1, across.max() - across.min() + 1
                return float(chance.mean() * rows * cols / (self.rows[scene] * self.cols[scene]))
        return 0.0

    def _look(self, scene: int, count: int) -> tuple[Array, Array, Numbers]:
        """Positions spread evenly over a scene, or its region, and their chances."""
        stops = [[0, int(self.rows[scene]) - 1], [0, int(self.cols[scene]) - 1]]
        if self._regions is not None and self._regions.limited[scene]:
            left, top, right, bottom = shapely.bounds(self._regions.region(scene))
            within = ((top, bottom - self.tile[0]), (left, right - self.tile[1]))
            stops = [
                [max(stop[0], int(np.ceil(low))), min(stop[1], int(np.floor(high)))]
                for stop, (low, high) in zip(stops, within, strict=True)
            ]
        if stops[0][0] > stops[0][1] or stops[1][0] > stops[1][1]:
            return _nothing(), _nothing(), np.zeros(0)
        axes = [np.unique(np.linspace(stop[0], stop[1], count).round().astype(np.int64)) for stop in stops]
        down, across = (axis.ravel() for axis in np.meshgrid(*axes, indexing="ij"))
        return down, across, self.chance(np.full(len(down), scene), down, across)


def _at_zero(scene: Array) -> tuple[Array, Array, Array]:
    return scene, np.zeros_like(scene), np.zeros_like(scene)


def _nothing() -> Array:
    return np.zeros(0, dtype=np.int64)


def cumulative(weights: Numbers) -> Numbers:
    """Shares of all up to each, the last one 1 (and so all zeros at the end are never met)."""
    total = np.cumsum(weights)
    if not total[-1] > 0:
        raise ConfigurationError("no scene has any ground that a tile may be drawn from")
    share = total / total[-1]
    share[np.flatnonzero(weights)[-1] :] = 1.0
    return np.asarray(share, dtype=np.float64)
