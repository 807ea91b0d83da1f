"""Batches of a dataset while they are read, and what becomes of tiles that cannot be.

The pixels are read by the threads of `geoaug.data.raster.reading`; here a batch gets its labels, its places on the
ground and its keys, and tiles that are left out are replaced or cut away.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from geoaug.data.raster.grid import Grid
from geoaug.data.raster.reading import Assembly, BatchBuffers, Task, empty_batch
from geoaug.data.raster.record import TileRef
from geoaug.data.raster.window import Window
from geoaug.errors import GeoaugError

if TYPE_CHECKING:
    from geoaug.data.loading.dataset import TileDataset

Batch = dict[str, Any]

_MOST_ATTEMPTS = 32


class TooLittleValidError(GeoaugError):
    """A tile with too few valid pixels: no fault, but left out."""


class Reading:
    """Batches of a dataset that are being read.

    Args:
        dataset: of the tiles.
        batches: the tiles of each.
        pinned: whether images lie in pinned memory.
    """

    def __init__(self, dataset: "TileDataset", batches: Sequence[Sequence[TileRef]], *, pinned: bool = False) -> None:
        self.dataset = dataset
        self.refs = [list(refs) for refs in batches]
        height, width = dataset.size
        labels = dataset.labels
        dataset.prepare(ref.scene for refs in self.refs for ref in refs)
        self._masks: list[Tensor | None] = []
        buffers, others = [], []
        order = 0
        for number, refs in enumerate(self.refs):
            windows = [(ref.scene, Window(ref.row, ref.col, height, width)) for ref in refs]
            bands = len(dataset.band_names)
            buffers.append(empty_batch(dataset.reader, windows, bands, (height, width), dataset.dtype, pinned=pinned))
            if labels is None:
                self._masks.append(None)
                continue
            mask = dataset.reader.empty((len(refs), height, width), dataset.mask_dtype, pinned=pinned)
            self._masks.append(mask)
            for slot, (scene, window) in enumerate(windows):
                order += 1
                others.append(Task(order, [(number, slot)], _LabelWork(dataset, scene, window, mask[slot].numpy())))
        self._assembly: Assembly = dataset.reader.start(buffers, dataset.view, others)

    def batch(self, place: int, replacement: Callable[[int, int], TileRef] | None = None) -> Batch:
        """A batch once it is read, smaller than asked for where tiles are left out. Each is given once.

        Args:
            place: of the batch.
            replacement: gives another tile for the one at a slot of the batch, at the n-th attempt from 1, so that the
                batch stays whole.

        Raises:
            RasterError: a tile cannot be read, unless the dataset skips errors.
        """
        buffers = self._assembly.take(place)
        left_out = self._left_out(buffers)
        for attempt in range(1, _MOST_ATTEMPTS + 1):
            if not left_out or replacement is None:
                break
            left_out = self._replace(place, buffers, {slot: replacement(slot, attempt) for slot in left_out})
        return self._finished(place, buffers, [slot for slot in range(len(buffers.windows)) if slot not in left_out])

    def cancel(self) -> None:
        """Drop what has not begun, and wait for what has."""
        self._assembly.cancel()

    def _left_out(self, buffers: BatchBuffers) -> list[int]:
        """The slots of a batch whose tiles are left out, once each is counted."""
        dataset = self.dataset
        failed = dict(buffers.failed)
        if dataset.min_valid > 0:
            least = dataset.min_valid * dataset.size[0] * dataset.size[1]
            for slot, valid in enumerate(buffers.validity):
                if np.count_nonzero(valid) < least:
                    failed.setdefault(slot, TooLittleValidError(f"less than {dataset.min_valid:g} of a tile is valid"))
        for slot in sorted(failed):
            dataset.leave_out(buffers.windows[slot][0], failed[slot])
        return sorted(failed)

    def _replace(self, place: int, target: BatchBuffers, refs: dict[int, TileRef]) -> list[int]:
        """Read other tiles into slots; returns those whose new tile is left out, too."""
        others = Reading(self.dataset, [list(refs.values())])
        source = others._assembly.take(0)
        again = others._left_out(source)
        mask, other_mask = self._masks[place], others._masks[0]
        for number, (slot, ref) in enumerate(refs.items()):
            if number in again:
                continue
            target.pixels[slot], target.validity[slot] = source.pixels[number], source.validity[number]
            target.windows[slot] = source.windows[number]
            self.refs[place][slot] = ref
            if mask is not None and other_mask is not None:
                mask[slot] = other_mask[number]
        slots = list(refs)
        return [slots[number] for number in again]

    def _finished(self, place: int, buffers: BatchBuffers, keep: list[int]) -> Batch:
        dataset, mask = self.dataset, self._masks[place]
        self._masks[place] = None
        refs = [self.refs[place][slot] for slot in keep]
        image, valid = buffers.image, buffers.valid
        if len(keep) < len(self.refs[place]):
            chosen = torch.tensor(keep, dtype=torch.int64)
            image, valid = _rows(image, chosen), valid[chosen]
            mask = None if mask is None else mask[chosen]
        grids = [dataset.view(ref.scene).grid for ref in refs]
        batch: Batch = {
            "image": image,
            "valid": valid,
            "transform": _transforms(grids, refs),
            "crs": [grid.crs for grid in grids],
            "scene": [dataset.ids[ref.scene] for ref in refs],
            "window": torch.tensor([[ref.row, ref.col, *dataset.size] for ref in refs]).reshape(-1, 4),
        }
        if mask is not None:
            batch["mask"] = mask
        if dataset.targets is not None:
            batch["label"] = dataset.targets.values[[ref.scene for ref in refs]]
        keys = [ref.key for ref in refs]
        if all(key is not None for key in keys):
            batch["key"] = torch.tensor(keys, dtype=torch.int64)
        return batch


class _LabelWork:
    """Reading the labels of one tile."""

    def __init__(self, dataset: "TileDataset", scene: int, window: Window, out: npt.NDArray[Any]) -> None:
        self.dataset, self.scene, self.window, self.out = dataset, scene, window, out

    def __call__(self) -> None:
        labels, view = self.dataset.labels, self.dataset.view(self.scene)
        assert labels is not None
        labels.check_place(view.record, view.grid)
        labels.read(view.record, view.grid.crop(self.window), self.out)


def _transforms(grids: Sequence[Grid], refs: Sequence[TileRef]) -> Tensor:
    """(B, 6), of tiles that begin at rows and columns of grids."""
    a, b, c, d, e, f = np.array([grid.transform[:6] for grid in grids]).reshape(-1, 6).T
    row, col = np.array([(ref.row, ref.col) for ref in refs], dtype=np.float64).reshape(-1, 2).T
    return torch.from_numpy(np.stack([a, b, a * col + b * row + c, d, e, d * col + e * row + f], axis=1))


def _rows(image: Tensor, chosen: Tensor) -> Tensor:
    """Rows of a tensor of any type; torch indexes no uint16 on some versions."""
    return torch.from_numpy(image.numpy()[chosen.numpy()])
