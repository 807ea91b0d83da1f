"""What JPEG leaves of a picture (ITU-T T.81, with the colours of JFIF 1.02), in torch and for any number of bands.

Baseline JPEG as libjpeg writes and reads it: blocks of 8 x 8, the tables of annex K scaled by quality, chroma at
half the resolution by means of four and brought back by the triangle filter. Entropy coding loses nothing and is left
out.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from geoaug.small_arrays import constant

_SIDE = 8
# A picture of 4:2:0 is made of squares of 16 x 16.
UNIT = 16
_ROUNDING = 1e-4

# Annex K.1: steps of the coefficients of luminance and of chrominance at quality 50, row by row.
_LUMINANCE = (
    *(16, 11, 10, 16, 24, 40, 51, 61),
    *(12, 12, 14, 19, 26, 58, 60, 55),
    *(14, 13, 16, 24, 40, 57, 69, 56),
    *(14, 17, 22, 29, 51, 87, 80, 62),
    *(18, 22, 37, 56, 68, 109, 103, 77),
    *(24, 35, 55, 64, 81, 104, 113, 92),
    *(49, 64, 78, 87, 103, 121, 120, 101),
    *(72, 92, 95, 98, 112, 100, 103, 99),
)
_CHROMINANCE = (
    *(17, 18, 24, 47, 99, 99, 99, 99),
    *(18, 21, 26, 66, 99, 99, 99, 99),
    *(24, 26, 56, 99, 99, 99, 99, 99),
    *(47, 66, 99, 99, 99, 99, 99, 99),
    *(99,) * 32,
)
# Luminance, blue and red chroma of red, green and blue (ITU-R BT.601), and back.
_TO_LUMA = (0.299, 0.587, 0.114)
_TO_BLUE = (-0.168735892, -0.331264108, 0.5)
_TO_RED = (0.5, -0.418687589, -0.081312411)


def compressed(
    image: Float[Tensor, "r c h w"],
    quality: Float[Tensor, " r"],
    phase: Int[Tensor, "r 2"],
    colours: tuple[int, int, int] | None,
) -> Float[Tensor, "r c h w"]:
    """The picture after it was written as JPEG and read again.

    Args:
        image: 0 to 255; rounded first, as a file has it.
        quality: 1 to 100, as libjpeg counts it.
        phase: rows and columns of the picture above and left of the tile, modulo 16: where blocks begin.
        colours: which bands are red, green and blue; the others, or all where it is None, are pictures in grey.
    """
    bands, height, width = image.shape[1:]
    down, across = (_unit_index(phase[:, axis], length) for axis, length in ((0, height), (1, width)))
    whole = _lines(_lines(image.round().clamp(0, 255), down, -2), across, -1)
    grey = [band for band in range(bands) if colours is None or band not in colours]
    planes: list[Tensor] = [whole] * bands
    for band in grey:
        planes[band] = _coded(whole[:, band : band + 1], quality, _LUMINANCE)
    if colours is not None:
        red, green, blue = (whole[:, band : band + 1] for band in colours)
        coloured = _coded_colours(red, green, blue, quality)
        for band, plane in zip(colours, coloured, strict=True):
            planes[band] = plane
    changed = torch.cat(planes, dim=1)
    inside_y, inside_x = (
        phase[:, axis, None] + torch.arange(length, device=image.device) for axis, length in ((0, height), (1, width))
    )
    return _lines(_lines(changed, inside_y, -2), inside_x, -1)


def _coded_colours(red: Tensor, green: Tensor, blue: Tensor, quality: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    def mixed(weights: tuple[float, float, float], level: float) -> Tensor:
        return (red * weights[0] + green * weights[1] + blue * weights[2] + level).round().clamp(0, 255)

    luma = _coded(mixed(_TO_LUMA, 0.0), quality, _LUMINANCE)
    of_blue, of_red = (
        _twice(_coded(_half(mixed(weights, 128.0)), quality, _CHROMINANCE)) - 128 for weights in (_TO_BLUE, _TO_RED)
    )
    r, _, b = _TO_LUMA
    by_red, by_blue = 2 * (1 - r), 2 * (1 - b)
    green_share = 1 - r - b
    back = (
        luma + by_red * of_red,
        luma - (r * by_red / green_share) * of_red - (b * by_blue / green_share) * of_blue,
        luma + by_blue * of_blue,
    )
    first, second, third = (part.round().clamp(0, 255) for part in back)
    return first, second, third


def _half(plane: Float[Tensor, "r 1 h w"]) -> Float[Tensor, "r 1 i j"]:
    """Means of four; halves are rounded down and up by turns, so that none wins."""
    means = F.avg_pool2d(plane, 2)
    bias = constant((0.25, 0.5), torch.float32, plane.device).repeat(means.shape[-1] // 2)
    return (means + bias).floor()


def _twice(plane: Float[Tensor, "r 1 h w"]) -> Float[Tensor, "r 1 i j"]:
    """Three parts of the pixel and one of its neighbour, along both axes; halves are rounded by turns."""
    wide = F.interpolate(plane, scale_factor=2.0, mode="bilinear", align_corners=False)
    bias = constant((8 / 16, 7 / 16), torch.float32, plane.device).repeat(plane.shape[-1])
    return (wide + bias).floor()


def _coded(plane: Float[Tensor, "r 1 h w"], quality: Float[Tensor, " r"], table: tuple[int, ...]) -> Tensor:
    """A plane of 0 to 255 after its coefficients were rounded to their steps."""
    shape = plane.shape
    blocks = (plane - 128).reshape(shape[0], shape[2] // _SIDE, _SIDE, shape[3] // _SIDE, _SIDE)
    cosines = constant(_cosines(), torch.float32, plane.device).view(_SIDE, _SIDE)
    steps = _steps(quality, table)[:, None, :, None, :]
    exact = _transformed(_transformed(blocks, cosines, 2), cosines, 4) / steps
    # Halves, which means of whole numbers often come to, go away from 0, as in libjpeg, whatever rounding left of them.
    levels = exact.sign() * (exact.abs() + (0.5 + _ROUNDING)).floor()
    back = _transformed(_transformed(levels * steps, cosines.T, 2), cosines.T, 4)
    return (back + 128).round().clamp(0, 255).reshape(shape)


def _steps(quality: Float[Tensor, " r"], table: tuple[int, ...]) -> Float[Tensor, "r 8 8"]:
    """The table as libjpeg scales it."""
    whole = quality.double().round().clamp(1, 100)
    percent = torch.where(whole < 50, (5000 / whole).floor(), 200 - 2 * whole)
    base = constant(table, torch.float64, quality.device)
    return ((base * percent[:, None] + 50) / 100).floor().clamp(1, 255).float().view(-1, _SIDE, _SIDE)


def _transformed(blocks: Tensor, matrix: Float[Tensor, "8 8"], axis: int) -> Tensor:
    """The matrix times the blocks along an axis; term by term, for the order of a product's sums follows the batch."""
    shape = [1] * blocks.dim()
    shape[axis] = _SIDE
    total = blocks.narrow(axis, 0, 1) * matrix[:, 0].view(shape)
    for term in range(1, _SIDE):
        total = total.addcmul(blocks.narrow(axis, term, 1), matrix[:, term].view(shape))
    return total


def _cosines() -> tuple[float, ...]:
    """The orthonormal cosine transform of eight values (DCT-II), row by row."""
    return tuple(
        math.sqrt((1 if row == 0 else 2) / _SIDE) * math.cos(math.pi * row * (2 * column + 1) / (2 * _SIDE))
        for row in range(_SIDE)
        for column in range(_SIDE)
    )


def _unit_index(phase: Int[Tensor, " r"], length: int) -> Int[Tensor, "r n"]:
    """Which line of the tile each line of whole squares is, edges going on beyond the tile."""
    count = -(-(length + UNIT - 1) // UNIT) * UNIT
    return (torch.arange(count, device=phase.device) - phase[:, None]).clamp(0, length - 1)


def _lines(image: Float[Tensor, "r c h w"], index: Int[Tensor, "r n"], axis: int) -> Tensor:
    """Lines of every row of the batch along an axis."""
    rows, bands, height, width = image.shape
    if axis == -1:
        return image.gather(3, index[:, None, None].expand(rows, bands, height, index.shape[1]))
    return image.gather(2, index[:, None, :, None].expand(rows, bands, index.shape[1], width))
