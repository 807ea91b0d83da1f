"""Normal noise on pixels that are coarser than those of the tile, interpolated to these, in plain torch.

Every row of `planning.band_grids` has a lattice of its own: its points are numbered the same way whatever their
distance, so that a sample's noise is the same in every batch. A group of eight lines of the lattice takes one row of
Philox counters, `width + 3` of them, each of which serves a column of eight points.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from geoaug.augment.kernels import warp
from geoaug.augment.planning.band_grids import MARGIN, SMOOTH, taps
from geoaug.augment.planning.matrices import Size
from geoaug.rng.noise import standard_normal

# Lines that share counters.
GROUP = 8


def groups_of(length: int) -> int:
    """Groups of lines that no lattice over so many pixels exceeds."""
    return -(-(length + MARGIN) // GROUP)


def lattice_normal(
    key: Int[Tensor, " b"],
    numbers: Float[Tensor, "b n 4"],
    size: Size,
    stream: int,
    first: int = 0,
) -> Float[Tensor, "b n h w"]:
    """Standard normal numbers on the lattice of each channel, interpolated to the pixels of a tile.

    At the points of a lattice their variance is 1. Between them it is what interpolation leaves of it: 1 for the
    nearest, `sum(w^2)` over the weights otherwise. Rows and channels whose numbers are zeros come out as zeros.

    Args:
        key: of the samples.
        numbers: as `BandGrids` has them, for channels `first` and following.
        size: of the tile.
        stream: which noise of the sample.
        first: of the channels, which tells their noise apart.
    """
    batch, channels = numbers.shape[:2]
    stride = size.width + MARGIN
    groups = _groups_needed(numbers, size.height)
    drawn = standard_normal(key, channels, GROUP * groups * stride, stream, first)
    lines = drawn.view(batch, channels, GROUP, groups, stride).transpose(2, 3).flatten(2, 3)
    inverse, start_x, start_y, kernel = numbers.unbind(-1)
    index, weights = taps(size.width, inverse, start_x, kernel)
    wide = torch.zeros(batch, channels, lines.shape[2], size.width, device=numbers.device)
    for tap, weight in enumerate(weights):
        at = (index + tap)[:, :, None].expand(-1, -1, lines.shape[2], -1)
        wide.addcmul_(lines.gather(3, at), weight[:, :, None])
    index, weights = taps(size.height, inverse, start_y, kernel)
    out = torch.zeros(batch, channels, *size, device=numbers.device)
    # Whole lines are copied, which takes a fraction of the time of a gather.
    rows, many = wide.view(-1, size.width), wide.shape[2]
    begins = (torch.arange(batch * channels, device=numbers.device) * many).view(batch, channels, 1)
    for tap, weight in enumerate(weights):
        taken = rows.index_select(0, (index + tap + begins).flatten()).view(out.shape)
        out.addcmul_(taken, weight[..., None])
    return out


def _groups_needed(numbers: Float[Tensor, "b n 4"], height: int) -> int:
    if not warp.looks_at_values(numbers.device):
        return groups_of(height)
    last = (height - 1) * numbers[..., 0] + numbers[..., 2]
    last = torch.where(numbers[..., 3] == SMOOTH, float(height), last)
    return -(-(int(last.max()) + MARGIN) // GROUP)
