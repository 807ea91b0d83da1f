"""Scenes read from end to end: whole blocks once each, by threads, within a budget of memory.

What is done with the pixels of a region is the caller's; results come in the order of scenes and regions, however many
threads read. Always at full resolution: overviews are resampled, and show neither values nor which pixels are valid.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Generic, Literal, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from geoaug.data.raster.blocks import read_chunk
from geoaug.data.raster.files import HandlePool
from geoaug.data.raster.view import SceneView
from geoaug.data.raster.window import Window
from geoaug.errors import GeoaugError
from geoaug.processors import usable_processors
from geoaug.read_ahead import in_order

Result = TypeVar("Result")

_MOST_PIXELS, _LEAST_PIXELS = 2**21, 2**14
_WAITING = 2  # regions for each thread that are read ahead of the slowest


class Region(NamedTuple):
    """A window of a scene.

    Attributes:
        scene: position in the catalog.
        view: of the scene.
        window: in the pixels of the view's grid.
    """

    scene: int
    view: SceneView
    window: Window


@dataclass(frozen=True, slots=True, eq=False)
class Pixels:
    """What a region holds: `image` (bands, rows, columns) and `valid` (rows, columns)."""

    image: npt.NDArray[Any]
    valid: npt.NDArray[np.bool_]


class Outcome(NamedTuple, Generic[Result]):
    """The result for a region; None where it could not be read."""

    region: Region
    result: Result | None


class Scan:
    """Reads regions with threads.

    Args:
        threads: by default one for each core of this process.
        memory_mb: for all regions that are worked on at once.
        on_error: "raise", or "skip": what cannot be read is counted in `skipped`, and its outcome has no result.
    """

    def __init__(
        self,
        *,
        threads: int | None = None,
        memory_mb: int = 1024,
        on_error: Literal["raise", "skip"] = "raise",
    ) -> None:
        self.threads = usable_processors() if threads is None else threads
        self.memory_mb, self.on_error = memory_mb, on_error
        self.skipped: Counter[str] = Counter()
        self._handles = HandlePool()

    def windows(self, view: SceneView) -> list[Window]:
        """The windows that a scene is read in: whole blocks of its files, where they fit the memory."""
        pixel = len(view.record.bands) * _dtype(view).itemsize + 8
        room = (self.memory_mb * 2**20) // (self.threads * (1 + _WAITING) * pixel * 2)
        height, width = _region_shape(view, min(max(room, _LEAST_PIXELS), _MOST_PIXELS))
        rows, cols = view.grid.height, view.grid.width
        return [
            Window(row, col, min(height, rows - row), min(width, cols - col))
            for row in range(0, rows, height)
            for col in range(0, cols, width)
        ]

    def run(self, regions: Iterable[Region], work: Callable[[Region, Pixels], Result]) -> Iterator[Outcome[Result]]:
        """The results of `work`, called in threads, in the order of the regions.

        Raises:
            GeoaugError: a region cannot be read, and errors are not to be skipped.
        """
        pool = ThreadPoolExecutor(self.threads, thread_name_prefix="geoaug-scan")
        try:
            begun = (pool.submit(self._do, region, work) for region in regions)
            for region, found in in_order(begun, self.threads * (1 + _WAITING) - 1):
                yield self._outcome(region, found)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
            self._handles.close()

    def _do(self, region: Region, work: Callable[[Region, Pixels], Result]) -> tuple[Region, Result | GeoaugError]:
        try:
            return region, work(region, self._read(region.view, region.window))
        except GeoaugError as error:
            return region, error

    def _outcome(self, region: Region, found: Result | GeoaugError) -> Outcome[Result]:
        if not isinstance(found, GeoaugError):
            return Outcome(region, found)
        if self.on_error == "raise":
            raise found
        # A message names the scene where the error does.
        self.skipped[str(found) if found.scene is not None else f"scene '{region.view.record.id}': {found}"] += 1
        return Outcome(region, None)

    def _read(self, view: SceneView, window: Window) -> Pixels:
        bands, shape = len(view.record.bands), (window.height, window.width)
        dtype = _dtype(view)
        image = np.zeros((0, *shape), dtype=dtype)
        valid = np.ones(shape, dtype=bool)
        for stack in view.stacks:
            part = stack.like
            shifted = Window(window.row + part.row, window.col + part.col, *shape)
            inner = shifted.inside(part.height, part.width)
            if inner is None:
                valid[...] = False
                continue
            chunk = read_chunk(self._handles, stack, inner, view.record.id)
            within = np.s_[
                inner.row - shifted.row : inner.row_stop - shifted.row,
                inner.col - shifted.col : inner.col_stop - shifted.col,
            ]
            if inner != shifted:
                inside = np.zeros(shape, dtype=bool)
                inside[within] = True
                valid &= inside
            if chunk.valid is not None:
                valid[within] &= chunk.valid
            if stack.positions == tuple(range(bands)) and inner == shifted and chunk.image.dtype == dtype:
                image = chunk.image
            elif stack.positions:
                image = image if len(image) else np.zeros((bands, *shape), dtype=dtype)
                image[list(stack.positions), within[0], within[1]] = chunk.image
        return Pixels(image, valid)


def always_valid(view: SceneView) -> bool:
    """Whether all pixels of a scene are valid by its kind: whole numbers, no nodata value, mask or quality layer."""
    return all(
        part.quality is None
        and not part.has_mask
        and np.dtype(part.dtype).kind != "f"
        and all(nodata is None for nodata in part.nodata)
        and (part.row, part.col) == (0, 0)
        and (part.height, part.width) == (view.grid.height, view.grid.width)
        for part in view.views
    )


def _dtype(view: SceneView) -> np.dtype[Any]:
    """That all bands fit: as they are stored, or as they become by a shift."""
    wanted = (part.tile_dtype if any(part.shift) else part.dtype for part in view.views if part.positions)
    return np.dtype(np.result_type(*map(np.dtype, wanted)))


def _region_shape(view: SceneView, most: int) -> tuple[int, int]:
    """(rows, columns) of about `most` pixels: whole chunks of all files, as far as they fit."""
    height, width = view.grid.height, view.grid.width
    rows = min(max(part.chunk[0] for part in view.views), height)
    cols = min(max(part.chunk[1] for part in view.views), width)
    if rows * cols > most:
        rows = max(1, most // cols)
        return rows, min(cols, max(1, most // rows))
    across = min(max(1, math.isqrt(most // (rows * cols))), -(-width // cols))
    down = max(1, most // (rows * cols * across))
    return min(rows * down, height), min(cols * across, width)
