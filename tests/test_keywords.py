"""Options that travel are written down once, and are seen wherever people and programs look for parameters."""

import inspect
import typing
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypedDict, Unpack

import pytest
import yaml

import geoaug
from geoaug.data import TileDataModule, TileDataset
from geoaug.data.datamodule import LoadingKeywords, LoadingOptions
from geoaug.data.loading.options import TileKeywords, TileOptions
from geoaug.errors import ConfigurationError
from geoaug.keywords import shares_options
from geoaug.models.fit.data import FitData
from geoaug.models.fit.fitting import read_configuration


class Keywords(TypedDict, total=False):
    width: int
    height: int


@dataclass(frozen=True)
class Options:
    """Sizes.

    Args:
        width: in pixels, which
            takes two lines.
        height: in pixels.
    """

    width: int = 1
    height: int = 2


@shares_options(Options, without=("height",))
class Taker:
    """Takes options.

    Args:
        name: of it.
        **options: of `Options`.

    Raises:
        TypeError: never.
    """

    def __init__(self, name: str, *, depth: float = 0.5, **options: Unpack[Keywords]) -> None:
        self.name, self.depth, self.options = name, depth, Options(**options)


def test_shared_options_are_in_the_signature_and_in_the_docstring() -> None:
    assert str(inspect.signature(Taker)) == "(name: str, *, depth: float = 0.5, width: int = 1) -> None"
    assert inspect.getdoc(Taker) == (
        "Takes options.\n\nArgs:\n    name: of it.\n    width: in pixels, which\n        takes two lines.\n\n"
        "Raises:\n    TypeError: never."
    )
    assert Taker("a", width=7).options == Options(7, 2)


@pytest.mark.parametrize(("keywords", "options"), [(TileKeywords, TileOptions), (LoadingKeywords, LoadingOptions)])
def test_keywords_are_the_fields_of_the_options(keywords: Any, options: Any) -> None:
    wanted = typing.get_type_hints(options)
    del wanted["size"]
    assert typing.get_type_hints(keywords) == wanted


def test_every_option_is_a_parameter_with_its_default_and_its_words() -> None:
    for taker, options, others in (
        (TileDataset, TileOptions, {"catalog"}),
        (TileDataModule, LoadingOptions, {"source", "augment", "normalize", "drop_last", "pin_memory"}),
        (FitData, LoadingOptions, {"source", "class_ids", "class_names", "recipe", "fit", "normalize", "mean", "std"}),
    ):
        shown = inspect.signature(taker).parameters
        known = {one.name: one.default for one in fields(options)}
        if taker is FitData:
            del known["classes"]
        assert set(shown) == set(known) | others
        assert {name: shown[name].default for name in known} == known
        described = inspect.getdoc(taker) or ""
        assert all(f"\n    {name}: " in described for name in shown), taker


def test_a_wrong_option_is_named() -> None:
    for options, argument in (
        ({"on_error": "ignore"}, "on_error"),
        ({"resampling": "best"}, "resampling"),
        ({"min_valid": 1.5}, "min_valid"),
        ({"gsd_m": 0.0}, "gsd_m"),
        ({"crs": "EPSG:0"}, "crs"),
        ({"memory_mb": 0}, "memory_mb"),
        ({"threads": 0}, "threads"),
    ):
        with pytest.raises(ConfigurationError) as caught:
            TileOptions(**options)  # type: ignore[arg-type]
        assert caught.value.argument == argument
    with pytest.raises(TypeError, match="TileDataset has no option widht"):
        TileOptions.of("TileDataset", {"widht": 3})


def test_the_options_are_flat_in_a_configuration(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "c.yaml"
    data = {"source": "x.tif", "size": 64, "bands": ["B04"], "splits": {"method": "blocks"}, "resampling": "cubic"}
    path.write_text(yaml.safe_dump({"data": data, "model": {"task": "segmentation"}}))
    with pytest.raises(SystemExit):
        read_configuration(["--config", str(path), "--data.min_valid", "0.5", "--print_config"])
    shown = yaml.safe_load(capsys.readouterr().out)["data"]
    assert {name: shown[name] for name in data} == data
    assert (shown["min_valid"], shown["sampler"], shown["memory_mb"]) == (0.5, "locality", 1024)
    with pytest.raises(SystemExit):
        read_configuration(["--help"])
    text = capsys.readouterr().out
    assert "--data.gsd_m GSD_M" in text
    assert "ground sampling distance of the tiles in metres" in " ".join(text.split())


def test_rooms_are_attributes_of_the_package() -> None:
    for room in ("augment", "cli", "data", "io", "models", "sensors"):
        assert getattr(geoaug, room).__name__ == f"geoaug.{room}"
        assert room in dir(geoaug)
    with pytest.raises(AttributeError, match="no attribute 'rooms'"):
        getattr(geoaug, "rooms")  # noqa: B009
