"""Weights from every place they come from, and a clear word about those that will not do."""

import hashlib
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import safetensors.torch
import torch
import torchvision

from geoaug import get_sensor
from geoaug.errors import ConfigurationError
from geoaug.models import (
    BandStatistics,
    ClassificationTask,
    ClassName,
    ModelCard,
    resnet18,
    resnet34,
    resnet50,
    save_model,
)


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    return torchvision.models.resnet18(num_classes=5).state_dict()


def saved(state: dict[str, Any], path: Path) -> Path:
    torch.save(state, path)
    return path


def the_same(network: torch.nn.Module, state: dict[str, torch.Tensor]) -> bool:
    own = network.state_dict()
    return all(torch.equal(own[name], value) for name, value in state.items())


def test_files_of_every_kind_give_the_same_network(state: dict[str, torch.Tensor], tmp_path: Path) -> None:
    safetensors.torch.save_file(state, tmp_path / "plain.safetensors")
    hanging = {f"network.{name}": value for name, value in state.items()} | {"loss.weight": torch.ones(3)}
    parallel = {f"module.{name}": value for name, value in state.items()}
    for path in (
        saved(state, tmp_path / "a.pth"),
        saved({"state_dict": hanging, "epoch": 3}, tmp_path / "b.ckpt"),
        saved(parallel, tmp_path / "c.pt"),
        tmp_path / "plain.safetensors",
    ):
        assert the_same(resnet18(str(path)), state), path


def test_the_average_kept_for_evaluation_comes_first(state: dict[str, torch.Tensor], tmp_path: Path) -> None:
    raw = {f"network.{name}": torch.zeros_like(value) for name, value in state.items()}
    averaged = {f"averaged.module.{name}": value for name, value in state.items()}
    assert the_same(resnet18(saved({"state_dict": raw | averaged}, tmp_path / "ema.ckpt")), state)


def test_weights_of_another_architecture_are_named(state: dict[str, torch.Tensor], tmp_path: Path) -> None:
    path = saved(state, tmp_path / "weights.pth")
    for other, name in ((resnet34, "resnet34"), (resnet50, "resnet50")):
        with pytest.raises(ConfigurationError, match=f"not the weights of a {name}: it is a resnet18"):
            other(path)
    with pytest.raises(ConfigurationError, match="not a ResNet"):
        resnet18(saved({"encoder.weight": torch.ones(3)}, tmp_path / "other.pth"))
    lacking = {name: value for name, value in state.items() if name != "layer2.0.bn1.weight"}
    with pytest.raises(ConfigurationError, match=r"'layer2.0.bn1.weight' is missing"):
        resnet18(saved(lacking, tmp_path / "lacking.pth"))


def test_a_wrong_hash_is_refused_given_or_in_the_name(state: dict[str, torch.Tensor], tmp_path: Path) -> None:
    path = saved(state, tmp_path / "weights.pth")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert the_same(resnet18(path, sha256=digest), state)
    named = path.rename(tmp_path / f"resnet18-{digest[:8]}.pth")
    assert the_same(resnet18(named), state)
    damaged = named.rename(tmp_path / "resnet18-00000000.pth")
    with pytest.raises(ConfigurationError, match=rf"its SHA-256 is {digest[:16]}\.\.\., not 00000000"):
        resnet18(damaged)
    with pytest.raises(ConfigurationError, match="damaged or another file"):
        resnet18(damaged, sha256="f" * 64)
    with pytest.raises(ConfigurationError, match="hexadecimal"):
        resnet18(damaged, sha256="xyz")


