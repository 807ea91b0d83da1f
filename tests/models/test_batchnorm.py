"""Batch norm does what its dials say."""

import warnings
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from geoaug.errors import ConfigurationError
from geoaug.models import (
    SmallBatchWarning,
    freeze_batchnorm,
    recalibrate_batchnorm,
    set_batchnorm_momentum,
    unfreeze_batchnorm,
    use_norm,
    warn_of_small_batch,
)


def network(bands: int = 4) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(bands, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.5), nn.Conv2d(8, 6, 3), nn.BatchNorm2d(6)
    )


def trained(model: nn.Module, steps: int = 5) -> None:
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, weight_decay=0.1)
    for _ in range(steps):
        model.train()
        loss = model(torch.randn(4, 4, 16, 16) * 3 + 1).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def norms_of(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items() if name[0] in "15"}


def test_frozen_means_bit_equal_statistics_and_weights_after_training() -> None:
    model = network()
    trained(model)
    model = freeze_batchnorm(model)
    before, convolution = norms_of(model), model[0].weight.clone()
    # What usually thaws a frozen network by accident.
    model.train()
    for parameter in model.parameters():
        parameter.requires_grad_(True)
    model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
    trained(model)
    assert norms_of(model).keys() == before.keys()
    assert all(torch.equal(value, before[name]) for name, value in norms_of(model).items())
    assert not torch.equal(model[0].weight, convolution)


def test_a_frozen_network_answers_as_the_same_one_in_evaluation_and_can_be_thawed() -> None:
    model = network()
    trained(model)
    model.eval()
    image = torch.randn(3, 4, 12, 12)
    expected, keys = model(image), set(model.state_dict())
    freeze_batchnorm(model)
    assert torch.equal(model(image), expected)
    assert set(model.state_dict()) == keys
    unfreeze_batchnorm(model, momentum=0.3)
    assert torch.equal(model(image), expected)
    assert model[1].momentum == 0.3
    before = norms_of(model)
    trained(model, 1)
    assert not torch.equal(norms_of(model)["1.running_mean"], before["1.running_mean"])


def test_a_batch_norm_alone_is_replaced_by_a_frozen_one() -> None:
    alone = nn.BatchNorm2d(3)
    frozen = freeze_batchnorm(alone)
    image = torch.randn(2, 3, 4, 4)
    torch.testing.assert_close(frozen.train()(image), alone.eval()(image))


def test_recalibration_takes_mean_and_variance_over_all_batches_together() -> None:
    model = network()
    batches = [torch.randn(n, 4, 16, 16) * (n + 1) + n for n in (2, 5, 3)]
    modes = {name: module.training for name, module in model.train().named_modules()}
    weights = [parameter.clone() for parameter in model.parameters()]
    recalibrate_batchnorm(model, [{"image": batch} for batch in batches])
    # The first batch norm sees the convolution's answers to every pixel of every batch.
    answers = torch.cat([model[0](batch).movedim(1, 0).flatten(1) for batch in batches], 1)
    torch.testing.assert_close(model[1].running_mean, answers.mean(1), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(model[1].running_var, answers.var(1), rtol=1e-4, atol=1e-5)
    assert {name: module.training for name, module in model.named_modules()} == modes
    assert all(torch.equal(a, b) for a, b in zip(weights, model.parameters(), strict=True))
    assert model[1].momentum == 0.1
    # Dropout was off: the second one sees what evaluation by batch statistics gives.
    model[3].p = 0.0
    inside = [model[:5].train()(batch).movedim(1, 0).flatten(1) for batch in batches]
    torch.testing.assert_close(model[5].running_mean, torch.cat(inside, 1).mean(1), rtol=1e-4, atol=1e-5)


def test_recalibration_stops_where_told_and_says_what_it_lacks() -> None:
    def endless() -> Iterator[Tensor]:
        while True:
            yield torch.ones(1, 4, 8, 8)

    recalibrate_batchnorm(network(), endless(), batches=2)
    with pytest.raises(ConfigurationError, match="before freezing"):
        recalibrate_batchnorm(freeze_batchnorm(network()), [torch.ones(1, 4, 8, 8)])
    with pytest.raises(ConfigurationError, match="no batch to recalibrate"):
        recalibrate_batchnorm(network(), [])


def test_momentum_is_the_weight_of_the_new_batch() -> None:
    norm = nn.BatchNorm2d(1)
    set_batchnorm_momentum(norm, 0.1)
    norm(torch.full((2, 1, 2, 2), 10.0))
    # 0.9 of what was there (0), 0.1 of the batch.
    torch.testing.assert_close(norm.running_mean, torch.tensor([1.0]))


def test_group_norm_keeps_scale_and_shift() -> None:
    model = network()
    trained(model)
    scale = model[1].weight.clone()
    use_norm(model, "group")
    assert isinstance(model[1], nn.GroupNorm)
    assert torch.equal(model[1].weight, scale)
    assert model[5].num_groups == 2  # the most of 6 channels that also divides 32


def test_a_small_batch_is_warned_of_only_where_it_matters() -> None:
    with pytest.warns(SmallBatchWarning, match="4 samples"):
        warn_of_small_batch(network(), 4)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_small_batch(network(), 8)
        warn_of_small_batch(network().eval(), 1)
        warn_of_small_batch(freeze_batchnorm(network()), 1)
        warn_of_small_batch(use_norm(network(), "group"), 1)


def test_recalibration_takes_what_any_loader_gives() -> None:
    torch.manual_seed(0)
    images = torch.randn(6, 4, 8, 8)
    found = []
    for batches in ([images], [{"image": images}], [(images, torch.zeros(6))], [[images, torch.zeros(6)]]):
        torch.manual_seed(1)
        model = recalibrate_batchnorm(network(), batches)
        found.append(torch.cat([value.flatten() for value in model.state_dict().values()]))
    assert all(torch.equal(found[0], other) for other in found[1:])
