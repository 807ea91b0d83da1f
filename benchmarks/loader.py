"""Tiles per second straight from GeoTIFF: geoaug and TorchGeo on the same files, in one run, in turns.

    uv run --with torchgeo==0.8.1 --with requests python benchmarks/loader.py
    uv run python benchmarks/loader.py --layout bands --rounds 5

Files: six scenes of 13 bands, uint16, 4096 x 4096 pixels, DEFLATE with a predictor, blocks of 512 x 512, in one UTM
zone beside each other (`--layout scenes`: a file each, pixel by pixel; `--layout bands`: a file for each band), 2.6 GB
once decoded, ten times the cache that GDAL is given. They are made in `--folder` on the first run and used again.

Work: tiles of 256 x 256 pixels and all bands in batches of 64, as in the middle of a training: each loader goes on from
turn to turn, and what it had read ahead when its turn begins is taken first and not counted.

The bare rate is rasterio's: whole blocks in the order of the file, each read once, by as many threads as there are
cores, and dropped.
"""

import argparse
import itertools
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

os.environ.setdefault("GDAL_CACHEMAX", "256")

import numpy as np
import rasterio
from affine import Affine
from rasterio.windows import Window
from report import publish, spread
from torch.utils.data import DataLoader

from geoaug.data import (
    Catalog,
    GridTileSampler,
    LocalityTileSampler,
    RandomTileSampler,
    TileDataset,
    TileLoader,
    collate_tiles,
)

SIDE, BLOCK, BANDS, SCENES, TILE, BATCH = 4096, 512, 13, 6, 256, 64
_PAUSE_S = 4.0  # until what a loader reads ahead, in threads or workers, is read
CORES = len(os.sched_getaffinity(0))


def make_scenes(folder: Path, layout: str) -> list[Path]:
    """The files of a layout, made unless they are there."""
    place = folder / layout
    place.mkdir(parents=True, exist_ok=True)
    paths = []
    for scene in range(SCENES):
        profile: dict[str, Any] = {
            "driver": "GTiff", "width": SIDE, "height": SIDE, "dtype": "uint16", "nodata": 0, "crs": "EPSG:32632",
            "transform": Affine(10, 0, 300000 + scene * SIDE * 10, 0, -10, 5200000), "tiled": True,
            "blockxsize": BLOCK, "blockysize": BLOCK, "compress": "deflate", "predictor": 2,
        }  # fmt: skip
        if layout == "scenes":
            targets = [(place / f"scene{scene}.tif", list(range(BANDS)))]
            profile["interleave"] = "pixel"
        else:
            targets = [(place / f"scene{scene}_B{band + 1:02d}.tif", [band]) for band in range(BANDS)]
        paths += [path for path, _ in targets]
        if all(path.exists() for path, _ in targets):
            continue
        image = _landscape(scene)
        for path, bands in targets:
            with rasterio.open(path, "w", count=len(bands), **profile) as file:
                file.write(image[bands])
    return paths


