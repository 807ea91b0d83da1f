"""What changed between two dates, of a chip or of every pixel.

`geoaug fit` and `geoaug predict` take one date; these models are trained and used in Python.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from geoaug.augment.compose import Compose
from geoaug.models.tasks.classes import ClassTask
from geoaug.models.tasks.training import Training

__all__ = ["ChangeTask"]


class ChangeTask(ClassTask):
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
