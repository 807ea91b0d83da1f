"""The untouched tiles of an audit: some of those that a job would cut, spread over all scenes, read once.

And their augmented copies, made by the very code that writes tiles (`geoaug.io.augmenter`), so that an audit judges
what `geoaug augment` gives: in the type of the scene, rounded, with the surroundings of a tile turned into its corners
where the scene has any.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from geoaug.data.raster.grid import Grid
from geoaug.data.raster.window import Window
from geoaug.errors import ConfigurationError, RasterError
from geoaug.io.augmenter import Augmenter, Sample
from geoaug.io.intake import JobScene, scenes_of, take_in
from geoaug.io.job import AugmentJob
from geoaug.io.output import OutputTile
from geoaug.io.source_tiles import SourceTile, TileReader

__all__ = ["LEAST_TILES", "AuditTiles", "Placed", "TileSource", "augmented"]

# Fewer say nothing: an area under the curve of 30 against 30 tiles has a standard error of .075.
LEAST_TILES = 30
_USUAL_SIDE = 64
_COPY = 1


@dataclass(frozen=True, slots=True, eq=False)
class Placed:
    """A tile that was read, and the scene it is of."""

    scene: JobScene
    tile: SourceTile


@dataclass(frozen=True, slots=True, eq=False)
class AuditTiles:
    """Tiles of scenes that are alike: the same bands, scaling and type of pixels.

    Attributes:
        job: that they are read and augmented for.
        placed: the tiles, with as much context as was asked for.
        notes: what a person should know.
    """

    job: AugmentJob
    placed: tuple[Placed, ...]
    notes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.placed)

    @property
    def scene(self) -> JobScene:
        """One of the scenes, which tells what all have in common."""
        return self.placed[0].scene

    @property
    def labelled(self) -> bool:
        """Whether all tiles have labels for their pixels."""
        return all(one.tile.labels is not None for one in self.placed)

    def untouched(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Pixels (C, H, W) as stored, and validity (H, W), of a tile without its context."""
        tile = self.placed[number].tile
        return tile.image[:, *tile.core], tile.valid[tile.core]


class TileSource:
    """Where the tiles of an audit come from: the scenes that are alike, and the windows chosen in them.

    Args:
        job: which scenes, bands, labels and seed; its tile None where the audit may choose.
        tile: side in pixels; None: 64, or the usual shorter side of the scenes where that is less.
        count: tiles at most.

    Raises:
        ConfigurationError: wrong use, or too few tiles.
        RasterError: no scene can be used.
    """

    def __init__(self, job: AugmentJob, tile: int | None, count: int) -> None:
        if count < LEAST_TILES:
            raise ConfigurationError(f"{count} tiles are asked for: an audit takes {LEAST_TILES} or more")
        found = scenes_of(job)
        if not found.scenes:
            raise found.failures[0] if found.failures else RasterError("no scene can be used")
        sides = Counter(min(one.record.grid.shape) for one in found.scenes)
        side = tile or min(_USUAL_SIDE, sides.most_common(1)[0][0])
        self.job = replace(job, tile=side)
        self.job.check()
        intake = take_in(self.job, found)
        if not intake.scenes:
            raise RasterError(intake.failures[0].reason, path=intake.failures[0].path)
        self.notes = [*intake.notes, *(failure.reason for failure in intake.failures)]
        kinds = Counter(_kind(scene) for scene in intake.scenes)
        usual = kinds.most_common(1)[0][0]
        self.scenes = [scene for scene in intake.scenes if _kind(scene) == usual]
        left = len(intake.scenes) - len(self.scenes)
        if left:
            self.notes.append(
                f"{left} of {len(intake.scenes)} scenes have other bands, scaling or types of pixels than the rest and "
                "are left out: audit them by themselves"
            )
        self._places = _apart([(scene, window) for scene in self.scenes for window in scene.windows], side)
        self._count = count

    def read(self, context: int, on_progress: Callable[[int, int], None] = lambda done, total: None) -> AuditTiles:
        """Read the tiles, with pixels of their surroundings on each side.

        Windows are taken at even steps over all scenes; where one holds too little, another one of those left over.

        Raises:
            ConfigurationError: fewer than 30 of them have data.
        """
        chosen = np.unique(np.linspace(0, len(self._places) - 1, min(self._count, len(self._places))).astype(int))
        rest = np.setdiff1d(np.arange(len(self._places)), chosen)
        order = [*chosen.tolist(), *np.random.default_rng(self.job.seed).permutation(rest).tolist()]
        reader = TileReader(self.scenes, self.job.tile + 2 * context, self.job.min_valid, threads=1)
        found: dict[int, Placed] = {}
        unreadable: list[RasterError] = []
        empty = 0
        try:
            for number in order:
                if len(found) == len(chosen):
                    break
                scene, window = self._places[number]
                try:
                    tile = reader.read(scene, window, context)
                except RasterError as error:
                    unreadable.append(error)
                    continue
                if tile is None:
                    empty += 1
                    continue
                found[number] = Placed(scene, tile)
                on_progress(len(found), len(chosen))
        finally:
            reader.close()
        notes = list(self.notes)
        if unreadable:
            notes.append(f"{len(unreadable)} tiles cannot be read: {unreadable[0]}")
        if empty:
            notes.append(f"{empty} tiles hold too little data and are left out")
        if len(found) < LEAST_TILES:
            raise ConfigurationError(_too_few(len(found), empty, len(self._places), self.job.tile))
        return AuditTiles(self.job, tuple(found[number] for number in sorted(found)), tuple(notes))


