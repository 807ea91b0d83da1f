"""From areas under curves to words: what gives an operation away, from what strength on, and in which bands."""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from geoaug.audit.features import Features
from geoaug.audit.results import Clue, Null, Outcome
from geoaug.audit.two_sample import single_feature_areas

__all__ = ["clues", "verdict"]

# Below this area, nobody would call it seen, however narrow the interval is.
_SEEN, _PLAIN, _OBVIOUS = 0.60, 0.70, 0.90
# Standard errors by which the best of some hundred single features may well differ from one half by chance.
_ERRORS = 4.0
_MOST_BANDS = 4


def clues(first: Features, second: Features) -> tuple[Clue, ...]:
    """Which families of features tell two groups apart, each by its best feature, the clearest first."""
    areas = single_feature_areas(first.values, second.values)
    n, m = len(first.values), len(second.values)
    chance = 0.5 + _ERRORS * np.sqrt((n + m + 1) / (12 * n * m))
    by_family: dict[str, dict[str, float]] = defaultdict(dict)
    for name, area in zip(first.names, areas, strict=True):
        known = by_family[name.family]
        for band in name.bands:
            known[band] = max(known.get(band, 0.5), float(area))
    found = []
    for family, bands in by_family.items():
        best = max(bands.values())
        if best <= chance:
            continue
        # Bands that come more than half as far from chance as the clearest one.
        telling = [band for band, area in bands.items() if area > chance and area - 0.5 > (best - 0.5) / 2]
        telling.sort(key=lambda band: -bands[band])
        most = len(bands) <= 1 or len(telling) > 0.6 * len(bands)
        found.append(Clue(family, best, () if most else tuple(telling[:_MOST_BANDS])))
    return tuple(sorted(found, key=lambda clue: -clue.area))


def seen(outcome: Outcome, null: Null) -> bool:
    """Whether artefacts tell: the interval lies above what the null gives, and the area is worth a word."""
    return outcome.artefact.low > null.auc and outcome.artefact.auc > max(_SEEN, null.high)


def verdict(outcomes: Sequence[Outcome], null: Null) -> str:
    """A sentence about one operation or recipe, from its outcomes by growing strength."""
    last = outcomes[-1]
    if all(one.unchanged == 1.0 for one in outcomes):
        return "changes nothing: every tile comes out as it went in"
    shares = _shares(last)
    first = next((one for one in outcomes if seen(one, null)), None)
    if first is None:
        highest = max(one.artefact.auc for one in outcomes)
        words = f"cannot be told from untouched tiles (AUC {_short(highest)}, null {_short(null.auc)})"
        return f"{words}{'; ' + shares if shares else ''}"
    worst = max((one for one in outcomes if seen(one, null)), key=lambda one: one.artefact.auc)
    area = worst.artefact.auc
    how = "gives it away at once" if area > _OBVIOUS else "gives it away" if area > _PLAIN else "shows a little"
    what, places = "something that only all features together show", ""
    if worst.clues:
        what, places = _named(worst)
    since = "" if first.strength is None or first is outcomes[0] else f" from strength {first.strength:g}"
    if first is outcomes[0] and len(outcomes) > 1:
        since = " at every strength tried"
    words = f"{what} {how}{since}{places} (AUC {_short(area)}, null {_short(null.auc)})"
    return f"{words}{'; ' + shares if shares else ''}"


def _named(outcome: Outcome) -> tuple[str, str]:
    """The clearest clue, and a second one that is as clear; and the bands of the first."""
    clearest = outcome.clues[0]
    what = clearest.family
    if len(outcome.clues) > 1 and outcome.clues[1].area > clearest.area - 0.05:
        what += f", with {outcome.clues[1].family},"
    return what, f" in {_listed(clearest.bands)}" if clearest.bands else ""


def _shares(outcome: Outcome) -> str:
    """What else a person should know of it."""
    measures = outcome.measures
    found = []
    for share, words in (
        (measures.invalid, "of its pixels become invalid"),
        (measures.clipped, "of values are clipped"),
        (measures.unphysical, "of values are no reflectance"),
    ):
        if share >= 0.005:
            found.append(f"{100 * share:.0f} % {words}" if share >= 0.01 else f"{100 * share:.1f} % {words}")
    agreement = measures.label_agreement
    if agreement is not None and agreement < 0.95:
        found.append(f"{100 * (1 - agreement):.0f} % of labels differ after the way there and back")
    return ", ".join(found)


def _listed(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def _short(area: float) -> str:
    return f"{area:.2f}".lstrip("0")
