"""torchmetrics for the tasks: overall and for each class, and the confusion matrix as a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torchmetrics import MetricCollection
from torchmetrics.classification import (
    MulticlassAccuracy,
    MulticlassConfusionMatrix,
    MulticlassF1Score,
    MulticlassJaccardIndex,
    MultilabelAccuracy,
    MultilabelF1Score,
    MultilabelJaccardIndex,
)
from torchmetrics.regression import MeanAbsoluteError, MeanSquaredError, R2Score

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["class_metrics", "confusion_figure", "log_figure", "readable", "value_metrics"]

# From this many classes on, shares are not written into the cells.
_MOST_WRITTEN = 16


def class_metrics(
    classes: int, ignore_index: int, *, multilabel: bool = False, pixels: bool = False
) -> MetricCollection:
    """Metrics of K classes: of predicted labels (or logits) and labels, `ignore_index` left out.

    Overall: `accuracy`. For each class, and as their mean: recall (`accuracy_each`), `f1_each` and, for pixels,
    intersection over union (`iou_each`). One class of K also has its `confusion` matrix.
    """
    options: dict[str, Any] = {"ignore_index": ignore_index, "validate_args": False}
    if multilabel:
        several = {"num_labels": classes, **options}
        found: dict[str, Any] = {
            "accuracy": MultilabelAccuracy(average="micro", **several),
            "f1_each": MultilabelF1Score(average="none", **several),
        }
        if pixels:
            found["iou_each"] = MultilabelJaccardIndex(average="none", **several)
        return MetricCollection(found)
    one = {"num_classes": classes, **options}
    found = {
        "accuracy": MulticlassAccuracy(average="micro", **one),
        "accuracy_each": MulticlassAccuracy(average="none", **one),
        "f1_each": MulticlassF1Score(average="none", **one),
        "confusion": MulticlassConfusionMatrix(**one),
    }
    if pixels:
        found["iou_each"] = MulticlassJaccardIndex(average="none", **one)
    return MetricCollection(found)


def value_metrics() -> MetricCollection:
    """Metrics of numbers: of predictions and targets, flat, what is unknown already left out."""
    return MetricCollection({"rmse": MeanSquaredError(squared=False), "mae": MeanAbsoluteError(), "r2": R2Score()})


def readable(
    values: Mapping[str, Tensor], names: Sequence[str], seen: Tensor | None = None, labelled: Tensor | None = None
) -> dict[str, Tensor]:
    """Metrics as they are logged: `iou_each` becomes `iou` (the mean) and `iou/forest` and so on.

    Args:
        values: of a collection; its confusion matrix is left out.
        names: of the classes.
        seen: which classes there were labels of, or answers; means are over these.
        labelled: which there were labels of: others have no recall, so its mean is over these.
    """
    found: dict[str, Tensor] = {}
    for key, value in values.items():
        if key == "confusion":
            continue
        if not key.endswith("_each"):
            found[key] = value
            continue
        short = key.removesuffix("_each")
        counted = labelled if short == "accuracy" else seen
        mean = value[counted].mean() if counted is not None and bool(counted.any()) else value.mean()
        found["accuracy_macro" if short == "accuracy" else short] = mean
        found |= {f"{short}/{name}": value[number] for number, name in enumerate(names)}
    return found


def confusion_figure(counts: Tensor, names: Sequence[str], title: str = "") -> Figure:
    """A confusion matrix as a picture: shares of each true class, rows true, columns predicted.

    Args:
        counts: K x K.
        names: of the classes.
        title: above it.
    """
    from matplotlib.figure import Figure

    shares = counts.double() / counts.sum(1, keepdim=True).clamp_min(1)
    side = min(max(0.55 * len(names) + 2.5, 4.0), 16.0)
    figure = Figure(figsize=(side, side), layout="constrained")
    axes = figure.add_subplot()
    axes.imshow(shares.cpu().numpy(), cmap="Blues", vmin=0, vmax=1)
    axes.set_xticks(range(len(names)), names, rotation=60, ha="right")
    axes.set_yticks(range(len(names)), names)
    axes.set(xlabel="predicted", ylabel="true", title=title)
    if len(names) <= _MOST_WRITTEN:
        for row, column in torch.nonzero(counts).tolist():
            share = float(shares[row, column])
            colour = "white" if share > 0.5 else "black"
            axes.text(column, row, f"{100 * share:.0f}", ha="center", va="center", color=colour, fontsize=8)
    return figure


def log_figure(loggers: Sequence[Any], name: str, figure: Figure, step: int) -> None:
    """Give a picture to every logger that takes pictures, and a PNG to the folders of those that do not."""
    for logger in loggers:
        add = getattr(getattr(logger, "experiment", None), "add_figure", None)
        if add is not None:
            add(name, figure, global_step=step, close=False)
        elif getattr(logger, "log_dir", None):
            path = Path(logger.log_dir) / f"{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            figure.savefig(path, dpi=120)
