"""How the files of a scene appear on the grid that its tiles are cut from.

Bands that lie on the grid already, up to whole pixels, are read as they are stored; others are warped to it by GDAL
inside the read. Numbers only: files are opened by `geoaug.data.raster.files` and read by
`geoaug.data.raster.blocks`.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from geoaug.data.raster.advice import as_type
from geoaug.data.raster.files import Source, Warp
from geoaug.data.raster.grid import Grid
from geoaug.data.raster.inputs import is_remote
from geoaug.data.raster.record import BandFile, QualityLayer, SceneRecord
from geoaug.data.raster.window import Window
from geoaug.errors import ConfigurationError

# Smaller blocks are read together, so that a call is worth its while (and a strip is not a call of its own).
_LEAST_CHUNK = 2**16
WARPED_BLOCK = 512
MOST_STACKED = 2**24
"""Bytes of chunks that are read as one: a thread's work must not grow with the number of files."""


@dataclass(frozen=True, slots=True)
class View:
    """Bands of one file on the grid of a scene.

    Attributes:
        source: what is opened.
        indexes: 1-based bands of the file.
        positions: where these go among the image's bands; empty for a quality layer.
        nodata: of each, as stored; None where none is.
        shift: what is added to each band's numbers, so that all scenes are scaled alike.
        dtype: as read.
        tile_dtype: of the tiles.
        row: of the grid's first pixel, counted in the source's pixels.
        col: of the same.
        height: of the source.
        width: of the source.
        chunk: (rows, columns) that are read together: whole blocks of the file.
        has_mask: whether the source has a mask or alpha band; where it is warped, whether the warp adds one.
        alpha: index of the source's alpha band, where that is known.
        quality: what tells validity, None for bands of the image.
    """

    source: Source
    indexes: tuple[int, ...]
    positions: tuple[int, ...]
    nodata: tuple[float | None, ...]
    shift: tuple[int, ...]
    dtype: str
    tile_dtype: str
    row: int
    col: int
    height: int
    width: int
    chunk: tuple[int, int]
    has_mask: bool
    quality: QualityLayer | None = None
    alpha: int | None = None

    @property
    def chunk_bytes(self) -> int:
        """Of a chunk as it is decoded, its validity included."""
        return self.chunk[0] * self.chunk[1] * (len(self.indexes) * np.dtype(self.dtype).itemsize + 1)

    def chunk_window(self, down: int, across: int) -> Window:
        """A chunk's window in the source's pixels."""
        row, col = down * self.chunk[0], across * self.chunk[1]
        return Window(row, col, min(self.chunk[0], self.height - row), min(self.chunk[1], self.width - col))


@dataclass(frozen=True, slots=True)
class Stack:
    """Views whose chunks lie alike, so that they are planned, kept and copied to tiles as one.

    Scenes of a file for each band would else cost a plan and a copy for each band of each tile.
    """

    views: tuple[View, ...]

    @property
    def like(self) -> View:
        """The first view: the others have its position, size, chunks and types."""
        return self.views[0]

    @property
    def positions(self) -> tuple[int, ...]:
        """Where its bands go among the image's bands; empty for a quality layer."""
        return tuple(position for view in self.views for position in view.positions)

    @property
    def chunk_bytes(self) -> int:
        """Of a chunk of all views as it is decoded, its validity included."""
        rows, cols = self.like.chunk
        bands = sum(len(view.indexes) for view in self.views)
        return rows * cols * (bands * np.dtype(self.like.dtype).itemsize + 1)


# Of GDAL's kernels, those that are smoother than straight lines count as cubic; means, modes and ranks of finer pixels
# take the nearest one where there are none.
_BAND_RESAMPLING = {
    "bilinear": "bilinear",
    **dict.fromkeys(("cubic", "cubic_spline", "lanczos", "gauss"), "cubic"),
}
_COARSER = 1.05


@dataclass(frozen=True, slots=True)
class SceneView:
    """A scene on the grid that its tiles are cut from.

    Attributes:
        record: with the wanted bands alone.
        grid: of the tiles.
        stacks: of the files' views; together they hold each band of the image once, and the quality layer.
        fill: what the image holds where the files hold nothing.
    """

    record: SceneRecord
    grid: Grid
    stacks: tuple[Stack, ...]
    fill: float

    @property
    def dtype(self) -> str:
        """numpy's name of the type of the image."""
        return next(stack.like.tile_dtype for stack in self.stacks if stack.positions)

    @property
    def band_resampling(self) -> str:
        """By which bands that are coarser than the grid came to it, as `geoaug.Compose(band_resampling=...)` has it:
        "nearest", "bilinear" or "cubic"; "cubic", too, where that was not done here and nobody knows."""
        for view in self.views:
            warp = view.source.warp
            if view.positions and warp is not None and _is_coarser(view.source.grid, self.grid):
                return _BAND_RESAMPLING.get(warp.resampling, "nearest")
        return "cubic"

    @property
    def views(self) -> Iterator[View]:
        """Of all files."""
        return (view for stack in self.stacks for view in stack.views)


