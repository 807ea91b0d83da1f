"""Landsat products as USGS ships them: the rasters of a scene beside its MTL file, in a folder or still in their tar.

Collection 2 and 1, level 1 and 2.

Scale and offset of each band come from the metadata (REFLECTANCE_MULT_BAND_n, REFLECTANCE_ADD_BAND_n), so that
reflectance = (DN + offset) / quantification; validity from the fill value and the quality band (QA_PIXEL, or BQA in
collection 1). Only bands of reflectance are indexed: thermal ones are not; the panchromatic one where it is asked for.
Source: USGS, Landsat 8-9 Collection 2 Level 1 and 2 Data Format Control Books.
"""

import json
import logging
import re
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from geoaug.data.catalog.products.product import FoundScenes, Package, Product, ReadScene
from geoaug.data.raster.headers import HeaderOptions, quality_layer, sensor_name, single_band
from geoaug.data.raster.identify import tidy
from geoaug.data.raster.quality import BQA, QA_PIXEL
from geoaug.data.raster.record import SceneRecord
from geoaug.errors import ConfigurationError, RasterError
from geoaug.sensors import Sensor, available_sensors, generic_sensor, get_sensor

_log = logging.getLogger("geoaug")
_METADATA = re.compile(r"^(L[COTEM]\d\d_.*|L[COTEM]\d{14}.*)_MTL\.(txt|json)$", re.IGNORECASE)
_TAR = re.compile(r"^(L[COTEM]\d\d_.*|L[COTEM]\d{14}.*)\.tar$", re.IGNORECASE)
_IN_TAR = "/vsitar/"
_PANCHROMATIC = "B8"
_FILL = 0.0


@dataclass(frozen=True, slots=True)
class LandsatSource:
    """A product by its MTL file; `path` is that file's folder where it holds nothing else, else the file."""

    path: str
    name: str
    metadata: str
    files: tuple[str, ...]
    mask_path: str | None = None
    kind: str = field(default="landsat", init=False)

    def read(self, scene_id: str, options: HeaderOptions) -> ReadScene:
        product = read_metadata(self.metadata)
        present = {Path(path).name.casefold(): path for path in self.files}
        files = {name: present[file.casefold()] for name, file in product.bands.items() if file.casefold() in present}
        if missing := [name for name in product.bands if name not in files]:
            _log.warning("%s: has no file of band %s", self.path, " ".join(missing))
        if not files:
            raise RasterError(f"{self.path}: none of the bands that its metadata names is there", path=self.path)
        sensor, words = _sensor(product, tuple(files), options, self.path)
        bands = tuple(
            replace(
                single_band(band.name, files[words[band.name]]),
                nodata=_FILL,
                quantification=band.quantification,
                offset=band.offset,
            )
            for band in sensor.bands
        )
        quality = None
        if product.quality is not None:
            scheme = BQA if "BQA" in product.quality.upper() else QA_PIXEL
            invalid = scheme.chosen(options.invalid)
            flags = present.get(product.quality.casefold())
            if invalid and flags is None:
                _log.warning("%s: has no file of the quality layer %s; clouds count as valid", self.path, scheme.name)
            elif invalid and flags is not None:
                quality = quality_layer(flags, scheme.kind, invalid)
        record = SceneRecord(
            id=scene_id,
            kind="landsat",
            path=self.path,
            bands=bands,
            sensor=sensor_name(sensor, options),
            quality=quality,
            datetime=product.datetime,
            mask_path=self.mask_path,
        )
        return ReadScene(record)


class LandsatFolder(Product):
    """MTL files with the rasters that are named after them, and tar files named as such products are."""

    name = "landsat"

    def recognise(self, folder: str, names: Sequence[str]) -> list[Package]:
        packed = [Package(str(Path(folder, name)), (name,)) for name in names if _TAR.match(name)]
        return packed + [
            Package(source.path, tuple(Path(path).name for path in source.files))
            for source in (landsat_sources(folder, names) if any(map(_METADATA.match, names)) else ())
        ]

    def scenes(self, package: Package) -> FoundScenes:
        path, files = Path(package.path), package.files or ()
        if files == (path.name,) and is_landsat_tar(package.path):
            return FoundScenes(list(tar_sources(package.path)))
        folder = path.parent if path.name in files else path
        return FoundScenes([replace(source, path=package.path) for source in landsat_sources(str(folder), files)])


