"""How clouds and their shadows look from band to band."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from geoaug.augment.physics.aerosols import clear_aerosol
from geoaug.augment.physics.air import diffuse_over_direct
from geoaug.small_arrays import constant

# Reflectance of a thick cloud in proportion to the visible: wavelength in nm, water, ice. Drops (radius about 10 um)
# and crystals (30 um) scatter all wavelengths alike and absorb beyond 1.5 um (King, Kaufman, Menzel and Tanre, 1992,
# IEEE Transactions on Geoscience and Remote Sensing 30; Platnick et al., 2003, ibid. 41). The vapour above low clouds
# takes part of 940 nm and all of 1375 nm, that above cirrus little (Gao, Goetz and Wiscombe, 1993, Geophysical Research
# Letters 20). Rounded to what their figures can be read to.
_SPECTRUM = (
    (400.0, 1.00, 1.00),
    (900.0, 1.00, 1.00),
    (925.0, 0.70, 0.95),
    (945.0, 0.50, 0.93),
    (965.0, 0.70, 0.95),
    (1000.0, 0.98, 0.97),
    (1240.0, 0.95, 0.85),
    (1340.0, 0.10, 0.80),
    (1375.0, 0.00, 0.80),
    (1420.0, 0.05, 0.70),
    (1550.0, 0.75, 0.40),
    (1610.0, 0.80, 0.45),
    (1700.0, 0.80, 0.50),
    (1880.0, 0.10, 0.30),
    (2130.0, 0.55, 0.30),
    (2200.0, 0.55, 0.32),
    (2500.0, 0.40, 0.20),
)

# Share of the direct light that comes down through a thick cloud all the same, spread over its shadow.
_THROUGH = 0.25


def cloud_spectrum(wavelength_nm: Float[Tensor, " c"]) -> tuple[Float[Tensor, " c"], Float[Tensor, " c"]]:
    """Reflectance of thick water and thick ice clouds in proportion to the visible, for each band."""
    table = constant(_SPECTRUM, torch.float64, wavelength_nm.device)
    wavelength = wavelength_nm.clamp(_SPECTRUM[0][0], _SPECTRUM[-1][0])
    after = torch.searchsorted(table[:, 0].contiguous(), wavelength.contiguous()).clamp(1, len(_SPECTRUM) - 1)
    low, high = table[after - 1], table[after]
    share = (wavelength - low[:, 0]) / (high[:, 0] - low[:, 0])
    seen = low[:, 1:] + (high[:, 1:] - low[:, 1:]) * share[:, None]
    return seen[:, 0], seen[:, 1]


def shadow_gain(centres_nm: tuple[float, ...], sun_elevation: Float[Tensor, " b"]) -> Float[Tensor, "b c"]:
    """What is left of the ground's brightness in the full shadow of a cloud.

    The sky's light is left, and a share of the sun's that the cloud lets through: about two fifths in the blue, a
    quarter beyond the near infrared.

    Args:
        centres_nm: of the bands.
        sun_elevation: degrees over the horizon.
    """

    wavelength = constant(centres_nm, torch.float64, sun_elevation.device)
    ratio = diffuse_over_direct(wavelength, sun_elevation, clear_aerosol(sun_elevation, centres_nm))
    sky = ratio / (1 + ratio)
    return sky + (1 - sky) * _THROUGH
