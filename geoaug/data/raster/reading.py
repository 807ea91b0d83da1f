"""The one reader: windows of a scene's view with their validity, from chunks that are decoded once and kept.

A window is read alone by the thread that asks for it (`Reader.window`), or whole batches are put together by threads
(`Reader.start`): each chunk is decoded once and copied to all tiles that it touches. The batches of an assembly are
worked on together, in the order of their tiles, so that tiles far apart in time share what is decoded. Which tiles go
into which batch is decided by the dataset and the loader.
"""

import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple
from weakref import WeakValueDictionary

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import get_worker_info

from geoaug.data.raster.blocks import Chunk, ChunkCache, ChunkKey, read_chunk
from geoaug.data.raster.files import HandlePool, limit_gdal_cache
from geoaug.data.raster.view import SceneView, Stack, View
from geoaug.data.raster.window import Window
from geoaug.errors import GeoaugError, RasterError
from geoaug.scratch import Outputs


@dataclass(eq=False)
class BatchBuffers:
    """The tensors of a batch while tiles are copied into them.

    Attributes:
        windows: of the tiles, each with the position of its scene.
        image: (B, C, H, W) in the stored type.
        valid: (B, 1, H, W).
        failed: the tiles that could not be read, with what was wrong.
    """

    windows: list[tuple[int, Window]]
    image: Tensor
    valid: Tensor
    failed: dict[int, GeoaugError] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.pixels: npt.NDArray[Any] = self.image.numpy()
        self.validity: npt.NDArray[np.bool_] = self.valid.numpy()[:, 0]


class Pixels(NamedTuple):
    """What was read of a window.

    Attributes:
        image: (C, H, W), as stored; the view's fill outside the scene.
        valid: (H, W), True where all bands hold data.
    """

    image: npt.NDArray[Any]
    valid: npt.NDArray[np.bool_]


_LEAST_KEPT, _MOST_KEPT = 32 * 2**20, 512 * 2**20
_BLOCK_ROWS = 256  # of the blocks that rasters are written in


