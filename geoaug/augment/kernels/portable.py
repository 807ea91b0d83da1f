"""The portable executor: one fused stage of a plan on any device, in plain torch.

A stage is a matrix and a few coefficients per band. Pixels are gathered once in their stored dtype or sampled once in
float32, scaled, noised and cast. On the CPU the work is cut into blocks of samples small enough for their temporaries
to stay in the cache, and samples whose matrix is exact are gathered instead of interpolated; on other devices the
whole batch goes at once, and nothing waits for the device.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from geoaug.augment import matrices
from geoaug.augment.kernels import warp
from geoaug.augment.matrices import Size
from geoaug.random import standard_normal

# Samples of a block together hold about this many float32 values: twice that in bytes is a slice of a last-level cache.
_BLOCK_VALUES = 4 * 13 * 256 * 256


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
    """

    dtype: torch.dtype
    fill: float
    ignore_index: int
    min_support: float


@dataclass(frozen=True, slots=True)
class Pixels:
    """What a stage takes and gives: an image with its validity and labels."""

    image: Tensor
    valid: Bool[Tensor, "b 1 h w"] | None
    mask: Int[Tensor, "b h w"] | None

    def take(self, index: Tensor) -> "Pixels":
        """The samples at `index`."""
        return Pixels(
            _bits(self.image)[index].view(self.image.dtype),
            None if self.valid is None else self.valid[index],
            None if self.mask is None else _bits(self.mask)[index].view(self.mask.dtype),
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
        torch.empty((batch, channels, *size), dtype=encoding.dtype, device=device),
        torch.empty((batch, 1, *size), dtype=torch.bool, device=device),
        None if mask is None else torch.empty((batch, *size), dtype=mask.dtype, device=device),
    )
    for index, exact in _blocks(matrix, image, size):
        block = pixels if index is None else pixels.take(index)
        rows = slice(None) if index is None else index
        x, y = warp.sampling_coordinates(matrix[rows], size)
        values, valid = _gathered(block, x, y) if exact else _sampled(block, x, y, encoding.min_support)
        _radiometry(values, coefficients, rows, key[rows], stream)
        _store(out, index, values, valid, encoding)
        if mask is not None:
            assert block.mask is not None
            _store_mask(out, index, block.mask, x, y, valid, encoding.ignore_index)
    return out


def _blocks(matrix: Float[Tensor, "b 3 3"], image: Tensor, size: Size) -> Iterator[tuple[Tensor | None, bool]]:
    """Indices of the samples to run together, and whether their matrices are exact; None for the whole batch."""
    if image.device.type != "cpu":
        yield None, False
        return
    values = image.shape[1] * max(image.shape[-2] * image.shape[-1], size.height * size.width)
    count = max(1, _BLOCK_VALUES // max(values, 1))
    exact = matrices.is_exact(matrix)
    for wanted in (True, False):
        for index in torch.split(torch.nonzero(exact == wanted)[:, 0], count):
            if len(index):
                yield index, wanted


def _gathered(
    block: Pixels, x: Float[Tensor, "b i j"], y: Float[Tensor, "b i j"]
) -> tuple[Float[Tensor, "b c i j"], Bool[Tensor, "b 1 i j"]]:
    index, inside = warp.nearest_index(x, y, block.image.shape[-2:])
    values = warp.gather(block.image, index).float()
    valid = inside[:, None]
    if block.valid is not None:
        valid = valid & warp.gather(block.valid, index)
    if block.image.is_floating_point():
        valid = valid & torch.isfinite(values).all(1, keepdim=True)
    return values, valid


def _sampled(
    block: Pixels, x: Float[Tensor, "b i j"], y: Float[Tensor, "b i j"], min_support: float
) -> tuple[Float[Tensor, "b c i j"], Bool[Tensor, "b 1 i j"]]:
    batch, channels, height, width = block.image.shape
    source = torch.empty((batch, channels + 1, height, width), device=block.image.device)
    values, weight = source[:, :channels], source[:, channels:]
    values.copy_(block.image)
    weight.fill_(1.0) if block.valid is None else weight.copy_(block.valid)
    if block.image.is_floating_point():
        weight.mul_(torch.isfinite(values).all(1, keepdim=True))
        values.nan_to_num_(0.0, 0.0, 0.0)
    if block.valid is not None or block.image.is_floating_point():
        values.mul_(weight)
    sampler = warp.bilinear if source.device.type == "cpu" else warp.bilinear_exact
    sampled = sampler(source, x, y)
    values, support = sampled[:, :channels], sampled[:, channels:]
    valid = support >= min_support
    return values.mul_(warp.inverse_support(support, min_support)), valid


def _radiometry(
    values: Float[Tensor, "b c i j"],
    coefficients: Coefficients,
    rows: Tensor | slice,
    key: Int[Tensor, " b"],
    stream: int,
) -> None:
    def spread(term: Tensor) -> Tensor:
        return term[rows][..., None, None]

    batch, channels, height, width = values.shape
    deviation = None
    if coefficients.floor is not None and coefficients.slope is not None:
        deviation = values * spread(coefficients.slope)
        deviation.add_(spread(coefficients.floor)).clamp_min_(0).sqrt_()
        noise = standard_normal(key, channels, height * width, stream)
        deviation.mul_(noise.view(batch, channels, height, width))
    values.mul_(spread(coefficients.gain)).add_(spread(coefficients.offset))
    if deviation is not None:
        values.add_(deviation)


def _store(
    out: Pixels,
    index: Tensor | None,
    values: Float[Tensor, "b c i j"],
    valid: Bool[Tensor, "b 1 i j"],
    encoding: Encoding,
) -> None:
    if not encoding.dtype.is_floating_point:
        limits = torch.iinfo(encoding.dtype)
        values.round_().clamp_(limits.min, limits.max)
        # A valid pixel never takes the value that says "no data": it takes the next one.
        nudge = 1.0 if encoding.fill < limits.max else -1.0
        values.add_((values == encoding.fill).float(), alpha=nudge)
    values.masked_fill_(~valid, encoding.fill)
    assert out.valid is not None
    if index is None:
        out.image.copy_(values)
        out.valid.copy_(valid)
        return
    _bits(out.image).index_copy_(0, index, _bits(values.to(encoding.dtype)))
    out.valid.index_copy_(0, index, valid)


def _store_mask(
    out: Pixels,
    index: Tensor | None,
    mask: Int[Tensor, "b h w"],
    x: Float[Tensor, "b i j"],
    y: Float[Tensor, "b i j"],
    valid: Bool[Tensor, "b 1 i j"],
    ignore_index: int,
) -> None:
    assert out.mask is not None
    nearest, inside = warp.nearest_index(x, y, mask.shape[-2:])
    labels = warp.gather(mask[:, None], nearest)[:, 0]
    labelled = inside & valid[:, 0]
    ignore = torch.full((), ignore_index).to(mask.dtype).to(mask.device, non_blocking=True)
    labels = torch.where(labelled, _bits(labels), _bits(ignore)).view(mask.dtype)
    if index is None:
        out.mask.copy_(labels)
    else:
        _bits(out.mask).index_copy_(0, index, _bits(labels))


def _bits(tensor: Tensor) -> Tensor:
    """A 16-bit unsigned tensor as signed: torch indexes those on every device."""
    return tensor.view(torch.int16) if tensor.dtype == torch.uint16 else tensor
