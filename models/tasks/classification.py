"""The class of a chip, or several of them."""

from __future__ import annotations

from types import MappingProxyType

from geoaug.errors import ConfigurationError
from geoaug.models.tasks.base import Evidence, TrainingData, check_one_target
from geoaug.models.tasks.classes import ClassTask

__all__ = ["ClassificationTask"]


class ClassificationTask(ClassTask):
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
        target: key of the labels in the batch, by default "label".

    Raises:
        ConfigurationError: counts that do not fit; in training, a label that is no class, or a class without labels.
    """

    task = "classification"
    monitored = ("val/accuracy", "max")
    loss_defaults = MappingProxyType({"label_smoothing": 0.05})

    @classmethod
    def suits(cls, evidence: Evidence) -> str | None:
        if evidence.target is not None:
            return None if evidence.numbers else f"the column '{evidence.target}' has names"
        if evidence.labels is None and evidence.chips_have_labels:
            return "chips lie in a folder for each class"
        return None

    @classmethod
    def check_labels(cls, data: TrainingData) -> None:
        targets = data.dataset("train").targets
        if targets is None or not targets.classes:
            raise ConfigurationError(
                "classification needs a class for each chip: a folder for each class, or target=COLUMN of names"
            )
        check_one_target(targets)
