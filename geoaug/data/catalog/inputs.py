"""From whatever a person names to scenes: the one way of every command that takes scenes.

Files, folders, globs, lists, addresses, products, STAC items and saved catalogs all end as records. What a folder holds
is judged by `geoaug.data.catalog.layouts`, as for an index; a catalog itself is made in `geoaug.data.catalog.index`.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import shapely

from geoaug.data.catalog.catalog import Catalog
from geoaug.data.catalog.index import read_sources
from geoaug.data.catalog.layouts import find_scenes
from geoaug.data.catalog.products.product import ReadScene, SceneSource
from geoaug.data.catalog.products.raster import RasterSource
from geoaug.data.raster.bands import band_list
from geoaug.data.raster.headers import Header, HeaderOptions
from geoaug.data.raster.identify import Identification
from geoaug.data.raster.inputs import resolve_inputs, scene_ids
from geoaug.data.raster.record import SceneRecord
from geoaug.errors import ConfigurationError, GeoaugError, RasterError
from geoaug.sensors import Sensor, available_sensors

SAVED_CATALOGS: tuple[str, ...] = (".parquet", ".geoparquet")

_REASONS = {
    "sentinel-2": "by the product's metadata",
    "landsat": "by the product's metadata",
    "stac": "by the STAC item",
}


@dataclass(frozen=True, slots=True, eq=False)
class SceneInput:
    """A scene that a person named.

    Attributes:
        record: what is known of it, with the wanted bands alone.
        sensor: with these bands, scaled as the files are.
        identification: what it was taken for, and why.
        header: of a plain raster that was read now; None for products and scenes of a saved catalog.
        region: the part of the scene that a split holds, in WGS 84; None for all of it.
    """

    record: SceneRecord
    sensor: Sensor
    identification: Identification
    header: Header | None = None
    region: shapely.Geometry | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Scenes:
    """The scenes that inputs hold.

    Attributes:
        scenes: in the order given.
        failures: why others cannot be used; each error tells its path.
        notes: what a person should know of how the inputs were understood.
    """

    scenes: tuple[SceneInput, ...]
    failures: tuple[GeoaugError, ...] = ()
    notes: tuple[str, ...] = ()


def open_scenes(
    inputs: Sequence[str | Path] | str | Path,
    *,
    sensor: Sensor | str | Path | None = None,
    bands: Sequence[str | int] | str | None = None,
    kind: str = "auto",
    invalid: Sequence[str | int] | str | None = None,
    split: str | None = None,
    labels: str | Path | None = None,
    threads: int | None = None,
    nodata: float | str | None = None,
    expand_palette: bool = False,
) -> Scenes:
    """The scenes that inputs hold.

    Args:
        inputs: rasters, folders, products (Sentinel-2 SAFE, Landsat; also packed), globs, lists and addresses, as for
            `geoaug.data.catalog.index.index_files`; or STAC items (`.json`); or one saved catalog (`.parquet`).
        sensor: whose bands the files have; judged from each scene where None.
        bands: wanted, by name or number, in this order; all where None.
        kind: how files are laid out, as for `index_files`.
        invalid: what in quality layers makes a pixel invalid, as for `index_files`.
        split: only scenes of this split of a saved catalog, or of a folder of chips.
        labels: a file of labels, which is no scene where it lies among them; or a folder with a raster of labels for
            each scene, named as it, which become the records' `mask_path`.
        threads: that read headers at once.
        nodata: the stored value that is no data, or "none", as for `index_files`.
        expand_palette: take rasters with a palette for their colours, as for `index_files`.

    Raises:
        ConfigurationError: nothing is found, or wrong use leaves no scene.
    """
    texts = [str(inputs)] if isinstance(inputs, str | Path) else [str(text) for text in inputs]
    if not texts:
        raise ConfigurationError("no input: name at least one raster, folder, product or catalog", argument="inputs")
    if not all(text.strip() for text in texts):
        raise ConfigurationError("an input is empty: name a raster, folder, product or catalog", argument="inputs")
    saved = [text for text in texts if text.lower().endswith(SAVED_CATALOGS)]
    if saved and len(texts) > 1:
        raise ConfigurationError(f"{saved[0]}: a saved catalog is given by itself: name it alone", path=saved[0])
    if texts[0].lower().endswith(SAVED_CATALOGS):
        options = {"sensor": sensor, "invalid": invalid, "kind": None if kind == "auto" else kind, "nodata": nodata}
        options["expand_palette"] = expand_palette or None
        return _of_saved(texts[0], band_list(bands), split, options)
    wanted = replace(HeaderOptions.of(sensor, bands, invalid, nodata), expand_palette=expand_palette)
    return _of_files(texts, wanted, kind, split, None if labels is None else str(labels), threads)


def open_scene(scene: str | Path, **options: object) -> SceneInput:
    """The one scene that an input holds; see `open_scenes` for the options.

    Raises:
        ConfigurationError: it holds several scenes, or none.
        RasterError: it cannot be read.
    """
    found = open_scenes([scene], **options)  # type: ignore[arg-type]
    for error in found.failures:
        raise error
    if len(found.scenes) != 1:
        some = ", ".join(one.record.id for one in found.scenes[:3]) + ("..." if len(found.scenes) > 3 else "")
        raise ConfigurationError(
            f"{scene}: holds {len(found.scenes)} scenes ({some}), and one is wanted: name one of them",
            path=str(scene),
        )
    return found.scenes[0]


def _of_files(
    texts: Sequence[str], options: HeaderOptions, kind: str, split: str | None, labels: str | None, threads: int | None
) -> Scenes:
    folder_of_labels = labels is not None and Path(labels).is_dir()
    layout = find_scenes(texts, kind, labels if folder_of_labels else None)
    given = _as_given(texts)
    sources = [
        replace(source, path=given(source.path)) if isinstance(source, RasterSource) else source
        for source in layout.sources
    ]
    if labels is not None and not folder_of_labels:
        sources = _without_labels(sources, labels)
    names = scene_ids(source.name for source in sources)
    ids = {source.path: names[source.name] for source in sources}
    found, errors = read_sources(sources, ids, _named(options), "skip", threads, None)
    failures: list[GeoaugError] = [RasterError(reason, path=path) for path, reason in layout.faulty.items()]
    for path, error in errors.items():
        error.path = error.path or path
        failures.append(error)
    if split is not None:
        found = _in_split(found, split)
    if not found:
        for error in failures:
            if isinstance(error, ConfigurationError):
                raise error
    notes = [f"{folder}: taken for {words}; --kind says otherwise" for folder, words in layout.taken_for.items()]
    if layout.passed_over:
        notes.append(
            f"{len(layout.passed_over)} files are no scenes by their names, such as {layout.passed_over[0]}; "
            "to take them for scenes, name them, or give --kind raster"
        )
    definition = _definition(options)
    return Scenes(
        tuple(_of_found(one, definition, options.sensor is not None) for one in found), tuple(failures), tuple(notes)
    )


def _of_found(found: ReadScene, definition: Sensor | None, given: bool) -> SceneInput:
    record, header = found.record, found.header
    if header is not None:
        return SceneInput(record, header.sensor, header.identification, header)
    return _of_record(record, found.doubt, definition, given=given)


def _of_record(
    record: SceneRecord,
    doubt: str | None,
    definition: Sensor | None,
    reason: str = "by the names of its files",
    *,
    given: bool = False,
) -> SceneInput:
    sensor = record.full_sensor(definition)
    reason = doubt or ("as given" if given else _REASONS.get(record.kind, reason))
    return SceneInput(record, sensor, Identification(sensor, doubt is None, reason))


def _of_saved(path: str, bands: Sequence[str | int] | None, split: str | None, options: Mapping[str, object]) -> Scenes:
    if said := [name for name, value in options.items() if value is not None]:
        raise ConfigurationError(
            f"{path}: {', '.join(said)} (--{said[0]}) is settled when files are indexed, and this catalog is",
            path=path,
            argument=said[0],
        )
    catalog = Catalog.open(path)
    return _of_catalog(catalog if split is None else catalog.split(split), bands)


def _of_catalog(catalog: Catalog, bands: Sequence[str | int] | None) -> Scenes:
    table = catalog.table
    doubts, regions = (
        table.column(name).to_pylist() if name in table.column_names else [None] * len(catalog)
        for name in ("sensor_guess", "region")
    )
    scenes: list[SceneInput] = []
    failures: list[GeoaugError] = []
    for record, doubt, region in zip(catalog, doubts, regions, strict=True):
        try:
            chosen = record if bands is None else record.select(bands)
            found = _of_record(chosen, doubt, None, "as the catalog has it")
        except GeoaugError as error:
            error.path = error.path or record.path
            failures.append(error)
            continue
        scenes.append(replace(found, region=None if region is None else shapely.from_wkb(region)))
    if not scenes and failures:
        raise failures[0]
    return Scenes(tuple(scenes), tuple(failures))


def _in_split(found: Sequence[ReadScene], split: str) -> list[ReadScene]:
    chosen = [one for one in found if one.attributes.get("split") == split]
    if not chosen:
        there = sorted({str(one.attributes["split"]) for one in found if "split" in one.attributes})
        advice = (
            f"there are {', '.join(there)}" if there else "make a catalog (geoaug index), and split it (geoaug split)"
        )
        raise ConfigurationError(f"no scene is of the split '{split}'; {advice}", argument="split")
    return chosen


def _without_labels(sources: Sequence[SceneSource], labels: str) -> list[SceneSource]:
    """The scenes without the file of labels, which may lie among them."""
    position = Path(labels).resolve()
    kept = [source for source in sources if Path(source.path).resolve() != position]
    if sources and not kept:
        raise ConfigurationError(
            f"{labels}: is the labels and the only scene; name the scene", path=labels, argument="labels"
        )
    return kept


def _as_given(texts: Sequence[str]) -> Callable[[str], str]:
    """From whole paths back to paths as a person gave them, by which errors and tables name them."""
    folders: list[tuple[str, Path]] = []
    files: dict[str, str] = {}
    for text in texts:
        path = Path(text).expanduser()
        if path.is_dir():
            folders.append((os.path.join(os.path.abspath(path), ""), path))  # noqa: PTH100, PTH118
        else:
            files.update((os.path.abspath(found), found) for found in resolve_inputs([text]))  # noqa: PTH100

    def given(path: str) -> str:
        if path in files:
            return files[path]
        for whole, folder in folders:
            if path.startswith(whole):
                return str(folder / path[len(whole) :])
        return path

    return given


def _definition(options: HeaderOptions) -> Sensor | None:
    """The sensor that names alone do not find again."""
    sensor = options.sensor
    return None if sensor is None or sensor.name == "generic" or sensor.name in available_sensors() else sensor


def _named(options: HeaderOptions) -> HeaderOptions:
    """The options with a name for a sensor that is neither built in nor in a file: these records are not kept."""
    sensor = _definition(options)
    return options if sensor is None or options.definition is not None else replace(options, definition=sensor.name)
