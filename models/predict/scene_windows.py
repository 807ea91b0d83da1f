"""Windows of a scene on their way to the network: decoded by the threads that read training tiles, scaled ahead.

Each block of a file is decoded once for all windows that touch it, in memory that a row of windows bounds. What a
window reaches past the scene's edge is invalid.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, nullcontext
from typing import Any

import numpy as np
import numpy.typing as npt
import rasterio
import torch
from torch import Tensor

from geoaug.augment.compose import Compose
from geoaug.data.raster.reading import Assembly, Reader, ReadMemory, empty_batch
from geoaug.data.raster.window import Window
from geoaug.models.predict.model_scene import ModelScene
from geoaug.read_ahead import in_order

__all__ = ["READERS", "SceneWindows", "gdal_within"]

READERS = 2
"""Threads that decode at once."""

_BATCHES_AHEAD = 4

# What a batch holds of them needs no conversion.
_AS_STORED = (np.uint8, np.uint16, np.int16, np.float32)


def gdal_within(size: int) -> AbstractContextManager[Any]:
    """GDAL keeps at most so many bytes of blocks, unless GDAL_CACHEMAX is set."""
    if "GDAL_CACHEMAX" in os.environ:
        return nullcontext()
    bounded: AbstractContextManager[Any] = rasterio.Env(GDAL_CACHEMAX=size)
    return bounded


_Batch = tuple[list[Window], Tensor, npt.NDArray[np.bool_]]


class SceneWindows:
    """Windows of a scene in their order, with what the network is given.

    Args:
        stack: that ends threads and closes files.
        scene: what is read.
        compose: scales and normalises.
        memory: for decoded blocks.
    """

    def __init__(self, stack: ExitStack, scene: ModelScene, compose: Compose, memory: ReadMemory) -> None:
        self.scene, self.compose = scene, compose
        self.dtype = torch.from_numpy(np.empty(0, scene.view.dtype)).dtype
        self.reader = Reader(memory.chunks, READERS, memory.gdal)
        # Left in this order, so that no thread waits for one that has gone.
        stack.callback(self.reader.close)
        self.preparing = stack.enter_context(ThreadPoolExecutor(1))

    def batches(self, windows: Sequence[Window], batch_size: int) -> Iterator[_Batch]:
        """Windows with what the network is given, and their validity.

        Raises:
            RasterError: one cannot be read.
        """
        starts = range(0, len(windows), batch_size)
        return in_order(
            (self.preparing.submit(self._prepare, self._start(windows[at : at + batch_size])) for at in starts),
            _BATCHES_AHEAD,
        )

    def _start(self, windows: Sequence[Window]) -> Assembly:
        size = windows[0].height, windows[0].width
        places = [(0, window) for window in windows]
        buffers = empty_batch(self.reader, places, len(self.scene.sensor), size, self.dtype)
        return self.reader.start([buffers], lambda _: self.scene.view)

    def _prepare(self, reading: Assembly) -> _Batch:
        found = reading.wait(0)
        for error in found.failed.values():
            raise error
        image = found.pixels if found.pixels.dtype in _AS_STORED else found.pixels.astype(np.float32)
        batch = {"image": torch.from_numpy(image), "valid": torch.from_numpy(found.validity)[:, None]}
        return [window for _, window in found.windows], self.compose(batch)["image"], found.validity
