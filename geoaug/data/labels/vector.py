"""Class labels drawn from vector features (polygons, lines, points) onto the grid of a tile.

Only the features near the tile are projected to its CRS and drawn, found through geopandas' spatial index.
"""

import difflib
import json
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import geopandas
import numpy as np
import numpy.typing as npt
import pyarrow.parquet
import pyogrio
import shapely
from affine import Affine
from rasterio.crs import CRS
from rasterio.features import rasterize

from geoaug.data.labels.label_source import check_crs, label_dtype
from geoaug.data.raster.files import georeference_optional
from geoaug.data.raster.grid import Coordinates, crs_text, footprint_in, reproject_points, same_crs, turn_of
from geoaug.data.raster.meridians import moved, whole_shape
from geoaug.errors import ConfigurationError

_log = logging.getLogger("geoaug")
_PARQUET = (".parquet", ".geoparquet")
_LOOKED_AT = 64  # pixel centres down, and across, by which it is found whether a grid and the features meet
_MARGIN = 0.05  # of a tile's extent, kept around it when features are cut down before they are projected


class VectorLabels:
    """Labels from a vector file, held in memory; may be read from many threads at once.

    A pixel belongs to a feature where its centre lies in it; where features overlap, the later one in the
    file wins. A pixel in none, and a feature whose field is empty, is unlabelled: `ignore_index`, not a
    background class. A number in `field` is kept as the class id; text gets the ids 0, 1, ... of its sorted
    names (`class_names`); without a field every feature is class 1. Raises `ConfigurationError`.
    """

    def __init__(
        self, path: str, *, field: str | None = None, layer: str | None = None, ignore_index: int = 255
    ) -> None:
        self.path = str(path)
        self.field = field
        self.ignore_index = int(ignore_index)
        features = _read_features(self.path, layer)
        if field is None:
            ids = np.ones(len(features), dtype=np.int64)
            names: dict[int, str] = {}
            labelled = np.ones(len(features), dtype=bool)
        else:
            ids, labelled, names = _field_ids(self.path, features, field)
        kept = labelled & ~(features.geometry.isna() | features.geometry.is_empty).to_numpy()
        self._ids = ids[kept]
        self._features: geopandas.GeoSeries = features.geometry[kept].reset_index(drop=True)
        if features.crs is not None and (turn := turn_of(features.crs.to_wkt())) is not None:
            self._features = _whole(self.path, self._features, turn)
        if not len(self._ids):
            raise ConfigurationError(f"{path}: no feature has both a geometry and a class", path=path)
        self.class_names: Mapping[int, str] = MappingProxyType(names)
        self.classes = tuple(int(value) for value in np.unique(self._ids))
        if self.ignore_index in self.classes:
            named = f" ({names[self.ignore_index]!r})" if self.ignore_index in names else ""
            raise ConfigurationError(
                f"{path}: class {self.ignore_index}{named} is the ignore_index, which marks pixels without a label: "
                "choose an ignore_index that is no class",
                path=path,
            )
        self.dtype = label_dtype(self.classes[0], self.classes[-1], self.ignore_index)
        self._crs = None if features.crs is None else features.crs.to_wkt()
        self._index = self._features.sindex

    @property
    def crs(self) -> CRS | None:
        """The CRS of the features, None where the file has none."""
        return None if self._crs is None else CRS.from_wkt(self._crs)

    def read(self, transform: Affine, crs: CRS | str | None, height: int, width: int) -> npt.NDArray[Any]:
        """The ids (height, width) on a grid; see `LabelSource.read`."""
        near = self._near(transform, crs, height, width)
        unlabelled = np.full((height, width), self.ignore_index, dtype=self.dtype)
        if not len(near.found):
            return unlabelled
        shapes = near.shapes(self._features.to_numpy())
        if near.outline is None:
            self._fill_in(shapes, self._ids[near.found], _centres(transform, crs, height, width, self._crs), unlabelled)
            return unlabelled
        if crs is not None and self._crs is not None and not same_crs(self._crs, crs):
            shapes = _projected(shapes, near.outline, self._crs, crs)
        drawn = [
            (shape, int(number))
            for shape, number in zip(shapes, self._ids[near.found], strict=True)
            if not shape.is_empty
        ]
        if not drawn:
            return unlabelled
        # Rasterio changes the process's warning filters while it draws, which two threads must not do at once.
        with georeference_optional():
            return rasterize(drawn, out=unlabelled, transform=transform)  # type: ignore[no-any-return]

    def overlaps(self, transform: Affine, crs: CRS | str | None, height: int, width: int) -> bool:
        """Whether any feature touches a grid."""
        near = self._near(transform, crs, height, width)
        shapes = shapely.make_valid(near.shapes(self._features.to_numpy()))
        if near.outline is not None:
            return bool(shapely.intersects(shapes, near.outline).any())
        coarse = min(height, _LOOKED_AT), min(width, _LOOKED_AT)
        scaled = transform * Affine.scale(width / coarse[1], height / coarse[0])
        x, y = _centres(scaled, crs, *coarse, self._crs)
        return any(shapely.intersects_xy(shape, x, y).any() for shape in shapes)

    def close(self) -> None:
        """Nothing is open: the features are in memory."""

    def _near(self, transform: Affine, crs: CRS | str | None, height: int, width: int) -> "_Near":
        """The grid's outline in the features' CRS, and which features may touch it, in the file's order."""
        check_crs(self.path, self._crs, crs)
        outline = footprint_in(transform, crs or "", height, width, self._crs or "")
        if outline is None or not outline.is_valid:  # torn in this CRS, or reaching past it
            every = np.arange(len(self._ids))
            return _Near(None, every, np.zeros(len(every)))
        turn = None if self._crs is None else turn_of(self._crs)
        # Features may lie a turn around the Earth from the grid: at -179 degrees, and the grid at 181.
        distances = [0.0] if turn is None else [-turn, 0.0, turn]
        found = [self._index.query(moved(outline, -distance)) for distance in distances]
        index = np.concatenate(found)
        order = np.argsort(index, kind="stable")
        return _Near(outline, index[order], np.repeat(distances, [len(part) for part in found])[order])

    def _fill_in(
        self,
        shapes: npt.NDArray[np.object_],
        ids: npt.NDArray[np.int64],
        centres: tuple[Coordinates, Coordinates],
        labels: npt.NDArray[Any],
    ) -> None:
        """Write ids to the pixels whose centres lie in shapes, all in the features' CRS: slow, and always right."""
        for shape, number in zip(shapely.make_valid(shapes), ids.tolist(), strict=True):
            shapely.prepare(shape)
            labels[shapely.intersects_xy(shape, *centres)] = number


