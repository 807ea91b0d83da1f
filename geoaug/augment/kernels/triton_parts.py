"""Parts of the Triton kernel: the noise generator, interpolation along an axis, layers, decoding."""

import triton
import triton.language as tl

from geoaug.augment.kernels import kinds

AFFINE = tl.constexpr(kinds.AFFINE)
NORMAL = tl.constexpr(kinds.NORMAL)
GAMMA = tl.constexpr(kinds.GAMMA)
STEPS = tl.constexpr(kinds.STEPS)
AMPLITUDE = tl.constexpr(kinds.AMPLITUDE)
PLANES = tl.constexpr(kinds.PLANES)
RAMP = tl.constexpr(kinds.RAMP)
VEIL = tl.constexpr(kinds.VEIL)


@triton.jit
def rint(x):
    """To the nearest whole number, halves to even, by what float32 cannot hold; exact below 2^22."""
    big = 12582912.0
    near = (x + big) - big
    return tl.where(tl.abs(x) < 4194304.0, near, x)


@triton.jit
def words(first, channel, stream, key):
    """Philox4x32-10 of the counters of noise, see `geoaug.noise`."""
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
    """Of one of four neighbours: `warp.cubic_weights`."""
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
def layer_at(
    values,
    numbers,
    layout,
    layer: tl.constexpr,
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
            glow = tl.minimum(tl.maximum(excess * 2 + 1, 0.0), 1.0)
            found = glow * glow
        else:
            above = tl.maximum(excess, 0.0)
            thickness = above * tl.sqrt(above) * tl.load(numbers + 7)
            back = thickness / (thickness + 2)
            if KIND == VEIL and layer == 1:
                found = back
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
