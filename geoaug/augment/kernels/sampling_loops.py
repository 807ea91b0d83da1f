"""Loops of the compiled CPU executor over a run of pixels: coordinates, weights, and sampling by them.

See `kernels.one_pass` for what a run is, and `kernels.loops` for what is done to the values.
"""

import numpy as np
from numba import njit, types
from numba.extending import intrinsic, overload

from geoaug.augment.kernels.loops import LANES, OPTIONS


@njit(**OPTIONS)
def _axis(place, size):
    """First of two neighbours inside the image, and the weights of both."""
    one, zero = np.float32(1), np.float32(0)
    last = np.float32(max(size - 2, 0))
    place = min(max(place, np.float32(-2)), np.float32(size + 1))
    below = np.floor(place)
    share = place - below
    keep = one - share
    first = min(max(below, zero), last)
    here, before, after = below == first, below + one == first, below == first + one
    low = keep if here else (share if before else zero)
    high = share if here else (keep if after else zero)
    return first, low, high if size > 1 else zero


@njit(**OPTIONS)
def fetch(source, step):
    """Read one value of every cache line in order, so that sampling, which jumps, finds them in the cache."""
    total = np.int64(0)
    for i in range(0, len(source), step):
        total += np.int64(source[i])
    return total


@njit(**OPTIONS)
def locate(run, block, length, width, rows, columns):
    """Row and column of the output pixels of a run, as float32."""
    for lane in range(LANES):
        row, column = divmod(lane * block + run, width)
        done = 0
        while done < length:
            part = min(length - done, width - column)
            for i in range(part):
                rows[lane, done + i] = np.float32(row)
                columns[lane, done + i] = np.float32(column + i)
            done, row, column = done + part, row + 1, 0


@njit(**OPTIONS)
def coordinates(rows, columns, back, size_out, beside_x, beside_y, length, xs, ys):
    """Where places beside the centres of output pixels lie in the input; sums are taken in torch's order."""
    half = np.float32(0.5)
    middle_x, middle_y = half * np.float32(size_out[1] - 1), half * np.float32(size_out[0] - 1)
    for lane in range(LANES):
        for i in range(length):
            across = (columns[lane, i] - middle_x) + beside_x
            down = (rows[lane, i] - middle_y) + beside_y
            xs[lane, i] = back[0] * across + (back[1] * down + back[2])
            ys[lane, i] = back[3] * across + (back[4] * down + back[5])


@njit(**OPTIONS)
def nearest(xs, ys, length, size, valid, index, good):
    """The nearest input pixel, and whether there is one with data."""
    height, width = np.float32(size[0] - 1), np.float32(size[1] - 1)
    zero, half = np.float32(0), np.float32(0.5)
    for lane in range(LANES):
        for i in range(length):
            x, y = np.floor(xs[lane, i] + half), np.floor(ys[lane, i] + half)
            inside = (x >= zero) & (x <= width) & (y >= zero) & (y <= height)
            column, row = min(max(x, zero), width), min(max(y, zero), height)
            index[lane, i] = np.uint32(np.int32(row) * np.int32(size[1]) + np.int32(column))
            good[lane, i] = inside
        if valid.size > 0:
            for i in range(length):
                good[lane, i] &= valid[np.uint64(index[lane, i])]


@njit(**OPTIONS)
def weigh(xs, ys, shift_x, shift_y, length, size, valid, index, weights, support):
    """The first of four neighbours of every place and the weights of all; their sum is added to `support`."""
    height, width = size
    step_x, step_y = np.uint64(1 if width > 1 else 0), np.uint64(width if height > 1 else 0)
    for lane in range(LANES):
        a, b, c, d = weights[0, lane], weights[1, lane], weights[2, lane], weights[3, lane]
        at = index[lane]
        for i in range(length):
            left, low_x, high_x = _axis(xs[lane, i] + shift_x, width)
            top, low_y, high_y = _axis(ys[lane, i] + shift_y, height)
            at[i] = np.uint32(np.int32(top) * np.int32(width) + np.int32(left))
            a[i], b[i], c[i], d[i] = low_x * low_y, high_x * low_y, low_x * high_y, high_x * high_y
        if valid.size > 0:
            for i in range(length):
                q = np.uint64(at[i])
                a[i] *= np.float32(valid[q])
                b[i] *= np.float32(valid[q + step_x])
                c[i] *= np.float32(valid[q + step_y])
                d[i] *= np.float32(valid[q + step_y + step_x])
        for i in range(length):
            support[lane, i] += (a[i] + b[i]) + (c[i] + d[i])