class _Near(NamedTuple):
    """Features that may touch a grid.

    Attributes:
        outline: of the grid in the features' CRS, None where it has none in one piece there.
        found: positions of the features.
        distances: how far along x each is moved to lie by the outline: no or one turn around the Earth.
    """

    outline: shapely.Polygon | None
    found: npt.NDArray[np.intp]
    distances: npt.NDArray[np.float64]

    def shapes(self, features: npt.NDArray[np.object_]) -> npt.NDArray[np.object_]:
        """The features beside the outline."""
        shapes = features[self.found]
        for number in np.flatnonzero(self.distances).tolist():
            shapes[number] = moved(shapes[number], float(self.distances[number]))
        return shapes


def _centres(
    transform: Affine, crs: CRS | str | None, height: int, width: int, target: str | None
) -> tuple[Coordinates, Coordinates]:
    """The centres of a grid's pixels in another CRS, each of shape (height, width); NaN where it has none."""
    x, y = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    a, b, c, d, e, f = transform[:6]
    found = reproject_points(a * x + b * y + c, d * x + e * y + f, crs_text(crs) or "", target or "")
    return tuple(np.where(np.isfinite(axis), axis, np.nan) for axis in found)  # type: ignore[return-value]


def vector_fields(path: str | Path) -> tuple[str, ...] | None:
    """The attributes of the features at `path`, named as for `open_labels`; None where they cannot be read.

    Reads no features. What is wrong with the file is reported where it is opened as labels.
    """
    name, _, layer = str(path).partition("|layername=")
    try:
        if name.lower().endswith(_PARQUET):
            schema = pyarrow.parquet.read_schema(name)
            geometry = json.loads((schema.metadata or {}).get(b"geo", b"{}")).get("primary_column")
            return tuple(str(field) for field in schema.names if field != geometry)
        with _repeated_ids_allowed():
            return tuple(str(field) for field in pyogrio.read_info(name, layer=layer or None)["fields"])
    except (pyogrio.errors.DataSourceError, pyogrio.errors.DataLayerError, ValueError, OSError):
        return None


