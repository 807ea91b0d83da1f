"""What `Compose` normalises by: numbers as they are given, or those of a file of `geoaug stats`, found by name."""

from collections.abc import Sequence
from pathlib import Path

from geoaug.augment.scale import Normalize
from geoaug.errors import ConfigurationError
from geoaug.sensors import Sensor
from geoaug.statistics import Statistics, Units

NormalizeBy = tuple[Sequence[float], Sequence[float]] | Statistics | str | Path


def normalization(source: NormalizeBy | None, sensor: Sensor | None, units: Units) -> Normalize | None:
    """(mean, std) of each band in the units of the output.

    Args:
        source: those themselves, or statistics, or the file that holds them.
        sensor: whose bands are looked for by name in statistics.
        units: of the output.

    Raises:
        ConfigurationError: no such file; a band is missing in it, or scaled otherwise; or a std is not above 0.
    """
    if source is None:
        return None
    if isinstance(source, Statistics | str | Path):
        name = "" if isinstance(source, Statistics) else f" {source}"
        if sensor is None:
            raise ConfigurationError(
                f"statistics{name} are matched with bands by name: give the sensor, such as that of the dataset "
                "(dataset.sensor)"
            )
        try:
            return Statistics.open(source).normalization(sensor, units)
        except ConfigurationError as error:
            raise ConfigurationError(f"normalize{name}: {error}") from error
    if len(source) != 2 or not all(deviation > 0 for deviation in source[1]):
        raise ConfigurationError("normalize is (mean, std) per band, every std above 0, or a file of geoaug stats")
    return source
