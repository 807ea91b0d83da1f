"""Shapes of a made landscape, as pure functions on numbers: fractal noise, parcels, meanders, soft edges,
sensor blur.

Nothing here knows of land covers or spectra; `geoaug.data.synthetic.made_scene` puts these shapes together into a
scene. All lengths are in pixels, all angles in radians, and all rasters are float32 of shape (height,
width).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Raster = NDArray[np.float32]


def fractal_noise(
    rng: np.random.Generator, size: int, *, longest: float, shortest: float, exponent: float = 1.6
) -> Raster:
    """Noise of zero mean and unit deviation whose amplitude falls as wavelength**exponent between two
    wavelengths."""
    spectrum = np.fft.rfft2(rng.standard_normal((size, size), dtype=np.float32))
    frequency = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None, :]).astype(np.float32)
    frequency[0, 0] = 1.0
    amplitude = frequency**-exponent
    amplitude *= np.exp(-((frequency * shortest) ** 4)) * (1 - np.exp(-((frequency * longest) ** 4)))
    amplitude[0, 0] = 0.0
    noise = np.fft.irfft2(spectrum * amplitude, s=(size, size)).astype(np.float32)
    return np.asarray(noise / noise.std(), dtype=np.float32)


def soft_edge(field: Raster, width: float = 1.0) -> Raster:
    """Coverage (0..1) of the area where `field` > 0, its edge about `width` pixels wide whatever the
    field's slope."""
    down, right = np.gradient(field)
    slope = np.hypot(down, right) + np.float32(1e-6)
    return np.asarray(np.clip(0.5 + field / (slope * np.float32(width)), 0.0, 1.0), dtype=np.float32)


def smooth_step(values: Raster, start: float, stop: float) -> Raster:
    """0 where `values` is at `start`, 1 at `stop`, a cubic between (start may lie above stop)."""
    position = np.clip((values - np.float32(start)) / np.float32(stop - start), 0.0, 1.0)
    return np.asarray(position * position * (3 - 2 * position), dtype=np.float32)


@dataclass(frozen=True, slots=True)
class Cells:
    """A plane cut into cells: the cell of each pixel (numbers from 0), their count, and the distance to the
    border."""

    index: NDArray[np.int64]
    count: int
    border: Raster


def jittered_cells(rng: np.random.Generator, x: Raster, y: Raster, pitch: float) -> Cells:
    """Voronoi cells of a jittered grid of seeds, `pitch` apart on average."""
    columns = np.floor(x / np.float32(pitch)).astype(np.int64)
    rows = np.floor(y / np.float32(pitch)).astype(np.int64)
    first_row, first_column = rows.min() - 1, columns.min() - 1
    shape = (int(rows.max() - first_row + 2), int(columns.max() - first_column + 2))
    seeds = (rng.uniform(0.08, 0.92, (2, *shape)) * pitch).astype(np.float32)
    seeds[0] += ((np.arange(shape[0]) + first_row) * pitch)[:, None].astype(np.float32)
    seeds[1] += ((np.arange(shape[1]) + first_column) * pitch)[None, :].astype(np.float32)
    nearest = np.full(x.shape, np.inf, dtype=np.float32)
    second = nearest.copy()
    index = np.zeros(x.shape, dtype=np.int64)
    for row_step in (-1, 0, 1):
        for column_step in (-1, 0, 1):
            candidate = (rows + row_step - first_row) * shape[1] + columns + column_step - first_column
            distance = np.hypot(y - seeds[0].reshape(-1)[candidate], x - seeds[1].reshape(-1)[candidate])
            closer = distance < nearest
            second = np.where(closer, nearest, np.minimum(second, distance))
            index = np.where(closer, candidate, index)
            nearest = np.where(closer, distance, nearest)
    return Cells(index, shape[0] * shape[1], np.asarray((second - nearest) / 2, dtype=np.float32))


