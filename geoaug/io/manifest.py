"""The manifest of written tiles: a GeoParquet table with one row a tile, its footprint and its provenance.

Opens in QGIS, pandas and geopandas. What is augmented and how is decided elsewhere; this is its record.
"""

import json
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pyproj
import shapely
from affine import Affine
from shapely.geometry.polygon import orient

from geoaug.data.raster.grid import WORLD, Grid, footprint, reproject_points
from geoaug.errors import RasterError
from geoaug.io.geotiff import replace_file

if TYPE_CHECKING:
    import geopandas

MANIFEST_SCHEMA = pa.schema(
    [
        pa.field("image", pa.string(), nullable=False),
        pa.field("mask", pa.string()),
        pa.field("source", pa.string(), nullable=False),
        pa.field("scene", pa.string(), nullable=False),
        pa.field("row", pa.int64(), nullable=False),
        pa.field("col", pa.int64(), nullable=False),
        pa.field("height", pa.int64(), nullable=False),
        pa.field("width", pa.int64(), nullable=False),
        pa.field("copy", pa.int32(), nullable=False),
        pa.field("seed", pa.int64(), nullable=False),
        pa.field("key", pa.int64(), nullable=False),
        pa.field("crs", pa.string()),
        pa.field("transform", pa.list_(pa.field("element", pa.float64(), nullable=False)), nullable=False),
        pa.field("valid_fraction", pa.float64(), nullable=False),
        pa.field("class_counts", pa.string()),
        pa.field("parameters", pa.string(), nullable=False),
        pa.field("geometry", pa.binary()),
    ]
)
"""The columns of a manifest, as `TileRecord` describes them, and `geometry`: the footprint in EPSG:4326."""

_WIDE_DEGREES = 5.0  # of longitude: sides of wider tiles are bent; some cross 180 degrees, or hold a pole
_STEPS = 21  # that each of their sides is cut into


@dataclass(frozen=True, slots=True)
class TileRecord:
    """One written tile.

    `image` and `mask` are paths relative to the manifest's folder, `source` is the scene's path or address
    and `scene` its short name. `row`, `col`, `height` and `width` are the window (pixels) of the scene from
    which the tile was made; `copy` counts the tiles made from it. `seed` and `key` fix what was drawn, and
    `parameters` is what was drawn, by operation. `transform` is the geotransform of the written tile
    (rotation included), `size` its (height, width) in pixels where that differs from the window's, and `crs`
    an authority code or WKT, None where the scene has none. `class_counts` are pixels by class id, None for a
    tile without a mask.
    """

    image: str
    source: str
    scene: str
    row: int
    col: int
    height: int
    width: int
    copy: int
    seed: int
    key: int
    transform: Affine
    valid_fraction: float
    crs: str | None = None
    mask: str | None = None
    size: tuple[int, int] | None = None
    class_counts: Mapping[int, int] | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)

    @property
    def footprint(self) -> shapely.Polygon:
        """The outline of the written tile in its own CRS."""
        height, width = self.size or (self.height, self.width)
        return footprint(self.transform, height, width)


