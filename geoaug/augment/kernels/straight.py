"""The short way of the compiled CPU executor, for samples that are copied, at most times a gain and plus an offset.

Flips, crops, brightness alone: there is nothing to interpolate, no noise to draw, and no use in runs. Whole rows go
from the input to the output, at the speed of memory. What is not so plain after all (a NaN, an invalid pixel) is
left to the long way.
"""

import numpy as np
from numba import njit

from geoaug.augment.kernels import loops, sampling_loops
from geoaug.augment.kernels.arrays import AFFINE
from geoaug.augment.kernels.loops import CONTRACTED, OPTIONS
from geoaug.augment.kernels.vectors import VECTOR, scaled_backwards, scaled_forwards

_CACHE_LINE = 4 * VECTOR
_ALL_FINITE = np.uint16(0xFFFF)


@njit(**OPTIONS)
def is_plain(given, steps, sources, out, rules):
    """Whether a program does no more than that."""
    plain = out.final and out.flags.size == 0 and len(sources.kind) == 0 and len(steps.kind) <= 1
    if len(steps.kind) == 1:
        plain &= steps.kind[0] == AFFINE and not steps.noisy[0] and out.stored == 3
    # Values that are rounded to another type, or step aside, are no copies.
    least = np.float32(-32768) if out.stored == 2 else np.float32(0)
    kept = given.stored == out.stored and rules.avoid == np.float32(0) and rules.low == least
    return plain and (out.stored == 3 or kept)


@njit(**OPTIONS)
def _piece(source, place, into, start):
    """The pixels of a row that lie inside the input; without slices, whose making would take as long."""
    stride, low = place[1], place[2]
    at, to, count = np.uint64(place[0] + low * stride), np.uint64(start + low), np.uint64(place[3] - low)
    if stride == 1:
        for i in range(count):
            into[to + i] = source[at + i]
    elif stride == -1:
        for i in range(count):
            into[to + i] = source[at - i]
    else:
        for i in range(count):
            into[to + i] = source[at + i * np.uint64(stride)]


@njit(**OPTIONS)
def _fill_outside(places, first, last, width, fill, into):
    """The rest of some rows, the first of which stands at the beginning of `into`."""
    for row in range(first, last):
        low, high, start = places[row, 2], places[row, 3], (row - first) * width
        if low > 0 or high < width:
            into[start : start + low] = fill
            into[start + high : start + width] = fill


@njit(**OPTIONS)
def _copied(source, places, width, fill, into):
    """All rows of a band, as they are."""
    for row in range(len(places)):
        _piece(source, places[row], into, row * width)
    _fill_outside(places, 0, len(places), width, fill, into)


@njit(**CONTRACTED)
def _scaled(source, places, width, fill, gain, offset, spare, into):
    """All rows of a band times a gain and plus an offset, some rows at a time; whether all is finite."""
    if len(spare) == 0:
        return _lines(source, places, width, fill, gain, offset, into)
    most, fine, same = np.float32(3.4028235e38), True, gain == np.float32(1) and offset == np.float32(0)
    many = len(spare) // width
    for first in range(0, len(places), many):
        last = min(first + many, len(places))
        values = spare[: (last - first) * width]
        _fill_outside(places, first, last, width, np.float32(0), values)
        for row in range(first, last):
            _piece(source, places[row], values, (row - first) * width)
        for i in range(len(values)):
            fine &= np.abs(values[i]) <= most
        if not same:
            for i in range(len(values)):
                values[i] = values[i] * gain + offset
        _fill_outside(places, first, last, width, fill, values)
        loops.stream(into[first * width : last * width], values)
    return fine


@njit(**OPTIONS)
def _are_lines(places, width):
    """Whether all rows are read along rows, and begin and end with a cache line of the output."""
    lines = width % VECTOR == 0
    for row in range(len(places)):
        stride, low, high = places[row, 1], places[row, 2], places[row, 3]
        lines &= low >= high or (abs(stride) == 1 and low % VECTOR == 0 and high % VECTOR == 0)
    return lines


@njit(**CONTRACTED)
def _lines(source, places, width, fill, gain, offset, into):
    """`_scaled` where `_are_lines`."""
    fine = _ALL_FINITE
    if gain == np.float32(1) and offset == np.float32(0):
        offset = np.float32(-0.0)  # keeps the sign of a zero
    _fill_outside(places, 0, len(places), width, fill, into)
    for row in range(len(places)):
        at, stride, low, high, start = places[row, 0], places[row, 1], places[row, 2], places[row, 3], row * width
        if stride == 1:
            for i in range(low, high, VECTOR):
                fine &= scaled_forwards(source, np.uint64(at + i), into, np.uint64(start + i), gain, offset)
        else:
            # Written from the end, so that the input is read in order.
            for i in range(high - VECTOR, low - 1, -VECTOR):
                last = np.uint64(at - i - (VECTOR - 1))
                fine &= scaled_backwards(source, last, into, np.uint64(start + i), gain, offset)
    return fine == _ALL_FINITE


@njit(**OPTIONS)
def run_sample(given, steps, out, rules, sample, places, spare):
    """Do a sample whose plan is exact; False where the long way has to be taken.

    `places` has for every output row its first index and stride in the input, and which of it lies inside; `spare` has
    room for a row or more.
    """
    if not given.whole:
        known, every = given.valid[sample], True
        for i in range(len(known)):
            every &= known[i]
        if not every:
            return False
    height, width = out.size
    for row in range(height):
        place = sampling_loops.straight(given.back[sample], given.size, out.size, row, 0, width)
        places[row, 0], places[row, 1], places[row, 2], places[row, 3] = place
        inside = out.valid[sample, row * width : (row + 1) * width]
        inside[:] = False
        inside[place[2] : place[3]] = True
    if out.stored == 3 and out.image[3][sample].ctypes.data % _CACHE_LINE == 0 and _are_lines(places, width):
        # Every band then begins with a cache line, too.
        spare = spare[: 0 if height * width % VECTOR == 0 else len(spare)]
    gain, offset = np.float32(1), np.float32(0)
    for band in range(steps.terms.shape[2]):
        if len(steps.kind) == 1:
            gain, offset = steps.terms[0, sample, band, 0], steps.terms[0, sample, band, 1]
        if out.stored == 0:
            _copied(given.image[0][sample, band], places, width, np.uint8(rules.fill), out.image[0][sample, band])
        elif out.stored == 1:
            _copied(given.image[1][sample, band], places, width, np.uint16(rules.fill), out.image[1][sample, band])
        elif out.stored == 2:
            _copied(given.image[2][sample, band], places, width, np.int16(rules.fill), out.image[2][sample, band])
        else:
            into, fill, fine = out.image[3][sample, band], rules.fill, True
            if given.stored == 0:
                _scaled(given.image[0][sample, band], places, width, fill, gain, offset, spare, into)
            elif given.stored == 1:
                _scaled(given.image[1][sample, band], places, width, fill, gain, offset, spare, into)
            elif given.stored == 2:
                _scaled(given.image[2][sample, band], places, width, fill, gain, offset, spare, into)
            else:
                fine = _scaled(given.image[3][sample, band], places, width, fill, gain, offset, spare, into)
            if not fine:
                return False
    return True
