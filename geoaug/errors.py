"""The exceptions that geoaug raises on purpose.

Every message says what is wrong, where, and what to do about it. The command line turns a `ConfigurationError` into
exit code 2 and a `RasterError` into a named, skipped input and exit code 1.
"""

import difflib
from collections.abc import Mapping
from typing import Any


class GeoaugError(Exception):
    """Base of every error that geoaug raises on purpose.

    Attributes:
        path: of the file or address that is to blame, as it was named; None where no file is.
        scene: id of the scene that is to blame, None where none is.
        argument: name of the argument, option or field that is to blame, None where none is.
    """

    def __init__(
        self, message: str = "", *, path: str | None = None, scene: str | None = None, argument: str | None = None
    ) -> None:
        super().__init__(message)
        self.path, self.scene, self.argument = path, scene, argument

    def __reduce__(self) -> tuple[Any, ...]:
        # As it is, with its attributes, when a worker process hands it to another.
        return _again, (type(self), self.args, self.__dict__)


class ConfigurationError(GeoaugError):
    """Wrong use: a bad recipe, an unknown band or sensor, arguments that contradict each other."""


class RasterError(GeoaugError):
    """An input raster that cannot be used: unreadable, truncated, or of the wrong shape."""


def _again(kind: type[GeoaugError], args: tuple[Any, ...], state: dict[str, Any]) -> GeoaugError:
    error = kind.__new__(kind, *args)
    error.__dict__.update(state)
    return error


def did_you_mean(name: str, known: Mapping[str, str]) -> str:
    """Return " (did you mean 'x' or 'y'?)" for the nearest of `known` (label to the name to show), or ""."""
    near = dict.fromkeys(known[label] for label in difflib.get_close_matches(name, known, n=3, cutoff=0.6))
    return f" (did you mean {' or '.join(repr(n) for n in near)}?)" if near else ""
