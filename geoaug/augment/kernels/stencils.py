"""Stencils on pixels, in plain torch: how one runs, and the linear filters that geoaug's own operations use.

Linear filters are weighted by validity: an invalid pixel gives nothing, and takes nothing. Beyond the tile nothing is
known, so its edge is treated like the edge of valid data. The compiled executor for the CPU has faster loops for these
filters (`stencil_loops`); any other kernel runs here.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from itertools import groupby

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from geoaug.augment.planning.band_grids import MARGIN, taps
from geoaug.augment.planning.segments import Stencil, StencilKernel

_LEAST_WEIGHT = 1e-6


def run(values: Float[Tensor, "r c h w"], valid: Bool[Tensor, "r 1 h w"], segment: Stencil) -> Float[Tensor, "r c h w"]:
    """The changed image; invalid pixels, and rows that the stencil does not apply to, stay as they are."""
    changed = segment.kernel.apply(values, valid)
    return torch.where(valid & segment.applied[:, None, None, None], changed, values)


class LinearFilter(StencilKernel):
    """Weighted means of neighbours: the filtered image over the filtered validity."""

    __slots__ = ()

    @abstractmethod
    def filtered(self, image: Float[Tensor, "r n h w"]) -> Float[Tensor, "r c h w"]:
        """The image after the filter, pixels beyond its edge being 0; an image of one band is seen by all bands."""

    def apply(self, values: Float[Tensor, "r c h w"], valid: Bool[Tensor, "r 1 h w"]) -> Float[Tensor, "r c h w"]:
        total, share = self.filtered(torch.where(valid, values, 0.0)), self.filtered(valid.to(values.dtype))
        return torch.where(share > _LEAST_WEIGHT, total / share.clamp_min(_LEAST_WEIGHT), values)


@dataclass(frozen=True, slots=True)
class Taps(LinearFilter):
    """A symmetric separable filter: `weights[..., n]` for the neighbours at distance n, along both axes; of one
    band for all, or of each."""

    weights: Float[Tensor, "r k n"]

    def filtered(self, image: Float[Tensor, "r n h w"]) -> Float[Tensor, "r c h w"]:
        weights = self.weights[..., None, None, :].to(image.dtype)
        for axis in (-2, -1):
            total, length = image * weights[..., 0], image.shape[axis]
            for distance in range(1, min(weights.shape[-1], length)):
                rest, weight = length - distance, weights[..., distance]
                total.narrow(axis, distance, rest).addcmul_(image.narrow(axis, 0, rest), weight)
                total.narrow(axis, 0, rest).addcmul_(image.narrow(axis, distance, rest), weight)
            image = total
        return image


@dataclass(frozen=True, slots=True)
class BandTaps(LinearFilter):
    """As `Taps`, with weights of each band's own, and how far those of each band may reach."""

    weights: Float[Tensor, "r c n"]
    reaches: tuple[int, ...]

    def apply(self, values: Float[Tensor, "r c h w"], valid: Bool[Tensor, "r 1 h w"]) -> Float[Tensor, "r c h w"]:
        changed = torch.empty_like(values)
        start = 0
        for reach, alike in groupby(self.reaches):
            bands = slice(start, start := start + len(list(alike)))
            changed[:, bands] = Taps(self.weights[:, bands, : reach + 1]).apply(values[:, bands], valid)
        return changed

    def filtered(self, image: Float[Tensor, "r c h w"]) -> Float[Tensor, "r c h w"]:
        return Taps(self.weights).filtered(image)


@dataclass(frozen=True, slots=True)
class CoarseGrid(LinearFilter):
    """Means over cells of `factor` pixels on a grid that starts at `phase` of a cell, interpolated linearly back."""

    factor: Float[Tensor, "r c"]
    phase: Float[Tensor, "r 2"]

    def filtered(self, image: Float[Tensor, "r n h w"]) -> Float[Tensor, "r c h w"]:
        down = _cell_means(self.factor, self.phase[:, 0], image.shape[-2])
        across = _cell_means(self.factor, self.phase[:, 1], image.shape[-1])
        return down @ image @ across.transpose(-1, -2)