@dataclass(frozen=True, slots=True)
class LandsatMetadata:
    """What an MTL file tells.

    Attributes:
        sensor: name of the built-in one, None for a mission that has none.
        bands: names of the files of the bands of reflectance, by band.
        scaling: (quantification, offset) by band.
        quality: name of the file of flags.
        datetime: of the scene's centre, ISO 8601.
    """

    sensor: str | None
    bands: dict[str, str]
    scaling: dict[str, tuple[float, float]]
    quality: str | None
    datetime: str | None


def is_landsat_tar(path: str) -> bool:
    """Whether the name of a file is that of a product as it is downloaded. Compressed ones are not: GDAL would unpack
    all that lies before a block to read it."""
    return _TAR.match(Path(path).name) is not None


def tar_sources(path: str) -> list[LandsatSource]:
    """The product in a tar file.

    Raises:
        RasterError: it cannot be read, or holds no product.
    """
    try:
        with tarfile.open(path, "r:") as archive:
            names = [name.removeprefix("./") for name in archive.getnames()]
    except (tarfile.TarError, OSError) as error:
        raise RasterError(f"{path}: not a tar file that can be read ({error})", path=path) from error
    found = landsat_sources(path, [name for name in names if "/" not in name])
    if len(found) != 1:
        raise RasterError(
            f"{path}: holds {len(found)} Landsat products (*_MTL.txt); unpack it, and index the folder", path=path
        )
    return [
        replace(
            found[0],
            path=path,
            # Named as if it were unpacked, so that it is known as the same product if it is.
            name=str(Path(path).with_suffix("") / Path(found[0].name).name),
            metadata=f"{_IN_TAR}{found[0].metadata}",
            files=tuple(f"{_IN_TAR}{file}" for file in found[0].files),
        )
    ]


def landsat_sources(folder: str, names: Sequence[str]) -> list[LandsatSource]:
    """The products whose MTL files are among the files of a folder."""
    by_product: dict[str, str] = {}
    for name in sorted(names, key=lambda name: not name.lower().endswith(".json")):
        if _METADATA.match(name):
            by_product.setdefault(name[: name.upper().rindex("_MTL.")], name)
    sources = []
    for product, metadata in sorted(by_product.items()):
        files = tuple(str(Path(folder, name)) for name in sorted(names) if name.startswith(f"{product}_"))
        rasters = tuple(path for path in files if path.lower().endswith((".tif", ".tiff", ".jp2")))
        path = str(Path(folder, metadata))
        sources.append(
            LandsatSource(folder if len(by_product) == 1 else path, str(Path(folder, product)), path, (path, *rasters))
        )
    return sources


def read_metadata(path: str) -> LandsatMetadata:
    """Parse an MTL file, of text or JSON.

    Raises:
        RasterError: it cannot be read, or names no bands.
    """
    try:
        text = _text(path)
        groups = json.loads(text) if path.lower().endswith(".json") else _groups(text)
    except (OSError, ValueError, KeyError, tarfile.TarError) as error:
        raise RasterError(f"{path}: the product's metadata cannot be read ({error})", path=path) from error
    flat = dict(_walk(groups))
    contents = flat.get("PRODUCT_CONTENTS") or flat.get("PRODUCT_METADATA") or {}
    image = {**flat.get("PRODUCT_METADATA", {}), **flat.get("IMAGE_ATTRIBUTES", {})}
    level = "2" if str(contents.get("PROCESSING_LEVEL", "")).startswith("L2") else "1"
    scales = (
        flat.get("LEVEL2_SURFACE_REFLECTANCE_PARAMETERS")
        if level == "2"
        else flat.get("LEVEL1_RADIOMETRIC_RESCALING") or flat.get("RADIOMETRIC_RESCALING")
    ) or {}
    bands, scaling = {}, {}
    for key, file in contents.items():
        number = re.fullmatch(r"FILE_NAME_BAND_(\d+)", key)
        if number is None or f"REFLECTANCE_MULT_BAND_{number[1]}" not in scales:
            continue
        scale = float(scales[f"REFLECTANCE_MULT_BAND_{number[1]}"])
        add = float(scales.get(f"REFLECTANCE_ADD_BAND_{number[1]}", 0.0))
        bands[f"B{number[1]}"] = str(file)
        scaling[f"B{number[1]}"] = (tidy(1 / scale), tidy(add / scale))
    if not bands:
        raise RasterError(
            f"{path}: names no band of reflectance (FILE_NAME_BAND_n with REFLECTANCE_MULT_BAND_n)", path=path
        )
    craft = re.fullmatch(r"LANDSAT_(\d)", str(image.get("SPACECRAFT_ID", "")))
    named = None if craft is None else f"landsat-{craft[1]}-l{level}"
    # Before the collections the bits of the quality band meant other things.
    older = (
        contents.get("FILE_NAME_BAND_QUALITY") if "COLLECTION_NUMBER" in flat.get("METADATA_FILE_INFO", {}) else None
    )
    day, clock = image.get("DATE_ACQUIRED"), str(image.get("SCENE_CENTER_TIME", "00:00:00"))
    return LandsatMetadata(
        sensor=named if named in available_sensors() else None,
        bands=bands,
        scaling=scaling,
        quality=contents.get("FILE_NAME_QUALITY_L1_PIXEL") or older,
        # Seven digits of a second are more than Python reads.
        datetime=None if day is None else f"{day}T{re.split('[.Z]', clock)[0]}+00:00",
    )


