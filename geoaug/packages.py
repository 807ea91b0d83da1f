"""What other packages add to geoaug: what they offer by name, whether a file may have them imported, their versions.

Each registry (operations, products, samplers, tasks) knows its own names; here is what they decide alike. Importing is
running code, so nothing is imported because a file names it. A module may be imported if it has been before, if the
user allows its package by `imports=` or the environment variable `GEOAUG_IMPORTS` (names, separated by commas), or if
it was installed with an entry point of geoaug's: that is done on purpose.
"""

import os
import sys
from collections.abc import Container, Iterable
from functools import cache
from importlib.metadata import EntryPoint, PackageNotFoundError, entry_points, packages_distributions, version

IMPORTS_VARIABLE = "GEOAUG_IMPORTS"


def offered(group: str, taken: Container[str] = ()) -> dict[str, list[EntryPoint]]:
    """What installed packages offer under an entry-point group, by name, sorted; nothing is imported.

    Several that mean the same are given once, different ones of one name all. Names in `taken` are left out.
    """
    found: dict[str, list[EntryPoint]] = {}
    for point in sorted(entry_points(group=group), key=lambda point: point.name):
        if point.name in taken:
            continue
        same = found.setdefault(point.name, [])
        if all(other.value != point.value for other in same):
            same.append(point)
    return found


def may_import(module: str, imports: Iterable[str] = ()) -> bool:
    """Whether a module was imported before, or belongs to a package that may be: of `imports` or `GEOAUG_IMPORTS`."""
    allowed = allowed_packages(imports)
    return module in sys.modules or any(module == one or module.startswith(f"{one}.") for one in allowed)


def allowed_packages(imports: Iterable[str] = ()) -> set[str]:
    """The packages of `imports` and of `GEOAUG_IMPORTS`."""
    return {*imports, *(part.strip() for part in os.environ.get(IMPORTS_VARIABLE, "").split(","))} - {""}


def allow_import(package: str) -> None:
    """Let a package be imported from now on, in this process and in those that it starts."""
    before = os.environ.get(IMPORTS_VARIABLE)
    os.environ[IMPORTS_VARIABLE] = f"{before},{package}" if before else package


@cache
def package_of(module: str) -> tuple[str, str] | None:
    """Name and version of the distribution that a module belongs to; None for geoaug and kornia.

    Args:
        module: dotted name, which may go on with that of a class. One that belongs to no distribution is named by its
            first part, with its `__version__` or "unknown".
    """
    first = module.partition(".")[0]
    if first in ("", "geoaug", "kornia"):
        return None
    for distribution in packages_distributions().get(first, ()):
        try:
            return distribution, version(distribution)
        except PackageNotFoundError:
            continue
    return first, str(getattr(sys.modules.get(first), "__version__", "unknown"))
