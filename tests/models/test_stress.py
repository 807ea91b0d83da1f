"""A model under stress, against closed forms: networks whose answers are known for every strength."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from made_chips import CLASSES, write_chips
from torch import Tensor, nn

import geoaug
from geoaug.audit.stress.nuisances import chosen_nuisances, nuisances_for
from geoaug.audit.stress.results import StressReport
from geoaug.audit.stress.running import StressTiles, run_stress
from geoaug.errors import ConfigurationError
from geoaug.models.networks.architecture import Architecture
from geoaug.models.networks.card import ClassName, ModelCard
from geoaug.models.networks.model_file import LoadedModel
from geoaug.models.stress import Classes, Maps, Numbers, stress, subject_kind
from geoaug.sensors import get_sensor

SENSOR = get_sensor("sentinel-2-l2a").select("B04,B03,B08")
COUNT, SIDE = 60, 16
CPU = torch.device("cpu")


class Threshold(nn.Module):
    """Dark (0) or bright (1), by the mean reflectance of a tile or by each pixel's."""

    def __init__(self, level: float, *, pixels: bool) -> None:
        super().__init__()
        self.level, self.pixels = level, pixels

    def forward(self, image: Tensor) -> Tensor:
        mean = image.mean(1) if self.pixels else image.mean((1, 2, 3))
        return torch.stack([torch.zeros_like(mean), 100 * (mean - self.level)], 1)


class Mean(nn.Module):
    """The mean reflectance of a tile, as a number."""

    def forward(self, image: Tensor) -> Tensor:
        return image.mean((1, 2, 3))[:, None]


def loaded(network: nn.Module, task: str, sensor: Any = SENSOR, **facts: Any) -> LoadedModel:
    """A network that is given reflectance as it is."""
    pixels = task == "segmentation"
    outputs = 1 if task == "regression" else max(2, len(facts.get("classes", ())))
    architecture = Architecture("resnet18", len(sensor), outputs, decoder="unet" if pixels else "none")
    known: dict[str, Any] = {"mean": (0.0,) * len(sensor), "std": (1.0,) * len(sensor), **facts}
    if task != "regression":
        known.setdefault("classes", (ClassName("dark", (0, 0, 0)), ClassName("bright", (255, 255, 255))))
    return LoadedModel(network, ModelCard(architecture, sensor, task, **known))  # type: ignore[arg-type]


def flat_tiles(reflectance: np.ndarray, **truth: Tensor) -> StressTiles:
    """Tiles of one reflectance each."""
    dn = np.rint(reflectance * 10000 - SENSOR.offset[0]).astype(np.uint16)
    image = np.broadcast_to(dn[:, None, None, None], (len(dn), 3, SIDE, SIDE)).copy()
    return StressTiles({"image": torch.from_numpy(image), **truth}, tuple(f"tile{n}" for n in range(len(dn))))


def run(subject: Any, tiles: StressTiles, *names: str) -> StressReport:
    return run_stress(subject, tiles, model="made", data=["made"], nuisances=names or None)[0]


def test_accuracy_under_less_light_is_the_share_of_tiles_that_stay_on_their_side() -> None:
    brightness = np.linspace(0.05, 0.4, COUNT)
    subject = Classes(loaded(Threshold(0.2, pixels=False), "classification"), CPU, SENSOR)
    report = run(subject, flat_tiles(brightness, label=torch.from_numpy((brightness > 0.2).astype(np.int64))), "darker")
    assert report.clean.value == 100
    [darker] = report.nuisances
    for level in darker.levels:
        right = (level.strength * brightness > 0.2) == (brightness > 0.2)
        assert level.metric.value == pytest.approx(100 * right.mean())
        assert level.loss.value == pytest.approx(100 - 100 * right.mean())
        assert level.metric.low <= level.metric.value <= level.metric.high
    assert darker.mean == pytest.approx(np.mean([level.metric.value for level in darker.levels]))
    assert darker.verdict.startswith("loses from 0.8 times the light")
    # The worst are those that were bright, by most, and are taken for dark.
    assert [(one.truth, one.clean, one.under) for one in darker.worst] == [("bright", "bright", "dark")] * 3


def test_the_interval_of_a_share_is_that_of_the_binomial() -> None:
    brightness = np.linspace(0.05, 0.4, COUNT)
    subject = Classes(loaded(Threshold(0.2, pixels=False), "classification"), CPU, SENSOR)
    tiles = flat_tiles(brightness, label=torch.from_numpy((brightness > 0.2).astype(np.int64)))
    level = run(subject, tiles, "darker").nuisances[0].levels[0]
    share = level.metric.value / 100
    wide = 2 * 1.96 * 100 * np.sqrt(share * (1 - share) / COUNT)
    assert level.metric.high - level.metric.low == pytest.approx(wide, rel=0.2)


