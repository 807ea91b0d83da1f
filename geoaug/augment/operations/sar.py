"""Radar: speckle, incidence angle and thermal noise, on backscatter as linear power.

`Compose` turns amplitudes and decibels into power and back, by the sensor's `quantity`; outside it, in kornia's
containers, give these operations power.
"""

from collections.abc import Sequence
from typing import ClassVar, Unpack

import torch
from jaxtyping import Float
from torch import Tensor

from geoaug.augment.kernels.radiometry import cube_of_normal
from geoaug.augment.operations.base import RadiometricOperation, RadiometricOptions, TileShape, as_range
from geoaug.augment.planning.plan import Params
from geoaug.augment.planning.segments import GammaNoise, OperationSegment
from geoaug.augment.planning.terms import Terms
from geoaug.errors import ConfigurationError
from geoaug.rng.draws import Draws
from geoaug.sensors import Sensor

_DEFAULT_LOOKS = 4.4
_MOST_LOOKS = 1e6
_NEWTON_STEPS = 6
_MOST_CORRELATED = 0.7


def _looks_of(sensor: Sensor | None, given: float | None) -> float:
    """Equivalent number of looks that an image has: as given, or its sensor's, or that of Sentinel-1 IW GRD."""
    if given is not None:
        return given
    known = [band.looks for band in sensor.bands if band.looks is not None] if sensor is not None else []
    return min(known, default=_DEFAULT_LOOKS)


