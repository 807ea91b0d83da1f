"""Dealing out: things of different sizes to splits by their shares, and blocks of ground with the scenes on them.

`dealt` knows of sizes and classes alone. `BlockSplit` finds which blocks of ground scenes lie on, and which part of a
scene belongs to which split. Both are used by `geoaug.data.sampling.splits`, where the splits are written down.
"""

import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyproj
import shapely
import torch
from affine import Affine

from geoaug.data.catalog.arrow_arrays import to_numpy
from geoaug.data.catalog.catalog import Catalog
from geoaug.data.catalog.products.classes import LARGEST_CHIP
from geoaug.data.raster.grid import Grid, reaches_earth, reproject_points
from geoaug.data.raster.meridians import DEGREES, cut_at_180, in_one_piece, whole_shape
from geoaug.data.sampling.coverage import Coverage
from geoaug.data.sampling.ground_blocks import (
    GEOGRAPHIC,
    GREATEST_SIDE_M,
    LEAST_SIDE_M,
    GroundBlocks,
    LocalMetres,
    cell_centres,
    class_amounts,
    class_ids,
    ground_m2,
)
from geoaug.data.sampling.scene_overlap import Outlines
from geoaug.earth import METRES_PER_DEGREE
from geoaug.errors import ConfigurationError
from geoaug.rng.draws import sample_keys

Array = npt.NDArray[Any]

_ORDERS = 32  # that are tried for the sake of classes, until the amounts are as near to the shares as this
_NEAR_ENOUGH = 0.03


def checked_shares(shares: Mapping[str, float]) -> dict[str, float]:
    """Shares that add up to 1.

    Raises:
        ConfigurationError: fewer than two splits, a share that is not above 0, or shares of another sum.
    """
    if len(shares) < 2:
        raise ConfigurationError(f"a split into {len(shares)} part: give the shares of two or more")
    for name, share in shares.items():
        if not share > 0:
            raise ConfigurationError(f"the split '{name}' has the share {share:g}: it must be above 0")
    total = sum(shares.values())
    if abs(total - 1) > 1e-3:
        raise ConfigurationError(f"the shares add up to {total:g}: they must add up to 1")
    return {name: share / total for name, share in shares.items()}


def dealt(
    identity: npt.NDArray[np.int64], size: npt.NDArray[np.float64], classes: Array, shares: Array, seed: int
) -> npt.NDArray[np.int64]:
    """Which split each thing goes to.

    In an order by chance, great ones first, each thing goes to the split that lacks most. Where classes are known, the
    best of several orders is taken: that in which the classes come nearest to the shares, too.

    Args:
        identity: of each thing, by which chance treats it.
        size: of each, in any unit.
        classes: (things, classes) amounts of each class; no columns where nothing is known.
        shares: of the splits, adding up to 1.
        seed: of the chance.
    """
    best: tuple[float, npt.NDArray[np.int64]] | None = None
    known = classes[:, classes.sum(axis=0) > 0]
    for attempt in range(_ORDERS if known.shape[1] else 1):
        keys = sample_keys(seed, torch.from_numpy(identity), attempt).numpy()
        # By halves of the greatest: things of about one size come in any order.
        order = np.lexsort((keys, -np.ceil(2 * size / size.max(initial=1e-300))))
        chosen = _greedy(order, size, shares)
        off = 0.0
        if known.shape[1]:
            got = np.stack([known[chosen == number].sum(axis=0) for number in range(len(shares))])
            off = float(np.abs(got / known.sum(axis=0) / shares[:, None] - 1).max())
        if best is None or off < best[0]:
            best = off, chosen
        if off < _NEAR_ENOUGH:
            break
    assert best is not None
    return best[1]


def _greedy(order: Array, size: npt.NDArray[np.float64], shares: Array) -> npt.NDArray[np.int64]:
    chosen = np.zeros(len(size), dtype=np.int64)
    given = [0.0] * len(shares)
    targets = (shares * size.sum()).tolist()
    sizes = size.tolist()
    for item in order.tolist():
        # What is lacking in terms of the split's own share, so that small splits are not served last.
        split = max(range(len(given)), key=lambda number: (targets[number] - given[number]) / targets[number])
        chosen[item] = split
        given[split] += sizes[item]
    return chosen


_QUARTER_M = 1e7  # from the equator to a pole
_BLOCKS = 200  # that hold the scenes, by default
# Scenes of fewer tiles across are not cut, where there are enough of them.
_TILES_OF_CHIP = 3
# Of scenes that stay whole and overlap: so many across a block, unless fewer blocks than this would hold them.
_SCENES_ACROSS, _LEAST_BLOCKS = 10, 30
_MARGIN = 0.005  # of a scene's size


