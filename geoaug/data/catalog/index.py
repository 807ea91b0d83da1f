"""Indexing: from folders, files and STAC to a catalog, by names and headers alone; no pixel is read.

Which files are which scene is found first (`geoaug.data.catalog.layouts`), then headers are read by many threads.
Here also: leaving out what cannot be read, by policy, and reading again only what has changed. `Catalog.from_folder`,
`from_files` and `from_stac` are the functions of this module.
"""

import logging
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import rasterio

from geoaug.data.catalog.catalog import Catalog
from geoaug.data.catalog.layouts import find_scenes
from geoaug.data.catalog.products.product import FoundScenes, Product, ReadScene, SceneSource
from geoaug.data.catalog.products.stac import stac_scenes
from geoaug.data.raster.advice import CLASSES_ADVICE, CLASSES_BY_NAME, LEAVE_OUT
from geoaug.data.raster.files import georeference_optional
from geoaug.data.raster.headers import HeaderOptions, size_and_age, with_nodata
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
    path = Path(folder).expanduser()
    if not path.is_dir():
        advice = "is no folder; index files with Catalog.from_files" if path.exists() else "no such folder"
        raise ConfigurationError(f"{folder}: {advice}", path=str(folder))
    return index_files([folder], **options)


def index_files(
    files: Sequence[str | Path] | str | Path,
    *,
    sensor: Sensor | str | Path | None = None,
    bands: Sequence[str | int] | str | None = None,
    labels: str | Path | None = None,
    kind: str | Product = "auto",
    invalid: Sequence[str | int] | str | None = None,
    on_error: OnError = "raise",
    threads: int | None = None,
    progress: Progress | None = None,
    refresh: Catalog | str | Path | None = None,
    nodata: float | str | None = None,
    expand_palette: bool = False,
) -> Catalog:
    """Index files, folders, globs and lists.

    Args:
        files: rasters as for `resolve_inputs`; products that are a file (zipped, STAC); and folders, with all below.
        sensor: whose bands the files have; by default judged from each file.
        bands: to be indexed, by name or number, in the order wanted; by default all.
        labels: a file with the labels of all scenes (any grid), or a folder with a raster for each, named as it.
        kind: how files are laid out: the name of a product in `geoaug.data.registry` ("raster",
            "bands", "sentinel-2"...), or a `Product`. "auto" judges by what is there; `Catalog.notes["layout"]` and a
            line of the log "geoaug" say what it found.
        invalid: what in quality layers makes a pixel invalid, by name ("cloud", "snow") or number; the defaults are in
            `geoaug.data.raster.quality`. Empty for no quality layer.
        on_error: whether a scene that cannot be read ends the work ("raise"), or is left out and named in
            `Catalog.notes["skipped"]` ("skip").
        threads: that read headers at once.
        progress: called with the scenes done and their number.
        refresh: a catalog made before: only scenes whose files' size or time of change differ are read again; new
            ones are added, vanished ones dropped. `Catalog.notes["refreshed"]` names all these.
        nodata: the stored value that is no data, where that which files and products state is wrong or missing; "none"
            where they state one and every pixel is data. Masks and quality layers count all the same.
        expand_palette: take rasters with a palette for the colours that their numbers stand for: three bands.

    Raises:
        ConfigurationError: nothing found, or wrong options.
        RasterError: a scene cannot be read.
    """
    _check_policy(on_error)
    inputs = [str(files)] if isinstance(files, str | Path) else [str(path) for path in files]
    if not inputs:
        raise ConfigurationError("no input: name at least one folder, raster, glob or text list")
    wanted = replace(HeaderOptions.of(sensor, bands, invalid, nodata), expand_palette=expand_palette)
    old = Catalog.open(refresh) if isinstance(refresh, str | Path) else refresh
    options = _options(inputs, wanted, labels, kind)
    if old is not None:
        # What was named itself may be gone by now: the scenes of it are dropped below.
        inputs = [path for path in inputs if os.path.lexists(path) or not os.path.isabs(path)] or inputs  # noqa: PTH117
    found = find_scenes(inputs, kind, None if labels is None else str(labels))
    return _indexed(found, wanted, on_error, threads, progress, old, options)


