"""What `geoaug fit` chooses where only the data are given: task, classes, tiles, split, bands, and the training.

From a request to a configuration as `fitting` reads it, with a line for each choice and its reason. Pixels are read
where it cannot be done without: to see which classes lie where, and for the statistics that bands are normalised by,
which the training then finds there. Nothing is trained and no network is built here; how ground is split is in
`splits`, what a task needs of the data the task itself knows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import yaml

from geoaug.augment.recipe import load_recipe
from geoaug.data.catalog.catalog import Catalog
from geoaug.data.datamodule import as_catalog, is_saved_catalog
from geoaug.data.loading.dataset import TileDataset
from geoaug.data.sampling.ground_blocks import class_amounts_in, class_ids, class_name
from geoaug.data.sampling.splits import split_by_chance, split_by_folder
from geoaug.data.sampling.survey import catalog_statistics, survey_catalog
from geoaug.data.sampling.tile_ground import TileGround
from geoaug.errors import ConfigurationError
from geoaug.io.geotiff import replace_file
from geoaug.models.fit.devices import Precision, bfloat16_reason, device_of
from geoaug.models.fit.splits import SHARES, labelled_share, split_ground
from geoaug.models.networks.architecture import BACKBONES
from geoaug.models.networks.weights import is_weights_file, load_weights
from geoaug.models.tasks.base import Evidence, GeoTask
from geoaug.models.tasks.registry import find_task, task_classes
from geoaug.sensors import Sensor, colour_band

__all__ = ["Choices", "FitRequest", "choose"]

_TILE, _LEAST_TILE = 256, 32
_CHIP = 512  # scenes no larger than this, with a class or a number each, are chips

Progress = Callable[[int, int], None]

_BACKBONE, _WEIGHTS, _EPOCHS = "resnet18", "DEFAULT", 30
_PRETRAINED_SIDE = 128
_RARE = 5.0
_STEPS, _LEAST_BATCH = 8, 8  # of an epoch at least, and samples in a step
_SPARSE = 0.2  # labels on less of the ground than this leave most tiles without any


@dataclass(frozen=True)
class FitRequest:
    """What the user asks for; None where the choice is left open.

    Args:
        data: a folder, files, or a catalog.
        output: the folder of the training.
        labels: a file of classes.
        label_field: attribute of vector labels.
        target: a column of the catalog.
        task: name of a task; see `geoaug.models.tasks.registry`.
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
    task: str | None = None
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
class ChoiceLog:
    """A line for each choice: what, the choice, why."""

    lines: list[tuple[str, str, str]] = field(default_factory=list)

    def __call__(self, what: str, choice: object, why: str) -> None:
        self.lines.append((what, str(choice), why))


@dataclass
class Choices:
    """A configuration, and what was chosen: (what, choice, why)."""

    configuration: dict[str, Any]
    lines: list[tuple[str, str, str]] = field(default_factory=list)

    def save(self, path: Path) -> None:
        """Write the configuration as YAML, whole or not at all."""
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, yaml.safe_dump(self.configuration, sort_keys=False).encode())


def choose(request: FitRequest, progress: Progress | None = None, *, fetch: bool = False) -> Choices:
    """Choose everything that was left open, and write the catalog with its splits to the training's folder.

    Args:
        request: what is asked for.
        progress: of reading headers, labels and pixels.
        fetch: whether weights are downloaded, where they are no file, and looked at before pixels are.

    Raises:
        ConfigurationError: nothing can be learned of these data as they are; the message says what is missing.
    """
    if request.model is not None and request.model not in BACKBONES:
        raise ConfigurationError(f"model '{request.model}' is not one of {', '.join(BACKBONES)}")
    choosing = _Choosing(request, progress)
    check_request(request, fetch=fetch)
    return choosing.choices()


