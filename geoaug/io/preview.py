"""A contact sheet of what a job would write: some tiles of a scene, each beside its augmented copies."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from geoaug.data.catalog.inputs import SceneInput
from geoaug.data.labels.label_source import LabelSource
from geoaug.data.labels.raster import RasterLabels
from geoaug.data.pictures.composites import Composite
from geoaug.data.pictures.contact_sheet import SheetImage, SheetTile, contact_sheet
from geoaug.data.raster.grid import target_grid
from geoaug.data.raster.overview import Overview, read_overview
from geoaug.data.raster.window import Window
from geoaug.errors import ConfigurationError, RasterError
from geoaug.io.intake import JobScene, scenes_of, take_in
from geoaug.io.job import AugmentJob
from geoaug.io.output import OutputTile
from geoaug.io.source_tiles import TileReader
from geoaug.sensors import Sensor, false_colour_bands, rgb_bands

_DEFAULT_TILE = 256
_OVERVIEW = 2048


@dataclass(frozen=True, slots=True)
class Preview:
    """What a contact sheet shows: the scene, the side of its tiles, and their windows."""

    scene: SceneInput
    tile: int
    windows: tuple[Window, ...]


def write_preview(job: AugmentJob, path: str | Path, *, tiles: int = 3, tile: int | None = None) -> Preview:
    """Write the contact sheet of some tiles of one scene to a PNG at `path`.

    The copies are exactly those that the job writes for these windows when the scene is its only one.

    Args:
        job: one scene, and what to do with it; its output, its tile and what belongs to writing do not matter.
        path: of the PNG.
        tiles: how many; fewer where the scene has no more.
        tile: side in pixels; None: 256, or the scene's shorter side.

    Raises:
        ConfigurationError: wrong usage.
        RasterError: the scene cannot be used.
    """
    if tiles < 1:
        raise ConfigurationError(f"tiles is {tiles}: show at least one")
    if job.copies < 1:
        raise ConfigurationError(f"copies is {job.copies}: show at least one")
    target = Path(path)
    if target.suffix.lower() != ".png":
        raise ConfigurationError(f"{target}: a contact sheet is a .png file")
    try:
        exists = target.absolute().parent.is_dir()
    except OSError as error:
        raise ConfigurationError(f"{target}: cannot be written ({error.strerror or error})") from error
    if not exists:
        raise ConfigurationError(f"{target}: the folder {target.parent} does not exist")
    found = scenes_of(job)
    if len(found.scenes) > 1:
        some = ", ".join(one.record.id for one in found.scenes[:3])
        more = "..." if len(found.scenes) > 3 else ""
        raise ConfigurationError(f"{len(found.scenes)} scenes are named ({some}{more}): a preview is of one")
    for failure in found.failures:
        raise failure
    grid = target_grid(found.scenes[0].record.grid, None, job.gsd_m)
    job = replace(job, tile=tile or min(_DEFAULT_TILE, *grid.shape), min_valid=0.0)
    job.check()
    intake = take_in(job, found)
    if intake.failures:
        raise RasterError(intake.failures[0].reason, path=intake.failures[0].path)
    [scene] = intake.scenes
    windows = choose_windows(scene, tiles)
    sheet = _sheet_tiles(job, scene, windows)
    names, colours = _legend(intake.labels)
    contact_sheet(
        sheet,
        target,
        composites=composites(scene.sensor),
        class_names=names,
        colours=colours,
        ignore_index=job.ignore_index,
        title=f"{scene.record.id} · {scene.sensor.name} · recipe {_recipe_name(job)} · seed {job.seed}",
    )
    return Preview(scene.source, job.tile, tuple(windows))


def choose_windows(scene: JobScene, count: int) -> list[Window]:
    """Windows worth looking at: valid, full of contrast, labelled, and apart from each other; always the same ones.

    Judged by a reduced reading of the scene. In the order of the scene, row by row.
    """
    windows, (height, width) = scene.windows, scene.view.grid.shape
    overview = read_overview(scene.record, _OVERVIEW)
    classes = None
    if scene.labels is not None:
        classes = scene.labels.read(overview.transform, scene.crs, *overview.valid.shape)
    worth = np.array([_worth(scene, overview, classes, window) for window in windows])
    centres = np.array([(window.row + window.height / 2, window.col + window.width / 2) for window in windows])
    extent = float(np.hypot(height, width))
    chosen: list[int] = []
    apart = np.ones(len(windows))
    # A window at the edge has nothing around it to turn into the corners of its copies.
    inner = [min(window.row, window.col, height - window.row_stop, width - window.col_stop) > 0 for window in windows]
    worth += 0.3 * np.array(inner)
    while len(chosen) < min(count, len(windows)):
        score = worth + 2 * apart
        score[chosen] = -np.inf
        chosen.append(int(score.argmax()))
        distance = np.hypot(*(centres - centres[chosen[-1]]).T) / extent
        apart = np.minimum(apart, distance)
    return [windows[index] for index in sorted(chosen)]


def composites(sensor: Sensor) -> list[Composite]:
    """Ways to show a sensor's images: true and false colour where it has the bands, else what there is."""
    found = [
        Composite(title, bands)
        for title, bands in (("true colour", rgb_bands(sensor)), ("false colour", false_colour_bands(sensor)))
        if bands is not None
    ]
    if found:
        return found
    names = sensor.band_names
    if len(names) >= 3:
        return [Composite(f"{', '.join(names[:3])}", (0, 1, 2))]
    return [Composite(name, (number,)) for number, name in enumerate(names)]


