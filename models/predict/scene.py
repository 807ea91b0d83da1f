"""Predicting whole scenes of any size back onto the map, in memory that the scene's width bounds.

Overlapping windows are read and prepared, predicted and blended one after the other, row by row
(`blending`); what is finished goes to COGs in the grid that tiles of training would be cut from (`map_files`). Threads
read and prepare ahead of the network, and blend and write behind it, so that it need not wait. Where the scene has no
data, the map has none.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import rasterio
import torch
from torch import Tensor

from geoaug.augment.compose import Compose
from geoaug.augment.test_time import Group, TestTime
from geoaug.data.raster.reading import Assembly, Reader, ReadMemory, empty_batch
from geoaug.data.raster.record import SceneRecord
from geoaug.data.raster.window import Window
from geoaug.errors import ConfigurationError
from geoaug.models.networks.card import ModelCard
from geoaug.models.networks.model_file import LoadedModel, load_model
from geoaug.models.predict.answers import Answer, Precision, answering
from geoaug.models.predict.blending import Blend, StripBlender
from geoaug.models.predict.map_files import MapFiles, PredictedScene, bytes_per_pixel
from geoaug.models.predict.model_scene import ModelScene, model_scene
from geoaug.models.tasks.registry import find_task
from geoaug.read_ahead import in_order
from geoaug.sensors import Sensor

__all__ = ["PredictedScene", "predict_scene"]

_READERS = 2  # threads that decode at once
_BATCHES_AHEAD, _BATCHES_BEHIND = 4, 4
# What a batch holds of them needs no conversion.
_AS_STORED = (np.uint8, np.uint16, np.int16, np.float32)


def predict_scene(
    model: LoadedModel | str | Path,
    scene: str | Path | SceneRecord,
    out: str | Path,
    *,
    sensor: Sensor | str | None = None,
    name: str | None = None,
    tile: int | None = None,
    overlap: int | None = None,
    batch_size: int = 4,
    device: str | torch.device = "cpu",
    test_time: Group = "none",
    passes: int = 0,
    precision: Precision = "float32",
    probabilities: bool = False,
    resample: bool = False,
    ignore_gsd: bool = False,
    nodata: float | str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> PredictedScene:
    """Predict every pixel of a scene.

    Args:
        model: a model file, or what `load_model` gave; of a network with an answer for each pixel of one date.
        scene: a raster; a product, a STAC item or another folder with one scene, as `geoaug.data.open_scene` takes it;
            or a record of a catalog. Its bands are found by name, scaled as the
            files say; quality layers make pixels invalid as they do in training.
        out: a folder; files are called after the scene.
        sensor: of the scene, where the files do not tell.
        name: that files are called after in place of the scene's.
        tile: side of a window, pixels; that of the training where None, or 256.
        overlap: of windows; a quarter of them where None. A quarter of it at each edge does not count.
        batch_size: of windows read, and on an accelerator predicted, together. On the CPU it does not change a bit.
        device: to predict on.
        test_time: the views of each window that are averaged.
        passes: of Monte Carlo dropout, 2 or more, for uncertainty; 0 for none.
        precision: that the network multiplies with; "bfloat16" is faster where the processor knows it, and less exact.
        probabilities: whether to write them, too.
        resample: whether a scene of another ground sampling distance than that of the training is brought to it as it
            is read. It is in any case where the training did so, and where the scene has bands of several resolutions
            and the training's is among them.
        nodata: the stored value that is no data, or "none"; what the files and the record say where None.
        ignore_gsd: whether to predict at another ground sampling distance than that of the training.
        progress: called with rows of windows done and all of them.

    Raises:
        ConfigurationError: a band that the scene lacks, another ground sampling distance, or a model that answers
            otherwise.
        RasterError: the scene cannot be read.
    """
    loaded = model if isinstance(model, LoadedModel) else load_model(model, device)
    card, network = loaded.card, loaded.network.to(device).eval()
    _check_model(card, passes)
    layers = find_task(card.task).map_layers(card, probabilities=probabilities, uncertainty=passes > 0)
    given = model_scene(card, scene, sensor=sensor, name=name, resample=resample, ignore_gsd=ignore_gsd, nodata=nodata)
    height, width = given.grid.height, given.grid.width
    tile = tile or max(card.tile_size or 0, 0) or 256
    overlap = tile // 4 if overlap is None else overlap
    blend = Blend(tile, overlap, overlap // 4)
    views = TestTime(test_time)
    channels = card.architecture.outputs + (2 if passes else 0)
    # Nothing is resampled, which plain torch does as fast as what would have to be compiled first.
    compose = Compose(
        [],
        given.sensor,
        normalize=(card.mean, card.std),
        out_units=card.units,
        ignore_index=card.ignore_index,
        executor="torch",
    ).eval()
    answer = Answer(network, card, views, passes)
    rows = blend.rows(height, width)
    with ExitStack() as stack:
        memory = ReadMemory.of(given.view, tile, threads=_READERS, written=bytes_per_pixel(layers))
        stack.enter_context(_gdal_within(memory.gdal))
        stack.enter_context(answering(precision, device))
        files = MapFiles(stack, given.id, given.grid, layers, Path(out))
        map_ = _Map(StripBlender(channels, height, width, blend), files)
        behind = stack.enter_context(ThreadPoolExecutor(1))
        ahead = _Windows(stack, given, compose, memory)

        def written() -> Iterator[Future[None]]:
            done = 0
            for windows, image, valid in ahead.batches([window for row in rows for window in row], batch_size):
                yield behind.submit(map_.add, windows, answer(image.to(device)).cpu(), valid)
                before, done = done, done + len(windows)
                if progress is not None and done // len(rows[0]) > before // len(rows[0]):
                    progress(done // len(rows[0]), len(rows))

        for _ in in_order(written(), _BATCHES_BEHIND):
            pass
    return files.paths


def _check_model(card: ModelCard, passes: int) -> None:
    if card.architecture.decoder == "none":
        raise ConfigurationError(
            "this model answers once for a whole chip, and a map needs an answer for each pixel: train a "
            "SegmentationTask or a RegressionTask with a decoder"
        )
    if card.architecture.fusion != "none":
        raise ConfigurationError("this model compares two dates, and one scene is one date")
    if passes == 1 or passes < 0:
        raise ConfigurationError(f"passes={passes}: uncertainty needs two passes or more, 0 for none")
    if passes and not find_task(card.task).has_uncertainty:
        raise ConfigurationError(f"uncertainty is of classes: leave passes out for {card.task}")


class _Map:
    """Answers blended, and what is finished written; one thread does it in order."""

    def __init__(self, blender: StripBlender, files: MapFiles) -> None:
        self.blender, self.files = blender, files

    def add(self, windows: Sequence[Window], answers: Tensor, valid: npt.NDArray[np.bool_]) -> None:
        """Take the answers of a batch, and write what no later window reaches."""
        for window, answer, known in zip(windows, answers, valid, strict=True):
            position, finished = self.blender.add(window, answer.numpy())
            rows = slice(position.row - window.row, position.row_stop - window.row)
            self.files.write(
                position, finished, known[rows, position.col - window.col : position.col_stop - window.col]
            )


def _gdal_within(size: int) -> AbstractContextManager[Any]:
    """GDAL keeps at most so many bytes of blocks, unless GDAL_CACHEMAX is set."""
    if "GDAL_CACHEMAX" in os.environ:
        return nullcontext()
    bounded: AbstractContextManager[Any] = rasterio.Env(GDAL_CACHEMAX=size)
    return bounded


_Batch = tuple[list[Window], Tensor, npt.NDArray[np.bool_]]


class _Windows:
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
        self.reader = Reader(memory.chunks, _READERS, memory.gdal)
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
        positions = [(0, window) for window in windows]
        buffers = empty_batch(self.reader, positions, len(self.scene.sensor), size, self.dtype)
        return self.reader.start([buffers], lambda _: self.scene.view)

    def _prepare(self, reading: Assembly) -> _Batch:
        found = reading.wait(0)
        for error in found.failed.values():
            raise error
        image = found.pixels if found.pixels.dtype in _AS_STORED else found.pixels.astype(np.float32)
        batch = {"image": torch.from_numpy(image), "valid": torch.from_numpy(found.validity)[:, None]}
        return [window for _, window in found.windows], self.compose(batch)["image"], found.validity
