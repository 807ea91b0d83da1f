"""What pretraining, augmentation, dropout, batch norm and stems are worth with few labels: for docs/results.md.

    uv run python benchmarks/finetune.py --rgb EuroSAT_RGB.zip --weights resnet18_imagenet.pth --json finetune.json
    uv run python benchmarks/finetune.py ... --rows pretrained+aug+dropout --seeds 0 --epochs 30 --size 96

`--rgb` holds `CLASS/*.jpg`; `--multiband` (13-band chips, `train/CLASS/*.tif` and `test/CLASS/*.tif`, taken together)
adds the stems.
Each row and seed is a training of its own with the same budget, tested on the same chips; it is written to the JSON
when it is done, and not run again. So the study can be run in pieces, and the tables are of what is there.
"""

import argparse
import json
import statistics
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import torch
from PIL import Image
from report import provenance
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from geoaug import Compose, get_sensor, load_recipe
from geoaug.models import (
    STEMS,
    Schedule,
    Stage,
    Training,
    freeze_batchnorm,
    measure_statistics,
    recalibrate_batchnorm,
    resnet18,
)
from geoaug.models.tasks.training import averaged_network, learning_rate_factors
from geoaug.rng.draws import sample_keys

# EuroSAT's files have B8A last.
BANDS = "B01,B02,B03,B04,B05,B06,B07,B08,B09,B10,B11,B12,B8A"
A_CLASS, TESTED, BATCH = 100, 5000, 64
SPLITS = {"few": f"{A_CLASS} chips a class", "full": "80/20", "multiband": "13-band chips"}


# What a run is known by.
RUN = ("row", "seed", "epochs", "size", "split")


@dataclass(frozen=True)
class Row:
    """A way of training: what is told apart, everything else being the same.

    Peak learning rates differ where one would be unfair: from scratch there is more to learn, and a frozen batch norm
    does not undo the growth of weights (at 1e-3 it hardly learns).
    """

    pretrained: bool = True
    augment: str = "geoaug"  # "none", "geoaug" (a preset for the chips), "kornia", "kornia+d4", or a recipe
    dropout: bool = True
    norm: str = "adapted"  # "adapted", "frozen" or "recalibrated"
    stem: str = "copy"
    bands: str = "rgb"
    given_lr: float | None = None

    @property
    def lr(self) -> float:
        """The peak learning rate of the head."""
        if self.given_lr is not None:
            return self.given_lr
        return 1e-3 if not self.pretrained else 2e-4 if self.norm == "frozen" else 5e-4


def all_rows(multiband: bool) -> dict[str, Row]:
    """The rows by name: 2 x 2 x 2, batch norm, kornia's pipeline, stems."""
    rows: dict[str, Row] = {}
    for pretrained in (True, False):
        for augment in (True, False):
            for dropout in (True, False):
                words = [
                    "pretrained" if pretrained else "scratch", *["aug"] * augment, *["dropout"] * dropout
                ]  # fmt: skip
                rows["+".join(words)] = Row(pretrained, "geoaug" if augment else "none", dropout)
    rows["batchnorm frozen"] = Row(norm="frozen")
    rows["batchnorm frozen, at 1e-3"] = Row(norm="frozen", given_lr=1e-3)
    rows["batchnorm recalibrated"] = Row(norm="recalibrated")
    rows["kornia photographic"] = Row(augment="kornia")
    if multiband:
        rows |= {f"13 bands, {stem}": Row(stem=stem, bands=BANDS, norm="recalibrated") for stem in STEMS}
        rows["13-band chips, RGB only"] = Row(bands="B04,B03,B02", norm="recalibrated")
    return rows


@dataclass(frozen=True)
class Chips:
    """Images as stored and their classes; those to learn from follow the seed."""

    image: Tensor
    label: Tensor
    test_image: Tensor
    test_label: Tensor
    sensor: str


