"""The mathematics of pixel grids: 3x3 matrices, geotransforms, boxes and sun azimuths, without any pixels.

Conventions (stated here once): matrices act on columns (x, y, 1) with integer coordinates at pixel centres, map input
to output, and are float64. A positive angle turns the image counter-clockwise as displayed (y points down).
Geotransforms follow rasterio, where (0, 0) is the outer corner of the first pixel, and so do boxes; the half pixel
between the two is converted in `corner_matrix` and nowhere else.
"""

import math
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from geoaug.small_arrays import by_numpy, constant, kept

Matrices = Float[Tensor, "b 3 3"]

# Matrices are rounded to this fraction of a pixel: the last places of sines and cosines, which differ between devices
# and between the lanes of a vector unit, vanish, and the cosine of 90 degrees becomes the zero that it is.
_RESOLUTION = 2.0**-32


_RADIANS = math.pi / 180

_IDENTITY = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))

# Quarter turns counter-clockwise, and the same after a left-right flip.
_SYMMETRIES = (
    ((1, 0), (0, 1)),
    ((0, 1), (-1, 0)),
    ((-1, 0), (0, -1)),
    ((0, -1), (1, 0)),
    ((-1, 0), (0, 1)),
    ((0, 1), (1, 0)),
    ((1, 0), (0, -1)),
    ((0, -1), (-1, 0)),
)


class Size(NamedTuple):
    """Height and width of a tile, pixels."""

    height: int
    width: int


def identity(batch: int, device: torch.device) -> Matrices:
    """The matrices that change nothing."""
    return constant(_IDENTITY, torch.float64, device).expand(batch, 3, 3)


def translation(x: Float[Tensor, " b"], y: Float[Tensor, " b"]) -> Matrices:
    """Matrices that move the image by (x, y) pixels, float64, to the right and down."""
    return _translation(x, y)


@by_numpy
def _translation(xp: Any, x: Any, y: Any) -> Any:
    one, zero = xp.ones_like(x), xp.zeros_like(x)
    return _affine(xp, (one, zero, x, zero, one, y))


def shift(batch: int, x: float, y: float, device: torch.device) -> Matrices:
    """One translation by (x, y) pixels for the whole batch."""
    return constant(((1.0, 0.0, x), (0.0, 1.0, y), (0.0, 0.0, 1.0)), torch.float64, device).expand(batch, 3, 3)


def about_centre(linear: Float[Tensor, "b 2 2"], source: Size, target: Size | None = None) -> Matrices:
    """Matrices that apply a linear map about the centre, taking the source's centre to the target's."""
    return _about_centre(linear, source, target)


@by_numpy
def _about_centre(xp: Any, linear: Any, source: Size, target: Size | None) -> Any:
    rows = tuple(linear[:, row, column] for row in range(2) for column in range(2))
    return _rounded(xp, _placed(xp, rows, source, target))


def _placed(xp: Any, linear: tuple[Any, ...], source: Size, target: Size | None = None) -> Any:
    target = source if target is None else target
    x, y = (source.width - 1) / 2, (source.height - 1) / 2
    a, b, c, d = linear
    right, down = (target.width - 1) / 2 - (a * x + b * y), (target.height - 1) / 2 - (c * x + d * y)
    return _affine(xp, (a, b, right, c, d, down))


def _affine(xp: Any, rows: tuple[Any, ...]) -> Any:
    """Matrices of their first six numbers."""
    if xp is np:
        matrix = np.empty((len(rows[0]), 9))
        for column, value in enumerate(rows):
            matrix[:, column] = value
        matrix[:, 6:] = _IDENTITY[2]
        return matrix.reshape(-1, 3, 3)
    six = torch.stack(rows, -1).view(-1, 2, 3)
    return torch.cat((six, constant(_IDENTITY[2:], six.dtype, six.device).expand(len(six), 1, 3)), 1)


def symmetry(index: Int[Tensor, " b"], size: Size) -> Matrices:
    """Matrices of `dihedral` symmetries about the centre of a tile."""
    return _symmetries(size, index.device)[index]


