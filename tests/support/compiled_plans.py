"""Compiles what plans do to pixels, apart from the tests' checks of arrays, which torch's compiler cannot see through.

    python compiled_plans.py BACKEND NAME...

Prints each name, how many graphs three draws took, and the greatest difference from the uncompiled, as a share.
"""

import sys
import warnings
from typing import Any

import torch
from torch._dynamo.testing import CompileCounterWithBackend

from geoaug import Compose, get_sensor, load_recipe
from geoaug.augment import RandomAffine, RandomBandShift, RandomD4, RandomHaze, RandomSensorNoise
from geoaug.rng.draws import sample_keys


def tiles(seed: int, radar: bool) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(seed)
    image = torch.rand(3, 2 if radar else 13, 15, 18, generator=generator)
    return {
        "image": image * 20 - 25 if radar else (image * 5000 + 1).to(torch.uint16),
        "mask": torch.randint(0, 5, (3, 15, 18), generator=generator),
        "valid": torch.rand(3, 1, 15, 18, generator=generator) > 0.05,
        "key": sample_keys(seed, range(3)),
    }


def recipe(name: str) -> Compose:
    optical = get_sensor("sentinel-2-l1c")
    if name not in ("bilinear", "bicubic", "nearest"):
        return load_recipe(name).compose(sensor=get_sensor("sentinel-1-db") if name == "sentinel-1" else optical)
    operations = [RandomD4(), RandomAffine(20, scale=(0.8, 1.2), p=0.7), RandomHaze(p=0.7), RandomSensorNoise(p=0.7)]
    return Compose(
        [*operations, RandomBandShift(p=0.5)],
        sensor=optical,
        interpolation=name,  # type: ignore[arg-type]
        channels_last=name == "nearest",
    )


def check(name: str, backend: str) -> None:
    compose = recipe(name)
    compose.executor = "torch"
    torch._dynamo.reset()
    counter = CompileCounterWithBackend(backend)
    apply = torch.compile(compose.apply, fullgraph=True, backend=counter)
    worst = 0.0
    for seed in range(3):
        batch = tiles(seed, name == "sentinel-1")
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
