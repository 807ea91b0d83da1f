"""Sentinel-2 products as ESA ships them: SAFE folders of level 1C and 2A, of the old and the new naming, also zipped.

Each band is taken from the file of its native resolution (at level 2A R10m, R20m and R60m), its quantification and
offset from the product's metadata (QUANTIFICATION_VALUE, RADIO_ADD_OFFSET and their BOA counterparts), its validity
from nodata and from the scene classification (level 2A) or the mask of opaque clouds (level 1C, baseline 04.00 on).
Source: ESA, Sentinel-2 Products Specification Document, S2-PDGS-TAS-DI-PSD.
"""

import logging
import os
import re
import zipfile
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path, PurePosixPath
from xml.etree import ElementTree

from geoaug.data.catalog.products.product import FoundScenes, Package, Product, ReadScene
from geoaug.data.raster.headers import HeaderOptions, quality_layer, sensor_name, single_band
from geoaug.data.raster.quality import CLASSI, SCL
from geoaug.data.raster.record import BandFile, QualityLayer, SceneRecord
from geoaug.errors import ConfigurationError, RasterError
from geoaug.sensors import Band, Sensor, get_sensor

_log = logging.getLogger("geoaug")
_METADATA = re.compile(r"^(MTD_MSIL(1C|2A)|S2._\w{4}_MTD_(SAF)?L(1C|2A)_\w+)\.xml$", re.IGNORECASE)
_IMAGE = re.compile(r"(?:^|_)(B\d\d|B8A|SCL)(?:_L2A_TL_\w+?)?(?:_(10|20|60)m)?\.jp2$", re.IGNORECASE)
_CLASSI = re.compile(r"MSK_CLASSI_B00\.jp2$", re.IGNORECASE)
_ZIPPED = re.compile(r"^S2._(MSIL(1C|2A)|OPER_PRD_MSIL).*\.zip$", re.IGNORECASE)
# By the numbers that metadata gives the bands (bandId), where it does not name them itself.
_BANDS = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B10", "B11", "B12")


@dataclass(frozen=True, slots=True)
class SafeSource:
    """A granule of a product, which is one tile of the Sentinel-2 grid.

    Attributes:
        path: of the product; with the granule, where the product has several.
        metadata: path of the product's metadata, as GDAL reads it.
        images: of the granule.
    """

    path: str
    name: str
    metadata: str
    images: tuple[str, ...]
    mask_path: str | None = None
    kind: str = field(default="sentinel-2", init=False)

    @property
    def files(self) -> tuple[str, ...]:
        return (self.metadata, *self.images)

    def read(self, scene_id: str, options: HeaderOptions) -> ReadScene:
        product = read_metadata(self.metadata)
        by_word: dict[str, dict[int, str]] = defaultdict(dict)
        for path in self.images:
            if match := _IMAGE.search(PurePosixPath(path).name):
                by_word[match[1].upper()][int(match[2] or 0)] = path
        scl = by_word.pop("SCL", {})
        sensor = _scaled(get_sensor(options.sensor or product.sensor), product, self.path)
        native = {band.name: band.gsd_m for band in get_sensor(product.sensor).bands}
        names = [band.name for band in sensor.bands if band.name in by_word]
        if missing := [band.name for band in sensor.bands if band.name not in by_word]:
            _log.warning("%s: has no file of band %s", self.path, " ".join(missing))
        if not names:
            raise RasterError(f"{self.path}: holds no file of a band (IMG_DATA/*.jp2)", path=self.path)
        sensor = sensor.select(names)
        if options.bands is not None:
            try:
                sensor = sensor.select(list(options.bands))
            except ConfigurationError as error:
                raise ConfigurationError(f"{self.path}: {error}", path=self.path, argument="bands") from error
        bands = tuple(_band(band, _native(by_word[band.name], native.get(band.name)), product) for band in sensor.bands)
        quality = self._quality(scl, product, options)
        record = SceneRecord(
            id=scene_id,
            kind="sentinel-2",
            path=self.path,
            bands=bands,
            sensor=sensor_name(sensor, options),
            quality=quality,
            datetime=product.datetime,
            mask_path=self.mask_path,
        )
        return ReadScene(record)

    def _quality(self, scl: Mapping[int, str], product: "SafeMetadata", options: HeaderOptions) -> QualityLayer | None:
        """The scene classification, else the mask of opaque clouds; where one is missing, the log says so."""
        masks = [path for path in self.images if _CLASSI.search(path)]
        scheme, path = (SCL, scl[min(scl)]) if scl else (CLASSI, masks[0] if masks else None)
        invalid = scheme.chosen(options.invalid)
        # Offsets came with baseline 04.00, before which level 1C had no raster of clouds.
        due = SCL if product.sensor == "sentinel-2-l2a" else CLASSI if product.offsets else None
        if due is not None and due.chosen(options.invalid) and (path is None or scheme is not due):
            instead = (
                f"{scheme.name}, opaque clouds alone, takes its place" if path and invalid else "clouds count as valid"
            )
            _log.warning("%s: has no file of the quality layer %s; %s", self.path, due.name, instead)
        return quality_layer(path, scheme.kind, invalid) if path is not None and invalid else None