@kept
def _symmetries(size: Size, device: torch.device) -> Matrices:
    return about_centre(dihedral(torch.arange(len(_SYMMETRIES), device=device)), size)


def rotation(degrees: Float[Tensor, " b"]) -> Float[Tensor, "b 2 2"]:
    """Linear maps that turn the image counter-clockwise as displayed; degrees are float64."""
    return _rotation(degrees)


@by_numpy
def _rotation(xp: Any, degrees: Any) -> Any:
    angle = degrees * _RADIANS
    cosine, sine = xp.cos(angle), xp.sin(angle)
    return xp.stack((cosine, sine, -sine, cosine), -1).reshape(-1, 2, 2)


def turned(
    degrees: Float[Tensor, " b"],
    size: Size,
    scale: Float[Tensor, " b"] | None = None,
    shear: Float[Tensor, " b"] | None = None,
    move: tuple[Float[Tensor, " b"], Float[Tensor, " b"]] | None = None,
) -> Matrices:
    """Matrices that turn about the centre, then slant, then move; all numbers are float64.

    Args:
        degrees: counter-clockwise as displayed.
        size: of the tile.
        scale: by which the image grows.
        shear: degrees that vertical lines are slanted by.
        move: pixels to the right and down.
    """
    return _turned(degrees, size, scale, shear, move)


@by_numpy
def _turned(xp: Any, degrees: Any, size: Size, scale: Any, shear: Any, move: Any) -> Any:
    angle = degrees * _RADIANS
    cosine, sine = xp.cos(angle), xp.sin(angle)
    if scale is not None:
        cosine, sine = cosine * scale, sine * scale
    rows = (cosine, sine, -sine, cosine)
    if shear is not None:
        slant = xp.tan(shear * _RADIANS)
        rows = (cosine - slant * sine, sine + slant * cosine, -sine, cosine)
    matrix = _placed(xp, rows, size)
    if move is not None:
        # What is moved has been rounded before, so that the zero of a right angle stays one.
        matrix = _rounded(xp, matrix)
        matrix[:, 0, 2] += move[0]
        matrix[:, 1, 2] += move[1]
    return _rounded(xp, matrix)


def dihedral(index: Tensor) -> Float[Tensor, "b 2 2"]:
    """The eight symmetries of the square, exactly: index % 4 quarter turns counter-clockwise, after a left-right flip
    if index >= 4."""
    return constant(_SYMMETRIES, torch.float64, index.device)[index]


def quantised(matrix: Matrices) -> Matrices:
    """Entries rounded to 2^-32."""
    return _quantised(matrix)


@by_numpy
def _quantised(xp: Any, matrix: Any) -> Any:
    return _rounded(xp, matrix)


def _rounded(xp: Any, matrix: Any) -> Any:
    return xp.round(matrix / _RESOLUTION) * _RESOLUTION


def inverse(matrix: Matrices) -> Matrices:
    """The matrices of the way back, in closed form: exact for symmetries and shifts by whole pixels.

    Args:
        matrix: affine matrices (the last row is 0, 0, 1).
    """
    return _inverse(matrix)


@by_numpy
def _inverse(xp: Any, matrix: Any) -> Any:
    return _affine(xp, inverse_rows(matrix))


def inverse_rows(matrix: Any) -> tuple[Any, Any, Any, Any, Any, Any]:
    """The six numbers of the way back, of tensors or arrays."""
    a, b, c, d, e, f = (matrix[:, row, column] for row in range(2) for column in range(3))
    determinant = a * e - b * d
    rows = (e, -b, b * f - c * e, -d, a, c * d - a * f)
    first, second, third, fourth, fifth, sixth = (value / determinant for value in rows)
    return first, second, third, fourth, fifth, sixth


def is_exact(matrix: Matrices) -> Bool[Tensor, " b"]:
    """True where the matrix only flips, makes quarter turns and moves by whole pixels: no interpolation is needed."""
    return _is_exact(matrix)


