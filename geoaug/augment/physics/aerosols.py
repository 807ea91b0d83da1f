"""Four aerosols: how much of each wavelength they take from a ray, how much of it they absorb, where the rest goes.

The figures are in `aerosols.csv`, by wavelength: extinction over that at 550 nm, albedo of single scattering, mean
cosine of the scattering angle, and the phase function at the angles of `ANGLES`. They are those of the standard models
of 6S (Vermote et al., 1997, IEEE Transactions on Geoscience and Remote Sensing 35; 6SV2.1, in the public domain),
rounded: Mie scattering by the components of d'Almeida, Koepke and Shettle (1991, "Atmospheric Aerosols"). Continental
aerosol is 70 % dust, 29 % water-soluble particles and 1 % soot by volume, maritime aerosol 95 % sea salt and 5 %
water-soluble particles; dust is the background of deserts, smoke that of burning biomass.
"""

from __future__ import annotations

import csv
import math
from functools import cache
from importlib import resources
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from geoaug.small_arrays import kept

REFERENCE_NM = 550.0
"""Where bands of unknown wavelength are taken to be, and where an aerosol optical depth is given."""

ANGLES = tuple(range(40, 181, 10))
"""Scattering angles of the tabulated phase functions in degrees; less than 40 is seen by no imager."""


class AerosolKind(NamedTuple):
    """A standard aerosol.

    Attributes:
        name: in `aerosols.csv`.
        finer: range of what is added to its Angstrom exponent from day to day: particles finer or coarser than the
            standard's. Sites keep within a few tenths, but dust is far coarser in a storm than in the background
            (Dubovik et al., 2002, Journal of the Atmospheric Sciences 59).
    """

    name: str
    finer: tuple[float, float]


AEROSOLS = (
    AerosolKind("continental", (-0.25, 0.25)),
    AerosolKind("maritime", (-0.25, 0.25)),
    AerosolKind("dust", (-0.75, 0.25)),
    AerosolKind("smoke", (-0.25, 0.25)),
)
KIND_NAMES = tuple(kind.name for kind in AEROSOLS)


class Aerosol(NamedTuple):
    """Aerosol over each row; several depths of it may be given at once, before the rows.

    Attributes:
        aod: optical depth at 550 nm.
        extinction: of each band over that at 550 nm.
        albedo: of single scattering.
        asymmetry: mean cosine of the scattering angle.
        log_phase: logarithm of the phase function at `ANGLES`, 4 pi normalised.
    """

    aod: Float[Tensor, "*m b"]
    extinction: Float[Tensor, "b c"]
    albedo: Float[Tensor, "b c"]
    asymmetry: Float[Tensor, "b c"]
    log_phase: Float[Tensor, "b c n"]


def aerosol_of(
    kind: Int[Tensor, " b"], aod: Float[Tensor, "*m b"], centres_nm: tuple[float, ...], finer: Tensor | float = 0.0
) -> Aerosol:
    """So much of a standard aerosol over each row.

    Args:
        kind: positions in `AEROSOLS`.
        aod: optical depth at 550 nm.
        centres_nm: of the bands.
        finer: added to the Angstrom exponent (b): extinction changes by `(wavelength / 550 nm) ** -finer`.
    """
    table = _by_band(centres_nm, aod.device)[kind]
    extinction = table[..., 0]
    if isinstance(finer, Tensor):
        extinction = extinction * torch.exp(-_log_ratio(centres_nm, aod.device) * finer.double()[:, None])
    return Aerosol(aod.double(), extinction, table[..., 1], table[..., 2], table[..., 3:])


def angstrom_exponents(device: torch.device) -> Float[Tensor, " k"]:
    """Of the standard aerosols, between 443 and 860 nm."""
    thickness = _by_band((443.0, 860.0), device)[..., 0]
    return torch.log(thickness[:, 0] / thickness[:, 1]) / math.log(860 / 443)


def clear_aerosol(like: Float[Tensor, " b"], centres_nm: tuple[float, ...]) -> Aerosol:
    """Continental aerosol of a clear day: 0.1 at 550 nm, over as many rows."""
    aod = torch.full_like(like, 0.1, dtype=torch.float64)
    return aerosol_of(torch.zeros_like(aod, dtype=torch.int64), aod, centres_nm)


@kept
def _log_ratio(centres_nm: tuple[float, ...], device: torch.device) -> Float[Tensor, " c"]:
    return torch.log(torch.tensor(centres_nm, dtype=torch.float64, device=device) / REFERENCE_NM)


@kept
def _by_band(centres_nm: tuple[float, ...], device: torch.device) -> Float[Tensor, "k c 18"]:
    """Extinction, albedo, asymmetry and the logarithms of the phase function, for each kind and band."""
    wavelengths, figures = _table()
    at = np.log(centres_nm)
    columns = [np.interp(at, np.log(wavelengths), column) for kind in figures for column in kind.T]
    seen = np.stack(columns).reshape(len(figures), -1, len(centres_nm)).transpose(0, 2, 1).copy()
    seen[..., 0] = np.exp(seen[..., 0])
    return torch.from_numpy(seen).to(device)


@cache
def _table() -> tuple[np.ndarray, np.ndarray]:
    """Wavelengths (l), and figures (k, l, 18) of which the first and those from the fourth on are logarithms."""
    text = resources.files("geoaug.augment.physics").joinpath("aerosols.csv").read_text("ascii")
    rows = list(csv.reader(text.splitlines()))[1:]
    numbers = np.array([row[1:] for row in rows], dtype=np.float64)
    by_kind = np.stack([numbers[[row[0] == name for row in rows]] for name in KIND_NAMES])
    figures = by_kind[..., 1:]
    figures[..., [0, *range(3, figures.shape[-1])]] = np.log(figures[..., [0, *range(3, figures.shape[-1])]])
    return by_kind[0, :, 0], figures
