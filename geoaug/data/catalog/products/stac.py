"""STAC: how an item becomes a scene; and the items of collections, catalogs, files, addresses and searches.

Read by pystac and searched by pystac-client, which come with `pip install 'geoaug[stac]'`.
"""

import importlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from affine import Affine

from geoaug.data.catalog.products.band_source import Stored, check_extents, sensor_of_bands, words_of
from geoaug.data.catalog.products.product import FoundScenes, Package, Product, ReadScene
from geoaug.data.raster.grid import Grid
from geoaug.data.raster.headers import (
    HeaderOptions,
    band_files,
    quality_layer,
    read_header,
    sensor_name,
    usable_nodata,
)
from geoaug.data.raster.inputs import address_to_path
from geoaug.data.raster.quality import SCHEMES
from geoaug.data.raster.record import BandFile, QualityLayer, SceneRecord
from geoaug.errors import ConfigurationError, RasterError
from geoaug.sensors import Sensor

if TYPE_CHECKING:
    import pystac

_EXTENSIONS = (".json", ".geojson")
_RASTERS = ("image/tiff", "image/jp2", "image/vnd.stac.geotiff", "application/x-geotiff")
# Pictures, and products beside reflectance.
_NO_DATA_ROLES = frozenset(("thumbnail", "overview", "visual", "metadata", "graphic", "date"))
_PICTURES = frozenset(("visual", "thumbnail", "preview", "rendered_preview", "overview", "tilejson"))
_BLOCK = (512, 512)
# Of a field that holds a list for a number, and the like: pystac hands on what an item says.
_NOT_UNDERSTOOD = (TypeError, ValueError, AttributeError, LookupError)


@dataclass(frozen=True, slots=True)
class _Asset:
    """One band of an asset.

    Attributes:
        names: that it may go by in a sensor, the best first.
        properties: of the band, the asset and the item, the nearest first.
    """

    path: str
    index: int
    names: tuple[str, ...]
    properties: Mapping[str, Any]
    alone: bool
    is_tiff: bool


