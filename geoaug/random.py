"""Counter-based random numbers keyed by the sample.

What happens to a sample is a function of (seed, sample, epoch) alone, so every number drawn for it is Philox4x32-10
of a counter under the sample's key: no state, no generator to seed, the same on any number of workers and in any
batch. Here live the generator, the mixing of identities into keys, the draws of operation parameters and the fields
of standard normal noise. What is drawn for which operation is decided in `geoaug.augment`.

Reference: Salmon, Moraes, Dror and Shaw (2011), "Parallel random numbers: as easy as 1, 2, 3", SC'11.
"""

import hashlib
import math
from collections.abc import Sequence
from functools import cache

import torch
from jaxtyping import Float, Int
from torch import Tensor

_MASK32 = 0xFFFFFFFF
_ROUNDS = 10
_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)

# The last counter word keeps the uses of one key apart.
_FOR_KEYS, _FOR_PARAMETERS, _FOR_NOISE = 1, 2, 3

_POOLED_COUNTERS = 16


def philox4x32(counter: Int[Tensor, "4 *shape"], key: Int[Tensor, "2 *#shape"]) -> Int[Tensor, "4 *shape"]:
    """Philox4x32-10: four 32-bit words for each counter under a key.

    Args:
        counter: int64 words in [0, 2^32), c0 to c3 along the first dimension.
        key: int64 words k0 and k1 along the first dimension; broadcasts against the counter.

    Returns:
        int64 words in [0, 2^32), with the shape of `counter`.
    """
    high, low = _philox_halves(counter[0::2].clone(), counter[1::2].clone(), key)
    return torch.stack((high[0], low[0], high[1], low[1]))


def _philox_halves(
    even: Int[Tensor, "2 *shape"], odd: Int[Tensor, "2 *shape"], key: Int[Tensor, "2 *#shape"]
) -> tuple[Int[Tensor, "2 *shape"], Int[Tensor, "2 *shape"]]:
    """The ten rounds, in place, on the words (c0, c2) and (c1, c3); both arguments are overwritten."""
    product = torch.empty_like(even)
    key = key.clone()
    step = torch.tensor(_WEYL, dtype=torch.int64).view(2, *[1] * (key.dim() - 1)).to(key.device, non_blocking=True)
    for _ in range(_ROUNDS):
        # A 64-bit product may wrap into the sign; the shift then smears it, and the mask wipes that off. The low
        # halves are only ever xored into a word that is masked afterwards, so they need no mask of their own.
        torch.mul(even[0], _MULTIPLIERS[0], out=product[1])
        torch.mul(even[1], _MULTIPLIERS[1], out=product[0])
        torch.bitwise_right_shift(product, 32, out=even)
        even.bitwise_xor_(odd).bitwise_xor_(key).bitwise_and_(_MASK32)
        odd, product = product, odd
        key.add_(step).bitwise_and_(_MASK32)
    return even, odd.bitwise_and_(_MASK32)


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


def split_keys(key: Int[Tensor, " b"], parts: int) -> Int[Tensor, " b*parts"]:
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


