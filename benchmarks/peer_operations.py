"""Every operation alone against the nearest one in kornia, on the same float tensor.

    uv run python benchmarks/peer_operations.py
    uv run --with torchgeo==0.8.1 --with requests python benchmarks/peer_operations.py

Tiles of 13 x 256 x 256 float32 reflectance; every operation on every sample. geoaug's side is `Compose` with the one
operation, which also keeps track of validity; kornia's is the nearest operation it has, in its fastest form. Where they
do not do the same: kornia's Gaussian noise has one strength, its posterising no steps of
reflectance. Operations that kornia has nothing for are left out and named below the table.
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import kornia.augmentation as K
import torch
from report import interleaved, publish, ratio, spread
from torch import nn

from geoaug import Compose, get_sensor
from geoaug import augment as G
from geoaug.augment.registry import own_operations
from geoaug.rng.draws import sample_keys

SIDE, BANDS = 256, 13

# geoaug's operation, and kornia's.
PAIRS: dict[str, tuple[Callable[[], nn.Module], Callable[[], nn.Module]]] = {
    "RandomHorizontalFlip": (lambda: G.RandomHorizontalFlip(p=1.0), lambda: K.RandomHorizontalFlip(p=1.0)),
    "RandomVerticalFlip": (lambda: G.RandomVerticalFlip(p=1.0), lambda: K.RandomVerticalFlip(p=1.0)),
    "RandomRotation90": (lambda: G.RandomRotation90(p=1.0), lambda: K.RandomRotation90((0, 3), p=1.0)),
    "RandomD4": (lambda: G.RandomD4(), lambda: K.RandomRotation90((0, 3), p=1.0)),
    "RandomRotation": (lambda: G.RandomRotation(20, p=1.0), lambda: K.RandomRotation(20.0, p=1.0)),
    "RandomAffine": (
        lambda: G.RandomAffine(20, (0.1, 0.1), (0.8, 1.25), p=1.0),
        lambda: K.RandomAffine(20.0, (0.1, 0.1), (0.8, 1.25), p=1.0),
    ),
    "RandomCrop": (lambda: G.RandomCrop(224), lambda: K.RandomCrop((224, 224))),
    "CenterCrop": (lambda: G.CenterCrop(224), lambda: K.CenterCrop(224)),
    "PadTo": (lambda: G.PadTo(288), lambda: K.PadTo((288, 288))),
    "Resize": (lambda: G.Resize(224), lambda: K.Resize((224, 224))),
    "RandomResizedCrop": (lambda: G.RandomResizedCrop(224), lambda: K.RandomResizedCrop((224, 224), (0.5, 1.0))),
    "RandomIllumination": (
        lambda: G.RandomIllumination(p=1.0),
        lambda: K.RandomBrightness((0.85, 1.18), clip_output=False, p=1.0),
    ),
    "RandomSunElevation": (
        lambda: G.RandomSunElevation(p=1.0),
        lambda: K.RandomBrightness((0.85, 1.18), clip_output=False, p=1.0),
    ),
    "RandomHaze": (lambda: G.RandomHaze(p=1.0), lambda: K.RandomContrast((0.8, 1.0), clip_output=False, p=1.0)),
    "RandomBandDropout": (lambda: G.RandomBandDropout(p=1.0), lambda: K.RandomChannelDropout(p=1.0)),
    "RandomSensorNoise": (lambda: G.RandomSensorNoise(p=1.0), lambda: K.RandomGaussianNoise(0.0, 0.005, p=1.0)),
    "RandomPointSpread": (
        lambda: G.RandomPointSpread(p=1.0),
        lambda: K.RandomGaussianBlur((5, 5), (0.4, 1.0), p=1.0, separable=True),
    ),
    "RandomResolution": (lambda: G.RandomResolution(p=1.0), lambda: K.RandomBoxBlur((3, 3), p=1.0)),
    "RandomQuantization": (lambda: G.RandomQuantization(p=1.0), lambda: K.RandomPosterize((6.0, 6.0), p=1.0)),
    "RandomCloud": (lambda: G.RandomCloud(p=1.0), lambda: K.RandomPlasmaBrightness(p=1.0)),
    "RandomCloudShadow": (lambda: G.RandomCloudShadow(p=1.0), lambda: K.RandomPlasmaShadow(p=1.0)),
    "RandomHaze, gradient": (
        lambda: G.RandomHaze(gradient=(0.2, 0.8), p=1.0),
        lambda: K.RandomLinearIllumination(p=1.0),
    ),
}


def mixes() -> dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any]]]:
    """Mixes take a batch with labels."""
    label = torch.zeros(1, dtype=torch.int64)

    def with_labels(mix: nn.Module) -> Callable[[Any], Any]:
        return lambda batch: mix(batch)

    def kornia_mix(mix: nn.Module) -> Callable[[Any], Any]:
        return lambda batch: mix(batch["image"], label.expand(len(batch["image"])))

    pairs: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any]]] = {
        "RandomMixUp": (with_labels(G.RandomMixUp(p=1.0)), kornia_mix(K.RandomMixUpV2(p=1.0))),
        "RandomCutMix": (with_labels(G.RandomCutMix(p=1.0)), kornia_mix(K.RandomCutMixV2(p=1.0))),
    }
    try:
        from torchgeo.transforms import SatSlideMix
    except ImportError:
        return pairs
    slide = SatSlideMix(gamma=1, p=1.0)
    pairs["RandomSlideMix (torchgeo)"] = (with_labels(G.RandomSlideMix(p=1.0)), lambda batch: slide(batch["image"]))
    return pairs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--output", type=Path, default=Path())
    options = parser.parse_args()
    device = torch.device(options.device)
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(options.batch_size, BANDS, SIDE, SIDE, generator=generator).to(device)
    batch = {"image": image, "key": sample_keys(0, range(options.batch_size)).to(device)}
    sensor = get_sensor("sentinel-2-l1c").with_scaling(1, 0)

    def whole(run: Callable[[Any], Any], given: Any) -> Callable[[], None]:
        def once() -> None:
            with torch.inference_mode():
                run(given)
            if device.type == "cuda":
                torch.cuda.synchronize()

        return once

    pairs = {
        name: (whole(Compose([ours()], sensor=sensor), batch), whole(theirs(), image))
        for name, (ours, theirs) in PAIRS.items()
    }
    pairs |= {name: (whole(ours, batch), whole(theirs, batch)) for name, (ours, theirs) in mixes().items()}
    rows: list[tuple[float, list[str]]] = []
    content: dict[str, Any] = {}
    for name, (ours, theirs) in pairs.items():
        try:
            times = interleaved({"geoaug": ours, "peer": theirs}, options.rounds, warmup=2)
        except Exception as error:
            content[name] = {"error": str(error)}
            rows.append((float("inf"), [name, "", "", f"cannot: {type(error).__name__}: {str(error)[:60]}"]))
            continue
        faster = ratio(times["geoaug"], times["peer"])
        medians = [spread(times[side])["median"] / options.batch_size * 1e3 for side in ("geoaug", "peer")]
        content[name] = times
        rows.append((faster, [name, *(f"{value:.2f}" for value in medians), f"{faster:.2f}x"]))
    rows.sort(key=lambda row: row[0])
    alone = sorted(set(own_operations()) - {name.split(" ")[0] for name in pairs})
    title = f"single operations, {options.batch_size} x {BANDS} x {SIDE} x {SIDE} float32, {device}"
    path = options.output / "bench-peer-operations.json"
    columns = ("", "geoaug, ms a tile", "peer", "geoaug is faster by")
    publish(title, columns, [row for _, row in rows], {"device": str(device), "seconds": content}, path)
    print("without a counterpart:", ", ".join(alone))


if __name__ == "__main__":
    main()
