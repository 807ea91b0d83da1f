"""Narrow numbers where a device is good at them: chosen with a reason, for training alone."""

import warnings
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from made_chips import write_chips
from tiny import TinyNet, TinyPixels, chips
from torch import Tensor, nn
from torch.utils.data import DataLoader

from geoaug.models import ClassificationTask, SegmentationTask, Training, resnet18
from geoaug.models.fit.choices import FitRequest, choose
from geoaug.models.fit.devices import bfloat16_reason, device_of, lay_out

CPU, GPU = torch.device("cpu"), torch.device("cuda")


def cpu_with(monkeypatch: pytest.MonkeyPatch, *, bfloat16: bool) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: bfloat16)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


def gpu_of(monkeypatch: pytest.MonkeyPatch, *capability: int) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)


def test_devices_say_whether_they_are_good_at_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu_with(monkeypatch, bfloat16=False)
    assert device_of("auto") == device_of("gpu") == CPU
    assert bfloat16_reason(CPU) is None
    cpu_with(monkeypatch, bfloat16=True)
    assert "instructions" in (bfloat16_reason(CPU) or "")
    for capability, good in (((7, 5), False), ((8, 0), True), ((9, 0), True), ((12, 0), True)):
        gpu_of(monkeypatch, *capability)
        assert (device_of("auto"), device_of("cpu")) == (GPU, CPU)
        assert (bfloat16_reason(GPU) is not None) == good


def test_what_a_device_is_good_at_is_chosen_and_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = [str(write_chips(tmp_path / "chips"))]
    cpu_with(monkeypatch, bfloat16=True)
    found = choose(FitRequest(source, tmp_path / "a", weights="none"))
    assert found.configuration["trainer"]["precision"] == "bf16-mixed"
    assert [why for what, choice, why in found.lines if (what, choice) == ("precision", "bf16-mixed")]
    told = choose(FitRequest(source, tmp_path / "b", weights="none", precision="32-true"))
    assert told.configuration["trainer"]["precision"] == "32-true"
    assert ("precision", "32-true", "as given") in told.lines
    gpu_of(monkeypatch, 7, 0)
    old = choose(FitRequest(source, tmp_path / "c", weights="none"))
    assert old.configuration["trainer"]["precision"] == "32-true"
    assert choose(FitRequest(source, tmp_path / "d", weights="none", device="cpu")).lines == found.lines


def test_a_network_lies_channels_last_where_that_is_faster_and_says_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    network = resnet18(None, 5, num_classes=3).eval()
    images = torch.randn(2, 5, 64, 64)
    state = {name: value.clone() for name, value in network.state_dict().items()}
    cpu_with(monkeypatch, bfloat16=False)
    lay_out(network, CPU)
    assert network.layer2[0].conv2.weight.is_contiguous()
    expected = network(images)
    cpu_with(monkeypatch, bfloat16=True)
    lay_out(network, CPU)
    weight = network.layer2[0].conv2.weight
    assert weight.is_contiguous(memory_format=torch.channels_last)
    assert not weight.is_contiguous()
    assert network.features(images).shape[0] == 2
    torch.testing.assert_close(network(images), expected, rtol=1e-4, atol=1e-5)
    assert all(value.equal(state[name]) for name, value in network.state_dict().items())


class Watched(TinyNet):
    """Remembers the type of what its first layer gave, in training and in evaluation."""

    def __init__(self) -> None:
        super().__init__(dropout=0.0)
        self.types: dict[bool, torch.dtype] = {}
        self.conv1.register_forward_hook(lambda module, given, found: self.types.update({self.training: found.dtype}))


def fitted(
    network: nn.Module, task: type[ClassificationTask | SegmentationTask], folder: Path, **options
) -> pl.Trainer:
    data = chips(32)
    for chip in data:
        chip["mask"] = torch.full((12, 12), int(chip["label"]))
    trainer = pl.Trainer(
        max_epochs=2, accelerator="cpu", devices=1, precision="bf16-mixed", default_root_dir=folder, logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    made = task(network, ["a", "b", "c"], training=Training(lr=0.02), **options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Lightning's advice about loaders
        trainer.fit(made, DataLoader(data, 8, shuffle=True), DataLoader(data, 32))
    return trainer


def test_training_is_narrow_and_evaluation_is_not(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = Watched()
    trainer = fitted(network, ClassificationTask, tmp_path)
    assert network.types == {True: torch.bfloat16, False: torch.float32}
    data = chips(32)
    with torch.no_grad():
        answer = network.eval()(torch.stack([chip["image"] for chip in data]))
    truth = torch.stack([chip["label"] for chip in data])
    # Numbers of eight bits would be off by a thousandth.
    expected = nn.functional.cross_entropy(answer, truth)
    torch.testing.assert_close(trainer.callback_metrics["val/loss"], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("loss", ["cross_entropy", "focal", "dice", "lovasz"])
def test_every_loss_takes_its_sums_in_full(tmp_path: Path, loss: str) -> None:
    torch.manual_seed(0)
    given: list[Tensor] = []
    network = TinyPixels(dropout=0.0)

    class Task(SegmentationTask):
        def loss_of(self, answer: Tensor, batch: Any) -> Tensor:
            found = super().loss_of(answer, batch)
            given.extend([answer, found])
            return found

    trainer = fitted(network, Task, tmp_path, loss=loss)
    assert {value.dtype for value in given} == {torch.float32}
    assert float(trainer.callback_metrics["train/loss"]) > 0
