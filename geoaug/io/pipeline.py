"""Reading, augmenting and writing at the same time.

Threads read ahead, the calling thread augments batches, and threads encode and write. Every tile is a function of the
seed, the scene's name, the window and the copy, so that neither the number of threads nor the size of a batch changes
a byte of the output.
"""

from collections import defaultdict
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing

import numpy as np

from geoaug.data.raster.window import Window
from geoaug.errors import RasterError
from geoaug.io.augmenter import Augmenter, Sample, SharedCompose
from geoaug.io.intake import Intake, JobScene
from geoaug.io.job import AugmentJob, Tally
from geoaug.io.output import OutputFolder, OutputTile, TileWriter
from geoaug.io.source_tiles import SourceTile, TileReader
from geoaug.processors import usable_processors
from geoaug.read_ahead import in_order
from geoaug.sensors import doubt_of_numbers


def _threads(workers: int | None) -> tuple[int, int]:
    """How many threads read, and how many write; writing compresses and takes longer."""
    if workers is not None:
        return workers, workers
    cores = usable_processors()
    return max(1, min(4, cores // 4)), max(2, min(8, cores // 2))


class Pipeline:
    """Reads ahead, augments, writes behind."""

    def __init__(
        self, job: AugmentJob, folder: OutputFolder, intake: Intake, augmenter: Augmenter, tally: Tally
    ) -> None:
        self._job = job
        self._augmenter = augmenter
        self._tally = tally
        self._writer = TileWriter(job, folder, intake)
        self._waiting: dict[SharedCompose, list[Sample]] = defaultdict(list)
        self._ahead = 0  # tiles that may be written while the next are augmented

    def process(self, scenes: Sequence[JobScene]) -> None:
        """Make all tiles of the scenes, or those begun when the job is cancelled."""
        tally = self._tally
        reading, writing = _threads(self._job.workers)
        tally.windows = {scene.record.id: len(scene.windows) for scene in scenes}
        tally.total = (self._job.copies + self._job.include_original) * sum(tally.windows.values())
        context = max((self._augmenter.compose_for(scene).context for scene in scenes), default=0)
        reader = TileReader(scenes, self._job.tile + 2 * context, self._job.min_valid, reading)
        try:
            with (
                ThreadPoolExecutor(reading, "geoaug-read") as readers,
                ThreadPoolExecutor(writing, "geoaug-write") as writers,
                ExitStack() as stack,
            ):
                tiles = stack.enter_context(closing(self._tiles(scenes, reader, readers, reading)))
                # An error leaves no file without its record: what is being written then comes to its end.
                for record in in_order(
                    (writers.submit(self._writer.write, tile) for tile in tiles),
                    lambda: self._ahead,
                    unused=tally.settle,
                ):
                    tally.settle(record)
                    tally.report()
        finally:
            # Not before the last thread is done: a file must not be closed under its reader.
            reader.close()
        tally.report(last=True)

    def _tiles(
        self, scenes: Sequence[JobScene], reader: TileReader, readers: ThreadPoolExecutor, threads: int
    ) -> Generator[OutputTile, None, None]:
        """The tiles to be written, in the order in which they are made."""
        job, tally = self._job, self._tally
        for scene, tile in self._read(scenes, reader, readers, threads):
            tally.report()
            if tile is None:
                tally.done += job.copies + job.include_original
                continue
            if job.include_original:
                self._ahead = job.copies
                yield self._augmenter.original(scene, tile)
            shared = self._augmenter.compose_for(scene)
            waiting = self._waiting[shared]
            waiting.extend(Sample(scene, tile, copy) for copy in range(1, job.copies + 1))
            while len(waiting) >= shared.batch_size and not tally.cancel.is_set():
                yield from self._augmented(shared)
        for shared in self._waiting:
            if not tally.cancel.is_set():
                yield from self._augmented(shared)

    def _augmented(self, shared: SharedCompose) -> list[OutputTile]:
        """A batch of what waits, augmented."""
        waiting = self._waiting[shared]
        samples, waiting[:] = waiting[: shared.batch_size], waiting[shared.batch_size :]
        if not samples:
            return []
        self._ahead = len(samples)
        return self._augmenter.augment(shared, samples)

    def _doubt(self, scene: JobScene, tile: SourceTile) -> None:
        """Keep why backscatter cannot be what its sensor says, once for each scene."""
        if scene.sensor.domain != "sar" or scene.record.path in self._tally.doubts or not tile.valid.any():
            return
        numbers = tile.image[:, tile.valid]
        doubt = doubt_of_numbers(scene.sensor, float(numbers.min()), float(np.median(numbers)))
        if doubt is not None:
            self._tally.doubts[scene.record.path] = doubt

    def _read(
        self, scenes: Sequence[JobScene], reader: TileReader, readers: ThreadPoolExecutor, threads: int
    ) -> Iterator[tuple[JobScene, SourceTile | None]]:
        """The windows of all scenes in order, None for those that have too little to show or cannot be read."""
        tally, ahead = self._tally, threads

        def read(scene: JobScene, window: Window, context: int) -> tuple[JobScene, SourceTile | RasterError | None]:
            try:
                return scene, reader.read(scene, window, context)
            except RasterError as error:
                return scene, error

        def begun() -> Iterator[Future[tuple[JobScene, SourceTile | RasterError | None]]]:
            nonlocal ahead
            for scene in scenes:
                shared = self._augmenter.compose_for(scene)
                # A batch's worth, so that reading goes on while one is augmented.
                ahead = threads + shared.batch_size // max(self._job.copies, 1)
                for window in scene.windows:
                    if tally.cancel.is_set():
                        return
                    yield readers.submit(read, scene, window, shared.context)

        for scene, tile in in_order(begun(), lambda: ahead):
            if tally.cancel.is_set():
                return
            if isinstance(tile, RasterError):
                tally.unreadable[scene.record.id].append(tile)
                tile = None
            else:
                tally.skipped += tile is None
                if tile is not None:
                    self._doubt(scene, tile)
            yield scene, tile
