"""From columns of a table to numpy and back, without pandas.

Pyarrow's own `to_numpy`, `array` and `scalar` import pandas on first use, which takes as long as half of what else is
done before a first batch. What is rare, or makes a file, uses them nevertheless.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa


def to_numpy(column: pa.Array | pa.ChunkedArray) -> npt.NDArray[Any]:
    """A column's values as pyarrow's `to_numpy(zero_copy_only=False)` gives them.

    NaN for a missing number, NaT for a missing moment; objects, with None, for text, bytes and booleans of which some
    are missing.
    """
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if isinstance(array, pa.ChunkedArray):  # more than one array can hold
        return np.concatenate([to_numpy(chunk) for chunk in array.chunks])
    kind = array.type
    if pa.types.is_timestamp(kind):
        moments = _stored(array.cast(pa.int64())).view(f"datetime64[{kind.unit}]")
        return np.where(_known(array), moments, np.datetime64("NaT")) if array.null_count else moments
    if pa.types.is_boolean(kind) and not array.null_count:
        return _stored(array.cast(pa.uint8())).view(bool)
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        return np.where(_known(array), _stored(array), np.nan) if array.null_count else _stored(array)
    if not pa.types.is_string(kind):
        return _objects(array.to_pylist())
    coded = array.dictionary_encode()  # most columns of text say few things many times
    values = _objects([*coded.dictionary.to_pylist(), None])
    return values[np.where(_known(array), _stored(coded.indices), -1) if array.null_count else _stored(coded.indices)]


def whole_numbers(
    values: npt.ArrayLike, kind: Any = np.int64, *, missing: npt.NDArray[np.bool_] | None = None
) -> pa.Array:
    """An array of whole numbers."""
    numbers = np.ascontiguousarray(values, dtype=kind)
    known = None if missing is None else pa.py_buffer(np.packbits(~missing, bitorder="little"))
    return pa.Array.from_buffers(pa.from_numpy_dtype(numbers.dtype), len(numbers), [known, pa.py_buffer(numbers)])


def text_scalar(text: str) -> pa.Scalar:
    """Text as an argument of a function of pyarrow."""
    encoded = text.encode()
    offsets = np.array([0, len(encoded)], dtype=np.int32)
    return pa.Array.from_buffers(pa.string(), 1, [None, pa.py_buffer(offsets), pa.py_buffer(encoded)])[0]


def _stored(array: pa.Array) -> npt.NDArray[Any]:
    """The numbers of an array, anything where they are missing."""
    if not len(array):
        return np.empty(0, dtype=array.type.to_pandas_dtype())
    dtype = np.dtype(array.type.to_pandas_dtype())
    return np.frombuffer(array.buffers()[1], dtype, len(array), array.offset * dtype.itemsize)


def _known(array: pa.Array) -> npt.NDArray[np.bool_]:
    return to_numpy(array.is_valid())


def _objects(values: list[Any]) -> npt.NDArray[Any]:
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array
