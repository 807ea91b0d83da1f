"""Operations by name, and the check of their arguments: what a recipe may say.

A name is that of a class of geoaug; that of a class of kornia after `kornia.`; one that an installed package offers
under the entry-point group `geoaug.operations`; or a module and a class in it, as in `mylab.RandomSnow`. What
operations do is in `operations`, what a recipe looks like in `recipe`.

Nothing is imported because a name says so; what may be is settled in `geoaug.packages`.
"""

import difflib
import importlib
import inspect
import sys
from collections.abc import Hashable, Iterator, Mapping, Sequence
from functools import cache
from importlib.metadata import EntryPoint
from typing import Any, cast

import kornia.augmentation as K
from kornia.augmentation.base import _BasicAugmentationBase as KorniaAugmentation
from pydantic import BaseModel, ConfigDict, ValidationError, create_model
from torch import nn

from geoaug.augment.operations.base import Operation
from geoaug.errors import ConfigurationError, did_you_mean
from geoaug.packages import IMPORTS_VARIABLE, allowed_packages, may_import, offered

ENTRY_POINTS = "geoaug.operations"

_OWN = "geoaug.augment.operations."
_STOCK = "kornia."


class OperationError(ConfigurationError):
    """An operation that cannot be built; `argument` is the one to blame, None where it is the operation itself."""


@cache
def own_operations() -> dict[str, type[nn.Module]]:
    """geoaug's operations by class name, those of one module together."""
    found = [each for each in _subclasses(Operation) if each.__module__.startswith(_OWN) and _finished(each)]
    return {each.__name__: each for each in sorted(found, key=lambda each: each.__module__)}


@cache
def stock_operations() -> dict[str, type[nn.Module]]:
    """Stock kornia operations by class name with the prefix `kornia.`."""
    return {
        _STOCK + name: value
        for name, value in vars(K).items()
        if inspect.isclass(value)
        and issubclass(value, KorniaAugmentation)
        and not issubclass(value, K.MixAugmentationBaseV2)
        and "Base" not in name
        and not name.endswith("3D")
    }


def operation_name(operation: type) -> str:
    """The name by which a recipe names an operation of this class, without regard to entry points."""
    if operation.__module__.startswith(_OWN):
        return operation.__name__
    if operation.__module__.startswith("kornia."):
        return _STOCK + operation.__name__
    return f"{operation.__module__}.{operation.__qualname__}"


def find_operation(name: str, imports: Sequence[str] = ()) -> type[nn.Module]:
    """The class of an operation.

    Args:
        name: see the module.
        imports: packages that may be imported for a dotted name, besides those of `GEOAUG_IMPORTS`.

    Raises:
        OperationError: there is no such operation (the message has the nearest right names), or its module may not be
            imported, or cannot.
    """
    every = {**own_operations(), **stock_operations()}
    if name in every:
        return every[name]
    mixes = {mix.__name__ for mix in _subclasses(K.MixAugmentationBaseV2)}
    if name.removeprefix(_STOCK) in mixes:
        raise OperationError(
            f"'{name}' mixes the samples of a batch; in training, apply it to the batch after the recipe"
        )
    added = offered(ENTRY_POINTS)
    if name in added:
        return _loaded(name, added[name])
    if _STOCK + name in every:
        raise OperationError(f"'{name}' is kornia's: write '{_STOCK}{name}'")
    module, _, attribute = name.rpartition(".")
    if module and not name.startswith(_STOCK):
        return _from_module(name, module, attribute, imports)
    near = difflib.get_close_matches(name, [*every, *added], n=3, cutoff=0.6)
    hint = f"did you mean {' or '.join(near)}?" if near else f"operations are {' '.join([*own_operations(), *added])}"
    raise OperationError(f"'{name}' is not an operation; {hint}")


def check_arguments(name: str, arguments: Mapping[str, Any], imports: Sequence[str] = ()) -> dict[str, Any]:
    """The arguments of an operation, converted to their types and completed with the defaults.

    Raises:
        OperationError: see `find_operation`; or an argument that the operation does not have, lacks, or cannot read.
    """
    operation = find_operation(name, imports)
    parameters = [part for part in inspect.signature(operation).parameters.values() if part.name != "sensor"]
    if not any(part.kind is inspect.Parameter.VAR_KEYWORD for part in parameters):
        allowed = [part.name for part in parameters]
        for argument in arguments:
            if argument not in allowed:
                near = difflib.get_close_matches(argument, allowed, n=1, cutoff=0.5)
                hint = f"did you mean '{near[0]}'?" if near else f"it takes {', '.join(allowed)}"
                raise OperationError(f"{name} has no argument '{argument}'; {hint}", argument=argument)
    if not issubclass(operation, Operation):
        return {argument: _as_tuples(value) for argument, value in arguments.items()}
    try:
        return dict(_arguments_model(cast(Hashable, operation))(**arguments))
    except ValidationError as error:
        first = error.errors()[0]
        argument = str(first["loc"][0])
        given = "" if first["type"] == "missing" else f", not {arguments.get(argument)!r}"
        raise OperationError(f"{name}: {argument}: {first['msg'].lower()}{given}", argument=argument) from None