def index_stac(
    source: Any,
    *,
    search: Mapping[str, Any] | None = None,
    assets: Sequence[str] | str | None = None,
    sensor: Sensor | str | Path | None = None,
    bands: Sequence[str | int] | str | None = None,
    invalid: Sequence[str | int] | str | None = None,
    open_headers: bool = False,
    on_error: OnError = "raise",
    threads: int | None = None,
    progress: Progress | None = None,
    nodata: float | str | None = None,
) -> Catalog:
    """Index STAC items.

    Args:
        source: an Item, ItemCollection, Collection or Catalog of pystac, several items, or the path or address of the
            JSON of any of these; with `search`, the address of a STAC API.
        search: what `pystac_client.Client.search` takes: collections, bbox, datetime, query, max_items...
        assets: keys of the assets that are read; by default all with bands of reflectance. Quality layers (scl,
            qa_pixel) are found by their keys.
        sensor, bands, invalid: as for `index_files`.
        open_headers: read the header of each file, though the item states what is needed; then blocks are known, too.
        on_error: as for `index_files`; it holds for items, and catalogs below, that cannot be read themselves, too.
        threads, progress, nodata: as for `index_files`.

    Raises:
        ConfigurationError: pystac is absent, or the source is no STAC, or holds no item.
        RasterError: an item cannot be read.
    """
    _check_policy(on_error)
    wanted = HeaderOptions.of(sensor, bands, invalid, nodata)
    keys = [assets] if isinstance(assets, str) else assets
    found = stac_scenes(source, search=search, assets=keys, open_headers=open_headers)
    return _indexed(found, wanted, on_error, threads, progress)


def _check_policy(on_error: str) -> None:
    if on_error not in ("raise", "skip"):
        raise ConfigurationError(f"on_error is 'raise' or 'skip', not {on_error!r}", argument="on_error")


def _indexed(
    scenes: FoundScenes,
    wanted: HeaderOptions,
    on_error: OnError,
    threads: int | None,
    progress: Progress | None,
    old: Catalog | None = None,
    options: Mapping[str, Any] | None = None,
) -> Catalog:
    """The catalog of scenes that were found: read now, or taken from an old one where they have not changed.

    Args:
        scenes: that were found.
        wanted: of the headers.
        on_error: see `index_files`; so are `threads` and `progress`.
        threads: likewise.
        progress: likewise.
        old: a catalog made before.
        options: as they are kept in the catalog, for a refresh; None where it cannot be refreshed.
    """
    if scenes.faulty and on_error == "raise":
        path, reason = next(iter(scenes.faulty.items()))
        more = f" (and {len(scenes.faulty) - 1} more such)" if len(scenes.faulty) > 1 else ""
        raise RasterError(f"{reason}{more}; to leave such scenes out: {LEAVE_OUT}", path=path)
    known = _unchanged(scenes.sources, old, options or {})
    fresh = [source for source in scenes.sources if source.path not in known]
    read, faulty = read_sources(fresh, _ids(scenes.sources, fresh, old), wanted, on_error, threads, progress)
    faulty = {path: RasterError(reason, path=path) for path, reason in scenes.faulty.items()} | faulty
    skipped = _left_out(faulty, none_left=not read and not known)
    _tell_of_classes(read)
    catalog = _joined(scenes.sources, read, old, known)
    catalog = catalog.with_notes(skipped=skipped, guesses=_guesses(catalog))
    return _noted(catalog, scenes, options, old, known)


def read_sources(
    sources: Sequence[SceneSource],
    ids: Mapping[str, str],
    wanted: HeaderOptions,
    on_error: OnError,
    threads: int | None,
    progress: Progress | None,
) -> tuple[list[ReadScene], dict[str, GeoaugError]]:
    """What was read of scenes, in order, and why the rest is left out, by path; `ids` are by path, too."""
    found: list[ReadScene | GeoaugError | None] = [None] * len(sources)
    # GDAL lists the folder of each file that it opens, which in a folder of 100,000 takes longer than the rest.
    settings = {} if "GDAL_DISABLE_READDIR_ON_OPEN" in os.environ else {"GDAL_DISABLE_READDIR_ON_OPEN": "TRUE"}

    def read(numbers: range) -> int:
        with rasterio.Env(**settings):
            for number in numbers:
                source = sources[number]
                try:
                    # Before anything is read, so that a change meanwhile is seen at the next refresh.
                    size, age = size_and_age(source.files)
                    scene = source.read(ids[source.path], wanted)
                    record = with_nodata(replace(scene.record, size=size, mtime_ns=age), wanted.nodata)
                    found[number] = replace(scene, record=record)
                except GeoaugError as error:
                    error.path = error.path or source.path
                    if on_error == "raise":
                        raise
                    found[number] = error
        return len(numbers)

    if threads is not None and threads < 1:
        raise ConfigurationError(f"{threads} threads: there must be one at least", argument="threads")
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
    return [item for item in found if isinstance(item, ReadScene)], faulty


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


