"""Writing tiles for a job from any thread: the image, its mask, and the record for the manifest."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from affine import Affine

from geoaug.data.labels.label_source import LabelSource
from geoaug.data.labels.raster import RasterLabels
from geoaug.data.raster.window import Window
from geoaug.io.geotiff import write_geotiff
from geoaug.io.intake import SceneWork
from geoaug.io.job import AugmentJob
from geoaug.io.manifest import TileRecord
from geoaug.io.output_folder import OutputFolder, tile_name

_NO_CLOUD_LABEL = 255
_CLOUD_TAGS = {"CLASS_0": "clear", "CLASS_1": "thick cloud", "CLASS_2": "thin cloud", "CLASS_3": "cloud shadow"}


@dataclass(frozen=True, slots=True, eq=False)
class OutputTile:
    """A tile ready to be written.

    Attributes:
        work: the scene it comes from.
        window: of that scene.
        copy: number of the copy; 0 is the original.
        key: of its randomness.
        image: (C, H, W); an augmented one is in the type of augmentation, an original in that of the scene.
        valid: (H, W).
        mask: (H, W) class ids, None without labels.
        transform: of the pixel grid as it is now.
        parameters: what was drawn.
        cloud: (H, W) classes of made clouds and shadows, None where the recipe makes none.
    """

    work: SceneWork
    window: Window
    copy: int
    key: int
    image: npt.NDArray[Any]
    valid: npt.NDArray[np.bool_]
    mask: npt.NDArray[Any] | None
    transform: Affine
    parameters: dict[str, Any]
    cloud: npt.NDArray[np.uint8] | None = None


class TileWriter:
    """Writes tiles into the folder of a job; `write` may be called from many threads at once."""

    def __init__(self, job: AugmentJob, folder: OutputFolder, labels: LabelSource | None) -> None:
        self._job = job
        self._folder = folder
        self._colormap = None
        self._class_tags = {f"CLASS_{number}": name for number, name in (labels.class_names if labels else {}).items()}
        if isinstance(labels, RasterLabels) and labels.dtype.name in ("uint8", "uint16"):
            self._colormap = labels.colormap

    def write(self, tile: OutputTile) -> TileRecord | None:
        """Write a tile and give its record, or None where too little of it is valid to be kept.

        Raises `GeoaugError` where it cannot be written.
        """
        valid_fraction = float(tile.valid.mean())
        if valid_fraction < self._job.min_valid:
            return None
        scene = tile.work.scene
        name = tile_name(scene.id, tile.window, tile.copy)
        try:
            self._write_image(tile, name)
            if tile.mask is not None:
                self._write_mask(tile, tile.mask, name)
            if tile.cloud is not None:
                self._write_cloud(tile, tile.cloud, name)
        except BaseException:
            # An image without its mask is not a whole tile.
            for folder in (self._folder.images, self._folder.masks, self._folder.clouds):
                (folder / name).unlink(missing_ok=True)
            raise
        size = (tile.image.shape[1], tile.image.shape[2])
        return TileRecord(
            image=f"images/{name}",
            mask=None if tile.mask is None else f"masks/{name}",
            source=scene.path,
            scene=scene.id,
            row=tile.window.row,
            col=tile.window.col,
            height=tile.window.height,
            width=tile.window.width,
            copy=tile.copy,
            seed=self._job.seed,
            key=tile.key,
            crs=tile.work.crs_text,
            transform=tile.transform,
            size=size,
            valid_fraction=valid_fraction,
            class_counts=None if tile.mask is None else self._class_counts(tile.mask),
            parameters=tile.parameters,
        )

    def _write_image(self, tile: OutputTile, name: str) -> None:
        scene = tile.work.scene
        scales, offsets = _scaling(tile.work)
        write_geotiff(
            self._folder.images / name,
            self._encoded(tile),
            transform=tile.transform,
            crs=scene.crs,
            nodata=self._nodata(tile),
            descriptions=scene.band_names,
            scales=scales,
            offsets=offsets,
            format=self._job.format,
            compress=self._job.compress,
        )

    def _write_mask(self, tile: OutputTile, mask: npt.NDArray[Any], name: str) -> None:
        write_geotiff(
            self._folder.masks / name,
            mask,
            transform=tile.transform,
            crs=tile.work.scene.crs,
            nodata=self._job.ignore_index,
            format=self._job.format,
            compress=self._job.compress,
            colormap=self._colormap,
            tags=self._class_tags,
        )

    def _write_cloud(self, tile: OutputTile, cloud: npt.NDArray[np.uint8], name: str) -> None:
        self._folder.clouds.mkdir(exist_ok=True)
        write_geotiff(
            self._folder.clouds / name,
            np.where(tile.valid, cloud, np.uint8(_NO_CLOUD_LABEL)),
            transform=tile.transform,
            crs=tile.work.scene.crs,
            nodata=_NO_CLOUD_LABEL,
            format=self._job.format,
            compress=self._job.compress,
            tags=_CLOUD_TAGS,
        )

    def _encoded(self, tile: OutputTile) -> npt.NDArray[Any]:
        if tile.copy:
            return tile.work.pixels.from_working(tile.image, tile.valid)
        # The original keeps its pixels; what the scene's mask or another band made invalid is marked so.
        return (
            tile.image
            if tile.valid.all()
            else np.where(tile.valid, tile.image, tile.image.dtype.type(self._fill(tile)))
        )

    def _nodata(self, tile: OutputTile) -> float | None:
        # Augmented pixels step aside from the fill value. Original ones do not: where none is invalid in a scene
        # without nodata, marking the fill value would lose pixels that hold it.
        if tile.copy == 0 and tile.work.scene.nodata is None and tile.valid.all():
            return None
        return self._fill(tile)

    @staticmethod
    def _fill(tile: OutputTile) -> float:
        return tile.work.pixels.fill

    def _class_counts(self, mask: npt.NDArray[Any]) -> dict[int, int]:
        ids, counts = np.unique(mask, return_counts=True)
        return {
            int(number): int(count)
            for number, count in zip(ids, counts, strict=True)
            if number != self._job.ignore_index
        }


def _scaling(work: SceneWork) -> tuple[tuple[float, ...] | None, tuple[float, ...] | None]:
    """GDAL's scales and offsets for the tiles: the scene's own, or those that its offset makes necessary.

    An offset that was told by the product's name or metadata would be lost with them: a tile says it itself.
    """
    scene = work.scene
    if any(scale != 1 for scale in scene.scales) or any(scene.offsets):
        return scene.scales, scene.offsets
    if any(scene.sensor.offset):
        scaling = list(zip(scene.sensor.quantification, scene.sensor.offset, strict=True))
        return tuple(1 / q for q, _ in scaling), tuple(offset / q for q, offset in scaling)
    return None, None
