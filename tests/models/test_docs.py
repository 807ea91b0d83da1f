"""The documentation of models names what there is, and its examples run."""

import re
from pathlib import Path

import pytest

import geoaug.models
from geoaug.models import STEMS, load_stages

DOCS = Path(__file__).parents[2] / "docs"
EXAMPLES = [
    pytest.param(page, number, text, marks=[pytest.mark.slow] if "Trainer(" in text else [])
    for page in ("models.md", "stems.md", "fitting.md")
    for number, text in enumerate(re.findall(r"```python\n(.*?)```", (DOCS / page).read_text("utf-8"), re.DOTALL))
]


# Lightning's advice about workers, small batches in a page's example, and its own deprecations.
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("page", "number", "text"), EXAMPLES)
def test_an_example_runs_as_written(
    page: str, number: int, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    exec(compile(text, f"{page} example {number}", "exec"), {"__name__": "docs"})


def test_every_stem_is_told_and_the_stages_shown_are_valid() -> None:
    text = (DOCS / "stems.md").read_text("utf-8")
    for stem in STEMS:
        assert f"| `{stem}`" in text
    [stages] = re.findall(r"```yaml\n(.*?)```", (DOCS / "models.md").read_text("utf-8"), re.DOTALL)
    import yaml

    assert [stage.train for stage in load_stages(yaml.safe_load(stages))] == ["head", "+layer4", "all"]


def test_what_is_exported_is_there() -> None:
    for name in geoaug.models.__all__:
        assert getattr(geoaug.models, name) is not None
    assert set(geoaug.models.__all__) <= set(dir(geoaug.models))
    with pytest.raises(AttributeError, match="no attribute 'resnet19'"):
        getattr(geoaug.models, "resnet19")  # noqa: B009


def test_the_commands_about_fitting_have_the_options_shown() -> None:
    import shlex

    from typer.main import get_command

    from geoaug.cli.main import app

    commands = get_command(app).commands  # type: ignore[attr-defined]
    shown = re.findall(r"^    (geoaug [^#\n]*)", (DOCS / "fitting.md").read_text("utf-8"), flags=re.MULTILINE)
    assert {line.split()[1] for line in shown} == {"fit", "test", "predict", "explain"}
    for line in shown:
        words = shlex.split(line)
        known = {flag for parameter in commands[words[1]].params for flag in parameter.opts}
        assert {word for word in words if word.startswith("-") and "." not in word} <= known, line
