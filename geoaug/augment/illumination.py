"""Illumination: how bright the same ground is under another sun, season or calibration."""

from collections.abc import Sequence

import torch

from geoaug.augment.base import Params, RadiometricOperation, TileShape, as_range
from geoaug.augment.terms import Terms
from geoaug.errors import ConfigurationError
from geoaug.random import Draws
from geoaug.sensors import Sensor


class RandomIllumination(RadiometricOperation):
    """A gain common to all bands (sun elevation, season) and a small independent gain of each.

    The defaults stay within what remains between acquisitions of the same ground: 15 % in common, and 2 % from band
    to band, the order of the calibration requirement of Sentinel-2 (absolute 5 %, inter-band 3 %; ESA, Sentinel-2
    Mission Requirements Document, 2010).

    Args:
        gain: range of the common gain; its logarithm is uniform.
        band_jitter: standard deviation of the gain of each band, as a fraction.
        sensor: for use outside `Compose`; see `RadiometricOperation`.
    """

    def __init__(
        self,
        gain: float | Sequence[float] = (0.85, 1.18),
        band_jitter: float = 0.02,
        sensor: Sensor | str | None = None,
        p: float = 0.5,
        same_on_batch: bool = False,
        keepdim: bool = False,
    ) -> None:
        super().__init__(sensor, p, same_on_batch, keepdim)
        self.gain = as_range(gain, "gain", low=0.01, high=100)
        if not 0 <= band_jitter <= 0.5:
            raise ConfigurationError(f"band_jitter={band_jitter} is a standard deviation within [0, 0.5]")
        self.band_jitter = float(band_jitter)
        self.flags = {"gain": self.gain, "band_jitter": self.band_jitter}

    def draw(self, draws: Draws, shape: TileShape) -> Params:
        common = draws.log_uniform(*self.gain)
        # Three deviations at most: a rare draw must not turn a band dark or negative.
        jitter = (self.band_jitter * draws.normals(shape.bands)).clamp(-3 * self.band_jitter, 3 * self.band_jitter)
        return {"gain": common, "band_gain": 1 + jitter.clamp_min(-0.99)}

    def terms(self, params: Params, sensor: Sensor | None) -> Terms:
        gain = params["gain"][:, None] * params["band_gain"]
        return Terms(gain, torch.zeros_like(gain))
