"""Splits of a catalog: by ground, by column, by date or by chance, kept in the catalog itself.

A scene belongs to a split as a whole (column "split"), or parts of its ground do (column "regions": for each split the
ground where tiles may lie, buffers taken off). `Catalog.split` gives the scenes of one, and `summarise` what each
holds, in numbers. Whether splits keep their
distance is checked in `geoaug.data.sampling.leaks`, apart from how they were made.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import PurePath
from typing import Any

import numpy as np
import pyarrow as pa
import shapely

from geoaug.data.catalog.catalog import Catalog
from geoaug.data.catalog.products.classes import SPLITS
from geoaug.data.raster.meridians import in_one_piece
from geoaug.data.sampling.grid_sampler import GridTileSampler
from geoaug.data.sampling.ground_blocks import (
    LocalMetres,
    class_amounts,
    class_amounts_in,
    class_ids,
    class_name,
    ground_m2,
)
from geoaug.data.sampling.scene_overlap import overlap_groups
from geoaug.data.sampling.split_ground import BlockSplit, checked_shares, dealt
from geoaug.data.sampling.tile_source import CatalogTiles
from geoaug.errors import ConfigurationError

REGIONS_TYPE = pa.list_(pa.struct([("split", pa.string()), ("geometry", pa.binary())]))

DEFAULT_SHARES = {"train": 0.7, "val": 0.15, "test": 0.15}

_log = logging.getLogger("geoaug")


def split_by_blocks(
    catalog: Catalog,
    shares: Mapping[str, float] | None = None,
    *,
    block_m: float | None = None,
    buffer_m: float = 0.0,
    cut: bool | None = None,
    size: int | None = None,
    seed: int = 0,
) -> Catalog:
    """Splits of whole blocks of ground, so that the ground of a spot is in one split at all dates and in all scenes.

    The ground is cut as `geoaug.data.sampling.ground_blocks` says. Blocks are dealt out by chance until each split has
    its share of the valid ground (each date counts). Scenes are cut along the blocks, where tiles then keep half of
    `buffer_m` from the ground of other splits. Chips (1024 pixels at most), and scenes that lie apart and are smaller
    than a block, stay whole and go where their centre lies; those nearer than `buffer_m` to a scene of another split,
    or over it, are left out of the larger split.

    Args:
        catalog: of scenes with a CRS.
        shares: of the splits by name; 0.7 train, 0.15 val and 0.15 test by default.
        block_m: side of a block in metres; by default such that about 200 blocks hold the scenes. For chips that
            overlap blocks are wider, by up to ten chips, so that fewer lie at their borders: 30 blocks at least.
        buffer_m: distance in metres that tiles of different splits keep.
        cut: whether scenes are cut; by default where one is larger than a block, or scenes larger than chips come
            nearer to each other than the buffer.
        size: of the tiles in pixels that the splits are for. Unless `block_m` is given, blocks are two tiles wide at
            least, as long as there are three for each split; and scenes of up to three tiles across stay whole.
        seed: of the chance.

    Raises:
        ConfigurationError: a scene without a CRS, or blocks too few or too small.
    """
    wanted = checked_shares(DEFAULT_SHARES if shares is None else shares)
    ground = BlockSplit(catalog, block_m, buffer_m, cut, size=size, parts=len(wanted))
    owner = ground.dealt(np.array(list(wanted.values())), seed)
    names = list(wanted)
    parts = {name: ground.part(owner == number, priority=wanted[name]) for number, name in enumerate(names)}
    return _stored(catalog, ground.settled(parts), {**ground.notes, "method": "blocks", "shares": wanted, "seed": seed})


def split_into_folds(
    catalog: Catalog,
    folds: int,
    *,
    block_m: float | None = None,
    buffer_m: float = 0.0,
    cut: bool | None = None,
    size: int | None = None,
    seed: int = 0,
) -> Catalog:
    """Folds of whole blocks of ground, of equal shares: "fold0" and so on, and for each what it is trained with.

    "fold0-train" is the ground of all other folds, as far as it keeps `buffer_m` from that of "fold0". The other
    arguments are those of `split_by_blocks`.
    """
    if folds < 2:
        raise ConfigurationError(f"{folds} folds: there must be two at least")
    ground = BlockSplit(catalog, block_m, buffer_m, cut, size=size, parts=folds)
    owner = ground.dealt(np.full(folds, 1 / folds), seed)
    parts: dict[str, list[Any]] = {}
    for number in range(folds):
        mine = owner == number
        pair = {
            f"fold{number}": ground.part(mine, priority=0.0),
            f"fold{number}-train": ground.part(~mine & (owner >= 0), priority=1.0),
        }
        parts.update(ground.settled(pair))
    return _stored(catalog, parts, {**ground.notes, "method": "kfold", "folds": folds, "seed": seed})


def split_by_attribute(catalog: Catalog, column: str, values: Mapping[str, Sequence[Any]]) -> Catalog:
    """Splits by the values of a column: `{"train": ["spring"], "test": ["autumn"]}`. Scenes of others are in none."""
    known = catalog.table.column(column).to_pylist() if column in catalog.table.column_names else None
    if known is None:
        raise ConfigurationError(
            f"the catalog has no column {column!r}; it has {', '.join(catalog.table.column_names)}"
        )
    owner: dict[str, str] = {}
    for name, wanted in values.items():
        for value in wanted:
            if owner.setdefault(str(value), name) != name:
                raise ConfigurationError(
                    f"{column} {value!r} is given to the splits '{owner[str(value)]}' and '{name}'"
                )
    strange = sorted(set(owner) - {str(value) for value in known})
    if strange:
        there = sorted({str(value) for value in known})
        raise ConfigurationError(f"no scene has the {column} {strange[0]!r}; there are {', '.join(there[:20])}")
    chosen = [owner.get(str(value)) for value in known]
    return _whole(catalog, chosen, list(values), {"method": "attribute", "column": column})


_LARGER = ": give it a larger share, smaller blocks or a smaller buffer"
_REMEDIES = {
    "blocks": _LARGER,
    "kfold": _LARGER,
    "random": ": give it a larger share",
    "date": ": no scene was taken in its time",
}


def split_by_date(catalog: Catalog, starts: Mapping[str, str | date | datetime | None]) -> Catalog:
    """Splits by the time of acquisition: each begins at its date (None: at the first one) and ends where the next does.

    `{"train": None, "val": "2023-01-01", "test": "2023-07-01"}`. Dates are in UTC; scenes without a time are in none.
    """
    begins = {name: None if value is None else _moment(value) for name, value in starts.items()}
    first = datetime.min.replace(tzinfo=UTC)
    order = sorted(begins, key=lambda name: begins[name] or first)
    if len({begins[name] for name in begins}) < len(begins):
        raise ConfigurationError("two splits begin at the same date")
    chosen: list[str | None] = []
    for moment in catalog.table.column("datetime").to_pylist():
        there = [] if moment is None else [name for name in order if (begins[name] or first) <= moment]
        chosen.append(there[-1] if there else None)
    if not any(chosen):
        known = len(chosen) - catalog.table.column("datetime").null_count
        raise ConfigurationError(
            f"{known} of {len(chosen)} scenes have a time of acquisition, and none of these is in a split: take other "
            "dates, or another method"
        )
    begun = {name: None if value is None else value.isoformat() for name, value in begins.items()}
    return _whole(catalog, chosen, list(starts), {"method": "date", "starts": begun})


def split_by_folder(catalog: Catalog, folders: Mapping[str, str] | None = None) -> Catalog:
    """Splits that a dataset comes with: by the name of a folder on the way to each scene.

    Args:
        catalog: of the scenes.
        folders: the split that each folder stands for; train, val, validation, test and the like by default.
    """
    named = SPLITS if folders is None else {key.lower(): value for key, value in folders.items()}
    chosen: list[str | None] = []
    for path in catalog.table.column("path").to_pylist():
        found = [named[part.lower()] for part in PurePath(path).parts[:-1] if part.lower() in named]
        chosen.append(found[-1] if found else None)
    if not any(chosen):
        raise ConfigurationError(f"no scene lies in a folder named {', '.join(named)}")
    names = sorted({name for name in chosen if name is not None}, key=list(named.values()).index)
    return _whole(catalog, chosen, names, {"method": "folder"})


def split_by_chance(
    catalog: Catalog, shares: Mapping[str, float] | None = None, *, buffer_m: float = 0.0, seed: int = 0
) -> Catalog:
    """Splits of whole scenes by chance, in shares of the valid ground; scenes that overlap stay together.

    So do scenes nearer to each other than `buffer_m`, and whatever hangs on these. Scenes without a CRS are taken to
    lie apart.
    """
    wanted = checked_shares(DEFAULT_SHARES if shares is None else shares)
    group = overlap_groups(catalog, buffer_m)
    groups, which = np.unique(group, return_inverse=True)
    sizes = np.zeros(len(groups))
    np.add.at(sizes, which, ground_m2(catalog))
    if len(groups) < len(wanted):
        raise ConfigurationError(
            f"the scenes make {len(groups)} group(s) that do not overlap, too few for {len(wanted)} splits: split the "
            "ground by blocks"
        )
    amounts = class_amounts(catalog)
    classes = np.zeros((len(groups), amounts.shape[1]))
    np.add.at(classes, which, amounts)
    owner = dealt(groups.astype(np.int64), sizes, classes, np.array(list(wanted.values())), seed)
    names = list(wanted)
    chosen = [names[number] for number in owner[which].tolist()]
    return _whole(catalog, chosen, names, {"method": "random", "shares": wanted, "buffer_m": buffer_m, "seed": seed})


def _whole(catalog: Catalog, chosen: Sequence[str | None], names: Sequence[str], notes: dict[str, Any]) -> Catalog:
    parts = {name: [True if value == name else None for value in chosen] for name in names}
    return _stored(catalog, parts, notes)


def _stored(catalog: Catalog, parts: Mapping[str, Sequence[Any]], notes: dict[str, Any]) -> Catalog:
    """The catalog with splits: for each name and scene None (not in it), True (all of it) or a region in degrees."""
    split: list[str | None] = [None] * len(catalog)
    regions: list[list[dict[str, Any]] | None] = [None] * len(catalog)
    for scene in range(len(catalog)):
        held = [(name, values[scene]) for name, values in parts.items() if values[scene] is not None]
        if len(held) == 1 and held[0][1] is True:
            split[scene] = held[0][0]
        elif held:
            regions[scene] = [
                {"split": name, "geometry": None if value is True else shapely.to_wkb(value)} for name, value in held
            ]
    table = catalog.table
    old = [name for name in ("split", "regions", "region") if name in table.column_names]
    found = Catalog(table.drop_columns(old) if old else table, catalog.notes)
    found = found.with_column("split", pa.array(split, pa.string()))
    if any(regions):
        found = found.with_column("regions", pa.array(regions, REGIONS_TYPE))
    found = found.with_notes(splits={**notes, "names": list(parts)})
    for name, values in parts.items():
        if all(value is None for value in values):
            raise ConfigurationError(
                f"the split '{name}' would hold no scene{_REMEDIES.get(str(notes.get('method')), '')}"
            )
    for line in absent_classes(found):
        _log.warning("%s", line)
    return found


def absent_classes(catalog: Catalog) -> list[str]:
    """Which classes of the catalog a split has none of, a line for each such split."""
    ids, lines = class_ids(catalog), []
    if not ids:
        return []
    for name in catalog.split_names:
        amounts = class_amounts_in(catalog.split(name), ids)
        missing = [
            class_name(catalog, number) for number, amount in zip(ids, amounts.tolist(), strict=True) if not amount
        ]
        if missing:
            lines.append(f"the split '{name}' holds nothing of {', '.join(missing)}")
    return lines


def _moment(value: str | date | datetime) -> datetime:
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError as error:
            raise ConfigurationError(f"{value!r} is no date: write 2023-07-01") from error
    if not isinstance(value, datetime):
        value = datetime(value.year, value.month, value.day)
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


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
            outline = in_one_piece(part.footprints[scene])
            local = LocalMetres(outline.centroid.x, outline.centroid.y)
            whole, region = local.metres(outline), local.metres(in_one_piece(shapely.from_wkb(stored)))
            area[scene] *= region.intersection(whole).area / whole.area
    return float(area.sum() / 1e6)
