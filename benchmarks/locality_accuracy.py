"""Whether a network trained in the order of the locality sampler is as good as one trained in uniform order.

    uv run python benchmarks/locality_accuracy.py

A real task, small enough for two cores: from the four bands B02, B03, B04, B08 of a Sentinel-2 scene, the quarter that
each pixel's short-wave infrared (B12) falls into. A network of four convolutions sees the same number of tiles in each
order, from the same weights; it is scored on ground that no training tile touches. The scene is stored again in blocks
of 128 pixels, so that regions are to it what they are to a full one. An order without any shuffling (a grid) shows what
there is to lose.
"""

import argparse
import json
import statistics
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import torch
from rasterio.enums import Resampling
from rasterio.vrt import WarpedVRT
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from geoaug.augment import RandomD4
from geoaug.data import Catalog, TileDataModule

SCENE = Path(__file__).resolve().parents[2] / "shared" / "data" / "s2-29rkh"
CLASSES, TILE, BATCH, BLOCK = 4, 64, 16, 128
SAMPLERS = ("random", "locality", "grid")


def make_task(folder: Path, source: Path) -> Catalog:
    """The scene in small blocks, its labels, and a split of its ground."""
    [image] = source.glob("*B02-B03-B04-B08*.tif")
    [infrared] = source.glob("*/B12.tif")
    with rasterio.open(image) as file, rasterio.open(infrared) as other:
        profile = {**file.profile, "tiled": True, "blockxsize": BLOCK, "blockysize": BLOCK, "compress": "deflate"}
        grid = {"crs": file.crs, "transform": file.transform, "height": file.height, "width": file.width}
        with WarpedVRT(other, resampling=Resampling.bilinear, **grid) as warped:
            values = warped.read(1)
        pixels = file.read()
        names = file.descriptions
    quarters = np.digitize(values, np.quantile(values[values > 0], [0.25, 0.5, 0.75])).astype(np.uint8)
    quarters[values == 0] = 255
    scene, labels = folder / image.name, folder / "labels.tif"
    with rasterio.open(scene, "w", **{**profile, "driver": "GTiff"}) as file:
        file.write(pixels)
        file.descriptions = names
    with rasterio.open(
        labels, "w", **{**profile, "driver": "GTiff", "count": 1, "dtype": "uint8", "nodata": 255}
    ) as file:
        file.write(quarters, 1)
    return Catalog.from_files([scene], kind="raster", labels=labels)


def network() -> nn.Module:
    """Four convolutions that see 9 pixels across."""
    layers: list[nn.Module] = []
    channels = 4
    for _ in range(3):
        layers += [nn.Conv2d(channels, 24, 3, padding=1), nn.BatchNorm2d(24), nn.ReLU()]
        channels = 24
    return nn.Sequential(*layers, nn.Conv2d(channels, CLASSES, 3, padding=1))


def train(catalog: Catalog, sampler: str, seed: int, steps: int) -> dict[str, float]:
    """Accuracy and mean intersection over union on the validation ground."""
    torch.manual_seed(seed)
    module = TileDataModule(
        catalog,
        TILE,
        batch_size=BATCH,
        length=None if sampler == "grid" else steps * BATCH,
        sampler=sampler,  # type: ignore[arg-type]
        augment=[RandomD4()],
        normalize="measure",
        splits={"method": "blocks", "shares": {"train": 0.7, "val": 0.3}, "block_m": 25600, "buffer_m": 1000},
        classes=CLASSES,
        seed=seed,
        drop_last=True,
    )
    module.setup()
    net = network()
    optimizer = torch.optim.AdamW(net.parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps)
    loader, step, epoch = module.train_dataloader(), 0, 0
    net.train()
    while step < steps:
        loader.set_epoch(epoch)
        for batch in loader:
            done = module.prepare(batch, split="train")
            loss = nn.functional.cross_entropy(net(done["image"]), done["mask"], ignore_index=255)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            step += 1
            if step == steps:
                break
        epoch += 1
    found = score(net.eval(), module)
    module.teardown()
    return found


@torch.inference_mode()
def score(net: nn.Module, module: TileDataModule) -> dict[str, float]:
    counts = torch.zeros(CLASSES, CLASSES, dtype=torch.int64)
    for batch in module.val_dataloader():
        done = module.prepare(batch, split="val")
        predicted: Tensor = net(done["image"]).argmax(1)
        known = done["mask"] != 255
        pairs = done["mask"][known] * CLASSES + predicted[known]
        counts += torch.bincount(pairs, minlength=CLASSES**2).reshape(CLASSES, CLASSES)
    right = counts.diagonal().double()
    union = counts.sum(0) + counts.sum(1) - counts.diagonal()
    return {"accuracy": float(right.sum() / counts.sum()), "iou": float((right / union).mean())}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scene", type=Path, default=SCENE, help="folder of the scene")
    parser.add_argument("--steps", type=int, default=200, help=f"of {BATCH} tiles")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--json", type=Path, help="write the figures here, too")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore", category=rasterio.errors.NotGeoreferencedWarning)
    found: dict[str, list[dict[str, float]]] = {sampler: [] for sampler in SAMPLERS}
    with tempfile.TemporaryDirectory() as folder:
        catalog = make_task(Path(folder), arguments.scene)
        for seed in range(arguments.seeds):
            for sampler in SAMPLERS:
                found[sampler].append(train(catalog, sampler, seed, arguments.steps))
    table = Table(title=f"{arguments.steps} steps of {BATCH} tiles of {TILE} px, {arguments.seeds} seeds")
    for head in ("sampler", "accuracy, mean", "spread", "IoU, mean", "spread"):
        table.add_column(head, justify="left" if head == "sampler" else "right")
    report: dict[str, Any] = {}
    for sampler, runs in found.items():
        cells = []
        for key in ("accuracy", "iou"):
            values = [run[key] for run in runs]
            cells += [f"{100 * statistics.mean(values):.2f} %", f"{100 * min(values):.2f} to {100 * max(values):.2f}"]
        table.add_row(sampler, *cells)
        report[sampler] = runs
    Console().print(table)
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
