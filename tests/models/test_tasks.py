"""The Lightning tasks: they learn, freeze what they say, resume where they stopped, and say what is wrong."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import matplotlib.image
import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import CSVLogger
from tiny import TinyNet, TinyPixels, chips
from torch import Tensor
from torch.utils.data import DataLoader

from geoaug import Compose, get_sensor
from geoaug.augment import RandomD4
from geoaug.errors import ConfigurationError
from geoaug.models import (
    ChangeTask,
    ClassificationTask,
    RegressionTask,
    SegmentationTask,
    SmallBatchWarning,
    Stage,
    Training,
    load_model,
    resnet18,
    save_model,
    siamese_resnet,
)
from geoaug.models.tasks.metrics import class_metrics, confusion_figure, log_figure, readable

CLASSES = ["a", "b", "c"]
SUPPORT = Path(__file__).parents[1] / "support"

# Lightning's advice about workers, logging and loaders, and its own deprecations, are beside the point here.
pytestmark = pytest.mark.filterwarnings("ignore:.*:UserWarning", "ignore:.*:DeprecationWarning")


def trainer_for(folder: Path, **options: Any) -> pl.Trainer:
    return pl.Trainer(
        **{
            "max_epochs": 3,
            "accelerator": "cpu",
            "devices": 1,
            "default_root_dir": folder,
            "logger": False,
            "enable_checkpointing": False,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            **options,
        }
    )


def loaders(batch: int = 16, data: list[dict[str, Tensor]] | None = None) -> tuple[DataLoader, DataLoader]:
    data = chips() if data is None else data
    return DataLoader(data, batch, shuffle=True), DataLoader(data, batch)


class Curve(pl.Callback):
    """Losses of every step."""

    def __init__(self) -> None:
        self.losses: list[float] = []

    def on_train_batch_end(self, trainer: pl.Trainer, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.losses.append(float(outputs["loss"]))


def test_a_classification_learns_and_reports_overall_and_each_class(tmp_path: Path) -> None:
    torch.manual_seed(0)
    compose = Compose([RandomD4()], get_sensor("rgb").with_scaling(1.0), normalize=([0.3] * 3, [1.0] * 3))
    task = ClassificationTask(
        TinyNet(), CLASSES, compose, Training(lr=0.02, ema_decay=0.8), class_weights=[1, 2, 1], label_smoothing=0.05
    )
    logger = CSVLogger(tmp_path)
    trainer = trainer_for(tmp_path, max_epochs=8, logger=logger)
    trainer.fit(task, *loaders())
    found = trainer.callback_metrics
    assert float(found["val/accuracy"]) > 0.9
    each = torch.stack([found[f"val/accuracy/{name}"] for name in CLASSES])
    torch.testing.assert_close(each.mean(), found["val/accuracy_macro"])
    picture = matplotlib.image.imread(Path(logger.log_dir) / "val" / "confusion.png")
    assert picture[..., :3].std() > 0.05
    # The average is what is evaluated, and what predicts.
    task.eval()
    image = torch.randn(2, 3, 12, 12)
    assert torch.equal(task(image), task.averaged.module(image))
    assert not torch.equal(task(image), task.network.eval()(image))
    predicted = trainer.predict(task, loaders()[1])
    torch.testing.assert_close(predicted[0].sum(1), torch.ones(16))


def test_what_a_stage_does_not_train_stays_bit_equal(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = TinyNet()
    states: list[dict[str, Tensor]] = []

    class Note(pl.Callback):
        def on_train_epoch_end(self, trainer: pl.Trainer, module: Any) -> None:
            states.append({name: value.clone() for name, value in network.state_dict().items()})

    before = {name: value.clone() for name, value in network.state_dict().items()}
    training = Training(lr=0.05, stages=(Stage("head", 1), Stage("+layer4", 1), Stage("all")))
    trainer_for(tmp_path, callbacks=[Note()]).fit(ClassificationTask(network, CLASSES, training=training), *loaders())

    def changed(first: dict[str, Tensor], second: dict[str, Tensor]) -> set[str]:
        return {name.split(".")[0] for name, value in second.items() if not torch.equal(first[name], value)}

    # Statistics of batch norm are part of the state: frozen means them, too.
    assert changed(before, states[0]) == {"fc"}
    assert changed(states[0], states[1]) == {"fc", "layer4"}
    assert changed(states[1], states[2]) == {"fc", "layer4", "conv1", "bn1"}


def test_a_killed_training_resumes_to_the_same_curve(tmp_path: Path) -> None:
    training = Training(lr=0.02, stages=(Stage("head", 2), Stage("all")), ema_decay=0.9, seed=7)

    def task() -> ClassificationTask:
        torch.manual_seed(1)
        compose = Compose([RandomD4()], get_sensor("rgb").with_scaling(1.0), normalize=([0.0] * 3, [1.0] * 3))
        return ClassificationTask(TinyNet(dropout=0.3), CLASSES, compose, training)

    class Kill(pl.Callback):
        def on_train_batch_end(self, trainer: pl.Trainer, *others: Any) -> None:
            if trainer.current_epoch == 3 and others[-1] == 1:
                raise MemoryError("killed")

    def saving(folder: str) -> pl.callbacks.ModelCheckpoint:
        return pl.callbacks.ModelCheckpoint(tmp_path / folder, save_last=True, save_top_k=1)

    whole = Curve()
    complete = task()
    reference = trainer_for(tmp_path, max_epochs=6, callbacks=[whole, saving("whole")], enable_checkpointing=True)
    reference.fit(complete, *loaders())
    first = Curve()
    broken = trainer_for(tmp_path, max_epochs=6, callbacks=[first, saving("broken"), Kill()], enable_checkpointing=True)
    with pytest.raises(MemoryError, match="killed"):
        broken.fit(task(), *loaders())
    torch.manual_seed(999)  # another process starts with another state
    second, resumed = Curve(), task()
    torch.manual_seed(998)
    trainer = trainer_for(tmp_path, max_epochs=6, callbacks=[second, saving("again")], enable_checkpointing=True)
    trainer.fit(resumed, *loaders(), ckpt_path=tmp_path / "broken" / "last.ckpt")
    assert first.losses[:9] == whole.losses[:9]
    assert second.losses == whole.losses[9:]
    for name, value in complete.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name
    assert trainer.callback_metrics["val/accuracy"] == reference.callback_metrics["val/accuracy"]


@pytest.mark.slow
def test_two_processes_train_like_one_with_the_doubled_batch(tmp_path: Path) -> None:
    found = []
    for processes, batch in ((1, 16), (2, 8)):
        out = tmp_path / f"{processes}.pt"
        command = [sys.executable, str(SUPPORT / "train_processes.py"), str(processes), str(batch), str(out)]
        done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
        assert done.returncode == 0, done.stderr
        found.append(torch.load(out, weights_only=True))
    one, two = found
    for name, value in one["end"].items():
        assert torch.equal(one["start"][name], two["start"][name])
        # Sums in another order, over ten steps.
        torch.testing.assert_close(two["end"][name], value, rtol=1e-3, atol=1e-4)
        assert not torch.equal(value, one["start"][name])
    assert two["metrics"]["val/loss"] == pytest.approx(one["metrics"]["val/loss"], abs=1e-3)
    assert two["metrics"]["val/accuracy"] == pytest.approx(one["metrics"]["val/accuracy"], abs=0.03)


def test_pixels_without_label_or_data_count_nowhere(tmp_path: Path) -> None:
    torch.manual_seed(0)
    data = []
    for chip in chips(24):
        mask = chip["image"].argmax(0)
        mask[:2] = 255
        valid = torch.ones(1, 12, 12, dtype=torch.bool)
        valid[:, :, :3] = False
        wrong = torch.where(valid[0], mask, 2)
        data.append({"image": chip["image"], "mask": wrong, "valid": valid})
    task = SegmentationTask(TinyPixels(), CLASSES, training=Training(lr=0.03), loss="dice", cross_entropy_share=0.5)
    trainer = trainer_for(tmp_path, max_epochs=10)
    trainer.fit(task, *loaders(8, data))
    batch = {name: torch.stack([chip[name] for chip in data]) for name in data[0]}
    answer = task.eval()(batch["image"]).argmax(1)
    known = (batch["mask"] != 255) & batch["valid"][:, 0]
    ious = [
        ((answer == k) & (batch["mask"] == k) & known).sum() / (((answer == k) | (batch["mask"] == k)) & known).sum()
        for k in range(3)
    ]
    torch.testing.assert_close(trainer.callback_metrics["val/iou"], torch.stack(ious).mean())
    torch.testing.assert_close(
        trainer.callback_metrics["val/accuracy"], (answer == batch["mask"])[known].float().mean()
    )
    assert float(trainer.callback_metrics["val/iou"]) > 0.5


def test_several_labels_at_once_are_learned(tmp_path: Path) -> None:
    torch.manual_seed(0)
    data = []
    for _ in range(48):
        label = torch.rand(3) > 0.5
        data.append({"image": torch.randn(3, 12, 12) + 2 * label[:, None, None], "label": label.long()})
    task = ClassificationTask(TinyNet(dropout=0.0), CLASSES, training=Training(lr=0.05), multilabel=True)
    trainer = trainer_for(tmp_path, max_epochs=10)
    trainer.fit(task, *loaders(16, data))
    assert float(trainer.callback_metrics["val/accuracy"]) > 0.9
    assert "val/f1/b" in trainer.callback_metrics


def test_numbers_are_learned_in_their_own_units(tmp_path: Path) -> None:
    torch.manual_seed(0)
    data = []
    for chip in chips(64):
        level = torch.rand(())
        image = chip["image"] * 0.3 + level
        data.append({"image": image, "target": 200 + 50 * level if len(data) % 9 else torch.tensor(torch.nan)})
    task = RegressionTask(TinyNet(outputs=1, dropout=0.0), training=Training(lr=0.05), scale=(225.0, 15.0))
    trainer = trainer_for(tmp_path, max_epochs=12)
    trainer.fit(task, *loaders(16, data))
    metrics = trainer.callback_metrics
    assert float(metrics["val/r2"]) > 0.8
    known = [chip for chip in data if chip["target"].isfinite()]
    answer = torch.cat(trainer.predict(task, DataLoader(known, 16)))[:, 0]
    truth = torch.stack([chip["target"] for chip in known])
    torch.testing.assert_close(metrics["val/mae"], (answer - truth).abs().mean(), rtol=1e-4, atol=1e-4)


def test_change_of_chips_is_trained_under_the_same_geometry(tmp_path: Path) -> None:
    torch.manual_seed(0)
    data = [{"image": torch.rand(2, 3, 32, 32), "label": torch.tensor(index % 2)} for index in range(8)]
    compose = Compose([RandomD4()], get_sensor("rgb").with_scaling(1.0))
    task = ChangeTask(siamese_resnet(norm="group"), augment=compose)
    trainer = trainer_for(tmp_path, max_epochs=1)
    trainer.fit(task, *loaders(4, data))
    assert "val/f1/changed" in trainer.callback_metrics


def test_mixing_is_off_unless_asked_for_and_trains_on_probabilities(tmp_path: Path) -> None:
    assert ClassificationTask(TinyNet(), CLASSES).mix is None
    task = ClassificationTask(TinyNet(), CLASSES, training=Training(mixup=0.4))
    seen: list[Tensor] = []
    loss_of = task.loss_of
    task.loss_of = lambda answer, batch: (seen.append(batch["label"]), loss_of(answer, batch))[1]  # type: ignore
    trainer_for(tmp_path, max_epochs=1, num_sanity_val_steps=0).fit(task, *loaders())
    assert seen[0].shape == (16, 3)
    assert seen[-1].dtype == torch.int64  # validation is not mixed
    with pytest.raises(ConfigurationError, match="mixup"):
        SegmentationTask(TinyPixels(), CLASSES, training=Training(mixup=0.4), loss="dice")


def test_a_trained_task_becomes_a_model_file(tmp_path: Path) -> None:
    torch.manual_seed(0)
    sensor = get_sensor("rgb")
    compose = Compose([], sensor, normalize=([0.4] * 3, [0.2] * 3))
    task = ClassificationTask(resnet18(bands=sensor, num_classes=3, norm="group"), CLASSES, compose)
    data = [
        {"image": (chip["image"] * 40 + 100).clamp(0, 255).to(torch.uint8), "label": chip["label"]} for chip in chips(6)
    ]
    trainer = trainer_for(tmp_path, max_epochs=1, enable_checkpointing=True)
    trainer.fit(task, *loaders(6, data))
    path = save_model(tmp_path / "model.safetensors", task.evaluated, task.card(gsd_m=10.0, tile_size=12))
    model = load_model(path)
    assert [one.name for one in model.card.classes] == CLASSES
    assert model.card.mean == (0.4,) * 3
    assert 0 <= model.card.metrics["val/accuracy"] <= 1
    batch = {"image": data[0]["image"][None]}
    with torch.no_grad():
        expected = task.eval()(task.augment(batch)["image"])
        torch.testing.assert_close(model.network(model.compose()(batch)["image"]), expected)
    # A checkpoint serves as weights, and knows its bands.
    trainer.save_checkpoint(tmp_path / "task.ckpt")
    again = resnet18(tmp_path / "task.ckpt", sensor.select("blue,red"), norm="group")
    ratio = again.conv1.weight / task.network.conv1.weight[:, [2, 0]]
    torch.testing.assert_close(ratio, ratio[:, :1, :1, :1].expand_as(ratio), rtol=1e-3, atol=1e-4)


def test_a_class_without_examples_is_named(tmp_path: Path) -> None:
    data = [chip for chip in chips() if int(chip["label"]) != 1]
    with pytest.raises(ConfigurationError, match="no label of b in the whole first epoch"):
        trainer_for(tmp_path).fit(ClassificationTask(TinyNet(), CLASSES), *loaders(16, data))


def test_labels_out_of_range_and_batches_without_them_are_named(tmp_path: Path) -> None:
    data = chips(16)
    data[3]["label"] = torch.tensor(7)
    with pytest.raises(ConfigurationError, match="label 7"):
        trainer_for(tmp_path).fit(ClassificationTask(TinyNet(), CLASSES), *loaders(16, data))
    with pytest.raises(ConfigurationError, match="no labels under 'kind'"):
        trainer_for(tmp_path).fit(ClassificationTask(TinyNet(), CLASSES, target="kind"), *loaders())
    bad = [{**chip, "image": chip["image"].to(torch.uint8)} for chip in chips(16)]
    with pytest.raises(ConfigurationError, match="augment=Compose"):
        trainer_for(tmp_path).fit(ClassificationTask(TinyNet(), CLASSES), *loaders(16, bad))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"classes": ["a"]}, "too few"),
        ({"class_weights": [1.0]}, "1 class_weights for 3"),
        ({"ignore_index": 0, "augment": Compose([])}, "give both the same"),
        ({"network": resnet18(num_classes=4)}, "network of 4 outputs for 3"),
    ],
)
def test_tasks_that_do_not_fit_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        ClassificationTask(**{"network": TinyNet(), "classes": CLASSES, **arguments})


def test_metrics_of_each_class_are_those_of_their_definition() -> None:
    torch.manual_seed(0)
    truth, answer = torch.randint(0, 3, (4, 9, 9)), torch.randint(0, 3, (4, 9, 9))
    truth[:, 0] = 255
    metrics = class_metrics(4, 255, pixels=True)
    metrics.update(answer, truth)
    values = metrics.compute()
    known = truth != 255
    a, t = answer[known], truth[known]
    counts = values["confusion"]
    assert counts.tolist() == [[int(((t == i) & (a == j)).sum()) for j in range(4)] for i in range(4)]
    found = readable(values, ["p", "q", "r", "absent"], (counts.sum(0) + counts.sum(1)) > 0)
    own = [((t == k) & (a == k)).sum() / ((t == k) | (a == k)).sum() for k in range(3)]
    torch.testing.assert_close(found["iou"], torch.stack(own).mean())
    torch.testing.assert_close(found["accuracy/q"], (a[t == 1] == 1).float().mean())


def test_a_class_without_labels_has_no_recall_to_count() -> None:
    metrics = class_metrics(3, 255, pixels=True)
    metrics.update(torch.tensor([0, 0, 1, 2]), torch.tensor([0, 0, 0, 0]))
    values = metrics.compute()
    counts = values["confusion"]
    found = readable(values, ["p", "q", "r"], (counts.sum(0) + counts.sum(1)) > 0, counts.sum(1) > 0)
    assert float(found["accuracy_macro"]) == 0.5
    assert float(found["iou"]) == pytest.approx(0.5 / 3), "what is taken for a class that is not there costs"


def test_numbers_of_pixels_count_where_they_are_known_and_valid(tmp_path: Path) -> None:
    torch.manual_seed(0)
    data = []
    for chip in chips(24):
        target = chip["image"][:1] * 3 + 10
        target[:, 0] = torch.nan
        valid = torch.ones(1, 12, 12, dtype=torch.bool)
        valid[:, :, :4] = False
        data.append({"image": chip["image"], "target": torch.where(valid, target, 1000.0), "valid": valid})
    task = RegressionTask(TinyPixels(outputs=1), training=Training(lr=0.05), scale=(10.0, 3.0), loss="huber")
    trainer = trainer_for(tmp_path, max_epochs=10)
    trainer.fit(task, *loaders(8, data))
    # A single pixel of a thousand would make this impossible.
    assert float(trainer.callback_metrics["val/rmse"]) < 2.5
    batch = {name: torch.stack([chip[name] for chip in data]) for name in data[0]}
    known = batch["target"].isfinite() & batch["valid"]
    with torch.no_grad():
        error = (task.readable_answer(task.eval()(batch["image"])) - batch["target"])[known]
    torch.testing.assert_close(trainer.callback_metrics["val/rmse"], error.square().mean().sqrt(), rtol=1e-4, atol=1e-4)


def test_a_small_batch_is_warned_of_when_training_starts(tmp_path: Path) -> None:
    with pytest.warns(SmallBatchWarning, match="4 samples"):
        trainer_for(tmp_path, max_epochs=1).fit(ClassificationTask(TinyNet(), CLASSES), *loaders(4))


def test_pictures_go_to_loggers_that_take_them() -> None:
    given: list[tuple[str, int]] = []

    class Experiment:
        def add_figure(self, name: str, figure: Any, global_step: int, close: bool) -> None:
            given.append((name, global_step))
            assert len(figure.axes[0].texts) == 3  # what never happened is not written

    class Logger:
        experiment = Experiment()

    figure = confusion_figure(torch.tensor([[5, 0], [2, 3]]), ["field", "town"])
    log_figure([Logger()], "val/confusion", figure, 7)
    assert given == [("val/confusion", 7)]
    assert [text.get_text() for text in figure.axes[0].texts] == ["100", "40", "60"]
