"""Tiles without empty corners: a footprint moved and enlarged until it lies within what is there, or a mirror image.

Pure numbers: matrices and rectangles. A rectangle is the first and last column and row of pixels, as (left, top,
right, bottom), pixel centres.
"""

from dataclasses import dataclass
from functools import reduce
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from geoaug.augment.planning.matrices import Matrices, Size, inverse_rows, quantised
from geoaug.augment.planning.tree import PlanPart
from geoaug.small_arrays import by_numpy, constant

Cover = Literal["leave", "zoom", "reflect"]
"""What becomes of output pixels that would lie beyond the valid input: left invalid; avoided by enlarging the image
until there are none; or filled with the mirror image of what lies inside."""

Rectangles = Float[Tensor, "b 4"]


@dataclass(frozen=True, slots=True)
class Mirrored(PlanPart):
    """How images are continued beyond their edges.

    Attributes:
        margin: pixels by which they grow on each side.
        inside: what is mirrored; all else shows its mirror image.
    """

    margin: int
    inside: Rectangles


# Pixels of the output may lie so far beyond the last valid centre, in pixels: rounding alone is no corner.
_TOLERANCE = 1e-6

# Of the footprint's extent that is left at least.
_LEAST_SHARE = 2.0**-6


def whole(batch: int, size: Size, device: torch.device) -> Rectangles:
    """The rectangles of images of a size: all of their pixels."""
    return constant((0.0, 0.0, size.width - 1.0, size.height - 1.0), torch.float64, device).expand(batch, 4)


def filled(valid: Bool[Tensor, "b 1 h w"], context: int) -> Rectangles:
    """Where output may be taken from: the tile, and of its surroundings the rectangle that holds all valid pixels.

    What a tile itself lacks is no reason to enlarge it, so that one which is only turned by a right angle stays as it
    is.

    Args:
        valid: of images with `context` pixels of surroundings on each side.
        context: pixels.
    """
    left, right = _first_and_last(valid[:, 0].any(1))
    top, bottom = _first_and_last(valid[:, 0].any(2))
    found = torch.stack((left, top, right, bottom), 1).double()
    height, width = valid.shape[-2:]
    tile = whole(len(valid), Size(height - 2 * context, width - 2 * context), valid.device) + context
    first = torch.minimum(found[:, :2], tile[:, :2])
    last = torch.maximum(found[:, 2:], tile[:, 2:])
    return torch.where(valid.flatten(1).any(1)[:, None], torch.cat((first, last), 1), tile)


def zoomed(matrix: Matrices, size: Size, inside: Rectangles) -> Matrices:
    """Matrices whose output lies within rectangles of the input.

    The footprint is moved back inside as far as needed, and where it is larger than the rectangle, the image is
    enlarged about the output's centre, as little as needed. Matrices whose output lies inside are given back as they
    are, bit for bit.

    Args:
        matrix: input to output pixel centres.
        size: of the output.
        inside: of the input; the centres of all output pixels will lie within.
    """
    reaches_out = _overhang(matrix, size, inside) > _TOLERANCE
    return torch.where(reaches_out[:, None, None], quantised(_zoomed(matrix, size, inside)), matrix)


def reflected_indices(inside: Int[Tensor, "b 2"], count: int, margin: int) -> Int[Tensor, "b n"]:
    """For each place along an axis that is continued by `margin` pixels at both ends, the pixel that stands there.

    Beyond the first and last pixel the image is mirrored, without doubling the last one.

    Args:
        inside: the first and the last pixel of each image that there is anything in.
        count: pixels along the axis.
        margin: pixels on each side; the result has `count + 2 * margin` places.
    """
    place = torch.arange(-margin, count + margin, device=inside.device)
    first, last = inside[:, :1], inside[:, 1:]
    period = (2 * (last - first)).clamp_min(1)
    within = (place - first).remainder(period)
    return first + torch.minimum(within, period - within).minimum(last - first)


@by_numpy
def _overhang(xp: Any, matrix: Any, size: Size, inside: Any) -> Any:
    """Pixels by which the footprint leaves the rectangle at most."""
    _, centre, half = _footprint(xp, matrix, size)
    beyond = [
        part
        for axis in range(2)
        for part in (
            inside[:, axis] - (centre[axis] - half[axis]),
            (centre[axis] + half[axis]) - inside[:, axis + 2],
        )
    ]
    return reduce(xp.maximum, beyond)


@by_numpy
def _zoomed(xp: Any, matrix: Any, size: Size, inside: Any) -> Any:
    linear, centre, half = _footprint(xp, matrix, size)
    room = [(inside[:, axis + 2] - inside[:, axis]) / 2 for axis in range(2)]
    middle = [(inside[:, axis + 2] + inside[:, axis]) / 2 for axis in range(2)]
    # One column or row has no extent, and nothing but itself lies within it.
    shares = [room[axis] / xp.maximum(half[axis], room[axis] + _TOLERANCE) for axis in range(2)]
    share = xp.maximum(xp.minimum(shares[0], shares[1]), _LEAST_SHARE + xp.zeros_like(shares[0]))
    a, b, d, e = (part * share for part in linear)
    slack = [xp.maximum(room[axis] - half[axis] * share, xp.zeros_like(share)) for axis in range(2)]
    moved = [
        xp.minimum(xp.maximum(centre[axis], middle[axis] - slack[axis]), middle[axis] + slack[axis])
        for axis in range(2)
    ]
    # Back from the way that leads from the output to the input.
    determinant = a * e - b * d
    p, q, r, s = e / determinant, -b / determinant, -d / determinant, a / determinant
    x, y = (size.width - 1) / 2, (size.height - 1) / 2
    zero, one = xp.zeros_like(a), xp.ones_like(a)
    rows = (p, q, x - (p * moved[0] + q * moved[1]), r, s, y - (r * moved[0] + s * moved[1]), zero, zero, one)
    return xp.stack(rows, -1).reshape(-1, 3, 3)


def _footprint(xp: Any, matrix: Any, size: Size) -> tuple[tuple[Any, ...], tuple[Any, Any], tuple[Any, Any]]:
    """The way back to the input: its linear part; where the output's centre lies; half the extent of the output."""
    a, b, c, d, e, f = inverse_rows(matrix)
    x, y = (size.width - 1) / 2, (size.height - 1) / 2
    centre = a * x + b * y + c, d * x + e * y + f
    half = xp.abs(a) * x + xp.abs(b) * y, xp.abs(d) * x + xp.abs(e) * y
    return (a, b, d, e), centre, half


def _first_and_last(there: Bool[Tensor, "b n"]) -> tuple[Int[Tensor, " b"], Int[Tensor, " b"]]:
    count = there.shape[1]
    found = there.to(torch.uint8)
    return found.argmax(1), count - 1 - found.flip(1).argmax(1)
