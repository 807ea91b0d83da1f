"""How the compiled CPU executor interpolates: pixels read at scattered places, and summed by weights.

Two neighbours of one row are read at once, either sixteen such pairs by one instruction, where the processor is good at
that (`vectors.GATHERS`), or pair by pair. Both sum in the same order.
"""

import numpy as np
from numba import njit, types
from numba.extending import overload, register_jitable

from geoaug.augment.kernels import vectors
from geoaug.augment.kernels.loops import LANES, OPTIONS
from geoaug.augment.kernels.vectors import VECTOR

_SPARE = 4


@register_jitable
def readable(source, width):
    """A band that may be read in pairs, and the last place where four bytes begin. Where pairs would reach beyond it,
    in images of one column or of fewer than four bytes, a copy with some room."""
    if width > 1 and len(source) >= _SPARE:
        return source, len(source) - max(2, 4 // source.itemsize)
    roomy = np.zeros(len(source) + _SPARE, source.dtype)
    roomy[: len(source)] = source
    return roomy, len(source)


def take(source, index, weights, length, size, pairs, values, more, guarded):
    """Interpolate a band by four neighbours; added to what is there if `more`. What has no weight may be NaN where it
    is `guarded`. The body is chosen by the processor and the type of the pixels."""
    raise NotImplementedError


@overload(take)
def _overload_take(source, index, weights, length, size, pairs, values, more, guarded):
    if vectors.GATHERS:
        return take_vectors
    return take_floats if isinstance(source.dtype, types.Float) else take_integers


def take_vectors(source, index, weights, length, size, pairs, values, more, guarded):
    held, last = readable(source, size[1])
    below = np.int64(size[1] if size[0] > 1 else 0)
    for lane in range(LANES):
        v, at = values[lane], index[lane]
        a, b, c, d = weights[0, lane], weights[1, lane], weights[2, lane], weights[3, lane]
        if guarded:
            for i in range(0, length, VECTOR):
                vectors.add_guarded_pair(held, at, a, b, v, i, 0, last, more)
                vectors.add_guarded_pair(held, at, c, d, v, i, below, last, True)
        else:
            for i in range(0, length, VECTOR):
                vectors.add_pair(held, at, a, b, v, i, 0, last, more)
                vectors.add_pair(held, at, c, d, v, i, below, last, True)


def take_integers(source, index, weights, length, size, pairs, values, more, guarded):
    held, _ = readable(source, size[1])
    below = np.uint64(size[1] if size[0] > 1 else 0)
    upper, lower = pairs[0], pairs[1]
    for lane in range(LANES):
        v, at = values[lane], index[lane]
        a, b, c, d = weights[0, lane], weights[1, lane], weights[2, lane], weights[3, lane]
        for i in range(length):
            q = np.uint64(at[i])
            upper[i] = vectors.pair_at(held, q)
            lower[i] = vectors.pair_at(held, q + below)
        for i in range(length):
            p, q = _unpack(held, upper[i])
            r, s = _unpack(held, lower[i])
            total = a[i] * p + b[i] * q
            v[i] = (v[i] + total if more else total) + (c[i] * r + d[i] * s)


def _unpack(source, pair):
    raise NotImplementedError


@overload(_unpack, inline="always")
def _overload_unpack(source, pair):
    kind = source.dtype
    if kind == types.uint8:
        return lambda source, pair: (np.float32(pair & np.uint32(0xFF)), np.float32(pair >> np.uint32(8)))
    if kind == types.uint16:
        return lambda source, pair: (np.float32(pair & np.uint32(0xFFFF)), np.float32(pair >> np.uint32(16)))
    return lambda source, pair: (np.float32(np.int16(pair & np.uint32(0xFFFF))), np.float32(np.int32(pair) >> 16))


def take_floats(source, index, weights, length, size, pairs, values, more, guarded):
    step_x, step_y = np.uint64(1 if size[1] > 1 else 0), np.uint64(size[1] if size[0] > 1 else 0)
    zero = np.float32(0)
    for lane in range(LANES):
        v, at = values[lane], index[lane]
        a, b, c, d = weights[0, lane], weights[1, lane], weights[2, lane], weights[3, lane]
        if guarded:
            for i in range(length):
                q = np.uint64(at[i])
                upper = (a[i] * source[q] if a[i] != zero else zero) + (
                    b[i] * source[q + step_x] if b[i] != zero else zero
                )
                lower = (c[i] * source[q + step_y] if c[i] != zero else zero) + (
                    d[i] * source[q + step_y + step_x] if d[i] != zero else zero
                )
                v[i] = (v[i] + upper if more else upper) + lower
            continue
        for i in range(length):
            q = np.uint64(at[i])
            total = a[i] * source[q] + b[i] * source[q + step_x]
            lower = c[i] * source[q + step_y] + d[i] * source[q + step_y + step_x]
            v[i] = (v[i] + total if more else total) + lower


def take_cubic(source, index, weights, length, size, values, more, guarded):
    """The same by sixteen neighbours."""
    raise NotImplementedError


@overload(take_cubic)
def _overload_take_cubic(source, index, weights, length, size, values, more, guarded):
    return cubic_vectors if vectors.GATHERS else cubic_pixels


def cubic_vectors(source, index, weights, length, size, values, more, guarded):
    held, last = readable(source, size[1])
    for lane in range(LANES):
        v, at = values[lane], index[lane]
        for tap in range(0, 16, 2):
            low, high, add = weights[tap, lane], weights[tap + 1, lane], more or tap > 0
            beyond = np.int64(tap_beyond(tap, size))
            if guarded:
                for i in range(0, length, VECTOR):
                    vectors.add_guarded_pair(held, at, low, high, v, i, beyond, last, add)
            else:
                for i in range(0, length, VECTOR):
                    vectors.add_pair(held, at, low, high, v, i, beyond, last, add)


def cubic_pixels(source, index, weights, length, size, values, more, guarded):
    zero = np.float32(0)
    for lane in range(LANES):
        v, at = values[lane], index[lane]
        for tap in range(0, 16, 2):
            a, b, add = weights[tap, lane], weights[tap + 1, lane], more or tap > 0
            here, beside = tap_beyond(tap, size), tap_beyond(tap + 1, size)
            if guarded:
                for i in range(length):
                    q = np.uint64(at[i])
                    left = a[i] * np.float32(source[q + here]) if a[i] != zero else zero
                    right = b[i] * np.float32(source[q + beside]) if b[i] != zero else zero
                    v[i] = v[i] + (left + right) if add else left + right
            else:
                for i in range(length):
                    q = np.uint64(at[i])
                    total = a[i] * np.float32(source[q + here]) + b[i] * np.float32(source[q + beside])
                    v[i] = v[i] + total if add else total


@njit(**OPTIONS)
def tap_beyond(tap, size):
    """How far a tap lies behind the first; where an image has no four lines, those without weight lie on the last."""
    return np.uint64(min(tap // 4, size[0] - 1) * size[1] + min(tap % 4, size[1] - 1))