def test_a_wrong_count_of_bands_is_refused(state: dict[str, torch.Tensor], tmp_path: Path) -> None:
    sentinel = get_sensor("sentinel-2-l1c")
    many = {**state, "conv1.weight": torch.randn(64, 13, 7, 7)}
    path = saved(many, tmp_path / "thirteen.pth")
    with pytest.raises(ConfigurationError, match="take 13 bands, and 2 are named"):
        resnet18(path, sentinel, weights_bands=["red", "green"])
    # Unknown bands cannot be matched by name; known ones can, and thirteen for thirteen need no names.
    with pytest.raises(ConfigurationError, match="name the bands"):
        resnet18(path, 4)
    network = resnet18(path, sentinel.select("B04,B08"), weights_bands=sentinel)
    ratio = network.conv1.weight / many["conv1.weight"][:, [3, 7]]
    torch.testing.assert_close(ratio, ratio[:, :1, :1, :1].expand_as(ratio), rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(resnet18(path, sentinel).conv1.weight, many["conv1.weight"])


def test_half_precision_is_widened_and_what_overflowed_is_refused(
    state: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    half = {name: value.half() if value.dim() == 4 else value for name, value in state.items()}
    network = resnet18(saved(half, tmp_path / "half.pth"))
    assert {value.dtype for value in network.parameters()} == {torch.float32}
    assert torch.equal(network.conv1.weight, half["conv1.weight"].float())
    half["layer1.0.conv1.weight"] = (state["layer1.0.conv1.weight"] * 1e8).half()
    with pytest.raises(
        ConfigurationError, match=r"'layer1.0.conv1.weight' holds numbers that are not finite.*overflow"
    ):
        resnet18(saved(half, tmp_path / "broken.pth"))


def test_files_that_are_no_weights_are_refused(tmp_path: Path) -> None:
    (tmp_path / "text.pth").write_text("not weights")
    (tmp_path / "text.safetensors").write_text("not weights")
    saved([1, 2], tmp_path / "list.pth")
    saved({"code": Path("x")}, tmp_path / "code.pth")
    for name, message in (
        ("text.pth", "cannot be read as weights"),
        ("text.safetensors", "not a safetensors file"),
        ("list.pth", "holds a list"),
        ("code.pth", "no code"),
        ("absent.pth", "no such file"),
    ):
        with pytest.raises(ConfigurationError, match=message):
            resnet18(tmp_path / name)


def test_weights_of_torchvision_go_by_their_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigurationError, match="IMAGENET1K_V1"):
        resnet18("IMAGENET9K")
    for wrong in ("ResNet50_Weights.DEFAULT", torchvision.models.ResNet50_Weights.DEFAULT):
        with pytest.raises(ConfigurationError, match="are not resnet18's"):
            resnet18(wrong)
    # A cached file is checked, too: torch itself looks at the hash of what it downloads only.
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "resnet18-f37072fd.pth").write_bytes(b"damaged")
    with pytest.raises(ConfigurationError, match="damaged or another file"):
        resnet18("IMAGENET1K_V1")


def test_a_download_that_fails_says_where_to_put_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", fail)
    with pytest.raises(ConfigurationError, match=r"no route to host.*resnet18-f37072fd\.pth"):
        resnet18("DEFAULT")


def test_a_download_is_taken_through_torchvision(
    state: dict[str, torch.Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, str | None]] = []

    def download(url: str, target: str, hash_prefix: str | None, progress: bool = True) -> None:
        asked.append((url, hash_prefix))
        torch.save(state, target)

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", download)
    assert the_same(resnet18("ResNet18_Weights.IMAGENET1K_V1"), state)
    assert [hash_prefix for _, hash_prefix in asked] == ["f37072fd"]


def test_a_model_that_geoaug_trained_keeps_its_first_layer_and_its_classes(tmp_path: Path) -> None:
    """It is used to bands of mean 0 and std 1, not to ImageNet's colours, though it has three of them."""
    torch.manual_seed(2)
    network = resnet18(None, "rgb", num_classes=2)
    names = ("field", "town")
    classes = tuple(ClassName(name, (0, 0, 0)) for name in names)
    card = ModelCard(network.architecture, network.sensor, "classification", (0.4,) * 3, (0.1,) * 3, classes=classes)
    task = ClassificationTask(network, names)
    trainer = pl.Trainer(logger=False, enable_checkpointing=False, accelerator="cpu", barebones=True)
    trainer.strategy.connect(task)
    trainer.save_checkpoint(tmp_path / "own.ckpt")
    own = network.state_dict()
    colours = [[1.0, 0.9, 0.8], [0.9, 1.0, 0.9], [0.8, 0.9, 1.0]]
    statistics = BandStatistics((0.0,) * 3, (1.0,) * 3, tuple(map(tuple, colours)), 0.9)
    for path in (save_model(tmp_path / "own.safetensors", network, card), tmp_path / "own.ckpt"):
        for wanted, kept in ((names, True), (("field", "wood"), False), (None, True)):
            found = resnet18(path, "rgb", 2, statistics=statistics, classes=wanted).state_dict()
            assert torch.allclose(found["conv1.weight"], own["conv1.weight"], atol=1e-6)
            assert torch.allclose(found["bn1.running_mean"], own["bn1.running_mean"], atol=1e-6)
            assert torch.equal(found["fc.weight"], own["fc.weight"]) is kept, (path, wanted)
    plain = saved(own, tmp_path / "plain.pth")
    assert not torch.allclose(resnet18(plain, "rgb", 2, statistics=statistics).conv1.weight, network.conv1.weight)
