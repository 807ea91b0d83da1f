"""Which bands of a file are image, which of a sensor's bands they are, and which are wanted.

The judgement of a file that nothing describes is in `geoaug.data.raster.identify`; reading pixels is in
`geoaug.data.raster.reading`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from rasterio.enums import ColorInterp
from rasterio.io import DatasetReader

from geoaug.data.raster.identify import (
    Identification,
    bands_named,
    identify_sensor,
    names_of_bands,
    with_scaling_of_file,
)
from geoaug.errors import ConfigurationError
from geoaug.sensors import Band, Sensor


def band_list(bands: str | Sequence[str | int] | None) -> list[str | int] | None:
    if bands is None:
        return None
    entries = bands.split(",") if isinstance(bands, str) else list(bands)
    wanted = [entry.strip() if isinstance(entry, str) else int(entry) for entry in entries]
    wanted = [entry for entry in wanted if entry != ""]
    if not wanted:
        raise ConfigurationError(
            "no bands are asked for: name at least one, or leave bands out for all of them", argument="bands"
        )
    return wanted


def image_and_alpha(
    dataset: DatasetReader, sensor: Sensor | None, wanted: list[str | int] | None
) -> tuple[list[int], int | None]:
    """The 1-based indexes of the bands that are image, and that of the alpha band, None where there is none."""
    indexes = list(dataset.indexes)
    if sensor is not None and len(sensor) == dataset.count:
        return indexes, None
    asked = {int(entry) for entry in wanted or () if str(entry).isdigit()}
    alpha = [
        index
        for index, colour, description in zip(indexes, dataset.colorinterp, dataset.descriptions, strict=True)
        if colour == ColorInterp.alpha and (description or "alpha").lower() == "alpha" and index not in asked
    ]
    if not alpha or len(alpha) == len(indexes):
        return indexes, None
    return [index for index in indexes if index not in alpha], alpha[0]


def image_indexes(dataset: DatasetReader, sensor: Sensor | None, wanted: list[str | int] | None) -> list[int]:
    """The 1-based indexes of the bands that are image, not alpha."""
    return image_and_alpha(dataset, sensor, wanted)[0]


def identify_bands(
    dataset: DatasetReader,
    path: str,
    indexes: list[int],
    descriptions: tuple[str | None, ...],
    given: Sensor | None,
    wanted: list[str | int] | None,
) -> Identification:
    """The sensor of all image bands of the file, in its order, scaled as the file is."""
    dtype, tags = dataset.dtypes[indexes[0] - 1], dataset.tags()
    scales = tuple(dataset.scales[index - 1] for index in indexes)
    offsets = tuple(dataset.offsets[index - 1] for index in indexes)
    found = identify_sensor(path, len(indexes), descriptions, dtype, tags, scales, offsets)
    if given is None:
        return found
    bands, reason = _bands_as_given(path, len(indexes), descriptions, given, wanted, found)
    return with_scaling_of_file(given, bands, reason, path, dtype, tags, scales, offsets)


def _bands_as_given(
    path: str,
    count: int,
    descriptions: tuple[str | None, ...],
    given: Sensor,
    wanted: list[str | int] | None,
    found: Identification,
) -> tuple[Sensor, str]:
    """The bands of the file as bands of the given sensor, and why they are these."""
    as_in = f"as in the sensor '{given.name}'"
    if (described := _bands_named(given, descriptions)) is not None:
        return described, f"band descriptions, {as_in}"
    if len(given) == count:
        return given, f"the sensor '{given.name}' as given"
    names, source = names_of_bands(path, count, descriptions)
    if (named := bands_named(given, names)) is not None:
        return named, f"bands {' '.join(named.band_names)} {source}, {as_in}"
    if found.certain and (in_given := _bands_named(given, found.sensor.band_names)) is not None:
        return in_given, f"{found.reason.rpartition('; ')[0]}, {as_in}"
    matches = [bands_named(given, [name]) for name in names]
    positions = {position: match.bands[0] for position, match in enumerate(matches) if match is not None}
    # Descriptions that name no band of the sensor ("elevation", "Band 1") leave it to the person to say which is which.
    asked = _bands_named(given, wanted or ())
    if asked is not None and len(asked) == count and not positions:
        return asked, "the bands as given, in the order of the file"
    if positions and len({band.name for band in positions.values()}) == len(positions):
        return _some_bands(path, given, names, positions, wanted), f"the bands asked for {source}, {as_in}"
    numbers = [int(entry) for entry in wanted or () if str(entry).isdigit()]
    if len(numbers) == len(wanted or ()) == len(given):
        if len(set(numbers)) == len(numbers) and all(1 <= number <= count for number in numbers):
            positions = {number - 1: band for number, band in zip(numbers, given.bands, strict=True)}
            listed = " ".join(map(str, numbers))
            return _with_others(given, count, positions), f"bands {listed} are {' '.join(given.band_names)} as given"
        raise ConfigurationError(
            f"{path}: has bands 1 to {count}; choose {len(given)} different ones of them", path=path, argument="bands"
        )
    raise ConfigurationError(
        f"{path}: has {_count(count, 'band')} and the sensor '{given.name}' has {len(given)}: describe "
        "the bands in the file by their names in the sensor, name all of them in the file's order, choose as many "
        "by their numbers as the sensor has, or give a sensor of your own with the bands that it has",
        path=path,
        argument="sensor",
    )


def _some_bands(
    path: str, given: Sensor, names: Sequence[str], positions: Mapping[int, Band], wanted: list[str | int] | None
) -> Sensor:
    """The bands of a file of which only those at `positions` are the sensor's: no others may be wanted."""
    bands = _with_others(given, len(names), positions)
    chosen = choose_bands(path, bands, wanted)
    unknown = [names[position] for position in chosen if position not in positions]
    if unknown:
        verb = "is" if len(unknown) == 1 else "are"
        known = ",".join(band.name for band in positions.values())
        raise ConfigurationError(
            f"{path}: {', '.join(unknown)} {verb} not in '{given.name}'; choose among the bands that are "
            f"(bands {known}), or another sensor",
            path=path,
            argument="bands",
        )
    return bands


def _with_others(given: Sensor, count: int, positions: Mapping[int, Band]) -> Sensor:
    """The sensor with its bands at `positions` of a file, and nameless ones elsewhere, which cannot be chosen."""
    first = given.bands[0]
    bands = tuple(
        positions.get(position)
        or Band(
            f"file band {position + 1}", quantification=first.quantification, offset=first.offset, nodata=first.nodata
        )
        for position in range(count)
    )
    return replace(given, bands=bands)


def _bands_named(sensor: Sensor, names: Sequence[str | int | None]) -> Sensor | None:
    """The sensor with the bands that `names` name, or None unless each names another one."""
    if not names or not all(isinstance(name, str) and name for name in names):
        return None
    try:
        selected = sensor.select([name for name in names if name is not None])
    except ConfigurationError:
        return None
    return selected if len(set(selected.band_names)) == len(names) else None


def choose_bands(path: str, sensor: Sensor, wanted: list[str | int] | None) -> list[int]:
    """The positions (0-based, among the image bands) of the bands that are wanted."""
    if wanted is None:
        return list(range(len(sensor)))
    try:
        return [sensor.index(name) for name in sensor.select(wanted).band_names]
    except ConfigurationError as error:
        raise ConfigurationError(f"{path}: {error}", path=path, argument="bands") from error


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")
