"""The loops of the compiled CPU executor: one pass over the pixels of a sample, compiled by Numba.

A run is eight stretches of consecutive output pixels, the eight that share counters of the noise generator. Their
coordinates and weights are worked out once, and then every band is sampled, taken through its radiometry and written
while it lies in the first-level cache. Nothing here knows about torch, plans or operations: what to do comes as arrays,
laid out by `kernels.compiled`.
"""

from typing import Any

import numpy as np
from numba import njit, types
from numba.extending import intrinsic, overload

# Kinds of step, as `kernels.lowering` numbers them.
AFFINE, NORMAL, GAMMA, STEPS, AMPLITUDE, DECIBEL = range(6)
# Kinds of layers.
PLANES, RAMP, VEIL, SHADE = range(4)

LANES = 8
_RUN = 128
_LEAST_POWER = 1e-10

_OPTIONS = {"nogil": True, "cache": True, "error_model": "numpy"}
# Where a multiplication and an addition may be one instruction; not so for coordinates, which decide about labels.
_CONTRACTED = {**_OPTIONS, "fastmath": {"contract"}}

_LOW32, _LOW16 = np.uint64(0xFFFFFFFF), np.uint64(0xFFFF)
_S32, _S16 = np.uint64(32), np.uint64(16)
_M0, _M1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_W0, _W1 = np.uint64(0x9E3779B9), np.uint64(0xBB67AE85)


@njit(**_OPTIONS)
def philox(words, first, count, channel, stream, key):  # type: ignore[no-untyped-def]
    """Philox4x32-7 of the counters (first + i, channel, stream, 3): four rows of words."""
    k0, k1 = key & _LOW32, key >> _S32
    for i in range(count):
        c0, c1, c2, c3 = np.uint64(first) + np.uint64(i), channel, stream, np.uint64(3)
        a0, a1 = k0, k1
        for _ in range(7):
            p0, p1 = _M0 * c0, _M1 * c2
            c0, c2 = (p1 >> _S32) ^ c1 ^ a0, (p0 >> _S32) ^ c3 ^ a1
            c1, c3 = p1 & _LOW32, p0 & _LOW32
            a0, a1 = (a0 + _W0) & _LOW32, (a1 + _W1) & _LOW32
        words[0, i], words[1, i], words[2, i], words[3, i] = np.uint32(c0), np.uint32(c1), np.uint32(c2), np.uint32(c3)


@njit(**_OPTIONS)
def _look_up(words, table, length, noise):  # type: ignore[no-untyped-def]
    """Standard normal numbers: each half of a word looks one up."""
    for lane in range(4):
        w, low, high = words[lane], noise[lane], noise[lane + 4]
        for i in range(length):
            word = np.uint64(w[i])
            low[i] = table[word & _LOW16]
            high[i] = table[word >> _S16]


@njit(**_CONTRACTED)
def _add_normal(values, variance, noise, length):  # type: ignore[no-untyped-def]
    for lane in range(LANES):
        v, s, n = values[lane], variance[lane], noise[lane]
        for i in range(length):
            v[i] += np.sqrt(s[i]) * n[i]


@njit(**_CONTRACTED)
def _gamma(values, noise, terms, length):  # type: ignore[no-untyped-def]
    shift, scale, multiply, add = terms[0], terms[1], terms[2], terms[3]
    one, zero = np.float32(1), np.float32(0)
    for lane in range(LANES):
        v, n = values[lane], noise[lane]
        for i in range(length):
            root = max(n[i] * scale + shift, zero)
            factor = root * root * root
            v[i] = v[i] * ((factor - one) * multiply + one) + add * factor


@njit(**_OPTIONS)
def _axis(place, size):  # type: ignore[no-untyped-def]
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


@njit(**_OPTIONS)
def _locate(run, block, length, width, rows, columns):  # type: ignore[no-untyped-def]
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


@njit(**_OPTIONS)
def _coordinates(rows, columns, back, size_out, beside_x, beside_y, length, xs, ys):  # type: ignore[no-untyped-def]
    """Where places beside the centres of output pixels lie in the input; sums are taken in torch's order."""
    half = np.float32(0.5)
    middle_x, middle_y = half * np.float32(size_out[1] - 1), half * np.float32(size_out[0] - 1)
    for lane in range(LANES):
        for i in range(length):
            across = (columns[lane, i] - middle_x) + beside_x
            down = (rows[lane, i] - middle_y) + beside_y
            xs[lane, i] = back[0] * across + (back[1] * down + back[2])
            ys[lane, i] = back[3] * across + (back[4] * down + back[5])


@njit(**_OPTIONS)
def _nearest(xs, ys, length, size, valid, index, good):  # type: ignore[no-untyped-def]
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


