"""Tiles of a job as they are read, from any thread: pixels, validity and labels of a window with its surroundings.

Here also: pixel types that augmentation does not compute in, and how they are brought to one that it does, and back.
Tiles are always written in the type of their scene. uint8, uint16, int16 and float32 are augmented as they are; the
others take a detour through a wider or a floating type, which is refused where it would change values.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import shapely
from affine import Affine
from rasterio.features import geometry_mask

from geoaug.data.raster.files import limit_gdal_cache
from geoaug.data.raster.grid import Grid
from geoaug.data.raster.reading import Reader, ReadMemory
from geoaug.data.raster.window import Window
from geoaug.errors import ConfigurationError, RasterError

if TYPE_CHECKING:
    from geoaug.io.intake import JobScene

_AS_STORED = ("uint8", "uint16", "int16", "float32")
_DETOURS = {"int8": "int16", "int32": "float32", "uint32": "float32", "float64": "float32"}
# Whole numbers up to here are exact in float32.
_EXACT_IN_FLOAT32 = 2**24


@dataclass(frozen=True, slots=True)
class PixelType:
    """The type a scene is stored in with its fill value, and the type it is augmented in."""

    stored: np.dtype[Any]
    fill: float

    @property
    def working(self) -> np.dtype[Any]:
        """numpy's type during augmentation."""
        return self.stored if self.stored.name in _AS_STORED else np.dtype(_DETOURS[self.stored.name])

    @property
    def working_fill(self) -> float:
        """The fill value during augmentation: a pixel's validity, not its value, tells where to put `fill` back."""
        return self.fill if self.working == self.stored else 0.0

    @property
    def note(self) -> str | None:
        """What a person should know of the detour, None where it changes nothing."""
        if self.stored == np.float64:
            return "float64 pixels are augmented with the precision of float32 (7 digits) and written as float64"
        return None

    def to_working(self, image: npt.NDArray[Any], valid: npt.NDArray[np.bool_]) -> npt.NDArray[Any]:
        """An image (C, H, W) in the working type, values of invalid pixels (H, W) being of no account.

        Raises `RasterError` where valid values would not survive.
        """
        if self.working == self.stored:
            return image
        image = np.where(valid, image, image.dtype.type(0))
        if self.working == np.float32:
            limit = _EXACT_IN_FLOAT32 if self.stored.kind in "iu" else float(np.finfo(np.float32).max)
            largest = max(abs(float(image.max(initial=0))), abs(float(image.min(initial=0))))
            if largest > limit:
                raise RasterError(
                    f"holds {largest:.10g}: {self.stored.name} values beyond {limit:.8g} cannot be augmented without "
                    "loss; rescale them first"
                )
        return image.astype(self.working)

    def from_working(self, image: npt.NDArray[Any], valid: npt.NDArray[np.bool_]) -> npt.NDArray[Any]:
        """An augmented image (C, H, W) in the stored type: rounded, saturated, `fill` where invalid and only there."""
        if self.working == self.stored:
            return image
        if self.stored.kind == "f":
            return np.where(valid, image.astype(self.stored), self.stored.type(self.fill))
        limits = np.iinfo(self.stored)
        values = np.clip(np.rint(image.astype(np.float64)), limits.min, limits.max)
        values[values == self.fill] += 1 if self.fill < limits.max else -1
        return np.where(valid, values, self.fill).astype(self.stored)


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

    def read(self, scene: "JobScene", window: Window, context: int) -> SourceTile | None:
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


def _labels(scene: "JobScene", grid: Grid) -> npt.NDArray[Any] | None:
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
        here = Affine.translation(window.col, window.row)
        valid &= geometry_mask([region], valid.shape, here, all_touched=False, invert=True)
