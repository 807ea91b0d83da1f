"""Parameters that several constructors share, written once and still shown by `help()`, completion and `--help`.

A frozen dataclass holds the parameters with their defaults and their documentation; a constructor takes them as
`**options: Unpack[...]` of a typed dict with the same names, and `shares_options` shows them where people and programs
look: in the signature, and in the docstring of the class.
"""

import dataclasses
import inspect
import typing
from collections.abc import Callable, Collection
from typing import Any, TypeVar

T = TypeVar("T", bound=type[Any])


def shares_options(options: type[Any], *, without: Collection[str] = ()) -> Callable[[T], T]:
    """A decorator of a class whose `__init__` ends in `**options`, which are the fields of a dataclass.

    Args:
        options: the dataclass. Each line of the section `Args:` of its docstring goes to that of the class.
        without: fields that the class does not take.

    The class gets the fields that it does not name itself as parameters by keyword, with types and defaults.
    """

    def decorate(cls: T) -> T:
        own = dict(inspect.signature(cls.__init__).parameters)
        rest = next(name for name, one in own.items() if one.kind is inspect.Parameter.VAR_KEYWORD)
        del own[rest]
        hints = typing.get_type_hints(options)
        own_hints = typing.get_type_hints(cls.__init__)
        for name, one in own.items():
            own[name] = one.replace(annotation=own_hints.get(name, one.annotation))
        taken = [field for field in dataclasses.fields(options) if field.name not in (*own, *without)]
        for field in taken:
            own[field.name] = inspect.Parameter(
                field.name, inspect.Parameter.KEYWORD_ONLY, default=_default(field), annotation=hints[field.name]
            )
        cls.__init__.__signature__ = inspect.Signature(list(own.values()), return_annotation=None)
        described = _described(options)
        lines = [line for field in taken for line in described.get(field.name, ())]
        cls.__doc__ = _with_arguments(cls.__doc__ or "", rest, lines)
        return cls

    return decorate


def _default(field: "dataclasses.Field[Any]") -> Any:
    if field.default is not dataclasses.MISSING:
        return field.default
    return field.default_factory() if field.default_factory is not dataclasses.MISSING else inspect.Parameter.empty


def _described(options: type[Any]) -> dict[str, list[str]]:
    """The lines about each field in the docstrings of a dataclass and of those that it inherits from."""
    found: dict[str, list[str]] = {}
    for one in reversed(options.__mro__):
        section, name = False, ""
        for line in inspect.cleandoc(one.__doc__ or "").splitlines():
            if not line.startswith(" "):
                section = line.rstrip() in ("Args:", "Attributes:")
                continue
            if section and line.startswith("    ") and line[4:5] != " ":
                name = line.strip().partition(":")[0]
                found[name] = []
            if section and name:
                found[name].append(line)
    return found


def _with_arguments(text: str, rest: str, lines: list[str]) -> str:
    """A docstring with lines in place of that about `**options`, which ends its arguments."""
    kept: list[str] = []
    for line in inspect.cleandoc(text).splitlines():
        if line.strip().startswith(f"**{rest}:"):
            kept += lines
        else:
            kept.append(line)
    return "\n".join(kept)