def _tell_of_classes(read: Sequence[ReadScene]) -> None:
    """Say which scenes are likely to be labels."""
    classes = [one.record.path for one in read if one.header is not None and one.header.holds_classes]
    if classes:
        some = classes[0] if len(classes) == 1 else f"{len(classes)} files ({classes[0]}, ...)"
        _log.warning("%s", f"{some}: {CLASSES_BY_NAME}, and indexed as scenes; {CLASSES_ADVICE}")


def _options(
    inputs: Sequence[str], wanted: HeaderOptions, labels: str | Path | None, kind: str | Product
) -> dict[str, Any]:
    """The options as they are kept in the catalog for the next time."""
    sensor = wanted.definition or (None if wanted.sensor is None else wanted.sensor.name)
    return {
        "inputs": [os.path.abspath(path) if os.path.lexists(path) else path for path in inputs],  # noqa: PTH100
        "kind": kind.name if isinstance(kind, Product) else kind,
        "sensor": sensor,
        "bands": None if wanted.bands is None else list(wanted.bands),
        "labels": None if labels is None else os.path.abspath(labels),  # noqa: PTH100
        "invalid": None if wanted.invalid is None else list(wanted.invalid),
        "nodata": None if wanted.nodata is None else str(wanted.nodata),
        "expand_palette": wanted.expand_palette,
    }


def _unchanged(sources: Sequence[SceneSource], old: Catalog | None, options: Mapping[str, Any]) -> dict[str, int]:
    """The rows of the old catalog whose scenes need not be read again, by path."""
    if old is None:
        return {}
    before = old.notes.get("index", {})
    if {"nodata": None, "expand_palette": False, **before, "inputs": None} != {**options, "inputs": None}:
        return {}
    columns = (old.table.column(name).to_pylist() for name in ("path", "size", "mtime_ns"))
    kept = {path: (row, size, age) for row, (path, size, age) in enumerate(zip(*columns, strict=True))}
    known = {}
    for source in sources:
        if (entry := kept.get(source.path)) is None or entry[1] == 0:  # of no file on this machine
            continue
        try:
            if size_and_age(source.files) == entry[1:]:
                known[source.path] = entry[0]
        except RasterError:
            continue
    return known


def _ids(sources: Sequence[SceneSource], fresh: Sequence[SceneSource], old: Catalog | None) -> dict[str, str]:
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
    sources: Sequence[SceneSource], found: Sequence[ReadScene], old: Catalog | None, known: Mapping[str, int]
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
    rows = {path: row for row, path in enumerate(table.column("path").to_pylist())}
    order = [rows[source.path] for source in sources if source.path in rows]
    return Catalog(table, old.notes).select(order)


def _noted(
    catalog: Catalog,
    scenes: FoundScenes,
    options: Mapping[str, Any] | None,
    old: Catalog | None,
    known: Mapping[str, int],
) -> Catalog:
    """The catalog with what is known of it as a whole."""
    kinds = dict(Counter(catalog.table.column("kind").to_pylist()))
    notes: dict[str, Any] = dict(catalog.notes)
    if options is not None:
        notes["index"] = dict(options)
    notes["layout"] = {"scenes": kinds, "folders": scenes.taken_for}
    if scenes.passed_over:
        notes["passed_over"] = {"count": len(scenes.passed_over), "examples": scenes.passed_over[:_EXAMPLES]}
        _log.info("%d files are no scenes by their names, such as %s", len(scenes.passed_over), scenes.passed_over[0])
    for folder, words in scenes.taken_for.items():
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


Catalog.builders.update(folder=index_folder, files=index_files, stac=index_stac)
