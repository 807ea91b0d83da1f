"""Display images: the reflectance of black and white, estimated from an image, and a definition that says so.

The transfer curve itself is in `sensor` (what it means) and `srgb` (its numbers).
"""

from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geoaug.errors import ConfigurationError
from geoaug.sensors.sensor import Band, Sensor
from geoaug.sensors.srgb import EXPONENT, LIFT, SLOPE, TOE_DISPLAY

if TYPE_CHECKING:
    import numpy.typing as npt

# Even shadows and deep water return about 1 % (Chavez, 1996, Photogrammetric Engineering and Remote Sensing 62).
DARK = 0.01
# Dry soil, concrete and light roofs return 0.3 to 0.5 (Baldridge et al., 2009, Remote Sensing of Environment 113).
BRIGHT = 0.4
PERCENTILES = (0.1, 99.9)
_LEAST_PIXELS = 1000
_LEAST_CONTRAST = 0.05


def estimate_transfer(
    sensor: Sensor,
    image: "npt.NDArray[Any]",
    valid: "npt.NDArray[Any] | None" = None,
    *,
    dark: float | Sequence[float] = DARK,
    bright: float | Sequence[float] = BRIGHT,
    percentiles: tuple[float, float] = PERCENTILES,
) -> Sensor:
    """Estimate what reflectance an image made for the eye shows as black and as white, band by band.

    The darkest of its pixels (`percentiles`) are taken to have the reflectance `dark` and the brightest `bright`; with
    the curve of sRGB between, that is two equations for the two. An image without anything bright (forest, water) wants
    a `bright` of its own; where a file is known to be linear, as Sentinel-2's true colour image is, a sensor without
    a transfer is right, and nothing has to be estimated.

    Args:
        sensor: with the image's bands, of 8 bits; it need not have a transfer.
        image: (c, h, w), as stored.
        valid: (h, w), where pixels hold data; None: everywhere.
        dark: reflectance of the darkest pixels, one number or one for each band.
        bright: of the brightest, likewise.
        percentiles: which pixels these are.

    Returns:
        The sensor with `transfer="srgb"`, and with `black` and `white` for each band.

    Raises:
        ConfigurationError: image and sensor do not fit together, pixels are neither of 8 bits nor fractions, fewer than
            1000 are valid, or a band has no contrast.
    """
    import numpy as np

    if image.ndim != 3 or len(image) != len(sensor):
        raise ConfigurationError(
            f"an image of shape {image.shape} is not (bands, height, width) for the {len(sensor)} bands of "
            f"'{sensor.name}'"
        )
    if image.dtype.kind != "f" and image.dtype != np.uint8:
        raise ConfigurationError(
            f"pixels of {image.dtype} are no picture for the eye, which has 8 bits: their sensor has a scale instead"
        )
    every = np.isfinite(image).all(axis=0)
    chosen = image[:, every if valid is None else every & valid.astype(bool)].astype(np.float64)
    if chosen.shape[1] < _LEAST_PIXELS:
        raise ConfigurationError(
            f"{chosen.shape[1]} valid pixels tell little of black and white; {_LEAST_PIXELS} are the least"
        )
    shown = (chosen + np.array(sensor.offset)[:, None]) / np.array(sensor.quantification)[:, None]
    lows, highs = np.percentile(shown, percentiles, axis=1)
    bands = []
    for band, low, high, of_low, of_high in zip(
        sensor.bands, lows, highs, _each(dark, sensor, "dark"), _each(bright, sensor, "bright"), strict=True
    ):
        first, last = _light(float(low)), _light(float(high))
        if high - low < _LEAST_CONTRAST or of_high <= of_low:
            raise ConfigurationError(
                f"band '{band.name}' goes from display values of {low:.3g} to {high:.3g}, reflectance {of_low:g} to "
                f"{of_high:g}: too little to tell black and white by"
            )
        span = (of_high - of_low) / (last - first)
        black = of_low - first * span
        bands.append(replace(band, black=round(black, 4), white=round(black + span, 4)))
    return replace(sensor, bands=tuple(bands), transfer="srgb")


def write_sensor(sensor: Sensor, path: str | Path) -> None:
    """Write a sensor as a YAML definition, which `get_sensor` reads by its path."""
    import yaml

    content: dict[str, Any] = {"name": sensor.name}
    for field in fields(sensor):
        value = getattr(sensor, field.name)
        if field.name not in ("name", "bands") and value not in (None, "", field.default):
            content[field.name] = value
    content["bands"] = [_entry(band) for band in sensor.bands]
    Path(path).write_text(yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=120), encoding="utf-8")


def _entry(band: Band) -> dict[str, Any]:
    values = {field.name: getattr(band, field.name) for field in fields(band) if field.name == "name"}
    for field in fields(band):
        value = getattr(band, field.name)
        if value != field.default:
            values[field.name] = list(value) if isinstance(value, tuple) else value
    return values


def _each(value: float | Sequence[float], sensor: Sensor, name: str) -> Sequence[float]:
    numbers = [float(value)] * len(sensor) if isinstance(value, int | float) else [float(number) for number in value]
    if len(numbers) != len(sensor) or not all(0 <= number <= 1 for number in numbers):
        raise ConfigurationError(
            f"{name}={value} is a reflectance of 0 to 1, one number or one for each of {len(sensor)} bands",
            argument=name,
        )
    return numbers


def _light(display: float) -> float:
    """Light of a display value by the curve of sRGB (IEC 61966-2-1), as `geoaug.augment.physics.display.light_of`."""
    return float(display / SLOPE if display <= TOE_DISPLAY else ((display + LIFT) / (1 + LIFT)) ** EXPONENT)