def test_the_error_of_a_regression_grows_with_the_gain() -> None:
    brightness = np.linspace(0.05, 0.4, COUNT)
    subject = Numbers(
        loaded(Mean(), "regression", training={"target_scale": (2.0, 10.0)}), CPU, SENSOR
    )  # answers 10 x + 2
    report = run(subject, flat_tiles(brightness, target=torch.from_numpy(10 * brightness + 2)), "brighter")
    assert report.metric.name == "RMSE"
    assert report.clean.value == pytest.approx(0, abs=5e-4)  # DN are whole numbers
    for level in report.nuisances[0].levels:
        expected = 10 * (level.strength - 1) * np.sqrt(np.mean(brightness**2))
        assert level.metric.value == pytest.approx(expected, rel=1e-3)
        assert level.loss.value == pytest.approx(expected, rel=1e-3)


def test_iou_of_maps_is_that_of_the_thresholded_gradient() -> None:
    ramp = np.linspace(0.05, 0.4, SIDE)
    dn = np.rint(ramp * 10000 - SENSOR.offset[0]).astype(np.uint16)
    image = torch.from_numpy(np.broadcast_to(dn, (COUNT, 3, SIDE, SIDE)).copy())
    truth = np.broadcast_to(ramp > 0.2, (COUNT, SIDE, SIDE)).astype(np.uint8)
    truth[:, :2] = 255  # nobody knows
    tiles = StressTiles({"image": image, "mask": torch.from_numpy(truth.copy())}, ("tile",) * COUNT)
    subject = Maps(loaded(Threshold(0.2, pixels=True), "segmentation"), CPU, SENSOR)
    report = run(subject, tiles, "darker", "turn")
    assert report.clean.value == 100
    turn, darker = report.nuisances
    for level in darker.levels:
        said = level.strength * ramp > 0.2
        shares = [(said == one)[(ramp > 0.2) == one].sum() / ((said == one) | ((ramp > 0.2) == one)).sum()
                  for one in (False, True)]  # fmt: skip
        assert level.metric.value == pytest.approx(100 * np.mean(shares))
    # Masks turn with the image, by whole pixels where the turn is a right angle.
    assert turn.levels[-1].strength == 90
    assert turn.levels[-1].metric.value == 100
    assert min(level.metric.value for level in turn.levels) > 70


def test_a_network_that_looks_at_the_mean_knows_neither_turns_nor_blur() -> None:
    brightness = np.linspace(0.05, 0.4, COUNT)
    subject = Classes(loaded(Threshold(0.2, pixels=False), "classification"), CPU, SENSOR)
    tiles = flat_tiles(brightness, label=torch.from_numpy((brightness > 0.2).astype(np.int64)))
    report = run(subject, tiles, "turn", "blur", "resolution")
    assert [one.loss.value for one in report.nuisances] == [0, 0, 0]
    assert {one.verdict for one in report.nuisances} == {"no loss that these tiles can show"}


def test_as_many_bands_are_lost_as_asked_for() -> None:
    sensor = get_sensor("sentinel-2-l2a")
    loss = next(one for one in nuisances_for(sensor) if one.name == "band loss")
    image = torch.full((40, len(sensor), 4, 4), 3000.0)
    for count in loss.levels:
        out = geoaug.Compose([loss.build(count)], sensor, executor="torch").train()({"image": image})["image"]
        lost = (out.amax((2, 3)) == 0).sum(1)
        assert (lost == count).all()
    one = next(one for one in nuisances_for(SENSOR) if one.name == "band loss")
    assert one.levels == (1.0, 2.0)


def test_every_nuisance_suits_its_sensors() -> None:
    for name in ("sentinel-2-l1c", "sentinel-2-l2a", "landsat-8-l2", "rgb", "sentinel-1-grd"):
        sensor = get_sensor(name)
        for nuisance in nuisances_for(sensor):
            for strength in nuisance.levels:
                geoaug.Compose([nuisance.build(strength)], sensor)
    assert "haze" not in {one.name for one in nuisances_for(get_sensor("sentinel-1-grd"))}
    with pytest.raises(ConfigurationError, match="no nuisance 'hail'"):
        chosen_nuisances(nuisances_for(SENSOR), ["hail"])


