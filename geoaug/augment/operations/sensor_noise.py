"""Detector noise: what the instrument itself adds to reflectance, from its published signal-to-noise ratios."""

import math
from collections.abc import Sequence
from typing import Any, ClassVar, Unpack

import torch
from torch import Tensor

from geoaug.augment.operations.base import RadiometricOperation, RadiometricOptions, TileShape, as_range
from geoaug.augment.planning.plan import Params
from geoaug.augment.planning.terms import Terms
from geoaug.errors import ConfigurationError
from geoaug.rng.draws import Draws
from geoaug.sensors import Band, Sensor
from geoaug.small_arrays import Numbers, constant, several_by_numpy

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

    The pixels are those of each band. Where a band is coarser than the tile (20 and 60 m on pixels of 10 m), noise is
    drawn on its own pixels, for which the signal-to-noise ratio is published, and interpolated as the band was
    (`Compose(band_resampling=...)`): it is as smooth as the band. What scales it is the brightness of the tile's pixel.

    Where a sensor's bands have `noise_alpha` and `noise_beta`, or these are given, the variance is that of the two-term
    model `sigma^2 = alpha^2 + beta * DN` (dark noise and shot noise; the form in which Sentinel-2 products state it);
    otherwise it is the shot noise that the signal-to-noise ratio at the reference radiance stands for.

    Args:
        factor: range of the noise's standard deviation in units of the sensor's own; 1 doubles the variance that a
            raw image already has.
        snr: signal-to-noise ratio at a reflectance of 0.1, in place of the sensor's figures.
        sun_elevation: under which the image was taken, degrees, where the sample does not tell it; it sets the
            reflectance that the sensor's reference radiance stands for.
        alpha: with `beta`, in place of the sensor's figures: DN, one number or one for each band.
        beta: see `alpha`.
        **options: see `RadiometricOptions`.
    """

    neutral: ClassVar = {"factor": 0.0}

    def __init__(
        self,
        factor: float | Sequence[float] = (0.0, 1.0),
        snr: float | None = None,
        sun_elevation: float = 50.0,
        alpha: float | Sequence[float] | None = None,
        beta: float | Sequence[float] | None = None,
        **options: Unpack[RadiometricOptions],
    ) -> None:
        super().__init__(**options)
        self.factor = as_range(factor, "factor", low=0, high=100)
        if snr is not None and not snr > 0:
            raise ConfigurationError(f"snr={snr} is a signal-to-noise ratio above 0", argument="snr")
        if not 5 <= sun_elevation <= 90:
            raise ConfigurationError(
                f"sun_elevation={sun_elevation} is not within 5 to 90 degrees", argument="sun_elevation"
            )
        if (alpha is None) != (beta is None):
            raise ConfigurationError(
                "alpha and beta belong together: sigma^2 = alpha^2 + beta * DN; give both", argument="alpha"
            )
        if snr is not None and alpha is not None:
            raise ConfigurationError(
                f"snr={snr} and alpha={alpha} are two models of the noise; give one", argument="snr"
            )
        self.snr, self.sun_elevation = snr, float(sun_elevation)
        self._slopes: tuple[Sensor, tuple[float, ...], tuple[float, ...]] | None = None
        self.alpha, self.beta = _per_band(alpha, "alpha"), _per_band(beta, "beta")
        self.flags = {"factor": self.factor, "sun_elevation": self.sun_elevation}
        given = {"snr": snr, "alpha": alpha, "beta": beta}
        self.flags |= {name: value for name, value in given.items() if value is not None}

    def check_sensor(self, sensor: Sensor | None, bands: int | None = None) -> None:
        super().check_sensor(sensor, bands)
        if sensor is None and self.snr is None:
            raise ConfigurationError("RandomSensorNoise needs a sensor, or snr= at a reflectance of 0.1")
        for name in ("alpha", "beta"):
            given = getattr(self, name)
            if given is not None and sensor is not None and len(given) not in (1, len(sensor.bands)):
                raise ConfigurationError(
                    f"RandomSensorNoise: {name} has {len(given)} numbers for the {len(sensor.bands)} bands of "
                    f"'{sensor.name}'"
                )

    def draw(self, draws: Draws, shape: TileShape) -> Params:
        factor = draws.uniform(*self.factor)
        typical = torch.full_like(factor, self.sun_elevation)
        return {
            # One column a band, so that the terms know how many there are where no sensor tells.
            "factor": factor[:, None].expand(-1, shape.bands),
            "sun_elevation": typical if shape.sun_elevation is None else shape.sun_elevation.clamp(5, 90),
        }

    def terms(self, params: Params, shape: TileShape) -> Terms:
        factor = params["factor"].double()

        def row(numbers: Sequence[float]) -> Tensor:
            return constant(tuple(numbers), torch.float64, factor.device)

        if self.snr is not None:
            floor, slope = row([0.0]), row([_DEFAULT_REFERENCE_REFLECTANCE / self.snr**2])
        else:
            sensor = shape.sensor
            assert sensor is not None  # check_sensor has refused its absence
            two_term = _two_term_model(sensor, self.alpha, self.beta)
            if two_term is not None:
                floor, slope = row(two_term[0]), row(two_term[1])
            else:
                # The slope is that under a sun in the zenith over the sine of the elevation.
                overhead, known = (row(numbers) for numbers in self._of_bands(sensor))
                return Terms(*_shot_noise(factor, overhead, known, params["sun_elevation"].double()))
        return Terms(*_noise(factor, floor, slope))

    def _of_bands(self, sensor: Sensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Slopes under a sun in the zenith, and 1 where a reference tells of the light; kept for the last sensor."""
        found = self._slopes
        if found is None or found[0] is not sensor:
            slopes = tuple(noise_slope(band) for band in sensor.bands)
            known = tuple(float(band.reference_radiance is not None) for band in sensor.bands)
            # Read once: another thread may use the operation under another sensor.
            self._slopes = found = (sensor, slopes, known)
        return found[1:]


