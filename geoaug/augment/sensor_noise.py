"""Detector noise: what the instrument itself adds to reflectance, from its published signal-to-noise ratios."""

import math
from collections.abc import Sequence

import torch

from geoaug.augment.base import Params, RadiometricOperation, TileShape, as_range
from geoaug.augment.terms import Terms
from geoaug.errors import ConfigurationError
from geoaug.random import Draws
from geoaug.sensors import Band, Sensor

# For bands that publish no radiometry: a signal-to-noise ratio of 100 at a reflectance of 0.1, between the 89 and 174
# that Sentinel-2 asks of its land bands.
_DEFAULT_SNR = 100.0
_DEFAULT_REFERENCE_REFLECTANCE = 0.1


def noise_slope(band: Band, sun_elevation_deg: float = 90.0) -> float:
    """Variance of reflectance per unit of reflectance, for noise that is shot noise of the measured light.

    With `sigma(L) = (L_ref / SNR) * sqrt(L / L_ref)` and `L = reflectance * E_sun * sin(elevation) / pi`, the variance
    of reflectance is `reflectance * reflectance_ref / SNR**2`.

    Args:
        band: with `snr` at `reference_radiance` and `solar_irradiance`; a documented default stands in where a sensor
            publishes none.
        sun_elevation_deg: under which the image was taken.
    """
    snr = _DEFAULT_SNR if band.snr is None else band.snr
    if band.reference_radiance is None or not band.solar_irradiance:
        reference = _DEFAULT_REFERENCE_REFLECTANCE
    else:
        illumination = band.solar_irradiance * math.sin(math.radians(sun_elevation_deg))
        reference = math.pi * band.reference_radiance / illumination
    return reference / snr**2


class RandomSensorNoise(RadiometricOperation):
    """Noise of the detector: independent from pixel to pixel and band to band, stronger in brighter pixels.

    Args:
        factor: range of the noise's standard deviation in units of the sensor's own; 1 doubles the variance that a
            raw image already has.
        snr: signal-to-noise ratio at a reflectance of 0.1, in place of the sensor's figures.
        sun_elevation: under which the image was taken, degrees; it sets the reflectance that the sensor's reference
            radiance stands for.
        sensor: for use outside `Compose`; see `RadiometricOperation`.
    """

    def __init__(
        self,
        factor: float | Sequence[float] = (0.0, 1.0),
        snr: float | None = None,
        sun_elevation: float = 50.0,
        sensor: Sensor | str | None = None,
        p: float = 0.5,
        same_on_batch: bool = False,
        keepdim: bool = False,
    ) -> None:
        super().__init__(sensor, p, same_on_batch, keepdim)
        self.factor = as_range(factor, "factor", low=0, high=100)
        if snr is not None and not snr > 0:
            raise ConfigurationError(f"snr={snr} is a signal-to-noise ratio above 0")
        if not 5 <= sun_elevation <= 90:
            raise ConfigurationError(f"sun_elevation={sun_elevation} is not within 5 to 90 degrees")
        self.snr = snr
        self.sun_elevation = float(sun_elevation)
        self.flags = {"factor": self.factor, "sun_elevation": self.sun_elevation}
        if snr is not None:
            self.flags["snr"] = snr

    def check_sensor(self, sensor: Sensor | None, bands: int | None = None) -> None:
        super().check_sensor(sensor, bands)
        if sensor is None and self.snr is None:
            raise ConfigurationError("RandomSensorNoise needs a sensor, or snr= at a reflectance of 0.1")

    def draw(self, draws: Draws, shape: TileShape) -> Params:
        # One column a band, so that the terms know how many there are where no sensor tells.
        return {"factor": draws.uniform(*self.factor)[:, None].expand(-1, shape.bands)}

    def terms(self, params: Params, sensor: Sensor | None) -> Terms:
        factor = params["factor"].double()
        if self.snr is not None:
            slopes = [_DEFAULT_REFERENCE_REFLECTANCE / self.snr**2]
        else:
            assert sensor is not None  # check_sensor has refused its absence
            slopes = [noise_slope(band, self.sun_elevation) for band in sensor.bands]
        per_band = torch.tensor(slopes, dtype=torch.float64).to(factor.device, non_blocking=True)
        slope = factor.square() * per_band
        one = torch.ones_like(slope)
        return Terms(one, torch.zeros_like(one), torch.zeros_like(one), slope)
