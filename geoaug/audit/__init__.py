"""Realism of a recipe: augmented tiles beside the untouched ones they are made from, in tests, measures and words.

Begin with `realism` (an audit from its start to its report) and `job` (what it is asked for); `call` is the function.
`tiles` reads, and has tiles augmented by `geoaug.io`; `sweep` says which operations are tried how strongly; `bench`
compares. What is measured of pixels is in `detail`, `artefacts` and `appearance`, and kept in a `description`;
`two_sample` tests, `measures` compares, `verdict` finds the words. `report` writes, `page` and `figures` are what a
person sees. Imports from `geoaug.io` and below, and knows nothing of models: one is given as a function.

The package is what `geoaug.audit(...)` calls, too: a function and its room share the name.
"""

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from geoaug.audit.job import AuditJob
    from geoaug.audit.results import AuditReport

__all__ = ["AuditJob", "AuditReport"]

_HOMES = {"AuditJob": "job", "AuditReport": "results"}


class _Audit(ModuleType):
    """A package that can be called as the function that it is named after."""

    def __call__(self, *arguments: Any, **options: Any) -> "AuditReport":
        """Audit recipes on data; see `geoaug.audit.call.audit`."""
        from geoaug.audit.call import audit

        return audit(*arguments, **options)


sys.modules[__name__].__class__ = _Audit


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'geoaug.audit' has no attribute {name!r}")
    return getattr(importlib.import_module(f"geoaug.audit.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