@dataclass(frozen=True, slots=True)
class Parcels:
    """Rectangular parcels: number per pixel (from 0), their count, the coordinate across the rows that are
    worked in each (pixels), and the distance to the long sides and to the short sides (the headlands)."""

    index: NDArray[np.int64]
    count: int
    across: Raster
    side: Raster
    end: Raster


def _uneven_steps(
    rng: np.random.Generator, position: Raster, step: Raster, salt: NDArray[np.int64]
) -> tuple[NDArray[np.int64], Raster]:
    """Number of the interval that holds `position`, intervals being about `step` long and different for
    every `salt`; and the distance to the interval's nearer end."""
    table = rng.uniform(-0.38, 0.38, 1 << 14).astype(np.float32)
    unit = position / step
    number = np.floor(unit).astype(np.int64)
    low = number + table[(number * 8191 + salt * 131) % table.size]
    number = number - (unit < low)
    low = number + table[(number * 8191 + salt * 131) % table.size]
    high = number + 1 + table[((number + 1) * 8191 + salt * 131) % table.size]
    number = number + (unit >= high)
    distance = np.minimum(np.abs(unit - low), np.abs(unit - high)) * step
    return number, np.asarray(distance, dtype=np.float32)


def parcels(
    rng: np.random.Generator,
    x: Raster,
    y: Raster,
    cells: Cells,
    *,
    width: tuple[float, float],
    length: tuple[float, float],
    angle: float,
    spread: float,
) -> Parcels:
    """Cut each cell into strips of its own direction and breadth, and each strip into parcels.

    `width` and `length` are the ranges from which a cell draws its parcels' mean size; `angle` is the
    prevailing direction of the long sides, with a standard deviation of `spread`, and a quarter turn for
    half of the cells.
    """
    angles = rng.normal(angle, spread, cells.count) + rng.integers(0, 2, cells.count) * np.pi / 2
    cosine = np.cos(angles).astype(np.float32)[cells.index]
    sine = np.sin(angles).astype(np.float32)[cells.index]
    along = np.asarray(x * cosine - y * sine, dtype=np.float32)
    across = np.asarray(x * sine + y * cosine, dtype=np.float32)
    widths = rng.uniform(*width, cells.count).astype(np.float32)[cells.index]
    lengths = rng.uniform(*length, cells.count).astype(np.float32)[cells.index]
    strip, side = _uneven_steps(rng, across, widths, cells.index)
    piece, end = _uneven_steps(rng, along, lengths, cells.index * 977 + strip)
    name = (cells.index * 4096 + strip % 4096) * 4096 + piece % 4096
    names, index = np.unique(name, return_inverse=True)
    return Parcels(index.reshape(x.shape), names.size, across, side, end)


def row_texture(rng: np.random.Generator, field: Parcels) -> Raster:
    """Streaks of unit deviation along the rows of each parcel, as left by sowing, spraying and tillage."""
    streaks = rng.standard_normal(4096).astype(np.float32)
    streaks += np.roll(streaks, 1) + np.float32(0.5) * np.roll(streaks, 2)
    streaks /= np.float32(1.5)  # the deviation of the sum
    position = field.across + (rng.integers(0, 4096, field.count).astype(np.float32))[field.index]
    lower = np.floor(position)
    share = position - lower
    number = lower.astype(np.int64) % streaks.size
    return np.asarray((1 - share) * streaks[number] + share * streaks[(number + 1) % streaks.size], dtype=np.float32)