def _landscape(seed: int) -> np.ndarray:
    """Smooth ground with the noise of a sensor, which compresses about as a scene does."""
    generator = np.random.default_rng(seed)
    coarse = generator.normal(size=(SIDE // 128 + 1, SIDE // 128 + 1))
    at = np.linspace(0, SIDE // 128, SIDE, endpoint=False)
    first, share = at.astype(int), at - at.astype(int)
    rows = coarse[first] * (1 - share[:, None]) + coarse[first + 1] * share[:, None]
    ground = rows[:, first] * (1 - share) + rows[:, first + 1] * share
    noise = generator.normal(scale=60, size=(SIDE, SIDE))
    return np.stack(
        [
            np.clip(1500 + ground * 400 * (1 + band / BANDS) + np.roll(noise, band * 97), 1, None)
            for band in range(BANDS)
        ]
    ).astype(np.uint16)


class Turns:
    """A loader that goes on from turn to turn.

    Args:
        batches: makes an epoch, by its number.
        tiles: counted in a turn.
        ahead: batches that may have been read since the last turn.
    """

    def __init__(self, batches: Callable[[int], Iterable[Any]], tiles: int, ahead: int) -> None:
        self.tiles, self.ahead = tiles, ahead
        self._going = (batch for epoch in itertools.count() for batch in batches(epoch))

    def __call__(self) -> float:
        """Tiles per second of a turn."""
        for _ in range(self.ahead):
            next(self._going)
        start, count = time.perf_counter(), 0
        while count < self.tiles:
            count += len(next(self._going)["image"])
        return count / (time.perf_counter() - start)


def geoaug_candidates(paths: list[Path], tiles: int, memory_mb: int) -> dict[str, Callable[[], float]]:
    """This library: its own loader with each sampler, and torch's loader."""
    catalog = Catalog.from_files([str(path) for path in paths])

    def candidate(make: Callable[[TileDataset], Any], workers: int | None = None) -> Turns:
        dataset = TileDataset(catalog, TILE, memory_mb=memory_mb)  # each with memory of its own
        sampler = make(dataset)
        loader: Any
        if workers is None:
            loader = TileLoader(dataset, sampler, BATCH)
            ahead = 2 * loader.look_ahead
        else:
            loader = DataLoader(
                dataset, BATCH, sampler=sampler, num_workers=workers, collate_fn=collate_tiles,
                persistent_workers=workers > 0,
            )  # fmt: skip
            ahead = 2 * workers + 1

        def epoch(number: int) -> Iterable[Any]:
            sampler.set_epoch(number)
            return loader

        return Turns(epoch, tiles, ahead)

    length = 100 * tiles
    return {
        "geoaug, locality": candidate(lambda dataset: LocalityTileSampler(dataset, length)),
        "geoaug, uniform": candidate(lambda dataset: RandomTileSampler(dataset, length)),
        "geoaug, grid": candidate(GridTileSampler),
        "geoaug in torch's DataLoader, locality": candidate(lambda dataset: LocalityTileSampler(dataset, length), 0),
        "geoaug in torch's DataLoader, locality, 2 workers": candidate(
            lambda dataset: LocalityTileSampler(dataset, length), 2
        ),
    }


def torchgeo_candidates(paths: list[Path], layout: str, tiles: int) -> dict[str, Callable[[], float]]:
    """TorchGeo's raster dataset with its samplers; none where it is not installed."""
    try:
        from torchgeo.datasets import RasterDataset, stack_samples
        from torchgeo.samplers import GridGeoSampler, RandomGeoSampler
    except ImportError:
        return {}

    class Scenes(RasterDataset):
        filename_glob = "scene*.tif" if layout == "scenes" else "scene*_B01.tif"
        filename_regex = r"scene\d+" if layout == "scenes" else r"scene\d_(?P<band>B\d\d)"
        separate_files = layout == "bands"
        all_bands = tuple(f"B{band + 1:02d}" for band in range(BANDS)) if layout == "bands" else ()

    def loader(sampler: Callable[[Any], Any], workers: int) -> Callable[[], float]:
        dataset = Scenes(str(paths[0].parent))
        batches = DataLoader(
            dataset, BATCH, sampler=sampler(dataset), num_workers=workers, collate_fn=stack_samples,
            persistent_workers=workers > 0,
        )  # fmt: skip

        def epoch(number: int) -> Iterable[Any]:
            return batches

        return Turns(epoch, tiles // 2, 2 * workers + 1)

    def uniform(dataset: Any) -> Any:
        return RandomGeoSampler(dataset, size=TILE, length=100 * tiles)

    return {
        "TorchGeo, random, 2 workers": loader(uniform, 2),
        "TorchGeo, random": loader(uniform, 0),
        "TorchGeo, grid, 2 workers": loader(lambda dataset: GridGeoSampler(dataset, size=TILE, stride=TILE), 2),
    }


def bare(paths: list[Path], tiles: int) -> Callable[[], float]:
    """Whole blocks by rasterio alone, as tiles of all bands per second."""
    across = SIDE // BLOCK
    files = paths[:SCENES] if len(paths) == SCENES else paths
    pixels = TILE * TILE * BANDS
    blocks = max(CORES, round(tiles * pixels / (BLOCK * BLOCK) / (BANDS if len(paths) == SCENES else 1)))

    def work(thread: int) -> int:
        done = 0
        numbers = range(thread, blocks, CORES)
        for path_number, path in enumerate(files):
            mine = [number for number in numbers if number // across**2 == path_number]
            if not mine:
                continue
            with rasterio.open(path) as file:
                for number in mine:
                    row, col = divmod(number % across**2, across)
                    done += file.read(window=Window(col * BLOCK, row * BLOCK, BLOCK, BLOCK)).size
        return done

    def run() -> float:
        start = time.perf_counter()
        with ThreadPoolExecutor(CORES) as pool:
            values = sum(pool.map(work, range(CORES)))
        return values / pixels / (time.perf_counter() - start)

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "geoaug-bench-loader")
    parser.add_argument("--layout", choices=("scenes", "bands"), default="scenes")
    parser.add_argument("--tiles", type=int, default=1024, help="of a turn; TorchGeo gets half of them")
    parser.add_argument("--memory-mb", type=int, default=2048, help="of each of geoaug's datasets")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--output", type=Path, default=None)
    arguments = parser.parse_args()
    paths = make_scenes(arguments.folder, arguments.layout)
    # Those with worker processes first: they are forked once, before the others fill this process's memory.
    candidates: dict[str, Callable[[], float]] = dict(
        sorted(
            {
                **geoaug_candidates(paths, arguments.tiles, arguments.memory_mb),
                **torchgeo_candidates(paths, arguments.layout, arguments.tiles),
                "bare rasterio, whole blocks": bare(paths, arguments.tiles),
            }.items(),
            key=lambda item: "workers" not in item[0],
        )
    )
    rates: dict[str, list[float]] = {name: [] for name in candidates}
    for turn in range(arguments.rounds + 1):
        for name, run in candidates.items():
            rate = run()
            time.sleep(_PAUSE_S)
            if turn:  # the first turn warms up
                rates[name].append(rate)
    base = rates.get("TorchGeo, random, 2 workers")
    bare_rates = rates["bare rasterio, whole blocks"]
    rows = [
        [
            name,
            f"{statistics.median(values):.0f}",
            f"{min(values):.0f} to {max(values):.0f}",
            f"{statistics.median(values) * TILE * TILE * BANDS * 2 / 1e6:.0f}",
            "" if base is None else f"{statistics.median(a / b for a, b in zip(values, base, strict=True)):.1f}",
            f"{statistics.median(a / b for a, b in zip(values, bare_rates, strict=True)):.0%}",
        ]
        for name, values in rates.items()
    ]
    publish(
        f"{arguments.layout}: {TILE} px tiles of {BANDS} bands, {CORES} cores",
        ("loader", "tiles/s", "spread", "MB/s", "times TorchGeo random", "of bare decoding"),
        rows,
        {"layout": arguments.layout, "cores": CORES, "rates": {name: spread(values) for name, values in rates.items()}},
        arguments.output or Path(f"bench-loader-{arguments.layout}.json"),
    )


if __name__ == "__main__":
    main()
