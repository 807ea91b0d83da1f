"""Counter-based random numbers keyed by the sample.

What happens to a sample is a function of (seed, sample, epoch) alone, so every number drawn for it is Philox4x32-10
of a counter under the sample's key: no state, no generator to seed, the same on any number of workers and in any
batch. Here live the generator, the mixing of identities into keys, the draws of operation parameters and the fields
of standard normal noise. What is drawn for which operation is decided in `geoaug.augment`.

Reference: Salmon, Moraes, Dror and Shaw (2011), "Parallel random numbers: as easy as 1, 2, 3", SC'11.
"""

import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from geoaug.constants import constant, kept
from geoaug.scratch import scratch
from geoaug.small_arrays import Numbers, by_numpy, runs_by_numpy

_MASK32 = 0xFFFFFFFF
_ROUNDS = 10
_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)
# For numpy: a factor for each word, and what is added to each half of the key in every round.
_FACTORS = np.array(_MULTIPLIERS, np.uint64)[:, None, None]
_WEYL_STEPS = (np.arange(_ROUNDS, dtype=np.uint64)[:, None] * np.array(_WEYL, np.uint64))[:, :, None, None]

# The last counter word keeps the uses of one key apart.
_FOR_KEYS, _FOR_PARAMETERS, _FOR_NOISE = 1, 2, 3

# Counters of four words each that are generated for an operation before it draws: as many as most of them use.
_POOLED_COUNTERS = 8

# Noise takes most of the numbers and least of their quality: seven rounds are the fewest that pass all of BigCrush
# (Salmon et al., table 2); keys and parameters keep the ten of the default.
_NOISE_ROUNDS = 7

# Counters of noise worked on together on the CPU: more would leave the cache, fewer would leave threads waiting for
# the interpreter.
_CACHED_COUNTERS = 2**18


def philox4x32(counter: Int[Tensor, "4 *shape"], key: Int[Tensor, "2 *#shape"]) -> Int[Tensor, "4 *shape"]:
    """Philox4x32-10: four 32-bit words for each counter under a key.

    Args:
        counter: int64 words in [0, 2^32), c0 to c3 along the first dimension.
        key: int64 words k0 and k1 along the first dimension; broadcasts against the counter.

    Returns:
        int64 words in [0, 2^32), with the shape of `counter`.
    """
    high, low = _philox_rounds(counter[0::2].clone(), counter[1::2].clone(), _round_keys(key))
    return torch.stack((high[0], low[0], high[1], low[1]))


def _philox_rounds(
    even: Int[Tensor, "2 *shape"],
    odd: Int[Tensor, "2 *shape"],
    keys: list[Int[Tensor, "2 *#shape"]],
    product: Int[Tensor, "2 *shape"] | None = None,
) -> tuple[Int[Tensor, "2 *shape"], Int[Tensor, "2 *shape"]]:
    """One round for each of `keys`, in place, on the words (c0, c2) and (c1, c3); all words are overwritten."""
    product = torch.empty_like(even) if product is None else product
    c0, c2 = even.unbind()
    into, spare = product.unbind(), odd.unbind()
    for key in keys:
        # A 64-bit product may wrap into the sign; the shift then smears it, and the mask wipes that off. The low
        # halves are only ever xored into a word that is masked afterwards, so they need no mask of their own.
        torch.mul(c0, _MULTIPLIERS[0], out=into[1])
        torch.mul(c2, _MULTIPLIERS[1], out=into[0])
        torch.bitwise_right_shift(product, 32, out=even)
        even.bitwise_xor_(odd).bitwise_xor_(key).bitwise_and_(_MASK32)
        odd, product, into, spare = product, odd, spare, into
    return even, odd.bitwise_and_(_MASK32)


def _round_keys(key: Int[Tensor, "2 *shape"]) -> list[Int[Tensor, "2 *shape"]]:
    """The key of every round."""
    weyl = constant(tuple(tuple(turn * step for step in _WEYL) for turn in range(_ROUNDS)), torch.int64, key.device)
    steps = weyl.view(*weyl.shape, *[1] * (key.dim() - 1))
    return list((key + steps).bitwise_and_(_MASK32))


def _key_words(key: Int[Tensor, "*shape"]) -> Int[Tensor, "2 *shape"]:
    return torch.stack((key & _MASK32, (key >> 32) & _MASK32))


