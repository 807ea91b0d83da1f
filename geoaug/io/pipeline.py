"""Reading, augmenting and writing at the same time.

Threads read ahead, the calling thread augments batches, and threads encode and write. Every tile is a function of the
seed, the scene's name, the window and the copy, so that neither the number of threads nor the size of a batch changes
a byte of the output.
"""

import os
from collections import defaultdict, deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from geoaug.errors import RasterError
from geoaug.io.augmenter import Augmenter, Kind, Sample
from geoaug.io.intake import Intake, SceneWork
from geoaug.io.job import AugmentJob, Tally
from geoaug.io.manifest import TileRecord
from geoaug.io.output_folder import OutputFolder
from geoaug.io.tile_reader import SourceTile, TileReader
from geoaug.io.tile_writer import OutputTile, TileWriter


def _threads(workers: int | None) -> tuple[int, int]:
    """How many threads read, and how many write.

    Writing compresses and takes longer. Reading gains little from company on a small machine: every thread has a file
    handle of its own, and blocks that windows share are decompressed once for each.
    """
    if workers is not None:
        return workers, workers
    cores = os.cpu_count() or 1
    return max(1, min(4, cores // 4)), max(2, min(8, cores // 2))


class Pipeline:
    """Reads ahead, augments, writes behind."""

    def __init__(
        self, job: AugmentJob, folder: OutputFolder, intake: Intake, augmenter: Augmenter, tally: Tally
    ) -> None:
        self._job = job
        self._augmenter = augmenter
        self._tally = tally
        self._reader = TileReader(intake.labels, job.min_valid)
        self._writer = TileWriter(job, folder, intake.labels)
        self._writing: deque[Future[TileRecord | None]] = deque()
        self._waiting: dict[Kind, list[Sample]] = defaultdict(list)

    def process(self, works: Sequence[SceneWork]) -> None:
        """Make all tiles of the scenes, or those begun when the job is cancelled."""
        tally = self._tally
        reading, writing = _threads(self._job.workers)
        tiles_each = self._job.copies + self._job.include_original
        tally.windows = {work.scene.path: len(work.windows) for work in works}
        tally.total = tiles_each * sum(tally.windows.values())
        try:
            with (
                ThreadPoolExecutor(reading, "geoaug-read") as readers,
                ThreadPoolExecutor(writing, "geoaug-write") as writers,
            ):
                try:
                    for work, tile in self._read(works, readers, reading):
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
        finally:
            # Not before the last thread is done: a file must not be closed under its reader.
            self._reader.close()
        tally.tell(last=True)

    def _read(
        self, works: Sequence[SceneWork], readers: ThreadPoolExecutor, workers: int
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

    def _arrived(self, work: SceneWork, reading: Future[SourceTile | None]) -> tuple[SceneWork, SourceTile | None]:
        try:
            tile = reading.result()
        except RasterError as error:
            self._tally.unreadable[work.scene.path].append(str(error))
            return work, None
        self._tally.skipped += tile is None
        return work, tile

    def _augment(self, work: SceneWork, tile: SourceTile, writers: ThreadPoolExecutor) -> None:
        kind = self._augmenter.kind(work)
        waiting = self._waiting[kind]
        waiting.extend(Sample(work, tile, copy) for copy in range(1, self._job.copies + 1))
        while len(waiting) >= kind.batch_size and not self._tally.cancel.is_set():
            self._flush(kind, writers)

    def _flush(self, kind: Kind, writers: ThreadPoolExecutor) -> None:
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
