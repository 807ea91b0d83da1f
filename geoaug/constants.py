"""Small constant tensors, made once for each device: a copy from the host would break the capture of a CUDA graph."""

from functools import lru_cache

import torch
from torch import Tensor

_MOST_KEPT = 1024


@lru_cache(maxsize=_MOST_KEPT)
def constant(numbers: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """The numbers as a tensor that all callers share: it is to be read, and never changed in place."""
    # Made outside inference mode, so that calls in and out of it can share it.
    with torch.inference_mode(False):
        return torch.tensor(numbers, dtype=dtype, device=device)
