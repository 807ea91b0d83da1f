"""Policies: every sample gets as many operations as it should, at the strength it should, whatever its batch."""

from pathlib import Path

import pytest
import torch
from scipy import stats

from geoaug import Compose, get_sensor, load_recipe
from geoaug.augment import (
    RandAugment,
    RandomD4,
    RandomHaze,
    RandomIllumination,
    RandomRotation,
    RandomSensorNoise,
    RandomStriping,
    TrivialAugment,
)
from geoaug.augment.planning.plan import Plan
from geoaug.errors import ConfigurationError
from geoaug.rng.draws import sample_keys

S2 = get_sensor("sentinel-2-l1c")


def batch(samples: int, side: int = 16, bands: int = 13) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    dn = torch.randint(200, 4000, (samples, bands, side, side), generator=generator).to(torch.uint16)
    return {"image": dn, "key": sample_keys(1, range(samples))}


@pytest.mark.parametrize("count", [1, 3])
def test_rand_augment_applies_so_many_to_each_sample_all_equally_often(count: int) -> None:
    compose = Compose([RandomD4(), RandAugment(count, 0.7)], sensor=S2)
    rows = compose.plan(batch(1000)).parameters()
    names = [[name for name in row if name != "RandomD4"] for row in rows]
    assert {len(chosen) for chosen in names} == {count}
    counts = [sum(name in chosen for chosen in names) for name in {name for chosen in names for name in chosen}]
    policy = compose.operations[1]
    assert len(counts) == len(policy.operations)
    assert stats.chisquare(counts).pvalue > 1e-4


def test_trivial_augment_applies_one_at_a_strength_of_its_own() -> None:
    policy = TrivialAugment(0.8, operations=[RandomRotation((10, 10)), RandomIllumination((1.5, 1.5), 0.0)])
    rows = Compose([policy], sensor=S2).plan(batch(2000)).parameters()
    assert {len(row) for row in rows} == {1}
    degrees = [row["RandomRotation"]["degrees"] for row in rows if "RandomRotation" in row]
    gains = [row["RandomIllumination"]["gain"] for row in rows if "RandomIllumination" in row]
    assert stats.kstest(degrees, stats.uniform(0, 8).cdf).pvalue > 1e-3
    assert stats.kstest([(gain - 1) / 0.5 for gain in gains], stats.uniform(0, 0.8).cdf).pvalue > 1e-3
    assert stats.binomtest(len(degrees), 2000, 0.5).pvalue > 1e-3


def test_what_was_not_chosen_changes_nothing() -> None:
    policy = RandAugment(1, 1.0, operations=[RandomIllumination((2, 2), 0.0), RandomHaze((0.3, 0.3))])
    data = batch(40)
    out = Compose([policy], sensor=S2)(data)["image"]
    names = [next(iter(row)) for row in Compose([policy], sensor=S2).plan(data).parameters()]
    reflectance = data["image"].to(torch.float32) / 10000
    for index, name in enumerate(names):
        factor = float((out[index, 7] / reflectance[index, 7]).median())  # near infrared: haze takes from it
        assert (factor > 1.5) == (name == "RandomIllumination")
        assert factor != pytest.approx(1.0, abs=1e-3)


def test_strength_zero_is_the_identity() -> None:
    data = batch(12)
    plain = Compose([], sensor=S2)(data)["image"]
    out = Compose([RandAugment(3, 0.0)], sensor=S2)(data)
    changed = (out["image"] - plain).abs()
    assert float(changed.max()) < 1e-4


def test_every_operation_moves_monotonously_with_strength() -> None:
    data = {**batch(24, side=48)}
    plain = Compose([], sensor=S2)(data)["image"]
    policy = RandAugment(1, 1.0)
    for operation in policy.operations:
        distance = []
        for strength in (0.0, 0.3, 1.0):
            only = RandAugment(1, strength, operations=[operation])
            out = Compose([only], sensor=S2)(data)
            kept = out["valid"].expand_as(plain)
            distance.append(float((out["image"] - plain)[kept].square().mean().sqrt()))
        name = type(operation).__name__
        assert distance[0] < 1e-4, name
        assert distance[0] < distance[1] < distance[2], name


