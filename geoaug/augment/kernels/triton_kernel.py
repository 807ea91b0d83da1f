"""The Triton kernel: a fused stage in one launch, every output pixel written once.

A program instance takes one sample and a block of noise counters, each of which serves eight pixels. Coordinates,
weights and labels are worked out once for its pixels; then band by band they are sampled in the dtype stored, taken
through all steps, and written in the dtype wanted. What steps there are is known when the kernel is compiled, what
numbers they have is read; a new draw of the same recipe compiles nothing.
"""

import triton
import triton.language as tl

from geoaug.augment.kernels import arrays
from geoaug.sensors import srgb

AFFINE = tl.constexpr(arrays.AFFINE)
NORMAL = tl.constexpr(arrays.NORMAL)
GAMMA = tl.constexpr(arrays.GAMMA)
STEPS = tl.constexpr(arrays.STEPS)
AMPLITUDE = tl.constexpr(arrays.AMPLITUDE)
LIGHT = tl.constexpr(arrays.LIGHT)
DISPLAY = tl.constexpr(arrays.DISPLAY)
SLOPE, LIFT, EXPONENT = tl.constexpr(srgb.SLOPE), tl.constexpr(srgb.LIFT), tl.constexpr(srgb.EXPONENT)
TOE_DISPLAY, TOE_LIGHT = tl.constexpr(srgb.TOE_DISPLAY), tl.constexpr(srgb.TOE_LIGHT)
PLANES = tl.constexpr(arrays.PLANES)
RAMP = tl.constexpr(arrays.RAMP)
LINES = tl.constexpr(arrays.LINES)
VEIL = tl.constexpr(arrays.VEIL)
CELLS = tl.constexpr(arrays.CELLS)
SEEN = tl.constexpr(arrays.SEEN)
NUMBERS = tl.constexpr(arrays.NUMBERS)
TERMS = tl.constexpr(arrays.TERMS)
LATTICE = tl.constexpr(arrays.LATTICE)
# As in `planning.band_grids` and `kernels.lattice`.
NEAREST_POINT, CUBIC_POINTS, SMOOTH_POINTS = tl.constexpr(1), tl.constexpr(3), tl.constexpr(4)
GROUP, MARGIN = tl.constexpr(8), tl.constexpr(3)


@triton.jit
def rint(x):
    """To the nearest whole number, halves to even, by what float32 cannot hold; exact below 2^22."""
    big = 12582912.0
    near = (x + big) - big
    return tl.where(tl.abs(x) < 4194304.0, near, x)


@triton.jit
def words(first, channel, stream, key):
    """Philox4x32-10 of the counters of noise, see `geoaug.rng.noise`."""
    c0 = first.to(tl.uint32)
    c1 = tl.zeros_like(c0) + (channel.to(tl.uint32) | (stream << 16))
    c2 = tl.zeros_like(c0)
    c3 = tl.zeros_like(c0)
    k0 = (key & 0xFFFFFFFF).to(tl.uint32)
    k1 = ((key >> 32) & 0xFFFFFFFF).to(tl.uint32)
    for _turn in tl.static_range(10):
        m0 = tl.full(c0.shape, 0xD2511F53, tl.uint32)
        m1 = tl.full(c0.shape, 0xCD9E8D57, tl.uint32)
        high0, high1 = tl.umulhi(c0, m0), tl.umulhi(c2, m1)
        low0, low1 = c0 * m0, c2 * m1
        c0 = high1 ^ c1 ^ k0
        c2 = high0 ^ c3 ^ k1
        c1 = low1
        c3 = low0
        k0 = k0 + tl.full(k0.shape, 0x9E3779B9, tl.uint32)
        k1 = k1 + tl.full(k1.shape, 0xBB67AE85, tl.uint32)
    return c0, c1, c2, c3


