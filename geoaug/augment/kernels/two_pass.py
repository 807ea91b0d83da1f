"""Sharp interpolation: an affine map as two passes of a short sinc, along the rows and then along the columns.

Linear interpolation is a mean of four pixels: it halves the noise of an image and takes its finest detail, which a
network can see. A sinc keeps both, but wants eight pixels along each axis, sixty-four in all. Two passes want sixteen:
the first resamples every row of the input at the columns that the output needs of it, the second resamples the columns
of that (Catmull and Smith 1980, "3-D transformations of images in scanline order"). An image that is turned by more
than 45 degrees is transposed first, so that no pass is asked to squeeze what the other must stretch again.

Places are whole numbers of 2^-32 pixels and weights come from one table, so that all executors read the same pixels by
the same weights. Where the image shrinks, the sinc is widened, so that nothing aliases. Beyond the image its mirror
image is read. Values stay within the least and greatest of the band: a sinc overshoots beside edges, and would darken
what lies beside a bright roof below anything the sensor has seen.
"""

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from geoaug.augment.kernels.warp import looks_at_values
from geoaug.augment.planning.matrices import Matrices, Size, inverse_rows
from geoaug.small_arrays import by_numpy, kept

# Bits of a place behind the point, and how many places between two pixels have weights of their own.
PLACE_BITS, PHASE_BITS = 32, 9
PHASES = 1 << PHASE_BITS

# Weights are made for images whose power falls with the square of the frequency, from this one on, up to the other:
# cycles a pixel of the output. Between it and its mirror image, nothing is asked of them.
_FLAT_BELOW, _PASSED = 0.05, 0.43
_FREQUENCIES = 128
_RIDGE = 1e-9

# Pixels that are weighed along an axis, for every one and a half pixels that become one.
_TAPS = 8

# Widths of the sinc are multiples of this part of a pixel.
_WIDTH_STEPS = 8


@dataclass(frozen=True, slots=True)
class TwoPasses:
    """The two passes of every sample.

    Attributes:
        swapped: whether the input is transposed first.
        terms: for each sample, and for each band where they lie apart, six whole numbers of 2^-32 pixels. The output's
            column `u` needs, of row `y` of the input, what lies at `terms[0] * u + terms[1] * y + terms[2]`; and the
            output's pixel (u, v) lies at row `terms[3] * u + terms[4] * v + terms[5]` of column `u`.
        width: of the sinc along the rows and the columns, in eighths of a pixel: eight unless the image shrinks.
    """

    swapped: Bool[Tensor, " b"]
    terms: Int[Tensor, "b n 6"]
    width: Int[Tensor, "b 2"]

    def take(self, rows: slice | Tensor) -> "TwoPasses":
        """Those of some of the samples."""
        return TwoPasses(self.swapped[rows], self.terms[rows], self.width[rows])

    def of_band(self, band: int) -> "TwoPasses":
        """Those of a band that lies elsewhere than others."""
        return replace(self, terms=self.terms[:, band : band + 1])


def two_passes(matrix: Matrices, counts: Int[Tensor, "b 2"], shift: Float[Tensor, "b n 2"] | None = None) -> TwoPasses:
    """The passes of matrices.

    Args:
        matrix: input to output pixel centres.
        counts: `warp.places_averaged`, which bounds the width.
        shift: x and y, in input pixels, by which bands are taken from beside where they lie.
    """
    rows = _passes(matrix, None if shift is None else shift.double())
    terms, swapped, width = rows[..., :6], rows[:, 0, 6], rows[:, 0, 7:]
    return TwoPasses(swapped > 0, terms.contiguous(), torch.minimum(width, _widest(counts)))


