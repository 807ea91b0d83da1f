"""Regions along one axis: overlapping stretches of whole blocks that share the places of tiles evenly.

Pure integer mathematics on many scenes at once. Two axes make the regions of `LocalityTileSampler`.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


def region_side(tile: int, block: Array, wanted: int | None = None) -> Array:
    """The side of regions in pixels: whole blocks, twice the tile, and enough for a tile that begins anywhere in one.

    `wanted` pixels, unless that is too small for a tile.
    """
    least = tile + block - 1
    return np.asarray(-(-np.maximum(least, 2 * tile if wanted is None else wanted) // block) * block)


class RegionAxis:
    """The regions along an axis of each scene.

    Region k begins at block k * `step`, and holds the tiles that lie in it. Where two regions hold the same tile, each
    gives it half as often: together they give every place of a tile equally often. No place is in more than two.

    Args:
        length: of each scene in pixels.
        tile: in pixels.
        block: pixels that are compressed together.
        side: of a region in pixels, whole blocks.

    Attributes:
        places: pixels that a tile may begin at.
        step: pixels from one region to the next.
        reach: pixels that a tile of a region may begin at.
        count: of regions.
    """

    def __init__(self, length: Array, tile: int, block: Array, side: Array) -> None:
        self.places = np.abs(length - tile) + 1
        self.reach = side - tile + 1
        self.step = np.maximum(self.reach // block, 1) * block
        self.count = np.where(length > tile, np.maximum(-((self.reach - self.places) // self.step), 0) + 1, 1)
        self.reach = np.where(length > tile, self.reach, self.places)

    def split(self, scene: Array, share: npt.NDArray[np.float64]) -> tuple[Array, npt.NDArray[np.float64]]:
        """The regions at shares (0 to 1) of all places of their scenes, and which share of the region that is."""
        at = share * self.places[scene]
        step, overlap = self.step[scene], self.reach[scene] - self.step[scene]
        last = self.count[scene] - 1
        region = np.clip((at - overlap / 2) // step, 0, last).astype(np.int64)
        start = np.where(region > 0, region * step + overlap / 2, 0.0)
        stop = np.where(region < last, (region + 1) * step + overlap / 2, self.places[scene])
        return region, np.clip((at - start) / (stop - start), 0.0, np.nextafter(1.0, 0.0))

    def place(self, scene: Array, region: Array, share: npt.NDArray[np.float64]) -> Array:
        """Where the tile at a share (0 to 1) of all that a region gives begins, in pixels."""
        step, overlap = self.step[scene], self.reach[scene] - self.step[scene]
        last = self.count[scene] - 1
        begin = region * step
        end = np.minimum(begin + self.reach[scene], self.places[scene])
        # Half as often up to where the region before ends, and from where the next one begins.
        first = np.where(region > 0, overlap, 0)
        final = np.where(region < last, overlap, 0)
        middle = end - begin - first - final
        at = share * (middle + (first + final) / 2)
        pixel = np.where(at < first / 2, 2 * at, at + first / 2)
        late = at - first / 2 - middle
        pixel = np.where(late > 0, first + middle + 2 * late, pixel)
        return np.asarray(np.minimum(begin + pixel.astype(np.int64), end - 1))

    def holding(self, scene: Array, place: Array) -> Array:
        """A region that holds the tile which begins at a place."""
        return np.asarray(np.clip(place // self.step[scene], 0, self.count[scene] - 1))
