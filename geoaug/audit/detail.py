"""The fine detail of tiles: residuals that hold their noise, and radially averaged spectra.

Plain functions of arrays. Invalid pixels take no part: residuals need all nine pixels of their neighbourhood, spectra
are of the tile with 0 contrast where it is invalid. So two tiles are only comparable under the same validity.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from geoaug.audit.features import masked_mean

__all__ = ["BIN_EDGES", "HIGH", "MIDDLE", "Detail", "detail_of", "radial_power", "residuals"]

# Borders of the radial bins in cycles per pixel; the last one ends at the corner of the spectrum.
BIN_EDGES = (0.03, 0.06, 0.10, 0.15, 0.20, 0.26, 0.33, 0.41, 0.50, 0.7072)
# Bins of middle frequencies, which structures of the ground fill, and of high ones, which noise and sharpness decide.
MIDDLE = slice(1, 3)
HIGH = slice(5, 9)

# The standard deviation of white noise of variance 1 behind the filter of `residuals` (the root of the sum of squares).
_GAIN = 6.0


def residuals(
    x: Float[np.ndarray, "n c h w"], valid: Bool[np.ndarray, "n h w"]
) -> tuple[Float[np.ndarray, "n c h2 w2"], Bool[np.ndarray, "n h2 w2"]]:
    """Tiles behind the difference of two Laplacians, which planes and edges along rows or columns pass as 0.

    The filter is [[1, -2, 1], [-2, 4, -2], [1, -2, 1]] (Immerkaer, 1996, "Fast noise variance estimation", Computer
    Vision and Image Understanding 64, eq. 2), over 6, so that white noise keeps its standard deviation.

    Returns:
        The residuals, and where they are of valid pixels alone.
    """
    rows = x[:, :, :-2] - 2 * x[:, :, 1:-1] + x[:, :, 2:]
    filtered = (rows[..., :-2] - 2 * rows[..., 1:-1] + rows[..., 2:]) / _GAIN
    whole = valid[:, :-2] & valid[:, 1:-1] & valid[:, 2:]
    whole = whole[..., :-2] & whole[..., 1:-1] & whole[..., 2:]
    return filtered * whole[:, None], whole


@dataclass(frozen=True, slots=True, eq=False)
class Detail:
    """The fine detail of tiles.

    Attributes:
        residual: see `residuals`.
        whole: where the residuals are of valid pixels alone.
        noise: their standard deviation in each tile and band: for white noise on a plane, its own.
        power: see `radial_power`.
    """

    residual: Float[np.ndarray, "n c h2 w2"]
    whole: Bool[np.ndarray, "n h2 w2"]
    noise: Float[np.ndarray, "n c"]
    power: Float[np.ndarray, "n c k"]

    @property
    def high_frequencies_db(self) -> Float[np.ndarray, "n c"]:
        """Power above a quarter of a cycle per pixel over that of middle frequencies, in decibels."""
        high, middle = self.power[..., HIGH].mean(-1), self.power[..., MIDDLE].mean(-1)
        return np.asarray(10 * np.log10(np.maximum(high, 1e-9) / np.maximum(middle, 1e-9)))


def detail_of(x: Float[np.ndarray, "n c h w"], valid: Bool[np.ndarray, "n h w"]) -> Detail:
    """The fine detail of tiles (N, C, H, W)."""
    residual, whole = residuals(x, valid)
    return Detail(residual, whole, np.sqrt(masked_mean(residual**2, whole)), radial_power(x, valid))


def radial_power(x: Float[np.ndarray, "n c h w"], valid: Bool[np.ndarray, "n h w"]) -> Float[np.ndarray, "n c k"]:
    """Mean power in the bins of `BIN_EDGES` under a Hann window, per tile and band.

    For white noise of variance v every bin is v times the number of valid pixels, weighted by the window's square.
    """
    height, width = x.shape[-2:]
    window = np.outer(np.hanning(height + 2)[1:-1], np.hanning(width + 2)[1:-1]).astype(x.dtype)
    centred = (x - masked_mean(x, valid)[..., None, None]) * valid[:, None] * window
    power = np.abs(np.fft.rfft2(centred)) ** 2
    radius = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None])
    # Columns of the half spectrum stand for two each, but for the first and, where the width is even, the last.
    twice = np.full(radius.shape, 2.0)
    twice[:, 0] = 1.0
    if width % 2 == 0:
        twice[:, -1] = 1.0
    place = np.digitize(radius, BIN_EDGES) - 1
    weights = np.stack([(place == number) * twice for number in range(len(BIN_EDGES) - 1)])
    counts = np.maximum(weights.sum((1, 2)), 1.0)
    return np.asarray(np.einsum("nchw,khw->nck", power, weights, optimize=True) / counts)