@dataclass(frozen=True, slots=True)
class ReadMemory:
    """Bytes for what is decoded, so that windows read row by row decode each chunk once.

    Attributes:
        chunks: for windows of a row and the next one.
        gdal: that GDAL keeps; it would keep a twentieth of the machine's memory.
    """

    chunks: int
    gdal: int

    @staticmethod
    def of(view: SceneView, tile: int, *, threads: int, written: int = 0) -> "ReadMemory":
        """What a row of windows touches, up to 512 MB.

        Args:
            view: of the scene.
            tile: side of a window in pixels.
            threads: that read at once.
            written: bytes of a pixel that are written to rasters of the scene's size meanwhile.
        """
        width = view.grid.width
        for_writing = 2 * _BLOCK_ROWS * (width + _BLOCK_ROWS) * written
        large = [stack for stack in view.stacks if stack.chunk_bytes > _MOST_KEPT // 4]  # which are read directly
        kept = [stack for stack in view.stacks if stack not in large]
        row = sum(_row_bytes(stack, tile, width) for stack in kept)
        chunks = min(max(row, _LEAST_KEPT, 4 * max((stack.chunk_bytes for stack in kept), default=0)), _MOST_KEPT)
        direct = sum(_row_bytes(stack, tile, width) for stack in large) + _warped_bytes(view, threads)
        least = _LEAST_KEPT + min(for_writing, _MOST_KEPT // 4)
        return ReadMemory(chunks, max(min(for_writing + direct, _MOST_KEPT - chunks), least))


def _row_bytes(stack: Stack, tile: int, width: int) -> int:
    rows, cols = stack.like.chunk
    return ((tile - 1) // rows + 2) * (width // cols + 2) * stack.chunk_bytes


def _warped_bytes(view: SceneView, threads: int) -> int:
    """Of the files' own blocks below a row of chunks of warped bands; each thread has handles of its own."""
    total = 0
    bands = [*view.record.bands, *([] if view.record.quality is None else [view.record.quality.band])]
    warped = {one.source.path: one for one in view.views if one.source.warp is not None}
    for band in bands:
        if (one := warped.get(band.path)) is not None:
            rows = band.block_shape[0]
            below = one.chunk[0] * band.grid.height // view.grid.height
            total += (below // rows + 2) * rows * band.grid.width * np.dtype(band.dtype).itemsize * threads
    return total


class _Copy(NamedTuple):
    """A part of a chunk that goes to a tile, by rows and columns of both."""

    batch: int
    slot: int
    to_rows: slice
    to_cols: slice
    rows: slice
    cols: slice


_Held = list[BatchBuffers | None]


class Reader:
    """Reads windows of scenes into batches with threads.

    Args:
        budget: bytes of decoded chunks that are kept.
        threads: that decode at once.
        gdal_bytes: what GDAL may keep besides, see `geoaug.data.raster.files.limit_gdal_cache`.

    May be forked and pickled: threads, open files and chunks stay behind. The worker processes of a torch `DataLoader`
    share budget and threads among them.
    """

    def __init__(self, budget: int, threads: int, gdal_bytes: int) -> None:
        self.budget, self.threads, self.gdal_bytes = budget, threads, gdal_bytes
        self.handles = HandlePool()
        self.chunks = ChunkCache(budget)
        self.outputs = Outputs(own_pages=True)
        self._blocks = Outputs(2 * threads, own_pages=True)
        self._pool: ThreadPoolExecutor | None = None
        self._working = 0  # threads of it
        self._under_way: WeakValueDictionary[int, Assembly] = WeakValueDictionary()
        self._process = os.getpid()

    def __getstate__(self) -> dict[str, Any]:
        return {"budget": self.budget, "threads": self.threads, "gdal_bytes": self.gdal_bytes}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]

    def keep_at_most(self, budget: int) -> None:
        """Keep fewer bytes of decoded chunks from now on."""
        self.budget = min(self.budget, budget)
        self.chunks.budget = min(self.chunks.budget, budget)

    def start(
        self, batches: Sequence[BatchBuffers], scenes: Callable[[int], SceneView], others: Iterable["Task"] = ()
    ) -> "Assembly":
        """Begin to fill batches; `others` are further tasks, such as reading labels."""
        assembly = Assembly(batches)
        self._under_way[id(assembly)] = assembly
        tasks = _chunk_tasks(self, assembly.batches, scenes)
        pool = self._threads()
        assembly.run(pool, self._working, [*tasks, *others])
        return assembly

    def window(self, view: SceneView, window: Window, scene: int = 0) -> Pixels:
        """The pixels of a window, which may reach past the scene, read by the calling thread; from any thread.

        Where a chunk cannot be read, the window alone is tried: a file that is damaged elsewhere serves it still.

        Args:
            view: of the scene.
            window: on the view's grid.
            scene: a number for each view, by which kept chunks are found again.

        Raises:
            RasterError: the pixels cannot be read; names the scene, the file and the window.
        """
        image = np.empty((len(view.record.bands), window.height, window.width), view.dtype)
        valid = np.ones((window.height, window.width), dtype=bool)
        for which, stack in enumerate(view.stacks):
            inner, shifted = _inside(stack, window, view.fill, image, valid)
            if inner is None:
                continue
            positions = _as_slice(stack.positions)
            whole = _copy_of(0, 0, shifted, inner, inner)
            if stack.chunk_bytes > self.budget // 4:
                _paste(self.read(stack, inner, view.record.id), positions, image, valid, whole)
                continue
            try:
                for down, across in _chunks(stack.like, inner):
                    chunk = self.decode(ChunkKey(scene, which, down, across), stack, view.record.id)
                    copy = _copy_of(0, 0, shifted, inner, stack.like.chunk_window(down, across))
                    _paste(chunk, positions, image, valid, copy)
            except RasterError:
                _paste(self.read(stack, inner, view.record.id), positions, image, valid, whole)
        return Pixels(image, valid)

    def decode(self, key: ChunkKey, stack: Stack, scene: str) -> Chunk:
        """A chunk, decoded unless it is kept."""
        window = stack.like.chunk_window(key.down, key.across)
        return self.chunks.get(key, lambda: self.read(stack, window, scene))

    def read(self, stack: Stack, window: Window, scene: str) -> Chunk:
        """A window of a stack, decoded."""
        return read_chunk(self.handles, stack, window, scene, memory=self._blocks)

    def empty(self, shape: tuple[int, ...], dtype: torch.dtype, *, pinned: bool = False) -> Tensor:
        """A tensor of a batch, not filled; of memory that an earlier batch has used, where that was dropped."""
        if pinned:  # torch keeps such memory by itself, and waits for copies that are still on their way
            return torch.empty(shape, dtype=dtype, pin_memory=True)
        return self.outputs.tensor(shape, dtype)

    def close(self) -> None:
        """Stop the threads and close the files; the next read starts anew, and one under way ends in an error."""
        pool, self._pool = self._pool, None  # at once: another thread may be starting to read
        if pool is not None and self._process == os.getpid():
            for assembly in self._assemblies():
                assembly.drop_waiting()
            pool.shutdown(wait=True, cancel_futures=True)
            for assembly in self._assemblies():
                assembly.give_up_if_stopped()
        self.handles.close()
        self.chunks.clear()

    def _assemblies(self) -> list["Assembly"]:
        """Those under way, while other threads may add to them."""
        found = (known() for known in self._under_way.valuerefs())
        return [assembly for assembly in found if assembly is not None]

    def _threads(self) -> ThreadPoolExecutor:
        if self._process != os.getpid():  # threads, and what they held, did not come along
            self._pool, self._process = None, os.getpid()
            self._under_way = WeakValueDictionary()
            self.chunks, self.outputs = ChunkCache(self.budget), Outputs(own_pages=True)
            self._blocks = Outputs(2 * self.threads, own_pages=True)
        if self._pool is None:
            worker = get_worker_info()
            sharers = 1 if worker is None else worker.num_workers
            self.chunks.budget = self.budget // sharers
            limit_gdal_cache(self.gdal_bytes // sharers)
            self._working = max(1, self.threads // sharers)
            self._pool = ThreadPoolExecutor(self._working, thread_name_prefix="geoaug-read")
        return self._pool


class Task(NamedTuple):
    """Work for a thread.

    Attributes:
        order: tasks with a lower number come first: position of the first tile that waits for it.
        tiles: (batch, slot) of all tiles that wait for it.
        work: to be done.
    """

    order: int
    tiles: list[tuple[int, int]]
    work: Callable[[], None]


class Assembly:
    """Batches that are being filled."""

    def __init__(self, batches: Sequence[BatchBuffers]) -> None:
        # What tasks fill is looked up here, so that a batch that was taken is held by nothing else.
        self.batches: _Held = list(batches)
        self._changed = threading.Condition()
        self._left = [0] * len(batches)
        self._waiting: deque[Task] = deque()
        self._futures: list[Future[None]] = []
        self._broken: BaseException | None = None
        self._given_up = False

    def run(self, pool: ThreadPoolExecutor, threads: int, tasks: list[Task]) -> None:
        """Hand the tasks to the threads of a pool, those first that the first tiles wait for."""
        for task in tasks:
            for batch in {batch for batch, _ in task.tiles}:
                self._left[batch] += 1
        self._waiting.extend(sorted(tasks, key=lambda task: task.order))
        try:
            for _ in range(min(threads, len(tasks))):
                self._futures.append(pool.submit(self._work))
        except RuntimeError:  # the pool was shut meanwhile
            self.drop_waiting()
            self._give_up()

    def wait(self, batch: int) -> BatchBuffers:
        """The batch at a position, once all its tiles are read or failed."""
        with self._changed:
            self._changed.wait_for(lambda: self._left[batch] == 0 or self._broken is not None or self._given_up)
        if self._broken is not None:
            raise self._broken
        if self._left[batch]:
            raise RasterError("the dataset was closed while its tiles were being read")
        return _held(self.batches, batch)

    def take(self, batch: int) -> BatchBuffers:
        """As `wait`, and forget the batch: its memory is the caller's, to go with the tensors that are made of it."""
        taken = self.wait(batch)
        self.batches[batch] = None
        return taken

    def give_up_if_stopped(self) -> None:
        """Release those who wait, where no thread is at work."""
        if all(future.done() for future in self._futures):
            self._give_up()

    def _give_up(self) -> None:
        with self._changed:
            self._given_up = True
            self._changed.notify_all()

    def drop_waiting(self) -> None:
        """Drop what has not begun."""
        self._waiting.clear()

    def cancel(self) -> None:
        """Drop what has not begun, and wait for what has."""
        self.drop_waiting()
        for future in self._futures:
            if not future.cancel():
                future.result()

    def _work(self) -> None:
        while True:
            try:
                task = self._waiting.popleft()
            except IndexError:
                return
            self._do(task)
            del task  # which holds buffers of batches

    def _do(self, task: Task) -> None:
        broken: BaseException | None = None
        try:
            task.work()
        except GeoaugError as error:
            for batch, slot in task.tiles:
                _held(self.batches, batch).failed.setdefault(slot, error)
        except BaseException as error:
            broken = error
        with self._changed:
            self._broken = self._broken or broken
            for batch in {batch for batch, _ in task.tiles}:
                self._left[batch] -= 1
            self._changed.notify_all()


def _chunk_tasks(reader: Reader, batches: _Held, scenes: Callable[[int], SceneView]) -> list[Task]:
    """A task for each chunk that any tile touches."""
    wanted: dict[ChunkKey, tuple[int, Stack, str, list[_Copy]]] = {}
    tasks = []
    order = 0
    for number, batch in enumerate(batches):
        assert batch is not None
        for slot, (position, window) in enumerate(batch.windows):
            order += 1
            try:
                scene = scenes(position)
            except GeoaugError as error:
                batch.failed[slot] = error
                continue
            for which, stack in enumerate(scene.stacks):
                view = stack.like
                inner, shifted = _inside(stack, window, scene.fill, batch.pixels[slot], batch.validity[slot])
                if inner is None:
                    continue
                if stack.chunk_bytes > reader.budget // 4:
                    copy = _copy_of(number, slot, shifted, inner, inner)
                    direct = partial(_read_directly, reader, stack, inner, scene.record.id, batches, copy)
                    tasks.append(Task(order, [(number, slot)], direct))
                    continue
                for down, across in _chunks(view, inner):
                    key = ChunkKey(position, which, down, across)
                    copy = _copy_of(number, slot, shifted, inner, view.chunk_window(down, across))
                    if key in wanted:
                        wanted[key][3].append(copy)
                    else:
                        wanted[key] = (order, stack, scene.record.id, [copy])
    tasks.extend(
        Task(
            first,
            [(copy.batch, copy.slot) for copy in copies],
            partial(_scatter, reader, key, stack, scene_id, batches, copies),
        )
        for key, (first, stack, scene_id, copies) in wanted.items()
    )
    return tasks


def _inside(
    stack: Stack, window: Window, fill: float, image: npt.NDArray[Any], valid: npt.NDArray[np.bool_]
) -> tuple[Window | None, Window]:
    """The part of a window that the files of a stack hold, and the whole of it, in their pixels; the rest is filled."""
    view = stack.like
    shifted = Window(window.row + view.row, window.col + view.col, window.height, window.width)
    inner = shifted.inside(view.height, view.width)
    if inner != shifted:
        image[list(stack.positions)] = np.asarray(fill).astype(image.dtype)
        _invalid_outside(valid, shifted, inner)
    return inner, shifted


def _chunks(view: View, inner: Window) -> Iterator[tuple[int, int]]:
    """The positions (down, across) of the chunks that a window touches."""
    rows, cols = view.chunk
    for down in range(inner.row // rows, (inner.row_stop - 1) // rows + 1):
        for across in range(inner.col // cols, (inner.col_stop - 1) // cols + 1):
            yield down, across


def _copy_of(batch: int, slot: int, tile: Window, inner: Window, chunk: Window) -> _Copy:
    """What a tile (a window that may reach past the source, and its part inside) gets of a chunk."""
    row, row_stop = max(inner.row, chunk.row), min(inner.row_stop, chunk.row_stop)
    col, col_stop = max(inner.col, chunk.col), min(inner.col_stop, chunk.col_stop)
    return _Copy(
        batch,
        slot,
        slice(row - tile.row, row_stop - tile.row),
        slice(col - tile.col, col_stop - tile.col),
        slice(row - chunk.row, row_stop - chunk.row),
        slice(col - chunk.col, col_stop - chunk.col),
    )


def _invalid_outside(valid: npt.NDArray[np.bool_], tile: Window, inner: Window | None) -> None:
    if inner is None:
        valid[...] = False
        return
    valid[: inner.row - tile.row] = False
    valid[inner.row_stop - tile.row :] = False
    valid[:, : inner.col - tile.col] = False
    valid[:, inner.col_stop - tile.col :] = False


def _scatter(reader: Reader, key: ChunkKey, stack: Stack, scene: str, batches: _Held, copies: list[_Copy]) -> None:
    chunk = reader.decode(key, stack, scene)
    positions = _as_slice(stack.positions)
    for copy in copies:
        batch = _held(batches, copy.batch)
        _paste(chunk, positions, batch.pixels[copy.slot], batch.validity[copy.slot], copy)


def _read_directly(reader: Reader, stack: Stack, window: Window, scene: str, batches: _Held, copy: _Copy) -> None:
    chunk, batch = reader.read(stack, window, scene), _held(batches, copy.batch)
    _paste(chunk, _as_slice(stack.positions), batch.pixels[copy.slot], batch.validity[copy.slot], copy)


def _held(batches: _Held, position: int) -> BatchBuffers:
    held = batches[position]
    if held is None:
        raise IndexError(f"batch {position} was taken before")
    return held


def _as_slice(positions: tuple[int, ...]) -> slice | list[int]:
    """Positions of bands as numpy takes them fastest."""
    first = min(positions, default=0)
    return (
        slice(first, first + len(positions))
        if positions == tuple(range(first, first + len(positions)))
        else list(positions)
    )


def _paste(
    chunk: Chunk,
    positions: slice | list[int],
    image: npt.NDArray[Any],
    valid: npt.NDArray[np.bool_],
    copy: _Copy,
) -> None:
    """A part of a chunk into a tile (C, H, W) and its validity (H, W)."""
    if len(chunk.image):
        image[:, copy.to_rows, copy.to_cols][positions] = chunk.image[:, copy.rows, copy.cols]
    if chunk.valid is not None:
        # Only ever false is written: several threads may write to one tile at once.
        np.copyto(valid[copy.to_rows, copy.to_cols], False, where=~chunk.valid[copy.rows, copy.cols])


def empty_batch(
    reader: Reader,
    windows: list[tuple[int, Window]],
    bands: int,
    size: tuple[int, int],
    dtype: torch.dtype,
    *,
    pinned: bool = False,
) -> BatchBuffers:
    """Buffers for tiles at `windows`, of which each pixel counts as valid until the contrary is known."""
    shape = (len(windows), bands, *size)
    image = reader.empty(shape, dtype, pinned=pinned)
    valid = reader.empty((len(windows), 1, *size), torch.bool, pinned=pinned)
    valid.numpy().fill(True)  # torch would wait for its threads, whose cores are decoding
    return BatchBuffers(windows, image, valid)
