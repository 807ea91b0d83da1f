"""What is known of a sensor: bands, wavelengths, noise and scaling, as immutable values.

`sensor` holds the values and what follows from them, `schema` reads and checks a YAML definition, `lookup` finds a
sensor by name, `plausible` doubts numbers that cannot be, `transfer` estimates how a picture made for the eye shows
reflectance; the built-in definitions lie in `definitions/`, one file each. Nothing here touches a user's pixels but
that estimate: neither torch nor rasterio is imported.
"""

from geoaug.sensors.lookup import available_sensors, get_sensor
from geoaug.sensors.plausible import doubt_of_backscatter, doubt_of_numbers
from geoaug.sensors.sensor import Band, Sensor, colour_band, false_colour_bands, generic_sensor, rgb_bands
from geoaug.sensors.transfer import estimate_transfer, write_sensor

__all__ = [
    "Band",
    "Sensor",
    "available_sensors",
    "colour_band",
    "doubt_of_backscatter",
    "doubt_of_numbers",
    "estimate_transfer",
    "false_colour_bands",
    "generic_sensor",
    "get_sensor",
    "rgb_bands",
    "write_sensor",
]