@njit(**_OPTIONS)
def _weigh(xs, ys, shift_x, shift_y, length, size, valid, index, weights, support):  # type: ignore[no-untyped-def]
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


@njit(**_OPTIONS)
def _settle_support(weights, subs, length, least, full, support, good):  # type: ignore[no-untyped-def]
    """Undo missing weight, and mark pixels with too little of it."""
    one = np.float32(1)
    share = one / np.float32(subs)
    for lane in range(LANES):
        for i in range(length):
            held = support[lane, i] * share
            good[lane, i] &= held >= least
            support[lane, i] = share if held > full else share / max(held, least)
        for sub in range(subs):
            for tap in range(4):
                for i in range(length):
                    weights[sub, tap, lane, i] *= support[lane, i]


@njit(**_OPTIONS)
def _all_bands_inside(xs, ys, length, size, span, least, good):  # type: ignore[no-untyped-def]
    """Where the least share of any shifted band's neighbours, by weight along each axis, lies inside the image."""
    zero, one = np.float32(0), np.float32(1)
    height, width = np.float32(size[0]), np.float32(size[1])
    for lane in range(LANES):
        for i in range(length):
            x, y = xs[lane, i], ys[lane, i]
            across = min(max(min(x + span[0] + one, width - x - span[1]), zero), one)
            down = min(max(min(y + span[2] + one, height - y - span[3]), zero), one)
            good[lane, i] = across * down >= least


@intrinsic  # type: ignore[misc]
def _pair(typing: Any, array: Any, index: Any) -> Any:
    """Two neighbouring integers of 8 or 16 bits by one load; loads are what interpolation waits for."""
    from llvmlite import ir
    from numba.core import cgutils

    size = array.dtype.bitwidth // 8

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = context.make_array(array)(context, builder, arguments[0]).data
        place = builder.gep(data, [arguments[1]])
        word = ir.IntType(16 * size)
        loaded = builder.load(builder.bitcast(place, cgutils.voidptr_t), typ=word, align=size)
        return loaded if size == 2 else builder.zext(loaded, ir.IntType(32))

    return types.uint32(array, types.uint64), generate


def _unpack(source, pair):  # type: ignore[no-untyped-def]
    raise NotImplementedError


@overload(_unpack, inline="always")
def _overload_unpack(source, pair):  # type: ignore[no-untyped-def]
    kind = source.dtype
    if kind == types.uint8:
        return lambda source, pair: (np.float32(pair & np.uint32(0xFF)), np.float32(pair >> np.uint32(8)))
    if kind == types.uint16:
        return lambda source, pair: (np.float32(pair & np.uint32(0xFFFF)), np.float32(pair >> np.uint32(16)))
    return lambda source, pair: (np.float32(np.int16(pair & np.uint32(0xFFFF))), np.float32(np.int32(pair) >> 16))


def take(source, index, weights, length, size, pairs, values, more):  # type: ignore[no-untyped-def]
    """Interpolate a band; added to what is there if `more`. The body is chosen by the type of the pixels."""
    raise NotImplementedError


@overload(take)
def _overload_take(source, index, weights, length, size, pairs, values, more):  # type: ignore[no-untyped-def]
    return _take_floats if isinstance(source.dtype, types.Float) else _take_integers


def _take_integers(source, index, weights, length, size, pairs, values, more):  # type: ignore[no-untyped-def]
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


def _take_floats(source, index, weights, length, size, pairs, values, more):  # type: ignore[no-untyped-def]
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


@njit(**_OPTIONS)
def _copy(source, index, length, values):  # type: ignore[no-untyped-def]
    for lane in range(LANES):
        for i in range(length):
            values[lane, i] = np.float32(source[np.uint64(index[lane, i])])


@njit(**_CONTRACTED)
def _field(field, period, view, columns, rows, size_out, length, excess):  # type: ignore[no-untyped-def]
    """A periodic field looked up at every pixel, less its threshold."""
    half = np.float32(0.5)
    middle_x, middle_y = half * np.float32(size_out[1] - 1), half * np.float32(size_out[0] - 1)
    for lane in range(LANES):
        for i in range(length):
            x, y = columns[lane, i] - middle_x, rows[lane, i] - middle_y
            across = view[0] * x + (view[1] * y + view[4])
            down = view[2] * x + (view[3] * y + view[5])
            left, top = np.floor(across), np.floor(down)
            share_x, share_y = across - left, down - top
            column, row = np.int32(left) % period, np.int32(top) % period
            column_after = column + 1 if column + 1 < period else 0
            row_after = row + 1 if row + 1 < period else 0
            at, below = row * period, row_after * period
            upper = field[at + column] + share_x * (field[at + column_after] - field[at + column])
            lower = field[below + column] + share_x * (field[below + column_after] - field[below + column])
            excess[lane, i] = upper + share_y * (lower - upper) - view[6]


