"""Splits by ground for a training whose data have none, also where labels are few and lie close together.

Tiles of different splits keep half a tile apart in any case. Where blocks of the usual size leave a split without
labels, smaller ones are tried, then smaller tiles, then a split without a test. What counts is what tiles hold.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from geoaug.data.catalog.catalog import Catalog
from geoaug.data.loading.dataset import TileDataset
from geoaug.data.raster.record import TileRef
from geoaug.data.sampling.coverage import Coverage
from geoaug.data.sampling.grid_sampler import GridTileSampler
from geoaug.data.sampling.ground_blocks import class_amounts, class_amounts_in, class_ids
from geoaug.data.sampling.splits import absent_classes, split_by_blocks
from geoaug.errors import ConfigurationError

__all__ = ["SHARES", "GroundSplit", "labelled_share", "split_ground"]

SHARES = {"train": 0.7, "val": 0.15, "test": 0.15}
_WITHOUT_TEST = {"train": 0.8, "val": 0.2}
LEAST_TILE = 16
_BLOCKS = 200  # that hold the scenes
_MOST_BLOCKS = 5000  # that are worth their time
_LABELLED_BLOCKS = 20  # that hold the labelled ground, where it is little
_SIDES = (3.0, 2.0, 1.5)  # of blocks, in tiles; with half a tile between blocks, one tile must fit
_CHANCES = 8
_MOST_TILES, _AT_ONCE = 512, 64

_log = logging.getLogger("geoaug")


@dataclass(frozen=True, slots=True)
class GroundSplit:
    """A split by blocks of ground.

    Attributes:
        catalog: with its splits.
        tile: side of the tiles that it is for, pixels.
        block_m: side of the blocks.
        buffer_m: distance of tiles of different splits.
        shares: that were asked for.
    """

    catalog: Catalog
    tile: int
    block_m: float
    buffer_m: float
    shares: Mapping[str, float]


def split_ground(catalog: Catalog, tile: int, *, smaller: bool, seed: int, **labels: Any) -> GroundSplit:
    """A split of which the training holds every class, and the others some labels.

    Args:
        catalog: surveyed.
        tile: side of tiles, pixels.
        smaller: whether smaller tiles may be taken.
        seed: of the chance.
        **labels: `bands`, `labels` and `label_field` of `TileDataset`.

    Raises:
        ConfigurationError: there is none.
    """
    usual = _Candidate(tile, max(math.sqrt(_area_m2(catalog) / _BLOCKS), 3 * tile * _gsd_m(catalog)), SHARES, seed)
    why = ""
    with _quiet():
        try:
            first = usual.split(catalog)
        except ConfigurationError as error:
            why = f"; {error}"
        else:
            amounts = {name: class_amounts_in(first.catalog.split(name), class_ids(catalog)) for name in SHARES}
            if _enough(amounts):
                return _said(first)
        for candidate in _candidates(catalog, tile, smaller=smaller, seed=seed):
            try:
                found = candidate.split(catalog)
                held = {name: _held(found.catalog.split(name), candidate.tile, labels) for name in found.shares}
            except ConfigurationError:  # too few blocks, or no room for a tile
                continue
            if _enough(held):
                return _said(found)
    tiles = f"{tile} pixels or less, down to {LEAST_TILE}," if smaller else f"{tile} pixels"
    raise ConfigurationError(
        f"no split by ground holds labels of every class for training and some for validation, with tiles of {tiles} "
        f"that keep half a tile apart{why}: label more ground, take another --seed"
        f"{'' if smaller else ' or a smaller --tile'}, or make a split with geoaug split and give its catalog as --data"
    )


def labelled_share(catalog: Catalog) -> float:
    """The share of the pixels of a surveyed catalog that have a label."""
    pixels = float((catalog.column("height").astype(np.float64) * catalog.column("width")).sum())
    return float(class_amounts(catalog).sum()) / pixels


@dataclass(frozen=True, slots=True)
class _Candidate:
    tile: int
    block_m: float
    shares: Mapping[str, float]
    seed: int

    def split(self, catalog: Catalog) -> GroundSplit:
        buffer = self.tile * _gsd_m(catalog) / 2
        made = split_by_blocks(catalog, self.shares, block_m=self.block_m, buffer_m=buffer, seed=self.seed)
        return GroundSplit(made, self.tile, self.block_m, buffer, self.shares)


def _candidates(catalog: Catalog, tile: int, *, smaller: bool, seed: int) -> Iterator[_Candidate]:
    labelled, gsd, least = _labelled_m2(catalog), _gsd_m(catalog), math.sqrt(_area_m2(catalog) / _MOST_BLOCKS)
    tiles = [tile]
    while smaller and tiles[-1] // 2 >= LEAST_TILE:
        tiles.append(tiles[-1] // 2)
    for shares in (SHARES, _WITHOUT_TEST):
        for side in tiles:
            extent = math.sqrt(labelled / _LABELLED_BLOCKS)
            blocks = [factor * side * gsd for factor in _SIDES]
            for block in [extent, *blocks] if extent > blocks[0] else blocks:
                for chance in range(_CHANCES if block >= least else 0):
                    yield _Candidate(side, block, shares, seed + chance)


def _enough(amounts: Mapping[str, Any]) -> bool:
    return bool((amounts["train"] > 0).all()) and all(bool(values.any()) for values in amounts.values())


def _held(part: Catalog, tile: int, labels: Mapping[str, Any]) -> Any:
    """The labelled pixels of each class in tiles that cover a split; of some of the tiles where they are many."""
    ids = np.array(class_ids(part))
    amounts = np.zeros(len(ids))
    with TileDataset(part, tile, **labels) as dataset:
        grid = GridTileSampler(dataset, rank=0, world_size=1)
        refs = [ref for ref in grid.between(0, len(grid)) if _may_hold(dataset.catalog, ref, tile)]
        refs = refs[:: -(-len(refs) // _MOST_TILES) or 1]
        for start in range(0, len(refs), _AT_ONCE):
            mask = dataset.read(refs[start : start + _AT_ONCE])["mask"].numpy()
            amounts += (mask[..., None] == ids).sum(axis=(0, 1, 2))
    return amounts


def _may_hold(catalog: Catalog, ref: TileRef, tile: int) -> bool:
    """Whether a tile touches a cell with labels."""
    coverage = Coverage.of(catalog, ref.scene)
    if coverage is None:
        return True
    rows, cols = (slice(at // coverage.cell, (at + tile - 1) // coverage.cell + 1) for at in (ref.row, ref.col))
    return bool(coverage.class_pixels[:, rows, cols].any())


def _said(found: GroundSplit) -> GroundSplit:
    for line in absent_classes(found.catalog):
        _log.warning("%s", line)
    return found


@contextmanager
def _quiet() -> Iterator[None]:
    """Without warnings about splits that are not taken."""

    def only_ours(record: logging.LogRecord) -> bool:
        return record.module == __name__.rpartition(".")[2]

    _log.addFilter(only_ours)
    try:
        yield
    finally:
        _log.removeFilter(only_ours)


def _gsd_m(catalog: Catalog) -> float:
    return max(float(value) for value in catalog.column("gsd_m"))


def _area_m2(catalog: Catalog) -> float:
    return float((catalog.column("height") * catalog.column("width") * catalog.column("gsd_m") ** 2).sum())


def _labelled_m2(catalog: Catalog) -> float:
    """The ground of the cells that hold labels."""
    total = 0.0
    for scene, gsd in enumerate(catalog.column("gsd_m").tolist()):
        coverage = Coverage.of(catalog, scene)
        if coverage is not None:
            total += float(coverage.class_pixels.any(axis=0).sum()) * (coverage.cell * gsd) ** 2
    return total
