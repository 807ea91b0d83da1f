"""Chunks: whole blocks of a file, decoded once with their validity, and kept while a budget of memory lasts.

A chunk knows nothing of tiles; which chunks a batch needs is planned in `geoaug.data.raster.reading`.
"""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from rasterio.enums import MaskFlags
from rasterio.errors import RasterioError
from rasterio.windows import Window as RasterioWindow

from geoaug.data.raster.advice import as_type
from geoaug.data.raster.files import HandlePool
from geoaug.data.raster.inputs import is_remote
from geoaug.data.raster.masks import is_mask
from geoaug.data.raster.view import Stack, View
from geoaug.data.raster.window import Window
from geoaug.errors import RasterError
from geoaug.scratch import Outputs

_PAUSE_S = 0.5  # before the last of several attempts; each pause is twice the one before


class ChunkKey(NamedTuple):
    """Which chunk: the number of its scene, that of its stack, and its row and column in the stack's grid of chunks."""

    scene: int
    stack: int
    down: int
    across: int


@dataclass(frozen=True, slots=True, eq=False)
class Chunk:
    """Pixels of a window of a stack.

    Attributes:
        image: (bands, rows, columns), as stored; no bands for a quality layer.
        valid: (rows, columns), None where all pixels are valid.
    """

    image: npt.NDArray[Any]
    valid: npt.NDArray[np.bool_] | None

    @property
    def nbytes(self) -> int:
        return int(self.image.nbytes) + (0 if self.valid is None else int(self.valid.nbytes))


def read_chunk(
    pool: HandlePool, stack: Stack, window: Window, scene: str, *, memory: Outputs | None = None, attempts: int = 3
) -> Chunk:
    """Decode a window of the views of a stack, into `memory` where it is given.

    A source over the network is tried `attempts` times, through a new connection each.

    Raises:
        RasterError: the pixels cannot be read; names the scene, the file and the window.
    """
    shifted = any(any(view.shift) for view in stack.views)
    dtype = np.dtype(stack.like.tile_dtype if shifted else stack.like.dtype)
    shape = (sum(len(view.indexes) for view in stack.views), window.height, window.width)
    image = np.empty(shape, dtype) if memory is None else memory.array(shape, dtype)
    valid: npt.NDArray[np.bool_] | None = None
    start = 0
    for view in stack.views:
        part = image[start : start + len(view.indexes)]
        start += len(view.indexes)
        tries = attempts if is_remote(view.source.path) else 1
        masks = _decode_patiently(pool, view, window, scene, part, tries)
        known = _validity(view, part, masks)
        for band, shift in zip(part, view.shift, strict=True):
            if shift:
                _shift(band, shift, known, scene, view.source.path)
        if known is not None:
            valid = known if valid is None else np.logical_and(valid, known, out=valid)
    if stack.like.quality is not None:
        image = image[:0]
    if valid is None or valid.all():
        return Chunk(image, None)
    if memory is not None:
        lasting = memory.array(valid.shape, np.dtype(np.bool_))
        lasting[...] = valid
        valid = lasting
    return Chunk(image, valid)


def _decode_patiently(
    pool: HandlePool, view: View, window: Window, scene: str, out: npt.NDArray[Any], attempts: int
) -> list[npt.NDArray[Any]]:
    """The bands of a window into `out`, in so many attempts; returns the masks that apply to them."""
    for left in reversed(range(attempts)):
        try:
            return _decode(pool, view, window, out)
        except (RasterioError, OSError, RasterError) as error:
            if not left:
                why = _what_failed(view, window, error, attempts)
                raise RasterError(f"scene '{scene}': {why}", path=view.source.path, scene=scene) from error
        time.sleep(_PAUSE_S * 2.0 ** (1 - left))
    raise AssertionError("no attempt")


def _decode(pool: HandlePool, view: View, window: Window, out: npt.NDArray[Any]) -> list[npt.NDArray[Any]]:
    position = RasterioWindow(window.col, window.row, window.width, window.height)
    with pool.borrow(view.source) as dataset:
        dataset.read(view.indexes, window=position, out=out)
        if not view.has_mask:
            return []
        if view.source.warp is not None:  # all that makes pixels invalid is in the band that the warp adds
            return [dataset.read(dataset.count, window=position)]
        masks = [dataset.read_masks(index, window=position) for index in _masked(dataset, view)]
        return masks if view.alpha is None else [*masks, dataset.read(view.alpha, window=position)]


