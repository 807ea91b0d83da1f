"""`CountedOnce`: the tiles of a grid for evaluation, in which every labelled pixel counts once."""

from typing import Any

import numpy as np
import numpy.typing as npt
import shapely

from geoaug.data.raster.record import TileRef
from geoaug.data.raster.window import Window
from geoaug.data.sampling.grid_sampler import GridTileSampler
from geoaug.data.sampling.sampler import Positions


class CountedOnce(GridTileSampler):
    """Tiles of a grid, each of which counts what no tile before it does.

    The last tiles of a row and of a column are moved inward, and those of a region's parts may overlap, so that pixels
    lie in several tiles; and where tiles do not divide among processes, the first ones come again. `TileRef.counted`
    says which parts of a tile others count, and their labels are left out: accuracies and losses are those of the
    ground, whatever the size of tiles.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._counted = self._overlaps()

    def tiles_of_process(self, local: Positions, rank: int, world_size: int) -> list[TileRef]:
        """Tiles by their positions in a process's epoch."""
        refs = super().tiles_of_process(local, rank, world_size)
        height, width = self.source.size
        found = []
        for ref, position in zip(refs, (local * world_size + rank).tolist(), strict=True):
            # Those that come again to make processes equally long count nothing.
            again = (Window(ref.row, ref.col, height, width),)
            found.append(ref._replace(counted=self._counted.get(position, ()) if position < self.length else again))
        return found

    def _overlaps(self) -> dict[int, tuple[Window, ...]]:
        """By position of a tile, the tiles before it that overlap it."""
        height, width = self.source.size
        refs = self.tiles(np.arange(self.length, dtype=np.int64))
        scene, row, col = (
            np.array(part) for part in zip(*((ref.scene, ref.row, ref.col) for ref in refs), strict=True)
        )
        found: dict[int, list[Window]] = {}
        for one in np.unique(scene):
            mine = np.flatnonzero(scene == one)
            for later, earlier in _overlapping(row[mine], col[mine], height, width):
                place = mine[earlier]
                window = Window(int(row[place]), int(col[place]), height, width)
                found.setdefault(int(mine[later]), []).append(window)
        return {position: tuple(windows) for position, windows in found.items()}


def _overlapping(row: npt.NDArray[Any], col: npt.NDArray[Any], height: int, width: int) -> npt.NDArray[np.int64]:
    """Pairs of a tile and one before it that share a pixel: (N, 2)."""
    # Half a pixel less on each side: tiles that touch share none.
    boxes = shapely.box(col + 0.5, row + 0.5, col + width - 0.5, row + height - 0.5)
    one, other = shapely.STRtree(boxes).query(boxes)
    kept = other < one
    pairs: npt.NDArray[np.int64] = np.stack([one[kept], other[kept]], 1)
    return pairs
