"""Recipes: an augmentation written down in YAML, the same for the command line, for training and beside the output.

A recipe names a sensor (optional), an output size (optional) and operations in order, each its class name alone or
with arguments. Mistakes are reported with the line of the file. What a name may be is in `registry`.
"""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError
from torch import nn

from geoaug.augment.compose import Compose
from geoaug.augment.kernels.portable import Interpolation
from geoaug.augment.operations.base import as_size
from geoaug.augment.planning.band_grids import BandResampling
from geoaug.augment.planning.cover import Cover
from geoaug.augment.planning.scale import normalization
from geoaug.augment.registry import (
    OperationError,
    build_operation,
    check_arguments,
    find_operation,
    operations_within,
)
from geoaug.errors import ConfigurationError
from geoaug.packages import package_of
from geoaug.presets import RecipeSummary, available_recipes, find_recipe, preset_text
from geoaug.sensors import get_sensor

__all__ = [
    "OperationSpec",
    "Recipe",
    "RecipeSummary",
    "available_recipes",
    "dump_yaml",
    "load_recipe",
    "needed_packages",
    "preset_text",
]


# Levels of a recipe whose lines are known: operations, position, name, argument, and the numbers of a range.
_DEEPEST = 6


class _MeanAndStd(BaseModel):
    """Numbers to normalise by, one for each band."""

    model_config = ConfigDict(extra="forbid")

    mean: list[float]
    std: list[float]


class _RecipeModel(BaseModel):
    """The shape of a recipe file."""

    model_config = ConfigDict(extra="forbid")

    summary: str = ""
    sensor: str | None = None
    size: int | tuple[int, int] | None = None
    cover: Cover = "leave"
    normalize: str | _MeanAndStd | None = None
    band_resampling: BandResampling | None = None
    interpolation: Interpolation = "sharp"
    packages: dict[str, str] = {}
    operations: list[str | dict[str, dict[str, Any] | None]]

    def check_size(self) -> None:
        """Raise `ConfigurationError` for a size that no tile has."""
        if self.size is not None:
            as_size(self.size, "size")

    def check_normalize(self) -> None:
        """Raise `ConfigurationError` for numbers that normalise nothing."""
        if isinstance(self.normalize, _MeanAndStd):
            if len(self.normalize.mean) != len(self.normalize.std):
                raise ConfigurationError("normalize has a mean and a std for each band")
            normalization((self.normalize.mean, self.normalize.std), None, "reflectance")

    def check_sensor(self) -> None:
        """Raise `ConfigurationError` for a sensor that does not exist."""
        if self.sensor is not None:
            get_sensor(self.sensor)


RECIPE_KEYS = tuple(_RecipeModel.model_fields)
"""What may stand in a recipe, in the order in which it is written."""


