"""What lies where in a scene, coarsely: the share of valid pixels and the pixels of each class in cells of its grid.

A value small enough to be kept for each scene of a catalog. It is counted from pixels here and encoded for a table;
the pixels are read in `geoaug.data.sampling.survey`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import shapely

from geoaug.data.catalog.arrow_arrays import to_numpy
from geoaug.data.raster.grid import WORLD, Grid, reproject_shape
from geoaug.data.raster.meridians import cut_at_180

if TYPE_CHECKING:
    from geoaug.data.catalog.catalog import Catalog

MOST_CELLS: Final = 64  # down, and across
LEAST_CELL: Final = 16  # pixels of a side
COLUMN: Final = "coverage"
COVERAGE_TYPE: Final = pa.struct(
    [
        ("cell", pa.int32()),
        ("rows", pa.int32()),
        ("cols", pa.int32()),
        ("valid", pa.list_(pa.uint8())),
        ("class_ids", pa.list_(pa.int32())),
        ("class_pixels", pa.list_(pa.int64())),
    ]
)


def cell_size(height: int, width: int) -> int:
    """The side of a cell in pixels, for a grid of this size."""
    return max(LEAST_CELL, -(-max(height, width) // MOST_CELLS))


@dataclass(frozen=True, slots=True, eq=False)
class Coverage:
    """Validity and classes of a scene in cells of `cell` x `cell` pixels of its own grid.

    The last row and column of cells may be smaller.

    Attributes:
        cell: side in pixels.
        valid: (rows, cols) float32, the share of a cell's pixels that are valid: 0 only where none is, and 1 only where
            all are.
        class_ids: of the classes that occur among valid pixels, sorted.
        class_pixels: (classes, rows, cols) int64, valid pixels of each class.
    """

    cell: int
    valid: npt.NDArray[np.float32]
    class_ids: tuple[int, ...]
    class_pixels: npt.NDArray[np.int64]

    @property
    def class_counts(self) -> dict[int, int]:
        """Pixels of each class in the whole scene."""
        return dict(zip(self.class_ids, self.class_pixels.sum(axis=(1, 2)).tolist(), strict=True))

    def cell_pixels(self, height: int, width: int) -> npt.NDArray[np.int64]:
        """(rows, cols): the pixels of each cell of a scene of this size."""
        return np.outer(_lengths(height, self.cell), _lengths(width, self.cell))

    def valid_share(self, height: int, width: int) -> float:
        """The share of valid pixels in a scene of this size."""
        pixels = self.cell_pixels(height, width)
        return float((self.valid.astype(np.float64) * pixels).sum() / pixels.sum())

    def outline(self, grid: Grid) -> shapely.Geometry | None:
        """The cells of `grid` that hold valid pixels, as one (multi)polygon in WGS 84.

        None for a grid without a CRS, or where WGS 84 does not reach it; empty where nothing is valid.
        """
        if grid.crs is None:
            return None
        if (self.valid > 0).all():
            return grid.world_footprint()
        down, across = np.nonzero(self.valid)
        row, col = down * self.cell, across * self.cell
        row_stop = np.minimum(row + self.cell, grid.height)
        col_stop = np.minimum(col + self.cell, grid.width)
        cells = shapely.coverage_union_all(shapely.box(col, row, col_stop, row_stop))
        a, b, c, d, e, f = grid.transform[:6]
        shape = shapely.transform(
            cells, lambda xy: np.stack([xy @ np.array([a, b]) + c, xy @ np.array([d, e]) + f], axis=1)
        )
        there = reproject_shape(shape, grid.crs, WORLD)
        return cut_at_180(there) if np.isfinite(shapely.get_coordinates(there)).all() else None

    @staticmethod
    def of(catalog: "Catalog", scene: int) -> "Coverage | None":
        """What the catalog knows of the scene at a position; None where it was not surveyed."""
        if COLUMN not in catalog.table.column_names:
            return None
        row = catalog.table.column(COLUMN)[scene]
        if not row.is_valid:
            return None
        rows, cols = row["rows"].as_py(), row["cols"].as_py()
        valid = to_numpy(row["valid"].values).reshape(rows, cols).astype(np.float32) / np.float32(255)
        ids = tuple(row["class_ids"].values.to_pylist())
        pixels = to_numpy(row["class_pixels"].values).reshape(len(ids), rows, cols)
        return Coverage(row["cell"].as_py(), valid, ids, pixels)

    @staticmethod
    def full(height: int, width: int) -> "Coverage":
        """Of a scene in which every pixel is valid."""
        cell = cell_size(height, width)
        shape = -(-height // cell), -(-width // cell)
        return Coverage(cell, np.ones(shape, dtype=np.float32), (), np.zeros((0, *shape), dtype=np.int64))

    @staticmethod
    def count(
        valid: npt.NDArray[np.bool_], labels: npt.NDArray[Any] | None = None, *, ignore_index: int = 255
    ) -> "Coverage":
        """Counted from a whole scene's `valid` (height, width) and, where there are such, its labels."""
        counter = CoverageCounter(*valid.shape, ignore_index=ignore_index)
        counter.add(0, 0, valid, labels)
        return counter.coverage()


