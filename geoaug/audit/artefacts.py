"""Features that neither light nor air nor the view can change, and processing does.

Sun, aerosol and calibration multiply a band, add to it, and vary smoothly over a tile; quarter turns and flips move it.
So each feature here is a ratio within a band, of fine detail alone, and has no direction:

- noise: residuals over the contrast of middle frequencies, and how heavy their tails are;
- spectrum: power of radial bins over that of middle frequencies;
- correlation between bands: of residuals, neighbouring bands and each with all others;
- rows and columns: the ratio of differences along the two, and how much of the residual whole rows or columns share;
- histogram combs: roughness of the histogram against what chance makes of a smooth one (whole numbers only).
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float

from geoaug.audit.detail import BIN_EDGES, MIDDLE, Detail
from geoaug.audit.features import FeatureGroup, Features, joined, masked_mean

__all__ = ["COMBS", "CORRELATION", "DIRECTION", "NOISE", "SPECTRUM", "artefact_features", "comb_roughness"]

NOISE, SPECTRUM, CORRELATION = "noise", "sharpness", "correlation between bands"
DIRECTION, COMBS = "structure of rows and columns", "a comb in the histogram"

# Below this contrast, a share of one digital number, logarithms would measure nothing but rounding.
_TINY = 1e-6
_MOST_BINS = 65536
# From the median of absolute values of a normal law to its standard deviation.
_TO_SIGMA = 1.4826
# Pixels between residuals whose correlation is taken.
_LAGS = ((0, 1), (1, 1), (0, 2), (1, 2), (2, 2))


def artefact_features(
    x: Float[np.ndarray, "n c h w"],
    valid: Bool[np.ndarray, "n h w"],
    bands: Sequence[str],
    detail: Detail,
    ordered: Sequence[Float[np.ndarray, "c p"]] | None,
) -> Features:
    """Artefact features of tiles.

    Args:
        x: values as stored, in digital numbers.
        valid: which of them hold data.
        bands: names, for the features'.
        detail: of the same tiles.
        ordered: the valid values of each tile, in order in each band; None where they are not whole numbers, whose
            histograms alone may have combs.
    """
    single: list[tuple[str, ...]] = [(name,) for name in bands]
    residual, whole = detail.residual, detail.whole
    variance, power = detail.noise**2, detail.power
    middle = power[..., MIDDLE].mean(-1)
    log_middle = np.log(middle + _TINY)
    parts: list[FeatureGroup] = [
        (NOISE, "over contrast", single, 0.5 * np.log(variance + _TINY) - 0.5 * log_middle),
        (NOISE, "tails", single, _log(masked_mean(np.abs(residual), whole)) - 0.5 * _log(variance)),
    ]
    for number in range(power.shape[-1]):
        if MIDDLE.start <= number < MIDDLE.stop:
            continue
        title = f"{BIN_EDGES[number]:g} to {min(BIN_EDGES[number + 1], 0.71):g} cycles per pixel"
        parts.append((SPECTRUM, title, single, np.log(power[..., number] + _TINY) - log_middle))
    parts += [(SPECTRUM, title, single, columns) for title, columns in _neighbours(residual, whole)]
    parts += _correlations(residual, variance, bands)
    parts += _directions(x, valid, single)
    if ordered is not None:
        noise = _TO_SIGMA * np.median(np.abs(residual), axis=(2, 3))
        parts.append((COMBS, "roughness", single, _log(comb_roughness(ordered, noise))))
    return joined(parts)


def comb_roughness(
    ordered: Sequence[Float[np.ndarray, "c p"]], noise: Float[np.ndarray, "n c"]
) -> Float[np.ndarray, "n c"]:
    """Squared second differences of smoothed histograms over what independent counts of a smooth density would have.

    Counts h of a Poisson law with slowly varying mean m, filtered by c, have E (c * h)^2 = m times the sum of squares
    of c where c sums to 0, so the ratio of the sums is near 1; values that a gain or a look-up table left out or
    doubled raise it. Between the 5th and the 95th percentile, where the density is smooth. Smoothed by half of the
    tile's noise: what steps finer than the noise leave in a histogram is to be seen in no neighbourhood of a pixel.

    Args:
        ordered: whole numbers of each tile, in order in each band.
        noise: of each tile and band, in digital numbers.
    """
    rough = np.ones((len(ordered), len(ordered[0])))
    for tile, bands in enumerate(ordered):
        count = bands.shape[1]
        first, last = int(0.05 * count), int(0.95 * count)
        if last <= first:
            continue
        for band, values in enumerate(bands.astype(np.int64)):
            low, high = values[first], values[last]
            comb = _comb_filter(float(noise[tile, band]))
            if not len(comb) + 1 < high - low < _MOST_BINS:
                continue
            inside = values[np.searchsorted(values, low) : np.searchsorted(values, high, "right")] - low
            counts = np.bincount(inside, minlength=high - low + 1).astype(np.float64)
            filtered = np.convolve(counts, comb, "valid")
            rough[tile, band] = (filtered**2).mean() / max(counts.mean() * (comb**2).sum(), 1e-12)
    return rough


def _comb_filter(noise: float) -> np.ndarray:
    """A second difference, smoothed by a Gaussian of half the noise, and as much wider."""
    sigma = noise / 2
    if sigma < 0.5:
        return np.array([1.0, -2.0, 1.0])
    step = round(2 * sigma)
    reach = int(np.ceil(3 * sigma))
    smooth = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    second = np.zeros(2 * step + 1)
    second[[0, step, -1]] = 1.0, -2.0, 1.0
    return np.convolve(smooth / smooth.sum(), second)


def _log(values: np.ndarray) -> np.ndarray:
    return np.asarray(np.log(np.maximum(values, _TINY)))


def _neighbours(residual: np.ndarray, whole: np.ndarray) -> list[tuple[str, np.ndarray]]:
    """Correlations of residuals with those some pixels away, over directions that turns and flips exchange."""
    energy = np.maximum(masked_mean(residual**2, whole), _TINY)
    found = []
    for near, far in _LAGS:
        columns = []
        # Each with its mirror image, and no direction twice: turns and flips exchange them and change no mean.
        both = {(near, far), (far, near)}
        for down, right in sorted(both | ({(a, -b) for a, b in both} if near else set())):
            first, second = _shifted(down, right)
            product = residual[..., first[0], first[1]] * residual[..., second[0], second[1]]
            columns.append(masked_mean(product, whole[..., first[0], first[1]] & whole[..., second[0], second[1]]))
        found.append((f"residuals {near} and {far} pixels apart", np.mean(columns, axis=0) / energy))
    return found


def _shifted(down: int, right: int) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Rows and columns of pixels, and of those `down` and `right` of them."""
    rows = slice(0, -down or None), slice(down, None)
    columns = slice(max(0, -right), -right if right > 0 else None), slice(max(0, right), right if right < 0 else None)
    return (rows[0], columns[0]), (rows[1], columns[1])


