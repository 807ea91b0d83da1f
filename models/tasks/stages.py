"""Stages of fine-tuning: what trains when, for how long, and how fast at each depth.

`head` -> `+layer4` -> `all` is three small values, not a pile of flags. What is not trained in a stage is frozen whole:
weights, statistics of batch norm and dropout. How the learning rate moves within a stage is in `schedules`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import yaml
from torch import nn

from geoaug.errors import ConfigurationError

__all__ = ["DEPTHS", "Stage", "StagePlan", "depth_of", "load_stages", "modules_by_depth"]

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
        told = sum(stage.epochs or 0 for stage in self.stages)
        if told > self.epochs or (told < self.epochs and not open_ended) or (open_ended and told >= self.epochs):
            raise ConfigurationError(
                f"the stages have {told} epochs{' and one more at least' if open_ended else ''}, and the training "
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
        place = f"{source}: "
        try:
            content = yaml.safe_load(Path(source).read_text(encoding="utf-8"))
        except OSError as error:
            raise ConfigurationError(f"{source}: cannot be read ({error.strerror})") from None
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise ConfigurationError(f"{source}: not YAML: {' '.join(str(error).split())}") from None
        if isinstance(content, Mapping) and set(content) == {"stages"}:
            content = content["stages"]
    else:
        place, content = "", list(source)
    if not isinstance(content, list) or not content:
        raise ConfigurationError(f"{place}stages are a list: - {{train: head, epochs: 2}}")
    return tuple(_stage(item, f"{place}stage {number}: ") for number, item in enumerate(content, 1))


def _stage(item: Any, place: str) -> Stage:
    if isinstance(item, Stage):
        return item
    if isinstance(item, str):
        item = {"train": item}
    if not isinstance(item, Mapping):
        raise ConfigurationError(f"{place}a stage is a mapping: {{train: head, epochs: 2}}")
    kinds: dict[str, tuple[type, ...]] = {
        "train": (str,),
        "epochs": (int, type(None)),
        "lr": (int, float),
        "depth_factor": (int, float),
    }
    assert set(kinds) == {field.name for field in fields(Stage)}
    for name, value in item.items():
        if name not in kinds:
            raise ConfigurationError(f"{place}'{name}' is not one of {', '.join(kinds)}")
        if not isinstance(value, kinds[name]) or isinstance(value, bool):
            raise ConfigurationError(f"{place}'{name}' cannot be {value!r}")
    try:
        return Stage(**item)
    except ConfigurationError as error:
        raise ConfigurationError(f"{place}{error}") from None
