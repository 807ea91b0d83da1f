"""Loops of the compiled CPU executor over a run of values: noise, layers, and the steps of radiometry.

See `kernels.one_pass` for what a run is, and `kernels.sampling_loops` for where values come from.
"""

import numpy as np
from numba import njit

from geoaug.augment.kernels import vectors
from geoaug.augment.kernels.arrays import AMPLITUDE, DISPLAY, LIGHT
from geoaug.augment.kernels.vectors import GATHERS, VECTOR
from geoaug.sensors.srgb import LIFT, SLOPE, TOE_DISPLAY, TOE_LIGHT

LANES = 8
_LEAST_POWER = 1e-10

# As in `planning.band_grids` and `kernels.lattice`, which cannot be compiled.
_NEAREST, _CUBIC, _SMOOTH = 1, 3, 4
MARGIN = 3

OPTIONS = {"nogil": True, "cache": True, "error_model": "numpy", "no_cfunc_wrapper": True}
# Where a multiplication and an addition may be one instruction; not so for coordinates, which decide about labels.
CONTRACTED = {**OPTIONS, "fastmath": {"contract"}}

_LOW32, _LOW16 = np.uint64(0xFFFFFFFF), np.uint64(0xFFFF)
_S32, _S20, _S16, _S4 = np.uint64(32), np.uint64(20), np.uint64(16), np.uint64(4)
_M0, _M1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_W0, _W1 = np.uint64(0x9E3779B9), np.uint64(0xBB67AE85)


@njit(**OPTIONS)
def philox(words, first, count, channel, stream, key):
    """Philox4x32-10 of the counters of noise (see `geoaug.rng.noise`) from the `first` block on: four rows of words."""
    k0, k1 = key & _LOW32, key >> _S32
    zero, field = np.uint64(0), channel | (stream << _S16)
    for i in range(count):
        c0, c1, c2, c3 = np.uint64(first) + np.uint64(i), field, zero, zero
        a0, a1 = k0, k1
        for _ in range(10):
            p0, p1 = _M0 * c0, _M1 * c2
            c0, c2 = (p1 >> _S32) ^ c1 ^ a0, (p0 >> _S32) ^ c3 ^ a1
            c1, c3 = p1 & _LOW32, p0 & _LOW32
            a0, a1 = (a0 + _W0) & _LOW32, (a1 + _W1) & _LOW32
        words[0, i], words[1, i], words[2, i], words[3, i] = np.uint32(c0), np.uint32(c1), np.uint32(c2), np.uint32(c3)


@njit(**OPTIONS)
def parameter_words(keys, counters, use, words):
    """Philox4x32-10 of the counters (position, stream, 0, use): four words for each counter and key."""
    zero = np.uint64(0)
    for sample in range(len(keys)):
        k0, k1 = keys[sample] & _LOW32, keys[sample] >> _S32
        for number in range(len(counters)):
            c0, c1, c2, c3 = counters[number, 0], counters[number, 1], zero, use
            a0, a1 = k0, k1
            for _ in range(10):
                p0, p1 = _M0 * c0, _M1 * c2
                c0, c2 = (p1 >> _S32) ^ c1 ^ a0, (p0 >> _S32) ^ c3 ^ a1
                c1, c3 = p1 & _LOW32, p0 & _LOW32
                a0, a1 = (a0 + _W0) & _LOW32, (a1 + _W1) & _LOW32
            words[sample, 4 * number], words[sample, 4 * number + 1] = np.int64(c0), np.int64(c1)
            words[sample, 4 * number + 2], words[sample, 4 * number + 3] = np.int64(c2), np.int64(c3)


@njit(**OPTIONS)
def look_up(words, table, length, noise):
    """Standard normal numbers: each half of a word looks one up by its upper 12 bits."""
    for lane in range(4):
        w, low, high = words[lane], noise[lane], noise[lane + 4]
        if GATHERS:
            for i in range(0, length, VECTOR):
                vectors.look_up(table, w, low, high, i)
        else:
            for i in range(length):
                word = np.uint64(w[i])
                low[i] = table[(word & _LOW16) >> _S4]
                high[i] = table[word >> _S20]


