"""The recipes that come with geoaug and the files of others, as text; what they mean is `geoaug.augment.recipe`'s.

Nothing here imports torch, so that listing them is quick.
"""

import difflib
from dataclasses import dataclass
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

import yaml

from geoaug.errors import ConfigurationError

_ORDER = (
    "light",
    "standard",
    "strong",
    "robust",
    "sentinel-2-classification",
    "sentinel-2-segmentation",
    "landsat",
    "sentinel-1",
    "aerial-rgb",
)


GENERAL = {"optical": "standard", "sar": "sentinel-1"}
"""The preset for images of each domain of which nothing more is known."""


@dataclass(frozen=True, slots=True)
class RecipeSummary:
    """A preset's name and what it is for, in a line."""

    name: str
    summary: str


@dataclass(frozen=True, slots=True)
class RecipeText:
    """A recipe as it is written, its name, and what errors call it: the path of its file, or the preset's name."""

    text: str
    name: str
    origin: str


def find_recipe(source: str | Path) -> RecipeText:
    """The text of a preset by its name, or of a recipe file.

    Raises:
        ConfigurationError: no such preset or file, or one that is no text.
    """
    names = preset_names()
    if str(source) in names:
        return RecipeText(preset_text(str(source)), str(source), str(source))
    path = Path(source)
    if not path.is_file():
        near = difflib.get_close_matches(str(source), names, n=1, cutoff=0.5)
        hint = f"did you mean '{near[0]}'?" if near else f"presets are {', '.join(names)}"
        raise ConfigurationError(f"{source}: neither a recipe file nor a preset; {hint}")
    try:
        return RecipeText(path.read_text(encoding="utf-8"), path.stem, str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path}: cannot be read as a recipe: {error}") from error


def preset_names() -> tuple[str, ...]:
    """Names of the presets, the general ones first, from the gentlest to the strongest."""
    names = [item.name.removesuffix(".yaml") for item in _folder().iterdir() if item.name.endswith(".yaml")]
    return tuple(sorted(names, key=lambda name: (_ORDER.index(name) if name in _ORDER else len(_ORDER), name)))


def available_recipes() -> tuple[RecipeSummary, ...]:
    """The presets that come with geoaug, the general ones first, from the gentlest to the strongest."""
    return tuple(RecipeSummary(name, yaml.safe_load(preset_text(name))["summary"]) for name in preset_names())


def preset_text(name: str) -> str:
    """The YAML of a preset, comments included."""
    return _folder().joinpath(f"{name}.yaml").read_text(encoding="utf-8")


def _folder() -> Traversable:
    # Not through the package `geoaug.augment.presets`: that would import `geoaug.augment`, and torch with it.
    return resources.files("geoaug").joinpath("augment", "presets")
