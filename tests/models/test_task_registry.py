"""Tasks by name: the built-in ones, those from outside, and what may be imported for them; the pages about them run."""

import re
import sys
import types
from collections.abc import Iterator
from dataclasses import replace
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
import rasterio
import torch
from affine import Affine
from made_chips import write_chips

from geoaug import packages
from geoaug.cli.main import add_command, app, main
from geoaug.data import Catalog
from geoaug.errors import ConfigurationError
from geoaug.io.geotiff import write_geotiff
from geoaug.models import (
    ChangeTask,
    ClassificationTask,
    GeoTask,
    ModelCard,
    RegressionTask,
    SegmentationTask,
    find_task,
    load_model,
    predict_scene,
    resnet18,
    save_model,
    task_names,
    unet,
)
from geoaug.models.tasks import registry

PAGE = (Path(__file__).parents[2] / "docs" / "extending" / "tasks.md").read_text("utf-8")
COVER, COUNT = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture
def cover(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder with the module of the page's task, which can be imported and is not."""
    (tmp_path / "cover.py").write_text(COVER)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv(packages.IMPORTS_VARIABLE, "")
    yield tmp_path
    sys.modules.pop("cover", None)


def test_built_in_tasks_have_their_names() -> None:
    wanted = (ClassificationTask, SegmentationTask, RegressionTask, ChangeTask)
    assert set(task_names()) >= {task.task for task in wanted}
    assert tuple(find_task(task.task) for task in wanted) == wanted
    assert all(issubclass(task, GeoTask) for task in wanted)
    with pytest.raises(ConfigurationError, match=r"did you mean 'segmentation'.*mylab") as caught:
        find_task("segmentatoin")
    assert caught.value.argument == "task"


def test_nothing_is_imported_because_a_file_names_it(cover: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigurationError, match="GEOAUG_IMPORTS=cover"):
        find_task("cover.CoverTask")
    assert "cover" not in sys.modules
    with pytest.raises(ConfigurationError, match="GEOAUG_IMPORTS=cover"):
        find_task("cover.CoverTask", imports=["cov"])
    assert find_task("cover.CoverTask", imports=["cover"]).task == "cover.CoverTask"
    assert find_task("cover.CoverTask").__name__ == "CoverTask", "what is imported already may be used"
    del sys.modules["cover"]
    monkeypatch.setenv(packages.IMPORTS_VARIABLE, "other, cover")
    assert find_task("cover.CoverTask").__name__ == "CoverTask"
    for name, words in (("cover.Nothing", "cannot be imported"), ("cover.np", "not a subclass of GeoTask")):
        with pytest.raises(ConfigurationError, match=words):
            find_task(name)


def test_a_package_offers_a_task_under_a_short_name(cover: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    points = [EntryPoint("cover", "cover:CoverTask", registry.ENTRY_POINTS)]
    monkeypatch.setattr(packages, "entry_points", lambda group: points if group == registry.ENTRY_POINTS else [])
    assert task_names()[-1] == "cover"
    assert "cover" not in sys.modules, "names are known without importing what they stand for"
    assert find_task("cover").__name__ == "CoverTask", "what was installed with an entry point may be used"
    assert list(registry.task_classes()) == list(task_names())


def test_two_packages_that_offer_one_name_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    points = [EntryPoint("cover", f"{lab}:CoverTask", registry.ENTRY_POINTS) for lab in ("one", "two")]
    monkeypatch.setattr(packages, "entry_points", lambda group: points if group == registry.ENTRY_POINTS else [])
    with pytest.raises(ConfigurationError, match=r"name one of one\.CoverTask, two\.CoverTask"):
        find_task("cover")


def test_a_model_file_names_its_task_and_the_package_of_it(cover: Path, tmp_path: Path) -> None:
    network = resnet18(None, 3, num_classes=1)
    card = ModelCard(network.architecture, network.sensor, "cover.CoverTask", (0.0,) * 3, (1.0,) * 3)
    save_model(tmp_path / "m.safetensors", network, card)
    read = load_model(tmp_path / "m.safetensors").card
    assert (read.task, read.versions["cover"]) == ("cover.CoverTask", "unknown")
    assert "cover" not in sys.modules
    with pytest.raises(ConfigurationError, match="task='guessing' is one of classification"):
        replace(card, task="guessing")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_task_of_ones_own_is_trained_measured_and_predicted(
    cover: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def geoaug(*arguments: Any) -> str:
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        done = capsys.readouterr()
        assert code == 0, done.err
        return done.out

    chips = write_chips(tmp_path / "chips")
    catalog = Catalog.from_folder(chips)
    shares = np.linspace(0, 1, len(catalog))
    catalog.with_column("cover", pa.array(shares)).save(tmp_path / "c.parquet")
    quick = ("--weights", "none", "--batch-size", "8", "--input-size", "32", "--device", "cpu", "--epochs", "1")
    how = ("--data", tmp_path / "c.parquet", "--target", "cover", "-o", tmp_path / "run")
    geoaug("fit", *how, "--task", "cover.CoverTask", *quick)
    model = tmp_path / "run" / "model.safetensors"
    card = load_model(model).card
    assert card.task == "cover.CoverTask"
    measured = geoaug("test", model, "--device", "cpu")
    assert f"mae {card.metrics['test/mae']:.4g}" in measured
    assert 0 < card.metrics["test/mae"] < 1
    geoaug("predict", model, chips, "-o", tmp_path / "out", "--device", "cpu", "--ignore-gsd")
    table = pyarrow.parquet.read_table(tmp_path / "out" / "predictions.parquet")
    assert table.column_names == ["chip", "label", "cover"]
    found = table.column("cover").to_numpy()
    assert ((found > 0) & (found < 1)).all()


def test_a_map_of_ones_own_holds_what_the_task_says(cover: Path, tmp_path: Path) -> None:
    find_task("cover.CoverTask", imports=["cover"])
    torch.manual_seed(0)
    network = unet("resnet18", None, 3, num_classes=1).eval()
    card = ModelCard(
        network.architecture, network.sensor, "cover.CoverTask", (0.0,) * 3, (1.0,) * 3, gsd_m=10.0, tile_size=64
    )
    pixels = np.random.default_rng(0).integers(1, 255, (3, 64, 64)).astype(np.uint8)
    pixels[:, :5] = 0
    scene = tmp_path / "scene.tif"
    place = Affine(10, 0, 500_000, 0, -10, 5_000_000)
    write_geotiff(scene, pixels, transform=place, crs="EPSG:32633", nodata=0, descriptions=["red", "green", "blue"])
    save_model(tmp_path / "m.safetensors", network, card)
    found = predict_scene(tmp_path / "m.safetensors", scene, tmp_path / "out", sensor="rgb")
    assert list(found.files) == ["cover"]
    with rasterio.open(found.files["cover"]) as dataset:
        assert (dataset.dtypes, dataset.nodata) == (("uint8",), 255)
        percent = dataset.read(1)
    assert (percent[:5] == 255).all()
    assert (percent[5:] <= 100).all()
    assert percent[5:].std() > 0


def test_a_command_is_a_file_and_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    module = types.ModuleType("geoaug.cli.count")
    exec(compile(COUNT, "count.py", "exec"), module.__dict__)
    monkeypatch.setitem(sys.modules, "geoaug.cli.count", module)
    monkeypatch.setattr(app, "registered_commands", list(app.registered_commands))
    add_command("count", "count:count")
    chips = write_chips(tmp_path / "chips", count=2)
    assert main(["count", str(chips)]) == 0
    assert capsys.readouterr().out.split() == ["6", "scenes"]
