"""Dropout under control: off in evaluation like everywhere in torch, and on alone where uncertainty is asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd

from geoaug.errors import ConfigurationError

__all__ = ["Uncertainty", "check_dropout", "dropout_alone", "mc_dropout"]

Activation = Literal["softmax", "sigmoid", "none"]


@dataclass(frozen=True, slots=True, eq=False)
class Uncertainty:
    """What many passes with dropout agree on, and how well.

    Attributes:
        mean: mean probability of each class, (B, K) or (B, K, H, W); for numbers, the mean prediction.
        entropy: of the mean, nats, without the class dimension: all uncertainty. For numbers: None.
        mutual_information: between answer and dropped weights, nats: what the passes disagree about, which more
            labels would settle (Houlsby et al., 2011; Gal et al., 2017). 0 where all agree. For numbers: None.
        variance: of the passes, shaped as the mean.
    """

    mean: Tensor
    entropy: Tensor | None
    mutual_information: Tensor | None
    variance: Tensor


def check_dropout(value: float, name: str) -> float:
    """A probability of dropping, 0 <= p < 1."""
    if not 0 <= value < 1:
        raise ConfigurationError(f"{name}={value} is a probability of dropping, within [0, 1)")
    return value


@contextmanager
def dropout_alone(model: nn.Module) -> Iterator[None]:
    """Within it, the model is in evaluation mode but for its dropout; modes are as before afterwards."""
    dropouts = [module for module in model.modules() if isinstance(module, _DropoutNd) and module.p > 0]
    if not dropouts:
        raise ConfigurationError("the model drops nothing: build it with dropout= or block_dropout= above 0")
    modes = {module: module.training for module in model.modules()}
    try:
        model.eval()
        for dropout in dropouts:
            dropout.training = True
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


@torch.no_grad()
def mc_dropout(
    model: nn.Module,
    batch: Mapping[str, Any] | Tensor,
    passes: int = 20,
    activation: Activation = "softmax",
) -> Uncertainty:
    """Mean answer and uncertainty of a network with dropout (Gal and Ghahramani, 2016), only dropout being active.

    Args:
        model: takes images (B C H W), gives logits (B, K, ...).
        batch: a dict with an `image`, or the image.
        passes: 2 or more.
        activation: "softmax" for one class of K, "sigmoid" for K answers of yes or no, whose uncertainties then have
            the dimension K, "none" for numbers.

    Raises:
        ConfigurationError: a model without dropout, or fewer than two passes.
    """
    if activation not in get_args(Activation):
        raise ConfigurationError(f"activation={activation!r} is one of {', '.join(get_args(Activation))}")
    if passes < 2:
        raise ConfigurationError(f"passes={passes}: uncertainty needs two passes or more")
    image = batch if isinstance(batch, Tensor) else batch["image"]
    total = squares = own = torch.zeros((), device=image.device)
    with dropout_alone(model):
        for _ in range(passes):
            answer = model(image).float()
            if activation != "none":
                answer = answer.softmax(1) if activation == "softmax" else answer.sigmoid()
                own = own + _entropy(answer, activation)
            total, squares = total + answer, squares + answer.square()
    mean = total / passes
    variance = (squares / passes - mean.square()).clamp_min(0)
    if activation == "none":
        return Uncertainty(mean, None, None, variance)
    entropy = _entropy(mean, activation)
    return Uncertainty(mean, entropy, (entropy - own / passes).clamp_min(0), variance)


def _entropy(probability: Tensor, activation: Activation) -> Tensor:
    own: Tensor = torch.special.entr(probability)
    if activation == "softmax":
        return own.sum(1)
    other: Tensor = torch.special.entr(1 - probability)
    return own + other
