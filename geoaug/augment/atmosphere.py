"""Atmosphere: what aerosol between the ground and the sensor does to reflectance, band by band.

The optics are plain functions of numbers, so that they can be checked against closed forms; the operation draws and
calls them.
"""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from geoaug.augment.base import Params, RadiometricOperation, TileShape, as_range
from geoaug.augment.terms import Terms
from geoaug.errors import ConfigurationError
from geoaug.random import Draws
from geoaug.sensors import Sensor

_REFERENCE_NM = 550.0
# Continental aerosol: single scattering albedo and asymmetry at 550 nm, as in the continental models of d'Almeida,
# Koepke and Shettle (1991), "Atmospheric Aerosols".
_SINGLE_SCATTERING_ALBEDO = 0.93
_ASYMMETRY = 0.65


def aerosol_optical_depth(
    aod: Float[Tensor, " b"], wavelength_nm: Float[Tensor, " c"], angstrom: float
) -> Float[Tensor, "b c"]:
    """Aerosol optical depth per band: `aod * (wavelength / 550 nm) ** -angstrom` (Angstrom, 1929).

    Args:
        aod: optical depth at 550 nm.
        wavelength_nm: centres of the bands.
        angstrom: exponent; 1.3 for continental aerosol, less for dust and sea salt, more for smoke.
    """
    return aod[:, None] * (wavelength_nm / _REFERENCE_NM) ** -angstrom


def henyey_greenstein(cosine: float, asymmetry: float) -> float:
    """Phase function of scattering by an angle of that cosine, 4 pi normalised (Henyey and Greenstein, 1941)."""
    return (1 - asymmetry**2) / math.pow(1 + asymmetry**2 - 2 * asymmetry * cosine, 1.5)


def haze_transmittance(
    depth: Float[Tensor, "b c"], sun_elevation_deg: float
) -> tuple[Float[Tensor, "b c"], Float[Tensor, "b c"]]:
    """Two-way transmittance and path reflectance of an aerosol layer seen from the nadir.

    Light scattered forward still reaches the ground, so only absorption and backscatter are lost:
    `t = exp(-depth * (1 - w * (1 + g) / 2) * m)` with the air mass `m = 1 / mu_sun + 1` (two-stream; Coakley and
    Chylek, 1975). Path reflectance is single scattering, `w * depth * P / (4 * mu_sun)`, attenuated by the layer
    itself: times `(1 - exp(-d * m)) / (d * m)` (Liou, 2002, "An Introduction to Atmospheric Radiation", section
    6.3.2), where `d = (1 - w * g**2) * depth` counts light scattered into the forward peak as not scattered (delta
    scaling; Joseph, Wiscombe and Weinman, 1976).

    Args:
        depth: aerosol optical depth per band.
        sun_elevation_deg: of the sun over the horizon.
    """
    mu = math.sin(math.radians(sun_elevation_deg))
    air_mass = 1 / mu + 1
    lost = 1 - _SINGLE_SCATTERING_ALBEDO * (1 + _ASYMMETRY) / 2
    transmittance = torch.exp(-depth * (lost * air_mass))
    scattered = _SINGLE_SCATTERING_ALBEDO * henyey_greenstein(-mu, _ASYMMETRY) / (4 * mu)
    attenuation = (1 - _SINGLE_SCATTERING_ALBEDO * _ASYMMETRY**2) * air_mass
    path = scattered / attenuation * -torch.expm1(-depth * attenuation)
    return transmittance, path


class RandomHaze(RadiometricOperation):
    """Aerosol between ground and sensor: contrast falls, and the short wavelengths gain path reflectance.

    `reflectance' = transmittance * reflectance + path`, both from the aerosol optical depth at each band's
    wavelength. Bands of unknown wavelength are taken at 550 nm.

    Args:
        aod: range of the added aerosol optical depth at 550 nm; 0.1 is a clear day, 0.6 a hazy one.
        angstrom: Angstrom exponent of the aerosol.
        sun_elevation: of the sun over the horizon, degrees.
        sensor: for use outside `Compose`; see `RadiometricOperation`.
    """

    needs_sensor = True

    def __init__(
        self,
        aod: float | Sequence[float] = (0.0, 0.3),
        angstrom: float = 1.3,
        sun_elevation: float = 50.0,
        sensor: Sensor | str | None = None,
        p: float = 0.5,
        same_on_batch: bool = False,
        keepdim: bool = False,
    ) -> None:
        super().__init__(sensor, p, same_on_batch, keepdim)
        self.aod = as_range(aod, "aod", low=0, high=5)
        if not -1 <= angstrom <= 4:
            raise ConfigurationError(f"angstrom={angstrom} is not within [-1, 4]")
        if not 5 <= sun_elevation <= 90:
            raise ConfigurationError(f"sun_elevation={sun_elevation} is not within 5 to 90 degrees")
        self.angstrom = float(angstrom)
        self.sun_elevation = float(sun_elevation)
        self.flags = {"aod": self.aod, "angstrom": self.angstrom, "sun_elevation": self.sun_elevation}

    def draw(self, draws: Draws, shape: TileShape) -> Params:
        return {"aod": draws.uniform(*self.aod)}

    def terms(self, params: Params, sensor: Sensor | None) -> Terms:
        assert sensor is not None  # check_sensor has refused its absence
        aod = params["aod"].double()
        wavelength = torch.tensor(
            [_REFERENCE_NM if band.wavelength_nm is None else band.wavelength_nm for band in sensor.bands],
            dtype=torch.float64,
        ).to(aod.device, non_blocking=True)
        depth = aerosol_optical_depth(aod, wavelength, self.angstrom)
        return Terms(*haze_transmittance(depth, self.sun_elevation))
