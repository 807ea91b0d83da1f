"""How well the locality order shuffles, and how many blocks it decodes, against tiles drawn one by one.

    uv run python benchmarks/shuffle.py
    uv run python benchmarks/shuffle.py --scenes 6 --memory-mb 1024

No pixel is read. Scenes of 4096 x 4096 pixels in blocks of 512 x 512, tiles of 256 x 256 in batches of 64, an epoch of
`--tiles`. For each order (`windows` of each region, `mixed` regions in use; the default is marked *):

- scenes, regions: distinct scenes, and distinct squares of 1024 x 1024 pixels, in a batch (mean);
- beside: consecutive tiles that lie within 1024 pixels of each other;
- chi2 1, chi2 10: how unevenly the ground is covered after one epoch and after ten: counts of tiles by squares of
  512 x 512 places against equal ones, as chi square per degree of freedom (1: as by chance; less: more even);
- blocks: decoded for a tile, with the cache that a dataset of `--bands` uint16 bands has within `--memory-mb`, and
  groups of batches read together as `TileLoader` does.
"""

import argparse
from collections import OrderedDict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from affine import Affine
from report import publish

from geoaug.data import Catalog, LocalityTileSampler, RandomTileSampler
from geoaug.data.raster.grid import Grid
from geoaug.data.raster.record import BandFile, SceneRecord
from geoaug.data.sampling.tile_source import CatalogTiles

SIDE, BLOCK, TILE, BATCH, REGION = 4096, 512, 256, 64, 1024
EPOCHS = 10


def made_catalog(scenes: int) -> Catalog:
    """Scenes beside each other, without files."""
    records = []
    for number in range(scenes):
        place = Affine(10, 0, 300000 + number % 10 * SIDE * 10, 0, -10, 5000000 - number // 10 * SIDE * 10)
        grid = Grid("EPSG:32632", place, SIDE, SIDE)
        band = BandFile("B1", f"/{number}.tif", 1, grid, "uint16", 0.0, (BLOCK, BLOCK))
        records.append(SceneRecord(f"s{number}", "raster", f"/{number}.tif", (band,), "generic"))
    return Catalog.from_records(records)


def places_of(sampler: Any, epochs: int) -> list[np.ndarray]:
    """(tiles, 3) of scene, row and column, for each epoch."""
    found = []
    for epoch in range(epochs):
        sampler.set_epoch(epoch)
        found.append(np.array([tile[:3] for tile in sampler]))
    return found


def blocks_per_tile(places: np.ndarray, budget: int, pixel: int, memory: int) -> float:
    """Blocks decoded, by a cache that drops the least lately used and decodes once for a group of batches."""
    group = BATCH * min(max(memory // (2 * BATCH * TILE * TILE * pixel), 1), 16)
    kept: OrderedDict[tuple[int, int, int], None] = OrderedDict()
    most, decoded = budget // (BLOCK * BLOCK * pixel), 0
    for start in range(0, len(places), group):
        wanted: OrderedDict[tuple[int, int, int], None] = OrderedDict()
        for scene, row, col in places[start : start + group].tolist():
            for down in range(row // BLOCK, (row + TILE - 1) // BLOCK + 1):
                for across in range(col // BLOCK, (col + TILE - 1) // BLOCK + 1):
                    wanted[scene, down, across] = None
        for key in wanted:
            if key in kept:
                kept.move_to_end(key)
                continue
            decoded += 1
            kept[key] = None
            if len(kept) > most:
                kept.popitem(last=False)
    return decoded / len(places)


def unevenness(places: np.ndarray, scenes: int) -> float:
    """Chi square per degree of freedom of the counts of tiles in squares of places."""
    edges = np.append(np.arange(0, SIDE - TILE + 1, BLOCK), SIDE - TILE + 1)
    counts = np.histogramdd(places, bins=[np.arange(scenes + 1), edges, edges])[0]
    sizes = np.outer(np.diff(edges), np.diff(edges))
    expected = len(places) * sizes / sizes.sum() / scenes
    return float(((counts - expected) ** 2 / expected).sum() / (counts.size - 1))


def quality(epochs: list[np.ndarray], scenes: int, budget: int, pixel: int, memory: int) -> dict[str, float]:
    """What the table shows of an order."""
    first = epochs[0]
    batches = first[: len(first) // BATCH * BATCH].reshape(-1, BATCH, 3)
    regions = batches // np.array([1, REGION, REGION])
    steps = np.abs(np.diff(first, axis=0))
    return {
        "scenes": float(np.mean([len(np.unique(batch[:, 0])) for batch in batches])),
        "regions": float(np.mean([len(np.unique(batch, axis=0)) for batch in regions])),
        "beside": float(((steps[:, 0] == 0) & (steps[:, 1:] < REGION).all(axis=1)).mean()),
        "chi2 1": unevenness(first, scenes),
        "chi2 10": unevenness(np.concatenate(epochs), scenes),
        "blocks": blocks_per_tile(first, budget, pixel, memory),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=int, default=200)
    parser.add_argument("--tiles", type=int, default=16384)
    parser.add_argument("--bands", type=int, default=13)
    parser.add_argument("--memory-mb", type=int, default=1024)
    parser.add_argument("--windows", type=int, nargs="*", default=[])
    parser.add_argument("--output", type=Path, default=Path("bench-shuffle.json"))
    arguments = parser.parse_args()
    pixel = 2 * arguments.bands + 1
    budget = arguments.memory_mb * 2**20 // 2
    memory = arguments.memory_mb * 2**20 - budget
    source: Any = CatalogTiles(made_catalog(arguments.scenes), TILE)
    # What a dataset says of itself, and the number of regions in use follows from.
    source.memory, source.tile_bytes = SimpleNamespace(chunks=budget), TILE * TILE * pixel
    fits = LocalityTileSampler(source, arguments.tiles).mixed
    orders: dict[str, Any] = {"uniform": RandomTileSampler(source, arguments.tiles)}
    for windows in (None, *arguments.windows):
        for mixed in sorted({8, 16, fits, 32, 64}):
            sampler = LocalityTileSampler(source, arguments.tiles, mixed=mixed, windows=windows)
            mark = "*" if mixed == fits and windows is None else ""
            orders[f"{sampler.windows} windows, {mixed} mixed{mark}"] = sampler
    results = {
        name: quality(places_of(sampler, EPOCHS), arguments.scenes, budget, pixel, memory)
        for name, sampler in orders.items()
    }
    columns = list(next(iter(results.values())))
    rows = [
        [name, *(f"{value:.0%}" if column == "beside" else f"{value:.3g}" for column, value in result.items())]
        for name, result in results.items()
    ]
    title = f"{arguments.scenes} scenes, {arguments.bands} bands, {arguments.memory_mb} MB, {arguments.tiles} tiles"
    publish(title, ("order", *columns), rows, {"settings": title, "orders": results}, arguments.output)


if __name__ == "__main__":
    main()