@dataclass(frozen=True, slots=True)
class CoarseSteps(StencilKernel):
    """Rounding to multiples of a step at the pixels of bands that are coarser than the tile.

    The value of such a pixel is that of the tile at its centre, between four pixels; what rounding changes there is
    interpolated to the pixels of the tile as the band was (`planning.band_grids`). Invalid pixels count as 0.
    """

    step: Float[Tensor, "r c"]
    numbers: Float[Tensor, "r c 4"]

    def apply(self, values: Float[Tensor, "r c h w"], valid: Bool[Tensor, "r 1 h w"]) -> Float[Tensor, "r c h w"]:
        inverse, start_x, start_y, kernel = self.numbers.float().unbind(-1)
        height, width = values.shape[-2:]
        axes = ((-1, width, start_x), (-2, height, start_y))
        points = torch.where(valid, values, 0.0)
        for axis, length, start in axes:
            points = _between(points, *_at_points(length, inverse, start), axis)
        step = self.step.to(values.dtype)[..., None, None]
        safe = torch.where(step > 0, step, 1.0)
        # Gradients pass as if nothing had been rounded.
        changed = torch.where(step > 0, (points / safe).round() * safe - points, 0.0).detach()
        for axis, length, start in axes:
            index, weights = taps(length, inverse, start, kernel)
            parts = [_taken(changed, index + tap, axis) * _along(weight, axis) for tap, weight in enumerate(weights)]
            changed = (parts[0] + parts[1]) + (parts[2] + parts[3])
        return values + changed


def _at_points(
    length: int, inverse: Float[Tensor, "r c"], start: Float[Tensor, "r c"]
) -> tuple[Int[Tensor, "r c n"], Float[Tensor, "r c n"]]:
    """The pixel of the tile before each point of a lattice, and how far the point lies beyond it."""
    point = torch.arange(length + MARGIN, device=inverse.device, dtype=torch.float32)
    place = (point - start[..., None]) / torch.where(inverse > 0, inverse, 1.0)[..., None]
    place = place.clamp(0, length - 1)
    before = place.floor()
    return before.long(), place - before


def _between(
    image: Float[Tensor, "r c h w"], before: Int[Tensor, "r c n"], share: Float[Tensor, "r c n"], axis: int
) -> Float[Tensor, "r c i j"]:
    first = _taken(image, before, axis)
    after = _taken(image, (before + 1).clamp_max(image.shape[axis] - 1), axis)
    return first + _along(share, axis) * (after - first)


def _taken(image: Float[Tensor, "r c h w"], index: Int[Tensor, "r c n"], axis: int) -> Float[Tensor, "r c i j"]:
    """Lines of every band along an axis."""
    if axis == -1:
        return image.gather(3, index[:, :, None].expand(-1, -1, image.shape[2], -1))
    return image.gather(2, index[..., None].expand(-1, -1, -1, image.shape[3]))


def _along(numbers: Float[Tensor, "r c n"], axis: int) -> Tensor:
    return numbers[:, :, None] if axis == -1 else numbers[..., None]


def _cell_means(factor: Float[Tensor, "r c"], phase: Float[Tensor, " r"], length: int) -> Float[Tensor, "r c m n"]:
    """Weights of pixel n in pixel m: means over cells of `factor` pixels, interpolated linearly between cells."""
    width = factor[..., None, None]
    # Where a band is no coarser than the pixels, the cells are the pixels.
    start = torch.where(width > 1, -phase[:, None, None, None] * width, 0.0)
    pixel = torch.arange(length, device=factor.device, dtype=factor.dtype)
    position = (pixel[:, None] + 0.5 - start) / width - 0.5  # in cells, counted from the centre of the first
    cell = position.floor()
    share = position - cell
    first = start + cell * width

    def overlap(edge: Tensor) -> Tensor:
        return (torch.minimum(pixel + 1, edge + width) - torch.maximum(pixel, edge)).clamp_min_(0)

    return torch.lerp(overlap(first), overlap(first + width), share)