def augmented(tiles: AuditTiles, augmenter: Augmenter) -> Iterator[tuple[int, OutputTile]]:
    """An augmented copy of every tile, with its number, in the type in which the scene is stored.

    The draws hang on the tile alone, so that two strengths of one operation draw the same.
    """
    shared = augmenter.compose_for(tiles.scene)
    for first in range(0, len(tiles), shared.batch_size):
        some = range(first, min(first + shared.batch_size, len(tiles)))
        samples = [
            Sample(tiles.placed[number].scene, _with_context(tiles.placed[number].tile, shared.context), _COPY)
            for number in some
        ]
        for number, output in zip(some, augmenter.augment(shared, samples), strict=True):
            stored = output.scene.pixels.from_working(output.image, output.valid)
            yield number, replace(output, image=stored)


def _with_context(tile: SourceTile, context: int) -> SourceTile:
    """A tile with less of its surroundings than it was read with."""
    less = tile.context - context
    if less == 0:
        return tile
    kept = slice(less, tile.valid.shape[0] - less), slice(less, tile.valid.shape[1] - less)
    return replace(
        tile,
        image=tile.image[:, *kept],
        working=tile.working[:, *kept],
        valid=tile.valid[kept],
        labels=None if tile.labels is None else tile.labels[kept],
        transform=tile.transform * tile.transform.translation(less, less),
        context=context,
    )


def _kind(scene: JobScene) -> tuple[object, ...]:
    return scene.sensor, scene.pixels.stored.name, repr(scene.pixels.fill), scene.label_dtype


def _apart(places: Sequence[tuple[JobScene, Window]], tile: int) -> list[tuple[JobScene, Window]]:
    """Windows of which no two of one scene overlap: tiles of two folds must not share pixels."""
    taken: dict[tuple[int, int, int], list[Window]] = {}
    kept = []
    for scene, window in places:
        row, column = window.row // tile, window.col // tile
        near = [
            other
            for down in (-1, 0, 1)
            for right in (-1, 0, 1)
            for other in taken.get((scene.number, row + down, column + right), ())
        ]
        if any(abs(other.row - window.row) < tile and abs(other.col - window.col) < tile for other in near):
            continue
        taken.setdefault((scene.number, row, column), []).append(window)
        kept.append((scene, window))
    return kept


def _too_few(found: int, empty: int, places: int, side: int) -> str:
    why = f"{empty} of {places} hold too little data" if empty else f"the scenes have no more of {side} x {side} pixels"
    return (
        f"{found} tiles are too few to audit with, {LEAST_TILES} are the least ({why}): name more scenes, or a smaller "
        "tile"
    )


def same_ground(tiles: AuditTiles, other: TileSource) -> tuple[list[int], AuditTiles]:
    """The tiles of another acquisition that show the ground of these, and which of these they show.

    A window of the other scene lies about the same centre, to half a pixel. Both scenes need a CRS.

    Raises:
        ConfigurationError: too few tiles have data in both.
    """
    reader = TileReader(other.scenes, other.job.tile, other.job.min_valid, threads=1)
    numbers: list[int] = []
    found: list[Placed] = []
    try:
        for number, one in enumerate(tiles.placed):
            for scene in other.scenes:
                window = _window_on(one, scene, other.job.tile)
                if window is None:
                    continue
                tile = reader.read(scene, window, 0)
                if tile is not None:
                    numbers.append(number)
                    found.append(Placed(scene, tile))
                    break
    finally:
        reader.close()
    if len(found) < LEAST_TILES:
        raise ConfigurationError(
            f"{len(found)} tiles show ground that the other acquisition shows, too; {LEAST_TILES} are the least: name "
            "another acquisition of the same ground"
        )
    return numbers, AuditTiles(other.job, tuple(found), tuple(other.notes))


def _window_on(one: Placed, scene: JobScene, side: int) -> Window | None:
    grid: Grid = scene.view.grid
    mine = one.scene.view.grid.crs
    if grid.crs is None or mine is None:
        return None
    window = one.tile.window
    x, y = one.tile.core_transform * (window.width / 2, window.height / 2)
    if str(mine) != str(grid.crs):
        from pyproj import Transformer

        x, y = Transformer.from_crs(mine, grid.crs, always_xy=True).transform(x, y)
    column, row = ~grid.transform * (x, y)
    placed = Window(round(row - side / 2), round(column - side / 2), side, side)
    inside = placed.inside(*grid.shape)
    return placed if inside == placed else None