class SentinelSafe(Product):
    """Folders with a product's metadata, and zip files named as such products are."""

    name = "sentinel-2"

    def recognise(self, folder: str, names: Sequence[str]) -> list[Package]:
        if is_safe(folder, names):
            return [Package(folder)]
        return [Package(str(Path(folder, name)), (name,)) for name in names if _ZIPPED.match(name)]

    def scenes(self, package: Package) -> FoundScenes:
        return FoundScenes(list(safe_sources(package.path)))


@dataclass(frozen=True, slots=True)
class SafeMetadata:
    """What a product's metadata tells.

    Attributes:
        sensor: name of the built-in one.
        quantification: of all bands.
        offsets: in DN, by band; none before baseline 04.00.
        nodata: the number that means "no data".
        datetime: of the start of sensing, ISO 8601.
    """

    sensor: str
    quantification: float
    offsets: dict[str, float]
    nodata: float
    datetime: str | None


def is_safe(folder: str, files: Sequence[str]) -> bool:
    """Whether a folder (its path, and the names of the files in it) is a product."""
    return folder.upper().endswith(".SAFE") or any(map(_METADATA.match, files))


def is_zipped_safe(path: str) -> bool:
    """Whether the name of a file is that of a zipped product."""
    return _ZIPPED.match(PurePosixPath(path).name) is not None


def safe_sources(product: str) -> list[SafeSource]:
    """The granules of a product, a folder or a zip file.

    Raises:
        RasterError: its metadata or its images are missing, or the zip file is damaged.
    """
    files = list(_in_zip(product) if product.lower().endswith(".zip") else _in_folder(product))
    metadata = [path for path in files if _METADATA.match(PurePosixPath(path).name) and "/GRANULE/" not in path]
    if not metadata:
        raise RasterError(f"{product}: lacks its metadata (MTD_MSIL1C.xml or MTD_MSIL2A.xml)", path=product)
    granules: dict[str, list[str]] = defaultdict(list)
    for path in files:
        parts = path.split("/GRANULE/", 1)
        if len(parts) == 2 and (("/IMG_DATA/" in path and _IMAGE.search(path)) or _CLASSI.search(path)):
            granules[parts[1].split("/", 1)[0]].append(path)
    if not granules:
        raise RasterError(f"{product}: holds no images (GRANULE/*/IMG_DATA/*.jp2)", path=product)
    alone = len(granules) == 1
    return [
        SafeSource(
            path=product if alone else f"{product}/GRANULE/{granule}",
            name=re.sub(r"(\.SAFE)?\.zip$", ".SAFE", product) if alone else f"{product}/GRANULE/{granule}.SAFE",
            metadata=metadata[0],
            images=tuple(sorted(images)),
        )
        for granule, images in sorted(granules.items())
    ]


