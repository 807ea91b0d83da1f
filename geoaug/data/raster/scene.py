"""A scene: one raster, what its header says, and the windows read from it with their validity.

`open_scene` reads the header alone and gives a frozen value that travels between threads and processes. A
`SceneReader` holds the open file and reads windows; each thread has its own. Which sensor's bands a file
holds is judged in `geoaug.data.raster.identify`; where tiles lie is the business of `geoaug.data.raster.window`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt
from affine import Affine
from rasterio.crs import CRS
from rasterio.enums import MaskFlags
from rasterio.errors import RasterioError
from rasterio.windows import Window as RasterioWindow

from geoaug.data.raster.bands import band_list, choose_bands, identify_bands, image_indexes
from geoaug.data.raster.files import gdal_environment, open_dataset
from geoaug.data.raster.identify import Identification
from geoaug.data.raster.inputs import scene_ids
from geoaug.data.raster.window import Window
from geoaug.earth import METRES_PER_DEGREE
from geoaug.errors import ConfigurationError, RasterError
from geoaug.sensors import Sensor, get_sensor

SUPPORTED_DTYPES: tuple[str, ...] = (
    "uint8",
    "int8",
    "uint16",
    "int16",
    "uint32",
    "int32",
    "float32",
    "float64",
)


@dataclass(frozen=True, slots=True)
class Scene:
    """What the header of a raster says, and which of its bands are wanted.

    `band_indexes` are 1-based as GDAL counts them; `sensor` has exactly these bands, in this order, while
    `identification.sensor` has those of the whole file. `count` is the file's number of image bands: an alpha
    band is not one. `band_nodata` says for each chosen band which stored value is nodata in this file, None
    where none is. `has_mask` tells that the file also holds a mask or alpha band of its own. `crs` is None
    where the file has none, and `transform` is then often the identity. `gcp_count` counts ground control
    points, which geoaug does not apply.
    """

    path: str
    id: str
    count: int
    height: int
    width: int
    dtype: np.dtype[Any]
    crs: CRS | None
    transform: Affine
    band_nodata: tuple[float | None, ...]
    block_shape: tuple[int, int]
    descriptions: tuple[str | None, ...]
    sensor: Sensor
    band_indexes: tuple[int, ...]
    identification: Identification
    has_mask: bool
    scales: tuple[float, ...]
    offsets: tuple[float, ...]
    gcp_count: int

    @property
    def band_names(self) -> tuple[str, ...]:
        """The names of the chosen bands, in the order in which they are read."""
        return self.sensor.band_names

    @property
    def nodata(self) -> float | None:
        """The stored value that counts as nodata (that of the first band which has one), None where none
        does."""
        return next((value for value in self.band_nodata if value is not None), None)

    @property
    def fill(self) -> float:
        """The nodata value of what is written from this scene, always representable in its dtype.

        It is the scene's own nodata, or else 0 for unsigned integers, -9999 for signed ones (the dtype's
        least value where that does not fit) and NaN for floats.
        """
        if self.nodata is not None:
            return self.nodata
        if self.dtype.kind == "f":
            return math.nan
        if self.dtype.kind == "u":
            return 0.0
        return float(max(-9999, np.iinfo(self.dtype).min))

    @property
    def gsd_m(self) -> float | None:
        """The ground sampling distance in metres (side of a square of a pixel's area), None without a CRS.

        In a geographic CRS it is that of the scene's centre, on a sphere.
        """
        if self.crs is None:
            return None
        side = math.sqrt(abs(self.transform.determinant))
        if self.crs.is_geographic:
            _, latitude = self.transform * (self.width / 2, self.height / 2)
            return side * METRES_PER_DEGREE * math.sqrt(max(math.cos(math.radians(latitude)), 0.0))
        return side * float(self.crs.linear_units_factor[1])


@dataclass(frozen=True, slots=True, eq=False)
class Tile:
    """Pixels read from a scene: `image` (C, H, W) in the stored dtype and `valid` (H, W), True where all
    bands hold data.

    `window` is the window that was asked for, without its context; `transform` is the geotransform of the
    arrays as they are, with it.
    """

    image: npt.NDArray[Any]
    valid: npt.NDArray[np.bool_]
    window: Window
    transform: Affine


def open_scene(
    path: str | Path,
    *,
    sensor: Sensor | str | Path | None = None,
    bands: str | Sequence[str | int] | None = None,
    scene_id: str | None = None,
) -> Scene:
    """Read the header of the raster at `path` and choose its `bands` (all of them unless told).

    Bands are names of the sensor (`"B04,B03"`) or 1-based indexes. Without `sensor`, the sensor is identified
    from the file. A sensor with another number of bands than the file is matched through the file's band
    descriptions; a file without any may have its bands named, each in the file's order, by `bands`.

    A band that the file marks as alpha is its mask, not an image band, unless it has a description, is asked
    for by its index, or `sensor` has as many bands as the file with it. (GDAL marks the fourth band of 8-bit
    images so by default, though it is often near infrared.)

    Raises `RasterError` for what is no usable raster and `ConfigurationError` for a sensor or bands that it
    does not have.
    """
    name = str(path)
    wanted = band_list(bands)
    given = None if sensor is None else get_sensor(sensor)
    with open_dataset(name) as dataset:
        if dataset.count == 0:
            inside = "".join(f"\n  {entry}" for entry in dataset.subdatasets)
            raise RasterError(
                f"{name}: holds no bands of its own" + (f"; name one of its subdatasets:{inside}" if inside else "")
            )
        indexes = image_indexes(dataset, given, wanted)
        descriptions = tuple(dataset.descriptions[index - 1] for index in indexes)
        identification = identify_bands(dataset, name, indexes, descriptions, given, wanted)
        places = choose_bands(name, identification.sensor, wanted)
        chosen_sensor = identification.sensor.select([place + 1 for place in places])
        chosen = [indexes[place] - 1 for place in places]
        dtype = _common_dtype(name, [dataset.dtypes[band] for band in chosen])
        flags_of_all = dataset.mask_flag_enums  # each look computes them all
        flags = [flags_of_all[band] for band in chosen]
        # An alpha band that was taken for an image band masks nothing, though GDAL says it masks all the
        # others.
        alpha_is_image = len(indexes) == dataset.count and any(MaskFlags.alpha in flag for flag in flags)
        return Scene(
            path=name,
            id=scene_ids([name])[name] if scene_id is None else scene_id,
            count=len(indexes),
            height=dataset.height,
            width=dataset.width,
            dtype=dtype,
            crs=dataset.crs or None,
            transform=dataset.transform,
            band_nodata=tuple(
                usable_nodata(dtype, dataset.nodatavals[band], of_sensor.nodata)
                for band, of_sensor in zip(chosen, chosen_sensor.bands, strict=True)
            ),
            block_shape=dataset.block_shapes[chosen[0]],
            descriptions=tuple(dataset.descriptions[band] for band in chosen),
            sensor=chosen_sensor,
            band_indexes=tuple(band + 1 for band in chosen),
            identification=identification,
            has_mask=not alpha_is_image and any(_has_mask(flag) for flag in flags),
            scales=tuple(dataset.scales[band] for band in chosen),
            offsets=tuple(dataset.offsets[band] for band in chosen),
            gcp_count=len(dataset.gcps[0]),
        )


class SceneReader:
    """The open file of a scene. Not shared between threads: each opens its own."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self._environment = gdal_environment(scene.path)
        self._dataset = open_dataset(scene.path)
        self._nodata = [None if value is None else scene.dtype.type(value) for value in scene.band_nodata]

    def __enter__(self) -> "SceneReader":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; a reader that is closed reads no more."""
        self._dataset.close()

    def read(self, window: Window, context: int = 0) -> Tile:
        """The chosen bands in `window`, with `context` pixels more on each side.

        What lies outside the scene is `scene.fill` and invalid. A pixel is invalid where any chosen band is
        nodata or not finite, or where the file's own mask says so; its stored value is kept. Raises
        `RasterError`, with file and window, where the pixels cannot be read.
        """
        if context < 0:
            raise ConfigurationError(f"the context is {context} pixels: it cannot be negative")
        scene, outer = self.scene, window.padded(context)
        transform = scene.transform * Affine.translation(outer.col, outer.row)
        inner = outer.inside(scene.height, scene.width)
        if inner == outer:
            image, valid = self._read_inside(inner)
            return Tile(image, valid, window, transform)
        image = np.full((len(scene.band_indexes), outer.height, outer.width), scene.fill, dtype=scene.dtype)
        valid = np.zeros((outer.height, outer.width), dtype=bool)
        if inner is not None:
            rows = slice(inner.row - outer.row, inner.row_stop - outer.row)
            cols = slice(inner.col - outer.col, inner.col_stop - outer.col)
            image[:, rows, cols], valid[rows, cols] = self._read_inside(inner)
        return Tile(image, valid, window, transform)

    def _read_inside(self, window: Window) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_]]:
        place = RasterioWindow(window.col, window.row, window.width, window.height)
        try:
            with self._environment():
                image = self._dataset.read(self.scene.band_indexes, window=place)
                valid = np.ones(image.shape[1:], dtype=bool)
                if self.scene.has_mask:
                    for index in self._mask_indexes():
                        valid &= self._dataset.read_masks(index, window=place) != 0
        except (RasterioError, OSError) as error:
            raise RasterError(
                f"{self.scene.path}: cannot read rows {window.row} to {window.row_stop - 1}, columns "
                f"{window.col} to {window.col_stop - 1}: the file may be damaged or cut short "
                f"({error.__cause__ or error})"
            ) from error
        for band, nodata in zip(image, self._nodata, strict=True):
            if nodata is not None:
                valid &= band != nodata
        if image.dtype.kind == "f":
            valid &= np.isfinite(image).all(axis=0)
        return image, valid

    def _mask_indexes(self) -> tuple[int, ...]:
        flags = self._dataset.mask_flag_enums
        masked = tuple(index for index in self.scene.band_indexes if _has_mask(flags[index - 1]))
        shared = all(MaskFlags.per_dataset in flags[index - 1] for index in masked)
        return masked[:1] if shared else masked


def _common_dtype(path: str, names: list[str]) -> np.dtype[Any]:
    kinds = sorted(set(names))
    if len(kinds) > 1:
        raise RasterError(f"{path}: the bands are of different types ({', '.join(kinds)}): choose bands of one type")
    if kinds[0] not in SUPPORTED_DTYPES:
        raise RasterError(
            f"{path}: pixels of type {kinds[0]} are not supported: convert them to one of {', '.join(SUPPORTED_DTYPES)}"
        )
    return np.dtype(kinds[0])


def usable_nodata(dtype: np.dtype[Any], *candidates: float | None) -> float | None:
    """The first candidate that a pixel of `dtype` can hold: 0.5 or -9999 is never stored in an unsigned
    integer."""
    for value in candidates:
        if value is None:
            continue
        if dtype.kind == "f":
            with np.errstate(over="ignore"):
                return float(dtype.type(value))
        limits = np.iinfo(dtype)
        if math.isfinite(value) and value == int(value) and limits.min <= value <= limits.max:
            return float(value)
    return None


def _has_mask(flags: Sequence[MaskFlags]) -> bool:
    return MaskFlags.all_valid not in flags and MaskFlags.nodata not in flags
