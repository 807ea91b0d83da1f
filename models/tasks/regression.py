"""Numbers of a chip, or of every pixel."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from torch import Tensor, nn

from geoaug.augment.compose import Compose
from geoaug.errors import ConfigurationError
from geoaug.models.networks.card import ModelCard
from geoaug.models.tasks.base import Evidence, GeoTask, MapLayer, Part, TrainingData, check_one_target
from geoaug.models.tasks.losses import LossChoice, ValueLoss, ValueLossKind, as_values
from geoaug.models.tasks.metrics import value_metrics
from geoaug.models.tasks.training import Training

__all__ = ["RegressionTask"]


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
    monitored = ("val/rmse", "min")

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
        loss: Tensor = self.loss_function(answer, (self.values_of(batch) - mean) / std, batch.get("valid"))
        return loss

    def measure(self, part: Part, answer: Tensor, batch: Mapping[str, Any]) -> None:
        answer = self.readable_answer(answer)
        target = as_values(self.values_of(batch), answer)
        known = target.isfinite()
        if batch.get("valid") is not None and answer.dim() == 4:
            known = known & batch["valid"]
        if bool(known.any()):
            self.metrics_of(part).update(answer[known], target[known])

    def report(self, part: Part) -> None:
        metrics = self.metrics_of(part)
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

    def values_of(self, batch: Mapping[str, Any]) -> Tensor:
        """The numbers of a batch that are learned, float32."""
        values = batch.get(self.target)
        if not isinstance(values, Tensor):
            raise ConfigurationError(f"the batch has no numbers under '{self.target}': it has {', '.join(batch)}")
        return values.float()

    @classmethod
    def in_units(cls, card: ModelCard, answers: Tensor) -> Tensor:
        mean, std = card.training.get("target_scale", (0.0, 1.0))
        return answers * float(std) + float(mean)

    @classmethod
    def map_layers(cls, card: ModelCard, *, probabilities: bool = False, uncertainty: bool = False) -> list[MapLayer]:
        """The numbers, float32, NaN where there is no data."""
        return [MapLayer("values", card.architecture.outputs, "float32", math.nan, lambda answers: answers)]

    @classmethod
    def chip_columns(
        cls, card: ModelCard, answers: npt.NDArray[np.float32], *, uncertainty: bool = False
    ) -> dict[str, Any]:
        """`value`; of several numbers `value_1`, `value_2` and so on."""
        outputs = card.architecture.outputs
        names = ["value"] if outputs == 1 else [f"value_{number + 1}" for number in range(outputs)]
        return {name: answers[:, number] for number, name in enumerate(names)}

    @classmethod
    def suits(cls, evidence: Evidence) -> str | None:
        if evidence.target is not None and evidence.numbers:
            return f"the column '{evidence.target}' has numbers"
        return None

    @classmethod
    def check_data(cls, data: TrainingData) -> None:
        targets = data.dataset("train").targets
        if targets is not None:
            check_one_target(targets)
        if targets is None or targets.classes:
            raise ConfigurationError("regression needs a number for each chip: target=COLUMN of the catalog")

    @classmethod
    def for_data(
        cls, network: nn.Module, data: TrainingData, augment: Compose, training: Training, loss: LossChoice
    ) -> Self:
        targets = data.dataset("train").targets
        assert targets is not None
        std = float(targets.values.std(correction=0))
        if not std > 0:
            raise ConfigurationError("all numbers of the training split are the same: there is nothing to learn")
        return cls(network, augment, training, loss=loss.values, scale=(float(targets.values.mean()), std))

    @classmethod
    def for_model(
        cls, network: nn.Module, card: ModelCard, data: TrainingData, augment: Compose, loss: LossChoice
    ) -> Self:
        mean, std = card.training.get("target_scale", (0.0, 1.0))
        return cls(network, augment, loss=loss.values, scale=(float(mean), float(std)))
