"""`geoaug stress`: a model file under nuisances, on data with labels; these are made in `geoaug.audit.stress`."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from geoaug.audit.report import check_folder
from geoaug.audit.stress.page import write_stress_report
from geoaug.audit.stress.results import StressReport
from geoaug.audit.stress.running import StressTiles, run_stress
from geoaug.audit.stress.subject import Judged, Metric
from geoaug.audit.tiles import LEAST_TILES
from geoaug.augment.compose import Compose
from geoaug.data.catalog.catalog import Catalog
from geoaug.data.datamodule import as_catalog
from geoaug.data.loading.dataset import TileDataset
from geoaug.data.sampling.grid_sampler import GridTileSampler
from geoaug.errors import ConfigurationError
from geoaug.io.augmenter import choose_device
from geoaug.models.fit.data import class_positions
from geoaug.models.networks.bands import check_same_bands
from geoaug.models.networks.card import ModelCard
from geoaug.models.networks.model_file import LoadedModel, load_model
from geoaug.models.predict.trained_gsd import check_gsd, trained_gsd
from geoaug.models.scoring import pipeline_options
from geoaug.models.tasks.registry import find_task
from geoaug.sensors import Sensor

__all__ = ["Classes", "Labels", "Maps", "ModelSubject", "Numbers", "stress", "subject_kind"]

_READ = 32
_USUAL_SIDE = 256


def stress(
    model: LoadedModel | str | Path,
    data: Catalog | str | Path | Sequence[str | Path],
    output: str | Path | None = None,
    *,
    nuisances: Sequence[str] | None = None,
    tiles: int = 300,
    tile: int | None = None,
    split: str | None = None,
    sensor: str | None = None,
    labels: str | Path | None = None,
    label_field: str | None = None,
    target: str | None = None,
    min_valid: float = 0.5,
    ignore_gsd: bool = False,
    seed: int = 0,
    device: str = "auto",
    on_progress: Callable[[int, int], None] | None = None,
    cancel: threading.Event | None = None,
) -> StressReport:
    """Measure what a model loses under nuisances of growing strength, and write the report.

    Args:
        model: a model file of a classification, a segmentation or a regression, or what `load_model` gave.
        data: with labels: chips in a folder for each class, scenes, or a catalog.
        output: folder for `report.html` and `report.json`; None: nothing is written.
        nuisances: names of some; None: all that the sensor knows (`geoaug.audit.stress.nuisances`).
        tiles: how many at most, at even steps over all that the data hold.
        tile: side in pixels; None: whole chips, or the side that a model of pixels was trained at.
        split: only this split of a catalog.
        sensor: of the data, where the files do not tell.
        labels: of the pixels: a raster or a vector file, or a folder with a raster for each scene.
        label_field: attribute of a vector file that holds the class.
        target: column of the catalog with the truth of each chip; None: that of the model's training, else "label".
        min_valid: least share of valid pixels of a tile.
        ignore_gsd: whether to measure at another ground sampling distance than that of the training.
        seed: of what nuisances leave to chance, and of intervals.
        device: "auto", "cpu" or "cuda".
        on_progress: called with the steps done and all of them.
        cancel: set to stop.

    Raises:
        ConfigurationError: model and data do not fit together, no labels, or fewer than 30 tiles.
        RasterError: a file cannot be read.
    """
    if tiles < LEAST_TILES:
        raise ConfigurationError(f"{tiles} tiles are asked for: a stress test takes {LEAST_TILES} or more")
    loaded = model if isinstance(model, LoadedModel) else load_model(model)
    kind, where = subject_kind(loaded.card), choose_device(device)
    if output is not None:
        check_folder(output)
    catalog = as_catalog(data, **({} if sensor is None else {"sensor": sensor}))
    if split is not None:
        catalog = catalog.split(split)
    trained = dict(loaded.card.training.get("configuration") or {}).get("data") or {}
    options = {
        "labels": labels,
        "label_field": label_field,
        "target": target or trained.get("target"),
        "min_valid": min_valid,
        "ignore_index": loaded.card.ignore_index,
        "on_error": "skip",
    }
    with _opened(loaded.card, catalog, tile, options) as dataset:
        if not ignore_gsd:
            found = trained_gsd(dataset, pipeline_options(loaded.card)["size"])
            check_gsd(found, loaded.card.gsd_m, "the data", "bring them there (gdalwarp -tr)")
        subject = kind(loaded, where, dataset.sensor)
        subject.accept(dataset)
        read = _read(dataset, tiles)
    report, pictures = run_stress(
        subject,
        read,
        model="the model" if isinstance(model, LoadedModel) else str(model),
        data=_names_of(data),
        nuisances=nuisances,
        seed=seed,
        on_progress=on_progress,
        cancel=cancel,
    )
    if output is not None:
        write_stress_report(report, pictures, subject.sensor, output)
    return report


def subject_kind(card: ModelCard) -> type[ModelSubject]:
    """How answers of a model are judged.

    Raises:
        ConfigurationError: a model of two dates, or of a task whose answers have no metric here.
    """
    if card.architecture.fusion != "none":
        raise ConfigurationError("a model that compares two dates has no single image to put under stress")
    task = find_task(card.task)
    if task.has_classes and not (task.pixels and card.multilabel):
        return Maps if task.pixels else Labels if card.multilabel else Classes
    if card.task == "regression":
        return Numbers
    raise ConfigurationError(
        f"a model of the task '{card.task}' has no metric here: give one that classifies chips or pixels, or answers "
        "with numbers"
    )


class ModelSubject(ABC):
    """A model file's network with its metric; see `geoaug.audit.stress.subject.Subject`.

    Args:
        loaded: the model.
        device: that it answers on.
        sensor: of the tiles, with the model's bands in its order.

    Raises:
        ConfigurationError: bands of the same name that are others.
    """

    metric: Metric

    def __init__(self, loaded: LoadedModel, device: torch.device, sensor: Sensor) -> None:
        self.card: ModelCard = loaded.card
        self.pixels: bool = find_task(self.card.task).pixels
        self.sensor = sensor
        check_same_bands(self.card.sensor, sensor, "the data")
        self._network = loaded.network.to(device).eval()
        self._device = device

    def compose(self, operations: Sequence[Any], **options: Any) -> Compose:
        """Operations with what stands before the network."""
        return Compose(list(operations), self.sensor, **{**pipeline_options(self.card), **options})

    def judge(self, batch: Mapping[str, Any]) -> Judged:
        """Judge the answers for a batch that is ready for the network."""
        with torch.inference_mode():
            answers = self._network(batch["image"].to(self._device)).float().cpu()
        sums, loss = self.judged(answers, self.truth_of(batch))
        return Judged(sums.double().numpy(), loss.double().numpy(), self.words(answers))

    @abstractmethod
    def judged(self, answers: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
        """What adds up to the metric, (N, K), and how wrong each answer is, (N,)."""

    @abstractmethod
    def truth_of(self, batch: Mapping[str, Any]) -> Tensor:
        """What the answers should be.

        Raises:
            ConfigurationError: the data do not tell.
        """

    @abstractmethod
    def words(self, answers: Tensor) -> tuple[str, ...]:
        """Each answer in a word or a number."""

    @abstractmethod
    def truth(self, batch: Mapping[str, Any]) -> tuple[str, ...]:
        """The right answer for each tile in a word or a number."""

    @abstractmethod
    def value(self, sums: Float[np.ndarray, "r k"]) -> Float[np.ndarray, " r"]:
        """The metric of sums."""

    def accept(self, dataset: TileDataset) -> None:
        """Take note of what the labels of data mean.

        Raises:
            ConfigurationError: they do not tell the truth of such answers.
        """
        if dataset.targets is None:
            raise ConfigurationError(
                "the data have no labels: give chips in a folder for each class, or a catalog with a column 'label' or "
                "one that target= names"
            )

    def _name(self, number: int) -> str:
        names = self.card.classes
        return names[number].name if 0 <= number < len(names) else f"class {number}"


class Classes(ModelSubject):
    """One class of several for each chip."""

    metric = Metric("accuracy", "%", higher_is_better=True)

    _positions: Tensor | None = None

    def accept(self, dataset: TileDataset) -> None:
        super().accept(dataset)
        assert dataset.targets is not None
        if dataset.targets.several or not dataset.targets.classes:
            raise ConfigurationError("the model answers with one class of a chip, and the target is no such class")
        known = {one.name: number for number, one in enumerate(self.card.classes)}
        for name in dataset.targets.classes:
            if known and name not in known:
                raise ConfigurationError(
                    f"the class '{name}' of the data is not one of the model's: {', '.join(known)}"
                )
        numbers = [known.get(name, place) for place, name in enumerate(dataset.targets.classes)]
        self._positions = torch.tensor(numbers)

    def truth_of(self, batch: Mapping[str, Any]) -> Tensor:
        label: Tensor = batch["label"].long()
        return label if self._positions is None else self._positions[label]

    def judged(self, answers: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
        right = (answers.argmax(1) == truth).double()
        return torch.stack([right, torch.ones_like(right)], 1), F.cross_entropy(answers, truth, reduction="none")

    def words(self, answers: Tensor) -> tuple[str, ...]:
        return tuple(self._name(number) for number in answers.argmax(1).tolist())

    def truth(self, batch: Mapping[str, Any]) -> tuple[str, ...]:
        return tuple(self._name(number) for number in self.truth_of(batch).tolist())

    def value(self, sums: Float[np.ndarray, "r k"]) -> Float[np.ndarray, " r"]:
        return 100 * _ratio(sums[:, 0], sums[:, 1])


class Labels(ModelSubject):
    """Several classes at once for each chip: F1 over all of them (micro)."""

    metric = Metric("F1", "%", higher_is_better=True)

    def accept(self, dataset: TileDataset) -> None:
        super().accept(dataset)
        assert dataset.targets is not None
        names = tuple(one.name for one in self.card.classes)
        if not dataset.targets.several or dataset.targets.classes != names:
            raise ConfigurationError(
                f"the model answers with several classes at once ({', '.join(names)}), and the target does not list "
                "the same"
            )

    def truth_of(self, batch: Mapping[str, Any]) -> Tensor:
        label: Tensor = batch["label"].float()
        return label

    def judged(self, answers: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
        said = answers > 0
        both = (said & (truth > 0)).sum(1).double()
        loss = F.binary_cross_entropy_with_logits(answers, truth, reduction="none").mean(1)
        return torch.stack([2 * both, said.sum(1) + truth.sum(1)], 1), loss

    def words(self, answers: Tensor) -> tuple[str, ...]:
        return self._listed(answers > 0)

    def truth(self, batch: Mapping[str, Any]) -> tuple[str, ...]:
        return self._listed(self.truth_of(batch) > 0)

    def value(self, sums: Float[np.ndarray, "r k"]) -> Float[np.ndarray, " r"]:
        return 100 * _ratio(sums[:, 0], sums[:, 1])

    def _listed(self, held: Tensor) -> tuple[str, ...]:
        return tuple(", ".join(self._name(place) for place in row.nonzero().flatten().tolist()) for row in held)


class Maps(ModelSubject):
    """A class for each pixel: the mean over classes of intersection over union."""

    metric = Metric("mean IoU", "%", higher_is_better=True)

    def accept(self, dataset: TileDataset) -> None:
        if dataset.labels is None:
            raise ConfigurationError("the model answers for each pixel, and the data have no labels: give --labels")

    def truth_of(self, batch: Mapping[str, Any]) -> Tensor:
        mask = class_positions(batch["mask"].long(), class_ids_of(self.card), self.card.ignore_index)
        known: Tensor = mask.reshape(len(mask), *mask.shape[-2:])
        count = self.card.architecture.outputs
        strange = (known != self.card.ignore_index) & ((known < 0) | (known >= count))
        if bool(strange.any()):
            raise ConfigurationError(
                f"the label {int(known[strange][0])} is not one of the model's {count} classes, 0 to {count - 1}"
            )
        return known

    def judged(self, answers: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
        known = truth != self.card.ignore_index
        said = answers.argmax(1)
        classes = torch.arange(answers.shape[1])[:, None, None]
        here, there = (one[:, None] == classes for one in (said, truth))
        here = here & known[:, None]
        both, either = ((here & there).sum((2, 3)), (here | there).sum((2, 3)))
        wrong = F.cross_entropy(answers, truth, ignore_index=self.card.ignore_index, reduction="none").sum((1, 2))
        return torch.cat([both, either], 1), wrong / known.sum((1, 2))

    def words(self, answers: Tensor) -> tuple[str, ...]:
        said = answers.argmax(1).flatten(1)
        return tuple(f"mostly {self._name(number)}" for number in said.mode(1).values.tolist())

    def truth(self, batch: Mapping[str, Any]) -> tuple[str, ...]:
        found = []
        for mask in self.truth_of(batch):
            known = mask[mask != self.card.ignore_index]
            found.append(f"mostly {self._name(int(known.mode().values))}" if known.numel() else "")
        return tuple(found)

    def value(self, sums: Float[np.ndarray, "r k"]) -> Float[np.ndarray, " r"]:
        both, either = np.split(sums, 2, axis=1)
        there = either > 0
        shares = np.where(there, both / np.where(there, either, 1), 0)
        return 100 * _ratio(shares.sum(1), there.sum(1))


class Numbers(ModelSubject):
    """Numbers for a chip or for each pixel: root of the mean squared error, in the units of the target."""

    metric = Metric("RMSE", "", higher_is_better=False)

    def accept(self, dataset: TileDataset) -> None:
        super().accept(dataset)
        assert dataset.targets is not None
        if dataset.targets.classes:
            raise ConfigurationError(
                "the model answers with numbers, and the target is a class: name a column (target)"
            )

    def truth_of(self, batch: Mapping[str, Any]) -> Tensor:
        values: Tensor = batch["target"] if "target" in batch else batch["label"]
        return values.float()

    def judged(self, answers: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
        answers = find_task(self.card.task).in_units(self.card, answers)
        squares = (answers - truth.reshape(answers.shape)).double().square().flatten(1)
        known = squares.isfinite()
        sums = torch.stack([torch.where(known, squares, 0.0).sum(1), known.sum(1)], 1)
        return sums, (sums[:, 0] / sums[:, 1]).sqrt()

    def words(self, answers: Tensor) -> tuple[str, ...]:
        values = find_task(self.card.task).in_units(self.card, answers).flatten(1).mean(1)
        return tuple(f"{value:.4g}" for value in values.tolist())

    def truth(self, batch: Mapping[str, Any]) -> tuple[str, ...]:
        return tuple(f"{value:.4g}" for value in _rows(self.truth_of(batch)).nanmean(1).tolist())

    def value(self, sums: Float[np.ndarray, "r k"]) -> Float[np.ndarray, " r"]:
        mean_square = _ratio(sums[:, 0], sums[:, 1])
        return np.asarray(np.sqrt(mean_square))


def _rows(values: Tensor) -> Tensor:
    return values.reshape(len(values), -1)


def class_ids_of(card: ModelCard) -> list[int] | None:
    """The id in labels of each class of a model, where its training says; None: 0, 1, 2..."""
    data = dict(card.training.get("configuration") or {}).get("data") or {}
    found: list[int] | None = data.get("class_ids")
    return found


def _opened(card: ModelCard, catalog: Catalog, tile: int | None, options: dict[str, Any]) -> TileDataset:
    wanted = list(card.sensor.band_names)
    side = tile or ((card.tile_size or _USUAL_SIDE) if find_task(card.task).pixels else None)
    try:
        return TileDataset(catalog, side, bands=wanted, **options)
    except ConfigurationError as error:
        raise ConfigurationError(f"the model takes {' '.join(wanted)} of '{card.sensor.name}': {error}") from error


def _read(dataset: TileDataset, count: int) -> StressTiles:
    """Tiles at even steps over all that a dataset holds."""
    refs = list(GridTileSampler(dataset))
    places = np.unique(np.linspace(0, len(refs) - 1, min(count, len(refs))).astype(int)).tolist()
    parts = [
        dataset.read([refs[place] for place in places[first : first + _READ]]) for first in range(0, len(places), _READ)
    ]
    left = len(places) - sum(len(part["scene"]) for part in parts)
    notes = [f"{left} of {len(places)} tiles are left out: {next(iter(dataset.skipped))}"] if left else []
    batch: dict[str, Any] = {}
    for name in parts[0]:
        values = [part[name] for part in parts]
        if isinstance(values[0], Tensor):
            batch[name] = torch.from_numpy(np.concatenate([value.numpy() for value in values]))
        else:
            batch[name] = [one for value in values for one in value]
    names = batch.pop("scene")
    return StressTiles({name: value for name, value in batch.items() if name != "key"}, tuple(names), tuple(notes))


def _names_of(data: Catalog | str | Path | Sequence[str | Path]) -> tuple[str, ...]:
    if isinstance(data, Catalog):
        return ("a catalog",)
    return (str(data),) if isinstance(data, str | Path) else tuple(str(one) for one in data)


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """A quotient; NaN where there is nothing to divide by."""
    return np.where(whole > 0, part / np.where(whole > 0, whole, 1), np.nan)
