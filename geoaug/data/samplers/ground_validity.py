"""`SurveyedGround`: where a surveyed catalog's scenes hold valid pixels, for many tiles of many scenes at once.

Looks things up in the coverage of a catalog (see `geoaug.data.surveys.coverage`) without taking it apart scene by
scene.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from geoaug.data.catalogs.arrow_arrays import to_numpy
from geoaug.data.catalogs.catalog import Catalog
from geoaug.data.surveys.coverage import COLUMN

Array = npt.NDArray[Any]
Numbers = npt.NDArray[np.float64]

_ALL = 255
_AT_ONCE = 2**20  # cells that are summed together


@dataclass(frozen=True, slots=True, eq=False)
class SurveyedGround:
    """Cells of all scenes, one after the other.

    Attributes:
        known: whether a scene was surveyed.
        height, width: of each scene in pixels, as in the catalog.
        cell: side of its cells in pixels.
        rows, cols: number of its cells.
        first: place of its first cell among all.
        valid: of all cells, 0 where no pixel is valid and 255 where all are.
        share: of the valid pixels in each scene; 1 where it was not surveyed.
        whole: whether all pixels of a scene are valid, as far as is known.
    """

    known: npt.NDArray[np.bool_]
    height: Array
    width: Array
    cell: Array
    rows: Array
    cols: Array
    first: Array
    valid: npt.NDArray[np.uint8]
    share: Numbers
    whole: npt.NDArray[np.bool_]

    @staticmethod
    def of(catalog: Catalog) -> "SurveyedGround | None":
        """What the catalog knows; None where no scene was surveyed."""
        if COLUMN not in catalog.table.column_names:
            return None
        column = catalog.table.column(COLUMN).combine_chunks()
        known = to_numpy(column.is_valid())
        if not known.any():
            return None
        lists = column.field("valid")
        first = to_numpy(lists.offsets)[:-1].astype(np.int64)
        cell, rows, cols = (
            np.where(known, to_numpy(column.field(name)), 1).astype(np.int64) for name in ("cell", "rows", "cols")
        )
        ground = SurveyedGround(
            known,
            catalog.column("height").astype(np.int64),
            catalog.column("width").astype(np.int64),
            cell,
            rows,
            cols,
            first,
            to_numpy(lists.values),
            np.ones(len(catalog)),
            np.ones(len(catalog), dtype=bool),
        )
        ground._sum()
        return ground

    def at(self, scene: Array, down: Numbers, across: Numbers) -> Numbers:
        """The share of valid pixels in the cells that hold points, given as shares (0 to 1) of a scene's sides."""
        row = np.minimum((down * self.height[scene]) // self.cell[scene], self.rows[scene] - 1)
        col = np.minimum((across * self.width[scene]) // self.cell[scene], self.cols[scene] - 1)
        return self._cells(scene, row.astype(np.int64), col.astype(np.int64)) / _ALL

    def most_valid(self, scene: Array, row: Numbers, col: Numbers, height: Numbers, width: Numbers) -> Numbers:
        """The greatest share of valid pixels that tiles can have, by what is known of the cells that they touch.

        Rows, columns and sizes are in the scenes' own pixels, as the catalog has them.
        """
        cell = self.cell[scene]
        down, across = np.maximum(row, 0) // cell, np.maximum(col, 0) // cell
        total = np.zeros(len(scene))
        wide = range(int((width / cell).max(initial=0)) + 2)
        for i in range(int((height / cell).max(initial=0)) + 2):
            rows, tall = _overlap(down + i, cell, row, height, self.height[scene])
            for j in wide:
                cols, broad = _overlap(across + j, cell, col, width, self.width[scene])
                share = self._cells(
                    scene,
                    np.minimum(down + i, self.rows[scene] - 1).astype(np.int64),
                    np.minimum(across + j, self.cols[scene] - 1).astype(np.int64),
                ).astype(np.float64)
                share += 0.5 * ((share > 0) & (share < _ALL))  # as much as rounding may have hidden
                total += np.minimum(rows * cols, share / _ALL * tall * broad)
        return np.where(self.known[scene], total / (height * width), 1.0)

    def _cells(self, scene: Array, row: Array, col: Array) -> npt.NDArray[np.uint8]:
        known = self.known[scene]
        place = np.where(known, self.first[scene] + row * self.cols[scene] + col, 0)
        return np.where(known, self.valid[place], np.uint8(_ALL))

    def _sum(self) -> None:
        """Fill in the shares, scenes of one shape at a time."""
        kinds = np.stack([self.height, self.width, self.cell], axis=1)
        scenes = np.flatnonzero(self.known)
        shapes, which = np.unique(kinds[scenes], axis=0, return_inverse=True)
        for number, (height, width, cell) in enumerate(shapes.tolist()):
            pixels = np.outer(_lengths(height, cell), _lengths(width, cell)).ravel()
            same = scenes[which.ravel() == number]
            for some in np.array_split(same, -(-len(same) * len(pixels) // _AT_ONCE)):
                cells = self.valid[self.first[some][:, None] + np.arange(len(pixels))]
                self.share[some] = cells @ pixels / (_ALL * height * width)
                self.whole[some] = (cells == _ALL).all(axis=1)


def _overlap(number: Array, cell: Array, start: Numbers, size: Numbers, length: Array) -> tuple[Numbers, Numbers]:
    """How far tiles reach over their cells of a number along an axis, and how long those cells are."""
    begin = number * cell
    end = np.maximum(np.minimum(begin + cell, length), begin)
    return np.maximum(np.minimum(start + size, end) - np.maximum(start, begin), 0), end - begin


def _lengths(size: int, cell: int) -> Array:
    starts = np.arange(0, size, cell)
    return np.minimum(starts + cell, size) - starts
