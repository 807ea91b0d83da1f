"""The four Lightning tasks: classes of chips, classes of pixels, numbers, and change between two dates.

They work with a plain `Trainer`, on one device or many. What they share is in `task_base`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from geoaug.augment.compose import Compose
from geoaug.augment.mixing import RandomMixUp
from geoaug.errors import ConfigurationError
from geoaug.models.networks.card import ClassName, ModelCard
from geoaug.models.tasks.base import GeoTask, Part
from geoaug.models.tasks.losses import ClassLoss, ClassLossKind, ValueLoss, ValueLossKind, as_values, counted_labels
from geoaug.models.tasks.metrics import class_metrics, confusion_figure, log_figure, readable, value_metrics
from geoaug.models.tasks.training import Training

__all__ = ["ChangeTask", "ClassificationTask", "RegressionTask", "SegmentationTask"]


class _ClassTask(GeoTask):
    """What tasks with classes share."""

    pixels: bool

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
        loss: Tensor = self.loss_function(answer, self._labels(batch), batch.get("valid"))
        return loss

    def training_step(self, batch: Mapping[str, Any], batch_idx: int) -> Tensor:
        if self.current_epoch == 0 and not self.multilabel:
            self._count(self._labels(batch))
        return super().training_step(batch, batch_idx)

    def measure(self, part: Part, answer: Tensor, batch: Mapping[str, Any]) -> None:
        labels = counted_labels(
            self._labels(batch), batch.get("valid"), answer, self.ignore_index, multilabel=self.multilabel
        )
        self._metrics(part).update(answer.sigmoid() if self.multilabel else answer.argmax(1), labels)

    def report(self, part: Part) -> None:
        metrics = self._metrics(part)
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
        from geoaug.data.pictures.composites import class_colours

        colours = torch.tensor(class_colours(len(self.classes))).mul(255).round().int().tolist()
        return tuple(ClassName(name, (r, g, b)) for name, (r, g, b) in zip(self.classes, colours, strict=True))

    def _labels(self, batch: Mapping[str, Any]) -> Tensor:
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


class ClassificationTask(_ClassTask):
    """The class of a chip, or several (`multilabel`).

    Args:
        network: gives logits (B, K).
        classes: names, by id.
        augment: see `GeoTask`.
        training: see `Training`.
        multilabel: labels are (B, K) of 0 and 1.
        loss: "cross_entropy" or "focal".
        class_weights: for each class; rare classes count more with more.
        label_smoothing: share of the label that is spread over all classes.
        cross_entropy_share: see `ClassLoss`.
        ignore_index: label of what has none.
        target: key of the labels in the batch, "label" unless told.

    Raises:
        ConfigurationError: counts that do not fit; in training, a label that is no class, or a class without labels.
    """

    task = "classification"
    pixels = False


class SegmentationTask(_ClassTask):
    """The class of every pixel, or several (`multilabel`, masks (B, K, H, W)); see `ClassificationTask`.

    Pixels without a label or without data count neither in the loss nor in the metrics. Labels are under "mask".
    """

    task = "segmentation"
    pixels = True


class ChangeTask(_ClassTask):
    """What changed between two dates: of a chip (`label`), or where the network has a decoder, of pixels (`mask`).

    Args:
        network: see `siamese_resnet` and `siamese_unet`; images are (B, 2, C, H, W).
        classes: such as "unchanged" and "changed".
        augment: does the same geometry to both dates.
        training: see `Training`.
        **options: see `ClassificationTask`.
    """

    task = "change"

    def __init__(
        self,
        network: nn.Module,
        classes: Sequence[str] = ("unchanged", "changed"),
        augment: Compose | None = None,
        training: Training | None = None,
        **options: Any,
    ) -> None:
        self.pixels = getattr(getattr(network, "architecture", None), "decoder", "none") != "none"
        super().__init__(network, classes, augment, training, **options)


class RegressionTask(GeoTask):
    """A number, or several, for a chip or for each pixel; NaN where unknown.

    Args:
        network: gives (B, K) or (B, K, H, W).
        augment: see `GeoTask`. It moves images and masks of classes; numbers of pixels stay where they are, so for
            them give operations without geometry, or augment before.
        training: see `Training`.
        loss: "mse", "mae" or "huber".
        delta: of the Huber loss.
        scale: (mean, std) of the target: the network learns `(target - mean) / std`, and answers in the target's units.
        target: key of the numbers in the batch.
    """

    task = "regression"

    def __init__(
        self,
        network: nn.Module,
        augment: Compose | None = None,
        training: Training | None = None,
        *,
        loss: ValueLossKind = "mse",
        delta: float = 1.0,
        scale: tuple[float, float] = (0.0, 1.0),
        target: str = "target",
    ) -> None:
        super().__init__(network, augment, training)
        if not scale[1] > 0:
            raise ConfigurationError(f"scale={scale} is a mean and a std above 0")
        if self.training_plan.mixup > 0:
            raise ConfigurationError("mixup blends labels of classes; a regression has none")
        self.loss_function, self.scale, self.target = ValueLoss(loss, delta=delta), scale, target
        self.metrics = nn.ModuleDict({part: value_metrics() for part in ("val", "test")})

    def loss_of(self, answer: Tensor, batch: Mapping[str, Any]) -> Tensor:
        mean, std = self.scale
        loss: Tensor = self.loss_function(answer, (self._values(batch) - mean) / std, batch.get("valid"))
        return loss

    def measure(self, part: Part, answer: Tensor, batch: Mapping[str, Any]) -> None:
        answer = self.readable_answer(answer)
        target = as_values(self._values(batch), answer)
        known = target.isfinite()
        if batch.get("valid") is not None and answer.dim() == 4:
            known = known & batch["valid"]
        if bool(known.any()):
            self._metrics(part).update(answer[known], target[known])

    def report(self, part: Part) -> None:
        metrics = self._metrics(part)
        count = self.trainer.strategy.reduce(metrics["mae"].total.float(), reduce_op="sum")
        if float(count) > 1:  # the share of variance explained needs two numbers
            self.log_dict({f"{part}/{name}": value for name, value in metrics.compute().items()}, prog_bar=True)
        metrics.reset()

    def card(self, **facts: Any) -> ModelCard:
        # What is predicted from a file must come out in the target's units, too.
        training = {**self.training_plan.to_dict(), "target_scale": list(self.scale)}
        return super().card(**{"training": training, **facts})

    def readable_answer(self, answer: Tensor) -> Tensor:
        return answer.float() * self.scale[1] + self.scale[0]

    def _values(self, batch: Mapping[str, Any]) -> Tensor:
        values = batch.get(self.target)
        if not isinstance(values, Tensor):
            raise ConfigurationError(f"the batch has no numbers under '{self.target}': it has {', '.join(batch)}")
        return values.float()
