"""Features of how tiles look: brightness, contrast, colour and slope, which light, air and place do change.

That they shift is what augmentation is for; how far is to be read beside another real acquisition of the same ground.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Float

from geoaug.audit.features import FeatureGroup, Features, joined, masked_mean
from geoaug.sensors import Sensor, colour_band

__all__ = ["appearance_features", "index_pairs", "normalised_differences"]

_PERCENTILES = (5.0, 25.0, 50.0, 75.0, 95.0)
# Wavelengths in nanometres between which a short-wave infrared band of the normalised burn ratio lies.
_SWIR_NM = (2050.0, 2350.0)


def index_pairs(sensor: Sensor) -> Mapping[str, tuple[int, int]]:
    """Normalised differences that the bands allow, with the 0-based bands a, b of (a - b) / (a + b).

    NDVI (Tucker, 1979): near infrared and red; NDWI (McFeeters, 1996): green and near infrared; NBR (Key and Benson,
    2006): near infrared and short-wave infrared of 2.1 to 2.3 micrometres.
    """
    if sensor.domain != "optical":
        return {}
    red, green, infrared = (colour_band(sensor, colour) for colour in ("red", "green", "near infrared"))
    short = [
        number
        for number, band in enumerate(sensor.bands)
        if band.wavelength_nm is not None and _SWIR_NM[0] <= band.wavelength_nm <= _SWIR_NM[1]
    ]
    found: dict[str, tuple[int, int]] = {}
    if infrared is not None and red is not None:
        found["NDVI"] = (infrared, red)
    if infrared is not None and green is not None:
        found["NDWI"] = (green, infrared)
    if infrared is not None and short:
        found["NBR"] = (infrared, short[0])
    return found


def normalised_differences(means: Float[np.ndarray, "n c"], sensor: Sensor) -> Float[np.ndarray, "n k"]:
    """The indices of `index_pairs` of each tile's mean reflectance."""
    columns = []
    for first, second in index_pairs(sensor).values():
        a, b = means[:, first], means[:, second]
        total = a + b
        columns.append(np.where(np.abs(total) > 1e-6, (a - b) / np.where(total == 0, 1.0, total), 0.0))
    return np.stack(columns, axis=1) if columns else np.zeros((len(means), 0))


def appearance_features(
    reflectance: Float[np.ndarray, "n c h w"],
    valid: Bool[np.ndarray, "n h w"],
    quantiles: Float[np.ndarray, "n c q"],
    sensor: Sensor,
) -> Features:
    """Appearance features of tiles in reflectance (or in what the sensor has instead).

    Args:
        reflectance: of the tiles.
        valid: which pixels hold data.
        quantiles: of the valid pixels, at even levels.
        sensor: of the bands.
    """
    bands: Sequence[str] = sensor.band_names
    single: list[tuple[str, ...]] = [(name,) for name in bands]
    mean = masked_mean(reflectance, valid)
    centred = (reflectance - mean[..., None, None]) * valid[:, None]
    std = np.sqrt(masked_mean(centred**2, valid))
    parts: list[FeatureGroup] = [("brightness", "mean", single, mean), ("contrast", "standard deviation", single, std)]
    for share in _PERCENTILES:
        place = round(share / 100 * (quantiles.shape[-1] - 1))
        parts.append(("brightness", f"percentile {share:g}", single, quantiles[..., place]))
    height, width = valid.shape[1:]
    for axis, ramp in (
        ("down", np.linspace(-1, 1, height)[:, None] * np.ones(width)),
        ("right", np.ones(height)[:, None] * np.linspace(-1, 1, width)),
    ):
        parts.append(("slope", axis, single, masked_mean(centred * ramp, valid)))
    if len(bands) > 1:
        pairs: list[tuple[str, ...]] = [(bands[number], bands[number + 1]) for number in range(len(bands) - 1)]
        flat = centred.reshape(*centred.shape[:2], -1)
        flat = flat / np.maximum(np.sqrt((flat**2).sum(-1)), 1e-12)[..., None]
        parts.append(("colour", "difference to the next band", pairs, np.diff(mean, axis=1)))
        parts.append(("colour", "correlation with the next band", pairs, (flat[:, 1:] * flat[:, :-1]).sum(-1)))
    indices = index_pairs(sensor)
    if indices:
        of_bands: list[tuple[str, ...]] = [(bands[a], bands[b]) for a, b in indices.values()]
        parts.append(("colour", "normalised difference", of_bands, normalised_differences(mean, sensor)))
    return joined(parts)