def test_a_policy_is_keyed_by_the_sample_and_replays() -> None:
    compose = Compose([RandomD4(), RandAugment(2, 0.8)], sensor=S2)
    data = batch(9, side=32)
    whole = compose(data)
    part = compose(
        {
            name: value[[5, 1]] if name == "key" else torch.stack([value[5].float(), value[1].float()]).to(value.dtype)
            for name, value in data.items()
        }
    )
    assert torch.equal(part["image"], whole["image"][[5, 1]])
    plan = compose.plan(data)
    assert torch.equal(compose.apply(data, Plan.from_dict(plan.to_dict()))["image"], whole["image"])


def test_policies_stand_in_recipes() -> None:
    recipe = load_recipe({"operations": ["RandomD4", {"RandAugment": {"count": 2, "strength": 0.4}}]})
    again = load_recipe(recipe.resolved())
    assert again.specs == recipe.specs
    assert recipe.compose(sensor=S2)(batch(2))["image"].shape == (2, 13, 16, 16)
    named = load_recipe({"operations": [{"TrivialAugment": {"operations": ["RandomHaze", "RandomIllumination"]}}]})
    assert len(named.operations[0].operations) == 2


def test_operations_of_a_policy_have_arguments_in_recipes_as_in_python(tmp_path: Path) -> None:
    file = tmp_path / "own.yaml"
    file.write_text(
        "operations:\n"
        "  - TrivialAugment:\n"
        "      operations:\n"
        "        - RandomHaze: {aod: [0, 0.3]}\n"
        "        - RandomSensorNoise: {factor: [0, 2]}\n"
        "        - RandomStriping\n"
    )
    recipe = load_recipe(file)
    (tmp_path / "again.yaml").write_text(recipe.to_yaml())
    again = load_recipe(tmp_path / "again.yaml")
    assert again.specs == recipe.specs
    pool = [RandomHaze(aod=(0, 0.3)), RandomSensorNoise(factor=(0, 2)), RandomStriping()]
    pairs = [("RandomHaze", {"aod": (0, 0.3)}), ("RandomSensorNoise", {"factor": (0, 2)}), "RandomStriping"]
    expected = Compose([TrivialAugment(operations=pool)], sensor=S2)(batch(6))["image"]
    for compose in (again.compose(sensor=S2), Compose([TrivialAugment(operations=pairs)], sensor=S2)):
        assert torch.equal(compose(batch(6))["image"], expected)
    file.write_text(file.read_text().replace("aod", "aot"))
    with pytest.raises(ConfigurationError, match=r"own\.yaml:3: .*RandomHaze has no argument 'aot'.*'aod'"):
        load_recipe(file)
    file.write_text(file.read_text().replace("aot: [0, 0.3]}", "aod: [0, 0.3]}\n          RandomStriping:"))
    with pytest.raises(ConfigurationError, match="one operation to an entry, not 2: RandomHaze, RandomStriping"):
        load_recipe(file)


def test_radar_has_a_pool_of_its_own() -> None:
    radar = get_sensor("sentinel-1-grd")
    data = batch(20, bands=2)
    out = Compose([RandAugment(2, 1.0, domain="sar")], sensor=radar, out_units="db")(data)
    assert torch.isfinite(out["image"]).all()
    with pytest.raises(ConfigurationError, match="is for optical images"):
        Compose([RandAugment()], sensor=radar)
    with pytest.raises(ConfigurationError, match="is for sar images"):
        Compose([RandAugment(domain="sar")], sensor=S2)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: RandAugment(0), "count=0"),
        (lambda: RandAugment(99), "count=99"),
        (lambda: RandAugment(1, -1.0), "strength=-1"),
        (lambda: TrivialAugment(11.0), "strength=11"),
        (lambda: TrivialAugment(domain="thermal"), "is not 'optical' or 'sar'"),
        (lambda: RandAugment(1, operations=[]), "operations= is empty"),
        (lambda: RandAugment(1, operations=["RandomHase"]), "did you mean RandomHaze"),
        (lambda: RandAugment(1, operations=["kornia.RandomGaussianBlur"]), "RandomGaussianBlur|missing|argument"),
        (lambda: RandomSensorNoise(strength=-0.1), "strength=-0.1"),
    ],
)
def test_mistakes_are_named(build: object, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        build()  # type: ignore[operator]
