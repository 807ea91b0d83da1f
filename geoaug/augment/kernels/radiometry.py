"""Running segments on the pixels of a block, in plain torch.

The mean is worked out in place. The variance of normal noise is carried along as one more image, and the noise itself
is drawn once, at the end or before a segment that is not affine. Where the chance of an operation passed all rows of
a block by, its maps are not made: on the CPU looking at that is free, on other devices it would mean waiting.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import assert_never

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from geoaug.augment.kernels import stencils, warp
from geoaug.augment.kernels.lattice import lattice_normal
from geoaug.augment.physics.display import display_of, light_of
from geoaug.augment.planning.band_grids import BandGrids
from geoaug.augment.planning.maps import BandMaps, Surroundings
from geoaug.augment.planning.matrices import Size
from geoaug.augment.planning.segments import Affine, Curve, GammaNoise, Modulation, Segment, Stencil, Steps
from geoaug.rng.noise import normal_blocks, standard_normal, whole_normal
from geoaug.scratch import scratch
from geoaug.small_arrays import kept

# Backscatter below this power is written as this much: thermal noise removal leaves zeros and less.
_LEAST_POWER = 1e-10


@dataclass(slots=True)
class Block:
    """Pixels under way.

    Attributes:
        values: changed in place.
        valid: which of them hold data.
        surroundings: what maps look at.
        key: of the samples, for normal noise; a sample has one row, or one for each date.
        stream: which normal noise of the sample comes next.
        labels: classes (r, h, w) that segments gave for free, 0 where none; None where no segment gives any.
        ignored: pixels (r, h, w) whose label is to be ignored, or None.
        invalid: pixels (r, h, w) that are to be no data, or None.
        variance: of the normal noise gathered so far, or None where rows have none.
        noisy: whether a segment since the last normal noise could add some, whatever these rows drew.
        grids: where the pixels of bands that are coarser than the tile lie; None where none are.
    """

    values: Float[Tensor, "r c h w"]
    valid: Bool[Tensor, "r 1 h w"]
    surroundings: Surroundings
    key: Int[Tensor, " b"]
    stream: int
    labels: Tensor | None = None
    ignored: Tensor | None = None
    invalid: Tensor | None = None
    variance: Tensor | None = None
    noisy: bool = False
    grids: BandGrids | None = None


def run_segments(block: Block, segments: Sequence[Segment]) -> None:
    """Run all segments on a block, in order; each holds the rows of the block alone."""
    for segment in segments:
        if isinstance(segment, Affine):
            _affine(block, segment)
            continue
        _settle(block)
        if isinstance(segment, Curve):
            _curve(block, segment)
        elif not certainly(~segment.applied):
            _run_other(block, segment)
    _settle(block)


def _run_other(block: Block, segment: GammaNoise | Steps | Stencil) -> None:
    match segment:
        case GammaNoise():
            _gamma(block, segment)
        case Steps():
            _steps(block, segment)
        case Stencil():
            block.values.copy_(stencils.run(block.values, block.valid, segment))
        case _:
            assert_never(segment)


def certainly(truth: Bool[Tensor, " r"]) -> bool:
    """Whether all are known to be true without waiting for a device."""
    return warp.looks_at_values(truth.device) and bool(truth.all())


def _affine(block: Block, segment: Affine) -> None:
    values, terms, modulation = block.values, segment.terms, segment.modulation
    gain, offset = _over_pixels(terms.gain), _over_pixels(terms.offset)
    maps = None
    if modulation is not None and modulation.maps.looks_at_pixels and modulation.gain is None:
        _add_surroundings(block, segment, modulation)
        return
    if modulation is not None and not certainly(~modulation.applied):
        maps = _made(block, modulation)
        _annotate(block, modulation, maps)
        if modulation.gain is not None:
            gain = _modulated(gain, modulation.gain, maps, values, "gain")
    floor, slope = terms.floor, terms.slope
    block.noisy = block.noisy or terms.noisy
    if block.variance is not None:
        block.variance.mul_(gain).mul_(gain)
    if floor is not None and slope is not None and not certainly(((floor == 0) & (slope == 0)).all(1)):
        _add_variance(block, floor, slope)
    values.mul_(gain).add_(offset)
    if maps is not None and modulation is not None and modulation.offset is not None:
        weights = modulation.maps.weighed(modulation.offset, block.surroundings)
        for layer, weight in _layers(maps, weights, values):
            values.addcmul_(layer, weight)


def _add_surroundings(block: Block, segment: Affine, modulation: Modulation) -> None:
    """An affine segment whose map is made of the pixels of the input, small until it meets the values."""
    _affine(block, Affine(segment.terms))
    if modulation.offset is None or certainly(~modulation.applied):
        return
    # Weights rather than maps are cleared where the operation was skipped: these maps are as large as the values.
    weights = _over_pixels(torch.where(modulation.applied[:, None], modulation.offset[..., 0], 0.0))
    size = Size(*block.values.shape[-2:])
    cells = modulation.maps.cells(size, block.surroundings) if _multiplies_exactly(block.values) else None
    if cells is None:
        block.values.addcmul_(modulation.maps.make(size, block.surroundings), weights)
        return
    down, across = (
        _between_cells(side, count, cells.device) for side, count in zip(size, cells.shape[-2:], strict=True)
    )
    lines, columns = torch.matmul(down, cells * weights), across.T.expand(cells.shape[1], -1, -1)
    # One by one, for the rows of a block need not lie in one piece.
    for row in range(len(lines)):
        block.values[row].baddbmm_(lines[row], columns)


def _multiplies_exactly(values: Tensor) -> bool:
    """Whether products of float32 matrices are what they seem, whatever a user has allowed for the sake of speed."""
    return (
        values.device.type == "cpu"
        and not torch.compiler.is_compiling()
        and torch.get_float32_matmul_precision() == "highest"
    )


@kept
def _between_cells(side: int, cells: int, device: torch.device) -> Float[Tensor, "s n"]:
    """Weights of cells at pixels: of the two whose middles a pixel lies between, or of the one at the edge."""
    place = ((torch.arange(side, device=device) + 0.5) * (cells / side) - 0.5).clamp(0, cells - 1)
    apart = (place[:, None] - torch.arange(cells, device=device)).abs()
    return (1 - apart).clamp_min(0)


def _add_variance(block: Block, floor: Tensor, slope: Tensor) -> None:
    # Where gradients are asked for, noise is as a measurement has it: what the signal does to it is not followed.
    values = block.values.detach()
    shape = tuple(values.shape)
    if block.variance is None:
        variance = scratch("variance", shape, values.dtype, values.device)
        block.variance = torch.mul(values, _over_pixels(slope), out=variance).add_(_over_pixels(floor)).clamp_min_(0)
        return
    added = scratch("added variance", shape, values.dtype, values.device)
    torch.mul(values, _over_pixels(slope), out=added).add_(_over_pixels(floor)).clamp_min_(0)
    block.variance.add_(added)


def _made(block: Block, modulation: Modulation) -> Float[Tensor, "r k h w"] | BandMaps:
    size, applied = Size(*block.values.shape[-2:]), modulation.applied
    apart = modulation.maps.by_band(size, block.surroundings)
    # A row that the operation skipped may hold anything; 0 changes nothing.
    if apart is not None and certainly(applied):
        return apart
    if apart is not None:
        return replace(apart, planes=torch.where(applied[:, None, None, None, None], apart.planes, 0.0))
    return torch.where(applied[:, None, None, None], modulation.maps.make(size, block.surroundings), 0.0)


def _layers(
    maps: Tensor | BandMaps, weights: Float[Tensor, "r c k"], values: Tensor
) -> Iterator[tuple[Tensor, Tensor]]:
    """Pairs of a map that broadcasts over the bands (or has one for each) and its weights, where these are any."""
    if isinstance(maps, Tensor) and weights.shape[2] == 1:
        yield maps, weights[..., 0, None, None]
        return
    for k in range(weights.shape[2]):
        if not certainly((weights[..., k] == 0).flatten()):
            layer = maps[:, k : k + 1] if isinstance(maps, Tensor) else maps.layer(k, Size(*values.shape[-2:]))
            yield layer, weights[..., k, None, None]


def _modulated(terms: Tensor, weights: Tensor, maps: Tensor | BandMaps, values: Tensor, name: str) -> Tensor:
    if isinstance(maps, Tensor) and 1 in maps.shape[2:]:  # lines: small until they meet the pixels
        for layer, weight in _layers(maps, weights, values):
            terms = terms + layer * weight
        return terms
    total = None
    for layer, weight in _layers(maps, weights, values):
        if total is None:
            total = scratch(name, tuple(values.shape), values.dtype, values.device)
            torch.addcmul(terms, layer, weight, out=total)
        else:
            total.addcmul_(layer, weight)
    return terms if total is None else total


def _annotate(block: Block, modulation: Modulation, maps: Tensor | BandMaps) -> None:
    rule = modulation.annotation
    if rule is None:
        return
    size = Size(*block.values.shape[-2:])
    layer = maps[:, rule.index] if isinstance(maps, Tensor) else maps.labels(rule.index, size)
    if block.labels is None:
        block.labels = torch.zeros(layer.shape, dtype=torch.uint8, device=layer.device)
    for limit, number in zip(rule.limits, rule.classes, strict=True):
        block.labels.masked_fill_(layer > limit, number)
    if rule.thick == "keep":
        return
    thick = layer > rule.limits[-1]
    if rule.thick == "ignore":
        block.ignored = thick if block.ignored is None else block.ignored | thick
    else:
        block.invalid = thick if block.invalid is None else block.invalid | thick


def _settle(block: Block) -> None:
    """Draw the normal noise whose variance has been gathered."""
    variance, values = block.variance, block.values
    # Which noise is drawn next follows from the recipe: it must not depend on what these rows were spared.
    stream, block.stream = block.stream, block.stream + block.noisy
    block.variance, block.noisy = None, False
    if variance is None:
        return
    samples = block.key.shape[0]
    deviation = variance.sqrt_().view(samples, -1, variance.shape[-2] * variance.shape[-1])
    flat = values.view(deviation.shape) if len(values) != samples else values.flatten(2)
    for channels, coarse in _channels_by_grid(block.grids, samples, flat.shape[1]):
        _add_noise(block, flat[:, channels], deviation[:, channels], coarse, channels.start, stream)


def _channels_by_grid(
    grids: BandGrids | None, samples: int, channels: int
) -> list[tuple[slice, Float[Tensor, "b n 4"] | None]]:
    """Ranges of channels, and where the lattices of those lie of which some row may be coarser than the tile."""
    if grids is None:
        return [(slice(0, channels), None)]
    numbers = grids.numbers.reshape(samples, channels, 4)
    if warp.looks_at_values(numbers.device):
        coarse = (numbers[..., 3] > 0).any(0).tolist()
    else:
        bands = grids.numbers.shape[1]
        coarse = [channel % bands in grids.bands for channel in range(channels)]
    edges = [0, *(n for n in range(1, channels) if coarse[n] != coarse[n - 1]), channels]
    parts = [slice(start, stop) for start, stop in pairwise(edges)]
    return [(part, numbers[:, part] if coarse[part.start] else None) for part in parts]


def _add_noise(
    block: Block,
    values: Float[Tensor, "b n p"],
    deviation: Float[Tensor, "b n p"],
    coarse: Float[Tensor, "b n 4"] | None,
    first: int,
    stream: int,
) -> None:
    """Add normal noise to a range of channels, in place, on the pixels that each band has."""
    fine = deviation
    if coarse is not None:
        on_lattice = coarse[..., 3] > 0
        noise = lattice_normal(block.key, coarse, Size(*block.values.shape[-2:]), stream, first)
        values.addcmul_(deviation, noise.flatten(2))
        if certainly(on_lattice.flatten()):
            return
        fine = torch.where(on_lattice[..., None], 0.0, deviation)
    count, pixels = values.shape[1:]
    if torch.compiler.is_compiling():
        values.addcmul_(fine, whole_normal(block.key, count, pixels, stream, first))
        return
    for rows, channels, noise in normal_blocks(block.key, count, pixels, stream, first):
        values[rows, channels].addcmul_(fine[rows, channels], noise)


def _gamma(block: Block, segment: GammaNoise) -> None:
    """Gamma noise as the cube of a normal number (Wilson and Hilferty, 1931), with mean and variance exact."""
    values = block.values
    lattice = segment.lattice()
    if lattice is None:
        noise = standard_normal(segment.seed, values.shape[1], values.shape[-2] * values.shape[-1]).view_as(values)
    else:
        noise = lattice_normal(segment.seed, lattice, Size(*values.shape[-2:]), 0)
    shift, scale = cube_of_normal(segment.variance.double())
    factor = noise.mul_(_over_rows(scale.float())).add_(_over_rows(shift.float())).clamp_min_(0)
    factor = factor * factor * factor
    multiply = _over_rows(segment.multiply)
    added = _over_pixels(segment.add) * factor
    values.mul_(factor.sub_(1).mul_(multiply).add_(1)).add_(added)


def cube_of_normal(variance: Float[Tensor, " r"]) -> tuple[Float[Tensor, " r"], Float[Tensor, " r"]]:
    """`shift` and `scale` for which `(shift + scale*n)^3` has mean 1 and the given variance, n standard normal.

    Wilson and Hilferty's `shift = 1 - v/9`, `scale = sqrt(v)/3` gives both to a few percent at most; Newton's method on
    the exact moments, `E = a^3 + 3 a b^2` and `Var = 9 a^4 b^2 + 36 a^2 b^4 + 15 b^6`, takes away the rest.
    """
    a, square = 1 - variance / 9, variance / 9
    for _ in range(6):
        mean = a**3 + 3 * a * square - 1
        spread = 9 * a**4 * square + 36 * a**2 * square**2 + 15 * square**3 - variance
        mean_a, mean_s = 3 * a**2 + 3 * square, 3 * a
        spread_a = 36 * a**3 * square + 72 * a * square**2
        spread_s = 9 * a**4 + 72 * a**2 * square + 45 * square**2
        determinant = mean_a * spread_s - mean_s * spread_a
        a = a - (mean * spread_s - spread * mean_s) / determinant
        square = square - (spread * mean_a - mean * spread_a) / determinant
    return a, square.clamp_min(0).sqrt()


def _steps(block: Block, segment: Steps) -> None:
    """Ceilings and rounding; gradients, where they are asked for, pass by the rounding."""
    values = block.values
    limited = torch.minimum(values, _over_pixels(segment.ceiling))
    step = _over_pixels(segment.step)
    safe = torch.where(step > 0, step, 1.0)
    stepped = torch.where(step > 0, (limited.detach() / safe).round_().mul_(safe), limited.detach())
    if limited.requires_grad:
        block.values = limited + (stepped - limited.detach())
    else:
        values.copy_(stepped)


def _curve(block: Block, segment: Curve) -> None:
    values = block.values
    match segment.unit:
        case "amplitude":
            values.clamp_min_(0).sqrt_()
        case "db":
            values.clamp_min_(_LEAST_POWER).log10_().mul_(10)
        case "light" | "display":
            curved = light_of(values) if segment.unit == "light" else display_of(values)
            if values.requires_grad:
                block.values = curved
            else:
                values.copy_(curved)
        case _:
            assert_never(segment.unit)


def _over_pixels(term: Float[Tensor, "r c"]) -> Float[Tensor, "r c 1 1"]:
    return term[..., None, None]


def _over_rows(term: Float[Tensor, " r"]) -> Float[Tensor, "r 1 1 1"]:
    return term[:, None, None, None]
