"""Folders of small chips whose class is the brightest band, and the weights of a network that learned nothing."""

from pathlib import Path

import numpy as np
import rasterio
import torch
from rasterio.errors import NotGeoreferencedWarning

CLASSES = ("field", "lake", "town")


def write_chips(folder: Path, count: int = 12, size: int = 16, classes: tuple[str, ...] = CLASSES) -> Path:
    """RGB chips as GeoTIFF in a folder for each class."""
    import warnings

    random = np.random.default_rng(0)
    for place, name in enumerate(classes):
        (folder / name).mkdir(parents=True)
        for number in range(count):
            pixels = random.normal(90, 20, (3, size, size))
            pixels[place] += 70
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", NotGeoreferencedWarning)
                with rasterio.open(
                    folder / name / f"{name}{number}.tif",
                    "w",
                    driver="GTiff",
                    count=3,
                    height=size,
                    width=size,
                    dtype="uint8",
                    photometric="RGB",
                ) as chip:
                    chip.write(pixels.clip(1, 255).astype(np.uint8))
    return folder


def write_weights(path: Path, backbone: str = "resnet18") -> Path:
    """A state dict as torchvision's, untrained."""
    import torchvision

    torch.manual_seed(0)
    torch.save(torchvision.models.get_model(backbone, weights=None).state_dict(), path)
    return path
