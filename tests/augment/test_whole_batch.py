"""The way that devices other than the CPU go, run on the CPU: the whole batch at once, nothing looked at."""

import inspect
from typing import Any

import pytest
import torch

from geoaug import Compose, get_sensor, load_recipe
from geoaug.augment.kernels import warp
from geoaug.augment.registry import own_operations
from geoaug.presets import preset_names
from geoaug.rng.draws import sample_keys
from geoaug.sensors import Sensor

OPTICAL, RADAR, PICTURE = get_sensor("sentinel-2-l1c"), get_sensor("sentinel-1-db"), get_sensor("rgbn")
ARGUMENTS: dict[str, dict[str, Any]] = {
    "RandomRotation": {"degrees": 30},
    **{name: {"size": 24} for name in ("RandomCrop", "CenterCrop", "PadTo", "Resize", "RandomResizedCrop")},
}


def tiles(sensor: Sensor) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(5, len(sensor), 48, 48, generator=generator)
    stored = (image * 255).to(torch.uint8) if sensor is PICTURE else (image * 5000 + 1).to(torch.uint16)
    return {
        "image": image * 20 - 25 if sensor is RADAR else stored,
        "mask": torch.randint(0, 5, (5, 48, 48), generator=generator),
        "valid": torch.rand(5, 1, 48, 48, generator=generator) > 0.05,
        "key": sample_keys(0, range(5)),
    }


def agree(compose: Compose, batch: dict[str, torch.Tensor], monkeypatch: pytest.MonkeyPatch) -> None:
    compose.executor = "torch"
    usual = compose(batch)
    monkeypatch.setattr(warp, "looks_at_values", lambda device: False)
    whole = compose(batch)
    # Support of exactly a half, as a stretch by two gives, may fall on either side of the limit.
    both = whole["valid"] & usual["valid"]
    assert (both != (whole["valid"] | usual["valid"])).double().mean() < 0.01
    assert torch.equal(whole["mask"][both[:, 0]], usual["mask"][both[:, 0]])
    kept = both.expand_as(usual["image"])
    assert torch.allclose(whole["image"][kept], usual["image"][kept], rtol=2e-4, atol=2e-5)
    if "cloud" in usual:
        assert (whole["cloud"] != usual["cloud"]).double().mean() < 1e-3


@pytest.mark.parametrize("name", sorted(own_operations()))
def test_every_operation_does_the_same(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    kind = own_operations()[name]
    radar = getattr(kind, "domain", None) == "sar"
    more = {"p": 0.7} if "p" in inspect.signature(kind).parameters else {}
    sensor = PICTURE if getattr(kind, "for_pictures", False) else RADAR if radar else OPTICAL
    compose = Compose([kind(**ARGUMENTS.get(name, {}), **more)], sensor=sensor)
    agree(compose, tiles(sensor), monkeypatch)


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_does_the_same(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    sensor = {"sentinel-1": RADAR, "aerial-rgb": PICTURE}.get(name, OPTICAL)
    agree(load_recipe(name).compose(sensor=sensor), tiles(sensor), monkeypatch)