class Part(NamedTuple):
    """The blocks of a split, as a mask, and a number: of two scenes too near to each other, that of more goes."""

    mine: npt.NDArray[np.bool_]
    priority: float


class BlockSplit:
    """The scenes of a catalog on blocks of ground.

    Args:
        catalog: of scenes with a CRS.
        block_m: side of the blocks; see `split_by_blocks`.
        buffer_m: distance of splits.
        cut: whether scenes are cut along the blocks.
        size: of tiles in pixels, where it is known.
        parts: how many splits there are to be.
    """

    def __init__(
        self,
        catalog: Catalog,
        block_m: float | None,
        buffer_m: float,
        cut: bool | None,
        *,
        size: int | None = None,
        parts: int = 2,
    ) -> None:
        if buffer_m < 0:
            raise ConfigurationError(f"buffer_m is {buffer_m:g}: it must be 0 or more")
        self.catalog, self.buffer_m = catalog, buffer_m
        self._grids, self._grid = distinct_grids(catalog)
        side, self.cut = self._side_and_cut(block_m, cut, size, parts)
        if self.cut:
            self._check_extent()
        self._ground = GroundBlocks(side)
        self.notes = {"block_m": self._ground.side_m, "buffer_m": buffer_m, "cut": self.cut}
        self._measure()

    def dealt(self, shares: Array, seed: int) -> npt.NDArray[np.int64]:
        """Which split each block goes to."""
        if len(self.blocks) < len(shares):
            raise ConfigurationError(
                f"the scenes lie on {len(self.blocks)} block(s) of {self._ground.side_m:.0f} m, too few for "
                f"{len(shares)} splits: make the blocks smaller"
            )
        return dealt(self.blocks, self.size, self.classes, shares, seed)

    def part(self, mine: npt.NDArray[np.bool_], *, priority: float) -> Part:
        """A split of the blocks where `mine` is true."""
        return Part(mine, priority)

    def settled(self, parts: Mapping[str, Part]) -> dict[str, list[Any]]:
        """For each split and scene: None (not in it), True (all of it), or its region in degrees."""
        if not self.cut:
            return self._whole(parts)
        found: dict[str, list[Any]] = {name: [None] * len(self._grids) for name in parts}
        for number, grid in enumerate(self._grids):
            for name, value in self._regions(grid, parts).items():
                found[name][number] = value
        return {name: [values[number] for number in self._grid.tolist()] for name, values in found.items()}

    def _measure(self) -> None:
        """Find the blocks, their valid ground and what they hold of each class."""
        ids = class_ids(self.catalog)
        if not self.cut:
            centre = np.array([_centre(grid) for grid in self._grids])
            self._block = self._ground.at(*centre.T)[self._grid]
            self.blocks, which = np.unique(self._block, return_inverse=True)
            self.size: npt.NDArray[np.float64] = np.zeros(len(self.blocks))
            np.add.at(self.size, which, ground_m2(self.catalog))
            self.classes = np.zeros((len(self.blocks), len(ids)))
            np.add.at(self.classes, which, class_amounts(self.catalog))
            return
        cells = []
        for grid in self._grids:
            assert grid.crs is not None
            longitude, latitude, pixels = cell_centres(grid.crs, grid.transform, grid.height, grid.width)
            cells.append((self._ground.at(longitude, latitude), pixels * (grid.gsd_m or 0.0) ** 2))
        self.blocks = np.unique(np.concatenate([blocks for blocks, _ in cells]))
        self.size = np.zeros(len(self.blocks))
        self.classes = np.zeros((len(self.blocks), len(ids)))
        columns = {number: column for column, number in enumerate(ids)}
        for scene, number in enumerate(self._grid.tolist()):
            block, area = cells[number]
            which = np.searchsorted(self.blocks, block)
            coverage = Coverage.of(self.catalog, scene)
            if coverage is not None and coverage.valid.size == len(block):
                area = area * coverage.valid.ravel()
                for label, pixels in zip(coverage.class_ids, coverage.class_pixels, strict=True):
                    if label in columns:
                        np.add.at(self.classes[:, columns[label]], which, pixels.ravel())
            np.add.at(self.size, which, area)

    def _whole(self, parts: Mapping[str, Part]) -> dict[str, list[Any]]:
        which = np.searchsorted(self.blocks, self._block)
        owner = np.full(len(self.catalog), -1)
        for number, part in enumerate(parts.values()):
            owner[part.mine[which]] = number
        rank = np.argsort(np.argsort([part.priority for part in parts.values()], kind="stable"), kind="stable")
        # Scenes of one outline have one centre, so they are in one split.
        of_scene, pairs = self._outlines.of_scene, self._outlines.pairs
        of_outline = np.full(of_scene.max() + 1, -1)
        of_outline[of_scene] = owner
        both = of_outline[pairs]
        pairs = pairs[:, (both[0] != both[1]) & (both >= 0).all(axis=0)]
        pairs = pairs[:, self._outlines.near(pairs)]
        first, second = rank[of_outline[pairs]]
        owner[np.isin(of_scene, np.where(first > second, *pairs))] = -1
        return {
            name: [True if value == number else None for value in owner.tolist()] for number, name in enumerate(parts)
        }

    def _side_and_cut(
        self, block_m: float | None, cut: bool | None, size: int | None, parts: int
    ) -> tuple[float, bool]:
        """The side of the blocks and whether scenes are cut, as asked for or as suits the scenes and tiles."""
        gsd = np.array([grid.gsd_m or 0.0 for grid in self._grids])
        area = gsd**2 * np.array([grid.height * grid.width for grid in self._grids])
        across = max(max(grid.height, grid.width) for grid in self._grids)
        side = max(float(np.sqrt(area.sum() / _BLOCKS)), 4 * self.buffer_m) if block_m is None else block_m
        if side < 2 * self.buffer_m:
            raise ConfigurationError(
                f"blocks of {side:g} m leave little between buffers of {self.buffer_m:g} m: at least 2 x that is needed"
            )
        small = across <= (LARGEST_CHIP if size is None else _TILES_OF_CHIP * size)
        if size is not None and block_m is None:
            side = max(side, min(2 * size * float(np.median(gsd)), float(np.sqrt(area.sum() / (3 * parts)))))
            if cut is None and small and len(self._grids) >= 3 * parts:
                cut = False
        if cut is None:
            cut = bool((area > side**2).any()) or (not small and self._outlines.crowded())
        if not cut and block_m is None and self._outlines.crowded():
            # Wider blocks have fewer scenes at their borders, which are left out.
            most = float(np.sqrt(self._outlines.ground_m2() / _LEAST_BLOCKS))
            side = max(side, min(_SCENES_ACROSS * float(np.sqrt(area.max())), most))
        return side if block_m is not None else self._feasible(side, gsd, size, parts), cut

    def _feasible(self, side: float, gsd: npt.NDArray[np.float64], size: int | None, parts: int) -> float:
        """A side that was not asked for within what blocks can have.

        Raises:
            ConfigurationError: tiles are wider than any block.
        """
        pixel = float(np.median(gsd))
        if size is not None and size * pixel > GREATEST_SIDE_M:
            self._check_extent()
            raise ConfigurationError(
                f"tiles of {size} pixels of {pixel / 1000:.3g} km are {size * pixel / 1000:.4g} km wide, and a block "
                f"of ground {GREATEST_SIDE_M / 1000:g} km at most: give smaller tiles (size, --size "
                f"{roomy_size(self._grids, parts)}), or split whole scenes (at random, by date or folder)",
                argument="size",
            )
        return min(max(side, LEAST_SIDE_M), GREATEST_SIDE_M)

    @cached_property
    def _outlines(self) -> Outlines:
        return Outlines(self.catalog, self.buffer_m)

    def _check_extent(self) -> None:
        """Raise `ConfigurationError` where a scene reaches too far for one map in metres."""
        for number, grid in enumerate(self._grids):
            west, south, east, north = _outline(grid)[1]
            x, y = np.meshgrid(np.linspace(west, east, 9), np.linspace(south, north, 9))
            middle = np.full(x.size, (west + east) / 2), np.full(x.size, (south + north) / 2)
            if pyproj.Geod(ellps="WGS84").inv(*middle, x.ravel(), y.ravel())[2].max() > _QUARTER_M:
                name = self.catalog.ids[int(np.flatnonzero(self._grid == number)[0])]
                raise ConfigurationError(
                    f"scene '{name}' covers more than half of the Earth, which no map of blocks can show in metres: "
                    "cut it into scenes of a continent or less (gdal_retile.py -ps), or split whole scenes (at random, "
                    "by date or folder)",
                    scene=name,
                )

    def _regions(self, grid: Grid, parts: Mapping[str, Part]) -> dict[str, Any]:
        outline, bounds = _outline(grid)
        local = LocalMetres((bounds[0] + bounds[2]) / 2, (bounds[1] + bounds[3]) / 2)
        foot = local.metres(outline)
        # Metres are right to a hundredth of a distance; a metre more for the corners of pixels.
        half = 0.505 * self.buffer_m + 1.0 if self.buffer_m else 0.0
        # Somewhat more, so that what is cut here ends outside of the frame.
        margin = half + 4 * (grid.gsd_m or 0.0) + _MARGIN * float(np.hypot(*np.ptp(shapely.get_coordinates(foot), 0)))
        tall = margin / METRES_PER_DEGREE
        wide = tall / max(np.cos(np.deg2rad(max(abs(bounds[1]), abs(bounds[3])))), 1e-3)
        near = (bounds[0] - wide, bounds[1] - tall, bounds[2] + wide, bounds[3] + tall)
        block = self._ground.around(near)
        frame = foot.buffer(2 * (grid.gsd_m or 0.0), join_style="mitre")
        found: dict[str, Any] = {}
        for name, part in parts.items():
            own = np.isin(block, self.blocks[part.mine])
            if not own.any():
                continue
            if own.all():
                found[name] = True
                continue
            region = local.metres(self._ground.union(block[own], near))
            if half:
                others = local.metres(self._ground.union(block[~own], near))
                region = region.difference(others.buffer(half, join_style="mitre"))
            region = region.intersection(frame)
            if region.covers(foot):
                found[name] = True
            elif region.area > 0:
                pieces = [piece for piece in shapely.get_parts(region) if piece.geom_type == "Polygon"]
                found[name] = cut_at_180(whole_shape(local.degrees(shapely.MultiPolygon(pieces)), DEGREES))
        return found