@triton.jit
def normal(table, first, lane, channel, stream, key):
    """Standard normal numbers of a block of pixels: each takes half a word of the counter it shares with seven more."""
    w0, w1, w2, w3 = words(first, channel, stream, key)
    place = lane % 4
    word = tl.where(
        place == 0,
        w0[None, :],
        tl.where(place == 1, w1[None, :], tl.where(place == 2, w2[None, :], w3[None, :])),
    )
    half = tl.where(lane < 4, word & 0xFFFF, word >> 16) >> 4
    return tl.load(table + half.to(tl.int32))


@triton.jit
def draw_lattice(
    out, terms, keys, channels, table, step, noise, samples, bands, cells, STREAM: tl.constexpr, BLOCK: tl.constexpr
):
    """Draw the points of the lattices of one step: of every sample and band, eight lines side by side."""
    row = tl.program_id(1).to(tl.int64)
    sample, band = row // bands, row % bands
    first = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    lane = tl.arange(0, 8)[:, None]
    kind = tl.load(terms + ((step * samples + sample) * bands + band) * TERMS + LATTICE + 3)
    if kind > 0:
        key = tl.load(keys + (noise * samples + sample) * bands + band)
        channel = tl.load(channels + noise * bands + band)
        number = normal(table, first, lane, channel, STREAM, key)
        tl.store(out + row * GROUP * cells + lane * cells + first[None, :], number, mask=first[None, :] < cells)


@triton.jit
def point(pixel, inverse, start, kind):
    """The first of four neighbours of pixels along an axis of a lattice, and how far they lie beyond the second."""
    start = tl.where(kind == SMOOTH_POINTS, 1.0, start)
    place = pixel.to(tl.float32) * inverse + start
    below = tl.floor(place)
    return below.to(tl.int32) - 1, place - below


@triton.jit
def point_weight(share, start, kind, tap: tl.constexpr):
    """Of one of four neighbours: `lattice.taps`."""
    near = tl.where(share >= 0.5, 1.0, 0.0)
    zero = tl.zeros_like(share)
    if tap == 0:
        by_near, linear, blunt = zero, zero, zero + start
    elif tap == 1:
        by_near, linear, blunt = 1.0 - near, 1.0 - share, zero + tl.sqrt(tl.maximum(1.0 - 2.0 * start * start, 0.0))
    elif tap == 2:
        by_near, linear, blunt = near, share, zero + start
    else:
        by_near, linear, blunt = zero, zero, zero
    weight = tl.where(kind == CUBIC_POINTS, cubic_weight(share, tap), linear)
    weight = tl.where(kind == NEAREST_POINT, by_near, weight)
    return tl.where(kind == SMOOTH_POINTS, blunt, weight)