class _Choosing:
    def __init__(self, request: FitRequest, progress: Progress | None) -> None:
        self.request, self.progress = request, progress
        self.log = ChoiceLog()
        self.catalog = self._catalog()

    def choices(self) -> Choices:
        name, task = self._task()
        of_pixels = task.pixels and task.has_classes
        chips = not task.pixels or self._all_small()
        tile = self._tile(chips)
        classes: dict[str, Any] = {}
        if of_pixels:
            classes = self._classes_of_pixels()
        tile = self._split(chips, tile)
        if of_pixels:
            self._check_labels_of_splits()
        self.request.output.mkdir(parents=True, exist_ok=True)
        kept = (self.request.output / "catalog.parquet").absolute()
        self.catalog.save(kept)
        statistics = kept.with_name("statistics.yaml")
        sensor = self._sensor(statistics)
        training = _TrainingChoices(self.request, self.catalog, self.log)
        weights = training.weights()
        recipe = training.recipe(sensor, task)
        side = training.input_size(tile, weights, task)
        batch = training.batch(tile)
        data = {
            "source": str(kept),
            "size": tile,
            "batch_size": batch,
            "length": training.length(tile, batch),
            "bands": list(sensor.band_names),
            "labels": self._labels_path(),
            "label_field": self.request.label_field,
            **classes,
            "sampler": training.sampler(task),
            "target": self.request.target,
            "recipe": recipe,
            "output_size": side,
            "fit": "resize",
            "normalize": "measure",
            "statistics_file": str(statistics),
            "seed": self.request.seed,
        }
        model = training.model(name, task, sensor, weights)
        precision = training.precision()
        trainer = {"max_epochs": training.epochs, "accelerator": "auto", "devices": 1, "precision": precision}
        configuration = {
            "seed_everything": self.request.seed,
            "data": {name: value for name, value in data.items() if value is not None},
            "model": model,
            "trainer": trainer,
            "run": {"output": str(self.request.output), **training.stopping(task)},
        }
        return Choices(configuration, self.log.lines)

    # What there is.

    def _catalog(self) -> Catalog:
        data, sensor = list(self.request.data), self.request.sensor
        if len(data) == 1 and is_saved_catalog(data[0]):
            if sensor is not None:
                raise ConfigurationError("--sensor is for indexing files, and this catalog is made already")
            catalog = as_catalog(data[0])
            self.log("data", f"{len(catalog):,} scenes", f"of the catalog {data[0]}")
            return catalog
        options: dict[str, Any] = {} if sensor is None else {"sensor": sensor}
        if self.progress is not None:
            options["progress"] = self.progress
        catalog = as_catalog(data[0] if len(data) == 1 else data, **options)
        kinds = sorted(set(catalog.column("kind").tolist()))
        self.log("data", f"{len(catalog):,} scenes", f"of kind {', '.join(kinds)}, found in {', '.join(data)}")
        return catalog

    def _all_small(self) -> bool:
        sides = np.maximum(self.catalog.column("height"), self.catalog.column("width"))
        return bool((sides <= _CHIP).all()) and len(self.catalog) > 1

    def _has(self, column: str) -> bool:
        table = self.catalog.table
        return column in table.column_names and table.column(column).null_count < len(self.catalog)

    def _task(self) -> tuple[str, type[GeoTask]]:
        """The name of the task, and its class."""
        request = self.request
        column = request.target
        evidence = Evidence(
            target=column,
            numbers=column is not None and self.catalog.column(column).dtype.kind in "fiub",
            labels=request.labels,
            chips_have_labels=self._has("label"),
            scenes_have_masks=self._has("mask_path"),
        )
        if request.task is not None:
            name, why, task = request.task, "as given", find_task(request.task)
        else:
            suited = ((name, task.suits(evidence), task) for name, task in task_classes().items())
            found = next(((name, why, task) for name, why, task in suited if why is not None), None)
            if found is None:
                raise ConfigurationError(
                    "nothing to learn was found: chips in a folder for each class, or scenes with masks beside them; "
                    "or give --labels FILE or --target COLUMN"
                )
            name, why, task = found
        if task.monitored is None:
            raise ConfigurationError(f"task '{name}' is trained in Python, not by geoaug fit: see {task.__name__}")
        task.check_evidence(evidence)
        if not task.pixels and request.decoder is not None:
            raise ConfigurationError(f"--decoder is for maps, and this task is {name}")
        self.log("task", name, why)
        return name, task

    def _labels_path(self) -> str | None:
        labels = self.request.labels
        if labels is None or "://" in labels:
            return labels
        path, mark, layer = labels.partition("|")
        return str(Path(path).absolute()) + mark + layer

    def _sensor(self, statistics: Path) -> Sensor:
        """The bands, without those that are one value everywhere; statistics of the training split are left behind."""
        request = self.request
        with TileDataset(self.catalog, request.tile, bands=request.bands, target=request.target) as dataset:
            sensor = dataset.sensor
        names = list(sensor.band_names)
        found = catalog_statistics(self.catalog.split("train"), bands=names, progress=self.progress)
        found.save(statistics)
        if (doubt := found.doubt()) is not None:
            self.log("backscatter", str(found.quantity), f"doubtful: {doubt}")
        constant = [band.name for band in found.bands if not band.std > 0]
        why = "as given" if request.bands else "all that there are"
        if constant:
            if request.bands:
                raise ConfigurationError(
                    f"--bands {request.bands}: {_listed(constant)} one value on all of the training pixels, which "
                    "tells nothing: leave that out"
                )
            if len(constant) == len(names):
                raise ConfigurationError(
                    "every band has one value on all of the training pixels: nothing to learn from"
                )
            why = f"without {', '.join(constant)}, of one value on all of the training pixels"
            sensor = sensor.select([name for name in names if name not in constant])
        self.log("bands", " ".join(sensor.band_names), f"{why}; {sensor.name}")
        return sensor

    def _classes_of_pixels(self) -> dict[str, Any]:
        """The ids that occur, counted where they are not yet, with their names."""
        catalog = self.catalog
        if "class_counts" not in catalog.table.column_names or self.request.labels is not None:
            catalog = survey_catalog(
                catalog,
                bands=self.request.bands,
                labels=self.request.labels,
                label_field=self.request.label_field,
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
                + ("; name the attribute with --label-field" if self.request.label_field is None else "")
            )
        names = [class_name(catalog, one) for one in ids]
        self.log("classes", ", ".join(names[:12]) + (", ..." if len(names) > 12 else ""), f"{len(ids)} in the labels")
        return {"class_ids": ids, "class_names": names}

    # How it is taken.

    def _tile(self, chips: bool) -> int | None:
        if self.request.tile is not None or chips:
            self.log(
                "tile", self.request.tile or "the whole chip", "as given" if self.request.tile else "they are small"
            )
            return self.request.tile
        shortest = int(np.minimum(self.catalog.column("height"), self.catalog.column("width")).min())
        side = _TILE
        while side > _LEAST_TILE and shortest < 8 * side:
            side //= 2
        self.log("tile", f"{side} x {side} pixels", f"{shortest // side} fit across the smallest scene")
        return side

    def _split(self, chips: bool, tile: int | None) -> int | None:
        """Split the catalog where it is not; the side of tiles that the split has room for."""
        names = self.catalog.split_names
        if not names:
            tile = self._new_split(chips, tile)
            names = self.catalog.split_names
        else:
            self.log("split", ", ".join(names), "as the catalog is split")
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
        for name in self.catalog.split_names:
            if not class_amounts_in(self.catalog.split(name), ids).any():
                raise ConfigurationError(
                    f"the split '{name}' holds no label: take another --seed or a smaller --tile, or make a split with "
                    "geoaug split"
                )

    def _new_split(self, chips: bool, tile: int | None) -> int | None:
        seed = self.request.seed
        try:
            self.catalog = split_by_folder(self.catalog)
        except ConfigurationError:
            pass
        else:
            if "train" in self.catalog.split_names:
                self.log("split", ", ".join(self.catalog.split_names), "by the folders of that name")
                return tile
        placed = not any(crs is None for crs in self.catalog.column("crs").tolist())
        if chips or not placed:
            self.catalog = split_by_chance(self.catalog, SHARES, seed=seed)
            self.log("split", _shares(SHARES), "by chance; those that overlap on the ground stay together")
            return tile
        assert tile is not None
        request = self.request
        found = split_ground(
            self.catalog, tile, smaller=request.tile is None, seed=seed, bands=request.bands, labels=request.labels,
            label_field=request.label_field,
        )  # fmt: skip
        self.catalog = found.catalog
        if found.tile != tile:
            self.log("tile", f"{found.tile} x {found.tile} pixels", "less, so that each split has labels")
        why = f"by blocks of {found.block_m:.0f} m of ground, tiles {found.buffer_m:.0f} m apart"
        if "test" not in found.shares:
            why += "; no labelled ground is left for a test"
        self.log("split", _shares(found.shares), why)
        return found.tile

    def _validation_of_training(self) -> None:
        """A part of the training scenes for validation, where a data set comes with training and test alone."""
        if "regions" in self.catalog.table.column_names:
            raise ConfigurationError("the catalog has no split 'val': make another with geoaug split")
        owner = self.catalog.table.column("split").to_pylist()
        train = [number for number, name in enumerate(owner) if name == "train"]
        part = split_by_chance(self.catalog.select(train), {"train": 0.85, "val": 0.15}, seed=self.request.seed)
        for number, name in zip(train, part.table.column("split").to_pylist(), strict=True):
            owner[number] = name
        names = ["train", "val", *[name for name in self.catalog.split_names if name != "train"]]
        notes = {**(self.catalog.notes.get("splits") or {}), "names": names}
        self.catalog = self.catalog.with_column("split", owner).with_notes(splits=notes)
        self.log("validation", "15 % of the training scenes", "by chance; the data come without")


