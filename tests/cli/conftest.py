"""Small scenes for the commands, and a way to run them as a shell would."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine


@dataclass(frozen=True)
class Outcome:
    """What a command left: its exit code and what it printed."""

    code: int
    out: str
    err: str


@pytest.fixture
def geoaug(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Outcome]:
    """Runs a command line in this process."""
    from geoaug.cli.main import main

    monkeypatch.delenv("GEOAUG_DEBUG", raising=False)
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments: Any) -> Outcome:
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return Outcome(code, captured.out, captured.err)

    return run


def write_scene(path: Path, *, bands: int = 4, size: int = 96, dtype: str = "uint16", **profile: Any) -> Path:
    """A raster of smooth hills with a nodata corner of 16 pixels."""
    row, col = np.indices((size, size))
    hills = np.stack([2000 + 1500 * np.sin(row / (7 + band)) * np.cos(col / (9 - band)) for band in range(bands)])
    image = (hills / (40 if dtype == "uint8" else 1)).astype(dtype)
    image[:, :16, :16] = 0
    settings = {"crs": "EPSG:32633", "transform": Affine(10, 0, 500000, 0, -10, 5400000), "nodata": 0, **profile}
    with rasterio.open(
        path, "w", driver="GTiff", count=bands, height=size, width=size, dtype=dtype, **settings
    ) as dataset:
        dataset.write(image)
        if bands == 4 and dtype == "uint16":
            dataset.descriptions = ("B02", "B03", "B04", "B08")
    return path


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    return write_scene(tmp_path / "scene.tif")


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    row, col = np.indices((96, 96)) // 16
    settings = {"crs": "EPSG:32633", "transform": Affine(10, 0, 500000, 0, -10, 5400000), "nodata": 255}
    with rasterio.open(
        tmp_path / "labels.tif", "w", driver="GTiff", count=1, height=96, width=96, dtype="uint8", **settings
    ) as dataset:
        dataset.write(((row + col) % 3).astype("uint8"), 1)
    return tmp_path / "labels.tif"
