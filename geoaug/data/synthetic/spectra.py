"""Typical reflectance spectra of land covers in the 13 Sentinel-2 bands, and the clear atmosphere above them.

Only tables and the step from surface to top-of-atmosphere reflectance live here; where the land covers lie
in a made scene is the business of `geoaug.data.synthetic.made_scene`. The numbers are drawn by hand after the shapes
found in public spectral libraries (USGS Spectral Library Version 7, Kokaly et al. 2017, USGS Data Series
1035; ECOSTRESS/ASTER spectral library, Baldridge et al. 2009, Remote Sensing of Environment 113, and
Meerdink et al. 2019, ibid. 230): the green peak, the chlorophyll absorption at 665 nm, the red edge and the
near-infrared plateau of leaves with their liquid-water absorption in the short-wave infrared; soils that
brighten towards the short-wave infrared and are dimmed by water; water that is black beyond 750 nm. They
are plausible, not measured: good for pictures and tests, not for retrievals.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class SyntheticBand:
    """One Sentinel-2 band: centre wavelength (nm), ground sampling distance (m), clear-sky transmittance of
    the path sun-ground-sensor (0..1), and noise (standard deviation, reflectance)."""

    name: str
    wavelength_nm: float
    gsd_m: int
    transmittance: float
    noise: float


BANDS: Final = (
    SyntheticBand("B01", 442.7, 60, 0.80, 0.0006),
    SyntheticBand("B02", 492.4, 10, 0.85, 0.0008),
    SyntheticBand("B03", 559.8, 10, 0.87, 0.0008),
    SyntheticBand("B04", 664.6, 10, 0.91, 0.0008),
    SyntheticBand("B05", 704.1, 20, 0.91, 0.0009),
    SyntheticBand("B06", 740.5, 20, 0.92, 0.0010),
    SyntheticBand("B07", 782.8, 20, 0.95, 0.0010),
    SyntheticBand("B08", 832.8, 10, 0.92, 0.0012),
    SyntheticBand("B8A", 864.7, 20, 0.96, 0.0012),
    SyntheticBand("B09", 945.1, 60, 0.26, 0.0006),  # inside a water-vapour band
    SyntheticBand("B10", 1373.5, 60, 0.001, 0.0001),  # opaque: only high, thin cloud is seen
    SyntheticBand("B11", 1613.7, 20, 0.94, 0.0010),
    SyntheticBand("B12", 2202.4, 20, 0.89, 0.0010),
)

# Surface reflectance in percent, in the order of BANDS.
_PERCENT: Final[dict[str, tuple[float, ...]]] = {
    #            B01   B02   B03   B04   B05   B06   B07   B08   B8A   B09   B10   B11   B12
    "cereal": (2.4, 2.9, 5.6, 3.2, 8.8, 31.0, 40.0, 43.0, 44.0, 42.0, 28.0, 20.5, 9.5),
    "rapeseed": (2.5, 3.4, 11.8, 11.2, 17.0, 33.0, 38.5, 42.0, 43.0, 41.0, 28.0, 21.5, 11.5),
    "grass": (3.0, 3.9, 7.2, 5.4, 11.5, 27.0, 32.5, 35.5, 37.0, 36.0, 30.0, 25.5, 15.0),
    "maize": (2.6, 3.2, 6.4, 4.2, 10.0, 26.0, 33.0, 36.0, 37.5, 36.0, 27.0, 22.5, 12.0),
    "loam": (5.6, 6.9, 10.8, 15.6, 18.0, 20.4, 21.8, 23.6, 24.8, 26.0, 29.0, 32.0, 27.5),
    "wet loam": (3.1, 3.8, 5.9, 8.4, 9.8, 11.0, 12.0, 13.2, 14.0, 14.6, 14.0, 15.5, 11.5),
    "chalky soil": (10.0, 12.8, 19.0, 25.0, 28.5, 30.5, 32.0, 34.0, 35.0, 36.0, 39.0, 42.5, 38.5),
    "broadleaf": (1.7, 2.0, 4.0, 2.3, 6.4, 23.0, 31.0, 34.0, 36.0, 34.5, 25.0, 15.5, 6.6),
    "conifer": (1.3, 1.6, 2.7, 1.8, 4.0, 12.5, 16.5, 18.5, 19.5, 18.5, 13.0, 8.0, 3.6),
    "deep water": (2.0, 2.1, 2.1, 1.0, 0.8, 0.5, 0.4, 0.3, 0.3, 0.2, 0.1, 0.1, 0.1),
    "turbid water": (3.6, 4.6, 6.6, 4.6, 3.8, 2.2, 1.9, 1.4, 1.2, 0.8, 0.2, 0.3, 0.2),
    "asphalt": (5.0, 5.9, 7.5, 9.0, 10.0, 11.0, 11.6, 12.2, 12.7, 13.2, 14.4, 15.6, 14.8),
    "bright roof": (25.0, 29.0, 33.0, 35.0, 36.0, 36.5, 37.0, 37.5, 38.0, 38.0, 38.0, 39.0, 36.0),
    "red roof": (5.4, 6.2, 9.0, 16.0, 21.0, 23.0, 24.5, 26.0, 26.5, 27.0, 30.0, 34.0, 32.0),
    "grey roof": (7.6, 8.6, 10.4, 11.6, 14.6, 15.0, 15.4, 15.8, 16.0, 16.4, 17.0, 18.5, 18.0),
}

SPECTRA: Final[dict[str, NDArray[np.float32]]] = {
    name: np.asarray(percent, dtype=np.float32) / np.float32(100.0) for name, percent in _PERCENT.items()
}


def path_reflectance(aod: float = 0.12) -> NDArray[np.float32]:
    """Reflectance of the cloudless air itself in each of `BANDS`, shape (13,).

    Single scattering seen from nadir with the sun 40 degrees from it: molecules with the optical depth of
    Hansen and Travis (1974, Space Science Reviews 16) and the Rayleigh phase function; aerosol of optical
    depth `aod` at 550 nm with an Angstrom exponent of 1.3 and a backscatter phase function of 0.2.
    """
    micrometres = np.array([band.wavelength_nm for band in BANDS], dtype=np.float64) / 1000.0
    molecules = 0.008569 * micrometres**-4 * (1 + 0.0113 * micrometres**-2 + 0.00013 * micrometres**-4)
    cosine = np.cos(np.deg2rad(40.0))
    rayleigh_phase = 0.75 * (1 + cosine**2)  # the scattering angle is 140 degrees; its cosine enters squared
    aerosol = aod * (micrometres / 0.55) ** -1.3
    reflectance = (molecules * rayleigh_phase + aerosol * 0.2) / (4 * cosine)
    gases = np.array([0.3 if band.name == "B09" else 1.0 for band in BANDS])
    gases[[band.name == "B10" for band in BANDS]] = 0.25
    return np.asarray(reflectance * gases, dtype=np.float32)