class CoverageCounter:
    """Counts a scene window by window, in any order; each pixel is to be given once.

    Args:
        height: of the scene in pixels.
        width: of the same.
        ignore_index: where there is no label.
    """

    def __init__(self, height: int, width: int, *, ignore_index: int = 255) -> None:
        self.height, self.width, self.ignore_index = height, width, ignore_index
        self.cell = cell_size(height, width)
        self._shape = -(-height // self.cell), -(-width // self.cell)
        self._valid = np.zeros(self._shape, dtype=np.int64)
        self._classes: dict[int, npt.NDArray[np.int64]] = {}

    def add(
        self, row: int, col: int, valid: npt.NDArray[np.bool_], labels: npt.NDArray[np.integer[Any]] | None = None
    ) -> None:
        """Count a window that begins at a row and column; `valid` and `labels` are (height, width) of it."""
        self._sum(self._valid, row, col, valid)
        if labels is None:
            return
        known = labels[valid]
        for number in _distinct(known):
            if number == self.ignore_index:
                continue
            if number not in self._classes:
                self._classes[number] = np.zeros(self._shape, dtype=np.int64)
            self._sum(self._classes[number], row, col, valid & (labels == number))

    def merge(self, other: "CoverageCounter") -> None:
        """Add what another counter of the same scene has counted."""
        self._valid += other._valid
        for number, pixels in other._classes.items():
            self._classes[number] = self._classes[number] + pixels if number in self._classes else pixels

    def coverage(self) -> Coverage:
        """What was counted."""
        pixels = np.outer(_lengths(self.height, self.cell), _lengths(self.width, self.cell))
        share = (self._valid / pixels).astype(np.float32)
        # A share that rounds to 1 while a pixel is missing would promise too much.
        share = np.where(self._valid < pixels, np.minimum(share, np.nextafter(np.float32(1), np.float32(0))), share)
        ids = tuple(sorted(self._classes))
        counted = np.stack([self._classes[number] for number in ids]) if ids else np.zeros((0, *self._shape), np.int64)
        return Coverage(self.cell, share.astype(np.float32), ids, counted)

    def _sum(self, total: npt.NDArray[np.int64], row: int, col: int, where: npt.NDArray[np.bool_]) -> None:
        height, width = where.shape
        down, across = row // self.cell, col // self.cell
        rows = np.maximum(np.arange(down, (row + height - 1) // self.cell + 1) * self.cell - row, 0)
        cols = np.maximum(np.arange(across, (col + width - 1) // self.cell + 1) * self.cell - col, 0)
        # Rows first, in the memory's order; a count of one row of a cell fits 32 bits.
        sums = np.add.reduceat(np.add.reduceat(where, cols, axis=1, dtype=np.int32), rows, axis=0, dtype=np.int64)
        total[down : down + len(rows), across : across + len(cols)] += sums


def coverage_column(coverages: Sequence[Coverage | None]) -> pa.Array:
    """The column "coverage" of a catalog."""
    return pa.array([None if coverage is None else _row(coverage) for coverage in coverages], type=COVERAGE_TYPE)


def counts_column(counts: Sequence[Mapping[int, int] | None]) -> pa.Array:
    """The column "class_counts" of a catalog."""
    kind = pa.list_(pa.struct([("id", pa.int32()), ("count", pa.int64())]))
    rows = [
        None if row is None else [{"id": number, "count": count} for number, count in sorted(row.items())]
        for row in counts
    ]
    return pa.array(rows, type=kind)


def _row(coverage: Coverage) -> dict[str, Any]:
    shares = np.round(coverage.valid.astype(np.float64) * 255)
    inner = (coverage.valid > 0) & (coverage.valid < 1)
    shares = np.where(inner, np.clip(shares, 1, 254), shares).astype(np.uint8)
    return {
        "cell": coverage.cell,
        "rows": coverage.valid.shape[0],
        "cols": coverage.valid.shape[1],
        "valid": shares.ravel(),
        "class_ids": list(coverage.class_ids),
        "class_pixels": coverage.class_pixels.ravel(),
    }


def _lengths(size: int, cell: int) -> npt.NDArray[np.int64]:
    starts = np.arange(0, size, cell)
    return np.asarray(np.minimum(starts + cell, size) - starts, dtype=np.int64)


def _distinct(labels: npt.NDArray[Any]) -> list[int]:
    if labels.dtype == np.uint8:
        return [int(number) for number in np.flatnonzero(np.bincount(labels, minlength=256))]
    return [int(number) for number in np.unique(labels)]