def roomy_size(grids: Sequence[Grid], parts: int) -> int:
    """The side in pixels of tiles of which two fit side by side into blocks, three of these for each split."""
    pixels = sum(grid.height * grid.width for grid in grids)
    coarsest = max(grid.gsd_m or 0.0 for grid in grids)
    most = math.sqrt(pixels / (3 * parts)) / 2
    if coarsest > 0:
        most = min(most, GREATEST_SIDE_M / coarsest / 2)
    return max(int(most) // 8 * 8 if most >= 8 else int(most), 1)


def distinct_grids(catalog: Catalog) -> tuple[list[Grid], npt.NDArray[np.int64]]:
    """The grids of a catalog's scenes, each once, and which of them each scene has.

    Raises:
        ConfigurationError: a scene without a CRS.
    """
    crs = catalog.table.column("crs").to_pylist()
    if None in crs:
        name = catalog.ids[crs.index(None)]
        raise ConfigurationError(
            f"scene '{name}' has no CRS, so its ground is not known: split by folder, attribute, date or at random"
        )
    for text in dict.fromkeys(crs):
        if not reaches_earth(text):
            name = catalog.ids[crs.index(text)]
            raise ConfigurationError(
                f"scene '{name}' has a CRS without a place on Earth, so its ground is not known: split by folder, "
                "attribute, date or at random"
            )
    texts, codes = np.unique(np.array(crs, dtype=object).astype(str), return_inverse=True)
    transform = to_numpy(catalog.table.column("transform").combine_chunks().flatten()).reshape(-1, 6)
    size = catalog.column("height"), catalog.column("width")
    rows = np.column_stack([codes, transform, *size])
    rows, which = np.unique(rows, axis=0, return_inverse=True)
    grids = [Grid(str(texts[int(row[0])]), Affine(*row[1:7]), int(row[7]), int(row[8])) for row in rows]
    return grids, which.ravel()


def _centre(grid: Grid) -> tuple[float, float]:
    assert grid.crs is not None
    x, y = grid.transform * (grid.width / 2, grid.height / 2)
    longitude, latitude = reproject_points(np.array([x]), np.array([y]), grid.crs, GEOGRAPHIC)
    return float(longitude[0]), float(latitude[0])


def _outline(grid: Grid) -> tuple[shapely.Polygon, tuple[float, float, float, float]]:
    """The outline in degrees and its bounds; east of 180 degrees where it lies across them."""
    outline = grid.footprint(GEOGRAPHIC, steps=21)
    if outline is None:
        raise ConfigurationError(f"a scene in {str(grid.crs)[:60]} cannot be located in longitude and latitude")
    outline = in_one_piece(outline)
    west, south, east, north = shapely.bounds(outline).tolist()
    return outline, (west, south, east, north)
