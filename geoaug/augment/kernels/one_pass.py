"""The compiled CPU executor's pass over samples: geometry, layers, steps and writing, run by run.

A run is eight stretches of consecutive output pixels, the eight that share counters of the noise generator. Their
coordinates and weights are worked out once, and then every band is sampled, taken through its radiometry and written
while it lies in the cache. Nothing here knows about torch, plans or operations: what to do comes as arrays, which are
those of `kernels.arrays`.
"""

import numpy as np
from numba import njit, types
from numba.extending import intrinsic

from geoaug.augment.kernels import cell_loops, loops, sampling_loops, stored, straight, two_pass_loops
from geoaug.augment.kernels.arrays import AFFINE, CELLS, GAMMA, LATTICE, LINES, NORMAL, PLANES, RAMP, SEEN, STEPS, VEIL
from geoaug.augment.kernels.loops import LANES, OPTIONS
from geoaug.augment.kernels.vectors import VECTOR

# Pixels of each stretch: many enough that memory is read and written in long pieces, few enough for the cache.
_RUN = 1024
_SHORTEST_RUN = 16


@intrinsic
def _next_of(typing, counter):
    """Take a number from a counter that threads share, and leave the one after it."""
    from llvmlite import ir

    def generate(context, builder, signature, arguments):
        data = context.make_array(counter)(context, builder, arguments[0]).data
        return builder.atomic_rmw("add", data, ir.Constant(ir.IntType(64), 1), "monotonic")

    return types.int64(counter), generate


@njit(**OPTIONS)
def _layers_of(sources, which, row, band, rows, columns, length, size_out, spare, layers):
    kind, first, layout = sources.kind[which], sources.first[which], sources.layout[which]
    if kind == PLANES:
        for layer in range(sources.layers[which]):
            step = band if sources.by_band[which] else layer
            base = layout[0] + row * layout[1] + step * layout[2]
            loops.plane(sources.values, base, layout[3], layout[4], rows, columns, length, layers[first + layer])
    elif kind == LINES:
        base = layout[0] + row * layout[1] + band * layout[2]
        place = sources.numbers[which, row]
        loops.lines(sources.values, base, layout[5], place, rows, columns, length, layers[first])
    elif kind == SEEN:
        seen = sources.views[which, row, band]
        group, top, left = seen[0], seen[1], seen[2]
        for layer in range(sources.layers[which]):
            base = layout[0] + row * layout[1] + (group * sources.layers[which] + layer) * layout[2]
            base += top * layout[3] + left
            loops.window(sources.values, base, layout[3], rows, columns, size_out, length, layers[first + layer])
    elif kind == RAMP:
        loops.ramp(sources.numbers[which, row], rows, columns, size_out, length, layers[first])
    else:
        view, period = sources.numbers[which, row], np.int32(layout[5])
        field = sources.values[layout[0] + row * layout[1] : layout[0] + (row + 1) * layout[1]]
        loops.field(field, period, view, columns, rows, size_out, length, spare)
        if kind == VEIL:
            for lane in range(LANES):
                a, b, c, d = (
                    layers[first, lane],
                    layers[first + 1, lane],
                    layers[first + 2, lane],
                    layers[first + 3, lane],
                )
                loops.veil(spare[lane, :length], view[7], view[8], a, b, c, d)
        else:
            loops.shade(spare, view[7], length, layers[first])


