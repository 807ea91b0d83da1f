"""Predicting whole scenes of any size back onto the map, in memory that the scene's width bounds.

Overlapping windows are read, prepared, predicted and blended one after the other, row by row (`blending`); what is
finished goes to COGs in the scene's own grid (`map_files`). Threads read and prepare ahead of the network, and blend
and write behind it, so that it need not wait. Where the scene has no data, the map has none.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, nullcontext
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import numpy as np
import numpy.typing as npt
import rasterio
import torch
from torch import Tensor

from geoaug.augment.compose import Compose
from geoaug.augment.test_time import Group, TestTime
from geoaug.data.scenes.scene import Scene, SceneReader, open_scene
from geoaug.data.scenes.windows import Window
from geoaug.errors import ConfigurationError
from geoaug.models.answers import Answer, Precision, answering
from geoaug.models.bands import check_same_bands
from geoaug.models.blending import Blend, StripBlender
from geoaug.models.card import ModelCard
from geoaug.models.map_files import NODATA, MapFiles, PredictedScene, bytes_per_pixel
from geoaug.models.model_file import LoadedModel, load_model
from geoaug.models.resampled import check_gsd
from geoaug.sensors import Sensor

__all__ = ["PredictedScene", "predict_scene"]

_READERS = 2
_BATCHES_AHEAD = 4
_BATCHES_BEHIND = 4

# Of GDAL, bytes; and the rows of its blocks that maps are written in.
_LEAST_CACHE, _MOST_CACHE = 32 * 2**20, 512 * 2**20
_BLOCK_ROWS = 256


def predict_scene(
    model: LoadedModel | str | Path,
    scene: str | Path,
    out: str | Path,
    *,
    sensor: Sensor | str | None = None,
    tile: int | None = None,
    overlap: int | None = None,
    batch_size: int = 4,
    device: str | torch.device = "cpu",
    test_time: Group = "none",
    passes: int = 0,
    precision: Precision = "float32",
    probabilities: bool = False,
    ignore_gsd: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> PredictedScene:
    """Predict every pixel of a scene.

    Args:
        model: a model file, or what `load_model` gave; of a network with an answer for each pixel of one date.
        scene: a raster. Its bands are found by name, scaled as the file says.
        out: a folder; files are called after the scene.
        sensor: of the scene, where the file does not tell.
        tile: side of a window, pixels; that of the training unless told, or 256.
        overlap: of windows; a quarter of them unless told. A quarter of it at each edge does not count.
        batch_size: of windows read, and on an accelerator predicted, together. On the CPU it does not change a bit.
        device: to predict on.
        test_time: the views of each window that are averaged.
        passes: of Monte Carlo dropout, 2 or more, for uncertainty; 0 for none.
        precision: that the network multiplies with; "bfloat16" is faster where the processor knows it, and less exact.
        probabilities: whether to write them, too.
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
    opened = _matching_scene(card, scene, sensor, ignore_gsd=ignore_gsd)
    tile = tile or max(card.tile_size or 0, 0) or 256
    overlap = tile // 4 if overlap is None else overlap
    blend = Blend(tile, overlap, overlap // 4)
    views = TestTime(test_time)
    numbers = card.task == "regression"
    outputs = card.architecture.outputs
    channels = outputs + (2 if passes and not numbers else 0)
    # Nothing is resampled, which plain torch does as fast as what would have to be compiled first.
    compose = Compose(
        [],
        opened.sensor,
        normalize=(card.mean, card.std),
        out_units=card.units,
        ignore_index=card.ignore_index,
        executor="torch",
    ).eval()
    answer = Answer(network, card, views, passes)
    rows = blend.rows(opened.height, opened.width)
    with ExitStack() as stack:
        per_pixel = bytes_per_pixel(card, probabilities=probabilities, passes=passes)
        stack.enter_context(_gdal_cache(opened, tile, per_pixel))
        stack.enter_context(answering(precision, device))
        files = MapFiles(stack, opened, card, Path(out), probabilities=probabilities, passes=passes)
        map_ = _Map(StripBlender(channels, opened.height, opened.width, blend), files)
        behind = stack.enter_context(ThreadPoolExecutor(1))
        waiting: deque[Future[None]] = deque()
        done = 0
        ahead = _Windows(stack, opened, compose)
        for windows, image, valid in ahead.batches([window for row in rows for window in row], batch_size):
            waiting.append(behind.submit(map_.add, windows, answer(image.to(device)).cpu(), valid))
            if len(waiting) > _BATCHES_BEHIND:
                waiting.popleft().result()
            before, done = done, done + len(windows)
            if progress is not None and done // len(rows[0]) > before // len(rows[0]):
                progress(done // len(rows[0]), len(rows))
        while waiting:
            waiting.popleft().result()
    return files.paths


def _gdal_cache(scene: Scene, tile: int, map_bytes: int) -> AbstractContextManager[Any]:
    """GDAL keeps a twentieth of the machine's memory of blocks unless told; here, those that a row of windows touches.

    Blocks would be decoded anew for each window, and written half filled, where it kept less.
    """
    if "GDAL_CACHEMAX" in os.environ:
        return nullcontext()
    rows, columns = scene.block_shape
    read = (tile // rows + 2) * rows * (scene.width + columns) * scene.count * scene.dtype.itemsize
    written = 2 * _BLOCK_ROWS * (scene.width + _BLOCK_ROWS) * map_bytes
    size = min(max(read + written, _LEAST_CACHE), _MOST_CACHE)
    bounded: AbstractContextManager[Any] = rasterio.Env(GDAL_CACHEMAX=size)
    return bounded


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
    if passes and card.task == "regression":
        raise ConfigurationError("uncertainty is of classes: leave passes out for numbers")
    if len(card.classes) > NODATA:
        raise ConfigurationError(f"{len(card.classes)} classes do not fit a map of uint8, which has room for {NODATA}")


def _matching_scene(card: ModelCard, path: str | Path, sensor: Sensor | str | None, *, ignore_gsd: bool) -> Scene:
    try:
        scene = open_scene(path, sensor=sensor, bands=list(card.sensor.band_names))
    except ConfigurationError as error:
        raise ConfigurationError(
            f"{error}. The model takes {' '.join(card.sensor.band_names)} of '{card.sensor.name}': where the file has "
            "them and does not say so, name the sensor, or name the bands in the file"
        ) from error
    check_same_bands(card.sensor, scene.sensor, str(path))
    if not ignore_gsd:
        check_gsd(scene.gsd_m, card.gsd_m, str(path), "resample the scene (--resample; models.resampled.at_gsd)")
    return scene


_Batch = tuple[list[Window], Tensor, npt.NDArray[np.bool_]]
_Tiles = tuple[list[Window], npt.NDArray[Any], npt.NDArray[np.bool_]]


class _Windows:
    """Windows on their way to the network: threads read them ahead, and one scales and normalises them."""

    def __init__(self, stack: ExitStack, scene: Scene, compose: Compose) -> None:
        self.compose = compose
        self.readers: SimpleQueue[SceneReader] = SimpleQueue()
        for _ in range(_READERS):
            self.readers.put(stack.enter_context(SceneReader(scene)))
        # Left in this order, so that no thread waits for one that has gone.
        self.reading = stack.enter_context(ThreadPoolExecutor(_READERS))
        self.preparing = stack.enter_context(ThreadPoolExecutor(1))

    def batches(self, windows: Sequence[Window], batch_size: int) -> Iterator[_Batch]:
        """Windows in their order with what the network is given, and their validity."""
        ahead: deque[Future[_Batch]] = deque()
        for start in range(0, len(windows), batch_size):
            read = self.reading.submit(self._read, list(windows[start : start + batch_size]))
            ahead.append(self.preparing.submit(self._prepare, read))
            if len(ahead) > _BATCHES_AHEAD:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()

    def _read(self, windows: list[Window]) -> _Tiles:
        reader = self.readers.get()
        try:
            tiles = [reader.read(window) for window in windows]
        finally:
            self.readers.put(reader)
        return windows, np.stack([tile.image for tile in tiles]), np.stack([tile.valid for tile in tiles])

    def _prepare(self, read: Future[_Tiles]) -> _Batch:
        windows, image, valid = read.result()
        if image.dtype not in (np.uint8, np.uint16, np.int16, np.float32):
            image = image.astype(np.float32)
        batch = {"image": torch.from_numpy(image), "valid": torch.from_numpy(valid)[:, None]}
        return windows, self.compose(batch)["image"], valid


class _Map:
    """Answers blended, and what is finished written; one thread does it in order."""

    def __init__(self, blender: StripBlender, files: MapFiles) -> None:
        self.blender, self.files = blender, files

    def add(self, windows: Sequence[Window], answers: Tensor, valid: npt.NDArray[np.bool_]) -> None:
        """Take the answers of a batch, and write what no later window reaches."""
        for window, answer, known in zip(windows, answers, valid, strict=True):
            place, finished = self.blender.add(window, answer.numpy())
            rows = slice(place.row - window.row, place.row_stop - window.row)
            self.files.write(place, finished, known[rows, place.col - window.col : place.col_stop - window.col])
