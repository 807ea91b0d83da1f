"""Loops that count pixels, compiled by Numba on first use: one pass over a band, without Python's lock.

Not kept on disk: they are small, and compile in a second.
"""

import numpy as np
from numba import njit

# Float32 by its sign, its exponent and the first nine binary digits of its fraction.
KEYS = 2**18
_SHIFT = np.uint32(14)
_SIGN = np.uint32(0x80000000)

# Pixels whose products of bands are summed at once, small enough for the cache.
_STRETCH = 512


@njit(nogil=True)
def count_integers(values, valid, first, counts):
    """Add each valid value to `counts`, of which the first stands for the number `first`.

    Returns:
        (pixels, sum) of those.
    """
    pixels, total = 0, 0
    for row in range(values.shape[0]):
        for col in range(values.shape[1]):
            if valid[row, col]:
                value = np.int64(values[row, col])
                counts[value - first] += 1
                total += value
                pixels += 1
    return pixels, total


@njit(nogil=True)
def count_numbers(values, valid, counts):
    """Add each valid value to `counts` (KEYS) by its key; see `key_middles`.

    Returns:
        (pixels, mean, sum of squares about the mean, least, greatest) of those.
    """
    pixels, total = 0, 0.0
    least, greatest = np.inf, -np.inf
    single, words = np.empty(1, dtype=np.float32), np.empty(0, dtype=np.uint32)
    words = single.view(np.uint32)
    for row in range(values.shape[0]):
        of_row = 0.0
        for col in range(values.shape[1]):
            if valid[row, col]:
                value = np.float64(values[row, col])
                of_row += value
                least, greatest = min(least, value), max(greatest, value)
                single[0] = np.float32(value)
                word = words[0]
                word = ~word if word & _SIGN else word | _SIGN
                counts[word >> _SHIFT] += 1
                pixels += 1
        total += of_row
    mean = total / pixels if pixels else 0.0
    about = 0.0
    for row in range(values.shape[0]):
        of_row = 0.0
        for col in range(values.shape[1]):
            if valid[row, col]:
                away = np.float64(values[row, col]) - mean
                of_row += away * away
        about += of_row
    return pixels, mean, about, least, greatest


@njit(nogil=True, fastmath={"reassoc", "contract"})
def sum_products(image, valid, centre, sums, products):
    """Add distances of valid pixels from `centre` (bands) to `sums` (bands) and `products` (bands, bands)."""
    bands, height, width = image.shape
    away = np.empty((bands, _STRETCH))
    for row in range(height):
        for start in range(0, width, _STRETCH):
            stop = min(start + _STRETCH, width)
            for band in range(bands):
                for col in range(start, stop):
                    known = valid[row, col]
                    away[band, col - start] = np.float64(image[band, row, col]) - centre[band] if known else 0.0
            for one in range(bands):
                total = 0.0
                for pixel in range(stop - start):
                    total += away[one, pixel]
                sums[one] += total
                for other in range(one + 1):
                    total = 0.0
                    for pixel in range(stop - start):
                        total += away[one, pixel] * away[other, pixel]
                    products[one, other] += total


def key_middles() -> np.ndarray:
    """(KEYS,) float64: the middle of the numbers of each key; not finite at the ends, where no number is."""
    words = np.arange(KEYS, dtype=np.uint32) << _SHIFT

    def numbers(ordered: np.ndarray) -> np.ndarray:
        positive = (ordered & _SIGN) != 0
        return np.where(positive, ordered ^ _SIGN, ~ordered).astype(np.uint32).view(np.float32).astype(np.float64)

    last = words + np.uint32((1 << 14) - 1)
    with np.errstate(invalid="ignore"):
        return (numbers(words) + numbers(last)) / 2
