"""Loops of the compiled CPU executor that interpolate by cubic convolution: `kernels.sampling_loops` for sixteen taps.

The index of a place is that of the first of sixteen pixels that lie inside the image, whatever their weights.
"""

import numpy as np
from numba import njit

from geoaug.augment.kernels.gathers import tap_beyond
from geoaug.augment.kernels.loops import LANES, OPTIONS


@njit(**OPTIONS)
def _axis(place, size):
    """First of four neighbours inside the image, and the weights of all: `warp.cubic_weights`, 0 for those outside."""
    zero, half, one, two, three = np.float32(0), np.float32(0.5), np.float32(1), np.float32(2), np.float32(3)
    more, most = np.float32(1.5), np.float32(2.5)
    place = min(max(place, np.float32(-3)), np.float32(size + 2))
    below = np.floor(place)
    share = place - below
    a = ((one - half * share) * share - half) * share
    b = (more * share - most) * share * share + one
    c = ((two - more * share) * share + half) * share
    d = (half * share - half) * share * share
    start, last = below - one, np.float32(max(size - 4, 0))
    first = min(max(start, zero), last)
    # The weight of pixel `first + k` is that of tap `first + k - start`.
    tap = first - start
    p = _weight_of(tap, a, b, c, d)
    q = _weight_of(tap + one, a, b, c, d) if size > 1 else zero
    r = _weight_of(tap + two, a, b, c, d) if size > 2 else zero
    s = _weight_of(tap + three, a, b, c, d) if size > 3 else zero
    return first, p, q, r, s


@njit(**OPTIONS)
def _weight_of(tap, a, b, c, d):
    zero = np.float32(0)
    low = a if tap == zero else (b if tap == np.float32(1) else zero)
    return c if tap == np.float32(2) else (d if tap == np.float32(3) else low)


@njit(**OPTIONS)
def weigh(xs, ys, shift_x, shift_y, length, size, valid, index, weights, support):
    """The first of sixteen neighbours of every place and the weights of all; their sum is added to `support`."""
    height, width = size
    for lane in range(LANES):
        at = index[lane]
        for i in range(length):
            left, a, b, c, d = _axis(xs[lane, i] + shift_x, width)
            top, e, f, g, h = _axis(ys[lane, i] + shift_y, height)
            at[i] = np.uint32(np.int32(top) * np.int32(width) + np.int32(left))
            weights[0, lane, i], weights[1, lane, i] = a * e, b * e
            weights[2, lane, i], weights[3, lane, i] = c * e, d * e
            weights[4, lane, i], weights[5, lane, i] = a * f, b * f
            weights[6, lane, i], weights[7, lane, i] = c * f, d * f
            weights[8, lane, i], weights[9, lane, i] = a * g, b * g
            weights[10, lane, i], weights[11, lane, i] = c * g, d * g
            weights[12, lane, i], weights[13, lane, i] = a * h, b * h
            weights[14, lane, i], weights[15, lane, i] = c * h, d * h
        for tap in range(16):
            share, beyond = weights[tap, lane], tap_beyond(tap, size)
            if valid.size > 0:
                for i in range(length):
                    share[i] *= np.float32(valid[np.uint64(at[i]) + beyond])
            for i in range(length):
                support[lane, i] += share[i]
