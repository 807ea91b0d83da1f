"""One of two processes that train together: augments its share of the samples, and gathers what both have made."""

import os
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from geoaug import Compose, get_sensor
from geoaug.augment import RandomCloud, RandomD4, RandomHaze, RandomRotation, RandomSensorNoise
from geoaug.rng.draws import sample_keys

SAMPLES = 6


def recipe() -> Compose:
    """A little of everything, in training mode."""
    operations = [RandomD4(), RandomRotation(30), RandomHaze(), RandomCloud(p=0.3), RandomSensorNoise()]
    return Compose(operations, sensor=get_sensor("sentinel-2-l1c"))


def samples(numbers: list[int]) -> dict[str, torch.Tensor]:
    """Samples of a data set by their numbers."""
    images = [torch.rand(13, 24, 24, generator=torch.Generator().manual_seed(number)) for number in numbers]
    return {"image": torch.stack(images) * 5000, "key": sample_keys(7, numbers)}


def main() -> None:
    rank, folder = int(os.environ["RANK"]), Path(sys.argv[1])
    dist.init_process_group("gloo", init_method=f"file://{folder / 'meeting'}", rank=rank, world_size=2)
    model = DistributedDataParallel(nn.Conv2d(13, 1, 3))
    # Each process has a stream of torch's numbers of its own, as workers do.
    torch.manual_seed(rank)
    mine = list(range(rank, SAMPLES, 2))
    out = recipe()(samples(mine))["image"]
    model(out).mean().backward()
    every = [torch.empty_like(out) for _ in range(2)]
    dist.all_gather(every, out)
    gradients = [torch.empty_like(model.module.weight) for _ in range(2)]
    dist.all_gather(gradients, model.module.weight.grad)
    if rank == 0:
        together = torch.empty(SAMPLES, *out.shape[1:])
        together[0::2], together[1::2] = every
        torch.save({"image": together, "gradients": gradients}, folder / "made.pt")
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
