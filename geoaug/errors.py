"""The exceptions that geoaug raises on purpose.

Every message says what is wrong, where, and what to do about it. The command line turns a `ConfigurationError` into
exit code 2 and a `RasterError` into a named, skipped input and exit code 1.
"""

import difflib
from collections.abc import Mapping


class GeoaugError(Exception):
    """Base of every error that geoaug raises on purpose."""


class ConfigurationError(GeoaugError):
    """Wrong use: a bad recipe, an unknown band or sensor, arguments that contradict each other."""


class RasterError(GeoaugError):
    """An input raster that cannot be used: unreadable, truncated, or of the wrong shape."""


def did_you_mean(name: str, known: Mapping[str, str]) -> str:
    """Return " (did you mean 'x' or 'y'?)" for the nearest of `known` (label to the name to show), or ""."""
    near = dict.fromkeys(known[label] for label in difflib.get_close_matches(name, known, n=3, cutoff=0.6))
    return f" (did you mean {' or '.join(repr(n) for n in near)}?)" if near else ""
