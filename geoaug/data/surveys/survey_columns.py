"""What a survey found, as columns of a catalog: coverage, outlines, shares, counts of classes."""

from collections import Counter

import pyarrow as pa
import shapely

from geoaug.data.catalogs.catalog import Catalog
from geoaug.data.scenes.records import Grid
from geoaug.data.surveys.coverage import COVERAGE_TYPE, Coverage, counts_column, coverage_column


class SurveyColumns:
    """What is found of each scene, encoded at once: 100,000 coverages would fill the memory."""

    def __init__(self) -> None:
        self._rows: dict[int, tuple[pa.Array, bytes | None, float, dict[int, int] | None]] = {}

    def add(self, place: int, found: Coverage, grid: Grid, *, labelled: bool) -> None:
        outline = found.outline(grid)
        """Take what was found of the scene at a place."""
        self._rows[place] = (
            coverage_column([found]),
            None if outline is None else shapely.to_wkb(outline),
            found.valid_share(grid.height, grid.width),
            found.class_counts if labelled else None,
        )

    def added_to(self, catalog: Catalog) -> Catalog:
        """The catalog with the columns; scenes that were left out have none."""
        nothing = (pa.nulls(1, COVERAGE_TYPE), None, None, None)
        rows = [self._rows.get(place, nothing) for place in range(len(catalog))]
        catalog = catalog.with_column("coverage", pa.concat_arrays([row[0] for row in rows]))
        catalog = catalog.with_column("valid_geometry", pa.array([row[1] for row in rows], pa.binary()))
        catalog = catalog.with_column("valid_share", pa.array([row[2] for row in rows], pa.float64()))
        if any(row[3] is not None for row in rows):
            catalog = catalog.with_column("class_counts", counts_column([row[3] for row in rows]))
        return catalog


def chip_classes(catalog: Catalog, places: list[int], names: tuple[str, ...]) -> tuple[dict[int, int], tuple[str, ...]]:
    """How many of the chips have each class, and the names of the classes."""
    found = catalog.table.column("label").to_pylist()
    texts = Counter(found[place] for place in places if found[place] is not None)
    listed = names or tuple(sorted(texts))
    return {listed.index(text): count for text, count in sorted(texts.items()) if text in listed}, listed
