"""Opening what a job was given: its scenes, their windows and the labels over them, before any pixel is read.

A scene that cannot be used is set aside with its reason; wrong usage that concerns every scene is an error.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from rasterio.crs import CRS

from geoaug.data.labels.label_source import LabelSource
from geoaug.data.labels.opening import open_labels
from geoaug.data.raster.inputs import resolve_inputs, scene_ids
from geoaug.data.raster.scene import Scene, open_scene
from geoaug.data.raster.scene_info import is_class_raster
from geoaug.data.raster.window import Window, tile_grid
from geoaug.errors import ConfigurationError, GeoaugError, RasterError
from geoaug.io.job import AugmentJob, Failure, SensorUse
from geoaug.io.pixel_types import PixelType
from geoaug.sensors import Sensor

_OPENED_AT_ONCE = 8


@dataclass(frozen=True, slots=True, eq=False)
class SceneWork:
    """A scene that can be used, and what is to be done with it.

    Attributes:
        scene: its header.
        windows: the tiles to be cut, row by row.
        pixels: its type, and the type it is augmented in.
        crs_text: an authority code or WKT, None where the scene has no CRS.
    """

    scene: Scene
    windows: list[Window]
    pixels: PixelType
    crs_text: str | None


@dataclass(frozen=True, slots=True)
class Intake:
    """What a job has to work on, in the order given, and what it has not."""

    works: tuple[SceneWork, ...]
    failures: tuple[Failure, ...]
    labels: LabelSource | None


def take_in(job: AugmentJob, paths: Sequence[str]) -> Intake:
    """Open the scenes and labels of a job.

    Raises `ConfigurationError` for labels that cannot be used at all, or where wrong usage leaves no scene.
    """
    labels = None
    if job.labels is not None:
        labels = open_labels(job.labels, field=job.label_field, ignore_index=job.ignore_index)
    take = partial(_take, job, job.stated_sensor, labels, scene_ids(paths))
    with ThreadPoolExecutor(min(_OPENED_AT_ONCE, len(paths))) as pool:
        taken = list(pool.map(take, paths))
    works, failures = sort_out(paths, taken)
    return Intake(tuple(works), tuple(failures), labels)


def sort_out(paths: Sequence[str], taken: Sequence[SceneWork | GeoaugError]) -> tuple[list[SceneWork], list[Failure]]:
    """The scenes that can be used, and the failures of the others.

    Wrong usage is raised where it leaves nothing to do; where other scenes agree with the usage, it is the scene
    that fails.
    """
    works = [item for item in taken if isinstance(item, SceneWork)]
    errors = [item for item in taken if isinstance(item, GeoaugError)]
    if not works:
        for error in errors:
            if isinstance(error, ConfigurationError):
                raise error
    failures = [
        Failure(path, str(item).removeprefix(f"{path}: "))
        for path, item in zip(paths, taken, strict=True)
        if isinstance(item, GeoaugError)
    ]
    return works, failures


def resolved_paths(job: AugmentJob) -> list[str]:
    """The rasters that a job names, without its labels where these lie in the same folder.

    Raises `ConfigurationError` where there are none.
    """
    scenes = [job.scenes] if isinstance(job.scenes, str) else job.scenes
    found = resolve_inputs([str(scene) for scene in scenes])
    if job.labels is None:
        return found
    labels = Path(job.labels).resolve()
    paths = [path for path in found if Path(path).resolve() != labels]
    if not paths:
        raise ConfigurationError(f"{job.labels}: is the labels and the only scene; name the scene to augment")
    return paths


def sensor_uses(works: Iterable[SceneWork]) -> tuple[SensorUse, ...]:
    """What the scenes were taken for; scenes of one sensor are counted together, the reason is that of the first."""
    alike: dict[tuple[str, bool], list[Scene]] = defaultdict(list)
    for work in works:
        alike[(work.scene.sensor.name, work.scene.identification.certain)].append(work.scene)
    return tuple(
        SensorUse(
            sensor=name,
            bands=tuple(dict.fromkeys(band for scene in scenes for band in scene.band_names)),
            certain=certain,
            reason=scenes[0].identification.reason,
            scenes=len(scenes),
        )
        for (name, certain), scenes in alike.items()
    )


def scene_notes(works: Sequence[SceneWork]) -> tuple[str, ...]:
    """What a person should know of the scenes, each said once."""
    notes = []
    without = [work.scene for work in works if work.scene.crs is None]
    if without:
        which = _some(without)
        hint = "; ground control points are not applied" if any(scene.gcp_count for scene in without) else ""
        notes.append(f"no CRS in {which}: tiles are written without one{hint}")
    classes = [work.scene for work in works if is_class_raster(work.scene)]
    if classes:
        notes.append(
            f"{_some(classes)}: holds classes or flags by its name, and is augmented as an image; "
            "give such rasters as labels, or leave them out"
        )
    for note in dict.fromkeys(work.pixels.note for work in works):
        if note is not None:
            notes.append(note)
    return tuple(notes)


def _some(scenes: Sequence[Scene]) -> str:
    return scenes[0].path if len(scenes) == 1 else f"{len(scenes)} scenes ({scenes[0].path}, ...)"


def _take(
    job: AugmentJob,
    sensor: str | Path | Sensor | None,
    labels: LabelSource | None,
    ids: dict[str, str],
    path: str,
) -> SceneWork | GeoaugError:
    try:
        scene = open_scene(path, sensor=sensor, bands=job.bands, scene_id=ids[path])
        windows = tile_grid(scene.height, scene.width, job.tile, job.stride)
        if labels is not None and not labels.overlaps(scene.transform, scene.crs, scene.height, scene.width):
            return RasterError(f"the labels {labels.path} do not overlap this scene")
    except GeoaugError as error:
        return error
    return SceneWork(scene, windows, PixelType(scene.dtype, scene.fill), _crs_text(scene.crs))


def _crs_text(crs: CRS | None) -> str | None:
    return None if crs is None else str(crs.to_string())
