"""Which bands a network is given, given as a sensor, as names or as a count, and which of two sensors' bands agree."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

from geoaug.errors import ConfigurationError
from geoaug.sensors import Band, Sensor, colour_band, generic_sensor, get_sensor

__all__ = ["Bands", "check_same_bands", "matching_bands", "sensor_of"]

Bands = Sensor | str | Sequence[str] | int

# Two bands are the same where their centres are within this, or half the wider one's width (nm).
_SAME_NM = 15.0
# Bands of one name this far apart are different ones; another sensor's red is nearer (nm).
_OTHER_NM = 40.0
_COLOURS: tuple[Literal["red", "green", "blue"], ...] = ("red", "green", "blue")
# A panchromatic band is wider than any colour, and none of them.
_PANCHROMATIC_NM = 150.0
_INFRARED_NM = 1000.0


def sensor_of(bands: Bands) -> Sensor:
    """The bands as a sensor: of unknown wavelengths where only a count or names are given.

    Args:
        bands: a `Sensor` (`get_sensor("sentinel-2-l2a").select("B04,B03,B02")`), the name of one, names of bands, or
            how many there are.
    """
    if isinstance(bands, Sensor):
        return bands
    if isinstance(bands, bool) or (isinstance(bands, int) and bands < 1):
        raise ConfigurationError(f"bands={bands!r} is a sensor, names of bands, or a count of 1 or more")
    if isinstance(bands, int):
        # Three bands of a network are red, green and blue unless somebody says otherwise.
        return get_sensor("rgb") if bands == 3 else generic_sensor(bands, 1.0)
    if isinstance(bands, str):
        return get_sensor(bands)
    return generic_sensor(len(bands), 1.0, names=list(bands))


def matching_bands(source: Sensor, target: Sensor) -> list[int | None]:
    """For each band of `target`, the 0-based band of `source` that is the same; None where there is none.

    Bands of one sensor agree by name. Of two, they agree by wavelength (B5 is near infrared on Landsat and red edge on
    Sentinel-2), red, green and blue as `geoaug.sensors.colour_band` finds them. Where wavelengths are unknown, names
    decide.
    """
    if source.name == target.name != "generic" or not (_has_wavelengths(source) and _has_wavelengths(target)):
        if source.name == target.name == "generic" and len(source) == len(target):
            return list(range(len(target)))
        return [_by_name(source, band) for band in target.bands]
    found: list[int | None] = [None] * len(target)
    taken = set[int]()
    for colour in _COLOURS:
        ours, theirs = colour_band(target, colour), colour_band(source, colour)
        if ours is not None and theirs is not None:
            found[ours] = theirs
            taken.add(theirs)
    near = sorted(
        (abs(one.wavelength_nm - other.wavelength_nm), i, j)
        for i, one in enumerate(target.bands)
        for j, other in enumerate(source.bands)
        if one.wavelength_nm is not None and other.wavelength_nm is not None and _same(one, other)
    )
    for _, i, j in near:
        if found[i] is None and j not in taken:
            found[i] = j
            taken.add(j)
    return found


def check_same_bands(own: Sensor, theirs: Sensor, where: str) -> None:
    """Say it where bands that were found by the names of the model's are others, or of another scale.

    Pictures (of no level: 8 bits for the eye, numbers without a scale) and reflectance are two scales of things,
    which no normalisation brings together.

    Args:
        own: the bands of the model.
        theirs: as many, of what is to be predicted.
        where: those are, for the message.

    Raises:
        ConfigurationError: another count, a wavelength that is another, or calibrated on one side alone.
    """
    if len(own) != len(theirs):
        raise ConfigurationError(f"{where}: has {len(theirs)} bands, and the model takes {len(own)}")
    if own.domain == theirs.domain == "optical" and (own.level is None) != (theirs.level is None):
        calibrated, plain = (theirs, "the model was trained on") if own.level is None else (own, "these are")
        raise ConfigurationError(
            f"{where}: '{theirs.name}' and the model's '{own.name}' are of different scales: '{calibrated.name}' is "
            f"reflectance, and {plain} numbers that are not scaled to it; name the sensor where the file is not "
            "what it is taken for"
        )
    for one, other in zip(own.bands, theirs.bands, strict=True):
        if one.wavelength_nm is None or other.wavelength_nm is None:
            continue
        if abs(one.wavelength_nm - other.wavelength_nm) > _OTHER_NM:
            raise ConfigurationError(
                f"{where}: band '{other.name}' is at {other.wavelength_nm:.0f} nm ('{theirs.name}'), and the model's "
                f"at {one.wavelength_nm:.0f} nm ('{own.name}'): another band of the same name"
            )


def _has_wavelengths(sensor: Sensor) -> bool:
    return any(band.wavelength_nm is not None for band in sensor.bands)


def _same(one: Band, other: Band) -> bool:
    width, narrow = sorted((one.bandwidth_nm or 0.0, other.bandwidth_nm or 0.0), reverse=True)
    if width >= _PANCHROMATIC_NM and narrow < _PANCHROMATIC_NM and (one.wavelength_nm or 0.0) < _INFRARED_NM:
        return False
    apart = abs((one.wavelength_nm or 0.0) - (other.wavelength_nm or 0.0))
    return apart <= max(_SAME_NM, width / 2)


def _by_name(source: Sensor, band: Band) -> int | None:
    for name in (band.name, *band.aliases):
        if re.fullmatch(r"(band)?\s*\d+", name.strip(), re.IGNORECASE):
            continue  # a number is a place, not a name
        try:
            return source.index(name)
        except ConfigurationError:
            continue
    return None
