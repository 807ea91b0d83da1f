"""The reference recipe in geoaug and in everything else that can do it: the same work, in one run, in turns.

    uv run --with albumentations==2.0.8 --with torchgeo==0.8.1 --with requests python benchmarks/peers.py
    uv run python benchmarks/peers.py --device cuda --batch-size 256
    uv run python benchmarks/peers.py --only scaling

Work: 13 x 256 x 256 uint16 and a uint8 mask to normalised float32 13 x 224 x 224 and its mask: D4, rotation of 20
degrees, scale .8 to 1.25, translation of 10 %, crop, illumination, haze, noise, band dropout, normalisation. Division
by 10,000 is timed for all. No peer has haze or sensor noise; each gets the nearest it has: brightness and contrast
without a clamp, and Gaussian noise of one strength. Rotation, scale and translation are one operation where a peer can.

Differences that favour the peers: torchvision flips but makes no quarter turns, and those that work sample by sample
need not stack their results into a batch. No peer keeps track of validity.

Torchvision works per sample, as a dataset would (threads over samples, where that is faster), and once with one set of
parameters for the whole batch, which augments less. Albumentations gets images with the bands last, as it wants them,
by threads and by processes. TorchGeo's transforms are band indices, SatSlideMix and rearrangements: it
leaves this work to kornia and cannot do it by itself; see `benchmarks/peer_operations.py` for SatSlideMix. A peer that
is not installed is left out, and the table says so.

Scaling: time for a tile by batch size, by bands, and by the number of radiometric operations.
"""

import argparse
import multiprocessing
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from augment import MEAN, STD, kornia_recipe, reference_recipe
from report import interleaved, publish, ratio, spread
from torch import Tensor

from geoaug import Compose, get_sensor
from geoaug.augment import RandomAffine, RandomCrop, RandomHaze, RandomIllumination, RandomRotation, RandomSensorNoise
from geoaug.augment.measure import copy_bandwidth

Batch = dict[str, Tensor]
SIDE, OUT = 256, 224


def make_batch(count: int, bands: int, device: torch.device) -> Batch:
    """Tiles of random numbers, which no cache or compression helps with."""
    generator = torch.Generator().manual_seed(0)
    image = torch.randint(1, 10000, (count, bands, SIDE, SIDE), generator=generator).to(torch.uint16)
    mask = torch.randint(0, 8, (count, SIDE, SIDE), generator=generator).to(torch.uint8)
    return {"image": image.to(device), "mask": mask.to(device)}


def geoaug_peers(device: torch.device) -> dict[str, Callable[[Batch], Any]]:
    """This library, by its executors."""
    plain = reference_recipe()
    plain.executor = "torch"
    plain_quiet = reference_recipe(noise=False)
    plain_quiet.executor = "torch"
    return {
        "geoaug": reference_recipe(),
        "geoaug, no noise": reference_recipe(noise=False),
        "geoaug, plain torch": plain,
        "geoaug, plain torch, no noise": plain_quiet,
    }


def kornia_compiled(device: torch.device) -> Callable[[Batch], Any]:
    """The same kornia pipeline under `torch.compile`."""
    return torch.compile(kornia_recipe(device))


