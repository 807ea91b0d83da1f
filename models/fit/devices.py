"""The machine that a training runs on: numbers it computes with, layout in memory, and which process this one is.

A network is measured and predicts in float32, whatever it was trained with. Lightning starts a process for each further
device by running the same command again; torchrun and SLURM start all of them. What is written once is written by the
first.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch
from torch import nn

__all__ = [
    "Precision",
    "bfloat16_reason",
    "device_of",
    "is_first_process",
    "lay_out",
    "prepared_for_others",
    "started_together",
]

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


_GLOBAL = ("RANK", "SLURM_PROCID", "JSM_NAMESPACE_RANK")
_NODE = ("NODE_RANK", "GROUP_RANK")
_COUNTS = {"RANK": "WORLD_SIZE", "LOCAL_RANK": "WORLD_SIZE", "SLURM_PROCID": "SLURM_NTASKS"}
_READY = "GEOAUG_FIT_READY"


def is_first_process() -> bool:
    """Whether this process is the first of its training, or the only one."""
    for name in _GLOBAL:
        if name in os.environ:
            return int(os.environ[name]) == 0
    local = int(os.environ.get("LOCAL_RANK", 0))
    return local == 0 and all(int(os.environ.get(name, 0)) == 0 for name in _NODE)


def started_together() -> bool:
    """Whether several processes run this command from its beginning, none of which waits for another."""
    if _READY in os.environ:
        return False
    counts = [int(os.environ.get(count, 1)) for rank, count in _COUNTS.items() if rank in os.environ]
    return not is_first_process() or any(count > 1 for count in counts)


@contextmanager
def prepared_for_others() -> Iterator[None]:
    """What is started within finds what the first process has prepared."""
    before = os.environ.get(_READY)
    os.environ[_READY] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[_READY]
        else:
            os.environ[_READY] = before