def stable_id(*parts: str | int) -> int:
    """A 63-bit identity of names and numbers (a scene, a row, a column), the same on every machine and run."""
    text = "\x1f".join(f"{type(part).__name__}:{part}" for part in parts)
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def sample_keys(seed: int, index: Int[Tensor, " b"] | Sequence[int], epoch: int = 0) -> Int[Tensor, " b"]:
    """Keys of samples: (seed, sample, epoch) mixed into 63 bits.

    Args:
        seed: the user's seed, any integer of up to 64 bits.
        index: identity of each sample, non-negative (its position in the dataset, or a `stable_id`).
        epoch: which pass over the data, in [0, 2^32).
    """
    index = torch.as_tensor(index, dtype=torch.int64)
    seeds = torch.full_like(index, seed if seed < 2**63 else seed - 2**64)
    counter = torch.stack(
        (
            index & _MASK32,
            (index >> 32) & _MASK32,
            torch.full_like(index, epoch),
            torch.full_like(index, _FOR_KEYS),
        )
    )
    words = philox4x32(counter, _key_words(seeds))
    return words[0] | ((words[1] >> 1) << 32)


def split_keys(key: Int[Tensor, " b"], parts: int) -> Int[Tensor, " n"]:
    """Independent keys for the parts of a sample (the dates of a time series), sample by sample."""
    index = torch.arange(parts, device=key.device).expand(key.shape[0], parts)
    zero = torch.zeros_like(index)
    words = philox4x32(
        torch.stack((index, zero, zero + 1, zero + _FOR_KEYS)),
        _key_words(key)[..., None].expand(2, -1, parts),
    )
    return (words[0] | ((words[1] >> 1) << 32)).reshape(-1)


def random_keys(count: int, device: torch.device | str = "cpu") -> Int[Tensor, " b"]:
    """Keys from torch's own generator, for batches without an identity: `torch.manual_seed` governs them."""
    return torch.randint(0, 2**63 - 1, (count,), device=device, dtype=torch.int64)


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


