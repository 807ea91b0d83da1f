"""`TileLoader`: batches of tiles, read ahead by threads over several batches at once."""

import itertools
from collections import Counter, deque
from collections.abc import Iterator
from typing import Any

import torch

from geoaug.data.dataset import Batch, Reading, TileDataset
from geoaug.data.records import TileRef
from geoaug.errors import ConfigurationError

_MOST_BATCHES = 16  # read ahead together, however small they are


class TileLoader:
    """Batches of a dataset in a sampler's order.

    A group of `look_ahead` batches is read at once: a block that several of them touch is decoded once, and while one
    group is used the next is read. Threads do the work; nothing is pickled. Memory stays within the dataset's
    `memory_mb`.

    Args:
        dataset: of the tiles.
        sampler: gives their order; see `geoaug.data.samplers`.
        batch_size: tiles in a batch.
        drop_last: whether a last batch that is not full is left out.
        look_ahead: batches in a group; as many as the memory allows, up to 16, unless told.
        pin_memory: whether batches lie in pinned memory, from which copies to a GPU can be made meanwhile.

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
        if batch_size < 1:
            raise ConfigurationError(f"the batch size is {batch_size}: it must be at least 1")
        self.dataset, self.sampler, self.batch_size = dataset, sampler, batch_size
        self.drop_last, self.pin_memory = drop_last, pin_memory
        if look_ahead is None:
            share = dataset.memory_mb * 2**20 - dataset.reader.budget
            look_ahead = min(max(share // (2 * batch_size * dataset.tile_bytes), 1), _MOST_BATCHES)
        self.look_ahead = look_ahead
        self._position = 0  # tiles of the epoch that were given, or left out, by now
        self._epoch_of_position = getattr(sampler, "epoch", 0)

    @property
    def skipped(self) -> Counter[str]:
        """What was left out, by reason, and how often."""
        return self.dataset.skipped

    def __len__(self) -> int:
        count = len(self.sampler)
        return count // self.batch_size if self.drop_last else -(-count // self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        groups = self._groups()
        reading: deque[tuple[Reading, list[list[TileRef]]]] = deque()
        try:
            self._begin(reading, groups)
            while reading:
                # The next group is begun when this one is, and read while it is used.
                self._begin(reading, groups)
                group, batches = reading[0]
                for place, refs in enumerate(batches):
                    batch = self.dataset.finish(group, place, refs)
                    self._position += len(refs)
                    if len(batch["scene"]):
                        yield self._pinned(batch)
                reading.popleft()
            self._position = 0
        finally:
            for group, _ in reading:
                group.assembly.cancel()

    def state_dict(self) -> dict[str, Any]:
        """Where the epoch stands: how many tiles of it were given."""
        return {"sampler": self.sampler.state_dict(), "position": self._position}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where a state was taken; the next iteration gives what would have come next."""
        self.sampler.load_state_dict({**state["sampler"], "position": state["position"]})
        self._position = state["position"]

    def _groups(self) -> Iterator[list[list[TileRef]]]:
        refs = iter(self.sampler)
        batches = iter(lambda: list(itertools.islice(refs, self.batch_size)), [])
        while group := list(itertools.islice(batches, self.look_ahead)):
            if self.drop_last and len(group[-1]) < self.batch_size:
                group.pop()
            if group:
                yield group

    def _begin(
        self,
        reading: deque[tuple[Reading, list[list[TileRef]]]],
        groups: Iterator[list[list[TileRef]]],
    ) -> None:
        group = next(groups, None)
        if group is not None:
            reading.append((self.dataset.start(group), group))

    def _pinned(self, batch: Batch) -> Batch:
        if not self.pin_memory or not torch.cuda.is_available():
            return batch
        return {name: value.pin_memory() if isinstance(value, torch.Tensor) else value for name, value in batch.items()}
