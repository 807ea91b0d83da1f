"""What `geoaug fit` chooses where it is only told the data: task, split, bands, weights, stem, recipe, training.

The outcome is a configuration as `fitting` reads it, and a line for each choice with its reason. Nothing is trained and
no network is built here. Pixels are read where it cannot be done without: to see which classes lie where.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import yaml

from geoaug.data.catalogs.catalog import Catalog
from geoaug.data.catalogs.parts import split_names
from geoaug.data.splits.splitting import split_by_chance, split_by_folder
from geoaug.data.surveys.amounts import class_amounts_in, class_ids, class_name
from geoaug.data.surveys.survey import survey_catalog
from geoaug.data.training.catalog_source import as_catalog, is_saved_catalog
from geoaug.errors import ConfigurationError
from geoaug.models.architecture import BACKBONES
from geoaug.models.fit_splits import SHARES, labelled_share, split_ground
from geoaug.models.precision import Precision, bfloat16_reason, device_of
from geoaug.sensors import Sensor, colour_band

__all__ = ["Choices", "Told", "choose"]

_TILE, _LEAST_TILE = 256, 32
_CHIP = 512  # scenes no larger than this, with a class or a number each, are chips
_PRETRAINED_SIDE = 128
_MOST_VALUES = 64
_RARE = 5.0
_STEPS, _LEAST_BATCH = 8, 8  # of an epoch at least, and samples in a step
_SPARSE = 0.2  # labels on less of the ground than this leave most tiles without any

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Told:
    """What a person said; None where the choice is ours.

    Args:
        data: a folder, files, or a catalog.
        output: the folder of the training.
        labels: a file of classes.
        label_field: attribute of vector labels.
        target: a column of the catalog.
        task: "classification", "segmentation" or "regression".
        model: the backbone.
        decoder: for pixels.
        weights: a file, a name of torchvision's, or "none".
        sensor: whose bands the files have.
        bands: by name.
        tile: side of a tile as it is read, pixels.
        input_size: side that the network is given.
        recipe: of augmentation, or "none".
        epochs: of the training.
        batch_size: of a step.
        lr: peak learning rate.
        dropout: before the last layer.
        seed: of everything.
        device: that it is trained on: "auto", "cpu", "gpu" or "cuda".
        precision: Lightning's name for the numbers that it computes with.
    """

    data: Sequence[str]
    output: Path
    labels: str | None = None
    label_field: str | None = None
    target: str | None = None
    task: Literal["classification", "segmentation", "regression"] | None = None
    model: str | None = None
    decoder: Literal["unet", "fpn", "deeplabv3+"] | None = None
    weights: str | None = None
    sensor: str | None = None
    bands: str | None = None
    tile: int | None = None
    input_size: int | None = None
    recipe: str | None = None
    epochs: int | None = None
    batch_size: int | None = None
    lr: float | None = None
    dropout: float | None = None
    seed: int = 0
    device: str = "auto"
    precision: str | None = None


@dataclass
class Choices:
    """A configuration, and what was chosen: (what, choice, why)."""

    configuration: dict[str, Any]
    lines: list[tuple[str, str, str]] = field(default_factory=list)

    def save(self, path: Path) -> None:
        """Write the configuration as YAML, whole or not at all."""
        from geoaug.io.geotiff import replace_file

        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, yaml.safe_dump(self.configuration, sort_keys=False).encode())


def choose(told: Told, progress: Progress | None = None) -> Choices:
    """Choose everything that was not told, and write the catalog with its splits to the training's folder.

    Args:
        told: what was.
        progress: of reading headers and labels.

    Raises:
        ConfigurationError: nothing can be learned of these data as they are; the message says what is missing.
    """
    if told.model is not None and told.model not in BACKBONES:
        raise ConfigurationError(f"model '{told.model}' is not one of {', '.join(BACKBONES)}")
    return _Choosing(told, progress).choices()


class _Choosing:
    def __init__(self, told: Told, progress: Progress | None) -> None:
        self.told, self.progress = told, progress
        self.lines: list[tuple[str, str, str]] = []
        self.catalog = self._catalog()
        self.names: dict[str, str] = {}

    def choices(self) -> Choices:
        task = self._task()
        chips = task != "segmentation" or self._all_small()
        tile = self._tile(chips)
        classes: dict[str, Any] = {}
        if task == "segmentation":
            classes = self._classes_of_pixels()
        tile = self._split(chips, tile)
        if task == "segmentation":
            self._check_labels_of_splits()
        self.told.output.mkdir(parents=True, exist_ok=True)
        kept = (self.told.output / "catalog.parquet").absolute()
        self.catalog.save(kept)
        statistics = kept.with_name("statistics.yaml")
        statistics.unlink(missing_ok=True)  # of what was trained here before
        sensor = self._sensor()
        weights = self._weights()
        recipe = self._recipe(sensor, task)
        side = self._input_size(tile, weights, task)
        batch = self._batch(tile)
        data = {
            "source": str(kept),
            "size": tile,
            "batch_size": batch,
            "bands": list(sensor.band_names),
            "labels": self._labels_path(),
            "label_field": self.told.label_field,
            **classes,
            "sampler": self._sampler(task),
            "target": self.told.target,
            "recipe": recipe,
            "output_size": side,
            "fit": "resize",
            "normalize": "measure",
            "statistics_file": str(statistics),
            "names": self.names or None,
            "seed": self.told.seed,
        }
        model = self._model(task, sensor, weights)
        trainer = {"max_epochs": self._epochs(), "accelerator": "auto", "devices": 1, "precision": self._precision()}
        configuration = {
            "seed_everything": self.told.seed,
            "data": {name: value for name, value in data.items() if value is not None},
            "model": model,
            "trainer": trainer,
            "run": {"output": str(self.told.output), **self._stopping(task)},
        }
        return Choices(configuration, self.lines)

    def say(self, what: str, choice: object, why: str) -> None:
        self.lines.append((what, str(choice), why))

    # What there is.

    def _catalog(self) -> Catalog:
        data, sensor = list(self.told.data), self.told.sensor
        if len(data) == 1 and is_saved_catalog(data[0]):
            if sensor is not None:
                raise ConfigurationError("--sensor is said when files are indexed, and this catalog is made")
            catalog = as_catalog(data[0])
            self.say("data", f"{len(catalog):,} scenes", f"of the catalog {data[0]}")
            return catalog
        options: dict[str, Any] = {} if sensor is None else {"sensor": sensor}
        if self.progress is not None:
            options["progress"] = self.progress
        catalog = as_catalog(data[0] if len(data) == 1 else data, **options)
        kinds = sorted(set(catalog.column("kind").tolist()))
        self.say("data", f"{len(catalog):,} scenes", f"of kind {', '.join(kinds)}, found in {', '.join(data)}")
        return catalog

    def _all_small(self) -> bool:
        sides = np.maximum(self.catalog.column("height"), self.catalog.column("width"))
        return bool((sides <= _CHIP).all()) and len(self.catalog) > 1

    def _has(self, column: str) -> bool:
        table = self.catalog.table
        return column in table.column_names and table.column(column).null_count < len(self.catalog)

    def _task(self) -> str:
        told, why = self.told, "as told"
        found = told.task
        if found is None:
            column = told.target
            if column is not None:
                numbers = self.catalog.column(column).dtype.kind in "fiub"
                found, why = (
                    ("regression" if numbers else "classification"),
                    f"the column '{column}' has " + ("numbers" if numbers else "names"),
                )
            elif told.labels is not None:
                found, why = "segmentation", f"{told.labels} has a class for each pixel"
            elif self._has("label"):
                found, why = "classification", "chips lie in a folder for each class"
            elif self._has("mask_path"):
                found, why = "segmentation", "scenes have masks beside them"
            else:
                raise ConfigurationError(
                    "nothing to learn was found: chips in a folder for each class, or scenes with masks beside them; "
                    "or say --labels FILE or --target COLUMN"
                )
        if found == "segmentation" and told.labels is None and not self._has("mask_path"):
            raise ConfigurationError(
                "segmentation needs masks: say --labels FILE, or index scenes with masks beside them"
            )
        self.say("task", found, why)
        return found

    def _labels_path(self) -> str | None:
        labels = self.told.labels
        if labels is None or "://" in labels:
            return labels
        path, mark, layer = labels.partition("|")
        return str(Path(path).absolute()) + mark + layer

    def _sensor(self) -> Sensor:
        from geoaug.data.tiles.dataset import TileDataset

        with TileDataset(self.catalog, self.told.tile, bands=self.told.bands, target=self._any_column()) as dataset:
            sensor = dataset.sensor
        why = "as told" if self.told.bands else "all that there are"
        self.say("bands", " ".join(sensor.band_names), f"{why}; {sensor.name}")
        return sensor

    def _any_column(self) -> str | None:
        return self.told.target

    def _classes_of_pixels(self) -> dict[str, Any]:
        """The ids that occur, counted where nobody has yet, with what they are called."""
        catalog = self.catalog
        if "class_counts" not in catalog.table.column_names or self.told.labels is not None:
            catalog = survey_catalog(
                catalog,
                bands=self.told.bands,
                labels=self.told.labels,
                label_field=self.told.label_field,
                progress=self.progress,
            ).catalog
            self.catalog = catalog
        ids = [int(one) for one in class_ids(catalog)]
        if min(ids, default=0) < 0:
            raise ConfigurationError(
                f"the labels hold the id {min(ids)}, and classes are numbers from 0: give it another, or make it the "
                "nodata value of the file, where there is no label"
            )
        if len(ids) < 2:
            raise ConfigurationError(
                f"the labels hold {len(ids)} class(es) on these scenes, and two are needed to tell apart"
                + ("; name the attribute with --label-field" if self.told.label_field is None else "")
            )
        names = [class_name(catalog, one) for one in ids]
        self.say("classes", ", ".join(names[:12]) + (", ..." if len(names) > 12 else ""), f"{len(ids)} in the labels")
        return {"class_ids": ids, "class_names": names}

    # How it is taken.

    def _tile(self, chips: bool) -> int | None:
        if self.told.tile is not None or chips:
            self.say("tile", self.told.tile or "the whole chip", "as told" if self.told.tile else "they are small")
            return self.told.tile
        shortest = int(np.minimum(self.catalog.column("height"), self.catalog.column("width")).min())
        side = _TILE
        while side > _LEAST_TILE and shortest < 8 * side:
            side //= 2
        self.say("tile", f"{side} x {side} pixels", "eight or more fit across the smallest scene, up to 256")
        return side

    def _split(self, chips: bool, tile: int | None) -> int | None:
        """Split the catalog where it is not; the side of tiles that the split has room for."""
        names = split_names(self.catalog)
        if not names:
            tile = self._new_split(chips, tile)
            names = split_names(self.catalog)
        else:
            self.say("split", ", ".join(names), "as the catalog is split")
        if "train" not in names:
            raise ConfigurationError(
                f"the catalog is split into {', '.join(names)}, and none is 'train': make another with geoaug split"
            )
        if "val" not in names:
            self._validation_of_training()
        return tile

    def _check_labels_of_splits(self) -> None:
        """A validation without labels would call everything right."""
        ids = class_ids(self.catalog)
        for name in split_names(self.catalog):
            if not class_amounts_in(self.catalog.split(name), ids).any():
                raise ConfigurationError(
                    f"the split '{name}' holds no label: take another --seed or a smaller --tile, or make a split with "
                    "geoaug split"
                )

    def _new_split(self, chips: bool, tile: int | None) -> int | None:
        seed = self.told.seed
        try:
            self.catalog = split_by_folder(self.catalog)
        except ConfigurationError:
            pass
        else:
            if "train" in split_names(self.catalog):
                self.say("split", ", ".join(split_names(self.catalog)), "by the folders of that name")
                return tile
        placed = not any(crs is None for crs in self.catalog.column("crs").tolist())
        if chips or not placed:
            self.catalog = split_by_chance(self.catalog, SHARES, seed=seed)
            self.say("split", _shares(SHARES), "by chance; those that overlap on the ground stay together")
            return tile
        assert tile is not None
        told = self.told
        found = split_ground(
            self.catalog, tile, smaller=told.tile is None, seed=seed, bands=told.bands, labels=told.labels,
            label_field=told.label_field,
        )  # fmt: skip
        self.catalog = found.catalog
        if found.tile != tile:
            self.say("tile", f"{found.tile} x {found.tile} pixels", "less, so that each split has labels")
        why = f"by blocks of {found.block_m:.0f} m of ground, tiles {found.buffer_m:.0f} m apart"
        if "test" not in found.shares:
            why += "; no place with labels is left for a test"
        self.say("split", _shares(found.shares), why)
        return found.tile

    def _validation_of_training(self) -> None:
        """A part of the training scenes for validation, where a data set comes with training and test alone."""
        if "regions" in self.catalog.table.column_names:
            raise ConfigurationError("the catalog has no split 'val': make another with geoaug split")
        owner = self.catalog.table.column("split").to_pylist()
        train = [place for place, name in enumerate(owner) if name == "train"]
        part = split_by_chance(self.catalog.select(train), {"train": 0.85, "val": 0.15}, seed=self.told.seed)
        for place, name in zip(train, part.table.column("split").to_pylist(), strict=True):
            owner[place] = name
        names = ["train", "val", *[name for name in split_names(self.catalog) if name != "train"]]
        notes = {**(self.catalog.notes.get("splits") or {}), "names": names}
        self.catalog = self.catalog.with_column("split", owner).with_notes(splits=notes)
        self.say("validation", "15 % of the training scenes", "by chance; the data come without")

    # What is trained, and how.

    def _weights(self) -> str | None:
        told = self.told.weights
        if told is None:
            self.say("weights", "DEFAULT", "torchvision's, of ImageNet; --weights none for new ones")
            return "DEFAULT"
        if told.lower() in ("none", ""):
            self.say("weights", "none", "as told")
            return None
        self.say("weights", told, "as told")
        return told

    def _model(self, task: str, sensor: Sensor, weights: str | None) -> dict[str, Any]:
        backbone = self.told.model or "resnet18"
        self.say("model", backbone, "as told" if self.told.model else "the smallest; --model resnet50 for more")
        decoder = "none"
        if task == "segmentation":
            decoder = self.told.decoder or "unet"
            self.say("decoder", decoder, "as told" if self.told.decoder else "good for most maps")
        elif self.told.decoder is not None:
            raise ConfigurationError(f"--decoder is for maps, and this task is {task}")
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
        epochs = self._epochs()
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

    def _precision(self) -> str:
        if self.told.precision is not None:
            self.say("precision", self.told.precision, "as told")
            return self.told.precision
        reason = bfloat16_reason(device_of(self.told.device))
        found: Precision = "32-true" if reason is None else "bf16-mixed"
        why = "nothing narrower is faster here" if reason is None else f"{reason}; --trainer.precision 32-true for none"
        self.say("precision", found, why)
        return found

    def _stopping(self, task: str) -> dict[str, Any]:
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
        return {"patience": max(5, self._epochs() // 3)}

    def _epochs(self) -> int:
        return self.told.epochs or 30

    def _imbalance(self) -> float:
        part = self.catalog.split("train")
        if self.told.target is not None:
            return 1.0
        amounts = class_amounts_in(part, class_ids(self.catalog))
        return float(amounts.max() / amounts.min()) if len(amounts) and amounts.min() > 0 else 1.0

    def _recipe(self, sensor: Sensor, task: str) -> str | None:
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

    def _sampler(self, task: str) -> str | None:
        share = labelled_share(self.catalog) if task == "segmentation" else 1.0
        if share >= _SPARSE:
            return None
        self.say(
            "sampler", "balanced", f"{100 * share:.2g} % of the pixels have a label: tiles are drawn where some lie"
        )
        return "balanced"

    def _input_size(self, tile: int | None, weights: str | None, task: str) -> int | None:
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

    def _batch(self, tile: int | None) -> int:
        if self.told.batch_size is not None:
            return self.told.batch_size
        side = tile or int(np.maximum(self.catalog.column("height"), self.catalog.column("width")).max())
        batch = int(min(64, max(8, 2 ** round(math.log2(32 * (128 / side))))))
        why = "by the size of a tile"
        if tile is not None:
            ground = self.catalog.column("height").astype(np.float64) * self.catalog.column("width")
            most = max(_LEAST_BATCH, 2 ** int(math.log2(max(float(ground.sum()) / tile**2 / _STEPS, 1))))
            if most < batch:
                batch, why = most, f"so that an epoch has some {_STEPS} steps"
        self.say("batch", batch, why)
        return batch


def _shares(shares: Mapping[str, float]) -> str:
    return ", ".join(f"{100 * share:.0f} % {name}" for name, share in shares.items())
