"""What tasks with classes share: loss and metrics of classes, maps and tables of them, counts of labels.

Of one class of K, or of several at once (`multilabel`); of chips or of pixels. Where the labels come from, and which
data it is for, is the matter of each task.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from geoaug.augment.compose import Compose
from geoaug.augment.mixing import RandomMixUp
from geoaug.augment.test_time import Activation
from geoaug.data.pictures.composites import class_colours
from geoaug.data.sampling.ground_blocks import class_amounts_in, class_ids
from geoaug.errors import ConfigurationError
from geoaug.models.networks.card import ClassName, ModelCard
from geoaug.models.tasks.base import GeoTask, MapLayer, Monitor, Part, TrainingData
from geoaug.models.tasks.losses import ClassLoss, ClassLossKind, LossChoice, counted_labels
from geoaug.models.tasks.metrics import class_metrics, confusion_figure, log_figure, readable
from geoaug.models.tasks.training import Training

__all__ = ["ClassTask", "balanced_weights"]

# In maps of classes, probabilities and uncertainties.
NODATA = 255
# Probabilities and uncertainties, 0..1, in steps that leave a number for nodata.
_STEPS = 254
# A class that is this much rarer counts no more than this much more: its few labels would be all that is learned.
_MOST_WEIGHT = 10.0


class ClassTask(GeoTask):
    """A task that answers with classes; its arguments are those of `ClassificationTask`."""

    has_classes: ClassVar[bool] = True
    has_uncertainty: ClassVar[bool] = True

    def __init__(
        self,
        network: nn.Module,
        classes: Sequence[str],
        augment: Compose | None = None,
        training: Training | None = None,
        *,
        multilabel: bool = False,
        loss: ClassLossKind = "cross_entropy",
        class_weights: Sequence[float] | None = None,
        label_smoothing: float = 0.0,
        cross_entropy_share: float = 0.0,
        ignore_index: int = 255,
        target: str | None = None,
    ) -> None:
        super().__init__(network, augment, training)
        self.classes, self.multilabel, self.ignore_index = tuple(classes), multilabel, ignore_index
        if len(self.classes) < (1 if multilabel else 2):
            raise ConfigurationError(f"{len(self.classes)} classes are too few to tell apart: {self.classes}")
        if class_weights is not None and len(class_weights) != len(self.classes):
            raise ConfigurationError(f"{len(class_weights)} class_weights for {len(self.classes)} classes")
        if augment is not None and augment.ignore_index != ignore_index:
            raise ConfigurationError(
                f"ignore_index={ignore_index}, and Compose's is {augment.ignore_index}: give both the same"
            )
        outputs = getattr(getattr(network, "architecture", None), "outputs", len(self.classes))
        if outputs != len(self.classes):
            raise ConfigurationError(f"a network of {outputs} outputs for {len(self.classes)} classes")
        self.target = target or ("mask" if self.pixels else "label")
        self.loss_function = ClassLoss(
            loss,
            multilabel=multilabel,
            ignore_index=ignore_index,
            class_weights=class_weights,
            label_smoothing=label_smoothing,
            cross_entropy_share=cross_entropy_share,
        )
        parts = {
            part: class_metrics(len(self.classes), ignore_index, multilabel=multilabel, pixels=self.pixels)
            for part in ("val", "test")
        }
        self.metrics = nn.ModuleDict(parts)
        if self.training_plan.mixup > 0:
            if multilabel or loss in ("dice", "lovasz"):
                raise ConfigurationError("mixup makes probabilities of one class of K, by cross-entropy or focal loss")
            self.mix = RandomMixUp(self.training_plan.mixup, len(self.classes), ignore_index=ignore_index)
        self._seen = torch.zeros(len(self.classes), dtype=torch.long)
        # Whether it is known beforehand that there are labels of every class; a short epoch may miss a rare one.
        self.counted = False

    def loss_of(self, answer: Tensor, batch: Mapping[str, Any]) -> Tensor:
        loss: Tensor = self.loss_function(answer, self.labels_of(batch), batch.get("valid"))
        return loss

    def training_step(self, batch: Mapping[str, Any], batch_idx: int) -> Tensor:
        if self.current_epoch == 0 and not self.multilabel:
            self._count(self.labels_of(batch))
        return super().training_step(batch, batch_idx)

    def measure(self, part: Part, answer: Tensor, batch: Mapping[str, Any]) -> None:
        labels = counted_labels(
            self.labels_of(batch), batch.get("valid"), answer, self.ignore_index, multilabel=self.multilabel
        )
        self.metrics_of(part).update(answer.sigmoid() if self.multilabel else answer.argmax(1), labels)

    def report(self, part: Part) -> None:
        metrics = self.metrics_of(part)
        values = metrics.compute()
        counts = values.get("confusion")
        seen = None if counts is None else (counts.sum(0) + counts.sum(1)) > 0
        found = readable(values, self.classes, seen, None if counts is None else counts.sum(1) > 0)
        self.log_dict({f"{part}/{name}": value for name, value in found.items() if "/" in name})
        self.log_dict({f"{part}/{name}": value for name, value in found.items() if "/" not in name}, prog_bar=True)
        if counts is not None and self.trainer.is_global_zero and not self.trainer.sanity_checking:
            share = 100 * float(values["accuracy"])
            figure = confusion_figure(counts.cpu(), self.classes, f"{part}, epoch {self.current_epoch}: {share:.1f} %")
            log_figure(self.loggers, f"{part}/confusion", figure, self.global_step)
        metrics.reset()

    def readable_answer(self, answer: Tensor) -> Tensor:
        return answer.sigmoid() if self.multilabel else answer.softmax(1)

    def on_train_epoch_end(self) -> None:
        # A share of the batches; the whole number 1 is a single one.
        limit = self.trainer.limit_train_batches
        complete = limit == 1.0 and not isinstance(limit, int)
        if self.counted or self.current_epoch > 0 or self.multilabel or not complete:
            return
        seen = self.trainer.strategy.reduce(self._seen.to(self.device), reduce_op="sum")
        assert isinstance(seen, Tensor)
        missing = [name for name, count in zip(self.classes, seen.tolist(), strict=True) if count == 0]
        if missing:
            raise ConfigurationError(
                f"no label of {', '.join(missing)} in the whole first epoch: a class without examples cannot be "
                "learned; add some, or leave it out of classes"
            )

    def class_names(self) -> tuple[ClassName, ...]:
        colours = torch.tensor(class_colours(len(self.classes))).mul(255).round().int().tolist()
        return tuple(ClassName(name, (r, g, b)) for name, (r, g, b) in zip(self.classes, colours, strict=True))

    def labels_of(self, batch: Mapping[str, Any]) -> Tensor:
        """The labels of a batch."""
        labels = batch.get(self.target)
        if not isinstance(labels, Tensor):
            raise ConfigurationError(f"the batch has no labels under '{self.target}': it has {', '.join(batch)}")
        return labels

    def _count(self, labels: Tensor) -> None:
        if labels.is_floating_point():  # mixed: every class with a share
            found = (labels.movedim(1, -1).flatten(0, -2) > 0).sum(0)
        else:
            known = torch.where(labels.long() == self.ignore_index, len(self.classes), labels.long())
            counts = torch.bincount(known.flatten().clamp(0), minlength=len(self.classes) + 1)
            found = counts[: len(self.classes)]
        self._seen = self._seen.to(labels.device) + found

    @property
    def monitor(self) -> Monitor:
        return ("val/f1", "max") if self.multilabel else super().monitor

    @classmethod
    def activation(cls, card: ModelCard) -> Activation | None:
        return "sigmoid" if _independent(card) else "softmax"

    @classmethod
    def entropy(cls, card: ModelCard, answers: Tensor) -> Tensor:
        """Over its greatest; the mean over the classes where they hold independently."""
        own: Tensor = torch.special.entr(answers)
        if not _independent(card):
            return own.sum(1, keepdim=True) / float(np.log(answers.shape[1]))
        other: Tensor = torch.special.entr(1 - answers)
        return (own + other).mean(1, keepdim=True) / float(np.log(2))

    @classmethod
    def map_layers(cls, card: ModelCard, *, probabilities: bool = False, uncertainty: bool = False) -> list[MapLayer]:
        """Ids of the likeliest classes, probabilities and uncertainties; of several labels at once, no ids."""
        if len(card.classes) > NODATA:
            raise ConfigurationError(
                f"{len(card.classes)} classes do not fit a map of uint8, which has room for {NODATA}"
            )
        outputs = card.architecture.outputs
        names = [one.name for one in card.classes] or [f"output {number + 1}" for number in range(outputs)]

        def likeliest(answers: npt.NDArray[np.float32]) -> npt.NDArray[Any]:
            ids: npt.NDArray[Any] = answers[:outputs].argmax(0) if outputs > 1 else answers[0] > 0.5
            return ids[None]

        def steps_of(channels: slice) -> Any:
            return lambda answers: np.rint(np.clip(answers[channels], 0, 1) * _STEPS)

        layers = []
        if not card.multilabel:
            colours = {number: (*one.colour, 255) for number, one in enumerate(card.classes)}
            tags = {f"class_{number}": name for number, name in enumerate(names)}
            layers.append(
                MapLayer(
                    "classes", 1, "uint8", NODATA, likeliest, categorical=True, colormap=colours or None, tags=tags
                )
            )
        if probabilities or card.multilabel:
            named = names if len(names) == outputs else names[-outputs:]
            shares = MapLayer("probabilities", outputs, "uint8", NODATA, steps_of(slice(outputs)))
            layers.append(replace(shares, descriptions=named, scales=[1 / _STEPS] * outputs))
        if uncertainty:
            doubts = MapLayer("uncertainty", 2, "uint8", NODATA, steps_of(slice(outputs, None)))
            described = ["entropy", "mutual information"]
            layers.append(replace(doubts, descriptions=described, scales=[1 / _STEPS] * 2))
        return layers

    @classmethod
    def chip_columns(
        cls, card: ModelCard, answers: npt.NDArray[np.float32], *, uncertainty: bool = False
    ) -> dict[str, Any]:
        """`class`, `probability` and `p_<class>` of each class; of several labels at once, these alone."""
        outputs = card.architecture.outputs
        shares, names = answers[:, :outputs], [one.name for one in card.classes]
        columns: dict[str, Any] = {}
        if not card.multilabel:
            best = shares.argmax(1)
            columns["class"] = [names[number] for number in best.tolist()]
            columns["probability"] = shares[np.arange(len(best)), best]
        columns |= {f"p_{name}": shares[:, number] for number, name in enumerate(names)}
        if uncertainty:
            columns |= {"entropy": answers[:, outputs], "mutual_information": answers[:, outputs + 1]}
        return columns

    @classmethod
    def picture_ids(cls, card: ModelCard, answers: Tensor) -> Tensor:
        if answers.dim() == 4:
            answers = answers.softmax(1).mean((2, 3))
        return answers.argmax(1)

    @classmethod
    def check_data(cls, data: TrainingData) -> None:
        """That there are labels, and as far as they were counted, labels of every class."""
        classes = data.names_of_classes()
        cls.check_labels(data)
        counts = _counts(data, len(classes))
        if counts is None or not bool(counts.any()):
            return
        absent = [name for name, count in zip(classes, counts.tolist(), strict=True) if count == 0]
        if absent:
            raise ConfigurationError(
                f"the training split has no label of {', '.join(absent)}: a class without examples cannot be learned; "
                "add some, make another split, or leave these classes out"
            )

    @classmethod
    def check_labels(cls, data: TrainingData) -> None:
        """Raise `ConfigurationError` where the training split has no labels for this task."""

    @classmethod
    def outputs_for(cls, data: TrainingData) -> int:
        return max(len(data.names_of_classes()), 1)

    @classmethod
    def for_data(
        cls, network: nn.Module, data: TrainingData, augment: Compose, training: Training, loss: LossChoice
    ) -> Self:
        classes = data.names_of_classes()
        counts = _counts(data, len(classes))
        task = cls(
            network,
            classes,
            augment,
            training,
            loss=loss.classes,
            label_smoothing=loss.label_smoothing,
            cross_entropy_share=loss.cross_entropy_share,
            class_weights=_class_weights(loss.class_weights, counts),
            ignore_index=augment.ignore_index,
        )
        task.counted = counts is not None and bool(counts.any())
        return task

    @classmethod
    def for_model(
        cls, network: nn.Module, card: ModelCard, data: TrainingData, augment: Compose, loss: LossChoice
    ) -> Self:
        names = [one.name for one in card.classes]
        if data.class_names is None and data.class_ids is None and data.classes and list(data.classes) != names:
            raise ConfigurationError(
                f"the data have the classes {', '.join(data.classes)}, and the model {', '.join(names)}: another data "
                "set?"
            )
        return cls(
            network,
            names,
            augment,
            multilabel=card.multilabel,
            loss=loss.classes,
            label_smoothing=loss.label_smoothing,
            cross_entropy_share=loss.cross_entropy_share,
            class_weights=card.training.get("class_weights"),
            ignore_index=augment.ignore_index,
        )


def _independent(card: ModelCard) -> bool:
    """Whether the outputs are probabilities of their own, whose sum need not be 1."""
    return card.multilabel or card.architecture.outputs == 1


def balanced_weights(counts: Tensor) -> Tensor:
    """Weights of classes by the square root of how rare they are, with a mean of 1 over the labels."""
    shares = counts.double() / counts.sum()
    weights = (shares.max() / shares).sqrt().clamp_max(_MOST_WEIGHT)
    return weights / (weights * shares).sum()


def _class_weights(wanted: str | list[float], counts: Tensor | None) -> list[float] | None:
    if wanted == "none":
        return None
    if wanted != "balanced":
        return [float(value) for value in wanted]
    if counts is None:
        raise ConfigurationError("class_weights='balanced' needs counted labels: geoaug stats --update-catalog")
    return balanced_weights(counts).tolist()


def _counts(data: TrainingData, classes: int) -> Tensor | None:
    """Labels of each class in the training split, where they are known."""
    dataset = data.dataset("train")
    if dataset.targets is not None and dataset.labels is None:
        return torch.bincount(dataset.targets.values.long(), minlength=classes)
    there = class_ids(dataset.catalog)
    if not there:
        return None
    amounts = dict(zip(there, class_amounts_in(dataset.catalog, there).tolist(), strict=True))
    ids = range(classes) if data.class_ids is None else data.class_ids
    return torch.tensor([amounts.get(one, 0.0) for one in ids])
