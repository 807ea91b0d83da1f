"""Memory of the loader over many epochs, of one huge scene, and the time to the first batch of many files.

    uv run python benchmarks/loader_memory.py
    uv run python benchmarks/loader_memory.py --epochs 20 --budget-mb 512 --files 10000

Resident memory is what Linux counts for this process and its workers together, with shared pages divided among those
that share them (Pss), after each epoch. The first epochs fill what is kept (decoded blocks, buffers); the figures
compare the last epoch with the third. The huge scene is a sparse file of 60,000 x 60,000 pixels and 4 bands, 29 GB once
decoded. The first batch is timed in a new process, imports included and not, from a saved catalog.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from affine import Affine
from loader import make_scenes
from rasterio.windows import Window
from report import publish
from torch.utils.data import DataLoader

from geoaug.data import Catalog, LocalityTileSampler, RandomTileSampler, TileDataset, TileLoader, collate_tiles

# Which the loader's benchmark sets: here GDAL's cache is part of the budget, as it is where nobody sets it.
os.environ.pop("GDAL_CACHEMAX", None)

_FIRST_BATCH = """
import sys, time
start = time.perf_counter()
from geoaug.data import Catalog, RandomTileSampler, TileDataset, TileLoader
imported = time.perf_counter()
dataset = TileDataset(Catalog.open(sys.argv[1]), 64)
batch = next(iter(TileLoader(dataset, RandomTileSampler(dataset, 10000), 64)))
assert batch["image"].shape[0] == 64
print(time.perf_counter() - start, time.perf_counter() - imported)
"""


def resident_mb() -> float:
    """Of this process and its children, shared pages divided among them."""
    mine = os.getpid()
    total = 0
    for place in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((place / "stat").read_text().rpartition(")")[2].split()[1])
            if mine in (parent, int(place.name)):
                rollup = (place / "smaps_rollup").read_text()
                total += next(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:"))
        except (OSError, StopIteration):  # it ended meanwhile
            continue
    return total / 1024


def epochs(paths: list[Path], budget_mb: int, workers: int, count: int, tiles: int) -> list[float]:
    """Resident memory after each epoch."""
    dataset = TileDataset(Catalog.from_files([str(path) for path in paths]), 256, memory_mb=budget_mb)
    sampler = LocalityTileSampler(dataset, tiles)
    loader: Any
    if workers:
        loader = DataLoader(
            dataset, 16, sampler=sampler, num_workers=workers, collate_fn=collate_tiles, persistent_workers=True
        )
    else:
        loader = TileLoader(dataset, sampler, 16)
    sizes = []
    for epoch in range(count):
        sampler.set_epoch(epoch)
        for batch in loader:
            batch["image"].numpy().max()
        sizes.append(resident_mb())
    dataset.close()
    return sizes


def huge_scene(folder: Path, budget_mb: int, tiles: int) -> tuple[float, float]:
    """Resident memory before and at its most while tiles of a sparse scene are read."""
    path = folder / "huge.tif"
    side = 60000
    with rasterio.open(
        path, "w", driver="GTiff", width=side, height=side, count=4, dtype="uint16", tiled=True, blockxsize=512,
        blockysize=512, compress="deflate", sparse_ok=True, nodata=0, crs="EPSG:32632", bigtiff=True,
        transform=Affine(10, 0, 300000, 0, -10, 5200000),
    ) as file:  # fmt: skip
        block = np.random.default_rng(0).integers(1, 4000, (4, 512, 512)).astype("uint16")
        for place in range(0, side - 512, 4096):
            file.write(block, window=Window(place // 512 * 512, place // 512 * 512, 512, 512))
    before = resident_mb()
    dataset = TileDataset(Catalog.from_files([str(path)]), 256, memory_mb=budget_mb)
    most = before
    for number, _ in enumerate(TileLoader(dataset, RandomTileSampler(dataset, tiles), 16)):
        if number % 10 == 0:
            most = max(most, resident_mb())
    dataset.close()
    path.unlink()
    return before, most


def first_batch(folder: Path, files: int) -> tuple[float, float, float]:
    """Seconds to index the files, and to the first batch with and without imports."""
    chips = folder / f"chips{files}"
    chips.mkdir(exist_ok=True)
    generator = np.random.default_rng(0)
    for number in range(files):
        path = chips / f"chip{number:05d}.tif"
        if path.exists():
            continue
        with rasterio.open(
            path, "w", driver="GTiff", width=128, height=128, count=4, dtype="uint16", compress="deflate",
            crs="EPSG:32632",
            transform=Affine(10, 0, 300000 + number % 100 * 1280, 0, -10, 5200000 - number // 100 * 1280),
        ) as file:  # fmt: skip
            file.write(generator.integers(1, 4000, (4, 128, 128)).astype("uint16"))
    start = time.perf_counter()
    Catalog.from_folder(chips).save(folder / "chips.parquet")
    indexing = time.perf_counter() - start
    script = [sys.executable, "-c", _FIRST_BATCH, str(folder / "chips.parquet")]
    subprocess.run(script, check=True, capture_output=True)
    whole, without = subprocess.run(script, check=True, capture_output=True, text=True).stdout.split()
    return indexing, float(whole), float(without)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "geoaug-bench-loader")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--tiles", type=int, default=512, help="of an epoch")
    parser.add_argument("--budget-mb", type=int, default=512)
    parser.add_argument("--files", type=int, default=10000)
    parser.add_argument("--only", choices=("epochs", "huge", "files"), default=None)
    parser.add_argument("--run-epochs", type=int, default=None, metavar="WORKERS", help=argparse.SUPPRESS)
    parser.add_argument("--output", type=Path, default=Path("bench-loader-memory.json"))
    arguments = parser.parse_args()
    if arguments.run_epochs is not None:
        paths = make_scenes(arguments.folder, "scenes")
        print(json.dumps(epochs(paths, arguments.budget_mb, arguments.run_epochs, arguments.epochs, arguments.tiles)))
        return
    make_scenes(arguments.folder, "scenes")
    rows = []
    if arguments.only in (None, "epochs"):
        for workers in (0, 4):
            # Each in a process of its own, whose memory nothing else has filled.
            told = [
                f"--{name}={getattr(arguments, name.replace('-', '_'))}" for name in ("epochs", "tiles", "budget-mb")
            ]
            told += [f"--folder={arguments.folder}", f"--run-epochs={workers}"]
            done = subprocess.run([sys.executable, __file__, *told], check=True, capture_output=True, text=True)
            sizes = json.loads(done.stdout.splitlines()[-1])
            third, last = sizes[min(2, len(sizes) - 1)], sizes[-1]
            rows.append([f"{workers} workers, MB after epoch 3 and {len(sizes)}", f"{third:.0f}", f"{last:.0f}",
                         f"{last / third - 1:+.1%}"])  # fmt: skip
    if arguments.only in (None, "huge"):
        before, most = huge_scene(arguments.folder, arguments.budget_mb, 2000)
        rows.append(["60,000 x 60,000 pixels, MB before and at most", f"{before:.0f}", f"{most:.0f}",
                     f"{most - before:.0f} of {arguments.budget_mb} MB"])  # fmt: skip
    if arguments.only in (None, "files"):
        indexing, whole, without = first_batch(arguments.folder, arguments.files)
        rows.append([f"{arguments.files} files, s to the first batch, imports aside", f"{whole:.2f}", f"{without:.2f}",
                     f"indexed in {indexing:.1f} s"])  # fmt: skip
    publish("memory of the loader", ("what", "first", "then", "so"), rows, {"rows": rows}, arguments.output)


if __name__ == "__main__":
    main()
