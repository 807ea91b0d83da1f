"""`geoaug fit`, `validate` and `test`: from a folder, or as a configuration says, to one model file."""

import csv
import io
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import rasterio
import torch
import yaml
from affine import Affine
from made_chips import CLASSES, write_chips, write_weights

from geoaug.cli.main import main
from geoaug.data import Catalog
from geoaug.data.synthetic.made_scene import write_scene
from geoaug.io.geotiff import write_geotiff
from geoaug.models import ClassificationTask, load_model

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.yaml"))
QUICK = ("--weights", "none", "--batch-size", "8", "--input-size", "32", "--device", "cpu")


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """Tiny networks on a busy machine wait for each other's threads longer than they compute."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def chips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_chips(tmp_path_factory.mktemp("data") / "chips")


@pytest.fixture(scope="module")
def fitted(chips: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, str]:
    """A folder with a training of two epochs, and what was printed meanwhile."""
    folder, out, err = tmp_path_factory.mktemp("trained") / "run", io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.setenv("COLUMNS", "200")
        assert main(["fit", "--data", str(chips), "-o", str(folder), "--epochs", "2", *QUICK]) == 0, err.getvalue()
    return folder, out.getvalue(), err.getvalue()


@pytest.fixture(scope="module")
def trained(fitted: tuple[Path, str, str]) -> Path:
    """The folder alone."""
    return fitted[0]


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "curves.csv").open() as file:
        return list(csv.DictReader(file))


def own_process(*arguments: Any) -> subprocess.Popen[str]:
    """`geoaug fit` as a shell runs it."""
    command = [sys.executable, "-c", "from geoaug.cli.main import run; run()"]
    script = Path(sys.executable).with_name("geoaug")
    if script.is_file():
        command = [str(script)]
    return subprocess.Popen(
        [*command, "fit", *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "COLUMNS": "200", "OMP_NUM_THREADS": "1"},
    )  # fmt: skip


@pytest.mark.slow
def test_a_folder_alone_is_enough_and_everything_chosen_is_said(fitted: tuple[Path, str, str]) -> None:
    folder, out, err = fitted
    said = {line.split("  ")[0].strip() for line in out.splitlines()}
    assert {"data", "task", "split", "bands", "weights", "augmentation", "model", "stages", "precision"} <= said
    card = load_model(folder / "model.safetensors").card
    assert [one.name for one in card.classes] == list(CLASSES)
    assert (card.task, card.tile_size, card.sensor.name) == ("classification", 32, "rgb")
    assert card.recipe is not None
    assert "test/accuracy" in card.metrics
    left = {str(path.relative_to(folder)) for path in folder.rglob("*.*")}
    assert {"config.yaml", "chosen.yaml", "curves.csv", "curves.png", "checkpoints/best.ckpt"} <= left
    assert any(name.endswith("val/confusion.png") for name in left)
    assert any(name.endswith("metrics.csv") for name in left)
    assert "epoch 2 of 2" in err


@pytest.mark.slow
def test_tensorboard_has_the_curves_and_the_pictures(trained: Path) -> None:
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    found = events.EventAccumulator(str(trained / "logs" / "run_0"), size_guidance={"scalars": 0, "images": 0})
    found.Reload()
    for name in ("val/accuracy", "val/loss", "val/f1/lake"):
        # Each epoch, and the tests at the end under names of their own.
        assert [event.value for event in found.Scalars(name)] == pytest.approx(
            [float(row[name]) for row in rows(trained)], rel=1e-5
        )
    assert len(found.Images("val/confusion")) == 2
    assert len(found.Images("test/confusion")) == 1
    assert "test/accuracy" in found.Tags()["scalars"]


def test_the_model_file_is_all_that_test_and_validate_need(geoaug: Any, trained: Path, tmp_path: Path) -> None:
    model = trained / "model.safetensors"
    for how, part in (("validate", "val"), ("test", "test")):
        done = geoaug(how, model, "-o", tmp_path / how, "--device", "cpu")
        assert done.code == 0, done.err
        found = dict(re.findall(r"(loss|accuracy) ([\d.e-]+)", done.out.splitlines()[0]))
        card = load_model(model).card
        assert float(found["loss"]) == pytest.approx(card.metrics[f"{part}/loss"], rel=1e-3)
        assert float(found["accuracy"]) == pytest.approx(card.metrics[f"{part}/accuracy"], rel=1e-3)
        assert (tmp_path / how / f"{part}.json").is_file()
        assert "field" in done.out
    config = trained / "config.yaml"
    done = geoaug("test", "--config", config, "--run.output", trained, "--device", "cpu")
    assert done.code == 0, done.err


def test_other_data_with_the_same_classes_are_measured(geoaug: Any, trained: Path, tmp_path: Path) -> None:
    loose = write_chips(tmp_path / "loose", count=4)
    done = geoaug("test", trained / "model.safetensors", "--data", loose, "--device", "cpu")
    assert done.code == 2, "chips are of no split until they are told apart"
    other = write_chips(tmp_path / "more" / "test", count=4).parent
    done = geoaug("test", trained / "model.safetensors", "--data", other, "--device", "cpu")
    assert done.code == 0, f"a folder named test holds the test split: {done.err}"
    catalog = tmp_path / "more.parquet"
    assert geoaug("index", other, "-o", catalog, "--kind", "classes").code == 0
    assert geoaug("split", catalog, "--method", "folder").code == 0
    again = geoaug("test", trained / "model.safetensors", "--data", catalog, "--device", "cpu")
    assert again.code == 0, again.err
    assert again.out == done.out
    strange = tmp_path / "strange.parquet"
    write_chips(tmp_path / "strange" / "test", count=2, classes=("field", "moor"))
    geoaug("index", tmp_path / "strange", "-o", strange, "--kind", "classes")
    geoaug("split", strange, "--method", "folder")
    done = geoaug("test", trained / "model.safetensors", "--data", strange, "--device", "cpu")
    assert done.code == 2
    assert "moor" in done.err


@pytest.mark.slow
def test_predict_and_test_hold_to_one_sampling_distance_that_of_what_the_network_is_given(
    geoaug: Any, tmp_path: Path
) -> None:
    """Chips of 10 m that are enlarged twice are 5 m to the network: they fit, and chips of 20 m do not."""
    rng = np.random.default_rng(0)
    for gsd in (10, 20):
        for place, name in enumerate(("field", "town")):
            for number in range(8):
                for part in ("train", "test"):
                    folder = tmp_path / f"chips{gsd}" / part / name
                    folder.mkdir(parents=True, exist_ok=True)
                    pixels = rng.integers(40 + 90 * place, 100 + 90 * place, (3, 16, 16)).astype(np.uint8)
                    where = Affine(gsd, 0, 4e5 + 1000 * number, 0, -gsd, 5e6 + 1000 * place + 5000 * (part == "test"))
                    write_geotiff(folder / f"{number}.tif", pixels, transform=where, crs="EPSG:32633")
    chips, others = tmp_path / "chips10", tmp_path / "chips20"
    fitted = geoaug("fit", "--data", chips, "--sensor", "rgb", "-o", tmp_path / "run", "--epochs", 1, *QUICK)
    assert fitted.code == 0, fitted.err
    model = tmp_path / "run" / "model.safetensors"
    assert load_model(model).card.gsd_m == pytest.approx(5)
    catalog = tmp_path / "others.parquet"
    assert geoaug("index", others, "-o", catalog, "--kind", "classes", "--sensor", "rgb").code == 0
    assert geoaug("split", catalog, "--method", "folder").code == 0
    for arguments, code in (
        (("predict", model, chips, "--sensor", "rgb", "-o", tmp_path / "a"), 0),
        (("predict", model, others, "--sensor", "rgb", "-o", tmp_path / "b"), 2),
        (("predict", model, others, "--sensor", "rgb", "-o", tmp_path / "c", "--ignore-gsd"), 0),
        (("test", model), 0),
        (("test", model, "--data", catalog), 2),
        (("test", model, "--data", catalog, "--ignore-gsd"), 0),
    ):
        done = geoaug(*arguments, "--device", "cpu")
        assert done.code == code, (arguments, done.err)
        assert code == 0 or "pixels are 10 m wide, and the model was trained at 5 m" in done.err, done.err


@pytest.mark.slow
def test_what_was_killed_goes_on_to_the_same_curve(
    geoaug: Any, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = trained / "config.yaml"
    more = ("--config", config, "--trainer.max_epochs", 4, "--device", "cpu")
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert geoaug("fit", *more, "-o", whole).code == 0
    step = ClassificationTask.training_step

    def killed(self: ClassificationTask, batch: Any, batch_idx: int) -> Any:
        if self.current_epoch == 2 and batch_idx == 1:
            raise OSError("killed")
        return step(self, batch, batch_idx)

    monkeypatch.setattr(ClassificationTask, "training_step", killed)
    assert geoaug("fit", *more, "-o", broken).code == 1
    monkeypatch.undo()
    assert not (broken / "model.safetensors").exists()
    again = geoaug("fit", *more, "-o", broken)
    assert again.code == 2
    assert "--resume" in again.err
    resumed = geoaug("fit", "--resume", "-o", broken)
    assert resumed.code == 0
    assert re.findall(r"epoch (\d) of 4", resumed.err) == ["3", "4"], "the second epoch was no better, and is kept"
    assert rows(broken) == rows(whole)
    one, other = (load_model(folder / "model.safetensors") for folder in (whole, broken))
    for name, value in one.network.state_dict().items():
        assert value.equal(other.network.state_dict()[name]), name


@pytest.mark.slow
def test_two_processes_write_once_and_train_like_one_with_the_doubled_batch(
    geoaug: Any, chips: Path, tmp_path: Path
) -> None:
    same = ("--weights", "none", "--input-size", 32, "--device", "cpu", "--epochs", 2, "--model.network.norm", "group",
            "--model.network.dropout", 0, "--trainer.precision", "32-true")  # fmt: skip
    assert geoaug("fit", "--data", chips, "-o", tmp_path / "one", "--batch-size", 16, *same).code == 0
    done = own_process("--data", chips, "-o", tmp_path / "two", "--batch-size", 8, "--trainer.devices", 2, *same)
    out, err = done.communicate()
    assert done.returncode == 0, err
    assert out.count("chips lie in a folder for each class") == out.count("wrote    ") / 2 == 1
    assert err.count("epoch 2 of 2") == 1
    assert [path.name for path in (tmp_path / "two" / "logs").iterdir()] == ["run_0"]
    one, two = (rows(tmp_path / name) for name in ("one", "two"))
    assert len(two) == 2
    for mine, theirs in zip(one, two, strict=True):
        assert float(theirs["val/loss"]) == pytest.approx(float(mine["val/loss"]), rel=0.01)
    expected = load_model(tmp_path / "one" / "model.safetensors").network.state_dict()
    for name, value in load_model(tmp_path / "two" / "model.safetensors").network.state_dict().items():
        torch.testing.assert_close(value, expected[name], rtol=0.05, atol=2e-3)


def test_processes_that_are_started_together_do_not_each_choose(
    geoaug: Any, chips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    for rank in ("0", "1"):
        monkeypatch.setenv("RANK", rank)
        done = geoaug("fit", "--data", chips, "-o", tmp_path / "run", *QUICK)
        assert done.code == 2
        assert "--choose-only" in done.err
        assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_killed_process_leaves_what_goes_on_to_the_same_curve(geoaug: Any, trained: Path, tmp_path: Path) -> None:
    more = ("--config", trained / "config.yaml", "--trainer.max_epochs", 4, "--device", "cpu")
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    running = own_process(*more, "-o", broken)
    assert running.stderr is not None
    for line in running.stderr:
        if "epoch 2 of 4" in line:
            break
    running.send_signal(signal.SIGKILL)  # in the third epoch
    running.communicate()
    assert running.returncode == -signal.SIGKILL
    assert not (broken / "model.safetensors").exists()
    assert 1 <= len(rows(broken)) < 4
    resumed = own_process("--resume", "-o", broken)
    _, err = resumed.communicate()
    assert resumed.returncode == 0, err
    # The line of the second epoch comes just before its checkpoint.
    assert re.findall(r"epoch (\d) of 4", err) in (["2", "3", "4"], ["3", "4"])
    assert geoaug("fit", *more, "-o", whole).code == 0
    assert (broken / "curves.csv").read_bytes() == (whole / "curves.csv").read_bytes()
    one, other = (load_model(folder / "model.safetensors") for folder in (whole, broken))
    for name, value in one.network.state_dict().items():
        assert value.equal(other.network.state_dict()[name]), name


@pytest.mark.slow
def test_ctrl_c_ends_with_130_and_can_be_resumed(
    geoaug: Any, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = ClassificationTask.training_step

    def interrupted(self: ClassificationTask, batch: Any, batch_idx: int) -> Any:
        if self.current_epoch == 1:
            raise KeyboardInterrupt
        return step(self, batch, batch_idx)

    monkeypatch.setattr(ClassificationTask, "training_step", interrupted)
    before = signal.getsignal(signal.SIGINT)
    done = geoaug("fit", "--config", trained / "config.yaml", "--device", "cpu", "-o", tmp_path / "run")
    assert done.code == 130
    assert "--resume" in done.err
    assert signal.getsignal(signal.SIGINT) is before
    monkeypatch.undo()
    assert geoaug("fit", "--resume", "-o", tmp_path / "run").code == 0
    assert len(rows(tmp_path / "run")) == 2


def test_the_precision_that_is_told_is_the_one_that_is_said(geoaug: Any, chips: Path, tmp_path: Path) -> None:
    for told in (("--trainer.precision", "32-true"), ("--trainer.precision=32-true",)):
        done = geoaug("fit", "--data", chips, "-o", tmp_path / "run", "--epochs", 1, "--choose-only", *QUICK, *told)
        assert done.code == 0, done.err
        assert re.search(r"precision +32-true +as given", done.out)
        assert yaml.safe_load((tmp_path / "run" / "chosen.yaml").read_text())["trainer"]["precision"] == "32-true"


@pytest.mark.slow
def test_masks_are_segmented_over_blocks_of_ground(geoaug: Any, tmp_path: Path) -> None:
    made = write_scene(tmp_path, size=256)
    weights = write_weights(tmp_path / "w.pth")
    done = geoaug(
        "fit", "--data", made.image, "--labels", made.labels, "--weights", weights, "-b", "B04,B03,B02,B08",
        "--tile", 32, "--epochs", 1, "-o", tmp_path / "run", "--device", "cpu",
    )  # fmt: skip
    assert done.code == 0, done.err
    assert re.search(r"stem +copy", done.out)
    assert re.search(r"split .* by blocks", done.out)
    card = load_model(tmp_path / "run" / "model.safetensors").card
    assert (card.task, card.gsd_m, card.architecture.decoder) == ("segmentation", 10.0, "unet")
    assert card.classes[0].name == "water"


@pytest.mark.slow
@pytest.mark.real_data
def test_a_small_scene_with_three_labelled_places_is_learned_and_predicted(
    geoaug: Any, shared_data: Path, tmp_path: Path
) -> None:
    folder, bands = shared_data / "landsat8-elkton", ("B2", "B3", "B4", "B5", "B6", "B7")
    scene, labels = tmp_path / "scene.tif", folder / "L8-Labels-Elkton-VA.tiff"
    with rasterio.open(folder / "L8-B2-Elkton-VA.tiff") as first:
        profile = {**first.profile, "count": len(bands), "nodata": 0}
    with rasterio.open(scene, "w", **profile) as file:
        for place, band in enumerate(bands, 1):
            with rasterio.open(folder / f"L8-{band}-Elkton-VA.tiff") as one:
                file.write(one.read(1), place)
        file.descriptions = bands
    done = geoaug(
        "fit", "--data", scene, "--sensor", "landsat-8-l1", "--labels", labels, "--device", "cpu", "--epochs", 8,
        "--weights", shared_data / "pretrained" / "resnet18_imagenet.pth", "-o", tmp_path / "run",
        "--trainer.precision", "32-true",
    )  # fmt: skip
    assert done.code == 0, done.err
    model = tmp_path / "run" / "model.safetensors"
    metrics = load_model(model).card.metrics
    assert metrics["val/accuracy"] > 0.8
    assert metrics["test/accuracy"] > 0.8
    done = geoaug("predict", model, scene, "--sensor", "landsat-8-l1", "-o", tmp_path / "map", "--device", "cpu")
    assert done.code == 0, done.err
    with rasterio.open(tmp_path / "map" / "scene_classes.tif") as file, rasterio.open(labels) as truth:
        found, wanted = file.read(1), truth.read(1)
    known = wanted != 255
    assert (found[known] == wanted[known]).mean() > 0.8


@pytest.mark.slow
def test_numbers_of_a_column_are_regressed(geoaug: Any, chips: Path, tmp_path: Path) -> None:
    catalog = Catalog.from_folder(chips)
    values = np.arange(len(catalog), dtype=np.float64) * 7 + 1000
    catalog.with_column("biomass", pa.array(values)).save(tmp_path / "c.parquet")
    done = geoaug(
        "fit", "--data", tmp_path / "c.parquet", "--target", "biomass", "--epochs", 1, "-o", tmp_path / "run", *QUICK
    )
    assert done.code == 0, done.err
    assert re.search(r"task +regression", done.out)
    model = load_model(tmp_path / "run" / "model.safetensors")
    assert model.card.training["target_scale"][0] == pytest.approx(1120, rel=0.05)
    done = geoaug("predict", tmp_path / "run" / "model.safetensors", chips, "-o", tmp_path / "p", "--format", "csv")
    assert done.code == 0, done.err
    assert (tmp_path / "p" / "predictions.csv").read_text().startswith('"chip","label","value"')


@pytest.mark.slow
@pytest.mark.parametrize("example", [path for path in EXAMPLES if "trainer:" in path.read_text()], ids=lambda p: p.stem)
def test_every_example_trains_for_a_step(geoaug: Any, example: Path, chips: Path, tmp_path: Path) -> None:
    made = write_scene(tmp_path, size=512)
    told = {
        "classification": ("--data.source", chips, "--data.batch_size", 8, "--data.output_size", 32),
        "segmentation": ("--data.source", made.image, "--data.labels", made.labels, "--data.batch_size", 8),
    }
    content = yaml.safe_load(example.read_text())
    stages = '[{"train": "all"}]'
    done = geoaug(
        "fit", "--config", example, *told[content["model"]["task"]], "--model.network.weights", "null",
        "--model.training.stages", stages, "--trainer.max_epochs", 1, "--trainer.limit_train_batches", 1,
        "--trainer.limit_val_batches", 1, "--trainer.limit_test_batches", 1, "--trainer.accelerator", "cpu",
        "--data.statistics_file", tmp_path / "s.yaml", "-o", tmp_path / "run",
    )  # fmt: skip
    assert done.code == 0, done.err
    assert load_model(tmp_path / "run" / "model.safetensors").card.task == content["model"]["task"]
    resolved = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert resolved["trainer"]["max_epochs"] == 1


def test_what_is_wrong_is_told_in_one_line(geoaug: Any, chips: Path, trained: Path, tmp_path: Path) -> None:
    other, hashed = write_weights(tmp_path / "r34.pth", "resnet34"), tmp_path / "net-deadbeef.pth"
    write_weights(hashed)
    config = ("--config", trained / "config.yaml")
    flat = write_chips(tmp_path / "flat" / "x", count=1, classes=("only",))
    for arguments, code, said in (
        (("fit",), 2, "--data FOLDER, or --config"),
        (("fit", *config, "--bands", "red"), 2, "with --config, write it as in the file"),
        (("fit", *config, "--data", chips), 2, "give --config or --data"),
        (("fit", *config, "--wrong", "1"), 2, "no such option or argument: --wrong"),
        (("fit", *config, "--trainer.max_epoch", "many"), 2, "configuration:"),
        (("fit", *config, "--model.task", "guessing"), 2, "guessing"),
        (("fit", *config, "--data.bands", "[red, purple]", "-o", tmp_path / "a"), 2, "purple"),
        (("fit", "--data", chips, "--model", "vgg"), 2, "resnet18, resnet34"),
        (("fit", "--data", chips, "--weights", other, "-o", tmp_path / "b"), 2, "it is a resnet34"),
        (("fit", "--data", chips, "--weights", hashed, "-o", tmp_path / "c"), 2, "SHA-256"),
        (("fit", "--data", chips, "--weights", "IMAGENET9", "-o", tmp_path / "c"), 2, "IMAGENET1K_V1"),
        (("fit", "--data", flat, "-o", tmp_path / "d", *QUICK), 2, ""),
        (("fit", "--data", tmp_path / "nowhere", "-o", tmp_path / "d"), 2, "nowhere"),
        (("fit", "--resume", "-o", tmp_path / "e"), 2, "no such configuration"),
        (("test",), 2, "name a model file"),
        (("test", tmp_path / "none.safetensors"), 2, "no such model file"),
        (("test", trained / "checkpoints" / "last.ckpt"), 2, "model.safetensors"),
        (("test", trained / "model.safetensors", "--device", "tpu"), 2, "choose auto, cpu or cuda"),
        (("fit", "--data", chips, "--device", "tpu", "-o", tmp_path / "f"), 2, "choose auto, cpu or cuda"),
        (("fit", "--data", chips, "--choose-only", "--dropout", "1.5", "-o", tmp_path / "f"), 2, "--dropout 1.5"),
        (("fit", "--data", chips, "--choose-only", "--lr", "nan", "-o", tmp_path / "f"), 2, "--lr nan"),
        (("fit", "--data", chips, "--choose-only", "--recipe", "nosuch", "-o", tmp_path / "f"), 2, "nosuch"),
        (("fit", "--data", chips, "--choose-only", "--weights", "no.pth", "-o", tmp_path / "f"), 2, "no.pth"),
        (("fit", *config, "--trainer.max_epoch", "3", "-o", tmp_path / "g"), 2, "max_epoch"),
        (("test", trained / "model.safetensors", "--split", "nope"), 2, "no split 'nope'"),
    ):
        done = geoaug(*arguments)
        assert done.code == code, (arguments, done.err)
        assert said in done.err, (arguments, done.err)
        assert sum(line.startswith("geoaug: error:") for line in done.err.splitlines()) == 1, done.err


@pytest.mark.slow
def test_data_and_files_that_do_not_fit_are_told_before_an_epoch(
    geoaug: Any, chips: Path, trained: Path, tmp_path: Path
) -> None:
    split = tmp_path / "split"
    write_chips(split / "train", count=3, classes=CLASSES[:2])
    write_chips(split / "val", count=3)
    state = torch.load(write_weights(tmp_path / "w.pth"), weights_only=True)
    torch.save({**state, "conv1.weight": torch.randn(64, 13, 7, 7)}, tmp_path / "w13.pth")
    tampered = bytearray((trained / "model.safetensors").read_bytes())
    tampered[-5] ^= 1
    (tmp_path / "tampered.safetensors").write_bytes(tampered)
    made = write_scene(tmp_path, size=128)
    with rasterio.open(made.labels) as file:
        ids, profile = file.read(1).astype("int16"), {**file.profile, "dtype": "int16"}
    ids[:60] = -3
    with rasterio.open(tmp_path / "below.tif", "w", **profile) as file:
        file.write(ids, 1)
    statistics = yaml.safe_load((trained / "statistics.yaml").read_text())
    del statistics["bands"]["green"]
    (tmp_path / "two.yaml").write_text(yaml.safe_dump(statistics))
    of_chips = ("fit", "--data", chips, "-o", tmp_path / "run", "--input-size", 32, "--batch-size", 8)
    of_13 = ("--weights", tmp_path / "w13.pth")
    for arguments, said in (
        (("fit", "--data", split, "-o", tmp_path / "run", *QUICK), "training split has no label of town"),
        ((*of_chips, *of_13), "weights_bands"),
        ((*of_chips, *of_13, "--model.network.weights_bands", "[red, green, blue]"), "take 13 bands, and 3 are named"),
        ((*of_chips, "--weights", tmp_path / "w.pth", "--model.network.sha256", "deadbeef"), "not deadbeef"),
        ((*of_chips, "--weights", tmp_path / "tampered.safetensors"), "digest does not fit"),
        ((*of_chips, "--weights", "none", "--data.statistics_file", tmp_path / "two.yaml"), "of band 'green'"),
        ((*of_chips, "--weights", "none", "--data.normalize", tmp_path / "two.yaml"), "of band 'green'"),
        (
            ("fit", "--data", made.image, "--labels", tmp_path / "below.tif", "-o", tmp_path / "run", *QUICK),
            "hold the id -3",
        ),
        (("test", tmp_path / "tampered.safetensors"), "digest does not fit"),
    ):
        done = geoaug(*arguments)
        assert done.code == 2, (arguments, done.err)
        assert said in done.err, (arguments, done.err)
        assert sum(line.startswith("geoaug: error:") for line in done.err.splitlines()) == 1, done.err
        assert "epoch 1" not in done.err


@pytest.mark.slow
def test_a_training_begun_anew_measures_anew(geoaug: Any, chips: Path, tmp_path: Path) -> None:
    for bands in ("red,green", "red,green,blue"):
        done = geoaug("fit", "--data", chips, "-o", tmp_path / "run", "-b", bands, "--overwrite", "--epochs", 1, *QUICK)
        assert done.code == 0, done.err
    kept = yaml.safe_load((tmp_path / "run" / "statistics.yaml").read_text())
    assert list(kept["bands"]) == ["red", "green", "blue"]


@pytest.mark.slow
def test_labels_and_weights_that_do_not_fit_are_told(geoaug: Any, tmp_path: Path) -> None:
    made = write_scene(tmp_path, size=128)
    weights = write_weights(tmp_path / "w.pth")
    config = tmp_path / "c.yaml"
    content: dict[str, Any] = {
        "data": {"source": str(made.image), "labels": str(made.labels), "size": 32, "batch_size": 8},
        "model": {"task": "segmentation", "network": {"decoder": "fpn"}},
        "trainer": {"max_epochs": 1, "accelerator": "cpu"},
        "run": {"output": str(tmp_path / "run")},
    }
    config.write_text(yaml.safe_dump(content))
    there = sorted(set(np.unique(rasterio.open(made.labels).read(1)).tolist()) - {255})
    for arguments, code, said in (
        (("--data.class_ids", [*there, 77]), 2, "no label of class 77"),
        (("--data.class_ids", there[:2]), 1, "not among the classes"),
        (
            ("--data.class_ids", there, "--model.network.weights", weights, "--model.network.weights_bands", "[a, b]"),
            2,
            "the weights take 3 bands, and 2 are named",
        ),
        (("--data.class_ids", there, "--model.network.norm", "frozen"), 2, "without weights"),
        (("--data.class_ids", there, "--model.loss.class_weights", "[1, 2]"), 2, "2 class_weights for"),
    ):
        done = geoaug("fit", "--config", config, *arguments, "--overwrite")
        assert done.code == code, (arguments, done.err)
        assert said in done.err, (arguments, done.err)
        assert not (tmp_path / "run" / "model.safetensors").exists()
