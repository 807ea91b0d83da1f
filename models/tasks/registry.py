"""Which tasks there are, by name, and what may be imported to get one.

A name is one of those below; one that an installed package offers under the entry-point group `geoaug.tasks`; or a
module and a class in it, as in `mylab.depth.DepthTask`. What a task is stands in `base`, each task in its own file.

Nothing outside geoaug is imported because a file says so; what may be is settled in `geoaug.packages`.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from geoaug.errors import ConfigurationError, did_you_mean
from geoaug.packages import IMPORTS_VARIABLE, allow_import, may_import, offered, package_of

if TYPE_CHECKING:
    TaskClass = type[Any]

__all__ = ["allow_imports_of", "find_task", "is_task_name", "package_of_task", "task_classes", "task_names"]

ENTRY_POINTS = "geoaug.tasks"

_BUILT_IN = {
    "classification": "geoaug.models.tasks.classification:ClassificationTask",
    "segmentation": "geoaug.models.tasks.segmentation:SegmentationTask",
    "regression": "geoaug.models.tasks.regression:RegressionTask",
    "change": "geoaug.models.tasks.change:ChangeTask",
}


def task_names() -> tuple[str, ...]:
    """Names of the built-in tasks, and of those that installed packages offer."""
    return (*_BUILT_IN, *offered(ENTRY_POINTS, _BUILT_IN))


def is_task_name(name: str) -> bool:
    """Whether a name may stand for a task; nothing is imported."""
    return name in task_names() or ("." in name and all(part.isidentifier() for part in name.split(".")))


def find_task(name: str, imports: Sequence[str] = ()) -> TaskClass:
    """The class of a task, a `GeoTask`.

    Args:
        name: see the module.
        imports: packages that may be imported for it, besides those of `GEOAUG_IMPORTS`.

    Raises:
        ConfigurationError: there is no such task, or its module may not be imported, or cannot.
    """
    if name in _BUILT_IN:
        module, _, attribute = _BUILT_IN[name].partition(":")
    elif (points := offered(ENTRY_POINTS).get(name)) is not None:
        if len(points) > 1:
            values = ", ".join(sorted(point.value.replace(":", ".") for point in points))
            raise ConfigurationError(
                f"task '{name}' is offered by several packages: name one of {values}", argument="task"
            )
        module, _, attribute = points[0].value.partition(":")
        imports = [*imports, module.strip()]  # installed on purpose
    elif is_task_name(name):
        module, _, attribute = name.rpartition(".")
    else:
        known = {one: one for one in task_names()}
        raise ConfigurationError(
            f"task '{name}' is not known{did_you_mean(name, known)}: there are {', '.join(known)}, or a class of your "
            "own by its module (mylab.depth.DepthTask)",
            argument="task",
        )
    return _class_in(name, module.strip(), attribute.strip(), imports)


def allow_imports_of(name: str) -> None:
    """Allow the package of a task that the user named by hand, in this process and in those that it starts."""
    package = _module_of(name).partition(".")[0]
    if package and package != "geoaug":
        allow_import(package)


def task_classes(imports: Sequence[str] = ()) -> dict[str, TaskClass]:
    """The built-in tasks and those that installed packages offer, by name."""
    return {name: find_task(name, imports) for name in task_names()}


def package_of_task(name: str) -> tuple[str, str] | None:
    """Name and version of the distribution that a task comes from; None for those of geoaug."""
    return package_of(_module_of(name))


def _module_of(name: str) -> str:
    if name in _BUILT_IN:
        return "geoaug"
    points = offered(ENTRY_POINTS).get(name)
    return name.rpartition(".")[0] if points is None else points[0].value.partition(":")[0].strip()


def _class_in(name: str, module: str, attribute: str, imports: Sequence[str]) -> TaskClass:
    if name not in _BUILT_IN and not may_import(module, imports):
        raise ConfigurationError(
            f"task '{name}' is defined in {module}, which is outside geoaug and is not imported because a file says "
            f"so: import it first, or allow its package by {IMPORTS_VARIABLE}={module.partition('.')[0]}",
            argument="task",
        )
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise ConfigurationError(f"task '{name}' cannot be imported from {module}: {error}", argument="task") from error
    if not (isinstance(found, type) and hasattr(found, "map_layers")):
        raise ConfigurationError(f"task '{name}': {module}.{attribute} is not a subclass of GeoTask", argument="task")
    return found
