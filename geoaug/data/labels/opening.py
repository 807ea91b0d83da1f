"""Opening labels: a raster or a vector file, told apart by its name or else by trying."""

from pathlib import Path

from geoaug.data.labels.label_source import LabelSource
from geoaug.data.labels.raster import RasterLabels
from geoaug.data.raster.inputs import is_remote
from geoaug.errors import ConfigurationError, RasterError

VECTOR_EXTENSIONS: tuple[str, ...] = (
    ".gpkg",
    ".shp",
    ".geojson",
    ".json",
    ".parquet",
    ".geoparquet",
    ".fgb",
    ".gml",
    ".kml",
    ".zip",
)


def open_labels(path: str | Path, *, field: str | None = None, ignore_index: int = 255) -> LabelSource:
    """Open the labels at `path`, a raster or a vector file, told apart by the extension or else by trying.

    `field` names the attribute that holds the class of a vector feature: a number is kept as the class id,
    text gets ids from 0 in the order of the sorted names, and without a field every feature is class 1. One
    layer of several is named after the path: `fields.gpkg|layername=parcels`.

    Raises `ConfigurationError` where the file is missing, is neither, or has no such field or layer.
    """
    name, _, layer = str(path).partition("|layername=")
    if not is_remote(name) and not name.startswith("/vsi") and ":" not in name and not Path(name).exists():
        raise ConfigurationError(f"{name}: no such file, wanted for labels", path=name)
    if Path(name).suffix.lower() in VECTOR_EXTENSIONS or layer:
        return _open_vector(name, field, layer or None, ignore_index)
    try:
        raster = RasterLabels(name, ignore_index=ignore_index)
    except RasterError:
        try:
            return _open_vector(name, field, None, ignore_index)
        except ConfigurationError as error:
            raise ConfigurationError(
                f"{name}: neither a raster nor a vector file of labels ({error})", path=name
            ) from error
    if field is not None:
        raise ConfigurationError(
            f"{name}: is a raster, and the label field {field!r} applies to vectors only", path=name
        )
    return raster


def _open_vector(path: str, field: str | None, layer: str | None, ignore_index: int) -> LabelSource:
    # It brings geopandas along, which takes half a second to import.
    from geoaug.data.labels.vector import VectorLabels

    return VectorLabels(path, field=field, layer=layer, ignore_index=ignore_index)
