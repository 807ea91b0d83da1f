"""Tensors of a few numbers: constants, made once for each device; arithmetic, by numpy on the CPU and else by torch.

A constant copied from the host would break the capture of a CUDA graph, so it is kept. A plan of sixteen samples is
some hundreds of operations on a few hundred numbers, and calling takes most of their time on the CPU, where numpy's
calls take a third of torch's or less. Functions for both are written in what the two have in common, and take the
module that they run by as `xp`.
"""

from collections.abc import Callable
from functools import lru_cache, wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

import numpy as np
import torch
from torch import Tensor

Numbers = Any
"""A tensor, or an array of numpy: whatever plain arithmetic is done with."""

Given = ParamSpec("Given")
Made = TypeVar("Made", bound=Tensor | tuple[Tensor, ...])

_MOST_KEPT = 1024
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


def by_numpy(function: Callable[Concatenate[Any, Given], Numbers]) -> Callable[Given, Tensor]:
    """`function(xp, ...)` of tensors, which sees arrays of numpy in their place where all of them lie on the CPU.

    Args:
        function: of `xp`, which is numpy or torch; of tensors, tuples of them, and anything else; and to a tensor. It
            changes nothing in place that it was given, and gives nothing of it back.
    """
    return _by_numpy(function)


def several_by_numpy(
    function: Callable[Concatenate[Any, Given], tuple[Numbers, ...]],
) -> Callable[Given, tuple[Tensor, ...]]:
    """`by_numpy` for a function to several tensors."""
    return _by_numpy(function)


def _by_numpy(function: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(function)
    def run(*given: Any) -> Any:
        arrays = None if torch.compiler.is_compiling() else _arrays(given)
        if arrays is None:
            return function(torch, *given)
        with np.errstate(all="ignore"):
            made = function(np, *arrays)
        return torch.from_numpy(made) if isinstance(made, np.ndarray) else tuple(map(torch.from_numpy, made))

    return run


def runs_by_numpy(*values: object) -> bool:
    """Whether what is done with these values on the CPU may be done by numpy."""
    return not torch.compiler.is_compiling() and _arrays(values) is not None


def at_least(xp: Any, values: Numbers, least: float) -> Numbers:
    """The greater one of each value and a number."""
    return np.maximum(values, least) if xp is np else values.clamp_min(least)


def _arrays(values: tuple[Any, ...]) -> list[Any] | None:
    """Arrays in place of tensors; None where numpy cannot look at one, or somebody asks for its gradient."""
    found: list[Any] = []
    for value in values:
        if isinstance(value, Tensor):
            if type(value) is not Tensor or not value.is_cpu or value.requires_grad:
                return None
            found.append(value.numpy())
        elif isinstance(value, tuple):
            inner = _arrays(value)
            if inner is None:
                return None
            found.append(value._make(inner) if hasattr(value, "_make") else tuple(inner))
        else:
            found.append(value)
    return found
