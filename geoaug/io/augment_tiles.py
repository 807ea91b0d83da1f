"""The job behind `geoaug augment`: scenes in; augmented, georeferenced tiles with masks and a manifest out.

Here are the order of things and the records beside the tiles. What a job asks for and reports is in `geoaug.io.job`,
and how reading, augmenting and writing overlap in `geoaug.io.pipeline`.
"""

import json
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import geoaug
from geoaug.errors import ConfigurationError, GeoaugError
from geoaug.io.intake import Intake, JobScene, doubt_notes, scene_notes, scenes_of, sensor_uses, take_in, usable
from geoaug.io.job import AugmentJob, AugmentReport, Failure, Progress, Tally
from geoaug.io.manifest import Manifest
from geoaug.io.output import OutputFolder

if TYPE_CHECKING:
    from geoaug.augment.recipe import Recipe
    from geoaug.io.augmenter import Augmenter

__all__ = ["AugmentJob", "AugmentReport", "Failure", "Progress", "run"]


def run(
    job: AugmentJob,
    on_progress: Callable[[Progress], None] | None = None,
    cancel: threading.Event | None = None,
) -> AugmentReport:
    """Do a job of augmenting tiles.

    Writes to `job.output`: `images/<scene>_r<row>_c<col>_a<copy>.tif` in the type and scale of the scene, with the
    geotransform of the augmented pixel grid; `masks/` of the same names where the job has labels; `manifest.parquet`,
    sorted by scene, row, column and copy; `recipe.yaml`, the recipe with every default; and `classes.json` beside
    masks. Files are whole or absent, and the same bytes for the same job whatever `batch_size` and `workers` are.

    Scenes that cannot be used, wholly or in part, are named in the report and the others are done.

    Args:
        job: what to do.
        on_progress: called from the calling thread, a few times a second.
        cancel: when set, what has been augmented is still written, and the manifest tells what there is.

    Raises:
        ConfigurationError: wrong usage, found before anything is written.
        GeoaugError: a tile cannot be written (a full disk); the manifest then tells what is there.
    """
    started = time.perf_counter()
    job.check()
    folder = OutputFolder(Path(job.output))
    folder.check(overwrite=job.overwrite)
    intake = take_in(job, scenes_of(job))
    folder.check_inputs(path for scene in intake.scenes for path in scene.files)
    tally = Tally(on_progress or (lambda progress: None), cancel or threading.Event(), started)
    if not intake.scenes:
        return _report(folder, intake, (), intake.failures, tally)

    # Importing torch and kornia takes seconds, which wrong usage should not.
    from geoaug.augment.recipe import load_recipe
    from geoaug.io.augmenter import Augmenter
    from geoaug.io.pipeline import Pipeline

    recipe = load_recipe(job.recipe)
    augmenter = Augmenter(job, recipe)
    scenes, unsuited = usable([_suited(augmenter, scene) for scene in intake.scenes])
    folder.prepare(masks=intake.labelled)
    folder.write_text(folder.recipe, _recipe_text(job, recipe, scenes))
    try:
        Pipeline(job, folder, intake, augmenter, tally).process(scenes)
    finally:
        # An error leaves whole files, and a manifest that matches them.
        _write_records(job, folder, intake, tally)
    return _report(folder, intake, scenes, (*intake.failures, *unsuited, *tally.failures()), tally)


def _suited(augmenter: "Augmenter", scene: JobScene) -> JobScene | GeoaugError:
    try:
        augmenter.compose_for(scene)
    except ConfigurationError as error:
        error.path = error.path or scene.record.path
        return error
    return scene


def _write_records(job: AugmentJob, folder: OutputFolder, intake: Intake, tally: Tally) -> None:
    tally.records.sort(key=lambda record: (record.scene, record.row, record.col, record.copy))
    manifest = Manifest()
    for record in tally.records:
        manifest.add(record)
    manifest.write(folder.manifest)
    if not intake.labelled:
        return
    pixels: dict[int, int] = defaultdict(int)
    for record in tally.records:
        for number, count in (record.class_counts or {}).items():
            pixels[number] += count
    names = {} if intake.labels is None else intake.labels.class_names
    classes = {
        "labels": "of each scene" if job.labels is None else str(job.labels),
        "field": job.label_field,
        "ignore_index": job.ignore_index,
        "classes": [
            {"id": number, "name": names.get(number), "pixels": pixels.get(number, 0)}
            for number in sorted({*pixels, *names})
        ],
    }
    folder.write_text(folder.classes, json.dumps(classes, indent=2) + "\n")


def _recipe_text(job: AugmentJob, recipe: "Recipe", used: list[JobScene]) -> str:
    """The recipe with every default, and in comments how it was used."""
    from geoaug.augment.recipe import RECIPE_KEYS, dump_yaml
    from geoaug.sensors import available_sensors

    comments = [f"Written by geoaug {geoaug.__version__} for the tiles beside it.", job.command()]
    for use in sensor_uses(used):
        scenes = f"{use.scenes} scene" + ("" if use.scenes == 1 else "s")
        comments.append(f"{scenes}: {use.sensor}, bands {' '.join(use.bands)} ({use.reason})")
    resolved = recipe.resolved()
    names = {scene.sensor.name for scene in used}
    stated = str(job.sensor) if isinstance(job.sensor, str | Path) else recipe.sensor
    judged = next(iter(names)) if len(names) == 1 and names <= set(available_sensors()) else None
    resolved["sensor"] = stated or judged
    resolved["size"] = resolved.get("size", job.tile)
    # Files hold digital numbers, whatever training makes of them.
    content = {key: resolved[key] for key in RECIPE_KEYS if key != "normalize" and resolved.get(key) is not None}
    return "".join(f"# {line}\n" for line in comments) + dump_yaml(content)


def _report(
    folder: OutputFolder,
    intake: Intake,
    scenes: Sequence[JobScene],
    failures: tuple[Failure, ...],
    tally: Tally,
) -> AugmentReport:
    intake.close()
    return AugmentReport(
        output=folder.root,
        written=sum(record.copy > 0 for record in tally.records),
        originals=sum(record.copy == 0 for record in tally.records),
        windows=sum(tally.windows.values()),
        skipped=tally.skipped,
        dropped=tally.dropped,
        unlabelled=sum(record.class_counts == {} for record in tally.records),
        failures=failures,
        notes=(*intake.notes, *scene_notes(scenes), *doubt_notes(tally.doubts)),
        sensors=sensor_uses(scenes),
        seconds=time.perf_counter() - tally.started,
        cancelled=tally.cancel.is_set(),
    )
