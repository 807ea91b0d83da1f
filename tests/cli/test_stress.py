"""`geoaug stress`: figures for programs, exit codes for CI, and wrong usage."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from made_chips import CLASSES, write_chips

from geoaug.models import ClassName, ModelCard, resnet18, save_model
from geoaug.sensors import get_sensor


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network that learned nothing."""
    network = resnet18(None, get_sensor("rgb"), len(CLASSES))
    card = ModelCard(
        network.architecture, get_sensor("rgb"), "classification", (0.4,) * 3, (0.1,) * 3,
        classes=tuple(ClassName(name, (0, 0, 0)) for name in CLASSES),
    )  # fmt: skip
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    save_model(path, network, card)
    return path


def test_figures_for_programs_and_an_exit_code_for_ci(geoaug: Callable, model: Path, tmp_path: Path) -> None:
    chips = write_chips(tmp_path / "chips", count=10)
    outcome = geoaug(
        "stress", model, chips, "-o", tmp_path / "report", "--nuisances", "noise, darker", "--sensor", "rgb", "--json",
        "--fail-above", -101, "--device", "cpu",
    )  # fmt: skip
    assert outcome.code == 1, outcome.err
    assert "is above -101" in outcome.err
    found = json.loads(outcome.out)
    assert found == json.loads((tmp_path / "report" / "report.json").read_text(encoding="utf-8"))
    assert [one["name"] for one in found["nuisances"]] == ["darker", "noise"]
    assert [one["strength"] for one in found["nuisances"][1]["levels"]] == [1, 2, 4, 8]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["chips", "--nuisances", "hail"], "no nuisance 'hail' for these data; there are turn"),
        (["chips", "--nuisances", ","], "no nuisances"),
        (["chips", "--tiles", "5"], "30 or more"),
        (["nowhere"], "nowhere"),
        (["chips", "-o", "a_file"], "no folder for a report"),
    ],
)
def test_wrong_usage_is_explained(
    geoaug: Callable, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    write_chips(tmp_path / "chips", count=10)
    (tmp_path / "a_file").write_text("")
    outcome = geoaug("stress", model, *arguments, "--sensor", "rgb", "--device", "cpu")
    assert outcome.code in (1, 2), outcome.out
    assert words in outcome.err
    assert not list(tmp_path.glob("stress/report*"))


def test_a_model_that_is_not_there_is_named(geoaug: Callable, tmp_path: Path) -> None:
    outcome = geoaug("stress", tmp_path / "absent.safetensors", write_chips(tmp_path / "chips"), "--device", "cpu")
    assert outcome.code == 2
    assert "absent.safetensors" in outcome.err