class Draws:
    """The random numbers of one operation: one row per sample, consumed in the order of the calls.

    Numbers are taken from 32-bit words; uniform and normal draws, integers and choices are bit-equal on every device.
    """

    def __init__(
        self,
        key: Int[Tensor, " b"],
        stream: int,
        pool: Any = None,
        units: Any = None,
    ) -> None:
        self._key = key
        self._stream = stream
        # Both are tensors, or arrays where numpy may do it: a call takes one number for sixteen samples, perhaps.
        self._pool = _parameter_words(key, _counters(stream, 0, _POOLED_COUNTERS)) if pool is None else pool
        self._units = _units(self._pool) if units is None else units
        self.taken = 0

    @staticmethod
    def for_streams(key: Int[Tensor, " b"], streams: int, words: Sequence[int] | None = None) -> "list[Draws]":
        """Draws of the operations 0..streams-1, their words generated in one go.

        Args:
            key: of the samples.
            streams: how many operations.
            words: how many each is likely to take; more are generated when they are asked for.
        """
        if streams == 0:
            return []
        pools = [_POOLED_COUNTERS] * streams if words is None else [-(-count // 4) for count in words]
        every = _parameter_words(key, _counters_of(tuple(pools)))
        units, stop = _units(every), 0
        found = []
        for stream, count in enumerate(pools):
            start, stop = stop, stop + 4 * count
            found.append(Draws(key, stream, every[:, start:stop], units[:, start:stop]))
        return found

    def __len__(self) -> int:
        return self._key.shape[0]

    def first(self) -> "Draws":
        """The draws of the first sample alone, for operations that treat a batch alike."""
        return Draws(self._key[:1], self._stream, self._pool[:1], self._units[:1])

    def _next(self, count: int) -> tuple[int, int]:
        start = self.taken
        self.taken += count
        return start, self.taken

    def _words(self, count: int) -> Any:
        start, stop = self._next(count)
        if stop <= self._pool.shape[1]:
            return self._pool[:, start:stop]
        first = start // 4
        fresh = _parameter_words(self._key, _counters(self._stream, first, -(-stop // 4)))
        return fresh[:, start - 4 * first : stop - 4 * first]

    def words(self, count: int) -> Int[Tensor, "b n"]:
        """The next `count` 32-bit words of every sample, as int64 in [0, 2^32)."""
        return _tensor(self._words(count))

    def uniform(self, low: float = 0.0, high: float = 1.0) -> Float[Tensor, " b"]:
        """Uniform float64 numbers in (low, high)."""
        if self.taken >= self._pool.shape[1]:
            return self.uniforms(1, low, high)[:, 0]
        return _tensor(_between(self._units[:, self._next(1)[0]], low, high))

    def uniforms(self, count: int, low: float = 0.0, high: float = 1.0) -> Float[Tensor, "b n"]:
        """`count` uniform float64 numbers per sample in (low, high)."""
        if self.taken + count > self._pool.shape[1]:
            return _tensor(_between(_units(self._words(count)), low, high))
        start, stop = self._next(count)
        return _tensor(_between(self._units[:, start:stop], low, high))

    def log_uniform(self, low: float, high: float) -> Float[Tensor, " b"]:
        """Numbers in (low, high) whose logarithm is uniform: as often half as double; float64."""
        # Exponentials differ in the last place between devices; rounding to float32 hides that.
        exponent = self.uniform(math.log(low), math.log(high))
        return _exponential(exponent)

    def normals(self, count: int) -> Float[Tensor, "b n"]:
        """`count` standard normal float64 numbers per sample."""
        places, table = self._words(count) >> 16, normal_quantiles(self._key.device)
        if isinstance(places, np.ndarray):
            return torch.from_numpy(table.numpy()[places].astype(np.float64))
        return table[places].double()

    def integer(self, bound: int) -> Int[Tensor, " b"]:
        """Integers, equally likely, in [0, bound)."""
        return _tensor((self._words(1)[:, 0] * bound) >> 32)

    def chance(self, p: float) -> Float[Tensor, " b"]:
        """1 with probability `p`, else 0, as float64 (so that a gate is a parameter like any other)."""
        if p >= 1:
            self._next(1)
            return torch.ones(len(self), dtype=torch.float64, device=self._key.device)
        return (self.uniform() < p).double()

    def seeds(self) -> Int[Tensor, " b"]:
        """A 63-bit seed per sample, for code with a generator of its own."""
        words = self.words(2)
        return words[:, 0] | ((words[:, 1] >> 1) << 32)


@by_numpy
def _exponential(xp: Any, exponent: Any) -> Numbers:
    single = xp.exp(exponent)
    return single.astype(np.float32).astype(np.float64) if xp is np else single.float().double()


def _tensor(numbers: Any) -> Tensor:
    return torch.from_numpy(numbers) if isinstance(numbers, np.ndarray) else numbers


def _units(words: Any) -> Any:
    """Words as float64 numbers in (0, 1)."""
    numbers = words.astype(np.float64) if isinstance(words, np.ndarray) else words.double()
    return (numbers + 0.5) * 2.0**-32


def _between(unit: Any, low: float, high: float) -> Any:
    if (low, high) == (0.0, 1.0):
        # Not a view: how its memory is laid out would tell how many numbers were drawn besides.
        return unit.copy() if isinstance(unit, np.ndarray) else unit.clone(memory_format=torch.contiguous_format)
    return unit * (high - low) + low


def _counters(stream: int, first: int, stop: int) -> tuple[tuple[int, int], ...]:
    """Counters of an operation's numbers, each as (position, stream)."""
    return tuple((position, stream) for position in range(first, stop))


@lru_cache(maxsize=256)
def _counters_of(pools: tuple[int, ...]) -> tuple[tuple[int, int], ...]:
    """Counters of several operations, each with so many."""
    return tuple(pair for stream, count in enumerate(pools) for pair in _counters(stream, 0, count))


def _parameter_words(key: Int[Tensor, " b"], counters: tuple[tuple[int, int], ...]) -> Any:
    """Four words (b, n) for each counter (position, stream, 0, parameters); an array where numpy may make them."""
    if runs_by_numpy(key):
        return _parameter_words_by_numpy(key, counters)
    device = key.device
    if not counters:
        return torch.zeros(len(key), 0, dtype=torch.int64, device=device)
    shape = (len(key), len(counters))
    position, stream = constant(counters, torch.int64, device).T[:, None].expand(2, *shape)
    counter = torch.stack((position, stream, torch.zeros_like(position), torch.full_like(position, _FOR_PARAMETERS)))
    words = philox4x32(counter, _key_words(key)[:, :, None].expand(2, *shape))
    return words.permute(1, 2, 0).flatten(1)


def _parameter_words_by_numpy(key: Int[Tensor, " b"], counters: tuple[tuple[int, int], ...]) -> Any:
    samples = key.numpy().view(np.uint64)
    if _compiled_words or not counters:
        found = np.empty((len(samples), 4 * len(counters)), np.int64)
        if counters:
            _compiled_words[0](samples, _counter_array(counters), np.uint64(_FOR_PARAMETERS), found)
        return found
    halves = np.stack((samples & np.uint64(_MASK32), samples >> np.uint64(32)))[:, :, None]
    shape = (2, len(samples), len(counters))
    even, odd, product = np.zeros(shape, np.uint64), np.empty(shape, np.uint64), np.empty(shape, np.uint64)
    even[0], odd[0] = _counter_array(counters).T[:, None]
    odd[1] = _FOR_PARAMETERS
    mask, half = np.uint64(_MASK32), np.uint64(32)
    for key_of_round in (halves + _WEYL_STEPS) & mask:
        # As in `_philox_rounds`; unsigned products do not wrap.
        np.multiply(even, _FACTORS, out=product)
        np.right_shift(product[::-1], half, out=even)
        even ^= odd
        even ^= key_of_round
        even &= mask
        odd, product = product[::-1], odd
    odd = odd & mask
    words = np.empty((*shape[1:], 4), np.int64)
    words[..., 0], words[..., 1], words[..., 2], words[..., 3] = even[0], odd[0], even[1], odd[1]
    return words.reshape(len(samples), 4 * len(counters))


@lru_cache(maxsize=256)
def _counter_array(counters: tuple[tuple[int, int], ...]) -> Any:
    return np.array(counters, np.uint64)


_compiled_words: list[Callable[[Any, Any, Any, Any], None]] = []


def use_words(make: Callable[[Any, Any, Any, Any], None]) -> None:
    """From now on, take the words of parameters on the CPU from a compiled function, which makes the same ones.

    Args:
        make: of keys (b) and counters (n, 2) of position and stream, uint64; the counter's last word, uint64; and the
            words to be filled (b, 4 n), int64.
    """
    _compiled_words[:] = [make]


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
    mask = _MASK32
    c0 = torch.arange(blocks, device=device).expand(len(key), channels, blocks)
    c1 = torch.arange(channels, device=device)[:, None].expand_as(c0)
    c2, c3 = torch.full_like(c0, stream), torch.full_like(c0, _FOR_NOISE)
    k0, k1 = (part[:, None, None] for part in _key_words(key))
    for _ in range(_NOISE_ROUNDS):
        first, second = c0 * _MULTIPLIERS[0], c2 * _MULTIPLIERS[1]
        c0, c2 = ((second >> 32) ^ c1 ^ k0) & mask, ((first >> 32) ^ c3 ^ k1) & mask
        c1, c3 = second & mask, first & mask
        k0, k1 = (k0 + _WEYL[0]) & mask, (k1 + _WEYL[1]) & mask
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
        rounds = _round_keys(_key_words(key[sample : sample + many])[:, :, None, None])
        for channel in range(0, channels, wide):
            shape = (rounds[0].shape[1], min(wide, channels - channel), blocks)
            size = math.prod(shape)
            even, odd, product = (part[:, :size].view(2, *shape) for part in state)
            _first_two_rounds(even, odd, rounds[:2], channel, stream)
            even, odd = _philox_rounds(even, odd, rounds[2:_NOISE_ROUNDS], product)
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
    from_block, from_stream = blocks * _MULTIPLIERS[0], stream * _MULTIPLIERS[1]
    c0 = (channels ^ k0 ^ (from_stream >> 32)) & _MASK32
    c2 = ((from_block >> 32) ^ _FOR_NOISE ^ k1) & _MASK32
    from_channel, from_block_too = c0 * _MULTIPLIERS[0], c2 * _MULTIPLIERS[1]
    even[0] = ((from_block_too >> 32) ^ (from_stream & _MASK32) ^ l0) & _MASK32
    even[1] = ((from_channel >> 32) ^ from_block ^ l1) & _MASK32
    odd[0] = from_block_too
    odd[1] = from_channel
