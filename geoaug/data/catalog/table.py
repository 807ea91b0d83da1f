"""The rows of a catalog and their file: what columns there are, how a scene becomes a row and back, and paths.

Three things that a saved catalog is made of. Paths below the catalog's folder are stored from there, so that the folder
may be moved (`with_short_paths`, `with_whole_paths`). `SCHEMA`, `row_of` and `record_of` say how a `SceneRecord` is
kept. `SavedTable` is a Parquet file of which only what is asked for is read.
"""

import re
import threading
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet
import pyproj
import shapely
from affine import Affine

from geoaug.data.catalog.arrow_arrays import text_scalar, whole_numbers
from geoaug.data.raster.grid import Grid
from geoaug.data.raster.record import BandFile, QualityLayer, SceneRecord
from geoaug.errors import ConfigurationError

_ARCHIVE = r"^(/vsi(?:zip|tar|gzip)/|vrt://)?"
_COLUMNS = ("path", "mask_path", "sensor", "bands", "quality")  # of sensors, those of one's own are files
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
        at = table.schema.get_field_index(name)
        if at >= 0:
            column = table.column(at).combine_chunks()
            table = table.set_column(at, table.schema.field(at), _changed(column, change))
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
    """What was indexed, its labels and its sensor's file: a refresh looks for them again."""
    index = notes.get("index")
    if not isinstance(index, Mapping):
        return dict(notes)
    found = dict(index)
    if isinstance(found.get("inputs"), list):
        found["inputs"] = [change(path) for path in found["inputs"]]
    for name in ("labels", "sensor"):
        if isinstance(found.get(name), str):
            found[name] = change(found[name])
    return {**notes, "index": found}


FOOTPRINT_CRS: Final = pyproj.CRS.from_epsg(4326)

_BAND = pa.struct(
    [
        ("name", pa.string()),
        ("path", pa.string()),
        ("index", pa.int32()),
        ("crs", pa.string()),
        ("transform", pa.list_(pa.float64(), 6)),
        ("height", pa.int32()),
        ("width", pa.int32()),
        ("dtype", pa.string()),
        ("nodata", pa.float64()),
        ("block_height", pa.int32()),
        ("block_width", pa.int32()),
        ("has_mask", pa.bool_()),
        ("quantification", pa.float64()),
        ("offset", pa.float64()),
        ("alpha", pa.int32()),
    ]
)
_QUALITY = pa.struct([("band", _BAND), ("kind", pa.string()), ("invalid", pa.list_(pa.int32()))])

SCHEMA: Final = pa.schema(
    [
        ("id", pa.string()),
        ("kind", pa.string()),
        ("path", pa.string()),
        ("sensor", pa.string()),
        # The scene's own grid: that of its finest band.
        ("crs", pa.string()),
        ("transform", pa.list_(pa.float64(), 6)),
        ("height", pa.int32()),
        ("width", pa.int32()),
        ("gsd_m", pa.float64()),
        ("dtype", pa.string()),
        ("nodata", pa.float64()),
        ("datetime", pa.timestamp("us", tz="UTC")),
        ("label", pa.string()),
        ("mask_path", pa.string()),
        ("size", pa.int64()),
        ("mtime_ns", pa.int64()),
        ("bands", pa.list_(_BAND)),
        ("quality", _QUALITY),
        ("geometry", pa.binary()),
    ]
)


def row_of(record: SceneRecord) -> dict[str, Any]:
    """The row of a scene."""
    grid = record.grid
    outline = grid.world_footprint()
    finest = next(band for band in record.bands if band.grid == grid)
    return {
        "id": record.id,
        "kind": record.kind,
        "path": record.path,
        "sensor": record.sensor,
        "crs": grid.crs,
        "transform": list(grid.transform)[:6],
        "height": grid.height,
        "width": grid.width,
        "gsd_m": grid.gsd_m,
        "dtype": finest.dtype,
        "nodata": finest.nodata,
        "datetime": None if record.datetime is None else _moment(record.datetime),
        "label": record.label,
        "mask_path": record.mask_path,
        "size": record.size,
        "mtime_ns": record.mtime_ns,
        "bands": [_band_row(band) for band in record.bands],
        "quality": None
        if record.quality is None
        else {
            "band": _band_row(record.quality.band),
            "kind": record.quality.kind,
            "invalid": list(record.quality.invalid),
        },
        "geometry": None if outline is None else shapely.to_wkb(outline),
    }


