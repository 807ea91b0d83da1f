"""What a person told `geoaug fit`, and the record of what was chosen besides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

__all__ = ["Said", "Told"]


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
class Said:
    """A line for each choice: what, the choice, why."""

    lines: list[tuple[str, str, str]] = field(default_factory=list)

    def __call__(self, what: str, choice: object, why: str) -> None:
        self.lines.append((what, str(choice), why))
