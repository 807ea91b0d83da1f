"""What the compiled executors read and write: numbers for kinds of steps and of layers, and for the CPU the arrays.

`lowering` makes steps of segments, `compiled` lays them out as these arrays. Neither torch nor Numba is used here.
"""

from typing import Any, NamedTuple

# Kinds of steps, and of sources of layers.
AFFINE, NORMAL, GAMMA, STEPS, AMPLITUDE, DECIBEL, LIGHT, DISPLAY = range(8)
PLANES, RAMP, VEIL, SHADE, LINES, CELLS, SEEN = range(7)

# Numbers of a step for one sample and band: four of its own, and four of the lattice that its noise is drawn on.
TERMS, LATTICE = 8, 4
# Numbers that describe a layer's source for one row.
NUMBERS = 9


class Input(NamedTuple):
    """What is sampled.

    Attributes:
        image: (b, n, h*w), as stored, one of four by type: uint8, uint16, int16, float32; the others are empty. So
            there is one compiled function, whatever the types.
        stored: which of them.
        valid: (b, h*w), or (b, 0) where all pixels hold data; for floats it is there, and NaN is noted in it.
        whole: whether the batch knows of no invalid pixel, NaN aside.
        size: height and width.
        back: (b, 6) float32, from pixels about the middle of the output to those of the input.
        exact: (b,) where pixels are copied.
        subs: (b, 2) places along both axes of an output pixel that are averaged.
        shift: (b, n, 2) float32 by which bands lie apart, or (b, 0, 2).
        nearest: whether coordinates are rounded.
        cubic: whether sixteen neighbours are weighed instead of four.
        sharp: whether two passes of a sinc are made (`kernels.two_pass`).
        swapped: (b,) where the input is transposed before them.
        passes: (b, n, 6) int64 terms of both; of all bands at once where they do not lie apart.
        taps: (b, 2) pixels weighed in each.
        tables: (b, 2) which weights each takes, of those below.
        weights: (tables, phases * taps) of all widths, each as long as it has taps.
    """

    image: tuple[Any, Any, Any, Any]
    stored: int
    valid: Any
    whole: bool
    size: tuple[int, int]
    back: Any
    exact: Any
    subs: Any
    shift: Any
    nearest: bool
    cubic: bool
    sharp: bool
    swapped: Any
    passes: Any
    taps: Any
    tables: Any
    weights: Any


class Steps(NamedTuple):
    """What is done to values: `kernels.lowering.Step`, as arrays; `noise` is a row of keys and channels, or -1."""

    kind: Any
    source: Any
    noisy: Any
    noise: Any
    stream: Any
    terms: Any
    keys: Any
    channels: Any


class Sources(NamedTuple):
    """`kernels.lowering.Source`, as arrays.

    Attributes:
        kind, layers, by_band, applied, numbers: as there, one row a source.
        first: its first layer among all.
        values: all planes and fields, flat.
        layout: its first value there, and the strides of rows, layers or bands, lines and columns; for a field, its
            period comes last, for lines and lines of cells their number.
        label: whether it has labels, of which layer, how many, and what becomes of thick clouds (0, 1, 2: keep,
            ignore, invalid).
        limits, classes: of the labels.
        gain, offset: (b, n, layers of all) weights.
        mixing: for `CELLS`, what makes the surroundings of means of the input: share of aerosol, gain, offset, bend and
            path of every source, row and band of a date. Their cells in `values` are filled when a sample's turn comes.
        views: for `SEEN`, of every source, row and band of a date, and last of labels: which group of layers is seen,
            and the line and column of the planes that the tile begins at.
    """

    kind: Any
    layers: Any
    by_band: Any
    applied: Any
    numbers: Any
    first: Any
    values: Any
    layout: Any
    label: Any
    limits: Any
    classes: Any
    gain: Any
    offset: Any
    mixing: Any
    views: Any


class Output(NamedTuple):
    """Where results go.

    Attributes:
        image: (b, n, h*w), one of four by type, as in `Input`.
        stored: which of them.
        valid: (b, h*w).
        cloud: (b, t, h*w) labels, or none.
        flags: (b, t, h*w): bit 0 where labels are to be ignored, bit 1 where pixels are to be no data; or none.
        size: height and width.
        final: whether flags become validity now.
    """

    image: tuple[Any, Any, Any, Any]
    stored: int
    valid: Any
    cloud: Any
    flags: Any
    size: tuple[int, int]
    final: bool


class Rules(NamedTuple):
    """How validity and values are written.

    Attributes:
        least: share of valid weight below which a pixel is no data.
        minimum: share that missing weight is made up for at most.
        full: share from which none is missing.
        fill: value of pixels without data.
        whole: whether values are rounded, and kept between `low` and `high`.
        avoid: what is added to a value that would come out as fill; 0: nothing.
    """

    least: Any
    minimum: Any
    full: Any
    fill: Any
    whole: bool
    low: Any
    high: Any
    avoid: Any
