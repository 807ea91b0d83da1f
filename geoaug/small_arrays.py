"""Arithmetic on the few numbers of a plan: by numpy on the CPU, where calling takes most of its time, else by torch.

A plan of sixteen samples is some hundreds of operations on a few hundred numbers, and numpy's calls take a third of
torch's or less. Functions for both are written in what the two have in common, and told by which they run.
"""

from collections.abc import Callable
from functools import wraps
from typing import Any, Concatenate, ParamSpec

import numpy as np
import torch
from torch import Tensor

Numbers = Any
"""A tensor, or an array of numpy: whatever plain arithmetic is done with."""

Given = ParamSpec("Given")


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