@dataclass(frozen=True, slots=True)
class StacSource:
    """An item; `assets` are the keys that are wanted, all with bands where None."""

    item: "pystac.Item"
    assets: tuple[str, ...] | None = None
    open_headers: bool = False
    kind: str = field(default="stac", init=False)

    @property
    def path(self) -> str:
        return str(self.item.get_self_href() or self.name)

    @property
    def name(self) -> str:
        return f"{self.item.collection_id or 'stac'}/{self.item.id}.json"

    @property
    def files(self) -> tuple[str, ...]:
        """The item's JSON, where it is on this machine, and its assets; none of an item that cannot be understood."""
        own = [self.path] if Path(self.path).is_file() else []
        try:
            return tuple(dict.fromkeys([*own, *(asset.path for asset in self._bands())]))
        except (RasterError, *_NOT_UNDERSTOOD):
            return ()

    def read(self, scene_id: str, options: HeaderOptions) -> ReadScene:
        try:
            return self._read(scene_id, options)
        except _NOT_UNDERSTOOD as error:
            raise RasterError(
                f"{self.path}: item '{self.item.id}' has a field that cannot be understood "
                f"({type(error).__name__}: {error})",
                path=self.path,
            ) from error

    def _read(self, scene_id: str, options: HeaderOptions) -> ReadScene:
        bands = self._bands()
        if not bands:
            raise RasterError(
                f"{self.path}: no asset of item '{self.item.id}' has bands to read; choose among "
                f"{', '.join(self.item.assets)} with assets=[...]",
                path=self.path,
            )
        sensor, chosen, doubt = self._sensor(bands, options)
        files = tuple(
            self._band_file(asset, name, of_sensor.quantification, of_sensor.offset, of_sensor.nodata)
            for (name, asset), of_sensor in zip(chosen, sensor.bands, strict=True)
        )
        check_extents(self.path, files)
        quality = self._quality(options)
        moment = self.item.datetime or self.item.common_metadata.start_datetime
        record = SceneRecord(
            id=scene_id,
            kind="stac",
            path=self.path,
            bands=files,
            sensor=sensor_name(sensor, options),
            quality=quality,
            datetime=None if moment is None else moment.isoformat(),
        )
        cover = self.item.properties.get("eo:cloud_cover")
        return ReadScene(record, {} if cover is None else {"cloud_cover": float(cover)}, doubt)

    def _bands(self) -> list[_Asset]:
        found: list[_Asset] = []
        if self.assets is not None and (missing := [key for key in self.assets if key not in self.item.assets]):
            raise RasterError(
                f"{self.path}: item '{self.item.id}' has no asset {', '.join(missing)}; it has "
                f"{', '.join(self.item.assets)}",
                path=self.path,
            )
        for key in self.item.assets if self.assets is None else self.assets:
            asset = self.item.assets[key]
            if self.assets is None and not _is_reflectance(key, asset):
                continue
            found += _bands_of(self.item, key, asset)
        if self.assets is not None:
            return found
        # Where a band is there twice (in a stack and alone, as TIFF and as JPEG 2000), the file of it alone, of TIFF.
        best: dict[str, _Asset] = {}
        for band in sorted(found, key=lambda band: (not band.alone, not band.is_tiff)):
            best.setdefault(band.names[0].casefold(), band)
        kept = set(map(id, best.values()))
        return [band for band in found if id(band) in kept]

    def _sensor(
        self, bands: Sequence[_Asset], options: HeaderOptions
    ) -> tuple[Sensor, list[tuple[str, _Asset]], str | None]:
        """The sensor, and its bands with their assets; by the names of bands that tell most."""
        path = f"{self.item.collection_id or ''}/{self.item.properties.get('platform', '')}/{self.item.id}.tif"
        known = {id(asset): self._stored(asset) for asset in bands}
        best: tuple[Sensor, list[tuple[str, _Asset]], str | None] | None = None
        problem: ConfigurationError | None = None
        for which in range(max(len(asset.names) for asset in bands)):
            words = {asset.names[min(which, len(asset.names) - 1)]: asset for asset in bands}
            if len(words) < len(bands):
                continue
            stored = {word: known[id(asset)] for word, asset in words.items()}
            try:
                sensor, doubt = sensor_of_bands(path, stored, options)
            except ConfigurationError as error:
                problem = problem or error
                continue
            sensor = self._harmonised(sensor, words)
            pairs = [
                (band.name, words[word]) for band, word in zip(sensor.bands, words_of(sensor, stored), strict=True)
            ]
            if best is None or (best[0].name == "generic" and sensor.name != "generic"):
                best = sensor, pairs, doubt
        if best is None:
            raise ConfigurationError(
                f"{self.path}: {problem or 'bands of one name; choose with assets=[...]'}", path=self.path
            )
        return best

    def _harmonised(self, sensor: Sensor, words: Mapping[str, _Asset]) -> Sensor:
        """Sentinel-2's offset by the processing baseline, unless the item states it, or that it was taken out."""
        if not sensor.name.startswith("sentinel-2"):
            return sensor
        properties = self.item.properties
        if properties.get("earthsearch:boa_offset_applied", properties.get("sentinel:boa_offset_applied")) is True:
            return sensor.with_scaling(offset=0.0)
        if any("scale" in asset.properties or "raster:scale" in asset.properties for asset in words.values()):
            return sensor
        baseline = properties.get("s2:processing_baseline") or properties.get("processing:version")
        try:
            return sensor if baseline is None else sensor.for_baseline(str(baseline))
        except ConfigurationError:
            return sensor

    def _stored(self, asset: _Asset) -> Stored:
        properties = asset.properties
        scale = properties.get("scale", properties.get("raster:scale"))
        offset = properties.get("offset", properties.get("raster:offset"))
        kind = properties.get("data_type")
        if kind is None or self.open_headers:
            header = read_header(asset.path, bands=[asset.index])
            kind = header.dtype.name
            scale = header.scales[0] if scale is None else scale
            offset = header.offsets[0] if offset is None else offset
        return Stored(str(kind), 1.0 if scale is None else float(scale), 0.0 if offset is None else float(offset))

    def _band_file(
        self, asset: _Asset, name: str, quantification: float, offset: float, nodata: float | None
    ) -> BandFile:
        stated = None if self.open_headers else _as_stated(asset)
        if stated is not None:
            kind, grid, own_nodata = stated
            own = usable_nodata(np.dtype(kind), own_nodata, nodata)
            return BandFile(name, asset.path, asset.index, grid, kind, own, _BLOCK, False, quantification, offset)
        header = read_header(asset.path, bands=[asset.index])
        (opened,) = band_files(header)
        own = usable_nodata(header.dtype, opened.nodata, _number(asset.properties.get("nodata")), nodata)
        return BandFile(
            name, opened.path, opened.index, opened.grid, opened.dtype, own, opened.block_shape, opened.has_mask,
            quantification, offset, opened.alpha,
        )  # fmt: skip

    def _quality(self, options: HeaderOptions) -> QualityLayer | None:
        for key, asset in self.item.assets.items():
            scheme = SCHEMES.get(key.upper())
            if scheme is None or not _is_raster(asset):
                continue
            invalid = scheme.chosen(options.invalid)
            if not invalid:
                return None
            found = _bands_of(self.item, key, asset)[0]
            stated = None if self.open_headers else _as_stated(found)
            if stated is None:
                return quality_layer(found.path, scheme.kind, invalid)
            kind, grid, _ = stated
            return QualityLayer(BandFile(key, found.path, 1, grid, kind, None, _BLOCK), scheme.kind, invalid)
        return None