@njit(**OPTIONS)
def _fill_cells(origin, sources, sample, dates, size_out, environment, shares, broad):
    """Work out the surroundings that the sources of a sample need, and interpolate their lines to its columns.

    Gives back these lines, of every source and band: `broad` where that is large enough. Without an `environment`, they
    have been worked out.
    """
    many, bands = len(sources.kind), sources.gain.shape[1]
    width, lines = size_out[1], 0
    index, known = np.empty(0, np.int64), np.empty(0, np.bool_)
    weights, means = np.empty(0, np.float64), np.empty((0, 0), np.float64)
    kernel, reach = np.empty((0, 0, 0), np.float64), np.empty((0, 0), np.float64)
    one_date = bands // dates
    for source in range(many):
        if sources.kind[source] != CELLS:
            continue
        layout = sources.layout[source]
        down, across = layout[5], layout[3]
        cells = down * across
        for date in range(dates):
            row = sample * dates + date
            if not sources.applied[source, row]:
                continue
            if lines == 0:
                lines = down
                places = cell_loops.PLACES * cell_loops.PLACES * cells
                index, known = np.empty(places, np.int64), np.empty(places, np.bool_)
                weights, means = np.empty(cells, np.float64), np.empty((bands, cells), np.float64)
                kernel, reach = np.empty((2, down, 2 * across - 1), np.float64), np.empty((2, cells), np.float64)
                if len(environment) > 0:
                    cell_loops.means_of_cells(origin, sample, size_out, down, across, index, known, weights, means)
                if many * bands * lines * width > broad.size:
                    broad = np.empty((many, bands, lines, width), np.float32)
            begin = layout[0] + row * layout[1]
            out = sources.values[begin : begin + one_date * cells].reshape(one_date, down, across)
            some = slice(date * one_date, (date + 1) * one_date)
            if len(environment) > 0:
                cell_loops.surround(
                    environment,
                    np.float64(sources.numbers[source, row, 0]),
                    size_out,
                    down,
                    across,
                    weights,
                    means[some],
                    sources.mixing[source, row],
                    kernel,
                    reach,
                    out,
                )
            cell_loops.widen(out, width, shares, broad[source, some])
    return broad


@njit(**OPTIONS)
def _annotate(sources, which, layers, length, run, block, total, cloud, flags):
    label = sources.label[which]
    layer = layers[sources.first[which] + label[1]]
    for lane in range(LANES):
        start = lane * block + run
        for i in range(min(length, total - start)):
            for place in range(label[2]):
                if layer[lane, i] > sources.limits[which, place]:
                    cloud[start + i] = sources.classes[which, place]
            if label[3] > 0 and layer[lane, i] > sources.limits[which, label[2] - 1]:
                flags[start + i] |= np.uint8(label[3])


@njit(**OPTIONS)
def _drop(flags, length, run, block, total, good):
    for lane in range(LANES):
        start = lane * block + run
        for i in range(min(length, total - start)):
            gone = True
            for date in range(len(flags)):
                gone = gone and (flags[date, start + i] & np.uint8(2)) != 0
            good[lane, i] = good[lane, i] and not gone


@njit(**OPTIONS)
def _draws_noise(steps, step, sample, band):
    """Whether a step has noise to draw for a band: gamma noise of some variance, or what was gathered before it."""
    zero = np.float32(0)
    if steps.kind[step] == GAMMA:
        terms = steps.terms[step, sample, band]
        return terms[1] != zero or terms[3] != zero
    if steps.kind[step] != NORMAL:
        return False
    for before in range(step - 1, -1, -1):
        if steps.kind[before] == NORMAL:
            return False
        terms = steps.terms[before, sample, band]
        if steps.kind[before] == AFFINE and steps.noisy[before] and (terms[2] != zero or terms[3] != zero):
            return True
    return False


@njit(**OPTIONS)
def _draw_lattices(steps, sample, size_out, table, wide, begins, index, weights, words, points):
    """Draw the lattices of all noise of a sample; `begins` tells where each lies in `wide`, which is given back."""
    held = 0
    for step in range(len(steps.kind)):
        for band in range(steps.terms.shape[2]):
            begins[step, band] = -1
            numbers = steps.terms[step, sample, band, LATTICE:]
            if numbers[3] > np.float32(0) and _draws_noise(steps, step, sample, band):
                begins[step, band] = held
                held += loops.lattice_lines(numbers, size_out[0]) * size_out[1]
    if held > len(wide):
        wide = np.empty(held, np.float32)
    for step in range(len(steps.kind)):
        for band in range(steps.terms.shape[2]):
            begin = begins[step, band]
            if begin >= 0:
                numbers = steps.terms[step, sample, band, LATTICE:]
                noise = steps.noise[step]
                loops.draw_lattice(
                    wide[begin:],
                    numbers,
                    size_out[1],
                    loops.lattice_lines(numbers, size_out[0]),
                    steps.channels[noise, band],
                    steps.stream[step],
                    steps.keys[noise, sample, band],
                    table,
                    index,
                    weights,
                    words,
                    points,
                )
    return wide


