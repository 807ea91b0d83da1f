"""What is tried of a recipe: strengths where there are any, and nothing of a recipe that draws nothing."""

import pytest

from geoaug.audit.sweep import operation_trials, recipe_trials
from geoaug.augment.recipe import load_recipe
from geoaug.errors import ConfigurationError

RECIPE = load_recipe(
    {
        "operations": [
            "RandomD4",
            {"RandomHaze": {"aod": [0.0, 0.2], "p": 0.4}},
            {"kornia.RandomGaussianBlur": {"kernel_size": [3, 3], "sigma": [0.1, 1.0], "p": 0.2}},
            {"RandAugment": {"count": 1, "strength": 0.4}},
        ]
    }
)


def test_an_operation_alone_applies_to_every_tile() -> None:
    trials = operation_trials(RECIPE, 1, (0.5, 1.0))
    assert [trial.strength for trial in trials] == [0.5, 1.0]
    for trial in trials:
        [operation] = trial.recipe.operations
        assert operation.p == 1.0
        assert operation.strength == trial.strength
    [blur] = operation_trials(RECIPE, 2, (0.5, 1.0))
    assert blur.strength is None
    assert blur.recipe.operations[0].p == 1.0


def test_operations_without_a_strength_are_tried_once() -> None:
    [turn] = operation_trials(RECIPE, 0, (0.3, 0.6, 1.0))
    assert turn.strength is None


def test_a_policy_is_scaled_from_its_own_strength() -> None:
    trials = operation_trials(RECIPE, 3, (0.5, 1.0))
    assert [trial.recipe.operations[0].strength for trial in trials] == [pytest.approx(0.2), pytest.approx(0.4)]


def test_the_whole_recipe_keeps_its_probabilities_and_is_tried_as_it_is_written() -> None:
    trials = recipe_trials(RECIPE, (0.3, 2.0))
    assert [trial.strength for trial in trials] == [0.3, 1.0, 2.0]
    for trial in trials:
        assert trial.recipe.operations[1].p == 0.4
        assert trial.recipe.operations[1].strength == trial.strength
    [only] = recipe_trials(load_recipe({"operations": ["RandomD4"]}), (0.3, 1.0))
    assert only.strength is None


@pytest.mark.parametrize(
    ("operations", "words"),
    [
        ([], "no operations"),
        ([{"RandomHaze": {"p": 0.0}}, {"RandomSensorNoise": {"strength": 0.0}}], "never draws"),
    ],
)
def test_a_recipe_that_draws_nothing_is_refused(operations: list[object], words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        recipe_trials(load_recipe({"operations": operations}), (1.0,))
