"""`geoaug augment` as a person runs it."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine

from geoaug.io import read_manifest


def write_scene(path: Path, size: int) -> Path:
    image = np.random.default_rng(0).integers(1, 9000, (4, size, size), dtype=np.uint16)
    grid = {"crs": "EPSG:32633", "transform": Affine(10, 0, 500000, 0, -10, 5400000)}
    with rasterio.open(
        path, "w", driver="GTiff", count=4, height=size, width=size, dtype="uint16", nodata=0, **grid
    ) as dataset:
        dataset.write(image)
    return path


def test_tiles_masks_and_records_come_out(geoaug: Callable, scene: Path, labels: Path, tmp_path: Path) -> None:
    out = tmp_path / "tiles"
    outcome = geoaug("augment", scene, "-o", out, "--labels", labels, "--tile", 32, "--copies", 2, "--device", "cpu")
    assert outcome.code == 0, outcome.err
    assert len(list((out / "images").iterdir())) == len(list((out / "masks").iterdir())) == 18
    assert len(read_manifest(out / "manifest.parquet")) == 18
    assert "sensor: sentinel-2-l2a" in (out / "recipe.yaml").read_text()
    assert "18 augmented tiles" in outcome.out
    assert "uncertain" in outcome.out
    assert "sentinel-2-l2a" in outcome.out
    with rasterio.open(out / "images" / "scene_r32_c32_a1.tif") as tile:
        assert tile.descriptions == ("B02", "B03", "B04", "B08")
        assert (tile.dtypes[0], tile.nodata, tile.compression.value) == ("uint16", 0, "ZSTD")


def test_options_reach_the_job(geoaug: Callable, scene: Path, tmp_path: Path) -> None:
    out = tmp_path / "tiles"
    options = ["--tile", 32, "--stride", 64, "--copies", 1, "--bands", "B08,B04", "--sensor", "sentinel-2-l1c"]
    options += ["--recipe", "light", "--include-original", "--compress", "deflate", "--format", "cog", "--seed", 9]
    options += ["--min-valid", 0.9, "--batch-size", 2, "--workers", 1, "--device", "cpu"]
    outcome = geoaug("augment", scene, "-o", out, *options)
    assert outcome.code == 0, outcome.err
    # Of the windows at 0 and 64, the first has a nodata corner of a quarter.
    assert "1 of 4 windows" in outcome.out
    assert sorted(path.name for path in (out / "images").iterdir())[:2] == [
        "scene_r0_c64_a1.tif",
        "scene_r0_c64_orig.tif",
    ]
    assert "sensor: sentinel-2-l1c" in (out / "recipe.yaml").read_text()
    assert set(read_manifest(out / "manifest.parquet")["seed"]) == {9}
    with rasterio.open(out / "images" / "scene_r64_c0_a1.tif") as tile:
        assert tile.descriptions == ("B08", "B04")
        assert tile.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert tile.compression.value == "DEFLATE"


def test_a_bad_input_is_named_and_the_exit_code_is_1(geoaug: Callable, scene: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.tif").write_text("nothing")
    out = tmp_path / "tiles"
    outcome = geoaug("augment", scene, tmp_path / "broken.tif", "-o", out, "--tile", 48, "--device", "cpu")
    assert outcome.code == 1
    assert "broken.tif: not a raster" in outcome.out
    assert len(list((out / "images").iterdir())) == 12


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--bands", "B77"], "band 'B77' is not one of B02 B03 B04 B08"),
        (["--sensor", "sentinel-2-l2b"], "sentinel-2-l2a"),
        (["--recipe", "nowhere.yaml"], "nowhere.yaml"),
        (["--labels", "nowhere.gpkg"], "nowhere.gpkg"),
        (["--copies", "0"], "copies"),
        (["--device", "cuda:77"], "cuda:77"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_wrong_options_are_exit_code_2(
    options: list[str], words: str, geoaug: Callable, scene: Path, tmp_path: Path
) -> None:
    outcome = geoaug("augment", scene, "-o", tmp_path / "tiles", "--tile", 32, *options)
    assert outcome.code == 2
    assert words in outcome.err
    assert outcome.err.count("\n") == 1
    assert not (tmp_path / "tiles").exists()


def test_a_recipe_typo_is_told_with_its_line(geoaug: Callable, scene: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "mine.yaml"
    recipe.write_text("operations:\n  - RandomD4\n  - RandomHase: {aod: [0, 0.1]}\n")
    outcome = geoaug("augment", scene, "-o", tmp_path / "tiles", "--tile", 32, "--recipe", recipe)
    assert outcome.code == 2
    assert "mine.yaml:3" in outcome.err
    assert "RandomHaze" in outcome.err


def test_an_output_that_is_not_empty_needs_overwrite(geoaug: Callable, scene: Path, tmp_path: Path) -> None:
    out = tmp_path / "tiles"
    command = ["augment", scene, "-o", out, "--tile", 48, "--copies", 1, "--device", "cpu"]
    assert geoaug(*command).code == 0
    refused = geoaug(*command)
    assert refused.code == 2
    assert "--overwrite" in refused.err
    assert geoaug(*command, "--overwrite").code == 0


def test_an_output_that_cannot_be_written_is_exit_code_2(
    geoaug: Callable, scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o500)
    if os.access(locked, os.W_OK):  # root may write everywhere
        monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != locked)
    outcome = geoaug("augment", scene, "-o", locked / "tiles", "--tile", 32)
    assert outcome.code == 2
    assert "cannot be written" in outcome.err


@pytest.mark.slow
def test_ctrl_c_leaves_whole_files_and_a_manifest_that_matches(tmp_path: Path) -> None:
    scene, out = write_scene(tmp_path / "scene.tif", 512), tmp_path / "tiles"
    program = "import sys; from geoaug.cli.main import run; run()"
    command = [sys.executable, "-c", program, "augment", str(scene), "-o", str(out)]
    command += ["--tile", "64", "--stride", "8", "--copies", "50", "--device", "cpu"]
    job = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        deadline = time.monotonic() + 60
        while not list(out.glob("images/*.tif")) and time.monotonic() < deadline:
            assert job.poll() is None, job.stderr and job.stderr.read()
            time.sleep(0.05)
        job.send_signal(signal.SIGINT)
        printed, told = job.communicate(timeout=60)
    finally:
        job.kill()
    assert job.returncode == 130
    assert "Traceback" not in told
    assert "the manifest lists them" in told
    assert "augmented tiles" in printed
    manifest = read_manifest(out / "manifest.parquet")
    assert 0 < len(manifest) < 57 * 57 * 50
    assert set(manifest["image"]) == {f"images/{path.name}" for path in (out / "images").iterdir()}
    for image in manifest["image"][::20]:
        with rasterio.open(out / image) as tile:
            assert tile.read().shape == (4, 64, 64)