def _worth(scene: JobScene, overview: Overview, classes: npt.NDArray[np.integer] | None, window: Window) -> float:
    (height, width), grid = overview.valid.shape, scene.view.grid
    rows = _span(window.row, window.row_stop, height / grid.height)
    cols = _span(window.col, window.col_stop, width / grid.width)
    valid = overview.valid[rows, cols]
    share = float(valid.mean())
    if share == 0:
        return -1.0
    values = overview.image[:, rows, cols][:, valid].astype(np.float64)
    spread, level = values.std(axis=1), np.abs(values.mean(axis=1))
    contrast = float(np.mean(spread / np.maximum(spread + level, 1e-9)))
    found = 0.0
    if classes is not None and scene.labels is not None:
        here = classes[rows, cols]
        here = here[here != scene.labels.ignore_index]
        found = min(len(np.unique(here)), 3) / 3
    return 2 * share + contrast + found


def _span(start: int, stop: int, scale: float) -> slice:
    first = int(start * scale)
    return slice(first, max(first + 1, int(stop * scale)))


def _sheet_tiles(job: AugmentJob, scene: JobScene, windows: Sequence[Window]) -> list[SheetTile]:
    from geoaug.augment.recipe import load_recipe
    from geoaug.io.augmenter import Augmenter, Sample

    augmenter = Augmenter(job, load_recipe(job.recipe))
    shared = augmenter.compose_for(scene)
    reader = TileReader([scene], job.tile + 2 * shared.context, min_valid=0.0, threads=1)
    sheet = []
    try:
        for window in windows:
            tile = reader.read(scene, window, shared.context)
            if tile is None:
                continue
            original = augmenter.original(scene, tile)
            samples = [Sample(scene, tile, copy) for copy in range(1, job.copies + 1)]
            copies = [
                augmented
                for first in range(0, len(samples), shared.batch_size)
                for augmented in augmenter.augment(shared, samples[first : first + shared.batch_size])
            ]
            title = f"row {window.row}, column {window.col}"
            sheet.append(SheetTile(_shown(original, "original"), tuple(_shown(copy) for copy in copies), title))
    finally:
        reader.close()
    return sheet


def _shown(tile: OutputTile, title: str = "") -> SheetImage:
    image = tile.scene.pixels.from_working(tile.image, tile.valid) if tile.copy else tile.image
    return SheetImage(image, tile.valid, tile.mask, tile.parameters, title or f"copy {tile.copy}")


def _legend(labels: LabelSource | None) -> tuple[dict[int, str] | None, dict[int, tuple[float, float, float]] | None]:
    if labels is None:
        return None, None
    colours = None
    if isinstance(labels, RasterLabels) and labels.colormap is not None:
        colours = {
            number: (red / 255, green / 255, blue / 255) for number, (red, green, blue, _) in labels.colormap.items()
        }
    return dict(labels.class_names) or None, colours


def _recipe_name(job: AugmentJob) -> str:
    return Path(job.recipe).stem if isinstance(job.recipe, str | Path) else "given"
