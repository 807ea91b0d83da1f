"""The job behind `geoaug augment`: scenes in; augmented, georeferenced tiles with masks and a manifest out.

Reading, augmenting and writing overlap: threads read ahead, the calling thread augments batches, and threads encode
and write. Every tile is a function of the seed, the scene's name, the window and the copy, so that neither the number
of threads nor the size of a batch changes a byte of the output. What a job is told and reports is in `geoaug.io.job`.
"""

import json
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import geoaug
from geoaug.errors import ConfigurationError, GeoaugError, RasterError
from geoaug.io.intake import Intake, SceneWork, resolved_paths, scene_notes, sensor_uses, sort_out, take_in
from geoaug.io.job import AugmentJob, AugmentReport, Failure, Progress
from geoaug.io.manifest import Manifest, TileRecord
from geoaug.io.output_folder import OutputFolder
from geoaug.io.tile_reader import SourceTile, TileReader
from geoaug.io.tile_writer import OutputTile, TileWriter

if TYPE_CHECKING:
    from geoaug.augment.recipe import Recipe
    from geoaug.io.augmenter import Augmenter, Kind, Sample

__all__ = ["AugmentJob", "AugmentReport", "Failure", "Progress", "run"]

_WORKERS = 2
_PROGRESS_EVERY_S = 0.1


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
    paths = resolved_paths(job)
    folder.check_inputs(paths)
    intake = take_in(job, paths)
    tally = _Tally(on_progress or (lambda progress: None), cancel or threading.Event(), started)
    if not intake.works:
        return _report(job, folder, intake, (), intake.failures, tally)

    # Importing torch and kornia takes seconds, which wrong usage should not.
    from geoaug.augment.recipe import load_recipe
    from geoaug.io.augmenter import Augmenter

    recipe = load_recipe(job.recipe)
    augmenter = Augmenter(job, recipe)
    suited = [_suited(augmenter, work) for work in intake.works]
    works, unsuited = sort_out([work.scene.path for work in intake.works], suited)
    folder.prepare(masks=intake.labels is not None)
    folder.write_text(folder.recipe, _recipe_text(job, recipe, works))
    try:
        _Pipeline(job, folder, intake, augmenter, tally).process(works)
    finally:
        # An error leaves whole files, and a manifest that matches them.
        _write_records(job, folder, intake, tally)
    return _report(job, folder, intake, works, (*intake.failures, *unsuited, *tally.failures()), tally)


@dataclass
class _Tally:
    """What has been done so far; touched by the calling thread only."""

    on_progress: Callable[[Progress], None]
    cancel: threading.Event
    started: float
    total: int = 0
    done: int = 0
    skipped: int = 0
    dropped: int = 0
    records: list[TileRecord] = field(default_factory=list)
    unreadable: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    windows: dict[str, int] = field(default_factory=dict)
    _told: float = 0.0

    def settle(self, record: TileRecord | None) -> None:
        self.done += 1
        if record is None:
            self.dropped += 1
        else:
            self.records.append(record)

    def tell(self, *, last: bool = False) -> None:
        now = time.perf_counter()
        if last or now - self._told >= _PROGRESS_EVERY_S:
            self._told = now
            self.on_progress(Progress(self.done, self.total, len(self.records), now - self.started))

    def failures(self) -> list[Failure]:
        found = []
        for path, reasons in self.unreadable.items():
            count, reason = len(reasons), reasons[0].removeprefix(f"{path}: ")
            share = "" if count == 1 == self.windows[path] else f"{count} of {self.windows[path]} windows: "
            found.append(Failure(path, share + reason))
        return found


