"""The light of a black body, by which colour temperatures are counted."""

import torch
from jaxtyping import Float
from torch import Tensor

# Second radiation constant h c / k, metres kelvin (CODATA 2018).
_RADIATION = 1.438776877e-2
_NM_PER_M = 1e9
_MIREDS = 1e6


def relative_radiance(
    wavelength_nm: Float[Tensor, " c"], mired: Float[Tensor, " b"], reference_mired: float
) -> Float[Tensor, "b c"]:
    """Radiance of a black body over that of another one, by Planck's law.

    Args:
        wavelength_nm: of the bands.
        mired: a million over the temperature in kelvin: equal steps look alike, whatever the temperature.
        reference_mired: of the other body.
    """
    per_kelvin = _RADIATION / (wavelength_nm.double() / _NM_PER_M)  # exponent at 1 K
    exponent = per_kelvin * (mired.double()[:, None] / _MIREDS)
    radiance: Tensor = torch.expm1(per_kelvin * (reference_mired / _MIREDS)) / torch.expm1(exponent)
    return radiance