def read_metadata(path: str) -> SafeMetadata:
    """Parse a product's metadata.

    Raises:
        RasterError: it cannot be read, or does not tell the quantification.
    """
    try:
        root = ElementTree.fromstring(_content(path))
    except (ElementTree.ParseError, OSError, KeyError, zipfile.BadZipFile) as error:
        raise RasterError(f"{path}: the product's metadata cannot be read ({error})", path=path) from error
    texts: dict[str, str] = {}
    names = dict(enumerate(_BANDS))
    stored: dict[int, float] = {}
    special: dict[str, str] = {}
    for element in root.iter():
        tag, text = element.tag.rpartition("}")[2], (element.text or "").strip()
        texts.setdefault(tag, text)
        if tag == "Spectral_Information" and "physicalBand" in element.attrib:
            names[int(element.attrib["bandId"])] = _padded(element.attrib["physicalBand"])
        elif tag in ("RADIO_ADD_OFFSET", "BOA_ADD_OFFSET"):
            stored[int(element.attrib["band_id"])] = float(text)
        elif tag == "Special_Values":
            pair = [(child.text or "").strip() for child in element]
            if len(pair) == 2:
                special[pair[0]] = pair[1]
    surface = "2A" in texts.get("PROCESSING_LEVEL", "") or "2A" in texts.get("PRODUCT_TYPE", "")
    tags = ("BOA_QUANTIFICATION_VALUE", "L2A_BOA_QUANTIFICATION_VALUE") if surface else ("QUANTIFICATION_VALUE",)
    quantification = next((texts[tag] for tag in tags if texts.get(tag)), None)
    if quantification is None:
        raise RasterError(f"{path}: the product's metadata does not tell {tags[0]}", path=path)
    return SafeMetadata(
        sensor="sentinel-2-l2a" if surface else "sentinel-2-l1c",
        quantification=float(quantification),
        offsets={names[number]: offset for number, offset in stored.items() if number in names},
        nodata=float(special.get("NODATA", 0)),
        datetime=_moment(texts.get("PRODUCT_START_TIME")),
    )


def _scaled(sensor: Sensor, product: SafeMetadata, path: str) -> Sensor:
    known = {band.name for band in get_sensor(product.sensor).bands}
    if not known & set(sensor.band_names):
        raise ConfigurationError(
            f"{path}: is of the sensor '{product.sensor}', and '{sensor.name}' shares no band with it",
            path=path,
        )
    return sensor.with_scaling(product.quantification, [product.offsets.get(band.name, 0.0) for band in sensor.bands])


def _band(band: Band, path: str, product: SafeMetadata) -> BandFile:
    return replace(
        single_band(band.name, path), nodata=product.nodata, quantification=band.quantification, offset=band.offset
    )


def _native(files: dict[int, str], gsd_m: float | None) -> str:
    """The file of the band's own resolution, the finest where there is none."""
    return files.get(int(gsd_m or 0)) or files[min(files)]


def _padded(name: str) -> str:
    return re.sub(r"^B(\d)$", r"B0\1", name.strip().upper())


def _moment(text: str | None) -> str | None:
    try:
        return None if not text else datetime.fromisoformat(text.replace("Z", "+00:00")).isoformat()
    except ValueError:
        return None


def _in_folder(folder: str) -> Iterator[str]:
    for root, _, names in os.walk(folder):
        yield from (Path(root, name).as_posix() for name in names)


def _in_zip(path: str) -> Iterator[str]:
    try:
        with zipfile.ZipFile(path) as archive:
            yield from (f"/vsizip/{path}/{name}" for name in archive.namelist())
    except (zipfile.BadZipFile, OSError) as error:
        raise RasterError(f"{path}: not a zip file that can be read ({error})", path=path) from error


def _content(path: str) -> bytes:
    if not path.startswith("/vsizip/"):
        return Path(path).read_bytes()
    archive, member = re.split(r"(?<=\.zip)/", path.removeprefix("/vsizip/"), maxsplit=1, flags=re.IGNORECASE)
    with zipfile.ZipFile(archive) as opened:
        return opened.read(member)