def _correlations(residual: np.ndarray, variance: np.ndarray, bands: Sequence[str]) -> list[FeatureGroup]:
    count = len(bands)
    if count < 2:
        return []
    flat = residual.reshape(*residual.shape[:2], -1)
    scale = np.sqrt(np.einsum("ncp,ncp->nc", flat, flat))
    flat = flat / np.maximum(scale, _TINY)[..., None]
    matrix = np.clip(np.einsum("ncp,ndp->ncd", flat, flat, optimize=True), -0.999, 0.999)
    neighbours = np.arctanh(matrix[:, np.arange(count - 1), np.arange(1, count)])
    pairs: list[tuple[str, ...]] = [(bands[number], bands[number + 1]) for number in range(count - 1)]
    others = (matrix.sum(2) - matrix[:, np.arange(count), np.arange(count)]) / (count - 1)
    return [
        (CORRELATION, "with the next band", pairs, neighbours),
        (CORRELATION, "with all others", [(name,) for name in bands], np.arctanh(others)),
    ]


def _second_differences(x: np.ndarray, valid: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """Along rows (axis 3) or columns (axis 2), 0 where one of the three pixels is invalid; and where none is."""
    if axis == 3:
        second, known = _second_differences(x.swapaxes(2, 3), valid.swapaxes(1, 2), 2)
        return second.swapaxes(2, 3), known.swapaxes(1, 2)
    known = valid[:, :-2] & valid[:, 1:-1] & valid[:, 2:]
    return (x[:, :, :-2] - 2 * x[:, :, 1:-1] + x[:, :, 2:]) * known[:, None], known


def _directions(x: np.ndarray, valid: np.ndarray, single: list[tuple[str, ...]]) -> list[FeatureGroup]:
    along_rows = masked_mean(np.diff(x, axis=3) ** 2, valid[..., 1:] & valid[..., :-1])
    along_columns = masked_mean(np.diff(x, axis=2) ** 2, valid[:, 1:] & valid[:, :-1])
    shared = []
    for axis in (2, 3):
        # Second differences across lines, which smooth fields pass as 0: of n independent ones of variance v, the
        # square of the sum along the line is n v, of those that the whole line shares n^2 v.
        second, known = _second_differences(x, valid, axis)
        along = 5 - axis
        sums = second.sum(along)
        expected = np.einsum("nchw,nhw->nc", second**2, known)
        shared.append(_log((sums**2).sum(-1)) - _log(expected))
    stripes = np.sort(np.stack(shared), axis=0)
    return [
        (DIRECTION, "differences", single, np.abs(_log(along_rows) - _log(along_columns))),
        (DIRECTION, "lines, less", single, stripes[0]),
        (DIRECTION, "lines, more", single, stripes[1]),
    ]
