"""Class labels in a raster, taken to the grid of a tile without mixing classes.

Each tile pixel gets the label pixel that holds its centre, whatever the grids' rotation, resolution or CRS.
Where both grids are the same but for a shift by whole pixels this is a plain windowed read.
"""

import os
import re
import threading
from collections.abc import Mapping
from functools import cached_property
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt
import shapely
from affine import Affine
from rasterio.crs import CRS
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.errors import RasterioError
from rasterio.io import DatasetReader
from rasterio.windows import Window as RasterioWindow

from geoaug.data.labels.label_source import check_crs, label_dtype
from geoaug.data.raster.files import open_dataset, place_of
from geoaug.data.raster.grid import Coordinates, centres_on, crs_text, footprint_in, same_crs, turn_of
from geoaug.data.raster.meridians import moved
from geoaug.data.raster.window import Window
from geoaug.errors import ConfigurationError, RasterError

_LARGEST_READ = 16_000_000  # pixels; labels much finer than the tile are read in parts
_SHIFT_TOLERANCE = 1e-3  # pixels over the whole tile, within which two grids are the same
# A centre on the very edge between two label pixels belongs to the later one, whatever rounding says.
_TIE = 1e-6
_LOOKED_AT = 64  # pixel centres down, and across, by which it is found whether a grid and the labels meet


