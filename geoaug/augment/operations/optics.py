"""The optics of the sensor: how sharp it sees, how coarse its pixels are, how well its bands lie on one another."""

from collections.abc import Sequence
from typing import ClassVar, Unpack

import torch
from jaxtyping import Float
from torch import Tensor

from geoaug.augment.kernels.stencils import CoarseGrid, Taps
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
from geoaug.small_arrays import constant

_REACH = 3
_NEWTON_STEPS = 8
_LEAST_MTF = 0.02
# Standard deviations at which a band's misregistration is cut: the requirement is stated at three.
_FARTHEST = 3.0


def gaussian_taps(mtf: Float[Tensor, " b"]) -> Float[Tensor, "b n"]:
    """Weights of a sampled Gaussian, of the middle pixel and those beside it, whose transfer at Nyquist is `mtf`.

    With `q = exp(-1 / (2 sigma^2))` the weight at distance n goes with `q^(n^2)`, and the transfer at half a cycle per
    pixel is `(1 - 2q + 2q^4 - 2q^9) / (1 + 2q + 2q^4 + 2q^9)`; q is found by Newton's method.

    Args:
        mtf: in (0, 1]; 1 leaves the image as it is.
    """
    wanted = mtf.double().clamp(_LEAST_MTF, 1.0)
    q = (1 - wanted) / (2 * (1 + wanted))
    for _ in range(_NEWTON_STEPS):
        odd, even = 2 * q + 2 * q**9, 1 + 2 * q**4
        odd_slope, even_slope = 2 + 18 * q**8, 8 * q**3
        # (even - odd) - wanted * (even + odd) = 0
        value = (even - odd) - wanted * (even + odd)
        slope = (even_slope - odd_slope) - wanted * (even_slope + odd_slope)
        q = q - value / slope
    weights = torch.stack([torch.ones_like(q), *(q ** (n * n) for n in range(1, _REACH + 1))], dim=-1)
    return weights / (weights[:, :1] + 2 * weights[:, 1:].sum(1, keepdim=True))


class RandomPointSpread(StencilOperation):
    """Blur by a Gaussian point spread function, given by its modulation transfer (MTF) at the Nyquist frequency.

    The Gaussian is sampled at the pixels, so its weights are positive and its transfer at Nyquist is exact; in between
    the transfer is up to 0.1 lower than that of a Gaussian that is not sampled.

    Sensors are built for 0.15 to 0.30 there (Sentinel-2: Gascon et al., 2017, Remote Sensing 9); a sharper or a
    softer one sees the same ground with other contrast from pixel to pixel. Pixels without data give nothing.

    Args:
        mtf: range of the transfer at half a cycle per pixel; 1 leaves the image alone.
        present: transfer that the image has already: then `mtf` is that of the result, and the blur makes up the
            rest. None: `mtf` is the blur's own.
        **options: see `RadiometricOptions`.
    """

    domain = None
    neutral: ClassVar = {"mtf": 1.0}

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
        return {"mtf": (draws.uniform(*self.mtf) / (self.present or 1.0)).clamp_max(1.0)}

    def kernel(self, params: Params, shape: TileShape) -> Taps:
        return Taps(gaussian_taps(params["mtf"])[:, None])


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
