"""What is tried of a recipe: the whole of it and each of its operations alone, at several strengths."""

import inspect
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from geoaug.augment.recipe import OperationSpec, Recipe
from geoaug.augment.registry import OperationError, build_operation, find_operation
from geoaug.errors import ConfigurationError

__all__ = ["Trial", "operation_trials", "recipe_trials"]


@dataclass(frozen=True, slots=True)
class Trial:
    """A recipe to be tried.

    Attributes:
        recipe: which is applied as it is.
        strength: factor on what its operations were asked for; None where nothing in it has a strength.
    """

    recipe: Recipe
    strength: float | None


def recipe_trials(recipe: Recipe, strengths: Sequence[float]) -> list[Trial]:
    """The whole recipe at each strength: of its operations, those that have one; probabilities stay.

    Always as it is written, at strength 1.

    Raises:
        ConfigurationError: a recipe without operations, or whose operations never apply.
    """
    if not recipe.specs:
        raise ConfigurationError(f"recipe '{recipe.name}' has no operations: there is nothing to audit")
    if all(_never(spec) for spec in recipe.specs):
        raise ConfigurationError(f"recipe '{recipe.name}' never draws anything: every operation has p or strength 0")
    found = []
    for strength in sorted({*strengths, 1.0}):
        specs = [_scaled(spec, strength, recipe.imports) for spec in recipe.specs]
        if strength != 1.0 and all(one is None for one in specs):
            continue
        kept = tuple(one or spec for one, spec in zip(specs, recipe.specs, strict=True))
        found.append(Trial(replace(recipe, specs=kept), strength))
    return found if len(found) > 1 else [replace(found[0], strength=None)]


def operation_trials(recipe: Recipe, position: int, strengths: Sequence[float]) -> list[Trial]:
    """One operation of a recipe alone, applied to every tile, at each strength; once where it has none.

    Args:
        recipe: which holds it.
        position: of the operation among `recipe.specs`.
        strengths: factors on what it was asked for.
    """
    spec = recipe.specs[position]
    always = _with(spec, p=1.0) if _takes(spec, "p", recipe.imports) else spec
    found = []
    for strength in sorted(set(strengths)):
        scaled = _scaled(always, strength, recipe.imports)
        if scaled is None:
            return [Trial(replace(recipe, specs=(always,)), None)]
        found.append(Trial(replace(recipe, specs=(scaled,)), strength))
    return found


def _never(spec: OperationSpec) -> bool:
    return spec.arguments.get("p") == 0 or spec.arguments.get("strength") == 0


def _scaled(spec: OperationSpec, strength: float, imports: Sequence[str]) -> OperationSpec | None:
    """An operation at a share of its strength; None where it has none."""
    if not _takes(spec, "strength", imports):
        return None
    usual = build_operation(spec.name, spec.arguments, imports)
    scaled = _with(spec, strength=strength * float(getattr(usual, "strength", 1.0)))
    probe = _with(spec, strength=0.5)
    try:
        build_operation(probe.name, probe.arguments, imports)
    except OperationError:
        return None
    build_operation(scaled.name, scaled.arguments, imports)
    return scaled


def _takes(spec: OperationSpec, argument: str, imports: Sequence[str]) -> bool:
    return argument in inspect.signature(find_operation(spec.name, imports)).parameters


def _with(spec: OperationSpec, **arguments: Any) -> OperationSpec:
    return replace(spec, arguments={**spec.arguments, **arguments})
