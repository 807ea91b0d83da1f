"""Plans in the hands of callers: changed, without samples, of tensors that ask for gradients."""

import json

import torch

from geoaug import Compose
from geoaug.augment import RandomD4, RandomHaze, RandomIllumination, RandomSensorNoise
from geoaug.augment.planning.plan import Plan


def test_a_plan_is_the_callers_to_change() -> None:
    for compose in (Compose([RandomIllumination(p=1.0)], "rgbn"), Compose([], "rgbn").eval()):
        for count in (1, 3):
            batch = {"image": torch.rand(count, 4, 16, 16) * 200, "key": torch.arange(count)}
            before = compose(batch)["image"]
            plan = compose.plan(batch)
            plan.matrix.fill_(7)
            for drawn in plan.drawn:
                for value in drawn.params.values():
                    if value.is_contiguous():
                        value.fill_(3)
            assert torch.equal(compose(batch)["image"], before)


def test_what_asks_for_gradients_is_augmented_without() -> None:
    batch = {
        "image": torch.rand(2, 4, 16, 16, requires_grad=True),
        "sun_elevation": torch.full((2,), 40.0, requires_grad=True),
        "key": torch.arange(2),
    }
    plain = {name: value.detach() for name, value in batch.items()}
    for executor in ("torch", "auto"):
        compose = Compose([RandomHaze(p=1.0), RandomSensorNoise(p=1.0)], "rgbn", executor=executor)
        found = compose(batch)["image"]
        assert not found.requires_grad
        assert torch.equal(found, compose(plain)["image"])


def test_a_plan_of_no_samples_survives_its_record() -> None:
    compose = Compose([RandomD4(), RandomHaze(p=1.0)], "rgbn")
    batch = {"image": torch.rand(0, 4, 16, 16), "sun_azimuth": torch.zeros(0), "key": torch.zeros(0, dtype=torch.int64)}
    plan = Plan.from_dict(json.loads(json.dumps(compose.plan(batch).to_dict())))
    assert plan.matrix.shape == (0, 3, 3)
    assert compose.apply(batch, plan)["image"].shape == (0, 4, 16, 16)
