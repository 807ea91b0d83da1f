"""What a stress test asks of a model: to say how its answers for tiles are to be judged, and to judge them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from jaxtyping import Float

from geoaug.augment.compose import Compose
from geoaug.sensors import Sensor

__all__ = ["Judged", "Metric", "Subject"]


@dataclass(frozen=True, slots=True)
class Metric:
    """What is measured.

    Attributes:
        name: "accuracy", "mean IoU", "RMSE".
        unit: "%", or that of the target.
        higher_is_better: whether it is.
    """

    name: str
    unit: str
    higher_is_better: bool


@dataclass(frozen=True, slots=True, eq=False)
class Judged:
    """Answers for n tiles beside the truth.

    Attributes:
        sums: what the metric is made of, a row a tile; rows add up.
        loss: how wrong each answer is; NaN where a tile has no label.
        said: each answer in a word or a number.
    """

    sums: Float[np.ndarray, "n k"]
    loss: Float[np.ndarray, " n"]
    said: tuple[str, ...]

    @staticmethod
    def joined(parts: Sequence["Judged"]) -> "Judged":
        """Several, one after the other."""
        return Judged(
            np.concatenate([part.sums for part in parts]),
            np.concatenate([part.loss for part in parts]),
            tuple(word for part in parts for word in part.said),
        )


class Subject(Protocol):
    """A model that is put under stress."""

    @property
    def metric(self) -> Metric: ...

    @property
    def sensor(self) -> Sensor:
        """With the bands of the tiles, as they are stored."""

    @property
    def pixels(self) -> bool:
        """Whether it answers for each pixel."""

    def compose(self, operations: Sequence[Any], **options: Any) -> Compose:
        """Operations with what stands before the network: scaling, size, normalisation."""

    def judge(self, batch: Mapping[str, Any]) -> Judged:
        """Judge the answers for a batch as `compose` left it."""

    def truth(self, batch: Mapping[str, Any]) -> tuple[str, ...]:
        """The right answer for each tile, in a word or a number."""

    def value(self, sums: Float[np.ndarray, "r k"]) -> Float[np.ndarray, " r"]:
        """The metric of sums over tiles, a row each; NaN where nothing has a label."""
