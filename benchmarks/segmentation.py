"""A scene trained and predicted end to end, as the commands do it: made ones, and where given, a real one.

    uv run python benchmarks/segmentation.py --weights resnet18_imagenet.pth --epochs 12
    uv run python benchmarks/segmentation.py --landscape --size 768 --weights resnet18_imagenet.pth --epochs 40
    uv run python benchmarks/segmentation.py --scene bands.tif --labels classes.tif --sensor landsat-8-l1

Made scenes have four classes: two spectra, each smooth and rough, with the same mean and deviation, so that neither
reflectance nor texture alone tells them. `--landscape` takes the ten classes of `geoaug demo`, with haze, mixed pixels
and roads of a pixel's width. A U-Net on a ResNet18 learns one scene and predicts another, that it has never seen, by
`predict_scene`; the figure is the mean intersection over union of the classes there. Of a real scene, it is that of the
test blocks. Any value of the configuration can be overridden, as for `geoaug fit`.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from affine import Affine
from report import provenance
from scipy.ndimage import gaussian_filter
from scipy.spatial import cKDTree

from geoaug.data.synthetic.made_scene import ScenePaths, write_scene
from geoaug.io.geotiff import write_geotiff
from geoaug.models import load_model, predict_scene
from geoaug.models.fit.choices import FitRequest, choose
from geoaug.models.fit.fitting import Fitted, fit


def write_textures(folder: Path, size: int, seed: int) -> ScenePaths:
    """A scene of cells, each of one of four classes that spectrum and texture tell apart together."""
    random = np.random.default_rng(seed)
    centres = random.uniform(0, size, (max((size // 48) ** 2, 8), 2))
    rows, columns = np.indices((size, size))
    _, cell = cKDTree(centres).query(np.stack((rows.ravel(), columns.ravel()), 1))
    labels = random.integers(0, 4, len(centres)).astype(np.uint8)[cell].reshape(size, size)
    fine = random.normal(size=(size, size))
    coarse = gaussian_filter(random.normal(size=(size, size)), 3)
    texture = np.where(labels % 2 == 0, fine / fine.std(), coarse / coarse.std())
    spectra = np.array([[0.06, 0.09, 0.08, 0.32], [0.09, 0.12, 0.14, 0.24]])
    reflectance = spectra[labels // 2].transpose(2, 0, 1) * (1 + 0.15 * texture)
    image = np.clip(reflectance * 10000 + random.normal(0, 30, reflectance.shape), 1, 10000).astype(np.uint16)
    image[:, :16], labels[:16] = 0, 255
    place = Affine(10, 0, 500_000, 0, -10, 5_000_000 + 100_000 * seed)
    folder.mkdir(parents=True)
    paths = ScenePaths(folder / "scene.tif", folder / "labels.tif")
    names = ["B02", "B03", "B04", "B08"]
    write_geotiff(paths.image, image, transform=place, crs="EPSG:32633", nodata=0, descriptions=names)
    write_geotiff(paths.labels, labels[None], transform=place, crs="EPSG:32633", nodata=255)
    return paths


def intersection_over_union(found: np.ndarray, true: np.ndarray, classes: int) -> np.ndarray:
    """Of each class over the pixels that have a label and an answer."""
    known = (true != 255) & (found != 255)
    counts = np.bincount(true[known].astype(int) * classes + found[known], minlength=classes**2)
    table = counts.reshape(classes, classes)
    return np.diag(table) / np.maximum(table.sum(0) + table.sum(1) - np.diag(table), 1)


def trained(request: FitRequest, overrides: list[str]) -> Fitted:
    """Chosen and trained, as `geoaug fit --data` does it."""
    choices = choose(request)
    for what, choice, why in choices.lines:
        print(f"  {what}: {choice} ({why})")
    path = request.output / "chosen.yaml"
    choices.save(path)
    return fit(["--config", str(path), *overrides], tell=lambda line: print(f"  {line}", flush=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", default="none", help="a file, a name of torchvision's, or none")
    parser.add_argument("--size", type=int, default=512, help="of the made scenes, pixels")
    parser.add_argument("--landscape", action="store_true")
    parser.add_argument("--tile", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--length", type=int, default=256, help="tiles of an epoch")
    parser.add_argument("--scene", type=Path)
    parser.add_argument("--labels", type=Path)
    parser.add_argument("--sensor")
    parser.add_argument("--json", type=Path, default=Path("bench-segmentation.json"))
    options, more = parser.parse_known_args()
    overrides = ["--data.length", str(options.length), "--run.patience", "0", *more]
    begun = time.perf_counter()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        common: dict[str, Any] = {
            "weights": options.weights, "tile": options.tile, "epochs": options.epochs, "lr": 1e-3, "batch_size": 16
        }  # fmt: skip
        if options.scene is not None:
            request = FitRequest(
                [str(options.scene)], folder / "run", labels=str(options.labels), sensor=options.sensor, **common
            )
            fitted = trained(request, overrides)
            result = {"scene": options.scene.name, **fitted.metrics}
            print(f"{options.scene.name}: test IoU {fitted.metrics['test/iou']:.3f}")
        else:
            places = [folder / f"seed{seed}" for seed in (0, 1)]
            if options.landscape:
                one, other = (write_scene(place, size=options.size, seed=seed) for seed, place in enumerate(places))
            else:
                one, other = (write_textures(place, options.size, seed) for seed, place in enumerate(places))
            common |= {"sensor": "sentinel-2-l2a", "bands": "B02,B03,B04,B08"} if not options.landscape else {}
            request = FitRequest([str(one.image)], folder / "run", labels=str(one.labels), **common)
            fitted = trained(request, overrides)
            model = load_model(fitted.model)
            written = predict_scene(model, other.image, folder / "maps", test_time="d4", sensor=request.sensor)
            assert written.classes is not None
            with rasterio.open(written.classes) as found, rasterio.open(other.labels) as true:
                scores = intersection_over_union(found.read(1), true.read(1), len(model.card.classes))
            names = [one.name for one in model.card.classes]
            for name, score in zip(names, scores.tolist(), strict=True):
                print(f"  {name}: {score:.3f}")
            print(f"another made scene of {options.size} pixels: mean IoU {scores.mean():.3f}")
            result = {"scene": "made", "iou_other_scene": float(scores.mean()), **fitted.metrics}
    result["seconds"] = time.perf_counter() - begun
    print(f"{result['seconds']:.0f} s")
    content = {
        "options": {name: str(value) for name, value in vars(options).items()},
        "more": more,
        "provenance": provenance(),
    }
    options.json.write_text(json.dumps({**content, "result": result}, indent=1))


if __name__ == "__main__":
    main()
