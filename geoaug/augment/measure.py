"""How fast this machine augments, and how near that comes to what its memory allows.

An augmentation reads every pixel once and writes every pixel once at the least. The yardstick is therefore a plain
copy: the share that a recipe reaches of the bandwidth of copying a large tensor on the same device is what a user gets
of the hardware. Everything is measured on random tiles, which are made on the spot.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from geoaug.augment.compose import Compose
from geoaug.augment.kernels.executors import Executor, available_executors
from geoaug.augment.operations.atmosphere import RandomHaze
from geoaug.augment.operations.detector import RandomBandDropout
from geoaug.augment.operations.geometric import RandomAffine, RandomCrop, RandomD4, RandomRotation
from geoaug.augment.operations.illumination import RandomIllumination
from geoaug.augment.operations.sensor_noise import RandomSensorNoise
from geoaug.augment.recipe import load_recipe
from geoaug.rng.draws import sample_keys
from geoaug.sensors import Sensor, get_sensor

# Large enough for no cache to hold it.
_COPIED_BYTES = 2**28
_COPIES = 8

_TASKS = ("flips and crop", "all geometry", "reference, no noise", "reference")


@dataclass(frozen=True, slots=True)
class Tiles:
    """What is measured: so many tiles of so many bands, from one size to another.

    Attributes:
        batch: tiles at a time.
        bands: uint16, of Sentinel-2.
        tile: side of a tile, pixels.
        size: side of the output, float32.
    """

    batch: int = 64
    bands: int = 13
    tile: int = 256
    size: int = 224

    @property
    def sensor(self) -> Sensor:
        """Sentinel-2's first bands."""
        sensor = get_sensor("sentinel-2-l1c")
        return sensor.select(list(sensor.band_names[: self.bands]))


@dataclass(frozen=True, slots=True)
class Measurement:
    """One recipe by one executor.

    Attributes:
        task: what was done.
        executor: by whom.
        seconds: of each pass over the batch.
        tiles: of the batch.
        moved: bytes that one reading and one writing of the batch move.
        copied: bytes a second that copying moves on this device.
        preparation: seconds of the first pass, in which kernels are compiled or loaded.
    """

    task: str
    executor: str
    seconds: tuple[float, ...]
    tiles: int
    moved: int
    copied: float
    preparation: float

    @property
    def rate(self) -> float:
        """Tiles a second, by the median pass."""
        return self.tiles / statistics.median(self.seconds)

    @property
    def share(self) -> float:
        """Of the bandwidth of copying."""
        return self.moved / statistics.median(self.seconds) / self.copied


def copy_bandwidth(device: torch.device) -> float:
    """Bytes a second, read and written, of copying a large tensor: what no pass over memory exceeds."""
    source = torch.ones(_COPIED_BYTES // 4, device=device)
    target = torch.empty_like(source)
    best = float("inf")
    for _ in range(_COPIES):
        _finish(device)
        start = time.perf_counter()
        target.copy_(source)
        _finish(device)
        best = min(best, time.perf_counter() - start)
    return 2 * _COPIED_BYTES / best


def recipes(tiles: Tiles, names: Sequence[str] = ()) -> dict[str, Compose]:
    """The steps towards the reference recipe, and presets by name.

    Raises:
        ConfigurationError: an unknown preset, or one that does not suit Sentinel-2.
    """
    sensor, normalize = tiles.sensor, ([0.12] * tiles.bands, [0.08] * tiles.bands)

    def compose(*operations: nn.Module) -> Compose:
        return Compose(operations, sensor=sensor, size=tiles.size, normalize=normalize)

    crop: list[nn.Module] = [RandomCrop(tiles.size)] if tiles.size <= tiles.tile else []
    turned = [
        RandomD4(),
        RandomRotation(20, p=1.0),
        RandomAffine(scale=(0.8, 1.25), translate=(0.1, 0.1), p=1.0),
        *crop,
    ]
    light = [RandomIllumination(p=1.0), RandomHaze(p=1.0)]
    noise, lost = RandomSensorNoise(p=1.0), RandomBandDropout(p=0.1)
    made = (
        compose(RandomD4(), *crop),
        compose(*turned),
        compose(*turned, *light, lost),
        compose(*turned, *light, noise, lost),
    )
    known = dict(zip(_TASKS, made, strict=True))
    known.update({f"preset {name}": load_recipe(name).compose(sensor=sensor, size=tiles.size) for name in names})
    return known


def measure(
    tiles: Tiles, device: torch.device, seconds: float = 1.0, names: Sequence[str] = ()
) -> Iterator[Measurement]:
    """Measure recipe by recipe, each by every executor that this device has.

    Args:
        tiles: what to augment.
        device: where.
        seconds: for each measurement, at least; three passes in any case.
        names: of presets to measure besides.
    """
    batch = _batch(tiles, device)
    copied = copy_bandwidth(device)
    for task, compose in recipes(tiles, names).items():
        for executor in available_executors(device):
            compose.executor = executor
            yield _measured(task, executor, compose, batch, copied, seconds)


def _measured(
    task: str, executor: Executor, compose: Compose, batch: Mapping[str, Any], copied: float, seconds: float
) -> Measurement:
    device = batch["image"].device

    def once() -> Any:
        with torch.inference_mode():
            out = compose(batch)
        _finish(device)
        return out

    preparation, out = _clocked(once)
    moved = sum(part.nbytes for part in (batch["image"], batch["mask"], out["image"], out["mask"], out["valid"]))
    del out
    passes: list[float] = []
    while len(passes) < 3 or sum(passes) < seconds:
        took, _ = _clocked(once)
        passes.append(took)
    return Measurement(task, executor, tuple(passes), len(batch["image"]), moved, copied, preparation)


def _clocked(run: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    result = run()
    return time.perf_counter() - start, result


def _batch(tiles: Tiles, device: torch.device) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    shape = (tiles.batch, tiles.bands, tiles.tile, tiles.tile)
    image = torch.randint(1, 10000, shape, generator=generator, dtype=torch.int16).view(torch.uint16)
    mask = torch.randint(0, 8, (tiles.batch, tiles.tile, tiles.tile), generator=generator, dtype=torch.uint8)
    key = sample_keys(0, range(tiles.batch))
    return {"image": image.to(device), "mask": mask.to(device), "key": key.to(device)}


def _finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
