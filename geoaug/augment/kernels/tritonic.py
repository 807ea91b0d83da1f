"""The Triton executor: every fused stage, or the part of one between two stencils, is one launch.

Everything that a launch reads lies on the device already, and nothing of it is looked at here: no call waits.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
from jaxtyping import Bool, Float
from torch import Tensor

from geoaug.augment.kernels import stencils, warp
from geoaug.augment.kernels.arrays import NUMBERS
from geoaug.augment.kernels.lattice import GROUP, groups_of
from geoaug.augment.kernels.lowering import THICK, Lowering, Program, Source, Step, layout_of, limits_of
from geoaug.augment.kernels.portable import Encoding, Work, empty_output, surroundings_of
from geoaug.augment.kernels.sampling import Pixels, moved_elevation, weighted, with_finite_validity
from geoaug.augment.kernels.triton_kernel import draw_lattice, fused
from geoaug.augment.kernels.two_pass import Sharp, resampled, taps_for, two_passes
from geoaug.augment.planning import matrices
from geoaug.augment.planning.band_grids import MARGIN
from geoaug.augment.planning.segments import Stencil
from geoaug.rng.noise import few_normal_quantiles
from geoaug.small_arrays import constant

_UNITS = {None: 0, "amplitude": 1, "db": 2}

# Noise counters of a program instance, each of which serves eight pixels.
_BLOCK = 64
_WARPS = 4


def execute(pixels: Pixels, work: Work, encoding: Encoding) -> Pixels:
    """Run one fused stage; see `portable.execute`."""
    out = empty_output(pixels, work, encoding)
    if out.image.numel() == 0:
        return out
    given = with_finite_validity(pixels)
    dates, bands = work.dates, given.image.shape[1]
    elevation = None
    if given.dem is not None and out.dem is not None:
        out.dem.copy_(
            moved_elevation(given.dem, *warp.sampling_coordinates(work.matrix, work.size), exact=work.nearest)
        )
        elevation = out.dem
    around = surroundings_of(given, work.matrix, work, elevation)
    lowering = Lowering(work.key, work.stream, dates, bands // dates, work.size, around, work.grids)
    programs = lowering.programs(work.segments)
    launch = _Launch(given, work, encoding, out)
    for program in programs:
        launch.run(program)
    return out


class _Launch:
    """The launches of one stage: what all of them share, and where the next one reads."""

    def __init__(self, given: Pixels, work: Work, encoding: Encoding, out: Pixels) -> None:
        self._work, self._encoding, self._out = work, encoding, out
        self._given, self._matrix = given, work.matrix
        device = given.image.device
        flags = len(given.image) * work.dates * work.size.height * work.size.width if out.cloud is not None else 1
        self._flags = torch.zeros(flags, dtype=torch.uint8, device=device)
        self._nothing = torch.zeros(1, dtype=torch.int32, device=device)
        self._first = True
        self._sharp = _resampled(given, work) if work.sharp else None

    def run(self, program: Program) -> None:
        """Launch a program, and the stencil after it."""
        last = program.stencil is None
        image, out = self._out.image, self._out
        assert out.valid is not None
        if not last:
            image = torch.empty(image.shape, device=image.device, dtype=torch.float32)
        self._launch(program, image, last)
        if program.stencil is None:
            return
        changed = _filtered(image, out.valid, program.stencil, self._work.dates)
        # Labels have moved with the first launch; later ones only take some away.
        self._given = Pixels(changed, out.valid.clone(), out.mask, None)
        self._matrix = matrices.identity(len(image), image.device)
        self._first, self._sharp = False, None

    def _launch(self, program: Program, image: Tensor, last: bool) -> None:
        work, encoding, given, out = self._work, self._encoding, self._given, self._out
        source = given.image
        device = source.device
        samples, bands, height, width = source.shape
        size, nothing = work.size, self._nothing
        blocks = -(-size.height * size.width // 8)
        first = self._first
        apart = first and work.band_shift is not None
        most = work.most_places if first else 1
        decoding = work.decoding if first else None
        untouched = first and work.untouched and decoding is not None
        labelled = out.cloud is not None
        masked = given.mask is not None
        packed, statics = _packed(program, samples, bands, work.dates, device)
        terms = torch.stack([step.terms for step in program.steps]) if program.steps else nothing
        noisy = [step for step in program.steps if step.key is not None]
        keys = torch.stack([step.key for step in noisy if step.key is not None]) if noisy else nothing
        channels = torch.stack([step.channel for step in noisy if step.channel is not None]) if noisy else nothing
        points, lattices, cells = self._lattices(program, noisy, terms, keys, channels, bands)
        low, high, avoid = limits_of(encoding) if last else (0.0, 0.0, 0.0)
        whole = last and not encoding.dtype.is_floating_point
        shift, span = _apart(work) if apart else (nothing, nothing)
        pending, carried = [], False
        for step in program.steps:
            pending.append(carried)
            carried = (carried or step.noisy) and step.key is None
        assert out.valid is not None
        mask, moved = self._labels() if masked else (nothing, nothing)
        ignore = encoding.ignore_index
        planes, everywhere = (nothing, None) if self._sharp is None else (self._sharp.values, self._sharp.whole)
        strides = image.stride()
        fused[(triton.cdiv(blocks, _BLOCK), samples)](
            source,
            nothing if given.valid is None else given.valid.contiguous().view(torch.uint8),
            mask,
            image,
            out.valid.view(torch.uint8),
            moved,
            out.cloud if out.cloud is not None else nothing,
            self._flags,
            warp.sampling_terms(self._matrix, size),
            warp.places_averaged(self._matrix, most),
            shift,
            span,
            planes,
            nothing if everywhere is None else everywhere.contiguous().view(torch.uint8),
            matrices.is_exact(work.matrix).to(torch.int32) if untouched else nothing,
            torch.stack((decoding.offset, decoding.quantification), dim=1).expand(bands // work.dates, 2).contiguous()
            if decoding is not None
            else nothing,
            terms,
            keys,
            channels,
            *packed,
            few_normal_quantiles(device),
            lattices,
            samples,
            *source.stride(),
            height,
            width,
            strides[0],
            strides[1],
            strides[3],
            size.height,
            size.width,
            bands,
            blocks,
            cells,
            warp.least_support(encoding.min_support),
            encoding.min_support,
            warp.full_support(first and work.cubic),
            float(encoding.fill) if last else 0.0,
            low,
            high,
            avoid,
            ignore,
            KINDS=tuple(step.kind for step in program.steps),
            SOURCE_OF=tuple(step.source for step in program.steps),
            NOISY=tuple(step.noisy for step in program.steps),
            PENDING=tuple(pending),
            NOISE=tuple(noisy.index(step) if step in noisy else -1 for step in program.steps),
            STREAM=tuple(step.stream for step in program.steps),
            POINTS=points,
            **statics,
            DATES=work.dates,
            MOST=most,
            NEAREST=first and work.nearest,
            CUBIC=first and work.cubic,
            SHARP=self._sharp is not None,
            EVERYWHERE=everywhere is None,
            HAS_VALID=given.valid is not None,
            HAS_MASK=masked,
            HAS_FLAGS=labelled,
            APART=apart,
            UNIT=_UNITS[decoding.unit if decoding is not None else None],
            UNTOUCHED=untouched,
            WHOLE=whole,
            FINAL=last,
            BLOCK=_BLOCK,
            num_warps=_WARPS,
            # A multiplication and an addition rounded as one would move coordinates, and with them labels.
            enable_fp_fusion=False,
        )

    def _lattices(
        self, program: Program, noisy: list[Step], terms: Tensor, keys: Tensor, channels: Tensor, bands: int
    ) -> tuple[tuple[int, ...], Tensor, int]:
        """Draw the lattices of noise: which one each step has, all points, and how many a line of groups has."""
        size, samples = self._work.size, len(self._given.image)
        drawn = [step for step in program.steps if step.lattice]
        cells = groups_of(size.height) * (size.width + MARGIN)
        if not drawn:
            return (-1,) * len(program.steps), self._nothing, cells
        device = self._given.image.device
        points = torch.empty(len(drawn), samples * bands, GROUP * cells, device=device)
        table = few_normal_quantiles(device)
        for number, step in enumerate(drawn):
            draw_lattice[(triton.cdiv(cells, _BLOCK), samples * bands)](
                points[number],
                terms,
                keys,
                channels,
                table,
                program.steps.index(step),
                noisy.index(step),
                samples,
                bands,
                cells,
                STREAM=step.stream,
                BLOCK=_BLOCK,
                num_warps=_WARPS,
                enable_fp_fusion=False,
            )
        return tuple(drawn.index(step) if step.lattice else -1 for step in program.steps), points, cells

    def _labels(self) -> tuple[Tensor, Tensor]:
        assert self._given.mask is not None
        assert self._out.mask is not None
        return self._given.mask.contiguous(), self._out.mask


def _resampled(given: Pixels, work: Work) -> Sharp:
    """The image by two passes, decoded, at the output's pixels; those of exact plans come out as they are."""
    counts = warp.places_averaged(work.matrix, work.most_places)
    passes = two_passes(work.matrix, counts, work.shift_of_all())
    values, weight = weighted(given, work.decoding)
    return resampled(values, None if given.valid is None else weight > 0, passes, work.size, taps_for(work.most_places))


