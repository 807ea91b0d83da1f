"""`TileLoader`: batches of tiles, read ahead by threads over several batches at once."""

import itertools
import logging
from collections import Counter, deque
from collections.abc import Iterator
from functools import partial
from numbers import Integral
from typing import Any, NamedTuple

import torch

from geoaug.data.loading.dataset import Batch, Reading, TileDataset
from geoaug.data.raster.record import TileRef
from geoaug.errors import ConfigurationError, RasterError

_log = logging.getLogger("geoaug")

_MOST_BATCHES = 16  # read ahead together, however small they are


class NothingLeftError(RasterError):
    """All tiles of an epoch were left out."""


class _Group(NamedTuple):
    """Batches that are read together, and the position of the first tile of each in the sampler's order."""

    reading: Reading
    positions: list[int]


class TileLoader:
    """Batches of a dataset in a sampler's order.

    A group of `look_ahead` batches is read at once: a block that several of them touch is decoded once, and while one
    group is used the next is read. Threads do the work; nothing is pickled. Memory stays within the dataset's
    `memory_mb`.

    A tile that is left out (see `TileDataset`) is replaced by another one where the sampler has such (those that draw
    at random do), so that batches stay whole; where not, its batch is smaller. What stands in for it follows from its
    position in the order alone.

    Args:
        dataset: of the tiles.
        sampler: gives their order; see `geoaug.data.sampling`. Any iterable of `TileRef` with a length will do.
        batch_size: tiles in a batch.
        drop_last: whether a last batch that is not full is left out.
        look_ahead: batches in a group; by default as many as the memory allows, up to 16.
        pin_memory: whether images are read into pinned memory, from which a GPU copies while it computes; where there
            is no GPU it makes no difference.

    `state_dict` and `load_state_dict` stop and go on at any batch of an epoch.
    """

    def __init__(
        self,
        dataset: TileDataset,
        sampler: Any,
        batch_size: int,
        *,
        drop_last: bool = False,
        look_ahead: int | None = None,
        pin_memory: bool = False,
    ) -> None:
        for name, value in (("the batch size", batch_size), ("look_ahead", look_ahead)):
            if value is not None and (not isinstance(value, Integral) or value < 1):
                raise ConfigurationError(f"{name} is {value!r}: it must be a whole number, at least 1")
        self.dataset, self.sampler, self.batch_size = dataset, sampler, batch_size
        self.drop_last, self.pin_memory = drop_last, pin_memory
        batch_bytes = batch_size * dataset.tile_bytes
        if look_ahead is None:
            look_ahead = min(max((dataset.memory.batches // batch_bytes - 1) // 2, 1), _MOST_BATCHES)
        self.look_ahead = look_ahead
        # Two groups are on their way, and one batch is in use.
        held = 2 * look_ahead + 1
        dataset.reader.outputs.keep(held)
        wanted_mb = dataset.make_room(held * batch_bytes)
        if wanted_mb > dataset.options.memory_mb:
            _log.warning(
                "%d batches of %.0f MB are in memory at once, for which memory_mb=%d has no room: give it %d, or make "
                "batches smaller",
                held, batch_bytes / 2**20, dataset.options.memory_mb, wanted_mb,
            )  # fmt: skip
        self._position = 0  # tiles of the epoch whose batches were given by now
        self._resumed_at = 0

    @property
    def skipped(self) -> Counter[str]:
        """What was left out, by reason, and how often."""
        return self.dataset.skipped

    def __len__(self) -> int:
        count = len(self.sampler)
        return count // self.batch_size if self.drop_last else -(-count // self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        self._position, self._resumed_at = self._resumed_at, 0
        whole, begun, given = self._position == 0, False, False
        starts = self._starts(self._position)
        groups: deque[_Group] = deque(itertools.islice(starts, 1))
        replacement = self.sampler.replacement if getattr(self.sampler, "endless", False) else None
        try:
            while groups:
                # The next group is begun when this one is, and read while it is used.
                groups.extend(itertools.islice(starts, 1))
                reading, positions = groups[0]
                begun = True
                for number, position in enumerate(positions):
                    replace = None if replacement is None else partial(_replacement, replacement, position)
                    count = len(reading.refs[number])
                    batch = reading.batch(number, replace)
                    self._position = position + count
                    if len(batch["scene"]):
                        given = True
                        yield batch
                    del batch  # whose memory is needed for the next group
                groups.popleft()
            if whole and begun and not given:
                raise NothingLeftError(f"all tiles of the epoch are left out: {_most_common(self.skipped)}")
        finally:
            for group in groups:
                group.reading.cancel()

    def set_epoch(self, epoch: int) -> None:
        """Which pass over the data comes next, as for torch's `DistributedSampler`.

        It begins at its start, unless it is the one that is to be resumed.
        """
        if epoch != getattr(self.sampler, "epoch", None):
            self._position = self._resumed_at = 0
        if hasattr(self.sampler, "set_epoch"):
            self.sampler.set_epoch(epoch)

    def state_dict(self) -> dict[str, Any]:
        """Where the epoch stands: how many tiles of it were given."""
        if not hasattr(self.sampler, "state_dict"):
            raise ConfigurationError(f"a {type(self.sampler).__name__} has no state: take a sampler of geoaug.data")
        return {"sampler": self.sampler.state_dict(), "position": self._position}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where a state was taken: the next iteration gives what would have come next."""
        self.sampler.load_state_dict({**state["sampler"], "position": state["position"]})
        self._position = self._resumed_at = state["position"]

    def _starts(self, position: int) -> Iterator[_Group]:
        """Begin to read one group after the other, each when it is asked for."""
        pinned = self.pin_memory and torch.cuda.is_available()
        refs = self._refs(position)
        batches = iter(lambda: list(itertools.islice(refs, self.batch_size)), [])
        size = 1  # the first groups are small, so that the first batch comes soon
        while group := list(itertools.islice(batches, size)):
            size = min(2 * size, self.look_ahead)
            if self.drop_last and len(group[-1]) < self.batch_size:
                group.pop()
            positions = [position + self.batch_size * number for number in range(len(group))]
            position += self.batch_size * len(group)
            if group:
                yield _Group(self.dataset.start(group, pinned=pinned), positions)

    def _refs(self, position: int) -> Iterator[TileRef]:
        order = getattr(self.sampler, "order", None)
        if order is None:
            return itertools.islice(self.sampler, position, None)
        return itertools.islice(order(position), len(self.sampler) - position)


def _most_common(skipped: Counter[str]) -> str:
    return "; ".join(f"{count} times {line}" for line, count in skipped.most_common(3)) or "the reason is not known"


def _replacement(draw: Any, position: int, slot: int, attempt: int) -> TileRef:
    found: TileRef = draw(position + slot, attempt)
    return found