@njit(**_CONTRACTED)
def _cloud(excess, reach, length, hidden, reflected, glow, veil):  # type: ignore[no-untyped-def]
    zero, one, two = np.float32(0), np.float32(1), np.float32(2)
    for lane in range(LANES):
        for i in range(length):
            above = max(excess[lane, i], zero)
            thickness = above * np.sqrt(above) * reach
            back = thickness / (thickness + two)
            hidden[lane, i] = back * (two - back)
            if veil:
                reflected[lane, i] = back
                near = min(max(excess[lane, i] * two + one, zero), one)
                glow[lane, i] = near * near


@njit(**_OPTIONS)
def _plane(flat, base, stride_y, stride_x, rows, columns, length, layer):  # type: ignore[no-untyped-def]
    for lane in range(LANES):
        for i in range(length):
            at = base + np.int64(rows[lane, i]) * stride_y + np.int64(columns[lane, i]) * stride_x
            layer[lane, i] = flat[np.uint64(at)]


@njit(**_CONTRACTED)
def _ramp(numbers, rows, columns, size_out, length, layer):  # type: ignore[no-untyped-def]
    half, one = np.float32(0.5), np.float32(1)
    per_x, per_y = one / np.float32(size_out[1]), one / np.float32(size_out[0])
    for lane in range(LANES):
        for i in range(length):
            x = (columns[lane, i] + half) * per_x - half
            y = (rows[lane, i] + half) * per_y - half
            layer[lane, i] = numbers[1] * x + (numbers[2] * y + numbers[0])


@njit(**_CONTRACTED)
def _affine(values, variance, pending, noisy, terms, length):  # type: ignore[no-untyped-def]
    gain, offset, floor, slope = terms[0], terms[1], terms[2], terms[3]
    square, zero = gain * gain, np.float32(0)
    for lane in range(LANES):
        v, s = values[lane], variance[lane]
        if noisy and pending:
            for i in range(length):
                s[i] = s[i] * square + max(v[i] * slope + floor, zero)
        elif noisy:
            for i in range(length):
                s[i] = max(v[i] * slope + floor, zero)
        elif pending:
            for i in range(length):
                s[i] *= square
        for i in range(length):
            v[i] = v[i] * gain + offset


@njit(**_CONTRACTED)
def _modulated(  # type: ignore[no-untyped-def]
    values, variance, pending, noisy, terms, layers, first, count, by_gain, by_offset, length, gain, offset
):
    floor, slope, zero = terms[2], terms[3], np.float32(0)
    for lane in range(LANES):
        v, s, g, o = values[lane], variance[lane], gain[lane], offset[lane]
        for i in range(length):
            g[i], o[i] = terms[0], terms[1]
        for layer in range(count):
            by_g, by_o, held = by_gain[first + layer], by_offset[first + layer], layers[first + layer, lane]
            if by_g != zero:
                for i in range(length):
                    g[i] += held[i] * by_g
            if by_o != zero:
                for i in range(length):
                    o[i] += held[i] * by_o
        if pending:
            for i in range(length):
                s[i] *= g[i] * g[i]
        if noisy:
            for i in range(length):
                added = max(v[i] * slope + floor, zero)
                s[i] = s[i] + added if pending else added
        for i in range(length):
            v[i] = v[i] * g[i] + o[i]


@njit(**_OPTIONS)
def _steps(values, terms, length):  # type: ignore[no-untyped-def]
    ceiling, step = terms[0], terms[1]
    for lane in range(LANES):
        v = values[lane]
        for i in range(length):
            v[i] = min(v[i], ceiling)
        if step > np.float32(0):
            for i in range(length):
                v[i] = np.rint(v[i] / step) * step


@njit(**_OPTIONS)
def _curve(values, kind, length):  # type: ignore[no-untyped-def]
    for lane in range(LANES):
        v = values[lane]
        if kind == AMPLITUDE:
            for i in range(length):
                v[i] = np.sqrt(max(v[i], np.float32(0)))
        else:
            for i in range(length):
                v[i] = np.log10(max(v[i], np.float32(_LEAST_POWER))) * np.float32(10)


@njit(**_OPTIONS)
def _write(values, good, start, count, fill, out):  # type: ignore[no-untyped-def]
    for i in range(count):
        out[start + i] = values[i] if good[i] else fill


@njit(**_OPTIONS)
def _round(values, count, fill, low, high, avoid):  # type: ignore[no-untyped-def]
    for i in range(count):
        value = min(max(np.rint(values[i]), low), high)
        values[i] = value + avoid if value == fill else value
