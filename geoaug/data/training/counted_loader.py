"""`CountedLoader`: a `TileLoader` as Lightning takes it, whose state is that of the training, not of what was read."""

from collections.abc import Callable, Iterator
from typing import Any

from geoaug.data.tiles.batches import Batch
from geoaug.data.tiles.dataset import TileDataset
from geoaug.data.tiles.loader import TileLoader

Done = Callable[[], int | None]

_KEPT = 64  # batches back to which a state can be told


class CountedLoader:
    """Batches of a loader, counted.

    Args:
        loader: of the batches.
        done: how many batches of the epoch training is done with, 0 at its end; None where nobody counts, so that a
            batch counts as done when it was given.

    `state_dict` tells where the first batch begins that training is not done with: a step that was broken off is
    taken again. The state at an epoch's end is the beginning of the next one where training counts; where nobody does,
    it is the end, after which nothing is left of that epoch.
    """

    batch_sampler = None  # Lightning asks for it

    def __init__(self, loader: TileLoader, done: Done = lambda: None) -> None:
        self.loader, self.done = loader, done
        self._given = self._resumed_at = 0
        self._positions = {0: 0}  # of the loader, by the number of batches given

    @property
    def dataset(self) -> TileDataset:
        return self.loader.dataset

    @property
    def sampler(self) -> Any:
        return self.loader.sampler

    @property
    def batch_size(self) -> int:
        return self.loader.batch_size

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Batch]:
        self._given, self._resumed_at = self._resumed_at, 0
        self._positions = {self._given: self._positions.get(self._given, 0)}
        for batch in self.loader:
            self._given += 1
            self._positions[self._given] = self.loader.state_dict()["position"]
            self._positions.pop(self._given - _KEPT, None)
            yield batch

    def set_epoch(self, epoch: int) -> None:
        """Which pass over the data comes next; at its start, unless it is the one that is to be resumed."""
        if epoch != self.loader.sampler.epoch:
            self._given = self._resumed_at = 0
            self._positions = {0: 0}
        self.loader.set_epoch(epoch)

    def state_dict(self) -> dict[str, Any]:
        """Where training stands in the epoch."""
        done = self.done()
        given = done if done is not None and done in self._positions else self._given
        if done is not None and (done == 0 or given >= len(self)):
            given = 0
        position = self._positions[given] if given else 0
        return {**self.loader.state_dict(), "position": position, "batches": given}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where a state was taken: the next iteration gives the rest of that epoch."""
        self.loader.load_state_dict(state)
        self._given = self._resumed_at = state["batches"]
        self._positions = {self._given: state["position"]}
