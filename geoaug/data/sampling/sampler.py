"""Orders of tiles: what every sampler is (`TileSampler`), and the random numbers that they are made of (`TileDraws`).

An order is a function of (seed, epoch, position) without any state, worked out for many positions at once and for any
of them alone, so that it can be taken up anywhere. The orders themselves have files of their own.
"""

import itertools
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
import torch
import torch.distributed
from torch.utils.data import Sampler

from geoaug.data.raster.record import TileRef
from geoaug.data.sampling.tile_source import TileSource
from geoaug.errors import ConfigurationError
from geoaug.rng.draws import sample_keys
from geoaug.rng.philox import philox4x32

Positions = npt.NDArray[np.int64]
"""Positions in an epoch, from 0, in the order of all processes together."""

_FIRST_CHUNK, _CHUNK = 128, 1024  # tiles that are drawn together; the first one soon


class TileSampler(Sampler[TileRef], ABC):
    """An order of tiles for one process or for each of several. A new one implements `tiles`.

    The tile at a position follows from (seed, epoch, position) alone, so an order is taken up anywhere without what
    came before. Of w processes, the one of rank r gives the positions r, r + w, r + 2 w, ...: each gives equally many,
    and together they give what a single one would.

    A sampler is used in the process and thread that iterates over it, which may be a worker of torch's `DataLoader`; it
    is never asked from two threads at once.

    Args:
        source: a `TileDataset`, or `CatalogTiles` of a catalog and a size.
        length: tiles of an epoch, of all processes together.
        seed: of all that is drawn.
        rank: of this process; by default that of `torch.distributed`, 0 where that is not running.
        world_size: number of processes; likewise.

    Attributes:
        endless: whether there is a tile at every position, past the epoch's end, too. Then a tile that is left out
            (damaged, or not valid enough) is replaced by another, by default one from past the end. Otherwise positions
            past the end are taken from the beginning, and a batch with such a tile is smaller.
        epoch: the pass over the data that comes next or is under way.
        position: tiles of this process that were given in it.

    Raises:
        ConfigurationError: an epoch of no tile, or ranks that are none.
    """

    endless: ClassVar[bool] = False

    def __init__(
        self, source: TileSource, length: int, *, seed: int = 0, rank: int | None = None, world_size: int | None = None
    ) -> None:
        if length < 1:
            raise ConfigurationError(f"an epoch of {length} tiles: it must have one at least", argument="length")
        if (rank is None) != (world_size is None):
            raise ConfigurationError("rank and world_size go together: give both, or neither")
        if rank is not None and world_size is not None and not 0 <= rank < world_size:
            raise ConfigurationError(f"rank {rank} of {world_size} processes: ranks are 0 to {world_size - 1}")
        self.source, self.length, self.seed = source, length, seed
        self.epoch = self.position = 0
        self._rank, self._world_size = rank, world_size
        self._resumed_at = 0
        self._resumed_of: int | None = None  # processes

    @classmethod
    def for_training(cls, source: TileSource, length: int, *, seed: int, min_valid: float) -> Self:
        """The sampler that `TileDataModule(sampler=...)` trains with; for classes whose constructor takes other things.

        Args:
            source: the dataset.
            length: tiles of an epoch.
            seed: as given to the data module.
            min_valid: share of valid pixels below which the dataset leaves a tile out.
        """
        return cls(source, length, seed=seed)

    @abstractmethod
    def tiles(self, positions: Positions) -> list[TileRef]:
        """The tiles at positions of the current epoch (`self.epoch`), one for each.

        It must follow from `self.seed`, `self.epoch` and the positions alone: positions come in any order, each
        possibly more than once, and in other groups on other machines. `TileDraws` gives random numbers that do, and
        `refs` makes the tiles with their keys.

        Args:
            positions: whole numbers from 0, up to `length` - 1 where the order is not `endless`.
        """

    def refs(
        self, positions: Positions, scene: npt.NDArray[Any], row: npt.NDArray[Any], col: npt.NDArray[Any]
    ) -> list[TileRef]:
        """Tiles that begin at rows and columns of scenes, each with the key of its position in this epoch."""
        keys = sample_keys(self.seed, torch.from_numpy(positions), self.epoch)
        return [TileRef(*each) for each in zip(scene.tolist(), row.tolist(), col.tolist(), keys.tolist(), strict=True)]

    def replacement(self, position: int, attempt: int) -> TileRef:
        """Another tile in place of that at a position of this process, for the `attempt`-th time (1 or more).

        Asked of `endless` orders alone.
        """
        rank, world_size = self.ranks
        return self.tiles(np.array([position * world_size + rank + attempt * len(self) * world_size]))[0]

    @property
    def ranks(self) -> tuple[int, int]:
        """(rank, number of processes), looked up when they are needed."""
        if self._rank is not None and self._world_size is not None:
            return self._rank, self._world_size
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            return torch.distributed.get_rank(), torch.distributed.get_world_size()
        return 0, 1

    def __len__(self) -> int:
        return -(-self.length // self.ranks[1])

    def __iter__(self) -> Iterator[TileRef]:
        """This process's tiles of an epoch; the rest of it after `load_state_dict`."""
        start, self._resumed_at = self._resumed_at, 0
        return self._epoch_from(start)

    def order(self, start: int = 0) -> Iterator[TileRef]:
        """This process's tiles from a position on, past the epoch's end where the sampler is `endless`."""
        rank, world_size = self.ranks
        if start and self._resumed_of not in (None, world_size):
            raise ConfigurationError(
                f"the state is of {self._resumed_of} processes, here are {world_size}: positions in an epoch are those "
                "of a process; begin with a whole epoch"
            )
        count = _FIRST_CHUNK
        end = None if self.endless else len(self)
        while end is None or start < end:
            stop = start + count if end is None else min(start + count, end)
            yield from self.tiles_of_process(np.arange(start, stop, dtype=np.int64), rank, world_size)
            start, count = stop, _CHUNK

    def set_epoch(self, epoch: int) -> None:
        """Which pass over the data comes next; it begins at its start, unless it is the one that is to be resumed."""
        if epoch != self.epoch:
            self.epoch = epoch
            self.position = self._resumed_at = 0

    def state_dict(self, given: int | None = None) -> dict[str, Any]:
        """Where the epoch stands.

        Args:
            given: tiles of this process that training had in it; by default those that were drawn. Worker processes
                of torch's `DataLoader` have drawn more than they gave.
        """
        position = self.position if given is None else given
        return {
            "kind": type(self).__name__,
            "epoch": self.epoch,
            "seed": self.seed,
            "position": position,
            "length": self.length,
            "processes": self.ranks[1],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where a state was taken: the next iteration gives the rest of that epoch.

        Raises:
            ConfigurationError: the state is of another order.
        """
        if state.get("kind", type(self).__name__) != type(self).__name__:
            raise ConfigurationError(f"the state is of a {state['kind']}, this is a {type(self).__name__}")
        if state["length"] != self.length:
            raise ConfigurationError(
                f"the state is of an epoch of {state['length']} tiles, this one has {self.length}: give the same length"
            )
        self.epoch, self.seed = state["epoch"], state["seed"]
        self.position = self._resumed_at = state["position"]
        self._resumed_of = state.get("processes")

    def _epoch_from(self, start: int) -> Iterator[TileRef]:
        self.position = start
        for ref in itertools.islice(self.order(start), len(self) - start):
            self.position += 1
            yield ref
        self.position = 0

    def tiles_of_process(self, local: Positions, rank: int, world_size: int) -> list[TileRef]:
        """The tiles at positions (from 0) of one of several processes.

        Only for orders in which processes differ by more than which positions they give.
        """
        positions = local * world_size + rank
        return self.tiles(positions if self.endless else positions % self.length)


# The last counter word keeps these numbers apart from those that `geoaug.rng.draws` makes of the same seed.
_FOR_NUMBERS, _FOR_SHUFFLES = 101, 102
_MASK32 = 0xFFFFFFFF
_ROUNDS = 6


class TileDraws:
    """Random numbers of one use (a purpose) under one seed: each follows from its index alone.

    Args:
        seed: any integer of up to 64 bits.
        purpose: 0 to 15; the numbers of two purposes have nothing to do with each other. geoaug's samplers use 0 to 7.

    Raises:
        ConfigurationError: another purpose.
    """

    def __init__(self, seed: int, purpose: int) -> None:
        if not 0 <= purpose < 16:
            raise ConfigurationError(f"the purpose {purpose}: it must be 0 to 15", argument="purpose")
        self._key = torch.tensor([seed & _MASK32, (seed >> 32) & _MASK32])
        self._purpose = purpose

    def uniforms(self, index: Positions, epoch: int = 0, attempt: int = 0) -> npt.NDArray[np.float64]:
        """Four uniform numbers in (0, 1) for each index: (indexes, 4)."""
        words = self._words(index, np.full_like(index, epoch), attempt, _FOR_NUMBERS)
        return (words.T + 0.5) * 2.0**-32

    def shuffled(self, index: Positions, size: int, turn: Positions | int) -> Positions:
        """Where each index of 0 to `size` - 1 goes in the shuffle of that turn: a permutation for each turn.

        A Feistel network over the next square of a power of two, walked until it comes back into the range.
        """
        if size == 1:
            return np.zeros_like(index)
        half = (max(size - 1, 1).bit_length() + 1) // 2
        turns = np.zeros_like(index) + turn
        result = self._feistel(index, turns, half)
        while len(outside := np.flatnonzero(result >= size)):
            result[outside] = self._feistel(result[outside], turns[outside], half)
        return result

    def _feistel(self, index: Positions, turn: Positions, half: int) -> Positions:
        mask = (1 << half) - 1
        left, right = index >> half, index & mask
        for number in range(_ROUNDS):
            words = self._words(right | (number << 40), turn, 0, _FOR_SHUFFLES)
            left, right = right, left ^ (words[0] & mask)
        return (left << half) | right

    def _words(self, index: Positions, turn: Positions, attempt: int, use: int) -> npt.NDArray[Any]:
        low, turns = torch.from_numpy(index), torch.from_numpy(turn)
        counter = torch.stack(
            (
                low & _MASK32,
                (low >> 32) & _MASK32,
                turns & _MASK32,
                torch.full_like(low, use | self._purpose << 8 | attempt << 12),
            )
        )
        return philox4x32(counter, self._key[:, None]).numpy()
