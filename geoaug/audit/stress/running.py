"""A stress test from tiles in memory to its results: each nuisance at each strength, judged tile by tile."""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

import geoaug
from geoaug.audit.bench import Steps
from geoaug.audit.examples import Example
from geoaug.audit.stress.nuisances import Nuisance, chosen_nuisances, nuisances_for
from geoaug.audit.stress.results import Level, Measured, NuisanceResult, StressReport, WorstTile
from geoaug.audit.stress.subject import Judged, Metric, Subject
from geoaug.audit.tiles import LEAST_TILES
from geoaug.augment.compose import Compose
from geoaug.errors import ConfigurationError
from geoaug.rng.draws import sample_keys

__all__ = ["StressTiles", "WorstPictures", "run_stress"]

_BATCH = 32
_RESAMPLED = 400
_WORST = 3
# By the name of the nuisance: tiles as they are, and under it.
WorstPictures = dict[str, tuple[tuple[Example, Example], ...]]


@dataclass(frozen=True, slots=True, eq=False)
class StressTiles:
    """Tiles as they are stored, with what is known of them.

    Attributes:
        batch: as `Compose` takes it, with labels; its tensors have a row a tile.
        names: of the scene of each tile.
        notes: what a person should know.
    """

    batch: Mapping[str, Any]
    names: tuple[str, ...]
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.batch["image"])

    def rows(self, chosen: Sequence[int] | range, seed: int) -> dict[str, Any]:
        """Some of the tiles, with keys that follow from their numbers."""
        places = np.asarray(chosen)
        found = {
            # Through numpy, because torch indexes no uint16 on some versions.
            name: torch.from_numpy(value.numpy()[places])
            if isinstance(value, Tensor)
            else [value[place] for place in chosen]
            for name, value in self.batch.items()
        }
        return {**found, "key": sample_keys(seed, torch.from_numpy(places))}


def run_stress(
    subject: Subject,
    tiles: StressTiles,
    *,
    model: str,
    data: Sequence[str],
    nuisances: Sequence[str] | None = None,
    seed: int = 0,
    on_progress: Callable[[int, int], None] | None = None,
    cancel: threading.Event | None = None,
) -> tuple[StressReport, WorstPictures]:
    """Put a model under stress.

    Args:
        subject: the model.
        tiles: with labels.
        model: what the report calls it.
        data: what the report calls the tiles.
        nuisances: names of some; None: all that the sensor knows.
        seed: of what is left to chance.
        on_progress: called with the steps done and all of them.
        cancel: set to stop.

    Returns:
        What was found, and pictures of the worst tiles of each nuisance, before and under it.

    Raises:
        ConfigurationError: too few tiles, none with a label, or a nuisance that there is not.
        KeyboardInterrupt: it was cancelled.
    """
    started = time.perf_counter()
    if len(tiles) < LEAST_TILES:
        raise ConfigurationError(
            f"{len(tiles)} tiles are too few for a stress test, {LEAST_TILES} are the least: name more data, or a "
            "smaller tile"
        )
    chosen = chosen_nuisances(nuisances_for(subject.sensor, pixels=subject.pixels), nuisances)
    steps = Steps(1 + sum(len(one.levels) for one in chosen), on_progress, cancel)
    test = _Test(subject, tiles, seed)
    clean = test.judged([])
    if np.isnan(clean.loss).all():
        raise ConfigurationError("no tile has a label: a stress test needs the truth")
    steps.done()
    weights = np.random.default_rng([seed, 1]).multinomial(
        len(tiles), np.full(len(tiles), 1 / len(tiles)), size=_RESAMPLED
    )
    scale = _Scale(subject, np.vstack([np.ones(len(tiles)), weights]))
    before = scale.of(clean)
    results, pictures = [], WorstPictures()
    losses = []
    for nuisance in chosen:
        levels, judged = [], []
        for strength in nuisance.levels:
            found = test.judged([nuisance.build(strength)])
            judged.append(scale.of(found))
            levels.append(Level(strength, _measured(judged[-1]), _measured(scale.worse(before, judged[-1]))))
            steps.done()
        mean = np.mean(judged, axis=0)
        losses.append(scale.worse(before, mean))
        worst = _worst(clean, found)
        results.append(
            NuisanceResult(
                nuisance.name, nuisance.unit, tuple(levels), float(mean[0]), _measured(losses[-1]),
                tuple(test.worst_tile(number, clean, found) for number in worst),
                _verdict(levels, nuisance, subject.metric),
            )
        )  # fmt: skip
        pictures[nuisance.name] = test.pictures(worst, nuisance)
    image = tiles.batch["image"]
    report = StressReport(
        version=geoaug.__version__,
        model=model,
        data=tuple(data),
        sensor=subject.sensor.name,
        bands=subject.sensor.band_names,
        tiles=len(tiles),
        tile=(int(image.shape[-2]), int(image.shape[-1])),
        metric=subject.metric,
        clean=_measured(before),
        nuisances=tuple(results),
        mean=float(np.mean([one.mean for one in results])),
        loss=_measured(np.mean(losses, axis=0)),
        notes=(*tiles.notes, *_warnings(tiles, test)),
        seconds=time.perf_counter() - started,
    )
    return report, pictures


