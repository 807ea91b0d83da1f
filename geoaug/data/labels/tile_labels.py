"""Labels of tiles: one source for all scenes, or a raster that belongs to each scene, checked against the classes."""

import threading
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from numbers import Integral
from typing import Any, TypeGuard

import numpy as np
import numpy.typing as npt

from geoaug.data.labels.label_source import LabelSource
from geoaug.data.labels.opening import open_labels
from geoaug.data.raster.advice import LEAVE_OUT
from geoaug.data.raster.files import reading
from geoaug.data.raster.grid import Grid
from geoaug.data.raster.record import SceneRecord
from geoaug.errors import ConfigurationError, RasterError

_MOST_OPEN = 32


def checked_class_ids(classes: Sequence[int] | int | None) -> list[int] | None:
    """The ids that labels may hold: those of a list, or 0 to n - 1 for a number n; None for any.

    Raises:
        ConfigurationError: they are no whole numbers, or none.
    """
    if classes is None:
        return None
    if _is_whole(classes) and classes > 0:
        return list(range(int(classes)))
    ids = [] if isinstance(classes, str) or not isinstance(classes, Iterable) else list(classes)
    if not ids or not all(map(_is_whole, ids)):
        raise ConfigurationError(
            f"classes is {classes!r}: give their number, at least 1, or a list of their ids, whole numbers"
        )
    return [int(number) for number in ids]


def _is_whole(value: Any) -> TypeGuard[int]:
    return isinstance(value, Integral) and not isinstance(value, bool)


class TileLabels:
    """Class ids on the grid of any tile; may be used from many threads.

    Args:
        source: labels of all scenes, None where each scene has a raster of its own (`SceneRecord.mask_path`).
        classes: the ids that may occur besides `ignore_index`; None for any.
        ignore_index: where there is no label.
        first: any scene with a raster of its own, which tells the type of all.

    Raises:
        ConfigurationError: there are no labels, or classes are no ids.
    """

    def __init__(
        self,
        source: LabelSource | None,
        *,
        classes: Sequence[int] | None,
        ignore_index: int,
        first: SceneRecord | None = None,
    ) -> None:
        self.source = source
        self.ignore_index = ignore_index
        self._classes = checked_class_ids(classes)
        self._allowed = None if self._classes is None else np.unique([*self._classes, ignore_index])
        self._open: OrderedDict[str, LabelSource] = OrderedDict()
        self._lock = threading.Lock()
        self._overlaps: dict[str, bool] = {}
        if source is None and first is None:
            raise ConfigurationError("labels need a source, or scenes with rasters of their own")
        self.dtype: np.dtype[Any] = source.dtype if source is not None else self._of(first).dtype  # type: ignore[arg-type]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_open": OrderedDict(), "_lock": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _lock=threading.Lock())

    def check_place(self, record: SceneRecord, grid: Grid) -> None:
        """Raise `RasterError` where no label can lie anywhere on a scene's grid: all its tiles would be unlabelled."""
        source = self._of(record)
        found = self._overlaps.get(record.id)
        if found is None:
            try:
                with reading():
                    found = source.overlaps(grid.transform, grid.crs, grid.height, grid.width)
            except ConfigurationError as error:
                raise RasterError(f"scene '{record.id}': {error}", path=error.path, scene=record.id) from error
            self._overlaps[record.id] = found
        if not found:
            raise RasterError(
                f"scene '{record.id}': the labels {source.path} do not reach it, so that none of it is labelled: take "
                f"it out of the catalog, give labels that reach it, or leave out what cannot be read: {LEAVE_OUT}",
                path=source.path,
                scene=record.id,
            )

    def read(self, record: SceneRecord, grid: Grid, out: npt.NDArray[Any]) -> None:
        """Write the ids on a tile's grid to `out` (height, width), of `dtype`.

        Raises:
            RasterError: they cannot be read, or hold an id that is no class.
        """
        try:
            with reading():
                ids = self._of(record).read(grid.transform, grid.crs, grid.height, grid.width)
        except ConfigurationError as error:  # found in the middle of an epoch, a fault of the labels' pixels
            raise RasterError(f"scene '{record.id}': {error}", path=error.path, scene=record.id) from error
        if not np.can_cast(ids.dtype, self.dtype, casting="safe"):
            raise RasterError(
                f"scene '{record.id}': its labels are {ids.dtype}, and those of the other scenes {self.dtype}: store "
                "the labels of all scenes in one type",
                scene=record.id,
            )
        if self._allowed is not None:
            self._check(ids, record)
        out[...] = ids

    def close(self) -> None:
        """Close the files that are open."""
        if self.source is not None:
            self.source.close()
        with self._lock:
            sources, self._open = list(self._open.values()), OrderedDict()
        for source in sources:
            source.close()

    def _of(self, record: SceneRecord) -> LabelSource:
        if self.source is not None:
            return self.source
        path = record.mask_path
        if path is None:
            raise RasterError(f"scene '{record.id}': has no labels of its own, though other scenes do", scene=record.id)
        with self._lock:
            if (found := self._open.get(path)) is not None:
                self._open.move_to_end(path)
                return found
        opened = open_labels(path, ignore_index=self.ignore_index)
        with self._lock:
            self._open[path] = opened
            if len(self._open) > _MOST_OPEN:
                # Another thread may be reading from it: it closes with the last reference to it.
                self._open.popitem(last=False)
        return opened

    def _check(self, ids: npt.NDArray[Any], record: SceneRecord) -> None:
        assert self._allowed is not None
        if ids.dtype == np.uint8:
            known = np.zeros(256, dtype=bool)
            known[self._allowed[(self._allowed >= 0) & (self._allowed < 256)]] = True
            if known[ids].all():
                return
        strange = np.setdiff1d(np.unique(ids), self._allowed)
        if strange.size:
            path = record.mask_path if self.source is None else self.source.path
            raise RasterError(
                f"scene '{record.id}': labels {path} hold the id{'s' * (strange.size > 1)} "
                f"{', '.join(map(str, strange[:5]))}, not among the classes "
                f"{', '.join(map(str, (self._classes or [])[:20]))}: name all classes, or make the others "
                f"ignore_index ({self.ignore_index})",
                path=path,
                scene=record.id,
            )
