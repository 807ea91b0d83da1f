"""The bands of a sensor as tensors, for operations that follow the wavelength."""

import torch
from jaxtyping import Float
from torch import Tensor

from geoaug.sensors import Sensor

REFERENCE_NM = 550.0
"""Where bands of unknown wavelength are taken to be."""


def wavelengths_nm(sensor: Sensor, device: torch.device) -> Float[Tensor, " c"]:
    """Centres of the bands, float64."""
    centres = [REFERENCE_NM if band.wavelength_nm is None else band.wavelength_nm for band in sensor.bands]
    return torch.tensor(centres, dtype=torch.float64).to(device, non_blocking=True)
