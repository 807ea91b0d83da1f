"""Loops of the compiled CPU executor that meet pixels as they are stored: one of four types, in and out.

An image is one of four arrays by its type, the others being empty, so that there is one compiled pass over samples
whatever the types. Which of them it is, is decided here, and nowhere else.
"""

import numpy as np
from numba import njit

from geoaug.augment.kernels import gathers, loops, sampling_loops, two_pass_loops
from geoaug.augment.kernels.loops import LANES, OPTIONS


@njit(**OPTIONS)
def fetch(given, sample, band):
    kind = given.stored
    if kind == 0:
        return sampling_loops.fetch(given.image[0][sample, band], 64)
    if kind == 1:
        return sampling_loops.fetch(given.image[1][sample, band], 32)
    if kind == 2:
        return sampling_loops.fetch(given.image[2][sample, band], 32)
    return np.int64(0)


@njit(**OPTIONS)
def copy(given, sample, band, size_out, run, block, length, values):
    kind, back, size = given.stored, given.back[sample], given.size
    if kind == 0:
        sampling_loops.copy(given.image[0][sample, band], back, size, size_out, run, block, length, values)
    elif kind == 1:
        sampling_loops.copy(given.image[1][sample, band], back, size, size_out, run, block, length, values)
    elif kind == 2:
        sampling_loops.copy(given.image[2][sample, band], back, size, size_out, run, block, length, values)
    else:
        sampling_loops.copy(given.image[3][sample, band], back, size, size_out, run, block, length, values)


@njit(**OPTIONS)
def lay_out(given, sample, band, valid, canvas, limits):
    kind, size, swapped, taps = given.stored, given.size, given.swapped[sample], given.taps[sample]
    if kind == 0:
        two_pass_loops.lay_out(given.image[0][sample, band], valid, size, swapped, taps, canvas, limits)
    elif kind == 1:
        two_pass_loops.lay_out(given.image[1][sample, band], valid, size, swapped, taps, canvas, limits)
    elif kind == 2:
        two_pass_loops.lay_out(given.image[2][sample, band], valid, size, swapped, taps, canvas, limits)
    else:
        two_pass_loops.lay_out(given.image[3][sample, band], valid, size, swapped, taps, canvas, limits)


@njit(**OPTIONS)
def take(given, sample, band, index, weights, subs, length, pairs, values, guarded):
    kind, size = given.stored, given.size
    for sub in range(subs):
        at, shares, more = index[sub], weights[sub], sub > 0
        if given.cubic:
            if kind == 0:
                gathers.take_cubic(given.image[0][sample, band], at, shares, length, size, values, more, guarded)
            elif kind == 1:
                gathers.take_cubic(given.image[1][sample, band], at, shares, length, size, values, more, guarded)
            elif kind == 2:
                gathers.take_cubic(given.image[2][sample, band], at, shares, length, size, values, more, guarded)
            else:
                gathers.take_cubic(given.image[3][sample, band], at, shares, length, size, values, more, guarded)
        elif kind == 0:
            gathers.take(given.image[0][sample, band], at, shares, length, size, pairs, values, more, guarded)
        elif kind == 1:
            gathers.take(given.image[1][sample, band], at, shares, length, size, pairs, values, more, guarded)
        elif kind == 2:
            gathers.take(given.image[2][sample, band], at, shares, length, size, pairs, values, more, guarded)
        else:
            gathers.take(given.image[3][sample, band], at, shares, length, size, pairs, values, more, guarded)


@njit(**OPTIONS)
def write(values, good, length, run, block, total, rules, out, sample, band):
    kind = out.stored
    for lane in range(LANES):
        start = lane * block + run
        count = min(length, total - start)
        if rules.whole:
            loops.round(values[lane], count, rules.fill, rules.low, rules.high, rules.avoid)
        if kind == 0:
            loops.write(values[lane], good[lane], start, count, rules.fill, out.image[0][sample, band])
        elif kind == 1:
            loops.write(values[lane], good[lane], start, count, rules.fill, out.image[1][sample, band])
        elif kind == 2:
            loops.write(values[lane], good[lane], start, count, rules.fill, out.image[2][sample, band])
        else:
            loops.write_floats(values[lane], good[lane], start, count, rules.fill, out.image[3][sample, band])


@njit(**OPTIONS)
def mend(good, length, run, block, total, rules, out, sample, bands):
    """Write the fill value over pixels without data."""
    for lane in range(LANES):
        start = lane * block + run
        for i in range(min(length, total - start)):
            if good[lane, i]:
                continue
            for band in range(bands):
                if out.stored == 0:
                    out.image[0][sample, band, start + i] = rules.fill
                elif out.stored == 1:
                    out.image[1][sample, band, start + i] = rules.fill
                elif out.stored == 2:
                    out.image[2][sample, band, start + i] = rules.fill
                else:
                    out.image[3][sample, band, start + i] = rules.fill
