"""What every source of class labels offers, and the checks that all of them share.

Labels come as a raster on any grid and CRS (`geoaug.data.labels.raster`) or as vectors (`geoaug.data.labels.vector`),
and are opened by `geoaug.data.labels.opening`; both answer for one tile at a time, on the tile's own grid.
"""

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from affine import Affine
from rasterio.crs import CRS

from geoaug.errors import ConfigurationError

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
