"""The reference recipe against the same work in kornia, and `geoaug augment` against a plain rasterio loop.

    uv run python benchmarks/augment.py                  # both, a few minutes
    uv run python benchmarks/augment.py --only engine    # in memory alone
    uv run python benchmarks/augment.py --device cuda

Engine: 13 x 256 x 256 uint16 and a uint8 mask to normalised float32 224 x 224: D4, rotation of 20 degrees, scale .8 to
1.25, translation of 10 %, crop, illumination, haze, sensor noise, band dropout. Kornia has no haze or sensor noise; it
gets the nearest it has: contrast and brightness without its clamp, and Gaussian noise. Its affine operation does
rotation, scale and translation in one go.

Job: wall time of the whole process, imports included, for a 13-band scene; the loop reads the same windows and writes
each as often as there are copies, with the same compression.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import kornia.augmentation as K
import torch
from report import interleaved, publish, ratio, spread

from geoaug import Compose, get_sensor
from geoaug.augment import (
    RandomAffine,
    RandomBandDropout,
    RandomBandShift,
    RandomCloud,
    RandomCloudShadow,
    RandomCrop,
    RandomD4,
    RandomHaze,
    RandomIllumination,
    RandomRotation,
    RandomSensorNoise,
    RandomStriping,
)

MEAN, STD = [0.12] * 13, [0.08] * 13


def reference_recipe(noise: bool = True) -> Compose:
    """geoaug's side of the comparison."""
    operations = [
        RandomD4(),
        RandomRotation(20, p=1.0),
        RandomAffine(scale=(0.8, 1.25), translate=(0.1, 0.1), p=1.0),
        RandomCrop(224),
        RandomIllumination(p=1.0),
        RandomHaze(p=1.0),
        *([RandomSensorNoise(p=1.0)] if noise else []),
        RandomBandDropout(p=0.1),
    ]
    return Compose(operations, sensor=get_sensor("sentinel-2-l1c"), normalize=(MEAN, STD))


def optical_chain() -> Compose:
    """Air, clouds with their shadows, detector and misregistration: everything an optical image suffers."""
    operations = [
        RandomD4(),
        RandomRotation(20, p=1.0),
        RandomAffine(scale=(0.8, 1.25), translate=(0.1, 0.1), p=1.0),
        RandomCrop(224),
        RandomHaze((0.0, 0.3), gradient=(0.2, 0.8), p=1.0),
        RandomCloudShadow(p=1.0),
        RandomCloud(p=1.0),
        RandomBandShift(p=1.0),
        RandomSensorNoise(p=1.0),
        RandomStriping(p=1.0),
    ]
    return Compose(operations, sensor=get_sensor("sentinel-2-l1c"), normalize=(MEAN, STD))


def kornia_recipe(device: torch.device) -> Callable[[dict[str, torch.Tensor]], Any]:
    """The nearest kornia comes to the same work."""
    augment = K.AugmentationSequential(
        K.RandomHorizontalFlip(p=0.5),
        K.RandomRotation90((0, 3), p=1.0),
        K.RandomAffine(20.0, (0.1, 0.1), (0.8, 1.25), p=1.0),
        K.RandomCrop((224, 224)),
        K.RandomBrightness((0.85, 1.18), clip_output=False, p=1.0),
        K.RandomContrast((0.8, 1.0), clip_output=False, p=1.0),
        K.RandomGaussianNoise(0.0, 0.005, p=1.0),
        K.RandomChannelDropout(p=0.1),
        K.Normalize(torch.tensor(MEAN), torch.tensor(STD)),
        data_keys=["input", "mask"],
    ).to(device)

    def run(batch: dict[str, torch.Tensor]) -> Any:
        return augment(batch["image"].float() / 10000, batch["mask"][:, None].float())

    return run


def engine(device: torch.device, batch_size: int, rounds: int, path: Path) -> None:
    """Tiles per second in memory."""
    generator = torch.Generator().manual_seed(0)
    batch = {
        "image": torch.randint(1, 10000, (batch_size, 13, 256, 256), generator=generator).to(torch.uint16).to(device),
        "mask": torch.randint(0, 8, (batch_size, 256, 256), generator=generator).to(torch.uint8).to(device),
    }

    def timed(run: Callable[[dict[str, torch.Tensor]], Any]) -> Callable[[], None]:
        def once() -> None:
            with torch.inference_mode():
                run(batch)
            if device.type == "cuda":
                torch.cuda.synchronize()

        return once

    candidates = {
        "geoaug": timed(reference_recipe()),
        "geoaug, no noise": timed(reference_recipe(noise=False)),
        "geoaug, full optical chain": timed(optical_chain()),
        "kornia": timed(kornia_recipe(device)),
    }
    times = interleaved(candidates, rounds, warmup=2)
    rows = []
    for name, seconds in times.items():
        rate = {key: batch_size / value for key, value in spread(seconds).items()}
        speedup, slowdown = ratio(seconds, times["kornia"]), 1 / ratio(seconds, times["geoaug"])
        spread_text = f"{rate['max']:.1f} to {rate['min']:.1f}"
        rows.append([name, f"{rate['median']:.1f}", spread_text, f"{speedup:.1f}x", f"{slowdown:.2f}x"])
    content = {"device": str(device), "threads": torch.get_num_threads(), "batch": batch_size, "seconds": times}
    title = f"reference recipe, batch {batch_size}, {device}, {torch.get_num_threads()} threads"
    publish(title, ("", "tiles/s", "spread", "against kornia", "time of geoaug"), rows, content, path)