@njit(**OPTIONS)
def _steps_of_band(
    steps,
    sources,
    sample,
    band,
    dates,
    length,
    run,
    block,
    rows,
    columns,
    size_out,
    table,
    wide,
    begins,
    broad,
    index,
    weights,
    values,
    variance,
    gain,
    offset,
    spare,
    words,
    noise,
    layers,
):
    """Take the values of one band through all steps."""
    pending, after = False, np.empty(4, np.float32)
    bands = steps.terms.shape[2] // dates
    row, zero = sample * dates + band // bands, np.float32(0)
    joined = -1
    for step in range(len(steps.kind)):
        if step == joined:
            continue
        kind, terms, source = steps.kind[step], steps.terms[step, sample, band], steps.source[step]
        if kind == AFFINE:
            noisy = steps.noisy[step] and (terms[2] != zero or terms[3] != zero)
            applied = source >= 0 and sources.applied[source, row]
            # Cells come without noise of their own.
            cells = applied and sources.kind[source] == CELLS
            if cells and not noisy:
                # Most often noise follows: one pass over the values does both.
                after[0], after[1], after[2], after[3] = np.float32(1), zero, zero, zero
                if step + 1 < len(steps.kind) and steps.kind[step + 1] == AFFINE and steps.source[step + 1] < 0:
                    joined = step + 1
                    after[:] = steps.terms[joined, sample, band, :4]
                    noisy = steps.noisy[joined] and (after[2] != zero or after[3] != zero)
            if cells:
                cell_loops.mixed(
                    values,
                    variance,
                    pending,
                    noisy,
                    terms,
                    after,
                    broad[source, band],
                    sources.offset[sample, band, sources.first[source]],
                    size_out[1],
                    size_out[0],
                    run,
                    block,
                    length,
                    size_out[0] * size_out[1],
                )
            elif applied:
                if sources.by_band[source]:
                    _layers_of(sources, source, row, band % bands, rows, columns, length, size_out, spare, layers)
                loops.modulated(
                    values,
                    variance,
                    pending,
                    noisy,
                    terms,
                    layers,
                    sources.first[source],
                    sources.layers[source],
                    sources.gain[sample, band],
                    sources.offset[sample, band],
                    length,
                    gain,
                    offset,
                )
            else:
                loops.affine(values, variance, pending, noisy, terms, length)
            pending = pending or noisy
        elif kind in (NORMAL, GAMMA):
            if kind == GAMMA and terms[1] == zero and terms[3] == zero:
                continue
            if begins[step, band] >= 0:
                numbers, total = terms[LATTICE:], size_out[0] * size_out[1]
                lines = wide[begins[step, band] :]
                loops.lattice_noise(lines, numbers, size_out[1], run, block, length, total, index, weights, noise)
            elif kind == GAMMA or pending:
                held = steps.noise[step]
                key, channel = steps.keys[held, sample, band], steps.channels[held, band]
                loops.philox(words, run, length, channel, steps.stream[step], key)
                loops.look_up(words, table, length, noise)
            if kind == GAMMA:
                loops.gamma(values, noise, terms, length)
            elif pending:
                loops.add_normal(values, variance, noise, length)
                pending = False
        elif kind == STEPS:
            loops.steps(values, terms, length)
        else:
            loops.curve(values, kind, length)


@njit(**OPTIONS)
def _weigh(given, xs, ys, shift_x, shift_y, length, valid, index, weights, support):
    if given.cubic:
        sampling_loops.weigh_cubic(xs, ys, shift_x, shift_y, length, given.size, valid, index, weights, support)
    else:
        sampling_loops.weigh(xs, ys, shift_x, shift_y, length, given.size, valid, index, weights, support)