def scene_view(
    record: SceneRecord,
    grid: Grid,
    *,
    dtype: str | None = None,
    shift: Sequence[int] | None = None,
    resampling: str = "bilinear",
    most_stacked: int = MOST_STACKED,
    fill: float | None = None,
) -> SceneView:
    """A scene with its wanted bands on a grid.

    Args:
        record: with the wanted bands alone, in order.
        grid: of the tiles.
        dtype: numpy's name of the type that pixels come in; every stored type must fit it. That of the record where it
            is None.
        shift: what is added to each band's numbers; nothing where it is None.
        resampling: GDAL's name, for bands on other grids.
        most_stacked: bytes of chunks of several files that may be read as one.
        fill: what the image holds where the files hold nothing; nodata, else NaN or 0, where it is None.

    Raises:
        ConfigurationError: a band is stored in a type that does not fit.
    """
    dtype = record.dtype if dtype is None else dtype
    shift = [0] * len(record.bands) if shift is None else shift
    for band in record.bands:
        if band.dtype != dtype and not np.can_cast(np.dtype(band.dtype), np.dtype(dtype), casting="safe"):
            raise ConfigurationError(
                f"{band.path}: band '{band.name}' is stored as {band.dtype}, which does not fit the {dtype} of the "
                f"other scenes: {as_type(str(np.promote_types(band.dtype, dtype)))}",
                path=band.path,
                scene=record.id,
                argument="dtype",
            )
    by_file: dict[tuple[object, ...], list[int]] = {}
    offsets: dict[int, tuple[int, int] | None] = {}
    for position, band in enumerate(record.bands):
        if id(band.grid) not in offsets:
            offsets[id(band.grid)] = band.grid.snap(grid)
        key = (band.path, band.dtype, band.has_mask, band.alpha) if offsets[id(band.grid)] else (band, position)
        by_file.setdefault(key, []).append(position)
    views = [
        _view(
            [record.bands[position] for position in positions],
            positions,
            grid,
            shift=[shift[position] for position in positions],
            tile_dtype=dtype,
            resampling=resampling,
        )
        for positions in by_file.values()
    ]
    if record.quality is not None:
        band = record.quality.band
        quality = _view([band], [], grid, shift=[0], tile_dtype=band.dtype, resampling="nearest")
        views.append(replace(quality, quality=record.quality))
    if fill is None:
        fill = record.nodata
    if fill is None:
        fill = math.nan if np.dtype(dtype).kind == "f" else 0.0
    return SceneView(record, grid, _stacked(views, most_stacked), fill)


def _is_coarser(one: Grid, other: Grid) -> bool:
    if one.crs == other.crs:
        return abs(one.transform.determinant) > _COARSER**2 * abs(other.transform.determinant)
    return one.gsd_m is not None and other.gsd_m is not None and one.gsd_m > _COARSER * other.gsd_m


def _stacked(views: list[View], most: int) -> tuple[Stack, ...]:
    """Views that lie alike together, up to `most` bytes of a chunk."""
    stacks: list[Stack] = []
    open_stack: dict[object, int] = {}
    for view in views:
        alike = (view.row, view.col, view.height, view.width, view.chunk, view.dtype, view.tile_dtype)
        position = None if view.quality is not None else open_stack.get(alike)
        if position is not None:
            wider = Stack((*stacks[position].views, view))
            if wider.chunk_bytes <= most:
                stacks[position] = wider
                continue
        if view.quality is None:
            open_stack[alike] = len(stacks)
        stacks.append(Stack((view,)))
    return tuple(stacks)


def _view(
    bands: list[BandFile], positions: list[int], grid: Grid, *, shift: list[int], tile_dtype: str, resampling: str
) -> View:
    first = bands[0]
    stored = tuple((band.index, band.dtype) for band in bands)
    offset = first.grid.snap(grid)
    if offset is not None:
        return View(
            source=Source(first.path, first.grid, stored),
            indexes=tuple(band.index for band in bands),
            positions=tuple(positions),
            nodata=tuple(band.nodata for band in bands),
            shift=tuple(shift),
            dtype=first.dtype,
            tile_dtype=tile_dtype,
            row=offset[0],
            col=offset[1],
            height=first.grid.height,
            width=first.grid.width,
            chunk=_chunk_shape(first),
            has_mask=first.has_mask,
            alpha=first.alpha,
        )
    nodata = math.nan if first.nodata is None and np.dtype(first.dtype).kind == "f" else first.nodata
    warp = Warp(grid, resampling, nodata, first.dtype, first.has_mask, first.alpha)
    return View(
        source=Source(first.path, first.grid, stored, warp),
        indexes=tuple(band.index for band in bands),
        positions=tuple(positions),
        nodata=(nodata,) * len(bands),
        shift=tuple(shift),
        dtype=first.dtype,
        tile_dtype=tile_dtype,
        row=0,
        col=0,
        height=grid.height,
        width=grid.width,
        chunk=(min(WARPED_BLOCK, grid.height), min(WARPED_BLOCK, grid.width)),
        has_mask=nodata is None,
    )


def _chunk_shape(band: BandFile) -> tuple[int, int]:
    """Whole blocks, as few as make a call worth its while, first below each other and then side by side.

    One block of a file behind a network, where bytes cost more than calls.
    """
    height, width = band.grid.height, band.grid.width
    rows, cols = min(band.block_shape[0], height), min(band.block_shape[1], width)
    if is_remote(band.path) and cols < width:
        return rows, cols
    down = min(-(-_LEAST_CHUNK // (rows * cols)), -(-height // rows))
    if cols < width:
        side = max(1, math.isqrt(down))
        down = -(-down // side)
        return min(rows * down, height), min(cols * side, width)
    return min(rows * down, height), cols
