"""`geoaug audit`: figures for programs, exit codes for CI, and wrong usage."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine


def write_fields(path: Path, size: int = 192) -> Path:
    rows, columns = np.indices((size, size))
    hills = np.stack([1800 + 600 * np.sin(rows / (7 + band)) * np.cos(columns / (9 - band)) for band in range(4)])
    image = (hills + np.random.default_rng(5).normal(0, 30, hills.shape)).astype(np.uint16)
    settings = {"crs": "EPSG:32633", "transform": Affine(10, 0, 500000, 0, -10, 5400000), "nodata": 0}
    with rasterio.open(
        path, "w", driver="GTiff", count=4, height=size, width=size, dtype="uint16", **settings
    ) as dataset:
        dataset.write(image)
        dataset.descriptions = ("B02", "B03", "B04", "B08")
    return path


@pytest.mark.slow
def test_figures_for_programs_and_an_exit_code_for_ci(geoaug: Callable, tmp_path: Path) -> None:
    scene = write_fields(tmp_path / "a <b> scene.tif")
    recipe = tmp_path / "turns.yaml"
    recipe.write_text("operations:\n  - RandomRotation: {degrees: 40, p: 1.0}\n")
    report = tmp_path / "report"
    outcome = geoaug(
        "audit", recipe, scene, "-o", report, "--tile", 32, "--strengths", "0.5,1", "--json", "--fail-above", 0.8,
        "--device", "cpu",
    )  # fmt: skip
    assert outcome.code == 1, outcome.err
    assert "is above 0.8" in outcome.err
    found = json.loads(outcome.out)
    assert found == json.loads((report / "report.json").read_text(encoding="utf-8"))
    [turns] = found["recipes"]
    assert [one["strength"] for one in turns["operations"][0]["outcomes"]] == [0.5, 1.0]
    assert turns["outcomes"][-1]["artefact"]["auc"] > 0.8
    page = (report / "report.html").read_text(encoding="utf-8")
    assert "a <b> scene" not in page
    assert "gives it away" in page
    assert "<script" not in page


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["standard"], "no data"),
        (["standrad", "scene.tif"], "did you mean 'standard'"),
        (["standard", "nowhere.tif"], "nowhere.tif"),
        (["standard", "scene.tif", "--strengths", "a,b"], "numbers, separated by commas"),
        (["standard", "scene.tif", "--strengths", "0"], "factor above 0"),
        (["standard", "scene.tif", "--strengths", ","], "no strengths"),
        (["standard", "scene.tif", "--fail-above", "75"], "within 0.5 to 1"),
        (["standard", "scene.tif", "--tiles", "5"], "30 or more"),
        (["standard", "scene.tif", "--against-bands", "1,2"], "none is named"),
        (["standard", "scene.tif", "-o", "scene.tif"], "no folder for a report"),
        (["standard", "scene.tif", "--model", "absent.safetensors"], "no such model file"),
        (["standard", "scene.tif", "--tile", "64"], "tiles are too few"),
        (["nothing.yaml", "scene.tif"], "no operations"),
        (["absent.yaml", "scene.tif"], "absent.yaml"),
    ],
)
def test_wrong_usage_is_explained(
    geoaug: Callable,
    scene: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    words: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nothing.yaml").write_text("operations: []\n")
    outcome = geoaug("audit", *arguments, "--device", "cpu")
    assert outcome.code in (1, 2), outcome.out
    assert words in outcome.err
    assert not list(tmp_path.glob("audit/*"))