@njit(**OPTIONS)
def lattice_lines(numbers, height):
    """Lines that the lattice of a band has over a tile; see `kernels.lattice`."""
    if numbers[3] == _SMOOTH:
        return height + MARGIN
    return np.int64(np.float32(height - 1) * numbers[0] + numbers[2]) + MARGIN


@njit(**OPTIONS)
def taps(first, length, inverse, start, kernel, index, weights):
    """The first of four neighbours of pixels along an axis on a lattice, and the weights of all four."""
    zero, half, one, two = np.float32(0), np.float32(0.5), np.float32(1), np.float32(2)
    side, middle = zero, zero
    if kernel == _SMOOTH:
        side, start = start, one
        middle = np.sqrt(max(one - two * side * side, zero))
    for i in range(length):
        place = np.float32(first + i) * inverse + start
        below = np.floor(place)
        share = place - below
        index[i] = np.int64(below) - 1
        if kernel == _SMOOTH:
            a, b, c, d = side, middle, side, zero
        elif kernel == _CUBIC:
            a = ((one - half * share) * share - half) * share
            b = (np.float32(1.5) * share - np.float32(2.5)) * share * share + one
            c = ((two - np.float32(1.5) * share) * share + half) * share
            d = (half * share - half) * share * share
        elif kernel == _NEAREST:
            a, b, c, d = zero, one if share < half else zero, one if share >= half else zero, zero
        else:
            a, b, c, d = zero, one - share, share, zero
        weights[0, i], weights[1, i], weights[2, i], weights[3, i] = a, b, c, d


@njit(**CONTRACTED)
def _across(points, index, weights, width, line):
    for i in range(width):
        at = index[i]
        line[i] = (
            points[at] * weights[0, i]
            + points[at + 1] * weights[1, i]
            + points[at + 2] * weights[2, i]
            + points[at + 3] * weights[3, i]
        )


@njit(**CONTRACTED)
def _down(one, two, three, four, weights, line):
    a, b, c, d = weights[0, 0], weights[1, 0], weights[2, 0], weights[3, 0]
    for i in range(len(line)):
        line[i] = one[i] * a + two[i] * b + three[i] * c + four[i] * d


