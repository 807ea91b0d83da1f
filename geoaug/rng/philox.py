"""Philox4x32: random words that are a function of a counter and a key, on torch tensors, by numpy, and compiled.

What they are used for is decided by who asks: keys and parameters in `random`, fields of noise in `noise`. All ways
give the same words.

Reference: Salmon, Moraes, Dror and Shaw (2011), "Parallel random numbers: as easy as 1, 2, 3", SC'11.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from geoaug.small_arrays import constant, runs_by_numpy

MASK32 = 0xFFFFFFFF
ROUNDS = 10
MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
WEYL = (0x9E3779B9, 0xBB67AE85)
# For numpy: a factor for each word, and what is added to each half of the key in every round.
_FACTORS = np.array(MULTIPLIERS, np.uint64)[:, None, None]
_WEYL_STEPS = (np.arange(ROUNDS, dtype=np.uint64)[:, None] * np.array(WEYL, np.uint64))[:, :, None, None]

# The last counter word keeps the uses of one key apart. That of noise is 0, as are the words before it: see `noise`.
FOR_KEYS, FOR_PARAMETERS = 1, 2


def philox4x32(counter: Int[Tensor, "4 *shape"], key: Int[Tensor, "2 *#shape"]) -> Int[Tensor, "4 *shape"]:
    """Philox4x32-10: four 32-bit words for each counter under a key.

    Args:
        counter: int64 words in [0, 2^32), c0 to c3 along the first dimension.
        key: int64 words k0 and k1 along the first dimension; broadcasts against the counter.

    Returns:
        int64 words in [0, 2^32), with the shape of `counter`.
    """
    high, low = philox_rounds(counter[0::2].clone(), counter[1::2].clone(), round_keys(key))
    return torch.stack((high[0], low[0], high[1], low[1]))


def philox_rounds(
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
        torch.mul(c0, MULTIPLIERS[0], out=into[1])
        torch.mul(c2, MULTIPLIERS[1], out=into[0])
        torch.bitwise_right_shift(product, 32, out=even)
        even.bitwise_xor_(odd).bitwise_xor_(key).bitwise_and_(MASK32)
        odd, product, into, spare = product, odd, spare, into
    return even, odd.bitwise_and_(MASK32)


def round_keys(key: Int[Tensor, "2 *shape"]) -> list[Int[Tensor, "2 *shape"]]:
    """The key of every round."""
    weyl = constant(tuple(tuple(turn * step for step in WEYL) for turn in range(ROUNDS)), torch.int64, key.device)
    steps = weyl.view(*weyl.shape, *[1] * (key.dim() - 1))
    return list((key + steps).bitwise_and_(MASK32))


def key_words(key: Int[Tensor, "*shape"]) -> Int[Tensor, "2 *shape"]:
    return torch.stack((key & MASK32, (key >> 32) & MASK32))


def counters_from(stream: int, first: int, stop: int) -> tuple[tuple[int, int], ...]:
    """Counters of an operation's numbers, each as (position, stream)."""
    return tuple((position, stream) for position in range(first, stop))


@lru_cache(maxsize=256)
def counters_of(pools: tuple[int, ...]) -> tuple[tuple[int, int], ...]:
    """Counters of several operations, each with so many."""
    return tuple(pair for stream, count in enumerate(pools) for pair in counters_from(stream, 0, count))


def parameter_words(key: Int[Tensor, " b"], counters: tuple[tuple[int, int], ...]) -> Any:
    """Four words (b, n) for each counter (position, stream, 0, parameters); an array where numpy may make them."""
    if runs_by_numpy(key):
        return _words_by_numpy(key, counters)
    device = key.device
    if not counters:
        return torch.zeros(len(key), 0, dtype=torch.int64, device=device)
    shape = (len(key), len(counters))
    position, stream = constant(counters, torch.int64, device).T[:, None].expand(2, *shape)
    counter = torch.stack((position, stream, torch.zeros_like(position), torch.full_like(position, FOR_PARAMETERS)))
    words = philox4x32(counter, key_words(key)[:, :, None].expand(2, *shape))
    return words.permute(1, 2, 0).flatten(1)


def _words_by_numpy(key: Int[Tensor, " b"], counters: tuple[tuple[int, int], ...]) -> Any:
    samples = key.numpy().view(np.uint64)
    if _compiled_words or not counters:
        found = np.empty((len(samples), 4 * len(counters)), np.int64)
        if counters:
            _compiled_words[0](samples, _counter_array(counters), np.uint64(FOR_PARAMETERS), found)
        return found
    halves = np.stack((samples & np.uint64(MASK32), samples >> np.uint64(32)))[:, :, None]
    shape = (2, len(samples), len(counters))
    even, odd, product = np.zeros(shape, np.uint64), np.empty(shape, np.uint64), np.empty(shape, np.uint64)
    even[0], odd[0] = _counter_array(counters).T[:, None]
    odd[1] = FOR_PARAMETERS
    mask, half = np.uint64(MASK32), np.uint64(32)
    for key_of_round in (halves + _WEYL_STEPS) & mask:
        # As in `philox_rounds`; unsigned products do not wrap.
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
