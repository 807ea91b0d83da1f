"""`geoaug preview` and `geoaug demo`: pictures of what would be written, and a first look."""

import json
import warnings
from collections.abc import Callable
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
import rasterio
from affine import Affine
from products import make_landsat

from geoaug.data import Catalog
from geoaug.io import read_manifest
from geoaug.io.intake import scenes_of, take_in
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


def test_a_product_is_previewed_as_one_scene(geoaug: Callable, tmp_path: Path) -> None:
    product = make_landsat(tmp_path, side=64)
    common = ("-o", tmp_path / "sheet.png", "--copies", 1, "--tiles", 1, "--device", "cpu")
    outcome = geoaug("preview", product, *common, "--gsd", 60)
    assert outcome.code == 0, outcome.err
    assert "1 tiles of 32 pixels" in outcome.out
    assert "landsat-8-l2; by the product's metadata" in outcome.out
    Catalog.from_files([product]).save(tmp_path / "c.parquet")
    assert geoaug("preview", tmp_path / "c.parquet", *common).code == 0


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
    job = AugmentJob([str(path)], tmp_path, tile=32)
    [found] = take_in(job, scenes_of(job)).scenes
    chosen = [(window.row, window.col) for window in choose_windows(found, 2)]
    assert chosen == [(192, 32), (256, 224)]
    assert chosen == [(window.row, window.col) for window in choose_windows(found, 2)]


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


@pytest.mark.parametrize("content", [{}, {"scene.tif": "mine"}, {"tiles/manifest.parquet": "mine"}], ids=str)
def test_the_demo_leaves_the_files_of_others_alone(content: dict[str, str], geoaug: Callable, tmp_path: Path) -> None:
    out = tmp_path / "mine"
    for name, text in ({"notes.txt": "mine"} | content).items():
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_text(text)
    before = sorted(path.name for path in out.rglob("*"))
    outcome = geoaug("demo", "-o", out, "--size", 128)
    assert outcome.code == 2
    assert outcome.err.count("\n") == 1
    assert "not of a demo" in outcome.err
    assert sorted(path.name for path in out.rglob("*")) == before
    assert all((out / name).read_text() == "mine" for name in content)


def test_a_place_that_cannot_be_written_is_one_line_and_exit_code_2(
    geoaug: Callable, scene: Path, tmp_path: Path
) -> None:
    (tmp_path / "taken.png").mkdir()
    outcome = geoaug("preview", scene, "-o", tmp_path / "taken.png", "--copies", 1, "--device", "cpu")
    assert outcome.code == 2
    assert outcome.err.count("\n") == 1
    assert "taken.png: cannot be written" in outcome.err
    (tmp_path / "file").write_text("")
    outcome = geoaug("demo", "-o", tmp_path / "file" / "demo")
    assert outcome.code == 2
    assert outcome.err.count("\n") == 1
    assert "cannot be written" in outcome.err


def test_vector_labels_without_a_field_are_told_their_fields(geoaug: Callable, scene: Path, tmp_path: Path) -> None:
    corners = [[500000, 5399100], [500900, 5399100], [500900, 5400000], [500000, 5400000], [500000, 5399100]]
    feature = {
        "type": "Feature",
        "id": 7,
        "properties": {"crop": "maize", "area": 1},
        "geometry": {"type": "Polygon", "coordinates": [corners]},
    }
    crs = {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::32633"}}
    path = tmp_path / "fields.geojson"
    path.write_text(json.dumps({"type": "FeatureCollection", "crs": crs, "features": [feature, feature]}))
    common = ("preview", scene, "-o", tmp_path / "sheet.png", "--copies", 1, "--device", "cpu", "--labels", path)
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        outcome = geoaug(*common)
    assert outcome.code == 0, outcome.err
    assert "every feature becomes class 1" in outcome.err
    assert "crop, area" in outcome.err
    assert geoaug(*common, "--label-field", "crop").err == ""
