"""`TileGround`: where tiles may lie in each scene, and how much ground that is.

A point is drawn uniformly from the valid ground of all scenes, and a tile laid around it so that the point divides the
tile as it divides the scene. So a scene is drawn in proportion to its valid ground in square metres, whatever its size,
resolution or number of files; in it the centres of tiles are uniform over valid ground, as far from the edges as half a
tile; and a scene no larger than a tile is taken whole. What is drawn with which random number is decided in the
samplers.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import shapely

from geoaug.data.samplers.ground_regions import RegionGround
from geoaug.data.samplers.ground_validity import SurveyedGround
from geoaug.data.samplers.region_grid import pieces
from geoaug.data.samplers.tile_source import TileSource
from geoaug.errors import ConfigurationError

Array = npt.NDArray[Any]
Numbers = npt.NDArray[np.float64]

_LOOKED_AT = 24  # places down, and across, by which the ground of a limited scene is measured
_LOOKED_AT_AGAIN = 160  # where none of those would do


class TileGround:
    """The places of tiles.

    Where a catalog was surveyed, what is valid is known by cells (see `geoaug.data.surveys.coverage`). Where a split
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
        plain: whether every place of every scene is as good as another.

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
        """How often tiles at these places are taken, from 0 to 1: how much of the ground at their points is valid."""
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
        """A place of a scene that is taken for certain; `number` (0 to 1) chooses among those that are known."""
        if scene not in self._sure:
            down, across, chance = self._look(scene, _LOOKED_AT)
            if not (chance > 0).any():
                down, across, chance = self._look(scene, _LOOKED_AT_AGAIN)
            self._sure[scene] = down[chance > 0], across[chance > 0]
        down, across = self._sure[scene]
        if not len(down):  # valid pixels in a sliver of a cell at the edge alone
            return int(self.rows[scene]) - 1, int(self.cols[scene]) - 1
        place = int(number * len(down))
        return int(down[place]), int(across[place])

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
        """The share of a scene's ground that tiles are drawn from, measured at places spread over it."""
        for count in (_LOOKED_AT, _LOOKED_AT_AGAIN):
            down, across, chance = self._look(scene, count)
            if (chance > 0).any():
                rows, cols = down.max() - down.min() + 1, across.max() - across.min() + 1
                return float(chance.mean() * rows * cols / (self.rows[scene] * self.cols[scene]))
        return 0.0

    def _look(self, scene: int, count: int) -> tuple[Array, Array, Numbers]:
        """Places spread evenly over a scene, or its region, and their chances."""
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
