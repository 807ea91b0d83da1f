"""What a stress test found, as values that print, go to JSON and are drawn."""

from dataclasses import asdict, dataclass
from typing import Any

from geoaug.audit.stress.subject import Metric

__all__ = ["Level", "Measured", "NuisanceResult", "StressReport", "WorstTile"]


@dataclass(frozen=True, slots=True)
class Measured:
    """A metric over tiles, and 95 per cent of a bootstrap over them."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Level:
    """One strength of a nuisance.

    Attributes:
        strength: in the nuisance's unit.
        metric: under it.
        loss: of the metric against the clean tiles, above 0 where it is worse; paired tile by tile.
    """

    strength: float
    metric: Measured
    loss: Measured


@dataclass(frozen=True, slots=True)
class WorstTile:
    """A tile that suffers most.

    Attributes:
        tile: its number.
        name: of its scene.
        truth: the right answer.
        clean: what the model says of the tile as it is.
        under: what it says of it under the nuisance, at its greatest strength.
    """

    tile: int
    name: str
    truth: str
    clean: str
    under: str


@dataclass(frozen=True, slots=True)
class NuisanceResult:
    """A nuisance over its strengths.

    Attributes:
        name: of the nuisance.
        unit: of the strength.
        levels: from the weakest on.
        mean: of the metric over the levels.
        loss: of the mean against the clean tiles, above 0 where it is worse.
        worst: tiles that suffer most at the greatest strength.
        verdict: in words.
    """

    name: str
    unit: str
    levels: tuple[Level, ...]
    mean: float
    loss: Measured
    worst: tuple[WorstTile, ...]
    verdict: str


@dataclass(frozen=True, slots=True)
class StressReport:
    """All that a stress test found.

    Attributes:
        version: of geoaug.
        model: as it was named.
        data: as they were named.
        sensor: of the tiles.
        bands: likewise.
        tiles: that were judged.
        tile: height and width of a tile as it was read, in pixels.
        metric: what was measured.
        clean: it on the tiles as they are.
        nuisances: the result of each.
        mean: of the metric over all nuisances.
        loss: of that mean against the clean tiles, above 0 where it is worse.
        notes: what a person should know.
        seconds: that it took.
    """

    version: str
    model: str
    data: tuple[str, ...]
    sensor: str
    bands: tuple[str, ...]
    tiles: int
    tile: tuple[int, int]
    metric: Metric
    clean: Measured
    nuisances: tuple[NuisanceResult, ...]
    mean: float
    loss: Measured
    notes: tuple[str, ...]
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """As plain values, for JSON."""
        return asdict(self)
