"""How far augmented tiles are from the untouched ones they were made from, in figures that mean something.

Shifts are in units of the tile-to-tile spread of the data: 1 is as much as one tile differs from another one. Tiles are
compared with their own originals, in the middle of both, and where both are valid.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from affine import Affine
from jaxtyping import Float

from geoaug.audit.description import Description

__all__ = ["Measures", "label_agreement", "measure"]

_TINY = 1e-9


@dataclass(frozen=True, slots=True)
class Measures:
    """Of a group of tiles beside the tiles they were made from.

    Attributes:
        mean_bias: per band, the mean change of a tile's mean, in spreads of the tiles' means.
        mean_change: per band, its root mean square.
        std_change: per band, the root mean square change of a tile's standard deviation, in spreads of these.
        wasserstein: per band, the mean first Wasserstein distance between the pixels of a tile and of its original, in
            spreads of the tiles' means.
        noise_ratio: per band, the median ratio of the residuals' standard deviation to the original's.
        sharpness_db: per band, the median change of the power above a quarter of a cycle per pixel over that of .06 to
            .15, in decibels.
        spectral_angle: median angle between the mean spectra of a tile and its original, in degrees (Kruse et al.,
            1993); None with one band.
        spectral_angle_of_tiles: the same between different tiles.
        indices: by name, the root mean square change of the normalised difference of a tile's mean, in spreads of it.
        invalid: mean share of a tile's pixels that became invalid.
        clipped: mean share of valid values at an end of their range, beyond that of the originals.
        unphysical: mean share of valid values that no reflectance has, beyond that of the originals.
        label_agreement: share of labelled pixels that carry the same label after the way there and back; None without
            labels.
        ignored_labels: share of labelled pixels that lost their label on the way.
    """

    mean_bias: tuple[float, ...]
    mean_change: tuple[float, ...]
    std_change: tuple[float, ...]
    wasserstein: tuple[float, ...]
    noise_ratio: tuple[float, ...]
    sharpness_db: tuple[float, ...]
    spectral_angle: float | None
    spectral_angle_of_tiles: float | None
    indices: dict[str, float]
    invalid: float
    clipped: float
    unphysical: float
    label_agreement: float | None = None
    ignored_labels: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """As plain values, for JSON."""
        return asdict(self)


def measure(
    originals: Description,
    changed: Description,
    *,
    spread_of: Description,
    index_names: Sequence[str],
    invalid: float,
    labels: tuple[float, float] | None = None,
) -> Measures:
    """Measure tiles beside their originals, row by row.

    Args:
        originals: of the untouched tiles, each under the validity of both.
        changed: of the augmented ones.
        spread_of: of the untouched tiles as they are, which tell the spread.
        index_names: of the columns of `indices`.
        invalid: mean share of pixels that became invalid.
        labels: agreement and loss of labels on the way there and back.
    """
    mean_spread, std_spread = _spread(spread_of.mean), _spread(spread_of.std)
    shift = (changed.mean - originals.mean) / mean_spread
    distance = np.abs(changed.quantiles - originals.quantiles).mean(-1) / mean_spread
    ratio = np.log(np.maximum(changed.noise, _TINY)) - np.log(np.maximum(originals.noise, _TINY))
    many = originals.mean.shape[1] > 1
    order = np.roll(np.arange(len(spread_of)), len(spread_of) // 2)
    index_spread = _spread(spread_of.indices)
    index_change = _root_mean_square((changed.indices - originals.indices) / index_spread)
    return Measures(
        mean_bias=_plain(shift.mean(0)),
        mean_change=_plain(_root_mean_square(shift)),
        std_change=_plain(_root_mean_square((changed.std - originals.std) / std_spread)),
        wasserstein=_plain(distance.mean(0)),
        noise_ratio=_plain(np.exp(np.median(ratio, axis=0))),
        sharpness_db=_plain(np.median(changed.high_frequencies_db - originals.high_frequencies_db, axis=0)),
        spectral_angle=float(np.median(_angles(originals.mean, changed.mean))) if many else None,
        spectral_angle_of_tiles=float(np.median(_angles(spread_of.mean, spread_of.mean[order]))) if many else None,
        indices=dict(zip(index_names, _plain(index_change), strict=True)),
        invalid=invalid,
        clipped=float((changed.clipped - originals.clipped).mean()),
        unphysical=float((changed.unphysical - originals.unphysical).mean()),
        label_agreement=None if labels is None else labels[0],
        ignored_labels=None if labels is None else labels[1],
    )


def _spread(values: Float[np.ndarray, "n k"]) -> Float[np.ndarray, " k"]:
    return np.asarray(np.maximum(values.std(axis=0), _TINY))


def _root_mean_square(values: np.ndarray) -> np.ndarray:
    return np.asarray(np.sqrt((values**2).mean(0)))


def _angles(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Angles between rows, in degrees."""
    lengths = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    cosine = (first * second).sum(1) / np.maximum(lengths, _TINY)
    return np.asarray(np.degrees(np.arccos(np.clip(cosine, -1.0, 1.0))))


def _plain(values: np.ndarray) -> tuple[float, ...]:
    return tuple(float(value) for value in values)


def label_agreement(
    labels: np.ndarray,
    transform: Affine,
    changed: np.ndarray,
    changed_transform: Affine,
    ignore_index: int,
) -> tuple[int, int, int]:
    """Compare the labels of a tile with those of its augmented copy at the same places on the ground.

    The way back is by the geotransforms of both tiles, and not by what moved the pixels: a label that went elsewhere
    than the geotransform says is found out.

    Args:
        labels: (H, W) of the tile.
        transform: its geotransform.
        changed: (H, W) of the copy.
        changed_transform: its geotransform.
        ignore_index: label of pixels without one.

    Returns:
        Pixels of the tile that have a label and lie in the copy; of these, those that have one there; of these, those
        that have the same one.
    """
    height, width = labels.shape
    columns, rows = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    x, y = (~changed_transform * transform) * (columns, rows)
    column, row = np.floor(x).astype(int), np.floor(y).astype(int)
    inside = (row >= 0) & (row < changed.shape[0]) & (column >= 0) & (column < changed.shape[1])
    inside &= labels != ignore_index
    there = changed[row[inside], column[inside]]
    kept = there != ignore_index
    return int(inside.sum()), int(kept.sum()), int((there[kept] == labels[inside][kept]).sum())
