"""Tiles of a job as they are read, from any thread: pixels, validity and labels of a window with its surroundings."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import shapely
from affine import Affine
from rasterio.features import geometry_mask

from geoaug.data.raster.files import georeference_optional, limit_gdal_cache
from geoaug.data.raster.grid import Grid
from geoaug.data.raster.reading import Reader, ReadMemory
from geoaug.data.raster.window import Window
from geoaug.errors import ConfigurationError, RasterError
from geoaug.io.intake import JobScene


@dataclass(frozen=True, slots=True, eq=False)
class SourceTile:
    """A window of a scene as read, `context` pixels of its surroundings included on each side.

    Attributes:
        window: the tile, without its context.
        image: (C, H, W) in the type of the scene.
        working: the same in the type of augmentation.
        valid: (H, W).
        labels: (H, W), None where the scene has no labels.
        transform: of the arrays.
        context: pixels on each side.
    """

    window: Window
    image: npt.NDArray[Any]
    working: npt.NDArray[Any]
    valid: npt.NDArray[np.bool_]
    labels: npt.NDArray[Any] | None
    transform: Affine
    context: int

    @property
    def core(self) -> tuple[slice, slice]:
        """Rows and columns of the tile in the arrays."""
        first = self.context
        return slice(first, first + self.window.height), slice(first, first + self.window.width)

    @property
    def core_transform(self) -> Affine:
        """The geotransform of the tile without its context."""
        return self.transform * Affine.translation(self.context, self.context)


class TileReader:
    """Reads windows of the scenes of a job; `read` may be called from many threads at once.

    Args:
        scenes: of the job.
        tile: side of a window with its context, in pixels.
        min_valid: windows with a smaller share of valid pixels are not given.
        threads: that call `read` at once.
    """

    def __init__(self, scenes: "Iterable[JobScene]", tile: int, min_valid: float, threads: int) -> None:
        memory = [ReadMemory.of(scene.view, tile, threads=threads) for scene in scenes]
        gdal = max((one.gdal for one in memory), default=0)
        self._reader = Reader(max((one.chunks for one in memory), default=0), threads, gdal)
        self._min_valid = min_valid
        limit_gdal_cache(gdal)

    def read(self, scene: JobScene, window: Window, context: int) -> SourceTile | None:
        """The window with its context, or None where too little of it is valid.

        Raises:
            RasterError: the scene or its labels cannot be read there.
        """
        outer = window.padded(context)
        image, valid = self._reader.window(scene.view, outer, scene.number)
        if scene.region is not None:
            _leave_region(scene.region, outer, valid)
        core = slice(context, context + window.height), slice(context, context + window.width)
        if float(valid[core].mean()) < self._min_valid:
            return None
        record = scene.record
        try:
            working = scene.pixels.to_working(image, valid)
        except RasterError as error:
            raise RasterError(f"{record.path}: {error}", path=record.path, scene=record.id) from error
        grid = scene.view.grid.crop(outer)
        return SourceTile(window, image, working, valid, _labels(scene, grid), grid.transform, context)

    def close(self) -> None:
        """Close all files, once no thread reads any more."""
        self._reader.close()


def _labels(scene: JobScene, grid: Grid) -> npt.NDArray[Any] | None:
    if scene.labels is not None:
        try:
            return scene.labels.read(grid.transform, scene.crs, grid.height, grid.width)
        except ConfigurationError as error:
            # Found in the middle of a job, a fault in the labels is one of their pixels, not of the usage.
            raise RasterError(str(error), path=error.path, scene=scene.record.id) from error
    if scene.own_labels is None:
        return None
    labels = np.empty(grid.shape, scene.own_labels.dtype)
    scene.own_labels.read(scene.record, grid, labels)
    return labels


def _leave_region(region: shapely.Geometry, window: Window, valid: npt.NDArray[np.bool_]) -> None:
    """Make pixels outside a region (in columns and rows of the grid) invalid: other splits hold that ground."""
    if not shapely.covers(region, shapely.box(window.col, window.row, window.col_stop, window.row_stop)):
        # Rasterio changes the process's warning filters while it draws, which two threads must not do at once.
        with georeference_optional():
            here = Affine.translation(window.col, window.row)
            valid &= geometry_mask([region], valid.shape, here, all_touched=False, invert=True)
