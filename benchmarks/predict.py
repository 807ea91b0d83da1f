"""How busy prediction keeps the network, and how much memory it takes, over made scenes of several heights.

    uv run python benchmarks/predict.py
    uv run python benchmarks/predict.py --width 20000 --heights 512,1024,2048
    uv run python benchmarks/predict.py --width 20000 --heights 20000 --probabilities

Each scene is predicted in a process of its own by a U-Net on a ResNet18 with new weights: what it says is noise, the
hardest to compress. The share of the network is that of wall time, from the call of `predict_scene` until its maps are
whole, in which the network runs; the last seconds are those after its last window. Memory is the most that the process
held (VmHWM) beyond what it held when the model had been loaded: a scene of twice the height should take no more. The
other figures are processor time: of everything, and, where the network runs on one thread (`--threads 1`), the share of
all that is not the network. Other work on the machine disturbs times, and their shares less.
"""

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import torch
from affine import Affine
from rasterio.windows import Window
from report import publish

from geoaug import get_sensor
from geoaug.models import ClassName, ModelCard, load_model, predict_scene, save_model, unet

NAMES = ("B02", "B03", "B04", "B08", "B05", "B06", "B07", "B8A", "B11", "B12")


def write_scene(path: Path, width: int, height: int, bands: int) -> None:
    """A scene of noise over slow waves, block by block."""
    random = np.random.default_rng(0)
    block = 512
    noise = random.integers(0, 400, (bands, 2 * block, 2 * block), dtype=np.uint16)
    with rasterio.open(
        path, "w", driver="GTiff", width=width, height=height, count=bands, dtype="uint16", nodata=0, tiled=True,
        blockxsize=block, blockysize=block, compress="zstd", zstd_level=1, predictor=2, bigtiff="IF_SAFER",
        crs="EPSG:32633", transform=Affine(10, 0, 500_000, 0, -10, 5_000_000),
    ) as file:  # fmt: skip
        file.descriptions = NAMES[:bands]
        for row in range(0, height, block):
            for column in range(0, width, block):
                rows, columns = min(block, height - row), min(block, width - column)
                down, right = random.integers(0, block, 2)
                waves = 1000 + 600 * np.sin((np.arange(row, row + rows)[:, None] + column) / 300)
                pixels = noise[:, down : down + rows, right : right + columns] + waves.astype(np.uint16)
                file.write(pixels, window=Window(column, row, columns, rows))


def write_model(path: Path, bands: int, classes: int, tile: int) -> None:
    """A U-Net that has learned nothing."""
    torch.manual_seed(0)
    sensor = get_sensor("sentinel-2-l2a").select(NAMES[:bands])
    network = unet("resnet18", None, sensor, num_classes=classes, dropout=0.1)
    card = ModelCard(
        network.architecture,
        sensor,
        "segmentation",
        (0.12,) * bands,
        (0.06,) * bands,
        gsd_m=10.0,
        tile_size=tile,
        classes=tuple(ClassName(f"class {number}", (number, 0, 0)) for number in range(classes)),
    )
    save_model(path, network, card)


def resident_mb(field: str) -> float:
    """What the process holds (VmRSS), or held at most (VmHWM)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(f"{field}:"))


def measure(model: Path, scene: Path, out: Path, options: dict[str, Any]) -> dict[str, float]:
    """One prediction, in this process."""
    loaded = load_model(model)
    running = {"since": 0.0, "wall": 0.0, "cpu_since": 0.0, "cpu": 0.0, "windows": 0}

    def begin(*_: object) -> None:
        running["since"], running["cpu_since"] = time.perf_counter(), time.thread_time()

    def end(_: object, given: tuple[torch.Tensor, ...], __: object) -> None:
        running["wall"] += time.perf_counter() - running["since"]
        running["cpu"] += time.thread_time() - running["cpu_since"]
        running["windows"] += len(given[0])

    loaded.network.register_forward_pre_hook(begin)
    loaded.network.register_forward_hook(end)
    before = resident_mb("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the most from here on
    last: list[float] = []
    start, cpu = time.perf_counter(), time.process_time()
    predict_scene(loaded, scene, out, progress=lambda *_: last.append(time.perf_counter()), **options)
    wall, cpu = time.perf_counter() - start, time.process_time() - cpu
    return {
        "windows": running["windows"],
        "seconds": wall,
        "network_share": running["wall"] / wall,
        "finishing_seconds": start + wall - last[-1],
        "beyond_model_mb": resident_mb("VmHWM") - before,
        "cpu_seconds": cpu,
        "other_cpu_share": 1 - running["cpu"] / cpu if torch.get_num_threads() == 1 else float("nan"),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--width", type=int, default=4096)
    parser.add_argument("--heights", default="512,1024,2048")
    parser.add_argument("--bands", type=int, default=4, choices=range(1, len(NAMES) + 1))
    parser.add_argument("--classes", type=int, default=10)
    parser.add_argument("--tile", type=int, default=256)
    parser.add_argument("--probabilities", action="store_true")
    parser.add_argument("--passes", type=int, default=0)
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--folder", type=Path, default=None, help="for scenes and maps; Default: a temporary one")
    parser.add_argument("--output", type=Path, default=Path("bench-predict.json"))
    parser.add_argument("--run", nargs=2, type=Path, default=None, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    options = {"probabilities": arguments.probabilities, "passes": arguments.passes, "precision": arguments.precision}
    if arguments.run is not None:
        print(json.dumps(measure(*arguments.run, arguments.run[1].parent / "maps", options)))
        return
    found = []
    with tempfile.TemporaryDirectory(dir=arguments.folder) as scratch:
        model, scene = Path(scratch) / "model.safetensors", Path(scratch) / "scene.tif"
        write_model(model, arguments.bands, arguments.classes, arguments.tile)
        for height in map(int, arguments.heights.split(",")):
            write_scene(scene, arguments.width, height, arguments.bands)
            command = [sys.executable, __file__, *sys.argv[1:], "--run", str(model), str(scene)]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            found.append({"height": height, **json.loads(done.stdout.splitlines()[-1])})
    rows = [
        [
            f"{arguments.width} x {one['height']}",
            f"{one['windows'] / one['seconds']:.1f}",
            f"{one['network_share']:.1%}",
            f"{one['finishing_seconds']:.1f}",
            f"{one['beyond_model_mb']:.0f}",
            f"{one['cpu_seconds']:.1f}",
            "-" if math.isnan(one["other_cpu_share"]) else f"{one['other_cpu_share']:.1%}",
        ]
        for one in found
    ]
    columns = ("scene", "windows/s", "network", "last seconds", "MB beyond", "CPU seconds", "of these others")
    told = {name: str(value) for name, value in vars(arguments).items() if name != "run"}
    publish("Prediction of whole scenes", columns, rows, {"options": told, "scenes": found}, arguments.output)


if __name__ == "__main__":
    main()
