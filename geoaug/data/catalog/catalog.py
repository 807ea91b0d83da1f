"""Catalogs: what is known of many scenes, kept in one GeoParquet file and reopened in milliseconds.

A catalog is a table with a row for each scene; a `SceneRecord` is made from a row when it is asked for. Rows and their
file are in `geoaug.data.catalog.table`, where rows come from in `geoaug.data.catalog.index`; splits are made in
`geoaug.data.sampling.splits`, and read here. Nothing here opens a raster.
"""

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet
import shapely

from geoaug.data.catalog.arrow_arrays import text_scalar, to_numpy, whole_numbers
from geoaug.data.catalog.table import (
    FOOTPRINT_CRS,
    ROWS_READ_TOGETHER,
    SCHEMA,
    SavedTable,
    notes_with_whole_paths,
    record_of,
    row_of,
    with_short_paths,
)
from geoaug.data.raster.record import SceneRecord
from geoaug.errors import ConfigurationError

if TYPE_CHECKING:
    import geopandas

_OURS = b"geoaug"
_VERSION = 1
_FROM_FOLDER = "from the catalog's folder"


class Catalog:
    """Scenes in an order that does not change, and what holds for all of them.

    Args:
        table: a row for each scene, with the columns of `geoaug.data.catalog.table.SCHEMA`; others are kept.
        notes: what is known of the catalog as a whole: "classes" (names of labels), "splits", "statistics".
    """

    # Behind `from_folder`, `from_files` and `from_stac`; set by `geoaug.data.catalog.index`, which imports this module.
    builders: ClassVar[dict[str, Callable[..., "Catalog"]]] = {}

    def __init__(self, table: pa.Table, notes: Mapping[str, Any] | None = None) -> None:
        self._rows: pa.Table | SavedTable = table
        self.notes: dict[str, Any] = dict(notes or {})

    @property
    def table(self) -> pa.Table:
        """All rows and columns; of a catalog that was opened, read on first use."""
        if isinstance(self._rows, SavedTable):
            self._rows = self._rows.read()
        return self._rows

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_rows": self.table}

    def __len__(self) -> int:
        return int(self._rows.num_rows)

    def __iter__(self) -> Iterator[SceneRecord]:
        return (self[position] for position in range(len(self)))

    def __getitem__(self, position: int) -> SceneRecord:
        """The scene at a position, counted from 0."""
        if not 0 <= position < len(self):
            raise IndexError(f"scene {position} of a catalog of {len(self)}")
        return record_of(self._rows.slice(position, 1).to_pylist()[0])

    def records(self, positions: Sequence[int]) -> list[SceneRecord]:
        """The scenes at these positions, much sooner than one by one."""
        rows = self.table.take(whole_numbers(positions)).to_pylist()
        return [record_of(row) for row in rows]

    @classmethod
    def from_records(
        cls,
        records: Iterable[SceneRecord],
        *,
        classes: Sequence[str] | None = None,
        attributes: Mapping[str, Sequence[Any]] | None = None,
    ) -> "Catalog":
        """A catalog of these scenes; `attributes` are further columns with a value for each."""
        rows = [row_of(record) for record in records]
        ids = [row["id"] for row in rows]
        if len(set(ids)) != len(ids):
            twice = next(name for name in ids if ids.count(name) > 1)
            raise ConfigurationError(f"two scenes have the id {twice!r}: ids must be unique in a catalog")
        table = pa.Table.from_pylist(rows, schema=SCHEMA)
        for name, values in (attributes or {}).items():
            table = table.append_column(name, pa.array(values))
        return cls(table, {"classes": list(classes)} if classes else None)

    @classmethod
    def from_folder(cls, folder: str | Path, **options: Any) -> "Catalog":
        """Index a folder; see `geoaug.data.index_folder` for the options."""
        return cls.builders["folder"](folder, **options)

    @classmethod
    def from_files(cls, files: Sequence[str | Path], **options: Any) -> "Catalog":
        """Index files, folders, globs and lists; see `geoaug.data.index_files` for the options."""
        return cls.builders["files"](files, **options)

    @classmethod
    def from_stac(cls, source: Any, **options: Any) -> "Catalog":
        """Index STAC items or a collection; see `geoaug.data.index_stac` for the options."""
        return cls.builders["stac"](source, **options)

    @classmethod
    def open(cls, path: str | Path) -> "Catalog":
        """Reopen a catalog that was saved.

        Raises:
            ConfigurationError: no such file, or not a catalog of geoaug.
        """
        if not Path(path).is_file():
            raise ConfigurationError(f"{path}: no such catalog; make one with geoaug index", path=str(path))
        rows = SavedTable(path)
        ours = (rows.schema.metadata or {}).get(_OURS)
        if ours is None:
            raise ConfigurationError(f"{path}: is no catalog of geoaug; make one with geoaug index", path=str(path))
        notes = json.loads(ours)
        if notes.pop("version") != _VERSION:
            raise ConfigurationError(
                f"{path}: was made by another version of geoaug; make it again with geoaug index", path=str(path)
            )
        if notes.pop("paths", None) == _FROM_FOLDER:
            rows.folder = _folder_of(path)
            notes = notes_with_whole_paths(notes, rows.folder)
        catalog = cls(pa.Table.from_batches([], schema=rows.schema), notes)
        catalog._rows = rows
        return catalog

    def save(self, path: str | Path) -> None:
        """Write the catalog as GeoParquet, whole or not at all; geopandas and QGIS read it, too.

        Files below the folder of the catalog are named from there, so that the folder may be moved as a whole.
        """
        path = Path(path)
        table, notes = with_short_paths(self.table, self.notes, _folder_of(path))
        geo = {
            "version": "1.1.0",
            "primary_column": "geometry",
            "columns": {
                "geometry": {
                    "encoding": "WKB",
                    "geometry_types": [],
                    "crs": json.loads(FOOTPRINT_CRS.to_json()),
                }
            },
        }
        metadata = {
            b"geo": json.dumps(geo).encode(),
            _OURS: json.dumps({"version": _VERSION, "paths": _FROM_FOLDER, **notes}).encode(),
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.tmp")
        try:
            pyarrow.parquet.write_table(
                table.replace_schema_metadata(metadata),
                temporary,
                compression="zstd",
                row_group_size=ROWS_READ_TOGETHER,
            )
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)

    def select(self, positions: Sequence[int] | npt.NDArray[Any]) -> "Catalog":
        """The scenes at these positions, or where a mask of booleans is true, with all that is known of them."""
        chosen = np.asarray(positions)
        if chosen.dtype == bool:
            chosen = np.flatnonzero(chosen)
        return Catalog(self.table.take(whole_numbers(chosen)), self.notes)

    @property
    def split_names(self) -> list[str]:
        """The names of the splits that the catalog holds: those that were made in their order, others sorted."""
        names = list((self.notes.get("splits") or {}).get("names", ()))
        found: set[str] = set()
        if "split" in self.table.column_names:
            found |= set(self.table.column("split").drop_null().to_pylist())
        if "regions" in self.table.column_names:
            flat = self.table.column("regions").combine_chunks().flatten()
            found |= set(flat.field("split").unique().to_pylist())
        return [*names, *sorted(found - set(names))]

    def split(self, name: str) -> "Catalog":
        """The scenes of a split that `geoaug.data.sampling.splits` made, or that an index found.

        The column "region" is the ground (WKB, WGS 84) that tiles keep to, where scenes belong to the split in part.

        Raises:
            ConfigurationError: no such split, or nothing in it.
        """
        names, table = self.split_names, self.table
        if name not in names:
            there = f"it has {', '.join(names)}" if names else "make one with geoaug split"
            raise ConfigurationError(f"the catalog has no split '{name}'; {there}")
        mine = np.zeros(len(self), dtype=bool)
        parts: pa.Array | None = None
        if "split" in table.column_names:
            mine |= np.array([value == name for value in table.column("split").to_pylist()], dtype=bool)
        if "regions" in table.column_names:
            column = table.column("regions").combine_chunks()
            flat = column.flatten()
            lengths = np.nan_to_num(to_numpy(pc.list_value_length(column))).astype(np.int64)
            scene = np.repeat(np.arange(len(self)), lengths)
            chosen = np.flatnonzero(to_numpy(pc.equal(flat.field("split"), text_scalar(name))))
            mine[scene[chosen]] = True
            region = np.full(len(self), -1)
            region[scene[chosen]] = chosen
            parts = flat.field("geometry").take(whole_numbers(region[mine], missing=region[mine] < 0))
        if not mine.any():
            raise ConfigurationError(
                f"the split '{name}' holds no scene: give it a larger share, or make smaller blocks"
            )
        found = self.select(mine)
        if parts is not None and parts.null_count < len(parts):
            found = found.with_column("region", parts)
        if "regions" in found.table.column_names:
            found = Catalog(found.table.drop_columns(["regions"]), found.notes)
        return found

    def with_column(self, name: str, values: Sequence[Any] | pa.Array) -> "Catalog":
        """The catalog with a column added or replaced."""
        column = values if isinstance(values, pa.Array) else pa.array(values)
        at = self.table.schema.get_field_index(name)
        table = self.table.append_column(name, column) if at < 0 else self.table.set_column(at, name, column)
        return Catalog(table, self.notes)

    def with_notes(self, **notes: Any) -> "Catalog":
        """The catalog with what is known of it as a whole added or replaced; values must be JSON."""
        return Catalog(self.table, {**self.notes, **notes})

    def column(self, name: str) -> npt.NDArray[Any]:
        """The values of a column, one for each scene."""
        names = self._rows.schema.names
        if name not in names:
            raise ConfigurationError(f"the catalog has no column {name!r}; it has {', '.join(names)}")
        return to_numpy(self._rows.column(name))

    @property
    def ids(self) -> list[str]:
        return [str(name) for name in self._rows.column("id").to_pylist()]

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes by id, empty where they are not known."""
        return tuple(self.notes.get("classes") or ())

    @cached_property
    def footprints(self) -> npt.NDArray[np.object_]:
        """Outlines of the scenes in WGS 84 (longitude, latitude); None for a scene without a CRS."""
        return np.asarray(shapely.from_wkb(to_numpy(self._rows.column("geometry"))))

    def to_geopandas(self) -> "geopandas.GeoDataFrame":
        """The table with its footprints, for a look or a plot."""
        import geopandas  # as slow to import as torch, and tiles can be read without it

        frame = self.table.drop_columns(["geometry"]).to_pandas()
        return geopandas.GeoDataFrame(frame, geometry=self.footprints, crs=FOOTPRINT_CRS)


def _folder_of(path: str | Path) -> str:
    return os.path.dirname(os.path.abspath(path))  # noqa: PTH100, PTH120  # paths of scenes are made so, too
