"""Indexing, saving, reopening and refreshing a catalog of many files.

    uv run python benchmarks/index.py --files 100000

Files: links to a few GeoTIFFs of 13 bands and 64 x 64 pixels, all in one folder, so that the disk holds little and
the headers are in the system's cache: what is measured is GDAL and Python, not the disk. Made in `--folder` and used
again.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from affine import Affine
from report import publish

from geoaug.data import Catalog, TileDataset, TileRef

DIFFERENT = 4


def make_files(folder: Path, count: int) -> Path:
    """A folder of `count` links to a few rasters in as many UTM zones."""
    sources = folder / "sources"
    sources.mkdir(parents=True, exist_ok=True)
    for number in range(DIFFERENT):
        with rasterio.open(
            sources / f"{number}.tif", "w", driver="GTiff", count=13, height=64, width=64, dtype="uint16", nodata=0,
            crs=f"EPSG:{32631 + number}", transform=Affine(10, 0, 400000, 0, -10, 5000000), compress="deflate",
        ) as file:  # fmt: skip
            file.write(np.full((13, 64, 64), 1000 + number, np.uint16))
    links = folder / f"links-{count}"
    if not links.exists():
        links.mkdir()
        for number in range(count):
            (links / f"scene_{number:06d}.tif").symlink_to(sources / f"{number % DIFFERENT}.tif")
    return links


def timed(work: Callable[[], Any]) -> tuple[Any, dict[str, float]]:
    """What it returns, and its seconds by the clock and of the processor."""
    clock, processor = time.perf_counter(), time.process_time()
    result = work()
    return result, {
        "seconds": round(time.perf_counter() - clock, 4),
        "cpu_seconds": round(time.process_time() - processor, 4),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "geoaug-index")
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--output", type=Path, default=Path("benchmark-index.json"))
    arguments = parser.parse_args()
    folder = make_files(arguments.folder, arguments.files)
    saved = arguments.folder / "catalog.parquet"
    figures: dict[str, Any] = {}
    catalog, figures["index"] = timed(lambda: Catalog.from_folder(folder, threads=arguments.threads))
    _, figures["save"] = timed(lambda: catalog.save(saved))
    figures["catalog_MB"] = round(saved.stat().st_size / 1e6, 2)
    del catalog
    opened, figures["open"] = timed(lambda: Catalog.open(saved))
    _, figures["look at one scene"] = timed(lambda: opened[len(opened) // 2])
    dataset, figures["dataset of all"] = timed(lambda: TileDataset(opened, 64))
    _, figures["first tile"] = timed(lambda: dataset[TileRef(len(opened) // 2, 0, 0)])
    _, figures["refresh, nothing changed"] = timed(lambda: Catalog.from_folder(folder, refresh=opened))
    rows = [
        [name, f"{figure['seconds']:.4g}", f"{figure['cpu_seconds']:.4g}"]
        if isinstance(figure, dict)
        else [name, f"{figure:.3g}", ""]
        for name, figure in figures.items()
    ]
    content = {"files": arguments.files, "cores": len(os.sched_getaffinity(0)), "figures": figures}
    publish(f"{arguments.files} files", ["", "seconds", "of the processor"], rows, content, arguments.output)


if __name__ == "__main__":
    main()
