"""What a catalog knows of a scene: the files of its bands, its grid, its labels; and which tile of it is meant.

Immutable values that travel between threads and processes. They are made from headers by
`geoaug.data.catalog.index`, kept in tables by `geoaug.data.catalog.catalog`, and read by `geoaug.data.raster.reading`.
Nothing here opens a file.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import numpy as np

from geoaug.data.raster.grid import Grid
from geoaug.data.raster.window import Window
from geoaug.errors import ConfigurationError
from geoaug.sensors import Sensor, generic_sensor, get_sensor


@dataclass(frozen=True, slots=True)
class BandFile:
    """A band and where it is stored.

    Attributes:
        name: as in the sensor.
        path: of the file, as GDAL reads it.
        index: 1-based, in the file.
        grid: of the file.
        dtype: numpy's name of the stored type.
        nodata: the stored value that means "no data", None where none does.
        block_shape: (rows, columns) that are compressed together.
        has_mask: whether the file has a mask or an alpha band for this band.
        quantification: with `offset`, reflectance = (DN + offset) / quantification.
        offset: in DN.
        alpha: 1-based index of the file's alpha band, 0 in which makes a pixel invalid; None where there is none.
    """

    name: str
    path: str
    index: int
    grid: Grid
    dtype: str
    nodata: float | None
    block_shape: tuple[int, int]
    has_mask: bool = False
    quantification: float = 1.0
    offset: float = 0.0
    alpha: int | None = None


@dataclass(frozen=True, slots=True)
class QualityLayer:
    """A band of classes or flags that tells which pixels are not valid.

    Attributes:
        band: of the quality band; always taken to the scene's grid by nearest neighbour.
        kind: "classes" (a pixel is invalid where its value is one of `invalid`) or "bits" (invalid where any of the
            bits numbered in `invalid` is set).
        invalid: class ids, or bit numbers from 0.
    """

    band: BandFile
    kind: Literal["classes", "bits"]
    invalid: tuple[int, ...]

    def invalid_pixels(self, stored: np.ndarray) -> np.ndarray:
        """Where the stored values say that a pixel is not valid; same shape, bool."""
        if self.kind == "bits":
            flags = np.array(sum(1 << bit for bit in self.invalid)).astype(stored.dtype)
            return np.asarray((stored & flags) != 0)
        return np.isin(stored, np.array(self.invalid))


@dataclass(frozen=True, slots=True)
class SceneRecord:
    """A scene of a catalog.

    Attributes:
        id: unique in the catalog, fit for a file name.
        kind: how its files are laid out: "raster", "bands", "sentinel-2", "landsat", "stac", "chip", or as a product of
            another package calls it.
        path: the file or folder that a person would name.
        bands: in the scene's order; bands of other resolutions have grids of their own.
        sensor: name of a built-in sensor, or "generic".
        quality: None where validity follows from nodata and masks alone.
        datetime: of acquisition, ISO 8601 in UTC, None where unknown.
        label: class of a chip, None where it has none.
        mask_path: a raster of labels that belongs to this scene, None where there is none.
        size: of all its files, bytes.
        mtime_ns: the latest change of its files.
    """

    id: str
    kind: str
    path: str
    bands: tuple[BandFile, ...]
    sensor: str
    quality: QualityLayer | None = None
    datetime: str | None = None
    label: str | None = None
    mask_path: str | None = None
    size: int = 0
    mtime_ns: int = 0

    @property
    def grid(self) -> Grid:
        """The grid of the finest band, of the first one among equals."""
        grids = {id(band.grid): band.grid for band in self.bands}
        return min(grids.values(), key=lambda grid: abs(grid.transform.determinant))

    @property
    def band_names(self) -> tuple[str, ...]:
        return tuple(band.name for band in self.bands)

    @property
    def dtype(self) -> str:
        """numpy's name of the type that all bands fit."""
        return str(np.result_type(*(np.dtype(band.dtype) for band in self.bands)))

    @property
    def nodata(self) -> float | None:
        """The stored value that counts as nodata: that of the first band which has one, None where none does."""
        return next((band.nodata for band in self.bands if band.nodata is not None), None)

    @property
    def fill(self) -> float:
        """The nodata value of what is written from this scene, always representable in its type.

        It is the scene's own nodata, or else 0 for unsigned integers, -9999 for signed ones (the type's least value
        where that does not fit) and NaN for floats.
        """
        if self.nodata is not None:
            return self.nodata
        dtype = np.dtype(self.dtype)
        if dtype.kind == "f":
            return math.nan
        return 0.0 if dtype.kind == "u" else float(max(-9999, np.iinfo(dtype).min))

    def full_sensor(self, definition: Sensor | None = None) -> Sensor:
        """The sensor with exactly these bands, scaled as the files are.

        Args:
            definition: of the sensor, where its name does not find it.
        """
        if self.sensor == "generic":
            plain = generic_sensor(len(self.bands), 1.0, names=self.band_names)
        else:
            plain = (definition or get_sensor(self.sensor)).select(self.band_names)
        scaled = plain.with_scaling([band.quantification for band in self.bands], [band.offset for band in self.bands])
        if (scaled.quantification, scaled.offset) != (plain.quantification, plain.offset):
            scaled = replace(scaled, transfer=None)  # the file's numbers are not those that the definition is about
        pairs = zip(scaled.bands, self.bands, strict=True)
        return replace(scaled, bands=tuple(replace(band, nodata=file.nodata) for band, file in pairs))

    def select(self, names: Sequence[str | int]) -> "SceneRecord":
        """The scene with these bands only, in the order asked for; names and aliases as the sensor knows them, or
        numbers from 1.

        Raises:
            ConfigurationError: a band is missing in this scene.
        """
        try:
            chosen = self.full_sensor().select(list(names)).band_names
        except ConfigurationError as error:
            raise ConfigurationError(
                f"{self.path}: {error}", path=self.path, scene=self.id, argument="bands"
            ) from error
        by_name = {band.name: band for band in self.bands}
        return replace(self, bands=tuple(by_name[name] for name in chosen))


class TileRef(NamedTuple):
    """One tile that is asked for: samplers give these, `TileDataset` takes them.

    Attributes:
        scene: position of the scene in the catalog.
        row: first row of the tile in the scene's grid (that of the dataset, where it has a gsd or CRS of its own).
        col: first column.
        key: identity of the sample for randomness, seed, epoch and position mixed in; None where it has none.
        counted: parts of the scene that other tiles count already: labels there are `ignore_index`.
    """

    scene: int
    row: int
    col: int
    key: int | None = None
    counted: tuple[Window, ...] = ()
