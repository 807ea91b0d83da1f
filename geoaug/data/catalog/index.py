"""Indexing: from folders and files to a catalog, by names and headers alone; no pixel is read.

Which files are which scene is found first (`geoaug.data.catalog.layouts`), then headers are read by many threads.
Here also: leaving out what cannot be read, by policy, and reading again only what has changed.
"""

import logging
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import rasterio

from geoaug.data.catalog.catalog import Catalog
from geoaug.data.catalog.layouts import Kind, Layout, find_sources
from geoaug.data.catalog.products.sources import Found, SceneSource
from geoaug.data.raster.advice import LEAVE_OUT
from geoaug.data.raster.files import georeference_optional
from geoaug.data.raster.headers import HeaderOptions, size_and_age
from geoaug.data.raster.inputs import scene_ids
from geoaug.errors import ConfigurationError, GeoaugError, RasterError
from geoaug.processors import usable_processors
from geoaug.sensors import Sensor

OnError = Literal["raise", "skip"]
Progress = Callable[[int, int], None]

_log = logging.getLogger("geoaug")
_AT_ONCE = 32  # scenes that a thread reads before it reports
_MOST_THREADS = 16
_EXAMPLES = 10


def index_folder(folder: str | Path, **options: Any) -> Catalog:
    """Index all scenes in a folder; see `index_files` for the options."""
    place = Path(folder).expanduser()
    if not place.is_dir():
        advice = "is no folder; index files with Catalog.from_files" if place.exists() else "no such folder"
        raise ConfigurationError(f"{folder}: {advice}")
    return index_files([folder], **options)


def index_files(
    files: Sequence[str | Path] | str | Path,
    *,
    sensor: Sensor | str | Path | None = None,
    bands: Sequence[str | int] | str | None = None,
    labels: str | Path | None = None,
    kind: Kind = "auto",
    invalid: Sequence[str | int] | str | None = None,
    on_error: OnError = "raise",
    threads: int | None = None,
    progress: Progress | None = None,
    refresh: Catalog | str | Path | None = None,
) -> Catalog:
    """Index files, folders, globs and lists.

    Args:
        files: rasters as for `resolve_inputs`; zipped Sentinel-2 products; and folders, searched to the ground.
        sensor: whose bands the files have; judged from each file unless given.
        bands: to be indexed, by name or number, in the order wanted; all unless given.
        labels: a file with the labels of all scenes (any grid), or a folder with a raster for each, named as it.
        kind: how files are laid out: "raster" (a scene a file), "bands" (a file for each band), "sentinel-2", "landsat"
            (products), "classes" (a folder for each class), "pairs" (images and masks). "auto" judges by what is there;
            `Catalog.notes["layout"]` and a line of the log "geoaug" say what it found.
        invalid: what in quality layers makes a pixel invalid, by name ("cloud", "snow") or number; the defaults are in
            `geoaug.data.raster.quality`. Empty for no quality layer.
        on_error: whether a scene that cannot be read ends the work ("raise"), or is left out and named in
            `Catalog.notes["skipped"]` ("skip").
        threads: that read headers at once.
        progress: called with the scenes done and their number.
        refresh: a catalog made before: only scenes whose files' size or time of change differ are read again; new
            ones are added, vanished ones dropped. `Catalog.notes["refreshed"]` names all these.

    Raises:
        ConfigurationError: nothing found, or wrong options.
        RasterError: a scene cannot be read.
    """
    if on_error not in ("raise", "skip"):
        raise ConfigurationError(f"on_error is 'raise' or 'skip', not {on_error!r}")
    inputs = [str(files)] if isinstance(files, str | Path) else [str(path) for path in files]
    if not inputs:
        raise ConfigurationError("no input: name at least one folder, raster, glob or text list")
    wanted = HeaderOptions.of(sensor, bands, invalid)
    old = Catalog.open(refresh) if isinstance(refresh, str | Path) else refresh
    options = _options(inputs, wanted, labels, kind)
    if old is not None:
        # What was named itself may be gone by now: the scenes of it are dropped below.
        inputs = [path for path in inputs if os.path.lexists(path) or not os.path.isabs(path)] or inputs  # noqa: PTH117
    layout = find_sources(inputs, kind, None if labels is None else str(labels))
    if layout.faulty and on_error == "raise":
        more = f" (and {len(layout.faulty) - 1} more such)" if len(layout.faulty) > 1 else ""
        raise RasterError(f"{next(iter(layout.faulty.values()))}{more}; to leave such scenes out: {LEAVE_OUT}")
    known = _unchanged(layout.sources, old, options)
    fresh = [source for source in layout.sources if source.path not in known]
    found, faulty = read_sources(fresh, _ids(layout.sources, fresh, old, known), wanted, on_error, threads, progress)
    faulty = {path: RasterError(reason) for path, reason in layout.faulty.items()} | faulty
    skipped = _left_out(faulty, none_left=not found and not known)
    catalog = _joined(layout.sources, found, old, known)
    catalog = catalog.with_notes(skipped=skipped, guesses=_guesses(catalog))
    return _noted(catalog, layout, options, old, known)