def read_rgb(archive: Path, seed: int, split: str, tested_from: slice | None = None, kept_back: int = 0) -> Chips:
    """Chips to learn from, by the seed, and others to test, the same for all seeds.

    Args:
        archive: of `CLASS/*.jpg`.
        seed: of the choice.
        split: "few" for 100 chips a class and 5,000 to test, "full" for four fifths of all and the last fifth.
        tested_from: which of those that are not learned from are tested, in their order; None: as `split` says.
        kept_back: after those to test, as many more are never learned from.
    """
    with zipfile.ZipFile(archive) as file:
        names = sorted(name for name in file.namelist() if name.endswith(".jpg"))
        classes = sorted({name.split("/")[-2] for name in names})
        order = np.random.default_rng(2024).permutation(len(names))
        tests = TESTED if split == "few" else len(names) // 5
        tested, rest = order[: tests + kept_back][tested_from or slice(tests)], order[tests + kept_back :]
        rest = np.random.default_rng(seed).permutation(rest)
        of = np.array([classes.index(name.split("/")[-2]) for name in names])
        most = A_CLASS if split == "few" else len(rest)
        learned = np.concatenate([rest[of[rest] == one][:most] for one in range(len(classes))])

        def images(places: np.ndarray) -> Tensor:
            found = [np.array(Image.open(BytesIO(file.read(names[place])))) for place in places]
            return torch.from_numpy(np.stack(found)).movedim(-1, 1).contiguous()

        label = torch.from_numpy(of)
        return Chips(images(learned), label[learned], images(tested), label[tested], "eurosat-rgb")


def read_multiband(archive: Path, seed: int) -> Chips:
    """A fifth of each class to test, another for each of five seeds, so that five of them test every chip once."""
    names = sorted(name for name in zipfile.ZipFile(archive).namelist() if name.endswith(".tif"))
    names = [name for name in names if {"train", "test"} & set(name.split("/"))]
    classes = sorted({name.split("/")[-2] for name in names})
    of = np.array([classes.index(name.split("/")[-2]) for name in names])
    # The place of each chip in its class, in an order of its own.
    order = np.random.default_rng(2024).permutation(len(names))
    place = np.empty(len(names), dtype=int)
    for one in range(len(classes)):
        mine = order[of[order] == one]
        place[mine] = np.arange(len(mine)) + one  # classes begin at other seeds, so that parts are of one size

    def part(chosen: np.ndarray) -> tuple[Tensor, Tensor]:
        images = []
        for name in np.array(names)[chosen]:
            with rasterio.open(f"/vsizip/{archive.resolve()}/{name}") as chip:
                images.append(torch.from_numpy(chip.read()))
        return torch.stack(images), torch.from_numpy(of[chosen])

    tested = place % 5 == seed % 5
    return Chips(*part(~tested), *part(tested), "sentinel-2-l1c")


def selected(chips: Chips, row: Row) -> tuple[Chips, Any]:
    """The row's bands of the chips, and their sensor.

    EuroSAT's RGB chips hold reflectance in 8 bits; the preset for pictures made for the eye takes them for such.
    """
    if chips.sensor == "eurosat-rgb":
        return chips, get_sensor("rgb" if row.augment in ("geoaug", "aerial-rgb") else chips.sensor)
    sensor = get_sensor(chips.sensor)
    stored = sensor.select(BANDS)
    places = [stored.index(name) for name in row.bands.split(",")]
    picked = replace(chips, image=chips.image[:, places], test_image=chips.test_image[:, places])
    return picked, sensor.select(row.bands)


def preparing(row: Row, sensor: Any, normalize: Any, size: int) -> Callable[[Tensor, Tensor, bool], Tensor]:
    """Stored chips to what the network is given: (images, keys, whether to augment)."""
    options: dict[str, Any] = {"sensor": sensor, "size": size, "fit": "resize", "normalize": normalize}
    plain = Compose([], **options).eval()
    photographic = row.augment in ("kornia", "kornia+d4")
    if row.augment != "none" and not photographic:
        preset = "aerial-rgb" if len(sensor) == 3 else "sentinel-2-classification"
        recipe = load_recipe(preset if row.augment == "geoaug" else row.augment)
        ours = recipe.compose(**{k: v for k, v in options.items() if k != "fit"})
        ours.fit = "resize"
    kornia = _kornia_pipeline(size, len(sensor), symmetries=row.augment == "kornia+d4") if photographic else None
    scale, offset, mean, std = (
        torch.tensor(part, dtype=torch.float32)[:, None, None]
        for part in (sensor.quantification, sensor.offset, *normalize)
    )

    def prepare(image: Tensor, key: Tensor, augment: bool) -> Tensor:
        if not augment or row.augment == "none":
            return plain({"image": image})["image"]
        if kornia is not None:
            return (kornia((image.float() + offset) / scale) - mean) / std
        return ours.train()({"image": image, "key": key})["image"]

    return prepare