class _Test:
    """A model and the tiles that it is tried on."""

    def __init__(self, subject: Subject, tiles: StressTiles, seed: int) -> None:
        self._subject, self._tiles, self._seed = subject, tiles, seed
        self.truth: tuple[str, ...] = ()

    def judged(self, operations: Sequence[torch.nn.Module]) -> Judged:
        """The model's answers for all tiles under some operations."""
        compose = self._subject.compose(operations, cover="reflect").train()
        parts: list[Judged] = []
        truth: list[str] = []
        for first in range(0, len(self._tiles), _BATCH):
            batch = self._rows(range(first, min(first + _BATCH, len(self._tiles))))
            if not self.truth:
                truth += self._subject.truth(batch)
            parts.append(self._subject.judge(compose(batch)))
        self.truth = self.truth or tuple(truth)
        return Judged.joined(parts)

    def worst_tile(self, number: int, clean: Judged, under: Judged) -> WorstTile:
        """A tile with its truth, and what the model says of it clean and under a nuisance."""
        return WorstTile(
            number, self._tiles.names[number], self.truth[number], clean.said[number], under.said[number]
        )  # fmt: skip

    def pictures(self, numbers: Sequence[int], nuisance: Nuisance) -> tuple[tuple[Example, Example], ...]:
        """Tiles as they are, and at the greatest strength of a nuisance."""
        if not len(numbers):
            return ()
        batch = self._rows(numbers)
        image = batch["image"]
        compose = Compose(
            [nuisance.build(nuisance.levels[-1])],
            self._subject.sensor,
            cover="reflect",
            out_units="dn",
            out_dtype=torch.float32,
        )
        changed = compose.train()(batch)
        before = _examples(image, batch.get("valid"))
        return tuple(zip(before, _examples(changed["image"], changed["valid"]), strict=True))

    def _rows(self, numbers: Sequence[int] | range) -> dict[str, Any]:
        return self._tiles.rows(numbers, self._seed)


def _examples(image: Tensor, valid: Tensor | None) -> list[Example]:
    known = torch.ones_like(image[:, :1], dtype=torch.bool) if valid is None else valid
    return [Example(one.numpy(), mask[0].numpy()) for one, mask in zip(image, known, strict=True)]


class _Scale:
    """The metric over all tiles, and over resamplings of them."""

    def __init__(self, subject: Subject, weights: Float[np.ndarray, "r n"]) -> None:
        self._subject, self._weights = subject, weights

    def of(self, judged: Judged) -> Float[np.ndarray, " r"]:
        """The metric of each resampling; the first is of all tiles."""
        return self._subject.value(self._weights @ judged.sums)

    def worse(self, before: np.ndarray, after: np.ndarray) -> np.ndarray:
        """By how much the second is worse than the first."""
        loss: np.ndarray = before - after if self._subject.metric.higher_is_better else after - before
        return loss


def _measured(values: Float[np.ndarray, " r"]) -> Measured:
    low, high = np.nanquantile(values[1:], [0.025, 0.975])
    return Measured(float(values[0]), float(low), float(high))


def _worst(clean: Judged, under: Judged) -> list[int]:
    """Tiles that suffer most, the worst first; none where none suffers."""
    change = np.nan_to_num(under.loss - clean.loss, nan=-np.inf)
    order = np.argsort(-change, kind="stable")[:_WORST]
    return [int(number) for number in order if change[number] > 0]


def _verdict(levels: Sequence[Level], nuisance: Nuisance, metric: Metric) -> str:
    """What becomes of the metric, from the intervals of its loss."""
    last = levels[-1]
    points = " points" if metric.unit == "%" else f" {metric.unit}" if metric.unit else ""
    first = next((one for one in levels if one.loss.low > 0), None)
    if first is None:
        gained = " and gains where it is strong" if last.loss.high < 0 else ""
        return f"no loss that these tiles can show{gained}"
    where = f"from {first.strength:g} {nuisance.unit.split(',')[0]}"
    return f"loses {where}; {_number(last.loss.value)}{points} at {last.strength:g}"


def _number(value: float) -> str:
    return f"{value:.1f}" if abs(value) >= 1 else f"{value:.2g}"


def _warnings(tiles: StressTiles, test: _Test) -> list[str]:
    found = []
    if len(tiles) < 100:
        found.append(f"{len(tiles)} tiles make wide intervals: 200 or more tell finer differences")
    if len(set(test.truth)) == 1 and test.truth[0]:
        found.append(f"all tiles have one truth ({test.truth[0]}): what tells classes apart is not tested")
    return found