@dataclass(frozen=True, slots=True)
class OperationSpec:
    """One operation of a recipe: its class name and all its arguments, defaults included."""

    name: str
    arguments: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Recipe:
    """A checked recipe.

    Attributes:
        name: of the preset, or of the file.
        summary: what it is for.
        sensor: name or path of the sensor it was written for, or None.
        size: of the output tile, or None.
        cover: what becomes of corners that turn in from beyond a tile; see `Compose`.
        specs: the operations in order.
        normalize: (mean, std) per band, or the file of `geoaug stats` that holds them, as the recipe names it.
        band_resampling: by which bands that are coarser than the tile's pixels came to them, or None.
        interpolation: by which the tile is resampled; see `Compose`.
        folder: of the recipe's file, from which that file is looked for; None for a recipe without one.
        imports: packages that the user allows to be imported for the operations.
    """

    name: str
    summary: str
    sensor: str | None
    size: int | tuple[int, int] | None
    specs: tuple[OperationSpec, ...]
    normalize: str | tuple[list[float], list[float]] | None = None
    band_resampling: BandResampling | None = None
    folder: Path | None = None
    imports: tuple[str, ...] = field(default=(), repr=False, compare=False)
    cover: Cover = "leave"
    interpolation: Interpolation = "sharp"

    @property
    def operations(self) -> list[nn.Module]:
        """The operations, newly built."""
        return [build_operation(spec.name, spec.arguments, self.imports) for spec in self.specs]

    def compose(self, **arguments: Any) -> Compose:
        """`Compose` of this recipe; arguments win over what the recipe says of the tiles."""
        by: Any = self.normalize
        if isinstance(by, str) and self.folder is not None:
            by = self.folder / by
        tiles = {"sensor": self.sensor, "size": self.size, "cover": self.cover, "normalize": by}
        chosen = {**tiles, "interpolation": self.interpolation, **arguments}
        if self.band_resampling is not None:
            chosen.setdefault("band_resampling", self.band_resampling)
        return Compose(self.operations, **chosen)

    def resolved(self) -> dict[str, Any]:
        """The recipe with every default written out, as it would stand in a file.

        Where operations come from other packages than geoaug and kornia, their versions stand under `packages`.
        """
        head: dict[str, Any] = {"summary": self.summary or None, "sensor": self.sensor, "size": _plain(self.size)}
        head["cover"] = None if self.cover == "leave" else self.cover
        by = self.normalize
        head["normalize"] = by if by is None or isinstance(by, str) else {"mean": by[0], "std": by[1]}
        head["band_resampling"] = self.band_resampling
        head["interpolation"] = None if self.interpolation == "sharp" else self.interpolation
        head["packages"] = needed_packages(self) or None
        operations = [
            {spec.name: {name: _plain(value) for name, value in spec.arguments.items()}}
            if spec.arguments
            else spec.name
            for spec in self.specs
        ]
        return {
            **{name: value for name, value in head.items() if value is not None},
            "operations": operations,
        }

    def to_yaml(self) -> str:
        """`resolved` as YAML text, one operation a line."""
        return dump_yaml(self.resolved())


def load_recipe(source: str | Path | Mapping[str, Any] | Recipe, *, imports: Sequence[str] = ()) -> Recipe:
    """A recipe from a preset's name, a YAML file, or a mapping of the same shape.

    Args:
        source: see above.
        imports: packages that may be imported for operations with dotted names, such as "mylab" for
            `mylab.RandomSnow`, besides those in the environment variable `GEOAUG_IMPORTS`. A recipe by itself imports
            nothing: it may have come from anywhere, and importing is running code.

    Raises:
        ConfigurationError: no such preset or file, or a mistake in it, with the file and its line.

    Warns:
        UserWarning: the recipe was written with another version of a package that it needs.
    """
    allowed = tuple(imports)
    if isinstance(source, Recipe):
        return replace(source, imports=(*source.imports, *allowed)) if allowed else source
    if isinstance(source, Mapping):
        return _checked(dict(source), "recipe", {}, allowed)
    found = find_recipe(source)
    return _parsed(found.text, found.name, found.origin, allowed)


def needed_packages(recipe: Recipe) -> dict[str, str]:
    """Versions of the installed packages that a recipe's operations come from, by name; without geoaug and kornia."""
    names = [name for spec in recipe.specs for name in (spec.name, *operations_within(spec.arguments))]
    found = (package_of(find_operation(name, recipe.imports).__module__) for name in names)
    return dict(package for package in found if package is not None)


def dump_yaml(content: Mapping[str, Any]) -> str:
    """YAML as people write recipes: keys in order, arguments of an operation on one line."""
    lines = [f"{key}: {_flow(value)}" for key, value in content.items() if key != "operations"]
    lines.append("operations:")
    for item in content["operations"]:
        if isinstance(item, str):
            lines.append(f"  - {item}")
        else:
            [(name, arguments)] = item.items()
            lines.append(f"  - {name}: {_flow(arguments)}")
    return "\n".join(lines) + "\n"


def _flow(value: Any) -> str:
    return yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=10**6).removesuffix("...\n").strip()


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _plain(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(part) for part in value]
    return value


def _parsed(text: str, name: str, origin: str, imports: tuple[str, ...]) -> Recipe:
    try:
        content, node = yaml.safe_load(text), yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = "" if mark is None else f":{mark.line + 1}"
        raise ConfigurationError(f"{origin}{line}: not YAML: {getattr(error, 'problem', error)}") from None
    if not isinstance(content, dict):
        raise ConfigurationError(f"{origin}: a recipe is a mapping with a list of 'operations'")
    recipe = _checked(content, origin, _lines(node, origin), imports)
    folder = Path(origin).parent if Path(origin).is_file() else None
    return replace(recipe, name=name, folder=folder)


