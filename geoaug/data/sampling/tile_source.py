"""What samplers know of the scenes that tiles are cut from: sizes and positions, no pixels."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from geoaug.data.catalog.arrow_arrays import to_numpy
from geoaug.data.catalog.catalog import Catalog
from geoaug.data.raster.grid import Grid, unit_of


@dataclass(frozen=True, slots=True, eq=False)
class SceneGrids:
    """Sizes of the grids of many scenes, one number for each.

    Attributes:
        height: in pixels.
        width: in pixels.
        pixel_area_m2: of a pixel on the ground; 1 for scenes without a CRS.
        block_height: rows that are compressed together.
        block_width: columns that are.
    """

    height: npt.NDArray[np.int64]
    width: npt.NDArray[np.int64]
    pixel_area_m2: npt.NDArray[np.float64]
    block_height: npt.NDArray[np.int64]
    block_width: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.height)


class TileSource(Protocol):
    """Scenes that tiles of one size can be cut from."""

    @property
    def catalog(self) -> Catalog: ...

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of a tile in pixels."""

    @property
    def grids(self) -> SceneGrids: ...

    def grid(self, scene: int) -> Grid:
        """The grid that the tiles of a scene are cut from."""


def ground_area_m2(
    crs: npt.NDArray[np.object_],
    transform: npt.NDArray[np.float64],
    height: npt.NDArray[np.int64],
    width: npt.NDArray[np.int64],
) -> npt.NDArray[np.float64]:
    """The area on the ground of a pixel of each grid (at its centre, where the CRS is geographic).

    It is 1 without a CRS of known units.

    Args:
        crs: authority code, WKT or None, one for each grid.
        transform: (grids, 6).
        height: in pixels.
        width: in pixels.
    """
    determinant = np.abs(transform[:, 0] * transform[:, 4] - transform[:, 1] * transform[:, 3])
    middle_y = transform[:, 3] * width / 2 + transform[:, 4] * height / 2 + transform[:, 5]
    area = np.ones(len(crs))
    for text in {text for text in crs if text is not None}:
        unit = unit_of(text)
        if unit is not None:
            rows = crs == text
            area[rows] = determinant[rows] * unit.metres**2
            if unit.radians is not None:
                area[rows] *= np.maximum(np.cos(middle_y[rows] * unit.radians), 0.0)
    return area


class CatalogTiles:
    """Tiles of the scenes' own grids, without a dataset to read them."""

    def __init__(self, catalog: Catalog, size: int | tuple[int, int]) -> None:
        self.catalog = catalog
        self.size = (size, size) if isinstance(size, int) else size
        bands = catalog.table.column("bands").combine_chunks()
        flat = bands.flatten()
        first = to_numpy(bands.offsets)[:-1] - bands.offsets[0].as_py()
        height, width = catalog.column("height").astype(np.int64), catalog.column("width").astype(np.int64)
        gsd = catalog.column("gsd_m").astype(np.float64)
        self.grids = SceneGrids(
            height,
            width,
            np.where(np.isfinite(gsd), gsd, 1.0) ** 2,
            np.minimum(to_numpy(flat.field("block_height"))[first], height),
            np.minimum(to_numpy(flat.field("block_width"))[first], width),
        )

    def grid(self, scene: int) -> Grid:
        """The scene's own grid."""
        return self.catalog[scene].grid
