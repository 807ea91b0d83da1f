"""What the header of a raster says, and the bands of a scene record that are made of it; the size and age of files.

Pixels are not read here. What belongs together as a scene is decided by those who call: `geoaug.data.catalog.index` and
the modules of products. Which sensor's bands a file holds is judged in `geoaug.data.raster.identify`.
"""

import logging
import math
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
from affine import Affine
from rasterio.crs import CRS

from geoaug.data.raster.advice import A_SCENE_A_FILE
from geoaug.data.raster.bands import band_list, choose_bands, identify_bands, image_and_alpha
from geoaug.data.raster.files import open_dataset, place_of
from geoaug.data.raster.grid import Grid
from geoaug.data.raster.identify import Identification, is_categorical
from geoaug.data.raster.inputs import is_remote
from geoaug.data.raster.masks import is_mask
from geoaug.data.raster.palette import expanded, file_of_expanded, has_palette
from geoaug.data.raster.quality import check_chosen
from geoaug.data.raster.record import BandFile, QualityLayer, SceneRecord
from geoaug.errors import ConfigurationError, RasterError
from geoaug.sensors import Sensor, available_sensors, generic_sensor, get_sensor

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

_log = logging.getLogger("geoaug")
_ARCHIVE = re.compile(r"/vsi(?:zip|tar|gzip)/(.+?\.(?:zip|tar\.gz|tgz|tar|gz))(?:/|$)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Header:
    """What the header of a raster says, and which of its bands are wanted.

    Attributes:
        path: as it was named.
        count: of the file's image bands; an alpha band is not one.
        height: in pixels.
        width: in pixels.
        dtype: of the chosen bands.
        crs: None where the file has none, or no geotransform with it; `transform` is then often the identity.
        transform: the geotransform.
        band_nodata: for each chosen band which stored value is nodata, None where none is.
        block_shape: (rows, columns) that are compressed together.
        descriptions: of the chosen bands.
        sensor: with exactly the chosen bands, in their order; `identification.sensor` has those of the whole file.
        band_indexes: of the chosen bands, 1-based as GDAL counts them.
        identification: what the file was taken for.
        has_mask: whether the file also holds a mask or alpha band of its own.
        scales: GDAL's, of the chosen bands.
        offsets: likewise.
        control: what locates the file in place of a geotransform: "ground control points" or "RPCs"; None where
            nothing does, or a geotransform. Pixels are warped by it where a CRS is asked for.
        alpha: 1-based index of the alpha band, None where there is none.
        palette: whether its numbers stand for the colours of a palette.
    """

    path: str
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
    control: str | None
    alpha: int | None = None
    palette: bool = False

    @property
    def grid(self) -> Grid:
        """The grid of the file."""
        crs = None if self.crs is None else crs_name(self.crs.to_wkt())
        return Grid(crs, self.transform, self.height, self.width)

    @property
    def holds_classes(self) -> bool:
        """Whether it holds classes or flags, by its palette or its name: labels, a scene classification..."""
        names = [text for text in self.descriptions if text]
        return self.palette or is_categorical(self.path, self.count, names, self.dtype.name)


@dataclass(frozen=True, slots=True)
class HeaderOptions:
    """What a person said about all scenes that are indexed.

    Attributes:
        sensor: whose bands the files have; judged from each file where None.
        bands: the bands wanted, in order, by name or number; all where None.
        invalid: classes or flags of quality layers that make a pixel invalid, by name or number; the usual ones where
            None, no quality layer where empty.
        definition: the YAML file that defines the sensor, None where it is built in.
        nodata: the stored value that is no data, in place of what files and products say, or "none" for no such value;
            what they say where None.
        expand_palette: whether rasters with a palette are taken for the colours that their numbers stand for.
    """

    sensor: Sensor | None = None
    bands: Sequence[str | int] | None = None
    invalid: Sequence[str | int] | None = None
    definition: str | None = None
    nodata: float | Literal["none"] | None = None
    expand_palette: bool = False

    @staticmethod
    def of(
        sensor: Sensor | str | Path | None,
        bands: Sequence[str | int] | str | None,
        invalid: Sequence[str | int] | str | None,
        nodata: float | str | None = None,
    ) -> "HeaderOptions":
        """From what a person gave: names of sensors, files of their definitions, lists and numbers as text.

        Raises:
            ConfigurationError: no such sensor, a quality class that no layer has, or a nodata value that is no number.
        """
        entries = invalid.split(",") if isinstance(invalid, str) else invalid
        unwanted = None if entries is None else [entry for entry in entries if entry != ""]
        check_chosen(unwanted)
        return HeaderOptions(
            sensor=None if sensor is None else get_sensor(sensor),
            bands=band_list(bands),
            invalid=unwanted,
            definition=str(Path(sensor).absolute())
            if isinstance(sensor, str | Path) and Path(sensor).is_file()
            else None,
            nodata=stated_nodata(nodata),
        )


def stated_nodata(nodata: float | str | None) -> float | Literal["none"] | None:
    """The nodata value that a person stated: a number ("nan" is one), or "none".

    Raises:
        ConfigurationError: it is neither.
    """
    if nodata is None or nodata == "none":
        return nodata  # type: ignore[return-value]
    try:
        return float(nodata)
    except (TypeError, ValueError) as error:
        raise ConfigurationError(
            f"nodata is {nodata!r}: give a number, nan, or none where every pixel counts as data", argument="nodata"
        ) from error


def with_nodata(record: SceneRecord, nodata: float | Literal["none"] | None) -> SceneRecord:
    """The scene with another nodata value in all bands whose type has it; masks and quality layers still count.

    Args:
        record: of the scene.
        nodata: the stored value, "none" for no such value, or None to leave all as it is.

    Raises:
        ConfigurationError: no pixel of the scene can hold the value.
    """
    if nodata is None:
        return record
    value = None if nodata == "none" else nodata
    bands = tuple(replace(band, nodata=usable_nodata(np.dtype(band.dtype), value)) for band in record.bands)
    if value is not None and all(band.nodata is None for band in bands):
        raise ConfigurationError(
            f"{record.path}: nodata is {value:g}, which no pixel of type {record.dtype} holds: give another value, or "
            "none",
            path=record.path,
            scene=record.id,
            argument="nodata",
        )
    return replace(record, bands=bands)


def read_header(
    path: str | Path, *, sensor: Sensor | str | Path | None = None, bands: str | Sequence[str | int] | None = None
) -> Header:
    """Read the header of the raster at `path` and choose its `bands` (all of them where None).

    Bands are names of the sensor (`"B04,B03"`) or 1-based indexes. Without `sensor`, the sensor is identified
    from the file. A sensor with another number of bands than the file is matched through the file's band
    descriptions; a file without any may have its bands named, each in the file's order, by `bands`.

    A band that the file marks as alpha is its mask, not an image band, unless it has a description, is asked
    for by its index, or `sensor` has as many bands as the file with it. (GDAL marks the fourth band of 8-bit
    images so by default, though it is often near infrared.)

    Raises:
        RasterError: it is no usable raster.
        ConfigurationError: a sensor or bands that it does not have.
    """
    name = str(path)
    wanted = band_list(bands)
    given = None if sensor is None else get_sensor(sensor)
    with open_dataset(name) as dataset:
        if dataset.count == 0:
            inside = "".join(f"\n  {entry}" for entry in dataset.subdatasets)
            raise RasterError(
                f"{name}: holds no bands of its own" + (f"; name one of its subdatasets:{inside}" if inside else ""),
                path=name,
            )
        indexes, alpha = image_and_alpha(dataset, given, wanted)
        descriptions = tuple(dataset.descriptions[index - 1] for index in indexes)
        identification = identify_bands(dataset, name, indexes, descriptions, given, wanted)
        positions = choose_bands(name, identification.sensor, wanted)
        chosen_sensor = identification.sensor.select([position + 1 for position in positions])
        chosen = [indexes[position] - 1 for position in positions]
        dtype = _common_dtype(name, [dataset.dtypes[band] for band in chosen])
        flags_of_all = dataset.mask_flag_enums  # each look computes them all
        # An alpha band that was taken for an image band masks nothing, though GDAL says it masks all the
        # others.
        masked = any(is_mask(flags_of_all[band], alpha=False) for band in chosen)
        crs, transform, control = place_of(dataset)
        if crs is None:
            _tell_once(name, control, stated=bool(dataset.crs))
        return Header(
            path=name,
            count=len(indexes),
            height=dataset.height,
            width=dataset.width,
            dtype=dtype,
            crs=crs,
            transform=transform,
            band_nodata=tuple(
                usable_nodata(dtype, dataset.nodatavals[band], of_sensor.nodata)
                for band, of_sensor in zip(chosen, chosen_sensor.bands, strict=True)
            ),
            block_shape=dataset.block_shapes[chosen[0]],
            descriptions=tuple(dataset.descriptions[band] for band in chosen),
            sensor=chosen_sensor,
            band_indexes=tuple(band + 1 for band in chosen),
            identification=identification,
            has_mask=masked or alpha is not None,
            scales=tuple(dataset.scales[band] for band in chosen),
            offsets=tuple(dataset.offsets[band] for band in chosen),
            control=control,
            alpha=alpha,
            palette=has_palette(dataset),
        )


@lru_cache(maxsize=1)
def _said() -> set[str]:
    return set()


def _tell_once(path: str, control: str | None, *, stated: bool) -> None:
    """Say of the first file of a kind that it is read without a place, though something tells its place."""
    if control is not None:
        line = f"has {control} and no geotransform, so it is read without a place; with crs=, tiles are warped by them"
    elif stated:
        line = "has a CRS and no geotransform, so it is read without a place; rio edit-info --transform gives it one"
    else:
        return
    if line not in _said():
        _said().add(line)
        _log.warning("%s: %s (said once of all such files)", path, line)


def header_of(path: str, options: HeaderOptions) -> Header:
    """The header of one raster, with the bands that are wanted; raises as `read_header`."""
    if options.expand_palette:
        with open_dataset(path) as dataset:
            path = expanded(path) if has_palette(dataset) else path
    return read_header(path, sensor=options.sensor, bands=options.bands)


def band_files(header: Header) -> tuple[BandFile, ...]:
    """The chosen bands of a raster."""
    grid, dtype = header.grid, header.dtype.name
    bands = zip(header.sensor.bands, header.band_indexes, header.band_nodata, strict=True)
    return tuple(
        BandFile(
            name=band.name,
            path=header.path,
            index=index,
            grid=grid,
            dtype=dtype,
            nodata=nodata,
            block_shape=(int(header.block_shape[0]), int(header.block_shape[1])),
            has_mask=header.has_mask,
            quantification=band.quantification,
            offset=band.offset,
            alpha=header.alpha,
        )
        for band, index, nodata in bands
    )


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


@lru_cache(maxsize=256)
def crs_name(wkt: str) -> str:
    """The authority code of a CRS where it has one that means the same, else the WKT itself."""
    import pyproj

    crs = pyproj.CRS.from_wkt(wkt)
    authority = crs.to_authority(min_confidence=100)
    if authority is None:
        return wkt
    name = ":".join(authority)
    same = crs.equals(pyproj.CRS.from_user_input(name), ignore_axis_order=True)
    return name if same else wkt


def single_header(word: str, path: str) -> Header:
    """The header of a file that holds one band, which goes by `word`.

    Raises:
        RasterError: it cannot be read, or holds more bands.
    """
    try:
        return read_header(path, sensor=generic_sensor(1, 1.0, names=[word]))
    except ConfigurationError as error:
        raise RasterError(
            f"{path}: taken for the file of band {word}, but holds several bands; index such files with "
            f"{A_SCENE_A_FILE}",
            path=path,
        ) from error


def single_band(name: str, path: str) -> BandFile:
    """The band of a file that holds one band, under a name; raises as `single_header`."""
    return band_files(single_header(name, path))[0]


def quality_layer(path: str, kind: Literal["classes", "bits"], invalid: Sequence[int], index: int = 1) -> QualityLayer:
    """The layer of a file of classes or flags, in which no value means "no data" by itself."""
    band = replace(
        band_files(read_header(path, bands=[index]))[0],
        nodata=None,
        has_mask=False,
        quantification=1.0,
        offset=0.0,
        alpha=None,
    )
    return QualityLayer(band, kind, tuple(invalid))


def sensor_name(sensor: Sensor, options: HeaderOptions) -> str:
    """What a record keeps of a sensor: a built-in name, "generic", or the position of a definition of one's own.

    Raises:
        ConfigurationError: a `Sensor` of one's own, which only a file can be found again by.
    """
    if sensor.name == "generic" or sensor.name in available_sensors():
        return sensor.name
    if options.definition is not None:
        return options.definition
    raise ConfigurationError(
        f"the sensor '{sensor.name}' is not built in: a catalog needs the path of its YAML file, to find it again"
    )


def on_disk(path: str) -> str | None:
    """The file on this machine that a path of GDAL's lies in; None for what lies elsewhere."""
    path = file_of_expanded(path) or path
    if archive := _ARCHIVE.match(path):
        return archive[1]
    return None if is_remote(path) or path.startswith("/vsi") else path


def size_and_age(paths: Iterable[str]) -> tuple[int, int]:
    """The size of all files together in bytes, and the time in ns of the latest change; zeros where neither is known.

    Raises:
        RasterError: a file is gone.
    """
    size = latest = 0
    for path in dict.fromkeys(filter(None, map(on_disk, paths))):
        try:
            found = os.stat(path)  # noqa: PTH116  # a hundred thousand times
        except OSError as error:
            if ":" in path:  # GDAL's name of a dataset inside a file
                continue
            raise RasterError(f"{path}: has vanished, or cannot be reached ({error.strerror})", path=path) from error
        size += found.st_size
        latest = max(latest, found.st_mtime_ns)
    return size, latest


def _common_dtype(path: str, names: list[str]) -> np.dtype[Any]:
    kinds = sorted(set(names))
    if len(kinds) > 1:
        raise RasterError(
            f"{path}: the bands are of different types ({', '.join(kinds)}): choose bands of one type", path=path
        )
    if kinds[0] not in SUPPORTED_DTYPES:
        known = ", ".join(SUPPORTED_DTYPES)
        raise RasterError(
            f"{path}: pixels of type {kinds[0]} are not supported: convert them to one of {known}", path=path
        )
    return np.dtype(kinds[0])
