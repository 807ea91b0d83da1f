"""The compiled CPU executor: a fused stage in one pass over the pixels, without temporaries of their size.

Plans become arrays here, samples are dealt out to threads, and `kernels.one_pass` does the rest, compiled by Numba on
first use and kept on disk from then on. Its results are those of the portable executor, to rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from geoaug.augment.kernels import arrays, cell_loops, loops, one_pass, stencil_loops, stencils, veil_loops, warp
from geoaug.augment.kernels.blocks import for_each_block, on_every_thread
from geoaug.augment.kernels.coarse import coarse_shape
from geoaug.augment.kernels.lowering import THICK, Lowering, Program, field_and_numbers, layout_of, limits_of
from geoaug.augment.kernels.portable import Encoding, Work, empty_output, surroundings_of
from geoaug.augment.kernels.sampling import Pixels, moved_elevation, with_finite_validity
from geoaug.augment.kernels.stencils import BandTaps, CoarseGrid, Taps
from geoaug.augment.kernels.two_pass import PHASES, taps_of_width, two_passes, weights_of_width
from geoaug.augment.physics.adjacency import ENVIRONMENT, Background
from geoaug.augment.physics.cloud_field import FARTHEST, VEIL_LAYERS, WIDEST, CloudShade, CloudVeil
from geoaug.augment.planning import matrices
from geoaug.augment.planning.maps import BandMaps, Ramp, Stripes, Surroundings, TileMap
from geoaug.augment.planning.matrices import Size
from geoaug.augment.planning.segments import Affine, Segment, Stencil
from geoaug.rng.noise import few_normal_quantiles
from geoaug.scratch import scratch

Array = npt.NDArray[Any]

parameter_words = loops.parameter_words

_CPU = torch.device("cpu")
_STORED = (torch.uint8, torch.uint16, torch.int16, torch.float32)
_EMPTY = tuple(np.zeros((0, 0, 0), kind) for kind in (np.uint8, np.uint16, np.int16, np.float32))
_NO_PASSES: tuple[Array, ...] = (
    np.zeros(0, np.bool_),
    np.zeros((0, 0, 6), np.int64),
    *(np.zeros((0, 2), np.int64) for _ in range(2)),
    np.zeros((0, 0), np.float32),
)
_ENVIRONMENT = np.array(ENVIRONMENT)
# Maps of a few numbers or lines, and fields whose making is worth a few samples at once.
_LINES = (Ramp, Stripes, Background)
_FIELDS = (CloudVeil, CloudShade)

# Blocks a thread, where samples need nothing of their own: few enough to cost nothing, enough to share evenly.
_BLOCKS_A_THREAD = 4
# Fewer samples than these are not worth laying out a block for, as long as every thread has some.
_SAMPLES_WORTH_A_BLOCK = 4


def execute(pixels: Pixels, work: Work, encoding: Encoding) -> Pixels:
    """Run one fused stage; see `portable.execute`."""
    out = empty_output(pixels, work, encoding)
    if out.image.numel() == 0:
        return out
    given = _stored(pixels)
    exact = matrices.is_exact(work.matrix)
    if work.band_shift is not None:
        exact = exact & (work.shift_of(slice(None)) == 0).flatten(1).all(1)
    whole = exact.numpy()
    raw = whole if work.untouched else np.zeros_like(whole)
    groups = [(raw, given, replace(work, segments=(), decoding=None))]
    groups.append((~raw, given if work.decoding is None else _decoded(given, work), work))
    written = out.image
    if encoding.dtype not in _STORED or encoding.channels_last:
        kept = encoding.dtype if encoding.dtype in _STORED else torch.float32
        written = torch.empty(out.image.shape, dtype=kept)
    for chosen, source, task in groups:
        if chosen.any():
            _run(chosen, source, task, encoding, replace(out, image=written), exact)
    if written is not out.image:
        out.image.copy_(written)
    return out


def _ranges(chosen: Array) -> list[slice]:
    """Where it holds, as ranges."""
    edges = np.flatnonzero(np.diff(np.pad(chosen.astype(np.int8), 1)))
    return [slice(int(start), int(stop)) for start, stop in edges.reshape(-1, 2)]


def _stored(pixels: Pixels) -> Pixels:
    """Images of a type that the loops read, each plane in one piece."""
    image = pixels.image if pixels.image.dtype in _STORED else pixels.image.float()
    valid = None if pixels.valid is None else pixels.valid.contiguous()
    mask = None if pixels.mask is None else pixels.mask.contiguous()
    return Pixels(image.contiguous(), valid, mask, pixels.dem)


def _decoded(pixels: Pixels, work: Work) -> Pixels:
    """Stored amplitudes and decibels as power."""
    assert work.decoding is not None
    finite = with_finite_validity(pixels)
    image = pixels.image.float().clone()
    if finite.valid is not None:
        # Whatever stands in invalid pixels must not decode to infinity.
        image = torch.where(finite.valid, image, 0.0)
    work.decoding(image)
    return Pixels(image, finite.valid, pixels.mask, pixels.dem)


def _run(chosen: Array, pixels: Pixels, work: Work, encoding: Encoding, out: Pixels, exact: Tensor) -> None:
    """Share the chosen samples out among threads.

    Most need a row of numbers each, which are laid out once for all. Fields of clouds take longer to make than that,
    so their samples go in blocks, laid out by the thread that runs them; those with stencils, or with maps as large as
    they are, go one by one.
    """
    alone, apart = _special(work, pixels.dem is not None)
    apart, alone = chosen & apart & ~alone, chosen & alone
    shared, plain = chosen, work
    if alone.any() or apart.any():
        most, threads = int(apart.sum()), torch.get_num_threads()
        count = max(-(-most // (_BLOCKS_A_THREAD * threads)), min(_SAMPLES_WORTH_A_BLOCK, -(-most // threads)), 1)
        blocks = [block for part in _ranges(apart) for block in _cut(part, count)]
        blocks += [block for part in _ranges(alone) for block in _cut(part, 1)]
        for_each_block(lambda block: _run_block(block, pixels, work, encoding, out, exact[block]), blocks)
        shared, plain = chosen & ~alone & ~apart, replace(work, segments=tuple(map(_without_maps, work.segments)))
    if shared.any():
        layout = _Layout(pixels, plain, encoding, out, exact, None)
        layout.run(plain.segments, np.flatnonzero(shared), on_every_thread)


def _special(work: Work, elevated: bool) -> tuple[Array, Array]:
    """Which samples go one by one, and which in blocks."""
    samples = len(work.key)
    alone, apart = np.full(samples, elevated), np.zeros(samples, np.bool_)
    for part in work.segments:
        if isinstance(part, Stencil):
            alone |= part.applied.numpy().reshape(samples, -1).any(1)
        elif isinstance(part, Affine) and part.modulation is not None and not isinstance(part.modulation.maps, _LINES):
            kind = apart if isinstance(part.modulation.maps, _FIELDS) else alone
            kind |= part.modulation.applied.numpy().reshape(samples, -1).any(1)
    return alone, apart


def _without_maps(segment: Segment) -> Segment:
    """A segment where neither its stencil nor its field or large map applies."""
    if isinstance(segment, Stencil):
        return replace(segment, applied=torch.zeros_like(segment.applied))
    if isinstance(segment, Affine) and segment.modulation is not None:
        modulation = segment.modulation
        if not isinstance(modulation.maps, _LINES):
            return replace(segment, modulation=replace(modulation, applied=torch.zeros_like(modulation.applied)))
    return segment


def _cut(part: slice, count: int) -> list[slice]:
    return [slice(start, min(start + count, part.stop)) for start in range(part.start, part.stop, count)]


def _run_block(rows: slice, pixels: Pixels, work: Work, encoding: Encoding, out: Pixels, exact: Tensor) -> None:
    """Lay out some samples and run them in this thread alone."""
    part = pixels.take(rows)
    task = replace(
        work,
        matrix=work.matrix[rows],
        segments=work.rows(rows),
        key=work.key[rows],
        grids=work.grids_of(rows),
        band_shift=None
        if work.band_shift is None
        else work.band_shift[rows.start * work.dates : rows.stop * work.dates],
    )
    dem = None
    if part.dem is not None and out.dem is not None:
        x, y = warp.sampling_coordinates(task.matrix, task.size)
        dem = out.dem[rows].copy_(moved_elevation(part.dem, x, y, task.nearest or bool(exact.all())))
    layout = _Layout(part, task, encoding, _taken(out, rows), exact, dem)
    layout.run(task.segments, np.arange(len(exact)), lambda run: run())


def _taken(out: Pixels, rows: slice) -> Pixels:
    """The output of some of the samples."""
    cloud = None if out.cloud is None else out.cloud[rows]
    return replace(out.take(rows), cloud=cloud)


class _Layout:
    """Samples, laid out for the compiled pass: all that does not depend on the program."""

    def __init__(
        self, part: Pixels, work: Work, encoding: Encoding, out: Pixels, exact: Tensor, dem: Tensor | None
    ) -> None:
        self._part, self._work, self._encoding, self._out, self._dem = part, work, encoding, out, dem
        count, matrix = len(part.image), work.matrix
        places = warp.places_averaged(matrix, work.most_places)
        shift = np.zeros((count, 0, 2), np.float32)
        if work.band_shift is not None:
            apart = work.shift_of(slice(None)).float()
            shift = (warp.rounded(apart) if work.nearest else apart).numpy()
        self._given = arrays.Input(
            *_by_type(part.image),
            _validity(part, count),
            part.valid is None,
            (part.image.shape[-2], part.image.shape[-1]),
            warp.sampling_terms(matrix, work.size).numpy(),
            exact.numpy(),
            places.numpy(),
            shift,
            work.nearest,
            work.cubic,
            work.sharp and not bool(exact.all()),
            *_passes(work, places),
        )

    def run(self, segments: Sequence[Segment], order: Array, on_threads: Callable[[Callable[[], None]], None]) -> None:
        """Run segments on the samples in `order`; `on_threads` calls a function on every thread that takes part."""
        part, work, out, size, dates = self._part, self._work, self._out, self._work.size, self._work.dates
        count, bands = part.image.shape[:2]
        # The loops average what is stored; where that is no light, torch does it.
        around = surroundings_of(part, work.matrix, work, self._dem)
        loops_average = work.light is None
        if loops_average:
            around = Surroundings(around.dem, lambda: _coarse_means(self._given, count, bands, size, dates))
        lowering = Lowering(
            work.key, work.stream, dates, bands // dates, size, around, work.grids, loops_average, _by_band
        )
        assert out.valid is not None
        cloud = np.zeros((count, 0, 0), np.uint8) if out.cloud is None else out.cloud.flatten(2).numpy()
        flags = np.zeros(cloud.shape, np.uint8)
        valid = out.valid.flatten(1).numpy()
        plain = Encoding(torch.float32, 0.0, self._encoding.ignore_index, self._encoding.min_support)
        table = few_normal_quantiles(_CPU).numpy()
        given = self._given
        labels = _Labels(part.mask, out.mask, given, self._encoding.ignore_index)
        for program in lowering.programs(segments):
            last = program.stencil is None
            image = out.image if last else scratch("before a stencil", (count, bands, *size), torch.float32, _CPU)
            target = arrays.Output(*_by_type(image), valid, cloud, flags, (size.height, size.width), last)
            steps, sources = _steps(program, count, bands), _sources(program, count, bands, dates)
            rules = _rules(self._encoding if last else plain, work.cubic)
            counter = np.zeros(1, np.int64)
            environment = _ENVIRONMENT if loops_average else _ENVIRONMENT[:0]
            arguments = (given, self._given, steps, sources, target, rules, table, environment, dates, order, counter)

            def run(arguments: tuple[Any, ...] = arguments, target: Any = target, last: bool = last) -> None:
                mine = np.zeros(len(order) + 1, np.int64)
                done = one_pass.run_samples(*arguments, mine)
                if last:
                    labels.move(target, mine[:done])

            on_threads(run)
            if program.stencil is not None:
                _filter(image, out.valid, program.stencil, dates)
                given = _unmoved(image, valid, size)


def _coarse_means(given: arrays.Input, count: int, bands: int, size: Size, dates: int) -> tuple[Tensor, Tensor]:
    """`coarse.coarse_means` of what the first program is given."""
    down, across = coarse_shape(size)
    shares, means = np.empty((count, down * across), np.float32), np.empty((count, bands, down * across), np.float32)
    cell_loops.means_of_samples(given, (size.height, size.width), down, across, shares, means)
    weights = torch.from_numpy(shares).view(count, 1, down, across).repeat_interleave(dates, 0)
    return torch.from_numpy(means).view(count * dates, bands // dates, down, across), weights


def _by_band(maps: TileMap, size: Size, surroundings: Surroundings, number: int) -> BandMaps | None:
    """`TileMap.by_band`, compiled for clouds; in memory of its own for each number."""
    if not isinstance(maps, CloudVeil) or maps.views is None:
        return maps.by_band(size, surroundings)
    field, numbers = field_and_numbers(maps.field, maps.blur, None, size, surroundings)
    views = maps.views
    shape = (*views.side.shape, VEIL_LAYERS, size.height + 2 * FARTHEST, size.width + 2 * FARTHEST)
    planes = scratch(f"cloud {number}", shape, torch.float32, _CPU)
    every = np.ones(len(field), np.bool_)
    spare, extent = WIDEST // 2, (size.height, size.width)
    veil_loops.planes(
        field.numpy(), numbers.numpy(), views.side.numpy(), every, extent, FARTHEST, spare, planes.numpy()
    )
    return BandMaps(planes, views.beside, views.group, FARTHEST)


class _Labels:
    """Class labels, moved where pixels have been."""

    def __init__(self, mask: Tensor | None, moved: Tensor | None, given: arrays.Input, ignore_index: int) -> None:
        self._given = given
        self._arrays: tuple[Array, Any, Array] | None = None
        if mask is not None and moved is not None:
            ignore = torch.tensor(ignore_index).to(mask.dtype).numpy()
            bits = np.dtype(f"u{ignore.itemsize}")
            source, target = (labels.flatten(1).numpy().view(bits) for labels in (mask, moved))
            self._arrays = source, ignore.view(bits)[()], target

    def move(self, out: arrays.Output, samples: Array) -> None:
        """Move those of some samples, whose pixels are written."""
        if self._arrays is not None:
            source, ignore, target = self._arrays
            one_pass.move_labels(source, self._given, out, ignore, target, samples)


def _by_type(image: Tensor) -> tuple[tuple[Array, Array, Array, Array], int]:
    """The image among empty ones of the other types, and its number among them."""
    number = _STORED.index(image.dtype)
    flat = image.flatten(2).numpy()
    one, two, three, four = (flat if kind == number else empty for kind, empty in enumerate(_EMPTY))
    return (one, two, three, four), number


def _validity(part: Pixels, count: int) -> Array:
    """Validity of the input; for floats in memory of its own, for the loops note in it what is not finite."""
    if not part.image.is_floating_point():
        return np.zeros((count, 0), np.bool_) if part.valid is None else part.valid.flatten(1).numpy()
    # By numpy, for torch would split so little work, too, and wait for its threads.
    kept = scratch("validity", (count, part.image.shape[-2] * part.image.shape[-1]), torch.bool, _CPU).numpy()
    kept[...] = True if part.valid is None else part.valid.flatten(1).numpy()
    return kept


def _unmoved(image: Tensor, valid: Array, size: Size) -> arrays.Input:
    """Pixels that stay where they are."""
    count = len(image)
    unmoved = matrices.identity(count, image.device)
    return arrays.Input(
        *_by_type(image),
        valid.copy(),
        False,
        (size.height, size.width),
        warp.sampling_terms(unmoved, size).numpy(),
        np.ones(count, np.bool_),
        np.ones((count, 2), np.int64),
        np.zeros((count, 0, 2), np.float32),
        False,
        False,
        False,
        *_NO_PASSES,
    )


def _passes(work: Work, places: Tensor) -> tuple[Array, ...]:
    """What the loops of sharp interpolation read, as `arrays.Input` has it."""
    if not work.sharp:
        return _NO_PASSES
    passes = two_passes(work.matrix, places, work.shift_of_all())
    widths = np.unique(passes.width.numpy())
    taps = np.array([taps_of_width(int(width)) for width in widths], np.int64)
    weights = np.zeros((len(widths), PHASES * max(taps, default=0)), np.float32)
    for number, width in enumerate(widths):
        own = weights_of_width(int(width), int(taps[number]))
        weights[number, : own.size] = own.ravel()
    tables = np.searchsorted(widths, passes.width.numpy())
    return passes.swapped.numpy(), passes.terms.numpy(), taps[tables], tables, weights


def _filter(image: Tensor, valid: Tensor, stencil: Stencil, dates: int) -> None:
    """Run a stencil in place, date by date: by compiled loops where there are some for its kernel, else by torch."""
    apart = image.view(len(image) * dates, -1, *image.shape[2:])
    kernel = stencil.kernel
    if not isinstance(kernel, Taps | BandTaps | CoarseGrid):
        apart.copy_(stencils.run(apart, valid.repeat_interleave(dates, 0), stencil))
        return
    every, known = apart.numpy(), valid[:, 0].numpy()
    for row in np.flatnonzero(stencil.applied.numpy()):
        if isinstance(kernel, Taps):
            stencil_loops.blur(every[row], known[row // dates], kernel.weights[row, 0].float().numpy())
        elif isinstance(kernel, BandTaps):
            for band, reach in enumerate(kernel.reaches):
                weights = kernel.weights[row, band, : reach + 1].float().contiguous().numpy()
                stencil_loops.blur(every[row, band : band + 1], known[row // dates], weights)
        else:
            factor = kernel.factor[row].double().expand(every.shape[1]).numpy()
            stencil_loops.coarsen(every[row], known[row // dates], factor, kernel.phase[row].double().numpy())


def _rules(encoding: Encoding, cubic: bool) -> arrays.Rules:
    least, full = np.float32(warp.least_support(encoding.min_support)), np.float32(warp.full_support(cubic))
    low, high, avoid = (np.float32(limit) for limit in limits_of(encoding))
    whole = not encoding.dtype.is_floating_point
    minimum = np.float32(encoding.min_support)
    return arrays.Rules(least, minimum, full, np.float32(encoding.fill), whole, low, high, avoid)


def _steps(program: Program, count: int, bands: int) -> arrays.Steps:
    steps = program.steps
    noisy = [step for step in steps if step.key is not None]
    noise = {id(step): number for number, step in enumerate(noisy)}
    terms = np.zeros((len(steps), count, bands, arrays.TERMS), np.float32)
    keys, channels = np.zeros((len(noisy), count, bands), np.uint64), np.zeros((len(noisy), bands), np.uint64)
    for number, step in enumerate(steps):
        terms[number] = step.terms.numpy()
        if step.key is not None and step.channel is not None:
            keys[noise[id(step)]] = step.key.numpy()
            channels[noise[id(step)]] = step.channel.numpy()
    return arrays.Steps(
        np.array([step.kind for step in steps], np.int64),
        np.array([step.source for step in steps], np.int64),
        np.array([step.noisy for step in steps], np.bool_),
        np.array([noise.get(id(step), -1) for step in steps], np.int64),
        np.array([step.stream for step in steps], np.uint64),
        terms,
        keys,
        channels,
    )


def _sources(program: Program, count: int, bands: int, dates: int) -> arrays.Sources:
    sources = program.sources
    many, rows = len(sources), count * dates
    layers = [source.layers for source in sources]
    total = max(sum(layers), 1)
    numbers, layout = np.zeros((many, rows, arrays.NUMBERS), np.float32), np.zeros((many, 6), np.int64)
    label, limits = np.zeros((many, 4), np.int64), np.zeros((many, 4), np.float32)
    classes, applied = np.zeros((many, 4), np.uint8), np.zeros((many, rows), np.bool_)
    first = np.array([sum(layers[:number]) for number in range(many)], np.int64)
    gain, offset = (np.zeros((count, bands, total), np.float32) for _ in range(2))
    mixing = np.zeros((many, rows, bands // dates, 5), np.float32)
    views = np.zeros((many, rows, bands // dates + 1, 3), np.int64)
    flat: list[Array] = [np.zeros(0, np.float32)]
    held = 0
    for number, source in enumerate(sources):
        applied[number] = source.applied.numpy()
        every = slice(first[number], first[number] + source.layers)
        for target, weights in ((gain, source.gain), (offset, source.offset)):
            if weights is not None:
                target[:, :, every] = weights.numpy()
        if source.numbers is not None:
            numbers[number] = source.numbers.numpy()
        if source.values is not None:
            layout[number] = (held, *layout_of(source, rows))
            flat.append(source.values.contiguous().view(-1).numpy())
            held += source.values.numel()
        if source.mixing is not None:
            mixing[number] = source.mixing.numpy()
        if source.views is not None:
            views[number] = source.views.numpy()
        if source.annotation is not None:
            rule = source.annotation
            known = len(rule.limits)
            label[number] = (1, rule.index, known, THICK[rule.thick])
            limits[number, :known], classes[number, :known] = rule.limits, rule.classes
    return arrays.Sources(
        np.array([source.kind for source in sources], np.int64),
        np.array(layers, np.int64),
        np.array([source.by_band for source in sources], np.bool_),
        applied,
        numbers,
        first,
        flat[1] if len(flat) == 2 else np.concatenate(flat),
        layout,
        label,
        limits,
        classes,
        gain,
        offset,
        mixing,
        views,
    )