def _listed(names: Sequence[str]) -> str:
    return f"'{names[0]}' has" if len(names) == 1 else f"{', '.join(names)} have each"


def _shares(shares: Mapping[str, float]) -> str:
    return ", ".join(f"{100 * share:.0f} % {name}" for name, share in shares.items())


def check_request(request: FitRequest, *, fetch: bool) -> None:
    """Look at what is asked of the training, so that what is wrong with it is known before pixels are read.

    Args:
        request: what is asked for.
        fetch: whether weights are downloaded, too; files are looked at in any case.

    Raises:
        ConfigurationError: a number out of its range, no such recipe, or weights that cannot be had, are damaged, or
            another network's.
    """
    if request.dropout is not None and not 0 <= request.dropout < 1:
        raise ConfigurationError(f"--dropout {request.dropout}: it is a probability from 0 to below 1")
    if request.lr is not None and not 0 < request.lr < math.inf:
        raise ConfigurationError(f"--lr {request.lr}: a learning rate is above 0")
    if request.recipe is not None and request.recipe.lower() != "none":
        load_recipe(request.recipe)
    name = _WEIGHTS if request.weights is None else request.weights
    if name.lower() not in ("none", "") and (fetch or is_weights_file(name)):
        load_weights(name, request.model or _BACKBONE)


