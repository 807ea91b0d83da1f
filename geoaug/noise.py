"""Fields of standard normal noise, a function of key, channel, pixel and stream alone: the same bits everywhere."""

import math
from collections.abc import Iterator

import torch
from jaxtyping import Float, Int
from torch import Tensor

from geoaug.constants import kept
from geoaug.philox import FOR_NOISE, MASK32, MULTIPLIERS, WEYL, key_words, philox_rounds, round_keys
from geoaug.scratch import scratch

# Noise takes most of the numbers and least of their quality: seven rounds are the fewest that pass all of BigCrush
# (Salmon et al., table 2); keys and parameters keep the ten of the default.
_NOISE_ROUNDS = 7

# Counters of noise worked on together on the CPU: more would leave the cache, fewer would leave threads waiting for
# the interpreter.
_CACHED_COUNTERS = 2**18


@kept
def normal_quantiles(device: torch.device) -> Float[Tensor, " 65536"]:
    """Standard normal quantiles at the centres of 2^16 equal probabilities, scaled to unit variance, float32.

    A look-up turns 16 random bits into a normal number with the same bits on every device; the tails end at 4.3
    standard deviations.
    """
    probabilities = (torch.arange(65536, dtype=torch.float64) + 0.5) / 65536
    quantiles: Tensor = math.sqrt(2) * torch.special.erfinv(2 * probabilities - 1)
    quantiles /= quantiles.square().mean().sqrt()
    return quantiles.float().to(device)


def standard_normal(key: Int[Tensor, " b"], channels: int, pixels: int, stream: int = 0) -> Float[Tensor, "b c p"]:
    """Fields of standard normal noise, float32, a function of key, channel, pixel and stream alone.

    Args:
        key: of the samples.
        channels: fields per sample.
        pixels: of a field.
        stream: which noise of the sample.
    """
    if torch.compiler.is_compiling():
        return whole_normal(key, channels, pixels, stream)
    field = torch.empty((key.shape[0], channels, pixels), device=key.device)
    for samples, bands, noise in normal_blocks(key, channels, pixels, stream):
        field[samples, bands] = noise
    return field


def whole_normal(key: Int[Tensor, " b"], channels: int, pixels: int, stream: int = 0) -> Float[Tensor, "b c p"]:
    """`standard_normal` without loops or memory that is kept: what a compiler can make one loop of."""
    blocks, device = -(-pixels // 8), key.device
    mask = MASK32
    c0 = torch.arange(blocks, device=device).expand(len(key), channels, blocks)
    c1 = torch.arange(channels, device=device)[:, None].expand_as(c0)
    c2, c3 = torch.full_like(c0, stream), torch.full_like(c0, FOR_NOISE)
    k0, k1 = (part[:, None, None] for part in key_words(key))
    for _ in range(_NOISE_ROUNDS):
        first, second = c0 * MULTIPLIERS[0], c2 * MULTIPLIERS[1]
        c0, c2 = ((second >> 32) ^ c1 ^ k0) & mask, ((first >> 32) ^ c3 ^ k1) & mask
        c1, c3 = second & mask, first & mask
        k0, k1 = (k0 + WEYL[0]) & mask, (k1 + WEYL[1]) & mask
    words = torch.stack((c0, c1, c2, c3), dim=2)
    halves = torch.stack((words & 0xFFFF, words >> 16), dim=2)
    return normal_quantiles(device)[halves].flatten(2)[..., :pixels]


def normal_blocks(
    key: Int[Tensor, " b"], channels: int, pixels: int, stream: int = 0
) -> Iterator[tuple[slice, slice, Float[Tensor, "m n p"]]]:
    """`standard_normal` piece by piece: a range of samples, one of channels, and their noise.

    On the CPU the pieces are small enough to stay in a cache; they share one buffer, so each is to be used before the
    next is asked for. Eight pixels share a counter: its four words are split into halves, and each half looks up a
    normal quantile. With n = ceil(pixels / 8), pixel p of a channel takes counter p % n, its word p // n % 4, and of
    that the low half if p < 4 n, else the high one.
    """
    batch, blocks, device = key.shape[0], -(-pixels // 8), key.device
    if batch * channels * pixels == 0:
        return
    limit = _CACHED_COUNTERS if device.type == "cpu" else batch * channels * blocks
    many, wide = max(1, min(batch, limit // (channels * blocks))), max(1, min(channels, limit // blocks))
    quantiles = normal_quantiles(device)
    counters = many * wide * blocks
    state = scratch("philox state", (3, 2, counters), torch.int64, device)
    words = scratch("philox words", (4 * counters,), torch.int32, device)
    index = scratch("quantile index", (8 * counters,), torch.int32, device)
    noise = scratch("noise", (8 * counters,), torch.float32, device)
    for sample in range(0, batch, many):
        rounds = round_keys(key_words(key[sample : sample + many])[:, :, None, None])
        for channel in range(0, channels, wide):
            shape = (rounds[0].shape[1], min(wide, channels - channel), blocks)
            size = math.prod(shape)
            even, odd, product = (part[:, :size].view(2, *shape) for part in state)
            _first_two_rounds(even, odd, rounds[:2], channel, stream)
            even, odd = philox_rounds(even, odd, rounds[2:_NOISE_ROUNDS], product)
            lanes = words[: 4 * size].view(*shape[:2], 4, blocks)
            for lane, word in enumerate((even[0], odd[0], even[1], odd[1])):
                lanes[:, :, lane] = word
            halves = index[: 8 * size].view(*shape[:2], 2, 4, blocks)
            torch.bitwise_and(lanes, 0xFFFF, out=halves[:, :, 0])
            torch.bitwise_right_shift(lanes, 16, out=halves[:, :, 1])
            halves[:, :, 1].bitwise_and_(0xFFFF)
            torch.index_select(quantiles, 0, index[: 8 * size], out=noise[: 8 * size])
            piece = noise[: 8 * size].view(*shape[:2], 8 * blocks)[..., :pixels]
            yield slice(sample, sample + shape[0]), slice(channel, channel + shape[1]), piece


def _first_two_rounds(
    even: Int[Tensor, "2 m n k"],
    odd: Int[Tensor, "2 m n k"],
    keys: list[Int[Tensor, "2 m 1 1"]],
    channel: int,
    stream: int,
) -> None:
    """Fill the state after two rounds for the counters (block, channel, stream, noise).

    So early, most words depend on the block or on the channel alone: they are worked out small, and spread.
    """
    blocks = torch.arange(even.shape[-1], device=even.device)
    channels = torch.arange(channel, channel + even.shape[-2], device=even.device)[:, None]
    (k0, k1), (l0, l1) = keys
    from_block, from_stream = blocks * MULTIPLIERS[0], stream * MULTIPLIERS[1]
    c0 = (channels ^ k0 ^ (from_stream >> 32)) & MASK32
    c2 = ((from_block >> 32) ^ FOR_NOISE ^ k1) & MASK32
    from_channel, from_block_too = c0 * MULTIPLIERS[0], c2 * MULTIPLIERS[1]
    even[0] = ((from_block_too >> 32) ^ (from_stream & MASK32) ^ l0) & MASK32
    even[1] = ((from_channel >> 32) ^ from_block ^ l1) & MASK32
    odd[0] = from_block_too
    odd[1] = from_channel
