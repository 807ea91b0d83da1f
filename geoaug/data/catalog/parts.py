"""The parts of a catalog: which splits it holds, and the scenes of one. Splits are made in `geoaug.data.splits`."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from geoaug.data.catalog.arrow_arrays import text_scalar, to_numpy, whole_numbers
from geoaug.data.catalog.catalog import Catalog
from geoaug.errors import ConfigurationError


def split_names(catalog: Catalog) -> list[str]:
    """The names of the splits that a catalog holds."""
    names = list((catalog.notes.get("splits") or {}).get("names", ()))
    found: set[str] = set()
    if "split" in catalog.table.column_names:
        found |= set(catalog.table.column("split").drop_null().to_pylist())
    if "regions" in catalog.table.column_names:
        flat = catalog.table.column("regions").combine_chunks().flatten()
        found |= set(flat.field("split").unique().to_pylist())
    return [*names, *sorted(found - set(names))]


def scenes_of_split(catalog: Catalog, name: str) -> Catalog:
    """The scenes of a split, with the column "region" where some of them belong to it in part.

    Raises:
        ConfigurationError: no such split, or nothing in it.
    """
    names = split_names(catalog)
    if name not in names:
        there = f"it has {', '.join(names)}" if names else "make one with geoaug split"
        raise ConfigurationError(f"the catalog has no split '{name}'; {there}")
    table = catalog.table
    mine = np.zeros(len(catalog), dtype=bool)
    parts: pa.Array | None = None
    if "split" in table.column_names:
        mine |= np.array([value == name for value in table.column("split").to_pylist()], dtype=bool)
    if "regions" in table.column_names:
        column = table.column("regions").combine_chunks()
        flat = column.flatten()
        lengths = np.nan_to_num(to_numpy(pc.list_value_length(column))).astype(np.int64)
        scene = np.repeat(np.arange(len(catalog)), lengths)
        chosen = np.flatnonzero(to_numpy(pc.equal(flat.field("split"), text_scalar(name))))
        mine[scene[chosen]] = True
        place = np.full(len(catalog), -1)
        place[scene[chosen]] = chosen
        parts = flat.field("geometry").take(whole_numbers(place[mine], missing=place[mine] < 0))
    if not mine.any():
        raise ConfigurationError(f"the split '{name}' holds no scene: give it a larger share, or make smaller blocks")
    found = catalog.select(mine)
    if parts is not None and parts.null_count < len(parts):
        found = found.with_column("region", parts)
    if "regions" in found.table.column_names:
        found = Catalog(found.table.drop_columns(["regions"]), found.notes)
    return found
