"""A catalog from whatever a person names: a catalog itself, its file, or folders and files to be indexed now."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from geoaug.data.catalog import Catalog
from geoaug.data.inputs import is_remote
from geoaug.errors import ConfigurationError

_SAVED = (".parquet", ".geoparquet")


def is_saved_catalog(source: object) -> bool:
    """Whether a source names the file of a catalog."""
    return isinstance(source, str | Path) and Path(source).suffix.lower() in _SAVED


def as_catalog(source: Catalog | str | Path | Sequence[str | Path], **options: Any) -> Catalog:
    """The catalog that a source is or names.

    Args:
        source: a catalog, its file (`.parquet`), or a folder, files or globs, whose headers are read now.
        **options: for indexing; see `geoaug.data.indexing.index_files`.

    Raises:
        ConfigurationError: nothing there, or options for a catalog that exists.
    """
    if isinstance(source, Catalog) or is_saved_catalog(source):
        if options:
            raise ConfigurationError(f"{', '.join(options)}: said when files are indexed, and this catalog is made")
        return source if isinstance(source, Catalog) else Catalog.open(source)  # type: ignore[arg-type]
    if isinstance(source, str | Path):
        if not is_remote(str(source)) and Path(source).is_dir():
            return Catalog.from_folder(source, **options)
        source = [source]
    return Catalog.from_files(source, **options)
