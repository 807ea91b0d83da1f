"""How the learning rate moves within a stage: warm-up, then cosine, one cycle, or constant."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

from geoaug.errors import ConfigurationError

__all__ = ["Schedule", "ScheduleKind"]

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
