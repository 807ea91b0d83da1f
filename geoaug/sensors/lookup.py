"""Sensors by name: the built-in ones in `definitions/`, and a user's own by the path of a YAML file."""

from functools import cache
from pathlib import Path

from geoaug.errors import ConfigurationError, did_you_mean
from geoaug.sensors.schema import read_sensor
from geoaug.sensors.sensor import Sensor


def get_sensor(sensor: str | Path | Sensor) -> Sensor:
    """Return a built-in sensor by name, a user's own by the path of its YAML file, or a `Sensor` as it is.

    Raises:
        ConfigurationError: no such sensor or file (the message has the nearest name), or a faulty definition.
    """
    if isinstance(sensor, Sensor):
        return sensor
    name = str(sensor).strip().lower().replace("_", "-").replace(" ", "-")
    if name in available_sensors():
        return _built_in(name)
    path = Path(sensor)
    if path.suffix.lower() in (".yaml", ".yml") or path.is_file():
        return read_sensor(path)
    known = available_sensors()
    hint = did_you_mean(name, {built_in: built_in for built_in in known})
    raise ConfigurationError(
        f"sensor '{sensor}' is not known{hint}; built in are {', '.join(known)}; "
        "a sensor of your own is given as the path of its .yaml file",
        argument="sensor",
    )


@cache
def available_sensors() -> tuple[str, ...]:
    """Names of the built-in sensors, sorted."""
    return tuple(sorted(path.stem for path in _definitions().glob("*.yaml")))


@cache
def _built_in(name: str) -> Sensor:
    return read_sensor(_definitions() / f"{name}.yaml")


def _definitions() -> Path:
    return Path(__file__).with_name("definitions")
