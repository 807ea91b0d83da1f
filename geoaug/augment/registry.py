"""Operations by name, and the check of their arguments: what a recipe may say."""

import difflib
import importlib
import inspect
from collections.abc import Mapping
from functools import cache
from typing import Any, get_type_hints

import kornia.augmentation as K
from kornia.augmentation.base import _BasicAugmentationBase as KorniaAugmentation
from pydantic import BaseModel, ConfigDict, ValidationError, create_model
from torch import nn

from geoaug.augment.operations.base import GeometricOperation, RadiometricOperation
from geoaug.augment.operations.policies import Policy
from geoaug.errors import ConfigurationError

_HOMES = (
    "atmosphere",
    "clouds",
    "detector",
    "geometric",
    "illumination",
    "optics",
    "policies",
    "sar",
    "sensor_noise",
    "sun",
)
_STOCK = "kornia."
_MIXES = ("RandomCutMix", "RandomMixUp", "RandomSlideMix")


class OperationError(ConfigurationError):
    """An operation that cannot be built, and which of its arguments is to blame (None: the operation itself)."""

    def __init__(self, message: str, argument: str | None = None) -> None:
        super().__init__(message)
        self.argument = argument


@cache
def own_operations() -> dict[str, type[nn.Module]]:
    """geoaug's operations by class name."""
    found: dict[str, type[nn.Module]] = {}
    for home in _HOMES:
        module = importlib.import_module(f"geoaug.augment.operations.{home}")
        for name, value in vars(module).items():
            own = inspect.isclass(value) and issubclass(value, (GeometricOperation, RadiometricOperation, Policy))
            own = own and value is not Policy
            if own and value.__module__ == module.__name__ and not name.startswith("_"):
                found[name] = value
    return found


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


def find_operation(name: str) -> type[nn.Module]:
    """The class of an operation; an unknown name is answered with the nearest right ones."""
    every = {**own_operations(), **stock_operations()}
    if name in every:
        return every[name]
    if name in _MIXES:
        raise OperationError(
            f"'{name}' mixes the samples of a batch; in training, apply it to the batch after the recipe"
        )
    if _STOCK + name in every:
        raise OperationError(f"'{name}' is kornia's: write '{_STOCK}{name}'")
    near = difflib.get_close_matches(name, every, n=3, cutoff=0.6)
    hint = f"did you mean {' or '.join(near)}?" if near else f"operations are {' '.join(own_operations())}"
    raise OperationError(f"'{name}' is not an operation; {hint}")


def check_arguments(name: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of an operation, converted to their types and completed with the defaults.

    Raises:
        OperationError: an argument that the operation does not have, lacks, or cannot read.
    """
    kind = find_operation(name)
    allowed = [parameter for parameter in inspect.signature(kind).parameters if parameter != "sensor"]
    for argument in arguments:
        if argument not in allowed:
            near = difflib.get_close_matches(argument, allowed, n=1, cutoff=0.5)
            hint = f"did you mean '{near[0]}'?" if near else f"it takes {', '.join(allowed)}"
            raise OperationError(f"{name} has no argument '{argument}'; {hint}", argument)
    if name.startswith(_STOCK):
        return {argument: _as_tuples(value) for argument, value in arguments.items()}
    try:
        return dict(_arguments_model(name)(**arguments))
    except ValidationError as error:
        first = error.errors()[0]
        argument = str(first["loc"][0])
        given = "" if first["type"] == "missing" else f", not {arguments.get(argument)!r}"
        raise OperationError(f"{name}: {argument}: {first['msg'].lower()}{given}", argument) from None


def build_operation(name: str, arguments: Mapping[str, Any]) -> nn.Module:
    """An operation from its name and arguments.

    Raises:
        OperationError: see `check_arguments`; also a value out of its range.
    """
    checked = check_arguments(name, arguments)
    try:
        return find_operation(name)(**checked)
    except ConfigurationError as error:
        message = str(error) if str(error).startswith(name) else f"{name}: {error}"
        blamed = next((argument for argument in arguments if f"{argument}=" in message), None)
        raise OperationError(message, blamed) from None
    except (TypeError, ValueError, RuntimeError, AssertionError, LookupError) as error:
        if not name.startswith(_STOCK):
            raise
        raise OperationError(f"{name}: {error}") from error


@cache
def _arguments_model(name: str) -> type[BaseModel]:
    kind = find_operation(name)
    hints = get_type_hints(kind.__init__)
    fields: dict[str, Any] = {}
    for argument, parameter in inspect.signature(kind).parameters.items():
        if argument != "sensor":
            default = ... if parameter.default is inspect.Parameter.empty else parameter.default
            fields[argument] = (hints[argument], default)
    return create_model(kind.__name__, __config__=ConfigDict(extra="forbid"), **fields)


def _as_tuples(value: Any) -> Any:
    return tuple(_as_tuples(part) for part in value) if isinstance(value, list) else value
