"""The exceptions that geoaug raises on purpose.

Every message says what is wrong, where, and what to do about it. The command line turns a `ConfigurationError` into
exit code 2 and a `RasterError` into a named, skipped input and exit code 1.
"""


class GeoaugError(Exception):
    """Base of every error that geoaug raises on purpose."""


class ConfigurationError(GeoaugError):
    """Wrong use: a bad recipe, an unknown band or sensor, arguments that contradict each other."""


class RasterError(GeoaugError):
    """An input raster that cannot be used: unreadable, truncated, or of the wrong shape."""