@njit(**OPTIONS)
def _sharpen(given, sample, bands, size_out, valid, solid, canvas, between, first, second, planes, whole):
    """Resample all bands of a sample by two passes, to `planes`; and note where their pixels were all valid."""
    size, swapped, taps, terms = given.size, given.swapped[sample], given.taps[sample], given.passes[sample]
    seen = (size[1], size[0]) if swapped else size
    wide = seen[1] + 2 * two_pass_loops.beyond(taps)
    tall = seen[0] + 2 * two_pass_loops.beyond(taps)
    held, limits = canvas[: tall * wide], np.zeros(2, np.float32)
    tables, apart, rows = given.tables[sample], len(terms) > 1, (0, 0)
    for band in range(bands):
        if band == 0 or apart:
            rows = two_pass_loops.places(terms[band], seen, size_out, taps, first, second)
            if not solid:
                into = whole[band if apart else 0]
                two_pass_loops.find_whole(valid, size, swapped, size_out, taps, rows, first, second, into)
        stored.lay_out(given, sample, band, valid, held, limits)
        weights = given.weights[tables[0]], given.weights[tables[1]]
        two_pass_loops.by_both(
            held, wide, rows, size_out, taps, first, second, weights[0], weights[1], limits, between, planes[band]
        )


@njit(**OPTIONS)
def _from_plane(plane, whole, solid, run, block, length, total, values):
    """Pixels of a run out of a plane that was resampled, where they are whole."""
    for lane in range(LANES):
        start = lane * block + run
        count = min(length, total - start)
        if count <= 0:
            continue
        piece, into = plane[start : start + count], values[lane]
        if solid:
            for i in range(count):
                into[i] = piece[i]
        else:
            there = whole[start : start + count]
            for i in range(count):
                into[i] = piece[i] if there[i] else into[i]


