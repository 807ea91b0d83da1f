"""Loops of the compiled CPU executor for sharp interpolation: `kernels.two_pass`, band by band.

A band is copied into a canvas with its mirror image around it, transposed where the passes ask for it. Then, for some
columns of the output at a time, both passes are made; what lies between them is stored transposed, so that the pixels
weighed lie one after the other in memory in both.
"""

import numpy as np
from numba import njit

from geoaug.augment.kernels import vectors
from geoaug.augment.kernels.loops import OPTIONS
from geoaug.augment.kernels.vectors import OCTET, VECTOR

# Columns of the output made at a time: what lies between the passes should stay in the nearest cache.
COLUMNS = 64

_LINE = 16


@njit(**OPTIONS)
def mirrored(place, count):
    """The pixel that stands at a place beyond the image, whose last pixel is not doubled."""
    period = max(2 * (count - 1), 1)
    within = place % period
    return min(min(within, period - within), count - 1)


@njit(**OPTIONS)
def beyond(taps):
    """Pixels around the image that may be weighed: those of one pass, and a slant of the other's rows."""
    return taps[0] // 2 + taps[1] // 2 + 2


@njit(**OPTIONS)
def room(size_in, size_out, taps):
    """Values of the canvas, of what lies between the passes, and of the places of each pass."""
    edge = beyond(taps)
    longest, shortest = max(size_in[0], size_in[1]) + 2 * edge, min(size_in[0], size_in[1]) + 2 * edge
    wide = (size_out[1] + OCTET - 1) // OCTET * OCTET
    return longest * shortest + OCTET, COLUMNS * _stride(longest), longest * wide, size_out[0] * wide


@njit(**OPTIONS)
def _stride(rows):
    """An odd number of cache lines, so that the same row of many columns lies in many sets of a cache."""
    return (rows + OCTET + _LINE - 1) // _LINE // 2 * 2 * _LINE + _LINE


