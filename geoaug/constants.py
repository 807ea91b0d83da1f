"""Small constant tensors, made once for each device: a copy from the host would break the capture of a CUDA graph."""

from collections.abc import Callable
from functools import lru_cache, wraps
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor

_MOST_KEPT = 1024

Given = ParamSpec("Given")
Made = TypeVar("Made", bound=Tensor | tuple[Tensor, ...])

_FORGET: list[Callable[[], None]] = []


def kept(make: Callable[Given, Made]) -> Callable[Given, Made]:
    """`make`, whose tensors are kept for each set of arguments; they must not be changed in place."""

    @lru_cache(maxsize=_MOST_KEPT)
    def made(*arguments: Given.args, **named: Given.kwargs) -> Made:
        # Made outside inference mode, so that calls in and out of it can share it.
        with torch.inference_mode(False):
            return make(*arguments, **named)

    @wraps(make)
    def found(*arguments: Given.args, **named: Given.kwargs) -> Made:
        # What is compiled has constants of its own.
        if torch.compiler.is_compiling():
            return make(*arguments, **named)
        return made(*arguments, **named)  # type: ignore[arg-type]

    _FORGET.append(made.cache_clear)
    return found


def forget() -> None:
    """Forget all constants, as tests must that made them of tensors without contents."""
    for clear in _FORGET:
        clear()


@kept
def constant(numbers: float | tuple[Any, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Numbers (a tuple of them, or of tuples) as a tensor that all callers share: it must not be changed in place."""
    return torch.tensor(numbers, dtype=dtype, device=device)
