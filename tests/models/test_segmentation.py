"""Decoders on our ResNets: the same encoder, any size of image, and a clear word where the library is missing."""

import sys
from pathlib import Path

import pytest
import torch
import torchvision
from torch import nn

from geoaug import get_sensor
from geoaug.errors import ConfigurationError
from geoaug.models import Architecture, deeplabv3plus, fpn, resnet18, siamese_resnet, siamese_unet, unet
from geoaug.models.networks.batchnorm import FrozenBatchNorm
from geoaug.models.networks.build import build_network

RGBN = get_sensor("sentinel-2-l2a").select("B04,B03,B02,B08")


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "resnet18.pth"
    torch.save(torchvision.models.resnet18().state_dict(), path)
    return path


@pytest.mark.parametrize(("make", "name"), [(unet, "Unet"), (fpn, "FPN"), (deeplabv3plus, "DeepLabV3Plus")])
def test_the_network_is_the_librarys_with_our_encoder(weights: Path, make, name: str) -> None:
    smp = pytest.importorskip("segmentation_models_pytorch")  # a large one, so not when this file is collected
    ours = make("resnet18", weights, 3, num_classes=5).eval()
    theirs = getattr(smp, name)("resnet18", encoder_weights=None, classes=5).eval()
    theirs.encoder.load_state_dict(resnet18(weights).state_dict())
    theirs.decoder.load_state_dict(ours.pixels.decoder.state_dict())
    theirs.segmentation_head.load_state_dict(ours.pixels.head.state_dict())
    image = torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        torch.testing.assert_close(ours(image), theirs(image), rtol=1e-5, atol=1e-5)


def test_the_encoder_has_the_adapted_stem_of_the_resnet(weights: Path) -> None:
    ours, plain = unet("resnet18", weights, RGBN, stem="spectral"), resnet18(weights, RGBN, stem="spectral")
    encoder, whole = ours.encoder.state_dict(), plain.state_dict()
    assert set(whole) - set(encoder) == {"fc.weight", "fc.bias"}
    assert all(torch.equal(value, whole[name]) for name, value in encoder.items())


@pytest.mark.parametrize("size", [(33, 50), (7, 64)])
def test_images_of_any_size_come_back_in_their_size(size: tuple[int, int]) -> None:
    network = unet(bands=4, num_classes=3).eval()
    with torch.no_grad():
        assert network(torch.randn(1, 4, *size)).shape == (1, 3, *size)


def test_a_frozen_encoder_leaves_the_new_decoder_its_batch_norm(weights: Path) -> None:
    network = unet("resnet18", weights, 3, 2, norm="frozen", block_dropout=0.2, dropout=0.3)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in network.encoder.modules())
    assert any(isinstance(module, nn.BatchNorm2d) for module in network.pixels.modules())
    assert not any(isinstance(module, FrozenBatchNorm) for module in network.pixels.modules())
    dropping = {module.p for module in network.pixels.modules() if isinstance(module, nn.modules.dropout._DropoutNd)}
    assert dropping == {0.3}
    grouped = unet(norm="group")
    assert not any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in grouped.modules())


@pytest.mark.parametrize(
    "architecture",
    [
        Architecture("resnet18", 2, 3, decoder="unet", norm="frozen"),
        Architecture("resnet50", 2, 3, decoder="fpn", norm="group"),
        Architecture("resnet18", 2, 3, fusion="difference"),
        Architecture("resnet18", 2, 3, decoder="unet", fusion="absolute", dropout=0.2),
        Architecture("resnet34", 5, 2, block_dropout=0.1),
    ],
)
def test_an_architecture_is_built_again_from_what_is_written_down(architecture: Architecture) -> None:
    with torch.device("meta"):
        first, again = build_network(architecture), build_network(Architecture.from_dict(architecture.to_dict()))
    assert first.architecture == architecture
    shapes = {name: value.shape for name, value in first.state_dict().items()}
    assert {name: value.shape for name, value in again.state_dict().items()} == shapes


def test_without_the_library_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "segmentation_models_pytorch", None)
    with pytest.raises(ConfigurationError, match=r"geoaug\[segmentation\]"):
        unet()


def test_two_dates_that_are_the_same_have_no_change(weights: Path) -> None:
    network = siamese_resnet("resnet18", weights, 3, num_classes=2).eval()
    date = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        same = network(torch.stack((date, date), 1))
        torch.testing.assert_close(same, network.fc.bias.expand(2, -1))
        there = network(torch.stack((date, date.flip(-1) + 1), 1))
        back = network(torch.stack((date.flip(-1) + 1, date), 1))
        # The later less the earlier: turned around, what it adds changes its sign.
        torch.testing.assert_close(there - same, same - back, rtol=1e-4, atol=1e-5)
        absolute = siamese_resnet("resnet18", weights, 3, fusion="absolute").eval()
        swapped = [absolute(torch.stack(pair, 1)) for pair in ((date, date + 1), (date + 1, date))]
        torch.testing.assert_close(*swapped)


def test_change_is_told_for_each_pixel_between_two_dates_only() -> None:
    network = siamese_unet(bands=4).eval()
    with torch.no_grad():
        assert network(torch.randn(1, 2, 4, 40, 32)).shape == (1, 2, 40, 32)
    with pytest.raises(ConfigurationError, match="two dates"):
        network(torch.randn(1, 3, 4, 32, 32))
    with pytest.raises(ConfigurationError, match="fused"):
        siamese_unet(fusion="none")
