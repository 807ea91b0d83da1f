"""Plain trees of frozen dataclasses, tuples and tensors: moved, cut to some rows, written as JSON and read back.

A plan is such a tree. What its parts mean is theirs; here they are only walked.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar

import torch
from torch import Tensor

Tree = TypeVar("Tree")

_KIND, _DTYPE = "kind", "dtype"


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
        return {_KIND: type(tree).__name__, **{f.name: to_record(getattr(tree, f.name)) for f in fields(tree)}}
    return tree


def from_record(record: Any, kinds: dict[str, type]) -> Any:
    """The tree that `to_record` wrote.

    Args:
        record: from JSON.
        kinds: the dataclasses that may stand in it, by name.
    """
    if isinstance(record, list):
        return tuple(from_record(part, kinds) for part in record)
    if not isinstance(record, dict):
        return record
    if _DTYPE in record:
        found = torch.tensor(record["values"], dtype=getattr(torch, record[_DTYPE]))
        return found.reshape(record["shape"]) if "shape" in record else found
    kind = kinds[record[_KIND]]
    return kind(**{name: from_record(value, kinds) for name, value in record.items() if name != _KIND})
