"""Whether backscatter can be in the unit that it is taken for, by its range; nothing is changed by it."""

import math

from geoaug.sensors.sensor import Sensor

_MOST_DB = 60.0  # the strongest reflectors in a city reach some 40 dB
_KINDS = {"amplitude": "amplitudes", "power": "powers"}


def doubt_of_backscatter(name: str, quantity: str, least: float, high: float) -> str | None:
    """Why backscatter cannot be in a unit, and in which it can; None where nothing is wrong, or it is no backscatter.

    Neither amplitudes nor powers are negative, and nothing on the ground reaches 60 dB.

    Args:
        name: of the sensor.
        quantity: that its numbers are: "power", "amplitude", "db"; others are never doubted.
        least: of the valid numbers, scaled; NaN where there are none.
        high: that few of them are above, scaled.
    """
    if quantity in _KINDS and least < 0:
        return (
            f"'{name}' takes numbers down to {least:.4g} for {_KINDS[quantity]}, which are never below 0; decibels "
            "are: say --sensor sentinel-1-db, or a sensor with quantity: db"
        )
    if quantity == "db" and high > _MOST_DB:
        return (
            f"'{name}' takes numbers up to {high:.4g} for decibels, which are never so great; amplitudes are: say "
            "--sensor sentinel-1-grd, or a sensor with quantity: amplitude"
        )
    return None


def doubt_of_numbers(sensor: Sensor, least: float, high: float) -> str | None:
    """The same of numbers as a sensor stores them, all bands together."""
    if not math.isfinite(least):
        return None
    scaling = list(zip(sensor.offset, sensor.quantification, strict=True))
    return doubt_of_backscatter(
        sensor.name,
        str(sensor.quantity),
        min((least + offset) / quantification for offset, quantification in scaling),
        max((high + offset) / quantification for offset, quantification in scaling),
    )
