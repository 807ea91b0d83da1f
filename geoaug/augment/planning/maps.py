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

from geoaug.augment.planning.band_grids import BandGrids, taps
from geoaug.augment.planning.matrices import Size
from geoaug.augment.planning.terms import Terms
from geoaug.augment.planning.tree import PlanPart
from geoaug.rng.noise import standard_normal
from geoaug.small_arrays import constant

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


@dataclass(frozen=True, slots=True)
class BandMaps:
    """Maps that each band sees beside where others do, and in its own way.

    Attributes:
        planes: k maps for each group of bands that see them in one way, on the tile and `margin` pixels about it.
        beside: of every band, whole pixels x and y, `margin` at most: what it sees at a pixel lies so far from there.
        group: of every band.
        margin: see there.
        middle: the group that sees most sharply; beside nothing, it is what labels are made of.
    """

    planes: Float[Tensor, "r g k y x"]
    beside: Int[Tensor, "r c 2"]
    group: tuple[int, ...]
    margin: int
    middle: int = 0

    def layer(self, index: int, size: Size) -> Float[Tensor, "r c h w"]:
        """One of the maps as every band sees it."""
        rows, bands = self.beside.shape[:2]
        if not may_look(self.planes):
            device = self.planes.device
            start = self.beside + self.margin
            y = torch.arange(size.height, device=device) + start[..., 1:]
            x = torch.arange(size.width, device=device) + start[..., :1]
            row = torch.arange(rows, device=device)[:, None, None, None]
            group = constant(self.group, torch.int64, device)[:, None, None]
            return self.planes[row, group, index, y[..., None], x[:, :, None]]
        out = torch.empty(rows, bands, *size)
        for sample, places in enumerate(self.beside.tolist()):
            for band, (right, below) in enumerate(places):
                plane = self.planes[sample, self.group[band], index]
                left, top = right + self.margin, below + self.margin
                out[sample, band].copy_(plane[top : top + size.height, left : left + size.width])
        return out

    def labels(self, index: int, size: Size) -> Float[Tensor, "r h w"]:
        """One of the maps where it is."""
        inner = slice(self.margin, self.margin + size.height), slice(self.margin, self.margin + size.width)
        return self.planes[:, self.middle, index, inner[0], inner[1]]


class TileMap(PlanPart, ABC):
    """What a segment may be modulated by; a subclass is a frozen dataclass whose tensors have a row for each row."""

    __slots__ = ()

    looks_at_pixels: ClassVar[bool] = False
    """Whether the map is made of the tile's pixels, and not of its own numbers alone."""

    def preceded_by(self, terms: Terms) -> TileMap:
        """The map of pixels that these terms have changed before; the same for all maps but those of pixels."""
        return self

    def cells(self, size: Size, surroundings: Surroundings) -> Float[Tensor, "r c n m"] | None:
        """Where the map is bilinear between the middles of a few cells that cover the tile evenly, those; else None."""
        return None

    def by_band(self, size: Size, surroundings: Surroundings) -> BandMaps | None:
        """The maps where bands see them apart; None where all see what `make` makes."""
        return None

    def weighed(self, offset: Float[Tensor, "r c k"], surroundings: Surroundings) -> Float[Tensor, "r c k"]:
        """What the maps add to the offset of a segment per unit, where that depends on the tile's pixels, too."""
        return offset

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
class Lines(PlanPart):
    """Lines of the image as it was read, each band's as wide as its own pixels, and where they lie on the tile.

    Attributes:
        place: of pixel (x, y) of the tile across the lines, in pixels as read, of which the first is number 2:
            `place[0] * x + place[1] * y + place[2]`.
        numbers: of every band: its lines lie at `i * numbers[0] + numbers[1]` for the pixel i that was read, and how
            they came to it, as in `BandGrids`; zeros where there is a line for each pixel.
    """

    place: Float[Tensor, "r 3"]
    numbers: Float[Tensor, "r c 3"]

    @staticmethod
    def of(
        source: Float[Tensor, "r 2 3"] | None,
        grids: BandGrids | None,
        axis: Axis,
        like: Float[Tensor, "r c"],
    ) -> Lines:
        """The lines along an axis of the image as it was read.

        Args:
            source: from pixels of the tile to those that were read; None: nothing has moved.
            grids: the pixels of the bands on the image as it was read; None: none are coarser.
            axis: along which the lines run.
            like: rows and bands.
        """
        rows, bands = like.shape
        way = 0 if axis == "columns" else 1
        place = torch.zeros(rows, 3, dtype=torch.float64, device=like.device)
        if source is None:
            place[:, way] = 1.0
        else:
            place.copy_(source[:, way])
        place[:, 2] += _BEFORE
        if grids is None:
            return Lines(place.float(), torch.zeros(rows, bands, 3, device=like.device))
        inverse, start, kernel = grids.numbers[..., 0], grids.numbers[..., 1 + way], grids.numbers[..., 3]
        # From the pixel that is number 0; a line of a band begins before it.
        first = torch.where(kernel > 0, start.double() + _BEFORE * (1 - inverse.double()), 0.0)
        return Lines(place.float(), torch.stack((inverse, first.float(), kernel), dim=-1))

    def count(self, size: Size) -> int:
        """Pixels that were read, across the lines, from number 0 to the last that a tile sees."""
        if not may_look(self.place):
            return _MOST_SHRUNK * (size.width + size.height)
        across, down, begin = self.place.unbind(1)
        last = begin + (across * (size.width - 1)).clamp_min(0) + (down * (size.height - 1)).clamp_min(0)
        return max(int(last.max()), 0) + 2


