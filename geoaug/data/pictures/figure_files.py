"""Figures as files: whole or not at all, in the format that the name asks for."""

import tempfile
from pathlib import Path

from matplotlib.figure import Figure

from geoaug.errors import ConfigurationError

_FORMATS = (".png", ".pdf", ".svg", ".jpg")


def save_figure(figure: Figure, path: str | Path) -> None:
    """Write a figure to `path`; a file that is there is replaced.

    Raises:
        ConfigurationError: another format, or a place that cannot be written to.
    """
    path = Path(path)
    if path.suffix.lower() not in _FORMATS:
        raise ConfigurationError(f"{path}: pictures end in {', '.join(_FORMATS)}")
    if not path.absolute().parent.is_dir():
        raise ConfigurationError(f"{path}: the folder {path.parent} does not exist")
    try:
        with tempfile.TemporaryDirectory(dir=path.absolute().parent, prefix=".geoaug-") as scratch:
            unfinished = Path(scratch) / f"figure{path.suffix.lower()}"
            figure.savefig(unfinished)
            unfinished.replace(path)
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be written ({error.strerror or error})") from error
