"""A catalog from whatever a person names: a catalog, its file, or folders and files; split as it is asked for."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from geoaug.data.catalogs.catalog import Catalog
from geoaug.data.scenes.inputs import is_remote
from geoaug.data.splits.splitting import (
    split_by_attribute,
    split_by_blocks,
    split_by_chance,
    split_by_date,
    split_by_folder,
    split_into_folds,
)
from geoaug.errors import ConfigurationError

_SAVED = (".parquet", ".geoparquet")
_METHODS: dict[str, Callable[..., Catalog]] = {
    "blocks": split_by_blocks,
    "kfold": split_into_folds,
    "attribute": split_by_attribute,
    "date": split_by_date,
    "folder": split_by_folder,
    "random": split_by_chance,
}


def is_saved_catalog(source: object) -> bool:
    """Whether a source names the file of a catalog."""
    return isinstance(source, str | Path) and Path(source).suffix.lower() in _SAVED


def as_catalog(source: Catalog | str | Path | Sequence[str | Path], **options: Any) -> Catalog:
    """The catalog that a source is or names.

    Args:
        source: a catalog, its file (`.parquet`), or a folder, files or globs, whose headers are read now.
        **options: for indexing; see `geoaug.data.catalogs.indexing.index_files`.

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


def split_as(catalog: Catalog, how: Mapping[str, Any] | Callable[[Catalog], Catalog]) -> Catalog:
    """The catalog with splits.

    Args:
        catalog: to split.
        how: a method ("blocks", which is the default, "kfold", "attribute", "date", "folder" or "random") with the
            arguments of its function in `geoaug.data.splits.splitting`: {"method": "blocks", "buffer_m": 1000}; or a
            function of the catalog.

    Raises:
        ConfigurationError: no such method, or it has other arguments.
    """
    if callable(how):
        return how(catalog)
    arguments = dict(how)
    method = arguments.pop("method", "blocks")
    if method not in _METHODS:
        raise ConfigurationError(f"splits by {method!r}: methods are {', '.join(_METHODS)}")
    try:
        return _METHODS[method](catalog, **arguments)
    except TypeError as error:
        raise ConfigurationError(f"splits by '{method}': {error}") from error