# Pixels that are counted before the first that was read, of the tile and of a band: interpolation looks at one. And
# lines that no band has more than the tile has pixels.
_BEFORE, _SPARE = 2, 8
# Where nobody may look how many lines a tile sees, they repeat beyond as many of its sides.
_MOST_SHRUNK = 3


@dataclass(frozen=True, slots=True)
class Stripes(TileMap):
    """One standard normal number for each line of each band, cut at four deviations by its generator."""

    seed: Int[Tensor, " r"]
    lines: Lines

    def table(self, size: Size) -> Float[Tensor, "r c n"]:
        """The numbers at the pixels that were read, across the lines."""
        return interpolated_lines(self._of_lines(self._drawn(size)), self.lines.numbers, self.lines.count(size))

    def make(self, size: Size, surroundings: Surroundings) -> Float[Tensor, "r c h w"]:
        return looked_up(self.table(size), self.lines.place, size)

    def _drawn(self, size: Size) -> Float[Tensor, "r c n"]:
        counters = -(-(self.lines.count(size) + _SPARE) // 8)
        bands = self.lines.numbers.shape[1]
        # Eight neighbours share a counter: how many lines there are changes none of them.
        drawn = standard_normal(self.seed, bands, 8 * counters)
        return drawn.view(len(drawn), bands, 8, counters).transpose(2, 3).flatten(2)

    def _of_lines(self, drawn: Float[Tensor, "r c n"]) -> Float[Tensor, "r c n"]:
        return drawn


@dataclass(frozen=True, slots=True)
class LostLines(Stripes):
    """1 in the lines of each band that are lost, else 0: a line is lost where its normal number is under `below`."""

    below: Float[Tensor, " r"]

    def _of_lines(self, drawn: Float[Tensor, "r c n"]) -> Float[Tensor, "r c n"]:
        return (drawn < self.below.float()[:, None, None]).float()


def interpolated_lines(
    lines: Float[Tensor, "r c n"], numbers: Float[Tensor, "r c 3"], count: int
) -> Float[Tensor, "r c m"]:
    """Lines of bands at the pixels that were read; as they are where there is one for each."""
    inverse, start, kernel = numbers.unbind(-1)
    fine = kernel[..., None] == 0
    index, weights = taps(count, inverse, start, kernel)
    total = torch.zeros(*lines.shape[:2], count, device=lines.device)
    for tap, weight in enumerate(weights):
        total.addcmul_(lines.gather(2, index + tap), weight)
    return torch.where(fine, lines[..., :count], total)


def looked_up(table: Float[Tensor, "r c n"], place: Float[Tensor, "r 3"], size: Size) -> Float[Tensor, "r c h w"]:
    """Lines at every pixel of a tile, linear between two of them."""
    device, last, rows = table.device, table.shape[2] - 1, len(table)
    x = torch.arange(size.width, device=device, dtype=torch.float32)
    y = torch.arange(size.height, device=device, dtype=torch.float32)[:, None]
    across, down, begin = (part[:, None, None] for part in place.unbind(1))
    # Along lines nothing changes; what is looked up once is the same to the bit.
    if may_look(place) and bool((place[:, 1] == 0).all()):
        y = y[:1]
    elif may_look(place) and bool((place[:, 0] == 0).all()):
        x = x[:1]
    # Before the first pixel that was read there is no data.
    at = (across * x + (down * y + begin)).clamp_min(0)
    below = at.floor()
    share = (at - below)[:, None]
    flat = below.long().remainder_(last).flatten(1)[:, None].expand(-1, table.shape[1], -1)
    shape = (rows, table.shape[1], *at.shape[1:])
    here, after = table.gather(2, flat).view(shape), table.gather(2, flat + 1).view(shape)
    return (here + share * (after - here)).expand(-1, -1, *size).contiguous()


def may_look(tensor: Tensor) -> bool:
    """Whether shapes may follow from values: not where a device would have to be waited for, nor while compiling."""
    return tensor.device.type == "cpu" and not torch.compiler.is_compiling()
