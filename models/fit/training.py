"""What `geoaug fit` chooses of the training: weights, network, stem, recipe, batch, stages, precision, its end.

The data are known and split by then: that is done in `fit_choices`. Nothing is trained and no network is built here.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from geoaug.augment.recipe import load_recipe
from geoaug.data.catalog.catalog import Catalog
from geoaug.data.loading.dataset import TileDataset
from geoaug.data.sampling.ground_blocks import class_amounts_in, class_ids, class_name
from geoaug.data.sampling.tile_ground import TileGround
from geoaug.errors import ConfigurationError
from geoaug.models.fit.precision import Precision, bfloat16_reason, device_of
from geoaug.models.fit.splits import labelled_share
from geoaug.models.fit.told import Said, Told
from geoaug.models.networks.weights import is_weights_file, load_weights
from geoaug.sensors import Sensor, colour_band

__all__ = ["TrainingChoices", "check_told"]

_BACKBONE, _WEIGHTS, _EPOCHS = "resnet18", "DEFAULT", 30
_PRETRAINED_SIDE = 128
_RARE = 5.0
_STEPS, _LEAST_BATCH = 8, 8  # of an epoch at least, and samples in a step
_SPARSE = 0.2  # labels on less of the ground than this leave most tiles without any


def check_told(told: Told, *, fetch: bool) -> None:
    """Look at what was told of the training, so that what is wrong with it is known before pixels are read.

    Args:
        told: what was.
        fetch: whether weights are downloaded, too; files are looked at in any case.

    Raises:
        ConfigurationError: a number out of its range, no such recipe, or weights that cannot be had, are damaged, or
            another network's.
    """
    if told.dropout is not None and not 0 <= told.dropout < 1:
        raise ConfigurationError(f"--dropout {told.dropout}: it is a probability from 0 to below 1")
    if told.lr is not None and not 0 < told.lr < math.inf:
        raise ConfigurationError(f"--lr {told.lr}: a learning rate is above 0")
    if told.recipe is not None and told.recipe.lower() != "none":
        load_recipe(told.recipe)
    name = _WEIGHTS if told.weights is None else told.weights
    if name.lower() not in ("none", "") and (fetch or is_weights_file(name)):
        load_weights(name, told.model or _BACKBONE)


class TrainingChoices:
    """The choices for a catalog that is split; each says what it chose.

    Args:
        told: what a person said.
        catalog: with its splits.
        say: takes down what is chosen.
    """

    def __init__(self, told: Told, catalog: Catalog, say: Said) -> None:
        self.told, self.catalog, self.say = told, catalog, say
        self.epochs = told.epochs or _EPOCHS

    def weights(self) -> str | None:
        told = self.told.weights
        if told is None:
            self.say("weights", _WEIGHTS, "torchvision's, of ImageNet; --weights none for new ones")
            return _WEIGHTS
        if told.lower() in ("none", ""):
            self.say("weights", "none", "as told")
            return None
        self.say("weights", told, "as told")
        return told

    def model(self, task: str, sensor: Sensor, weights: str | None) -> dict[str, Any]:
        backbone = self.told.model or _BACKBONE
        self.say("model", backbone, "as told" if self.told.model else "the smallest; --model resnet50 for more")
        decoder = "none"
        if task == "segmentation":
            decoder = self.told.decoder or "unet"
            self.say("decoder", decoder, "as told" if self.told.decoder else "good for most maps")
        network: dict[str, Any] = {"backbone": backbone, "decoder": decoder, "weights": weights}
        network["dropout"] = 0.2 if self.told.dropout is None else self.told.dropout
        coloured = all(colour_band(sensor, colour) is not None for colour in ("red", "green", "blue"))
        if weights is not None:
            network["stem"] = "copy" if coloured else "mean"
            why = "red, green and blue take their own filters" if coloured else "there is no red, green and blue"
            self.say("stem", network["stem"], f"{why} (docs/stems.md)")
        loss: dict[str, Any] = {}
        if task == "classification":
            loss["label_smoothing"] = 0.05
        if task != "regression" and self._imbalance() > _RARE:
            loss["class_weights"] = "balanced"
            self.say("class weights", "balanced", f"the rarest class is {self._imbalance():.0f} times rarer")
        return {"task": task, "network": network, "loss": loss, "training": self._training(weights)}

    def _training(self, weights: str | None) -> dict[str, Any]:
        epochs = self.epochs
        stages: list[dict[str, Any]] = [{"train": "all"}]
        if weights is not None and epochs >= 5:
            head = max(1, epochs // 10)
            stages = [{"train": "head", "epochs": head}, {"train": "all", "depth_factor": 0.7}]
        said = " -> ".join(stage["train"] for stage in stages)
        self.say("stages", said, "the new head first" if len(stages) > 1 else "everything from the start")
        rate = self.told.lr or (5e-4 if weights is not None else 1e-3)
        self.say("learning rate", f"{rate:g}", "of the head; cosine after a warm-up, AdamW")
        return {
            "lr": rate,
            "stages": stages,
            "schedule": {"kind": "cosine", "warmup": 0.1},
            "ema_decay": 0.99,
            "seed": self.told.seed,
        }

    def precision(self) -> str:
        if self.told.precision is not None:
            self.say("precision", self.told.precision, "as told")
            return self.told.precision
        reason = bfloat16_reason(device_of(self.told.device))
        found: Precision = "32-true" if reason is None else "bf16-mixed"
        why = "nothing narrower is faster here" if reason is None else f"{reason}; --trainer.precision 32-true for none"
        self.say("precision", found, why)
        return found

    def stopping(self, task: str) -> dict[str, Any]:
        """When the training ends, and which epoch is kept: by the validation, where that knows of every class."""
        if task == "segmentation":
            ids = class_ids(self.catalog)
            held = class_amounts_in(self.catalog.split("val"), ids)
            missing = [
                class_name(self.catalog, one) for one, amount in zip(ids, held.tolist(), strict=True) if not amount
            ]
            if missing:
                self.say("best epoch", "least training loss", f"the validation has no label of {', '.join(missing)}")
                return {"patience": 0, "monitor": "train/loss_epoch", "mode": "min"}
        return {"patience": max(5, self.epochs // 3)}

    def _imbalance(self) -> float:
        part = self.catalog.split("train")
        if self.told.target is not None:
            return 1.0
        amounts = class_amounts_in(part, class_ids(self.catalog))
        return float(amounts.max() / amounts.min()) if len(amounts) and amounts.min() > 0 else 1.0

    def recipe(self, sensor: Sensor, task: str) -> str | None:
        if self.told.recipe is not None:
            none = self.told.recipe.lower() == "none"
            self.say("augmentation", "none" if none else self.told.recipe, "as told")
            return None if none else self.told.recipe
        name = sensor.name
        if name.startswith("sentinel-2"):
            kind = "segmentation" if task == "segmentation" else "classification"
            found = f"sentinel-2-{kind}"
        elif name.startswith("landsat"):
            found = "landsat"
        elif sensor.domain == "sar":
            found = "sentinel-1"
        elif name in ("rgb", "rgbn"):
            found = "aerial-rgb"
        else:
            found = "standard"
        self.say("augmentation", found, f"the preset for {name}")
        return found

    def sampler(self, task: str) -> str | None:
        share = labelled_share(self.catalog) if task == "segmentation" else 1.0
        if share >= _SPARSE:
            return None
        self.say(
            "sampler", "balanced", f"{100 * share:.2g} % of the pixels have a label: tiles are drawn where some lie"
        )
        return "balanced"

    def input_size(self, tile: int | None, weights: str | None, task: str) -> int | None:
        if self.told.input_size is not None:
            self.say("input", f"{self.told.input_size} px", "as told")
            return self.told.input_size
        if task == "segmentation" or tile is not None:
            return tile
        sides = np.maximum(self.catalog.column("height"), self.catalog.column("width"))
        side = int(sides.max())
        if weights is not None and side < _PRETRAINED_SIDE:
            self.say("input", f"{_PRETRAINED_SIDE} px", f"chips of {side} px enlarged, as the weights are used to more")
            return _PRETRAINED_SIDE
        return side

    def length(self, tile: int | None, batch: int) -> int | None:
        """Tiles of an epoch, where fewer than some steps of them lie beside each other."""
        if tile is None:
            return None
        with TileDataset(self.catalog.split("train"), tile, bands=self.told.bands, target=self.told.target) as dataset:
            fitting = TileGround(dataset).area_m2.sum() / (float(np.median(dataset.grids.pixel_area_m2)) * tile**2)
        if fitting >= _STEPS * batch:
            return None
        self.say("epoch", f"{_STEPS * batch} tiles", f"{_STEPS} steps; {fitting:.0f} lie beside each other")
        return _STEPS * batch

    def batch(self, tile: int | None) -> int:
        if self.told.batch_size is not None:
            return self.told.batch_size
        side = tile or int(np.maximum(self.catalog.column("height"), self.catalog.column("width")).max())
        batch = int(min(64, max(8, 2 ** round(math.log2(32 * (128 / side))))))
        why = "by the size of a tile"
        if tile is not None:
            ground = self.catalog.column("height").astype(np.float64) * self.catalog.column("width")
            most = max(_LEAST_BATCH, 2 ** int(math.log2(max(float(ground.sum()) / tile**2 / _STEPS, 1))))
            if most < batch:
                batch, why = most, "so that an epoch has several steps"
        self.say("batch", batch, why)
        return batch