@njit(**OPTIONS)
def settle_support(weights, subs, length, least, minimum, full, support, good):
    """Undo missing weight, and mark pixels with too little of it."""
    one = np.float32(1)
    share = one / np.float32(subs)
    for lane in range(LANES):
        for i in range(length):
            held = support[lane, i] * share
            good[lane, i] &= held >= least
            support[lane, i] = share if held > full else share / max(held, minimum)
        for sub in range(subs):
            for tap in range(4):
                for i in range(length):
                    weights[sub, tap, lane, i] *= support[lane, i]


@njit(**OPTIONS)
def all_bands_inside(xs, ys, length, size, span, least, good):
    """Where the least share of any shifted band's neighbours, by weight along each axis, lies inside the image."""
    zero, one = np.float32(0), np.float32(1)
    height, width = np.float32(size[0]), np.float32(size[1])
    for lane in range(LANES):
        for i in range(length):
            x, y = xs[lane, i], ys[lane, i]
            across = min(max(min(x + span[0] + one, width - x - span[1]), zero), one)
            down = min(max(min(y + span[2] + one, height - y - span[3]), zero), one)
            good[lane, i] = across * down >= least


@intrinsic
def _pair(typing, array, index):
    """Two neighbouring integers of 8 or 16 bits by one load; loads are what interpolation waits for."""
    from llvmlite import ir
    from numba.core import cgutils

    size = array.dtype.bitwidth // 8

    def generate(context, builder, signature, arguments):
        data = context.make_array(array)(context, builder, arguments[0]).data
        place = builder.gep(data, [arguments[1]])
        word = ir.IntType(16 * size)
        loaded = builder.load(builder.bitcast(place, cgutils.voidptr_t), typ=word, align=size)
        return loaded if size == 2 else builder.zext(loaded, ir.IntType(32))

    return types.uint32(array, types.uint64), generate


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


def take(source, index, weights, length, size, pairs, values, more):
    """Interpolate a band; added to what is there if `more`. The body is chosen by the type of the pixels."""
    raise NotImplementedError


@overload(take)
def _overload_take(source, index, weights, length, size, pairs, values, more):
    return _take_floats if isinstance(source.dtype, types.Float) else _take_integers


def _take_integers(source, index, weights, length, size, pairs, values, more):
    step_y = np.uint64(size[1] if size[0] > 1 else 0)
    upper, lower = pairs[0], pairs[1]
    for lane in range(LANES):
        v, at = values[lane], index[lane]
        a, b, c, d = weights[0, lane], weights[1, lane], weights[2, lane], weights[3, lane]
        for i in range(length):
            q = np.uint64(at[i])
            upper[i] = _pair(source, q)
            lower[i] = _pair(source, q + step_y)
        for i in range(length):
            p, q = _unpack(source, upper[i])
            r, s = _unpack(source, lower[i])
            total = (a[i] * p + b[i] * q) + (c[i] * r + d[i] * s)
            v[i] = v[i] + total if more else total


def _take_floats(source, index, weights, length, size, pairs, values, more):
    step_x, step_y = np.uint64(1 if size[1] > 1 else 0), np.uint64(size[1] if size[0] > 1 else 0)
    for lane in range(LANES):
        v, at = values[lane], index[lane]
        a, b, c, d = weights[0, lane], weights[1, lane], weights[2, lane], weights[3, lane]
        for i in range(length):
            q = np.uint64(at[i])
            total = (a[i] * source[q] + b[i] * source[q + step_x]) + (
                c[i] * source[q + step_y] + d[i] * source[q + step_y + step_x]
            )
            v[i] = v[i] + total if more else total


@njit(**OPTIONS)
def copy(source, index, length, values):
    for lane in range(LANES):
        for i in range(length):
            values[lane, i] = np.float32(source[np.uint64(index[lane, i])])
