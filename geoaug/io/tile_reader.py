"""Reading tiles for a job from any thread: pixels, validity and labels of a window with its surroundings."""

import threading
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from affine import Affine

from geoaug.data.labels.label_source import LabelSource
from geoaug.data.raster.scene import Scene, SceneReader
from geoaug.data.raster.window import Window
from geoaug.errors import ConfigurationError, RasterError
from geoaug.io.pixel_types import PixelType


@dataclass(frozen=True, slots=True, eq=False)
class SourceTile:
    """A window of a scene as read, `context` pixels of its surroundings included on each side.

    Attributes:
        window: the tile, without its context.
        image: (C, H, W) in the type of the scene.
        working: the same in the type of augmentation.
        valid: (H, W).
        labels: (H, W), None where the job has no labels.
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
    """Reads windows of scenes, keeping one file open in each thread.

    `read` may be called from many threads at once; `close` only when none of them reads.
    """

    def __init__(self, labels: LabelSource | None, min_valid: float) -> None:
        self._labels = labels
        self._min_valid = min_valid
        self._local = threading.local()
        self._open: list[SceneReader] = []
        self._lock = threading.Lock()

    def read(self, scene: Scene, pixels: PixelType, window: Window, context: int) -> SourceTile | None:
        """The window with its context, or None where too little of it is valid.

        Raises `RasterError` where the scene or its labels cannot be read there.
        """
        tile = self._reader(scene).read(window, context)
        transform, valid = tile.transform, tile.valid
        core = slice(context, context + window.height), slice(context, context + window.width)
        if float(valid[core].mean()) < self._min_valid:
            return None
        try:
            working = pixels.to_working(tile.image, valid)
        except RasterError as error:
            raise RasterError(f"{scene.path}: {error}") from error
        labels = None
        if self._labels is not None:
            try:
                labels = self._labels.read(transform, scene.crs, *valid.shape)
            except ConfigurationError as error:
                # Found in the middle of a job, a fault in the labels is one of their pixels, not of the usage.
                raise RasterError(str(error)) from error
        return SourceTile(window, tile.image, working, valid, labels, transform, context)

    def close(self) -> None:
        """Close all files; they are opened again by the next `read`."""
        with self._lock:
            for reader in self._open:
                reader.close()
            self._open.clear()
            self._local = threading.local()

    def _reader(self, scene: Scene) -> SceneReader:
        reader: SceneReader | None = getattr(self._local, "reader", None)
        if reader is None or reader.scene is not scene:
            if reader is not None:
                with self._lock:
                    self._open.remove(reader)
                reader.close()
                self._local.reader = None
            reader = SceneReader(scene)
            with self._lock:
                self._open.append(reader)
            self._local.reader = reader
        return reader
