"""Prints the greatest memory that an augmentation took, input and output included, as a multiple of those two.

python peak_memory.py EXECUTOR
"""

import os
import sys
from pathlib import Path

import torch

from geoaug import Compose, get_sensor
from geoaug.augment import (
    RandomAffine,
    RandomBandShift,
    RandomCloud,
    RandomCrop,
    RandomD4,
    RandomHaze,
    RandomSensorNoise,
)
from geoaug.rng.draws import sample_keys

COUNT, SIDE = 64, 256


def held() -> int:
    """Bytes of this process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def most_held() -> int:
    """The most that it was so far. `getrusage` would count the process that started this one, too."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))


def batch(count: int, side: int) -> dict[str, torch.Tensor]:
    """Tiles, without a step that takes more than they do."""
    image = torch.empty(count, 13, side, side, dtype=torch.uint16)
    image.view(torch.int16).random_(1, 10000)
    mask = torch.zeros(count, side, side, dtype=torch.uint8)
    return {"image": image, "mask": mask, "key": sample_keys(0, range(count))}


def main() -> None:
    sensor, executor = get_sensor("sentinel-2-l1c"), sys.argv[1]
    geometry = [RandomD4(), RandomAffine(20, (0.1, 0.1), (0.8, 1.25), p=1.0)]
    light = [RandomHaze(gradient=(0.2, 0.8), p=1.0), RandomSensorNoise(p=1.0)]
    recipes = {
        "reference": [*geometry, RandomCrop(224), *light],
        "chain": [*geometry, RandomCrop(224), *light, RandomCloud(p=1.0), RandomBandShift(p=1.0)],
    }
    # Whatever is loaded, compiled and kept, whatever the size of a batch.
    for operations in recipes.values():
        Compose(operations, sensor=sensor, executor=executor)(batch(2, SIDE))  # type: ignore[arg-type]
    before = held()
    given = batch(COUNT, SIDE)
    for name, operations in recipes.items():
        out = Compose(operations, sensor=sensor, executor=executor)(given)  # type: ignore[arg-type]
        size = sum(part.nbytes for part in (*given.values(), *out.values()) if isinstance(part, torch.Tensor))
        size -= out["key"].nbytes
        print(name, (most_held() - before) / size)  # noqa: T201
        del out


if __name__ == "__main__":
    main()