@by_numpy
def _passes(xp: Any, matrix: Any, shift: Any) -> Any:
    """Terms, whether the input is transposed, and both widths, as whole numbers: (b, n, 9)."""
    a, b, c, d, e, f = (part[:, None] for part in inverse_rows(matrix))
    if shift is not None:
        c, f = c + shift[..., 0], f + shift[..., 1]
    swapped = xp.abs(b) > xp.abs(e)
    long = [xp.sqrt(p * p + q * q) for p, q in ((a, d), (b, e))]
    a, d = xp.where(swapped, d, a), xp.where(swapped, a, d)
    b, e = xp.where(swapped, e, b), xp.where(swapped, b, e)
    c, f = xp.where(swapped, f, c), xp.where(swapped, c, f)
    slant = b / e
    zero = xp.zeros_like(c)
    places = [part + zero for part in (a - slant * d, slant, c - slant * f, d, e, f)]
    # The nearest weights of the table: half of a step is added once for all.
    half = 0.5 / PHASES
    places[2], places[5] = places[2] + half, places[5] + half
    widths = [xp.round(side * _WIDTH_STEPS) for side in long]
    whole = [xp.round(part * 2.0**PLACE_BITS) for part in places]
    whole += [swapped + zero, *(xp.where(side < _WIDTH_STEPS, zero + _WIDTH_STEPS, side + zero) for side in widths)]
    stacked = xp.stack(whole, -1)
    return stacked.astype(np.int64) if xp is np else stacked.long()


def taps_for(most: int) -> int:
    """Pixels weighed along an axis where at most so many places of a pixel would be averaged (`places_averaged`)."""
    taps: int = taps_of_width(_widest(most))
    return taps


def _widest(count: Any) -> Any:
    """The greatest width of a sinc, in eighths of a pixel, where so many places of a pixel would be averaged."""
    return count * _WIDTH_STEPS + _WIDTH_STEPS // 2


