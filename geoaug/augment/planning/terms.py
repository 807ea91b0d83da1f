"""Radiometric terms: what a chain of point-wise operations does to a pixel, in four numbers a band.

A radiometric operation is `y = gain*x + offset + sqrt(floor + slope*x)*n` with n standard normal: illumination, haze,
detector noise, a lost band. Such maps are closed under composition in mean and variance, so a chain of any length is
one set of terms, applied in one pass.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from geoaug.augment.planning.tree import PlanPart


@dataclass(frozen=True, slots=True)
class Terms(PlanPart):
    """Coefficients per sample and band, float64, for x in reflectance (or linear backscatter).

    Attributes:
        gain: factor on x.
        offset: added, in units of x.
        floor: variance of the noise at x = 0, units of x squared; None where an operation adds no noise.
        slope: growth of that variance per unit of x; None likewise.
    """

    gain: Float[Tensor, "b c"]
    offset: Float[Tensor, "b c"]
    floor: Float[Tensor, "b c"] | None = None
    slope: Float[Tensor, "b c"] | None = None

    @staticmethod
    def identity(batch: int, bands: int, device: torch.device) -> Terms:
        """Terms that change nothing."""
        one = torch.ones(batch, bands, dtype=torch.float64, device=device)
        return Terms(one, torch.zeros_like(one))

    @staticmethod
    def nothing_to(like: Float[Tensor, "b c"]) -> Terms:
        """Terms that change nothing, for as many rows and bands."""
        one = torch.ones_like(like, dtype=torch.float64)
        return Terms(one, torch.zeros_like(one))

    def variance(self) -> tuple[Float[Tensor, "b c"], Float[Tensor, "b c"]]:
        """Floor and slope, zeros where there is no noise."""
        if self.floor is not None and self.slope is not None:
            return self.floor, self.slope
        zero = torch.zeros_like(self.gain)
        return zero if self.floor is None else self.floor, zero if self.slope is None else self.slope

    @property
    def noisy(self) -> bool:
        """Whether any operation in the chain can add noise (known without looking at the numbers)."""
        return self.floor is not None or self.slope is not None

    def then(self, after: Terms) -> Terms:
        """The terms of this map followed by another: exact in mean, and in variance about that mean."""
        gain = after.gain * self.gain
        offset = after.gain * self.offset + after.offset
        if not (self.noisy or after.noisy):
            return Terms(gain, offset)
        square = after.gain.square()
        if not after.noisy:
            floor, slope = self.variance()
            return Terms(gain, offset, square * floor, square * slope)
        floor_after, slope_after = after.variance()
        if self.noisy:
            floor, slope = self.variance()
            floor_after, slope = square * floor + floor_after, square * slope + slope_after * self.gain
        else:
            slope = slope_after * self.gain
        return Terms(gain, offset, floor_after + slope_after * self.offset, slope)

    def where(self, applied: Bool[Tensor, " b"]) -> Terms:
        """These terms for the samples where `applied` is true, the identity for the others."""
        keep = applied[:, None]
        floor, slope = self.variance() if self.noisy else (None, None)
        return Terms(
            torch.where(keep, self.gain, 1.0),
            torch.where(keep, self.offset, 0.0),
            None if floor is None else torch.where(keep, floor, 0.0),
            None if slope is None else torch.where(keep, slope, 0.0),
        )

    def regrouped(self, dates: int) -> Terms:
        """Rows of a time series joined sample by sample: its dates become further bands."""

        def joined(term: Tensor) -> Tensor:
            return term.reshape(term.shape[0] // dates, term.shape[1] * dates)

        return Terms(
            joined(self.gain),
            joined(self.offset),
            None if self.floor is None else joined(self.floor),
            None if self.slope is None else joined(self.slope),
        )