def _what_failed(view: View, window: Window, error: Exception, attempts: int) -> str:
    path = view.source.path
    remote = is_remote(path)
    tried = f"{attempts} attempts over the network failed: the connection may have broken, or "
    if isinstance(error, RasterError):  # the file itself, whatever was wanted of it
        unopened = remote and error.__cause__ is not None
        return f"{error}; {tried}the file may be gone" if unopened else str(error)
    why = f"{tried}the file may be damaged" if remote else "the file may be damaged, cut short or gone"
    return (
        f"cannot read rows {window.row} to {window.row_stop - 1}, columns {window.col} to {window.col_stop - 1} of "
        f"{path}: {why} ({error.__cause__ or error})"
    )


def _validity(view: View, image: npt.NDArray[Any], masks: list[npt.NDArray[Any]]) -> npt.NDArray[np.bool_] | None:
    """Where all bands hold data; None where they do everywhere by their kind."""
    if view.quality is not None:
        usable: npt.NDArray[np.bool_] = ~view.quality.invalid_pixels(image[0])
        if view.nodata[0] is not None:
            usable &= image[0] != view.nodata[0]
        return usable
    valid: npt.NDArray[np.bool_] | None = None
    scratch = np.empty(image.shape[1:], dtype=bool)
    for band, nodata in zip(image, view.nodata, strict=True):
        if nodata is not None and not np.isnan(nodata):
            np.not_equal(band, band.dtype.type(nodata), out=scratch)
            valid = scratch.copy() if valid is None else np.logical_and(valid, scratch, out=valid)
        if band.dtype.kind == "f":
            np.isfinite(band, out=scratch)
            valid = scratch.copy() if valid is None else np.logical_and(valid, scratch, out=valid)
    for mask in masks:
        np.not_equal(mask, 0, out=scratch)
        valid = scratch.copy() if valid is None else np.logical_and(valid, scratch, out=valid)
    return valid


def _masked(dataset: Any, view: View) -> tuple[int, ...]:
    """The bands with masks that differ: one stands for all where they share it."""
    flags = dataset.mask_flag_enums  # each look computes them all
    masked = tuple(index for index in view.indexes if is_mask(flags[index - 1], alpha=view.alpha is None))
    return masked[:1] if all(MaskFlags.per_dataset in flags[index - 1] for index in masked) else masked


def _shift(band: npt.NDArray[Any], shift: int, valid: npt.NDArray[np.bool_] | None, scene: str, path: str) -> None:
    """Add `shift` to the valid pixels, in place."""
    where = np.True_ if valid is None else valid
    if band.dtype.kind != "f":
        limits = np.iinfo(band.dtype)
        known = band if valid is None else band[valid]
        if known.size and not limits.min <= int(known.max() if shift > 0 else known.min()) + shift <= limits.max:
            raise RasterError(
                f"scene '{scene}': {path} holds numbers that leave {band.dtype} when they are brought to the other "
                f"scenes' offset ({shift:+d}), which int32 holds: {as_type('int32')}",
                path=path,
                scene=scene,
                argument="dtype",
            )
    np.add(band, np.asarray(shift).astype(band.dtype), out=band, where=where)


class ChunkCache:
    """Chunks kept until `budget` bytes are exceeded, the least lately used dropped first; for many threads at once.

    Two threads that want the same chunk have it decoded once.
    """

    def __init__(self, budget: int) -> None:
        self.budget = budget
        self.decoded = 0  # chunks, for those who measure
        self._lock = threading.Lock()
        self._kept: OrderedDict[ChunkKey, Chunk] = OrderedDict()
        self.nbytes = 0  # of what is kept
        self._coming: dict[ChunkKey, Future[Chunk]] = {}

    def get(self, key: ChunkKey, decode: Callable[[], Chunk]) -> Chunk:
        """The chunk of a key, by `decode()` unless it is here or on its way."""
        with self._lock:
            if (chunk := self._kept.get(key)) is not None:
                self._kept.move_to_end(key)
                return chunk
            coming = self._coming.get(key)
            mine: Future[Chunk] | None = None
            if coming is None:
                mine = coming = self._coming[key] = Future()
        if mine is None:
            return coming.result()
        try:
            chunk = decode()
        except BaseException as error:
            with self._lock:
                del self._coming[key]
            mine.set_exception(error)
            raise
        with self._lock:
            del self._coming[key]
            self.decoded += 1
            self._keep(key, chunk)
        mine.set_result(chunk)
        return chunk

    def clear(self) -> None:
        """Drop all chunks."""
        with self._lock:
            self._kept.clear()
            self.nbytes = 0

    def _keep(self, key: ChunkKey, chunk: Chunk) -> None:
        if chunk.nbytes > self.budget:
            return
        self._kept[key] = chunk
        self.nbytes += chunk.nbytes
        while self.nbytes > self.budget:
            _, oldest = self._kept.popitem(last=False)
            self.nbytes -= oldest.nbytes
