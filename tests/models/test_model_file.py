"""One file, and the next step needs nothing else: whole, checked, and the same network again."""

import json
import shutil
import struct
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import torch

from geoaug import get_sensor, load_recipe
from geoaug.errors import ConfigurationError, GeoaugError
from geoaug.models import Architecture, ClassName, ModelCard, load_model, read_card, resnet18, save_model
from geoaug.models.networks.resnet import ResNet

SENSOR = get_sensor("sentinel-2-l2a").select("B04,B03,B02,B08").for_baseline("04.00")


@pytest.fixture(scope="module")
def network() -> ResNet:
    torch.manual_seed(0)
    network = resnet18(bands=SENSOR, num_classes=3, dropout=0.2)
    network(torch.randn(8, 4, 32, 32))  # statistics that are not the first ones
    return network.eval()


@pytest.fixture(scope="module")
def card(network: ResNet) -> ModelCard:
    return ModelCard(
        network.architecture,
        SENSOR,
        "classification",
        mean=(0.1, 0.12, 0.08, 0.3),
        std=(0.05, 0.05, 0.04, 0.1),
        gsd_m=10.0,
        tile_size=64,
        classes=(ClassName("forest", (0, 128, 0)), ClassName("water", (0, 0, 255)), ClassName("town", (200, 0, 0))),
        recipe=load_recipe("light").resolved(),
        training={"seed": 3, "stages": ["head", "all"]},
        metrics={"val/accuracy": 0.93},
    )


@pytest.fixture(scope="module")
def written(network: ResNet, card: ModelCard, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("model") / "model.safetensors", network, card)


@pytest.fixture
def saved(written: Path, tmp_path: Path) -> Path:
    """A copy, which may be changed."""
    return shutil.copy(written, tmp_path / "model.safetensors")


def with_header(path: Path, change: Any) -> None:
    """Rewrite the JSON header of a safetensors file, leaving the tensors where they are."""
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    change(header)
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + content[8 + length :])


def test_a_model_comes_back_as_it_was_with_all_that_is_known(network: ResNet, card: ModelCard, saved: Path) -> None:
    model = load_model(saved)
    assert replace(model.card, versions={}) == card
    assert model.card.versions["torch"] == version("torch")
    assert model.network.sensor == SENSOR
    image = torch.randn(2, 4, 32, 32)
    with torch.no_grad():
        assert torch.equal(model.network(image), network(image))
    assert not model.network.training
    pixels = torch.full((1, 4, 8, 8), 2000, dtype=torch.uint16)
    scaled = model.compose()({"image": pixels})["image"]
    # (2000 - 1000) / 10000, less the mean, over the deviation
    expected = (0.1 - torch.tensor(card.mean)) / torch.tensor(card.std)
    torch.testing.assert_close(scaled[0, :, 0, 0], expected, rtol=1e-4, atol=1e-5)


def test_a_model_file_serves_as_weights_that_know_their_bands(network: ResNet, saved: Path) -> None:
    fewer = resnet18(saved, SENSOR.select("B08,B02"))
    ratio = fewer.conv1.weight / network.conv1.weight[:, [3, 2]]
    torch.testing.assert_close(ratio, ratio[:, :1, :1, :1].expand_as(ratio), rtol=1e-3, atol=1e-4)


def test_a_changed_weight_is_noticed(saved: Path) -> None:
    content = bytearray(saved.read_bytes())
    content[-5] ^= 1
    saved.write_bytes(content)
    with pytest.raises(ConfigurationError, match="digest does not fit"):
        load_model(saved)


@pytest.mark.parametrize("field", ["mean", "classes", "gsd_m", "sensor"])
def test_a_changed_card_is_noticed(saved: Path, field: str) -> None:
    def change(header: dict[str, Any]) -> None:
        card = json.loads(header["__metadata__"]["geoaug"])
        if field == "classes":
            card["classes"][0]["name"] = "sea"
        elif field == "sensor":
            card["sensor"]["bands"].reverse()
        else:
            card[field] = [0.0] * 4 if field == "mean" else 20.0
        header["__metadata__"]["geoaug"] = json.dumps(card)

    with_header(saved, change)
    with pytest.raises(ConfigurationError, match="digest does not fit"):
        load_model(saved)


def test_what_is_no_model_file_is_refused(saved: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no such model file"):
        load_model(tmp_path / "absent.safetensors")
    half = tmp_path / "half.safetensors"
    half.write_bytes(saved.read_bytes()[:1000])
    with pytest.raises(ConfigurationError, match="damaged"):
        load_model(half)
    with_header(saved, lambda header: header.pop("__metadata__"))
    with pytest.raises(ConfigurationError, match="without a model card"):
        load_model(saved)


def test_a_newer_format_is_named(saved: Path) -> None:
    def change(header: dict[str, Any]) -> None:
        card = json.loads(header["__metadata__"]["geoaug"])
        header["__metadata__"]["geoaug"] = json.dumps({**card, "format": 99})

    with_header(saved, change)
    with pytest.raises(ConfigurationError, match="format 99"):
        load_model(saved)


def test_a_file_appears_whole_or_not_at_all(
    network: ResNet, card: ModelCard, saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = saved.read_bytes()

    def fail(path: Path, target: Path) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(GeoaugError, match="disk full"):
        save_model(saved, network, replace(card, gsd_m=20.0))
    assert saved.read_bytes() == before
    assert [path.name for path in saved.parent.iterdir()] == [saved.name]


def test_what_would_not_be_a_model_is_not_saved(network: ResNet, card: ModelCard, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"something\.safetensors"):
        save_model(tmp_path / "model.pth", network, card)
    other = resnet18(bands=4, num_classes=3)
    with pytest.raises(ConfigurationError, match="the card describes"):
        save_model(tmp_path / "a.safetensors", other, card)
    torch.nn.init.constant_(other.fc.bias, torch.nan)
    with pytest.raises(ConfigurationError, match=r"'fc\.bias' is not finite"):
        save_model(tmp_path / "a.safetensors", other, replace(card, architecture=other.architecture))
    assert not list(tmp_path.glob("*.safetensors"))
    with pytest.raises(ConfigurationError, match="2 classes for a network of 3"):
        replace(card, classes=card.classes[:2])
    with pytest.raises(ConfigurationError, match="3 means"):
        replace(card, mean=(0.0,) * 3)


def test_the_card_is_read_without_the_weights(card: ModelCard, saved: Path) -> None:
    found = read_card(saved)
    assert found is not None
    assert found.classes == card.classes
    assert Architecture.from_dict(found.architecture.to_dict()) == card.architecture