def index_sources(
    sources: Sequence[SceneSource],
    wanted: HeaderOptions,
    *,
    on_error: OnError,
    threads: int | None,
    progress: Progress | None,
    faulty_already: Mapping[str, GeoaugError] | None = None,
) -> Catalog:
    """Index scenes that were found already, each under an id made of its name; `faulty_already` are those that could
    not be, by path."""
    found, faulty = read_sources(sources, _ids(sources, sources, None, {}), wanted, on_error, threads, progress)
    faulty = {**(faulty_already or {}), **faulty}
    skipped = _left_out(faulty, none_left=not found)
    catalog = _joined(sources, found, None, {})
    kinds = dict(Counter(catalog.table.column("kind").to_pylist()))
    layout = {"scenes": kinds, "folders": {}}
    return catalog.with_notes(layout=layout, skipped=skipped, guesses=_guesses(catalog))


def read_sources(
    sources: Sequence[SceneSource],
    ids: Mapping[str, str],
    wanted: HeaderOptions,
    on_error: OnError,
    threads: int | None,
    progress: Progress | None,
) -> tuple[list[Found], dict[str, GeoaugError]]:
    """What was read of scenes, in order, and why the rest is left out, by path; `ids` are by path, too."""
    found: list[Found | GeoaugError | None] = [None] * len(sources)
    # GDAL lists the folder of each file that it opens, which in a folder of 100,000 takes longer than the rest.
    settings = {} if "GDAL_DISABLE_READDIR_ON_OPEN" in os.environ else {"GDAL_DISABLE_READDIR_ON_OPEN": "TRUE"}

    def read(places: range) -> int:
        with rasterio.Env(**settings):
            for place in places:
                source = sources[place]
                try:
                    found[place] = source.read(ids[source.path], wanted)
                except GeoaugError as error:
                    if on_error == "raise":
                        raise
                    found[place] = error
        return len(places)

    if threads is not None and threads < 1:
        raise ConfigurationError(f"{threads} threads: there must be one at least")
    parts = [range(start, min(start + _AT_ONCE, len(sources))) for start in range(0, len(sources), _AT_ONCE)]
    workers = threads or min(_MOST_THREADS, 2 * usable_processors() + 2)
    done = 0
    with georeference_optional(), ThreadPoolExecutor(workers, thread_name_prefix="geoaug-index") as pool:
        try:
            for count in pool.map(read, parts):
                done += count
                if progress is not None:
                    progress(done, len(sources))
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise
    faulty = {source.path: item for source, item in zip(sources, found, strict=True) if isinstance(item, GeoaugError)}
    return [item for item in found if isinstance(item, Found)], faulty


def _left_out(faulty: Mapping[str, GeoaugError], *, none_left: bool) -> dict[str, str]:
    """Tell what is left out, and why, by path.

    Raises:
        ConfigurationError, RasterError: nothing is left; of the kind that all faults have.
    """
    reasons = {path: str(error) for path, error in faulty.items()}
    if none_left:
        wrong_use = all(isinstance(error, ConfigurationError) for error in faulty.values())
        message = f"none of {len(reasons)} scenes can be read: {next(iter(reasons.values()))}"
        raise ConfigurationError(message) if wrong_use else RasterError(message)
    for path, reason in reasons.items():
        _log.warning("left out: %s", reason if path in reason else f"{path}: {reason}")
    return reasons


def _options(inputs: Sequence[str], wanted: HeaderOptions, labels: str | Path | None, kind: str) -> dict[str, Any]:
    """The options as they are kept in the catalog for the next time."""
    sensor = wanted.definition or (None if wanted.sensor is None else wanted.sensor.name)
    return {
        "inputs": [os.path.abspath(path) if os.path.lexists(path) else path for path in inputs],  # noqa: PTH100
        "kind": kind,
        "sensor": sensor,
        "bands": None if wanted.bands is None else list(wanted.bands),
        "labels": None if labels is None else os.path.abspath(labels),  # noqa: PTH100
        "invalid": None if wanted.invalid is None else list(wanted.invalid),
    }


