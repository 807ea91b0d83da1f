"""Writing arrays as GeoTIFF or Cloud Optimized GeoTIFF, whole or not at all.

A file is made in memory, written under a temporary name in its own folder, and renamed: no reader ever meets
half of one, and a full disk is an error instead of a file cut short. This suits tiles; a raster that does not
fit in memory is written elsewhere.
"""

import math
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import rasterio
from affine import Affine
from rasterio.crs import CRS
from rasterio.errors import RasterioError
from rasterio.io import MemoryFile

from geoaug.data.raster.files import georeference_optional
from geoaug.errors import ConfigurationError, GeoaugError

Format = Literal["gtiff", "cog"]
Compression = Literal["zstd", "deflate", "lzw", "none"]

DTYPES: tuple[str, ...] = (
    "uint8",
    "int8",
    "uint16",
    "int16",
    "uint32",
    "int32",
    "float32",
    "float64",
)

_BLOCK = 256
# On noisy 16-bit imagery level 1 writes 7 times faster than GDAL's default of 9, for files an eighth larger.
_ZSTD_LEVEL = 1


def write_geotiff(
    path: str | Path,
    array: npt.NDArray[Any],
    *,
    transform: Affine,
    crs: CRS | str | None,
    nodata: float | None = None,
    descriptions: Sequence[str | None] | None = None,
    scales: Sequence[float] | None = None,
    offsets: Sequence[float] | None = None,
    format: Format = "gtiff",
    compress: Compression = "zstd",
    colormap: Mapping[int, tuple[int, ...]] | None = None,
    tags: Mapping[str, str] | None = None,
    mask: npt.NDArray[np.bool_] | None = None,
) -> None:
    """Write an array of shape (C, H, W) or (H, W) to `path`, replacing what is there.

    `transform` is the geotransform of the pixel grid (any affine, rotation included); `crs` may be None.
    `descriptions`, `scales` and `offsets` have one entry a band. `colormap` (id to RGB or RGBA, 0..255) is
    for a single band of uint8 or uint16. `mask` (H, W) is written as the file's internal mask, valid where it is True;
    a file has it or `nodata`. No band is marked as alpha. Overviews of a COG are averages, or the
    nearest pixel for an array of shape (H, W).

    Raises `ConfigurationError` for an array or arguments that a GeoTIFF cannot hold, and `GeoaugError`,
    naming the path, where it cannot be written. What was at `path` before is then untouched.
    """
    target = Path(path)
    bands = array[np.newaxis] if array.ndim == 2 else array
    _check(target, bands, nodata, descriptions, scales, offsets, colormap)
    if mask is not None and (nodata is not None or mask.shape != bands.shape[1:]):
        raise ConfigurationError(f"{target}: a mask is of the image's height and width, and in place of nodata")
    options = creation_options(bands, format=format, compress=compress, categorical=array.ndim == 2)
    try:
        with MemoryFile() as memory:
            with georeference_optional():
                dataset = memory.open(
                    **options,
                    count=bands.shape[0],
                    height=bands.shape[1],
                    width=bands.shape[2],
                    dtype=bands.dtype.name,
                    crs=crs,
                    transform=transform,
                    nodata=nodata,
                )
            with dataset, rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
                dataset.write(bands)
                if mask is not None:
                    dataset.write_mask(mask)
                for band, description in enumerate(descriptions or (), start=1):
                    if description:
                        dataset.set_band_description(band, description)
                if scales is not None:
                    dataset.scales = tuple(scales)
                if offsets is not None:
                    dataset.offsets = tuple(offsets)
                if tags:
                    dataset.update_tags(**tags)
                if colormap is not None:
                    dataset.write_colormap(1, {int(key): tuple(colour) for key, colour in colormap.items()})
            replace_file(target, memory.getbuffer())
    except (RasterioError, ValueError, TypeError) as error:
        raise GeoaugError(f"{target}: cannot be written as a GeoTIFF ({error})") from error


def creation_options(
    array: npt.NDArray[Any],
    *,
    format: Format = "gtiff",
    compress: Compression = "zstd",
    categorical: bool = False,
) -> dict[str, Any]:
    """GDAL's driver and creation options for an array whose last two axes are rows and columns.

    Tiles of 256 pixels where the array is that large, else one strip; the predictor that suits its type.
    """
    if format not in ("gtiff", "cog"):
        raise ConfigurationError(f"format {format!r}: it must be 'gtiff' or 'cog'")
    if compress not in ("zstd", "deflate", "lzw", "none"):
        raise ConfigurationError(f"compression {compress!r}: it must be zstd, deflate, lzw or none")
    height, width = array.shape[-2:]
    options: dict[str, Any] = {"compress": compress, "bigtiff": "IF_SAFER"}
    if compress != "none":
        options["predictor"] = (3 if array.dtype.kind == "f" else 2) if format == "gtiff" else "YES"
    if format == "cog":
        options["driver"] = "COG"
        options["blocksize"] = _BLOCK if max(height, width) <= 2 * _BLOCK else 2 * _BLOCK
        options["overview_resampling"] = "nearest" if categorical else "average"
        if compress == "zstd":
            options["level"] = _ZSTD_LEVEL
        return options
    options["driver"] = "GTiff"
    # GDAL's default would mark the fourth of four 8-bit bands, often near infrared, as alpha.
    options["photometric"] = "MINISBLACK"
    options["alpha"] = "NO"
    if min(height, width) >= _BLOCK:
        options.update(tiled=True, blockxsize=_BLOCK, blockysize=_BLOCK)
    else:
        options["blockysize"] = min(height, _BLOCK)
    if compress == "zstd":
        options["zstd_level"] = _ZSTD_LEVEL
    return options


def replace_file(path: Path, content: bytes | memoryview) -> None:
    """Put `content` at `path` at once: written under a temporary name beside it, then renamed.

    Raises `GeoaugError`, naming the path, where that fails; the temporary file is then gone.
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}.tmp")
    try:
        try:
            temporary.write_bytes(content)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise GeoaugError(f"{path}: cannot be written ({error.strerror or error})") from error


def _check(
    path: Path,
    bands: npt.NDArray[Any],
    nodata: float | None,
    descriptions: Sequence[str | None] | None,
    scales: Sequence[float] | None,
    offsets: Sequence[float] | None,
    colormap: Mapping[int, tuple[int, ...]] | None,
) -> None:
    if bands.ndim != 3 or 0 in bands.shape:
        raise ConfigurationError(f"{path}: an array of shape {bands.shape} is no (C, H, W) image")
    if bands.dtype.name not in DTYPES:
        raise ConfigurationError(
            f"{path}: pixels of type {bands.dtype} cannot be written: convert them to one of {', '.join(DTYPES)}"
        )
    if nodata is not None and bands.dtype.kind in "ui":
        limits = np.iinfo(bands.dtype)
        if not math.isfinite(nodata) or nodata != int(nodata) or not limits.min <= nodata <= limits.max:
            raise ConfigurationError(f"{path}: nodata {nodata} is no value of {bands.dtype}")
    for name, values in (("descriptions", descriptions), ("scales", scales), ("offsets", offsets)):
        if values is not None and len(values) != len(bands):
            raise ConfigurationError(f"{path}: {len(values)} {name} for {len(bands)} bands")
    if colormap is not None and (len(bands) != 1 or bands.dtype.name not in ("uint8", "uint16")):
        raise ConfigurationError(
            f"{path}: a colormap is for one band of uint8 or uint16, not {len(bands)} of {bands.dtype}"
        )
