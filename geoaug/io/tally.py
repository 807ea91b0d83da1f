"""What a job has done so far: counts, records of written tiles, and telling of the progress."""

import threading
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field

from geoaug.io.job import Failure, Progress
from geoaug.io.manifest import TileRecord

_PROGRESS_EVERY_S = 0.1


@dataclass
class Tally:
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
