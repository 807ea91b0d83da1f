"""How bright ground looks from one side, lit from another: kernels of its reflectance, and their usual weights.

`R = f_iso + f_vol K_vol + f_geo K_geo`: leaves that scatter in a volume (RossThick) and crowns that cast shadows and
hide them (LiSparse, reciprocal), by Lucht, Schaaf and Strahler (2000, IEEE Transactions on Geoscience and Remote
Sensing 38), crowns as wide as high and their middles a diameter above the ground. The weights are the means of a year
of MODIS over the globe that the c-factor takes for all ground (Roy et al., 2016, Remote Sensing of Environment 176),
and with it the Harmonized Landsat and Sentinel-2 product (Claverie et al., 2018, ibid. 219). Between their bands they
are drawn out by straight lines over the wavelength, as those of the red edge are by Roy, Li and Zhang (2017, Remote
Sensing 9, 1325).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from geoaug.small_arrays import Numbers, at_least, by_numpy, kept

# Wavelength in nm; f_iso, f_vol, f_geo.
WEIGHTS = (
    (482.0, 0.0774, 0.0372, 0.0079),
    (561.0, 0.1306, 0.0580, 0.0178),
    (655.0, 0.1690, 0.0574, 0.0227),
    (865.0, 0.3093, 0.1535, 0.0330),
    (1609.0, 0.3430, 0.1154, 0.0453),
    (2201.0, 0.2658, 0.0639, 0.0387),
)

# Shadows of crowns grow beyond what the kernels were fitted to.
_GREATEST_ZENITH = 75.0
_HEIGHT_OVER_RADIUS = 2.0
_RADIANS = math.pi / 180


def volume_kernel(sun_zenith: Numbers, view_zenith: Numbers, relative_azimuth: Numbers) -> Tensor:
    """RossThick, 0 where sun and view are vertical.

    Args:
        sun_zenith: degrees from the vertical.
        view_zenith: likewise.
        relative_azimuth: degrees between the azimuths of sun and sensor, 0 where both stand on one side.
    """
    return _kernels(sun_zenith, view_zenith, relative_azimuth)[..., 0]


def geometric_kernel(sun_zenith: Numbers, view_zenith: Numbers, relative_azimuth: Numbers) -> Tensor:
    """LiSparse, reciprocal; see `volume_kernel`."""
    return _kernels(sun_zenith, view_zenith, relative_azimuth)[..., 1]


@by_numpy
def _kernels(xp: Any, sun_zenith: Any, view_zenith: Any, relative_azimuth: Any) -> Numbers:
    sun, view, azimuth = (angle * _RADIANS for angle in (sun_zenith, view_zenith, relative_azimuth))
    cos_sun, cos_view = xp.cos(sun), xp.cos(view)
    sine = xp.sin(sun) * xp.sin(view)
    # The angle between sun and view; where they are one, rounding must not go beyond.
    phase = -at_least(xp, -(cos_sun * cos_view + sine * xp.cos(azimuth)), -1.0)
    angle = xp.arccos(phase)
    volume = ((math.pi / 2 - angle) * phase + xp.sin(angle)) / (cos_sun + cos_view) - math.pi / 4
    # Crowns are spheres, so their shapes change no angle.
    tan_sun, tan_view = xp.tan(sun), xp.tan(view)
    secants = 1 / cos_sun + 1 / cos_view
    across = tan_sun * tan_view * xp.sin(azimuth)
    apart = tan_sun * tan_sun + tan_view * tan_view - 2 * tan_sun * tan_view * xp.cos(azimuth)
    cos_t = _HEIGHT_OVER_RADIUS * xp.sqrt(at_least(xp, apart + across * across, 0.0)) / secants
    t = xp.arccos(-at_least(xp, -cos_t, -1.0))
    overlap = (t - xp.sin(t) * xp.cos(t)) * secants / math.pi
    geometric = overlap - secants + (1 + phase) / (2 * cos_sun * cos_view)
    return xp.stack((volume, geometric), -1)


def reflectance(
    centres_nm: tuple[float, ...], sun_zenith: Tensor, view_zenith: Tensor, relative_azimuth: Tensor
) -> Float[Tensor, "b c"]:
    """Of usual ground, level.

    Args:
        centres_nm: of the bands.
        sun_zenith: degrees from the vertical (b); beyond 75 it counts as 75.
        view_zenith: likewise.
        relative_azimuth: see `volume_kernel`.
    """
    kernels = _kernels(
        sun_zenith.double().clamp(0, _GREATEST_ZENITH),
        view_zenith.double().clamp(0, _GREATEST_ZENITH),
        relative_azimuth.double(),
    )
    weights = _weights(centres_nm, sun_zenith.device)
    return weights[0] + kernels[:, :1] * weights[1] + kernels[:, 1:] * weights[2]


@kept
def _weights(centres_nm: tuple[float, ...], device: torch.device) -> Float[Tensor, "3 c"]:
    wavelength, *weights = np.array(WEIGHTS).T
    return torch.from_numpy(np.stack([np.interp(centres_nm, wavelength, each) for each in weights])).to(device)
