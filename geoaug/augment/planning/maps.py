"""Maps over a tile that modulate radiometry: a ramp, lines of the detector.

A map is a small set of numbers a row (a sample, or a date of a sample), and becomes pixels only where they are used.
It is a function of those numbers, and at most of the tile's own elevations and pixels, so it is the same in any batch.
Clouds are in `cloud_field`, terrain in `terrain`, what lies about a pixel in `adjacency`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from geoaug.augment.planning.matrices import Size
from geoaug.augment.planning.terms import Terms
from geoaug.augment.planning.tree import PlanPart
from geoaug.rng.noise import standard_normal

Axis = Literal["columns", "rows"]


class Surroundings:
    """What maps of one block of tiles look at besides their own numbers.

    Args:
        dem: elevation (r, 1, h, w) in metres, NaN where unknown; None where the batch has none.
        cells: makes the means of coarse cells of the input, which cover the output tile evenly: (r, c, n, m) in stored
            values, and the share of each cell that is valid (r, 1, n, m).
    """

    def __init__(
        self,
        dem: Float[Tensor, "r 1 h w"] | None = None,
        cells: Callable[[], tuple[Tensor, Tensor]] | None = None,
    ) -> None:
        self.dem = dem
        self._cells = cells
        self._means: tuple[Tensor, Tensor] | None = None
        self._made: list[tuple[Tensor, Tensor]] = []

    def coarse(self) -> tuple[Float[Tensor, "r c n m"], Float[Tensor, "r 1 n m"]]:
        """Means of coarse cells and their weights, made once."""
        if self._means is None:
            if self._cells is None:
                raise ValueError("a map looks at the pixels of its tile, and nothing gives them: pass cells=")
            self._means = self._cells()
        return self._means

    def shared(self, seed: Int[Tensor, " r"], make: Callable[[], Tensor]) -> Tensor:
        """What several maps make from one and the same tensor of seeds, made once."""
        for known, made in self._made:
            if known is seed:
                return made
        made = make()
        self._made.append((seed, made))
        return made


class TileMap(PlanPart, ABC):
    """What a segment may be modulated by; a subclass is a frozen dataclass whose tensors have a row for each row."""

    __slots__ = ()

    looks_at_pixels: ClassVar[bool] = False
    """Whether the map is made of the tile's pixels, and not of its own numbers alone."""

    def preceded_by(self, terms: Terms) -> TileMap:
        """The map of pixels that these terms have changed before; the same for all maps but those of pixels."""
        return self

    @abstractmethod
    def make(self, size: Size, surroundings: Surroundings) -> Tensor:
        """Float32 values (r, k, h, w) that broadcast over a tile: k maps, or one a band; h or w may be 1."""


@dataclass(frozen=True, slots=True)
class Ramp(TileMap):
    """A plane across the tile: `middle + across * x + down * y`, x and y from -1/2 to 1/2 between the tile's edges."""

    middle: Float[Tensor, " r"]
    across: Float[Tensor, " r"]
    down: Float[Tensor, " r"]

    def make(self, size: Size, surroundings: Surroundings) -> Float[Tensor, "r 1 h w"]:
        device = self.middle.device
        x = (torch.arange(size.width, device=device) + 0.5) / size.width - 0.5
        y = (torch.arange(size.height, device=device)[:, None] + 0.5) / size.height - 0.5

        def spread(value: Tensor) -> Tensor:
            return value.float()[:, None, None, None]

        return spread(self.across) * x + (spread(self.down) * y + spread(self.middle))


@dataclass(frozen=True, slots=True)
class Stripes(TileMap):
    """One standard normal number for each column (or row) of each band, cut at four deviations by its generator."""

    seed: Int[Tensor, " r"]
    bands: int
    axis: Axis

    def make(self, size: Size, surroundings: Surroundings) -> Float[Tensor, "r c h w"]:
        count = size.width if self.axis == "columns" else size.height
        lines = standard_normal(self.seed, self.bands, count)
        return lines[:, :, None, :] if self.axis == "columns" else lines[:, :, :, None]


@dataclass(frozen=True, slots=True)
class LostLines(TileMap):
    """1 in the lines of each band that are lost, else 0: a line is lost where its normal number is under `below`."""

    seed: Int[Tensor, " r"]
    below: Float[Tensor, " r"]
    bands: int
    axis: Axis

    def make(self, size: Size, surroundings: Surroundings) -> Float[Tensor, "r c h w"]:
        lines = Stripes(self.seed, self.bands, self.axis).make(size, surroundings)
        return (lines < self.below.float()[:, None, None, None]).float()
