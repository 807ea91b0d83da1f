"""Loops of the compiled CPU executor for clouds that bands see apart: `physics.cloud_field.CloudVeil.by_band`.

The layers of a cloud are worked out once for a tile and what lies about it, and averaged over the pixels of each group
of bands.
"""

import numpy as np
from numba import njit

from geoaug.augment.kernels import loops
from geoaug.augment.kernels.loops import CONTRACTED, OPTIONS


@njit(**CONTRACTED)
def _look_up(field, view, y, size, margin, excess):
    """A line of the field of a cloud, less its threshold; y and x count from `margin` pixels before the tile."""
    half, period = np.float32(0.5), len(field)
    wide, once = np.float32(period), np.float32(1 / period)
    middle_x, middle_y = half * np.float32(size[1] - 1), half * np.float32(size[0] - 1)
    down_from = np.float32(y - margin) - middle_y
    flat = field.reshape(-1)
    for i in range(len(excess)):
        x = np.float32(i - margin) - middle_x
        across = view[0] * x + (view[1] * down_from + view[4])
        down = view[2] * x + (view[3] * down_from + view[5])
        left, top = np.floor(across), np.floor(down)
        share_x, share_y = across - left, down - top
        # Rounding may be one period off.
        column = np.int64(left - np.floor(left * once) * wide)
        row = np.int64(top - np.floor(top * once) * wide)
        column = column - period if column >= period else column
        row = row - period if row >= period else row
        after = column + 1 if column + 1 < period else 0
        at, below = row * period, (row + 1 if row + 1 < period else 0) * period
        a, b = flat[np.uint64(at + column)], flat[np.uint64(at + after)]
        c, d = flat[np.uint64(below + column)], flat[np.uint64(below + after)]
        upper, lower = a + share_x * (b - a), c + share_x * (d - c)
        excess[i] = upper + share_y * (lower - upper) - view[6]


@njit(**OPTIONS)
def _mean_along(line, begin, side, out):
    """Means of so many neighbours along a line."""
    share, zero = np.float32(1 / side), np.float32(0)
    for i in range(len(out)):
        out[i] = zero
    for step in range(side):
        source = line[begin + step : begin + step + len(out)]
        for i in range(len(out)):
            out[i] += source[i]
    for i in range(len(out)):
        out[i] *= share


@njit(**OPTIONS)
def _mean_down(lines, begin, side, sums, out):
    """Means of so many neighbours down all columns."""
    for i in range(len(sums)):
        sums[i] = 0.0
    for y in range(side):
        line = lines[begin + y]
        for i in range(len(line)):
            sums[i] += np.float64(line[i])
    share = 1 / np.float64(side)
    for y in range(len(out)):
        target, after, before = out[y], lines[min(begin + y + side, len(lines) - 1)], lines[begin + y]
        for i in range(len(target)):
            target[i] = sums[i] * share
            sums[i] += np.float64(after[i]) - np.float64(before[i])


@njit(**OPTIONS)
def planes(field, views, sides, applied, size, margin, spare, out):
    """Fill the planes of every row: (r, g, k, y, x), on the tile and `margin` pixels about it."""
    many, groups, layers, high, wide = out.shape
    tall, broad = high + 2 * spare, wide + 2 * spare
    fine = np.empty((layers, tall, broad), np.float32)
    blurred = np.empty((tall, wide), np.float32)
    sums, excess = np.empty(wide, np.float64), np.empty(broad, np.float32)
    for row in range(many):
        if not applied[row]:
            continue
        view = views[row]
        for y in range(tall):
            _look_up(field[row], view, y, size, margin + spare, excess)
            loops.veil(excess, view[7], view[8], fine[0, y], fine[1, y], fine[2, y], fine[3, y])
        for group in range(groups):
            side = sides[row, group]
            begin = spare - (side - 1) // 2
            for layer in range(layers):
                if side == 1:
                    for y in range(high):
                        loops.copy(out[row, group, layer, y], fine[layer, spare + y, spare : spare + wide])
                    continue
                for y in range(tall):
                    _mean_along(fine[layer, y], begin, side, blurred[y])
                _mean_down(blurred, begin, side, sums, out[row, group, layer])