@by_numpy
def _is_exact(xp: Any, matrix: Any) -> Any:
    rows, squares = matrix[:, :2], matrix[:, :2, :2] ** 2
    # Whole numbers whose squares add up to one are one of 1 or -1 among zeros.
    permutes = (squares.sum(-1) == 1) & (squares.sum(-2) == 1)
    return (rows == xp.round(rows)).reshape(len(matrix), 6).all(1) & permutes.all(1)


def growth(matrix: Matrices) -> Float[Tensor, " b"]:
    """How much longer a pixel's side becomes in pixels: the root of the area that it covers afterwards."""
    return _growth(matrix)


@by_numpy
def _growth(xp: Any, matrix: Any) -> Any:
    a, b, c, d = (matrix[:, row, column] for row in range(2) for column in range(2))
    return xp.sqrt(xp.abs(a * d - b * c))


def corner_matrix(matrix: Matrices) -> Matrices:
    """The same maps for coordinates that count from the outer corner of the first pixel, not from its centre."""
    batch, device = matrix.shape[0], matrix.device
    return shift(batch, 0.5, 0.5, device) @ matrix @ shift(batch, -0.5, -0.5, device)


def transform_geotransforms(geotransform: Float[Tensor, "b 6"], matrix: Matrices) -> Float[Tensor, "b 6"]:
    """Geotransforms of the output grids: each output pixel keeps the place on the ground that it was taken from.

    Args:
        geotransform: a, b, c, d, e, f of the input grids, float64.
        matrix: input to output pixel centres.
    """
    ground = identity(matrix.shape[0], matrix.device).clone()
    ground[:, :2] = geotransform.to(matrix).view(-1, 2, 3)
    return (ground @ inverse(corner_matrix(matrix)))[:, :2].reshape(-1, 6)


def transform_boxes(boxes: list[Float[Tensor, "_ 4"]], matrix: Matrices, size: Size) -> list[Float[Tensor, "_ 4"]]:
    """Axis-aligned hulls of the moved boxes, cut to the output tile.

    A box that leaves the tile stays in the list with no area, so that lists beside it keep their order.

    Args:
        boxes: x0, y0, x1, y1 in pixels from the outer corner of the first pixel; one tensor per sample.
        matrix: input to output pixel centres.
        size: of the output tile.
    """
    counts = [box.shape[0] for box in boxes]
    if not counts or sum(counts) == 0:
        return boxes
    flat = torch.cat(list(boxes))
    owner = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts), output_size=sum(counts)).to(
        matrix.device, non_blocking=True
    )
    corners = flat.to(matrix)[:, [0, 1, 2, 1, 2, 3, 0, 3]].view(-1, 4, 2)
    moved = corner_matrix(matrix)[owner]
    corners = corners @ moved[:, :2, :2].transpose(1, 2) + moved[:, None, :2, 2]
    limit = constant((size.width, size.height), corners.dtype, corners.device)
    low = torch.minimum(corners.amin(1).clamp_min(0), limit)
    high = torch.minimum(corners.amax(1).clamp_min(0), limit)
    return list(torch.split(torch.cat((low, high), dim=1).to(flat), counts))


def transform_azimuths(azimuth: Float[Tensor, " b"], matrix: Matrices) -> Float[Tensor, " b"]:
    """Azimuths, degrees clockwise from the top of the image, after the image was turned or flipped."""
    angle = torch.deg2rad(azimuth.double())
    direction = torch.stack((angle.sin(), -angle.cos()), dim=-1)
    moved = (matrix[:, :2, :2] @ direction[..., None])[..., 0]
    return torch.rad2deg(torch.atan2(moved[:, 0], -moved[:, 1])).remainder(360).to(azimuth.dtype)


def footprint(matrix: Matrices, size: Size) -> Float[Tensor, "b 4 2"]:
    """Where the corner pixels (centres) of the output lie in the input, x and y in pixels."""
    right, bottom = size.width - 1, size.height - 1
    corners = constant(((0, 0, 1), (right, 0, 1), (right, bottom, 1), (0, bottom, 1)), matrix.dtype, matrix.device)
    return (inverse(matrix)[:, None] @ corners[..., None])[..., :2, 0]
