"""Which bands of a file are image, which of a sensor's bands they are, and which are wanted.

The judgement of a file that nobody described is in `geoaug.data.identify`; reading pixels is in
`geoaug.data.scene`.
"""

from collections.abc import Sequence

from rasterio.enums import ColorInterp
from rasterio.io import DatasetReader

from geoaug.data.identify import Identification, identify_sensor
from geoaug.errors import ConfigurationError
from geoaug.sensors import Sensor


def band_list(bands: str | Sequence[str | int] | None) -> list[str | int] | None:
    if bands is None:
        return None
    entries = bands.split(",") if isinstance(bands, str) else list(bands)
    wanted = [entry.strip() if isinstance(entry, str) else int(entry) for entry in entries]
    wanted = [entry for entry in wanted if entry != ""]
    if not wanted:
        raise ConfigurationError("no bands are asked for: name at least one, or leave bands out for all of them")
    return wanted


def image_indexes(dataset: DatasetReader, sensor: Sensor | None, wanted: list[str | int] | None) -> list[int]:
    """The 1-based indexes of the bands that are image, not alpha."""
    indexes = list(dataset.indexes)
    if sensor is not None and len(sensor) == dataset.count:
        return indexes
    asked = {int(entry) for entry in wanted or () if str(entry).isdigit()}
    alpha = {
        index
        for index, colour, description in zip(indexes, dataset.colorinterp, dataset.descriptions, strict=True)
        if colour == ColorInterp.alpha and (description or "alpha").lower() == "alpha" and index not in asked
    }
    return [index for index in indexes if index not in alpha] or indexes


def identify_bands(
    dataset: DatasetReader,
    path: str,
    indexes: list[int],
    descriptions: tuple[str | None, ...],
    given: Sensor | None,
    wanted: list[str | int] | None,
) -> Identification:
    """The sensor of all image bands of the file, in its order."""

    def from_file() -> Identification:
        return identify_sensor(
            path,
            len(indexes),
            descriptions,
            dataset.dtypes[indexes[0] - 1],
            dataset.tags(),
            tuple(dataset.scales[index - 1] for index in indexes),
            tuple(dataset.offsets[index - 1] for index in indexes),
        )

    if given is None:
        return from_file()
    described = _bands_named(given, descriptions)
    if described is not None:
        return Identification(described, True, f"band descriptions, as in the sensor '{given.name}'")
    if len(given) == len(indexes):
        return Identification(given, True, f"the sensor '{given.name}' as told")
    found = from_file()
    in_given = _bands_named(given, found.sensor.band_names) if found.certain else None
    if in_given is not None:
        return Identification(in_given, True, f"{found.reason}, as in the sensor '{given.name}'")
    told = _bands_named(given, wanted or ())
    if told is not None and len(told) == len(indexes) and not any(descriptions):
        return Identification(told, True, "the bands as told, in the order of the file")
    raise ConfigurationError(
        f"{path}: has {_count(len(indexes), 'band')} and the sensor '{given.name}' has {len(given)}: describe "
        "the bands in the file by their names in the sensor, name all of them in the file's order, or give a "
        "sensor of your own with the bands that it has"
    )


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
    """The places (0-based, among the image bands) of the bands that are wanted."""
    if wanted is None:
        return list(range(len(sensor)))
    try:
        return [sensor.index(name) for name in sensor.select(wanted).band_names]
    except ConfigurationError as error:
        raise ConfigurationError(f"{path}: {error}") from error


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")
