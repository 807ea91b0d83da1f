"""`geoaug preview` and `geoaug demo`: pictures of what would be written, and a first look."""

from collections.abc import Callable
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
import rasterio
from affine import Affine

from geoaug.io import read_manifest
from geoaug.io.intake import take_in
from geoaug.io.job import AugmentJob
from geoaug.io.preview import choose_windows


def test_a_contact_sheet_is_drawn(geoaug: Callable, scene: Path, labels: Path, tmp_path: Path) -> None:
    picture = tmp_path / "sheet.png"
    outcome = geoaug(
        "preview", scene, "-o", picture, "--labels", labels, "--tile", 32, "--tiles", 2, "--copies", 2,
        "--device", "cpu",
    )  # fmt: skip
    assert outcome.code == 0, outcome.err
    assert "2 tiles of 32 pixels" in outcome.out
    pixels = matplotlib.image.imread(picture)
    assert min(pixels.shape[:2]) > 300
    assert pixels[..., :3].std() > 0.05


def test_a_scene_smaller_than_the_usual_tile_is_shown_whole(geoaug: Callable, scene: Path, tmp_path: Path) -> None:
    outcome = geoaug("preview", scene, "-o", tmp_path / "sheet.png", "--copies", 1, "--device", "cpu")
    assert outcome.code == 0, outcome.err
    assert "1 tiles of 96 pixels" in outcome.out


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["-o", "sheet.jpg"], ".png"),
        (["-o", "nowhere/sheet.png"], "does not exist"),
        (["--tiles", "0"], "tiles"),
        (["--copies", "0"], "copies"),
        (["--bands", "B77"], "B77"),
    ],
    ids=lambda value: value[0] + value[1] if isinstance(value, list) else "",
)
def test_wrong_usage_is_exit_code_2(
    options: list[str], words: str, geoaug: Callable, scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    outcome = geoaug("preview", scene, *options)
    assert outcome.code == 2
    assert words in outcome.err


def test_windows_are_valid_full_of_contrast_and_apart(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    image = np.full((1, 320, 320), 1000, dtype=np.uint16)
    image[:, :160] = 0
    for row, col in ((192, 32), (256, 224)):
        image[0, row : row + 32, col : col + 32] = rng.integers(500, 9000, (32, 32))
    path = tmp_path / "scene.tif"
    grid = {"crs": "EPSG:32633", "transform": Affine(10, 0, 500000, 0, -10, 5400000)}
    with rasterio.open(
        path, "w", driver="GTiff", count=1, height=320, width=320, dtype="uint16", nodata=0, **grid
    ) as dataset:
        dataset.write(image)
    [work] = take_in(AugmentJob([str(path)], tmp_path, tile=32), [str(path)]).works
    chosen = [(window.row, window.col) for window in choose_windows(work, 2)]
    assert chosen == [(192, 32), (256, 224)]
    assert chosen == [(window.row, window.col) for window in choose_windows(work, 2)]


def test_the_demo_makes_everything_and_says_where(geoaug: Callable, tmp_path: Path) -> None:
    out = tmp_path / "demo"
    outcome = geoaug("demo", "-o", out, "--size", 128)
    assert outcome.code == 0, outcome.err
    for place in ("preview.png", "scene.tif", "labels.tif", "tiles/images", "tiles/masks", "tiles/manifest.parquet"):
        assert (out / place).exists()
        assert str(out / place) in outcome.out
    assert len(read_manifest(out / "tiles" / "manifest.parquet")) > 0
    assert "geoaug augment" in outcome.out
    assert geoaug("demo", "-o", out, "--size", 128).code == 0
