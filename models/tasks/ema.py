"""The exponential moving average of a network's weights, which evaluates better than the last step's."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from geoaug.errors import ConfigurationError

__all__ = ["averaged_network"]


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
