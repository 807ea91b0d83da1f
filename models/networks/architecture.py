"""What a network is made of, as a small value that can be written down.

Nothing is built here: `build` makes the network of an architecture.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

from torch import nn

from geoaug.errors import ConfigurationError
from geoaug.models.networks.batchnorm import Norm
from geoaug.models.networks.dropout import check_dropout
from geoaug.sensors import Sensor

__all__ = ["BACKBONES", "Architecture", "Decoder", "Fusion", "Network"]

BACKBONES = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "resnext50_32x4d", "wide_resnet50_2")

Decoder = Literal["none", "unet", "fpn", "deeplabv3+"]
Fusion = Literal["none", "difference", "absolute"]


@dataclass(frozen=True, slots=True)
class Architecture:
    """Everything that decides the shapes of a network, and how it behaves.

    Args:
        backbone: one of `BACKBONES`.
        bands: of the input.
        outputs: classes, or numbers, that it answers with.
        decoder: "none" for an answer to the whole chip, or how one for each pixel is made.
        fusion: of the features of two dates: the later less the earlier, or how far they are apart; "none" for one.
        norm: "batch", "group", "frozen" or "sync".
        bn_momentum: in torch's convention.
        dropout: probability of dropping a feature before the last layer.
        block_dropout: probability of dropping a whole channel of what a block adds, in every stage.
    """

    backbone: str
    bands: int
    outputs: int
    decoder: Decoder = "none"
    fusion: Fusion = "none"
    norm: Norm = "batch"
    bn_momentum: float | None = 0.1
    dropout: float = 0.0
    block_dropout: float = 0.0

    def __post_init__(self) -> None:
        if self.backbone not in BACKBONES:
            raise ConfigurationError(f"backbone '{self.backbone}' is not one of {', '.join(BACKBONES)}")
        for name, kind in (("decoder", Decoder), ("fusion", Fusion), ("norm", Norm)):
            if getattr(self, name) not in get_args(kind):
                raise ConfigurationError(f"{name}={getattr(self, name)!r} is one of {', '.join(get_args(kind))}")
        if self.bands < 1 or self.outputs < 1:
            raise ConfigurationError(
                f"a network has one band and one output at least, not {self.bands} and {self.outputs}"
            )
        check_dropout(self.dropout, "dropout")
        check_dropout(self.block_dropout, "block_dropout")

    def to_dict(self) -> dict[str, Any]:
        """As plain values, for JSON."""
        return asdict(self)

    @staticmethod
    def from_dict(content: Mapping[str, Any]) -> Architecture:
        """From `to_dict`.

        Raises:
            ConfigurationError: a field is missing or unknown.
        """
        known = {field.name for field in fields(Architecture)}
        if unknown := sorted(set(content) - known):
            raise ConfigurationError(f"an architecture has no {', '.join(unknown)}: written by a newer geoaug?")
        try:
            return Architecture(**content)
        except TypeError as error:
            raise ConfigurationError(f"not an architecture: {error}") from None


class Network(nn.Module):
    """What every network of `geoaug.models` knows of itself.

    Attributes:
        architecture: what it is made of.
        sensor: the bands that it is given.
    """

    architecture: Architecture
    sensor: Sensor
