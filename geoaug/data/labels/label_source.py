"""Class labels for tiles: what every source of labels offers, and opening one.

Labels come as a raster on any grid and CRS (`geoaug.data.labels.raster`) or as vectors
(`geoaug.data.labels.vector`); both answer for one tile at a time, on the tile's own grid.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from affine import Affine
from rasterio.crs import CRS

from geoaug.data.raster.inputs import is_remote
from geoaug.errors import ConfigurationError, RasterError

VECTOR_EXTENSIONS: tuple[str, ...] = (
    ".gpkg",
    ".shp",
    ".geojson",
    ".json",
    ".parquet",
    ".geoparquet",
    ".fgb",
    ".gml",
    ".kml",
    ".zip",
)

_DTYPES = (np.uint8, np.uint16, np.int16, np.int32)


class LabelSource(Protocol):
    """Labels that can be read for any tile, from any number of threads.

    `dtype` is that of every array that `read` gives, chosen so that it holds all ids and `ignore_index`.
    `class_names` names the ids where the source does (a text field); it is empty otherwise.
    """

    @property
    def path(self) -> str: ...

    @property
    def ignore_index(self) -> int: ...

    @property
    def dtype(self) -> np.dtype[Any]: ...

    @property
    def classes(self) -> tuple[int, ...]:
        """The ids that occur, sorted, without `ignore_index`."""

    @property
    def class_names(self) -> Mapping[int, str]: ...

    def read(self, transform: Affine, crs: CRS | str | None, height: int, width: int) -> npt.NDArray[Any]:
        """The ids (height, width) on the grid of a tile; `ignore_index` where there is no label."""

    def overlaps(self, transform: Affine, crs: CRS | str | None, height: int, width: int) -> bool:
        """Whether any label can lie on a grid; a raster's nodata is not looked at."""

    def close(self) -> None:
        """Close the files behind the labels."""


def open_labels(path: str | Path, *, field: str | None = None, ignore_index: int = 255) -> LabelSource:
    """Open the labels at `path`, a raster or a vector file, told apart by the extension or else by trying.

    `field` names the attribute that holds the class of a vector feature: a number is kept as the class id,
    text gets ids from 0 in the order of the sorted names, and without a field every feature is class 1. One
    layer of several is named after the path: `fields.gpkg|layername=parcels`.

    Raises `ConfigurationError` where the file is missing, is neither, or has no such field or layer.
    """
    name, _, layer = str(path).partition("|layername=")
    if not is_remote(name) and not name.startswith("/vsi") and ":" not in name and not Path(name).exists():
        raise ConfigurationError(f"{name}: no such file, wanted for labels")
    if Path(name).suffix.lower() in VECTOR_EXTENSIONS or layer:
        return _open_vector(name, field, layer or None, ignore_index)
    # Vectors bring geopandas along, which takes half a second to import.
    from geoaug.data.labels.raster import RasterLabels

    try:
        raster = RasterLabels(name, ignore_index=ignore_index)
    except RasterError:
        try:
            return _open_vector(name, field, None, ignore_index)
        except ConfigurationError as error:
            raise ConfigurationError(f"{name}: neither a raster nor a vector file of labels ({error})") from error
    if field is not None:
        raise ConfigurationError(f"{name}: is a raster, and the label field {field!r} applies to vectors only")
    return raster


def label_dtype(lowest: int, highest: int, ignore_index: int) -> np.dtype[Any]:
    """The smallest of uint8, uint16, int16 and int32 that holds ids from `lowest` to `highest` and
    `ignore_index`."""
    for candidate in _DTYPES:
        limits = np.iinfo(candidate)
        if limits.min <= min(lowest, ignore_index) and max(highest, ignore_index) <= limits.max:
            return np.dtype(candidate)
    raise ConfigurationError(
        f"class ids from {lowest} to {highest} and ignore_index {ignore_index} do not fit 32 bits: renumber the classes"
    )


def check_crs(path: str, labels: CRS | str | None, tile: CRS | str | None) -> None:
    """Raise `ConfigurationError` where only one of labels and tile says where on Earth it lies."""
    if (labels is None) == (tile is None):
        return
    lacking, having = (f"labels {path} have", "scene has") if labels is None else ("scene has", f"labels {path} have")
    raise ConfigurationError(
        f"the {lacking} no CRS and the {having} one: assign it first (rio edit-info --crs, or ogr2ogr -a_srs)"
    )


def _open_vector(path: str, field: str | None, layer: str | None, ignore_index: int) -> LabelSource:
    from geoaug.data.labels.vector import VectorLabels

    return VectorLabels(path, field=field, layer=layer, ignore_index=ignore_index)
