"""Illumination and calibration: how bright the same ground is under another sun, from another side, in another year."""

import math
from collections.abc import Sequence
from typing import Any, ClassVar, Unpack

import torch
from torch import Tensor

from geoaug.augment.operations.base import RadiometricOperation, RadiometricOptions, TileShape, as_range
from geoaug.augment.physics.aerosols import REFERENCE_NM
from geoaug.augment.physics.air import centres_nm, path_of_clear_air
from geoaug.augment.physics.ground import reflectance
from geoaug.augment.planning.maps import Ramp
from geoaug.augment.planning.plan import Params
from geoaug.augment.planning.segments import Affine, Modulation, OperationSegment
from geoaug.augment.planning.terms import Terms
from geoaug.errors import ConfigurationError
from geoaug.rng.draws import Draws
from geoaug.small_arrays import Numbers, at_least, by_numpy

_DEFAULT_GSD_M = 10.0


class RandomIllumination(RadiometricOperation):
    """A gain common to all bands (sun, season, wetness) and a small independent gain of each.

    The defaults stay within what remains between acquisitions of the same ground: 15 % in common, and 2 % from band
    to band, the order of the calibration requirement of Sentinel-2 (absolute 5 %, inter-band 3 %; ESA, Sentinel-2
    Mission Requirements Document, 2010). In top-of-atmosphere products it is the ground that brightens; the light
    scattered by the air above it stays.

    Args:
        gain: range of the common gain; its logarithm is uniform.
        band_jitter: standard deviation of the gain of each band, as a fraction.
        **options: see `RadiometricOptions`.
    """

    neutral: ClassVar = {"gain": 1.0, "band_gain": 1.0}

    def __init__(
        self,
        gain: float | Sequence[float] = (0.85, 1.18),
        band_jitter: float = 0.02,
        **options: Unpack[RadiometricOptions],
    ) -> None:
        super().__init__(**options)
        self.gain = as_range(gain, "gain", low=0.01, high=100)
        if not 0 <= band_jitter <= 0.5:
            raise ConfigurationError(
                f"band_jitter={band_jitter} is a standard deviation within [0, 0.5]", argument="band_jitter"
            )
        self.band_jitter = float(band_jitter)
        self.flags = {"gain": self.gain, "band_jitter": self.band_jitter}

    def draw(self, draws: Draws, shape: TileShape) -> Params:
        common = draws.log_uniform(*self.gain)
        return {"gain": common, "band_gain": _band_gains(draws, shape, self.band_jitter)}

    def terms(self, params: Params, shape: TileShape) -> Terms:
        gain = params["gain"].double()[:, None] * params["band_gain"].double()
        return Terms(gain, (1 - gain) * path_of_clear_air(shape.sensor, gain))


class RandomCalibration(RadiometricOperation):
    """Error of the radiometric calibration: a gain of the whole sensor and one of each band.

    Sentinel-2 is measured to keep 5 % absolute, with the bands within 1 to 2 % of each other (ESA, Sentinel-2 Annual
    Performance Report, vicarious validation over desert sites); other sensors of its kind are alike. Unlike
    `RandomIllumination` it scales all that the sensor sees, the air included.

    Args:
        absolute: greatest error common to all bands, as a fraction, in either direction.
        band_to_band: standard deviation of the error of each band, as a fraction, cut at three deviations.
        **options: see `RadiometricOptions`.
    """

    neutral: ClassVar = {"gain": 1.0, "band_gain": 1.0}

    def __init__(
        self,
        absolute: float = 0.05,
        band_to_band: float = 0.01,
        **options: Unpack[RadiometricOptions],
    ) -> None:
        super().__init__(**options)
        for name, value in (("absolute", absolute), ("band_to_band", band_to_band)):
            if not 0 <= value <= 0.5:
                raise ConfigurationError(f"{name}={value} is a fraction within [0, 0.5]", argument=name)
        self.absolute, self.band_to_band = float(absolute), float(band_to_band)
        self.flags = {"absolute": self.absolute, "band_to_band": self.band_to_band}

    def draw(self, draws: Draws, shape: TileShape) -> Params:
        common = 1 + draws.uniform(-self.absolute, self.absolute)
        return {"gain": common, "band_gain": _band_gains(draws, shape, self.band_to_band)}

    def terms(self, params: Params, shape: TileShape) -> Terms:
        gain = params["gain"].double()[:, None] * params["band_gain"].double()
        return Terms(gain, torch.zeros_like(gain))


