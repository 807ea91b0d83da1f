"""What `geoaug fit` chooses where it is only told the data: here task, classes, tiles, split and bands.

The outcome is a configuration as `fitting` reads it, and a line for each choice with its reason. What concerns the
training itself is chosen in `fit_training`. Pixels are read where it cannot be done without: to see which classes lie
where, and for the statistics that bands are normalised by, which the training then finds there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from geoaug.data.catalog.catalog import Catalog
from geoaug.data.datamodule import as_catalog, is_saved_catalog
from geoaug.data.sampling.ground_blocks import class_amounts_in, class_ids, class_name
from geoaug.data.sampling.splits import split_by_chance, split_by_folder
from geoaug.data.sampling.survey import catalog_statistics, survey_catalog
from geoaug.errors import ConfigurationError
from geoaug.models.fit.splits import SHARES, split_ground
from geoaug.models.fit.told import Said, Told
from geoaug.models.fit.training import TrainingChoices, check_told
from geoaug.models.networks.architecture import BACKBONES
from geoaug.sensors import Sensor

__all__ = ["Choices", "choose"]

_TILE, _LEAST_TILE = 256, 32
_CHIP = 512  # scenes no larger than this, with a class or a number each, are chips

Progress = Callable[[int, int], None]


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


def choose(told: Told, progress: Progress | None = None, *, fetch: bool = False) -> Choices:
    """Choose everything that was not told, and write the catalog with its splits to the training's folder.

    Args:
        told: what was.
        progress: of reading headers, labels and pixels.
        fetch: whether weights are downloaded, where they are no file, and looked at before pixels are.

    Raises:
        ConfigurationError: nothing can be learned of these data as they are; the message says what is missing.
    """
    if told.model is not None and told.model not in BACKBONES:
        raise ConfigurationError(f"model '{told.model}' is not one of {', '.join(BACKBONES)}")
    choosing = _Choosing(told, progress)
    check_told(told, fetch=fetch)
    return choosing.choices()


class _Choosing:
    def __init__(self, told: Told, progress: Progress | None) -> None:
        self.told, self.progress = told, progress
        self.say = Said()
        self.catalog = self._catalog()

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
        sensor = self._sensor(statistics)
        training = TrainingChoices(self.told, self.catalog, self.say)
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
            "label_field": self.told.label_field,
            **classes,
            "sampler": training.sampler(task),
            "target": self.told.target,
            "recipe": recipe,
            "output_size": side,
            "fit": "resize",
            "normalize": "measure",
            "statistics_file": str(statistics),
            "seed": self.told.seed,
        }
        model = training.model(task, sensor, weights)
        precision = training.precision()
        trainer = {"max_epochs": training.epochs, "accelerator": "auto", "devices": 1, "precision": precision}
        configuration = {
            "seed_everything": self.told.seed,
            "data": {name: value for name, value in data.items() if value is not None},
            "model": model,
            "trainer": trainer,
            "run": {"output": str(self.told.output), **training.stopping(task)},
        }
        return Choices(configuration, self.say.lines)

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
        if found != "segmentation" and told.decoder is not None:
            raise ConfigurationError(f"--decoder is for maps, and this task is {found}")
        self.say("task", found, why)
        return found

    def _labels_path(self) -> str | None:
        labels = self.told.labels
        if labels is None or "://" in labels:
            return labels
        path, mark, layer = labels.partition("|")
        return str(Path(path).absolute()) + mark + layer

    def _sensor(self, statistics: Path) -> Sensor:
        """The bands, without those that are one value everywhere; statistics of the training split are left behind."""
        from geoaug.data.loading.dataset import TileDataset

        told = self.told
        with TileDataset(self.catalog, told.tile, bands=told.bands, target=told.target) as dataset:
            sensor = dataset.sensor
        names = list(sensor.band_names)
        found = catalog_statistics(self.catalog.split("train"), bands=names, progress=self.progress)
        found.save(statistics)
        constant = [band.name for band in found.bands if not band.std > 0]
        why = "as told" if told.bands else "all that there are"
        if constant:
            if told.bands:
                raise ConfigurationError(
                    f"--bands {told.bands}: {_listed(constant)} one value on all of the training pixels, which tells "
                    "nothing: leave that out"
                )
            if len(constant) == len(names):
                raise ConfigurationError(
                    "every band has one value on all of the training pixels: nothing to learn from"
                )
            why = f"without {', '.join(constant)}, of one value on all of the training pixels"
            sensor = sensor.select([name for name in names if name not in constant])
        self.say("bands", " ".join(sensor.band_names), f"{why}; {sensor.name}")
        return sensor

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
        self.say("tile", f"{side} x {side} pixels", f"{shortest // side} fit across the smallest scene")
        return side

    def _split(self, chips: bool, tile: int | None) -> int | None:
        """Split the catalog where it is not; the side of tiles that the split has room for."""
        names = self.catalog.split_names
        if not names:
            tile = self._new_split(chips, tile)
            names = self.catalog.split_names
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
        for name in self.catalog.split_names:
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
            if "train" in self.catalog.split_names:
                self.say("split", ", ".join(self.catalog.split_names), "by the folders of that name")
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
        names = ["train", "val", *[name for name in self.catalog.split_names if name != "train"]]
        notes = {**(self.catalog.notes.get("splits") or {}), "names": names}
        self.catalog = self.catalog.with_column("split", owner).with_notes(splits=notes)
        self.say("validation", "15 % of the training scenes", "by chance; the data come without")


def _listed(names: Sequence[str]) -> str:
    return f"'{names[0]}' has" if len(names) == 1 else f"{', '.join(names)} have each"


def _shares(shares: Mapping[str, float]) -> str:
    return ", ".join(f"{100 * share:.0f} % {name}" for name, share in shares.items())