class _Pipeline:
    """Reads ahead, augments, writes behind."""

    def __init__(
        self, job: AugmentJob, folder: OutputFolder, intake: Intake, augmenter: "Augmenter", tally: _Tally
    ) -> None:
        self._job = job
        self._augmenter = augmenter
        self._tally = tally
        self._reader = TileReader(intake.labels, job.min_valid)
        self._writer = TileWriter(job, folder, intake.labels)
        self._writing: deque[Future[TileRecord | None]] = deque()
        self._waiting: dict[Kind, list[Sample]] = defaultdict(list)

    def process(self, works: list[SceneWork]) -> None:
        """Make all tiles of the scenes, or those begun when the job is cancelled."""
        tally, workers = self._tally, self._job.workers or _WORKERS
        tiles_each = self._job.copies + self._job.include_original
        tally.windows = {work.scene.path: len(work.windows) for work in works}
        tally.total = tiles_each * sum(tally.windows.values())
        with (
            ThreadPoolExecutor(workers, "geoaug-read") as readers,
            ThreadPoolExecutor(workers, "geoaug-write") as writers,
        ):
            try:
                for work, tile in self._read(works, readers, workers):
                    tally.tell()
                    if tile is None:
                        tally.done += tiles_each
                        continue
                    if self._job.include_original:
                        self._write([self._augmenter.original(work, tile)], writers, ahead=self._job.copies)
                    self._augment(work, tile, writers)
                for kind in self._waiting:
                    if not tally.cancel.is_set():
                        self._flush(kind, writers)
                self._settle(0)
            except BaseException:
                readers.shutdown(wait=False, cancel_futures=True)
                self._abandon()
                raise
        self._reader.close()
        tally.tell(last=True)

    def _read(
        self, works: list[SceneWork], readers: ThreadPoolExecutor, workers: int
    ) -> Iterator[tuple[SceneWork, SourceTile | None]]:
        """The windows of all scenes in order, None for those that have too little to show or cannot be read."""
        ahead: deque[tuple[SceneWork, Future[SourceTile | None]]] = deque()
        tasks = ((work, window) for work in works for window in work.windows)
        for work, window in tasks:
            if self._tally.cancel.is_set():
                break
            kind = self._augmenter.kind(work)
            ahead.append((work, readers.submit(self._reader.read, work.scene, work.pixels, window, kind.context)))
            # A batch's worth, so that reading goes on while one is augmented.
            if len(ahead) > workers + kind.batch_size // max(self._job.copies, 1):
                yield self._arrived(*ahead.popleft())
        while ahead:
            if self._tally.cancel.is_set():
                readers.shutdown(wait=False, cancel_futures=True)
                return
            yield self._arrived(*ahead.popleft())

    def _arrived(self, work: SceneWork, reading: "Future[SourceTile | None]") -> tuple[SceneWork, SourceTile | None]:
        try:
            tile = reading.result()
        except RasterError as error:
            self._tally.unreadable[work.scene.path].append(str(error))
            return work, None
        self._tally.skipped += tile is None
        return work, tile

    def _augment(self, work: SceneWork, tile: SourceTile, writers: ThreadPoolExecutor) -> None:
        from geoaug.io.augmenter import Sample

        kind = self._augmenter.kind(work)
        waiting = self._waiting[kind]
        waiting.extend(Sample(work, tile, copy) for copy in range(1, self._job.copies + 1))
        while len(waiting) >= kind.batch_size and not self._tally.cancel.is_set():
            self._flush(kind, writers)

    def _flush(self, kind: "Kind", writers: ThreadPoolExecutor) -> None:
        """Augment a batch of what waits."""
        waiting = self._waiting[kind]
        samples, waiting[:] = waiting[: kind.batch_size], waiting[kind.batch_size :]
        if samples:
            self._write(self._augmenter.augment(kind, samples), writers, ahead=len(samples))

    def _write(self, tiles: list[OutputTile], writers: ThreadPoolExecutor, ahead: int) -> None:
        self._writing.extend(writers.submit(self._writer.write, tile) for tile in tiles)
        self._settle(ahead)

    def _settle(self, ahead: int) -> None:
        """Wait until no more than `ahead` tiles are being written; raises what writing raised."""
        while self._writing and (len(self._writing) > ahead or self._writing[0].done()):
            self._tally.settle(self._writing[0].result())
            self._writing.popleft()
            self._tally.tell()

    def _abandon(self) -> None:
        """After an error: let what is being written come to its end, and count it."""
        for writing in self._writing:
            writing.cancel()
        for writing in self._writing:
            if not writing.cancelled() and writing.exception() is None:
                self._tally.settle(writing.result())
        self._writing.clear()
        self._reader.close()


def _suited(augmenter: "Augmenter", work: SceneWork) -> SceneWork | GeoaugError:
    try:
        augmenter.kind(work)
    except ConfigurationError as error:
        return error
    return work


def _write_records(job: AugmentJob, folder: OutputFolder, intake: Intake, tally: _Tally) -> None:
    tally.records.sort(key=lambda record: (record.scene, record.row, record.col, record.copy))
    manifest = Manifest()
    for record in tally.records:
        manifest.add(record)
    manifest.write(folder.manifest)
    if intake.labels is None:
        return
    pixels: dict[int, int] = defaultdict(int)
    for record in tally.records:
        for number, count in (record.class_counts or {}).items():
            pixels[number] += count
    names = intake.labels.class_names
    classes = {
        "labels": str(job.labels),
        "field": job.label_field,
        "ignore_index": job.ignore_index,
        "classes": [
            {"id": number, "name": names.get(number), "pixels": pixels.get(number, 0)}
            for number in sorted({*pixels, *names})
        ],
    }
    folder.write_text(folder.classes, json.dumps(classes, indent=2) + "\n")


def _recipe_text(job: AugmentJob, recipe: "Recipe", works: list[SceneWork]) -> str:
    """The recipe with every default, and in comments how it was used."""
    from geoaug.augment.recipe import dump_yaml
    from geoaug.sensors import available_sensors

    comments = [f"Written by geoaug {geoaug.__version__} for the tiles beside it.", job.command()]
    for use in sensor_uses(works):
        scenes = f"{use.scenes} scene" + ("" if use.scenes == 1 else "s")
        comments.append(f"{scenes}: {use.sensor}, bands {' '.join(use.bands)} ({use.reason})")
    resolved = recipe.resolved()
    names = {work.scene.sensor.name for work in works}
    told = str(job.sensor) if isinstance(job.sensor, str) else None
    [name] = names if len(names) == 1 else [None]
    resolved["sensor"] = told or (name if name in available_sensors() else None)
    resolved["size"] = resolved.get("size", job.tile)
    order = ("summary", "sensor", "size", "operations")
    content = {key: resolved[key] for key in order if resolved.get(key) is not None}
    return "".join(f"# {line}\n" for line in comments) + dump_yaml(content)


def _report(
    job: AugmentJob,
    folder: OutputFolder,
    intake: Intake,
    works: "list[SceneWork] | tuple[()]",
    failures: "tuple[Failure, ...]",
    tally: _Tally,
) -> AugmentReport:
    if intake.labels is not None:
        intake.labels.close()
    return AugmentReport(
        output=folder.root,
        written=sum(record.copy > 0 for record in tally.records),
        originals=sum(record.copy == 0 for record in tally.records),
        windows=sum(tally.windows.values()),
        skipped=tally.skipped,
        dropped=tally.dropped,
        unlabelled=sum(record.class_counts == {} for record in tally.records),
        failures=failures,
        notes=scene_notes(works),
        sensors=sensor_uses(works),
        seconds=time.perf_counter() - tally.started,
        cancelled=tally.cancel.is_set(),
    )
