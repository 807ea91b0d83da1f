"""What the detector does to bands and lines: stripes, lost lines and bands, ceilings, fewer bits; not its noise."""

from collections.abc import Sequence
from typing import ClassVar, Unpack, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from geoaug.augment.kernels.stencils import CoarseSteps
from geoaug.augment.operations.base import RadiometricOperation, RadiometricOptions, TileShape, as_range
from geoaug.augment.planning.maps import Axis, Lines, LostLines, Stripes
from geoaug.augment.planning.plan import Params
from geoaug.augment.planning.segments import Affine, Modulation, OperationSegment, Stencil, Steps
from geoaug.augment.planning.terms import Terms
from geoaug.errors import ConfigurationError
from geoaug.rng.draws import Draws


def _checked_axis(axis: str) -> Axis:
    if axis not in get_args(Axis):
        raise ConfigurationError(f"axis={axis!r} is 'columns' or 'rows'", argument="axis")
    return axis  # type: ignore[return-value]


def _a_column_a_band(value: Float[Tensor, " b"], shape: TileShape) -> Float[Tensor, "b c"]:
    """So that segments know how many bands there are where no sensor tells."""
    return value[:, None].expand(-1, shape.bands)


class RandomStriping(RadiometricOperation):
    """Stripes of a push-broom sensor: each detector, and so each column of each band, has a small gain of its own.

    What remains after equalisation is 0.1 to 0.5 % (fixed pattern noise of Sentinel-2: Gascon et al., 2017, Remote
    Sensing 9). Stripes run along the sensor's track: they turn with the tile, and are as wide as the band's own pixels
    where these are wider than the tile's.

    Args:
        sigma: range of the standard deviation of the gains, as a fraction.
        axis: "columns" or "rows" of the image as it was read: which way the sensor flew, and the stripes run.
        **options: see `RadiometricOptions`.
    """

    neutral: ClassVar = {"sigma": 0.0}

    def __init__(
        self,
        sigma: float | Sequence[float] = (0.001, 0.005),
        axis: Axis = "columns",
        **options: Unpack[RadiometricOptions],
    ) -> None:
        super().__init__(**options)
        self.sigma = as_range(sigma, "sigma", low=0, high=1)
        self.axis = _checked_axis(axis)
        self.flags = {"sigma": self.sigma, "axis": self.axis}

    def draw(self, draws: Draws, shape: TileShape) -> Params:
        return {"seed": draws.seeds(), "sigma": _a_column_a_band(draws.uniform(*self.sigma), shape)}

    def segments(self, params: Params, shape: TileShape) -> tuple[OperationSegment, ...]:
        sigma = params["sigma"].double()
        stripes = Stripes(params["seed"], Lines.of(shape.source, shape.grids, self.axis, sigma))
        every = torch.ones_like(sigma[:, 0], dtype=torch.bool)
        return (Affine(Terms.nothing_to(sigma), Modulation(stripes, sigma[..., None], None, every)),)


class RandomLineDropout(RadiometricOperation):
    """Lines of single bands lost on the way to the ground, and filled with one value.

    Put it after the other radiometric operations, so that what fills a line stays as it is. Lines turn with the tile,
    and are as wide as the band's own pixels where these are wider than the tile's.

    Args:
        share: range of the share of lines that are lost, each band for itself.
        fill: reflectance in a lost line.
        axis: "rows" or "columns" of the image as it was read: which way the lines run.
        **options: see `RadiometricOptions`.
    """

    domain = None
    neutral: ClassVar = {"share": 0.0}
    default_p = 0.1

    def __init__(
        self,
        share: float | Sequence[float] = (0.0, 0.02),
        fill: float = 0.0,
        axis: Axis = "rows",
        **options: Unpack[RadiometricOptions],
    ) -> None:
        super().__init__(**options)
        self.share = as_range(share, "share", low=0, high=1)
        self.fill, self.axis = float(fill), _checked_axis(axis)
        self.flags = {"share": self.share, "fill": self.fill, "axis": self.axis}

    def draw(self, draws: Draws, shape: TileShape) -> Params:
        return {"seed": draws.seeds(), "share": _a_column_a_band(draws.uniform(*self.share), shape)}

    def segments(self, params: Params, shape: TileShape) -> tuple[OperationSegment, ...]:
        share = params["share"].double()
        below = torch.special.ndtri(share[:, 0].clamp(1e-9, 1 - 1e-9))
        lines = LostLines(params["seed"], Lines.of(shape.source, shape.grids, self.axis, share), below)
        one = torch.ones_like(share)[..., None]
        lost = Modulation(lines, -one, self.fill * one, torch.ones_like(share[:, 0], dtype=torch.bool))
        return (Affine(Terms.nothing_to(share), lost),)


