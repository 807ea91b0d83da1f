"""What radiometry is made of: a short list of segments, run one after the other on pixels that stay in the cache.

Almost every operation is `Affine`: terms per band, possibly modulated by a map over the tile (a gradient of haze, a
cloud, a stripe). Neighbouring ones fold into one wherever the mathematics is closed. The others are what terms cannot
say: noise that is not normal (`GammaNoise`), steps and ceilings (`Steps`), neighbours (`Stencil`), another unit
(`Curve`). What a segment holds is decided here; how it runs on pixels is in `kernels.radiometry`.

Rows `r` are samples, or the dates of samples; bands `c` are those of one date.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from geoaug.augment.planning.band_grids import SMOOTH
from geoaug.augment.planning.maps import TileMap
from geoaug.augment.planning.terms import Terms
from geoaug.augment.planning.tree import PlanPart

ThickCloud = Literal["keep", "ignore", "invalid"]


@dataclass(frozen=True, slots=True)
class Annotation(PlanPart):
    """Labels that a map gives for free: where `maps[index]` exceeds a limit, pixels are of that class.

    Attributes:
        limits: ascending limits on the map.
        classes: class above each limit; a class written later wins over one written before.
        index: which of the maps.
        thick: what becomes of pixels above the last limit: "keep" them, set their label to "ignore", or make them
            "invalid".
    """

    limits: tuple[float, ...]
    classes: tuple[int, ...]
    index: int = 0
    thick: ThickCloud = "keep"


@dataclass(frozen=True, slots=True)
class Modulation(PlanPart):
    """Changes of gain and offset in proportion to the maps of a tile.

    Attributes:
        maps: makes k maps, or one for each band (then k is 1).
        gain: added to the gain of the terms per unit of a map; None where no map touches it.
        offset: added to their offset, likewise.
        applied: rows where the operation applies; the maps of the others are zero.
        annotation: labels that follow from the maps.
    """

    maps: TileMap
    gain: Float[Tensor, "r c k"] | None
    offset: Float[Tensor, "r c k"] | None
    applied: Bool[Tensor, " r"]
    annotation: Annotation | None = None


@dataclass(frozen=True, slots=True)
class Affine(PlanPart):
    """`y = G*x + O + sqrt(floor + slope*x)*n`, where G and O are those of the terms and what a map adds to them."""

    terms: Terms
    modulation: Modulation | None = None

    def where(self, applied: Bool[Tensor, " r"]) -> Affine:
        """This for the rows where `applied` is true, nothing for the others."""
        kept = self.modulation
        if kept is not None:
            kept = replace(
                kept,
                gain=_rows_where(applied, kept.gain, 0.0),
                offset=_rows_where(applied, kept.offset, 0.0),
                applied=kept.applied & applied,
            )
        return Affine(self.terms.where(applied), kept)

    def then(self, after: Affine) -> Affine | None:
        """Both as one; None where that is not affine in one set of maps."""
        if self.modulation is None and after.modulation is None:
            return Affine(self.terms.then(after.terms))
        if after.modulation is None:
            assert self.modulation is not None
            if after.terms.noisy:
                return None
            gain = after.terms.gain[..., None]
            scaled = replace(
                self.modulation,
                gain=None if self.modulation.gain is None else gain * self.modulation.gain,
                offset=None if self.modulation.offset is None else gain * self.modulation.offset,
            )
            return Affine(self.terms.then(after.terms), scaled)
        if self.modulation is not None or self.terms.noisy:
            return None
        held = after.modulation
        gain, offset = self.terms.gain[..., None], self.terms.offset[..., None]
        moved = held.offset if held.gain is None else held.gain * offset + (0.0 if held.offset is None else held.offset)
        folded = replace(
            held,
            maps=held.maps.preceded_by(self.terms),
            gain=None if held.gain is None else held.gain * gain,
            offset=moved,
        )
        # What the terms of the later one add in noise depends on x before the maps act, as it does here.
        return Affine(self.terms.then(after.terms), folded)


@dataclass(frozen=True, slots=True)
class GammaNoise(PlanPart):
    """`y = x * (1 - multiply + multiply * S) + add * S`, S gamma distributed with mean 1 and the given variance.

    Attributes:
        seed: of the noise.
        variance: of S; its shape parameter is 1 / variance.
        multiply: 1 where x itself speckles, 0 where it does not.
        add: mean of what is added, in units of x.
        side: weight of the neighbours on either side, along x and y, in the normal number that S is made of; zeros, or
            None, where S is independent from pixel to pixel. The pixel's own weight keeps the variance.
    """

    seed: Int[Tensor, " r"]
    variance: Float[Tensor, " r"]
    multiply: Float[Tensor, " r"]
    add: Float[Tensor, "r c"]
    applied: Bool[Tensor, " r"]
    side: Float[Tensor, "r 2"] | None = None

    def lattice(self) -> Float[Tensor, "r c 4"] | None:
        """Where and how its normal numbers are drawn, as in `BandGrids`; None: one at every pixel."""
        if self.side is None:
            return None
        one = torch.ones_like(self.side[:, :1])
        numbers = torch.cat((one, self.side, SMOOTH * one), dim=1).float()
        return numbers[:, None].expand(-1, self.add.shape[1], -1)

    def where(self, applied: Bool[Tensor, " r"]) -> GammaNoise:
        """This for the rows where `applied` is true, nothing for the others."""
        return replace(
            self,
            variance=torch.where(applied, self.variance, 0.0),
            multiply=torch.where(applied, self.multiply, 0.0),
            add=torch.where(applied[:, None], self.add, 0.0),
            applied=self.applied & applied,
        )


@dataclass(frozen=True, slots=True)
class Steps(PlanPart):
    """A ceiling, then rounding to multiples of a step: saturation and quantisation.

    Attributes:
        ceiling: greatest value, inf for none.
        step: of the rounding, 0 for none.
    """

    ceiling: Float[Tensor, "r c"]
    step: Float[Tensor, "r c"]
    applied: Bool[Tensor, " r"]

    def where(self, applied: Bool[Tensor, " r"]) -> Steps:
        """This for the rows where `applied` is true, nothing for the others."""
        keep = applied[:, None]
        return Steps(
            torch.where(keep, self.ceiling, torch.inf), torch.where(keep, self.step, 0.0), self.applied & applied
        )


class StencilKernel(PlanPart, ABC):
    """What a stencil does to pixels; a subclass is a frozen dataclass, and everything that is drawn stands in it.

    Its tensors have one row for each row of the image (a sample, or a date of a sample): a block of samples is run with
    the rows of those samples alone. Float64 tensors arrive as float32. Several threads call `apply` at once, on
    different samples, so it changes nothing but what it has made; and as other samples may be run beside this one, or
    not, nothing may be computed across rows.
    """

    __slots__ = ()

    @abstractmethod
    def apply(self, values: Float[Tensor, "r c h w"], valid: Bool[Tensor, "r 1 h w"]) -> Float[Tensor, "r c h w"]:
        """The changed image, in memory of its own, on the device of `values`.

        Args:
            values: float32 reflectance or power (of a whole tile: beyond it nothing is known); anything where invalid.
            valid: where pixels hold data. What is given for others is not used.
        """


@dataclass(frozen=True, slots=True)
class Stencil(PlanPart):
    """An operation that looks at neighbours."""

    kernel: StencilKernel
    applied: Bool[Tensor, " r"]

    def where(self, applied: Bool[Tensor, " r"]) -> Stencil:
        """This for the rows where `applied` is true, nothing for the others."""
        return replace(self, applied=self.applied & applied)


@dataclass(frozen=True, slots=True)
class Curve(PlanPart):
    """Values in another unit: backscatter from power to "amplitude" or "db"; a display value as the "light" that it
    stands for, and light as a "display" value, both 0 to 1 from black to white (`geoaug.sensors.srgb`)."""

    unit: Literal["amplitude", "db", "light", "display"]


Segment = Affine | GammaNoise | Steps | Stencil | Curve
OperationSegment = Affine | GammaNoise | Steps | Stencil


def folded(segments: tuple[OperationSegment, ...], segment: OperationSegment) -> tuple[OperationSegment, ...]:
    """The list with one more segment, folded into the last one where they are one."""
    if segments and isinstance(segment, Affine) and isinstance(segments[-1], Affine):
        joined = segments[-1].then(segment)
        if joined is not None:
            return (*segments[:-1], joined)
    return (*segments, segment)


def _rows_where(applied: Bool[Tensor, " r"], value: Tensor | None, otherwise: float) -> Tensor | None:
    return None if value is None else torch.where(applied[:, None, None], value, otherwise)
