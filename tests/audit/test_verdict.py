"""Words say what figures say: from where on, by what, in which bands."""

from dataclasses import replace

import numpy as np
import pytest

from geoaug.audit.features import FeatureName, Features
from geoaug.audit.measures import Measures
from geoaug.audit.results import Clue, Null, Outcome
from geoaug.audit.two_sample import TwoSampleTest
from geoaug.audit.verdict import clues, verdict

NULL = Null(0.51, 0.46, 0.57, 0.5, 0.51)
MEASURES = Measures((0.0,), (0.0,), (0.0,), (0.0,), (1.0,), (0.0,), None, None, {}, 0.0, 0.0, 0.0)


def outcome(strength: float | None, auc: float, found: tuple[Clue, ...] = ()) -> Outcome:
    test = TwoSampleTest(auc, auc - 0.04, auc + 0.04, auc, auc - 0.01)
    return Outcome(strength, 200, test, test, found, MEASURES, 0.0)


def test_the_first_strength_that_shows_is_named_with_its_bands() -> None:
    noise = (Clue("noise", 0.8, ("B01", "B10")),)
    words = verdict([outcome(0.3, 0.52), outcome(0.6, 0.75, noise), outcome(1.0, 0.83, noise)], NULL)
    assert words == "noise gives it away from strength 0.6 in B01 and B10 (AUC .83, null .51)"


def test_what_shows_at_the_least_strength_is_said_to_show_always() -> None:
    words = verdict([outcome(0.3, 0.8, (Clue("noise", 0.8, ()),)), outcome(1.0, 0.85, (Clue("noise", 0.8, ()),))], NULL)
    assert words == "noise gives it away at every strength tried (AUC .85, null .51)"


def test_what_cannot_be_told_is_said_to_be() -> None:
    assert "cannot be told" in verdict([outcome(0.3, 0.5), outcome(1.0, 0.56)], NULL)
    # A high area with an interval that reaches into the null says nothing either.
    wide = replace(outcome(1.0, 0.62), artefact=TwoSampleTest(0.62, 0.49, 0.75, 0.62, 0.6))
    assert "cannot be told" in verdict([wide], NULL)


def test_how_plain_it_is_and_what_else_happens() -> None:
    assert "at once" in verdict([outcome(None, 0.97, (Clue("sharpness", 0.9, ()),))], NULL)
    assert "shows a little" in verdict([outcome(None, 0.66, (Clue("sharpness", 0.6, ()),))], NULL)
    lossy = replace(outcome(None, 0.5), measures=replace(MEASURES, invalid=0.12, label_agreement=0.8))
    words = verdict([lossy], NULL)
    assert "12 % of its pixels become invalid" in words
    assert "20 % of labels differ" in words
    assert "changes nothing" in verdict([replace(outcome(1.0, 0.5), unchanged=1.0)], NULL)


@pytest.mark.parametrize("telling", [(0, 3), (0, 1, 2, 3)])
def test_clues_name_family_and_bands(telling: tuple[int, ...]) -> None:
    random = np.random.default_rng(0)
    names = tuple(FeatureName(family, "x", (f"B{n}",)) for family in ("noise", "sharpness") for n in range(4))
    first, second = random.normal(size=(200, 8)), random.normal(size=(200, 8))
    second[:, list(telling)] += 1.5
    found = clues(Features(names, first), Features(names, second))
    assert [clue.family for clue in found] == ["noise"]
    assert set(found[0].bands) == (set() if len(telling) == 4 else {f"B{n}" for n in telling})