def meander(rng: np.random.Generator, size: int, *, wavelength: float, wildness: float) -> NDArray[np.float64]:
    """Centre line of a river that crosses the raster from left to right, shape (n, 2) of (x, y).

    The sine-generated curve of Langbein and Leopold (1966, USGS Professional Paper 422-H): the direction
    swings as a sine of the distance along the channel; its amplitude (at most `wildness`, radians) and
    wavelength vary on the way.
    """
    length = int(size * 3.2)
    knots = max(int(2.2 * length / wavelength), 6)
    travelled = np.arange(length, dtype=np.float64)
    pace = np.interp(travelled, np.linspace(0, length, knots), rng.uniform(0.6, 1.5, knots)) / wavelength
    swing = np.interp(travelled, np.linspace(0, length, knots), wildness * rng.uniform(0.25, 1.15, knots))
    bend = np.interp(travelled, np.linspace(0, length, 6), rng.normal(0.0, 0.3, 6))
    direction = swing * np.sin(2 * np.pi * np.cumsum(pace)) + bend
    direction = np.convolve(np.pad(direction, 12, mode="edge"), np.full(25, 1 / 25), mode="valid")
    line = np.stack([np.cumsum(np.cos(direction)), np.cumsum(np.sin(direction))], axis=1)
    start = rng.uniform(0.30, 0.42) * size
    slope = (line[-1, 1] - line[0, 1]) / (line[-1, 0] - line[0, 0])
    line[:, 1] += start + (rng.uniform(-0.1, 0.1) - slope) * line[:, 0]
    return np.asarray(line - np.array([0.08 * size, 0.0]), dtype=np.float64)


def winding_line(
    rng: np.random.Generator, start: NDArray[np.float64], stop: NDArray[np.float64], sway: float
) -> NDArray[np.float64]:
    """A road-like line from `start` to `stop` (x, y), one point a pixel, that leaves the straight by about
    `sway`."""
    length = float(np.hypot(*(stop - start)))
    position = np.linspace(0.0, 1.0, max(int(length), 2))
    offset = sum(rng.normal(0, sway / order) * np.sin(np.pi * order * position) for order in (1, 2, 3, 5))
    normal = np.array([start[1] - stop[1], stop[0] - start[0]]) / max(length, 1.0)
    return np.asarray(start + position[:, None] * (stop - start) + np.outer(offset, normal), dtype=np.float64)


def distance_to_line(line: NDArray[np.float64], size: int, reach: int) -> Raster:
    """Distance of each pixel to the nearest point of a line (n, 2) of (x, y); `reach` where that is
    farther."""
    distance = np.full((size, size), reach, dtype=np.float32)
    offsets = np.arange(-reach, reach + 1)
    for x, y in line:
        row, column = int(y), int(x)
        top, bottom = max(row - reach, 0), min(row + reach + 1, size)
        left, right = max(column - reach, 0), min(column + reach + 1, size)
        if top >= bottom or left >= right:
            continue
        down = (offsets[top - row + reach : bottom - row + reach] + (row - y)).astype(np.float32)
        across = (offsets[left - column + reach : right - column + reach] + (column - x)).astype(np.float32)
        near = np.sqrt(down[:, None] ** 2 + across[None, :] ** 2)
        window = distance[top:bottom, left:right]
        np.minimum(window, near, out=window)
    return distance


def sensor_blur(band: Raster, pixels: int) -> Raster:
    """What a detector of `pixels` x `pixels` sees: a Gaussian point spread, sampled on the coarse grid and
    repeated.

    The modulation transfer at the coarse grid's Nyquist frequency comes to 0.2 to 0.3, as Sentinel-2's does.
    """
    size = band.shape[0]
    sigma = 0.5 * pixels
    radius = int(np.ceil(3 * sigma))
    taps = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2).astype(np.float32)
    taps /= taps.sum()
    margin = -size % pixels
    padded = np.pad(band, radius + margin, mode="reflect")[margin:, margin:]
    across = sum(tap * padded[:, start : start + size + margin] for start, tap in enumerate(taps))
    blurred = sum(tap * across[start : start + size + margin] for start, tap in enumerate(taps))
    if pixels == 1:
        return np.asarray(blurred, dtype=np.float32)
    coarse = np.asarray(blurred).reshape((size + margin) // pixels, pixels, -1, pixels).mean(axis=(1, 3))
    return np.asarray(np.repeat(np.repeat(coarse, pixels, 0), pixels, 1)[:size, :size], dtype=np.float32)
