"""A scene at a glance: all of it in few pixels, and what a person should know of it before using it.

How it is stored, its values, and likely problems; from a record, and of a plain raster from its header as well.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from affine import Affine
from rasterio.crs import CRS
from rasterio.errors import RasterioError

from geoaug.data.raster.advice import CLASSES_ADVICE, CLASSES_BY_NAME
from geoaug.data.raster.files import gdal_environment, open_dataset
from geoaug.data.raster.headers import Header
from geoaug.data.raster.masks import is_mask
from geoaug.data.raster.record import BandFile, SceneRecord
from geoaug.errors import RasterError
from geoaug.sensors import Band, Sensor, doubt_of_numbers

LARGEST = 1024
_LARGE = 2048  # pixels; below, large blocks matter little
_MANY_PIXELS = 2_000_000  # below, strips matter little
_NARROW = 512  # a row no longer than that of a usual block costs a tile nothing
_WELL_TILED = 1024
_MANY_ZEROS = 0.001
_SQUARE = 0.01


@dataclass(frozen=True, slots=True, eq=False)
class Overview:
    """A scene read at a fraction of its resolution (nearest pixels, or the files' own overviews).

    Attributes:
        image: (C, h, w) in the stored type.
        valid: (h, w), True where all bands hold data and no quality layer says otherwise.
        transform: of these pixels.
    """

    image: npt.NDArray[Any]
    valid: npt.NDArray[np.bool_]
    transform: Affine


def read_overview(record: SceneRecord, largest: int = LARGEST) -> Overview:
    """Read all bands with at most `largest` pixels along the longer side of the finest one's grid.

    Raises:
        RasterError: the scene cannot be read.
    """
    grid = record.grid
    shrink = max(1.0, max(grid.shape) / largest)
    height, width = max(1, round(grid.height / shrink)), max(1, round(grid.width / shrink))
    image = np.empty((len(record.bands), height, width), record.dtype)
    valid = np.ones((height, width), dtype=bool)
    by_file: dict[str, list[int]] = {}
    for position, band in enumerate(record.bands):
        by_file.setdefault(band.path, []).append(position)
    for positions in by_file.values():
        image[positions] = _read_reduced([record.bands[position] for position in positions], height, width, valid)
    for stored, band in zip(image, record.bands, strict=True):
        if band.nodata is not None:
            valid &= stored != stored.dtype.type(band.nodata)
        if stored.dtype.kind == "f":
            valid &= np.isfinite(stored)
    if (quality := record.quality) is not None:
        [flags] = _read_reduced([quality.band], height, width, valid)
        valid &= ~quality.invalid_pixels(flags)
    transform = grid.transform * Affine.scale(grid.width / width, grid.height / height)
    return Overview(image, valid, transform)


def _read_reduced(bands: list[BandFile], height: int, width: int, valid: npt.NDArray[np.bool_]) -> npt.NDArray[Any]:
    """Bands of one file in so many pixels; their mask is taken from `valid`."""
    path, indexes = bands[0].path, [band.index for band in bands]
    try:
        with gdal_environment(path)(), open_dataset(path) as dataset:
            image: npt.NDArray[Any] = dataset.read(indexes, out_shape=(len(indexes), height, width))
            alpha = bands[0].alpha
            flags = dataset.mask_flag_enums if bands[0].has_mask else ()
            masked = [index for index in indexes if flags and is_mask(flags[index - 1], alpha=alpha is None)]
            if masked:
                valid &= (dataset.read_masks(masked, out_shape=(len(masked), height, width)) != 0).all(axis=0)
            if alpha is not None:
                valid &= dataset.read(alpha, out_shape=(height, width)) != 0
    except (RasterioError, OSError) as error:
        raise RasterError(f"{path}: cannot be read: it may be damaged or cut short ({error})", path=path) from error
    return image


@dataclass(frozen=True, slots=True)
class BandInfo:
    """A band and the range of its valid pixels, in stored values; NaN where none is valid.

    `low` and `high` are the 2nd and 98th percentiles.
    """

    band: Band
    least: float
    low: float
    mean: float
    high: float
    greatest: float


@dataclass(frozen=True, slots=True)
class SceneInfo:
    """What a person should know of a scene.

    Attributes:
        record: of the scene.
        sensor: with its bands, scaled as the files are.
        header: of a plain raster, None for others.
        files: in which the bands lie.
        driver: GDAL's name of the file format; of the first file on the finest grid, as are the next four.
        block_shape: (rows, columns) that are compressed together.
        compression: None where there is none.
        tiled: whether it is stored in tiles, not in strips.
        overviews: by how much each of the file's overviews is smaller.
        bands: the values of each band.
        invalid_share: of the pixels.
        estimated: whether the values are those of a part of the pixels.
        warnings: likely problems, and what to do about it.
        remarks: what is unusual and handled.
    """

    record: SceneRecord
    sensor: Sensor
    header: Header | None
    files: int
    driver: str
    block_shape: tuple[int, int]
    compression: str | None
    tiled: bool
    overviews: tuple[int, ...]
    bands: tuple[BandInfo, ...]
    invalid_share: float
    estimated: bool
    warnings: tuple[str, ...]
    remarks: tuple[str, ...]


def inspect_scene(
    record: SceneRecord, sensor: Sensor, header: Header | None = None, *, certain: bool = True
) -> SceneInfo:
    """Look a scene over.

    Args:
        record: of the scene.
        sensor: with its bands, scaled as the files are.
        header: of a plain raster.
        certain: whether the sensor is no guess.

    Raises:
        RasterError: it cannot be read.
    """
    finest = _finest(record)
    indexes = [band.index for band in record.bands if band.path == finest.path]
    with gdal_environment(finest.path)(), open_dataset(finest.path) as dataset:
        driver = str(dataset.driver)
        compression = None if dataset.compression is None else str(dataset.compression.value).lower()
        tiled = dataset.block_shapes[indexes[0] - 1][1] < dataset.width
        overviews = tuple(int(factor) for factor in dataset.overviews(indexes[0]))
        stated_nodata = any(dataset.nodatavals[index - 1] is not None for index in indexes)
    overview = read_overview(record)
    bands = tuple(_band_info(overview, number, band) for number, band in enumerate(sensor.bands))
    holds_classes = header is not None and header.holds_classes
    return SceneInfo(
        record=record,
        sensor=sensor,
        header=header,
        files=len({band.path for band in record.bands}),
        driver=driver,
        block_shape=finest.block_shape,
        compression=compression,
        tiled=tiled,
        overviews=overviews,
        bands=bands,
        invalid_share=1 - float(overview.valid.mean()),
        estimated=overview.valid.shape != record.grid.shape,
        warnings=(
            *_identity_warnings(record, sensor, header, certain),
            *_storage_warnings(record, overview),
            *(() if holds_classes else _value_warnings(sensor, bands)),
        ),
        remarks=tuple(_remarks(record, header, overview, stated_nodata)),
    )


def _finest(record: SceneRecord) -> BandFile:
    """The first band on the scene's grid."""
    return next(band for band in record.bands if band.grid == record.grid)


def _band_info(overview: Overview, number: int, band: Band) -> BandInfo:
    values = overview.image[number][overview.valid].astype(np.float64)
    if not values.size:
        return BandInfo(band, *(math.nan,) * 5)
    low, high = np.percentile(values, [2, 98])
    return BandInfo(band, float(values.min()), float(low), float(values.mean()), float(high), float(values.max()))


def _identity_warnings(record: SceneRecord, sensor: Sensor, header: Header | None, certain: bool) -> Iterator[str]:
    if header is not None and header.holds_classes:
        yield f"{CLASSES_BY_NAME}; {CLASSES_ADVICE}"
    elif sensor.name == "generic":
        yield "the bands are unknown: haze and sensor noise need wavelengths to be right; say --sensor"
    elif not certain:
        yield "the sensor is a guess: confirm it with --sensor"
    grid = record.grid
    if grid.crs is None:
        control = None if header is None else header.control
        points = "" if control is None else f", though {control}, by which TileDataset(crs=...) and gdalwarp warp it"
        yield f"no CRS{points}: tiles are written without one, and labels must be without one, too"
    elif not grid.has_place:
        yield "the CRS has no place on Earth: footprints are empty, and splits are by folder, attribute, date or chance"
    elif CRS.from_user_input(grid.crs).is_geographic:
        yield "the CRS is in degrees: pixels are not square on the ground, and turns bend; warp it to a metric CRS"
    else:
        across, down = grid.resolution
        if abs(across / down - 1) > _SQUARE:
            yield f"pixels are not square ({across:g} by {down:g}): turns bend what they show"


def _storage_warnings(record: SceneRecord, overview: Overview) -> Iterator[str]:
    height, width = record.grid.shape
    rows, cols = _finest(record).block_shape
    large = max(height, width) > _LARGE
    if cols >= width > _NARROW and height * width > _MANY_PIXELS:
        yield (
            f"stored in strips of {rows} row{'s' * (rows > 1)}: a tile makes whole rows be read; "
            "gdal_translate -co TILED=YES is faster"
        )
    elif large and rows * cols > _WELL_TILED**2:
        yield f"stored in blocks of {rows} x {cols} pixels, larger than a tile: gdal_translate -co TILED=YES is faster"
    if _lacks_nodata(record):
        zeros = _zero_share(overview)
        if zeros > _MANY_ZEROS:
            yield (
                f"no nodata value, and {zeros:.1%} of the pixels are 0 in all bands: they count as data; "
                "if they are none, give --nodata 0"
            )
    if not overview.valid.any():
        yield "no pixel is valid"


def _lacks_nodata(record: SceneRecord) -> bool:
    return record.nodata is None and not any(band.has_mask for band in record.bands)


def _zero_share(overview: Overview) -> float:
    """The share of the pixels that are 0 in all bands."""
    return float((overview.image == 0).all(axis=0).mean())


def _value_warnings(sensor: Sensor, bands: tuple[BandInfo, ...]) -> Iterator[str]:
    """Reflectance or backscatter that cannot be: the scaling is not the one that the sensor was taken to have."""
    shown = [info for info in bands if math.isfinite(info.high)]
    if not shown or sensor.transfer is not None:
        return
    if sensor.domain != "optical":
        doubt = doubt_of_numbers(sensor, min(info.least for info in shown), max(info.high for info in shown))
        if doubt is not None:
            yield doubt
        return
    brightest = max((info.high + info.band.offset) / info.band.quantification for info in shown)
    if brightest > 2 or brightest < 0.01:
        yield (
            f"the brightest band's reflectance would be {brightest:.3g}: the scale is not that of the sensor; "
            "give a --sensor of your own with the right quantification and offset"
        )


def _remarks(record: SceneRecord, header: Header | None, overview: Overview, stated_nodata: bool) -> Iterator[str]:
    grid = record.grid
    transform = grid.transform
    if record.nodata is not None and not stated_nodata:
        of_sensor = header is None or any(band.nodata == record.nodata for band in header.sensor.bands)
        whose = "is that of the sensor" if of_sensor else "was given"
        yield f"the file names no nodata value; {record.nodata:g} {whose}"
    if _lacks_nodata(record) and _zero_share(overview) <= _MANY_ZEROS:
        yield "the file names no nodata value: every finite pixel counts as data"
    if transform.b or transform.d:
        angle = math.degrees(math.atan2(-transform.d, transform.a))
        yield f"the grid is turned by {angle:.2f} degrees"
    if transform.determinant > 0 and grid.crs is not None:
        yield "the grid is south-up: the first row is the southernmost"
    if header is not None and len(header.identification.sensor.bands) != len(record.bands):
        yield f"{len(record.bands)} of {header.count} bands are chosen"