@cache
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

    def __init__(self, key: Int[Tensor, " b"], stream: int, pool: Int[Tensor, "b n"] | None = None) -> None:
        self._key = key
        self._stream = stream
        self._pool = _parameter_words(key, torch.tensor([stream]), 0, _POOLED_COUNTERS)[:, 0] if pool is None else pool
        self._taken = 0

    @staticmethod
    def for_streams(key: Int[Tensor, " b"], streams: int) -> "list[Draws]":
        """Draws of the operations 0..streams-1, their words generated in one go."""
        if streams == 0:
            return []
        words = _parameter_words(key, torch.arange(streams), 0, _POOLED_COUNTERS)
        return [Draws(key, stream, words[:, stream]) for stream in range(streams)]

    def __len__(self) -> int:
        return self._key.shape[0]

    def first(self) -> "Draws":
        """The draws of the first sample alone, for operations that treat a batch alike."""
        return Draws(self._key[:1], self._stream, self._pool[:1])

    def words(self, count: int) -> Int[Tensor, "b n"]:
        """The next `count` 32-bit words of every sample, as int64 in [0, 2^32)."""
        start, stop = self._taken, self._taken + count
        self._taken = stop
        if stop <= self._pool.shape[1]:
            return self._pool[:, start:stop]
        first = start // 4
        fresh = _parameter_words(self._key, torch.tensor([self._stream]), first, -(-stop // 4) - first)[:, 0]
        return fresh[:, start - 4 * first : stop - 4 * first]

    def uniform(self, low: float = 0.0, high: float = 1.0) -> Float[Tensor, " b"]:
        """Uniform float64 numbers in (low, high)."""
        return self.uniforms(1, low, high)[:, 0]

    def uniforms(self, count: int, low: float = 0.0, high: float = 1.0) -> Float[Tensor, "b n"]:
        """`count` uniform float64 numbers per sample in (low, high)."""
        unit = (self.words(count).double() + 0.5) * 2.0**-32
        return unit * (high - low) + low

    def log_uniform(self, low: float, high: float) -> Float[Tensor, " b"]:
        """Numbers in (low, high) whose logarithm is uniform: as often half as double; float64."""
        # Exponentials differ in the last place between devices; rounding to float32 hides that.
        return self.uniform(math.log(low), math.log(high)).exp().float().double()

    def normals(self, count: int) -> Float[Tensor, "b n"]:
        """`count` standard normal float64 numbers per sample."""
        return normal_quantiles(self._key.device)[self.words(count) >> 16].double()

    def integer(self, bound: int) -> Int[Tensor, " b"]:
        """Integers, equally likely, in [0, bound)."""
        return (self.words(1)[:, 0] * bound) >> 32

    def chance(self, p: float) -> Float[Tensor, " b"]:
        """1 with probability `p`, else 0, as float64 (so that a gate is a parameter like any other)."""
        return (self.uniform() < p).double()

    def seeds(self) -> Int[Tensor, " b"]:
        """A 63-bit seed per sample, for code with a generator of its own."""
        words = self.words(2)
        return words[:, 0] | ((words[:, 1] >> 1) << 32)


def _parameter_words(
    key: Int[Tensor, " b"], streams: Int[Tensor, " s"], first: int, count: int
) -> Int[Tensor, "b s 4*count"]:
    device = key.device
    shape = (key.shape[0], len(streams), count)
    position = torch.arange(first, first + count, device=device).expand(shape)
    stream = streams.to(device, non_blocking=True)[:, None].expand(shape)
    counter = torch.stack((position, stream, torch.zeros_like(position), torch.full_like(position, _FOR_PARAMETERS)))
    words = philox4x32(counter, _key_words(key)[:, :, None, None].expand(2, *shape))
    return words.permute(1, 2, 3, 0).flatten(2)


def standard_normal(key: Int[Tensor, " b"], channels: int, pixels: int, stream: int = 0) -> Float[Tensor, "b c p"]:
    """Fields of standard normal noise, float32, a function of key, channel, pixel and stream alone.

    Eight pixels share a counter: its four words are split into halves, and each half looks up a normal quantile.
    Pixel p of a channel takes half p % 2 of word p // 2 // n of counter p // 2 % n, with n = ceil(pixels / 8).
    """
    batch, blocks = key.shape[0], -(-pixels // 8)
    device = key.device
    shape = (batch, channels, blocks)
    even = torch.empty((2, *shape), dtype=torch.int64, device=device)
    odd = torch.empty_like(even)
    even[0] = torch.arange(blocks, device=device)
    even[1] = stream
    odd[0] = torch.arange(channels, device=device)[:, None]
    odd[1] = _FOR_NOISE
    even, odd = _philox_halves(even, odd, _key_words(key)[:, :, None, None])
    words = torch.empty((batch, channels, 4, blocks), dtype=torch.int32, device=device)
    for lane, word in enumerate((even[0], odd[0], even[1], odd[1])):
        words[:, :, lane] = word
    index = words.view(torch.int16).view(-1).to(torch.int32).bitwise_and_(0xFFFF)
    return normal_quantiles(device).index_select(0, index).view(batch, channels, 8 * blocks)[..., :pixels]
