"""`TileGround`: where tiles may lie in each scene, and how much ground that is.

A point is drawn uniformly from the valid ground of all scenes, and a tile laid around it so that the point divides the
tile as it divides the scene. So a scene is drawn in proportion to its valid ground in square metres, whatever its size,
resolution or number of files; in it the centres of tiles are uniform over valid ground, as far from the edges as half a
tile; and a scene no larger than a tile is taken whole. What is drawn with which random number is decided in the
samplers.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from geoaug.data.tile_source import TileSource
from geoaug.errors import ConfigurationError

Array = npt.NDArray[Any]


class TileGround:
    """The places of tiles.

    Args:
        source: of the scenes and the size of a tile.
        min_valid: where the catalog was surveyed, only tiles that may hold this share of valid pixels.

    Attributes:
        area_m2: of the valid ground of each scene; in pixels for scenes without a CRS.
        rows: number of rows that a tile may begin at, by scene.
        cols: number of columns.
        plain: whether every place of every scene is as good as another.

    Raises:
        ConfigurationError: there is no ground to draw from.
    """

    def __init__(self, source: TileSource, *, min_valid: float = 0.0) -> None:
        if not len(source.catalog):
            raise ConfigurationError("the catalog holds no scene: there is nothing to draw tiles from")
        if not 0 <= min_valid <= 1:
            raise ConfigurationError(f"min_valid is {min_valid}: it is a share from 0 to 1")
        grids = source.grids
        self.tile = source.size
        self.height, self.width = grids.height, grids.width
        self.area_m2: npt.NDArray[np.float64] = grids.pixel_area_m2 * grids.height * grids.width
        self.rows = np.abs(grids.height - self.tile[0]) + 1
        self.cols = np.abs(grids.width - self.tile[1]) + 1
        self.plain = True
        self._cumulative = cumulative(self.area_m2)

    def scenes(self, share: npt.NDArray[np.float64]) -> Array:
        """The scenes at shares (0 to 1) of all valid ground."""
        return np.searchsorted(self._cumulative, share, side="right")

    def within(self, share: npt.NDArray[np.float64]) -> tuple[Array, npt.NDArray[np.float64]]:
        """The scenes at shares of all valid ground, and which share of the scene that is."""
        scene = self.scenes(share)
        start = np.where(scene > 0, self._cumulative[scene - 1], 0.0)
        return scene, np.clip((share - start) / (self._cumulative[scene] - start), 0.0, np.nextafter(1.0, 0.0))

    def corners(self, scene: Array, down: Array, across: Array) -> tuple[Array, Array]:
        """Rows and columns of the tiles that begin at the `down`-th row and `across`-th column of those they may.

        A tile larger than its scene begins before it, so that it holds the scene wholly.
        """
        row = np.where(self.height[scene] < self.tile[0], -down, down)
        return row, np.where(self.width[scene] < self.tile[1], -across, across)

    def accepts(self, scene: Array, down: Array, across: Array, coin: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
        """Whether tiles are taken, each with the probability (against its coin) that its point lies on valid ground."""
        return np.ones(len(scene), dtype=bool)


def cumulative(weights: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Shares of all up to each, the last one 1 (and so all zeros at the end are never met)."""
    total = np.cumsum(weights)
    if not total[-1] > 0:
        raise ConfigurationError("no scene has any ground that a tile may be drawn from")
    share = total / total[-1]
    share[np.flatnonzero(weights)[-1] :] = 1.0
    return np.asarray(share, dtype=np.float64)
