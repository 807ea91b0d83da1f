"""The optics of the sensor: how sharp it sees, how coarse its pixels are, how well its bands lie on one another."""

import math
from collections.abc import Sequence
from typing import ClassVar, Unpack

import torch
from jaxtyping import Float
from torch import Tensor

from geoaug.augment.kernels.stencils import BandTaps, CoarseGrid
from geoaug.augment.operations.base import (
    RadiometricOptions,
    RegistrationOperation,
    StencilOperation,
    TileShape,
    as_range,
)
from geoaug.augment.planning.plan import Params
from geoaug.errors import ConfigurationError
from geoaug.rng.draws import Draws
from geoaug.sensors import Band
from geoaug.small_arrays import constant

_LEAST_MTF = 0.02
# The middle of 0.15 to 0.30, by ratio.
_USUAL_MTF = 0.21
# Noise and what lies between pixels grow with detail that is put back: more than this is no sensor's.
_SHARPEST = 2.0
# Tiles may be enlarged, and a coarse band's pixels with them, before they are filtered as if they were smaller.
_ENLARGED = 1.5
# Standard deviations at which a band's misregistration is cut: the requirement is stated at three.
_FARTHEST = 3.0


def transfer_taps(ratio: Float[Tensor, "r c"], spacing: Float[Tensor, "r c"], reach: int) -> Float[Tensor, "r c n"]:
    """Weights of the pixel and of those at distances up to `reach` that multiply a band's transfer by a Gaussian.

    Two Gaussian transfer functions with values m and m' at the Nyquist frequency of a band have the quotient
    `q^((f / f_N)^2)`, `q = m' / m`. Five pixels of the band, `a + 2 b cos(t) + 2 c cos(2 t)`, have it exactly at 0, at
    half of Nyquist and there: `b = (1 - q) / 4`, `c = (1 + q - 2 q^(1/4)) / 8`, `a = q^(1/4) + 2 c`. So q may
    exceed 1, too.

    Args:
        ratio: q.
        spacing: of the band's pixels, in pixels of the tile; between two of these, a weight is shared out to both.
        reach: at least twice the spacing.
    """
    quarter = ratio**0.25
    beside, next_one = (1 - ratio) / 4, (1 + ratio - 2 * quarter) / 8
    distance = torch.arange(reach + 1, dtype=ratio.dtype, device=ratio.device)

    def near(place: Tensor) -> Tensor:
        return (1 - (distance - place[..., None]).abs()).clamp_min(0)

    centre = near(torch.zeros_like(ratio)) * (quarter + 2 * next_one)[..., None]
    return centre + near(spacing) * beside[..., None] + near(2 * spacing) * next_one[..., None]


