"""How the products of satellite missions are named: what a path and a file's tags say of the product.

Only names are read here, nothing is opened; what follows for the sensor is judged in `geoaug.data.scenes.identify`.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

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
    if number not in (8, 9):
        return Product(f"Landsat {number}")
    title = f"Landsat {number}" if level is None else f"Landsat {number} level {level[1]}"
    return Product(title, _at_levels(f"landsat-{number}", level), certain=level is not None)


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
        family = f"landsat-{craft[1]}"
        sensors = _at_levels(family, f"l{level_tag[1]}" if level_tag else None) if craft[1] in "89" else ()
        return Product(f"Landsat {craft[1]}", sensors, "by its tags", certain=level_tag is not None)
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
