"""The optics of clear and hazy air: what a layer reflects and lets through, band by band.

Plain functions of numbers, float64, rows (b) against bands (c), so that they can be checked against closed forms,
against 6S and against photons followed one by one. Nothing here draws. What aerosols are made of is in `aerosols`.

A layer of air molecules and aerosol is seen from above. Its reflectance and transmittance are Sobolev's approximation
(Sobolev, 1975, "Light Scattering in Planetary Atmospheres"): single scattering exact, later scatterings in two streams.
Aerosol that throws light forward counts as that much less of it (delta scaling; Joseph, Wiscombe and Weinman, 1976,
Journal of the Atmospheric Sciences 33). What it absorbs is taken off along the way of the light. Two streams miss much
of the second scattering in thin layers, where light that goes nearly level has a long way; what is added for it has
six constants, fitted to 6SV2.1 (Vermote et al., 1997; Kotchenova et al., 2006, Applied Optics 45), with polarisation.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from geoaug.augment.physics.aerosols import ANGLES, REFERENCE_NM, Aerosol
from geoaug.sensors import Sensor
from geoaug.small_arrays import Numbers, at_least, constant, kept, several_by_numpy

_USUAL_WIDTH_NM = 50.0


def centres_nm(sensor: Sensor) -> tuple[float, ...]:
    """Centres of the bands."""
    return tuple(REFERENCE_NM if band.wavelength_nm is None else band.wavelength_nm for band in sensor.bands)


def wavelengths_nm(sensor: Sensor, device: torch.device) -> Float[Tensor, " c"]:
    """Centres of the bands, float64."""
    return constant(centres_nm(sensor), torch.float64, device)


def band_widths_nm(sensor: Sensor) -> tuple[float, ...]:
    """Full widths of the bands at half maximum; 50 nm where unknown."""
    return tuple(_USUAL_WIDTH_NM if band.bandwidth_nm is None else band.bandwidth_nm for band in sensor.bands)


# The sun is kept this far above the horizon: plane layers mean nothing below.
_LEAST_COSINE = 0.087
_TYPICAL_ELEVATION = 50.0
_RADIANS = math.pi / 180


class Layer(NamedTuple):
    """What a layer does, all of it for light that is scattered or not, but where it says otherwise.

    Attributes:
        path: reflectance over black ground.
        down: transmittance from the sun to the ground.
        up: transmittance from the ground to the sensor.
        direct_up: of `up`, what goes straight; the rest comes from the surroundings of what is looked at.
        spherical_albedo: share of the ground's light that is scattered back to it.
    """

    path: Float[Tensor, "*m b c"]
    down: Float[Tensor, "*m b c"]
    up: Float[Tensor, "*m b c"]
    direct_up: Float[Tensor, "*m b c"]
    spherical_albedo: Float[Tensor, "*m b c"]

    @property
    def transmittance(self) -> Numbers:
        """Down and up again (*m, b, c)."""
        return self.down * self.up


def rayleigh_optical_depth(wavelength_nm: Numbers) -> Numbers:
    """Optical depth of the air's molecules at sea level.

    `0.008569 l^-4 (1 + 0.0113 l^-2 + 0.00013 l^-4)`, l in um (Hansen and Travis, 1974, Space Science
    Reviews 16): 0.236 at 443 nm, 0.045 at 665 nm.
    """
    square = (wavelength_nm / 1000) ** -2
    return 0.008569 * square**2 * (1 + 0.0113 * square + 0.00013 * square**2)


def rayleigh_phase(cosine: Numbers) -> Numbers:
    """Phase function of molecules for scattering by an angle of that cosine, 4 pi normalised."""
    return 0.75 * (1 + cosine * cosine)


def henyey_greenstein(cosine: Numbers, asymmetry: Numbers) -> Numbers:
    """Phase function of aerosol, 4 pi normalised (Henyey and Greenstein, 1941, Astrophysical Journal 93)."""
    square = asymmetry * asymmetry
    return (1 - square) / (1 + square - 2 * asymmetry * cosine) ** 1.5


def layer(
    wavelength_nm: Float[Tensor, " c"],
    sun_elevation: Float[Tensor, " b"],
    aerosol: Aerosol | None = None,
    molecules: bool = True,
    view_zenith: Float[Tensor, " b"] | None = None,
    relative_azimuth: Float[Tensor, " b"] | None = None,
) -> Layer:
    """The air over each row.

    Against 6SV2.1, for aerosol optical depths up to 0.6 and the sun up to 70 degrees from the vertical, transmittances
    are off by less than 0.02 either way; the path is off by 2 % in the median of every aerosol, and by 13 % at worst
    (docs/physics.md).

    Args:
        wavelength_nm: centres of the bands.
        sun_elevation: degrees over the horizon.
        aerosol: over each row; None: none.
        molecules: whether the air itself scatters.
        view_zenith: degrees between the vertical and the way to the sensor; None: straight down.
        relative_azimuth: degrees between the azimuths of sun and sensor; None: a right angle.
    """
    return Layer(*_layer(wavelength_nm, aerosol, molecules, *_doubles(sun_elevation, view_zenith, relative_azimuth)))


def thickened(
    wavelength_nm: Float[Tensor, " c"],
    sun_elevation: Float[Tensor, " b"],
    aerosol: Aerosol,
    before: float,
    view_zenith: Float[Tensor, " b"] | None = None,
    relative_azimuth: Float[Tensor, " b"] | None = None,
) -> tuple[Layer, Layer]:
    """The air with the aerosol that is there already, and with more of it added; see `layer`.

    Args:
        wavelength_nm: centres of the bands.
        sun_elevation: degrees over the horizon.
        aerosol: that comes to it.
        before: optical depth at 550 nm of the same aerosol that is there.
        view_zenith: see `layer`.
        relative_azimuth: see `layer`.
    """
    lit = _doubles(sun_elevation, view_zenith, relative_azimuth)
    parts = _thickened(wavelength_nm, aerosol, before, *lit)
    return Layer(*parts[: len(parts) // 2]), Layer(*parts[len(parts) // 2 :])


def _doubles(*parts: Tensor | None) -> Iterator[Tensor | None]:
    """As float64."""
    return (None if part is None else part.double() for part in parts)


@several_by_numpy
def _thickened(xp: Any, wavelength_nm: Any, aerosol: Any, before: float, *lit: Any) -> tuple[Numbers, ...]:
    depths = xp.stack((xp.zeros_like(aerosol.aod) + before, before + aerosol.aod))
    both = _layer_of(xp, wavelength_nm, aerosol._replace(aod=depths), True, *lit)
    return (*(part[0] for part in both), *(part[1] for part in both))


@several_by_numpy
def _layer(xp: Any, *given: Any) -> tuple[Numbers, ...]:
    return _layer_of(xp, *given)


def _layer_of(
    xp: Any, wavelength_nm: Any, aerosol: Any, molecules: bool, sun_elevation: Any, view_zenith: Any, azimuth: Any
) -> tuple[Numbers, ...]:
    """The parts of a `Layer`."""
    mu = _cosine(xp, sun_elevation)[:, None]
    view = 0 * mu + 1.0 if view_zenith is None else _cosine(xp, 90 - view_zenith)[:, None]
    # Backwards, where sensor and sun stand on one side.
    cosine = -mu * view
    if view_zenith is not None and azimuth is not None:
        apart = xp.cos(azimuth * _RADIANS)[:, None]
        cosine = cosine - _sine(xp, mu) * _sine(xp, view) * apart
    gas = rayleigh_optical_depth(wavelength_nm) if molecules else 0.0 * wavelength_nm
    depth, scattered = gas + 0 * mu, rayleigh_phase(cosine) * gas
    first_moment, absorbed, extinction = 0.0, 0.0 * depth, 0.0
    if aerosol is not None:
        albedo, asymmetry = aerosol.albedo, aerosol.asymmetry
        extinction = aerosol.aod[..., None] * aerosol.extinction
        sideways = extinction * albedo * (1 - asymmetry * asymmetry)
        depth = depth + sideways
        scattered = scattered + extinction * albedo * _phase(xp, cosine, aerosol.log_phase)
        first_moment = 3 * sideways * asymmetry / (1 + asymmetry)
        absorbed = extinction * (1 - albedo)
    safe = at_least(xp, depth, 1e-12)
    phase, moment = scattered / safe, first_moment / safe
    air_mass = 1 / view + 1 / mu
    down, up = _stream(xp, mu, depth), _stream(xp, view, depth)
    spread = 4 + (3 - moment) * depth
    single = -xp.expm1(-air_mass * depth) / (4 * (view + mu))
    later = 1 - down * up / spread + ((3 + moment) * mu * view - 2 * (mu + view)) * single
    # What two streams miss of it: most for grazing light in thin air; molecules polarise.
    level = _LEVEL - (_STEEP - _POLARISED * gas / safe) * mu * view
    path = phase * single + later * (1 + level * xp.exp(-_MIXING * depth))
    reached = (3 - moment) * depth
    return (
        # Light that comes back from the layer has crossed a part of what absorbs in it, both ways.
        path * xp.exp(-_CROSSED * absorbed * air_mass),
        # Scattered light takes a longer way through what absorbs.
        (2 * down / spread) * xp.exp(-absorbed / mu * (1 + depth / 2)),
        (2 * up / spread) * xp.exp(-absorbed / view * (1 + depth / 2)),
        xp.exp(-(gas + extinction) / view),
        reached / (4 + reached) * (1 + _LEVEL_ALBEDO / (1 + _MIXING_ALBEDO * reached)) * xp.exp(-2 * absorbed),
    )


# Fitted to 6SV2.1 (docs/physics.md).
_LEVEL, _STEEP, _POLARISED, _MIXING, _CROSSED = 1.0, 0.75, 0.4, 2.0, 1 / 3
_LEVEL_ALBEDO, _MIXING_ALBEDO = 0.63, 4.6


def _phase(xp: Any, cosine: Any, log_phase: Any) -> Any:
    """Tabulated phase functions (b, c, n) at scattering angles of these cosines (b, 1)."""
    angle = xp.arccos(cosine) / _RADIANS
    place = (angle - ANGLES[0]) / (ANGLES[1] - ANGLES[0])
    place = -at_least(xp, -at_least(xp, place, 0.0), 1.0 - len(ANGLES))
    nodes = xp.arange(len(ANGLES), dtype=place.dtype, **({} if xp is not torch else {"device": place.device}))
    return xp.exp((at_least(xp, 1 - abs(place - nodes), 0.0)[:, None, :] * log_phase).sum(-1))


def diffuse_over_direct(
    wavelength_nm: Float[Tensor, " c"], sun_elevation: Float[Tensor, " b"], aerosol: Aerosol | None = None
) -> Float[Tensor, "b c"]:
    """Irradiance of level ground by the sky over that by the sun's own rays: much in the blue, little beyond red.

    What aerosol scatters forward comes from about the sun and counts as the sun's.
    """
    mu = _cosine(torch, sun_elevation.double())[:, None]
    depth = rayleigh_optical_depth(wavelength_nm).expand(len(mu), -1)
    moment = torch.zeros_like(depth)
    if aerosol is not None:
        asymmetry = aerosol.asymmetry
        sideways = aerosol.aod[..., None] * aerosol.extinction * aerosol.albedo * (1 - asymmetry.square())
        moment = 3 * sideways * asymmetry / (1 + asymmetry)
        depth = depth + sideways
        moment = moment / depth
    total = 2 * _stream(torch, mu, depth) / (4 + (3 - moment) * depth)
    direct = torch.exp(-depth / mu)
    share: Tensor = (total / direct - 1).clamp_min(0)
    return share


def correlated_by_wavelength(
    normals: Float[Tensor, "*b c"], wavelength_nm: Float[Tensor, " c"], length: float = 0.35
) -> Float[Tensor, "*b c"]:
    """Standard normal numbers that neighbouring bands share: correlation falls with the ratio of wavelengths.

    Args:
        normals: independent ones.
        wavelength_nm: centres of the bands.
        length: logarithm of the ratio at which the correlation is 0.61; 0.35 is 490 to 700 nm.
    """
    apart = wavelength_nm.log()[:, None] - wavelength_nm.log()
    # A hundredth of each band is its own, which also keeps bands at one wavelength apart.
    own = 0.01
    covariance = (1 - own) * torch.exp(-((apart / length) ** 2) / 2) + own * torch.eye(
        len(wavelength_nm), dtype=apart.dtype, device=apart.device
    )
    factor, _ = torch.linalg.cholesky_ex(covariance)
    mixed: Tensor = normals @ factor.T
    return mixed


def path_of_clear_air(sensor: Sensor | None, like: Float[Tensor, "b c"]) -> Float[Tensor, "b c"]:
    """Reflectance of the molecules above the ground, in products that have it in their pixels (top of atmosphere).

    Zero for surface reflectance and where the product is unknown. The sun stands at 50 degrees.
    """
    if sensor is None or sensor.level != "toa":
        return torch.zeros_like(like)
    return _clear_air(centres_nm(sensor), like.device).expand_as(like)


@kept
def _clear_air(centres: tuple[float, ...], device: torch.device) -> Float[Tensor, "1 c"]:
    wavelength = torch.tensor(centres, dtype=torch.float64, device=device)
    elevation = torch.full((1,), _TYPICAL_ELEVATION, dtype=torch.float64, device=device)
    return layer(wavelength, elevation).path


def _stream(xp: Any, mu: Any, depth: Any) -> Any:
    return 1 + 1.5 * mu + (1 - 1.5 * mu) * xp.exp(-depth / mu)


def _sine(xp: Any, cosine: Any) -> Any:
    return xp.sqrt(at_least(xp, 1 - cosine * cosine, 0.0))


def _cosine(xp: Any, elevation: Any) -> Any:
    """Of the zenith angle of what stands so many degrees over the horizon."""
    return at_least(xp, xp.sin(elevation * _RADIANS), _LEAST_COSINE)
