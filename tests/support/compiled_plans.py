"""Compiles what plans do to pixels, apart from the tests' checks of arrays, which torch's compiler cannot see through.

    python compiled_plans.py BACKEND NAME...

Prints each name, how many graphs three draws took, and the greatest difference from the uncompiled, as a share.
"""

import sys
import warnings
from typing import Any

import torch
from torch._dynamo.testing import CompileCounterWithBackend

from geoaug import Compose, Sensor, get_sensor, load_recipe
from geoaug.augment import RandomAffine, RandomBandShift, RandomD4, RandomHaze, RandomSensorNoise
from geoaug.rng.draws import sample_keys


def sensor_for(name: str) -> Sensor:
    # Four bands on three grids tell what thirteen do, in a third of the time.
    others = {"sentinel-1": "sentinel-1-db", "aerial-rgb": "rgb"}
    return get_sensor(others[name]) if name in others else get_sensor("sentinel-2-l1c").select("B01,B04,B08,B12")


def tiles(seed: int, sensor: Sensor) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(seed)
    image = torch.rand(3, len(sensor.bands), 15, 18, generator=generator)
    if sensor.transfer is not None:
        stored = (image * 254 + 1).to(torch.uint8)
    elif sensor.domain == "sar":
        stored = image * 20 - 25
    else:
        stored = (image * 5000 + 1).to(torch.uint16)
    return {
        "image": stored,
        "mask": torch.randint(0, 5, (3, 15, 18), generator=generator),
        "valid": torch.rand(3, 1, 15, 18, generator=generator) > 0.05,
        "key": sample_keys(seed, range(3)),
    }


def recipe(name: str, sensor: Sensor) -> Compose:
    if name not in ("bilinear", "bicubic", "nearest"):
        return load_recipe(name).compose(sensor=sensor)
    operations = [RandomD4(), RandomAffine(20, scale=(0.8, 1.2), p=0.7), RandomHaze(p=0.7), RandomSensorNoise(p=0.7)]
    return Compose(
        [*operations, RandomBandShift(p=0.5)],
        sensor=sensor,
        interpolation=name,  # type: ignore[arg-type]
        channels_last=name == "nearest",
    )


def check(name: str, backend: str) -> None:
    sensor = sensor_for(name)
    compose = recipe(name, sensor)
    compose.executor = "torch"
    torch._dynamo.reset()
    counter = CompileCounterWithBackend(backend)
    apply = torch.compile(compose.apply, fullgraph=True, backend=counter)
    worst = 0.0
    for seed in range(3):
        batch = tiles(seed, sensor)
        plan = compose.plan(batch)
        plain, out = compose.apply(batch, plan), apply(batch, plan)
        assert torch.equal(plain["valid"], out["valid"]), name
        assert torch.equal(plain["mask"], out["mask"]), name
        assert ("cloud" in plain) == ("cloud" in out), name
        span = float(plain["image"].max() - plain["image"].min())
        worst = max(worst, float((plain["image"] - out["image"]).abs().max()) / span)
    print(name, counter.frame_count, worst)  # noqa: T201


if __name__ == "__main__":
    warnings.filterwarnings("ignore", "Dynamo detected a call to a")
    for each in sys.argv[2:]:
        check(each, sys.argv[1])
