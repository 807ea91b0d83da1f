"""What a job writes and where: its folder, and tiles with their masks and their records for the manifest.

Whether a folder may be written to and what an earlier run left there is settled before any tile; only files that geoaug
itself named are ever removed. Tiles are written from any thread.
"""

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from affine import Affine

from geoaug.data.labels.raster import RasterLabels
from geoaug.data.raster.window import Window
from geoaug.errors import ConfigurationError
from geoaug.io.geotiff import replace_file, write_geotiff
from geoaug.io.intake import Intake, JobScene
from geoaug.io.job import AugmentJob
from geoaug.io.manifest import TileRecord

_NO_CLOUD_LABEL = 255
_CLOUD_TAGS = {"CLASS_0": "clear", "CLASS_1": "thick cloud", "CLASS_2": "thin cloud", "CLASS_3": "cloud shadow"}


_TILE = re.compile(r".+_r\d+_c\d+_(a\d+|orig)\.tif")
_UNFINISHED = re.compile(r"\..+\.[0-9a-f]{12}\.tmp")


@dataclass(frozen=True, slots=True)
class OutputFolder:
    """The output of a job: `images/`, `masks/`, `clouds/`, and the records beside them."""

    root: Path

    @property
    def images(self) -> Path:
        return self.root / "images"

    @property
    def masks(self) -> Path:
        return self.root / "masks"

    @property
    def clouds(self) -> Path:
        return self.root / "clouds"

    @property
    def manifest(self) -> Path:
        return self.root / "manifest.parquet"

    @property
    def recipe(self) -> Path:
        return self.root / "recipe.yaml"

    @property
    def classes(self) -> Path:
        return self.root / "classes.json"

    def check(self, *, overwrite: bool) -> None:
        """Refuse a folder that cannot or must not be written to; changes nothing.

        Raises `ConfigurationError`.
        """
        if self.root.exists():
            if not self.root.is_dir():
                raise ConfigurationError(f"{self.root}: is a file, wanted for a folder")
            if not overwrite and any(self.root.iterdir()):
                raise ConfigurationError(
                    f"{self.root}: is not empty; choose another folder, or --overwrite the tiles of an earlier run"
                )
        parent = next(folder for folder in (self.root, *self.root.absolute().parents) if folder.exists())
        if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
            raise ConfigurationError(f"{self.root}: cannot be written, as {parent} is read-only or no folder")

    def check_inputs(self, paths: Iterable[str]) -> None:
        """Refuse inputs that overwriting this folder would remove."""
        doomed = {path.resolve() for path in self._own_files()}
        for path in paths:
            if Path(path).resolve() in doomed:
                raise ConfigurationError(
                    f"{path}: is an input and would be overwritten; choose another output than {self.root}"
                )

    def prepare(self, *, masks: bool) -> None:
        """Remove what an earlier run wrote and make the folders; other files stay."""
        try:
            for path in list(self._own_files()):
                path.unlink(missing_ok=True)
            for folder, wanted in ((self.masks, masks), (self.clouds, False)):
                if folder.is_dir() and not wanted and not any(folder.iterdir()):
                    folder.rmdir()
            self.images.mkdir(parents=True, exist_ok=True)
            if masks:
                self.masks.mkdir(exist_ok=True)
        except OSError as error:
            raise ConfigurationError(f"{self.root}: cannot be written ({error.strerror or error})") from error

    def write_text(self, path: Path, text: str) -> None:
        """Put a text file of this folder in place at once."""
        replace_file(path, text.encode())

    def _own_files(self) -> Iterator[Path]:
        for path in (self.manifest, self.recipe, self.classes):
            if path.is_file():
                yield path
        for folder in (self.root, self.images, self.masks, self.clouds):
            if folder.is_dir():
                names = _UNFINISHED.fullmatch if folder == self.root else _is_ours
                yield from (path for path in folder.iterdir() if names(path.name) and path.is_file())


