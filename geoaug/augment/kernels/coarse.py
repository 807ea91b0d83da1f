"""Means of coarse cells of a tile: what maps that look at the tile's own pixels are made of."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from geoaug.augment.kernels import warp
from geoaug.augment.physics.display import light_of
from geoaug.augment.planning.matrices import Size

# Cells along each axis at most, and places along each axis of a cell that its mean is taken over.
_CELLS, _PLACES = 12, 3


def coarse_shape(size: Size) -> tuple[int, int]:
    """Cells along both axes of a tile."""
    return min(max(-(-size.height // _PLACES), 1), _CELLS), min(max(-(-size.width // _PLACES), 1), _CELLS)


@dataclass(frozen=True, slots=True)
class Light:
    """How stored numbers become light: display values are `(number + offset) / quantification`, band by band."""

    quantification: Float[Tensor, " c"]
    offset: Float[Tensor, " c"]

    def __call__(self, values: Float[Tensor, "b n h w"]) -> Float[Tensor, "b n h w"]:
        """Light of the bands of several dates, which follow one another."""
        dates = values.shape[1] // len(self.offset) if len(self.offset) > 1 else 1
        offset, scale = (part.repeat(dates)[:, None, None] for part in (self.offset, self.quantification))
        return light_of((values + offset) / scale)


def coarse_means(
    image: Tensor,
    valid: Bool[Tensor, "b 1 h w"] | None,
    matrix: Float[Tensor, "b 3 3"],
    size: Size,
    dates: int = 1,
    light: Light | None = None,
) -> tuple[Float[Tensor, "r c n m"], Float[Tensor, "r 1 n m"]]:
    """Means of the input over cells that cover the output evenly, and how much of each is valid.

    Args:
        image: (b, n, h, w) as stored, n the bands of all dates.
        valid: which pixels hold data; None: all that are finite.
        matrix: input to output pixel centres.
        size: of the output.
        dates: rows of a sample.
        light: by which stored numbers become what is averaged; None: they are averaged as they are.
    """
    down, across = coarse_shape(size)
    x, y = _places(matrix, size, down * _PLACES, across * _PLACES)
    index, known = warp.nearest_index(x, y, image.shape[-2:])
    values = warp.gather(image, index).float()
    if light is not None:
        values = light(values)
    if valid is not None:
        known = known & warp.gather(valid, index)[:, 0]
    known = known[:, None]
    if image.is_floating_point():
        known = known & torch.isfinite(values).all(1, keepdim=True)
    weight = known.float()
    # In cells: the places of each beside one another.
    shape = (len(image), -1, down, _PLACES, across, _PLACES)
    sums = torch.where(known, values.double(), 0.0).view(shape).sum((3, 5))
    share = weight.view(shape).mean((3, 5))
    means = sums / (share * _PLACES**2).clamp_min(1)
    rows = len(image) * dates
    return means.float().reshape(rows, -1, down, across), share.repeat_interleave(dates, 0)


def _places(
    matrix: Float[Tensor, "b 3 3"], size: Size, down: int, across: int
) -> tuple[Float[Tensor, "b i j"], Float[Tensor, "b i j"]]:
    """Input coordinates of so many places, spread evenly over the output."""
    a, b, c, d, e, f = (term[:, None, None] for term in warp.sampling_terms(matrix, size).unbind(1))
    dx = (torch.arange(across, device=matrix.device) + 0.5) * (size.width / across) - size.width / 2
    dy = ((torch.arange(down, device=matrix.device) + 0.5) * (size.height / down) - size.height / 2)[:, None]
    return a * dx + (b * dy + c), d * dx + (e * dy + f)
