"""Operations on neighbours, weighted by validity: an invalid pixel gives nothing, and takes nothing.

Both are separable. Beyond the tile nothing is known, so its edge is treated like the edge of valid data.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from geoaug.augment.planning.segments import CoarseGrid, Stencil, Taps

_LEAST_WEIGHT = 1e-6


def run(values: Float[Tensor, "r c h w"], valid: Bool[Tensor, "r 1 h w"], segment: Stencil) -> Float[Tensor, "r c h w"]:
    """The filtered image; invalid pixels and rows that the stencil does not apply to stay as they are."""
    weight = valid.to(values.dtype)
    weighted = torch.where(valid, values, 0.0)
    if isinstance(segment.kernel, Taps):
        total, share = _filter(weighted, segment.kernel), _filter(weight, segment.kernel)
    else:
        total, share = _coarsen(weighted, segment.kernel), _coarsen(weight, segment.kernel)
    changed = total / share.clamp_min(_LEAST_WEIGHT)
    return torch.where(valid & segment.applied[:, None, None, None] & (share > _LEAST_WEIGHT), changed, values)


def _filter(image: Float[Tensor, "r c h w"], kernel: Taps) -> Float[Tensor, "r c h w"]:
    weights = kernel.weights[..., None, None, :].to(image.dtype)
    for axis in (-2, -1):
        total, length = image * weights[..., 0], image.shape[axis]
        for distance in range(1, min(weights.shape[-1], length)):
            rest, weight = length - distance, weights[..., distance]
            total.narrow(axis, distance, rest).addcmul_(image.narrow(axis, 0, rest), weight)
            total.narrow(axis, 0, rest).addcmul_(image.narrow(axis, distance, rest), weight)
        image = total
    return image


def _coarsen(image: Float[Tensor, "r n h w"], kernel: CoarseGrid) -> Float[Tensor, "r c h w"]:
    """Along each axis in turn; an image of one band is seen by all of them."""
    down = _cell_means(kernel.factor, kernel.phase[:, 0], image.shape[-2])
    across = _cell_means(kernel.factor, kernel.phase[:, 1], image.shape[-1])
    return down @ image @ across.transpose(-1, -2)


def _cell_means(factor: Float[Tensor, "r c"], phase: Float[Tensor, " r"], length: int) -> Float[Tensor, "r c m n"]:
    """Weights of pixel n in pixel m: means over cells of `factor` pixels, interpolated linearly between cells."""
    width = factor[..., None, None]
    # Where a band is no coarser than the pixels, the cells are the pixels.
    start = torch.where(width > 1, -phase[:, None, None, None] * width, 0.0)
    pixel = torch.arange(length, device=factor.device, dtype=factor.dtype)
    place = (pixel[:, None] + 0.5 - start) / width - 0.5  # in cells, counted from the centre of the first
    cell = place.floor()
    share = place - cell
    first = start + cell * width

    def overlap(edge: Tensor) -> Tensor:
        return (torch.minimum(pixel + 1, edge + width) - torch.maximum(pixel, edge)).clamp_min_(0)

    return torch.lerp(overlap(first), overlap(first + width), share)
