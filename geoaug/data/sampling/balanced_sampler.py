"""`BalancedTileSampler`: tiles that hold each class as often as is wanted, however rare it is.

`ClassGround` knows where classes lie: chips by their labels, labelled pixels by the cells that a survey counted.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from geoaug.data.catalog.arrow_arrays import to_numpy
from geoaug.data.catalog.catalog import Catalog
from geoaug.data.raster.record import TileRef
from geoaug.data.sampling.coverage import COLUMN
from geoaug.data.sampling.ground_blocks import cells_inside, class_name
from geoaug.data.sampling.random_sampler import RandomTileSampler
from geoaug.data.sampling.sampler import Positions, TileDraws
from geoaug.data.sampling.tile_ground import Array, Numbers
from geoaug.data.sampling.tile_source import TileSource
from geoaug.errors import ConfigurationError


class ClassGround(ABC):
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
    def of(source: TileSource) -> "ClassGround":
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


class _Chips(ClassGround):
    """Chips of one class each."""

    def __init__(self, labels: list[Any]) -> None:
        self.ids = sorted({label for label in labels if label is not None})
        self.amounts = np.array([[label == known for label in labels] for known in self.ids], dtype=np.float64)

    def box(
        self, scene: Array, number: Array, share: Numbers
    ) -> tuple[tuple[Numbers, Numbers], tuple[Numbers, Numbers]]:
        zero, one = np.zeros(len(scene)), np.ones(len(scene))
        return (zero, one), (zero, one)


class _Cells(ClassGround):
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
        for entry in range(len(scene)):
            cells = self._of(int(scene[entry]), int(number[entry]))
            self.amounts[number[entry], scene[entry]] = cells.sum() * source.grids.pixel_area_m2[scene[entry]]

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


_FOR_CLASSES = 6
_MOST_TRIES = 256


class BalancedTileSampler(RandomTileSampler):
    """A class is drawn, and then a tile that holds it.

    For chips, any chip of the class. For labelled pixels, a cell of the survey in proportion to the ground that the
    class covers in it, and a tile at random that holds the cell (or lies in it, where the cell is larger). Classes that
    come along in a tile are not counted, so a rare class is seen at least as often as was asked for.

    Args:
        source: a `TileDataset`, or `CatalogTiles` of a catalog and a size; the catalog knows its chips' classes, or
            its labels were counted (`geoaug stats --update-catalog`).
        length: tiles of an epoch, of all processes together.
        probabilities: of the classes that are to be drawn, by label, name or id; in proportion to these numbers.
        alpha: where no probabilities are given, each class is drawn in proportion to what there is of it to this power:
            0 for all alike, 1 as they come.
        seed: of all that is drawn.
        min_valid: see `RandomTileSampler`.
        rank: see `TileSampler`.
        world_size: likewise.

    Raises:
        ConfigurationError: nothing is known of classes, or a class is in no scene.
    """

    def __init__(
        self,
        source: TileSource,
        length: int,
        *,
        probabilities: Mapping[Any, float] | None = None,
        alpha: float = 0.0,
        seed: int = 0,
        min_valid: float = 0.0,
        rank: int | None = None,
        world_size: int | None = None,
    ) -> None:
        super().__init__(source, length, seed=seed, min_valid=min_valid, rank=rank, world_size=world_size)
        self._held = ClassGround.of(source)
        amounts = np.where(self.ground.area_m2 > 0, self._held.amounts, 0.0)
        total = amounts.sum(axis=1)
        if probabilities is None:
            wanted = np.where(total > 0, np.maximum(total, 1e-300) ** alpha, 0.0)
        else:
            wanted = np.zeros(len(total))
            for name, share in probabilities.items():
                if not share >= 0:
                    raise ConfigurationError(f"the class {name!r} has the probability {share}: it must be 0 or more")
                number = self._held.number(name, source.catalog)
                wanted[number] += share
                if share > 0 and not total[number]:
                    raise ConfigurationError(f"no scene holds the class {name!r} where tiles may lie")
        if not wanted.sum() > 0:
            raise ConfigurationError("no class is to be drawn: all have the probability 0")
        self.classes = list(self._held.ids)
        self.probabilities: Numbers = wanted / wanted.sum()
        self._shares = np.cumsum(self.probabilities)
        self._shares[np.flatnonzero(wanted)[-1] :] = 1.0
        with np.errstate(invalid="ignore"):
            self._scene_shares = np.cumsum(amounts, axis=1) / total[:, None]

    def _apart(self, position: Positions, attempt: int) -> list[TileRef]:
        draws = TileDraws(self.seed, _FOR_CLASSES)
        first = 2 * attempt * _MOST_TRIES
        number = np.searchsorted(self._shares, draws.uniforms(position, self.epoch, first)[:, 0], side="right")
        scene, down, across = (np.zeros(len(position), dtype=np.int64) for _ in range(3))
        rest = np.arange(len(position))
        turn = 0
        while len(rest) and turn < _MOST_TRIES:
            one = draws.uniforms(position[rest], self.epoch, first + 2 * turn)
            two = draws.uniforms(position[rest], self.epoch, first + 2 * turn + 1)
            scene[rest] = self._scenes_of(number[rest], one[:, 1])
            down[rest], across[rest] = self._beside(scene[rest], number[rest], one[:, 2], two)
            # Any position that is possible at all will do: which one comes is up to the class.
            rest = rest[~self._possible(scene[rest], down[rest], across[rest])]
            turn += 1
        for left in rest.tolist():
            down[left], across[left] = self.ground.sure(int(scene[left]), 0.5)
        row, col = self.ground.corners(scene, down, across)
        return self.refs(position, scene, row, col)

    def _scenes_of(self, number: Array, share: Numbers) -> Array:
        scene = np.zeros(len(number), dtype=np.int64)
        for one in np.unique(number).tolist():
            there = number == one
            scene[there] = np.searchsorted(self._scene_shares[one], share[there], side="right")
        return np.minimum(scene, len(self.ground.area_m2) - 1)

    def _beside(self, scene: Array, number: Array, share: Numbers, numbers: Numbers) -> tuple[Array, Array]:
        """Positions at which tiles hold the box where the class lies, or lie in it."""
        found = []
        sides = (self.ground.height, self.ground.rows), (self.ground.width, self.ground.cols)
        boxes = self._held.box(scene, number, share)
        for axis, ((length, starts), (begin, end)) in enumerate(zip(sides, boxes, strict=True)):
            tile = self.ground.tile[axis]
            start, stop = begin * length[scene], end * length[scene]
            low, high = np.minimum(start, stop - tile), np.maximum(start, stop - tile)
            low, high = np.clip(np.floor(low), 0, starts[scene] - 1), np.clip(np.ceil(high), 0, starts[scene] - 1)
            # A tile larger than its scene holds the box wherever it begins.
            small = length[scene] < tile
            low, high = np.where(small, 0, low), np.where(small, starts[scene] - 1, high)
            found.append((low + np.floor(numbers[:, axis] * (high - low + 1))).astype(np.int64))
        return found[0], found[1]

    def _possible(self, scene: Array, down: Array, across: Array) -> Array:
        if self.ground.plain:
            return np.ones(len(scene), dtype=bool)
        row, col = self.ground.corners(scene, down, across)
        enough = self.ground.most_valid(scene, row, col) >= self.ground.min_valid
        return enough & self.ground.inside(scene, row, col)