def record_of(row: dict[str, Any]) -> SceneRecord:
    """The scene of a row."""
    quality = row["quality"]
    moment = row["datetime"]
    grids: dict[tuple[Any, ...], Grid] = {}
    return SceneRecord(
        id=row["id"],
        kind=row["kind"],
        path=row["path"],
        bands=tuple(_band(band, grids) for band in row["bands"]),
        sensor=row["sensor"],
        quality=None
        if quality is None
        else QualityLayer(_band(quality["band"], grids), quality["kind"], tuple(quality["invalid"])),
        datetime=None if moment is None else moment.isoformat(),
        label=row["label"],
        mask_path=row["mask_path"],
        size=row["size"],
        mtime_ns=row["mtime_ns"],
    )


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _band_row(band: BandFile) -> dict[str, Any]:
    return {
        "name": band.name,
        "path": band.path,
        "index": band.index,
        "crs": band.grid.crs,
        "transform": list(band.grid.transform)[:6],
        "height": band.grid.height,
        "width": band.grid.width,
        "dtype": band.dtype,
        "nodata": band.nodata,
        "block_height": band.block_shape[0],
        "block_width": band.block_shape[1],
        "has_mask": band.has_mask,
        "quantification": band.quantification,
        "offset": band.offset,
        "alpha": band.alpha,
    }


def _band(row: dict[str, Any], grids: dict[tuple[Any, ...], Grid]) -> BandFile:
    """The band of a row; bands on one grid share it."""
    key = (row["crs"], *row["transform"], row["height"], row["width"])
    grid = grids.get(key)
    if grid is None:
        grid = grids[key] = Grid(row["crs"], Affine(*row["transform"]), row["height"], row["width"])
    return BandFile(
        name=row["name"],
        path=row["path"],
        index=row["index"],
        grid=grid,
        dtype=row["dtype"],
        nodata=row["nodata"],
        block_shape=(row["block_height"], row["block_width"]),
        has_mask=row["has_mask"],
        quantification=row["quantification"],
        offset=row["offset"],
        alpha=row.get("alpha"),  # catalogs saved before have none
    )


ROWS_READ_TOGETHER = 1024


class SavedTable:
    """Rows that stay in their file, which may be replaced meanwhile by another: the old one is read on.

    Attributes:
        folder: that paths of the rows begin from; None where they are whole.

    Raises:
        ConfigurationError: it is no Parquet file that can be read; also by all that reads of it.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = path
        self.folder: str | None = None
        self._lock = threading.Lock()
        try:
            self._file = pyarrow.parquet.ParquetFile(path, memory_map=True)
        except (pa.ArrowException, OSError) as error:
            raise self._damaged(error) from error
        self.schema: pa.Schema = self._file.schema_arrow
        self.num_rows = int(self._file.metadata.num_rows)

    def read(self) -> pa.Table:
        """All of it."""
        try:
            with self._lock:
                return self._whole(self._file.read())
        except (pa.ArrowException, OSError) as error:
            raise self._damaged(error) from error

    def column(self, name: str) -> pa.ChunkedArray:
        """One column."""
        try:
            with self._lock:
                return self._whole(self._file.read([name])).column(name)
        except (pa.ArrowException, OSError) as error:
            raise self._damaged(error) from error

    def slice(self, start: int, length: int) -> pa.Table:
        """Rows from a position on, which lie in one group of rows."""
        metadata, group = self._file.metadata, 0
        while start >= metadata.row_group(group).num_rows:
            start -= metadata.row_group(group).num_rows
            group += 1
        try:
            with self._lock:
                rows = self._file.read_row_group(group).slice(start, length)
                return self._whole(rows.take(whole_numbers(range(len(rows)))))
        except (pa.ArrowException, OSError) as error:
            raise self._damaged(error) from error

    def _whole(self, rows: pa.Table) -> pa.Table:
        return rows if self.folder is None else with_whole_paths(rows, self.folder)

    def _damaged(self, error: Exception) -> ConfigurationError:
        return ConfigurationError(f"{self.path}: not a GeoParquet file that can be read ({error})", path=str(self.path))
