"""An audit from its start to its report, on tiles of noise over smooth ground: it must be able to fail."""

import json
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine

import geoaug
from geoaug.audit.job import AuditJob
from geoaug.audit.realism import run_audit
from geoaug.audit.results import AuditReport
from geoaug.audit.tiles import TileSource
from geoaug.errors import ConfigurationError

TURNS = {"interpolation": "bilinear", "operations": [{"RandomRotation": {"degrees": 40.0, "p": 1.0}}]}


def write_scene(path: Path, *, size: int = 192, date: int = 0, empty: int = 0) -> Path:
    """Smooth hills and noise in four bands; another date has another sun and other noise."""
    random = np.random.default_rng(5)
    rows, columns = np.indices((size, size))
    fields = np.full((4, size, size), 1800.0)
    for wave in random.uniform(-0.25, 0.25, (4, 8, 2)).swapaxes(0, 1):
        for band, (down, right) in enumerate(wave):
            fields[band] += 150 * np.sin(down * rows + right * columns + band)
    noise = np.random.default_rng(date).normal(0, 30, (4, size, size))
    image = np.clip((1 - 0.1 * date) * fields + noise, 1, 65535).astype(np.uint16)
    image[:, :empty] = 0
    settings = {"crs": "EPSG:32633", "transform": Affine(10, 0, 500000, 0, -10, 5400000), "nodata": 0}
    with rasterio.open(
        path, "w", driver="GTiff", count=4, height=size, width=size, dtype="uint16", **settings
    ) as dataset:
        dataset.write(image)
        dataset.descriptions = ("B02", "B03", "B04", "B08")
    return path


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_scene(tmp_path_factory.mktemp("scenes") / "scene.tif")


class Sources(HTMLParser):
    """What a page would load, and its tags."""

    def __init__(self) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.tags: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.loaded += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "data")]


@pytest.fixture(scope="module")
def audited(scene: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[AuditReport, Path]:
    """The report on a rotation and on flips, beside another date, and its folder."""
    other = write_scene(scene.with_name("other.tif"), date=1)
    folder = tmp_path_factory.mktemp("report")
    steps: list[tuple[int, int]] = []
    found = geoaug.audit(
        [TURNS, {"operations": ["RandomD4"]}],
        scene,
        folder,
        tiles=120,
        tile=32,
        strengths=(1.0,),
        operations=False,
        against=str(other),
        device="cpu",
        on_progress=lambda done, total: steps.append((done, total)),
    )
    assert steps[-1][0] == steps[-1][1]
    return found, folder


@pytest.fixture(scope="module")
def report(audited: tuple[AuditReport, Path]) -> AuditReport:
    return audited[0]


def test_a_page_holds_all_it_shows(audited: tuple[AuditReport, Path]) -> None:
    found, folder = audited
    page = (folder / "report.html").read_text(encoding="utf-8")
    parser = Sources()
    parser.feed(page)
    # A plot for each recipe; three tiles before and after each, and the other date's.
    assert len(parser.loaded) == 2 + 3 * 2 * 3
    assert all(source.startswith("data:image/png;base64,") for source in parser.loaded)
    assert not {"script", "link", "iframe"} & set(parser.tags)
    assert "@import" not in page
    assert "url(" not in page
    assert found.recipes[0].verdict[1:] in page
    assert json.loads((folder / "report.json").read_text(encoding="utf-8"))["tiles"] == found.tiles


def test_a_rotation_is_told_and_flips_are_not(report: AuditReport) -> None:
    turns, flips = (recipe.as_written for recipe in report.recipes)
    assert turns.artefact.auc > 0.9
    assert turns.clues[0].family in ("noise", "sharpness")
    assert max(turns.measures.noise_ratio) < 0.8
    assert max(turns.measures.sharpness_db) < -1
    assert flips.artefact.auc < 0.6
    np.testing.assert_allclose(flips.measures.noise_ratio, 1, atol=1e-6)
    assert [recipe.name for recipe in report.above(0.9)] == [report.recipes[0].name]
    assert "gives it away" in report.recipes[0].verdict
    assert "cannot be told" in report.recipes[1].verdict


def test_the_null_is_near_one_half(report: AuditReport) -> None:
    assert report.tiles == 36
    for null in (report.artefact_null, report.appearance_null):
        assert 0.3 < null.auc < 0.65
        assert null.low <= null.auc <= null.high


def test_another_date_of_the_same_ground_is_compared_tile_by_tile(report: AuditReport) -> None:
    assert report.against is not None
    assert report.against.tiles == 36
    spread = np.array(report.against.measures.mean_bias)
    assert (spread < -0.1).all()  # a tenth darker
    # The same fields: the pixels of a tile changed as their mean did.
    np.testing.assert_allclose(report.against.measures.noise_ratio, 1, atol=0.15)


@pytest.mark.slow
def test_corners_without_data_tell_nothing(scene: Path, tmp_path: Path) -> None:
    # Chips without surroundings: flips are as exact as ever, and a crop's shift by whole pixels leaves an empty margin.
    chips = tmp_path / "chips"
    chips.mkdir()
    with rasterio.open(scene) as source:
        for number in range(36):
            window = rasterio.windows.Window(32 * (number % 6), 32 * (number // 6), 32, 32)
            profile = {**source.profile, "height": 32, "width": 32, "transform": source.window_transform(window)}
            with rasterio.open(chips / f"chip{number}.tif", "w", **profile) as chip:
                chip.write(source.read(window=window))
                chip.descriptions = source.descriptions
    moved = {
        "operations": [{"kornia.RandomTranslate": {"translate_x": [0.5, 0.5], "translate_y": [0.0, 0.0], "p": 1.0}}]
    }
    job = AuditJob([moved], [str(chips)], strengths=(1.0,), operations=False, kind="raster", device="cpu")
    found, _ = run_audit(job)
    [recipe] = found.recipes
    assert recipe.as_written.measures.invalid == pytest.approx(0.5)
    assert recipe.as_written.artefact.auc < 0.65
    assert "50 % of its pixels become invalid" in recipe.verdict


def test_tiles_of_an_audit_do_not_overlap(scene: Path) -> None:
    job = AuditJob([TURNS], [str(scene)], tile=30, device="cpu")
    tiles = TileSource(job.reading(), 30, 300).read(0)
    windows = [one.tile.window for one in tiles.placed]
    assert len(windows) == 36
    for one in windows:
        assert sum(abs(one.row - w.row) < 30 and abs(one.col - w.col) < 30 for w in windows) == 1


def test_too_few_tiles_and_tiles_without_data_are_refused(tmp_path: Path) -> None:
    half = write_scene(tmp_path / "half.tif", empty=120)
    with pytest.raises(ConfigurationError, match=r"12 tiles are too few .* hold too little data"):
        run_audit(AuditJob([TURNS], [str(half)], tile=32, device="cpu"))
    with pytest.raises(ConfigurationError, match="30 or more"):
        run_audit(AuditJob([TURNS], [str(half)], tile=32, tiles=10, device="cpu"))
    with pytest.raises(ConfigurationError, match="9 tiles are too few"):
        run_audit(AuditJob([TURNS], [str(write_scene(tmp_path / "whole.tif"))], tile=64, device="cpu"))
