"""Orders of tiles drawn at random, each tile apart from the others: uniform over the ground, or by weight of scenes."""

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from geoaug.data.raster.record import TileRef
from geoaug.data.sampling.sampler import Positions, TileDraws, TileSampler
from geoaug.data.sampling.tile_ground import Array, Numbers, TileGround, cumulative
from geoaug.data.sampling.tile_source import TileSource
from geoaug.errors import ConfigurationError

_MOST_TRIES = 1024
_FOR_TILES = 0


class RandomTileSampler(TileSampler):
    """Tiles uniform over the valid ground of all scenes; `geoaug.data.sampling.tile_ground` says what that is exactly.

    Each tile is drawn apart from the others, so nearly every one needs blocks of its own: `LocalityTileSampler` draws
    from the same distribution and reads each block few times.

    Args:
        source: a `TileDataset`, or `CatalogTiles` of a catalog and a size.
        length: tiles of an epoch, of all processes together.
        seed: of all that is drawn.
        min_valid: where the catalog was surveyed, only tiles that may hold this share of valid pixels; the dataset
            drops the rest exactly.
        rank: see `TileSampler`.
        world_size: likewise.
    """

    endless = True

    def __init__(
        self,
        source: TileSource,
        length: int,
        *,
        seed: int = 0,
        min_valid: float = 0.0,
        rank: int | None = None,
        world_size: int | None = None,
    ) -> None:
        super().__init__(source, length, seed=seed, rank=rank, world_size=world_size)
        self.ground = TileGround(source, min_valid=min_valid)

    @classmethod
    def for_training(cls, source: TileSource, length: int, *, seed: int, min_valid: float) -> Self:
        return cls(source, length, seed=seed, min_valid=min_valid)

    def tiles(self, positions: Positions) -> list[TileRef]:
        return self._apart(positions, 0)

    def replacement(self, position: int, attempt: int) -> TileRef:
        rank, world_size = self.ranks
        return self._apart(np.array([position * world_size + rank]), attempt)[0]

    def _apart(self, position: Positions, attempt: int) -> list[TileRef]:
        """Tiles at positions among those of all processes, each drawn apart."""
        draws = TileDraws(self.seed, _FOR_TILES)
        first = attempt * _MOST_TRIES
        numbers = draws.uniforms(position, self.epoch, first)
        scene = self._scenes(numbers[:, 0])
        down, across = self._places(scene, numbers)
        rest = self._refused(np.arange(len(scene)), scene, down, across, numbers)
        turn = 0
        while len(rest) and (turn := turn + 1) < _MOST_TRIES:
            numbers = draws.uniforms(position[rest], self.epoch, first + turn)
            down[rest], across[rest] = self._places(scene[rest], numbers)
            rest = self._refused(rest, scene, down, across, numbers)
        choice = draws.uniforms(position[rest], self.epoch, first)[:, 2]
        for one, share in zip(rest.tolist(), choice.tolist(), strict=True):
            down[one], across[one] = self.ground.sure(int(scene[one]), share)
        row, col = self.ground.corners(scene, down, across)
        return self.refs(position, scene, row, col)

    def _refused(self, which: Array, scene: Array, down: Array, across: Array, numbers: Numbers) -> Array:
        """Those of the tiles `which` that the ground does not accept."""
        if self.ground.plain:
            return which[:0]
        return which[~self.ground.accepts(scene[which], down[which], across[which], numbers[:, 1])]

    def _scenes(self, share: Numbers) -> Array:
        return self.ground.scenes(share)

    def _places(self, scene: Array, numbers: Numbers) -> tuple[Array, Array]:
        down = (numbers[:, 2] * self.ground.rows[scene]).astype(np.int64)
        return down, (numbers[:, 3] * self.ground.cols[scene]).astype(np.int64)


class WeightedTileSampler(RandomTileSampler):
    """Tiles of scenes drawn by given weights; in its scene each is uniform over the valid ground.

    Args:
        source: a `TileDataset`, or `CatalogTiles` of a catalog and a size.
        weights: one for each scene, or the name of a column of the catalog that holds them. A scene of twice the weight
            is drawn twice as often, whatever its area; one of weight 0 never.
        length: tiles of an epoch, of all processes together.
        seed: of all that is drawn.
        min_valid: see `RandomTileSampler`.
        rank: see `TileSampler`.
        world_size: likewise.

    Raises:
        ConfigurationError: the weights are not one number of 0 or more for each scene, or all are 0.
    """

    def __init__(
        self,
        source: TileSource,
        weights: str | Sequence[float] | npt.NDArray[Any],
        length: int,
        *,
        seed: int = 0,
        min_valid: float = 0.0,
        rank: int | None = None,
        world_size: int | None = None,
    ) -> None:
        super().__init__(source, length, seed=seed, min_valid=min_valid, rank=rank, world_size=world_size)
        scenes = len(source.catalog)
        name = f"column {weights!r}" if isinstance(weights, str) else "weights"
        found = source.catalog.column(weights) if isinstance(weights, str) else np.asarray(weights)
        if found.shape != (scenes,):
            raise ConfigurationError(f"{found.size} weights for {scenes} scenes: give one for each")
        try:
            values = found.astype(np.float64)
        except (TypeError, ValueError) as error:
            raise ConfigurationError(f"{name}: weights must be numbers ({error})") from error
        wrong = np.flatnonzero(~(np.isfinite(values) & (values >= 0)))
        if len(wrong):
            scene = source.catalog.ids[int(wrong[0])]
            raise ConfigurationError(f"{name}: scene '{scene}' has the weight {values[wrong[0]]}; it must be 0 or more")
        self._shares = cumulative(np.where(self.ground.area_m2 > 0, values, 0.0))

    def _scenes(self, share: Numbers) -> Array:
        return np.searchsorted(self._shares, share, side="right")
