"""Which stem suits which data: what the features of a network are worth before it is trained, with few and many labels.

For every stem the network's batch norm is re-estimated on the training images, its features are taken once, and a
linear classifier is fitted to the labels in closed form. No gradient is computed, so that all stems take seconds. What
fine-tuning makes of them is measured by training.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Unpack

import torch
from torch import Tensor, nn

from geoaug.errors import ConfigurationError
from geoaug.models.networks.bands import Bands
from geoaug.models.networks.batchnorm import recalibrate_batchnorm
from geoaug.models.networks.resnet import ResNet, ResNetOptions, WeightsSource, pretrained_resnet
from geoaug.models.networks.statistics import measure_statistics
from geoaug.models.networks.stem import STEMS, Stem

__all__ = ["LabelledImages", "StemScore", "compare_stems", "linear_probe"]

_RIDGES = torch.logspace(-3, 5, 17, dtype=torch.float64)


@dataclass(frozen=True, slots=True, eq=False)
class LabelledImages:
    """Images as the network is given them (N, C, H, W), and their classes (N)."""

    image: Tensor
    label: Tensor

    def __post_init__(self) -> None:
        if self.image.dim() != 4 or self.label.shape != self.image.shape[:1]:
            raise ConfigurationError(
                f"images (N, C, H, W) have labels (N), not {tuple(self.image.shape)} and {tuple(self.label.shape)}"
            )


@dataclass(frozen=True, slots=True)
class StemScore:
    """How a stem did.

    Attributes:
        stem: which.
        labels: for each class; None for all.
        accuracy: mean over the seeds, of test images.
        spread: standard deviation over the seeds.
        response: variance of the first layer's answers to the training images, over the variance that the weights are
            used to (the running variance of their batch norm): the median filter's.
        response_spread: of its logarithm over the filters; 0 where all keep their variance alike.
    """

    stem: Stem
    labels: int | None
    accuracy: float
    spread: float
    response: float
    response_spread: float


def compare_stems(
    train: LabelledImages,
    test: LabelledImages,
    weights: WeightsSource,
    bands: Bands,
    *,
    backbone: str = "resnet18",
    stems: Sequence[Stem] = STEMS,
    labels: Sequence[int | None] = (5, None),
    seeds: int = 5,
    batch_size: int = 64,
    **options: Unpack[ResNetOptions],
) -> list[StemScore]:
    """Score every stem with every number of labels.

    Args:
        train: images to measure the statistics of, to re-estimate batch norm with, and to draw labels from.
        test: images that accuracy is of.
        weights: to adapt; see `resnet18`.
        bands: of the images.
        backbone: "resnet18" and so on.
        stems: to compare.
        labels: how many for each class, drawn anew for each seed; None for all (of which only a random stem varies).
        seeds: how often.
        batch_size: of the passes.
        **options: see `ResNetOptions`; `statistics` are measured on the training images unless given.

    Raises:
        ConfigurationError: no seed, or more labels than a class has.
    """
    if seeds < 1:
        raise ConfigurationError(f"seeds={seeds}: compare with one seed at least")
    fewest = int(torch.bincount(train.label).min())
    if too_many := [count for count in labels if count is not None and not 0 < count <= fewest]:
        raise ConfigurationError(f"{too_many[0]} labels for each class, of which the rarest has {fewest}")
    statistics = options.get("statistics") or measure_statistics(_parts(train.image, batch_size))
    found = []
    options["statistics"] = statistics
    for stem in stems:
        options["stem"] = stem
        # Only a random stem is another one with each seed.
        networks = seeds if stem == "random" else 1
        accuracies: dict[int | None, list[float]] = {count: [] for count in labels}
        for number in range(networks):
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(number)
                network = pretrained_resnet(backbone, weights, bands, 1, **options)
            if number == 0:
                response, apart = first_response(network, train.image, batch_size)
            recalibrate_batchnorm(network, _parts(train.image, batch_size))
            known, unknown = _features(network, train.image, batch_size), _features(network, test.image, batch_size)
            for seed in [number] if networks > 1 else range(seeds):
                for count in labels:
                    chosen = _chosen(train.label, count, seed)
                    answer = linear_probe(known[chosen], train.label[chosen], unknown)
                    accuracies[count].append(float((answer == test.label).double().mean()))
        for count, values in accuracies.items():
            scores = torch.tensor(values, dtype=torch.float64)
            spread = float(scores.std()) if len(values) > 1 else 0.0
            found.append(StemScore(stem, count, float(scores.mean()), spread, response, apart))
    return found


def linear_probe(features: Tensor, label: Tensor, unknown: Tensor) -> Tensor:
    """Classes of unknown features by ridge regression on one-hot labels.

    The ridge is the one with the least leave-one-out error, which has a closed form (Hastie et al., 2009, The Elements
    of Statistical Learning, equation 7.52 for linear smoothers).

    Args:
        features: (n, d).
        label: (n).
        unknown: (m, d).
    """
    mean, deviation = features.mean(0), features.std(0).clamp_min(1e-6)
    x, new = ((part - mean) / deviation for part in (features.double(), unknown.double()))
    y = nn.functional.one_hot(label).double()
    level = y.mean(0)
    u, s, vt = torch.linalg.svd(x, full_matrices=False)
    turned = u.T @ (y - level)
    best, least = _RIDGES[0], math.inf
    for ridge in _RIDGES:
        shrink = s.square() / (s.square() + ridge)
        leverage = (u.square() * shrink).sum(1) + 1 / len(x)
        error = (y - level - (u * shrink) @ turned) / (1 - leverage).clamp_min(1e-9)[:, None]
        loss = float(error.square().mean())
        if loss < least:
            best, least = ridge, loss
    coefficients = vt.T @ ((s / (s.square() + best))[:, None] * turned)
    answer: Tensor = new @ coefficients + level
    return answer.argmax(1)


def _parts(image: Tensor, batch_size: int) -> list[Tensor]:
    return [image[start : start + batch_size] for start in range(0, len(image), batch_size)]


def _chosen(label: Tensor, count: int | None, seed: int) -> Tensor:
    if count is None:
        return torch.arange(len(label))
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(label), generator=generator)
    return torch.cat([order[label[order] == number][:count] for number in range(int(label.max()) + 1)])


@torch.inference_mode()
def _features(network: ResNet, image: Tensor, batch_size: int) -> Tensor:
    network.eval()
    return torch.cat([network.features(part) for part in _parts(image, batch_size)]).clone()


@torch.no_grad()
def first_response(network: ResNet, image: Tensor, batch_size: int) -> tuple[float, float]:
    """Variance of the first layer's answers over the running variance behind it: median and spread of the logarithm."""
    count, first, second = 0, torch.zeros(()), torch.zeros(())
    for part in _parts(image, batch_size):
        answers = _inside(network, part).movedim(1, 0).flatten(1).double()
        count += answers.shape[1]
        first, second = first + answers.sum(1), second + answers.square().sum(1)
    found = second / count - (first / count).square()
    used_to = network.bn1.running_var
    assert isinstance(used_to, Tensor)
    ratio = (found / used_to.double())[used_to > 1e-6].clamp_min(1e-12).log()  # some trained filters answer nothing
    return float(ratio.median().exp()), float(ratio.std())


def _inside(network: ResNet, image: Tensor) -> Tensor:
    """The first layer's answers, without those that the padding has a part in."""
    answers: Tensor = network.conv1(image)
    return answers[..., 2:-2, 2:-2]
