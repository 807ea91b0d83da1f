"""Plain trees of frozen dataclasses, tuples and tensors: moved, cut to some rows, written as JSON and read back.

A plan is such a tree, and its dataclasses are `PlanPart`s. What they mean is theirs; here they are only walked.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar

import torch
from torch import Tensor

from geoaug.errors import ConfigurationError

Tree = TypeVar("Tree")

_KIND, _DTYPE = "kind", "dtype"


_PARTS: dict[str, type[PlanPart]] = {}


class PlanPart:
    """Base of the frozen dataclasses that a plan is made of: known by name, so that a record of one can be read back.

    Fields hold tensors, other parts, tuples of them, or what JSON has (numbers, texts, None).
    """

    __slots__ = ()

    def __init_subclass__(cls, **arguments: Any) -> None:
        super().__init_subclass__(**arguments)
        _PARTS[_part_name(cls)] = cls


def _part_name(kind: type) -> str:
    """Class name of geoaug's own, and that of others with the module, since two may have called theirs the same."""
    own = kind.__module__.partition(".")[0] == "geoaug"
    return kind.__qualname__ if own else f"{kind.__module__}:{kind.__qualname__}"


def map_tensors(tree: Tree, change: Callable[[Tensor], Tensor]) -> Tree:
    """The same tree with every tensor replaced by `change(tensor)`; a tensor in two places stays one tensor."""
    return _mapped(tree, change, {})


def _mapped(tree: Tree, change: Callable[[Tensor], Tensor], done: dict[int, Tensor]) -> Tree:
    result: Any = tree
    if isinstance(tree, Tensor):
        if torch.compiler.is_compiling():
            return change(tree)  # type: ignore[return-value]
        if id(tree) not in done:
            done[id(tree)] = change(tree)
        result = done[id(tree)]
    elif isinstance(tree, tuple) and not hasattr(tree, "_fields"):
        result = tuple(_mapped(part, change, done) for part in tree)
    elif is_dataclass(tree) and not isinstance(tree, type):
        changes = {field.name: _mapped(getattr(tree, field.name), change, done) for field in fields(tree)}
        result = replace(tree, **changes)
    return result  # type: ignore[no-any-return]


def to_record(tree: Any) -> Any:
    """The tree as JSON has it: a dataclass with its kind, a tensor with its dtype."""
    if isinstance(tree, Tensor):
        record = {_DTYPE: str(tree.dtype).removeprefix("torch."), "values": tree.tolist()}
        # Of an empty one, nested lists tell nothing beyond the first dimension without extent.
        return record if tree.numel() else {**record, "shape": list(tree.shape)}
    if isinstance(tree, tuple):
        return [to_record(part) for part in tree]
    if is_dataclass(tree) and not isinstance(tree, type):
        return {_KIND: _part_name(type(tree)), **{f.name: to_record(getattr(tree, f.name)) for f in fields(tree)}}
    return tree


def from_record(record: Any) -> Any:
    """The tree that `to_record` wrote.

    Raises:
        ConfigurationError: a part of a kind that no imported module defines. Nothing is imported for a record.
    """
    if isinstance(record, list):
        return tuple(from_record(part) for part in record)
    if not isinstance(record, dict):
        return record
    if _DTYPE in record:
        found = torch.tensor(record["values"], dtype=getattr(torch, record[_DTYPE]))
        return found.reshape(record["shape"]) if "shape" in record else found
    name = record[_KIND]
    if name not in _PARTS:
        module = name.partition(":")[0] if ":" in name else "the module that defines it"
        raise ConfigurationError(
            f"the plan holds a '{name}', which is not known here: import {module} before reading it"
        )
    return _PARTS[name](**{field: from_record(value) for field, value in record.items() if field != _KIND})
