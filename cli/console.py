"""What the commands share in talking to a person: plain lines, errors, and progress on stderr."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from rich.console import Console

    from geoaug.io.job import Progress

_PLAIN_LINE_EVERY_S = 15.0
_RASTERS = (".tif", ".tiff", ".vrt", ".jp2", ".img", ".png")


class ShowProgress(Protocol):
    """What is called with a job's progress."""

    def __call__(self, progress: "Progress") -> None: ...


def print_out(text: str) -> None:
    """A line on stdout, as it is."""
    sys.stdout.write(text.rstrip("\n") + "\n")


def print_error(text: str) -> None:
    """An error on stderr, in one line whatever it holds."""
    sys.stderr.write(f"geoaug: error: {' '.join(text.split())}\n")


def print_note(text: str) -> None:
    """A line on stderr for a person who is watching."""
    sys.stderr.write(f"geoaug: {text}\n")
    sys.stderr.flush()


def note_unnamed_class(labels: str | None, label_field: str | None) -> None:
    """Say so where all features of vector labels become class 1, no attribute being named."""
    from pathlib import PurePath

    suffix = PurePath((labels or "").partition("|")[0]).suffix.lower()
    # Vectors bring geopandas along, which rasters need not wait for.
    if labels is None or label_field is not None or suffix in _RASTERS:
        return
    from geoaug.data.labels.vector import vector_fields

    fields = vector_fields(labels)
    if fields is not None:
        choice = f"; choose the class with --label-field, from {', '.join(fields)}" if fields else ""
        print_note(f"{labels}: every feature becomes class 1{choice}")


def note_compilation(device: str) -> None:
    """Say so where the first batch will take its time."""
    from geoaug.augment.kernels.executors import to_be_compiled

    if device != "cuda" and to_be_compiled():
        print_note("compiling the loops for this machine, once; this takes half a minute")


def stdout_console() -> "Console":
    """A console on stdout for tables; wide enough for a path where stdout is no terminal."""
    from rich.console import Console

    console = Console(highlight=False, soft_wrap=False)
    return console if console.is_terminal else Console(highlight=False, width=140)


@contextmanager
def status_line(text: str) -> Iterator[Callable[[str], None]]:
    """A line on a terminal that says what is being done, for as long as it lasts; nothing elsewhere.

    What it gives changes the line.
    """
    from rich.console import Console

    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda _: None
        return
    with console.status(text) as status:
        yield status.update


@contextmanager
def progress_bar() -> Iterator[ShowProgress]:
    """A bar with rate and time left on a terminal, and a plain line now and then elsewhere."""
    from rich.console import Console

    console = Console(stderr=True)
    if not console.is_terminal:
        yield _PlainProgress()
        return
    from rich import progress as bars

    columns = (
        bars.SpinnerColumn(),
        bars.TextColumn("{task.description}"),
        bars.BarColumn(),
        bars.MofNCompleteColumn(),
        bars.TextColumn("{task.fields[rate]}"),
        bars.TimeRemainingColumn(compact=True),
    )
    with bars.Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("opening", total=None, rate="")
        rate = _Rate()

        def tell(progress: "Progress") -> None:
            per_second = rate.update(progress)
            bar.update(
                task,
                description="tiles",
                total=progress.total,
                completed=progress.done,
                rate=f"{per_second:.0f}/s" if per_second else "",
            )

        yield tell


@contextmanager
def work_bar(what: str) -> Iterator[Callable[[int, int], None]]:
    """For work reported as (done, total) in any unit: a bar with the share done and the time left on a terminal, and a
    plain line now and then elsewhere."""
    from rich.console import Console

    console = Console(stderr=True)
    if not console.is_terminal:
        yield _PlainShare(what)
        return
    from rich import progress as bars

    columns = (
        bars.SpinnerColumn(),
        bars.TextColumn("{task.description}"),
        bars.BarColumn(),
        bars.TaskProgressColumn(),
        bars.TimeRemainingColumn(),
    )
    with bars.Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, total=total, completed=done)


class _PlainShare:
    def __init__(self, what: str) -> None:
        self._what, self._begun = what, time.monotonic()
        self._last = self._begun

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        if now - self._last < _PLAIN_LINE_EVERY_S or not done:
            return
        self._last = now
        left = (now - self._begun) * (total - done) / done
        print_note(f"{self._what}: {100 * done / total:.0f} %, {left:.0f} s left")


class _Rate:
    """Tiles per second since the first tile, so that the time of starting up does not count."""

    def __init__(self) -> None:
        self._first: tuple[float, int] | None = None

    def update(self, progress: "Progress") -> float | None:
        if self._first is None:
            self._first = (progress.seconds, progress.done)
        seconds, done = progress.seconds - self._first[0], progress.done - self._first[1]
        return done / seconds if seconds > 0 and done > 0 else None


class _PlainProgress:
    def __init__(self) -> None:
        self._rate = _Rate()
        self._last = time.monotonic()

    def __call__(self, progress: "Progress") -> None:
        per_second = self._rate.update(progress)
        now = time.monotonic()
        if now - self._last < _PLAIN_LINE_EVERY_S:
            return
        self._last = now
        rest = ""
        if per_second:
            rest = f", {per_second:.0f}/s, {(progress.total - progress.done) / per_second:.0f} s left"
        print_note(f"{progress.done} of {progress.total} tiles{rest}")
