"""A table in a Parquet file of which only what is asked for is read."""

import threading
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet

from geoaug.data.catalogs.arrow_arrays import whole_numbers
from geoaug.data.catalogs.catalog_paths import with_whole_paths
from geoaug.errors import ConfigurationError

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
        """Rows from a place on, which lie in one group of rows."""
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
        return ConfigurationError(f"{self.path}: not a GeoParquet file that can be read ({error})")
