"""The class of every pixel, or several of them."""

from __future__ import annotations

from geoaug.errors import ConfigurationError
from geoaug.models.tasks.base import Evidence, TrainingData
from geoaug.models.tasks.classes import ClassTask

__all__ = ["SegmentationTask"]


class SegmentationTask(ClassTask):
    """The class of every pixel, or several (`multilabel`, masks (B, K, H, W)); see `ClassificationTask`.

    Pixels without a label or without data count neither in the loss nor in the metrics. Labels are under "mask".
    """

    task = "segmentation"
    pixels = True
    monitored = ("val/iou", "max")

    @classmethod
    def suits(cls, evidence: Evidence) -> str | None:
        if evidence.target is not None:
            return None
        if evidence.labels is not None:
            return f"{evidence.labels} has a class for each pixel"
        if evidence.scenes_have_masks and not evidence.chips_have_labels:
            return "scenes have masks beside them"
        return None

    @classmethod
    def check_evidence(cls, evidence: Evidence) -> None:
        if evidence.labels is None and not evidence.scenes_have_masks:
            raise ConfigurationError(
                "segmentation needs masks: give --labels FILE, or index scenes with masks beside them"
            )

    @classmethod
    def check_labels(cls, data: TrainingData) -> None:
        if data.dataset("train").labels is None:
            raise ConfigurationError("segmentation needs masks: give labels, or index scenes with masks beside them")