def _packed(
    program: Program, samples: int, bands: int, dates: int, device: torch.device
) -> tuple[list[Tensor], dict[str, Any]]:
    """Values, numbers, layout, views, applied, gain and offset of all sources, and what is known when compiling."""
    sources = program.sources
    rows = samples * dates
    nothing = torch.zeros(1, device=device)
    layers = [source.layers for source in sources]
    first = [sum(layers[:number]) for number in range(len(layers))]
    total = max(sum(layers), 1)
    statics: dict[str, Any] = {
        "SOURCES": tuple((source.kind, source.by_band, first[n]) for n, source in enumerate(sources)),
        "LAYERS": tuple(layers),
        "LABELS": tuple(_label(source) for source in sources),
        "TOTAL": total,
    }
    if not sources:
        return [nothing] * 7, statics
    held, layout, flat = 0, [], []
    for source in sources:
        values = source.values
        layout += [held, *layout_of(source, rows)]
        if values is not None:
            flat.append(values.reshape(-1))
            held += values.numel()
    none = torch.zeros(rows, NUMBERS, device=device)
    numbers = torch.stack([none if source.numbers is None else source.numbers for source in sources])
    weights = [
        torch.cat(
            [
                torch.zeros(samples, bands, source.layers, device=device) if part is None else part
                for source, part in ((source, getattr(source, name)) for source in sources)
            ],
            dim=2,
        )
        for name in ("gain", "offset")
    ]
    applied = torch.stack([source.applied for source in sources]).to(torch.int32)
    alike = torch.zeros(rows, bands // dates + 1, 3, dtype=torch.int64, device=device)
    views = torch.stack([alike if source.views is None else source.views for source in sources])
    values = nothing if not flat else flat[0] if len(flat) == 1 else torch.cat(flat)
    return [values, numbers, constant(tuple(layout), torch.int64, device), views, applied, *weights], statics


def _label(source: Source) -> tuple[Any, ...]:
    rule = source.annotation
    return () if rule is None else (rule.index, THICK[rule.thick], rule.limits, rule.classes)


def _apart(work: Work) -> tuple[Float[Tensor, "b n 2"], Float[Tensor, "b 4"]]:
    """The shifts of all bands, and the least and greatest along x, then y."""
    shift = work.shift_of(slice(None)).float().contiguous()
    shift = warp.rounded(shift) if work.nearest else shift
    low, high = shift.amin(1), shift.amax(1)
    return shift, torch.stack((low[:, 0], high[:, 0], low[:, 1], high[:, 1]), dim=1)


def _filtered(
    image: Float[Tensor, "b n h w"], valid: Bool[Tensor, "b 1 h w"], stencil: Stencil, dates: int
) -> Float[Tensor, "b n h w"]:
    """The image after a stencil, each date by itself."""
    apart = image.view(len(image) * dates, -1, *image.shape[2:])
    return stencils.run(apart, valid.repeat_interleave(dates, 0), stencil).reshape(image.shape)