def _unchanged(sources: Sequence[SceneSource], old: Catalog | None, options: Mapping[str, Any]) -> dict[str, int]:
    """Places in the old catalog of the scenes that need not be read again, by path."""
    if old is None:
        return {}
    before = old.notes.get("index", {})
    if {**before, "inputs": None} != {**options, "inputs": None}:
        return {}
    columns = (old.table.column(name).to_pylist() for name in ("path", "size", "mtime_ns"))
    kept = {path: (place, size, age) for place, (path, size, age) in enumerate(zip(*columns, strict=True))}
    known = {}
    for source in sources:
        if (entry := kept.get(source.path)) is None or entry[1] == 0:
            continue
        try:
            if size_and_age(source.files) == entry[1:]:
                known[source.path] = entry[0]
        except RasterError:
            continue
    return known


def _ids(
    sources: Sequence[SceneSource], fresh: Sequence[SceneSource], old: Catalog | None, known: Mapping[str, int]
) -> dict[str, str]:
    """An id for each source that is read: the one that it had, else one that no other has."""
    named = scene_ids(source.name for source in sources)
    before = {} if old is None else dict(zip(old.table.column("path").to_pylist(), old.ids, strict=True))
    present = {source.path for source in sources}
    taken = {name.casefold() for path, name in before.items() if path in present}
    ids = {}
    for source in fresh:
        if (name := before.get(source.path)) is None:
            candidate, number = named[source.name], 1
            name = candidate
            while name.casefold() in taken:
                number += 1
                name = f"{candidate}-{number}"
            taken.add(name.casefold())
        ids[source.path] = name
    return ids


def _joined(
    sources: Sequence[SceneSource], found: Sequence[Found], old: Catalog | None, known: Mapping[str, int]
) -> Catalog:
    """The scenes in the order of the sources: those that were read, and those of the old catalog."""
    names = dict.fromkeys(name for item in found for name in item.attributes)
    attributes = {name: [item.attributes.get(name) for item in found] for name in names}
    if any(item.doubt is not None for item in found):
        attributes["sensor_guess"] = [item.doubt for item in found]
    fresh = Catalog.from_records([item.record for item in found], attributes=attributes)
    if old is None or not known:
        return fresh
    old_rows = old.table.take(pa.array(list(known.values()), type=pa.int64()))
    table = pa.concat_tables([old_rows.replace_schema_metadata(None), fresh.table], promote_options="permissive")
    place = {path: number for number, path in enumerate(table.column("path").to_pylist())}
    order = [place[source.path] for source in sources if source.path in place]
    return Catalog(table, old.notes).select(order)


def _noted(
    catalog: Catalog,
    layout: Layout,
    options: Mapping[str, Any],
    old: Catalog | None,
    known: Mapping[str, int],
) -> Catalog:
    """The catalog with what is known of it as a whole."""
    kinds = dict(Counter(catalog.table.column("kind").to_pylist()))
    notes: dict[str, Any] = {**catalog.notes, "index": dict(options)}
    notes["layout"] = {"scenes": kinds, "folders": layout.taken_for}
    if layout.passed_over:
        notes["passed_over"] = {"count": len(layout.passed_over), "examples": layout.passed_over[:_EXAMPLES]}
        _log.info("%d files are no scenes by their names, such as %s", len(layout.passed_over), layout.passed_over[0])
    for folder, words in layout.taken_for.items():
        _log.info("%s: taken for %s", folder, words)
    _log.info("%d scenes: %s", len(catalog), ", ".join(f"{count} of kind {kind}" for kind, count in kinds.items()))
    classes = _classes(catalog)
    if classes:
        notes["classes"] = classes
    if old is not None:
        before, now = set(old.table.column("path").to_pylist()), set(catalog.table.column("path").to_pylist())
        notes["refreshed"] = {
            "unchanged": len(known),
            "read_again": sorted((before & now) - set(known)),
            "added": sorted(now - before),
            "vanished": sorted(before - now),
        }
        for path in notes["refreshed"]["vanished"]:
            _log.warning("%s: is gone, and dropped from the catalog", path)
    return Catalog(catalog.table, notes)


def _guesses(catalog: Catalog) -> dict[str, int]:
    """Why sensors are guesses, and of how many scenes, the commonest first."""
    if "sensor_guess" not in catalog.table.column_names:
        return {}
    reasons = Counter(reason for reason in catalog.table.column("sensor_guess").to_pylist() if reason is not None)
    for reason, count in reasons.most_common(_EXAMPLES):
        _log.info("%d scenes: the sensor is a guess: %s", count, reason)
    return dict(reasons.most_common(_EXAMPLES))


def _classes(catalog: Catalog) -> list[str]:
    """The names of the classes of chips, sorted."""
    labels = {label for label in catalog.table.column("label").to_pylist() if label is not None}
    if "labels" in catalog.table.column_names:
        labels |= {label for several in catalog.table.column("labels").to_pylist() for label in several or ()}
    return sorted(labels)
