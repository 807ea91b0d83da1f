"""The README's examples run, and its commands exist."""

import re
import shlex
from pathlib import Path

import pytest

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)


def test_the_ways_of_use_are_shown() -> None:
    assert len(EXAMPLES) == 5
    loaders = ("DataLoader(", "TileLoader(", "on_after_batch_transfer")
    for word in ("Compose([", *loaders, "TorchGeo", "AugmentationSequential"):
        assert word.replace("([", "(") in README.replace("(\n    [", "(")


# Lightning's advice about workers and logging, and its own deprecations, are beside the point here.
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("position", range(len(EXAMPLES)))
def test_an_example_runs_as_written(position: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    exec(compile(EXAMPLES[position], f"README example {position + 1}", "exec"), {"__name__": "readme"})


def test_the_recipe_shown_is_valid() -> None:
    import yaml

    from geoaug import load_recipe

    [text] = re.findall(r"```yaml\n(.*?)```", README, flags=re.DOTALL)
    recipe = load_recipe(yaml.safe_load(text))
    assert len(recipe.operations) == 4
    assert recipe.sensor == "sentinel-2-l2a"


def test_the_commands_shown_have_the_options_shown() -> None:
    from typer.main import get_command

    from geoaug.cli.main import app

    commands = get_command(app).commands  # type: ignore[attr-defined]
    shown = re.findall(r"^    (geoaug .*)$", README, flags=re.MULTILINE)
    assert shown
    for line in shown:
        words = shlex.split(line)
        known = {flag for parameter in commands[words[1]].params for flag in parameter.opts}
        assert {word for word in words if word.startswith("-")} <= known
    for name in re.findall(r"^\| `geoaug (\w+)", README, flags=re.MULTILINE):
        assert name in commands
