"""Where the classes of a catalog lie: chips of each class, or cells of scenes with the pixels of each class."""

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
import numpy.typing as npt

from geoaug.data.catalogs.arrow_arrays import to_numpy
from geoaug.data.catalogs.catalog import Catalog
from geoaug.data.samplers.tile_source import TileSource
from geoaug.data.surveys.amounts import cells_inside, class_name
from geoaug.data.surveys.coverage import COLUMN
from geoaug.errors import ConfigurationError

Array = npt.NDArray[Any]
Numbers = npt.NDArray[np.float64]


class ClassPlaces(ABC):
    """The classes of a catalog and where they lie.

    Attributes:
        ids: labels of chips, or ids of labelled pixels.
        amounts: (classes, scenes): chips, or square metres of each class.
    """

    ids: list[Any]
    amounts: Numbers

    @abstractmethod
    def box(
        self, scene: Array, number: Array, share: Numbers
    ) -> tuple[tuple[Numbers, Numbers], tuple[Numbers, Numbers]]:
        """Where in their scenes some of the classes with these numbers lie: (first, last) row and column.

        Given as shares (0 to 1) of the scenes' sides, and chosen by `share` in proportion to the amounts.
        """

    @staticmethod
    def of(source: TileSource) -> "ClassPlaces":
        """Chips where the catalog has labels of such, else what a survey counted.

        Raises:
            ConfigurationError: the catalog knows of no class.
        """
        labels = source.catalog.table.column("label")
        if labels.null_count < len(labels):
            return _Chips(labels.to_pylist())
        if COLUMN in source.catalog.table.column_names:
            found = _Cells(source)
            if found.ids:
                return found
        raise ConfigurationError(
            "the catalog does not know where classes lie: its scenes are no chips with classes, and no labels were "
            "counted; do so with geoaug stats --update-catalog"
        )

    def number(self, name: Any, catalog: Catalog) -> int:
        """The number of a class, by its label, id or name.

        Raises:
            ConfigurationError: no scene holds it.
        """
        for number, known in enumerate(self.ids):
            if name == known or (isinstance(name, str) and name == class_name(catalog, known)):
                return number
        there = ", ".join(str(known) for known in self.ids[:20])
        raise ConfigurationError(f"no scene holds the class {name!r}; there are {there}")


class _Chips(ClassPlaces):
    """Chips of one class each."""

    def __init__(self, labels: list[Any]) -> None:
        self.ids = sorted({label for label in labels if label is not None})
        self.amounts = np.array([[label == known for label in labels] for known in self.ids], dtype=np.float64)

    def box(
        self, scene: Array, number: Array, share: Numbers
    ) -> tuple[tuple[Numbers, Numbers], tuple[Numbers, Numbers]]:
        zero, one = np.zeros(len(scene)), np.ones(len(scene))
        return (zero, one), (zero, one)


class _Cells(ClassPlaces):
    """Cells of surveyed scenes, as the table of the catalog holds them."""

    def __init__(self, source: TileSource) -> None:
        catalog = source.catalog
        column = catalog.table.column(COLUMN).combine_chunks()
        known = to_numpy(column.is_valid())
        ids, pixels = column.field("class_ids"), column.field("class_pixels")
        self._cell, self._rows, self._cols = (
            np.where(known, to_numpy(column.field(name)), 1).astype(np.int64) for name in ("cell", "rows", "cols")
        )
        self._height, self._width = catalog.column("height").astype(np.int64), catalog.column("width").astype(np.int64)
        self._pixels = to_numpy(pixels.values)
        self._limited: dict[int, npt.NDArray[np.bool_]] = {}
        if "region" in catalog.table.column_names:
            limited = to_numpy(catalog.table.column("region").is_valid()) & known
            self._limited = {scene: cells_inside(catalog, scene).ravel() for scene in np.flatnonzero(limited).tolist()}
        offsets = to_numpy(ids.offsets)
        counts = np.where(known, np.diff(offsets), 0)
        scene = np.repeat(np.arange(len(catalog)), counts)
        nth = np.arange(len(scene)) - np.repeat(np.cumsum(counts) - counts, counts)
        label = to_numpy(ids.values)[offsets[:-1][scene] + nth]
        first = to_numpy(pixels.offsets)[:-1][scene] + nth * (self._rows * self._cols)[scene]
        self.ids = np.unique(label).tolist()
        number = np.searchsorted(self.ids, label)
        self._first = np.full((len(self.ids), len(catalog)), -1)
        self._first[number, scene] = first
        self.amounts = np.zeros((len(self.ids), len(catalog)))
        for place in range(len(scene)):
            cells = self._of(int(scene[place]), int(number[place]))
            self.amounts[number[place], scene[place]] = cells.sum() * source.grids.pixel_area_m2[scene[place]]

    def box(
        self, scene: Array, number: Array, share: Numbers
    ) -> tuple[tuple[Numbers, Numbers], tuple[Numbers, Numbers]]:
        cell = np.zeros(len(scene), dtype=np.int64)
        pairs, which = np.unique(np.stack([scene, number]), axis=1, return_inverse=True)
        for pair, (one, label) in enumerate(pairs.T.tolist()):
            there = np.flatnonzero(which.ravel() == pair)
            total = np.cumsum(self._of(one, label))
            cell[there] = np.searchsorted(total, share[there] * total[-1], side="right")
        row, col = cell // self._cols[scene] * self._cell[scene], cell % self._cols[scene] * self._cell[scene]
        height, width = self._height[scene], self._width[scene]
        row_stop = np.minimum(row + self._cell[scene], height)
        col_stop = np.minimum(col + self._cell[scene], width)
        return (row / height, row_stop / height), (col / width, col_stop / width)

    def _of(self, scene: int, number: int) -> Array:
        """The pixels of a class in the cells of a scene, as far as tiles may lie there."""
        first = int(self._first[number, scene])
        cells = self._pixels[first : first + int(self._rows[scene] * self._cols[scene])]
        return np.asarray(cells * self._limited[scene] if scene in self._limited else cells)
