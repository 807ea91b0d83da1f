"""What a job has to work on: its scenes, their windows and the labels over them, before any pixel is read.

A scene that cannot be used is set aside with its reason; wrong use that concerns every scene is an error.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import shapely
from rasterio.crs import CRS

from geoaug.data.catalog.inputs import SAVED_CATALOGS, SceneInput, Scenes, open_scenes
from geoaug.data.labels.label_source import LabelSource
from geoaug.data.labels.opening import open_labels
from geoaug.data.labels.tile_labels import TileLabels
from geoaug.data.raster.advice import CLASSES_ADVICE, CLASSES_BY_NAME
from geoaug.data.raster.grid import WORLD, Grid, target_grid
from geoaug.data.raster.identify import Identification
from geoaug.data.raster.record import SceneRecord
from geoaug.data.raster.view import SceneView, scene_view
from geoaug.data.raster.window import Window, tile_grid
from geoaug.data.sampling.region_grid import pieces, tiles_in
from geoaug.errors import ConfigurationError, GeoaugError, RasterError
from geoaug.io.job import AugmentJob, Failure, SensorUse
from geoaug.io.pixel_types import PixelType
from geoaug.sensors import Sensor


class NoRoomError(RasterError):
    """A scene whose part of a split has no room for a tile."""


@dataclass(frozen=True, slots=True, eq=False)
class JobScene:
    """A scene that can be used, and what is to be done with it.

    Attributes:
        number: its place among those of the job.
        source: as it was found.
        view: of its files, on the grid of the tiles.
        windows: the tiles to be cut, row by row.
        pixels: its type, and the type it is augmented in.
        crs: of the tiles, None where the scene has none.
        labels: of all scenes of the job, None where there are none such.
        own_labels: of each scene, from a raster of its own; None where this scene has none.
        region: the part that a split holds, in columns and rows of the grid; None for all of it.
    """

    number: int
    source: SceneInput
    view: SceneView
    windows: list[Window]
    pixels: PixelType
    crs: CRS | None
    labels: LabelSource | None = None
    own_labels: TileLabels | None = None
    region: shapely.Geometry | None = None

    @property
    def record(self) -> SceneRecord:
        """What is known of the scene."""
        return self.source.record

    @property
    def sensor(self) -> Sensor:
        """With the bands of the tiles, scaled as the files are."""
        return self.source.sensor

    @property
    def identification(self) -> Identification:
        """What the scene was taken for."""
        return self.source.identification

    @property
    def files(self) -> set[str]:
        """Paths of the files of its bands, and its quality layer."""
        layer = self.record.quality
        return {band.path for band in (*self.record.bands, *([] if layer is None else [layer.band]))}

    @property
    def crs_text(self) -> str | None:
        """An authority code or WKT."""
        return None if self.crs is None else str(self.crs.to_string())

    @property
    def label_dtype(self) -> str | None:
        """numpy's name of the type of the labels, None where there are none."""
        labels = self.labels or self.own_labels
        return None if labels is None else str(labels.dtype)


@dataclass(frozen=True, slots=True)
class Intake:
    """What a job has to work on, in the order given, and what it has not."""

    scenes: tuple[JobScene, ...]
    failures: tuple[Failure, ...]
    labels: LabelSource | None = None
    own_labels: TileLabels | None = None
    notes: tuple[str, ...] = ()

    @property
    def labelled(self) -> bool:
        """Whether masks are written."""
        return self.labels is not None or self.own_labels is not None

    def close(self) -> None:
        """Close the files of labels."""
        for labels in (self.labels, self.own_labels):
            if labels is not None:
                labels.close()


def scenes_of(job: AugmentJob) -> Scenes:
    """The scenes that a job names; raises `ConfigurationError` where there are none."""
    inputs = [job.scenes] if isinstance(job.scenes, str) else [str(scene) for scene in job.scenes]
    # A recipe's sensor is advice for files; scenes of a catalog have theirs.
    saved = bool(inputs) and inputs[0].lower().endswith(SAVED_CATALOGS)
    return open_scenes(
        inputs,
        sensor=job.sensor if saved else job.stated_sensor,
        bands=job.bands,
        kind=job.kind,
        invalid=job.invalid,
        nodata=job.nodata,
        expand_palette=job.expand_palette,
        split=job.split,
        labels=job.labels,
    )


def take_in(job: AugmentJob, found: Scenes) -> Intake:
    """What a job does with the scenes that it names; its labels are opened.

    Raises:
        ConfigurationError: labels cannot be used at all, or wrong use leaves no scene.
    """
    shared, own = _open_labels(job, found.scenes)
    taken = [_take(job, number, source, shared, own) for number, source in enumerate(found.scenes)]
    # A split leaves some scenes too little ground for a tile: that is no failure while others have some.
    without = [item for item in taken if isinstance(item, NoRoomError)]
    taken = [item for item in taken if item not in without] if len(without) < len(taken) else taken
    scenes, failures = usable(taken)
    failures = [*map(Failure.of, found.failures), *failures]
    notes = (*found.notes, *map(str, without)) if len(taken) < len(found.scenes) else found.notes
    return Intake(tuple(scenes), tuple(failures), shared, own, notes)