@njit(**OPTIONS)
def run_samples(given, origin, steps, sources, out, rules, table, environment, dates, order, counter, mine):
    """Do all of it for samples in `order`, one after the other until the threads that share `counter` have none left.

    `origin` is what the first program of a stage is given, of which surroundings are made. Returns how many this call
    did; `mine` notes which, and keeps its last place for what only has to be read.
    """
    size_out, size_in = out.size, given.size
    total = size_out[0] * size_out[1]
    block = (total + LANES - 1) // LANES
    bands = steps.terms.shape[2]
    apart = given.shift.shape[1] > 0
    plain = straight.is_plain(given, steps, sources, out, rules)
    lines, line = np.zeros((size_out[0], 4), np.int64), np.zeros(max(size_out[1], 4 * _RUN), np.float32)
    room = _RUN
    for sample in order:
        if not given.exact[sample]:
            room = max(room, _SHORTEST_RUN * given.subs[sample, 0] * given.subs[sample, 1])
    taps = 16 if given.cubic else 4
    every_index, every_weight = np.zeros(room * LANES, np.uint32), np.zeros(taps * room * LANES, np.float32)
    every_place = np.zeros(2 * room * LANES, np.float32)
    shape = (LANES, _RUN)
    rows, columns = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    support, spare = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    values, variance = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    gain, offset = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    good, words = np.zeros(shape, np.bool_), np.zeros((4, _RUN), np.uint32)
    noise, pairs = np.zeros(shape, np.float32), np.zeros((2, _RUN), np.uint32)
    held = 1
    for source in range(len(sources.kind)):
        held = max(held, sources.first[source] + sources.layers[source])
    layers = np.zeros((dates, held, *shape), np.float32)
    lattices = np.any(steps.terms[:, :, :, LATTICE + 3] > np.float32(0))
    reach = size_out[1] + loops.MARGIN + VECTOR
    wide, begins = np.empty(0, np.float32), np.full((len(steps.kind), bands), -1, np.int64)
    line_index, line_weights = np.zeros(reach, np.int64), np.zeros((4, reach), np.float32)
    line_words, points = np.zeros((4, reach), np.uint32), np.zeros((LANES, reach), np.float32)
    surrounded = np.any(sources.kind == CELLS)
    broad, shares = np.empty((0, 0, 0, 0), np.float32), np.empty(size_out[1], np.float32)
    centre = np.zeros((2, *shape), np.float32)
    canvas, between, planes = np.zeros(0, np.float32), np.zeros(0, np.float32), np.zeros((0, 0), np.float32)
    first, second, whole = np.zeros((2, 0), np.int32), np.zeros((2, 0), np.int32), np.zeros((0, 0), np.bool_)
    done, floats = 0, given.stored == 3
    span, half, zero = np.zeros(4, np.float32), np.float32(0.5), np.float32(0)
    while True:
        turn = _next_of(counter)
        if turn >= len(order):
            break
        sample = order[turn]
        mine[done] = sample
        done += 1
        exact = given.exact[sample]
        if exact and plain and straight.run_sample(given, steps, out, rules, sample, lines, line):
            continue
        if lattices:
            wide = _draw_lattices(
                steps, sample, size_out, table, wide, begins, line_index, line_weights, line_words, points
            )
        valid = given.valid[sample]
        across, down = (1, 1) if exact else (given.subs[sample, 0], given.subs[sample, 1])
        subs = across * down
        # Where pixels are means of many places, shorter runs keep all of their weights in the cache.
        long = max(_SHORTEST_RUN, 4 * _RUN // (subs * taps) // VECTOR * VECTOR)
        index = every_index[: subs * LANES * long].reshape(subs, LANES, long)
        weights = every_weight[: taps * subs * LANES * long].reshape(subs, taps, LANES, long)
        places = every_place[: 2 * subs * LANES * long].reshape(subs, 2, LANES, long)
        span[:] = zero
        if apart and not exact:
            for axis in range(2):
                span[2 * axis] = given.shift[sample, :, axis].min()
                span[2 * axis + 1] = given.shift[sample, :, axis].max()
        guarded, sharp = False, given.sharp and not exact
        if not exact and floats:
            for band in range(bands):
                guarded |= sampling_loops.find_finite(given.image[3][sample, band], valid)
            # Where all is well, weights need no validity.
            if valid.all():
                valid = valid[:0]
        elif not exact and not sharp:
            for band in range(bands):
                mine[-1] += stored.fetch(given, sample, band)
        # Where all that is weighed is valid, nothing but the planes has to be read.
        solid = sharp and (valid.size == 0 or valid.all())
        if sharp:
            rooms = two_pass_loops.room(size_in, size_out, given.taps[sample])
            if rooms[0] > len(canvas) or rooms[2] > first.shape[1]:
                canvas, between = np.zeros(rooms[0], np.float32), np.zeros(rooms[1], np.float32)
                first, second = np.zeros((2, rooms[2]), np.int32), np.zeros((2, rooms[3]), np.int32)
            if len(planes) == 0:
                planes = np.zeros((bands, total), np.float32)
            if len(whole) == 0 and not solid:
                whole = np.zeros((bands, total), np.bool_)
            _sharpen(given, sample, bands, size_out, valid, solid, canvas, between, first, second, planes, whole)
        weighs = not exact and not (solid and subs == 1)
        # Of pixels that lie in the cache by now.
        if surrounded:
            broad = _fill_cells(origin, sources, sample, dates, size_out, environment, shares, broad)
        for run in range(0, block, long):
            length = min(long, block - run)
            sampling_loops.locate(run, block, length, size_out[1], rows, columns)
            mended = apart and not exact
            for sub in range(subs if weighs else 0):
                beside_x = (np.float32(sub % across) + half) / np.float32(across) - half
                beside_y = (np.float32(sub // across) + half) / np.float32(down) - half
                sampling_loops.coordinates(
                    rows,
                    columns,
                    given.back[sample],
                    size_out,
                    beside_x,
                    beside_y,
                    length,
                    places[sub, 0],
                    places[sub, 1],
                )
            if given.nearest and not exact:
                sampling_loops.round_places(places[0, 0], places[0, 1], length)
            if exact:
                sampling_loops.copy_validity(valid, given.back[sample], size_in, size_out, run, block, length, good)
            elif apart or not weighs:
                good[:] = True
                back = given.back[sample]
                sampling_loops.coordinates(rows, columns, back, size_out, zero, zero, length, centre[0], centre[1])
                if given.nearest:
                    sampling_loops.round_places(centre[0], centre[1], length)
                sampling_loops.all_bands_inside(centre[0], centre[1], length, size_in, span, rules.least, good)
            else:
                good[:] = True
                support[:] = zero
                for sub in range(subs):
                    x, y = places[sub, 0], places[sub, 1]
                    _weigh(given, x, y, zero, zero, length, valid, index[sub], weights[sub], support)
                sampling_loops.settle_support(
                    weights, subs, length, rules.least, rules.minimum, rules.full, support, good
                )
            for source in range(len(sources.kind)):
                for date in range(dates):
                    row = sample * dates + date
                    labelled = sources.label[source, 0] > 0
                    if sources.applied[source, row] and (labelled or not sources.by_band[source]):
                        # Labels come after the bands.
                        _layers_of(sources, source, row, -1, rows, columns, length, size_out, spare, layers[date])
                        if labelled:
                            _annotate(
                                sources,
                                source,
                                layers[date],
                                length,
                                run,
                                block,
                                total,
                                out.cloud[sample, date],
                                out.flags[sample, date],
                            )
            if out.final and out.flags.size > 0:
                _drop(out.flags[sample], length, run, block, total, good)
            for band in range(bands):
                if exact:
                    stored.copy(given, sample, band, size_out, run, block, length, values)
                    if floats and sampling_loops.drop_unfinite(values, good, length):
                        mended = True
                else:
                    if apart and weighs:
                        support[:] = zero
                        for sub in range(subs):
                            x, y = places[sub, 0], places[sub, 1]
                            beside_x, beside_y = given.shift[sample, band, 0], given.shift[sample, band, 1]
                            _weigh(given, x, y, beside_x, beside_y, length, valid, index[sub], weights[sub], support)
                        sampling_loops.settle_support(
                            weights, subs, length, rules.least, rules.minimum, rules.full, support, good
                        )
                    if not solid:
                        stored.take(given, sample, band, index, weights, subs, length, pairs, values, guarded)
                    if sharp:
                        there = whole[band if apart else 0] if not solid else whole[0:0].reshape(-1)
                        _from_plane(planes[band], there, solid, run, block, length, total, values)
                _steps_of_band(
                    steps,
                    sources,
                    sample,
                    band,
                    dates,
                    length,
                    run,
                    block,
                    rows,
                    columns,
                    size_out,
                    table,
                    wide,
                    begins,
                    broad,
                    line_index,
                    line_weights,
                    values,
                    variance,
                    gain,
                    offset,
                    spare,
                    words,
                    noise,
                    layers[band // (bands // dates)],
                )
                stored.write(values, good, length, run, block, total, rules, out, sample, band)
            if mended:
                # A later band may have found a pixel without data after an earlier one was written.
                stored.mend(good, length, run, block, total, rules, out, sample, bands)
            for lane in range(LANES):
                start = lane * block + run
                for i in range(min(length, total - start)):
                    out.valid[sample, start + i] = good[lane, i]
    return done


@njit(**OPTIONS)
def move_labels(mask, given, out, ignore, moved, samples):
    """Gather the nearest label of every output pixel of some samples, in the mask's own dtype."""
    size_out, size_in = out.size, given.size
    total = size_out[0] * size_out[1]
    block = (total + LANES - 1) // LANES
    shape = (LANES, _RUN)
    rows, columns = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    xs, ys = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    index, good = np.zeros(shape, np.uint32), np.zeros(shape, np.bool_)
    for sample in samples:
        for run in range(0, block, _RUN):
            length = min(_RUN, block - run)
            sampling_loops.locate(run, block, length, size_out[1], rows, columns)
            zero = np.float32(0)
            sampling_loops.coordinates(rows, columns, given.back[sample], size_out, zero, zero, length, xs, ys)
            sampling_loops.nearest(xs, ys, length, size_in, given.valid[sample], index, good)
            for lane in range(LANES):
                start = lane * block + run
                for i in range(min(length, total - start)):
                    kept = good[lane, i] and out.valid[sample, start + i]
                    if kept and out.flags.size > 0:
                        ignored = True
                        for date in range(out.flags.shape[1]):
                            ignored = ignored and (out.flags[sample, date, start + i] & np.uint8(1)) != 0
                        kept = not ignored
                    moved[sample, start + i] = mask[sample, np.uint64(index[lane, i])] if kept else ignore
