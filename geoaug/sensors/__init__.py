"""What is known of a sensor: bands, wavelengths, noise and scaling, as immutable values.

`sensor` holds the values and what follows from them, `schema` reads and checks a YAML definition, `lookup` finds a
sensor by name; the built-in definitions lie in `definitions/`, one file each. Nothing here touches pixels: neither
torch nor rasterio is imported.
"""

from geoaug.sensors.lookup import available_sensors, get_sensor
from geoaug.sensors.sensor import Band, Sensor, colour_band, false_colour_bands, generic_sensor, rgb_bands

__all__ = [
    "Band",
    "Sensor",
    "available_sensors",
    "colour_band",
    "false_colour_bands",
    "generic_sensor",
    "get_sensor",
    "rgb_bands",
]
