"""A raster written from its top to its bottom, a few rows at a time, that ends as a Cloud Optimized GeoTIFF.

Memory holds the rows being written, whatever the raster's size. Rows go to a hidden file in the same folder; when the
last is there it becomes the COG, overviews and all, and takes its name: whole or not at all. Arrays that fit in memory
are written by `geotiff`.
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
from rasterio.errors import RasterioError
from rasterio.windows import Window as RasterioWindow

from geoaug.data.opening import georeference_optional
from geoaug.errors import ConfigurationError, GeoaugError
from geoaug.io.geotiff import creation_options

__all__ = ["StreamedRaster"]


class StreamedRaster:
    """An open raster that takes rows in order; as a context manager, it is finished or gone at the end.

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
        self._rows = 0
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
                    **creation_options(self._like, compress="lzw"),
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

    def write(self, rows: npt.NDArray[Any]) -> None:
        """The next rows, (count, n, width)."""
        if rows.shape[0] != self.count or rows.shape[2] != self.width or self._rows + rows.shape[1] > self.height:
            raise ConfigurationError(
                f"{self.path}: rows {rows.shape} do not fit {self.count} bands of {self.height} x {self.width} pixels "
                f"with {self._rows} rows written"
            )
        try:
            self._dataset.write(rows, window=RasterioWindow(0, self._rows, self.width, rows.shape[1]))
        except (RasterioError, OSError) as error:
            raise GeoaugError(f"{self.path}: cannot be written ({error})") from error
        self._rows += rows.shape[1]

    def __enter__(self) -> StreamedRaster:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._dataset.close()
            if kind is None:
                self._finish()
        finally:
            self._remove()

    def _finish(self) -> None:
        if self._rows != self.height:
            raise ConfigurationError(f"{self.path}: {self._rows} of {self.height} rows were written; it was dropped")
        options = creation_options(self._like, format="cog", categorical=self._categorical)
        options["blocksize"] = 256 if max(self.height, self.width) <= 512 else 512
        try:
            with georeference_optional():
                rasterio.shutil.copy(self._rough, self._whole, **options)
            self._whole.replace(self.path)
        except (RasterioError, OSError) as error:
            raise GeoaugError(f"{self.path}: cannot be written ({error})") from error

    def _remove(self) -> None:
        for path in (self._rough, self._whole):
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
