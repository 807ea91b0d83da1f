"""What each operation costs on top of the geometry, in one thread.

    uv run python benchmarks/operations.py
    GEOAUG_EXECUTOR=torch uv run python benchmarks/operations.py

Tiles of 13 x 256 x 256 uint16 to normalised float32 224 x 224, rotated, scaled and cropped; every operation on every
sample. Processor time, the least of some rounds, for the question is what the work costs and not what else the machine
does.
"""

import argparse
import time
from pathlib import Path

import torch
from augment import MEAN, STD
from report import publish
from torch import nn

from geoaug import Compose, get_sensor
from geoaug.augment import (
    RandomAffine,
    RandomBandDropout,
    RandomBandShift,
    RandomCalibration,
    RandomCloud,
    RandomCloudShadow,
    RandomCrop,
    RandomD4,
    RandomHaze,
    RandomIllumination,
    RandomLineDropout,
    RandomPointSpread,
    RandomQuantization,
    RandomResolution,
    RandomRotation,
    RandomSaturation,
    RandomSensorNoise,
    RandomStriping,
    RandomSunElevation,
    RandomSwathBrightness,
    RandomWaterVapour,
)

OPERATIONS: dict[str, list[nn.Module]] = {
    "geometry alone": [],
    "RandomIllumination": [RandomIllumination(p=1.0)],
    "RandomSunElevation": [RandomSunElevation(p=1.0)],
    "RandomSwathBrightness": [RandomSwathBrightness(p=1.0)],
    "RandomWaterVapour": [RandomWaterVapour(p=1.0)],
    "RandomHaze without adjacency": [RandomHaze(adjacency=False, p=1.0)],
    "RandomHaze": [RandomHaze(p=1.0)],
    "RandomHaze, gradient": [RandomHaze(gradient=(0.2, 0.8), p=1.0)],
    "RandomCloud": [RandomCloud(p=1.0)],
    "RandomCloudShadow": [RandomCloudShadow(p=1.0)],
    "RandomCloud and its shadow": [RandomCloudShadow(p=1.0), RandomCloud(p=1.0)],
    "RandomBandShift": [RandomBandShift(p=1.0)],
    "RandomSensorNoise": [RandomSensorNoise(p=1.0)],
    "RandomCalibration": [RandomCalibration(p=1.0)],
    "RandomBandDropout": [RandomBandDropout(p=1.0)],
    "RandomSaturation": [RandomSaturation(p=1.0)],
    "RandomStriping": [RandomStriping(p=1.0)],
    "RandomLineDropout": [RandomLineDropout(p=1.0)],
    "RandomQuantization": [RandomQuantization(p=1.0)],
    "RandomPointSpread": [RandomPointSpread(p=1.0)],
    "RandomResolution": [RandomResolution(p=1.0)],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--output", type=Path, default=Path())
    options = parser.parse_args()
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    shape = (options.batch_size, 13, 256, 256)
    batch = {"image": torch.randint(1, 10000, shape, generator=generator).to(torch.uint16)}
    geometry = [RandomD4(), RandomRotation(20, p=1.0), RandomAffine(scale=(0.8, 1.25), p=1.0), RandomCrop(224)]
    sensor = get_sensor("sentinel-2-l1c")
    least: dict[str, float] = {}
    for turn in range(options.rounds + 1):
        for name, operations in OPERATIONS.items():
            compose = Compose([*geometry, *operations], sensor=sensor, normalize=(MEAN, STD))
            with torch.inference_mode():
                start = time.process_time()
                compose(batch)
                took = (time.process_time() - start) / options.batch_size * 1000
            if turn:  # the first round warms up
                least[name] = min(least.get(name, took), took)
    alone = least["geometry alone"]
    rows = [[name, f"{took:.2f}", f"{took - alone:.2f}" if took != alone else ""] for name, took in least.items()]
    content = {"batch": options.batch_size, "milliseconds": least}
    path = options.output / "bench-operations.json"
    publish("one tile in one thread", ("", "ms", "above geometry"), rows, content, path)


if __name__ == "__main__":
    main()
