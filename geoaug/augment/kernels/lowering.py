"""A fused stage as compiled executors run it: point-wise steps with their numbers, between stencils.

Segments are made for reading; here they become arrays: one row of eight numbers a step, sample and band, the
noise with its keys, and the layers that modulate steps, each as what it takes to work it out at a pixel. Both
compiled executors, for the CPU and for CUDA, run the same programs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import assert_never

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from geoaug.augment.kernels.arrays import (
    AFFINE,
    AMPLITUDE,
    CELLS,
    DECIBEL,
    DISPLAY,
    GAMMA,
    LIGHT,
    LINES,
    NORMAL,
    NUMBERS,
    PLANES,
    RAMP,
    SEEN,
    SHADE,
    STEPS,
    TERMS,
    VEIL,
)
from geoaug.augment.kernels.coarse import coarse_shape
from geoaug.augment.kernels.portable import Encoding
from geoaug.augment.kernels.radiometry import certainly, cube_of_normal
from geoaug.augment.physics.adjacency import Background
from geoaug.augment.physics.cloud_field import (
    VEIL_LAYERS,
    CloudField,
    CloudShade,
    CloudVeil,
    period_of,
    periodic_field,
)
from geoaug.augment.planning.band_grids import BandGrids
from geoaug.augment.planning.maps import BandMaps, Ramp, Stripes, Surroundings, TileMap
from geoaug.augment.planning.matrices import Size
from geoaug.augment.planning.segments import Affine, Annotation, Curve, GammaNoise, Modulation, Segment, Stencil, Steps
from geoaug.small_arrays import constant, runs_by_numpy

_CURVES = {"amplitude": AMPLITUDE, "db": DECIBEL, "light": LIGHT, "display": DISPLAY}

Pointwise = Affine | GammaNoise | Steps | Curve


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """One step of a program.

    Attributes:
        kind: AFFINE: gain, offset, floor, slope; NORMAL: none; GAMMA: shift, scale, multiply, add; STEPS: ceiling,
            step; AMPLITUDE, DECIBEL, LIGHT, DISPLAY: none.
        terms: those numbers; the last four tell the lattice of its noise (`planning.band_grids`), zeros where the band
            has a pixel for each of the tile.
        lattice: whether any may be other than zero.
        source: which of the program's sources modulates it, or -1.
        noisy: whether floor and slope may be other than zero.
        key: of the noise of each band.
        channel: likewise.
        stream: likewise, of all.
    """

    kind: int
    terms: Float[Tensor, "b n 8"]
    source: int = -1
    noisy: bool = False
    lattice: bool = False
    key: Int[Tensor, "b n"] | None = None
    channel: Int[Tensor, " n"] | None = None
    stream: int = 0


@dataclass(frozen=True, slots=True)
class Source:
    """Where the layers of one modulation come from.

    Attributes:
        kind: PLANES: read from `values` (r, k, h, w), k layers or one for each band, h or w perhaps 1; RAMP: a plane
            of three `numbers`; LINES: lines in `values` (r, c, n), looked up at such a plane; VEIL and SHADE: a
            periodic field in `values` (r, n, n), seen as `numbers` say; CELLS: coarse cells that cover the tile evenly
            in `values` (r, c, n, m), linear between their middles; SEEN: read from `values` (r, k, y, x), which reach
            beyond the tile, each band as `views` say.
        layers: how many layers there are at a pixel and band.
        by_band: whether every band has its own.
        values: see `kind`.
        numbers: see `kind`.
        applied: rows that have layers; elsewhere they are zero.
        gain: added to a step's gain per unit of each layer.
        offset: added to its offset.
        annotation: labels that follow.
        mixing: what makes cells of the means of the input: share of aerosol, gain, offset, bend and path; then the
            first of `numbers` is the side of a pixel in metres.
        views: of every band, and last of labels: which group of layers is seen, and the line and column of `values`
            that the tile begins at.
    """

    kind: int
    layers: int
    by_band: bool
    values: Tensor | None
    numbers: Float[Tensor, "r 9"] | None
    applied: Bool[Tensor, " r"]
    gain: Float[Tensor, "b n k"] | None
    offset: Float[Tensor, "b n k"] | None
    annotation: Annotation | None
    mixing: Float[Tensor, "r c 5"] | None = None
    views: Int[Tensor, "r c1 3"] | None = None


@dataclass(frozen=True, slots=True)
class Program:
    """Point-wise steps between two stencils, and the stencil that follows them (None after the last)."""

    steps: tuple[Step, ...]
    sources: tuple[Source, ...]
    stencil: Stencil | None = None


@dataclass
class Lowering:
    """Programs in the making.

    Args:
        key: of the samples.
        stream: the first normal noise of the stage.
        dates: rows of a sample.
        bands: of one date.
        size: of the output tile.
        surroundings: what maps look at.
        grids: where the pixels of bands that are coarser than the tile lie.
        fills_cells: whether who runs the programs works out the surroundings of pixels; else it is done here.
        by_band: makes maps that bands see apart, and is told how many have been made; None: torch does.
        apart: how many that are.
    """

    key: Int[Tensor, " b"]
    stream: int
    dates: int
    bands: int
    size: Size
    surroundings: Surroundings = field(default_factory=Surroundings)
    grids: BandGrids | None = None
    fills_cells: bool = False
    by_band: Callable[[TileMap, Size, Surroundings, int], BandMaps | None] | None = None
    apart: int = 0

    def programs(self, segments: Sequence[Segment]) -> list[Program]:
        """The segments as programs, a stencil between one and the next."""
        programs: list[Program] = []
        steps: list[Step] = []
        sources: list[Source] = []
        pending = False
        for segment in segments:
            if pending and not isinstance(segment, Affine):
                steps.append(self._normal())
                pending = False
            if isinstance(segment, Stencil):
                if certainly(~segment.applied):
                    continue
                programs.append(Program(tuple(steps), tuple(sources), segment))
                steps, sources = [], []
                continue
            if isinstance(segment, Affine):
                pending = pending or segment.terms.noisy
                if segment.modulation is not None and not certainly(~segment.modulation.applied):
                    sources.append(self._source(segment.modulation, segment.terms.noisy))
                    steps.append(self._step(segment, len(sources) - 1))
                    continue
            steps.append(self._step(segment, -1))
        if pending:
            steps.append(self._normal())
        programs.append(Program(tuple(steps), tuple(sources)))
        return programs

    def _normal(self) -> Step:
        bands = self.dates * self.bands
        channel = torch.arange(bands, device=self.key.device)
        key = self.key[:, None].expand(-1, bands)
        self.stream += 1
        lattice = () if self.grids is None else (None, None, None, None, *self.grids.numbers.unbind(-1))
        return Step(
            NORMAL,
            self._numbers(*lattice),
            lattice=self.grids is not None,
            key=key,
            channel=channel,
            stream=self.stream - 1,
        )

    def _step(self, segment: Pointwise, source: int) -> Step:
        match segment:
            case Affine(terms=terms):
                numbers = self._numbers(terms.gain, terms.offset, terms.floor, terms.slope)
                return Step(AFFINE, numbers, source, terms.noisy)
            case GammaNoise():
                shift, scale = cube_of_normal(segment.variance.double())
                rows = (part.float()[:, None].expand(-1, self.bands) for part in (shift, scale, segment.multiply))
                key = self._by_sample(segment.seed[:, None].expand(-1, self.bands))
                channel = torch.arange(self.bands, device=self.key.device).repeat(self.dates)
                lattice = segment.lattice()
                numbers = self._numbers(*rows, segment.add, *(() if lattice is None else lattice.unbind(-1)))
                return Step(GAMMA, numbers, lattice=lattice is not None, key=key, channel=channel)
            case Steps():
                return Step(STEPS, self._numbers(segment.ceiling, segment.step))
            case Curve(unit=unit):
                return Step(_CURVES[unit], self._numbers())
            case _:
                assert_never(segment)

    def _numbers(self, *columns: Tensor | None) -> Float[Tensor, "b n 8"]:
        shape = (len(self.key), self.dates * self.bands, TERMS)
        if runs_by_numpy(self.key, columns):
            rows = np.zeros((shape[0] * self.dates, self.bands, TERMS), np.float32)
            for number, column in enumerate(columns):
                if column is not None:
                    rows[..., number] = column.numpy()
            return torch.from_numpy(rows.reshape(shape))
        numbers = torch.zeros(shape, dtype=torch.float32, device=self.key.device)
        for number, column in enumerate(columns):
            if column is not None:
                numbers[..., number] = self._by_sample(column)
        return numbers

    def _by_sample(self, rows: Tensor) -> Tensor:
        """Rows of dates (b*t, c, ...) as bands of samples (b, t*c, ...)."""
        samples, bands = len(self.key), self.dates * self.bands
        every = rows.expand(samples * self.dates, self.bands, *rows.shape[2:])
        return every.reshape(samples, bands, *rows.shape[2:])

    def _source(self, modulation: Modulation, noisy: bool) -> Source:
        maps = modulation.maps
        offset = modulation.offset
        if offset is not None:
            offset = maps.weighed(offset, self.surroundings)
        weights = [None if part is None else self._by_sample(part.float()) for part in (modulation.gain, offset)]
        values: Tensor | None = None
        numbers: Tensor | None = None
        mixing: Tensor | None = None
        views: Tensor | None = None
        layers, by_band = 1, False
        kind = PLANES
        if isinstance(maps, Ramp):
            kind = RAMP
            numbers = _in_columns(torch.stack((maps.middle, maps.across, maps.down), dim=1))
        elif isinstance(maps, Stripes):
            kind, by_band = LINES, True
            values, numbers = maps.table(self.size).contiguous(), _in_columns(maps.lines.place)
        elif (seen := self._seen(maps)) is not None:
            kind, by_band, layers = SEEN, True, seen.planes.shape[2]
            values, views = seen.planes.flatten(1, 2), _views(seen)
        elif isinstance(maps, CloudVeil):
            kind, layers = VEIL, VEIL_LAYERS
            values, numbers = field_and_numbers(maps.field, maps.blur, None, self.size, self.surroundings)
        elif isinstance(maps, CloudShade):
            kind = SHADE
            nothing = torch.zeros_like(maps.field.reach)
            values, numbers = field_and_numbers(maps.field, nothing, maps.offset, self.size, self.surroundings)
        elif isinstance(maps, Background) and modulation.gain is None and not noisy:
            kind, by_band = CELLS, True
            if self.fills_cells:
                numbers = _in_columns(maps.gsd_m[:, None])
                mixing = torch.stack((maps.aerosol, maps.gain, maps.offset, maps.bend, maps.path), dim=-1)
                values = torch.empty(*maps.aerosol.shape, *coarse_shape(self.size))
            else:
                values = maps.cells(self.size, self.surroundings)
        else:
            values = maps.make(self.size, self.surroundings).float()
            known = next(part for part in (modulation.gain, modulation.offset) if part is not None)
            layers = known.shape[2]
            by_band = layers == 1 and values.shape[1] > 1
        return Source(
            kind,
            layers,
            by_band,
            values,
            numbers,
            modulation.applied,
            weights[0],
            weights[1],
            modulation.annotation,
            mixing,
            views,
        )

    def _seen(self, maps: TileMap) -> BandMaps | None:
        if self.by_band is None:
            return maps.by_band(self.size, self.surroundings)
        self.apart += 1
        return self.by_band(maps, self.size, self.surroundings, self.apart)


def field_and_numbers(
    cloud: CloudField, blur: Float[Tensor, " r"], offset: Tensor | None, size: Size, surroundings: Surroundings
) -> tuple[Float[Tensor, "r n n"], Float[Tensor, "r 9"]]:
    """The periodic field of clouds, and how a tile looks at it."""
    period = period_of(size)
    values = surroundings.shared(cloud.seed, lambda: periodic_field(cloud.seed, cloud.outer, cloud.inner, period))
    linear, start = cloud.view(period, offset)
    numbers = (linear.flatten(1), start, cloud.threshold[:, None], cloud.reach[:, None], blur[:, None])
    return values, torch.cat([part.float() for part in numbers], dim=1)


def _views(seen: BandMaps) -> Int[Tensor, "r c1 3"]:
    """Of every band, and last of labels: which group, and where its tile begins, line and column."""
    beside, device = seen.beside, seen.beside.device
    every = torch.cat((beside.flip(2), torch.zeros_like(beside[:, :1])), dim=1) + seen.margin
    group = constant((*seen.group, seen.middle), torch.int64, device)
    return torch.cat((group[:, None].expand(len(beside), -1, 1), every), dim=2)


def _in_columns(numbers: Tensor) -> Float[Tensor, "r 9"]:
    wide = torch.zeros(len(numbers), NUMBERS, dtype=torch.float32, device=numbers.device)
    wide[:, : numbers.shape[1]] = numbers
    return wide


# What becomes of pixels under thick clouds, as bits.
THICK = {"keep": 0, "ignore": 1, "invalid": 2}


def layout_of(source: Source, rows: int) -> tuple[int, int, int, int, int]:
    """Strides of rows, layers, lines and columns, 0 along what broadcasts; and how long a field or a line is."""
    values = source.values
    if values is None:
        return (0, 0, 0, 0, 0)
    if source.kind == LINES:
        bands, lines = values.shape[1:]
        return (bands * lines, lines, 0, 0, lines)
    if source.kind == CELLS:
        bands, down, across = values.shape[1:]
        return (bands * down * across, down * across, across, 1, down)
    if source.kind not in (PLANES, SEEN):
        period = values.shape[-1]
        return (period * period, 0, 0, 0, period)
    _, deep, high, wide = values.shape
    by_row = deep * high * wide if len(values) == rows else 0
    return (by_row, high * wide if deep > 1 else 0, wide if high > 1 else 0, 1 if wide > 1 else 0, 0)


def limits_of(encoding: Encoding) -> tuple[float, float, float]:
    """Least and greatest value that is written, and what steps aside from the fill value; zeros for floats."""
    if encoding.dtype.is_floating_point:
        return 0.0, 0.0, 0.0
    limits = torch.iinfo(encoding.dtype)
    # A valid pixel does not take the value that says "no data": it takes the next one.
    if encoding.reserve_fill and encoding.fill == limits.min:
        return limits.min + 1.0, float(limits.max), 0.0
    step = 0.0 if not encoding.reserve_fill else 1.0 if encoding.fill < limits.max else -1.0
    return float(limits.min), float(limits.max), step