class RasterLabels:
    """Labels from a single-band raster of whole numbers; may be read from many threads at once.

    Nodata, masked pixels, NaN and the area outside the raster are `ignore_index`, and so is a class of that
    very number. `colormap` is the raster's palette, None where it has none; `class_names` are its tags `CLASS_0`,
    `CLASS_1`... A palette or a class raster
    stored as float is read by its values, which must be whole. Raises `RasterError` for what is no raster and
    `ConfigurationError` for one that cannot hold labels.
    """

    def __init__(self, path: str, *, ignore_index: int = 255) -> None:
        self.path = str(path)
        self.ignore_index = int(ignore_index)
        self._local = threading.local()
        self._handles: list[DatasetReader] = []
        self._lock = threading.Lock()
        dataset = self._dataset()
        bands = [index for index in dataset.indexes if dataset.colorinterp[index - 1] != ColorInterp.alpha]
        if len(bands) != 1:
            raise ConfigurationError(f"{path}: has {len(bands)} bands, and a raster of labels has one", path=path)
        stored = np.dtype(dataset.dtypes[bands[0] - 1])
        if stored.kind not in "uif":
            raise ConfigurationError(
                f"{path}: pixels of type {stored} cannot be class ids: convert them to integers", path=path
            )
        self._band = bands[0]
        flags = dataset.mask_flag_enums[self._band - 1]
        self._has_mask = MaskFlags.per_dataset in flags
        self._nodata = dataset.nodatavals[self._band - 1]
        self.crs, self.transform, _ = place_of(dataset)
        self.height, self.width = int(dataset.height), int(dataset.width)
        self.block_shape: tuple[int, int] = dataset.block_shapes[self._band - 1]
        small = stored.kind in "ui" and stored.itemsize <= 2
        limits = np.iinfo(stored if small else np.int32)
        self.dtype = label_dtype(int(limits.min), int(limits.max), self.ignore_index)
        self.colormap = self._read_colormap(dataset)
        self.class_names: Mapping[int, str] = MappingProxyType(_names_in_tags(dataset.tags()))

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopen, (self.path, self.ignore_index)

    @cached_property
    def classes(self) -> tuple[int, ...]:
        """The ids that occur, sorted, without `ignore_index`. Reads the whole raster, once."""
        rows = max(_LARGEST_READ // self.width // self.block_shape[0], 1) * self.block_shape[0]
        found: set[int] = set()
        for row in range(0, self.height, rows):
            part = self._values(Window(row, 0, min(rows, self.height - row), self.width))
            found.update(int(value) for value in np.unique(part))
        return tuple(sorted(found - {self.ignore_index}))

    def read(self, transform: Affine, crs: CRS | str | None, height: int, width: int) -> npt.NDArray[Any]:
        """The ids (height, width) on a grid; see `LabelSource.read`."""
        check_crs(self.path, self.crs, crs)
        labels = np.full((height, width), self.ignore_index, dtype=self.dtype)
        shift = self._shift(transform, crs, height, width)
        inner = None if shift is None else shift.inside(self.height, self.width)
        if shift is None or (inner != shift and self._turn is not None):
            columns, rows = centres_on(self.transform, self.crs, transform, crs, height, width)
            for side in self._sides(columns):
                self._gather(side, rows, labels)
            return labels
        if inner is not None:
            where = np.s_[
                inner.row - shift.row : inner.row_stop - shift.row,
                inner.col - shift.col : inner.col_stop - shift.col,
            ]
            labels[where] = self._values(inner)
        return labels

    def overlaps(self, transform: Affine, crs: CRS | str | None, height: int, width: int) -> bool:
        """Whether the raster and a grid share any ground."""
        check_crs(self.path, self.crs, crs)
        outline = footprint_in(transform, crs or "", height, width, self.crs or "")
        if outline is None or not outline.is_valid:  # torn in this CRS, or reaching past it
            coarse = min(height, _LOOKED_AT), min(width, _LOOKED_AT)
            scaled = transform * Affine.scale(width / coarse[1], height / coarse[0])
            columns, rows = centres_on(self.transform, self.crs, scaled, crs, *coarse)
            return any(self._inside(side, rows).any() for side in self._sides(columns))
        a, b, c, d, e, f = (~self.transform)[:6]
        on_labels = shapely.transform(
            outline, lambda xy: np.stack([xy @ np.array([a, b]) + c, xy @ np.array([d, e]) + f], axis=1)
        )
        box = shapely.box(0, 0, self.width, self.height)
        turn = self._turn
        places = [on_labels] if turn is None else [moved(on_labels, turns * turn) for turns in (-1, 0, 1)]
        return any(shapely.intersection(place, box).area > _TIE for place in places)

    def close(self) -> None:
        """Close the files that the threads have open."""
        with self._lock:
            for handle in self._handles:
                handle.close()
            self._handles.clear()
            self._local = threading.local()

    def _dataset(self) -> DatasetReader:
        # An open file is neither shared between threads nor taken over by a forked process.
        if getattr(self._local, "process", None) != os.getpid():
            self._local.dataset = open_dataset(self.path)
            self._local.process = os.getpid()
            with self._lock:
                self._handles.append(self._local.dataset)
        return self._local.dataset

    def _read_colormap(self, dataset: DatasetReader) -> dict[int, tuple[int, int, int, int]] | None:
        try:
            return dict(dataset.colormap(self._band))
        except ValueError:
            return None

    def _shift(self, transform: Affine, crs: CRS | str | None, height: int, width: int) -> Window | None:
        """The window of the label raster which is the grid itself, or None where the grids differ by more."""
        if not same_crs(self.crs, crs):
            return None
        a, b, c, d, e, f = (~self.transform * transform)[:6]
        stretch = max(abs(a - 1) * width, abs(b) * height, abs(d) * width, abs(e - 1) * height)
        if max(stretch, abs(c - round(c)), abs(f - round(f))) > _SHIFT_TOLERANCE:
            return None
        return Window(round(f), round(c), height, width)

    @cached_property
    def _turn(self) -> float | None:
        """How many columns one turn around the Earth is; None where columns do not lead around it."""
        turn = None if self.crs is None else turn_of(crs_text(self.crs) or "")
        a, b, _, d, _, _ = self.transform[:6]
        return None if turn is None or b or d else abs(turn / a)

    def _sides(self, columns: Coordinates) -> list[Coordinates]:
        """Columns as the raster counts them: a turn around the Earth further on or back where it lies there.

        Where a tile lies over both the first and the last columns of a raster of the world, each side for itself, NaN
        at the other: what lies between is not read.
        """
        turn = self._turn
        with np.errstate(invalid="ignore"):
            if turn is None or ((columns >= -_TIE) & (columns < self.width)).all():
                found = columns
            else:
                found = (columns + _TIE) % turn - _TIE
            if turn is None or not np.nanmax(found) - np.nanmin(found) > turn / 2:
                return [found]
            return [np.where(found < turn / 2, found, np.nan), np.where(found >= turn / 2, found, np.nan)]

    def _inside(self, columns: Coordinates, rows: Coordinates) -> npt.NDArray[np.bool_]:
        with np.errstate(invalid="ignore"):
            columns, rows = np.floor(columns + _TIE), np.floor(rows + _TIE)
            return (columns >= 0) & (columns < self.width) & (rows >= 0) & (rows < self.height)

    def _gather(self, columns: Coordinates, rows: Coordinates, labels: npt.NDArray[Any]) -> None:
        """Write to `labels` the ids at fractional (columns, rows) of the raster, where those lie inside
        it."""
        inside = self._inside(columns, rows)
        if not inside.any():
            return
        columns, rows = np.floor(columns + _TIE), np.floor(rows + _TIE)
        column, row = columns[inside].astype(np.int64), rows[inside].astype(np.int64)
        first_row, first_col = int(row.min()), int(column.min())
        window = Window(first_row, first_col, int(row.max()) - first_row + 1, int(column.max()) - first_col + 1)
        if window.height * window.width > _LARGEST_READ and labels.size > 1:
            axis = int(labels.shape[1] > labels.shape[0])
            halves = (np.array_split(array, 2, axis=axis) for array in (columns, rows, labels))
            for part in zip(*halves, strict=True):
                self._gather(*part)
            return
        labels[inside] = self._values(window)[row - first_row, column - first_col]

    def _values(self, window: Window) -> npt.NDArray[Any]:
        """The ids in a window inside the raster, `ignore_index` where there is none."""
        where = RasterioWindow(window.col, window.row, window.width, window.height)
        dataset = self._dataset()
        try:
            stored = dataset.read(self._band, window=where)
            labelled = dataset.read_masks(self._band, window=where) != 0 if self._has_mask else None
        except (RasterioError, OSError) as error:
            raise RasterError(
                f"{self.path}: cannot read labels at rows {window.row} to {window.row_stop - 1}, columns "
                f"{window.col} to {window.col_stop - 1}: the file may be damaged or cut short "
                f"({error.__cause__ or error})",
                path=self.path,
            ) from error
        if labelled is None:
            labelled = np.ones(stored.shape, dtype=bool)
        if self._nodata is not None:
            with np.errstate(over="ignore"):
                labelled &= stored != np.asarray(self._nodata).astype(stored.dtype)
        if stored.dtype.kind == "f":
            labelled &= ~np.isnan(stored)
        self._check_ids(stored[labelled])
        return np.where(labelled, stored, self.ignore_index).astype(self.dtype)

    def _check_ids(self, ids: npt.NDArray[Any]) -> None:
        limits = np.iinfo(self.dtype)
        if ids.dtype.kind == "f" and (fractions := ids[ids != np.floor(ids)]).size:
            raise ConfigurationError(
                f"{self.path}: holds {fractions[0]:g} where class ids are expected: labels must be whole numbers",
                path=self.path,
            )
        if ids.size and (ids.min() < limits.min or ids.max() > limits.max):
            raise ConfigurationError(
                f"{self.path}: holds class ids from {ids.min()} to {ids.max()}, more than 32 bits: renumber them",
                path=self.path,
            )


def _names_in_tags(tags: Mapping[str, str]) -> dict[int, str]:
    found = ((re.fullmatch(r"CLASS_(\d+)", key), name.strip()) for key, name in tags.items())
    return {int(match[1]): name for match, name in found if match and name}


def _reopen(path: str, ignore_index: int) -> RasterLabels:
    return RasterLabels(path, ignore_index=ignore_index)