def _bands_of(item: "pystac.Item", key: str, asset: "pystac.Asset") -> list[_Asset]:
    """The bands of an asset, one of its key where it lists none."""
    fields = asset.extra_fields
    listed: list[Mapping[str, Any]] = fields.get("bands") or fields.get("eo:bands") or []
    rasters: list[Mapping[str, Any]] = fields.get("raster:bands") or []
    count = max(len(listed), len(rasters), 1)
    href = asset.get_absolute_href() or asset.href
    found = []
    for number in range(count):
        band = listed[number] if number < len(listed) else {}
        raster = rasters[number] if number < len(rasters) else {}
        common = band.get("common_name", band.get("eo:common_name"))
        names = (band.get("name"), common, key if count == 1 else None, f"{key}_{number + 1}" if count > 1 else None)
        found.append(
            _Asset(
                path=address_to_path(href),
                index=number + 1,
                names=tuple(dict.fromkeys(str(name) for name in names if name)),
                properties={**item.properties, **fields, **band, **raster},
                alone=count == 1,
                is_tiff="jp2" not in (asset.media_type or ""),
            )
        )
    return found


def _is_reflectance(key: str, asset: "pystac.Asset") -> bool:
    """Whether an asset holds bands of the scene, and is read unless assets are chosen."""
    roles = {role.lower() for role in asset.roles or ()}
    if not _is_raster(asset) or key.lower() in _PICTURES or roles & _NO_DATA_ROLES or key.upper() in SCHEMES:
        return False
    return (
        bool(asset.extra_fields.get("eo:bands") or asset.extra_fields.get("bands"))
        or "reflectance" in roles
        or (roles == {"data"} and "eo:bands" not in asset.extra_fields)
    )


def _is_raster(asset: "pystac.Asset") -> bool:
    media = (asset.media_type or "").lower()
    if media:
        return media.startswith(_RASTERS)
    return asset.href.split("?")[0].lower().endswith((".tif", ".tiff", ".jp2"))


def _as_stated(asset: _Asset) -> tuple[str, Grid, float | None] | None:
    """(type, grid, nodata) as the item states them; None where it leaves any of these out."""
    properties = asset.properties
    kind, shape, transform = (properties.get(name) for name in ("data_type", "proj:shape", "proj:transform"))
    code = properties.get("proj:code") or (
        f"EPSG:{properties['proj:epsg']}" if properties.get("proj:epsg") is not None else properties.get("proj:wkt2")
    )
    if kind is None or shape is None or transform is None or code is None or "nodata" not in properties:
        return None
    grid = Grid(str(code), Affine(*(float(value) for value in transform[:6])), int(shape[0]), int(shape[1]))
    return np.dtype(str(kind)).name, grid, _number(properties["nodata"])


def _number(value: Any) -> float | None:
    return None if value is None else float(value)


class StacItems(Product):
    """A file or address of JSON that a person named; in folders JSON is passed by."""

    name = "stac"

    def recognise_input(self, text: str) -> Package | None:
        if not text.split("?")[0].lower().endswith(_EXTENSIONS):
            return None
        return Package(text if "://" in text else str(Path(text).absolute()), ())

    def scenes(self, package: Package) -> FoundScenes:
        return stac_scenes(package.path)