@triton.jit
def lattice_at(points, numbers, rows, columns, cells, stride, here):
    """The lattice of a band, interpolated to a block of pixels."""
    inverse, start_x, start_y = tl.load(numbers), tl.load(numbers + 1), tl.load(numbers + 2)
    kind = tl.load(numbers + 3)
    left, share_x = point(columns, inverse, start_x, kind)
    top, share_y = point(rows, inverse, start_y, kind)
    found = tl.zeros_like(share_x)
    for tap_y in tl.static_range(4):
        line = top + tap_y
        base = points + (line % GROUP).to(tl.int64) * cells + (line // GROUP) * stride
        across = tl.zeros_like(share_x)
        for tap_x in tl.static_range(4):
            number = tl.load(base + left + tap_x, mask=here, other=0.0)
            across += number * point_weight(share_x, start_x, kind, tap_x)
        found += across * point_weight(share_y, start_y, kind, tap_y)
    return found


@triton.jit
def axis(place, size):
    """The nearer of two neighbours on either side, kept inside the image, and their weights."""
    place = tl.minimum(tl.maximum(place, -2.0), size + 1.0)
    below = tl.floor(place)
    share = place - below
    last = size - 1.0
    low = tl.where((below >= 0.0) & (below <= last), 1.0 - share, 0.0)
    high = tl.where((below >= -1.0) & (below <= last - 1.0), share, 0.0)
    first = tl.minimum(tl.maximum(below, 0.0), last).to(tl.int32)
    second = tl.minimum(tl.maximum(below + 1.0, 0.0), last).to(tl.int32)
    return first, second, low, high


@triton.jit
def corners(x, y, data, width, wide, tall, here, HAS_VALID: tl.constexpr):
    """The four neighbours of places in the input, and their weights, which are those of data alone."""
    left, right, low_x, high_x = axis(x, wide)
    top, bottom, low_y, high_y = axis(y, tall)
    a, b, c, d = low_x * low_y, high_x * low_y, low_x * high_y, high_x * high_y
    if HAS_VALID:
        a = a * tl.load(data + top * width + left, mask=here, other=0).to(tl.float32)
        b = b * tl.load(data + top * width + right, mask=here, other=0).to(tl.float32)
        c = c * tl.load(data + bottom * width + left, mask=here, other=0).to(tl.float32)
        d = d * tl.load(data + bottom * width + right, mask=here, other=0).to(tl.float32)
    return left, right, top, bottom, a, b, c, d


@triton.jit
def cubic_weight(share, tap: tl.constexpr):
    """Of one of four neighbours: `band_grids.cubic_weights`."""
    if tap == 0:
        weight = ((1.0 - 0.5 * share) * share - 0.5) * share
    elif tap == 1:
        weight = (1.5 * share - 2.5) * share * share + 1.0
    elif tap == 2:
        weight = ((2.0 - 1.5 * share) * share + 0.5) * share
    else:
        weight = (0.5 * share - 0.5) * share * share
    return weight


@triton.jit
def cubic_axis(place, size, tap: tl.constexpr):
    """One of four neighbours along an axis, kept inside the image, and its weight."""
    place = tl.minimum(tl.maximum(place, -3.0), size + 2.0)
    below = tl.floor(place)
    at = below + (tap - 1.0)
    weight = tl.where((at >= 0.0) & (at <= size - 1.0), cubic_weight(place - below, tap), 0.0)
    return tl.minimum(tl.maximum(at, 0.0), size - 1.0).to(tl.int32), weight


@triton.jit
def cubic_tap(x, y, data, width, wide, tall, here, tap: tl.constexpr, HAS_VALID: tl.constexpr):
    """One of sixteen neighbours of places in the input, and its weight, which is that of data alone."""
    column, weight_x = cubic_axis(x, wide, tap % 4)
    row, weight_y = cubic_axis(y, tall, tap // 4)
    weight = weight_x * weight_y
    if HAS_VALID:
        weight = weight * tl.load(data + row * width + column, mask=here, other=0).to(tl.float32)
    return column, row, weight


@triton.jit
def place_in(x, y, matrix, place, across, down, shift, MOST: tl.constexpr, APART: tl.constexpr):
    """One of the places of every output pixel that are averaged, moved to where a band lies.

    `x` and `y` are the centres; a place lies a fraction of a pixel of the output beside them.
    """
    if MOST > 1:
        beside_x = ((place % across).to(tl.float32) + 0.5) / across.to(tl.float32) - 0.5
        beside_y = ((place // across).to(tl.float32) + 0.5) / down.to(tl.float32) - 0.5
        x = x + (tl.load(matrix) * beside_x + tl.load(matrix + 1) * beside_y)
        y = y + (tl.load(matrix + 3) * beside_x + tl.load(matrix + 4) * beside_y)
    if APART:
        x = x + tl.load(shift)
        y = y + tl.load(shift + 1)
    return x, y


@triton.jit
def between(pixel, length, cells):
    """The first of two coarse cells that pixels lie between, the second, and how far they lie towards that."""
    place = tl.maximum((pixel.to(tl.float32) + 0.5) * (cells / length) - 0.5, 0.0)
    first = tl.minimum(place.to(tl.int32), cells - 1)
    return first, tl.minimum(first + 1, cells - 1), place - first.to(tl.float32)


@triton.jit
def layer_at(
    values,
    numbers,
    layout,
    views,
    layer: tl.constexpr,
    layers: tl.constexpr,
    band,
    row,
    rows,
    columns,
    height,
    width,
    here,
    KIND: tl.constexpr,
    BY_BAND: tl.constexpr,
):
    """One layer of a source at a block of pixels."""
    if KIND == PLANES:
        step = band if BY_BAND else layer
        at = tl.load(layout) + row * tl.load(layout + 1) + step * tl.load(layout + 2)
        at = at + rows * tl.load(layout + 3) + columns * tl.load(layout + 4)
        found = tl.load(values + at, mask=here, other=0.0)
    elif KIND == LINES:
        at = tl.load(numbers) * columns.to(tl.float32)
        at = tl.maximum(at + (tl.load(numbers + 1) * rows.to(tl.float32) + tl.load(numbers + 2)), 0.0)
        below = tl.floor(at)
        line = below.to(tl.int32) % (tl.load(layout + 5).to(tl.int32) - 1)
        lines = values + tl.load(layout) + row * tl.load(layout + 1) + band * tl.load(layout + 2)
        before = tl.load(lines + line, mask=here, other=0.0)
        found = before + (at - below) * (tl.load(lines + line + 1, mask=here, other=0.0) - before)
    elif KIND == SEEN:
        view = views + band * 3
        plane = (tl.load(view) * layers + layer) * tl.load(layout + 2)
        at = tl.load(layout) + row * tl.load(layout + 1) + plane
        at = at + (rows + tl.load(view + 1)) * tl.load(layout + 3) + (columns + tl.load(view + 2))
        found = tl.load(values + at, mask=here, other=0.0)
    elif KIND == CELLS:
        wide = tl.load(layout + 3).to(tl.int32)
        left, right, share_x = between(columns, width, wide)
        top, bottom, share_y = between(rows, height, tl.load(layout + 5).to(tl.int32))
        cells = values + tl.load(layout) + row * tl.load(layout + 1) + band * tl.load(layout + 2)
        a = tl.load(cells + top * wide + left, mask=here, other=0.0)
        b = tl.load(cells + top * wide + right, mask=here, other=0.0)
        c = tl.load(cells + bottom * wide + left, mask=here, other=0.0)
        d = tl.load(cells + bottom * wide + right, mask=here, other=0.0)
        upper, lower = a + share_x * (b - a), c + share_x * (d - c)
        found = upper + share_y * (lower - upper)
    elif KIND == RAMP:
        x = (columns.to(tl.float32) + 0.5) / width - 0.5
        y = (rows.to(tl.float32) + 0.5) / height - 0.5
        found = tl.load(numbers + 1) * x + (tl.load(numbers + 2) * y + tl.load(numbers))
    else:
        x = columns.to(tl.float32) - (width - 1.0) / 2
        y = rows.to(tl.float32) - (height - 1.0) / 2
        across = tl.load(numbers) * x + (tl.load(numbers + 1) * y + tl.load(numbers + 4))
        down = tl.load(numbers + 2) * x + (tl.load(numbers + 3) * y + tl.load(numbers + 5))
        left, top = tl.floor(across), tl.floor(down)
        share_x, share_y = across - left, down - top
        period = tl.load(layout + 5).to(tl.int32)
        column = left.to(tl.int32) % period
        column = tl.where(column < 0, column + period, column)
        line = top.to(tl.int32) % period
        line = tl.where(line < 0, line + period, line)
        column_after = tl.where(column + 1 < period, column + 1, 0)
        line_after = tl.where(line + 1 < period, line + 1, 0)
        field = values + tl.load(layout) + row * tl.load(layout + 1)
        a = tl.load(field + line * period + column, mask=here, other=0.0)
        b = tl.load(field + line * period + column_after, mask=here, other=0.0)
        c = tl.load(field + line_after * period + column, mask=here, other=0.0)
        d = tl.load(field + line_after * period + column_after, mask=here, other=0.0)
        upper, lower = a + share_x * (b - a), c + share_x * (d - c)
        excess = upper + share_y * (lower - upper) - tl.load(numbers + 6)
        if KIND == VEIL and layer == 2:
            near = tl.minimum(tl.maximum(excess * 2 + 1, 0.0), 1.0)
            found = near * near
        else:
            above = tl.maximum(excess, 0.0)
            thickness = above * tl.sqrt(above) * tl.load(numbers + 7)
            back = thickness / (thickness + 2)
            if KIND == VEIL and layer == 1:
                found = back
            elif KIND == VEIL:
                deep = thickness * tl.load(numbers + 8)
                direct = 1 / (1 + deep * (1 + deep * (0.5 + deep / 6)))
                if layer == 0:
                    found = 1 - (1 - back) * direct
                else:
                    found = (1 - back) * ((1 - back) - direct)
            else:
                found = back * (2 - back)
    return found


@triton.jit
def decoded(value, offset, scale, UNIT: tl.constexpr):
    if UNIT == 1:
        value = (value + offset) / scale
        value = value * value
    elif UNIT == 2:
        value = tl.exp2((value + offset) / scale * 0.33219280948873623)
    return value


@triton.jit
def fused(
    image,
    valid,
    mask,
    out,
    out_valid,
    out_mask,
    cloud,
    flags,
    back,
    places,
    shift,
    span,
    planes,
    everywhere,
    whole_rows,
    decoding,
    terms,
    keys,
    channels,
    values,
    numbers,
    layout,
    views,
    applied,
    gain,
    offset,
    table,
    lattices,
    samples,
    image_b,
    image_n,
    image_y,
    image_x,
    height,
    width,
    out_b,
    out_n,
    out_p,
    height_out,
    width_out,
    bands,
    blocks,
    cells,
    least,
    minimum,
    full,
    fill,
    low,
    high,
    avoid,
    ignore,
    KINDS: tl.constexpr,
    SOURCE_OF: tl.constexpr,
    NOISY: tl.constexpr,
    PENDING: tl.constexpr,
    NOISE: tl.constexpr,
    STREAM: tl.constexpr,
    POINTS: tl.constexpr,
    SOURCES: tl.constexpr,
    LAYERS: tl.constexpr,
    LABELS: tl.constexpr,
    TOTAL: tl.constexpr,
    DATES: tl.constexpr,
    MOST: tl.constexpr,
    NEAREST: tl.constexpr,
    CUBIC: tl.constexpr,
    SHARP: tl.constexpr,
    EVERYWHERE: tl.constexpr,
    HAS_VALID: tl.constexpr,
    HAS_MASK: tl.constexpr,
    HAS_FLAGS: tl.constexpr,
    APART: tl.constexpr,
    UNIT: tl.constexpr,
    UNTOUCHED: tl.constexpr,
    WHOLE: tl.constexpr,
    FINAL: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Run one program on all pixels; arguments as `kernels.tritonic` lays them out."""
    sample = tl.program_id(1).to(tl.int64)
    first = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    lane = tl.arange(0, 8)[:, None]
    pixel = lane * blocks + first[None, :]
    total = height_out * width_out
    here = (first[None, :] < blocks) & (pixel < total)
    rows, columns = pixel // width_out, pixel % width_out
    wide, tall = width * 1.0, height * 1.0
    wide_out, tall_out = width_out * 1.0, height_out * 1.0
    matrix = back + sample * 6
    a, b, c = tl.load(matrix), tl.load(matrix + 1), tl.load(matrix + 2)
    d, e, f = tl.load(matrix + 3), tl.load(matrix + 4), tl.load(matrix + 5)
    centre_x = columns.to(tl.float32) - (wide_out - 1.0) * 0.5
    centre_y = rows.to(tl.float32) - (tall_out - 1.0) * 0.5
    x = a * centre_x + (b * centre_y + c)
    y = d * centre_x + (e * centre_y + f)
    if NEAREST:
        x, y = tl.floor(x + 0.5), tl.floor(y + 0.5)
    picture = image + sample * image_b
    data = valid + sample * height * width
    across, down = 1, 1
    if MOST > 1:
        across, down = tl.load(places + sample * 2), tl.load(places + sample * 2 + 1)
    share = 1.0 / (across * down).to(tl.float32) if MOST > 1 else 1.0

    # Validity first: it is one for all bands.
    good = here
    if APART:
        least_x, most_x = tl.load(span + sample * 4), tl.load(span + sample * 4 + 1)
        least_y, most_y = tl.load(span + sample * 4 + 2), tl.load(span + sample * 4 + 3)
        in_x = tl.minimum(tl.maximum(tl.minimum(x + least_x + 1, wide - x - most_x), 0.0), 1.0)
        in_y = tl.minimum(tl.maximum(tl.minimum(y + least_y + 1, tall - y - most_y), 0.0), 1.0)
        good = good & (in_x * in_y >= least)
    checks = bands if APART else 1
    factor = tl.zeros([8, BLOCK], tl.float32) + share
    for check in range(checks):
        held = tl.zeros([8, BLOCK], tl.float32)
        for place in range(across * down):
            beside = shift + (sample * bands + check) * 2
            px, py = place_in(x, y, matrix, place, across, down, beside, MOST, APART)
            if CUBIC:
                for tap in tl.static_range(16):
                    _column, _row, part_of = cubic_tap(px, py, data, width, wide, tall, here, tap, HAS_VALID)
                    held += part_of
            else:
                left, right, top, bottom, wa, wb, wc, wd = corners(px, py, data, width, wide, tall, here, HAS_VALID)
                held += (wa + wb) + (wc + wd)
        held = held * share
        good = good & (held >= least)
        factor = tl.where(held > full, share, share / tl.maximum(held, minimum))

    # Labels that clouds give, then what they make no data.
    gone = tl.full([8, BLOCK], 1, tl.int1) & (DATES > 0)
    ignored = gone
    for date in tl.static_range(DATES):
        row = sample * DATES + date
        marks = tl.zeros([8, BLOCK], tl.int32)
        if HAS_FLAGS:
            mark_at = (sample * DATES + date) * total + pixel
            marks = tl.load(flags + mark_at, mask=here, other=0).to(tl.int32)
            cloudy = tl.load(cloud + mark_at, mask=here, other=0).to(tl.int32)
            for source in tl.static_range(len(SOURCES)):
                if len(LABELS[source]) > 0:
                    veil = layer_at(
                        values,
                        numbers + (source * samples * DATES + row) * NUMBERS,
                        layout + source * 6,
                        views + (source * samples * DATES + row) * (bands // DATES + 1) * 3,
                        LABELS[source][0],
                        LAYERS[source],
                        bands // DATES,
                        row,
                        rows,
                        columns,
                        tall_out,
                        wide_out,
                        here,
                        SOURCES[source][0],
                        False,
                    )
                    there = tl.load(applied + source * samples * DATES + row) != 0
                    for limit in tl.static_range(len(LABELS[source][2])):
                        cloudy = tl.where(there & (veil > LABELS[source][2][limit]), LABELS[source][3][limit], cloudy)
                    if LABELS[source][1] > 0:
                        thick = there & (veil > LABELS[source][2][len(LABELS[source][2]) - 1])
                        marks = tl.where(thick, marks | LABELS[source][1], marks)
            tl.store(flags + mark_at, marks.to(tl.uint8), mask=here)
            tl.store(cloud + mark_at, cloudy.to(tl.uint8), mask=here)
        gone = gone & ((marks & 2) != 0)
        ignored = ignored & ((marks & 1) != 0)
    if FINAL:
        good = good & (gone == 0)
    tl.store(out_valid + sample * total + pixel, good.to(tl.uint8), mask=here)
    if HAS_MASK:
        near_x, near_y = tl.floor(x + 0.5), tl.floor(y + 0.5)
        inside = (near_x >= 0) & (near_x <= wide - 1) & (near_y >= 0) & (near_y <= tall - 1) & here
        near = tl.where(inside, near_y.to(tl.int32) * width + near_x.to(tl.int32), 0)
        kept = good & inside & (ignored == 0)
        if HAS_VALID:
            kept = kept & (tl.load(data + near, mask=inside, other=0) != 0)
        label = tl.load(mask + sample * height * width + near, mask=inside, other=0)
        tl.store(out_mask + sample * total + pixel, tl.where(kept, label, ignore.to(label.dtype)), mask=here)

    for band in range(bands):
        plane = picture + band * image_n
        value = tl.zeros([8, BLOCK], tl.float32)
        weight = factor
        raw_offset, raw_scale = 0.0, 1.0
        if UNIT > 0:
            raw_offset = tl.load(decoding + 2 * (band % (bands // DATES)))
            raw_scale = tl.load(decoding + 2 * (band % (bands // DATES)) + 1)
        held = tl.zeros([8, BLOCK], tl.float32)
        # What has been resampled by two passes is not read once more.
        seen, sharp = good, (pixel < 0)
        if SHARP:
            sharp = here
            if not EVERYWHERE:
                check = band if APART else 0
                kept_at = (sample * (bands if APART else 1) + check) * total + pixel
                sharp = tl.load(everywhere + kept_at, mask=here, other=0) != 0
            seen = good & (sharp == 0)
        for place in range(across * down):
            beside = shift + (sample * bands + band) * 2
            px, py = place_in(x, y, matrix, place, across, down, beside, MOST, APART)
            # Neighbours without weight are not read: they may be NaN, and an exact plan reads one pixel for one.
            if CUBIC:
                for tap in tl.static_range(16):
                    at_x, at_y, part_of = cubic_tap(px, py, data, width, wide, tall, here, tap, HAS_VALID)
                    held += part_of
                    needed = seen & (part_of != 0)
                    read = tl.load(plane + at_y * image_y + at_x * image_x, mask=needed, other=0).to(tl.float32)
                    if UNIT > 0:
                        read = decoded(read, raw_offset, raw_scale, UNIT)
                    value += part_of * read
            else:
                left, right, top, bottom, wa, wb, wc, wd = corners(px, py, data, width, wide, tall, here, HAS_VALID)
                held += (wa + wb) + (wc + wd)
                va = tl.load(plane + top * image_y + left * image_x, mask=seen & (wa > 0), other=0).to(tl.float32)
                vb = tl.load(plane + top * image_y + right * image_x, mask=seen & (wb > 0), other=0).to(tl.float32)
                vc = tl.load(plane + bottom * image_y + left * image_x, mask=seen & (wc > 0), other=0).to(tl.float32)
                vd = tl.load(plane + bottom * image_y + right * image_x, mask=seen & (wd > 0), other=0).to(tl.float32)
                if UNIT > 0:
                    va, vb = decoded(va, raw_offset, raw_scale, UNIT), decoded(vb, raw_offset, raw_scale, UNIT)
                    vc, vd = decoded(vc, raw_offset, raw_scale, UNIT), decoded(vd, raw_offset, raw_scale, UNIT)
                value += (wa * va + wb * vb) + (wc * vc + wd * vd)
        if APART:
            held = held * share
            weight = tl.where(held > full, share, share / tl.maximum(held, minimum))
        value = value * weight
        if SHARP:
            taken = tl.load(planes + (sample * bands + band) * total + pixel, mask=sharp, other=0)
            value = tl.where(sharp, taken, value)

        variance = tl.zeros([8, BLOCK], tl.float32)
        for step in tl.static_range(len(KINDS)):
            spot = ((step * samples + sample) * bands + band) * TERMS
            if KINDS[step] == NORMAL or KINDS[step] == GAMMA:
                key = tl.load(keys + (NOISE[step] * samples + sample) * bands + band)
                channel = tl.load(channels + NOISE[step] * bands + band)
                if POINTS[step] >= 0:
                    points = lattices + ((POINTS[step] * samples + sample) * bands + band) * GROUP * cells
                    if tl.load(terms + spot + LATTICE + 3) > 0:
                        number = lattice_at(
                            points, terms + spot + LATTICE, rows, columns, cells, width_out + MARGIN, here
                        )
                    else:
                        number = normal(table, first, lane, channel, STREAM[step], key)
                else:
                    number = normal(table, first, lane, channel, STREAM[step], key)
            if KINDS[step] == AFFINE:
                by, more = tl.load(terms + spot), tl.load(terms + spot + 1)
                if SOURCE_OF[step] >= 0:
                    row = sample * DATES + band // (bands // DATES)
                    there = tl.load(applied + SOURCE_OF[step] * samples * DATES + row) != 0
                    by = tl.zeros([8, BLOCK], tl.float32) + by
                    more = tl.zeros([8, BLOCK], tl.float32) + more
                    for layer in tl.static_range(LAYERS[SOURCE_OF[step]]):
                        part = layer_at(
                            values,
                            numbers + (SOURCE_OF[step] * samples * DATES + row) * NUMBERS,
                            layout + SOURCE_OF[step] * 6,
                            views + (SOURCE_OF[step] * samples * DATES + row) * (bands // DATES + 1) * 3,
                            layer,
                            LAYERS[SOURCE_OF[step]],
                            band % (bands // DATES),
                            row,
                            rows,
                            columns,
                            tall_out,
                            wide_out,
                            here,
                            SOURCES[SOURCE_OF[step]][0],
                            SOURCES[SOURCE_OF[step]][1],
                        )
                        part = tl.where(there, part, 0.0)
                        at = (sample * bands + band) * TOTAL + SOURCES[SOURCE_OF[step]][2] + layer
                        by += part * tl.load(gain + at)
                        more += part * tl.load(offset + at)
                if PENDING[step]:
                    variance = variance * by * by
                if NOISY[step]:
                    floor, slope = tl.load(terms + spot + 2), tl.load(terms + spot + 3)
                    variance += tl.maximum(value * slope + floor, 0.0)
                value = value * by + more
            elif KINDS[step] == NORMAL:
                value += tl.sqrt(variance) * number
                variance = tl.zeros([8, BLOCK], tl.float32)
            elif KINDS[step] == GAMMA:
                root = tl.maximum(number * tl.load(terms + spot + 1) + tl.load(terms + spot), 0.0)
                speckle = root * root * root
                value = value * ((speckle - 1) * tl.load(terms + spot + 2) + 1) + tl.load(terms + spot + 3) * speckle
            elif KINDS[step] == STEPS:
                value = tl.minimum(value, tl.load(terms + spot))
                size = tl.load(terms + spot + 1)
                value = tl.where(size > 0, rint(value / tl.where(size > 0, size, 1.0)) * size, value)
            elif KINDS[step] == AMPLITUDE:
                value = tl.sqrt(tl.maximum(value, 0.0))
            elif KINDS[step] == LIGHT:
                raised = tl.exp2(tl.log2((tl.maximum(value, TOE_DISPLAY) + LIFT) / (1 + LIFT)) * EXPONENT)
                value = tl.where(value <= TOE_DISPLAY, value / SLOPE, raised)
            elif KINDS[step] == DISPLAY:
                raised = tl.exp2(tl.log2(tl.maximum(value, TOE_LIGHT)) / EXPONENT) * (1 + LIFT) - LIFT
                value = tl.where(value <= TOE_LIGHT, value * SLOPE, raised)
            else:
                value = tl.log2(tl.maximum(value, 1e-10)) * 3.010299956639812
        if UNTOUCHED:
            # An exact plan gives back what was stored; a curve there and back would lose the last bit.
            near_y = tl.minimum(tl.maximum(tl.floor(y + 0.5), 0.0), tall - 1).to(tl.int32)
            near_x = tl.minimum(tl.maximum(tl.floor(x + 0.5), 0.0), wide - 1).to(tl.int32)
            raw = tl.load(plane + near_y * image_y + near_x * image_x, mask=good, other=0).to(tl.float32)
            value = tl.where(tl.load(whole_rows + sample) != 0, raw, value)
        if WHOLE:
            value = tl.minimum(tl.maximum(rint(value), low), high)
            value = tl.where(value == fill, value + avoid, value)
        value = tl.where(good, value, fill)
        tl.store(out + sample * out_b + band * out_n + pixel * out_p, value.to(out.dtype.element_ty), mask=here)
