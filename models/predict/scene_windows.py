"""Windows of a scene on their way to the network: decoded by the threads that read training tiles, scaled ahead.

Each block of a file is decoded once for all windows that touch it, in memory that a row of windows bounds. What a
window reaches past the scene's edge is invalid.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import rasterio
import torch
from torch import Tensor

from geoaug.augment.compose import Compose
from geoaug.data.raster.reading import Assembly, Reader, empty_batch
from geoaug.data.raster.view import SceneView, Stack
from geoaug.data.raster.window import Window
from geoaug.models.predict.scene_input import SceneInput

__all__ = ["ReadMemory", "SceneWindows"]

_READERS = 2
_BATCHES_AHEAD = 4

_LEAST, _MOST = 32 * 2**20, 512 * 2**20
_BLOCK_ROWS = 256  # of the blocks that maps are written in
# What a batch holds of them needs no conversion.
_AS_STORED = (np.uint8, np.uint16, np.int16, np.float32)


@dataclass(frozen=True, slots=True)
class ReadMemory:
    """Bytes for blocks, so that each is decoded once: of a row of windows, and of the maps' blocks in work.

    Attributes:
        chunks: decoded, for windows of this row and the next one.
        gdal: that GDAL keeps; it would keep a twentieth of the machine's memory.
    """

    chunks: int
    gdal: int

    @staticmethod
    def of(view: SceneView, tile: int, map_bytes: int) -> ReadMemory:
        """What a row of windows touches, up to 512 MB.

        Args:
            view: of the scene.
            tile: side of a window.
            map_bytes: of a pixel of all maps together.
        """
        width = view.grid.width
        written = 2 * _BLOCK_ROWS * (width + _BLOCK_ROWS) * map_bytes
        large = [stack for stack in view.stacks if stack.chunk_bytes > _MOST // 4]  # which are read window by window
        kept = [stack for stack in view.stacks if stack not in large]
        row = sum(_row_bytes(stack, tile, width) for stack in kept)
        chunks = min(max(row, _LEAST, 4 * max((stack.chunk_bytes for stack in kept), default=0)), _MOST)
        direct = sum(_row_bytes(stack, tile, width) for stack in large) + _warped_bytes(view)
        return ReadMemory(chunks, max(min(written + direct, _MOST - chunks), _LEAST + min(written, _MOST // 4)))

    def bounded(self) -> AbstractContextManager[Any]:
        """GDAL within its bound, unless GDAL_CACHEMAX is set."""
        if "GDAL_CACHEMAX" in os.environ:
            return nullcontext()
        bounded: AbstractContextManager[Any] = rasterio.Env(GDAL_CACHEMAX=self.gdal)
        return bounded


def _row_bytes(stack: Stack, tile: int, width: int) -> int:
    rows, cols = stack.like.chunk
    return ((tile - 1) // rows + 2) * (width // cols + 2) * stack.chunk_bytes


def _warped_bytes(view: SceneView) -> int:
    """Of the files' own blocks below a row of chunks of warped bands; each reader has handles of its own."""
    total = 0
    bands = [*view.record.bands, *([] if view.record.quality is None else [view.record.quality.band])]
    warped = {one.source.path: one for one in view.views if one.source.warp is not None}
    for band in bands:
        if (one := warped.get(band.path)) is not None:
            rows = band.block_shape[0]
            below = one.chunk[0] * band.grid.height // view.grid.height
            total += (below // rows + 2) * rows * band.grid.width * np.dtype(band.dtype).itemsize * _READERS
    return total


_Batch = tuple[list[Window], Tensor, npt.NDArray[np.bool_]]


class SceneWindows:
    """Windows of a scene in their order, with what the network is given.

    Args:
        stack: that ends threads and closes files.
        scene: what is read.
        compose: scales and normalises.
        memory: for decoded blocks.
    """

    def __init__(self, stack: ExitStack, scene: SceneInput, compose: Compose, memory: ReadMemory) -> None:
        self.scene, self.compose = scene, compose
        self.dtype = torch.from_numpy(np.empty(0, scene.dtype)).dtype
        self.reader = Reader(memory.chunks, _READERS, memory.gdal)
        # Left in this order, so that no thread waits for one that has gone.
        stack.callback(self.reader.close)
        self.preparing = stack.enter_context(ThreadPoolExecutor(1))

    def batches(self, windows: Sequence[Window], batch_size: int) -> Iterator[_Batch]:
        """Windows with what the network is given, and their validity.

        Raises:
            RasterError: one cannot be read.
        """
        ahead: deque[Future[_Batch]] = deque()
        for start in range(0, len(windows), batch_size):
            ahead.append(self.preparing.submit(self._prepare, self._start(windows[start : start + batch_size])))
            if len(ahead) > _BATCHES_AHEAD:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()

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
