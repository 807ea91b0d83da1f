"""STAC: items, collections and catalogs, as objects, files or addresses, and searches, to a catalog.

Read by pystac and searched by pystac-client, which come with `pip install 'geoaug[stac]'`. How an item becomes a scene
is in `geoaug.data.catalogs.stac_item`.
"""

import importlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geoaug.data.catalogs.catalog import Catalog
from geoaug.data.catalogs.indexing import OnError, Progress, index_sources
from geoaug.data.catalogs.stac_item import StacSource
from geoaug.data.scenes.advice import LEAVE_OUT
from geoaug.data.scenes.headers import Told
from geoaug.errors import ConfigurationError, RasterError
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
        on_error: as for `index_files`; it holds for items, and catalogs below, that cannot be read themselves, too.
        threads, progress: as for `index_files`.

    Raises:
        ConfigurationError: pystac is absent, or the source is no STAC, or holds no item.
        RasterError: an item cannot be read.
    """
    keys = None if assets is None else tuple([assets] if isinstance(assets, str) else assets)
    told = Told.of(sensor, bands, invalid)
    faults = _Faults(on_error)
    items = _searched(source, search) if search is not None else _items(source, faults)
    sources = list({(item.collection_id, item.id): StacSource(item, keys, open_headers) for item in items}.values())
    if not sources and not faults.found:
        raise ConfigurationError(f"{_called(source)}: holds no item" + (" that the search finds" if search else ""))
    return index_sources(
        sources, told, on_error=on_error, threads=threads, progress=progress, faulty_already=faults.found
    )


@dataclass(slots=True)
class _Faults:
    """Items, and catalogs below others, that cannot be read, by the place that links name.

    Attributes:
        policy: "raise" raises the first one.
    """

    policy: OnError
    found: dict[str, RasterError] = field(default_factory=dict)

    def add(self, place: str, what: str, error: Exception) -> None:
        why = error.__cause__ or error  # pystac wraps what was wrong
        message = f"{place}: {what} cannot be read ({type(why).__name__}: {why})"
        if self.policy == "raise":
            raise RasterError(f"{message}; to leave such items out: {LEAVE_OUT}") from error
        self.found[place] = RasterError(message)


def _items(source: Any, faults: _Faults) -> "Iterator[pystac.Item]":
    pystac = _library("pystac")
    if isinstance(source, pystac.Item):
        yield source
    elif isinstance(source, pystac.Catalog):  # and collections
        yield from _below(source, faults)
    elif isinstance(source, str | Path):
        yield from _read(str(source), faults)
    elif isinstance(source, Mapping):
        yield from _parsed(dict(source), None, faults)
    elif isinstance(source, Iterable):
        for part in source:
            yield from _items(part, faults)
    else:
        raise ConfigurationError(f"{_called(source)}: is no STAC item, collection or catalog, nor the place of one")


def _below(catalog: "pystac.Catalog", faults: _Faults) -> "Iterator[pystac.Item]":
    """The items that a catalog or collection links to, and those of the catalogs below it."""
    pystac = _library("pystac")
    if type(catalog).get_items is not pystac.Catalog.get_items:
        # One of an API, which asks for items page by page.
        try:
            yield from catalog.get_items(recursive=True)
        except Exception as error:  # as below
            raise ConfigurationError(f"{_place(catalog)}: its items cannot be fetched ({error})") from error
        return
    for relation, kind in ((pystac.RelType.ITEM, pystac.Item), (pystac.RelType.CHILD, pystac.Catalog)):
        for link in catalog.get_links(relation):
            try:
                target = link.resolve_stac_object(root=catalog.get_root()).target
                if not isinstance(target, kind):
                    raise TypeError(f"a {type(target).__name__}, linked to as {relation}")
            except Exception as error:  # of the network and of broken files, in kinds that differ with pystac's version
                what = f"the {'item' if kind is pystac.Item else 'catalog'} that {_place(catalog)} links to"
                faults.add(str(link.get_absolute_href() or link.href), what, error)
                continue
            yield from [target] if isinstance(target, pystac.Item) else _below(target, faults)


def _place(catalog: "pystac.Catalog") -> str:
    return str(catalog.get_self_href() or catalog.id)


def _read(place: str, faults: _Faults) -> "Iterator[pystac.Item]":
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
    yield from _parsed(content, place, faults)


def _parsed(content: dict[str, Any], place: str | None, faults: _Faults) -> "Iterator[pystac.Item]":
    pystac = _library("pystac")
    where = place or "the mapping"
    wrong = (pystac.STACError, pystac.STACTypeError, AttributeError, KeyError, ValueError, TypeError)
    if content.get("type") == "FeatureCollection":
        for number, feature in enumerate(content.get("features") or (), start=1):
            try:
                item = pystac.Item.from_dict(feature)
            except wrong as error:
                name = feature.get("id") if isinstance(feature, Mapping) else None
                faults.add(f"{where}#{name or number}", f"item {number} of it", error)
                continue
            yield item
        return
    try:
        found = pystac.read_dict(content, href=place)
    except wrong as error:
        raise ConfigurationError(f"{where}: is not STAC that pystac understands ({error})") from error
    yield from _items(found, faults)


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