def usable(taken: Sequence[JobScene | GeoaugError]) -> tuple[list[JobScene], list[Failure]]:
    """The scenes that can be used, and the failures of the others.

    Wrong use is raised where it leaves nothing to do; where other scenes agree with it, it is the scene that fails.
    """
    scenes = [item for item in taken if isinstance(item, JobScene)]
    errors = [item for item in taken if isinstance(item, GeoaugError)]
    if not scenes:
        for error in errors:
            if isinstance(error, ConfigurationError):
                raise error
    return scenes, [Failure.of(error) for error in errors]


def sensor_uses(scenes: Iterable[JobScene]) -> tuple[SensorUse, ...]:
    """What the scenes were taken for; those of the same bands are counted together, the reason is that of the first."""
    alike: dict[tuple[str, tuple[str, ...], bool], list[JobScene]] = defaultdict(list)
    for scene in scenes:
        alike[(scene.sensor.name, scene.sensor.band_names, scene.identification.certain)].append(scene)
    return tuple(
        SensorUse(
            sensor=name,
            bands=bands,
            certain=certain,
            reason=some[0].identification.reason,
            scenes=len(some),
        )
        for (name, bands, certain), some in alike.items()
    )


def scene_notes(scenes: Sequence[JobScene]) -> tuple[str, ...]:
    """What a person should know of the scenes, each said once."""
    notes = []
    without = [scene for scene in scenes if scene.crs is None]
    if without:
        headers = [scene.source.header for scene in without]
        control = next((header.control for header in headers if header is not None and header.control), None)
        hint = "" if control is None else f"; {control} are not applied here: gdalwarp does, and TileDataset(crs=...)"
        notes.append(f"no CRS in {_some(without)}: tiles are written without one{hint}")
    nowhere = [scene for scene in scenes if scene.crs is not None and not scene.view.grid.has_place]
    if nowhere:
        notes.append(f"the CRS of {_some(nowhere)} has no place on Earth: tiles have it, and no footprint")
    classes = [scene for scene in scenes if scene.source.header is not None and scene.source.header.holds_classes]
    if classes:
        notes.append(f"{_some(classes)}: {CLASSES_BY_NAME}, and augmented as an image; {CLASSES_ADVICE}")
    for note in dict.fromkeys(scene.pixels.note for scene in scenes):
        if note is not None:
            notes.append(note)
    return tuple(notes)


def doubt_notes(doubts: Mapping[str, str]) -> tuple[str, ...]:
    """Doubts of scenes by path, the same ones said once."""
    alike: dict[str, list[str]] = defaultdict(list)
    for path, doubt in doubts.items():
        alike[doubt].append(path)
    return tuple(
        f"{paths[0]}{f' and {len(paths) - 1} more' if len(paths) > 1 else ''}: {doubt}"
        for doubt, paths in alike.items()
    )


def _some(scenes: Sequence[JobScene]) -> str:
    return scenes[0].record.path if len(scenes) == 1 else f"{len(scenes)} scenes ({scenes[0].record.path}, ...)"


def _open_labels(job: AugmentJob, scenes: Sequence[SceneInput]) -> tuple[LabelSource | None, TileLabels | None]:
    """The labels of all scenes, or those that belong to each."""
    if job.labels is not None and not job.labels_of_each:
        return open_labels(job.labels, field=job.label_field, ignore_index=job.ignore_index), None
    first = next((scene.record for scene in scenes if scene.record.mask_path is not None), None)
    if first is None:
        return None, None
    return None, TileLabels(None, classes=None, ignore_index=job.ignore_index, first=first)


def _take(
    job: AugmentJob, number: int, source: SceneInput, shared: LabelSource | None, own: TileLabels | None
) -> JobScene | GeoaugError:
    record, header = source.record, source.header
    try:
        own = own if record.mask_path is not None else None
        grid = target_grid(record.grid, None, job.gsd_m)
        region = None if source.region is None else grid.in_pixels(source.region, WORLD)
        windows = tile_grid(grid.height, grid.width, job.tile, job.stride)
        if region is not None:
            windows = _windows_in(region, grid, job)
        crs = header.crs if header is not None else None if grid.crs is None else CRS.from_user_input(grid.crs)
        if shared is not None and not shared.overlaps(grid.transform, crs, grid.height, grid.width):
            return RasterError(f"{record.path}: the labels {shared.path} do not overlap this scene", path=record.path)
        if own is not None:
            own.check_place(record, grid)
        pixels = PixelType(np.dtype(record.dtype), record.fill)
        view = scene_view(record, grid, fill=pixels.fill)
    except GeoaugError as error:
        if error.path is not None:
            return error
        return type(error)(f"{record.path}: {error}", path=record.path, scene=record.id, argument=error.argument)
    return JobScene(number, source, view, windows, pixels, crs, shared, own, region)


def _windows_in(region: shapely.Geometry, grid: Grid, job: AugmentJob) -> list[Window]:
    """The windows that lie wholly in a region of the grid, as samplers lay them."""
    tile, step = (job.tile, job.tile), (job.stride or job.tile,) * 2
    found: set[tuple[int, int]] = set()
    for piece in pieces(region, grid.shape, tile, step):
        rows, cols = tiles_in(piece, grid.shape, tile, step, shift=True)
        found.update(zip(rows.tolist(), cols.tolist(), strict=True))
    if not found:
        raise NoRoomError(
            f"no tile of {job.tile} x {job.tile} pixels lies wholly in its part of the split '{job.split}'"
        )
    return [Window(row, col, *tile) for row, col in sorted(found)]
