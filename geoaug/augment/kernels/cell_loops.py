"""Loops of the compiled CPU executor for the surroundings of pixels: means of coarse cells, and lines of them.

As `kernels.coarse` and `physics.adjacency`, which say what is worked out here, and cannot be compiled. Cells are few,
so their sums are float64 here as there.
"""

import numpy as np
from numba import njit

from geoaug.augment.kernels.loops import CONTRACTED, LANES, OPTIONS

# Places along each axis of a cell that its mean is taken over, as in `kernels.coarse`.
PLACES = 3
# Sums of products in any order that is fast: the same one for a sample in any batch.
_REORDERED = {**OPTIONS, "fastmath": {"contract", "reassoc", "nsz"}}


@njit(**OPTIONS)
def _places(back, size_in, size_out, down, across, valid, index, known):
    """Pixels of the input that lie evenly over the output, and which of them are there and valid."""
    high, wide, half = np.float32(size_out[0] / down), np.float32(size_out[1] / across), np.float32(0.5)
    middle_y, middle_x = np.float32(size_out[0] / 2), np.float32(size_out[1] / 2)
    for row in range(down):
        dy = (np.float32(row) + half) * high - middle_y
        for column in range(across):
            dx = (np.float32(column) + half) * wide - middle_x
            x = np.floor((back[0] * dx + (back[1] * dy + back[2])) + half)
            y = np.floor((back[3] * dx + (back[4] * dy + back[5])) + half)
            at = row * across + column
            inside = x >= 0 and y >= 0 and x < size_in[1] and y < size_in[0]
            index[at] = np.int64(y) * size_in[1] + np.int64(x) if inside else 0
            known[at] = inside and (valid.size == 0 or valid[index[at]])


@njit(**OPTIONS)
def _known_where_finite(image, index, known):
    most = np.float32(3.4028235e38)
    for at in range(len(index)):
        if known[at]:
            for band in range(len(image)):
                known[at] &= np.abs(image[band, index[at]]) <= most


@njit(**OPTIONS)
def _add_up(plane, index, known, down, across, sums):
    """Sums over the places of each cell."""
    for cell_y in range(down):
        for cell_x in range(across):
            total = np.float64(0)
            for beside_y in range(PLACES):
                first = (cell_y * PLACES + beside_y) * across * PLACES + cell_x * PLACES
                for at in range(first, first + PLACES):
                    if known[at]:
                        total += np.float64(plane[index[at]])
            sums[cell_y * across + cell_x] = total


