"""Writing what geoaug makes: GeoTIFF or COG tiles, and the manifest that lists them.

The names below are imported on first use, so that rasterio and geopandas are loaded only by what needs them.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from geoaug.io.geotiff import creation_options, write_geotiff
    from geoaug.io.manifest import MANIFEST_SCHEMA, Manifest, TileRecord, read_manifest

__all__ = [
    "MANIFEST_SCHEMA",
    "Manifest",
    "TileRecord",
    "creation_options",
    "read_manifest",
    "write_geotiff",
]

_HOMES = {
    "creation_options": "geotiff",
    "write_geotiff": "geotiff",
    "MANIFEST_SCHEMA": "manifest",
    "Manifest": "manifest",
    "TileRecord": "manifest",
    "read_manifest": "manifest",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'geoaug.io' has no attribute {name!r}")
    return getattr(importlib.import_module(f"geoaug.io.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
