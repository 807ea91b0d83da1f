"""How a network is trained, as one value: optimizer, learning rates, stages, schedule, average, mixing."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args

import torch
from torch import nn

from geoaug.errors import ConfigurationError
from geoaug.models.tasks.stages import DEPTHS, Stage, StagePlan, depth_of

__all__ = ["Optimizer", "Schedule", "ScheduleKind", "Training", "learning_rate_factors", "parameter_groups"]

ScheduleKind = Literal["cosine", "one_cycle", "constant"]

# Where one cycle starts, as a share of its peak (torch's div_factor of 25).
_START = 0.04


@dataclass(frozen=True)
class Schedule:
    """The factor on the learning rate, over a stage.

    - "cosine": a straight warm-up, then half a cosine down to `final` (Loshchilov and Hutter, 2017, SGDR, equation 5);
    - "one_cycle": half a cosine up from a 25th of the peak, then half a cosine down (Smith and Topin, 2018); take a
      `warmup` of about 0.3. The momentum stays as it is;
    - "constant": a straight warm-up, then the peak.

    Args:
        kind: see above.
        warmup: share of the stage that the rise takes, within [0, 1).
        final: share of the peak that is left at the end, within [0, 1].
    """

    kind: ScheduleKind = "cosine"
    warmup: float = 0.05
    final: float = 0.01

    def __post_init__(self) -> None:
        if self.kind not in get_args(ScheduleKind):
            raise ConfigurationError(f"schedule '{self.kind}' is one of {', '.join(get_args(ScheduleKind))}")
        if not 0 <= self.warmup < 1:
            raise ConfigurationError(f"warmup={self.warmup} is a share within [0, 1)")
        if not 0 <= self.final <= 1:
            raise ConfigurationError(f"final={self.final} is a share within [0, 1]")

    def factor(self, progress: float, step: float = 0.0) -> float:
        """The factor where `progress` (0..1) of a stage is over.

        Args:
            progress: of the stage, before the step that is meant.
            step: share of the stage that one step is; the straight warm-up counts it in, so that its first step moves.
        """
        if progress < self.warmup:
            if self.kind == "one_cycle":
                return _START + (1 - _START) * _half_cosine(progress / self.warmup)
            return min((progress + step) / self.warmup, 1.0)
        if self.kind == "constant":
            return 1.0
        left = (progress - self.warmup) / (1 - self.warmup)
        return 1 - (1 - self.final) * _half_cosine(min(left, 1.0))


def _half_cosine(share: float) -> float:
    """From 0 to 1, level at both ends."""
    return (1 - math.cos(math.pi * share)) / 2


Optimizer = Literal["adamw", "sgd"]


@dataclass(frozen=True)
class Training:
    """Everything about a training that is not the data and not the network.

    Args:
        lr: peak learning rate of the head in a stage with `lr` 1.
        weight_decay: of weights; scales, shifts and biases have none.
        optimizer: "adamw", or "sgd" with Nesterov momentum.
        momentum: of sgd.
        schedule: of the learning rate within each stage.
        stages: in order; see `Stage`.
        ema_decay: of the average of weights that evaluates and is saved; None for none.
        mixup: alpha of `RandomMixUp`; 0 for none, as 0.2 is more often harm than help with few labels.
        seed: of the augmentation's keys where the batches bring an `index` and no `key`.
    """

    lr: float = 1e-3
    weight_decay: float = 1e-2
    optimizer: Optimizer = "adamw"
    momentum: float = 0.9
    schedule: Schedule = field(default_factory=Schedule)
    stages: tuple[Stage, ...] = (Stage(),)
    ema_decay: float | None = None
    mixup: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.optimizer not in get_args(Optimizer):
            raise ConfigurationError(f"optimizer '{self.optimizer}' is one of {', '.join(get_args(Optimizer))}")
        if not self.lr > 0 or self.weight_decay < 0 or self.mixup < 0:
            raise ConfigurationError(
                f"lr={self.lr} is above 0, weight_decay={self.weight_decay} and mixup={self.mixup} not below"
            )
        object.__setattr__(self, "stages", tuple(self.stages))
        if not self.stages:
            raise ConfigurationError("a training has one stage at least")

    def to_dict(self) -> dict[str, Any]:
        """As plain values, for JSON."""
        return {**asdict(self), "stages": [asdict(stage) for stage in self.stages]}

    def build_optimizer(self, network: nn.Module) -> torch.optim.Optimizer:
        """The optimizer, with a group for each depth, with and without decay."""
        groups = parameter_groups(network, self.weight_decay)
        if self.optimizer == "sgd":
            return torch.optim.SGD(groups, lr=self.lr, momentum=self.momentum, nesterov=self.momentum > 0)
        return torch.optim.AdamW(groups, lr=self.lr)


def parameter_groups(network: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Groups of parameters for an optimizer, named by depth; those of one dimension are not decayed."""
    kept: dict[tuple[str, bool], list[nn.Parameter]] = {}
    for name, parameter in network.named_parameters():
        kept.setdefault((depth_of(name), parameter.dim() > 1), []).append(parameter)
    return [
        {"params": kept[depth, decayed], "weight_decay": weight_decay if decayed else 0.0, "depth": depth}
        for depth in DEPTHS
        for decayed in (True, False)
        if (depth, decayed) in kept
    ]


def learning_rate_factors(
    training: Training, epochs: int, steps_per_epoch: float, depths: list[str]
) -> list[Callable[[int], float]]:
    """For each group, the factor on its learning rate at a step."""
    plan = StagePlan(training.stages, epochs)

    def factor_at(depth: str) -> Callable[[int], float]:
        def factor(step: int) -> float:
            stage, progress = plan.at(step / steps_per_epoch)
            _, after = plan.at((step + 1) / steps_per_epoch)
            part = after - progress if after > progress else 0.0
            return stage.factor(depth) * training.schedule.factor(progress, part)

        return factor

    return [factor_at(depth) for depth in depths]
