"""Scenes as rows of a table: the columns of a catalog, and a `SceneRecord` to a row and back."""

from datetime import UTC, datetime
from typing import Any, Final

import pyarrow as pa
import pyproj
import shapely
from affine import Affine

from geoaug.data.scenes.records import BandFile, Grid, QualityLayer, SceneRecord

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
    outline = grid.footprint(FOOTPRINT_CRS.to_string())
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
    }


def _band(row: dict[str, Any], grids: dict[tuple[Any, ...], Grid]) -> BandFile:
    """The band of a row; bands on one grid share it."""
    place = (row["crs"], *row["transform"], row["height"], row["width"])
    grid = grids.get(place)
    if grid is None:
        grid = grids[place] = Grid(row["crs"], Affine(*row["transform"]), row["height"], row["width"])
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
    )