def _torchvision() -> Callable[[Tensor, Tensor], Any]:
    from torchvision import tv_tensors
    from torchvision.transforms import v2

    class Radiometry(torch.nn.Module):
        """Brightness, contrast and a lost band, for any number of bands; torchvision's own want one or three."""

        def forward(self, image: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
            low, high = 0.85, 1.18
            image = image * float(torch.empty(1).uniform_(low, high))
            share = float(torch.empty(1).uniform_(0.8, 1.0))
            image = torch.lerp(image.mean((-3, -2, -1), keepdim=True), image, share)
            image = image + 0.005 * torch.randn_like(image)
            if float(torch.rand(1)) < 0.1:
                image[..., int(torch.randint(image.shape[-3], (1,))), :, :] = 0
            return tv_tensors.Image(image), mask

    chain = v2.Compose(
        [
            v2.RandomHorizontalFlip(),
            v2.RandomVerticalFlip(),
            v2.RandomAffine(20, (0.1, 0.1), (0.8, 1.25), interpolation=v2.InterpolationMode.BILINEAR),
            v2.RandomCrop(OUT),
            Radiometry(),
            v2.Normalize(MEAN, STD),
        ]
    )

    def run(image: Tensor, mask: Tensor) -> Any:
        return chain(tv_tensors.Image(image.float() / 10000), tv_tensors.Mask(mask))

    return run


def torchvision_per_sample(device: torch.device) -> Callable[[Batch], Any]:
    chain = _torchvision()
    if device.type != "cpu":
        return lambda batch: [chain(*pair) for pair in zip(batch["image"], batch["mask"], strict=True)]
    threads = torch.get_num_threads()

    def settle() -> None:
        torch.set_num_threads(1)

    pool = ThreadPoolExecutor(threads, initializer=settle)
    for _ in pool.map(lambda _: None, range(threads)):
        pass
    torch.set_num_threads(threads)
    return lambda batch: list(pool.map(chain, batch["image"].unbind(), batch["mask"].unbind()))


def torchvision_per_batch(device: torch.device) -> Callable[[Batch], Any]:
    chain = _torchvision()
    return lambda batch: chain(batch["image"], batch["mask"])


_SHARED: dict[str, Any] = {}


def _albumentations() -> Any:
    import albumentations as A

    return A.Compose(
        [
            A.D4(p=1.0),
            A.Affine(
                rotate=(-20, 20),
                scale=(0.8, 1.25),
                translate_percent=(-0.1, 0.1),
                interpolation=1,
                p=1.0,
                keep_ratio=True,
            ),
            A.RandomCrop(OUT, OUT),
            A.RandomBrightnessContrast((-0.15, 0.18), (-0.2, 0.0), brightness_by_max=False, p=1.0),
            A.GaussNoise((0.005, 0.005), per_channel=True, p=1.0),
            A.ChannelDropout((1, 1), p=0.1),
            A.Normalize(MEAN, STD, max_pixel_value=1.0),
        ]
    )


def _one_of_albumentations(index: int) -> tuple[Any, Any]:
    image = _SHARED["image"][index].astype(np.float32) / 10000
    done = _SHARED["chain"](image=image, mask=_SHARED["mask"][index])
    return done["image"], done["mask"]


def _one_into_shared(index: int) -> None:
    _SHARED["out"][index], _SHARED["out_mask"][index] = _one_of_albumentations(index)


def albumentations_threads(batch: Batch) -> Callable[[Batch], Any]:
    import cv2

    cv2.setNumThreads(0)
    _SHARED["image"] = np.ascontiguousarray(batch["image"].permute(0, 2, 3, 1).numpy())
    _SHARED["mask"], _SHARED["chain"] = batch["mask"].numpy(), _albumentations()
    pool = ThreadPoolExecutor(torch.get_num_threads())
    return lambda batch: list(pool.map(_one_of_albumentations, range(len(batch["image"]))))


def albumentations_processes(batch: Batch) -> Callable[[Batch], Any]:
    """Workers forked before timing; they read and write memory that all share, so nothing is pickled."""
    import cv2

    cv2.setNumThreads(0)
    count, bands = batch["image"].shape[:2]
    _SHARED["image"] = np.ascontiguousarray(batch["image"].permute(0, 2, 3, 1).numpy())
    _SHARED["mask"], _SHARED["chain"] = batch["mask"].numpy(), _albumentations()
    _SHARED["out"] = torch.empty(count, OUT, OUT, bands).share_memory_().numpy()
    _SHARED["out_mask"] = torch.empty(count, OUT, OUT, dtype=torch.uint8).share_memory_().numpy()
    pool = multiprocessing.get_context("fork").Pool(torch.get_num_threads())
    return lambda batch: pool.map(_one_into_shared, range(count), chunksize=4)


def candidates(batch: Batch, device: torch.device) -> tuple[dict[str, Callable[[Batch], Any]], dict[str, str]]:
    """What runs, and why the others do not."""
    # Workers are forked first, while this process has no threads of its own.
    makers: dict[str, Callable[[], Callable[[Batch], Any]]] = {}
    if device.type == "cpu":
        makers["albumentations, processes"] = lambda: albumentations_processes(batch)
        makers["albumentations, threads"] = lambda: albumentations_threads(batch)
    for name, run in geoaug_peers(device).items():
        makers[name] = lambda run=run: run  # type: ignore[misc]
    makers["kornia"] = lambda: kornia_recipe(device)
    makers["kornia, compiled"] = lambda: kornia_compiled(device)
    makers["torchvision v2, per sample"] = lambda: torchvision_per_sample(device)
    makers["torchvision v2, one draw a batch"] = lambda: torchvision_per_batch(device)
    ready: dict[str, Callable[[Batch], Any]] = {}
    absent = {"torchgeo": "its transforms have neither geometry nor radiometry: it leaves them to kornia"}
    for name, make in makers.items():
        try:
            run = make()
            # Compiled ones find out about changing parameters in later passes.
            for _ in range(4):
                with torch.inference_mode():
                    run(batch)
            ready[name] = run
        except Exception as error:
            if name.startswith("geoaug"):
                raise
            absent[name] = f"{type(error).__name__}: {str(error).splitlines()[0][:90]}"
    return ready, absent


def timed(run: Callable[[Batch], Any], batch: Batch) -> Callable[[], None]:
    """One pass, to its end."""

    def once() -> None:
        with torch.inference_mode():
            run(batch)
        if batch["image"].is_cuda:
            torch.cuda.synchronize()

    return once


def extra_memory(run: Callable[[Batch], Any], batch: Batch) -> float:
    """Peak of device memory beyond input and output, as a share of the output."""
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    with torch.inference_mode():
        out = run(batch)
    size = sum(value.nbytes for value in out.values() if isinstance(value, Tensor)) if isinstance(out, dict) else 0
    held = sum(batch[name].nbytes for name in batch if isinstance(out, dict) and out.get(name) is batch[name])
    return (torch.cuda.max_memory_allocated() - before - (size - held)) / max(size - held, 1)


def reference(device: torch.device, count: int, rounds: int, path: Path) -> None:
    """The table of all peers."""
    batch = make_batch(count, 13, device)
    ready, absent = candidates(batch, device)
    copied = copy_bandwidth(device)
    times = interleaved({name: timed(run, batch) for name, run in ready.items()}, rounds, warmup=2)
    # Read once as stored, written once as float32, masks and validity likewise.
    moved = count * (13 * (SIDE**2 * 2 + OUT**2 * 4) + SIDE**2 + 2 * OUT**2)
    rows = []
    for name, seconds in sorted(times.items(), key=lambda item: spread(item[1])["median"]):
        numbers = spread(seconds)
        rate = [count / numbers[which] for which in ("median", "max", "min")]
        share = moved / numbers["median"] / copied
        memory = f"{extra_memory(ready[name], batch):.0%}" if device.type == "cuda" and "geoaug" in name else ""
        against = f"{ratio(times['geoaug'], seconds):.1f}x"
        rows.append([name, f"{rate[0]:.1f}", f"{rate[1]:.1f} to {rate[2]:.1f}", against, f"{share:.0%}", memory])
    content = {"device": str(device), "threads": torch.get_num_threads(), "batch": count, "seconds": times}
    content |= {"absent": absent, "peers": peer_versions(), "copy_bytes_a_second": copied}
    title = f"reference recipe, batch {count}, {device}, {torch.get_num_threads()} threads"
    columns = ("", "tiles/s", "spread", "geoaug is faster by", "of copying", "extra memory")
    publish(title, columns, rows, content, path)
    for name, why in absent.items():
        print(f"{name}: cannot: {why}")


def peer_versions() -> dict[str, str]:
    """Versions of the peers and compilers."""
    found = {}
    for name in ("albumentations", "torchgeo", "torchvision", "kornia", "numba", "triton", "opencv-python-headless"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "absent"
    return found


def recipe_of(bands: int, operations: int = 3) -> Compose:
    """The reference geometry on some bands, with so many radiometric operations."""
    known = get_sensor("sentinel-2-l1c")
    # More bands than the sensor has: some of them twice.
    more = tuple(replace(band, name=f"{band.name} again", aliases=()) for band in known.bands)
    sensor = replace(known, bands=(*known.bands, *more)[:bands])
    kinds = (RandomIllumination, RandomHaze, RandomSensorNoise)
    chain = [kinds[number % 3](p=1.0) for number in range(operations)]
    geometry = [
        RandomRotation(20, p=1.0),
        RandomAffine(scale=(0.8, 1.25), translate=(0.1, 0.1), p=1.0),
        RandomCrop(OUT),
    ]
    return Compose([*geometry, *chain], sensor=sensor, normalize=([0.12] * bands, [0.08] * bands))


def scaling(device: torch.device, rounds: int, path: Path) -> None:
    """How time for a tile grows with batch, bands and operations; against the first of each group."""
    groups: dict[str, dict[str, tuple[Compose, Batch]]] = {"batch": {}, "bands": {}, "radiometric operations": {}}
    full = make_batch(512, 13, device)
    for count in (16, 32, 64, 256, 512):
        groups["batch"][str(count)] = (recipe_of(13), {name: value[:count] for name, value in full.items()})
    for bands in (4, 8, 13, 20):
        groups["bands"][str(bands)] = (recipe_of(bands), make_batch(64, bands, device))
    part = {name: value[:64] for name, value in full.items()}
    for operations in (3, 4, 5, 9, 10):
        groups["radiometric operations"][str(operations)] = (recipe_of(13, operations), part)
    rows, content = [], {}
    for group, members in groups.items():
        runs = {name: timed(recipe, batch) for name, (recipe, batch) in members.items()}
        if group == "batch":
            # Each size goes over as many tiles as the largest, in memory that it has used before: outputs of another
            # size are not kept, and fresh pages cost more than the work.
            times = {name: [0.0] * rounds for name in runs}
            for turn in range(-1, rounds):
                for name, run in runs.items():
                    run()
                    start = time.perf_counter()
                    for _ in range(512 // int(name)):
                        run()
                    if turn >= 0:
                        times[name][turn] = (time.perf_counter() - start) / (512 // int(name))
        else:
            times = interleaved(runs, rounds, warmup=2)
        first = next(iter(times))
        per_tile = {name: [s / len(members[name][1]["image"]) for s in seconds] for name, seconds in times.items()}
        for name, seconds in per_tile.items():
            numbers = spread(seconds)
            relative = 1 / ratio(seconds, per_tile[first])
            per_band = relative / int(name) * int(first) if group == "bands" else None
            more = f"{per_band:.2f} a band" if per_band is not None else ""
            rows.append([f"{group}: {name}", f"{numbers['median'] * 1e3:.3f}", f"{relative:.2f}", more])
        content[group] = per_tile
    title = f"scaling of the reference recipe, {device}"
    publish(title, ("", "ms a tile", "of the first", ""), rows, {"device": str(device), **content}, path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=("reference", "scaling"))
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--output", type=Path, default=Path())
    options = parser.parse_args()
    device = torch.device(options.device)
    if options.only != "scaling":
        reference(device, options.batch_size, options.rounds, options.output / "bench-peers.json")
    if options.only != "reference":
        scaling(device, options.rounds, options.output / "bench-scaling.json")


if __name__ == "__main__":
    main()