def tile_name(scene_id: str, window: Window, copy: int) -> str:
    """The file name of a tile; copy 0 is the original."""
    return f"{scene_id}_r{window.row}_c{window.col}_{f'a{copy}' if copy else 'orig'}.tif"


def _is_ours(name: str) -> bool:
    return bool(_TILE.fullmatch(name) or _UNFINISHED.fullmatch(name))


@dataclass(frozen=True, slots=True, eq=False)
class OutputTile:
    """A tile ready to be written.

    Attributes:
        scene: that it comes from.
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

    scene: JobScene
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

    def __init__(self, job: AugmentJob, folder: OutputFolder, intake: Intake) -> None:
        self._job = job
        self._folder = folder
        self._colormap = None
        labels = intake.labels
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
        record = tile.scene.record
        name = tile_name(record.id, tile.window, tile.copy)
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
            source=record.path,
            scene=record.id,
            row=tile.window.row,
            col=tile.window.col,
            height=tile.window.height,
            width=tile.window.width,
            copy=tile.copy,
            seed=self._job.seed,
            key=tile.key,
            crs=tile.scene.crs_text,
            transform=tile.transform,
            size=size,
            valid_fraction=valid_fraction,
            class_counts=None if tile.mask is None else self._class_counts(tile.mask),
            parameters=tile.parameters,
        )

    def _write_image(self, tile: OutputTile, name: str) -> None:
        scene = tile.scene
        scales, offsets = _scaling(scene)
        write_geotiff(
            self._folder.images / name,
            self._encoded(tile),
            transform=tile.transform,
            crs=scene.crs,
            nodata=self._nodata(tile),
            mask=None if tile.valid.all() or not self._needs_mask(tile) else tile.valid,
            descriptions=scene.sensor.band_names,
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
            crs=tile.scene.crs,
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
            crs=tile.scene.crs,
            nodata=_NO_CLOUD_LABEL,
            format=self._job.format,
            compress=self._job.compress,
            tags=_CLOUD_TAGS,
        )

    def _encoded(self, tile: OutputTile) -> npt.NDArray[Any]:
        if tile.copy:
            return tile.scene.pixels.from_working(tile.image, tile.valid)
        # The original keeps its pixels; what the scene's mask or another band made invalid is marked so.
        if tile.valid.all():
            return tile.image
        return np.where(tile.valid, tile.image, tile.image.dtype.type(self._fill(tile)))

    def _nodata(self, tile: OutputTile) -> float | None:
        if self._needs_mask(tile) or (tile.copy == 0 and tile.scene.record.nodata is None and tile.valid.all()):
            return None
        return self._fill(tile)

    def _needs_mask(self, tile: OutputTile) -> bool:
        """Whether invalid pixels are marked by a mask, since valid ones hold the value that would mark them.

        Augmented pixels step aside from the fill value. Original ones do not.
        """
        return tile.copy == 0 and bool(((tile.image == self._fill(tile)) & tile.valid).any())

    @staticmethod
    def _fill(tile: OutputTile) -> float:
        return tile.scene.pixels.fill

    def _class_counts(self, mask: npt.NDArray[Any]) -> dict[int, int]:
        ids, counts = np.unique(mask, return_counts=True)
        return {
            int(number): int(count)
            for number, count in zip(ids, counts, strict=True)
            if number != self._job.ignore_index
        }


def _scaling(scene: JobScene) -> tuple[tuple[float, ...] | None, tuple[float, ...] | None]:
    """GDAL's scales and offsets for the tiles: the file's own, or those that its metadata makes necessary.

    What a product's name or metadata say, or a catalog, would be lost with them: a tile says it itself.
    """
    sensor, header = scene.sensor, scene.source.header
    if header is not None and (any(scale != 1 for scale in header.scales) or any(header.offsets)):
        return header.scales, header.offsets
    scaled = header is None and any(value != 1 for value in sensor.quantification)
    if scaled or any(sensor.offset):
        scaling = list(zip(sensor.quantification, sensor.offset, strict=True))
        return tuple(1 / q for q, _ in scaling), tuple(offset / q for q, offset in scaling)
    return None, None
