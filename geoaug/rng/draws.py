"""Counter-based random numbers keyed by the sample.

What happens to a sample is a function of (seed, sample, epoch) alone, so every number drawn for it is Philox4x32-10
of a counter under the sample's key: no state, no generator to seed, the same on any number of workers and in any
batch. Here live the mixing of identities into keys and the draws of operation parameters; the generator is in `philox`,
fields of noise are in `noise`. What is drawn for which operation is decided in `geoaug.augment`.

Reference: Salmon, Moraes, Dror and Shaw (2011), "Parallel random numbers: as easy as 1, 2, 3", SC'11.
"""

import hashlib
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from geoaug.rng.noise import normal_quantiles
from geoaug.rng.philox import FOR_KEYS, MASK32, counters_from, counters_of, key_words, parameter_words, philox4x32
from geoaug.small_arrays import Numbers, by_numpy

# Counters of four words each that are generated for an operation before it draws: as many as most of them use.
_POOLED_COUNTERS = 8


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
            index & MASK32,
            (index >> 32) & MASK32,
            torch.full_like(index, epoch),
            torch.full_like(index, FOR_KEYS),
        )
    )
    words = philox4x32(counter, key_words(seeds))
    return words[0] | ((words[1] >> 1) << 32)


def split_keys(key: Int[Tensor, " b"], parts: int) -> Int[Tensor, " n"]:
    """Independent keys for the parts of a sample (the dates of a time series), sample by sample."""
    index = torch.arange(parts, device=key.device).expand(key.shape[0], parts)
    zero = torch.zeros_like(index)
    words = philox4x32(
        torch.stack((index, zero, zero + 1, zero + FOR_KEYS)),
        key_words(key)[..., None].expand(2, -1, parts),
    )
    return (words[0] | ((words[1] >> 1) << 32)).reshape(-1)


def random_keys(count: int, device: torch.device | str = "cpu") -> Int[Tensor, " b"]:
    """Keys from torch's own generator, for batches without an identity: `torch.manual_seed` governs them."""
    return torch.randint(0, 2**63 - 1, (count,), device=device, dtype=torch.int64)


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
        self._pool = parameter_words(key, counters_from(stream, 0, _POOLED_COUNTERS)) if pool is None else pool
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
        every = parameter_words(key, counters_of(tuple(pools)))
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
        fresh = parameter_words(self._key, counters_from(self._stream, first, -(-stop // 4)))
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
        # Exponentials differ in the last digit between devices; rounding to float32 hides that.
        exponent = self.uniform(math.log(low), math.log(high))
        return _exponential(exponent)

    def normals(self, count: int) -> Float[Tensor, "b n"]:
        """`count` standard normal float64 numbers per sample."""
        positions, table = self._words(count) >> 16, normal_quantiles(self._key.device)
        if isinstance(positions, np.ndarray):
            return torch.from_numpy(table.numpy()[positions].astype(np.float64))
        return table[positions].double()

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
