"""Catalogs: what is known of many scenes, kept in one GeoParquet file and reopened in milliseconds.

A catalog is a table with a row for each scene; a `SceneRecord` is made from a row when it is asked for. Where rows
come from is in `geoaug.data.catalog.index`; nothing here opens a raster.
"""

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet
import shapely

from geoaug.data.catalog.arrow_arrays import to_numpy, whole_numbers
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
        return (self[place] for place in range(len(self)))

    def __getitem__(self, place: int) -> SceneRecord:
        """The scene at a place (0-based)."""
        if not 0 <= place < len(self):
            raise IndexError(f"scene {place} of a catalog of {len(self)}")
        return record_of(self._rows.slice(place, 1).to_pylist()[0])

    def records(self, places: Sequence[int]) -> list[SceneRecord]:
        """The scenes at places, much sooner than one by one."""
        rows = self.table.take(whole_numbers(places)).to_pylist()
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
        """Index a folder; see `geoaug.data.catalog.index.index_folder` for the options."""
        from geoaug.data.catalog.index import index_folder

        return index_folder(folder, **options)

    @classmethod
    def from_files(cls, files: Sequence[str | Path], **options: Any) -> "Catalog":
        """Index files, folders, globs and lists; see `geoaug.data.catalog.index.index_files` for the options."""
        from geoaug.data.catalog.index import index_files

        return index_files(files, **options)

    @classmethod
    def from_stac(cls, source: Any, **options: Any) -> "Catalog":
        """Index STAC items or a collection; see `geoaug.data.catalog.products.stac.index_stac` for the options."""
        from geoaug.data.catalog.products.stac import index_stac

        return index_stac(source, **options)

    @classmethod
    def open(cls, path: str | Path) -> "Catalog":
        """Reopen a catalog that was saved.

        Raises:
            ConfigurationError: no such file, or not a catalog of geoaug.
        """
        if not Path(path).is_file():
            raise ConfigurationError(f"{path}: no such catalog; make one with geoaug index")
        rows = SavedTable(path)
        ours = (rows.schema.metadata or {}).get(_OURS)
        if ours is None:
            raise ConfigurationError(f"{path}: is no catalog of geoaug; make one with geoaug index")
        notes = json.loads(ours)
        if notes.pop("version") != _VERSION:
            raise ConfigurationError(f"{path}: was made by another version of geoaug; make it again with geoaug index")
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

    def select(self, places: Sequence[int] | npt.NDArray[Any]) -> "Catalog":
        """The scenes at these places, or where a mask of booleans is true, with all that is known of them."""
        chosen = np.asarray(places)
        if chosen.dtype == bool:
            chosen = np.flatnonzero(chosen)
        return Catalog(self.table.take(whole_numbers(chosen)), self.notes)

    def split(self, name: str) -> "Catalog":
        """The scenes of a split that `geoaug.data.sampling.splits` made, or that an index found; tiles keep to its
        ground.

        Raises:
            ConfigurationError: no such split, or nothing in it.
        """
        from geoaug.data.catalog.parts import scenes_of_split

        return scenes_of_split(self, name)

    def with_column(self, name: str, values: Sequence[Any] | pa.Array) -> "Catalog":
        """The catalog with a column added or replaced."""
        column = values if isinstance(values, pa.Array) else pa.array(values)
        place = self.table.schema.get_field_index(name)
        table = self.table.append_column(name, column) if place < 0 else self.table.set_column(place, name, column)
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
