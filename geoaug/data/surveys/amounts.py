"""How much of what there is in scenes: valid ground, and each class."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import shapely

from geoaug.data.catalogs.catalog import Catalog
from geoaug.data.surveys.coverage import Coverage
from geoaug.data.surveys.ground_blocks import cell_centres, unwrapped


def ground_m2(catalog: Catalog) -> npt.NDArray[np.float64]:
    """The valid ground of each scene in square metres, as far as is known; in pixels without a CRS."""
    gsd = catalog.column("gsd_m").astype(np.float64)
    area = (
        catalog.column("height").astype(np.float64) * catalog.column("width") * np.where(np.isfinite(gsd), gsd, 1) ** 2
    )
    if "valid_share" in catalog.table.column_names:
        share = catalog.column("valid_share").astype(np.float64)
        area *= np.where(np.isfinite(share), share, 1.0)
    return np.asarray(area)


def class_ids(catalog: Catalog) -> list[Any]:
    """What classes are known by: labels of chips, else ids that a survey counted."""
    labels = catalog.table.column("label").drop_null().unique().to_pylist()
    if labels:
        return sorted(labels)
    if "class_counts" not in catalog.table.column_names:
        return []
    flat = catalog.table.column("class_counts").combine_chunks().flatten()
    return sorted(flat.field("id").unique().to_pylist())


def class_amounts(catalog: Catalog) -> npt.NDArray[np.float64]:
    """(scenes, classes): chips or pixels of each of `class_ids` in each scene."""
    ids = class_ids(catalog)
    place = {value: number for number, value in enumerate(ids)}
    amounts = np.zeros((len(catalog), len(ids)))
    labels = catalog.table.column("label").to_pylist()
    if any(label is not None for label in labels):
        for scene, label in enumerate(labels):
            if label is not None:
                amounts[scene, place[label]] = 1
    elif ids:
        for scene, counts in enumerate(catalog.table.column("class_counts").to_pylist()):
            for count in counts or ():
                amounts[scene, place[count["id"]]] = count["count"]
    return amounts


def class_name(catalog: Catalog, number: Any) -> str:
    """A class as a person knows it."""
    if isinstance(number, int) and 0 <= number < len(catalog.classes):
        return f"{catalog.classes[number]}"
    return f"class {number}" if isinstance(number, int) else str(number)


def class_amounts_in(part: Catalog, ids: Sequence[Any]) -> npt.NDArray[np.float64]:
    """How much there is of each class in the scenes of a split: in their regions, where they have such."""
    there = class_ids(part)
    amounts = class_amounts(part)
    place = {value: number for number, value in enumerate(ids)}
    total = np.zeros(len(ids))
    limited = [False] * len(part)
    if "region" in part.table.column_names:
        limited = part.table.column("region").is_valid().to_pylist()
    for scene in np.flatnonzero(limited).tolist():
        coverage = Coverage.of(part, scene)
        if coverage is not None:
            inside = cells_inside(part, scene)
            amounts[scene] = 0
            counts = (coverage.class_pixels * inside).sum(axis=(1, 2))
            for number, count in zip(coverage.class_ids, counts.tolist(), strict=True):
                if number in there:
                    amounts[scene, there.index(number)] = count
    for number, value in enumerate(there):
        total[place[value]] = amounts[:, number].sum()
    return total


def cells_inside(part: Catalog, scene: int) -> npt.NDArray[np.bool_]:
    """(rows, cols): the cells of a scene whose centres lie in its region."""
    grid = part[scene].grid
    assert grid.crs is not None
    longitude, latitude, _ = cell_centres(grid.crs, grid.transform, grid.height, grid.width)
    region = unwrapped(shapely.from_wkb(part.table.column("region")[scene].as_py()))
    if shapely.bounds(region)[2] > 180:
        longitude = longitude % 360
    shapely.prepare(region)
    coverage = Coverage.of(part, scene)
    assert coverage is not None
    return np.asarray(shapely.contains_xy(region, longitude, latitude).reshape(coverage.valid.shape))
