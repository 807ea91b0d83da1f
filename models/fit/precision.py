"""Which numbers a training computes with on a device, and how its network lies in memory there.

Training alone: a network is measured and predicts in float32, whatever it was trained with.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import nn

__all__ = ["Precision", "bfloat16_reason", "device_of", "lay_out"]

Precision = Literal["32-true", "bf16-mixed"]
"""What Lightning's `Trainer` calls them."""

_LEAST_CAPABILITY = 8  # Ampere: tensor cores that take bfloat16


def device_of(accelerator: str) -> torch.device:
    """The device that Lightning takes for "auto", "cpu", "gpu" or "cuda"; the CPU for what is none of these."""
    if accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("cpu")


def bfloat16_reason(device: torch.device) -> str | None:
    """Why a training in bfloat16 and channels-last memory is the faster one on a device; None where it is not."""
    if device.type == "cuda":
        capability = torch.cuda.get_device_capability(device)
        if capability[0] >= _LEAST_CAPABILITY:
            return f"a GPU of capability {capability[0]}.{capability[1]} computes with it several times faster"
    elif device.type == "cpu" and torch.cpu._is_avx512_bf16_supported():
        return "this CPU has instructions for it, and takes a third to two thirds of the time"
    return None


def lay_out(network: nn.Module, device: torch.device) -> None:
    """Put the bands of a pixel together in memory (channels last) where the device is good at bfloat16.

    The values stay, and files of weights do not know of it.
    """
    if bfloat16_reason(device) is not None:
        network.to(memory_format=torch.channels_last)
