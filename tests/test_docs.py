"""The documentation of operations names what there is, with the arguments there are, and its examples run."""

import inspect
import re
import shlex
from pathlib import Path

import pytest
from typer.main import get_command

from geoaug.augment import mixing
from geoaug.augment.registry import own_operations
from geoaug.cli.main import app

DOCS = Path(__file__).parents[1] / "docs"
RECIPES = (DOCS / "recipes.md").read_text(encoding="utf-8")
DATA = (DOCS / "data.md").read_text(encoding="utf-8")
COMMON = {"self", "sensor", "p", "same_on_batch", "keepdim", "strength", "same_on_time"}
ROWS = {
    name: row
    for row in RECIPES.splitlines()
    if row.startswith("| `")
    for name in re.findall(r"`(\w+)`", row.split("|")[1])
}


@pytest.mark.parametrize("name", sorted(own_operations()))
def test_every_operation_is_listed_with_its_arguments(name: str) -> None:
    assert name in ROWS, rf"docs/recipes.md has no row for {name}: add `| \`{name}\` | arguments | what it does |`"
    shown = set(re.findall(r"`(\w+)`", ROWS[name].split("|")[2]))
    known = set(inspect.signature(own_operations()[name]).parameters)
    assert shown <= known
    if name != "RandomCloudShadow":  # shares the clouds' arguments, and says so
        policies = {"strength"} if "Augment" in name else set()
        assert known - COMMON | policies <= shown


def test_mixing_and_test_time_are_told() -> None:
    for name in ("RandomMixUp", "RandomCutMix", "RandomSlideMix", "TestTime"):
        assert f"`{name}" in RECIPES or f"{name}(" in RECIPES
    assert mixing.RandomCutMix.__doc__


def test_the_examples_run_as_written() -> None:
    examples = re.findall(r"```python\n(.*?)```", RECIPES, flags=re.DOTALL)
    assert examples
    for example in examples:
        exec(compile(example, "recipes.md", "exec"), {"__name__": "recipes"})


@pytest.mark.slow
def test_the_examples_about_data_run_as_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    examples = re.findall(r"```python\n(.*?)```", DATA, flags=re.DOTALL)
    assert len(examples) >= 6
    names: dict[str, object] = {"__name__": "data"}
    for example in examples:
        exec(compile(example, "data.md", "exec"), names)


def test_the_commands_about_data_have_the_options_shown() -> None:
    commands = get_command(app).commands  # type: ignore[attr-defined]
    shown = re.findall(r"^    (geoaug [^#\n]*)", DATA, flags=re.MULTILINE)
    assert {line.split()[1] for line in shown} == {"index", "stats", "split", "plot"}
    for line in shown:
        words = shlex.split(line)
        command = commands[words[1]]
        command = getattr(command, "commands", {}).get(words[2], command)
        known = {flag for parameter in command.params for flag in parameter.opts}
        assert {word for word in words if word.startswith("-")} <= known, line
