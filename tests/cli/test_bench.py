"""`geoaug bench`: a table of this machine, and the same as JSON."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

SMALL = ("--batch", "2", "--tile", "32", "--size", "24", "--bands", "3", "--seconds", "0")


@pytest.mark.slow
def test_every_executor_is_measured(geoaug: Callable, tmp_path: Path) -> None:
    outcome = geoaug("bench", "--device", "cpu", *SMALL, "--json", tmp_path / "bench.json")
    assert outcome.code == 0
    record = json.loads((tmp_path / "bench.json").read_text())
    assert record["device"] == "cpu"
    found = {(m["task"], m["executor"]) for m in record["measurements"]}
    assert {executor for _, executor in found} == {"torch", "cpu"}
    assert len(found) == 2 * len({task for task, _ in found}) == len(record["measurements"])
    for m in record["measurements"]:
        # Read once as uint16 and a mask, written once as float32, a mask and validity.
        assert m["moved"] == 2 * (32 * 32 * (3 * 2 + 1) + 24 * 24 * (3 * 4 + 2))
        assert len(m["seconds"]) >= 3
        median = sorted(m["seconds"])[len(m["seconds"]) // 2]
        if len(m["seconds"]) % 2:
            assert m["share_of_copying"] == pytest.approx(m["moved"] / median / m["copied"])
        assert m["task"] in outcome.out
    assert "GB/s, read and written" in outcome.out


@pytest.mark.slow
def test_presets_are_measured_besides(geoaug: Callable) -> None:
    outcome = geoaug("bench", "--device", "cpu", *SMALL, "--preset", "light")
    assert "preset light" in outcome.out


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--preset", "nosuch"), "neither a recipe file nor a preset"),
        (("--bands", "14"), "--bands"),
        (("--batch", "0"), "--batch"),
        (("--json", "nowhere/bench.json"), "the folder nowhere does not exist"),
        (("--json", "."), "Is a directory"),
        (("--device", "abacus"), "abacus"),
    ],
)
def test_wrong_options_are_told_in_a_line(geoaug: Callable, options: tuple[str, ...], words: str) -> None:
    outcome = geoaug("bench", *SMALL, *options)
    assert outcome.code == 2
    assert words in outcome.err
    assert "Traceback" not in outcome.err
