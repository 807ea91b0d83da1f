"""What the world does to an image of 64 pixels at 10 m, in numpy and scipy alone: nothing here is geoaug's.

Images are reflectance (N, C, H, W). A network that is trained with geoaug's operations is tested with these, so that no
way of training is tested with its own operations. Every draw follows the name of the nuisance alone, so that all
networks see the same pixels.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import fft, ndimage

__all__ = ["NUISANCES", "Camera", "stored_under"]


@dataclass(frozen=True)
class Camera:
    """What a nuisance has to know of the bands.

    Attributes:
        wavelength_nm: centre of each band.
        coarseness: side of each band's own pixels in those of the image.
        scale: reflectance of a step of the stored numbers.
        most: largest number that can be stored.
    """

    wavelength_nm: tuple[float, ...]
    coarseness: tuple[int, ...]
    scale: float
    most: int

    @property
    def ceiling(self) -> float:
        """Reflectance of the largest number."""
        return self.scale * self.most


Change = Callable[[np.ndarray, Camera, np.random.Generator], np.ndarray]


def turn(degrees: float) -> Change:
    """About the middle, to either side, by a cubic spline; what lies beyond the edges mirrors what lies within."""

    def change(x: np.ndarray, camera: Camera, random: np.random.Generator) -> np.ndarray:
        left = random.random(len(x)) < 0.5
        found = np.empty_like(x)
        for chosen, angle in ((left, degrees), (~left, -degrees)):
            found[chosen] = ndimage.rotate(x[chosen], angle, (2, 3), reshape=False, order=3, mode="mirror")
        return found

    return change


def gain(factor: float) -> Change:
    """Of all bands."""
    return lambda x, camera, random: x * factor


def band_gains(x: np.ndarray, camera: Camera, random: np.random.Generator) -> np.ndarray:
    """Each band by another gain, .8 to 1.2."""
    return x * random.uniform(0.8, 1.2, (*x.shape[:2], 1, 1))


def haze(depth: float) -> Change:
    """Koschmieder's law: a share of the light is lost, and that of the air takes its place.

    `y = x t + A (1 - t)`, `t = exp(-depth (550 nm / wavelength)^1.3)`, with an airlight A of .2 in reflectance. Water
    vapour above the haze takes half of the change in its band at 945 nm, and all in that of cirrus at 1373 nm.
    """

    def change(x: np.ndarray, camera: Camera, random: np.random.Generator) -> np.ndarray:
        wavelength = _of_bands(camera.wavelength_nm)
        seen = np.interp(wavelength, [900, 945, 990, 1340, 1373, 1410], [1, 0.5, 1, 1, 0, 1])
        lost = seen * (1 - np.exp(-depth * (550 / wavelength) ** 1.3))
        return x * (1 - lost) + 0.2 * lost

    return change


def noise(sigma: float) -> Change:
    """White noise on each band's own pixels, of a deviation that goes with the root of the band's brightness.

    `sigma` is that at a reflectance of .1. Coarse bands are brought to the pixels of the image by a cubic spline.
    """

    def change(x: np.ndarray, camera: Camera, random: np.random.Generator) -> np.ndarray:
        level = sigma * np.sqrt(np.clip(x.mean((0, 2, 3)), 0.001, None) / 0.1)
        drawn = np.empty_like(x)
        side = x.shape[-1]
        for band, size in enumerate(camera.coarseness):
            own = random.standard_normal((len(x), *(-(-side // size),) * 2))
            wide = own if size == 1 else ndimage.zoom(own, (1, size, size), order=3, mode="nearest", grid_mode=True)
            drawn[:, band] = level[band] * wide[:, :side, :side]
        return x + drawn

    return change


def resolution(factor: int) -> Change:
    """Means over larger pixels, interpolated back by straight lines; bands as coarse by nature stay as they are."""

    def change(x: np.ndarray, camera: Camera, random: np.random.Generator) -> np.ndarray:
        side = x.shape[-1]
        cells = round(side / factor)
        edges = np.linspace(0, side, cells + 1)
        pixels = np.arange(side)
        shared = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
        means = np.clip(shared, 0, None) * cells / side
        middles = (edges[1:] + edges[:-1]) / 2 - 0.5
        back = np.stack([np.interp(pixels, middles, one) for one in np.eye(cells)], axis=1) @ means
        coarser = np.einsum("ij,ncjk,lk->ncil", back, x, back)
        return np.where(np.asarray(camera.coarseness)[:, None, None] < factor, coarser, x)

    return change


def zoom(factor: float) -> Change:
    """The middle, enlarged by a cubic spline."""

    def change(x: np.ndarray, camera: Camera, random: np.random.Generator) -> np.ndarray:
        side = x.shape[-1]
        places = (side - 1) / 2 + (np.arange(side) - (side - 1) / 2) / factor
        rows, columns = np.meshgrid(places, places, indexing="ij")
        found = np.empty_like(x)
        for number, image in enumerate(x):
            for band, values in enumerate(image):
                found[number, band] = ndimage.map_coordinates(values, [rows, columns], order=3, mode="mirror")
        return found

    return change


def blur(sigma: float) -> Change:
    """A Gaussian, its deviation in pixels."""
    return lambda x, camera, random: ndimage.gaussian_filter(x, (0, 0, sigma, sigma), mode="mirror")


def clouds(x: np.ndarray, camera: Camera, random: np.random.Generator) -> np.ndarray:
    """Over .3 of an image, up to an opacity of .9 and thin at their edges, as bright as water clouds are."""
    wavelength = _of_bands(camera.wavelength_nm)
    bright = np.interp(wavelength, [440, 900, 945, 1000, 1373, 1610, 2200], [0.6, 0.6, 0.35, 0.55, 0.05, 0.4, 0.25])
    opacity = 0.9 * _covered(x, 0.3, 0.8, random)
    return x * (1 - opacity) + bright * opacity


def shadow(x: np.ndarray, camera: Camera, random: np.random.Generator) -> np.ndarray:
    """Over .4 of an image: what is left of the light is .35, more of it in the blue."""
    left = 0.35 + 0.15 * (450 / _of_bands(camera.wavelength_nm)) ** 4
    return x * (1 - (1 - left) * _covered(x, 0.4, 0.3, random))


def _covered(x: np.ndarray, share: float, softness: float, random: np.random.Generator) -> np.ndarray:
    """A field of 0 to 1 (N, 1, H, W), above 0 over a share of each image.

    Its spectrum falls with the power -8/3 of frequency, and faster below three pixels.
    """
    count, _, height, width = x.shape
    frequency = np.hypot(fft.fftfreq(2 * height)[:, None], fft.rfftfreq(2 * width))
    frequency[0, 0] = np.inf
    white = fft.rfft2(random.standard_normal((count, 2 * height, 2 * width)))
    smooth = frequency ** (-4 / 3) * np.exp(-((3 * frequency) ** 2) / 2)
    field = fft.irfft2(white * smooth, (2 * height, 2 * width))[:, :height, :width]
    field = (field - field.mean((1, 2), keepdims=True)) / field.std((1, 2), keepdims=True)
    above = field - np.quantile(field, 1 - share, axis=(1, 2), keepdims=True)
    return np.clip(above / softness, 0, 1)[:, None]


def _of_bands(values: tuple[float, ...]) -> np.ndarray:
    return np.asarray(values)[:, None, None]


# In the order of the tables.
NUISANCES: dict[str, Change] = {
    "turn 15": turn(15),
    "turn 35": turn(35),
    "darker": gain(0.6),
    "brighter": gain(1.5),
    "band gains": band_gains,
    "haze thin": haze(0.15),
    "haze thick": haze(0.4),
    "noise 6": noise(0.0065),
    "noise 14": noise(0.015),
    "resolution /2": resolution(2),
    "resolution /3": resolution(3),
    "zoom": zoom(1.4),
    "blur": blur(1.2),
    "clouds": clouds,
    "shadow": shadow,
}


def stored_under(name: str, stored: np.ndarray, camera: Camera) -> np.ndarray:
    """Stored images under a nuisance, rounded and cut as a file would hold them; "clean": as they are."""
    if name == "clean":
        return stored
    random = np.random.default_rng([2026, list(NUISANCES).index(name)])
    changed = NUISANCES[name](stored.astype(np.float64) * camera.scale, camera, random)
    return np.clip(np.rint(changed / camera.scale), 0, camera.most).astype(stored.dtype)
