"""What an audit found, as values that print, go to JSON and are drawn."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from geoaug.audit.measures import Measures
from geoaug.audit.two_sample import TwoSampleTest

__all__ = ["AuditReport", "Clue", "Null", "OperationAudit", "Outcome", "RecipeAudit"]


@dataclass(frozen=True, slots=True)
class Clue:
    """What tells augmented tiles apart.

    Attributes:
        family: of features.
        area: under the curve of the best single feature of it, .5 to 1.
        bands: in which it tells, the clearest first; empty where it is most of them.
    """

    family: str
    area: float
    bands: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Null:
    """What the same test says where there is nothing to tell: two halves of the untouched tiles, one rounded again.

    Attributes:
        auc: mean over several halvings, of the larger of the two classifiers' areas.
        low: with `high`, between which 95 per cent of halvings lie, by their standard deviation.
        high: see `low`.
        logistic: mean of the first classifier's.
        trees: mean of the second's.
    """

    auc: float
    low: float
    high: float
    logistic: float
    trees: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """A group of tiles beside the untouched ones.

    Attributes:
        strength: that operations were tried at; None where they have none.
        tiles: that could be compared.
        artefact: test on what light and air cannot change.
        appearance: test on the rest.
        clues: by which artefacts tell, the clearest first.
        measures: of the shift.
        unchanged: share of tiles that came out as they went in, bit for bit.
        affinity: accuracy of the model on these tiles over that on the untouched ones; None without a model.
        diversity: loss of the model on these tiles over that on the untouched ones; None without a model.
    """

    strength: float | None
    tiles: int
    artefact: TwoSampleTest
    appearance: TwoSampleTest
    clues: tuple[Clue, ...]
    measures: Measures
    unchanged: float
    affinity: float | None = None
    diversity: float | None = None


@dataclass(frozen=True, slots=True)
class OperationAudit:
    """One operation alone, applied to every tile.

    Attributes:
        name: of the operation.
        arguments: that it has in the recipe.
        outcomes: by growing strength.
        verdict: in a sentence.
    """

    name: str
    arguments: dict[str, Any]
    outcomes: tuple[Outcome, ...]
    verdict: str


@dataclass(frozen=True, slots=True)
class RecipeAudit:
    """A recipe and its operations.

    Attributes:
        name: of the recipe.
        summary: what it is for.
        outcomes: of the whole recipe, by growing strength.
        operations: each alone; empty where these were not asked for.
        verdict: on the recipe as it is written, in a sentence.
    """

    name: str
    summary: str
    outcomes: tuple[Outcome, ...]
    operations: tuple[OperationAudit, ...]
    verdict: str

    @property
    def as_written(self) -> Outcome:
        """The outcome at strength 1."""
        return next(one for one in self.outcomes if one.strength in (None, 1.0))


@dataclass(frozen=True, slots=True)
class AuditReport:
    """All that an audit found.

    Attributes:
        version: of geoaug.
        data: as it was named.
        sensor: that it was taken for.
        bands: of the tiles.
        tiles: untouched ones that were compared with.
        tile: their side in pixels.
        inner: side in pixels of the middle of a tile, in which it is measured.
        artefact_null: of the artefact test.
        appearance_null: of the appearance test.
        against: the other acquisition beside the same untouched tiles; None where none was given.
        recipes: in the order given.
        notes: what a person should know.
        seconds: that it took.
    """

    version: str
    data: tuple[str, ...]
    sensor: str
    bands: tuple[str, ...]
    tiles: int
    tile: int
    inner: int
    artefact_null: Null
    appearance_null: Null
    against: Outcome | None
    recipes: tuple[RecipeAudit, ...]
    notes: tuple[str, ...]
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """As plain values, for JSON."""
        return asdict(self)

    def above(self, auc: float) -> Sequence[RecipeAudit]:
        """The recipes whose artefact test gives more than this as they are written."""
        return [recipe for recipe in self.recipes if recipe.as_written.artefact.auc > auc]