def _checked(
    content: dict[str, Any], origin: str, lines: dict[tuple[Any, ...], int], imports: tuple[str, ...]
) -> Recipe:
    try:
        model = _RecipeModel.model_validate(content)
    except ValidationError as error:
        # A misspelt key is also a missing one; the misspelling says more.
        first = min(error.errors(), key=lambda found: found["type"] != "extra_forbidden")
        where, what = first["loc"], first["msg"].removeprefix("Value error, ")
        if first["type"] == "extra_forbidden":
            near = difflib.get_close_matches(str(where[0]), _RecipeModel.model_fields, n=1, cutoff=0.5)
            what = f"unknown key '{where[0]}'; " + (
                f"did you mean '{near[0]}'?" if near else f"keys are {', '.join(_RecipeModel.model_fields)}"
            )
        elif where[:1] == ("operations",) and len(where) > 1:
            what = "an operation is its name, or its name with arguments: - RandomRotation: {degrees: 20}"
        else:
            what = f"{'.'.join(map(str, where))}: {what}"
        raise ConfigurationError(f"{_at(origin, lines, tuple(where))}{what}") from None
    checks = (("size", model.check_size), ("sensor", model.check_sensor), ("normalize", model.check_normalize))
    for key, check in checks:
        try:
            check()
        except ConfigurationError as error:
            raise ConfigurationError(f"{_at(origin, lines, (key,))}{error}") from None
    specs = []
    for position, item in enumerate(model.operations):
        if isinstance(item, dict) and len(item) != 1:
            at = _at(origin, lines, ("operations", position))
            raise ConfigurationError(f"{at}one operation to an entry, not {len(item)}: {', '.join(item)}")
        name, arguments = (item, {}) if isinstance(item, str) else next(iter(item.items()))
        arguments = arguments or {}
        try:
            build_operation(name, arguments, imports)
            complete = check_arguments(name, arguments, imports)
        except OperationError as error:
            path = ("operations", position, name, error.argument)
            raise ConfigurationError(f"{_at(origin, lines, path)}{error}", argument=error.argument) from None
        stated = {k: _plain(v) for k, v in complete.items() if v is not None and not _is_default(k, v)}
        specs.append(OperationSpec(name, stated))
    by = model.normalize
    numbers = (by.mean, by.std) if isinstance(by, _MeanAndStd) else by
    head = ("recipe", model.summary, model.sensor, model.size, tuple(specs), numbers, model.band_resampling)
    recipe = Recipe(*head, imports=imports, cover=model.cover, interpolation=model.interpolation)
    if model.packages:
        installed = needed_packages(recipe)
        for package, written in model.packages.items():
            if installed.get(package, written) != written:
                warnings.warn(
                    f"{origin}: written with {package} {written}, and {installed[package]} is installed, whose "
                    "operations may do something else",
                    stacklevel=4,
                )
    return recipe


def _is_default(name: str, value: Any) -> bool:
    """Arguments that every operation has say nothing about the augmentation while they are what they always are."""
    usual = {"same_on_batch": False, "keepdim": False, "same_on_time": False, "strength": 1.0}
    return name in usual and value == usual[name]


def _at(origin: str, lines: Mapping[tuple[Any, ...], int], path: tuple[Any, ...]) -> str:
    """Where a mistake is: the file, and the line of the nearest thing whose line is known."""
    while path:
        if path in lines:
            return f"{origin}:{lines[path]}: "
        path = path[:-1]
    return f"{origin}: "


def _lines(node: yaml.Node | None, origin: str, path: tuple[Any, ...] = ()) -> dict[tuple[Any, ...], int]:
    """Line numbers of everything in a YAML document by its path of keys and positions; a key twice is an error."""
    if node is None or len(path) > _DEEPEST:  # an alias may hold itself
        return {}
    found = {path: node.start_mark.line + 1}
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if (*path, key.value) in found:
                raise ConfigurationError(f"{origin}:{key.start_mark.line + 1}: '{key.value}' stands here twice")
            found |= _lines(value, origin, (*path, key.value))
            found[(*path, key.value)] = key.start_mark.line + 1
    elif isinstance(node, yaml.SequenceNode):
        for position, value in enumerate(node.value):
            found |= _lines(value, origin, (*path, position))
    return found