def taps_of_width(width: Any) -> Any:
    """Pixels weighed along an axis by a sinc of a width in eighths of a pixel."""
    return _TAPS * -(-2 * width // (3 * _WIDTH_STEPS))


@lru_cache(maxsize=128)
def weights_of_width(width: int, taps: int) -> np.ndarray:
    """The weights of every place between two pixels, (phases, taps) float32; the pixel before it is tap `taps / 2 - 1`.

    Those whose error has the least power in images as the world's are, power falling with the square of the frequency
    (Field 1987), up to .43 cycles a pixel of the output: a sinc, shortened by least squares instead of by a window
    (Laakso et al. 1996, "Splitting the unit delay"). Where the image shrinks, frequencies that would alias are to
    vanish, as well. Constants and straight slopes come out as they are.

    Args:
        width: pixels of the input to one of the output, in eighths.
        taps: pixels along the axis; those beyond `taps_of_width` get no weight.
    """
    own, scale = taps_of_width(width), width / _WIDTH_STEPS
    apart = np.arange(own) - (own // 2 - 1) - (np.arange(PHASES) / PHASES)[:, None]
    weights = _least_squares(apart, scale)
    # On a pixel, that pixel alone, unless the image shrinks.
    if width == _WIDTH_STEPS:
        weights[0] = apart[0] == 0
    beside = (taps - own) // 2
    return np.asarray(np.pad(weights, ((0, 0), (beside, beside))), np.float32)


def _least_squares(apart: Float[np.ndarray, "p t"], scale: float) -> Float[np.ndarray, "p t"]:
    """Weights of pixels so far `apart` from the places that are asked for."""
    passed = np.linspace(0, _PASSED / scale, _FREQUENCIES)
    stopped = np.linspace(min((1 - _PASSED) / scale, 0.5), 0.5, _FREQUENCIES)
    power = [1 / (part**2 + _FLAT_BELOW**2) for part in (passed, stopped)]
    # What would alias counts as much as the finest that is kept.
    power[1] = np.maximum(power[1], power[0][-1]) * (stopped[-1] - stopped[0]) / passed[-1]
    # Of two pixels, only how far they lie apart counts.
    every = np.concatenate((passed, stopped))
    shares = np.concatenate(power)[:, None]
    taps = np.arange(apart.shape[1])
    by_distance = (shares * np.cos(2 * np.pi * every[:, None] * taps)).sum(0)
    by_distance[0] *= 1 + _RIDGE
    back = np.linalg.inv(by_distance[np.abs(taps[:, None] - taps)])
    wanted = np.einsum("f,pft->pt", power[0], np.cos(2 * np.pi * passed[:, None] * apart[:, None]))
    # Two conditions: the sum of the weights, and that of weights times places.
    free, ones = wanted @ back, np.ones_like(apart)
    beside, along = ones @ back, apart @ back
    a, b, c = (beside * ones).sum(1), (beside * apart).sum(1), (along * apart).sum(1)
    first, second = 1 - free.sum(1), -(free * apart).sum(1)
    determinant = a * c - b * b
    weights: np.ndarray = free + ((c * first - b * second) / determinant)[:, None] * beside
    weights += ((a * second - b * first) / determinant)[:, None] * along
    return weights


def _tables(width: Int[Tensor, "b 2"], taps: int) -> tuple[Float[Tensor, "w p t"], Int[Tensor, "b 2"]]:
    """The weights of all widths that there are, or that so many taps may have; and which of them are whose."""
    if looks_at_values(width.device):
        there, which = torch.unique(width, return_inverse=True)
        return torch.from_numpy(np.stack([weights_of_width(each, taps) for each in there.tolist()])), which
    return _all_tables(taps, width.device), width - _WIDTH_STEPS


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
@kept
def _all_tables(taps: int, device: torch.device) -> Float[Tensor, "w p t"]:
    """The weights of all widths that so many taps may have."""
    widest = 3 * _WIDTH_STEPS * (taps // _TAPS) // 2
    tables = np.stack([weights_of_width(width, taps) for width in range(_WIDTH_STEPS, widest + 1)])
    return torch.from_numpy(tables).to(device)


@dataclass(frozen=True, slots=True)
class Sharp:
    """What two passes give.

    Attributes:
        values: of the output pixels.
        whole: where every pixel that was weighed holds data; None: everywhere.
    """

    values: Float[Tensor, "b n i j"]
    whole: Bool[Tensor, "b m i j"] | None


def resampled(
    image: Float[Tensor, "b n h w"],
    valid: Bool[Tensor, "b 1 h w"] | None,
    passes: TwoPasses,
    size: Size,
    taps: int,
) -> Sharp:
    """Resample images by two passes.

    Args:
        image: finite; 0 where it is not valid.
        valid: which pixels hold data; None: all.
        passes: of every sample.
        size: of the output.
        taps: pixels weighed along an axis, enough for every width (`taps_for`).
    """
    bands, (height, width) = image.shape[1], image.shape[2:]
    if passes.terms.shape[1] > 1:
        parts = [resampled(image[:, n : n + 1], valid, passes.of_band(n), size, taps) for n in range(bands)]
        wholes = [part.whole for part in parts if part.whole is not None]
        return Sharp(torch.cat([part.values for part in parts], 1), torch.cat(wholes, 1) if wholes else None)
    held = image if valid is None else torch.where(valid, image, torch.inf)
    low = held.flatten(2).amin(2)[..., None, None]
    high = (image if valid is None else torch.where(valid, image, -torch.inf)).flatten(2).amax(2)[..., None, None]
    # The bands of a pixel lie together, so that it is looked up once for all of them.
    values = _by_pixel(image)
    missing = None if valid is None else _by_pixel((~valid).float())
    for axis, places in enumerate((_along_rows, _along_columns)):
        # One after the other: where pixels come from takes as much memory as they do.
        one = places(passes, size, (height, width), taps)
        values = one.of(values)
        if missing is not None:
            missing = _weighed(passes.width[:, axis], one, taps).of(missing)
    whole = None if missing is None else _by_plane(missing, size) == 0
    return Sharp(torch.minimum(torch.maximum(_by_plane(values, size), low), high), whole)


def _by_pixel(image: Float[Tensor, "b n h w"]) -> Float[Tensor, "p n"]:
    # New memory: a copy of one sample or band keeps strides by which torch would sum in another order.
    count, bands, height, width = image.shape
    pixels = image.new_empty(count, height, width, bands)
    return pixels.copy_(image.permute(0, 2, 3, 1)).view(-1, bands)


def _by_plane(values: Float[Tensor, "p n"], size: Size) -> Float[Tensor, "b n i j"]:
    # New memory, for the same reason: strides of a single band make torch put the bands of a pixel together again.
    values = values.view(-1, *size, values.shape[1]).permute(0, 3, 1, 2)
    return values.new_empty(values.shape).copy_(values)


@dataclass(frozen=True, slots=True)
class _Pass:
    """Where the values of a pass come from: indices of pixels of all samples, and their weights."""

    index: Int[Tensor, "p t"]
    weights: Float[Tensor, "p t"]

    def of(self, values: Float[Tensor, "q n"]) -> Float[Tensor, "p n"]:
        """The sums of values by their weights."""
        return F.embedding_bag(self.index, values, mode="sum", per_sample_weights=self.weights)


def _weighed(width: Int[Tensor, " b"], one: _Pass, taps: int) -> _Pass:
    """A pass that counts: 1 for each pixel that a sinc of the sample's width weighs."""
    half = taps_of_width(width)[:, None, None] // 2
    tap = torch.arange(taps, device=width.device) - taps // 2
    counted = ((tap >= -half) & (tap < half)).float()
    return replace(one, weights=counted.expand(-1, len(one.index) // len(width), -1).reshape(-1, taps))


def _beyond(taps: int) -> int:
    """Rows of the mirror image of the input that the second pass may weigh, on each side."""
    return taps // 2 + 1


def _along_rows(passes: TwoPasses, size: Size, shape: tuple[int, int], taps: int) -> _Pass:
    device, count = passes.terms.device, len(passes.swapped)
    height, width = shape
    tables, which = _tables(passes.width, taps)
    swapped = passes.swapped[:, None, None]
    terms = [part[:, None, None] for part in passes.terms[:, 0].unbind(1)]
    column = torch.arange(size.width, device=device)
    along = torch.arange(taps, device=device, dtype=torch.int32)
    before, beyond = taps // 2 - 1, _beyond(taps)
    lines = max(height, width) + 2 * beyond
    line = torch.arange(-beyond, lines - beyond, device=device)[:, None]

    place = terms[0] * column + (terms[1] * line + terms[2])
    rows = torch.where(swapped, width, height)
    columns = torch.where(swapped, height, width)
    once = taps + 2 * beyond < min(height, width)
    # Farther out lies nothing that is asked for.
    start = torch.minimum((place >> PLACE_BITS).clamp_min(-beyond), columns + beyond).int() - before
    tap = _reflected(start[..., None] + along, columns[..., None].int(), once)
    other = _reflected(torch.minimum(line, rows + beyond), rows, once)
    # In memory a column of the transposed input is a row.
    across, down = torch.where(swapped, width, 1).int(), torch.where(swapped, 1, width)
    offset = (torch.arange(count, device=device) * (height * width))[:, None, None]
    index = tap * across[..., None] + (other * down + offset).int()[..., None]
    weights = tables[which[:, 0, None, None], _phase(place)]
    return _Pass(index.view(-1, taps), weights.view(-1, taps))


def _along_columns(passes: TwoPasses, size: Size, shape: tuple[int, int], taps: int) -> _Pass:
    device, count = passes.terms.device, len(passes.swapped)
    tables, which = _tables(passes.width, taps)
    terms = [part[:, None, None] for part in passes.terms[:, 0].unbind(1)]
    column = torch.arange(size.width, device=device)
    along = torch.arange(taps, device=device, dtype=torch.int32)
    before, beyond = taps // 2 - 1, _beyond(taps)
    lines = max(shape) + 2 * beyond
    line = torch.arange(size.height, device=device)[:, None]
    place = terms[3] * column + (terms[4] * line + terms[5])
    start = ((place >> PLACE_BITS) - before + beyond).clamp(0, lines - taps)
    offset = (torch.arange(count, device=device) * lines)[:, None, None]
    index = ((start + offset).int()[..., None] + along) * size.width + column.int()[:, None]
    weights = tables[which[:, 1, None, None], _phase(place)]
    return _Pass(index.view(-1, taps), weights.view(-1, taps))


def _phase(place: Int[Tensor, "..."]) -> Int[Tensor, "..."]:
    return (place >> (PLACE_BITS - PHASE_BITS)) & (PHASES - 1)


def _reflected(place: Int[Tensor, "..."], count: Int[Tensor, "..."], once: bool) -> Int[Tensor, "..."]:
    """Places mirrored into `count` pixels, without doubling the last one."""
    last = count - 1
    if once:
        return last - (last - place.abs()).abs()
    period = (2 * last).clamp_min(1)
    within = place.remainder(period)
    return torch.minimum(within, period - within).minimum(last)
