"""`GridTileSampler`: tiles that cover all scenes, in an order that reads each block once."""

from typing import Literal, Self

import numpy as np
import numpy.typing as npt

from geoaug.data.raster.record import TileRef
from geoaug.data.sampling.region_grid import tiles_in
from geoaug.data.sampling.sampler import Positions, TileSampler
from geoaug.data.sampling.tile_ground import Array, TileGround
from geoaug.data.sampling.tile_source import TileSource
from geoaug.errors import ConfigurationError

Edge = Literal["shift", "drop", "pad"]

_AT_ONCE = 2**18  # tiles that are looked over together


class GridTileSampler(TileSampler):
    """Tiles of a grid laid over each scene, scene after scene.

    In a scene they go column by column through bands that are as high as a block, so that few blocks are in use at
    once. A scene smaller than a tile is padded at its bottom and right, or left out with `edge="drop"`.

    Where a split gave a scene a region, tiles lie wholly in it, and each part of it has a grid of its own (pieces of 16
    tiles across, where it is wider), which leaves out what would take a tile for less than a sixteenth of one.

    Of several processes each gives equally many tiles: where they do not divide, the first ones come again at the end.

    Args:
        source: a `TileDataset`, or `CatalogTiles` of a catalog and a size.
        stride: pixels from one tile to the next, one number or (down, across): by default the tile's size.
        edge: what becomes of the rest that is too small for a step: the last tile is moved inward ("shift"), the rest
            is left out ("drop"), or the last tile reaches past the edge, where nothing is valid ("pad").
        min_valid: where the catalog was surveyed, tiles that cannot hold this share of valid pixels are left out, and
            those without a single one always are.
        seed: of the tiles' keys.
        rank: see `TileSampler`.
        world_size: likewise.
    """

    def __init__(
        self,
        source: TileSource,
        *,
        stride: int | tuple[int, int] | None = None,
        edge: Edge = "shift",
        min_valid: float = 0.0,
        seed: int = 0,
        rank: int | None = None,
        world_size: int | None = None,
    ) -> None:
        steps = source.size if stride is None else (stride, stride) if isinstance(stride, int) else stride
        if min(steps) < 1:
            raise ConfigurationError(f"the stride is {steps[0]} x {steps[1]}: it must be at least 1 pixel")
        if edge not in ("shift", "drop", "pad"):
            raise ConfigurationError(f"edge is {edge!r}: it must be 'shift', 'drop' or 'pad'")
        grids, (height, width) = source.grids, source.size
        self.stride, self.edge = steps, edge
        self._down = _counts(grids.height, height, steps[0], edge)
        self._across = _counts(grids.width, width, steps[1], edge)
        self._last = np.maximum(grids.height - height, 0), np.maximum(grids.width - width, 0)
        self._band = np.maximum(grids.block_height // steps[0], 1)
        self._ground = TileGround(source, min_valid=min_valid, measured=False)
        counts = self._down * self._across
        self._stops = np.cumsum(counts)
        self._kept = None if self._ground.plain else self._worth_it()
        length = int(counts.sum()) if self._kept is None else len(self._kept[0])
        if not length:
            raise ConfigurationError(
                f"no tile of {height} x {width} pixels lies in a scene, holds enough valid pixels and lies in its "
                "split's region: take smaller tiles, a smaller min_valid, or edge='pad'"
            )
        super().__init__(source, length, seed=seed, rank=rank, world_size=world_size)

    @classmethod
    def for_training(cls, source: TileSource, length: int, *, seed: int, min_valid: float) -> Self:
        """The whole grid, whatever the length asked for."""
        return cls(source, min_valid=min_valid, seed=seed)

    def between(self, start: int, stop: int) -> list[TileRef]:
        """The tiles of the whole grid from one position to before another, whatever the rank."""
        return self.tiles(np.arange(start, min(stop, self.length), dtype=np.int64))

    def tiles(self, positions: Positions) -> list[TileRef]:
        scene, row, col = self._tile(positions) if self._kept is None else (part[positions] for part in self._kept)
        return self.refs(positions, scene, row, col)

    def _worth_it(self) -> tuple[Array, Array, Array]:
        """Scenes, rows and columns of tiles that may hold enough valid pixels and lie in their scenes' regions."""
        found = [self._valid_enough(*self._in_regions())]
        for start in range(0, int(self._stops[-1]), _AT_ONCE):
            scene, row, col = self._tile(np.arange(start, min(start + _AT_ONCE, int(self._stops[-1]))))
            kept = self._ground.whole(scene)
            scene, row, col = scene[kept], row[kept], col[kept]
            kept = self._ground.inside(scene, row, col)
            found.append(self._valid_enough(scene[kept], row[kept], col[kept]))
        scene, row, col = (np.concatenate(parts) for parts in zip(*found, strict=True))
        if len(found[0][0]):
            high = self._band[scene] * self.stride[0]
            order = np.lexsort((row, col, row // high, scene))
            scene, row, col = scene[order], row[order], col[order]
        return scene, row, col

    def _valid_enough(self, scene: Array, row: Array, col: Array) -> tuple[Array, Array, Array]:
        least = max(self._ground.min_valid, np.finfo(np.float64).tiny)
        enough = self._ground.most_valid(scene, row, col) >= least
        return scene[enough], row[enough], col[enough]

    def _in_regions(self) -> tuple[Array, Array, Array]:
        found: list[tuple[Array, Array, Array]] = [(np.zeros(0, np.int64),) * 3]
        tile, ground = self._ground.tile, self._ground
        for scene, region in ground.region_pieces(self.stride):
            size = int(ground.height[scene]), int(ground.width[scene])
            row, col = tiles_in(region, size, tile, self.stride, shift=self.edge != "drop")
            found.append((np.full(len(row), scene), row, col))
        scenes, rows, cols = (np.concatenate(parts) for parts in zip(*found, strict=True))
        return scenes, rows, cols

    def _tile(self, position: Array) -> tuple[Array, Array, Array]:
        """Scenes, rows and columns of tiles of the whole grid, by their positions in it."""
        stops = self._stops
        scene = np.searchsorted(stops, position, side="right")
        number = position - np.where(scene > 0, stops[scene - 1], 0)
        band, across = self._band[scene], self._across[scene]
        first = number // (band * across) * band
        rows = np.minimum(band, self._down[scene] - first)
        inside = number - first * across
        row, col = (first + inside % rows) * self.stride[0], inside // rows * self.stride[1]
        if self.edge == "shift":
            row, col = np.minimum(row, self._last[0][scene]), np.minimum(col, self._last[1][scene])
        return scene, row, col


def _counts(length: npt.NDArray[np.int64], tile: int, step: int, edge: Edge) -> npt.NDArray[np.int64]:
    """Tiles along an axis."""
    if edge == "drop":
        return np.maximum((length - tile) // step + 1, 0)
    covering = np.maximum(-((tile - length) // step), 0) + 1
    # A step longer than a tile may pass the rest by, where a tile would begin beyond the edge.
    return np.minimum(covering, -(-length // step)) if edge == "pad" else covering
