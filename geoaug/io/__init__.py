"""Jobs and what they write: augmented tiles with their manifest, contact sheets, and rasters in general.

Begin with `augment_tiles` (the job from its start to its report) and `job` (what it is asked for). `intake` finds its
scenes, `source_tiles` reads them, `augmenter` makes the copies, `output` writes them, and `pipeline` does these three
at once. `preview` draws what a job would write. `geotiff` and `streamed` write rasters for everyone, `manifest` the
table.
Imports from `geoaug.data` and `geoaug.augment`, and knows nothing of models.

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
