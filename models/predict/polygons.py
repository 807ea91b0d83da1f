"""Maps of classes as polygons: areas of one class, in GeoParquet or GeoPackage."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import geopandas
import pandas as pd
import rasterio
import rasterio.features
import shapely.geometry

from geoaug.data.raster.grid import WORLD, reproject_shape
from geoaug.data.raster.meridians import cut_at_180
from geoaug.errors import ConfigurationError, GeoaugError

__all__ = ["check_polygon_file", "map_polygons", "save_polygons"]

_FORMATS = (".gpkg", ".parquet", ".geoparquet")


def map_polygons(path: str | Path, names: Sequence[str] = ()) -> geopandas.GeoDataFrame:
    """The areas of a map of classes: `class_id`, `class`, `area_m2` (in a projected CRS), and the outline.

    The map is read block by block; pixels that touch at a corner alone are areas of their own.

    Args:
        path: of a map that `predict_scene` wrote.
        names: of the classes, by id.
    """
    with rasterio.open(path) as source:
        found = [
            (shapely.geometry.shape(outline), int(value))
            for outline, value in rasterio.features.shapes(rasterio.band(source, 1), transform=source.transform)
            if value != source.nodata
        ]
        crs = source.crs
    ids = [value for _, value in found]
    frame = geopandas.GeoDataFrame(
        {"class_id": ids, "class": [names[one] if one < len(names) else str(one) for one in ids]},
        geometry=[outline for outline, _ in found],
        crs=crs,
    )
    if crs is not None and crs.is_projected:
        frame.insert(2, "area_m2", frame.geometry.area * crs.linear_units_factor[1] ** 2)
    return frame


def _in_degrees(frame: geopandas.GeoDataFrame) -> geopandas.GeoDataFrame:
    """Polygons in longitude and latitude, cut at 180 degrees where they cross them."""
    if frame.crs is None:
        return frame.to_crs(WORLD)  # which refuses it by name
    crs = frame.crs.to_wkt()
    shapes = [cut_at_180(reproject_shape(shape, crs, WORLD)) for shape in frame.geometry]
    return frame.set_geometry(geopandas.GeoSeries(shapes, crs=WORLD, index=frame.index))


def check_polygon_file(path: Path) -> None:
    """Raise `ConfigurationError` where polygons cannot be written to a file of this name."""
    if path.suffix.lower() not in _FORMATS:
        raise ConfigurationError(f"{path}: polygons are written to {', '.join(_FORMATS)}")


def save_polygons(frames: Sequence[geopandas.GeoDataFrame], path: Path) -> None:
    """Write polygons of one or several maps to one file, whole or not at all; of several CRS, in degrees.

    Raises:
        ConfigurationError: another format.
        GeoaugError: the file cannot be written.
    """
    check_polygon_file(path)
    if len({frame.crs for frame in frames}) > 1:
        frames = [_in_degrees(frame) for frame in frames]
    whole = geopandas.GeoDataFrame(pd.concat(frames, ignore_index=True), crs=frames[0].crs)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".geoaug-") as scratch:
            unfinished = Path(scratch) / path.name
            if path.suffix.lower() == ".gpkg":
                whole.to_file(unfinished, layer="classes", driver="GPKG", engine="pyogrio")
            else:
                whole.to_parquet(unfinished)
            unfinished.replace(path)
    except OSError as error:
        raise GeoaugError(f"{path}: cannot be written ({error.strerror or error})") from error
