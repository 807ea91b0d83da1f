"""Fields of standard normal noise, a function of key, channel, pixel and stream alone: the same bits everywhere.

Eight pixels share a counter of Philox4x32-10: its four words are split into halves, and each half looks up a normal
quantile. With n = ceil(pixels / 8), pixel p of a channel takes block p % n, its word p // n % 4, and of that the low
half if p < 4 n, else the high one. The counter is (block, channel + 2^16 stream, 0, 0) under the sample's key, so
channels and streams are fewer than 2^16.
"""

import math
from collections.abc import Callable, Iterator
from functools import cache

import torch
from jaxtyping import Float, Int
from torch import Tensor

from geoaug.rng.philox import MASK32, MULTIPLIERS, ROUNDS, WEYL, key_words, philox4x32, philox_rounds, round_keys
from geoaug.scratch import scratch
from geoaug.small_arrays import kept

# Counters of noise worked on together on the CPU: more would leave the cache, fewer would leave threads waiting for
# the interpreter.
_CACHED_COUNTERS = 2**18

# The same where torch makes the words, in a few calls.
_CACHED_COUNTERS_OF_TORCH = 2**17


@kept
def normal_quantiles(device: torch.device) -> Float[Tensor, " 65536"]:
    """Standard normal numbers for 16 random bits, float32, with the same bits on every device.

    They are the quantiles at the centres of 2^12 equal probabilities, scaled to unit variance: the lowest four bits do
    not count. Tails end at 3.7 standard deviations, the excess kurtosis is -0.008.
    """
    return few_normal_quantiles(device).repeat_interleave(16)


@kept
def few_normal_quantiles(device: torch.device) -> Float[Tensor, " 4096"]:
    """`normal_quantiles` for the upper 12 bits alone: a table for the innermost cache, where reading a larger one takes
    longer than Philox."""
    probabilities = (torch.arange(4096, dtype=torch.float64, device="cpu") + 0.5) / 4096
    quantiles: Tensor = math.sqrt(2) * torch.special.erfinv(2 * probabilities - 1)
    quantiles /= quantiles.square().mean().sqrt()
    return quantiles.float().to(device)


def standard_normal(
    key: Int[Tensor, " b"], channels: int, pixels: int, stream: int = 0, first: int = 0
) -> Float[Tensor, "b c p"]:
    """Fields of standard normal noise, float32, a function of key, channel, pixel and stream alone.

    Args:
        key: of the samples.
        channels: fields per sample.
        pixels: of a field.
        stream: which noise of the sample.
        first: number of the first channel.
    """
    if torch.compiler.is_compiling():
        return whole_normal(key, channels, pixels, stream, first)
    field = torch.empty((key.shape[0], channels, pixels), device=key.device)
    for samples, bands, noise in normal_blocks(key, channels, pixels, stream, first):
        field[samples, bands] = noise
    return field


