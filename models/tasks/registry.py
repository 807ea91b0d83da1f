"""Which tasks there are, by name, and what may be imported to get one.

A name is one of those below; one that an installed package offers under the entry-point group `geoaug.tasks`; or a
module and a class in it, as in `mylab.depth.DepthTask`. What a task is stands in `base`, each task in its own file.

Nothing outside geoaug is imported because a file says so: the module of a task has been imported already, or its
package is among those that the user allows, by `imports=` or in the environment variable `GEOAUG_IMPORTS` (names of
packages, separated by commas).
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from importlib.metadata import EntryPoint, PackageNotFoundError, entry_points, packages_distributions, version
from typing import TYPE_CHECKING, Any

from geoaug.errors import ConfigurationError, did_you_mean

if TYPE_CHECKING:
    TaskClass = type[Any]

__all__ = ["allow_imports_of", "find_task", "is_task_name", "package_of_task", "task_classes", "task_names"]

ENTRY_POINTS = "geoaug.tasks"
IMPORTS_VARIABLE = "GEOAUG_IMPORTS"

_BUILT_IN = {
    "classification": "geoaug.models.tasks.classification:ClassificationTask",
    "segmentation": "geoaug.models.tasks.segmentation:SegmentationTask",
    "regression": "geoaug.models.tasks.regression:RegressionTask",
    "change": "geoaug.models.tasks.change:ChangeTask",
}


def task_names() -> tuple[str, ...]:
    """Names of the built-in tasks, and of those that installed packages offer."""
    return (*_BUILT_IN, *_offered())


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
    elif (point := _offered().get(name)) is not None:
        module, _, attribute = point.value.partition(":")
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
        before = os.environ.get(IMPORTS_VARIABLE)
        os.environ[IMPORTS_VARIABLE] = package if not before else f"{before},{package}"


def task_classes(imports: Sequence[str] = ()) -> dict[str, TaskClass]:
    """The built-in tasks, and of those that packages offer the ones that may be imported, by name."""
    return {name: find_task(name, imports) for name in task_names() if name in _BUILT_IN or _may_import(name, imports)}


def package_of_task(name: str) -> tuple[str, str] | None:
    """Name and version of the distribution that a task comes from; None for those of geoaug.

    A package that belongs to no distribution is named by itself, with its `__version__` or "unknown".
    """
    first = _module_of(name).partition(".")[0]
    if first in ("", "geoaug"):
        return None
    for distribution in packages_distributions().get(first, ()):
        try:
            return distribution, version(distribution)
        except PackageNotFoundError:
            continue
    return first, str(getattr(sys.modules.get(first), "__version__", "unknown"))


def _offered() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=ENTRY_POINTS) if point.name not in _BUILT_IN}


def _module_of(name: str) -> str:
    if name in _BUILT_IN:
        return "geoaug"
    point = _offered().get(name)
    return name.rpartition(".")[0] if point is None else point.value.partition(":")[0].strip()


def _may_import(name: str, imports: Sequence[str]) -> bool:
    module = _module_of(name)
    allowed = {*imports, *filter(None, os.environ.get(IMPORTS_VARIABLE, "").replace(" ", "").split(","))}
    return module in sys.modules or any(module == one or module.startswith(f"{one}.") for one in allowed)


def _class_in(name: str, module: str, attribute: str, imports: Sequence[str]) -> TaskClass:
    if name not in _BUILT_IN and not _may_import(name, imports):
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
