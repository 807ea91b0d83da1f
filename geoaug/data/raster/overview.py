"""A scene at a glance: all of it in few pixels, for statistics and for choosing where to look."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from affine import Affine
from rasterio.errors import RasterioError

from geoaug.data.raster.files import gdal_environment, open_dataset
from geoaug.data.raster.scene import Scene
from geoaug.errors import RasterError

LARGEST = 1024


@dataclass(frozen=True, slots=True, eq=False)
class Overview:
    """A scene read at a fraction of its resolution (nearest pixels, or the file's own overviews).

    Attributes:
        image: (C, h, w) in the stored type.
        valid: (h, w), True where all bands hold data.
        transform: of these pixels.
    """

    image: npt.NDArray[Any]
    valid: npt.NDArray[np.bool_]
    transform: Affine


def read_overview(scene: Scene, largest: int = LARGEST) -> Overview:
    """Read the chosen bands with at most `largest` pixels along the longer side.

    Raises `RasterError` where the scene cannot be read.
    """
    shrink = max(1.0, max(scene.height, scene.width) / largest)
    height, width = max(1, round(scene.height / shrink)), max(1, round(scene.width / shrink))
    try:
        with gdal_environment(scene.path)(), open_dataset(scene.path) as dataset:
            image = dataset.read(scene.band_indexes, out_shape=(len(scene.band_indexes), height, width))
            valid = np.ones((height, width), dtype=bool)
            if scene.has_mask:
                valid &= (dataset.read_masks(scene.band_indexes, out_shape=image.shape) != 0).all(axis=0)
    except (RasterioError, OSError) as error:
        raise RasterError(f"{scene.path}: cannot be read: it may be damaged or cut short ({error})") from error
    for band, nodata in zip(image, scene.band_nodata, strict=True):
        if nodata is not None:
            valid &= band != scene.dtype.type(nodata)
    if image.dtype.kind == "f":
        valid &= np.isfinite(image).all(axis=0)
    transform = scene.transform * Affine.scale(scene.width / width, scene.height / height)
    return Overview(image, valid, transform)
