"""One random field from which a cloud and its shadow are made.

The field is Gaussian, stationary and isotropic before it is stretched, with the five-thirds spectrum of turbulence:
octaves of normal numbers on lattices that halve, each refined by the subdivision of cubic B-splines. It repeats after
its period, is a function of a seed alone, and can be looked up anywhere, so a shadow is the same field seen a few
hundred metres further. No transcendental function runs per pixel: their last bits differ between vector lanes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cache
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from geoaug.augment.planning.maps import BandMaps, Surroundings, TileMap, may_look
from geoaug.augment.planning.matrices import Size
from geoaug.augment.planning.terms import Terms
from geoaug.augment.planning.tree import PlanPart
from geoaug.rng.noise import standard_normal
from geoaug.small_arrays import constant

# Variance of liquid water falls with scale as k^(-5/3) (Cahalan and Snider, 1989, Remote Sensing of Environment 28):
# that of an octave in proportion to its wavelength to 2/3.
_HURST = 1 / 3
# Below a few hundred metres light diffuses between columns, and images of clouds are smoother than the clouds: their
# spectrum falls as k^(-3) (Davis, Marshak, Cahalan and Wiscombe, 1997, Journal of the Atmospheric Sciences 54).
_SMOOTH_HURST = 1.0
_SUBDIVISION = (0.125, 0.5, 0.75, 0.5, 0.125)
_FINEST_SPACING = 2
_LEAST_PERIOD = 256
_LATTICES = (2, 3)
# Fewer coefficients along a period would wrap around to hardly anything but their mean.
_COARSEST = 4
# Octaves beyond those of the field: up to more than a hundred periods.
_OCTAVES_BEYOND = 9


def period_of(size: Size) -> int:
    """Pixels after which the field of a tile repeats: 2^n or 3 * 2^n, and half as much again as the tile at least."""
    least = max(_LEAST_PERIOD, max(size) * 3 // 2)
    return min(base << exponent for base in _LATTICES for exponent in range(32) if base << exponent >= least)


def periodic_field(
    seed: Int[Tensor, " r"], outer: Float[Tensor, " r"], inner: Float[Tensor, " r"], period: int
) -> Float[Tensor, "r n n"]:
    """Values at every second pixel, of mean 0 and variance 1 over many fields; periodic in both directions.

    What varies over more than the period is one number for the whole field: of clouds of many kilometres a tile sees
    the middle, the rim, or nothing.

    Args:
        seed: of each field.
        outer: scale in pixels beyond which the spectrum is flat: about the size of the largest clouds.
        inner: scale in pixels below which light spreads sideways in a cloud and smooths what is seen of it.
        period: in pixels, a lattice of 2 or 3 doubled some times.
    """
    spacings = [period >> level for level in range(32) if period % (1 << level) == 0 and period >> level > 0]
    lattices = [count for count in reversed(spacings) if _COARSEST <= count <= period // _FINEST_SPACING]
    coarsest = period / lattices[0]
    beyond = tuple(coarsest * 2.0**octave for octave in range(_OCTAVES_BEYOND, 0, -1))
    spacing = constant((*beyond, *(period / count for count in lattices)), torch.float64, outer.device)
    flatter = 1 + (spacing / outer.double()[:, None]) ** 2
    smoother = 1 + (inner.double()[:, None] / spacing) ** 2
    power = (spacing / flatter.sqrt()) ** (2 * _HURST) / flatter**2 / smoother ** (_SMOOTH_HURST - _HURST)
    share = power / power.sum(1, keepdim=True)
    # What is larger than the field is the same for all of it, but for a remainder that its largest lattice takes.
    alike = constant(tuple(_share_alike(period / length) for length in beyond), torch.float64, outer.device)
    larger, within = share[:, : len(beyond)], share[:, len(beyond) :].clone()
    within[:, 0] += (larger * (1 - alike)).sum(1)
    finer = [(lattices[-1] // count).bit_length() - 1 for count in lattices]
    kept = constant(tuple(_variance_after(times) for times in finer), torch.float64, outer.device)
    weight = (within / kept).sqrt().float()[:, :, None, None]
    shared = (larger * alike).sum(1).sqrt().float()[:, None, None]
    field: Tensor | None = None
    for level, count in enumerate(lattices):
        noise = standard_normal(seed, 1, count * count, stream=level).view(len(seed), count, count) * weight[:, level]
        field = noise if field is None else _refined(field).add_(noise)
    assert field is not None
    return field.add_(standard_normal(seed, 1, 1, stream=len(lattices)).view(-1, 1, 1) * shared)


@cache
def _share_alike(periods: float) -> float:
    """Of the variance of a spline surface with unit spacing, the share that a square of so many units has in common.

    The variance of its mean, the correlation along each axis taken as that of the Gaussian which the spline is near.
    """
    width = periods / math.sqrt(4 / 3)
    along = math.sqrt(math.pi) / width * math.erf(width) + math.expm1(-(width**2)) / width**2
    return along**2


@cache
def _variance_after(refinements: int) -> float:
    """Mean variance of a surface whose independent unit coefficients were refined so often."""
    response = [1.0]
    for _ in range(refinements):
        spread = [0.0] * (2 * len(response) + len(_SUBDIVISION) - 2)
        for index, value in enumerate(response):
            for step, share in enumerate(_SUBDIVISION):
                spread[2 * index + step] += value * share
        response = spread
    along: float = sum(value * value for value in response) / 2**refinements
    return along**2


def _refined(field: Float[Tensor, "r n n"]) -> Float[Tensor, "r m m"]:
    """Coefficients of the same spline surface on a lattice twice as fine (Lane and Riesenfeld, 1980)."""
    for axis in (1, 2):
        after = field.roll(-1, axis)
        even = (field.roll(1, axis) + after).mul_(0.125).add_(field, alpha=0.75)
        odd = (field + after).mul_(0.5)
        field = torch.stack((even, odd), dim=axis + 1).flatten(axis, axis + 1)
    return field


@dataclass(frozen=True, slots=True)
class CloudField(PlanPart):
    """The field of each row, and how a tile looks at it.

    Attributes:
        seed: of the field.
        outer: size of the largest clouds, pixels.
        inner: scale below which they look smooth, pixels.
        linear: from pixels of the tile to those of the field: turned, and drawn out for streaks.
        threshold: where the field exceeds it there is cloud.
        reach: optical thickness where the field exceeds the threshold by 1, times the share of light that a cloud
            scatters backwards.
    """

    seed: Int[Tensor, " r"]
    outer: Float[Tensor, " r"]
    inner: Float[Tensor, " r"]
    linear: Float[Tensor, "r 2 2"]
    threshold: Float[Tensor, " r"]
    reach: Float[Tensor, " r"]

    def excess(
        self, size: Size, surroundings: Surroundings, offset: Float[Tensor, "r 2"] | None = None, margin: int = 0
    ) -> Float[Tensor, "r h w"]:
        """The field less its threshold at every pixel of a tile.

        Args:
            size: of the tile.
            surroundings: where the field is kept for who else looks at it.
            offset: x and y in pixels of the tile: the field is looked up so much further.
            margin: pixels beyond the tile on each side that are looked at, too.
        """
        period, device = period_of(size), self.seed.device
        field = surroundings.shared(self.seed, lambda: periodic_field(self.seed, self.outer, self.inner, period))
        x = torch.arange(-margin, size.width + margin, device=device) - (size.width - 1) / 2
        y = torch.arange(-margin, size.height + margin, device=device)[:, None] - (size.height - 1) / 2
        linear, start = (part[..., None, None] for part in self.view(period, offset))
        across = linear[:, 0, 0] * x + (linear[:, 0, 1] * y + start[:, 0])
        down = linear[:, 1, 0] * x + (linear[:, 1, 1] * y + start[:, 1])
        return _looked_up(field, across, down) - self.threshold.float()[:, None, None]

    def view(
        self, period: int, offset: Float[Tensor, "r 2"] | None = None
    ) -> tuple[Float[Tensor, "r 2 2"], Float[Tensor, "r 2"]]:
        """From pixels about the middle of a tile to values of the periodic field: a linear map and a start."""
        start = self.linear.new_zeros(len(self.seed), 2) if offset is None else offset.to(self.linear)
        start = (self.linear.double() @ start.double()[..., None])[..., 0].remainder(period).float()
        return self.linear.float() * (1 / _FINEST_SPACING), start * (1 / _FINEST_SPACING)

    def thickness(self, excess: Float[Tensor, "r h w"]) -> Float[Tensor, "r h w"]:
        """Optical thickness times the share that is scattered backwards: it grows with the excess to the power 3/2.

        So a cloud has thin edges.
        """
        above = excess.clamp_min(0)
        return (above * above.sqrt()).mul_(self.reach.float()[:, None, None])

    def backscatter(self, excess: Float[Tensor, "r h w"]) -> Float[Tensor, "r h w"]:
        """Reflectance of a cloud that absorbs nothing: `x / (2 + x)`, x the backscattered optical thickness.

        Two-stream (Coakley and Chylek, 1975, Journal of the Atmospheric Sciences 32).
        """
        thickness = self.thickness(excess)
        return thickness / (thickness + 2)


# Bands see a cloud at most so many pixels beside the middle, and over as many pixels of the tile as these; further and
# wider counts as this much.
FARTHEST, WIDEST = 24, 16
# What a cloud does to light.
VEIL_LAYERS = 4


@dataclass(frozen=True, slots=True)
class CloudViews(PlanPart):
    """How the bands see a cloud: each from its own angle, and over its own pixels.

    Attributes:
        beside: whole pixels x and y of the tile, `FARTHEST` at most: what a band sees at a pixel lies so far from it.
        side: of the pixels of each group of bands, in whole pixels of the tile, `WIDEST` at most; the finest first.
        group: of every band.
    """

    beside: Int[Tensor, "r c 2"]
    side: Int[Tensor, "r g"]
    group: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class CloudVeil(TileMap):
    """Four maps of a cloud from above: what it hides of a pixel, what it reflects, its glow on clear air, its blur.

    Light passes twice, each time less what is thrown back. Of what comes up, a part was scattered forwards on its way
    and left the ground elsewhere, hundreds of metres and more from the pixel for a cloud so high: it carries the mean
    of the tile, and what is left of the pixel's own is hidden the more. Half of the scattered light is diffracted, by a
    degree and less, and counts as direct: `exp(-t / 2)` for an optical thickness t, by the first terms of its series.

    Attributes:
        field: of the cloud.
        blur: half of the optical thickness over what is scattered backwards of it.
        gain: from the stored values of the input to the values that the segment works on.
        offset: likewise.
        views: how bands see it; None: all in one way.
    """

    looks_at_pixels: ClassVar[bool] = True

    field: CloudField
    blur: Float[Tensor, " r"]
    gain: Float[Tensor, "r c"]
    offset: Float[Tensor, "r c"]
    views: CloudViews | None = None

    def preceded_by(self, terms: Terms) -> CloudVeil:
        """The same over pixels that these terms have changed before."""
        return replace(self, gain=self.gain * terms.gain, offset=self.gain * terms.offset + self.offset)

    def weighed(self, offset: Float[Tensor, "r c k"], surroundings: Surroundings) -> Float[Tensor, "r c k"]:
        means, shares = (part.double() for part in surroundings.coarse())
        ground = (means * shares).sum((2, 3)) / shares.sum((2, 3)).clamp_min(1e-6)
        ground = ground * self.gain.double() + self.offset.double()
        return torch.cat((offset[..., :-1], offset[..., -1:] * ground[..., None].to(offset)), dim=-1)

    def make(self, size: Size, surroundings: Surroundings) -> Float[Tensor, "r 4 h w"]:
        return self._layers(self.field.excess(size, surroundings))

    def by_band(self, size: Size, surroundings: Surroundings) -> BandMaps | None:
        if self.views is None:
            return None
        spare = WIDEST // 2
        layers = self._layers(self.field.excess(size, surroundings, margin=FARTHEST + spare))
        planes = [_mean_over(layers, side, spare) for side in self.views.side.unbind(1)]
        return BandMaps(torch.stack(planes, dim=1), self.views.beside, self.views.group, FARTHEST)

    def _layers(self, excess: Float[Tensor, "r h w"]) -> Float[Tensor, "r 4 h w"]:
        thickness = self.field.thickness(excess)
        reflected = thickness / (thickness + 2)
        through = 1 - reflected
        deep = thickness * self.blur.float()[:, None, None]
        direct = 1 / (1 + deep * (1 + deep * (0.5 + deep / 6)))
        # Half a deviation of the field away from an edge, clear air no longer glows.
        glow = (excess * 2 + 1).clamp_(0, 1)
        return torch.stack((1 - through * direct, reflected, glow * glow, through * (through - direct)), dim=1)


def _mean_over(layers: Float[Tensor, "r k y x"], side: Int[Tensor, " r"], spare: int) -> Float[Tensor, "r k h w"]:
    """Means of so many pixels about each one, `spare` pixels from the edges on; to the right and below where even."""
    if may_look(side) and bool((side == 1).all()):
        return layers[..., spare:-spare, spare:-spare].contiguous()
    if may_look(side):
        return torch.stack([_mean_of(row, many, spare) for row, many in zip(layers, side.tolist(), strict=True)])
    for axis in (3, 2):
        # Float64, for sums grow with the length of a line.
        sums = layers.double().cumsum(axis)
        sums = torch.cat((torch.zeros_like(sums.narrow(axis, 0, 1)), sums), dim=axis)
        length = layers.shape[axis] - 2 * spare
        place = torch.arange(length, device=side.device) + (spare - (side - 1) // 2)[:, None]
        place = place[:, None, None] if axis == 3 else place[:, None, :, None]
        shape = (*sums.shape[:axis], length, *sums.shape[axis + 1 :])
        many = side[:, None, None, None]
        after, before = (sums.gather(axis, at.expand(shape)) for at in (place + many, place))
        layers = ((after - before) / many).float()
    return layers


def _mean_of(layers: Float[Tensor, "k y x"], many: int, spare: int) -> Float[Tensor, "k h w"]:
    """`_mean_over` of one row: sums of 1, 2, 4, ... neighbours, of which some make up as many as are wanted."""
    for axis in (2, 1):
        length, at = layers.shape[axis] - 2 * spare, spare - (many - 1) // 2
        total: Tensor | None = None
        span, sums = 1, layers
        while True:
            if many & span:
                part = sums.narrow(axis, at, length)
                total = part / many if total is None else total.add_(part, alpha=1 / many)
                at += span
            if 2 * span > many:
                break
            shorter = sums.shape[axis] - span
            sums, span = sums.narrow(axis, 0, shorter) + sums.narrow(axis, span, shorter), 2 * span
        assert total is not None
        layers = total
    return layers


@dataclass(frozen=True, slots=True)
class CloudShade(TileMap):
    """How much of the direct sun a cloud takes from the ground: its own field, seen towards the sun.

    Attributes:
        field: of the cloud.
        offset: x and y from a shaded pixel to the cloud above which stands in its light, in pixels of the tile.
    """

    field: CloudField
    offset: Float[Tensor, "r 2"]

    def make(self, size: Size, surroundings: Surroundings) -> Float[Tensor, "r 1 h w"]:
        reflected = self.field.backscatter(self.field.excess(size, surroundings, self.offset))
        return (reflected * (2 - reflected))[:, None]


def _looked_up(
    field: Float[Tensor, "r n n"], x: Float[Tensor, "r h w"], y: Float[Tensor, "r h w"]
) -> Float[Tensor, "r h w"]:
    """Bilinear interpolation, wrapped around."""
    period = field.shape[-1]
    left, top = x.floor(), y.floor()
    share_x, share_y = x - left, y - top
    column, row = left.int().remainder_(period), top.int().remainder_(period)
    next_column, next_row = (column + 1).remainder_(period), (row + 1).remainder_(period)
    flat = field.flatten(1)

    def at(row: Tensor, column: Tensor) -> Tensor:
        return flat.gather(1, (row * period + column).long().flatten(1)).view_as(x)

    upper = torch.lerp(at(row, column), at(row, next_column), share_x)
    lower = torch.lerp(at(next_row, column), at(next_row, next_column), share_x)
    return torch.lerp(upper, lower, share_y)
