"""Predicting whole scenes of any size back onto the map, in memory that the scene's width bounds.

A row of overlapping windows is read, predicted in batches and blended at a time (`blending`); finished rows go to COGs
in the scene's own grid (`geoaug.io.streamed`). Reading, the network and writing go on at once. Where the scene has no
data, the map has none.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import rasterio
import torch
from torch import Tensor, nn

from geoaug.augment.compose import Compose
from geoaug.augment.test_time import Group, TestTime
from geoaug.data.scene import Scene, SceneReader, open_scene
from geoaug.data.windows import Window
from geoaug.errors import ConfigurationError
from geoaug.io.streamed import StreamedRaster
from geoaug.models.blending import Blend, StripBlender
from geoaug.models.card import ModelCard
from geoaug.models.dropout import dropout_alone
from geoaug.models.model_file import LoadedModel, load_model
from geoaug.sensors import Sensor

__all__ = ["PredictedScene", "predict_scene"]

NODATA = 255
# Probabilities and uncertainties, 0..1, in steps that leave a number for nodata.
_STEPS = 254

# A ground sampling distance this much off is another scale of things.
_GSD_TOLERANCE = 0.1

# Bands of one name this far apart are different ones; another sensor's red is nearer (nm).
_SAME_BAND_NM = 40.0

_BATCHES_AHEAD = 2


@dataclass(frozen=True, slots=True)
class PredictedScene:
    """What was written.

    Attributes:
        classes: id of the likeliest class, uint8, 255 where there is no data; None for numbers and several labels.
        values: predicted numbers, float32, NaN where there is no data; None for classes.
        probabilities: of each class, uint8 in steps of 1/254; None where not asked for.
        uncertainty: entropy and mutual information over their greatest, uint8 in steps of 1/254; None where not asked
            for.
    """

    classes: Path | None
    values: Path | None
    probabilities: Path | None
    uncertainty: Path | None


@torch.inference_mode()
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
    compose = Compose(
        [], opened.sensor, normalize=(card.mean, card.std), out_units=card.units, ignore_index=card.ignore_index
    ).eval()
    answer = _Answer(network, card, views, passes)
    rows = blend.rows(opened.height, opened.width)
    blender = StripBlender(channels, opened.height, opened.width, blend)
    with ExitStack() as stack:
        stack.enter_context(rasterio.Env(**_gdal_options()))
        sinks = _Sinks(stack, opened, card, Path(out), probabilities=probabilities, passes=passes)
        readers = _Readers(stack, opened, compose)
        map_ = _Map(blender, _ValidRows(opened, blend), sinks)
        behind = stack.enter_context(ThreadPoolExecutor(1))
        waiting: deque[Future[None]] = deque()
        batches = readers.batches(rows, batch_size)
        for number, row in enumerate(rows):
            done = 0
            while done < len(row):
                windows, image, valid = next(batches)
                answers = answer(image.to(device)).float().cpu().numpy()
                done += len(windows)
                waiting.append(behind.submit(map_.add, windows, answers, valid))
                if len(waiting) > _BATCHES_AHEAD:
                    waiting.popleft().result()
            waiting.append(behind.submit(map_.finish_row, last=number == len(rows) - 1))
            if progress is not None:
                progress(number + 1, len(rows))
        while waiting:
            waiting.popleft().result()
    return sinks.paths


def _gdal_options() -> dict[str, int]:
    """GDAL keeps a twentieth of the machine's memory of blocks unless told; windows need a few rows of them."""
    return {} if "GDAL_CACHEMAX" in os.environ else {"GDAL_CACHEMAX": 256}


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
    scene = open_scene(path, sensor=sensor, bands=list(card.sensor.band_names))
    for own, theirs in zip(card.sensor.bands, scene.sensor.bands, strict=True):
        apart = abs((own.wavelength_nm or 0.0) - (theirs.wavelength_nm or 0.0))
        if own.wavelength_nm is not None and theirs.wavelength_nm is not None and apart > _SAME_BAND_NM:
            raise ConfigurationError(
                f"{path}: its band '{theirs.name}' is at {theirs.wavelength_nm:.0f} nm ('{scene.sensor.name}'), and "
                f"the model's at {own.wavelength_nm:.0f} nm ('{card.sensor.name}'): another band of the same name"
            )
    gsd, trained = scene.gsd_m, card.gsd_m
    if not ignore_gsd and gsd is not None and trained is not None and abs(gsd / trained - 1) > _GSD_TOLERANCE:
        raise ConfigurationError(
            f"{path}: its pixels are {gsd:.3g} m wide, and the model was trained at {trained:.3g} m: resample the "
            f"scene (gdalwarp -tr {trained:.3g} {trained:.3g}), or predict all the same with ignore_gsd"
        )
    return scene