class BrightnessAndContrast(nn.Module):
    """Jitter of photographs for any number of bands: a gain, and another about the mean of all bands."""

    def __init__(self, brightness: float, contrast: float, p: float) -> None:
        super().__init__()
        self.brightness, self.contrast, self.p = brightness, contrast, p

    def forward(self, image: Tensor) -> Tensor:
        """Jitter images (B, C, H, W)."""
        drawn = 1 + (2 * torch.rand(2, len(image), 1, 1, 1) - 1) * torch.tensor([self.brightness, self.contrast]).view(
            2, 1, 1, 1, 1
        )
        gain, contrast = torch.where(torch.rand(len(image), 1, 1, 1) < self.p, drawn, 1.0)
        brighter = image * gain
        mean = brighter.mean((1, 2, 3), keepdim=True)
        return (brighter - mean) * contrast + mean


def _kornia_pipeline(size: int, bands: int, *, symmetries: bool) -> nn.Module:
    """What is common for photographs: crops, flips, jitter of colour, blur; colour where there are three bands."""
    import kornia.augmentation as K

    colour: list[nn.Module] = [K.ColorJitter(0.3, 0.3, 0.3, 0.05, p=0.8), K.RandomGrayscale(p=0.1)]
    return nn.Sequential(
        *[K.RandomVerticalFlip(), K.RandomRotation90((0, 3), p=1.0)] * symmetries,
        K.RandomResizedCrop((size, size), scale=(0.6, 1.0), ratio=(0.8, 1.25)),
        K.RandomHorizontalFlip(),
        *(colour if bands == 3 else [BrightnessAndContrast(0.3, 0.3, p=0.8)]),
        K.RandomGaussianBlur((3, 3), (0.1, 1.0), p=0.2),
    )


def normalisation(chips: Chips, sensor: Any) -> tuple[list[float], list[float]]:
    """Mean and deviation of each band of the chips to learn from, in reflectance."""
    plain = Compose([], sensor=sensor).eval()
    found = measure_statistics(plain({"image": part}) for part in chips.image.split(1000))
    return list(found.mean), list(found.std)


@dataclass(frozen=True)
class Learned:
    """A network that has been trained, with averaged weights, and what prepares images for it."""

    network: nn.Module
    prepare: Callable[[Tensor, Tensor, bool], Tensor]
    half: bool
    seconds_an_epoch: float

    def right(self, image: Tensor, label: Tensor) -> Tensor:
        """Whether the answer for each of the images (N, C, H, W), as stored, is its label: (N,)."""
        found = []
        with torch.inference_mode():
            for part in image.split(250):
                ready = self.prepare(part, torch.zeros(len(part), dtype=torch.int64), False)
                found.append(answered(self.network, ready, self.half).argmax(1))
        return torch.cat(found) == label


def train(row: Row, chips: Chips, weights: Path, seed: int, epochs: int, size: int) -> dict[str, float]:
    """Train a row once and test it: accuracy in per cent, seconds of an epoch."""
    chips, sensor = selected(chips, row)
    learned = learn(row, chips, sensor, weights, seed, epochs, size)
    right = int(learned.right(chips.test_image, chips.test_label).sum())
    return {"accuracy": 100 * right / len(chips.test_label), "seconds_an_epoch": learned.seconds_an_epoch}