def build_operation(name: str, arguments: Mapping[str, Any], imports: Sequence[str] = ()) -> nn.Module:
    """An operation from its name and arguments.

    Raises:
        OperationError: see `check_arguments`; also a value out of its range.
    """
    checked = check_arguments(name, arguments, imports)
    for inner in operations_within(arguments):
        find_operation(inner, imports)  # imports what the policy will look for by its name
    operation = find_operation(name, imports)
    try:
        return operation(**checked)
    except ConfigurationError as error:
        raise OperationError(f"{name}: {error}", argument=error.argument) from None
    except (TypeError, ValueError, RuntimeError, AssertionError, LookupError) as error:
        if operation.__module__.startswith(_OWN):
            raise
        raise OperationError(f"{name}: {error}") from error


def operations_within(arguments: Mapping[str, Any]) -> list[str]:
    """Names of the operations that a policy's arguments list."""
    listed = arguments.get("operations")
    if not isinstance(listed, list | tuple):
        return []
    names = [[each] if isinstance(each, str) else list(each) if isinstance(each, Mapping) else [] for each in listed]
    return [str(name) for part in names for name in part]


def _subclasses(base: type) -> Iterator[type]:
    kinds: list[type] = base.__subclasses__()
    for kind in kinds:
        yield kind
        yield from _subclasses(kind)


def _finished(operation: type) -> bool:
    """Whether the class is public and leaves no method to its subclasses."""
    left = (inspect.getattr_static(operation, name) for name in dir(operation))
    return not operation.__name__.startswith("_") and not any(getattr(m, "__isabstractmethod__", False) for m in left)


def _loaded(name: str, points: list[EntryPoint]) -> type[nn.Module]:
    if len(points) > 1:
        values = ", ".join(sorted(point.value.replace(":", ".") for point in points))
        raise OperationError(f"'{name}' is offered by several packages: name one of {values}")
    [point] = points
    try:
        return _checked(name, point.load())
    except OperationError:
        raise
    except Exception as error:
        owner = "" if point.dist is None else f" of {point.dist.name}"
        raise OperationError(
            f"'{name}'{owner} cannot be imported from {point.value}: {type(error).__name__}: {error}"
        ) from error


def _from_module(name: str, module: str, attribute: str, imports: Sequence[str]) -> type[nn.Module]:
    if module not in sys.modules:
        first = module.partition(".")[0]
        if not may_import(module, imports):
            allowed = allowed_packages(imports)
            hint = did_you_mean(first, {one: one for one in allowed if one != first})
            raise OperationError(
                f"'{name}' is from a module that has not been imported, and a recipe imports none by itself{hint}; if "
                f"you trust it, set {IMPORTS_VARIABLE}={first}, or in Python say load_recipe(..., imports=['{first}'])"
            )
        try:
            importlib.import_module(module)
        except ModuleNotFoundError as error:
            if error.name is None or not f"{module}.".startswith(f"{error.name}."):
                raise OperationError(f"'{name}': importing {module} fails: {error}") from error
            raise OperationError(
                f"'{name}': there is no module '{error.name}' here; install the package that it is in, or put its "
                "folder on PYTHONPATH"
            ) from None
        except Exception as error:
            raise OperationError(f"'{name}': importing {module} fails: {type(error).__name__}: {error}") from error
    # What the module holds, not what it would import when asked.
    held = vars(sys.modules[module])
    if attribute not in held:
        there = [each for each, value in held.items() if _is_operation(value)]
        near = difflib.get_close_matches(attribute, there, n=1, cutoff=0.5) or there[:5]
        hint = f"did you mean {' or '.join(f'{module}.{each}' for each in near)}?" if near else "it has no operation"
        raise OperationError(f"'{name}': the module {module} has no '{attribute}'; {hint}")
    return _checked(name, held[attribute])


def _is_operation(value: Any) -> bool:
    known = inspect.isclass(value) and issubclass(value, (Operation, KorniaAugmentation))
    return known and not issubclass(value, K.MixAugmentationBaseV2)


def _checked(name: str, found: Any) -> type[nn.Module]:
    if not _is_operation(found):
        raise OperationError(
            f"'{name}' is not an operation: one is a class on the base classes of geoaug.augment "
            "(RadiometricOperation, GeometricOperation, StencilOperation) or on those of kornia"
        )
    operation: type[nn.Module] = found
    return operation


@cache
def _arguments_model(operation: Any) -> type[BaseModel]:
    fields: dict[str, Any] = {}
    extra: Any = "forbid"
    for name, parameter in inspect.signature(operation).parameters.items():
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            extra = "allow"
        elif name != "sensor":
            default = ... if parameter.default is inspect.Parameter.empty else parameter.default
            unknown = parameter.annotation is inspect.Parameter.empty or isinstance(parameter.annotation, str)
            fields[name] = (Any if unknown else parameter.annotation, default)
    return create_model(operation.__name__, __config__=ConfigDict(extra=extra, arbitrary_types_allowed=True), **fields)


def _as_tuples(value: Any) -> Any:
    return tuple(_as_tuples(part) for part in value) if isinstance(value, list) else value