@contextmanager
def _repeated_ids_allowed() -> Iterator[None]:
    """Without the warning of features that share an id, which labels have no use for."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Several features with id", category=RuntimeWarning)
        yield


def _projected(
    shapes: npt.NDArray[np.object_], outline: shapely.Polygon, source: str, target: CRS | str
) -> npt.NDArray[np.object_]:
    """Features, cut to the surroundings of `outline` (both in `source`), in the CRS `target`.

    A side of a feature is straight in the CRS of its file. It may be bent in another one, hence the points
    between.
    """
    left, bottom, right, top = outline.bounds
    extent = max(right - left, top - bottom)
    margin = _MARGIN * extent
    # Cutting a polygon that crosses itself may turn it inside out: such a one stays whole.
    sound = shapely.is_valid(shapes)
    near = shapes.copy()
    near[sound] = shapely.clip_by_rect(shapes[sound], left - margin, bottom - margin, right + margin, top + margin)
    near[sound] = shapely.segmentize(near[sound], extent / 16)
    text = crs_text(target) or ""
    return np.asarray(
        shapely.transform(near, lambda xy: np.stack(reproject_points(xy[:, 0], xy[:, 1], source, text), axis=1))
    )


def _whole(path: str, features: geopandas.GeoSeries, turn: float) -> geopandas.GeoSeries:
    """Features of which no polygon is torn at 180 degrees, as those are that were brought to degrees point by point."""
    wide = np.flatnonzero(features.bounds.eval("maxx - minx").to_numpy() > turn / 2)
    if not len(wide):
        return features
    shapes = features.to_numpy().copy()
    for number in wide.tolist():
        shapes[number] = whole_shape(shapes[number], turn)
    mended = sum(shapes[number] is not features.iloc[number] for number in wide.tolist())
    if mended:
        _log.warning("%s: %d features jump over 180 degrees, and are taken to cross the date line there", path, mended)
    return geopandas.GeoSeries(shapes, crs=features.crs)


def _read_features(path: str, layer: str | None) -> geopandas.GeoDataFrame:
    try:
        if path.lower().endswith(_PARQUET):
            features = geopandas.read_parquet(path)
        else:
            layers = [str(name) for name, kind in pyogrio.list_layers(path) if kind is not None]
            if layer is None and len(layers) > 1:
                raise ConfigurationError(
                    f"{path}: holds the layers {', '.join(layers)}: name one, as in {path}|layername={layers[0]}",
                    path=path,
                )
            if layer is not None and layer not in layers:
                raise ConfigurationError(
                    f"{path}: has no layer {layer!r}; its layers are {', '.join(layers)}", path=path
                )
            with _repeated_ids_allowed():
                features = geopandas.read_file(path, layer=layer, engine="pyogrio")
    except (pyogrio.errors.DataSourceError, pyogrio.errors.DataLayerError, ValueError, OSError) as error:
        raise ConfigurationError(f"{path}: not a vector file that can be read ({error})", path=path) from error
    if not isinstance(features, geopandas.GeoDataFrame):
        raise ConfigurationError(f"{path}: its features have no geometry", path=path)
    return features


def _field_ids(
    path: str, features: geopandas.GeoDataFrame, field: str
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_], dict[int, str]]:
    """The class id of each feature, which features have one, and the names of the ids of a text field."""
    fields = [str(name) for name in features.columns if name != features.geometry.name]
    if field not in fields:
        folded = {name.casefold(): name for name in fields}
        nearest = difflib.get_close_matches(field.casefold(), folded, n=1)
        hint = f"; did you mean {folded[nearest[0]]!r}?" if nearest else ""
        raise ConfigurationError(f"{path}: no field {field!r} among {', '.join(fields) or 'none'}{hint}", path=path)
    column = features[field]
    labelled = column.notna().to_numpy()
    ids = np.zeros(len(column), dtype=np.int64)
    if column.dtype.kind in "biuf":
        numbers = column[labelled].to_numpy()
        wrong = numbers[numbers != np.floor(numbers)] if numbers.dtype.kind == "f" else numbers[:0]
        if len(wrong):
            raise ConfigurationError(
                f"{path}: field {field!r} holds {wrong[0]:g}: class ids are whole numbers", path=path
            )
        ids[labelled] = numbers.astype(np.int64)
        return ids, labelled, {}
    if not all(isinstance(value, str) for value in column[labelled]):
        raise ConfigurationError(
            f"{path}: field {field!r} holds neither numbers nor text: choose another field", path=path
        )
    text = column.where(labelled, "").astype(str).str.strip()
    labelled = (text != "").to_numpy()
    names = sorted(set(text[labelled]))
    ids[labelled] = text[labelled].map({name: number for number, name in enumerate(names)}).to_numpy()
    return ids, labelled, dict(enumerate(names))