def learn(
    row: Row, chips: Chips, sensor: Any, weights: Path, seed: int, epochs: int, size: int, *, half: bool = True
) -> Learned:
    """Train a row once.

    Args:
        row: what is done.
        chips: with the bands of the row.
        sensor: of them.
        weights: pretrained ones.
        seed: of the order of chips, of augmentation and of the head.
        epochs: passes over the chips.
        size: of the images that the network sees, in pixels.
        half: compute in bfloat16, which processors without it do slowly.
    """
    torch.manual_seed(seed)
    normalize = normalisation(chips, sensor)
    prepare = preparing(row, sensor, normalize, size)

    def seen() -> Iterator[dict[str, Tensor]]:
        """The chips to learn from as the network sees them, unaugmented."""
        for part in chips.image.split(250):
            yield {"image": prepare(part, torch.zeros(len(part), dtype=torch.int64), False)}

    known = measure_statistics(seen())
    classes = int(chips.label.max()) + 1
    network = resnet18(
        weights if row.pretrained else None,
        sensor,
        classes,
        stem=row.stem,
        statistics=known,
        dropout=0.3 if row.dropout else 0.0,
        block_dropout=0.05 if row.dropout else 0.0,
    )
    if row.norm == "recalibrated":
        recalibrate_batchnorm(network, seen())
    if row.norm == "frozen":
        freeze_batchnorm(network)
    training = Training(
        lr=row.lr,
        weight_decay=0.05,
        stages=(Stage("all", depth_factor=0.8 if row.pretrained else 1.0),),
        schedule=Schedule("cosine", warmup=0.1),
    )
    optimizer = training.build_optimizer(network)
    steps = -(-len(chips.image) // BATCH)
    factors = learning_rate_factors(training, epochs, steps, [group["depth"] for group in optimizer.param_groups])
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factors)
    if half:
        network.to(memory_format=torch.channels_last)
    average = averaged_network(network, 0.99)
    begun = time.perf_counter()
    for epoch in range(epochs):
        network.train()
        order = torch.randperm(len(chips.image))
        for places in order.tensor_split(steps):
            keys = sample_keys(seed=seed, index=places, epoch=epoch)
            answer = answered(network, prepare(chips.image[places], keys, True), half)
            loss = nn.functional.cross_entropy(answer, chips.label[places], label_smoothing=0.05)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            average.update_parameters(network)
    seconds = (time.perf_counter() - begun) / epochs
    average.eval()
    return Learned(average, prepare, half, seconds)


def answered(network: nn.Module, image: Tensor, half: bool) -> Tensor:
    """What a network says of images, where asked for in half precision inside, as `precision: bf16-mixed` has it."""
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        answer: Tensor = network(image.contiguous(memory_format=torch.channels_last) if half else image)
    return answer.float()


def show(found: dict[str, Any], rows: dict[str, Row]) -> None:
    """The table of what has been run so far, by budget."""
    groups: dict[tuple[str, int, int], dict[str, list[float]]] = {}
    for one in found["runs"]:
        group = groups.setdefault((one["split"], one["size"], one["epochs"]), {})
        group.setdefault(one["row"], []).append(one["accuracy"])
    for (split, size, epochs), group in sorted(groups.items()):
        table = Table(title=f"accuracy in per cent, {SPLITS[split]}, {size} px, {epochs} epochs")
        for head in ("row", "mean", "spread", "seeds"):
            table.add_column(head, justify="left" if head == "row" else "right")
        for name in rows:
            if values := group.get(name):
                spread = f"{statistics.stdev(values):.2f}" if len(values) > 1 else "-"
                table.add_row(name, f"{statistics.mean(values):.2f}", spread, str(len(values)))
        Console(width=100).print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rgb", type=Path, required=True)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--multiband", type=Path)
    parser.add_argument("--json", type=Path, default=Path("bench-finetune.json"))
    parser.add_argument("--rows", nargs="+", help="by name. Default: all")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--split", choices=("few", "full"), default="few", help="of the RGB chips")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--size", type=int, default=128)
    options = parser.parse_args()
    rows = all_rows(options.multiband is not None)
    if strange := sorted(set(options.rows or ()) - set(rows)):
        parser.error(f"no row {strange[0]!r}; there are: {'; '.join(rows)}")
    found = json.loads(options.json.read_text()) if options.json.is_file() else {"runs": []}
    done = {tuple(one[part] for part in RUN) for one in found["runs"]}
    for seed in options.seeds:
        for name, row in rows.items():
            split = options.split if row.bands == "rgb" else "multiband"
            key = (name, seed, options.epochs, options.size, split)
            if key in done or (options.rows and name not in options.rows):
                continue
            chips = (
                read_multiband(options.multiband, seed) if row.bands != "rgb" else read_rgb(options.rgb, seed, split)
            )
            measured = train(row, chips, options.weights, seed, options.epochs, options.size)
            one = dict(zip(RUN, key, strict=True)) | measured
            print(f"{name}, seed {seed}: {one['accuracy']:.2f} %, {one['seconds_an_epoch']:.1f} s an epoch", flush=True)
            found["runs"].append(one)
            found["provenance"] = provenance()
            unfinished = options.json.with_suffix(".tmp")
            unfinished.write_text(json.dumps(found, indent=1))
            unfinished.replace(options.json)
    show(found, rows)


if __name__ == "__main__":
    main()
