"""Small constant tensors, made once for each device: a copy from the host would break the capture of a CUDA graph."""

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

_MOST_KEPT = 1024


@lru_cache(maxsize=_MOST_KEPT)
def constant(numbers: float | tuple[Any, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Numbers (a tuple of them, or of tuples) as a tensor that all callers share: it must not be changed in place."""
    # Made outside inference mode, so that calls in and out of it can share it.
    with torch.inference_mode(False):
        return torch.tensor(numbers, dtype=dtype, device=device)
