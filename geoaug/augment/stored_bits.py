"""Unsigned 16-bit tensors as signed ones and back: torch indexes, flips and chooses those on every device."""

import torch
from torch import Tensor


def to_bits(tensor: Tensor) -> Tensor:
    """The same memory in a type that torch can index."""
    return tensor.view(torch.int16) if tensor.dtype == torch.uint16 else tensor


def from_bits(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """What `to_bits` took from a tensor of `dtype`, as that."""
    # A view of the same type is none: gradients would end at it.
    return tensor if tensor.dtype == dtype else tensor.view(dtype)
