"""A model as an audit is given it: a function from tiles to how right and how wrong its answers are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from geoaug.augment.compose import Compose
from geoaug.errors import ConfigurationError
from geoaug.io.augmenter import choose_device
from geoaug.io.output import OutputTile
from geoaug.models.networks.bands import check_same_bands
from geoaug.models.networks.card import ModelCard
from geoaug.models.networks.model_file import LoadedModel, load_model
from geoaug.models.tasks.registry import find_task
from geoaug.sensors import Sensor

__all__ = ["ModelScorer", "pipeline_options", "tile_scorer"]


def pipeline_options(card: ModelCard) -> dict[str, Any]:
    """Options of the `Compose` that stands before a model's network: size, normalisation and units of its training."""
    data = dict(card.training.get("configuration") or {}).get("data") or {}
    fit = data.get("fit", "crop")
    size = card.tile_size if fit == "resize" and not find_task(card.task).pixels else None
    return {
        "size": size,
        "fit": fit,
        "normalize": (card.mean, card.std),
        "out_units": card.units,
        "ignore_index": card.ignore_index,
    }


def tile_scorer(model: LoadedModel | str | Path, device: str = "auto") -> ModelScorer:
    """What scores tiles by a model of classes, of chips or of pixels.

    Raises:
        ConfigurationError: no such file, or a model that does not answer with one class of several.
    """
    where = choose_device(device)
    loaded = model if isinstance(model, LoadedModel) else load_model(model, where)
    card = loaded.card
    if not find_task(card.task).has_classes or card.multilabel or card.architecture.fusion != "none":
        raise ConfigurationError(
            f"a model of the task '{card.task}' has no accuracy of one class: give one that classifies chips or pixels"
        )
    return ModelScorer(loaded, where)


class ModelScorer:
    """Accuracy and cross-entropy of a model on tiles, in evaluation mode.

    Chips have the class that their scene is known for, as by its folder; pixels that of the tile's mask.
    """

    def __init__(self, loaded: LoadedModel, device: torch.device) -> None:
        self._card: ModelCard = loaded.card
        self._network = loaded.network.to(device).eval()
        self._device = device
        self._pixels = find_task(self._card.task).pixels
        self._compose: dict[tuple[Sensor, float], Compose] = {}
        self._classes = {one.name: number for number, one in enumerate(self._card.classes)}

    def __call__(self, tiles: Sequence[OutputTile]) -> tuple[np.ndarray, np.ndarray]:
        """Accuracy and loss of each tile, (N,) both; NaN where a tile has no label.

        Raises:
            ConfigurationError: bands that the tiles lack, or labels that are no class of the model.
        """
        scene = tiles[0].scene
        bands = self._bands(scene.sensor)
        sensor = scene.sensor.select([scene.sensor.band_names[band] for band in bands])
        key = (sensor, scene.pixels.fill)
        if key not in self._compose:
            self._compose[key] = Compose([], sensor, **pipeline_options(self._card)).eval()
        batch = {
            "image": torch.from_numpy(np.stack([scene.pixels.to_working(t.image, t.valid) for t in tiles])[:, bands]),
            "valid": torch.from_numpy(np.stack([tile.valid for tile in tiles]))[:, None],
        }
        if self._pixels:
            batch["mask"] = torch.from_numpy(np.stack([self._mask(tile) for tile in tiles]))
        ready = self._compose[key](batch)
        with torch.inference_mode():
            answers = self._network(ready["image"].to(self._device)).float().cpu()
        labels = ready["mask"].long() if self._pixels else torch.tensor([self._label(tile) for tile in tiles])
        return _scores(answers, labels, self._card.ignore_index)

    def _bands(self, sensor: Sensor) -> list[int]:
        """Which bands of the tiles the model takes, in its order."""
        wanted = self._card.sensor
        found = [sensor.index(name) for name in wanted.band_names]
        check_same_bands(wanted, sensor.select(list(wanted.band_names)), "the tiles")
        return found

    def _label(self, tile: OutputTile) -> int:
        name = tile.scene.record.label
        if name is None:
            return self._card.ignore_index
        if name not in self._classes:
            known = ", ".join(self._classes)
            raise ConfigurationError(f"the class '{name}' of the data is not one of the model's: {known}")
        return self._classes[name]

    def _mask(self, tile: OutputTile) -> np.ndarray:
        if tile.mask is None:
            raise ConfigurationError("the model answers for each pixel, and the data have no labels: give --labels")
        known = np.unique(tile.mask)
        beyond = known[(known != self._card.ignore_index) & (known >= len(self._card.classes))]
        if len(beyond):
            raise ConfigurationError(
                f"the label {beyond[0]} is not one of the model's {len(self._card.classes)} classes, 0 to "
                f"{len(self._card.classes) - 1}"
            )
        return tile.mask


def _scores(answers: Tensor, labels: Tensor, ignore_index: int) -> tuple[np.ndarray, np.ndarray]:
    """Means over what has a label of each tile; labels (N,) or (N, H, W), answers (N, K) or (N, K, H, W)."""
    loss = F.cross_entropy(answers, labels, ignore_index=ignore_index, reduction="none").reshape(len(labels), -1)
    right = (answers.argmax(1) == labels).reshape(len(labels), -1).double()
    counted = (labels != ignore_index).reshape(len(labels), -1).double()
    count = counted.sum(1)
    accuracy, mean_loss = ((values * counted).sum(1) / count for values in (right, loss.double()))
    return accuracy.numpy(), mean_loss.numpy()
