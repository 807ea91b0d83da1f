"""Stages, schedules and averages against their definitions."""

import math
from pathlib import Path

import pytest
import torch
from tiny import TinyNet

from geoaug.errors import ConfigurationError
from geoaug.models import Schedule, Stage, Training, averaged_network, load_stages, resnet18, siamese_unet, unet
from geoaug.models.tasks.training import DEPTHS, StagePlan, depth_of, learning_rate_factors, parameter_groups


def test_stages_lay_out_over_the_epochs() -> None:
    plan = StagePlan((Stage("head", 2), Stage("+layer4", 3), Stage("all")), 10)
    assert [plan.at(epoch)[0].train for epoch in range(10)] == ["head"] * 2 + ["+layer4"] * 3 + ["all"] * 5
    assert plan.at(1.5)[1] == pytest.approx(0.75)
    assert plan.at(5)[1] == 0.0
    assert plan.at(10)[1] == 1.0


@pytest.mark.parametrize(
    ("stages", "epochs"),
    [
        ((Stage("head", 2), Stage("all", 3)), 4),
        ((Stage("head", 2), Stage("all", 3)), 6),
        ((Stage("head", 4), Stage("all")), 4),
        ((Stage("head"), Stage("all", 3)), 6),
        ((), 3),
    ],
)
def test_stages_that_do_not_add_up_are_refused(stages: tuple[Stage, ...], epochs: int) -> None:
    with pytest.raises(ConfigurationError):
        StagePlan(stages, epochs)


def test_each_step_down_from_the_head_learns_slower() -> None:
    stage = Stage("+layer3", 1, lr=0.5, depth_factor=0.1)
    assert [stage.factor(depth) for depth in DEPTHS] == pytest.approx([0.5, 0.05, 0.005, 0, 0, 0])


def test_stages_come_from_yaml(tmp_path: Path) -> None:
    path = tmp_path / "stages.yaml"
    path.write_text("stages:\n- {train: head, epochs: 2}\n- {train: +layer4, epochs: 3, lr: 0.5}\n- all\n")
    expected = (Stage("head", 2), Stage("+layer4", 3, lr=0.5), Stage("all"))
    assert load_stages(path) == expected
    assert load_stages([{"train": "head", "epochs": 2}, expected[1], "all"]) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- {train: body}", "stage 1: a stage trains one of head"),
        ("- head\n- {train: all, epoch: 2}", "stage 2: 'epoch' is not one of train"),
        ("- {train: all, epochs: two}", "'epochs' cannot be 'two'"),
        ("- {train: all, epochs: 0}", "one epoch or more"),
        ("- {train: all, depth_factor: 2}", "depth_factor"),
        ("train: all", "stages are a list"),
        ("- [", "not YAML"),
        ("- 3", "a stage is a mapping"),
    ],
)
def test_mistakes_in_stages_are_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "stages.yaml"
    path.write_text(text)
    with pytest.raises(ConfigurationError, match=message):
        load_stages(path)
    with pytest.raises(ConfigurationError, match="cannot be read"):
        load_stages(tmp_path / "absent.yaml")


def test_every_parameter_has_its_depth() -> None:
    with torch.device("meta"):
        network, pixels, change = resnet18(num_classes=2), unet(), siamese_unet()
    assert depth_of("conv1.weight") == "stem"
    for model in (network, pixels, change):
        depths = {name: depth_of(name) for name, _ in model.named_parameters()}
        assert set(depths.values()) == set(DEPTHS)
        for name, depth in depths.items():
            body = name.removeprefix("encoder.")
            expected = body.split(".")[0] if body.startswith("layer") and "pixels" not in name else None
            assert expected is None or depth == expected
    assert depth_of("pixels.decoder.blocks.layer1.conv1.weight") == "head"
    assert depth_of("encoder.bn1.bias") == "stem"


def test_scales_and_shifts_are_not_decayed_and_nothing_is_lost() -> None:
    network = TinyNet()
    groups = parameter_groups(network, 0.3)
    assert {id(p) for group in groups for p in group["params"]} == {id(p) for p in network.parameters()}
    for group in groups:
        assert all((p.dim() > 1) == (group["weight_decay"] == 0.3) for p in group["params"])


def test_cosine_is_half_a_cosine_after_a_straight_warm_up() -> None:
    schedule = Schedule("cosine", warmup=0.2, final=0.1)
    assert schedule.factor(0.0, 0.1) == pytest.approx(0.5)
    assert schedule.factor(0.2) == pytest.approx(1.0)
    assert schedule.factor(1.0) == pytest.approx(0.1)
    assert schedule.factor(0.6) == pytest.approx(0.1 + 0.9 * (1 + math.cos(math.pi / 2)) / 2)


def test_one_cycle_is_torchs() -> None:
    steps = 40
    model = torch.nn.Linear(1, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    theirs = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=1.0, total_steps=steps, pct_start=10 / steps, cycle_momentum=False, final_div_factor=4
    )
    # Torch reaches the peak one step earlier and the end at the last step: the same curve, on its own clock.
    schedule = Schedule("one_cycle", warmup=9 / 39, final=0.01)
    for step in range(steps):
        assert theirs.get_last_lr()[0] == pytest.approx(schedule.factor(step / 39), abs=1e-6)
        if step < steps - 1:
            optimizer.step()
            theirs.step()


def test_rates_follow_stage_depth_and_schedule() -> None:
    training = Training(
        stages=(Stage("head", 1), Stage("all", 2, depth_factor=0.5)), schedule=Schedule("constant", warmup=0.0)
    )
    head, layer4, stem = learning_rate_factors(training, 3, 4, ["head", "layer4", "stem"])
    assert [head(step) for step in range(12)] == [1.0] * 12
    assert [layer4(step) for step in range(12)] == [0.0] * 4 + [0.5] * 8
    assert [stem(step) for step in range(12)] == [0.0] * 4 + [0.5**5] * 8


def test_the_average_follows_with_its_decay_and_copies_statistics() -> None:
    torch.manual_seed(0)
    network = TinyNet()
    averaged = averaged_network(network, 0.6)
    expected = network.conv1.weight.detach().clone()
    for step in range(6):
        with torch.no_grad():
            for parameter in network.parameters():
                parameter += torch.randn_like(parameter)
            network.bn1.running_mean += 1
        averaged.update_parameters(network)
        decay = min(0.6, (1 + step) / (10 + step)) if step else 0.0
        expected = decay * expected + (1 - decay) * network.conv1.weight.detach()
    torch.testing.assert_close(averaged.module.conv1.weight, expected)
    assert torch.equal(averaged.module.bn1.running_mean, network.bn1.running_mean)
    assert not any(parameter.requires_grad for parameter in averaged.parameters())
    with pytest.raises(ConfigurationError, match="decay"):
        averaged_network(network, 1.0)


@pytest.mark.parametrize(
    "arguments", [{"lr": 0.0}, {"optimizer": "adam"}, {"stages": ()}, {"mixup": -1.0}, {"weight_decay": -1.0}]
)
def test_trainings_that_cannot_be_are_refused(arguments: dict) -> None:
    with pytest.raises(ConfigurationError):
        Training(**arguments)


@pytest.mark.parametrize("arguments", [{"kind": "step"}, {"warmup": 1.0}, {"final": 2.0}])
def test_schedules_that_cannot_be_are_refused(arguments: dict) -> None:
    with pytest.raises(ConfigurationError):
        Schedule(**arguments)
