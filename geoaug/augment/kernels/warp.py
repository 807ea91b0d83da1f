"""Resampling in plain torch: sampling coordinates, interpolation, nearest gathering, the weights of validity.

Coordinates are float32 whatever the image's type is, measured from the middle of the tile, so that half-precision
images are sampled at the same places; their error grows with the tile, to 3e-4 of a pixel at a width of 4096. Nothing
here knows about bands, terms or batches of a dict.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from geoaug.augment.planning import matrices
from geoaug.augment.planning.band_grids import cubic_weights
from geoaug.augment.planning.matrices import Size
from geoaug.small_arrays import by_numpy

# Sums of interpolation weights differ by less than this between executors; a pixel with just enough support has it.
_SLACK = 1e-4

# Up to here float32 has every whole number.
_WHOLE_FLOAT32 = 2**24

# Places averaged along each axis of an output pixel, at most.
_MOST_PLACES = 8

# Interpolation weights of four valid neighbours sum to one but for rounding; such sums count as one.
FULL_SUPPORT = 1 - 1e-5


def sampling_coordinates(
    matrix: Float[Tensor, "b 3 3"], size: Size, beside: tuple[Tensor, Tensor] | None = None
) -> tuple[Float[Tensor, "b h w"], Float[Tensor, "b h w"]]:
    """Input coordinates (x, y) of every output pixel centre, float32; exact where the matrix is.

    Args:
        matrix: input to output pixel centres.
        size: of the output.
        beside: x and y (b, 1, 1) from the centre of an output pixel to the place in it that is meant.
    """
    a, b, c, d, e, f = (term[:, None, None] for term in sampling_terms(matrix, size).unbind(1))
    dx = torch.arange(size.width, device=matrix.device) - (size.width - 1) / 2
    dy = torch.arange(size.height, device=matrix.device)[:, None] - (size.height - 1) / 2
    if beside is not None:
        dx, dy = dx + beside[0], dy + beside[1]
    return a * dx + (b * dy + c), d * dx + (e * dy + f)


def sampling_terms(matrix: Float[Tensor, "b 3 3"], size: Size) -> Float[Tensor, "b 6"]:
    """Float32 a to f of `x = a*dx + (b*dy + c)`, `y = d*dx + (e*dy + f)`; dx and dy count from the output's middle."""
    return _sampling_terms(matrix, (size.width - 1) / 2, (size.height - 1) / 2).float()


@by_numpy
def _sampling_terms(xp: Any, matrix: Any, x: float, y: float) -> Any:
    a, b, c, d, e, f = matrices.inverse_rows(matrix)
    return xp.stack((a, b, a * x + b * y + c, d, e, d * x + e * y + f), -1)


def most_places(shrinkage: float) -> int:
    """`places_averaged` for the greatest length in input pixels that a side of an output pixel may have."""
    return min(max(round(shrinkage), 1), _MOST_PLACES)


def places_averaged(matrix: Float[Tensor, "b 3 3"], most: int) -> Int[Tensor, "b 2"]:
    """Along each axis of an output pixel, how many places in it are sampled and averaged.

    As many as it covers input pixels, rounded: one where the plan enlarges or shrinks by less than a half; what shrinks
    more would alias.

    Args:
        matrix: input to output pixel centres.
        most: limit, known without looking at the matrices.
    """
    if most == 1:
        return torch.ones(len(matrix), 2, dtype=torch.int64, device=matrix.device)
    lengths = matrices.inverse(matrix)[:, :2, :2].square().sum(1).sqrt()
    # Two and a half lies on neither side by rounding alone.
    return (lengths - 1e-6).round().clamp(1, most).long()


@dataclass(frozen=True, slots=True)
class Place:
    """One of the places in every output pixel that are sampled and averaged, and its share in the mean."""

    x: Float[Tensor, "b i j"]
    y: Float[Tensor, "b i j"]
    share: Float[Tensor, "b 1 1 1"] | float = 1.0