@njit(**OPTIONS)
def places(terms, size_in, size_out, taps, first, second):
    """Where the pixels weighed begin, and which weights they have, for both passes: (2, lines * columns) each.

    Columns are a multiple of `OCTET`. Returns the first row of the canvas that is needed, and the one after the last.
    """
    edge = beyond(taps)
    wide, tall = size_in[1] + 2 * edge, size_in[0] + 2 * edge
    columns = (size_out[1] + OCTET - 1) // OCTET * OCTET
    low, high = np.int64(tall), np.int64(0)
    for row in range(size_out[0]):
        begin = terms[4] * row + terms[5]
        span = slice(row * columns, (row + 1) * columns)
        least, most = _along(begin, terms[3], edge - taps[1] // 2 + 1, tall - taps[1], size_out[1], second, span)
        low, high = min(low, least), max(high, most + taps[1])
    for row in range(low, high):
        begin = terms[1] * (row - edge) + terms[2]
        span = slice(row * columns, (row + 1) * columns)
        _along(begin, terms[0], edge - taps[0] // 2 + 1, wide - taps[0], size_out[1], first, span)
    return low, high


@njit(**OPTIONS)
def _along(begin, step, edge, last, count, into, span):
    """Places of a line; the first and the last one that pixels are read from."""
    starts, phases = into[0, span], into[1, span]
    for i in range(count):
        place = begin + step * i
        starts[i] = np.int32(min(max((place >> 32) + edge, 0), last))
        phases[i] = np.int32((place >> 23) & 511)
    for i in range(count, len(starts)):
        starts[i], phases[i] = 0, 0
    # Places of a line go one way.
    ends = starts[0], starts[count - 1]
    return min(ends[0], ends[1]), max(ends[0], ends[1])


@njit(**OPTIONS)
def lay_out(source, valid, size, swapped, taps, canvas, limits):
    """Copy a band into the canvas, 0 where it is not valid, and note its least and greatest valid value."""
    edge = beyond(taps)
    height, width = (size[1], size[0]) if swapped else (size[0], size[1])
    wide, line = width + 2 * edge, np.zeros(size[1], np.float32)
    low, high = np.full(VECTOR, np.inf, np.float32), np.full(VECTOR, -np.inf, np.float32)
    for row in range(size[0]):
        given, base = np.uint64(row * size[1]), np.uint64((row + edge) * wide + edge)
        if valid.size > 0:
            for i in range(np.uint64(size[1])):
                value, known = np.float32(source[given + i]), valid[given + i]
                line[i] = value if known else np.float32(0)
                low[0], high[0] = min(low[0], value) if known else low[0], max(high[0], value) if known else high[0]
        else:
            for i in range(np.uint64(size[1])):
                line[i] = np.float32(source[given + i])
            whole = size[1] // VECTOR * VECTOR
            for i in range(0, whole, VECTOR):
                vectors.note_bounds(line, i, low, high)
            for i in range(whole, size[1]):
                low[0], high[0] = min(low[0], line[i]), max(high[0], line[i])
        if swapped:
            to = np.uint64(edge * wide + edge + row)
            for i in range(np.uint64(size[1])):
                canvas[to + i * np.uint64(wide)] = line[i]
        else:
            for i in range(np.uint64(size[1])):
                canvas[base + i] = line[i]
    limits[0], limits[1] = low.min(), high.max()
    twins = np.zeros((2, 2, edge), np.int64)
    for i in range(edge):
        twins[0, 0, i], twins[0, 1, i] = i, edge + mirrored(i - edge, width)
        twins[1, 0, i], twins[1, 1, i] = width + edge + i, edge + mirrored(width + i, width)
    for row in range(edge, height + edge):
        base = row * wide
        for side in range(2):
            for i in range(edge):
                canvas[np.uint64(base + twins[side, 0, i])] = canvas[np.uint64(base + twins[side, 1, i])]
    for i in range(edge):
        for row, place in ((i, i - edge), (height + edge + i, height + i)):
            held = edge + mirrored(place, height)
            canvas[row * wide : (row + 1) * wide] = canvas[held * wide : (held + 1) * wide]


@njit(**OPTIONS)
def by_both(canvas, wide, rows, size_out, taps, first, second, weights_first, weights_second, limits, between, out):
    """Both passes of a band: from the canvas, whose rows have `wide` values, to `out`."""
    columns = (size_out[1] + OCTET - 1) // OCTET * OCTET
    stride = _stride(len(canvas) // wide)
    line = np.zeros(OCTET, np.float32)
    starts, phases, ends, shares = first[0], first[1], second[0], second[1]
    # Arrays are read from numbered places on: a slice of one costs as much as many pixels.
    for begin in range(0, columns, COLUMNS):
        end = min(begin + COLUMNS, columns)
        for row in range(rows[0], rows[1]):
            source, line_at, to = row * wide, row * columns, row
            for at in range(line_at + begin, line_at + end, OCTET):
                if taps[0] == OCTET:
                    vectors.dots_apart(canvas, source, starts, weights_first, phases, at, between, to, stride)
                else:
                    _long_dots(canvas, source, starts, weights_first, phases, at, 0, taps[0], line)
                    for i in range(OCTET):
                        between[to + i * stride] = line[i]
                to += OCTET * stride
        for row in range(size_out[0]):
            source, to = 0, row * size_out[1] + begin
            for column in range(begin, end, OCTET):
                at, count = row * columns + column, size_out[1] - column
                if taps[1] == OCTET and count >= OCTET:
                    vectors.dots_within(
                        between, source, ends, weights_second, shares, at, stride, limits[0], limits[1], out, to
                    )
                else:
                    _long_dots(between, source, ends, weights_second, shares, at, stride, taps[1], line)
                    for i in range(min(OCTET, count)):
                        out[to + i] = min(max(line[i], limits[0]), limits[1])
                source, to = source + OCTET * stride, to + OCTET


@njit(**OPTIONS)
def _long_dots(source, base, starts, weights, phases, at, stride, taps, line):
    """Eight sums of `taps` pixels each, of those after `base`."""
    for i in range(OCTET):
        total = np.float32(0)
        begin, shares = np.uint64(base + starts[at + i] + i * stride), np.uint64(phases[at + i] * taps)
        for tap in range(np.uint64(taps)):
            total += source[begin + np.uint64(tap)] * weights[shares + np.uint64(tap)]
        line[i] = total


@njit(**OPTIONS)
def find_whole(valid, size, swapped, size_out, taps, rows, first, second, whole):
    """Where every pixel that was weighed holds data."""
    edge = beyond(taps)
    height, width = (size[1], size[0]) if swapped else (size[0], size[1])
    columns = (size_out[1] + OCTET - 1) // OCTET * OCTET
    tall, wide = height + 2 * edge, width + 2 * edge
    # How many pixels of a row, and then of a column, before each are missing.
    before = np.zeros(max(tall, wide) + 1, np.int32)
    missing = np.zeros((size_out[1], tall), np.int32)
    for row in range(rows[0], rows[1]):
        held = mirrored(row - edge, height)
        for i in range(wide):
            other = mirrored(i - edge, width)
            known = valid[other * size[1] + held] if swapped else valid[held * size[1] + other]
            before[i + 1] = before[i] + (0 if known else 1)
        for column in range(size_out[1]):
            start = first[0, row * columns + column]
            missing[column, row] = before[start + taps[0]] - before[start]
    for column in range(size_out[1]):
        for row in range(tall):
            before[row + 1] = before[row] + missing[column, row]
        for row in range(size_out[0]):
            start = second[0, row * columns + column]
            whole[row * size_out[1] + column] = before[start + taps[1]] == before[start]
