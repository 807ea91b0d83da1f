"""`RegionGround`: the parts of scenes that tiles must lie in wholly, where a split gave a scene such a part."""

from collections import OrderedDict
from typing import Any

import numpy as np
import numpy.typing as npt
import shapely

from geoaug.data.catalogs.arrow_arrays import to_numpy
from geoaug.data.catalogs.catalog import Catalog
from geoaug.data.samplers.tile_source import TileSource
from geoaug.data.scenes.grids import reproject_points
from geoaug.data.scenes.records import Grid
from geoaug.errors import ConfigurationError

Array = npt.NDArray[Any]

REGION_COLUMN = "region"
_STORED_CRS = "EPSG:4326"
_MOST_KEPT = 4096


class RegionGround:
    """Regions of scenes in the pixels of the grids that tiles are cut from.

    Args:
        source: of tiles whose catalog has a column "region": WKB in WGS 84, or null for the whole scene.
    """

    def __init__(self, source: TileSource) -> None:
        column = source.catalog.table.column(REGION_COLUMN)
        self._source = source
        self._wkb = column.combine_chunks()
        self.limited: npt.NDArray[np.bool_] = to_numpy(column.is_valid())
        self._kept: OrderedDict[int, shapely.Geometry] = OrderedDict()

    @staticmethod
    def of(source: TileSource) -> "RegionGround | None":
        """The regions of a source; None where all its scenes are whole."""
        if REGION_COLUMN not in source.catalog.table.column_names:
            return None
        ground = RegionGround(source)
        return ground if ground.limited.any() else None

    def region(self, scene: int) -> shapely.Geometry:
        """The region of a scene that has one, in columns and rows of its grid; prepared for many questions."""
        if (known := self._kept.get(scene)) is not None:
            self._kept.move_to_end(scene)
            return known
        stored = shapely.from_wkb(self._wkb[scene].as_py())
        region = in_pixels(stored, self._source.grid(scene), self._source.catalog, scene)
        shapely.prepare(region)
        self._kept[scene] = region
        if len(self._kept) > _MOST_KEPT:
            self._kept.popitem(last=False)
        return region

    def holds(self, scene: Array, row: Array, col: Array, row_stop: Array, col_stop: Array) -> npt.NDArray[np.bool_]:
        """Whether rectangles of pixels lie wholly in the regions of their scenes."""
        result = ~self.limited[scene]
        for number in np.unique(scene[~result]).tolist():
            which = scene == number
            boxes = shapely.box(col[which], row[which], col_stop[which], row_stop[which])
            result[which] = shapely.covers(self.region(number), boxes)
        return np.asarray(result)


def in_pixels(region: shapely.Geometry, grid: Grid, catalog: Catalog, scene: int) -> shapely.Geometry:
    """A geometry in WGS 84 in columns and rows of a scene's grid."""
    if grid.crs is None:
        name = catalog.ids[scene]
        raise ConfigurationError(f"scene '{name}' has a region on the ground, but no CRS to find it by")
    crs, inverse = grid.crs, ~grid.transform
    a, b, c, d, e, f = inverse[:6]

    def to_pixels(points: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        x, y = reproject_points(points[:, 0], points[:, 1], _STORED_CRS, crs)
        return np.stack([a * x + b * y + c, d * x + e * y + f], axis=1)

    return shapely.transform(region, to_pixels)