class Manifest:
    """The tiles written so far; `write` puts them into one file. An empty manifest is valid."""

    def __init__(self) -> None:
        self._records: list[TileRecord] = []

    def __len__(self) -> int:
        return len(self._records)

    def add(self, record: TileRecord) -> None:
        """Append one tile. May be called from several threads; rows keep the order of the calls."""
        self._records.append(record)

    def write(self, path: str | Path) -> None:
        """Write the manifest as GeoParquet, at once: an earlier file at `path` is replaced whole.

        `geometry` is the footprint in EPSG:4326 (longitude, latitude): the four corners of the tile through
        its geotransform, cut in two where it crosses 180 degrees (RFC 7946). It is null for a tile without a CRS, or
        with one that has no place on Earth: only `transform` tells the place then.
        `class_counts` (`{"1": 65536}`) and `parameters` are JSON. Raises `GeoaugError` where the file cannot
        be written.
        """
        sink = pa.BufferOutputStream()
        pq.write_table(self._table(), sink, compression="zstd")
        replace_file(Path(path), memoryview(sink.getvalue()))

    def _table(self) -> pa.Table:
        records = list(self._records)
        outlines = _world_footprints(records)
        columns: dict[str, list[Any]] = {
            name: [getattr(record, name) for record in records]
            for name in MANIFEST_SCHEMA.names
            if name not in ("transform", "class_counts", "parameters", "geometry")
        }
        columns["transform"] = [[float(value) for value in record.transform[:6]] for record in records]
        columns["class_counts"] = [
            None if record.class_counts is None else _json({str(k): v for k, v in record.class_counts.items()})
            for record in records
        ]
        columns["parameters"] = [_json(record.parameters) for record in records]
        columns["geometry"] = [None if outline is None else shapely.to_wkb(outline) for outline in outlines]
        table = pa.table(columns, schema=MANIFEST_SCHEMA)
        return table.replace_schema_metadata({"geo": json.dumps(_geo_metadata(outlines))})


def read_manifest(path: str | Path) -> "geopandas.GeoDataFrame":
    """The manifest at `path`, with `class_counts` and `parameters` as the JSON text that they are stored as.

    Raises `RasterError` where it is missing or is no manifest.
    """
    # Takes a second to import, which writing should not wait for.
    import geopandas

    try:
        table = geopandas.read_parquet(path)
    except (OSError, ValueError) as error:
        raise RasterError(f"{path}: not a manifest that can be read ({error})") from error
    missing = [name for name in MANIFEST_SCHEMA.names if name not in table.columns]
    if missing:
        raise RasterError(f"{path}: not a manifest of geoaug: it has no column {', '.join(missing)}")
    return table


def _world_footprints(records: list[TileRecord]) -> list[shapely.Geometry | None]:
    outlines: list[shapely.Geometry | None] = [None] * len(records)
    by_crs: dict[str, list[int]] = defaultdict(list)
    for number, record in enumerate(records):
        if record.crs:
            by_crs[record.crs].append(number)
    for crs, numbers in by_crs.items():
        corners = np.stack([shapely.get_coordinates(records[number].footprint) for number in numbers])
        longitude, latitude = reproject_points(corners[..., 0], corners[..., 1], crs, WORLD)
        for number, points in zip(numbers, np.stack([longitude, latitude], axis=-1), strict=True):
            if not np.isfinite(points).all():
                continue
            outline: shapely.Geometry | None = shapely.Polygon(points)
            if np.ptp(points[:, 0]) > _WIDE_DEGREES or np.abs(points[:, 0]).max() > 180:
                record = records[number]
                height, width = record.size or (record.height, record.width)
                outline = Grid(crs, record.transform, height, width).world_footprint(steps=_STEPS)
            if outline is not None:
                parts = [orient(part) for part in shapely.get_parts(outline)]
                outlines[number] = parts[0] if len(parts) == 1 else shapely.MultiPolygon(parts)
    return outlines


def _geo_metadata(outlines: list[shapely.Geometry | None]) -> dict[str, Any]:
    """The `geo` entry of GeoParquet 1.0.0 (https://geoparquet.org/releases/v1.0.0/)."""
    present = [outline for outline in outlines if outline is not None]
    column: dict[str, Any] = {
        "encoding": "WKB",
        "geometry_types": sorted({outline.geom_type for outline in present}),
        "crs": pyproj.CRS.from_user_input(WORLD).to_json_dict(),
        "edges": "planar",
        "orientation": "counterclockwise",
    }
    if present:
        column["bbox"] = [float(value) for value in shapely.total_bounds(present)]
    return {"version": "1.0.0", "primary_column": "geometry", "columns": {"geometry": column}}


def _json(value: Any) -> str:
    return json.dumps(value, default=_plain, separators=(", ", ": "))


def _plain(value: Any) -> Any:
    """Numbers and arrays of numpy or torch, as JSON knows them."""
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} cannot be written to a manifest")
