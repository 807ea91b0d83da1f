"""What all commands share: help that is quick, one line for an error, exit codes."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

HEAVY = ("torch", "kornia", "rasterio", "geopandas", "pandas", "numpy", "matplotlib", "yaml")


def test_help_loads_nothing_heavy() -> None:
    program = (
        "import sys\n"
        "from geoaug.cli.main import main\n"
        "codes = [main(['--help']), main(['augment', '--help']), main(['--version'])]\n"
        f"heavy = [name for name in {HEAVY!r} if name in sys.modules]\n"
        "sys.exit(f'loaded {heavy}' if heavy else max(codes))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "augment" in done.stdout


def test_the_console_script_answers(geoaug: Callable) -> None:
    import geoaug as package

    script = Path(sys.executable).with_name("geoaug")
    if not script.exists():
        pytest.skip("geoaug is not installed as a console script beside this Python")
    done = subprocess.run([script, "--version"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, f"geoaug {package.__version__}\n")


def test_help_names_every_option_of_augment(geoaug: Callable) -> None:
    outcome = geoaug("augment", "--help")
    assert outcome.code == 0
    wanted = (
        "output recipe copies tile stride bands sensor labels label-field seed device batch-size workers min-valid "
        "include-original format compress overwrite"
    )
    assert [name for name in wanted.split() if f"--{name}" not in outcome.out] == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["augment", "scene.tif"], "--output"),
        (["augment", "gone.tif", "-o", "out"], "gone.tif: no such file"),
        (["augment", "gone.tif", "-o", "out", "--copeis", "3"], "--copies"),
        (["augment", "gone.tif", "-o", "out", "--copies", "three"], "--copies"),
        (["augment", "gone.tif", "-o", "out", "--format", "png"], "png"),
        (["augmnet"], "augmnet"),
        (["recipes", "show", "standrad"], "standard"),
        (["info", "gone.tif"], "gone.tif: no such file"),
        (["preview", "gone.tif"], "gone.tif: no such file"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_usage_is_one_line_and_exit_code_2(arguments: list[str], words: str, geoaug: Callable) -> None:
    outcome = geoaug(*arguments)
    assert outcome.code == 2
    assert outcome.out == ""
    assert outcome.err.startswith("geoaug: error: ")
    assert outcome.err.count("\n") == 1
    assert words in outcome.err


def test_debug_shows_where_an_error_came_from(geoaug: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    from geoaug.errors import ConfigurationError

    with pytest.raises(ConfigurationError):
        geoaug("info", "gone.tif", "--debug")
    monkeypatch.setenv("GEOAUG_DEBUG", "1")
    with pytest.raises(ConfigurationError):
        geoaug("info", "gone.tif")


def test_a_fault_of_geoaug_is_one_line_too(geoaug: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    from geoaug.data.catalog import inputs

    def broken(*arguments: object, **options: object) -> None:
        raise TypeError("a fault\nof two lines")

    monkeypatch.setattr(inputs, "open_scenes", broken)
    outcome = geoaug("info", "scene.tif")
    assert outcome.code == 1
    assert outcome.err.startswith("geoaug: error: unexpected TypeError: a fault of two lines")
    assert outcome.err.count("\n") == 1


def test_recipes_are_listed_and_one_can_be_copied(geoaug: Callable, tmp_path: Path) -> None:
    from geoaug.augment import load_recipe

    listed = geoaug("recipes")
    assert listed.code == 0
    assert all(name in listed.out for name in ("light", "standard", "strong"))
    shown = geoaug("recipes", "show", "strong")
    (tmp_path / "mine.yaml").write_text(shown.out)
    assert load_recipe(tmp_path / "mine.yaml").specs == load_recipe("strong").specs
    assert shown.out.startswith("#")
