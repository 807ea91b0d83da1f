"""Indexing: from folders and files to a catalog, by names and headers alone; no pixel is read.

What files belong to which scene is found first (`geoaug.data.layouts`), then headers are read by many threads. Here
also: leaving out what cannot be read, by policy, and reading again only what has changed.
"""

import logging
import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any, Literal

from geoaug.data.band_groups import group_files
from geoaug.data.catalog import Catalog
from geoaug.data.headers import Told
from geoaug.data.inputs import absolute, resolve_inputs, scene_ids
from geoaug.data.opening import georeference_optional
from geoaug.data.records import SceneRecord
from geoaug.data.sources import SceneSource
from geoaug.errors import ConfigurationError, GeoaugError, RasterError
from geoaug.sensors import Sensor

Kind = Literal["auto", "raster", "bands", "sentinel-2", "landsat", "classes", "pairs"]
OnError = Literal["raise", "skip"]
Progress = Callable[[int, int], None]

_log = logging.getLogger("geoaug")
_AT_ONCE = 32  # scenes that a thread reads before it reports
_MOST_THREADS = 16


def index_folder(folder: str | Path, **options: Any) -> Catalog:
    """Index all scenes in a folder; see `index_files` for the options."""
    if not Path(folder).is_dir():
        raise ConfigurationError(f"{folder}: no such folder")
    return index_files([folder], **options)


def index_files(
    files: Sequence[str | Path] | str | Path,
    *,
    sensor: Sensor | str | Path | None = None,
    bands: Sequence[str | int] | str | None = None,
    kind: Kind = "auto",
    on_error: OnError = "raise",
    threads: int | None = None,
    progress: Progress | None = None,
) -> Catalog:
    """Index files, folders, globs and lists.

    Args:
        files: as for `resolve_inputs`.
        sensor: whose bands the files have; judged from each file unless told.
        bands: to be indexed, by name or number; all unless told.
        kind: how files are laid out; judged by what is there unless told.
        on_error: whether a scene that cannot be read ends the work ("raise"), or is left out and named in
            `Catalog.notes["skipped"]` ("skip").
        threads: that read headers at once.
        progress: called with the scenes done and their number.

    Raises:
        ConfigurationError: nothing found, or wrong options.
        RasterError: a scene cannot be read.
    """
    inputs = [str(files)] if isinstance(files, str | Path) else [str(path) for path in files]
    told = Told(sensor, bands.split(",") if isinstance(bands, str) else bands)
    sources = group_files([absolute(path) for path in resolve_inputs(inputs)], kind=kind)
    ids = scene_ids(source.name for source in sources)
    records, skipped = _read_all(sources, [ids[source.name] for source in sources], told, on_error, threads, progress)
    if not records:
        raise RasterError(f"none of {len(sources)} scenes can be read: {next(iter(skipped.values()))}")
    layout = dict(Counter(record.kind for record in records))
    _log.info("%d scenes: %s", len(records), ", ".join(f"{count} {name}" for name, count in layout.items()))
    catalog = Catalog.from_records(records)
    return catalog.with_notes(layout=layout, **({"skipped": skipped} if skipped else {}))


def _read_all(
    sources: Sequence[SceneSource],
    ids: Sequence[str],
    told: Told,
    on_error: OnError,
    threads: int | None,
    progress: Progress | None,
) -> tuple[list[SceneRecord], dict[str, str]]:
    """The records of all sources in their order, and why some are left out, by their paths."""
    found: list[SceneRecord | GeoaugError | None] = [None] * len(sources)
    done = 0

    def read(places: Iterable[int]) -> int:
        count = 0
        for place in places:
            try:
                found[place] = sources[place].read(ids[place], told)
            except GeoaugError as error:
                if on_error == "raise":
                    raise
                found[place] = error
            count += 1
        return count

    workers = threads or min(_MOST_THREADS, 2 * len(os.sched_getaffinity(0)) + 2)
    with georeference_optional(), ThreadPoolExecutor(workers, thread_name_prefix="geoaug-index") as pool:
        left: set[Future[int]] = {
            pool.submit(read, range(start, min(start + _AT_ONCE, len(sources))))
            for start in range(0, len(sources), _AT_ONCE)
        }
        try:
            while left:
                ready, left = wait(left, return_when=FIRST_COMPLETED)
                done += sum(future.result() for future in ready)
                if progress is not None:
                    progress(done, len(sources))
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise
    records = [item for item in found if isinstance(item, SceneRecord)]
    skipped = {
        source.path: str(item) for source, item in zip(sources, found, strict=True) if isinstance(item, GeoaugError)
    }
    for path, reason in skipped.items():
        _log.warning("left out: %s", reason if path in reason else f"{path}: {reason}")
    return records, skipped