class _TrainingChoices:
    """The choices for a catalog that is split; each is logged with its reason.

    Args:
        request: what is asked for.
        catalog: with its splits.
        log: of the choices.
    """

    def __init__(self, request: FitRequest, catalog: Catalog, log: ChoiceLog) -> None:
        self.request, self.catalog, self.log = request, catalog, log
        self.epochs = request.epochs or _EPOCHS

    def weights(self) -> str | None:
        given = self.request.weights
        if given is None:
            self.log("weights", _WEIGHTS, "torchvision's, of ImageNet; --weights none for new ones")
            return _WEIGHTS
        if given.lower() in ("none", ""):
            self.log("weights", "none", "as given")
            return None
        self.log("weights", given, "as given")
        return given

    def model(self, name: str, task: type[GeoTask], sensor: Sensor, weights: str | None) -> dict[str, Any]:
        backbone = self.request.model or _BACKBONE
        self.log("model", backbone, "as given" if self.request.model else "the smallest; --model resnet50 for more")
        decoder = "none"
        if task.pixels:
            decoder = self.request.decoder or "unet"
            self.log("decoder", decoder, "as given" if self.request.decoder else "good for most maps")
        network: dict[str, Any] = {"backbone": backbone, "decoder": decoder, "weights": weights}
        network["dropout"] = 0.2 if self.request.dropout is None else self.request.dropout
        coloured = all(colour_band(sensor, colour) is not None for colour in ("red", "green", "blue"))
        if weights is not None:
            network["stem"] = "copy" if coloured else "mean"
            why = "red, green and blue take their own filters" if coloured else "there is no red, green and blue"
            self.log("stem", network["stem"], f"{why} (docs/stems.md)")
        loss = dict(task.loss_defaults)
        if task.has_classes and self._imbalance() > _RARE:
            loss["class_weights"] = "balanced"
            self.log("class weights", "balanced", f"the rarest class is {self._imbalance():.0f} times rarer")
        return {"task": name, "network": network, "loss": loss, "training": self._training(weights)}

    def _training(self, weights: str | None) -> dict[str, Any]:
        epochs = self.epochs
        stages: list[dict[str, Any]] = [{"train": "all"}]
        if weights is not None and epochs >= 5:
            head = max(1, epochs // 10)
            stages = [{"train": "head", "epochs": head}, {"train": "all", "depth_factor": 0.7}]
        names = " -> ".join(stage["train"] for stage in stages)
        self.log("stages", names, "the new head first" if len(stages) > 1 else "everything from the start")
        rate = self.request.lr or (5e-4 if weights is not None else 1e-3)
        self.log("learning rate", f"{rate:g}", "of the head; cosine after a warm-up, AdamW")
        return {
            "lr": rate,
            "stages": stages,
            "schedule": {"kind": "cosine", "warmup": 0.1},
            "ema_decay": 0.99,
            "seed": self.request.seed,
        }

    def precision(self) -> str:
        if self.request.precision is not None:
            self.log("precision", self.request.precision, "as given")
            return self.request.precision
        reason = bfloat16_reason(device_of(self.request.device))
        found: Precision = "32-true" if reason is None else "bf16-mixed"
        why = "nothing narrower is faster here" if reason is None else f"{reason}; --trainer.precision 32-true for none"
        self.log("precision", found, why)
        return found

    def stopping(self, task: type[GeoTask]) -> dict[str, Any]:
        """When the training ends, and which epoch is kept: by the validation, where that knows of every class."""
        if task.pixels and task.has_classes:
            ids = class_ids(self.catalog)
            held = class_amounts_in(self.catalog.split("val"), ids)
            missing = [
                class_name(self.catalog, one) for one, amount in zip(ids, held.tolist(), strict=True) if not amount
            ]
            if missing:
                self.log("best epoch", "least training loss", f"the validation has no label of {', '.join(missing)}")
                return {"patience": 0, "monitor": "train/loss_epoch", "mode": "min"}
        return {"patience": max(5, self.epochs // 3)}

    def _imbalance(self) -> float:
        part = self.catalog.split("train")
        if self.request.target is not None:
            return 1.0
        amounts = class_amounts_in(part, class_ids(self.catalog))
        return float(amounts.max() / amounts.min()) if len(amounts) and amounts.min() > 0 else 1.0

    def recipe(self, sensor: Sensor, task: type[GeoTask]) -> str | None:
        if self.request.recipe is not None:
            none = self.request.recipe.lower() == "none"
            self.log("augmentation", "none" if none else self.request.recipe, "as given")
            return None if none else self.request.recipe
        name = sensor.name
        if sensor.transfer is not None or sensor.of_8_bits:
            found = "aerial-rgb"
        elif name.startswith("sentinel-2"):
            found = "sentinel-2-segmentation" if task.pixels else "sentinel-2-classification"
        elif name.startswith("landsat"):
            found = "landsat"
        elif sensor.domain == "sar":
            found = "sentinel-1"
        else:
            found = "standard"
        self.log("augmentation", found, f"the preset for {name}")
        return found

    def sampler(self, task: type[GeoTask]) -> str | None:
        share = labelled_share(self.catalog) if task.pixels and task.has_classes else 1.0
        if share >= _SPARSE:
            return None
        self.log(
            "sampler", "balanced", f"{100 * share:.2g} % of the pixels have a label: tiles are drawn where some lie"
        )
        return "balanced"

    def input_size(self, tile: int | None, weights: str | None, task: type[GeoTask]) -> int | None:
        if self.request.input_size is not None:
            self.log("input", f"{self.request.input_size} px", "as given")
            return self.request.input_size
        if task.pixels or tile is not None:
            return tile
        sides = np.maximum(self.catalog.column("height"), self.catalog.column("width"))
        side = int(sides.max())
        if weights is not None and side < _PRETRAINED_SIDE:
            self.log("input", f"{_PRETRAINED_SIDE} px", f"chips of {side} px enlarged, as the weights are used to more")
            return _PRETRAINED_SIDE
        return side

    def length(self, tile: int | None, batch: int) -> int | None:
        """Tiles of an epoch, where fewer than some steps of them lie beside each other."""
        if tile is None:
            return None
        with TileDataset(
            self.catalog.split("train"), tile, bands=self.request.bands, target=self.request.target
        ) as dataset:
            fitting = TileGround(dataset).area_m2.sum() / (float(np.median(dataset.grids.pixel_area_m2)) * tile**2)
        if fitting >= _STEPS * batch:
            return None
        self.log("epoch", f"{_STEPS * batch} tiles", f"{_STEPS} steps; {fitting:.0f} lie beside each other")
        return _STEPS * batch

    def batch(self, tile: int | None) -> int:
        if self.request.batch_size is not None:
            return self.request.batch_size
        side = tile or int(np.maximum(self.catalog.column("height"), self.catalog.column("width")).max())
        batch = int(min(64, max(8, 2 ** round(math.log2(32 * (128 / side))))))
        why = "by the size of a tile"
        if tile is not None:
            ground = self.catalog.column("height").astype(np.float64) * self.catalog.column("width")
            most = max(_LEAST_BATCH, 2 ** int(math.log2(max(float(ground.sum()) / tile**2 / _STEPS, 1))))
            if most < batch:
                batch, why = most, "so that an epoch has several steps"
        self.log("batch", batch, why)
        return batch
