"""The bands of a sensor as tensors, for operations that follow the wavelength."""

import torch
from jaxtyping import Float
from torch import Tensor

from geoaug.constants import constant
from geoaug.sensors import Sensor

_USUAL_WIDTH_NM = 50.0

REFERENCE_NM = 550.0
"""Where bands of unknown wavelength are taken to be."""


def centres_nm(sensor: Sensor) -> tuple[float, ...]:
    """Centres of the bands."""
    return tuple(REFERENCE_NM if band.wavelength_nm is None else band.wavelength_nm for band in sensor.bands)


def wavelengths_nm(sensor: Sensor, device: torch.device) -> Float[Tensor, " c"]:
    """Centres of the bands, float64."""
    return constant(centres_nm(sensor), torch.float64, device)


def bandwidths_nm(sensor: Sensor, device: torch.device) -> Float[Tensor, " c"]:
    """Full widths of the bands at half maximum, float64; 50 nm where unknown."""
    widths = [_USUAL_WIDTH_NM if band.bandwidth_nm is None else band.bandwidth_nm for band in sensor.bands]
    return constant(tuple(widths), torch.float64, device)