@several_by_numpy
def _noise(xp: Any, factor: Any, floor: Any, slope: Any) -> tuple[Numbers, ...]:
    """Terms of noise alone: gain, offset, floor, slope."""
    square = factor * factor
    return xp.ones_like(factor), xp.zeros_like(factor), square * floor, square * slope


@several_by_numpy
def _shot_noise(xp: Any, factor: Any, overhead: Any, known: Any, elevation: Any) -> tuple[Numbers, ...]:
    """The same of light under a sun at some elevation, where a reference tells of the light."""
    cosine = xp.sin(elevation * (math.pi / 180))[:, None]
    square = factor * factor
    slope = square * overhead * (known / cosine + (1 - known))
    return xp.ones_like(factor), xp.zeros_like(factor), xp.zeros_like(factor), slope


def _per_band(value: float | Sequence[float] | None, name: str) -> tuple[float, ...] | None:
    if value is None:
        return None
    numbers = (float(value),) if isinstance(value, int | float) else tuple(float(number) for number in value)
    if not numbers or not all(number >= 0 for number in numbers):
        raise ConfigurationError(f"{name}={value} is one number of at least 0, or one for each band", argument=name)
    return numbers


def _two_term_model(
    sensor: Sensor, alpha: tuple[float, ...] | None, beta: tuple[float, ...] | None
) -> tuple[list[float], list[float]] | None:
    """Variance of reflectance at 0, and its growth per unit of reflectance, from that of the DN; None: not known."""
    count = len(sensor.bands)
    if alpha is not None and beta is not None:
        alphas, betas = (numbers * count if len(numbers) == 1 else numbers for numbers in (alpha, beta))
    else:
        stated = [(band.noise_alpha, band.noise_beta) for band in sensor.bands]
        alphas, betas = (tuple(v for v in column if v is not None) for column in zip(*stated, strict=True))
        if len(alphas) < count:
            return None
    floors, slopes = [], []
    for band, dark, shot in zip(sensor.bands, alphas, betas, strict=True):
        scale = band.quantification
        floors.append((dark**2 - shot * band.offset) / scale**2)
        slopes.append(shot / scale)
    return floors, slopes
