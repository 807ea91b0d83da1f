"""Loops of the compiled CPU executor over a run of pixels: coordinates, weights, and sampling by them.

See `kernels.one_pass` for what a run is, and `kernels.loops` for what is done to the values.
"""

import numpy as np
from numba import njit

from geoaug.augment.kernels.gathers import tap_beyond
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
def round_places(xs, ys, length):
    """The nearest whole places, halves upwards."""
    half = np.float32(0.5)
    for lane in range(LANES):
        for i in range(length):
            xs[lane, i], ys[lane, i] = np.floor(xs[lane, i] + half), np.floor(ys[lane, i] + half)


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
def _cubic_axis(place, size):
    """First of four neighbours inside the image, and the weights of all (`cubic_weights`), 0 for those outside."""
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
def weigh_cubic(xs, ys, shift_x, shift_y, length, size, valid, index, weights, support):
    """`weigh` for sixteen neighbours; an index is that of the first of sixteen pixels inside the image."""
    height, width = size
    for lane in range(LANES):
        at = index[lane]
        for i in range(length):
            left, a, b, c, d = _cubic_axis(xs[lane, i] + shift_x, width)
            top, e, f, g, h = _cubic_axis(ys[lane, i] + shift_y, height)
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
            for tap in range(weights.shape[1]):
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


@njit(**OPTIONS)
def find_finite(source, clean):
    """Take away from `clean` what is NaN or infinite; whether there was any."""
    most, found = np.float32(3.4028235e38), False
    for i in range(len(clean)):
        fine = np.abs(source[i]) <= most
        clean[i] = clean[i] & fine
        found |= not fine
    return found


@njit(**OPTIONS)
def drop_unfinite(values, good, length):
    """The same for the values of a run."""
    most, found = np.float32(3.4028235e38), False
    for lane in range(LANES):
        v, g = values[lane], good[lane]
        for i in range(length):
            fine = np.abs(v[i]) <= most
            g[i] = g[i] & fine
            found |= not fine
    return found


@njit(**OPTIONS)
def _span(first, step, size, count):
    """Which of `count` places from `first` on, a `step` of -1, 0 or 1 apart, lie within `size`."""
    if step == 0:
        return (0, count) if 0 <= first < size else (0, 0)
    if step > 0:
        return max(0, -first), min(count, size - first)
    return max(0, first - size + 1), min(count, first + 1)


@njit(**OPTIONS)
def straight(back, size_in, size_out, row, column, count):
    """Where a piece of an output row lies in the input of an exact plan: its first index, the stride, and which of it
    lies inside."""
    across = np.float32(column) - np.float32(0.5) * np.float32(size_out[1] - 1)
    down = np.float32(row) - np.float32(0.5) * np.float32(size_out[0] - 1)
    x = int(np.rint(back[0] * across + (back[1] * down + back[2])))
    y = int(np.rint(back[3] * across + (back[4] * down + back[5])))
    step_x, step_y = int(np.rint(back[0])), int(np.rint(back[3]))
    low_x, high_x = _span(x, step_x, size_in[1], count)
    low_y, high_y = _span(y, step_y, size_in[0], count)
    low = max(low_x, low_y)
    return y * size_in[1] + x, step_y * size_in[1] + step_x, low, max(low, min(high_x, high_y))


@njit(**OPTIONS)
def copy(source, back, size_in, size_out, run, block, length, values):
    """Pixels of a run where the plan is exact: whole pieces of rows or columns of the input, forwards or backwards."""
    width, total = size_out[1], size_out[0] * size_out[1]
    for lane in range(LANES):
        start = lane * block + run
        count = min(length, total - start)
        row, column = divmod(start, width)
        done = 0
        while done < count:
            part = min(count - done, width - column)
            first, stride, low, high = straight(back, size_in, size_out, row, column, part)
            into = values[lane, done + low : done + high]
            if len(into) > 0:
                at = first + low * stride
                if stride == 1:
                    piece = source[at : at + len(into)]
                    for i in range(len(into)):
                        into[i] = piece[i]
                elif stride == -1:
                    piece = source[at - len(into) + 1 : at + 1]
                    for i in range(len(into)):
                        into[i] = piece[np.uint64(len(into) - 1 - i)]
                else:
                    for i in range(len(into)):
                        into[i] = source[np.uint64(at + i * stride)]
            done, row, column = done + part, row + 1, 0


@njit(**OPTIONS)
def copy_validity(valid, back, size_in, size_out, run, block, length, good):
    """Whether there is data at the pixels of a run where the plan is exact."""
    width, total = size_out[1], size_out[0] * size_out[1]
    for lane in range(LANES):
        start = lane * block + run
        count = min(length, total - start)
        row, column = divmod(start, width)
        done = 0
        for i in range(length):
            good[lane, i] = False
        while done < count:
            part = min(count - done, width - column)
            first, stride, low, high = straight(back, size_in, size_out, row, column, part)
            for i in range(low, high):
                good[lane, done + i] = valid.size == 0 or valid[np.uint64(first + i * stride)]
            done, row, column = done + part, row + 1, 0
