"""What a network says of a batch, as probabilities or numbers: views averaged, uncertainties behind them.

Shared by maps (`predict`) and tables (`predict_chips`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from geoaug.augment.test_time import TestTime
from geoaug.errors import ConfigurationError
from geoaug.models.networks.card import ModelCard
from geoaug.models.networks.dropout import dropout_alone
from geoaug.models.tasks.registry import find_task

__all__ = ["Answer", "Precision", "answering"]

Precision = Literal["float32", "bfloat16"]


@contextmanager
def answering(precision: Precision, device: str | torch.device) -> Iterator[None]:
    """Within it networks answer without gradients, and multiply at a precision; the network is moved before.

    What is moved within could not be trained any more.
    """
    if precision not in get_args(Precision):
        raise ConfigurationError(f"precision={precision!r} is one of {', '.join(get_args(Precision))}")
    half = precision == "bfloat16"
    with torch.inference_mode(), torch.autocast(torch.device(device).type, torch.bfloat16, enabled=half):
        yield


class Answer:
    """Probabilities or numbers of a batch of windows, with uncertainties behind them where asked for."""

    def __init__(self, network: nn.Module, card: ModelCard, views: TestTime, passes: int) -> None:
        # Convolutions are faster where the channels of a pixel lie together.
        self.network: nn.Module = network.to(memory_format=torch.channels_last)
        self.card, self.views, self.passes = card, views, passes
        self.task = find_task(card.task)

    def __call__(self, image: Tensor) -> Tensor:
        if image.device.type == "cpu":
            # Alone, because torch chooses its kernels by the size of the batch; one window keeps all cores busy.
            return torch.cat([self._of(one) for one in image.split(1)])  # type: ignore[no-untyped-call]
        return self._of(image)

    def _of(self, image: Tensor) -> Tensor:
        if not self.passes:
            answers: Tensor = self.task.in_units(self.card, self._seen(image))
            return answers
        total = own = torch.zeros((), device=image.device)
        with dropout_alone(self.network):
            for _ in range(self.passes):
                seen = self._seen(image)
                total, own = total + seen, own + self.task.entropy(self.card, seen)
        mean = total / self.passes
        entropy = self.task.entropy(self.card, mean)
        return torch.cat((mean, entropy, (entropy - own / self.passes).clamp_min(0)), 1)

    def _seen(self, image: Tensor) -> Tensor:
        seen: Tensor = self.views(self._logits, image, activation=self.task.activation(self.card))
        return seen

    def _logits(self, image: Tensor) -> Tensor:
        logits: Tensor = self.network(image.contiguous(memory_format=torch.channels_last))
        return logits.float()
