"""ResNets on any bands: torchvision's keys and answers, and the dials that do what they say."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from torch import nn

import geoaug.models
from geoaug import get_sensor
from geoaug.errors import ConfigurationError
from geoaug.models import BACKBONES, BandStatistics, fpn, resnet18, siamese_resnet, unet

SENTINEL = get_sensor("sentinel-2-l2a")


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of ResNet18 weights with statistics of their own, in torchvision's keys."""
    torch.manual_seed(0)
    model = torchvision.models.resnet18(num_classes=10)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, std=0.2)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
            nn.init.uniform_(module.weight, 0.5, 1.5)
    path = tmp_path_factory.mktemp("weights") / "resnet18.pth"
    torch.save(model.state_dict(), path)
    return path


def torchvision_of(path: Path) -> nn.Module:
    model = torchvision.models.resnet18(num_classes=10)
    model.load_state_dict(torch.load(path, weights_only=True))
    return model.eval()


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name in BACKBONES[2:])) for name in BACKBONES]
)
def test_the_keys_and_shapes_are_torchvisions(name: str) -> None:
    with torch.device("meta"):
        theirs = torchvision.models.get_model(name, weights=None, num_classes=7).state_dict()
        ours = getattr(geoaug.models, name)(num_classes=7, dropout=0.3, block_dropout=0.1).state_dict()
    assert {key: value.shape for key, value in ours.items()} == {key: value.shape for key, value in theirs.items()}


@pytest.mark.parametrize("norm", ["batch", "frozen", "sync"])
def test_three_bands_answer_as_torchvision_does(weights: Path, norm: str) -> None:
    image = torch.randn(2, 3, 64, 64)
    ours = resnet18(weights, SENTINEL.select("B04,B03,B02"), norm=norm, dropout=0.5, block_dropout=0.5).eval()
    with torch.no_grad():
        torch.testing.assert_close(ours(image), torchvision_of(weights)(image), rtol=0, atol=1e-6)
    assert set(ours.state_dict()) == set(torchvision_of(weights).state_dict())


def test_bands_in_another_order_and_more_of_them_answer_the_same_at_first(weights: Path) -> None:
    image = torch.randn(2, 12, 64, 64)
    ours = resnet18(weights, SENTINEL, norm="frozen").eval()
    with torch.no_grad():
        torch.testing.assert_close(ours(image), torchvision_of(weights)(image[:, [3, 2, 1]]), rtol=0, atol=1e-6)


def test_means_of_bands_are_taken_up_by_the_running_mean(weights: Path) -> None:
    given = BandStatistics((5.0,) * 3, (1.0,) * 3)
    used_to = BandStatistics.unit(3)
    ours = resnet18(weights, 3, statistics=given, weights_statistics=used_to).eval()
    inside = torch.randn(2, 3, 64, 64)
    # Away from the border, where the padding is zero, not the mean.
    with torch.no_grad():
        plain = torchvision_of(weights)
        expected = plain.bn1(plain.conv1(inside))[..., 3:-3, 3:-3]
        found = ours.bn1(ours.conv1(inside + 5.0))[..., 3:-3, 3:-3]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    with pytest.raises(ConfigurationError, match="group norm has no running mean"):
        resnet18(weights, 3, statistics=given, weights_statistics=used_to, norm="group")


def test_another_number_of_classes_starts_the_last_layer_anew(weights: Path) -> None:
    network = resnet18(weights, num_classes=4)
    assert network(torch.randn(2, 3, 32, 32)).shape == (2, 4)
    assert torch.equal(network.layer4[0].conv1.weight, torchvision_of(weights).layer4[0].conv1.weight)
    assert resnet18(weights).fc.out_features == 10
    assert resnet18().fc.out_features == 1000


def test_dropout_is_off_in_evaluation_and_drops_whole_channels_in_training() -> None:
    torch.manual_seed(0)
    network = resnet18(num_classes=3, block_dropout=0.5)
    image = torch.randn(2, 3, 64, 64)
    network.eval()
    assert torch.equal(network(image), network(image))
    block = network.layer1[0]
    block.block_dropout.train()
    block.relu = nn.Identity()
    with torch.no_grad():
        x = torch.rand(2, 64, 16, 16)
        change = block(x) - x
    silent = (change == 0).flatten(2).all(2)
    assert 0.2 < float(silent.float().mean()) < 0.8
    assert not bool(((change == 0).flatten(2).any(2) & ~silent).any())


def test_group_norm_does_not_depend_on_the_batch(weights: Path) -> None:
    network = resnet18(weights, norm="group").train()
    assert not any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in network.modules())
    image = torch.randn(4, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(network(image)[:1], network(image[:1]), rtol=1e-4, atol=1e-5)


def test_what_cannot_be_built_is_said() -> None:
    with pytest.raises(ConfigurationError, match="without weights"):
        resnet18(norm="frozen")
    with pytest.raises(ConfigurationError, match=r"dropout=1.0"):
        resnet18(dropout=1.0)
    with pytest.raises(ConfigurationError, match=r"momentum .* within \(0, 1\]"):
        resnet18(bn_momentum=1.5)
    with pytest.raises(ConfigurationError, match="network of 4 bands"):
        resnet18(bands=4)(torch.randn(1, 3, 32, 32))
    with pytest.raises(ConfigurationError, match="bands=0"):
        resnet18(bands=0)


@pytest.mark.real_data
def test_pretrained_half_precision_weights_answer_as_torchvision_does(shared_data: Path) -> None:
    path = shared_data / "pretrained" / "resnet18_imagenet.pth"
    state = {name: value.float() for name, value in torch.load(path, weights_only=True).items()}
    plain = torchvision.models.resnet18()
    plain.load_state_dict({name: v.long() if name.endswith("tracked") else v for name, v in state.items()})
    ours = resnet18(path, SENTINEL.select("B04,B03,B02")).eval()
    assert ours.conv1.weight.dtype == torch.float32
    image = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(ours(image), plain.eval()(image), rtol=0, atol=1e-5)


@pytest.mark.parametrize("build", [resnet18, unet, fpn, siamese_resnet])
def test_an_option_that_there_is_not_is_an_error(build: Any) -> None:
    with pytest.raises(TypeError, match=r"no such option: droput; there are .*dropout"):
        build(bands=3, num_classes=2, droput=0.5)
