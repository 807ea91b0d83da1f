"""Loops of the compiled CPU executor for operations on neighbours; `kernels.stencils` says what they do."""

import numpy as np
from numba import njit

from geoaug.augment.kernels.loops import CONTRACTED

_LEAST_WEIGHT = np.float32(1e-6)


@njit(**CONTRACTED)
def _across(source, weights, padded, target):
    """A symmetric filter along rows; beyond the tile lies nothing."""
    reach, width = len(weights) - 1, source.shape[1]
    padded[:] = 0
    for y in range(len(source)):
        padded[reach : reach + width] = source[y]
        row = target[y]
        middle = padded[reach : reach + width]
        for x in range(width):
            row[x] = weights[0] * middle[x]
        for step in range(1, reach + 1):
            before, after = padded[reach - step : reach - step + width], padded[reach + step : reach + step + width]
            weight = weights[step]
            for x in range(width):
                row[x] += weight * (before[x] + after[x])


@njit(**CONTRACTED)
def _down(source, weights, target):
    """The same along columns."""
    height, width = source.shape
    for y in range(height):
        row, middle = target[y], source[y]
        for x in range(width):
            row[x] = weights[0] * middle[x]
        for step in range(1, len(weights)):
            weight = weights[step]
            if y >= step:
                other = source[y - step]
                for x in range(width):
                    row[x] += weight * other[x]
            if y + step < height:
                other = source[y + step]
                for x in range(width):
                    row[x] += weight * other[x]


@njit(**CONTRACTED)
def _finish(image, total, share, valid):
    """Weighted means where there is data and weight; the rest stays."""
    for y in range(len(image)):
        row, sums, held, known = image[y], total[y], share[y], valid[y]
        for x in range(len(row)):
            mean = sums[x] / max(held[x], _LEAST_WEIGHT)
            row[x] = mean if known[x] and held[x] > _LEAST_WEIGHT else row[x]


@njit(**CONTRACTED)
def _weighted(image, valid, weighted):
    zero = np.float32(0)
    for y in range(len(image)):
        row, known, into = image[y], valid[y], weighted[y]
        for x in range(len(row)):
            into[x] = row[x] if known[x] else zero


@njit(**CONTRACTED)
def blur(image, valid, weights):
    """Filter the bands (n, h, w) of one sample in place, weighted by validity."""
    bands, height, width = image.shape
    weighted, half = np.empty((height, width), np.float32), np.empty((height, width), np.float32)
    share, total = np.empty((height, width), np.float32), np.empty((height, width), np.float32)
    padded = np.zeros(width + 2 * (len(weights) - 1), np.float32)
    for y in range(height):
        for x in range(width):
            weighted[y, x] = np.float32(1) if valid[y, x] else np.float32(0)
    _down(weighted, weights, half)
    _across(half, weights, padded, share)
    for band in range(bands):
        _weighted(image[band], valid, weighted)
        _down(weighted, weights, half)
        _across(half, weights, padded, total)
        _finish(image[band], total, share, valid)


@njit(**CONTRACTED)
def _cells(length, width, phase, cell, share, edges):
    """For every pixel the first of the two cells that it lies between and its share of the second; the edges of all."""
    start = -phase * width if width > 1 else 0.0
    lowest = int(np.floor((0.5 - start) / width - 0.5))
    for pixel in range(length):
        place = (pixel + 0.5 - start) / width - 0.5
        below = np.floor(place)
        cell[pixel], share[pixel] = int(below) - lowest, np.float32(place - below)
    count = cell[length - 1] + 2
    for number in range(count + 1):
        edges[number] = start + (lowest + number) * width
    return count


@njit(**CONTRACTED)
def _means_down(source, width, phase, cell, share, edges, sums, target):
    height, across = source.shape
    count = _cells(height, width, phase, cell, share, edges)
    for number in range(count):
        into = sums[number]
        into[:] = 0
        first, last = max(int(np.floor(edges[number])), 0), min(int(np.ceil(edges[number + 1])), height)
        for y in range(first, last):
            part = np.float32(min(y + 1.0, edges[number + 1]) - max(float(y), edges[number]))
            row = source[y]
            for x in range(across):
                into[x] += part * row[x]
    for y in range(height):
        low, high, more, row = sums[cell[y]], sums[cell[y] + 1], share[y], target[y]
        for x in range(across):
            row[x] = low[x] + more * (high[x] - low[x])


@njit(**CONTRACTED)
def _means_across(source, width, phase, cell, share, edges, line, target):
    height, length = source.shape
    count = _cells(length, width, phase, cell, share, edges)
    for y in range(height):
        row, into = source[y], target[y]
        for number in range(count):
            first, last = max(int(np.floor(edges[number])), 0), min(int(np.ceil(edges[number + 1])), length)
            total = np.float32(0)
            for x in range(first, last):
                total += np.float32(min(x + 1.0, edges[number + 1]) - max(float(x), edges[number])) * row[x]
            line[number] = total
        for x in range(length):
            low, high = line[cell[x]], line[cell[x] + 1]
            into[x] = low + share[x] * (high - low)


@njit(**CONTRACTED)
def coarsen(image, valid, factors, phase):
    """Means over cells and back for the bands (n, h, w) of one sample, in place; each band has its own factor."""
    bands, height, width = image.shape
    longest = max(height, width)
    cell, share = np.empty(longest, np.int64), np.empty(longest, np.float32)
    edges, line = np.empty(longest + 4, np.float64), np.empty(longest + 4, np.float32)
    sums = np.empty((height + 4, width), np.float32)
    weighted, half = np.empty((height, width), np.float32), np.empty((height, width), np.float32)
    held, total = np.empty((height, width), np.float32), np.empty((height, width), np.float32)
    before = -1.0
    for band in range(bands):
        factor = factors[band]
        if factor <= 1.0:
            continue
        if factor != before:
            for y in range(height):
                for x in range(width):
                    weighted[y, x] = np.float32(1) if valid[y, x] else np.float32(0)
            _means_down(weighted, factor, phase[0], cell, share, edges, sums, half)
            _means_across(half, factor, phase[1], cell, share, edges, line, held)
            before = factor
        _weighted(image[band], valid, weighted)
        _means_down(weighted, factor, phase[0], cell, share, edges, sums, half)
        _means_across(half, factor, phase[1], cell, share, edges, line, total)
        _finish(image[band], total, held, valid)
