"""STAC: items, collections and catalogs, as objects, files or addresses, and searches, to a catalog.

Read by pystac and searched by pystac-client, which come with `pip install 'geoaug[stac]'`. How an item becomes a scene
is in `geoaug.data.catalogs.stac_item`.
"""

import importlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geoaug.data.catalogs.catalog import Catalog
from geoaug.data.catalogs.indexing import OnError, Progress, index_sources
from geoaug.data.catalogs.stac_item import StacSource
from geoaug.data.scenes.headers import Told
from geoaug.errors import ConfigurationError
from geoaug.sensors import Sensor

if TYPE_CHECKING:
    import pystac


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
) -> Catalog:
    """Index STAC items.

    Args:
        source: an Item, ItemCollection, Collection or Catalog of pystac, several items, or the path or address of the
            JSON of any of these; with `search`, the address of a STAC API.
        search: what `pystac_client.Client.search` takes: collections, bbox, datetime, query, max_items...
        assets: keys of the assets that are read; all with bands of reflectance unless told. Quality layers (scl,
            qa_pixel) are found by their keys.
        sensor, bands, invalid: as for `geoaug.data.catalogs.indexing.index_files`.
        open_headers: read the header of each file, though the item states what is needed; then blocks are known, too.
        on_error, threads, progress: as for `index_files`.

    Raises:
        ConfigurationError: pystac is absent, or the source is no STAC, or holds no item.
        RasterError: an item cannot be read.
    """
    keys = None if assets is None else tuple([assets] if isinstance(assets, str) else assets)
    told = Told.of(sensor, bands, invalid)
    items = _searched(source, search) if search is not None else _items(source)
    sources = list({(item.collection_id, item.id): StacSource(item, keys, open_headers) for item in items}.values())
    if not sources:
        raise ConfigurationError(f"{_called(source)}: holds no item" + (" that the search finds" if search else ""))
    return index_sources(sources, told, on_error=on_error, threads=threads, progress=progress)


def _items(source: Any) -> "Iterator[pystac.Item]":
    pystac = _library("pystac")
    if isinstance(source, pystac.Item):
        yield source
    elif isinstance(source, pystac.Catalog):  # and collections
        yield from source.get_items(recursive=True)
    elif isinstance(source, str | Path):
        yield from _read(str(source))
    elif isinstance(source, Mapping):
        yield from _parsed(dict(source), None)
    elif isinstance(source, Iterable):
        for part in source:
            yield from _items(part)
    else:
        raise ConfigurationError(f"{_called(source)}: is no STAC item, collection or catalog, nor the place of one")


def _read(place: str) -> "Iterator[pystac.Item]":
    pystac = _library("pystac")
    if "://" not in place:
        place = str(Path(place).expanduser().absolute())
        if not Path(place).is_file():
            raise ConfigurationError(f"{place}: no such file of STAC JSON")
    try:
        text = pystac.StacIO.default().read_text(place)
    except Exception as error:  # of the network, in kinds that differ with pystac's version
        raise ConfigurationError(f"{place}: cannot be fetched ({error})") from error
    try:
        content = json.loads(text)
    except ValueError as error:
        raise ConfigurationError(f"{place}: is no JSON ({error})") from error
    if not isinstance(content, dict):
        raise ConfigurationError(f"{place}: is not a STAC object")
    yield from _parsed(content, place)


def _parsed(content: dict[str, Any], place: str | None) -> "Iterator[pystac.Item]":
    pystac = _library("pystac")
    where = place or "the mapping"
    try:
        if content.get("type") == "FeatureCollection":
            for feature in content.get("features", ()):
                yield pystac.Item.from_dict(feature)
            return
        found = pystac.read_dict(content, href=place)
    except (pystac.STACError, pystac.STACTypeError, KeyError, ValueError, TypeError) as error:
        raise ConfigurationError(f"{where}: is not STAC that pystac understands ({error})") from error
    yield from _items(found)


def _searched(source: Any, search: Mapping[str, Any]) -> "Iterator[pystac.Item]":
    client = _library("pystac_client")
    try:
        opened = client.Client.open(str(source)) if isinstance(source, str) else source
        yield from opened.search(**search).items()
    except (client.exceptions.APIError, NotImplementedError) as error:
        raise ConfigurationError(f"{_called(source)}: the search failed ({error})") from error


def _library(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise ConfigurationError(f"STAC needs {name.replace('_', '-')}: pip install 'geoaug[stac]'") from error


def _called(source: Any) -> str:
    return source if isinstance(source, str) else f"a {type(source).__name__}"