def test_too_few_tiles_and_labels_that_nobody_knows_are_refused() -> None:
    subject = Classes(loaded(Threshold(0.2, pixels=False), "classification"), CPU, SENSOR)
    few = flat_tiles(np.full(29, 0.1), label=torch.zeros(29, dtype=torch.int64))
    with pytest.raises(ConfigurationError, match="29 tiles are too few"):
        run(subject, few)
    maps = Maps(loaded(Threshold(0.2, pixels=True), "segmentation"), CPU, SENSOR)
    unknown = flat_tiles(np.full(40, 0.1), mask=torch.full((40, SIDE, SIDE), 255, dtype=torch.uint8))
    with pytest.raises(ConfigurationError, match="no tile has a label"):
        run(maps, unknown)
    strange = flat_tiles(np.full(40, 0.1), mask=torch.full((40, SIDE, SIDE), 7, dtype=torch.uint8))
    with pytest.raises(ConfigurationError, match="the label 7 is not one of the model's 2 classes"):
        run(maps, strange)
    alike = run(subject, flat_tiles(np.full(40, 0.1), label=torch.zeros(40, dtype=torch.int64)), "darker")
    assert any("all tiles have one truth (dark)" in note for note in alike.notes)


class Brightest(nn.Module):
    """The brightest band, which is the class of the made chips."""

    def forward(self, image: Tensor) -> Tensor:
        return 20 * image.mean((2, 3))


def brightest(classes: tuple[str, ...] = CLASSES) -> LoadedModel:
    return loaded(
        Brightest(), "classification", get_sensor("rgb"), classes=tuple(ClassName(name, (0, 0, 0)) for name in classes)
    )


def test_a_folder_of_chips_is_put_under_stress_and_the_page_holds_all_it_shows(tmp_path: Path) -> None:
    chips = write_chips(tmp_path / "chips", count=12)
    steps: list[tuple[int, int]] = []
    report = stress(
        brightest(),
        chips,
        tmp_path / "report",
        nuisances=["band loss", "turn"],
        device="cpu",
        sensor="rgb",
        on_progress=lambda done, total: steps.append((done, total)),
    )
    assert steps[-1] == (8, 8)
    assert report.clean.value == 100
    turn, lost = report.nuisances
    assert turn.loss.value == pytest.approx(0, abs=3)
    # One band of three is lost, by chance that of the class; with two lost, the one that is left.
    one, two = (level.metric.value for level in lost.levels)
    assert one == pytest.approx(100 * 2 / 3, abs=20)
    assert two == pytest.approx(100 / 3, abs=20)
    page = (tmp_path / "report" / "report.html").read_text(encoding="utf-8")
    assert page.count('src="data:image/png;base64,') == 1 + 2 * sum(len(one.worst) for one in report.nuisances)
    assert page.count("src=") == page.count('src="data:image/png;base64,')
    assert "<script" not in page
    assert json.loads((tmp_path / "report" / "report.json").read_text(encoding="utf-8"))["tiles"] == 36
    # In the other order of classes the same answers are wrong.
    turned = stress(brightest(CLASSES[::-1]), chips, nuisances=["turn"], device="cpu", sensor="rgb")
    assert turned.clean.value == pytest.approx(100 / 3)


def test_data_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    chips = write_chips(tmp_path / "chips", count=12)
    with pytest.raises(ConfigurationError, match="the model takes B04 B03 B08 of 'sentinel-2-l2a'"):
        stress(loaded(Threshold(0.2, pixels=False), "classification"), chips, device="cpu", sensor="rgb")
    with pytest.raises(ConfigurationError, match="'town' of the data is not one of the model's"):
        stress(brightest(("field", "lake", "wood")), chips, device="cpu", sensor="rgb")
    with pytest.raises(ConfigurationError, match="30 or more"):
        stress(brightest(), chips, tiles=10, device="cpu", sensor="rgb")
    files = sorted((chips / "field").glob("*.tif"))
    with pytest.raises(ConfigurationError, match="the data have no labels"):
        stress(brightest(), [str(path) for path in files], device="cpu", sensor="rgb")
    maps = loaded(Threshold(0.2, pixels=True), "segmentation", get_sensor("rgb"))
    with pytest.raises(ConfigurationError, match="give --labels"):
        stress(maps, [str(path) for path in files], device="cpu", sensor="rgb")
    card = loaded(Mean(), "regression").card
    two = Architecture("resnet18", 3, 2, fusion="difference")
    with pytest.raises(ConfigurationError, match="two dates"):
        subject_kind(ModelCard(two, SENSOR, "change", card.mean, card.std))