class RandomPointSpread(StencilOperation):
    """Another sharpness: the modulation transfer (MTF) that an image has is turned into that of another sensor.

    Sensors are built for a transfer of 0.15 to 0.30 at the Nyquist frequency of each band's own pixels (Sentinel-2:
    Gascon et al., 2017, Remote Sensing 9), and images have it already. So each band is filtered by the quotient of two
    Gaussian transfer functions: blurred where the wanted one is softer, sharpened a little where it is sharper. A band
    of 20 m is filtered at its pixels of 20 m. Pixels without data give nothing.

    Args:
        mtf: range of the wanted transfer at half a cycle per pixel, the same in all bands.
        present: transfer that the image has; 1 for one of ideal sharpness, which `mtf` then blurs. None: that of the
            sensor's bands (`Band.mtf`), 0.21 where it is not known: the middle of what sensors are built for.
        **options: see `RadiometricOptions`.
    """

    domain = None
    neutral: ClassVar = {"ratio": 1.0}

    def __init__(
        self,
        mtf: float | Sequence[float] = (0.15, 0.3),
        present: float | None = None,
        **options: Unpack[RadiometricOptions],
    ) -> None:
        super().__init__(**options)
        self.mtf = as_range(mtf, "mtf", low=_LEAST_MTF, high=1)
        if present is not None and not 0 < present <= 1:
            raise ConfigurationError(f"present={present} is a modulation transfer within (0, 1]", argument="present")
        self.present = present
        self.flags = {"mtf": self.mtf, **({} if present is None else {"present": present})}

    def draw(self, draws: Draws, shape: TileShape) -> Params:
        bands: Sequence[Band | None] = [None] * shape.bands if shape.sensor is None else shape.sensor.bands
        known = [self.present or (None if band is None else band.mtf) or _USUAL_MTF for band in bands]
        present = constant(tuple(known), torch.float64, shape.device)
        wanted = draws.uniform(*self.mtf)
        return {"ratio": (wanted[:, None] / present).clamp(_LEAST_MTF, _SHARPEST)}

    def kernel(self, params: Params, shape: TileShape) -> BandTaps:
        ratio = params["ratio"].double().clamp(_LEAST_MTF, _SHARPEST)
        spacing = torch.ones_like(ratio)
        finest, widest = 1.0, [1.0] * shape.bands
        if shape.sensor is not None and shape.grids_here is not None:
            inverse, coarse = shape.grids_here.numbers[..., 0].double(), shape.grids_here.numbers[..., 3] > 0
            spacing = torch.where(coarse, 1 / torch.where(coarse, inverse, 1.0), spacing)
            sides = [band.gsd_m for band in shape.sensor.bands]
            finest = min((side for side in sides if side is not None), default=1.0)
            widest = [1.0 if side is None else max(_ENLARGED * side / finest, 1.0) for side in sides]
            widest = [1.0 if side is None or side == finest else most for side, most in zip(sides, widest, strict=True)]
        reaches = tuple(2 * math.ceil(most) for most in widest)
        most = constant(tuple(float(reach // 2) for reach in reaches), torch.float64, ratio.device)
        weights = transfer_taps(ratio, torch.minimum(spacing, most), max(reaches))
        return BandTaps(weights, reaches)


class RandomResolution(StencilOperation):
    """A coarser sensor: means over larger cells, interpolated back to the pixels of the tile.

    Bands that are as coarse by nature stay as they are: seen at 20 m, the 10 m bands of Sentinel-2 blur and its 20 m
    and 60 m bands do not. Without a sensor, or where its bands have no `gsd_m`, all bands count as fine as the pixels.

    Args:
        factor: range of the cell's side in pixels of the finest band; its logarithm is uniform.
        **options: see `RadiometricOptions`.
    """

    domain = None
    neutral: ClassVar = {"factor": 1.0}

    def __init__(
        self,
        factor: float | Sequence[float] = (1.0, 3.0),
        **options: Unpack[RadiometricOptions],
    ) -> None:
        super().__init__(**options)
        self.factor = as_range(factor, "factor", low=1, high=64)
        self.flags = {"factor": self.factor}

    def draw(self, draws: Draws, shape: TileShape) -> Params:
        return {
            # One column a band, so that the cells know how many there are where no sensor tells.
            "factor": draws.log_uniform(*self.factor)[:, None].expand(-1, shape.bands),
            "phase": draws.uniforms(2),
        }

    def kernel(self, params: Params, shape: TileShape) -> CoarseGrid:
        factor = params["factor"].double().clamp_min(1.0)
        if shape.sensor is not None:
            sides = [band.gsd_m for band in shape.sensor.bands]
            finest = min((side for side in sides if side is not None), default=1.0)
            relative = tuple(1.0 if side is None else side / finest for side in sides)
            native = constant(relative, torch.float64, factor.device)
            factor = torch.where(factor > native, factor, 1.0)
        return CoarseGrid(factor, params["phase"].double())


class RandomBandShift(RegistrationOperation):
    """Bands that do not lie on one another exactly: each is moved on its own, by a part of a pixel.

    It joins the single resampling: each band is interpolated once, at its own place. The first band stays, so that
    labels keep their place in the mean. Sentinel-2 keeps 0.3 pixels at three deviations (ESA, Sentinel-2 Mission
    Requirements Document, 2010).

    Args:
        sigma: range of the standard deviation of the move along each axis, pixels of the input image; single moves
            are cut at three deviations.
        **options: see `RadiometricOptions`.
    """

    domain = None
    neutral: ClassVar = {"shift_x": 0.0, "shift_y": 0.0}

    def __init__(
        self,
        sigma: float | Sequence[float] = (0.0, 0.1),
        **options: Unpack[RadiometricOptions],
    ) -> None:
        super().__init__(**options)
        self.sigma = as_range(sigma, "sigma", low=0, high=20)
        self.flags = {"sigma": self.sigma}

    def draw(self, draws: Draws, shape: TileShape) -> Params:
        sigma = draws.uniform(*self.sigma)[:, None]
        moves = draws.normals(2 * (shape.bands - 1)).clamp(-_FARTHEST, _FARTHEST) * sigma
        across, down = torch.nn.functional.pad(moves.view(shape.batch, 2, shape.bands - 1), (1, 0)).unbind(1)
        return {"shift_x": across, "shift_y": down}

    def band_shift(self, params: Params) -> Float[Tensor, "r c 2"]:
        return torch.stack((params["shift_x"].double(), params["shift_y"].double()), dim=-1)
