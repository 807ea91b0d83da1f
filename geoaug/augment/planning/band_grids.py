"""The pixels of each band on a tile: where a band is coarser than the pixels of the tile, and how it came to them.

The bands of a product have pixels of their own (10, 20 and 60 m for Sentinel-2), and a tile has one grid, to which the
coarse ones were interpolated. What a detector does, it does to a band's own pixels: noise, stripes and steps are drawn
on these, and interpolated as the band was. Here is where those pixels lie; `kernels.lattice` draws on them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor

from geoaug.augment.planning.matrices import Matrices, identity, inverse_rows
from geoaug.augment.planning.tree import PlanPart
from geoaug.errors import ConfigurationError
from geoaug.small_arrays import Numbers, by_numpy, constant

BandResampling = Literal["nearest", "bilinear", "cubic"]

# Kinds of interpolation as numbers, 0 for bands that have a pixel of their own at every pixel of the tile. The last one
# is no interpolation: see `smoothing`.
NEAREST, BILINEAR, CUBIC, SMOOTH = 1, 2, 3, 4
_KERNELS: dict[BandResampling, int] = {"nearest": NEAREST, "bilinear": BILINEAR, "cubic": CUBIC}

# Points of a line of a lattice besides one for each pixel: two before the tile's first pixel, and what a cubic reaches
# beyond the last.
MARGIN = 3

# A band counts as coarser than the pixels of a tile from this ratio on. Below it, as where tiles in another projection
# have pixels of 9.6 m, a band has as good as a pixel of its own for each.
_LEAST_RATIO = 1.25
# Places are rounded to this fraction of a band's pixel, so that all devices agree on where the first one begins.
_RESOLUTION = 2.0**-12


@dataclass(frozen=True, slots=True)
class BandGrids(PlanPart):
    """The pixels of each band, in those of the tile.

    Attributes:
        numbers: of every row and band, all 0 where the band has a pixel for each of the tile. Pixel x of the tile lies
            at `x * numbers[0] + numbers[1]` of the band's pixels, counted at their centres from one that lies two
            before the tile; y likewise, with `numbers[2]`. The last one is the kind of interpolation.
        bands: those that may be coarser than the tile, whatever the samples are.
    """

    numbers: Float[Tensor, "r c 4"]
    bands: tuple[int, ...]


def checked_resampling(resampling: str) -> BandResampling:
    """The argument, or `ConfigurationError`."""
    if resampling not in get_args(BandResampling):
        raise ConfigurationError(
            f"band_resampling={resampling!r} is not one of {', '.join(map(repr, get_args(BandResampling)))}",
            argument="band_resampling",
        )
    return resampling  # type: ignore[return-value]


def band_grids(
    band_gsd_m: tuple[float | None, ...],
    gsd_m: Float[Tensor, " b"] | None,
    matrix: Matrices | None,
    geotransform: Float[Tensor, "b 6"] | None,
    resampling: BandResampling | tuple[BandResampling, ...],
    batch: int,
    device: torch.device,
) -> BandGrids | None:
    """Where the pixels of the bands lie on tiles that geometry has moved; None where none can be coarser.

    Whether a band is coarser is decided by the tile as it was read. Its pixels keep their size on the ground from there
    on: in a tile that is enlarged they cover more pixels. A band with a pixel of its own for each of the tile keeps one
    for each, whatever the geometry does: its noise stays independent from pixel to pixel.

    Args:
        band_gsd_m: of the bands, metres; None where unknown.
        gsd_m: metres to a pixel of the tiles as they were read; None: as the finest band.
        matrix: from pixel centres as read to those of the tile; None: nothing has moved.
        geotransform: of the tiles as they were read. The pixels of a product's bands begin at multiples of their size,
            as those of Sentinel-2 do; without it, each band begins a pixel with the tile.
        resampling: by which coarse bands came to the tile's pixels, one name or one for each sample.
        batch: number of samples.
        device: of the result.
    """
    known = [side for side in band_gsd_m if side is not None]
    if not known:
        return None
    finest = min(known)
    told = gsd_m is not None and geotransform is not None
    coarse = tuple(
        n for n, side in enumerate(band_gsd_m) if side is not None and (told or side > _LEAST_RATIO * finest)
    )
    if not coarse:
        return None
    sides = constant(tuple(0.0 if side is None else side for side in band_gsd_m), torch.float64, device)
    pixel = constant(finest, torch.float64, device).expand(batch) if gsd_m is None else gsd_m.double()
    moved = identity(batch, device) if matrix is None else matrix
    # North-up without an origin: column and row begin at 0.
    none = constant((1.0, 0.0, 0.0, 0.0, 1.0, 0.0), torch.float64, device).expand(batch, 6)
    origin = none if geotransform is None else geotransform.to(pixel)
    names = (resampling,) if isinstance(resampling, str) else resampling
    same = names[:1] if len(set(names)) == 1 else names
    kernel = constant(tuple(float(_KERNELS[name]) for name in same), torch.float64, device).expand(batch)
    return BandGrids(_numbers(sides, pixel, moved, origin, kernel), coarse)


@by_numpy
def _numbers(xp: Any, sides: Any, pixel: Any, matrix: Any, origin: Any, kernel: Any) -> Numbers:
    ratio = sides / pixel[:, None]
    coarse = ratio > _LEAST_RATIO
    ratio = xp.where(coarse, ratio, xp.ones_like(ratio))
    a, b, c, d, e, f = inverse_rows(matrix)
    shrunk = xp.sqrt(xp.abs(a * e - b * d))
    step = ratio / shrunk[:, None]
    coarse = coarse & (step > 1)
    # Columns of the output run along columns of the input, or after a quarter turn along its rows.
    turned = xp.abs(b) > xp.abs(a)
    first_x, first_y = _first(xp, origin[:, 0], origin[:, 2]), _first(xp, origin[:, 4], origin[:, 5])
    along_x, along_y = xp.where(turned, f + first_y, c + first_x), xp.where(turned, c + first_x, f + first_y)
    ahead_x, ahead_y = xp.where(turned, d, a) > 0, xp.where(turned, b, e) > 0

    def start(place: Any, ahead: Any) -> Any:
        at = (place[:, None] + 0.5) / ratio - 0.5
        # Mirrored, where the tile is: only where pixels lie matters.
        at = xp.round(xp.where(ahead[:, None], at, -at) / _RESOLUTION) * _RESOLUTION
        return at - xp.floor(at) + 1

    numbers = (1 / step, start(along_x, ahead_x), start(along_y, ahead_y), kernel[:, None] + xp.zeros_like(step))
    rows = xp.stack([xp.where(coarse, number, xp.zeros_like(number)) for number in numbers], -1)
    return rows.astype("float32") if hasattr(rows, "astype") else rows.float()


def _first(xp: Any, side: Any, offset: Any) -> Any:
    """The first column (row) of a tile, counted from the origin of the map; 0 where the map has been turned."""
    straight = side != 0
    return xp.where(straight, offset / xp.where(straight, side, xp.ones_like(side)), xp.zeros_like(side))


def taps(
    length: int, inverse: Float[Tensor, "b n"], start: Float[Tensor, "b n"], kernel: Float[Tensor, "b n"]
) -> tuple[Int[Tensor, "b n p"], tuple[Tensor, Tensor, Tensor, Tensor]]:
    """The first of four neighbours of every pixel along an axis, and the weights of all four."""
    smooth = (kernel == SMOOTH)[..., None]
    pixel = torch.arange(length, device=inverse.device, dtype=torch.float32)
    place = pixel * inverse[..., None] + torch.where(smooth, 1.0, start[..., None])
    below = place.floor()
    share, kind = place - below, kernel[..., None]
    nearest, cubic = kind == NEAREST, kind == CUBIC
    near = (share >= 0.5).float()
    side = torch.where(smooth, start[..., None], 0.0)
    middle = (1 - 2 * side * side).clamp_min(0).sqrt()
    zero = torch.zeros_like(share)
    weights = []
    for by_near, linear, sharp, blunt in zip(
        (zero, 1 - near, near, zero),
        (zero, 1 - share, share, zero),
        cubic_weights(share),
        (side, middle, side, zero),
        strict=True,
    ):
        weight = torch.where(nearest, by_near, torch.where(cubic, sharp, torch.where(smooth, blunt, linear)))
        weights.append(torch.where(kind > 0, weight, 0.0))
    return (below.long() - 1).clamp_min(0), (weights[0], weights[1], weights[2], weights[3])


def cubic_weights(share: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Weights of the four neighbours of a place a `share` beyond the second one.

    Cubic convolution with a = -0.5 (Keys, 1981, IEEE Transactions on Acoustics, Speech and Signal Processing 29), which
    gives parabolas back as they are; GDAL's.
    """
    return (
        ((1.0 - 0.5 * share) * share - 0.5) * share,
        (1.5 * share - 2.5) * share * share + 1.0,
        ((2.0 - 1.5 * share) * share + 0.5) * share,
        (0.5 * share - 0.5) * share * share,
    )
