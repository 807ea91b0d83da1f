"""Which stem is best with few and with many labels, on 13-band EuroSAT chips: the table of docs/stems.md.

    uv run python benchmarks/stems.py --chips EuroSAT_MS_subset.zip --weights resnet18_imagenet.pth

The archive holds `train/CLASS/*.tif` and `test/CLASS/*.tif`, 13-band uint16 chips in EuroSAT's order of bands. The
weights are any ResNet18's for RGB. Linear probes of frozen features, no training: a minute on two cores.
"""

import argparse
import json
import zipfile
from pathlib import Path

import rasterio
import torch
from report import provenance
from rich.console import Console
from rich.table import Table

from geoaug import get_sensor
from geoaug.models import STEMS, BandStatistics, LabelledImages, compare_stems, measure_statistics
from geoaug.sensors import Sensor

# EuroSAT's files have B8A last.
BANDS = "B01,B02,B03,B04,B05,B06,B07,B08,B09,B10,B11,B12,B8A"
SIZE = 128


def read_chips(archive: Path, part: str, classes: list[str]) -> LabelledImages:
    """The chips of a part, in reflectance, enlarged to SIZE."""
    images, labels = [], []
    for name in sorted(zipfile.ZipFile(archive).namelist()):
        folders = name.split("/")
        if name.endswith(".tif") and part in folders:
            with rasterio.open(f"/vsizip/{archive.resolve()}/{name}") as chip:
                images.append(torch.from_numpy(chip.read().astype("float32")) / 10000)
            labels.append(classes.index(folders[-2]))
    stacked = torch.nn.functional.interpolate(torch.stack(images), SIZE, mode="bilinear", antialias=True)
    return LabelledImages(stacked, torch.tensor(labels))


def normalised(chips: LabelledImages, known: BandStatistics) -> LabelledImages:
    mean, std = (torch.tensor(part)[:, None, None] for part in (known.mean, known.std))
    return LabelledImages((chips.image - mean) / std, chips.label)


def chosen(chips: LabelledImages, sensor: Sensor, bands: str) -> LabelledImages:
    return LabelledImages(chips.image[:, [sensor.index(band) for band in bands.split(",")]], chips.label)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--chips", type=Path, required=True)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--labels", type=int, nargs="+", default=[2, 5, 10])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    sensor = get_sensor("sentinel-2-l1c").select(BANDS)
    names = zipfile.ZipFile(options.chips).namelist()
    classes = sorted({name.split("/")[-2] for name in names if name.endswith(".tif")})
    train, test = (read_chips(options.chips, part, classes) for part in ("train", "test"))
    known = measure_statistics(train.image.split(32))
    train, test = normalised(train, known), normalised(test, known)
    counts = [*options.labels, None]
    measured = measure_statistics(train.image.split(32))
    console = Console()
    console.print(
        f"{len(train.label)} chips to train on, {len(test.label)} to test on, {len(classes)} classes, {SIZE} px, "
        f"correlation of neighbours {min(measured.neighbours):.3f} to {max(measured.neighbours):.3f}"
    )
    rows = []
    for title, bands, stems in (("13 bands", BANDS, STEMS), ("RGB only", "B04,B03,B02", ("copy",))):
        sub = sensor.select(bands)
        images = [chosen(part, sensor, bands) for part in (train, test)]
        for score in compare_stems(*images, options.weights, sub, stems=stems, labels=counts, seeds=options.seeds):
            rows.append({"bands": title, **{name: getattr(score, name) for name in score.__slots__}})
    table = Table(title="accuracy of a linear probe, per cent (mean and standard deviation over seeds)")
    for heading in ("bands", "stem", *(f"{count or 'all'} a class" for count in counts), "response"):
        table.add_column(heading)
    for title, stem in dict.fromkeys((row["bands"], row["stem"]) for row in rows):
        own = [row for row in rows if (row["bands"], row["stem"]) == (title, stem)]
        cells = [f"{100 * row['accuracy']:.1f} ± {100 * row['spread']:.1f}" for row in own]
        table.add_row(
            title, stem, *cells, f"{own[0]['response']:.2f} (x/÷ {2.718281828 ** own[0]['response_spread']:.2f})"
        )
    console.print(table)
    # How well the closed forms keep the variance, by how much is known of the input.
    less = {
        "nothing": None,
        "mean and std": BandStatistics(measured.mean, measured.std),
        "and covariance": BandStatistics(measured.mean, measured.std, measured.covariance),
        "and neighbours": measured,
    }
    response = Table(title="variance of the first layer's answers over what the weights are used to")
    for heading in ("known of the input", *STEMS):
        response.add_column(heading)
    responses = {}
    for name, statistics in less.items():
        found = [response_of(train, options.weights, sensor, stem, statistics) for stem in STEMS]
        responses[name] = dict(zip(STEMS, found, strict=True))
        response.add_row(name, *(f"{value:.2f}" for value in found))
    console.print(response)
    if options.json:
        content = {**provenance(), "rows": rows, "responses": responses}
        options.json.write_text(json.dumps(content, indent=1))


def response_of(
    train: LabelledImages, weights: Path, sensor: Sensor, stem: str, statistics: BandStatistics | None
) -> float:
    """The median filter's variance on real chips, over the running variance of the weights."""
    from geoaug.models import resnet18
    from geoaug.models.networks.stem_comparison import first_response

    torch.manual_seed(0)
    network = resnet18(weights, sensor, 1, stem=stem, statistics=statistics)
    return first_response(network, train.image, 64)[0]


if __name__ == "__main__":
    main()