@njit(**OPTIONS)
def means_of_cells(given, sample, size_out, down, across, index, known, weights, means):
    """The share of each cell of a sample that is valid, and its mean in every band, weighted by that share."""
    _places(
        given.back[sample],
        given.size,
        size_out,
        down * PLACES,
        across * PLACES,
        given.valid[sample],
        index,
        known,
    )
    kind, cells = given.stored, down * across
    if kind == 3:
        _known_where_finite(given.image[3][sample], index, known)
    for cell in range(cells):
        count = 0
        for beside_y in range(PLACES):
            first = (cell // across * PLACES + beside_y) * across * PLACES + cell % across * PLACES
            for at in range(first, first + PLACES):
                count += known[at]
        weights[cell] = count / np.float64(PLACES**2)
    for band in range(len(means)):
        if kind == 0:
            _add_up(given.image[0][sample, band], index, known, down, across, means[band])
        elif kind == 1:
            _add_up(given.image[1][sample, band], index, known, down, across, means[band])
        elif kind == 2:
            _add_up(given.image[2][sample, band], index, known, down, across, means[band])
        else:
            _add_up(given.image[3][sample, band], index, known, down, across, means[band])
        for cell in range(cells):
            # Float32 as in `kernels.coarse`, where there are any.
            held = weights[cell] * np.float64(PLACES**2)
            means[band, cell] = np.float64(np.float32(means[band, cell] / max(held, 1.0))) * weights[cell]


@njit(**OPTIONS)
def means_of_samples(given, size_out, down, across, shares, means):
    """The share of each cell that is valid (b, n), and its mean in every band (b, c, n): `kernels.coarse`."""
    cells = down * across
    many = PLACES * PLACES * cells
    index, known = np.empty(many, np.int64), np.empty(many, np.bool_)
    weights, sums = np.empty(cells, np.float64), np.empty(means.shape[1:], np.float64)
    for sample in range(len(means)):
        means_of_cells(given, sample, size_out, down, across, index, known, weights, sums)
        for cell in range(cells):
            shares[sample, cell] = weights[cell]
            for band in range(means.shape[1]):
                means[sample, band, cell] = sums[band, cell] / weights[cell] if weights[cell] > 0 else 0.0


@njit(**OPTIONS)
def _reach(environment, gsd_m, size_out, down, across, kernel):
    """What a cell has of the light about another one, for aerosol and molecules, by lines and columns between them.

    Columns are counted from as far as a tile has them to the left.
    """
    high, wide = gsd_m * (size_out[0] / down / 1000), gsd_m * (size_out[1] / across / 1000)
    area = high * wide
    own = np.sqrt(area / np.pi)
    for kind in range(2):
        for row in range(down):
            for column in range(across):
                distance = np.sqrt((row * high) ** 2 + (column * wide) ** 2)
                found = np.float64(0)
                for term in range(environment.shape[1]):
                    share, rate = environment[kind, term, 0], environment[kind, term, 1]
                    if row + column == 0:
                        found -= share * np.expm1(-rate * own)
                    else:
                        found += share * rate * np.exp(-rate * distance) * area / (2 * np.pi * distance)
                kernel[kind, row, across - 1 - column] = found
                kernel[kind, row, across - 1 + column] = found


@njit(**_REORDERED)
def _dot(one, two):
    total = np.float64(0)
    for i in range(len(one)):
        total += one[i] * two[i]
    return total


@njit(**_REORDERED)
def _total(values):
    total = np.float64(0)
    for value in values:
        total += value
    return total


@njit(**OPTIONS)
def _about(kernel, row, column, down, across, reach):
    """What all cells have of the light about one of them."""
    for kind in range(2):
        for other in range(down):
            part = kernel[kind, abs(other - row)]
            at = other * across
            for i in range(across):
                reach[kind, at + i] = part[across - 1 - column + i]


@njit(**OPTIONS)
def surround(environment, gsd_m, size_out, down, across, weights, means, mixing, kernel, reach, out):
    """The surroundings of the middle of every cell, band by band: `physics.adjacency.Background.coarse`.

    `kernel` (2, n, 2 m - 1) and `reach` (2, n m) are memory to work in.
    """
    _reach(environment, gsd_m, size_out, down, across, kernel)
    everywhere = max(_total(weights), 1e-6)
    for band in range(len(means)):
        total = _total(means[band])
        for row in range(down):
            for column in range(across):
                out[band, row, column] = total / everywhere
    for row in range(down):
        for column in range(across):
            _about(kernel, row, column, down, across, reach)
            inside = min(_total(reach[1]), 1.0)
            near_aerosol, near_molecules = _dot(reach[0], weights), _dot(reach[1], weights)
            for band in range(len(means)):
                share, gain, offset = mixing[band, 0], mixing[band, 1], mixing[band, 2]
                bend, path = mixing[band, 3], mixing[band, 4]
                mean = out[band, row, column]
                by_aerosol, by_molecules = mean, mean
                if near_aerosol > 1e-6:
                    by_aerosol = _dot(reach[0], means[band]) / near_aerosol
                if near_molecules > 1e-6:
                    local = _dot(reach[1], means[band]) / near_molecules
                    by_molecules = inside * local + (1 - inside) * mean
                moved = (by_molecules + share * (by_aerosol - by_molecules)) * gain + offset
                out[band, row, column] = moved + bend * (moved - path) ** 2


@njit(**OPTIONS)
def _between(place, length, cells):
    """The first of two cells that a pixel lies between, the second, and how far it lies towards that."""
    half = np.float32(0.5)
    at = max((np.float32(place) + half) * np.float32(cells / length) - half, np.float32(0))
    first = min(np.int64(at), cells - 1)
    return first, min(first + 1, cells - 1), at - np.float32(first)


@njit(**OPTIONS)
def widen(cells, width, shares, lines):
    """Lines of cells (c, n, m), interpolated to the columns of the tile (c, n, w); `shares` is memory for those."""
    across = cells.shape[2]
    for column in range(width):
        shares[column] = _between(column, width, across)[2]
    begin = 0
    while begin < width:
        first, second, _ = _between(begin, width, across)
        end = begin + 1
        while end < width and _between(end, width, across)[0] == first:
            end += 1
        part = shares[begin:end]
        for band in range(cells.shape[0]):
            for row in range(cells.shape[1]):
                _ramp(cells[band, row, first], cells[band, row, second], part, lines[band, row, begin:end])
        begin = end


@njit(**OPTIONS)
def _ramp(first, second, shares, line):
    step = second - first
    for i in range(len(line)):
        line[i] = first + shares[i] * step


@njit(**CONTRACTED)
def _mix(v, one, two, first, second, gain, offset):
    for i in range(len(v)):
        v[i] = v[i] * gain + (offset + (one[i] * first + two[i] * second))


@njit(**CONTRACTED)
def _mix_and_add(v, s, one, two, first, second, pending, noisy, terms, after):
    """The same, and the affine step that follows it, with its noise."""
    gain, offset, again, more = terms[0], terms[1], after[0], after[1]
    floor, slope, square, zero = after[2], after[3], (gain * again) * (gain * again), np.float32(0)
    if noisy and pending:
        for i in range(len(v)):
            x = v[i] * gain + (offset + (one[i] * first + two[i] * second))
            s[i] = s[i] * square + max(x * slope + floor, zero)
            v[i] = x * again + more
    elif noisy:
        for i in range(len(v)):
            x = v[i] * gain + (offset + (one[i] * first + two[i] * second))
            s[i] = max(x * slope + floor, zero)
            v[i] = x * again + more
    else:
        if pending:
            for i in range(len(s)):
                s[i] *= square
        for i in range(len(v)):
            v[i] = (v[i] * gain + (offset + (one[i] * first + two[i] * second))) * again + more


@njit(**OPTIONS)
def mixed(values, variance, pending, noisy, terms, after, lines, weight, width, height, run, block, length, total):
    """An affine step without noise, lines of cells (n, w) interpolated to a run of pixels and weighed, added to its
    offset, and the affine step `after` it, which may have noise."""
    one = np.float32(1)
    plain = after[0] == one and after[1] == np.float32(0) and not noisy and not pending
    for lane in range(LANES):
        start = lane * block + run
        count, done = min(length, total - start), 0
        while done < count:
            row = (start + done) // width
            column = start + done - row * width
            many = min(width - column, count - done)
            first, second, share = _between(row, height, len(lines))
            v, above, below = values[lane, done : done + many], lines[first], lines[second]
            above, below = above[column : column + many], below[column : column + many]
            here, there = (one - share) * weight, share * weight
            if plain:
                _mix(v, above, below, here, there, terms[0], terms[1])
            else:
                s = variance[lane, done : done + many]
                _mix_and_add(v, s, above, below, here, there, pending, noisy, terms, after)
            done += many
