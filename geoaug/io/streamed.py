"""A raster written piece by piece from its top to its bottom, that ends as a Cloud Optimized GeoTIFF.

Memory holds the blocks being written (GDAL's cache), whatever the raster's size. Pieces go to a hidden file in the same
folder; when all are there it becomes the COG, overviews and all, and takes its name: whole or not at all. The hidden
file keeps bands apart, whose overviews GDAL takes several times faster than those of interleaved bands. Arrays that fit
in memory are written by `geotiff`.
"""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt
import rasterio
import rasterio.shutil
from affine import Affine
from rasterio.crs import CRS
from rasterio.enums import Resampling
from rasterio.errors import RasterioError
from rasterio.windows import Window as RasterioWindow

from geoaug.data.raster.files import georeference_optional
from geoaug.errors import ConfigurationError, GeoaugError
from geoaug.io.geotiff import creation_options

__all__ = ["StreamedRaster"]


class StreamedRaster:
    """An open raster that takes pieces, each pixel once; as a context manager, it is finished or gone at the end.

    Args:
        path: of the COG.
        count: of bands.
        height: in pixels.
        width: in pixels.
        dtype: of the pixels.
        transform: geotransform.
        crs: or None.
        nodata: or None.
        categorical: whether pixels are classes, of which overviews take the nearest and not the mean.
        descriptions: of the bands.
        scales: value of a step of each band.
        colormap: id to colour, for one band of uint8.
        tags: of the file.

    Raises:
        GeoaugError: the file cannot be written.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        count: int,
        height: int,
        width: int,
        dtype: str,
        transform: Affine,
        crs: CRS | None,
        nodata: float | None = None,
        categorical: bool = False,
        descriptions: Sequence[str] | None = None,
        scales: Sequence[float] | None = None,
        colormap: Mapping[int, tuple[int, ...]] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        self.path = Path(path)
        self.height, self.width, self.count = height, width, count
        self._pixels = 0
        self._like = np.empty((count, height if height < 256 else 256, width if width < 256 else 256), dtype)
        self._categorical = categorical
        token = uuid.uuid4().hex[:12]
        self._rough = self.path.with_name(f".{self.path.name}.{token}.rows.tif")
        self._whole = self.path.with_name(f".{self.path.name}.{token}.cog.tif")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with georeference_optional():
                self._dataset = rasterio.open(
                    self._rough,
                    "w",
                    **creation_options(self._like),
                    interleave="band",
                    count=count,
                    height=height,
                    width=width,
                    dtype=dtype,
                    crs=crs,
                    transform=transform,
                    nodata=nodata,
                )
            for band, description in enumerate(descriptions or (), start=1):
                self._dataset.set_band_description(band, description)
            if scales is not None:
                self._dataset.scales = tuple(scales)
            if colormap is not None:
                self._dataset.write_colormap(1, {int(key): tuple(colour) for key, colour in colormap.items()})
            if tags:
                self._dataset.update_tags(**tags)
        except (RasterioError, OSError, ValueError) as error:
            self._remove()
            raise GeoaugError(f"{self.path}: cannot be written ({error})") from error

    def write(self, pixels: npt.NDArray[Any], row: int, col: int = 0) -> None:
        """A piece (count, n, m) whose upper left pixel is at row and column. From top to bottom is fastest."""
        count, rows, columns = pixels.shape
        if count != self.count or not (0 <= row <= self.height - rows and 0 <= col <= self.width - columns):
            raise ConfigurationError(
                f"{self.path}: pixels {pixels.shape} at row {row}, column {col} do not fit {self.count} bands of "
                f"{self.height} x {self.width} pixels"
            )
        try:
            self._dataset.write(pixels, window=RasterioWindow(col, row, columns, rows))
        except (RasterioError, OSError) as error:
            raise GeoaugError(f"{self.path}: cannot be written ({error})") from error
        self._pixels += rows * columns

    def __enter__(self) -> StreamedRaster:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._finish()
        finally:
            self._dataset.close()
            self._remove()

    def _finish(self) -> None:
        if self._pixels != self.height * self.width:
            raise ConfigurationError(
                f"{self.path}: {self._pixels} of {self.height * self.width} pixels were written; it was dropped"
            )
        options = creation_options(self._like, format="cog", categorical=self._categorical)
        side = max(self.height, self.width)
        options["blocksize"] = block = 256 if side <= 512 else 512
        # The COG takes the overviews that it finds.
        factors = [2**power for power in range(1, 32) if block * 2 ** (power - 1) < side]
        try:
            if factors:
                resampling = Resampling.nearest if self._categorical else Resampling.average
                self._dataset.build_overviews(factors, resampling)
            self._dataset.close()
            with georeference_optional():
                rasterio.shutil.copy(self._rough, self._whole, num_threads="ALL_CPUS", **options)
            self._whole.replace(self.path)
        except (RasterioError, OSError) as error:
            raise GeoaugError(f"{self.path}: cannot be written ({error})") from error

    def _remove(self) -> None:
        for path in (self._rough, self._whole):
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
