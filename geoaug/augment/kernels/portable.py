"""The portable executor: one fused stage of a plan on any device, in plain torch.

A stage is a matrix and a few segments of radiometry. Pixels are gathered once in their stored dtype or sampled once in
float32, run through the segments and cast. On the CPU the work is cut into blocks of samples small enough for their
temporaries to stay in the cache, one block to a thread, and samples whose matrix is exact are gathered instead of
interpolated; on other devices the whole batch goes at once, and nothing waits for the device.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from geoaug.augment.kernels import warp
from geoaug.augment.kernels.blocks import for_each_block
from geoaug.augment.kernels.coarse import Light, coarse_means
from geoaug.augment.kernels.radiometry import Block, run_segments
from geoaug.augment.kernels.sampling import (
    Decoding,
    Pixels,
    Rows,
    around,
    gathered,
    moved_elevation,
    sampled,
    sampled_apart,
    sampled_sharp,
    sampled_whole,
    with_finite_validity,
)
from geoaug.augment.kernels.two_pass import taps_for, two_passes
from geoaug.augment.kernels.warp import from_bits, to_bits
from geoaug.augment.planning import matrices
from geoaug.augment.planning.band_grids import BandGrids
from geoaug.augment.planning.maps import Surroundings
from geoaug.augment.planning.matrices import Size
from geoaug.augment.planning.segments import Affine, Segment
from geoaug.augment.planning.tree import Tree, map_tensors
from geoaug.scratch import output_memory
from geoaug.small_arrays import constant

# Samples of a block together hold about this many float32 values: few enough for a cache, and enough that threads
# spend their time in torch and not in waiting for the interpreter.
_BLOCK_VALUES = 2**21


Interpolation = Literal["sharp", "bilinear", "bicubic", "nearest"]


@dataclass(frozen=True, slots=True)
class Work:
    """What a fused stage does.

    Attributes:
        matrix: input to output pixel centres, float64.
        size: of the output tile.
        segments: radiometry on values as stored, one row for each date of each sample, float32.
        key: of the samples, for normal noise.
        stream: the first normal noise of the sample that this stage draws.
        dates: rows of a sample.
        band_shift: x and y, in input pixels, by which bands are taken from beside where they lie; None where none are.
        decoding: of the input; None where a factor and an offset are all, which the segments hold.
        untouched: whether the segments only undo the decoding.
        most_places: along an axis of an output pixel, how many places at most are averaged.
        interpolation: whether the nearest pixel is taken, a mean of four or sixteen by their weights, or a sinc's.
        grids: where the pixels of bands that are coarser than the tile lie; None where none are.
        light: by which maps that look at display values see light; None where these are none.
    """

    matrix: Float[Tensor, "b 3 3"]
    size: Size
    segments: tuple[Segment, ...]
    key: Int[Tensor, " b"]
    stream: int
    dates: int = 1
    band_shift: Float[Tensor, "r c 2"] | None = None
    decoding: Decoding | None = None
    untouched: bool = False
    most_places: int = 1
    interpolation: Interpolation = "sharp"
    grids: BandGrids | None = None
    light: Light | None = None

    def rows(self, samples: Rows) -> tuple[Segment, ...]:
        """The segments of some of the samples."""
        return self._cut(self.segments, samples)

    def grids_of(self, samples: Rows) -> BandGrids | None:
        """The pixels of the bands of some of the samples."""
        return None if self.grids is None else self._cut(self.grids, samples)

    def _cut(self, tree: Tree, samples: Rows) -> Tree:
        if isinstance(samples, slice) and samples == slice(None):
            return tree
        dates = self.dates

        def cut(tensor: Tensor) -> Tensor:
            return tensor.view(len(tensor) // dates, dates, *tensor.shape[1:])[samples].flatten(0, 1)

        return map_tensors(tree, cut)

    def shift_of(self, samples: Rows) -> Float[Tensor, "b n 2"]:
        """The shifts of every band and date of some of the samples."""
        assert self.band_shift is not None
        bands = self.dates * self.band_shift.shape[1]
        return self.band_shift.reshape(self.matrix.shape[0], bands, 2)[samples]

    def shift_of_all(self) -> Float[Tensor, "b n 2"] | None:
        """The shifts of every band and date; None where bands lie where they should."""
        return None if self.band_shift is None else self.shift_of(slice(None))

    @property
    def nearest(self) -> bool:
        """Whether nothing is interpolated."""
        return self.interpolation == "nearest"

    @property
    def sharp(self) -> bool:
        """Whether a short sinc is used (`kernels.two_pass`)."""
        return self.interpolation == "sharp"

    @property
    def cubic(self) -> bool:
        """Whether sixteen pixels are."""
        return self.interpolation == "bicubic"

    @property
    def labelled(self) -> bool:
        """Whether a segment labels clouds."""
        return any(
            isinstance(part, Affine) and part.modulation is not None and part.modulation.annotation is not None
            for part in self.segments
        )


# How the pixels of a sample are taken: copied; interpolated with their validity; or, where all of them are valid and
# bands lie apart, interpolated without it.
Way = Literal["gather", "sample", "sample whole"]


@dataclass(frozen=True, slots=True)
class Encoding:
    """How output pixels are written.

    Attributes:
        dtype: of the output image; values are rounded and saturated for integers.
        fill: value of invalid pixels.
        ignore_index: label of pixels without a label.
        min_support: share of valid weight below which a pixel is invalid.
        reserve_fill: whether `fill` means "no data", so that a valid pixel steps aside from it (integers only).
        channels_last: whether the bands of a pixel lie together in memory.
    """

    dtype: torch.dtype
    fill: float
    ignore_index: int
    min_support: float
    reserve_fill: bool = False
    channels_last: bool = False


def execute(pixels: Pixels, work: Work, encoding: Encoding) -> Pixels:
    """Run one fused stage.

    Args:
        pixels: the input; `image` is (b, n, h, w) of any supported dtype.
        work: what to do.
        encoding: dtype, fill and validity of the output.

    Returns:
        The output, with `valid` always present, and `cloud` where a segment labels clouds.
    """
    size = work.size
    out = empty_output(pixels, work, encoding)

    # Whether a block is cut to its footprint must follow from shapes alone, or bits would depend on the batch.
    alone = warp.looks_at_values(pixels.image.device) and _samples_per_block(pixels.image, size) == 1
    cut = alone and pixels.dem is None and work.band_shift is None and not work.sharp

    counts = warp.places_averaged(work.matrix, work.most_places)
    passes = two_passes(work.matrix, counts, work.shift_of_all()) if work.sharp else None

    def run(block: tuple[Rows, Way, int]) -> None:
        rows, way, most = block
        exact = way == "gather"
        taken = with_finite_validity(pixels.take(rows))
        x, y = warp.sampling_coordinates(work.matrix[rows], size)
        if work.nearest:
            x, y = warp.rounded(x), warp.rounded(y)
        raw = exact and work.untouched
        if exact:
            values, valid = gathered(taken, x, y, None if raw else work.decoding)
        elif passes is not None:
            places = warp.places(work.matrix[rows], size, counts[rows], most)
            shift = None if work.band_shift is None else work.shift_of(rows)
            two, taps = passes.take(rows), taps_for(most)
            values, valid = sampled_sharp(taken, places, shift, two, size, taps, encoding.min_support, work.decoding)
        elif work.band_shift is not None:
            shift = work.shift_of(rows)
            # Each band has its own nearest pixel.
            shift = warp.rounded(shift) if work.nearest else shift
            places = [warp.Place(x, y)] if most == 1 else warp.places(work.matrix[rows], size, counts[rows], most)
            if way == "sample whole":
                values, valid = sampled_whole(taken.image, places, shift, encoding.min_support, work.decoding)
            else:
                values, valid = sampled_apart(taken, places, shift, encoding.min_support, work.decoding, work.cubic)
        elif cut and most == 1:
            part, *inside = around(taken, x, y, 1 if work.cubic else 0)
            values, valid = sampled(part, [warp.Place(*inside)], encoding.min_support, work.decoding, work.cubic)
        else:
            places = [warp.Place(x, y)] if most == 1 else warp.places(work.matrix[rows], size, counts[rows], most)
            values, valid = sampled(taken, places, encoding.min_support, work.decoding, work.cubic)
        dem = None if taken.dem is None else moved_elevation(taken.dem, x, y, exact)
        surroundings = surroundings_of(taken, work.matrix[rows], work, dem)
        done = _radiated(values, valid, surroundings, () if raw else work.rows(rows), work, rows)
        if done.invalid is not None:
            valid = valid & ~_every_date(done.invalid, work.dates)[:, None]
        _store(out, rows, values, valid, encoding)
        if taken.mask is not None:
            kept = valid if done.ignored is None else valid & ~_every_date(done.ignored, work.dates)[:, None]
            _store_mask(out, rows, taken, x, y, kept, encoding.ignore_index)
        if out.dem is not None and dem is not None:
            _write(out.dem, rows, dem)
        if out.cloud is not None and done.labels is not None:
            _write(out.cloud, rows, done.labels.view(len(values), work.dates, *size))

    if warp.looks_at_values(pixels.image.device):
        for_each_block(run, _blocks(work, pixels, counts))
    else:
        run((slice(None), "sample", work.most_places))
    return out


def surroundings_of(
    pixels: Pixels, matrix: Float[Tensor, "b 3 3"], work: Work, dem: Float[Tensor, "b 1 h w"] | None
) -> Surroundings:
    """What maps of some samples may look at, with a row for each date.

    Args:
        pixels: of the input.
        matrix: of the same samples.
        work: of all.
        dem: elevations under the output.
    """
    if dem is not None and work.dates > 1:
        dem = dem.repeat_interleave(work.dates, 0)
    return Surroundings(
        dem, lambda: coarse_means(pixels.image, pixels.valid, matrix, work.size, work.dates, work.light)
    )


def empty_output(pixels: Pixels, work: Work, encoding: Encoding) -> Pixels:
    """Memory for the output of a stage; labels of clouds are 0, the rest is uninitialised."""
    batch, channels = pixels.image.shape[:2]
    size, device, mask = work.size, pixels.image.device, pixels.mask
    if encoding.channels_last:
        last = output_memory((batch, *size, channels), encoding.dtype, device)
        image = last.permute(0, 3, 1, 2)
    else:
        image = output_memory((batch, channels, *size), encoding.dtype, device)
    return Pixels(
        image,
        torch.empty((batch, 1, *size), dtype=torch.bool, device=device),
        None if mask is None else torch.empty((batch, *size), dtype=mask.dtype, device=device),
        None if pixels.dem is None else torch.empty((batch, 1, *size), device=device),
        torch.zeros((batch, work.dates, *size), dtype=torch.uint8, device=device) if work.labelled else None,
    )


def _every_date(pixels: Bool[Tensor, "r h w"], dates: int) -> Bool[Tensor, "b h w"]:
    """Where it holds on all dates: an observation is left as long as one date has it."""
    every: Tensor = pixels.view(len(pixels) // dates, dates, *pixels.shape[1:]).all(1)
    return every


def _radiated(
    values: Float[Tensor, "b n h w"],
    valid: Bool[Tensor, "b 1 h w"],
    surroundings: Surroundings,
    segments: tuple[Segment, ...],
    work: Work,
    rows: Rows,
) -> Block:
    """Run the segments on `values`, in place."""
    dates = work.dates
    if dates == 1:
        block = Block(values, valid, surroundings, work.key[rows], work.stream, grids=work.grids_of(rows))
        run_segments(block, segments)
        return block
    apart = values.reshape(len(values) * dates, -1, *values.shape[2:])
    every = valid.repeat_interleave(dates, 0)
    block = Block(apart, every, surroundings, work.key[rows], work.stream, grids=work.grids_of(rows))
    run_segments(block, segments)
    if apart.data_ptr() != values.data_ptr():
        values.copy_(apart.view(values.shape))
    return block


def _blocks(work: Work, pixels: Pixels, counts: Int[Tensor, "b 2"]) -> list[tuple[Rows, Way, int]]:
    """The samples to run together, how, and how many places of each pixel along an axis are averaged at most: by their
    own matrix and validity alone, whatever their batch."""
    image = pixels.image
    count = _samples_per_block(image, work.size)
    exact, whole = matrices.is_exact(work.matrix), torch.zeros(len(image), dtype=torch.bool)
    if work.nearest and work.band_shift is None:
        exact = torch.ones_like(exact)
    if work.band_shift is not None:
        exact = exact & (work.shift_of(slice(None)) == 0).flatten(1).all(1)
        if not image.is_floating_point() and work.interpolation == "bilinear":
            whole = torch.ones_like(whole) if pixels.valid is None else pixels.valid.flatten(1).all(1)
            # Of several places in a pixel those outside the image weigh nothing, which takes weights to tell.
            whole &= counts.amax(1) == 1
    ways: tuple[tuple[Way, Tensor], ...] = (
        ("gather", exact),
        ("sample whole", ~exact & whole),
        ("sample", ~exact & ~whole),
    )
    most = counts.amax(1)
    return [
        (_as_range(index), way, number)
        for way, chosen in ways
        for number in range(1, work.most_places + 1)
        for index in torch.split(torch.nonzero(chosen & (most == number))[:, 0], count)
        if len(index)
    ]


def _samples_per_block(image: Tensor, size: Size) -> int:
    values = image.shape[1] * max(image.shape[-2] * image.shape[-1], size.height * size.width)
    return max(1, _BLOCK_VALUES // max(values, 1))


def _as_range(index: Tensor) -> Rows:
    """Indices without gaps as a range, which copies nothing."""
    first, last = int(index[0]), int(index[-1])
    return slice(first, last + 1) if last - first + 1 == len(index) else index


def _store(
    out: Pixels, rows: Rows, values: Float[Tensor, "b c i j"], valid: Bool[Tensor, "b 1 i j"], encoding: Encoding
) -> None:
    if not encoding.dtype.is_floating_point:
        limits = torch.iinfo(encoding.dtype)
        values.round_().clamp_(limits.min, limits.max)
        # A valid pixel does not take the value that says "no data": it takes the next one.
        if encoding.reserve_fill and encoding.fill == limits.min:
            values.clamp_min_(limits.min + 1)
        elif encoding.reserve_fill:
            values.add_((values == encoding.fill).float(), alpha=1.0 if encoding.fill < limits.max else -1.0)
    assert out.valid is not None
    _write(out.valid, rows, valid)
    if isinstance(rows, slice) and encoding.dtype == values.dtype and not torch.compiler.is_compiling():
        _blend_bits(values, valid, encoding.fill, out.image[rows])
    else:
        _write(out.image, rows, torch.where(valid, values, constant(encoding.fill, values.dtype, values.device)))


def _blend_bits(
    values: Float[Tensor, "b c i j"], valid: Bool[Tensor, "b 1 i j"], fill: float, out: Float[Tensor, "b c i j"]
) -> None:
    """As `torch.where(valid, values, fill, out=out)`, whose look at each truth value takes most of its time."""
    kept = valid.to(torch.int32).neg_()  # all bits, or none
    torch.bitwise_and(values.view(torch.int32), kept, out=out.view(torch.int32))
    if filled := int(np.float32(fill).view(np.int32)):
        out.view(torch.int32).bitwise_or_(kept.bitwise_not_().bitwise_and_(filled))


def _store_mask(
    out: Pixels,
    rows: Rows,
    block: Pixels,
    x: Float[Tensor, "b i j"],
    y: Float[Tensor, "b i j"],
    valid: Bool[Tensor, "b 1 i j"],
    ignore_index: int,
) -> None:
    mask = block.mask
    assert out.mask is not None
    assert mask is not None
    nearest, inside = warp.nearest_index(x, y, mask.shape[-2:])
    labels = warp.gather(mask[:, None], nearest)[:, 0]
    if block.valid is not None:
        # The label of a pixel without data is no observation, even where its neighbours carry the output.
        inside = inside & warp.gather(block.valid, nearest)[:, 0]
    ignore = constant(ignore_index, mask.dtype, mask.device)
    _write(out.mask, rows, from_bits(torch.where(inside & valid[:, 0], to_bits(labels), to_bits(ignore)), mask.dtype))


def _write(target: Tensor, rows: Rows, values: Tensor) -> None:
    if isinstance(rows, slice):
        target[rows].copy_(values)
    else:
        to_bits(target).index_copy_(0, rows, to_bits(values.to(target.dtype)))
