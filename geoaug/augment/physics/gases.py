"""What water vapour and ozone take from light on its way through the air, band by band."""

from __future__ import annotations

import csv
from functools import cache
from importlib import resources

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from geoaug.small_arrays import kept

# Absorption of ozone in the Chappuis bands, per atm cm: 440 to 760 nm in steps of 20 (6SV2.1, in the public domain;
# Vermote et al., 1997, IEEE Transactions on Geoscience and Remote Sensing 35). 300 Dobson units are 0.3 atm cm.
_OZONE_NM = tuple(range(440, 761, 20))
_OZONE = (
    *(0.0022, 0.0068, 0.0158, 0.0294, 0.0466, 0.0727, 0.1000, 0.1166, 0.1227),
    *(0.1058, 0.0781, 0.0545, 0.0348, 0.0219, 0.0147, 0.0109, 0.0073),
)

_STEP_NM = 5.0


def vapour_transmittance(
    centres_nm: tuple[float, ...], widths_nm: tuple[float, ...], path: Float[Tensor, " b"]
) -> Float[Tensor, "b c"]:
    """Of water vapour: the mean of `exp(-a u / sqrt(1 + b u))` over each band, u the vapour along the way.

    Weak lines absorb in proportion to u, strong ones by its root (Goody, 1952). a and b, in steps of 5 nm, are fitted
    to the random bands of 6SV2.1 (Vermote et al., 1997) between 0.3 and 15 g/cm2.

    Args:
        centres_nm: of the bands.
        widths_nm: full widths at half maximum.
        path: vapour along the way down and up, g/cm2.
    """
    weak, saturation, shares = _vapour(centres_nm, widths_nm, path.device)
    along = path.double().clamp_min(0)[:, None]
    seen: Tensor = torch.exp(-weak * along / torch.sqrt(1 + saturation * along)) @ shares
    return seen


def ozone_depth(centres_nm: tuple[float, ...], device: torch.device) -> Float[Tensor, " c"]:
    """Optical depth of an atm cm of ozone in the visible."""
    return _ozone(centres_nm, device)


@kept
def _ozone(centres_nm: tuple[float, ...], device: torch.device) -> Float[Tensor, " c"]:
    return torch.from_numpy(np.interp(centres_nm, _OZONE_NM, _OZONE, left=0.0, right=0.0)).to(device)


@kept
def _vapour(
    centres_nm: tuple[float, ...], widths_nm: tuple[float, ...], device: torch.device
) -> tuple[Tensor, Tensor, Tensor]:
    """a and b where there is any vapour, and what each band sees of each place."""
    wavelength, weak, saturation = _table().T
    every = np.arange(wavelength[0] - 200, wavelength[-1] + 200, _STEP_NM)
    at = np.rint((wavelength - every[0]) / _STEP_NM).astype(int)
    a, b = np.zeros(len(every)), np.zeros(len(every))
    a[at], b[at] = weak, saturation
    centre, half = np.array(centres_nm), np.array(widths_nm) / 2
    begin, end = every[:, None] - _STEP_NM / 2, every[:, None] + _STEP_NM / 2
    shares = (np.minimum(end, centre + half) - np.maximum(begin, centre - half)).clip(0)
    # A band beyond the table sees the nearest place, where no vapour absorbs.
    total = shares.sum(0)
    nearest = np.abs(every[:, None] - centre).argmin(0)
    shares[nearest[total == 0], np.flatnonzero(total == 0)] = 1
    parts = (a, b, shares / shares.sum(0))
    return tuple(torch.from_numpy(part).to(device) for part in parts)  # type: ignore[return-value]


@cache
def _table() -> np.ndarray:
    text = resources.files("geoaug.augment.physics").joinpath("vapour.csv").read_text("ascii")
    return np.array(list(csv.reader(text.splitlines()))[1:], dtype=np.float64)
