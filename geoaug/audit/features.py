"""Features of tiles with their names: what two-sample tests are given, and what a verdict names.

A feature belongs to a family ("noise") and to a band or a pair of bands. What is measured is in `artefacts` and
`appearance`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

__all__ = ["FeatureGroup", "FeatureName", "Features", "joined", "masked_mean"]


@dataclass(frozen=True, slots=True)
class FeatureName:
    """What a column of features is.

    Attributes:
        family: what it is about, in a word or two.
        measure: within the family.
        bands: names of the bands that it is measured in.
    """

    family: str
    measure: str
    bands: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Features:
    """Measured of tiles: a row a tile, a column a feature."""

    names: tuple[FeatureName, ...]
    values: Float[np.ndarray, "n f"]

    def take(self, rows: np.ndarray) -> "Features":
        """Those of some tiles."""
        return Features(self.names, self.values[rows])


# A family, a measure, the bands of each column, and the columns.
FeatureGroup = tuple[str, str, Sequence[tuple[str, ...]], np.ndarray]


def joined(parts: Sequence[FeatureGroup]) -> Features:
    """Features from groups of columns.

    Args:
        parts: of n tiles. Where a column is not finite for a tile (a band without contrast), it is 0.
    """
    names = [FeatureName(family, measure, band) for family, measure, bands, _ in parts for band in bands]
    values = np.concatenate([columns for *_, columns in parts], axis=1).astype(np.float64)
    return Features(tuple(names), np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0))


def masked_mean(values: Float[np.ndarray, "n c h w"], valid: Bool[np.ndarray, "n h w"]) -> Float[np.ndarray, "n c"]:
    """The mean over valid pixels of each tile and band; NaN where there are none."""
    weight = valid.astype(values.dtype)
    total = np.einsum("nchw,nhw->nc", values, weight)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(total / weight.sum((1, 2))[:, None])
