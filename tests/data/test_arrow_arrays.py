"""Columns come to numpy as pyarrow itself brings them, and go back."""

from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from geoaug.data.catalog.arrow_arrays import text_scalar, to_numpy, whole_numbers

COLUMNS: dict[str, tuple[list[Any], pa.DataType]] = {
    "whole": ([3, -1, 2, 7], pa.int32()),
    "whole, some missing": ([3, None, 2, 7], pa.int64()),
    "small": ([3, 255, 2, 0], pa.uint8()),
    "fractions": ([0.5, 1.5, float("inf"), -2.0], pa.float64()),
    "fractions, some missing": ([0.5, None, 1.5, None], pa.float32()),
    "flags": ([True, False, True, True], pa.bool_()),
    "flags, some missing": ([True, None, False, True], pa.bool_()),
    "text": (["a", "b", "a", ""], pa.string()),
    "text, some missing": (["a", None, "\u00e4", None], pa.string()),
    "text, all missing": ([None] * 4, pa.string()),
    "bytes": ([b"a", None, b"\x00", b""], pa.binary()),
    "moments": ([datetime(2024, 1, day, tzinfo=UTC) for day in (1, 2, 3, 4)], pa.timestamp("us", tz="UTC")),
    "moments, some missing": ([datetime(2024, 1, 1, tzinfo=UTC), None, None, None], pa.timestamp("us", tz="UTC")),
}


@pytest.mark.parametrize("name", COLUMNS)
def test_columns_come_as_pyarrow_brings_them(name: str) -> None:
    values, kind = COLUMNS[name]
    whole = pa.array(values, kind)
    for column in (whole, whole[1:3], whole[:0], pa.chunked_array([whole[:1], whole[1:]]), pa.chunked_array([], kind)):
        expected = column.to_numpy(zero_copy_only=False)
        found = to_numpy(column)
        assert found.dtype == expected.dtype or not len(column)
        np.testing.assert_array_equal(found, expected)


def test_numbers_and_text_go_back() -> None:
    assert whole_numbers(np.arange(10)[::3], np.int32).equals(pa.array([0, 3, 6, 9], pa.int32()))
    missing = np.arange(20) % 3 == 1
    expected = pa.array([None if gone else number for number, gone in enumerate(missing)], pa.int64())
    assert whole_numbers(np.arange(20), missing=missing).equals(expected)
    assert text_scalar("\u00e4/b").equals(pa.scalar("\u00e4/b"))