class RandomSwathBrightness(RadiometricOperation):
    """Brightness across the swath: ground looks brighter from the side where it hides its shadows.

    Sun and view directions change across the swath, and with them the reflectance of rough ground, by 5 to 10 % over
    the swath of Sentinel-2 (Roy et al., 2017, Remote Sensing of Environment 199). Where no amplitude is given, it is
    that of usual ground by its Ross-Li kernels (`physics.ground`), band by band, for the views to both edges. A tile
    sees a small piece: a gain for its place in the swath, and a slight ramp.

    Args:
        amplitude: range of the change from one edge of the swath to the other, as a fraction, the same in all bands;
            either edge may be the brighter one. None: from the kernels.
        swath_m: width of the swath, metres: 290 km for Sentinel-2, 185 km for Landsat, a kilometre from the air.
        height_m: of the sensor over the ground, metres: 786 km for Sentinel-2, 705 km for Landsat.
        sun_elevation: range of the sun's elevation where the sample does not tell it, degrees.
        **options: see `RadiometricOptions`.
    """

    neutral: ClassVar = {"amplitude": 0.0}

    def __init__(
        self,
        amplitude: float | Sequence[float] | None = None,
        swath_m: float = 290_000.0,
        height_m: float = 786_000.0,
        sun_elevation: float | Sequence[float] = (30.0, 65.0),
        **options: Unpack[RadiometricOptions],
    ) -> None:
        super().__init__(**options)
        self.amplitude = None if amplitude is None else as_range(amplitude, "amplitude", low=-1, high=1)
        for name, value in (("swath_m", swath_m), ("height_m", height_m)):
            if not value > 0:
                raise ConfigurationError(f"{name}={value} is a length in metres above 0", argument=name)
        self.swath_m, self.height_m = float(swath_m), float(height_m)
        self.sun_elevation = as_range(sun_elevation, "sun_elevation", low=5, high=90)
        self.flags = {
            "swath_m": self.swath_m,
            "height_m": self.height_m,
            "sun_elevation": self.sun_elevation,
            **({} if self.amplitude is None else {"amplitude": self.amplitude}),
        }

    def draw(self, draws: Draws, shape: TileShape) -> Params:
        if self.amplitude is not None:
            # One column a band, so that the terms know how many there are where no sensor tells.
            amplitude = draws.uniform(*self.amplitude)[:, None].expand(-1, shape.bands)
        else:
            amplitude = self._by_kernels(draws.uniform(*self.sun_elevation), draws.uniform(0.0, 180.0), shape)
        direction = torch.deg2rad(draws.uniform(0.0, 360.0))
        gsd = torch.full_like(direction, _DEFAULT_GSD_M) if shape.gsd_m is None else shape.gsd_m.to(direction)
        share = gsd / self.swath_m
        return {
            "amplitude": amplitude,
            "position": draws.uniform(-0.5, 0.5),
            "across": direction.cos().float().double() * share * shape.size.width,
            "down": direction.sin().float().double() * share * shape.size.height,
        }

    def _by_kernels(self, elevation: Tensor, azimuth: Tensor, shape: TileShape) -> Tensor:
        """Change from one edge of the swath to the other, over the mean of both."""
        zenith = 90 - (elevation if shape.sun_elevation is None else shape.sun_elevation.clamp(5, 90)).double()
        edge = torch.full_like(zenith, math.degrees(math.atan(self.swath_m / 2 / self.height_m)))
        centres = (REFERENCE_NM,) * shape.bands if shape.sensor is None else centres_nm(shape.sensor)
        one, other = (reflectance(centres, zenith, edge, azimuth.double() + turn) for turn in (0.0, 180.0))
        # Rounded, for sines differ between devices in the last place.
        change: Tensor = (2 * (one - other) / (one + other)).float().double()
        return change

    def segments(self, params: Params, shape: TileShape) -> tuple[OperationSegment, ...]:
        amplitude = params["amplitude"].double()
        ramp = Ramp(params["position"], params["across"], params["down"])
        # The ground's part brightens; of what the air scatters, little depends on the ground.
        air = path_of_clear_air(shape.sensor, amplitude)
        every = torch.ones_like(amplitude[:, 0], dtype=torch.bool)
        change = Modulation(ramp, amplitude[..., None], (-amplitude * air)[..., None], every)
        return (Affine(Terms.nothing_to(amplitude), change),)


def _band_gains(draws: Draws, shape: TileShape, deviation: float) -> torch.Tensor:
    return _near_one(draws.normals(shape.bands), deviation)


@by_numpy
def _near_one(xp: Any, normals: Any, deviation: float) -> Numbers:
    # Three deviations at most: a rare draw must not turn a band dark or negative.
    jitter = at_least(xp, -at_least(xp, -deviation * normals, -3 * deviation), -3 * deviation)
    return 1 + at_least(xp, jitter, -0.99)
