"""Operations on neighbours, weighted by validity: an invalid pixel gives nothing, and takes nothing.

Both are separable. Beyond the tile nothing is known, so its edge is treated like the edge of valid data.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from geoaug.augment.segments import CoarseGrid, Stencil, Taps

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
    reach = weights.shape[-1] - 1
    for axis, pad in ((-2, (0, 0, reach, reach)), (-1, (reach, reach, 0, 0))):
        padded, length = F.pad(image, pad), image.shape[axis]
        image = padded.narrow(axis, reach, length) * weights[..., 0]
        for distance in range(1, reach + 1):
            near, far = padded.narrow(axis, reach - distance, length), padded.narrow(axis, reach + distance, length)
            image = image + (near + far) * weights[..., distance]
    return image


def _coarsen(image: Float[Tensor, "r c h w"], kernel: CoarseGrid) -> Float[Tensor, "r c h w"]:
    """Sums over cells along each axis in turn, taken from running sums, and linear interpolation between the cells."""
    bands = kernel.factor.shape[1]
    image = image if image.shape[1] == bands else image.expand(-1, bands, -1, -1)
    for axis in (-1, -2):
        image = _coarsen_lines(image.transpose(axis, -1), kernel.factor, kernel.phase[:, axis]).transpose(axis, -1)
    return image


def _coarsen_lines(
    image: Float[Tensor, "r c m n"], factor: Float[Tensor, "r c"], phase: Float[Tensor, " r"]
) -> Float[Tensor, "r c m n"]:
    length = image.shape[-1]
    running = F.pad(image.double().cumsum(-1), (1, 0))
    width = factor.double()[..., None]
    # Where a band is no coarser than the pixels, the cells are the pixels.
    start = torch.where(width > 1, -phase.double()[:, None, None] * width, 0.0)
    centre = torch.arange(length, device=image.device, dtype=torch.float64) + 0.5
    place = (centre - start) / width - 0.5  # in cells, counted from the centre of the first
    cell = place.floor()
    share = (place - cell)[..., None, :]

    def sum_below(edge: Tensor) -> Tensor:
        position = (start + edge * width).clamp(0, length)
        whole = position.floor().clamp_max(length - 1)
        index = whole.long()[..., None, :].expand(-1, -1, image.shape[-2], -1)
        low, high = running.gather(-1, index), running.gather(-1, index + 1)
        return low + (high - low) * (position - whole)[..., None, :]

    first, second, third = sum_below(cell), sum_below(cell + 1), sum_below(cell + 2)
    return ((second - first) * (1 - share) + (third - second) * share).to(image.dtype)
