"""`LocalityTileSampler`: tiles drawn at random in an order that decodes each block of a file few times.

`RegionAxis` lays regions of whole blocks along an axis of each scene; the sampler draws regions and
cuts tiles from them.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from geoaug.data.raster.record import TileRef
from geoaug.data.sampling.random_sampler import RandomTileSampler
from geoaug.data.sampling.sampler import Positions, TileDraws
from geoaug.data.sampling.tile_ground import Array
from geoaug.data.sampling.tile_source import TileSource
from geoaug.errors import ConfigurationError


def region_side(tile: int, block: Array, wanted: int | None = None) -> Array:
    """The side of regions in pixels: whole blocks, twice the tile, and enough for a tile that begins anywhere in one.

    `wanted` pixels, unless that is too small for a tile.
    """
    least = tile + block - 1
    return np.asarray(-(-np.maximum(least, 2 * tile if wanted is None else wanted) // block) * block)


class RegionAxis:
    """The regions along an axis of each scene.

    Region k begins at block k * `step`, and holds the tiles that lie in it. Where two regions hold the same tile, each
    gives it half as often: together they give every position of a tile equally often. No position is in more than two.

    Args:
        length: of each scene in pixels.
        tile: in pixels.
        block: pixels that are compressed together.
        side: of a region in pixels, whole blocks.

    Attributes:
        starts: pixels that a tile may begin at.
        step: pixels from one region to the next.
        reach: pixels that a tile of a region may begin at.
        count: of regions.
    """

    def __init__(self, length: Array, tile: int, block: Array, side: Array) -> None:
        self.starts = np.abs(length - tile) + 1
        self.reach = side - tile + 1
        self.step = np.maximum(self.reach // block, 1) * block
        self.count = np.where(length > tile, np.maximum(-((self.reach - self.starts) // self.step), 0) + 1, 1)
        self.reach = np.where(length > tile, self.reach, self.starts)

    def split(self, scene: Array, share: npt.NDArray[np.float64]) -> tuple[Array, npt.NDArray[np.float64]]:
        """The regions at shares (0 to 1) of all positions in their scenes, and which share of the region that is."""
        at = share * self.starts[scene]
        step, overlap = self.step[scene], self.reach[scene] - self.step[scene]
        last = self.count[scene] - 1
        region = np.clip((at - overlap / 2) // step, 0, last).astype(np.int64)
        start = np.where(region > 0, region * step + overlap / 2, 0.0)
        stop = np.where(region < last, (region + 1) * step + overlap / 2, self.starts[scene])
        return region, np.clip((at - start) / (stop - start), 0.0, np.nextafter(1.0, 0.0))

    def begin(self, scene: Array, region: Array, share: npt.NDArray[np.float64]) -> Array:
        """Where the tile at a share (0 to 1) of all that a region gives begins, in pixels."""
        step, overlap = self.step[scene], self.reach[scene] - self.step[scene]
        last = self.count[scene] - 1
        begin = region * step
        end = np.minimum(begin + self.reach[scene], self.starts[scene])
        # Half as often up to where the region before ends, and from where the next one begins.
        first = np.where(region > 0, overlap, 0)
        final = np.where(region < last, overlap, 0)
        middle = end - begin - first - final
        at = share * (middle + (first + final) / 2)
        pixel = np.where(at < first / 2, 2 * at, at + first / 2)
        late = at - first / 2 - middle
        pixel = np.where(late > 0, first + middle + 2 * late, pixel)
        return np.asarray(np.minimum(begin + pixel.astype(np.int64), end - 1))

    def holding(self, scene: Array, pixel: Array) -> Array:
        """A region that holds the tile which begins at a pixel."""
        return np.asarray(np.clip(pixel // self.step[scene], 0, self.count[scene] - 1))


_FOR_REGIONS, _FOR_WINDOWS, _FOR_STRATA, _FOR_LANES, _FOR_PROBES = 1, 2, 3, 4, 5
_MOST_TRIES = 256
_MOST_WINDOWS = 64
_FEWEST_MIXED, _MOST_MIXED, _MIXED = 8, 128, 16
_CACHE_SHARE = 0.8  # of the memory for decoded blocks that regions in use may fill


class LocalityTileSampler(RandomTileSampler):
    """Tiles uniform over the valid ground, as by `RandomTileSampler`, drawn region by region.

    A region is a square of whole blocks. It is drawn in proportion to the ground that it holds, and `windows` tiles are
    cut from it at random, so that each of its blocks is decoded once for all of them. Regions overlap such that every
    position of a tile is drawn equally often, at the edges of blocks, too. `mixed` regions are in use at once: each run
    of `mixed` tiles in the order has one tile of each of them, shuffled, and regions begin and end at different times,
    so that batches hold many scenes and the work is even.

    The regions are gone through as in a shuffle, across epochs: none comes again before all others did (as often as
    their ground asks for). Chips are regions of one tile: every chip comes once in so many tiles as there are chips.

    Of several processes each has regions of its own, so that no block is decoded by two for the sake of one region: the
    order depends on the number of processes.

    Args:
        source: a `TileDataset`, or `CatalogTiles` of a catalog and a size.
        length: tiles of an epoch, of all processes together.
        region: side of a region in pixels, rounded up to whole blocks; by default the smallest that holds two tiles
            across, and a tile at any position in a block (1024 for tiles of 256 and blocks of 512).
        windows: tiles from a region; by default twice as many as fit into it beside each other, up to 64 (32). One
            where fewer than two fit; and where all scenes fit decoded into the dataset's memory, in which every block
            is decoded once whatever the order.
        mixed: regions in use at once; by default as many as the decoded blocks may fill of the dataset's memory, 8 to
            128 (16 where the source is no dataset).
        seed: of all that is drawn.
        min_valid: see `RandomTileSampler`.
        rank: see `TileSampler`.
        world_size: likewise.
    """

    def __init__(
        self,
        source: TileSource,
        length: int,
        *,
        region: int | None = None,
        windows: int | None = None,
        mixed: int | None = None,
        seed: int = 0,
        min_valid: float = 0.0,
        rank: int | None = None,
        world_size: int | None = None,
    ) -> None:
        super().__init__(source, length, seed=seed, min_valid=min_valid, rank=rank, world_size=world_size)
        for name, value in (("region", region), ("windows", windows), ("mixed", mixed)):
            if value is not None and value < 1:
                raise ConfigurationError(f"{name} is {value}: it must be at least 1")
        grids, (height, width) = source.grids, source.size
        sides = region_side(height, grids.block_height, region), region_side(width, grids.block_width, region)
        self._down = RegionAxis(grids.height, height, grids.block_height, sides[0])
        self._across = RegionAxis(grids.width, width, grids.block_width, sides[1])
        self.regions = int(np.where(self.ground.area_m2 > 0, self._down.count * self._across.count, 0).sum())
        share = self.ground.area_m2 / self.ground.area_m2.sum()
        pixels = np.minimum(sides[0], grids.height) * np.minimum(sides[1], grids.width)
        tiles = float((share * pixels).sum()) / (height * width)
        scenes = float((grids.height * grids.width)[self.ground.area_m2 > 0].sum())
        alone = tiles < 2 or scenes <= _kept_pixels(source)
        self.windows = windows or (1 if alone else min(round(2 * tiles), _MOST_WINDOWS))
        self.mixed = mixed or _as_many_as_fit(source, float((share * pixels).sum()))

    def state_dict(self, given: int | None = None) -> dict[str, Any]:
        """Where the epoch stands, and what the order follows from besides: a machine may have other memory."""
        return {**super().state_dict(given), "windows": self.windows, "mixed": self.mixed, "regions": self.regions}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where a state was taken, in that order.

        Raises:
            ConfigurationError: the state is of another order.
        """
        if state.get("regions", self.regions) != self.regions:
            raise ConfigurationError(
                f"the state is of an order over {state['regions']} regions, here are {self.regions}: give the same "
                "scenes, tiles and region"
            )
        super().load_state_dict(state)
        self.windows, self.mixed = state.get("windows", self.windows), state.get("mixed", self.mixed)

    def tiles(self, positions: Positions) -> list[TileRef]:
        """The tiles at positions of an epoch of one process alone."""
        return self.tiles_of_process(positions, 0, 1)

    def tiles_of_process(self, local: Positions, rank: int, world_size: int) -> list[TileRef]:
        # The order goes on from epoch to epoch: tiles of this process so far.
        count = self.epoch * len(self) + local
        turn, slot = count // self.mixed, count % self.mixed
        # Regions of one tile come shuffled already, and in one go, so that an epoch can be each of them once.
        lane = slot if self.windows == 1 else TileDraws(self.seed, _FOR_LANES).shuffled(slot, self.mixed, turn)
        # Lanes begin somewhere in their first region, evenly spread.
        at = turn + lane * self.windows // self.mixed
        visit = ((at // self.windows) * self.mixed + lane) * world_size + rank
        scene, row, col = self._cut(visit, at % self.windows)
        return self.refs(local * world_size + rank, scene, row, col)

    def _cut(self, visit: Positions, window: Array) -> tuple[Array, Array, Array]:
        """The scenes, rows and columns of windows (0 to `windows` - 1) of the regions that are visited."""
        visits, which = np.unique(visit, return_inverse=True)
        scenes, downs, acrosses, sure = self._visited(visits)
        scene, region = scenes[which], (downs[which], acrosses[which])
        draws = TileDraws(self.seed, _FOR_WINDOWS)
        strata = TileDraws(self.seed, _FOR_STRATA)
        # Each window has a stretch of its own of the rows and of the columns, so that a region is covered evenly.
        rows = strata.shuffled(window, self.windows, 2 * visit)
        cols = strata.shuffled(window, self.windows, 2 * visit + 1)
        identity = visit * self.windows + window
        numbers = draws.uniforms(identity)
        down = self._down.begin(scene, region[0], (rows + numbers[:, 2]) / self.windows)
        across = self._across.begin(scene, region[1], (cols + numbers[:, 3]) / self.windows)
        rest = self._refused(np.arange(len(scene)), scene, down, across, numbers)
        turn = 0
        while len(rest) and (turn := turn + 1) < _MOST_TRIES:
            numbers = draws.uniforms(identity[rest], 0, turn)
            down[rest] = self._down.begin(scene[rest], region[0][rest], numbers[:, 2])
            across[rest] = self._across.begin(scene[rest], region[1][rest], numbers[:, 3])
            rest = self._refused(rest, scene, down, across, numbers)
        down[rest], across[rest] = sure[0][which[rest]], sure[1][which[rest]]
        return scene, *self.ground.corners(scene, down, across)

    def _visited(self, visit: Positions) -> tuple[Array, Array, Array, tuple[Array, Array]]:
        """The scene and the regions down and across of visits, and a position in each that the ground accepts.

        A position is drawn as any tile's is, and its region taken: so a region comes up in proportion to what it holds.
        """
        cycle, number = visit // self.regions, visit % self.regions
        draws = TileDraws(self.seed, _FOR_REGIONS)
        offset = draws.uniforms(cycle)[:, 0]
        stratum = draws.shuffled(number, self.regions, cycle)
        scene, part = self.ground.within((stratum + offset) / self.regions)
        down, part = self._down.split(scene, part)
        across, _ = self._across.split(scene, part)
        probes = TileDraws(self.seed, _FOR_PROBES)
        numbers = probes.uniforms(visit)
        row, col = self._down.begin(scene, down, numbers[:, 2]), self._across.begin(scene, across, numbers[:, 3])
        rest = self._refused(np.arange(len(scene)), scene, row, col, numbers)
        turn = 0
        while len(rest) and (turn := turn + 1) < _MOST_TRIES:
            # Anywhere in the scene; of the regions that hold the position, one.
            numbers = probes.uniforms(visit[rest], 0, 2 * turn)
            there = probes.uniforms(visit[rest], 0, 2 * turn + 1)
            down[rest], _ = self._down.split(scene[rest], numbers[:, 2])
            across[rest], _ = self._across.split(scene[rest], numbers[:, 3])
            row[rest] = self._down.begin(scene[rest], down[rest], there[:, 2])
            col[rest] = self._across.begin(scene[rest], across[rest], there[:, 3])
            rest = self._refused(rest, scene, row, col, numbers)
        choice = probes.uniforms(visit[rest])[:, 0]
        for one, share in zip(rest.tolist(), choice.tolist(), strict=True):
            row[one], col[one] = self.ground.sure(int(scene[one]), share)
            down[one] = self._down.holding(scene[one : one + 1], row[one : one + 1])[0]
            across[one] = self._across.holding(scene[one : one + 1], col[one : one + 1])[0]
        return scene, down, across, (row, col)


def _as_many_as_fit(source: TileSource, pixels: float) -> int:
    """Regions of so many pixels whose decoded blocks fit into a dataset's memory for them."""
    if getattr(source, "memory", None) is None:
        return _MIXED
    return int(np.clip(_kept_pixels(source) / pixels, _FEWEST_MIXED, _MOST_MIXED))


def _kept_pixels(source: TileSource) -> float:
    """Pixels, of all bands, that fit into the memory for decoded blocks; 0 where the source is no dataset."""
    memory = getattr(source, "memory", None)
    if memory is None:
        return 0.0
    height, width = source.size
    pixel: float = getattr(source, "tile_bytes") / (height * width)  # noqa: B009
    return float(_CACHE_SHARE * memory.chunks / pixel)
