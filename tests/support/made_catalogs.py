"""Catalogs of scenes that have no files: for what reads no pixels."""

from collections.abc import Sequence

from affine import Affine

from geoaug.data.catalog.catalog import Catalog
from geoaug.data.raster.grid import Grid
from geoaug.data.raster.record import BandFile, SceneRecord


def made_scene(
    name: str,
    height: int,
    width: int,
    *,
    x: float = 500000.0,
    y: float = 5200000.0,
    gsd: float = 10.0,
    crs: str | None = "EPSG:32632",
    block: tuple[int, int] = (64, 64),
    label: str | None = None,
    datetime: str | None = None,
    folder: str = "scenes",
) -> SceneRecord:
    """A scene of one band whose upper left corner lies at x, y."""
    path = f"/{folder}/{name}.tif"
    grid = Grid(crs, Affine(gsd, 0, x, 0, -gsd, y), height, width)
    band = BandFile("B1", path, 1, grid, "uint16", 0.0, block)
    return SceneRecord(name, "raster", path, (band,), "generic", label=label, datetime=datetime)


def made_catalog(sizes: Sequence[tuple[int, int]], block: tuple[int, int] = (64, 64)) -> Catalog:
    """Scenes of these heights and widths, beside each other."""
    return Catalog.from_records(
        made_scene(f"s{number}", *size, x=500000.0 + 50000 * number, block=block) for number, size in enumerate(sizes)
    )