def places(matrix: Float[Tensor, "b 3 3"], size: Size, counts: Int[Tensor, "b 2"], most: int) -> list[Place]:
    """Where the output pixels are sampled: on a grid of `counts` places in each, evenly about its centre.

    Args:
        matrix: input to output pixel centres.
        size: of the output.
        counts: `places_averaged`.
        most: their maximum.
    """
    if most == 1:
        return [Place(*sampling_coordinates(matrix, size))]
    across, down = (count[:, None, None].float() for count in counts.unbind(1))
    every = []
    for place in range(most * most):
        column, row = place % most, place // most
        share = ((column < across) & (row < down)) / (across * down)
        beside = ((column + 0.5) / across - 0.5, (row + 0.5) / down - 0.5)
        every.append(Place(*sampling_coordinates(matrix, size, beside), share[..., None]))
    return every


def averaged(sample: Callable[[Tensor, Tensor], Tensor], places: Sequence[Place]) -> Tensor:
    """The mean of what is sampled at the places of every output pixel."""
    if len(places) == 1:
        return sample(places[0].x, places[0].y)
    total: Tensor | None = None
    for place in places:
        taken = sample(place.x, place.y) * place.share
        total = taken if total is None else total.add_(taken)
    assert total is not None
    return total


def rounded(place: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """The nearest whole place, halves upwards."""
    return (place + 0.5).floor()


def bilinear(
    image: Float[Tensor, "b c h w"], x: Float[Tensor, "b i j"], y: Float[Tensor, "b i j"]
) -> Float[Tensor, "b c i j"]:
    """Bilinear interpolation with zeros outside, by torch's own sampler: fast on the CPU, exact to float32."""
    height, width = image.shape[-2:]
    grid = torch.empty((*x.shape, 2), dtype=image.dtype, device=image.device)
    torch.add(x * (2.0 / width), 1.0 / width - 1.0, out=grid[..., 0])
    torch.add(y * (2.0 / height), 1.0 / height - 1.0, out=grid[..., 1])
    return F.grid_sample(image, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def bilinear_exact(
    image: Float[Tensor, "b c h w"], x: Float[Tensor, "b i j"], y: Float[Tensor, "b i j"]
) -> Float[Tensor, "b c i j"]:
    """Bilinear interpolation with zeros outside, by four gathers: bit-exact where coordinates are whole numbers.

    On devices where looking at the matrices would mean waiting for them, this serves every sample alike.
    """
    left, top = x.floor(), y.floor()
    right_share, bottom_share = x - left, y - top
    out: Tensor | None = None
    for down, share_y in ((0, 1 - bottom_share), (1, bottom_share)):
        for across, share_x in ((0, 1 - right_share), (1, right_share)):
            index, inside = _flat_index(left + across, top + down, image.shape[-2:])
            weight = (share_x * share_y * inside)[:, None]
            term = gather(image, index) * weight
            out = term if out is None else out.add_(term)
    assert out is not None
    return out


def bicubic(
    image: Float[Tensor, "b c h w"], x: Float[Tensor, "b i j"], y: Float[Tensor, "b i j"]
) -> Float[Tensor, "b c i j"]:
    """Cubic convolution with zeros outside, by sixteen gathers; torch's own has another kernel (a = -0.75).

    Exact where coordinates are whole numbers.
    """
    left, top = x.floor(), y.floor()
    shares_x, shares_y = cubic_weights(x - left), cubic_weights(y - top)
    out: Tensor | None = None
    for down, share_y in enumerate(shares_y):
        for across, share_x in enumerate(shares_x):
            index, inside = _flat_index(left + (across - 1), top + (down - 1), image.shape[-2:])
            term = gather(image, index).mul_((share_x * share_y * inside)[:, None])
            out = term if out is None else out.add_(term)
    assert out is not None
    return out


def sampler(device: torch.device, cubic: bool = False) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """The sampler for a device: torch's own on the CPU where it has one, as exact samples are gathered beforehand."""
    if cubic:
        return bicubic
    return bilinear if looks_at_values(device) else bilinear_exact


def looks_at_values(device: torch.device) -> bool:
    """Whether what to do may depend on values: not where a device would have to be waited for, nor while compiling."""
    return device.type == "cpu" and not torch.compiler.is_compiling()


def nearest_index(
    x: Float[Tensor, "b i j"], y: Float[Tensor, "b i j"], shape: tuple[int, int] | torch.Size
) -> tuple[Int[Tensor, "b i j"], Bool[Tensor, "b i j"]]:
    """Flat index of the nearest pixel of an image of `shape` (h, w), and where it lies inside that image."""
    return _flat_index((x + 0.5).floor(), (y + 0.5).floor(), shape)


def gather(image: Tensor, index: Int[Tensor, "b i j"]) -> Tensor:
    """Pixels of (b c h w) at flat indices (b i j): (b c i j), any dtype."""
    batch, bands = image.shape[:2]
    picked = torch.gather(to_bits(image).flatten(2), 2, index.flatten(1)[:, None].expand(-1, bands, -1))
    return from_bits(picked, image.dtype).view(batch, bands, *index.shape[1:])


def least_support(min_support: float) -> float:
    """The share of valid weight from which a pixel is valid."""
    return min_support - _SLACK


def full_support(cubic: bool) -> float:
    """The sum of weights from which none is missing; never, where weights may be negative, and miss from above."""
    return math.inf if cubic else FULL_SUPPORT


def inverse_support(support: Float[Tensor, "b c i j"], minimum: float, cubic: bool = False) -> Float[Tensor, "b c i j"]:
    """The factor that undoes missing weight: 1 / support, exactly 1 where all neighbours are valid."""
    return torch.where(support > full_support(cubic), 1.0, 1.0 / support.clamp_min(minimum))


def warp(
    image: Float[Tensor, "b c h w"],
    matrix: Float[Tensor, "b 3 3"],
    size: Size,
    *,
    mode: str = "bilinear",
    fill: float = 0.0,
    min_support: float = 0.5,
    most: int = 1,
) -> Float[Tensor, "b c i j"]:
    """One image batch through one matrix each; NaN counts as missing and contributes nothing.

    Args:
        image: any floating dtype; sampled in float32.
        matrix: input to output pixel centres.
        size: of the output.
        mode: "bilinear" or "nearest".
        fill: value outside the image.
        min_support: share of valid weight below which a pixel is missing. A missing pixel is NaN where the image
            holds NaN around it, `fill` outside the image.
        most: see `places_averaged`.
    """
    matrix = matrix.to(image.device)
    x, y = sampling_coordinates(matrix, size)
    if mode == "nearest":
        index, inside = nearest_index(x, y, image.shape[-2:])
        return torch.where(inside[:, None], gather(image, index), fill)
    values = image.float()
    missing = ~torch.isfinite(values)
    weights = torch.cat((torch.where(missing, 0.0, values), (~missing).float()), dim=1)
    every = places(matrix, size, places_averaged(matrix, most), most)
    sampled = averaged(lambda x, y: bilinear_exact(weights, x, y), every)
    values, support = sampled[:, : image.shape[1]], sampled[:, image.shape[1] :]
    index, inside = nearest_index(x, y, image.shape[-2:])
    empty = torch.where(inside[:, None] & gather(missing, index), torch.nan, fill)
    out = torch.where(support >= min_support, values * inverse_support(support, min_support), empty)
    return out.to(image.dtype)


def _flat_index(
    x: Float[Tensor, "b i j"], y: Float[Tensor, "b i j"], shape: tuple[int, int] | torch.Size
) -> tuple[Int[Tensor, "b i j"], Bool[Tensor, "b i j"]]:
    height, width = shape
    column, row = x.clamp(0, width - 1), y.clamp(0, height - 1)
    inside = (column == x) & (row == y)  # half the comparisons, which cost most here
    if height * width <= _WHOLE_FLOAT32:
        return torch.add(column, row, alpha=width).long(), inside
    return row.long() * width + column.long(), inside


def to_bits(tensor: Tensor) -> Tensor:
    """The same memory in a type that torch can index."""
    return tensor.view(torch.int16) if tensor.dtype == torch.uint16 else tensor


def from_bits(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """What `to_bits` took from a tensor of `dtype`, as that."""
    # A view of the same type is none: gradients would end at it.
    return tensor if tensor.dtype == dtype else tensor.view(dtype)