def _text(path: str) -> str:
    if not path.startswith(_IN_TAR):
        return Path(path).read_text(encoding="utf-8")
    within = Path(path.removeprefix(_IN_TAR))
    with tarfile.open(within.parent, "r:") as archive:
        member = next(item for item in archive if item.isfile() and item.name.removeprefix("./") == within.name)
        opened = archive.extractfile(member)
        assert opened is not None
        return opened.read().decode("utf-8")


def _sensor(
    product: LandsatMetadata, present: tuple[str, ...], options: HeaderOptions, path: str
) -> tuple[Sensor, dict[str, str]]:
    """The sensor with the wanted bands of those present, scaled as the metadata says; and its names of them."""
    if options.sensor is not None:
        full = options.sensor
    elif product.sensor is not None:
        full = get_sensor(product.sensor)
    else:
        full = generic_sensor(len(present), 1.0, names=present)
    named = {name: _in(full, name) for name in present}
    known = {band: name for name, band in named.items() if band is not None}
    if not known:
        raise ConfigurationError(
            f"{path}: none of {' '.join(present)} is a band of the sensor '{full.name}'", path=path
        )
    sensor = full.select([band.name for band in full.bands if band.name in known])
    sensor = sensor.with_scaling(
        [product.scaling[known[band.name]][0] for band in sensor.bands],
        [product.scaling[known[band.name]][1] for band in sensor.bands],
    )
    if options.bands is not None:
        try:
            return sensor.select(list(options.bands)), known
        except ConfigurationError as error:
            raise ConfigurationError(f"{path}: {error}", path=path, argument="bands") from error
    pan = next((name for name, word in known.items() if word == _PANCHROMATIC), None)
    if pan in sensor.band_names and len(sensor) > 1:
        _log.info("%s: the panchromatic band %s is left out unless it is asked for", path, pan)
        sensor = sensor.select([name for name in sensor.band_names if name != pan])
    return sensor, known


def _in(sensor: Sensor, name: str) -> str | None:
    try:
        return sensor.band_names[sensor.index(name)]
    except ConfigurationError:
        return None


def _groups(text: str) -> dict[str, Any]:
    """The nested groups of a text of `GROUP = ...`, `KEY = VALUE`, `END_GROUP = ...`."""
    root: dict[str, Any] = {}
    stack = [root]
    for line in text.splitlines():
        key, equals, value = (part.strip() for part in line.partition("="))
        if not equals:
            continue
        if key == "GROUP":
            stack.append(stack[-1].setdefault(value, {}))
        elif key == "END_GROUP":
            if len(stack) == 1:
                raise ValueError(f"the group {value} ends before it begins")
            stack.pop()
        else:
            stack[-1][key] = value.strip('"')
    return root


def _walk(groups: Mapping[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    found = []
    for name, content in groups.items():
        if isinstance(content, dict):
            found.append((name, {key: value for key, value in content.items() if not isinstance(value, dict)}))
            found += _walk(content)
    return found