def added_variance(present: Float[Tensor, " b"], wanted: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
    """Variance of the factor, of mean 1, that takes an image from one equivalent number of looks to a lower one.

    Relative variances of independent factors combine as `(1 + 1/L1) = (1 + 1/L0) (1 + v)`. 0 where no looks are lost.

    Args:
        present: L0, looks that the image has.
        wanted: L1, looks that it is to have.
    """
    return ((1 / wanted - 1 / present) / (1 + 1 / present)).clamp_min(0)


def speckle_correlation(spacing_m: Float[Tensor, " b"], resolution_m: float) -> Float[Tensor, " b"]:
    """Correlation of the intensities of two pixels so far apart, of fully developed speckle.

    The complex signal of a processor with an even band is correlated as a sinc that is zero at the resolution, and
    intensities as its square (Goodman, 1976; Oliver and Quegan, 2004, "Understanding Synthetic Aperture Radar Images",
    chapter 4). A mean of looks is correlated as each of them.

    Args:
        spacing_m: between the pixels.
        resolution_m: of the sensor along that axis.
    """
    return torch.sinc(spacing_m / resolution_m).square()


def side_weight(correlation: Float[Tensor, " b"], variance: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
    """The weight of both neighbours for which gamma noise is correlated as wanted from a pixel to the next.

    With `n = s w(-1) + sqrt(1 - 2 s^2) w(0) + s w(1)`, w white and normal, n has unit variance and a correlation of
    `r = 2 s sqrt(1 - 2 s^2)`. Gamma noise is the cube `(a + b n)^3` (`cube_of_normal`), a sum of Hermite polynomials of
    n with the factors `3 a^2 b + 3 b^3`, `3 a b^2` and `b^3`, so by Mehler's formula its covariance is
    `(3 a^2 b + 3 b^3)^2 r + 2 (3 a b^2)^2 r^2 + 6 b^6 r^3`. Three weights reach 0.7, which is taken for more.

    Args:
        correlation: wanted, 0 to 1.
        variance: of the gamma noise.
    """
    a, b = cube_of_normal(variance.double().clamp_min(1e-9))
    one, two, three = (3 * a**2 * b + 3 * b**3) ** 2, 2 * (3 * a * b**2) ** 2, 6 * b**6
    total = one + two + three
    wanted = correlation.double()
    r = wanted.clone()
    for _ in range(_NEWTON_STEPS):
        r = r - ((three * r + two) * r**2 + one * r - wanted * total) / ((3 * three * r + 2 * two) * r + one)
    r = r.clamp(0.0, _MOST_CORRELATED)
    return ((1 - (1 - 2 * r**2).sqrt()) / 4).sqrt()


def _sides(variance: Float[Tensor, " b"], shape: TileShape) -> Float[Tensor, "b 2"] | None:
    """Weights of the neighbours along x and y in the speckle of a sensor whose pixels lie closer than it resolves."""
    bands = () if shape.sensor is None else shape.sensor.bands
    known = [band for band in bands if band.resolution_m is not None]
    if not known or known[0].resolution_m is None:
        return None
    across, along = known[0].resolution_m
    usual = known[0].gsd_m or min(across, along)
    spacing = torch.full_like(variance, usual) if shape.gsd_m is None else shape.gsd_m.to(variance)
    ranges, azimuths = (side_weight(speckle_correlation(spacing, side), variance) for side in (across, along))
    sides = torch.stack((ranges, azimuths), dim=1)
    if shape.source is None:
        return sides
    # After a quarter turn, range runs down the tile.
    turned = shape.source[:, 0, 1].abs() > shape.source[:, 0, 0].abs()
    return torch.where(turned[:, None], sides.flip(1), sides)


class RandomSpeckle(RadiometricOperation):
    """Fewer looks: multiplicative gamma noise that takes an image from the speckle it has to a stronger one.

    Speckle of L looks multiplies the backscatter by a gamma distributed number of mean 1 and variance 1/L (Goodman,
    1976, Journal of the Optical Society of America 66). An image that has speckle already needs only the rest.
    Mean and variance are exact; the distribution is Wilson and Hilferty's cube of a normal number, whose greatest
    distance from the gamma distribution is 0.002 for three added looks and 0.02 for one.

    Neighbouring pixels share speckle where a sensor resolves less than its pixels (`Band.resolution_m`, 20 by 22 m on
    pixels of 10 m for Sentinel-1 GRD); what is added is correlated likewise from each pixel to the next, and as good as
    independent beyond that.

    Args:
        looks: range of the equivalent number of looks of the result. Where it is above what the image has, nothing
            happens: speckle can only be added.
        present: looks that the image has; None: what the sensor's bands say, or 4.4, as Sentinel-1 IW GRD (ESA,
            Sentinel-1 User Guide). `inf` for an image without speckle.
        **options: see `RadiometricOptions`.
    """

    domain = "sar"
    neutral: ClassVar = {"variance": 0.0}

    def __init__(
        self,
        looks: float | Sequence[float] = (1.5, 4.4),
        present: float | None = None,
        **options: Unpack[RadiometricOptions],
    ) -> None:
        super().__init__(**options)
        self.looks = as_range(looks, "looks", low=0.5, high=_MOST_LOOKS)
        if present is not None and not present >= 0.5:
            raise ConfigurationError(
                f"present={present} is an equivalent number of looks of at least 0.5", argument="present"
            )
        self.present = present
        self.flags = {"looks": self.looks, **({} if present is None else {"present": present})}

    def draw(self, draws: Draws, shape: TileShape) -> Params:
        wanted = draws.log_uniform(*self.looks)
        present = torch.full_like(wanted, _looks_of(shape.sensor, self.present))
        variance = added_variance(present, wanted)
        # One column a band, so that the segments know how many there are where no sensor tells.
        looks = wanted[:, None].expand(-1, shape.bands)
        return {"seed": draws.seeds(), "looks": looks, "variance": variance}

    def segments(self, params: Params, shape: TileShape) -> tuple[OperationSegment, ...]:
        variance = params["variance"].double()
        one = torch.ones_like(variance)
        none = torch.zeros_like(params["looks"])
        return (GammaNoise(params["seed"], variance, one, none, one > 0, _sides(variance, shape)),)


class RandomThermalNoise(RadiometricOperation):
    """Noise power of the receiver, added to the backscatter: dark water brightens, bright towns do not notice.

    The added power speckles with the looks and the correlation of the image, which has to be calibrated. Sentinel-1 IW
    keeps -22 dB or better (ESA, Sentinel-1 User Guide).

    Args:
        nesz_db: range of the noise equivalent sigma nought, dB.
        present: equivalent number of looks of the image; see `RandomSpeckle`.
        **options: see `RadiometricOptions`.
    """

    domain = "sar"
    neutral: ClassVar = {"noise": 0.0}

    def __init__(
        self,
        nesz_db: float | Sequence[float] = (-30.0, -22.0),
        present: float | None = None,
        **options: Unpack[RadiometricOptions],
    ) -> None:
        super().__init__(**options)
        self.nesz_db = as_range(nesz_db, "nesz_db", low=-100, high=20)
        if present is not None and not present >= 0.5:
            raise ConfigurationError(
                f"present={present} is an equivalent number of looks of at least 0.5", argument="present"
            )
        self.present = present
        self.flags = {"nesz_db": self.nesz_db, **({} if present is None else {"present": present})}

    def check_sensor(self, sensor: Sensor | None, bands: int | None = None) -> None:
        super().check_sensor(sensor, bands)
        if sensor is not None and sensor.quantity == "amplitude" and set(sensor.quantification) == {1.0}:
            raise ConfigurationError(
                f"RandomThermalNoise adds calibrated backscatter, and '{sensor.name}' holds uncalibrated amplitudes: "
                "calibrate the image first (sentinel-1-power, sentinel-1-db)"
            )

    def draw(self, draws: Draws, shape: TileShape) -> Params:
        decibels = draws.uniform(*self.nesz_db)
        power = torch.exp(decibels * (torch.log(torch.tensor(10.0, dtype=torch.float64)) / 10)).float().double()
        looks = torch.full_like(power, _looks_of(shape.sensor, self.present))
        return {"seed": draws.seeds(), "looks": looks, "noise": power[:, None].expand(-1, shape.bands)}

    def segments(self, params: Params, shape: TileShape) -> tuple[OperationSegment, ...]:
        noise, looks = params["noise"].double(), params["looks"].double()
        sides = _sides(1 / looks, shape)
        return (GammaNoise(params["seed"], 1 / looks, torch.zeros_like(looks), noise, looks > 0, sides),)


class RandomIncidenceAngle(RadiometricOperation):
    """The same ground seen more or less steeply: backscatter goes with a power of the cosine of the incidence angle.

    `gain = (cos t' / cos t)^n` with n between 1 and 2 or more by land cover (Ulaby, Moore and Fung, 1982, "Microwave
    Remote Sensing" II; Small, 2011, IEEE Transactions on Geoscience and Remote Sensing 49).

    Args:
        change: range of the change of the angle, degrees.
        incidence: range of the angle it changes from; Sentinel-1 IW sees from 29 to 46 degrees.
        exponent: range of n.
        **options: see `RadiometricOptions`.
    """

    domain = "sar"
    neutral: ClassVar = {"change": 0.0}

    def __init__(
        self,
        change: float | Sequence[float] = (-8.0, 8.0),
        incidence: float | Sequence[float] = (29.0, 46.0),
        exponent: float | Sequence[float] = (1.0, 3.0),
        **options: Unpack[RadiometricOptions],
    ) -> None:
        super().__init__(**options)
        self.change = as_range(change, "change", low=-60, high=60)
        self.incidence = as_range(incidence, "incidence", low=0, high=80)
        self.exponent = as_range(exponent, "exponent", low=-10, high=10)
        self.flags = {"change": self.change, "incidence": self.incidence, "exponent": self.exponent}

    def draw(self, draws: Draws, shape: TileShape) -> Params:
        return {
            "change": draws.uniform(*self.change)[:, None].expand(-1, shape.bands),
            "incidence": draws.uniform(*self.incidence),
            "exponent": draws.uniform(*self.exponent),
        }

    def terms(self, params: Params, shape: TileShape) -> Terms:
        before, exponent = params["incidence"].double()[:, None], params["exponent"].double()[:, None]
        after = (before + params["change"].double()).clamp(0, 85)
        gain = (torch.cos(torch.deg2rad(after)) / torch.cos(torch.deg2rad(before))) ** exponent
        return Terms(gain, torch.zeros_like(gain))
