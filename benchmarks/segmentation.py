"""A scene trained and predicted end to end, by the commands: a made one, and where given, a real one with its labels.

    uv run python benchmarks/segmentation.py --epochs 40 --weights resnet18_imagenet.pth
    uv run python benchmarks/segmentation.py --scene bands.tif --labels classes.tif --sensor landsat-8-l1

The made scenes' labels follow reflectance and texture, with noise, haze and mixed pixels. A U-Net on a ResNet18 learns
one of them and predicts another, that it has never seen, by `predict_scene`; the figure is the mean intersection over
union of the classes there. Of a real scene, the figure is that of the test blocks.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from report import provenance

from geoaug.data.synthetic import write_scene
from geoaug.models import load_model, predict_scene
from geoaug.models.fit_choices import Told, choose
from geoaug.models.fitting import Fitted, fit


def intersection_over_union(found: np.ndarray, true: np.ndarray, classes: int) -> np.ndarray:
    """Of each class over the pixels that have a label and an answer."""
    known = (true != 255) & (found != 255)
    counts = np.bincount(true[known].astype(int) * classes + found[known], minlength=classes**2)
    table = counts.reshape(classes, classes)
    return np.diag(table) / np.maximum(table.sum(0) + table.sum(1) - np.diag(table), 1)


def trained(told: Told, overrides: list[str]) -> Fitted:
    """Chosen and trained, as `geoaug fit --data` does it."""
    choices = choose(told)
    for what, choice, why in choices.lines:
        print(f"  {what}: {choice} ({why})")
    path = told.output / "chosen.yaml"
    choices.save(path)
    return fit(["--config", str(path), *overrides], tell=lambda line: print(f"  {line}", flush=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", default="none", help="a file, a name of torchvision's, or none")
    parser.add_argument("--size", type=int, default=512, help="of the made scenes, pixels")
    parser.add_argument("--bands", default="B02,B03,B04,B05,B08,B11,B12")
    parser.add_argument("--tile", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=40)
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
            told = Told(
                [str(options.scene)], folder / "run", labels=str(options.labels), sensor=options.sensor, **common
            )
            fitted = trained(told, overrides)
            result = {"scene": options.scene.name, **fitted.metrics}
            print(f"{options.scene.name}: test IoU {fitted.metrics['test/iou']:.3f}")
        else:
            one, other = (write_scene(folder / f"seed{seed}", size=options.size, seed=seed) for seed in (0, 1))
            told = Told([str(one.image)], folder / "run", labels=str(one.labels), bands=options.bands, **common)
            fitted = trained(told, overrides)
            model = load_model(fitted.model)
            written = predict_scene(model, other.image, folder / "maps", test_time="d4")
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
