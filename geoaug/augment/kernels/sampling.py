"""Sampling the pixels of a block: gathered where the matrix is exact, else interpolated, weighted by validity.

Stored values become power here, where that is more than a factor, so that backscatter is interpolated as power.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Integer
from torch import Tensor

from geoaug.augment.kernels import warp
from geoaug.augment.kernels.two_pass import TwoPasses, resampled
from geoaug.augment.kernels.warp import Place, from_bits, to_bits
from geoaug.augment.planning.cover import Mirrored, reflected_indices
from geoaug.augment.planning.matrices import Size
from geoaug.scratch import scratch

# Samples of a block: a range of the batch, or indices into it.
Rows = slice | Tensor


@dataclass(frozen=True, slots=True)
class Decoding:
    """How stored values become power, where that is more than a factor: `(value + offset) / quantification`, then the
    square ("amplitude") or ten to its tenth ("db")."""

    unit: Literal["amplitude", "db"]
    quantification: Float[Tensor, " c"]
    offset: Float[Tensor, " c"]

    def __call__(self, values: Float[Tensor, "b n h w"]) -> None:
        """Decode in place; the bands of several dates follow one another."""
        dates: int = values.shape[1] // len(self.offset) if len(self.offset) > 1 else 1
        offset, scale = (part.repeat(dates)[:, None, None] for part in (self.offset, self.quantification))
        values.add_(offset).div_(scale)
        if self.unit == "amplitude":
            values.square_()
        else:
            values.mul_(math.log2(10) / 10).exp2_()


@dataclass(frozen=True, slots=True)
class Pixels:
    """What a stage takes and gives.

    Attributes:
        image: (b, n, h, w), n the bands of all dates.
        valid: which pixels hold data; None: all.
        mask: class labels.
        dem: elevation, metres, NaN where unknown.
        cloud: classes of cloud and shadow for each date; only ever an output.
    """

    image: Tensor
    valid: Bool[Tensor, "b 1 h w"] | None
    mask: Integer[Tensor, "b h w"] | None
    dem: Float[Tensor, "b 1 h w"] | None = None
    cloud: Integer[Tensor, "b t h w"] | None = None

    def take(self, rows: Rows) -> "Pixels":
        """Some of the samples; a range is a view of them."""
        return Pixels(
            from_bits(to_bits(self.image)[rows], self.image.dtype),
            None if self.valid is None else self.valid[rows],
            None if self.mask is None else from_bits(to_bits(self.mask)[rows], self.mask.dtype),
            None if self.dem is None else self.dem[rows],
        )


def around(
    block: Pixels, x: Float[Tensor, "1 i j"], y: Float[Tensor, "1 i j"], beyond: int
) -> tuple[Pixels, Float[Tensor, "1 i j"], Float[Tensor, "1 i j"]]:
    """The part of a single sample that is sampled, `beyond` the pixels next to its coordinates, and the coordinates in
    it: a tile brings spare context."""
    height, width = block.image.shape[-2:]
    if x.numel() == 0:
        return block, x, y
    left, right = (min(max(int(edge), 0), width - 1) for edge in (x.min().floor() - beyond, x.max().ceil() + beyond))
    top, bottom = (min(max(int(edge), 0), height - 1) for edge in (y.min().floor() - beyond, y.max().ceil() + beyond))
    part = (..., slice(top, bottom + 1), slice(left, right + 1))
    valid = None if block.valid is None else block.valid[part]
    return Pixels(block.image[part], valid, None), x - left, y - top


def mirrored(block: Pixels, how: Mirrored) -> Pixels:
    """Images, validity, labels and elevations, continued beyond their edges by their mirror image."""
    height, width = block.image.shape[-2:]
    inside = how.inside.long()
    across = reflected_indices(inside[:, 0::2], width, how.margin)
    down = reflected_indices(inside[:, 1::2], height, how.margin)
    index = down[:, :, None] * width + across[:, None, :]

    def taken(planes: Tensor) -> Tensor:
        return from_bits(warp.gather(planes, index), planes.dtype)

    return Pixels(
        taken(block.image),
        None if block.valid is None else taken(block.valid),
        None if block.mask is None else taken(block.mask[:, None])[:, 0],
        None if block.dem is None else taken(block.dem),
        block.cloud,
    )


def with_finite_validity(block: Pixels) -> Pixels:
    """NaN and infinities in any band count as invalid."""
    if not block.image.is_floating_point():
        return block
    finite = torch.isfinite(block.image).all(1, keepdim=True)
    return Pixels(block.image, finite if block.valid is None else block.valid & finite, block.mask, block.dem)


def gathered(
    block: Pixels, x: Float[Tensor, "b i j"], y: Float[Tensor, "b i j"], decoding: Decoding | None
) -> tuple[Float[Tensor, "b n i j"], Bool[Tensor, "b 1 i j"]]:
    index, inside = warp.nearest_index(x, y, block.image.shape[-2:])
    values = warp.gather(block.image, index).float()
    if decoding is not None:
        decoding(values)
    valid = inside[:, None]
    if block.valid is not None:
        valid = valid & warp.gather(block.valid, index)
    return values, valid


def _weighted(block: Pixels, decoding: Decoding | None, values: Tensor, weight: Tensor) -> None:
    """Fill `values` with pixels times their validity, and `weight` with validity."""
    values.copy_(block.image)
    weight.fill_(1.0) if block.valid is None else weight.copy_(block.valid)
    if block.image.is_floating_point():
        values.nan_to_num_(0.0, 0.0, 0.0)
    if block.valid is not None:
        values.mul_(weight)
    if decoding is not None:
        # What stood in invalid pixels is 0 by now, and becomes 0 once more: large numbers would decode to infinity.
        decoding(values)
        values.mul_(weight)


def weighted(block: Pixels, decoding: Decoding | None) -> tuple[Float[Tensor, "b n h w"], Float[Tensor, "b 1 h w"]]:
    """Pixels, decoded, 0 where they are not valid, in memory that is used again; and 1 where they are valid."""
    count, _, *shape = block.image.shape
    values = scratch("weighted", tuple(block.image.shape), torch.float32, block.image.device)
    weight = torch.empty((count, 1, *shape), device=block.image.device)
    _weighted(block, decoding, values, weight)
    return values, weight


def sampled(
    block: Pixels,
    places: Sequence[Place],
    min_support: float,
    decoding: Decoding | None,
    cubic: bool = False,
) -> tuple[Float[Tensor, "b n i j"], Bool[Tensor, "b 1 i j"]]:
    batch, channels, height, width = block.image.shape
    source = scratch("source", (batch, channels + 1, height, width), torch.float32, block.image.device)
    _weighted(block, decoding, source[:, :channels], source[:, channels:])
    sample = warp.sampler(source.device, cubic)
    sampled = warp.averaged(lambda x, y: sample(source, x, y), places)
    values, support = sampled[:, :channels], sampled[:, channels:]
    valid = support >= warp.least_support(min_support)
    return values.mul_(warp.inverse_support(support, min_support, cubic)), valid


def sampled_apart(
    block: Pixels,
    places: Sequence[Place],
    shift: Float[Tensor, "b n 2"],
    min_support: float,
    decoding: Decoding | None,
    cubic: bool = False,
) -> tuple[Float[Tensor, "b n i j"], Bool[Tensor, "b 1 i j"]]:
    """Every band at its own coordinates, with its own support; a pixel is valid where all bands are."""
    batch, channels, height, width = block.image.shape
    source = scratch("bands apart", (batch, channels, 2, height, width), torch.float32, block.image.device)
    _weighted(block, decoding, source[:, :, 0], source[:, :, 1])
    sample = warp.sampler(source.device, cubic)

    def beside(x: Tensor, y: Tensor) -> Tensor:
        beside_x = (x[:, None] + shift[..., 0, None, None].float()).flatten(0, 1)
        beside_y = (y[:, None] + shift[..., 1, None, None].float()).flatten(0, 1)
        taken = sample(source.flatten(0, 1), beside_x, beside_y)
        return taken.view(batch, channels * 2, *x.shape[1:])

    sampled = warp.averaged(beside, places)
    values, support = sampled.view(batch, channels, 2, *sampled.shape[2:]).unbind(2)
    valid = (support >= warp.least_support(min_support)).all(1, keepdim=True)
    valid &= _all_inside(places, shift, block.image.shape[-2:], min_support)
    return (values * warp.inverse_support(support, min_support, cubic)), valid


def sampled_whole(
    image: Tensor,
    places: Sequence[Place],
    shift: Float[Tensor, "b n 2"],
    min_support: float,
    decoding: Decoding | None,
) -> tuple[Float[Tensor, "b n i j"], Bool[Tensor, "b 1 i j"]]:
    """`sampled_apart` for images without an invalid pixel, on the CPU: the nearest edge pixel is then the weighted mean
    of those that lie inside, and no weights need to be sampled."""
    batch, channels, height, width = image.shape
    source = scratch("bands whole", tuple(image.shape), torch.float32, image.device)
    source.copy_(image)
    if decoding is not None:
        decoding(source)
    grid = scratch("grids", (batch, channels, *places[0].x.shape[1:], 2), torch.float32, image.device)
    moves = shift.float()[..., None, None] * shift.new_tensor([2.0 / width, 2.0 / height]).float()[:, None, None]

    def beside(x: Tensor, y: Tensor) -> Tensor:
        torch.add((x * (2.0 / width) + (1.0 / width - 1.0))[:, None], moves[:, :, 0], out=grid[..., 0])
        torch.add((y * (2.0 / height) + (1.0 / height - 1.0))[:, None], moves[:, :, 1], out=grid[..., 1])
        values = F.grid_sample(
            source.view(-1, 1, height, width),
            grid.flatten(0, 1),
            mode="bilinear",
            padding_mode="border",
            align_corners=False,
        )
        return values.view(batch, channels, *x.shape[1:])

    return warp.averaged(beside, places), _all_inside(places, shift, (height, width), min_support)


def sampled_sharp(
    block: Pixels,
    places: Sequence[Place],
    shift: Float[Tensor, "b n 2"] | None,
    passes: TwoPasses,
    size: Size,
    taps: int,
    min_support: float,
    decoding: Decoding | None,
) -> tuple[Float[Tensor, "b n i j"], Bool[Tensor, "b 1 i j"]]:
    """By two passes of a sinc where all that they weigh is valid, and linearly, by what is valid, elsewhere."""
    batch, (height, width) = len(block.image), block.image.shape[-2:]
    source, weight = weighted(block, decoding)
    whole = block.valid is None or (warp.looks_at_values(source.device) and bool(block.valid.all()))
    sharp = resampled(source, None if whole else weight > 0, passes, size, taps)
    if sharp.whole is not None:
        if shift is None:
            linear, valid = sampled(block, places, min_support, decoding)
        else:
            linear, valid = sampled_apart(block, places, shift, min_support, decoding)
        return torch.where(sharp.whole, sharp.values, linear), valid
    beside = source.new_zeros(batch, 1, 2) if shift is None else shift
    shares = warp.averaged(lambda x, y: _least_inside(x, y, beside, (height, width)), places)
    return sharp.values, shares >= warp.least_support(min_support)


def _all_inside(
    places: Sequence[Place], shift: Float[Tensor, "b n 2"], shape: tuple[int, ...], min_support: float
) -> Bool[Tensor, "b 1 i j"]:
    """Where enough of every band lies inside the image at the centre of a pixel."""
    # Places lie evenly about it.
    x, y = (sum(getattr(place, axis) * _flat(place.share) for place in places) for axis in ("x", "y"))
    return _least_inside(x, y, shift, shape) >= warp.least_support(min_support)


def _flat(share: Tensor | float) -> Tensor | float:
    return share[..., 0] if isinstance(share, Tensor) else share


def _least_inside(
    x: Float[Tensor, "b i j"], y: Float[Tensor, "b i j"], shift: Float[Tensor, "b n 2"], shape: tuple[int, ...]
) -> Float[Tensor, "b 1 i j"]:
    """The least share of any band's four neighbours, by weight along each axis, that lies inside the image."""
    low, high = shift.amin(1).float()[..., None, None], shift.amax(1).float()[..., None, None]
    across = torch.minimum(x + low[:, 0] + 1, shape[-1] - x - high[:, 0]).clamp_(0, 1)
    down = torch.minimum(y + low[:, 1] + 1, shape[-2] - y - high[:, 1]).clamp_(0, 1)
    return (across * down)[:, None]


def moved_elevation(
    dem: Float[Tensor, "b 1 h w"], x: Float[Tensor, "b i j"], y: Float[Tensor, "b i j"], exact: bool
) -> Float[Tensor, "b 1 i j"]:
    """Elevation at the output pixels; NaN where most of it is unknown."""
    if exact:
        index, inside = warp.nearest_index(x, y, dem.shape[-2:])
        return torch.where(inside[:, None], warp.gather(dem, index), torch.nan)
    known = torch.isfinite(dem)
    sampled = warp.sampler(dem.device)(torch.cat((torch.where(known, dem, 0.0), known.float()), dim=1), x, y)
    values, support = sampled[:, :1], sampled[:, 1:]
    return torch.where(support >= 0.5, values * warp.inverse_support(support, 0.5), torch.nan)
