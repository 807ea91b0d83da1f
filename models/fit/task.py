"""The task of a training that is described in a file: network and task from plain values and the data they are for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn

from geoaug.errors import ConfigurationError
from geoaug.models.fit.data import FitAugment, FitData, as_compose
from geoaug.models.networks.bands import check_same_bands
from geoaug.models.networks.batchnorm import Norm, recalibrate_batchnorm
from geoaug.models.networks.model_file import LoadedModel
from geoaug.models.networks.resnet import ResNetOptions, pretrained_resnet
from geoaug.models.networks.segmentation import deeplabv3plus, fpn, unet
from geoaug.models.networks.stem import Stem
from geoaug.models.tasks.base import GeoTask
from geoaug.models.tasks.losses import ClassLossKind, ValueLossKind
from geoaug.models.tasks.tasks import ClassificationTask, RegressionTask, SegmentationTask
from geoaug.models.tasks.training import Training

__all__ = ["LossChoice", "NetworkChoice", "build_task", "monitored", "task_of_model"]

FitTaskName = Literal["classification", "segmentation", "regression"]

_DECODERS = {"unet": unet, "fpn": fpn, "deeplabv3+": deeplabv3plus}
_NONE = ("", "none", "null")
# A class that is this much rarer counts no more than this much more: its few labels would be all that is learned.
_MOST_WEIGHT = 10.0

# What says how well a task does, and which way is better.
_MONITORED: dict[str, tuple[str, Literal["min", "max"]]] = {
    "classification": ("val/accuracy", "max"),
    "segmentation": ("val/iou", "max"),
    "regression": ("val/rmse", "min"),
}


@dataclass(frozen=True)
class NetworkChoice:
    """A network by plain values.

    Args:
        backbone: "resnet18" and so on.
        decoder: for an answer to each pixel: "unet", "fpn" or "deeplabv3+"; "none" for one to the whole chip.
        weights: a file, a name of torchvision's ("IMAGENET1K_V1", "DEFAULT"), or none.
        sha256: of the file of weights, or its beginning.
        weights_bands: names of the bands of the weights, or of a sensor, where they are not red, green and blue and
            the file does not say.
        stem: how the first layer comes to the bands.
        norm: "batch", "group", "frozen" or "sync".
        bn_momentum: in torch's convention.
        recalibrate: whether batch norm's statistics are taken anew on the training data before it starts.
        dropout: before the last layer.
        block_dropout: of channels, inside the stages.
    """

    backbone: str = "resnet18"
    decoder: Literal["none", "unet", "fpn", "deeplabv3+"] = "none"
    weights: str | None = None
    sha256: str | None = None
    weights_bands: int | list[str] | str | None = None
    stem: Stem = "copy"
    norm: Norm = "batch"
    bn_momentum: float | None = 0.1
    recalibrate: bool = False
    dropout: float = 0.0
    block_dropout: float = 0.0


@dataclass(frozen=True)
class LossChoice:
    """A loss by plain values.

    Args:
        classes: of tasks with classes: "cross_entropy", "focal", "dice" or "lovasz".
        values: of regression: "mse", "mae" or "huber".
        label_smoothing: share of the label that is spread over all classes.
        cross_entropy_share: of cross-entropy beside Dice or Lovasz.
        class_weights: "balanced" (by counted labels), "none", or a number for each class.
    """

    classes: ClassLossKind = "cross_entropy"
    values: ValueLossKind = "mse"
    label_smoothing: float = 0.0
    cross_entropy_share: float = 0.0
    class_weights: Literal["balanced", "none"] | list[float] = "none"


_NETWORK, _LOSS, _TRAINING = NetworkChoice(), LossChoice(), Training()


def build_task(
    data: FitData,
    task: FitTaskName,
    network: NetworkChoice = _NETWORK,
    loss: LossChoice = _LOSS,
    training: Training = _TRAINING,
) -> GeoTask:
    """The task, its network adapted to the data.

    Args:
        data: that it is for: bands, statistics, classes.
        task: "classification", "segmentation" or "regression".
        network: see `NetworkChoice`.
        loss: see `LossChoice`.
        training: see `Training`.

    Raises:
        ConfigurationError: they do not fit together; weights of another architecture, or that cannot be had.
    """
    augment = FitAugment(data)
    classes = () if task == "regression" else data.names_of_classes()
    _check_labels(data, task)
    counted = _check_classes(data, classes)
    built = _network(network, data, classes)
    if network.recalibrate:
        recalibrate_batchnorm(built, data.some_batches())
    made = _task(built, task, classes, augment, loss, training, data)
    if isinstance(made, ClassificationTask | SegmentationTask):
        made.counted = counted
    return made


def task_of_model(model: LoadedModel, data: FitData) -> GeoTask:
    """The task of a model that is trained, to be evaluated on data."""
    card = model.card
    if card.task not in _MONITORED:
        raise ConfigurationError(f"a model of task '{card.task}' is evaluated in Python: see ChangeTask")
    augment = FitAugment(data)
    check_same_bands(card.sensor, data.sensor, "the data")
    names = [one.name for one in card.classes]
    if card.task != "regression" and data.class_names is None:
        known = data.classes
        if known and list(known) != names and data.class_ids is None:
            raise ConfigurationError(
                f"the data have the classes {', '.join(known)}, and the model {', '.join(names)}: another data set?"
            )
    said = dict(card.training.get("configuration") or {}).get("model") or {}
    loss = LossChoice(**(said.get("loss") or {}))
    if card.task == "regression":
        mean, std = card.training.get("target_scale", (0.0, 1.0))
        return RegressionTask(model.network, as_compose(augment), loss=loss.values, scale=(float(mean), float(std)))
    kind = SegmentationTask if card.task == "segmentation" else ClassificationTask
    return kind(
        model.network,
        names,
        as_compose(augment),
        multilabel=card.multilabel,
        loss=loss.classes,
        label_smoothing=loss.label_smoothing,
        cross_entropy_share=loss.cross_entropy_share,
        class_weights=card.training.get("class_weights"),
        ignore_index=augment.ignore_index,
    )


def monitored(task: str) -> tuple[str, Literal["min", "max"]]:
    """The metric that says how well a task does, and which way is better."""
    return _MONITORED[task]


def _network(choice: NetworkChoice, data: FitData, classes: tuple[str, ...]) -> Any:
    outputs = max(len(classes), 1)
    weights = None if choice.weights is None or choice.weights.lower() in _NONE else choice.weights
    options: ResNetOptions = {
        "stem": choice.stem,
        "sha256": choice.sha256,
        "weights_bands": choice.weights_bands,
        "norm": choice.norm,
        "bn_momentum": choice.bn_momentum,
        "dropout": choice.dropout,
        "block_dropout": choice.block_dropout,
    }
    if weights is not None:
        options["statistics"] = data.input_statistics()
        options["classes"] = classes or None
    if choice.decoder != "none":
        return _DECODERS[choice.decoder](choice.backbone, weights, data.sensor, outputs, **options)
    return pretrained_resnet(choice.backbone, weights, data.sensor, outputs, **options)


def _task(
    network: nn.Module,
    task: FitTaskName,
    classes: tuple[str, ...],
    augment: FitAugment,
    loss: LossChoice,
    training: Training,
    data: FitData,
) -> GeoTask:
    before = as_compose(augment)
    if task == "regression":
        return RegressionTask(network, before, training, loss=loss.values, scale=_scale(data))
    kind = SegmentationTask if task == "segmentation" else ClassificationTask
    return kind(
        network,
        classes,
        before,
        training,
        loss=loss.classes,
        label_smoothing=loss.label_smoothing,
        cross_entropy_share=loss.cross_entropy_share,
        class_weights=_class_weights(loss.class_weights, classes, data),
        ignore_index=augment.ignore_index,
    )


def _check_labels(data: FitData, task: FitTaskName) -> None:
    dataset = data.dataset("train")
    if task == "segmentation" and dataset.labels is None:
        raise ConfigurationError("segmentation needs masks: give labels, or index scenes with masks beside them")
    if task == "classification" and (dataset.targets is None or not dataset.targets.classes):
        raise ConfigurationError(
            "classification needs a class for each chip: a folder for each class, or target=COLUMN of names"
        )
    if task != "segmentation" and dataset.targets is not None and dataset.targets.several:
        raise ConfigurationError(
            "the target has several classes for a chip, and geoaug fit learns one: in Python, train "
            "ClassificationTask(multilabel=True) on TileDataModule(target=...)"
        )
    if task == "regression" and (dataset.targets is None or dataset.targets.classes):
        raise ConfigurationError("regression needs a number for each chip: target=COLUMN of the catalog")


def _check_classes(data: FitData, classes: tuple[str, ...]) -> bool:
    """Before an epoch is spent on it, as far as labels were counted; whether they were."""
    counts = _counts(data, len(classes)) if classes else None
    if counts is None or not bool(counts.any()):
        return False
    absent = [name for name, count in zip(classes, counts.tolist(), strict=True) if count == 0]
    if absent:
        raise ConfigurationError(
            f"the training split has no label of {', '.join(absent)}: a class without examples cannot be learned; add "
            "some, make another split, or leave these classes out"
        )
    return True


def _scale(data: FitData) -> tuple[float, float]:
    """Mean and deviation of the numbers to learn; of the training split alone."""
    targets = data.dataset("train").targets
    assert targets is not None
    std = float(targets.values.std(correction=0))
    if not std > 0:
        raise ConfigurationError("all numbers of the training split are the same: there is nothing to learn")
    return float(targets.values.mean()), std


def _class_weights(wanted: str | list[float], classes: tuple[str, ...], data: FitData) -> list[float] | None:
    if wanted == "none":
        return None
    if wanted != "balanced":
        return [float(value) for value in wanted]
    counts = _counts(data, len(classes))
    if counts is None:
        raise ConfigurationError("class_weights='balanced' needs counted labels: geoaug stats --update-catalog")
    return balanced_weights(counts).tolist()


def balanced_weights(counts: torch.Tensor) -> torch.Tensor:
    """Weights of classes by the square root of how rare they are, with a mean of 1 over the labels."""
    shares = counts.double() / counts.sum()
    weights = (shares.max() / shares).sqrt().clamp_max(_MOST_WEIGHT)
    return weights / (weights * shares).sum()


def _counts(data: FitData, classes: int) -> torch.Tensor | None:
    """Labels of each class in the training split, where they are known."""
    dataset = data.dataset("train")
    if dataset.targets is not None and dataset.labels is None:
        return torch.bincount(dataset.targets.values.long(), minlength=classes)
    from geoaug.data.sampling.ground_blocks import class_amounts_in, class_ids

    there = class_ids(dataset.catalog)
    if not there:
        return None
    amounts = dict(zip(there, class_amounts_in(dataset.catalog, there).tolist(), strict=True))
    ids = range(classes) if data.class_ids is None else data.class_ids
    return torch.tensor([amounts.get(one, 0.0) for one in ids])
