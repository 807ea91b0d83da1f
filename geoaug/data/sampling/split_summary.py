"""What each split of a catalog holds, in numbers."""

from dataclasses import dataclass

import numpy as np
import shapely

from geoaug.data.catalog.catalog import Catalog
from geoaug.data.sampling.grid_sampler import GridTileSampler
from geoaug.data.sampling.ground_blocks import (
    LocalMetres,
    class_amounts_in,
    class_ids,
    class_name,
    ground_m2,
    unwrapped,
)
from geoaug.data.sampling.tile_source import CatalogTiles
from geoaug.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class SplitSummary:
    """A split in numbers.

    Attributes:
        name: of the split.
        scenes: that belong to it, wholly or in part.
        ground_km2: valid ground of all its scenes, as far as is known; each date counts. NaN without a scale.
        tiles: of a grid that covers it.
        classes: chips or labelled pixels of each class by name; empty where no class is known.
    """

    name: str
    scenes: int
    ground_km2: float
    tiles: int
    classes: dict[str, int]


def summarise(catalog: Catalog, size: int | tuple[int, int]) -> list[SplitSummary]:
    """The splits of a catalog, with tiles of this size."""
    ids = class_ids(catalog)
    rows = []
    for name in catalog.split_names:
        part = catalog.split(name)
        try:
            tiles = len(GridTileSampler(CatalogTiles(part, size), rank=0, world_size=1))
        except ConfigurationError:  # not one tile
            tiles = 0
        amounts = class_amounts_in(part, ids).tolist()
        counts = {class_name(catalog, number): int(amount) for number, amount in zip(ids, amounts, strict=True)}
        rows.append(SplitSummary(name, len(part), _ground_km2(part), tiles, counts))
    return rows


def _ground_km2(part: Catalog) -> float:
    if not np.isfinite(part.column("gsd_m").astype(np.float64)).all():
        return float("nan")
    area = ground_m2(part)
    if "region" in part.table.column_names:
        regions = part.table.column("region").to_pylist()
        for scene, stored in enumerate(regions):
            if stored is None:
                continue
            outline = unwrapped(part.footprints[scene])
            local = LocalMetres(outline.centroid.x, outline.centroid.y)
            whole, region = local.metres(outline), local.metres(shapely.from_wkb(stored))
            area[scene] *= region.intersection(whole).area / whole.area
    return float(area.sum() / 1e6)
