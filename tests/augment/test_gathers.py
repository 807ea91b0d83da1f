"""Both ways in which the compiled CPU executor reads pixels, whichever of them this processor takes."""

import ctypes
import mmap
import sys
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
from numba import njit

from geoaug.augment.kernels import gathers, vectors
from geoaug.augment.kernels.loops import LANES, OPTIONS

Array = npt.NDArray[np.generic]
Take = Callable[..., None]

_OPTIONS = {name: value for name, value in OPTIONS.items() if name != "cache"}
_SIZES = ((1, 1), (1, 2), (2, 1), (1, 9), (5, 1), (4, 4), (13, 17))
_LENGTH = 48
_CUBIC = "cubic_vectors", "cubic_pixels"


def _compiled(body: Take) -> Take:
    compiled: Take = njit(**_OPTIONS)(body)
    return compiled


_BODIES = {
    name: _compiled(getattr(gathers, name)) for name in ("take_vectors", "take_integers", "take_floats", *_CUBIC)
}


def _run(name: str, source: Array, places: Array, weights: Array, size: tuple[int, int], *, guarded: bool) -> Array:
    """Values that were 1 before, with the sum by weights added."""
    values, pairs = np.ones((LANES, _LENGTH), np.float32), np.zeros((2, _LENGTH), np.uint32)
    spare = () if name.startswith("cubic") else (pairs,)
    _BODIES[name](source, places, weights, _LENGTH, size, *spare, values, True, guarded)
    return values


def _case(size: tuple[int, int], dtype: str, taps: int) -> tuple[Array, Array, Array, Array]:
    """Pixels, first places, weights (zero for neighbours that the image lacks), and the values expected."""
    rng = np.random.default_rng([*size, taps])
    low, high = (0, 2**16 - 1) if dtype == "float32" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    source = rng.integers(low, high, size, endpoint=True).astype(dtype)
    rows, columns = (rng.integers(0, max(n - taps, 0) + 1, (LANES, _LENGTH)) for n in size)
    weights = rng.random((taps, taps, LANES, _LENGTH)).astype(np.float32)
    expected = np.ones((LANES, _LENGTH))
    for down in range(taps):
        for across in range(taps):
            y, x = rows + down, columns + across
            share = weights[down, across]
            share[(y >= size[0]) | (x >= size[1])] = 0
            expected += share.astype(np.float64) * source[y.clip(max=size[0] - 1), x.clip(max=size[1] - 1)]
    places = (rows * size[1] + columns).astype(np.uint32)
    return source.reshape(-1), places, weights.reshape(taps * taps, LANES, _LENGTH), expected


def _at_end_of_memory(pixels: Array) -> Array:
    """A copy whose last byte is the last one that may be read: the process ends where more is."""
    page = mmap.PAGESIZE
    memory = mmap.mmap(-1, 2 * page)
    start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    if sys.platform != "win32":
        assert ctypes.CDLL(None).mprotect(ctypes.c_void_p(start + page), ctypes.c_size_t(page), 0) == 0
    placed = np.frombuffer(memory, pixels.dtype, pixels.size, page - pixels.nbytes)
    placed[:] = pixels
    return placed


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["uint16", "uint8", "int16", "float32"])
def test_pixels_are_summed_by_weight_on_every_road(dtype: str) -> None:
    floats = dtype == "float32"
    for taps, names in ((2, ("take_vectors", "take_floats" if floats else "take_integers")), (4, _CUBIC)):
        for size in _SIZES:
            pixels, places, weights, expected = _case(size, dtype, taps)
            source = _at_end_of_memory(pixels)
            for name in names:
                for guarded in (False, True):
                    values = _run(name, source, places, weights, size, guarded=guarded)
                    told = f"{name} of {size}, {guarded=}"
                    np.testing.assert_allclose(values, expected, rtol=2e-5, atol=0.1, err_msg=told)
        if floats:
            _check_what_has_no_weight(names, taps)


def _check_what_has_no_weight(names: tuple[str, str], taps: int) -> None:
    """It may be NaN, if guarded."""
    size = (13, 17)
    source, places, weights, _ = _case(size, "float32", taps)
    source[::3] = np.nan
    for tap in range(taps * taps):
        at = places + np.uint32(tap // taps * size[1] + tap % taps)
        weights[tap][np.isnan(source[at])] = 0
    first, second = (_run(name, source, places, weights, size, guarded=True) for name in names)
    assert np.isfinite(first).all()
    np.testing.assert_array_equal(first, second)


def test_both_halves_of_words_are_looked_up() -> None:
    rng = np.random.default_rng(1)
    table = rng.random(4096).astype(np.float32)
    words = rng.integers(0, 2**32, vectors.VECTOR, dtype=np.uint32)
    low, high = np.zeros(vectors.VECTOR, np.float32), np.zeros(vectors.VECTOR, np.float32)
    _compiled(lambda *arrays: vectors.look_up(*arrays, 0))(table, words, low, high)
    np.testing.assert_array_equal(low, table[(words & 0xFFFF) >> 4])
    np.testing.assert_array_equal(high, table[words >> 20])


def test_the_instruction_is_used_where_the_processor_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    features = vectors.cpu_target.target_context.codegen().magic_tuple()[2].split(",")
    monkeypatch.setattr(vectors.Path, "read_text", lambda self: "Not affected\n")
    assert vectors._has_fast_gathers() == ("+avx512f" in features)
    monkeypatch.setattr(vectors.Path, "read_text", lambda self: "Mitigation: Microcode\n")
    assert not vectors._has_fast_gathers()
