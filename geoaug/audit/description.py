"""What is kept of tiles once they have been looked at: features and a few numbers each, and no pixels."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from geoaug.audit.appearance import appearance_features, normalised_differences
from geoaug.audit.artefacts import artefact_features
from geoaug.audit.detail import detail_of
from geoaug.audit.features import Features, masked_mean
from geoaug.sensors import Sensor

__all__ = ["Description", "describe", "inner_window"]

# Quantiles of the pixels of a band, over which Wasserstein distances are summed.
_LEVELS = (np.arange(33) + 0.5) / 33
# Reflectance beyond which no ground nor cloud is: fresh snow and glint stay below.
_LARGEST_REFLECTANCE = 1.6


@dataclass(frozen=True, slots=True, eq=False)
class Description:
    """Of n tiles with c bands, a row a tile.

    Attributes:
        artefacts: features that light and air cannot change.
        appearance: the others.
        mean: of the valid pixels, in reflectance.
        std: likewise.
        quantiles: of the valid pixels at 33 even levels, in reflectance.
        noise: standard deviation of the residuals, in reflectance.
        high_frequencies_db: power above a quarter of a cycle per pixel over that of middle frequencies, in decibels.
        indices: normalised differences, as `appearance.index_pairs` orders them.
        clipped: share of valid values at an end of what the type or the sensor can hold.
        unphysical: share of valid values below 0 or above 1.6 in reflectance; 0 for radar.
    """

    artefacts: Features
    appearance: Features
    mean: Float[np.ndarray, "n c"]
    std: Float[np.ndarray, "n c"]
    quantiles: Float[np.ndarray, "n c q"]
    noise: Float[np.ndarray, "n c"]
    high_frequencies_db: Float[np.ndarray, "n c"]
    indices: Float[np.ndarray, "n k"]
    clipped: Float[np.ndarray, " n"]
    unphysical: Float[np.ndarray, " n"]

    def __len__(self) -> int:
        return len(self.mean)

    def take(self, rows: np.ndarray) -> "Description":
        """That of some tiles."""
        parts: dict[str, Any] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            parts[field.name] = value.take(rows) if isinstance(value, Features) else value[rows]
        return Description(**parts)

    def replaced(self, rows: np.ndarray, other: "Description") -> "Description":
        """With some rows from another description, in the order of `rows`."""
        parts: dict[str, Any] = {}
        for field in fields(self):
            mine, theirs = getattr(self, field.name), getattr(other, field.name)
            if isinstance(mine, Features):
                values = mine.values.copy()
                values[rows] = theirs.values
                parts[field.name] = Features(mine.names, values)
            else:
                parts[field.name] = mine.copy()
                parts[field.name][rows] = theirs
        return Description(**parts)

    @staticmethod
    def joined(parts: Sequence["Description"]) -> "Description":
        """Several, one after the other."""
        whole: dict[str, Any] = {}
        for field in fields(Description):
            values = [getattr(part, field.name) for part in parts]
            if isinstance(values[0], Features):
                whole[field.name] = Features(values[0].names, np.concatenate([one.values for one in values]))
            else:
                whole[field.name] = np.concatenate(values)
        return Description(**whole)


def inner_window(height: int, width: int) -> tuple[slice, slice]:
    """The middle of a tile that a turn by any angle about its centre fills: sides over the root of 2.

    As many pixels are left out on either side, so that flips and quarter turns keep the middle where it is.
    """
    rows, columns = (max(4, side - 2 * int(np.ceil(side * (1 - np.sqrt(0.5)) / 2))) for side in (height, width))
    top, left = (height - rows) // 2, (width - columns) // 2
    return slice(top, top + rows), slice(left, left + columns)


def describe(stored: np.ndarray, valid: Bool[np.ndarray, "n h w"], sensor: Sensor) -> Description:
    """Describe tiles (N, C, H, W) as they are stored, in digital numbers of the sensor, where they are valid."""
    whole_numbers = stored.dtype.kind in "iu"
    x = np.where(valid[:, None], stored, 0).astype(np.float32)
    offset = np.asarray(sensor.offset, np.float32)[:, None, None]
    scale = np.asarray(sensor.quantification, np.float32)[:, None, None]
    reflectance = (x + offset) / scale
    mean = masked_mean(reflectance, valid)
    spread = (reflectance - mean[..., None, None]) * valid[:, None]
    detail = detail_of(x, valid)
    ordered = [np.sort(image[:, mask], axis=1) for image, mask in zip(stored, valid, strict=True)]
    quantiles = (np.stack([_quantiles(values) for values in ordered]) + offset[:, :, 0]) / scale[:, :, 0]
    return Description(
        artefacts=artefact_features(x, valid, sensor.band_names, detail, ordered if whole_numbers else None),
        appearance=appearance_features(reflectance, valid, quantiles, sensor),
        mean=mean,
        std=np.sqrt(masked_mean(spread**2, valid)),
        quantiles=quantiles,
        noise=detail.noise / scale[:, 0, 0],
        high_frequencies_db=detail.high_frequencies_db,
        indices=normalised_differences(mean, sensor),
        clipped=_share(_at_an_end(stored, sensor), valid),
        unphysical=_share(_impossible(reflectance, sensor), valid),
    )


def _quantiles(ordered: np.ndarray) -> np.ndarray:
    """Values at `_LEVELS` of those in order; zeros where there are none."""
    count = ordered.shape[1]
    if not count:
        return np.zeros((len(ordered), len(_LEVELS)))
    return ordered[:, np.minimum((_LEVELS * count).astype(int), count - 1)].astype(np.float64)


def _share(where: np.ndarray, valid: np.ndarray) -> np.ndarray:
    return np.asarray(masked_mean(where.astype(np.float32), valid).mean(1))


def _at_an_end(stored: np.ndarray, sensor: Sensor) -> np.ndarray:
    if stored.dtype.kind not in "iu":
        return np.zeros(stored.shape, bool)
    limits = np.iinfo(stored.dtype)
    ends = [limits.max if band.saturation is None else min(limits.max, band.saturation) for band in sensor.bands]
    return np.asarray((stored == limits.min) | (stored >= np.asarray(ends)[:, None, None]))


def _impossible(reflectance: np.ndarray, sensor: Sensor) -> np.ndarray:
    if sensor.domain != "optical":
        return np.zeros(reflectance.shape, bool)
    return np.asarray((reflectance < 0) | (reflectance > _LARGEST_REFLECTANCE))
