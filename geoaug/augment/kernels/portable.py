"""The portable executor: one fused stage of a plan on any device, in plain torch.

A stage is a matrix and a few coefficients per band. Pixels are gathered once in their stored dtype or sampled once in
float32, scaled, noised and cast. On the CPU the work is cut into blocks of samples small enough for their temporaries
to stay in the cache, one block to a thread, and samples whose matrix is exact are gathered instead of interpolated; on
other devices the whole batch goes at once, and nothing waits for the device.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int, Integer
from torch import Tensor

from geoaug.augment import matrices
from geoaug.augment.kernels import warp
from geoaug.augment.kernels.blocks import for_each_block
from geoaug.augment.matrices import Size
from geoaug.random import normal_blocks
from geoaug.scratch import output_memory, scratch

# Samples of a block together hold about this many float32 values: few enough for a cache, and enough that threads
# spend their time in torch and not in waiting for the interpreter.
_BLOCK_VALUES = 2**21

# Samples of a block: a range of the batch, or indices into it.
Rows = slice | Tensor


@dataclass(frozen=True, slots=True)
class Coefficients:
    """`out = gain*x + offset + sqrt(floor + slope*x)*n` per sample and channel, float32, x as stored.

    `floor` and `slope` are None where nothing adds noise.
    """

    gain: Float[Tensor, "b c"]
    offset: Float[Tensor, "b c"]
    floor: Float[Tensor, "b c"] | None = None
    slope: Float[Tensor, "b c"] | None = None


@dataclass(frozen=True, slots=True)
class Encoding:
    """How output pixels are written.

    Attributes:
        dtype: of the output image; values are rounded and saturated for integers.
        fill: value of invalid pixels.
        ignore_index: label of pixels without a label.
        min_support: share of valid weight below which a pixel is invalid.
        reserve_fill: whether `fill` means "no data", so that a valid pixel steps aside from it (integers only).
    """

    dtype: torch.dtype
    fill: float
    ignore_index: int
    min_support: float
    reserve_fill: bool = False


@dataclass(frozen=True, slots=True)
class Pixels:
    """What a stage takes and gives: an image with its validity and labels."""

    image: Tensor
    valid: Bool[Tensor, "b 1 h w"] | None
    mask: Integer[Tensor, "b h w"] | None

    def take(self, rows: Rows) -> "Pixels":
        """Some of the samples; a range is a view of them."""
        return Pixels(
            _bits(self.image)[rows].view(self.image.dtype),
            None if self.valid is None else self.valid[rows],
            None if self.mask is None else _bits(self.mask)[rows].view(self.mask.dtype),
        )


def execute(
    pixels: Pixels,
    matrix: Float[Tensor, "b 3 3"],
    size: Size,
    coefficients: Coefficients,
    key: Int[Tensor, " b"],
    stream: int,
    encoding: Encoding,
) -> Pixels:
    """Run one fused stage.

    Args:
        pixels: the input; `image` is (b, c, h, w) of any supported dtype.
        matrix: input to output pixel centres, float64.
        size: of the output tile.
        coefficients: per sample and channel.
        key: of the samples, for noise.
        stream: which noise of the sample this stage draws.
        encoding: dtype, fill and validity of the output.

    Returns:
        The output, with `valid` always present.
    """
    image, mask = pixels.image, pixels.mask
    batch, channels = image.shape[:2]
    device = image.device
    out = Pixels(
        output_memory((batch, channels, *size), encoding.dtype, device),
        torch.empty((batch, 1, *size), dtype=torch.bool, device=device),
        None if mask is None else torch.empty((batch, *size), dtype=mask.dtype, device=device),
    )

    # Whether a block is cut to its footprint must follow from shapes alone, or bits would depend on the batch.
    alone = image.device.type == "cpu" and _samples_per_block(image, size) == 1

    def run(block: tuple[Rows, bool]) -> None:
        rows, exact = block
        taken = _with_finite_validity(pixels.take(rows))
        x, y = warp.sampling_coordinates(matrix[rows], size)
        if exact:
            values, valid = _gathered(taken, x, y)
        else:
            part = _around(taken, x, y) if alone else (taken, x, y)
            values, valid = _sampled(*part, encoding.min_support)
        _radiometry(values, coefficients, rows, key[rows], stream)
        _store(out, rows, values, valid, encoding)
        if taken.mask is not None:
            _store_mask(out, rows, taken, x, y, valid, encoding.ignore_index)

    for_each_block(run, _blocks(matrix, image, size))
    return out


def _blocks(matrix: Float[Tensor, "b 3 3"], image: Tensor, size: Size) -> list[tuple[Rows, bool]]:
    """The samples to run together, and whether their matrices are exact."""
    if image.device.type != "cpu":
        return [(slice(None), False)]
    count = _samples_per_block(image, size)
    exact = matrices.is_exact(matrix)
    return [
        (_as_range(index), wanted)
        for wanted in (True, False)
        for index in torch.split(torch.nonzero(exact == wanted)[:, 0], count)
        if len(index)
    ]


def _samples_per_block(image: Tensor, size: Size) -> int:
    values = image.shape[1] * max(image.shape[-2] * image.shape[-1], size.height * size.width)
    return max(1, _BLOCK_VALUES // max(values, 1))


def _around(
    block: Pixels, x: Float[Tensor, "1 i j"], y: Float[Tensor, "1 i j"]
) -> tuple[Pixels, Float[Tensor, "1 i j"], Float[Tensor, "1 i j"]]:
    """The part of a single sample that is sampled, and the coordinates in it: a tile brings spare context."""
    height, width = block.image.shape[-2:]
    if x.numel() == 0:
        return block, x, y
    left, right = (min(max(int(edge), 0), width - 1) for edge in (x.min().floor(), x.max().ceil()))
    top, bottom = (min(max(int(edge), 0), height - 1) for edge in (y.min().floor(), y.max().ceil()))
    part = (..., slice(top, bottom + 1), slice(left, right + 1))
    valid = None if block.valid is None else block.valid[part]
    return Pixels(block.image[part], valid, None), x - left, y - top


def _as_range(index: Tensor) -> Rows:
    """Indices without gaps as a range, which copies nothing."""
    first, last = int(index[0]), int(index[-1])
    return slice(first, last + 1) if last - first + 1 == len(index) else index


def _with_finite_validity(block: Pixels) -> Pixels:
    """NaN and infinities in any band count as invalid."""
    if not block.image.is_floating_point():
        return block
    finite = torch.isfinite(block.image).all(1, keepdim=True)
    return Pixels(block.image, finite if block.valid is None else block.valid & finite, block.mask)


def _gathered(
    block: Pixels, x: Float[Tensor, "b i j"], y: Float[Tensor, "b i j"]
) -> tuple[Float[Tensor, "b c i j"], Bool[Tensor, "b 1 i j"]]:
    index, inside = warp.nearest_index(x, y, block.image.shape[-2:])
    values = warp.gather(block.image, index).float()
    valid = inside[:, None]
    if block.valid is not None:
        valid = valid & warp.gather(block.valid, index)
    return values, valid


def _sampled(
    block: Pixels, x: Float[Tensor, "b i j"], y: Float[Tensor, "b i j"], min_support: float
) -> tuple[Float[Tensor, "b c i j"], Bool[Tensor, "b 1 i j"]]:
    batch, channels, height, width = block.image.shape
    shape = (batch, channels + 1, height, width)
    source = scratch("source", shape, torch.float32, block.image.device)
    values, weight = source[:, :channels], source[:, channels:]
    values.copy_(block.image)
    weight.fill_(1.0) if block.valid is None else weight.copy_(block.valid)
    if block.image.is_floating_point():
        values.nan_to_num_(0.0, 0.0, 0.0)
    if block.valid is not None:
        values.mul_(weight)
    sampler = warp.bilinear if source.device.type == "cpu" else warp.bilinear_exact
    sampled = sampler(source, x, y)
    values, support = sampled[:, :channels], sampled[:, channels:]
    valid = support >= min(min_support, warp.FULL_SUPPORT)
    return values.mul_(warp.inverse_support(support, min_support)), valid


def _radiometry(
    values: Float[Tensor, "b c i j"],
    coefficients: Coefficients,
    rows: Rows,
    key: Int[Tensor, " b"],
    stream: int,
) -> None:
    def spread(term: Tensor) -> Tensor:
        return term[rows][..., None]

    flat = values.flatten(2)
    gain, offset = spread(coefficients.gain), spread(coefficients.offset)
    floor, slope = (None if term is None else spread(term) for term in (coefficients.floor, coefficients.slope))
    # Where the chance of noise passed all these samples by, adding nothing would change no bit.
    quiet = floor is None or slope is None or (values.device.type == "cpu" and not (floor.any() or slope.any()))
    if quiet:
        flat.mul_(gain).add_(offset)
        return
    assert floor is not None
    assert slope is not None
    for samples, channels, noise in normal_blocks(key, flat.shape[1], flat.shape[2], stream):
        piece, part = flat[samples, channels], (samples, channels)
        deviation = scratch("deviation", tuple(piece.shape), piece.dtype, piece.device)
        torch.mul(piece, slope[part], out=deviation).add_(floor[part]).clamp_min_(0).sqrt_()
        piece.mul_(gain[part]).add_(offset[part]).addcmul_(deviation, noise)


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
    fill = torch.full((), encoding.fill, dtype=values.dtype).to(values.device, non_blocking=True)
    assert out.valid is not None
    _write(out.valid, rows, valid)
    if isinstance(rows, slice) and encoding.dtype == values.dtype:
        torch.where(valid, values, fill, out=out.image[rows])
    else:
        _write(out.image, rows, torch.where(valid, values, fill))


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
    ignore = torch.full((), ignore_index).to(mask.dtype).to(mask.device, non_blocking=True)
    _write(out.mask, rows, torch.where(inside & valid[:, 0], _bits(labels), _bits(ignore)).view(mask.dtype))


def _write(target: Tensor, rows: Rows, values: Tensor) -> None:
    if isinstance(rows, slice):
        target[rows].copy_(values)
    else:
        _bits(target).index_copy_(0, rows, _bits(values.to(target.dtype)))


def _bits(tensor: Tensor) -> Tensor:
    """A 16-bit unsigned tensor as signed: torch indexes those on every device."""
    return tensor.view(torch.int16) if tensor.dtype == torch.uint16 else tensor
