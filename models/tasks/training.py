"""How a network is trained, as one value: stages, learning rates, optimizer, average of weights, mixing.

`head` -> `+layer4` -> `all` is three small values, not a pile of flags. What is not trained in a stage is frozen whole:
weights, statistics of batch norm and dropout. The loop that does it is in `base`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args

import torch
import yaml
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from geoaug.errors import ConfigurationError

__all__ = [
    "DEPTHS",
    "Optimizer",
    "Schedule",
    "ScheduleKind",
    "Stage",
    "StagePlan",
    "Training",
    "averaged_network",
    "depth_of",
    "learning_rate_factors",
    "load_stages",
    "modules_by_depth",
    "parameter_groups",
]

# From the answer down to the image.
DEPTHS = ("head", "layer4", "layer3", "layer2", "layer1", "stem")

_NAMES = ("head", "+layer4", "+layer3", "+layer2", "+layer1", "all")


@dataclass(frozen=True)
class Stage:
    """A part of a training.

    Args:
        train: "head" alone, "+layer4" for it and everything down to layer4, and so on, or "all".
        epochs: how many; None, for the last stage, until the training ends.
        lr: factor on the learning rate of the whole stage.
        depth_factor: further factor for each step down from the head: 0.5 halves the rate of layer4, quarters that of
            layer3. Early layers of a pretrained network are generic and need little.
    """

    train: str = "all"
    epochs: int | None = None
    lr: float = 1.0
    depth_factor: float = 1.0

    def __post_init__(self) -> None:
        if self.train not in _NAMES:
            raise ConfigurationError(f"a stage trains one of {', '.join(_NAMES)}, not {self.train!r}")
        if self.epochs is not None and (isinstance(self.epochs, bool) or self.epochs < 1):
            raise ConfigurationError(f"a stage has one epoch or more, not {self.epochs}")
        if not self.lr > 0:
            raise ConfigurationError(f"the factor lr of a stage is above 0, not {self.lr}")
        if not 0 < self.depth_factor <= 1:
            raise ConfigurationError(f"depth_factor is within (0, 1], not {self.depth_factor}")

    @property
    def depths(self) -> tuple[str, ...]:
        """What trains, from the head down."""
        return DEPTHS[: _NAMES.index(self.train) + 1]

    def factor(self, depth: str) -> float:
        """Factor on the learning rate at a depth; 0 where nothing trains."""
        return self.lr * self.depth_factor ** DEPTHS.index(depth) if depth in self.depths else 0.0


@dataclass(frozen=True, slots=True)
class StagePlan:
    """Stages laid out over the epochs of a training.

    Args:
        stages: in order; all but the last have their epochs.
        epochs: of the training.

    Raises:
        ConfigurationError: they do not add up.
    """

    stages: tuple[Stage, ...]
    epochs: int

    def __post_init__(self) -> None:
        if not self.stages:
            raise ConfigurationError("a training has one stage at least")
        open_ended = [number for number, stage in enumerate(self.stages, 1) if stage.epochs is None]
        if open_ended and open_ended != [len(self.stages)]:
            raise ConfigurationError(f"stage {open_ended[0]} has no epochs, and only the last one may do without")
        planned = sum(stage.epochs or 0 for stage in self.stages)
        fits = planned < self.epochs if open_ended else planned == self.epochs
        if not fits:
            raise ConfigurationError(
                f"the stages have {planned} epochs{' and one more at least' if open_ended else ''}, and the training "
                f"{self.epochs}: make Trainer(max_epochs=...) fit, or leave the last stage's epochs out"
            )

    def at(self, epoch: float) -> tuple[Stage, float]:
        """The stage at a point of the training, and how much of it is over (0..1).

        Args:
            epoch: from 0, with the part of it that is over.
        """
        start = 0.0
        for stage in self.stages[:-1]:
            assert stage.epochs is not None
            if epoch < start + stage.epochs:
                return stage, (epoch - start) / stage.epochs
            start += stage.epochs
        return self.stages[-1], min((epoch - start) / (self.epochs - start), 1.0)


def depth_of(name: str) -> str:
    """The depth of a parameter or module of one of our networks, by its name."""
    parts = name.removeprefix("encoder.").split(".")
    if name.startswith(("pixels.", "fc.")):
        return "head"
    if parts[0] in ("conv1", "bn1"):
        return "stem"
    return parts[0] if parts[0] in DEPTHS else "head"


def modules_by_depth(network: nn.Module) -> dict[str, list[nn.Module]]:
    """The leaves of a network, by depth."""
    found: dict[str, list[nn.Module]] = {depth: [] for depth in DEPTHS}
    for name, module in network.named_modules():
        if name and not list(module.children()):
            found[depth_of(name)].append(module)
    return found


def load_stages(source: str | Path | Sequence[Any]) -> tuple[Stage, ...]:
    """Stages from a YAML file, or from a list as it stands in one:

        - {train: head, epochs: 2}
        - {train: +layer4, epochs: 3, lr: 0.5}
        - {train: all, depth_factor: 0.5}

    Raises:
        ConfigurationError: no such file, or a mistake in it, with the number of the stage.
    """
    if isinstance(source, str | Path):
        where = f"{source}: "
        try:
            content = yaml.safe_load(Path(source).read_text(encoding="utf-8"))
        except OSError as error:
            raise ConfigurationError(f"{source}: cannot be read ({error.strerror})") from None
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise ConfigurationError(f"{source}: not YAML: {' '.join(str(error).split())}") from None
        if isinstance(content, Mapping) and set(content) == {"stages"}:
            content = content["stages"]
    else:
        where, content = "", list(source)
    if not isinstance(content, list) or not content:
        raise ConfigurationError(f"{where}stages are a list: - {{train: head, epochs: 2}}")
    return tuple(_stage(item, f"{where}stage {number}: ") for number, item in enumerate(content, 1))


def _stage(item: Any, where: str) -> Stage:
    if isinstance(item, Stage):
        return item
    if isinstance(item, str):
        item = {"train": item}
    if not isinstance(item, Mapping):
        raise ConfigurationError(f"{where}a stage is a mapping: {{train: head, epochs: 2}}")
    kinds: dict[str, tuple[type, ...]] = {
        "train": (str,),
        "epochs": (int, type(None)),
        "lr": (int, float),
        "depth_factor": (int, float),
    }
    assert set(kinds) == {field.name for field in fields(Stage)}
    for name, value in item.items():
        if name not in kinds:
            raise ConfigurationError(f"{where}'{name}' is not one of {', '.join(kinds)}")
        if not isinstance(value, kinds[name]) or isinstance(value, bool):
            raise ConfigurationError(f"{where}'{name}' cannot be {value!r}")
    try:
        return Stage(**item)
    except ConfigurationError as error:
        raise ConfigurationError(f"{where}{error}") from None


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


def averaged_network(network: nn.Module, decay: float) -> AveragedModel:
    """A copy of a network that follows it: `update_parameters(network)` after each step.

    After n steps the decay is `min(decay, (1 + n) / (10 + n))`, so that short trainings are not stuck at their start.
    Statistics of batch norm are copied, not averaged. Nothing of the copy needs a gradient.

    Args:
        network: to follow.
        decay: within (0, 1), such as 0.999.
    """
    if not 0 < decay < 1:
        raise ConfigurationError(f"the decay of an average is within (0, 1), not {decay}")
    averaged = AveragedModel(network, multi_avg_fn=partial(_move, decay))
    return averaged.requires_grad_(False).eval()


@torch.no_grad()
def _move(decay: float, averaged: Sequence[Tensor], current: Sequence[Tensor], steps: Tensor | int) -> None:
    n = int(steps)
    share = 1 - min(decay, (1 + n) / (10 + n))
    torch._foreach_lerp_(list(averaged), list(current), share)
