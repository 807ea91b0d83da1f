"""`geoaug plot`: pictures appear where they are asked for, and wrong use is told in one line."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib.image
import pytest


def test_a_catalog_is_drawn(geoaug: Callable[..., Any], scene: Path, tmp_path: Path) -> None:
    done = geoaug("plot", "catalog", scene, "-o", tmp_path / "map.png")
    assert done.code == 0, done.err
    assert "1 scene" in done.out
    picture = matplotlib.image.imread(tmp_path / "map.png")
    assert picture.shape[1] == 1200
    assert picture[..., :3].std() > 0.02


@pytest.mark.parametrize("recipe", [[], ["--recipe", "light"]])
def test_a_batch_is_drawn(
    geoaug: Callable[..., Any], scene: Path, labels: Path, tmp_path: Path, recipe: list[str]
) -> None:
    done = geoaug("plot", "batch", scene, "-o", tmp_path / "batch.png", "-l", labels, "-t", 32, "-n", 5, *recipe)
    assert done.code == 0, done.err
    assert matplotlib.image.imread(tmp_path / "batch.png")[..., :3].std() > 0.05


def test_wrong_use_is_told(geoaug: Callable[..., Any], scene: Path, tmp_path: Path) -> None:
    assert geoaug("plot", "catalog", scene, "-o", tmp_path / "map.gif").code == 2
    assert "no column 'x'" in geoaug("plot", "catalog", scene, "--colour", "x", "-o", tmp_path / "map.png").err
    missing = geoaug("plot", "batch", scene, "--split", "train", "-o", tmp_path / "batch.png")
    assert missing.code == 2
    assert "no split 'train'" in missing.err


def test_tiles_that_cannot_be_drawn_are_refused(geoaug: Callable[..., Any], scene: Path, tmp_path: Path) -> None:
    def drawn(*options: Any) -> Any:
        return geoaug("plot", "batch", scene, "-o", tmp_path / "batch.png", *options)

    assert drawn("-t", 0).code == 2
    far_larger, larger = drawn("-t", 100_000), drawn("-t", 100_000, "--min-valid", 0)
    assert far_larger.code == larger.code == 2
    assert "a tile of 100000 x 100000 pixels is larger than all scenes" in " ".join(far_larger.err.split())
    assert "12 tiles of 100000 x 100000 pixels take" in " ".join(larger.err.split())
    assert not (tmp_path / "batch.png").exists()