class RandomSaturation(RadiometricOperation):
    """A ceiling on what the sensor can measure: brighter pixels are cut to it.

    Args:
        level: range of the ceiling, reflectance. At half strength it is twice as high, at none there is none.
        **options: see `RadiometricOptions`.
    """

    default_p = 0.2

    def __init__(
        self,
        level: float | Sequence[float] = (0.6, 1.2),
        **options: Unpack[RadiometricOptions],
    ) -> None:
        super().__init__(**options)
        self.level = as_range(level, "level", low=1e-6, high=1e6)
        self.flags = {"level": self.level}

    def draw(self, draws: Draws, shape: TileShape) -> Params:
        return {"level": _a_column_a_band(draws.uniform(*self.level), shape)}

    def weakened(self, params: Params, strength: Float[Tensor, " b"]) -> Params:
        return {**params, "level": params["level"] / strength[:, None]}

    def segments(self, params: Params, shape: TileShape) -> tuple[OperationSegment, ...]:
        level = params["level"].double()
        return (Steps(level, torch.zeros_like(level), torch.ones_like(level[:, 0], dtype=torch.bool)),)


class RandomQuantization(RadiometricOperation):
    """Fewer bits: reflectance is rounded to the steps of a coarser converter.

    The numbers that are rounded are those of the band's own pixels: where a band is coarser than the tile, what
    rounding changes is interpolated as the band was, and the band stays as smooth as it is.

    Args:
        bits: range of the depth, whole numbers; an image of 8 bits has 256 steps up to `full_scale`.
        full_scale: reflectance of the highest step.
        **options: see `RadiometricOptions`.
    """

    default_p = 0.2

    def __init__(
        self,
        bits: int | Sequence[int] = (7, 10),
        full_scale: float = 1.0,
        **options: Unpack[RadiometricOptions],
    ) -> None:
        super().__init__(**options)
        low, high = as_range(bits, "bits", low=1, high=24)
        if low != int(low) or high != int(high):
            raise ConfigurationError(f"bits={bits} are whole numbers", argument="bits")
        if not full_scale > 0:
            raise ConfigurationError(f"full_scale={full_scale} is a reflectance above 0", argument="full_scale")
        self.bits, self.full_scale = (int(low), int(high)), float(full_scale)
        self.flags = {"bits": self.bits, "full_scale": self.full_scale}

    def draw(self, draws: Draws, shape: TileShape) -> Params:
        low, high = self.bits
        bits = low + draws.integer(high - low + 1)
        return {"step": _a_column_a_band(self.full_scale / (2.0 ** bits.double() - 1), shape)}

    def weakened(self, params: Params, strength: Float[Tensor, " b"]) -> Params:
        return {**params, "step": params["step"] * strength[:, None]}

    def segments(self, params: Params, shape: TileShape) -> tuple[OperationSegment, ...]:
        step, grids = params["step"].double(), shape.grids_here
        every, ceiling = torch.ones_like(step[:, 0], dtype=torch.bool), torch.full_like(step, torch.inf)
        if grids is None:
            return (Steps(ceiling, step, every),)
        coarse = grids.numbers[..., 3] > 0
        of_bands = Stencil(CoarseSteps(torch.where(coarse, step, 0.0), grids.numbers), every)
        return of_bands, Steps(ceiling, torch.where(coarse, 0.0, step), every)


class RandomBandDropout(RadiometricOperation):
    """Some bands lost: a network must not lean on any one of them. At least one band always stays.

    Put it after the other radiometric operations, so that what replaces a band stays as it is.

    Args:
        max_bands: greatest number of bands lost in a tile; 1 to it, equally likely.
        fill: reflectance that replaces a lost band.
        **options: see `RadiometricOptions`.
    """

    domain = None
    default_p = 0.1

    def __init__(
        self,
        max_bands: int = 1,
        fill: float = 0.0,
        **options: Unpack[RadiometricOptions],
    ) -> None:
        super().__init__(**options)
        if not isinstance(max_bands, int) or max_bands < 1:
            raise ConfigurationError(f"max_bands={max_bands} is a number of bands of at least 1", argument="max_bands")
        self.max_bands = max_bands
        self.fill = float(fill)
        self.flags = {"max_bands": max_bands, "fill": self.fill}

    def draw(self, draws: Draws, shape: TileShape) -> Params:
        order = draws.uniforms(shape.bands).argsort(dim=1).argsort(dim=1)
        most = min(self.max_bands, shape.bands - 1)
        count = torch.zeros_like(order[:, 0]) if most < 1 else 1 + draws.integer(most)
        return {"dropped": (order < count[:, None]).double()}

    def terms(self, params: Params, shape: TileShape) -> Terms:
        kept = 1 - params["dropped"].double()
        return Terms(kept, self.fill * (1 - kept))