def stac_scenes(
    source: Any,
    *,
    search: Mapping[str, Any] | None = None,
    assets: Sequence[str] | None = None,
    open_headers: bool = False,
) -> FoundScenes:
    """The items that a source holds, and what it links to that cannot be read; arguments as for `index_stac`.

    Raises:
        ConfigurationError: pystac is absent, or the source is no STAC, or holds no item.
    """
    faulty: dict[str, str] = {}
    keys = None if assets is None else tuple(assets)
    items = _searched(source, search) if search is not None else _items(source, faulty)
    sources = list({(item.collection_id, item.id): StacSource(item, keys, open_headers) for item in items}.values())
    if not sources and not faulty:
        raise ConfigurationError(f"{_called(source)}: holds no item" + (" that the search finds" if search else ""))
    return FoundScenes(list(sources), faulty=faulty)


def _items(source: Any, faults: dict[str, str]) -> "Iterator[pystac.Item]":
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
        raise ConfigurationError(f"{_called(source)}: is no STAC item, collection or catalog, nor the address of one")


def _add(faults: dict[str, str], address: str, what: str, error: Exception) -> None:
    """Note why an item, or a catalog below another, cannot be read, by its address."""
    why = error.__cause__ or error  # pystac wraps what was wrong
    faults[address] = f"{address}: {what} cannot be read ({type(why).__name__}: {why})"


def _below(catalog: "pystac.Catalog", faults: dict[str, str]) -> "Iterator[pystac.Item]":
    """The items that a catalog or collection links to, and those of the catalogs below it."""
    pystac = _library("pystac")
    if type(catalog).get_items is not pystac.Catalog.get_items:
        # One of an API, which asks for items page by page.
        try:
            yield from catalog.get_items(recursive=True)
        except Exception as error:  # as below
            raise ConfigurationError(f"{_address(catalog)}: its items cannot be fetched ({error})") from error
        return
    for relation, kind in ((pystac.RelType.ITEM, pystac.Item), (pystac.RelType.CHILD, pystac.Catalog)):
        for link in catalog.get_links(relation):
            try:
                target = link.resolve_stac_object(root=catalog.get_root()).target
                if not isinstance(target, kind):
                    raise TypeError(f"a {type(target).__name__}, linked to as {relation}")
            except Exception as error:  # of the network and of broken files, in kinds that differ with pystac's version
                what = f"the {'item' if kind is pystac.Item else 'catalog'} that {_address(catalog)} links to"
                _add(faults, str(link.get_absolute_href() or link.href), what, error)
                continue
            yield from [target] if isinstance(target, pystac.Item) else _below(target, faults)


def _address(catalog: "pystac.Catalog") -> str:
    return str(catalog.get_self_href() or catalog.id)


def _read(address: str, faults: dict[str, str]) -> "Iterator[pystac.Item]":
    pystac = _library("pystac")
    if "://" not in address:
        address = str(Path(address).expanduser().absolute())
        if not Path(address).is_file():
            raise ConfigurationError(f"{address}: no such file of STAC JSON", path=address)
    try:
        text = pystac.StacIO.default().read_text(address)
    except Exception as error:  # of the network, in kinds that differ with pystac's version
        raise ConfigurationError(f"{address}: cannot be fetched ({error})", path=address) from error
    try:
        content = json.loads(text)
    except ValueError as error:
        raise ConfigurationError(f"{address}: is no JSON ({error})", path=address) from error
    if not isinstance(content, dict):
        raise ConfigurationError(f"{address}: is not a STAC object", path=address)
    yield from _parsed(content, address, faults)


def _parsed(content: dict[str, Any], address: str | None, faults: dict[str, str]) -> "Iterator[pystac.Item]":
    pystac = _library("pystac")
    where = address or "the mapping"
    wrong = (pystac.STACError, pystac.STACTypeError, AttributeError, KeyError, ValueError, TypeError)
    if content.get("type") == "FeatureCollection":
        for number, feature in enumerate(content.get("features") or (), start=1):
            try:
                item = pystac.Item.from_dict(feature)
            except wrong as error:
                name = feature.get("id") if isinstance(feature, Mapping) else None
                _add(faults, f"{where}#{name or number}", f"item {number} of it", error)
                continue
            yield item
        return
    try:
        found = pystac.read_dict(content, href=address)
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
