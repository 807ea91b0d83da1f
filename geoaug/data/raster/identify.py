"""Judging which sensor a raster is of, from its header and its path.

The judgement is honest rather than clever: what is not stated by the file or by its product's naming is said to be
uncertain, and what is not recognised becomes bands of unknown wavelength. How the products of missions are
named stands here, too. Pixels are never looked at, and neither is the date of a scene.
"""

import math
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from geoaug.errors import ConfigurationError
from geoaug.sensors import Sensor, available_sensors, generic_sensor, get_sensor

# In a SAFE folder the product's name stands five folders above the image.
_PARTS_READ = 6
_BAND = re.compile(r"(?<![A-Za-z0-9])(?:B(?:0?[1-9]|1[0-2]|0?8A)|VV|VH|HH|HV)(?![A-Za-z0-9])", re.IGNORECASE)
_EUROSAT_CHIP = re.compile(
    r"(AnnualCrop|Forest|HerbaceousVegetation|Highway|Industrial|Pasture|PermanentCrop|Residential|River|SeaLake)_\d+"
)
_CATEGORICAL = {"scl", "qa", "bqa", "fmask", "label", "labels", "mask", "masks", "classes", "classification"}
_NAIP = re.compile(r"m_\d{7}_(ne|nw|se|sw)_\d{1,2}_", re.IGNORECASE)
_HLS = re.compile(r"HLS\.(?P<which>[LS]30)\.", re.IGNORECASE)
_SENTINEL_1 = re.compile(r"(?<![a-z0-9])(s1[abcd]?|sentinel[-_ ]?1)(?![a-z0-9])", re.IGNORECASE)
# The whole name of a file: as likely the number of a scene (s0.tif, s1.tif) as a mission.
_NUMBERED = re.compile(r"[sl]\d(?:\.\w+)?", re.IGNORECASE)
_SENTINEL_2 = re.compile(r"(?<![a-z0-9])(s2[abcd]?|sentinel[-_ ]?2[abcd]?)(?![a-z0-9])", re.IGNORECASE)
_SENTINEL_2_TILE = re.compile(r"(?<![A-Za-z0-9])T\d{2}[A-Z]{3}_\d{8}T\d{6}")
_SENTINEL_2_LEVEL = re.compile(r"MSI_?L(1C|2A)|(?<![A-Za-z0-9])L(1C|2A)(?![A-Za-z0-9])", re.IGNORECASE)
_SENTINEL_2_BASELINE = re.compile(r"(?<![A-Za-z0-9])N(\d{2})\.?(\d{2})(?![A-Za-z0-9])")
_LANDSAT_ID = re.compile(r"L[COTEM]0?(?P<number>[1-9])(?P<rest>_L[12][A-Z]{2}_|\d{13}[A-Z]{3}\d{2})")
_LANDSAT = re.compile(
    r"(?<![a-z0-9])(?:landsat[-_ ]?0?(?P<word>[1-9])(?![0-9])|l0?(?P<letter>[4-9])(?![a-z0-9]))", re.IGNORECASE
)
_MOMENT = re.compile(r"(?<!\d)((?:19[7-9]|20\d)\d)-?(\d\d)-?(\d\d)(?:T(\d{6})(?!\d)|(?!\d))")
_LANDSAT_DAY = re.compile(r"L[COTEM]\d\d{6}(\d{7})[A-Z]{3}\d\d")
_LANDSAT_SENSORS = (4, 5, 7, 8, 9)
# The multispectral scanner's products (LM05) are of the same satellites, and no Thematic Mapper's.
_LANDSAT_SCANNER = re.compile(r"LM0?[1-5](?:_L|\d{13})")
_PLANETSCOPE = re.compile(r"_AnalyticMS(?P<surface>_SR)?(?P<eight>_8b)?(?![A-Za-z0-9])", re.IGNORECASE)
_MODIS = re.compile(r"(?<![A-Za-z0-9])M[OY]D09(?:GA|GQ|A1|Q1)(?![A-Za-z0-9])")
_IN_FILE_ORDER = ("rgb", "rgbn", "planetscope-4b", "planetscope-8b")
_LANDSAT_COLLECTION_1_REFLECTANCE = re.compile(r"_sr_band\d", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Product:
    """What a file is a product of.

    Args:
        title: for people.
        sensors: names of the built-in sensors that it can be of, the likelier first; none for a product that geoaug
            has no sensor for.
        source: "by its name", "by its path" (a folder above it) or "by its tags".
        certain: True where nothing about the sensor but its bands is left open, such as the processing level.
        baseline: Sentinel-2's processing baseline, such as "05.09"; None where it is not stated.
    """

    title: str
    sensors: tuple[str, ...] = ()
    source: str = "by its name"
    certain: bool = False
    baseline: str | None = None


def product_of(path: str, tags: Mapping[str, str]) -> Product | None:
    """Return the product that the tags or else the path name; None where neither does.

    In the path the file's name counts before its folders, and the nearest folder before the others.
    """
    return _by_tags(tags) or _by_path(_parts(path))


def bands_in_name(path: str) -> tuple[str, ...]:
    """Return the bands in the name of a file, such as B02, B03 in "scene_B02-B03.tif"."""
    parts = _parts(path)
    return tuple(match.group().upper() for match in _BAND.finditer(parts[0])) if parts else ()


def is_eurosat(path: str) -> bool:
    """Say whether a path is that of a EuroSAT chip."""
    return "eurosat" in path.lower() or _EUROSAT_CHIP.match(_parts(path)[0]) is not None


def is_categorical(path: str, count: int, names: Sequence[str], kind: str) -> bool:
    """Say whether a single band of integers is named as classes or flags are (SCL, QA_PIXEL, labels...)."""
    if count != 1 or "int" not in kind:
        return False
    if _BAND.search(" ".join(names)):
        return False
    words = re.split(r"[^a-z]+", " ".join((_parts(path)[0], *names)).lower())
    return not _CATEGORICAL.isdisjoint(words)


def _parts(path: str) -> list[str]:
    """Return the file name and the folders above it, nearest first."""
    without_query = path.split("?")[0]
    parts = [part for part in re.split(r"[\\/]+", without_query) if part not in ("", ".", "..")]
    return parts[::-1][:_PARTS_READ] or [""]


def _by_path(parts: list[str]) -> Product | None:
    if _NAIP.match(parts[0]):
        return Product("NAIP aerial imagery", ("rgbn", "rgb"), certain=True)
    for place, part in enumerate(parts):
        if place == 0 and _NUMBERED.fullmatch(part):
            continue
        product = _by_part(part, parts)
        if product is not None:
            return product if place == 0 else replace(product, source="by its path")
    return None


def _by_part(part: str, parts: list[str]) -> Product | None:
    if hls := _HLS.search(part):
        return Product(f"HLS {hls['which'].upper()}")
    if _SENTINEL_1.search(part):
        return Product("Sentinel-1", ("sentinel-1-grd",), certain=_is_grd(parts))
    if _SENTINEL_2.search(part) or _SENTINEL_2_TILE.search(part):
        return _sentinel_2(parts)
    if planet := _PLANETSCOPE.search(part):
        # At the top of the atmosphere its numbers are radiances.
        bands = 8 if planet["eight"] else 4
        sensors = (f"planetscope-{bands}b",) if planet["surface"] else ()
        return Product(
            f"PlanetScope {'surface reflectance' if sensors else 'radiance'}", sensors, certain=bool(sensors)
        )
    if _MODIS.search(part):
        return Product("MODIS surface reflectance", ("modis-sr",), certain=True)
    if _LANDSAT_SCANNER.search(part):
        return Product("Landsat multispectral scanner")
    return _landsat(part, parts[0])


def _is_grd(parts: list[str]) -> bool:
    return any("GRD" in part.upper() for part in parts)


def _sentinel_2(parts: list[str]) -> Product:
    level = baseline = None
    for part in parts:
        if level is None and (found := _SENTINEL_2_LEVEL.search(part)):
            level = "l" + (found[1] or found[2]).lower()
        # Baseline 99.99 marks a product processed for a test, whose offset is anybody's guess.
        if baseline is None and (found := _SENTINEL_2_BASELINE.search(part)) and found[1] != "99":
            baseline = f"{found[1]}.{found[2]}"
    if level is None and _SENTINEL_2_TILE.search(parts[0]) and re.search(r"_[126]0m\b", parts[0]):
        level = "l2a"  # only level 2A names the resolution
    title = "Sentinel-2" if level is None else f"Sentinel-2 {level.upper()}"
    return Product(title, _at_levels("sentinel-2", level), certain=level is not None, baseline=baseline)


def _landsat(part: str, file_name: str) -> Product | None:
    if identity := _LANDSAT_ID.search(part):
        number, rest = int(identity["number"]), identity["rest"]
        level = f"l{rest[2]}" if rest.startswith("_L") else "l1"
    elif named := _LANDSAT.search(part):
        number, level = int(named["word"] or named["letter"]), None
    else:
        return None
    if _LANDSAT_COLLECTION_1_REFLECTANCE.search(file_name):
        return Product(f"Landsat {number} collection 1 surface reflectance")
    if level is None and re.search(r"(?i)SR_B\d", file_name):
        level = "l2"
    return _landsat_product(number, level)


def _landsat_product(number: int, level: str | None, source: str = "by its name") -> Product:
    """The product of a Landsat; of the scanners before 4 there is no sensor."""
    title = f"Landsat {number}" if level is None else f"Landsat {number} level {level[1]}"
    if number not in _LANDSAT_SENSORS:
        return Product(title, source=source)
    # The scale of TM and ETM+ at level 1 differs by scene: only its MTL file tells.
    certain = level == "l2" or (level is not None and number in (8, 9))
    return Product(title, _at_levels(f"landsat-{number}", level), source, certain)


def _at_levels(family: str, level: str | None) -> tuple[str, ...]:
    """Return the sensors of a family at the level stated, or at each level where none is."""
    if level is not None:
        return (f"{family}-{level}",)
    return tuple(f"{family}-{each}" for each in (("l2a", "l1c") if family == "sentinel-2" else ("l1", "l2")))


def _by_tags(tags: Mapping[str, str]) -> Product | None:
    """Read the tags of GDAL's SENTINEL2 driver (PRODUCT_TYPE, PROCESSING_BASELINE) and of USGS's metadata."""
    kind = re.fullmatch(r"S2MSI(1C|2A)p?", tags.get("PRODUCT_TYPE", ""))
    if kind:
        level = kind[1]
        baseline = re.fullmatch(r"\d{2}\.\d{2}", tags.get("PROCESSING_BASELINE", ""))
        sensors = _at_levels("sentinel-2", f"l{level.lower()}")
        return Product(f"Sentinel-2 L{level}", sensors, "by its tags", True, baseline and baseline[0])
    craft = re.fullmatch(r"LANDSAT_(\d)", tags.get("SPACECRAFT_ID", ""))
    level_tag = re.match(r"L([12])", tags.get("PROCESSING_LEVEL", ""))
    if craft:
        return _landsat_product(int(craft[1]), f"l{level_tag[1]}" if level_tag else None, "by its tags")
    return None


def moment_in_name(path: str) -> str | None:
    """The date of acquisition in the name of a file or the folders above it, ISO 8601; None where there is none.

    The first of several counts, as it does in the names of Sentinel-2 and Landsat.
    """
    for part in _parts(path):
        for match in _MOMENT.finditer(part):
            try:
                year, month, day = (int(match[group]) for group in (1, 2, 3))
                clock = match[4] or "000000"
                hour, minute, second = (int(clock[at : at + 2]) for at in (0, 2, 4))
                moment = datetime(year, month, day, hour, minute, second, tzinfo=UTC)
                return moment.isoformat()
            except ValueError:
                continue
        if found := _LANDSAT_DAY.search(part):
            try:
                return datetime.strptime(found[1], "%Y%j").replace(tzinfo=UTC).isoformat()
            except ValueError:
                continue
    return None


_QUANTIFICATION = {"uint8": 255.0, "int8": 127.0}
_INTEGER_QUANTIFICATION = 10000.0
_CHOOSE = "; choose with --sensor"
# EuroSAT's 13-band files put B8A last (github.com/phelber/EuroSAT/issues/7; torchgeo issue 2458), as their values
# show: the tenth band is the near-black cirrus.
_EUROSAT_ORDER = "B01,B02,B03,B04,B05,B06,B07,B08,B09,B10,B11,B12,B8A"


@dataclass(frozen=True, slots=True)
class Identification:
    """What a raster was taken for.

    Args:
        sensor: with exactly the bands of the file, in its order, and the scaling of its numbers.
        certain: False where a person should confirm it with --sensor.
        reason: one line without a full stop.
    """

    sensor: Sensor
    certain: bool
    reason: str


@dataclass(frozen=True, slots=True)
class _Names:
    """The names of all bands, as stated by `source`; empty where nothing names them."""

    given: tuple[str, ...]
    source: str


def identify_sensor(
    path: str | Path,
    count: int,
    descriptions: Sequence[str | None],
    dtype: Any,
    tags: Mapping[str, str],
    scales: Sequence[float],
    offsets: Sequence[float],
) -> Identification:
    """Judge the sensor of a raster by its header.

    Trusted in this order: tags and path for the product, band descriptions before the file name for the bands, and
    as a last resort the number of bands. GDAL's scale and offset, where set, replace the sensor's scaling.

    Args:
        path: a path or address, as given by the user; the folders it names count.
        count: number of image bands.
        descriptions: one for each band, None where it has none.
        dtype: numpy's dtype or its name.
        tags: of the dataset.
        scales: GDAL's, one for each band (1 where not set).
        offsets: GDAL's, one for each band (0 where not set).
    """
    kind = str(getattr(dtype, "name", dtype))
    names = _band_names(str(path), count, descriptions)
    product = product_of(str(path), tags)
    if is_categorical(str(path), count, names.given, kind):
        found = _unknown(count, kind, names, "holds classes or flags by its name")
    else:
        found = _identify(str(path), count, kind, names, product)
        if product is not None and _contradicts(product, count) and found.sensor.name == "generic":
            by_facts = _identify(str(path), count, kind, names, None)
            if by_facts.sensor.name != "generic":
                reason = f"{by_facts.reason.removesuffix(_CHOOSE)}, and too many for {product.title} {product.source}"
                found, product = Identification(by_facts.sensor, False, reason), None
    return _with_scaling_of_file(found, kind, product, scales, offsets)


def _contradicts(product: Product, count: int) -> bool:
    """Say whether a file has more bands than any sensor of a product that only a word in its path names."""
    told = product.certain or product.source == "by its tags"
    return not told and bool(product.sensors) and count > max(len(get_sensor(name)) for name in product.sensors)


def with_scaling_of_file(
    given: Sensor,
    bands: Sensor,
    reason: str,
    path: str | Path,
    dtype: Any,
    tags: Mapping[str, str],
    scales: Sequence[float],
    offsets: Sequence[float],
) -> Identification:
    """Settle the scaling of a file whose sensor was `given`, as `identify_sensor` does for one that was not.

    GDAL's scale and offset always count. A built-in sensor further takes the scaling of the file's type and processing
    baseline; one that a person scaled (a definition of their own, a `Sensor` of theirs) is left as they scaled it.

    Args:
        given: as a person gave it.
        bands: the bands of the file, in its order, scaled as in `given`.
        reason: why they are these; the scaling is added to it.
        path, dtype, tags, scales, offsets: as for `identify_sensor`.
    """
    product = product_of(str(path), tags)
    kind = str(getattr(dtype, "name", dtype))
    own = not _scaled_as_built_in(given)
    found = _with_scaling_of_file(Identification(bands, True, reason), kind, product, scales, offsets, own=own)
    return Identification(found.sensor, True, found.reason.removesuffix(_CHOOSE))


def names_of_bands(path: str | Path, count: int, descriptions: Sequence[str | None]) -> tuple[tuple[str, ...], str]:
    """Return the names of all `count` bands by the descriptions, else the file name, and which of them it was.

    Both are empty where neither names each band.
    """
    names = _band_names(str(path), count, descriptions)
    return names.given, names.source


def bands_named(sensor: Sensor, names: Sequence[str]) -> Sensor | None:
    """Return the bands that `names` name, or None unless each names another one; a number is no name."""
    return _select(sensor, names) if names else None


def _scaled_as_built_in(sensor: Sensor) -> bool:
    if sensor.name not in available_sensors():
        return False
    known = {(band.name, band.quantification, band.offset) for band in get_sensor(sensor.name).bands}
    return all((band.name, band.quantification, band.offset) in known for band in sensor.bands)


def _identify(path: str, count: int, kind: str, names: _Names, product: Product | None) -> Identification:
    if product is None:
        return _by_names(count, kind, names) or _by_count(path, count, kind, names)
    if not product.sensors:
        return _unknown(count, kind, names, f"{product.title} {product.source}, which has no built-in sensor")
    return _by_product(path, count, kind, names, product)


def _band_names(path: str, count: int, descriptions: Sequence[str | None]) -> _Names:
    described = tuple((text or "").strip() for text in descriptions)
    meaningful = [text for text in described if text and not re.fullmatch(r"(?i)(band|layer)?[ _]?\d+", text)]
    if len(described) == count and len(meaningful) == count:
        return _Names(described, "by their descriptions")
    from_path = bands_in_name(path)
    if len(from_path) == count:
        return _Names(from_path, "by the file name")
    return _Names((), "")


def _by_product(path: str, count: int, kind: str, names: _Names, product: Product) -> Identification:
    for sensor in map(get_sensor, product.sensors):
        if names.given:
            bands, how, certain = _select(sensor, names.given), names.source, product.certain
        else:
            bands, how = sensor if len(sensor) == count else None, "in the product's order"
            if bands is not None and count == 13 and is_eurosat(path):
                bands, how = sensor.select(_EUROSAT_ORDER), "in EuroSAT's order, B8A last"
            # Aerial and PlanetScope files have all bands in a fixed order; a stack of another satellite may have any.
            certain = product.certain and sensor.name in _IN_FILE_ORDER
        if bands is not None:
            level = "" if product.certain else f", taken for {sensor.name}"
            listed = f"{'band' if count == 1 else 'bands'} {' '.join(bands.band_names)}"
            return Identification(bands, certain, f"{product.title} {product.source}{level}; {listed} {how}")
    if names.given:
        not_of_it = f"{product.title} {product.source}, but {' '.join(names.given)} is not of the bands known of it"
        shared = None if product.certain else _by_names(count, kind, names)
        return shared or _unknown(count, kind, names, not_of_it)
    if kind == "uint8" and count in (3, 4):
        return _by_count(path, count, kind, names)
    which = "band it is" if count == 1 else f"bands its {count} are"
    return _unknown(count, kind, names, f"{product.title} {product.source}, but the file does not say which {which}")


def _by_names(count: int, kind: str, names: _Names) -> Identification | None:
    """Judge by the band names alone, which several sensors share; None where they tell nothing."""
    if not names.given:
        return None
    aerial = _select(get_sensor("rgbn"), names.given)
    if aerial is not None and kind == "uint8":
        return Identification(aerial, True, f"8-bit imagery; bands {' '.join(aerial.band_names)} {names.source}")
    if aerial is not None:
        plain = _rescaled(aerial, _quantification(kind))
        return Identification(
            plain, False, f"bands {' '.join(plain.band_names)} {names.source}, of nominal wavelengths"
        )
    text = " ".join(names.given)
    for pattern, sensor_names in (
        (r"(?i)\b(vv|vh)\b", ("sentinel-1-grd",)),
        (r"(?i)\bSR_B\d\b", ("landsat-8-l2",)),
        (r"(?i)\b(B0\d|B0?8A|red ?edge)", ("sentinel-2-l2a", "sentinel-2-l1c")),
        (r"(?i)\bB12\b", ("sentinel-2-l2a", "sentinel-2-l1c")),
    ):
        for sensor_name in sensor_names if re.search(pattern, text) else ():
            sensor = _select(get_sensor(sensor_name), names.given)
            if sensor is not None:
                listed = " ".join(sensor.band_names)
                return Identification(sensor, False, f"taken for {sensor_name}; {listed} {names.source}")
    return None


def _by_count(path: str, count: int, kind: str, names: _Names) -> Identification:
    """Judge by the number of bands and their type: never certain."""
    if not names.given and kind == "uint8" and count in (3, 4):
        sensor = get_sensor("rgb" if count == 3 else "rgbn")
        if count == 3 and is_eurosat(path):
            sensor = get_sensor("eurosat-rgb")
        listed = "red, green, blue" if count == 3 else "red, green, blue, near infrared"
        return Identification(sensor, False, f"{count} bands of 8 bits: taken as {listed}; choose with --sensor")
    if not names.given and kind in ("uint16", "int16") and count in (12, 13):
        sensor = get_sensor("sentinel-2-l1c" if count == 13 else "sentinel-2-l2a")
        order = "the product's order, B8A ninth"
        if count == 13 and is_eurosat(path):
            sensor, order = sensor.select(_EUROSAT_ORDER), "EuroSAT's order, B8A last"
        return Identification(
            sensor, False, f"{count} bands of 16 bits: taken for {sensor.name} in {order}; choose with --sensor"
        )
    return _unknown(count, kind, names, "not recognised")


def _unknown(count: int, kind: str, names: _Names, why: str) -> Identification:
    quantification = _quantification(kind)
    sensor = generic_sensor(count, quantification)
    if names.source == "by their descriptions":
        # Descriptions that are not distinct cannot serve as names; the numbers still do.
        with suppress(ConfigurationError):
            sensor = generic_sensor(count, quantification, names=names.given)
    return Identification(sensor, False, why)


def _select(sensor: Sensor, names: Sequence[str]) -> Sensor | None:
    """Return the bands that `names` name, or None unless each names another one."""
    chosen = []
    for name in names:
        head = re.split(r"[,;:(\[]| - ", name)[0].strip()
        for candidate in (name, head, *bands_in_name(name)[:1]):
            # Digits would be taken for a position, which a description is not.
            if candidate and not candidate.isdigit() and _has(sensor, candidate):
                chosen.append(sensor.band_names[sensor.index(candidate)])
                break
        else:
            return None
    return sensor.select(chosen) if len(set(chosen)) == len(chosen) else None


def _has(sensor: Sensor, name: str) -> bool:
    try:
        sensor.index(name)
    except ConfigurationError:
        return False
    return True


def _with_scaling_of_file(
    found: Identification,
    kind: str,
    product: Product | None,
    scales: Sequence[float],
    offsets: Sequence[float],
    own: bool = False,
) -> Identification:
    """Settle how the stored numbers become reflectance, and complete the reason with it."""
    sensor, certain, reason = found.sensor, found.certain, found.reason
    generic = sensor.name == "generic"
    pairs = [(float(scale), float(offset)) for scale, offset in zip(scales, offsets, strict=True)]
    if sensor.name == "modis-sr":
        # MOD09GA states the divisor, 10000, as its scale factor.
        pairs = [(1 / scale, offset) if scale == 10000 else (scale, offset) for scale, offset in pairs]
    stated = [pair != (1.0, 0.0) for pair in pairs]
    if any(stated) and all(math.isfinite(s) and s > 0 and math.isfinite(o) for s, o in pairs):
        sensor = sensor.with_scaling(
            [
                tidy(1 / s) if stored else q
                for (s, _), stored, q in zip(pairs, stated, sensor.quantification, strict=True)
            ],
            [tidy(o / s) if stored else p for (s, o), stored, p in zip(pairs, stated, sensor.offset, strict=True)],
        )
        sensor = replace(sensor, transfer=None)  # what a file scales is no picture for the eye
        note = f"{_formula(sensor)} by the file's scale and offset"
    elif own or generic or sensor.domain == "sar":
        note = _formula(sensor)
    elif kind.startswith("float"):
        sensor, certain, note = _rescaled(sensor, 1.0), False, "floating point: taken for reflectance as it is"
    elif kind == "uint8" and sensor.ends_at_255:
        note = _formula(sensor)
    elif kind == "uint8":
        sensor, certain = _rescaled(sensor, _quantification(kind)), False
        note = f"8 bits are not the product's own: {_formula(sensor)}"
    elif product is not None and product.baseline is not None and sensor.name.startswith("sentinel-2"):
        sensor = sensor.for_baseline(product.baseline)
        note = f"{_formula(sensor)} by processing baseline {product.baseline}"
    elif sensor.name.startswith("sentinel-2"):
        note = f"{_formula(sensor)}, no processing baseline being stated"
    else:
        note = _formula(sensor)
    if any(stated) and "scale and offset" not in note:
        note += f"; the file's scale {scales[0]:g} and offset {offsets[0]:g} make no sense and are left out"
    if generic and not own:
        bands = "1 optical band" if len(sensor) == 1 else f"{len(sensor)} optical bands"
        return Identification(
            sensor, False, f"{reason}: treated as {bands} of unknown wavelength, {note}; choose with --sensor"
        )
    return Identification(sensor, certain, f"{reason.removesuffix(_CHOOSE)}; {note}{'' if certain else _CHOOSE}")


def _rescaled(sensor: Sensor, quantification: float) -> Sensor:
    """Return the sensor for numbers that are no longer the product's: its nodata and saturation went with them."""
    bands = tuple(
        replace(band, quantification=quantification, offset=0.0, nodata=None, saturation=None) for band in sensor.bands
    )
    return replace(sensor, bands=bands, transfer=None)


def _quantification(kind: str) -> float:
    return _QUANTIFICATION.get(kind, _INTEGER_QUANTIFICATION if "int" in kind else 1.0)


def _formula(sensor: Sensor) -> str:
    scalings = set(zip(sensor.quantification, sensor.offset, strict=True))
    quantity = "backscatter" if sensor.domain == "sar" else "reflectance"
    if len(scalings) > 1:
        return f"{quantity} scaled band by band"
    quantification, offset = scalings.pop()
    dn = "DN" if offset == 0 else f"(DN {'+' if offset > 0 else '-'} {abs(offset):g})"
    if sensor.domain == "sar":
        return (
            "backscatter as stored"
            if (quantification, offset) == (1, 0)
            else f"backscatter = {dn} / {quantification:g}"
        )
    if sensor.transfer is not None:
        quantity = "display value"
    return f"{quantity} = {dn}" if quantification == 1 else f"{quantity} = {dn} / {quantification:g}"


def tidy(value: float) -> float:
    """Undo the rounding of a decimal scale: 0.1 / 0.0001 is meant to be 1000."""
    nearest = float(round(value))
    return nearest if math.isclose(value, nearest, rel_tol=1e-9) else value