LOOP = """
import itertools, json, sys
import rasterio
from rasterio.windows import Window
scene, out, tile, copies = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
with rasterio.open(scene) as source:
    profile = dict(width=tile, height=tile, count=source.count, dtype=source.dtypes[0], crs=source.crs,
                   nodata=source.nodata, **json.loads(sys.argv[5]))
    rows, columns = range(0, source.height - tile + 1, tile), range(0, source.width - tile + 1, tile)
    for row, column in itertools.product(rows, columns):
        window = Window(column, row, tile, tile)
        pixels = source.read(window=window)
        for copy in range(copies):
            name = f"{out}/r{row}_c{column}_a{copy}.tif"
            with rasterio.open(name, "w", transform=source.window_transform(window), **profile) as target:
                target.write(pixels)
"""


def first_bands(scene: Path, count: int) -> Path:
    """A copy of the scene with its first bands alone."""
    import rasterio

    path = scene.with_name("first.tif")
    with rasterio.open(scene) as source, rasterio.open(path, "w", **{**source.profile, "count": count}) as target:
        target.write(source.read(list(range(1, count + 1))))
        target.descriptions = source.descriptions[:count]
    return path


def job(side: int, bands: int, tile: int, copies: int, compress: str, rounds: int, path: Path) -> None:
    """Wall time of whole processes, from a scene on disk to tiles on disk."""
    import numpy as np

    from geoaug.data.synthetic.made_scene import write_scene
    from geoaug.io.geotiff import creation_options

    creation = creation_options(np.empty((bands, tile, tile), dtype=np.uint16), compress=compress)
    geoaug = Path(sys.executable).with_name("geoaug")
    # Without cached bytecode, importing torch alone takes twice as long; the warm-up run writes it.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        scene = write_scene(folder, size=side).image
        if bands < 13:
            scene = first_bands(scene, bands)

        def fresh(kind: str) -> Path:
            # Only the newest output of a kind is kept, so that the disk does not fill up.
            shutil.rmtree(folder / kind, ignore_errors=True)
            return folder / kind

        def ours() -> None:
            options = ["--tile", str(tile), "--copies", str(copies), "--compress", compress, "--min-valid", "0"]
            command = [str(geoaug), "augment", str(scene), "-o", str(fresh("ours")), *options]
            subprocess.run(command, check=True, capture_output=True, env=environment)

        def loop() -> None:
            out = fresh("loop")
            out.mkdir()
            arguments = [str(scene), str(out), str(tile), str(copies), json.dumps(creation)]
            subprocess.run([sys.executable, "-c", LOOP, *arguments], check=True, env=environment)

        times = interleaved({"geoaug augment": ours, "rasterio loop": loop}, rounds)
        files = {kind: list((folder / kind).rglob("*_a*.tif")) for kind in ("ours", "loop")}
        written = {
            kind: {"tiles": len(found), "bytes": sum(file.stat().st_size for file in found)}
            for kind, found in files.items()
        }
    assert written["ours"]["tiles"] == written["loop"]["tiles"], written
    rows = []
    for label, seconds in times.items():
        numbers = spread(seconds)
        share = 1 / ratio(seconds, times["rasterio loop"])
        rows.append(
            [label, f"{numbers['median']:.1f} s", f"{numbers['min']:.1f} to {numbers['max']:.1f}", f"{share:.2f}x"]
        )
    content = {
        "side": side,
        "bands": bands,
        "tile": tile,
        "copies": copies,
        "creation": creation,
        "written": written,
        "seconds": times,
    }
    title = f"{bands} x {side} x {side} uint16, {written['ours']['tiles']} tiles of {tile}, {compress}"
    publish(title, ("", "wall time", "spread", "of the loop"), rows, content, path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=("engine", "job"))
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--side", type=int, default=4096, help="of the scene for the job, pixels")
    parser.add_argument("--bands", type=int, default=13, help="of the scene for the job, at most 13")
    parser.add_argument("--output", type=Path, default=Path())
    options = parser.parse_args()
    if options.only != "job":
        engine(torch.device(options.device), options.batch_size, options.rounds, options.output / "bench-engine.json")
    if options.only != "engine":
        job(options.side, options.bands, 256, 3, "zstd", max(3, options.rounds // 2), options.output / "bench-job.json")


if __name__ == "__main__":
    main()