def whole_normal(
    key: Int[Tensor, " b"], channels: int, pixels: int, stream: int = 0, first: int = 0
) -> Float[Tensor, "b c p"]:
    """`standard_normal` without loops or memory that is kept: what a compiler can make one loop of."""
    blocks, device = -(-pixels // 8), key.device
    mask = MASK32
    c0 = torch.arange(blocks, device=device).expand(len(key), channels, blocks)
    c1 = _fields(first, channels, stream, device)[:, None].expand_as(c0)
    c2, c3 = torch.zeros_like(c0), torch.zeros_like(c0)
    k0, k1 = (part[:, None, None] for part in key_words(key))
    for _ in range(ROUNDS):
        low, high = c0 * MULTIPLIERS[0], c2 * MULTIPLIERS[1]
        c0, c2 = ((high >> 32) ^ c1 ^ k0) & mask, ((low >> 32) ^ c3 ^ k1) & mask
        c1, c3 = high & mask, low & mask
        k0, k1 = (k0 + WEYL[0]) & mask, (k1 + WEYL[1]) & mask
    words = torch.stack((c0, c1, c2, c3), dim=2)
    halves = torch.stack((words & 0xFFFF, words >> 16), dim=2)
    return normal_quantiles(device)[halves].flatten(2)[..., :pixels]


def normal_blocks(
    key: Int[Tensor, " b"], channels: int, pixels: int, stream: int = 0, first: int = 0
) -> Iterator[tuple[slice, slice, Float[Tensor, "m n p"]]]:
    """`standard_normal` piece by piece: a range of samples, one of channels (from 0), and their noise.

    On the CPU the pieces are small enough to stay in a cache; they share one buffer, so each is to be used before the
    next is asked for.
    """
    batch, blocks, device = key.shape[0], -(-pixels // 8), key.device
    if batch * channels * pixels == 0:
        return
    make = _words_of_torch() if device.type == "cpu" else None
    limit = batch * channels * blocks
    if device.type == "cpu":
        limit = _CACHED_COUNTERS if make is None else _CACHED_COUNTERS_OF_TORCH
    many, wide = max(1, min(batch, limit // (channels * blocks))), max(1, min(channels, limit // blocks))
    quantiles = normal_quantiles(device)
    counters = many * wide * blocks
    index = scratch("quantile index", (8 * counters,), torch.int32, device)
    noise = scratch("noise", (8 * counters,), torch.float32, device)
    for sample in range(0, batch, many):
        keys = key[sample : sample + many]
        for channel in range(0, channels, wide):
            shape = (len(keys), min(wide, channels - channel), blocks)
            fields, count = _fields(first + channel, shape[1], stream, device), 8 * math.prod(shape)
            halves = index[:count].view(*shape[:2], 8, blocks)
            if make is None:
                _halves_by_rounds(keys, fields, halves)
            else:
                _halves_by_torch(make, keys, fields, halves)
            torch.index_select(quantiles, 0, index[:count], out=noise[:count])
            piece = noise[:count].view(*shape[:2], 8 * blocks)[..., :pixels]
            yield slice(sample, sample + shape[0]), slice(channel, channel + shape[1]), piece


def _fields(first: int, count: int, stream: int, device: torch.device) -> Int[Tensor, " n"]:
    """The second words of the counters of some channels."""
    return torch.arange(first, first + count, device=device) + (stream << 16)


@cache
def _words_of_torch() -> Callable[[Tensor, Tensor], Tensor] | None:
    """Torch's own Philox4x32-10 (2.15 has it) if its words are those of `philox4x32`: it is not public yet.

    It fills int64 numbers, each of two words, counter by counter, under keys (…, 2) of key and first counter.
    """
    make: Callable[[Tensor, Tensor], Tensor] | None = getattr(torch.ops.aten, "_philox_randint_", None)
    if make is None:
        return None
    key, field, blocks = 0x0123456789ABCDEF, (3 << 16) + 5, 4
    with torch.device("cpu"):
        counter = torch.zeros(4, blocks, dtype=torch.int64)
        counter[0], counter[1] = torch.arange(blocks), field
        words = philox4x32(counter, torch.tensor([[key & MASK32], [key >> 32]]).expand(2, blocks))
        expected = torch.stack([(words >> shift) & 0xFFFF for shift in (0, 16)])
        found = torch.empty(1, 1, 2, 4, blocks, dtype=torch.int32)
        try:
            _halves_by_torch(make, torch.tensor([key]), torch.tensor([field]), found.view(1, 1, 8, blocks))
        except (RuntimeError, TypeError):
            return None
    return make if torch.equal(found[0, 0].long(), expected) else None


def _halves_by_torch(
    make: Callable[[Tensor, Tensor], Tensor],
    key: Int[Tensor, " m"],
    fields: Int[Tensor, " n"],
    halves: Int[Tensor, "m n 8 k"],
) -> None:
    many, wide, _eight, blocks = halves.shape
    begin = torch.empty(many, wide, 1, 2, dtype=torch.int64, device=key.device)
    begin[..., 0], begin[..., 1] = key[:, None, None], (fields << 32)[:, None]
    made = scratch("words of torch", (many, wide, 2 * blocks), torch.int64, key.device)
    make(made, begin.view(torch.uint64))
    # Two words make a number, the first its upper half: in memory it comes second. (Where it does not, torch's words
    # count as none.)
    parts = made.view(torch.uint16).view(many, wide, blocks, 2, 2, 2)
    lanes = halves.view(many, wide, 2, 2, 2, blocks)
    for word in range(2):
        lanes[:, :, :, :, word] = parts[..., 1 - word, :].permute(0, 1, 4, 3, 2)


def _halves_by_rounds(key: Int[Tensor, " m"], fields: Int[Tensor, " n"], halves: Int[Tensor, "m n 8 k"]) -> None:
    many, wide, _eight, blocks = halves.shape
    shape, count, device = (many, wide, blocks), many * wide * blocks, key.device
    rounds = round_keys(key_words(key)[:, :, None, None])
    state = scratch("philox state", (3, 2, count), torch.int64, device)
    words = scratch("philox words", (4 * count,), torch.int32, device)
    even, odd, product = (part.view(2, *shape) for part in state)
    _first_two_rounds(even, odd, rounds[:2], fields[:, None])
    even, odd = philox_rounds(even, odd, rounds[2:], product)
    lanes = words.view(many, wide, 4, blocks)
    for lane, word in enumerate((even[0], odd[0], even[1], odd[1])):
        lanes[:, :, lane] = word
    low, high = halves[:, :, :4], halves[:, :, 4:]
    torch.bitwise_and(lanes, 0xFFFF, out=low)
    torch.bitwise_right_shift(lanes, 16, out=high)
    high.bitwise_and_(0xFFFF)


def _first_two_rounds(
    even: Int[Tensor, "2 m n k"],
    odd: Int[Tensor, "2 m n k"],
    keys: list[Int[Tensor, "2 m 1 1"]],
    fields: Int[Tensor, "n 1"],
) -> None:
    """Fill the state after two rounds for the counters (block, field, 0, 0).

    So early, most words depend on the block or on the field alone: they are worked out small, and spread.
    """
    (k0, k1), (l0, l1) = keys
    from_block = torch.arange(even.shape[-1], device=even.device) * MULTIPLIERS[0]
    c0 = (fields ^ k0) & MASK32
    c2 = ((from_block >> 32) ^ k1) & MASK32
    from_field, from_block_too = c0 * MULTIPLIERS[0], c2 * MULTIPLIERS[1]
    even[0] = ((from_block_too >> 32) ^ l0) & MASK32
    even[1] = ((from_field >> 32) ^ from_block ^ l1) & MASK32
    odd[0] = from_block_too
    odd[1] = from_field
