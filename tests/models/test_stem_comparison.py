"""Comparing stems: the probe is ridge regression with its ridge by leaving one out, and scores are what they say."""

from pathlib import Path

import pytest
import torch
import torchvision
from torch import Tensor

from geoaug import get_sensor
from geoaug.errors import ConfigurationError
from geoaug.models import BandStatistics, LabelledImages, compare_stems, resnet18
from geoaug.models.networks.stem_comparison import _RIDGES, first_response, linear_probe


def brute_force(features: Tensor, label: Tensor, unknown: Tensor) -> Tensor:
    """Ridge regression with an intercept, the ridge by leaving out one sample after another."""
    mean, deviation = features.mean(0), features.std(0)
    x, new = ((part - mean) / deviation for part in (features.double(), unknown.double()))
    y = torch.nn.functional.one_hot(label).double()

    def fitted(x: Tensor, y: Tensor, ridge: Tensor, at: Tensor) -> Tensor:
        level, centre = y.mean(0), x.mean(0)
        a = (x - centre).T @ (x - centre) + ridge * torch.eye(x.shape[1], dtype=torch.float64)
        return (at - centre) @ torch.linalg.solve(a, (x - centre).T @ (y - level)) + level

    errors = []
    for ridge in _RIDGES:
        kept = [torch.arange(len(x)) != i for i in range(len(x))]
        left = torch.stack([fitted(x[k], y[k], ridge, x[i : i + 1])[0] for i, k in enumerate(kept)])
        errors.append(float((left - y).square().mean()))
    best = _RIDGES[int(torch.tensor(errors).argmin())]
    return fitted(x, y, best, new).argmax(1)


def test_the_probe_is_ridge_regression_with_leave_one_out() -> None:
    torch.manual_seed(0)
    label = torch.arange(24) % 3
    features = torch.randn(24, 6) + torch.nn.functional.one_hot(label, 6) * 1.5
    unknown = torch.randn(200, 6)
    assert torch.equal(linear_probe(features, label, unknown), brute_force(features, label, unknown))


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "resnet18.pth"
    torch.save(torchvision.models.resnet18().state_dict(), path)
    return path


def chips(count: int, seed: int) -> LabelledImages:
    generator = torch.Generator().manual_seed(seed)
    label = torch.arange(count) % 2
    image = torch.randn(count, 4, 32, 32, generator=generator)
    image[:, 0] += 0.8 * (2 * label - 1)[:, None, None]
    image[:, 3] -= 0.8 * (2 * label - 1)[:, None, None]
    return LabelledImages(image, label)


@pytest.mark.slow
def test_scores_tell_stems_that_see_the_difference_from_those_that_do_not(weights: Path) -> None:
    bands = get_sensor("sentinel-2-l2a").select("B04,B03,B02,B08")
    scores = compare_stems(
        chips(24, 0), chips(40, 1), weights, bands, stems=("copy", "random"), labels=(4, None), seeds=2
    )
    assert [(score.stem, score.labels) for score in scores] == [(s, n) for s in ("copy", "random") for n in (4, None)]
    by = {(score.stem, score.labels): score for score in scores}
    assert all(0 <= score.accuracy <= 1 and score.spread >= 0 for score in scores)
    assert by["copy", None].accuracy > 0.8  # red tells the two apart
    assert by["copy", None].spread == 0.0  # all labels, one network: nothing varies


def test_the_response_of_images_that_are_as_told_is_one(weights: Path) -> None:
    torch.manual_seed(0)
    unit = BandStatistics.unit(3)
    network = resnet18(weights, 3, statistics=unit, weights_statistics=unit)
    image = torch.randn(16, 3, 64, 64)
    network.bn1.running_var.copy_(network.conv1.weight.square().sum((1, 2, 3)))
    median, spread = first_response(network, image, 5)
    assert median == pytest.approx(1.0, abs=0.03)
    assert spread < 0.05


def test_what_cannot_be_compared_is_said(weights: Path) -> None:
    images = chips(8, 0)
    with pytest.raises(ConfigurationError, match="9 labels for each class, of which the rarest has 4"):
        compare_stems(images, images, weights, 4, labels=(9,))
    with pytest.raises(ConfigurationError, match="seeds=0"):
        compare_stems(images, images, weights, 4, seeds=0)
    with pytest.raises(ConfigurationError, match="have labels"):
        LabelledImages(images.image, images.label[:3])