@njit(**OPTIONS)
def draw_lattice(wide, numbers, width, lines, channel, stream, key, table, index, weights, words, points):
    """Draw the lattice of a band, and interpolate its lines to the columns of the tile: `wide`, line after line."""
    stride = width + MARGIN
    taps(0, width, numbers[0], numbers[1], numbers[3], index, weights)
    needed = index[width - 1] + 4
    for group in range((lines + LANES - 1) // LANES):
        philox(words, group * stride, needed, channel, stream, key)
        look_up(words, table, needed, points)
        for lane in range(min(LANES, lines - group * LANES)):
            at = (group * LANES + lane) * width
            _across(points[lane], index, weights, width, wide[at : at + width])


@njit(**OPTIONS)
def lattice_noise(wide, numbers, width, run, block, length, total, index, weights, noise):
    """Noise of a run of pixels from the lines of a lattice."""
    for lane in range(LANES):
        start = lane * block + run
        count = min(length, total - start)
        done = 0
        while done < count:
            row = (start + done) // width
            column = start + done - row * width
            many = min(width - column, count - done)
            taps(row, 1, numbers[0], numbers[2], numbers[3], index, weights)
            at = index[0] * width + column
            _down(
                wide[at : at + many],
                wide[at + width : at + width + many],
                wide[at + 2 * width : at + 2 * width + many],
                wide[at + 3 * width : at + 3 * width + many],
                weights,
                noise[lane, done : done + many],
            )
            done += many


@njit(**CONTRACTED)
def add_normal(values, variance, noise, length):
    for lane in range(LANES):
        v, s, n = values[lane], variance[lane], noise[lane]
        for i in range(length):
            v[i] += np.sqrt(s[i]) * n[i]


@njit(**CONTRACTED)
def gamma(values, noise, terms, length):
    shift, scale, multiply, add = terms[0], terms[1], terms[2], terms[3]
    one, zero = np.float32(1), np.float32(0)
    for lane in range(LANES):
        v, n = values[lane], noise[lane]
        for i in range(length):
            root = max(n[i] * scale + shift, zero)
            factor = root * root * root
            v[i] = v[i] * ((factor - one) * multiply + one) + add * factor


@njit(**CONTRACTED)
def field(field, period, view, columns, rows, size_out, length, excess):
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


@njit(**CONTRACTED)
def shade(excess, reach, length, hidden):
    zero, two = np.float32(0), np.float32(2)
    for lane in range(LANES):
        for i in range(length):
            above = max(excess[lane, i], zero)
            thickness = above * np.sqrt(above) * reach
            back = thickness / (thickness + two)
            hidden[lane, i] = back * (two - back)


@njit(**CONTRACTED)
def veil(excess, reach, blur, hidden, reflected, glow, diffuse):
    """The layers of `physics.cloud_field.CloudVeil` from a line of its field, less the threshold."""
    zero, half, one, two = np.float32(0), np.float32(0.5), np.float32(1), np.float32(2)
    sixth = np.float32(1 / 6)
    for i in range(len(excess)):
        above = max(excess[i], zero)
        thickness = above * np.sqrt(above) * reach
        back = thickness / (thickness + two)
        through, deep = one - back, thickness * blur
        direct = one / (one + deep * (one + deep * (half + deep * sixth)))
        hidden[i], reflected[i], diffuse[i] = one - through * direct, back, through * (through - direct)
        near = min(max(excess[i] * two + one, zero), one)
        glow[i] = near * near


@njit(**OPTIONS)
def plane(flat, base, stride_y, stride_x, rows, columns, length, layer):
    for lane in range(LANES):
        for i in range(length):
            at = base + np.int64(rows[lane, i]) * stride_y + np.int64(columns[lane, i]) * stride_x
            layer[lane, i] = flat[np.uint64(at)]


@njit(**OPTIONS)
def copy(target, source):
    for i in range(len(target)):
        target[i] = source[i]


@njit(**OPTIONS)
def window(flat, base, stride, rows, columns, size_out, length, layer):
    """Pixels of a plane that reaches beyond the tile, whose first one lies at `base` in it."""
    width, total = size_out[1], size_out[0] * size_out[1]
    for lane in range(LANES):
        start = np.int64(rows[lane, 0]) * width + np.int64(columns[lane, 0])
        count, done = min(length, total - start), 0
        while done < count:
            row = (start + done) // width
            column = start + done - row * width
            many = min(width - column, count - done)
            at = base + row * stride + column
            copy(layer[lane, done : done + many], flat[at : at + many])
            done += many


@njit(**OPTIONS)
def lines(flat, base, count, place, rows, columns, length, layer):
    """Lines of a band looked up at every pixel, linear between two of them."""
    last, zero = count - 1, np.float32(0)
    for lane in range(LANES):
        for i in range(length):
            at = max(place[0] * columns[lane, i] + (place[1] * rows[lane, i] + place[2]), zero)
            below = np.floor(at)
            line = base + np.int64(below) % last
            here, after = flat[line], flat[line + 1]
            layer[lane, i] = here + (at - below) * (after - here)


@njit(**CONTRACTED)
def ramp(numbers, rows, columns, size_out, length, layer):
    half, one = np.float32(0.5), np.float32(1)
    per_x, per_y = one / np.float32(size_out[1]), one / np.float32(size_out[0])
    for lane in range(LANES):
        for i in range(length):
            x = (columns[lane, i] + half) * per_x - half
            y = (rows[lane, i] + half) * per_y - half
            layer[lane, i] = numbers[1] * x + (numbers[2] * y + numbers[0])


@njit(**CONTRACTED)
def affine(values, variance, pending, noisy, terms, length):
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


@njit(**CONTRACTED)
def modulated(values, variance, pending, noisy, terms, layers, first, count, by_gain, by_offset, length, gain, offset):
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


@njit(**OPTIONS)
def steps(values, terms, length):
    ceiling, step = terms[0], terms[1]
    for lane in range(LANES):
        v = values[lane]
        for i in range(length):
            v[i] = min(v[i], ceiling)
        if step > np.float32(0):
            for i in range(length):
                v[i] = np.rint(v[i] / step) * step


# e^(1/5) for e from 0.74 to 1.25 and e^(1/3) from 0.48 to 1.5, highest power first: Chebyshev interpolation, exact to
# 3e-8 and 9e-8 of the value. Powers of other exponents take five times as long, one by one.
_FIFTH_ROOT = tuple(
    np.float32(term)
    for term in (-0.02312363221, 0.166330621, -0.5182592868, 0.9201352985, -1.04730409, 0.9143286829, 0.5878924118)
)
_THIRD_ROOT = tuple(
    np.float32(term)
    for term in (
        *(0.02630906258, -0.263654427, 1.176971553, -3.087107283, 5.286666788),
        *(-6.2212877, 5.18301132, -3.173673219, 1.739759747, 0.333004109),
    )
)


@njit(**OPTIONS)
def _polynomial(terms, x):
    total = terms[0]
    for term in terms[1:]:
        total = total * x + term
    return total


@njit(**OPTIONS)
def _light_of(display):
    """`physics.display.light_of`: x^2.4 as x^2 e^3 e^(1/5), e the eighth root of x."""
    raised = (max(display, np.float32(TOE_DISPLAY)) + np.float32(LIFT)) * np.float32(1 / (1 + LIFT))
    fourth = np.sqrt(np.sqrt(raised))
    eighth = np.sqrt(fourth)
    raised = raised * raised * (fourth * eighth) * _polynomial(_FIFTH_ROOT, eighth)
    return display * np.float32(1 / SLOPE) if display <= np.float32(TOE_DISPLAY) else raised


@njit(**OPTIONS)
def _display_of(light):
    """`physics.display.display_of`: x^(1/2.4) as e^3 e^(1/3), e the eighth root of x."""
    fourth = np.sqrt(np.sqrt(max(light, np.float32(TOE_LIGHT))))
    eighth = np.sqrt(fourth)
    raised = fourth * eighth * _polynomial(_THIRD_ROOT, eighth) * np.float32(1 + LIFT) - np.float32(LIFT)
    return light * np.float32(SLOPE) if light <= np.float32(TOE_LIGHT) else raised


@njit(**OPTIONS)
def curve(values, kind, length):
    for lane in range(LANES):
        v = values[lane]
        if kind == AMPLITUDE:
            for i in range(length):
                v[i] = np.sqrt(max(v[i], np.float32(0)))
        elif kind == LIGHT:
            for i in range(length):
                v[i] = _light_of(v[i])
        elif kind == DISPLAY:
            for i in range(length):
                v[i] = _display_of(v[i])
        else:
            for i in range(length):
                v[i] = np.log10(max(v[i], np.float32(_LEAST_POWER))) * np.float32(10)


@njit(**OPTIONS)
def write(values, good, start, count, fill, out):
    part = out[start : start + count]
    for i in range(len(part)):
        part[i] = values[i] if good[i] else fill


@njit(**OPTIONS)
def write_floats(values, good, start, count, fill, out):
    part, source = out[start : start + count], values[:count]
    for i in range(count):
        source[i] = source[i] if good[i] else fill
    stream(part, source)


@njit(**OPTIONS)
def stream(part, source):
    """Copy float32 to where they will not be read again soon."""
    count = len(part)
    lead = min(np.int64(-(part.ctypes.data >> 2) % VECTOR), count)
    for i in range(lead):
        part[i] = source[i]
    whole = lead + (count - lead) // VECTOR * VECTOR
    for i in range(lead, whole, VECTOR):
        vectors.stream(part, source, np.uint64(i))
    for i in range(whole, count):
        part[i] = source[i]


@njit(**OPTIONS)
def round(values, count, fill, low, high, avoid):
    for i in range(count):
        value = min(max(np.rint(values[i]), low), high)
        values[i] = value + avoid if value == fill else value
