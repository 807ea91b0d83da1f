"""Display values and the light they stand for: what was made for the eye, and what physics needs."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from geoaug.sensors.srgb import EXPONENT, LIFT, SLOPE, TOE_DISPLAY, TOE_LIGHT


def light_of(display: Float[Tensor, "*s"]) -> Float[Tensor, "*s"]:
    """Linear light of display values by the curve of sRGB; 0 is black and 1 white in both."""
    raised = ((display.clamp_min(TOE_DISPLAY) + LIFT) / (1 + LIFT)) ** EXPONENT
    return torch.where(display <= TOE_DISPLAY, display / SLOPE, raised)


def display_of(light: Float[Tensor, "*s"]) -> Float[Tensor, "*s"]:
    """Display values of linear light: the inverse of `light_of`."""
    raised = (1 + LIFT) * light.clamp_min(TOE_LIGHT) ** (1 / EXPONENT) - LIFT
    return torch.where(light <= TOE_LIGHT, light * SLOPE, raised)