class _Answer:
    """Probabilities or numbers of a batch of windows, with uncertainties behind them where asked for."""

    def __init__(self, network: nn.Module, card: ModelCard, views: TestTime, passes: int) -> None:
        self.network, self.card, self.views, self.passes = network, card, views, passes
        scale = card.training.get("target_scale", (0.0, 1.0))
        self.mean, self.std = float(scale[0]), float(scale[1])

    def __call__(self, image: Tensor) -> Tensor:
        if image.device.type == "cpu":
            # Alone, because torch chooses its kernels by the size of the batch; one window keeps all cores busy.
            return torch.cat([self._of(one) for one in image.split(1)])  # type: ignore[no-untyped-call]
        return self._of(image)

    def _of(self, image: Tensor) -> Tensor:
        if self.card.task == "regression":
            return self._seen(image) * self.std + self.mean
        if not self.passes:
            return self._seen(image)
        total = own = torch.zeros((), device=image.device)
        with dropout_alone(self.network):
            for _ in range(self.passes):
                seen = self._seen(image)
                total, own = total + seen, own + self._entropy(seen)
        mean = total / self.passes
        entropy = self._entropy(mean)
        return torch.cat((mean, entropy, (entropy - own / self.passes).clamp_min(0)), 1)

    def _seen(self, image: Tensor) -> Tensor:
        activation = None if self.card.task == "regression" else "sigmoid" if self._apart else "softmax"
        seen: Tensor = self.views(self.network, image, activation=activation)  # type: ignore[arg-type]
        return seen

    @property
    def _apart(self) -> bool:
        return self.card.multilabel or self.card.architecture.outputs == 1

    def _entropy(self, probability: Tensor) -> Tensor:
        """Over its greatest, so that it is within 0..1; the mean over the classes where they hold independently."""
        own: Tensor = torch.special.entr(probability)
        if not self._apart:
            return own.sum(1, keepdim=True) / float(np.log(probability.shape[1]))
        other: Tensor = torch.special.entr(1 - probability)
        return (own + other).mean(1, keepdim=True) / float(np.log(2))


_Batch = tuple[list[Window], Tensor, npt.NDArray[np.bool_]]


class _Readers:
    """A thread that reads batches of windows ahead of the network, and scales and normalises them."""

    def __init__(self, stack: ExitStack, scene: Scene, compose: Compose) -> None:
        self.reader = stack.enter_context(SceneReader(scene))
        self.compose = compose
        self.pool = stack.enter_context(ThreadPoolExecutor(1))

    def batches(self, rows: Sequence[Sequence[Window]], batch_size: int) -> Iterator[_Batch]:
        """Windows with what the network is given and their validity; no batch has windows of two rows."""
        ahead: deque[Future[_Batch]] = deque()
        for row in rows:
            for start in range(0, len(row), batch_size):
                ahead.append(self.pool.submit(self._read, list(row[start : start + batch_size])))
                if len(ahead) > _BATCHES_AHEAD:
                    yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()

    def _read(self, windows: list[Window]) -> _Batch:
        tiles = [self.reader.read(window) for window in windows]
        image, valid = np.stack([tile.image for tile in tiles]), np.stack([tile.valid for tile in tiles])
        if image.dtype not in (np.uint8, np.uint16, np.int16, np.float32):
            image = image.astype(np.float32)
        batch = {"image": torch.from_numpy(image), "valid": torch.from_numpy(valid)[:, None]}
        return windows, self.compose(batch)["image"], valid


