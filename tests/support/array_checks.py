"""The run-time checker that the import hook of the tests applies: shapes and types of arrays, and nothing else.

Other annotations are mypy's business, and a wrong argument is the project's own: it has to reach the code that answers
it with a `ConfigurationError`, and tests check that it does.
"""

from collections.abc import Callable
from inspect import isclass
from typing import Any, TypeVar, get_args

from beartype import beartype
from jaxtyping import AbstractArray

Function = TypeVar("Function", bound=Callable[..., Any])


def check_arrays(function: Function) -> Function:
    """Let beartype check those parameters and results of `function` whose annotation names an array.

    The hook hands over a stand-in that it made with the annotations of the real function, so they may be changed.
    """
    arrays = {name: hint for name, hint in function.__annotations__.items() if _names_an_array(hint)}
    if not arrays:
        return function
    function.__annotations__ = arrays
    return beartype(function)


def _names_an_array(hint: Any) -> bool:
    if isclass(hint) and issubclass(hint, AbstractArray):
        return True
    return any(_names_an_array(part) for part in get_args(hint))
