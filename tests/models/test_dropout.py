"""Dropout alone at test time: means and uncertainties against their definitions."""

import pytest
import torch
from torch import Tensor, nn

from geoaug.errors import ConfigurationError
from geoaug.models import mc_dropout, resnet18


class Scripted(nn.Module):
    """Answers what it is told, one pass after another."""

    def __init__(self, answers: Tensor) -> None:
        super().__init__()
        self.answers, self.calls = answers, 0
        self.dropout = nn.Dropout(0.5)

    def forward(self, image: Tensor) -> Tensor:
        self.calls += 1
        return self.answers[self.calls - 1]


def test_mean_entropy_and_information_are_those_of_the_passes() -> None:
    torch.manual_seed(0)
    logits = torch.randn(5, 3, 4, 6, 6) * 3
    found = mc_dropout(Scripted(logits), torch.zeros(3, 1, 6, 6), passes=5)
    p = logits.softmax(2)
    torch.testing.assert_close(found.mean, p.mean(0))
    entropy = torch.distributions.Categorical(p.mean(0).movedim(1, -1)).entropy()
    own = torch.distributions.Categorical(p.movedim(2, -1)).entropy().mean(0)
    torch.testing.assert_close(found.entropy, entropy)
    torch.testing.assert_close(found.mutual_information, entropy - own, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found.variance, p.var(0, correction=0), rtol=1e-4, atol=1e-5)


def test_passes_that_agree_have_no_information_and_even_odds_have_all() -> None:
    certain = torch.tensor([[50.0, 0.0]])
    agreed = mc_dropout(Scripted(torch.stack([certain] * 4)), torch.zeros(1, 1, 2, 2), passes=4)
    torch.testing.assert_close(agreed.mutual_information, torch.zeros(1), rtol=0, atol=1e-6)
    split = mc_dropout(Scripted(torch.stack([certain, -certain] * 2)), torch.zeros(1, 1, 2, 2), passes=4)
    torch.testing.assert_close(split.mutual_information, torch.full((1,), 2.0).log(), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(split.entropy, torch.full((1,), 2.0).log(), rtol=1e-4, atol=1e-4)


def test_yes_or_no_and_numbers_have_their_own_uncertainties() -> None:
    logits = torch.randn(4, 2, 3)
    found = mc_dropout(Scripted(logits), torch.zeros(2, 1, 2, 2), passes=4, activation="sigmoid")
    expected = torch.distributions.Bernoulli(logits.sigmoid().mean(0)).entropy()
    torch.testing.assert_close(found.entropy, expected, rtol=1e-4, atol=1e-5)
    numbers = mc_dropout(Scripted(logits), torch.zeros(2, 1, 2, 2), passes=4, activation="none")
    torch.testing.assert_close(numbers.mean, logits.mean(0))
    assert numbers.entropy is None


def test_only_dropout_is_active_and_modes_come_back() -> None:
    torch.manual_seed(0)
    network = resnet18(num_classes=4, dropout=0.4, block_dropout=0.2)
    network.layer1.eval()
    modes = {name: module.training for name, module in network.named_modules()}
    state = {name: value.clone() for name, value in network.state_dict().items()}
    found = mc_dropout(network, {"image": torch.randn(2, 3, 32, 32)}, passes=4)
    assert float(found.variance.max()) > 0
    assert {name: module.training for name, module in network.named_modules()} == modes
    # Batch norm learned nothing from it.
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())


def test_a_network_without_dropout_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="drops nothing"):
        mc_dropout(nn.Conv2d(1, 2, 1), torch.zeros(1, 1, 2, 2))
    with pytest.raises(ConfigurationError, match="two passes"):
        mc_dropout(Scripted(torch.zeros(1, 1, 2)), torch.zeros(1, 1, 2, 2), passes=1)