class _Map:
    """Answers blended into rows, and rows written; one thread does it in order."""

    def __init__(self, blender: StripBlender, valid: _ValidRows, sinks: _Sinks) -> None:
        self.blender, self.valid, self.sinks = blender, valid, sinks

    def add(self, windows: Sequence[Window], answers: npt.NDArray[np.float32], valid: npt.NDArray[np.bool_]) -> None:
        """Take the answers of a batch into the sums."""
        for window, answer, known in zip(windows, answers, valid, strict=True):
            self.blender.add(window, answer)
            self.valid.add(window, known)

    def finish_row(self, *, last: bool) -> None:
        """Write what no later row of windows reaches."""
        self.sinks.write(self.blender.finished(last=last), self.valid.finished(last=last))


class _ValidRows:
    """Validity of the rows that windows still reach, as `StripBlender` has their answers."""

    def __init__(self, scene: Scene, blend: Blend) -> None:
        self.blend, self.height, self.width = blend, scene.height, scene.width
        self._rows = np.zeros((blend.tile, scene.width), bool)
        self._top = -blend.margin

    def add(self, window: Window, valid: npt.NDArray[np.bool_]) -> None:
        left, right = max(window.col, 0), min(window.col_stop, self.width)
        self._rows[:, left:right] = valid[:, left - window.col : right - window.col]

    def finished(self, *, last: bool) -> npt.NDArray[np.bool_]:
        step = self.blend.tile if last else self.blend.step
        first = max(self._top, 0) - self._top
        stop = max(min(self._top + step, self.height) - self._top, first)
        self._top += step
        return self._rows[first:stop].copy()


class _Sinks:
    """The rasters that rows go to."""

    def __init__(
        self, stack: ExitStack, scene: Scene, card: ModelCard, out: Path, *, probabilities: bool, passes: int
    ) -> None:
        self.card = card
        self.names = [one.name for one in card.classes] or [f"output {n + 1}" for n in range(card.architecture.outputs)]
        outputs = card.architecture.outputs
        self.paths = PredictedScene(None, None, None, None)
        common = {"height": scene.height, "width": scene.width, "transform": scene.transform, "crs": scene.crs}

        def sink(name: str, **options: object) -> StreamedRaster:
            path = out / f"{scene.id}_{name}.tif"
            self.paths = replace(self.paths, **{name: path})
            return stack.enter_context(StreamedRaster(path, **{**common, **options}))  # type: ignore[arg-type]

        self.classes = self.values = self.probabilities = self.uncertainty = None
        if card.task == "regression":
            self.values = sink("values", count=outputs, dtype="float32", nodata=float("nan"))
            return
        if not card.multilabel:
            colours = {number: (*one.colour, 255) for number, one in enumerate(card.classes)}
            tags = {f"class_{number}": name for number, name in enumerate(self.names)}
            self.classes = sink(
                "classes", count=1, dtype="uint8", nodata=NODATA, categorical=True, colormap=colours or None, tags=tags
            )
        if probabilities or card.multilabel:
            named = self.names if len(self.names) == outputs else self.names[-outputs:]
            self.probabilities = sink(
                "probabilities",
                count=outputs,
                dtype="uint8",
                nodata=NODATA,
                descriptions=named,
                scales=[1 / _STEPS] * outputs,
            )
        if passes:
            described = ["entropy", "mutual information"]
            self.uncertainty = sink(
                "uncertainty", count=2, dtype="uint8", nodata=NODATA, descriptions=described, scales=[1 / _STEPS] * 2
            )

    def write(self, rows: npt.NDArray[np.float32], valid: npt.NDArray[np.bool_]) -> None:
        """The next rows of the scene."""
        if not rows.shape[1]:
            return
        outputs = self.card.architecture.outputs
        if self.values is not None:
            self.values.write(np.where(valid, rows, np.float32(np.nan)))
            return
        if self.classes is not None:
            likeliest = rows[:outputs].argmax(0) if outputs > 1 else rows[0] > 0.5
            self.classes.write(np.where(valid, likeliest, NODATA).astype(np.uint8)[None])
        if self.probabilities is not None:
            self.probabilities.write(_in_steps(rows[:outputs], valid))
        if self.uncertainty is not None:
            self.uncertainty.write(_in_steps(rows[outputs:], valid))


def _in_steps(shares: npt.NDArray[np.float32], valid: npt.NDArray[np.bool_]) -> npt.NDArray[np.uint8]:
    steps = np.rint(np.clip(shares, 0, 1) * _STEPS)
    return np.where(valid, steps, NODATA).astype(np.uint8)
