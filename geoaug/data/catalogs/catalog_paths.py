"""Paths in the file of a catalog: those below its folder are kept from there, so that both may move together.

In memory all paths are whole. Which columns hold paths is known here; files are read and written elsewhere.
"""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from geoaug.data.catalogs.arrow_arrays import text_scalar

_ARCHIVE = r"^(/vsi(?:zip|tar|gzip)/)?"
_COLUMNS = ("path", "mask_path", "bands", "quality")
_Change = Callable[[pa.Array], pa.Array]


def with_short_paths(table: pa.Table, notes: Mapping[str, Any], folder: str) -> tuple[pa.Table, dict[str, Any]]:
    """Paths below a folder from there on: `./scene.tif`, `/vsizip/./scene.zip/...`."""
    current = _Replaced.of(re.escape("."), str(Path.cwd()))  # what a person wrote himself counts from there
    shorter = _Replaced.of(re.escape(folder), ".")
    return _table(table, lambda text: shorter(current(text))), _notes(notes, shorter.text)


def with_whole_paths(table: pa.Table, folder: str) -> pa.Table:
    """The same back, for any columns of the table."""
    return _table(table, _Replaced.of(re.escape("."), folder))


def notes_with_whole_paths(notes: Mapping[str, Any], folder: str) -> dict[str, Any]:
    """Likewise of what is known of a catalog as a whole."""
    return _notes(notes, _Replaced.of(re.escape("."), folder).text)


class _Replaced:
    """Replaces the folder that paths begin with; others stay as they are."""

    def __init__(self, pattern: str, replacement: str) -> None:
        self.pattern, self.replacement = pattern, replacement

    @staticmethod
    def of(begin: str, replacement: str) -> "_Replaced":
        return _Replaced(rf"{_ARCHIVE}{begin}([/\\]|$)", rf"\1{_literal(replacement)}\2")

    def __call__(self, text: pa.Array) -> pa.Array:
        coded = text.dictionary_encode()  # bands of one file share its path
        changed = pc.replace_substring_regex(coded.dictionary, self.pattern, self.replacement)
        return changed.take(coded.indices)

    def text(self, path: str) -> str:
        found: str = self(pa.repeat(text_scalar(path), 1))[0].as_py()
        return found


def _literal(text: str) -> str:
    return text.replace("\\", "\\\\")


def _table(table: pa.Table, change: _Change) -> pa.Table:
    for name in _COLUMNS:
        place = table.schema.get_field_index(name)
        if place >= 0:
            column = table.column(place).combine_chunks()
            table = table.set_column(place, table.schema.field(place), _changed(column, change))
    return table


def _changed(array: pa.Array, change: _Change) -> pa.Array:
    """All that is text in a column, or called "path" in its records."""
    kind = array.type
    if pa.types.is_string(kind):
        return change(array)
    if pa.types.is_list(kind):
        return pa.ListArray.from_arrays(array.offsets, _changed(array.values, change), type=kind)
    fields = [kind.field(number) for number in range(kind.num_fields)]
    parts = [
        _changed(array.field(field.name), change) if field.name == "path" or pa.types.is_struct(field.type)
        else array.field(field.name)
        for field in fields
    ]  # fmt: skip
    return pa.StructArray.from_arrays(parts, fields=fields, mask=array.is_null())


def _notes(notes: Mapping[str, Any], change: Callable[[str], str]) -> dict[str, Any]:
    """What was indexed, and its labels: a refresh looks for them again."""
    index = notes.get("index")
    if not isinstance(index, Mapping):
        return dict(notes)
    found = dict(index)
    if isinstance(found.get("inputs"), list):
        found["inputs"] = [change(path) for path in found["inputs"]]
    if isinstance(found.get("labels"), str):
        found["labels"] = change(found["labels"])
    return {**notes, "index": found}
