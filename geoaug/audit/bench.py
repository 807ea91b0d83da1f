"""The bench of an audit: untouched tiles described once, and whatever is compared with them.

Tiles pass by in batches and leave a description behind; tests run in other threads meanwhile. Which recipes are tried,
and what is made of the outcomes, is in `realism`.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from geoaug.audit.appearance import index_pairs
from geoaug.audit.description import Description, describe, inner_window
from geoaug.audit.examples import Example
from geoaug.audit.measures import label_agreement, measure
from geoaug.audit.results import Outcome
from geoaug.audit.sweep import Trial
from geoaug.audit.tiles import LEAST_TILES, AuditTiles, TileSource, augmented, same_ground
from geoaug.audit.two_sample import TwoSampleTest, two_sample_test
from geoaug.audit.verdict import clues
from geoaug.augment.recipe import Recipe, load_recipe
from geoaug.errors import ConfigurationError
from geoaug.io.augmenter import Augmenter
from geoaug.io.output import OutputTile

__all__ = ["HALVINGS", "TESTED", "Bench", "Prepared", "Steps", "TileScorer"]

_BATCH = 64
HALVINGS = 6
# Tiles of which less than this share of the middle is valid in both tell nothing.
_LEAST_SHARE = 0.25
_PICTURES = 3
TESTED = ("artefacts", "appearance")


class TileScorer(Protocol):
    """A model as an audit sees it: how well it does on tiles."""

    def __call__(self, tiles: Sequence[OutputTile]) -> tuple[np.ndarray, np.ndarray]:
        """Accuracy and loss of each tile, (N,) both; NaN where a tile has no label."""


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """A trial with what augments for it, and how many pixels around a tile that reaches into."""

    strength: float | None
    augmenter: Augmenter
    context: int

    @staticmethod
    def of(trial: Trial, source: TileSource) -> "Prepared":
        augmenter = Augmenter(source.job, trial.recipe)
        return Prepared(trial.strength, augmenter, augmenter.compose_for(source.scenes[0]).context)


class Steps:
    """How far an audit is, and whether it shall stop."""

    def __init__(
        self, total: int, on_progress: Callable[[int, int], None] | None, cancel: threading.Event | None
    ) -> None:
        self._total, self._done = total, 0
        self._tell, self._cancel = on_progress, cancel

    def done(self) -> None:
        """One more step is done; raises `KeyboardInterrupt` where it shall stop."""
        self._done += 1
        if self._tell is not None:
            self._tell(self._done, self._total)
        if self._cancel is not None and self._cancel.is_set():
            raise KeyboardInterrupt


class Bench:
    """The untouched tiles, described once, and what is compared with them."""

    def __init__(
        self, tiles: AuditTiles, scorer: TileScorer | None, seed: int, pool: ThreadPoolExecutor, steps: Steps
    ) -> None:
        self._tiles = tiles
        self._pool, self._steps = pool, steps
        self._sensor = tiles.scene.sensor
        self._seed = seed
        self._scorer = scorer
        self._described: dict[int, Description] = {}
        self._shown = np.unique(np.linspace(0, len(tiles) - 1, _PICTURES + 2)[1:-1].astype(int)).tolist()
        self._score = None if scorer is None else self._scored(scorer)

    @staticmethod
    def side(tile: int) -> int:
        """Of the middle of a tile of this side."""
        rows, _ = inner_window(tile, tile)
        return int(rows.stop) - int(rows.start)

    def originals(self) -> tuple[Example, ...]:
        """Some untouched tiles to look at."""
        return tuple(Example(*self._tiles.untouched(number)) for number in self._shown)

    def result(self, future: "Future[Outcome]") -> Outcome:
        """What a test gave, once it is done."""
        outcome = future.result()
        self._steps.done()
        return outcome

    def results(self, halvings: "list[dict[str, Future[TwoSampleTest]]]", name: str) -> list[TwoSampleTest]:
        """What the tests of one kind gave, once they are done."""
        found = []
        for tests in halvings:
            found.append(tests[name].result())
            self._steps.done()
        return found

    def halvings(self, recipe: Recipe) -> "list[dict[str, Future[TwoSampleTest]]]":
        """Tests of two halves of the untouched tiles, one of which went through `Compose` with nothing to do in it."""
        nothing = replace(recipe, specs=(), size=None)
        unmoved = augmented(self._tiles, Augmenter(self._tiles.job, nothing))
        again = self._gather(unmoved, self._tiles.job.tile).description
        plain = self._untouched(self._tiles.job.tile)
        random = np.random.default_rng([self._seed, 2])
        found = []
        for number in range(HALVINGS):
            order = random.permutation(len(plain))
            first, second = order[: len(plain) // 2], order[len(plain) // 2 :]
            found.append(
                {
                    name: self._pool.submit(
                        two_sample_test,
                        getattr(plain, name).values[first],
                        getattr(again, name).values[second],
                        first,
                        second,
                        seed=self._seed + number,
                    )
                    for name in TESTED
                }
            )
        return found

    def outcome(self, trial: Prepared) -> "tuple[Future[Outcome], tuple[Example, ...]]":
        """Augment all tiles and compare them with their originals."""
        found = self._gather(augmented(self._tiles, trial.augmenter), self._tiles.job.tile, score=self._scorer)
        # Described before another thread asks for it.
        self._untouched(found.side)
        future = self._pool.submit(self._compared, found, np.arange(len(self._tiles)), trial.strength)
        self._steps.done()
        return future, tuple(found.examples[number] for number in self._shown)

    def against(self, source: TileSource) -> "tuple[Future[Outcome], tuple[Example, ...]]":
        """Another acquisition of the same ground beside the untouched tiles, as if it had been augmented.

        Raises:
            ConfigurationError: other bands, or too little common ground.
        """
        theirs = source.scenes[0].sensor
        if len(theirs) != len(self._sensor):
            raise ConfigurationError(
                f"the other acquisition has {len(theirs)} bands, and the data have {len(self._sensor)}: choose bands "
                "that are the same"
            )
        numbers, others = same_ground(self._tiles, source)

        def outputs() -> Iterator[tuple[int, OutputTile]]:
            for number, one in zip(numbers, others.placed, strict=True):
                tile = one.tile
                yield number, OutputTile(
                    scene=one.scene, window=tile.window, copy=0, key=0, image=tile.image, valid=tile.valid, mask=None,
                    transform=tile.transform, parameters={},
                )  # fmt: skip

        found = self._gather(outputs(), self._tiles.job.tile, others=others)
        future = self._pool.submit(self._compared, found, np.asarray(numbers), None)
        self._steps.done()
        return future, tuple(found.examples[number] for number in self._shown if number in found.examples)

    def _compared(self, found: "_Gathered", numbers: np.ndarray, strength: float | None) -> Outcome:
        originals = self._untouched(found.side).take(numbers)
        changed = found.description
        if len(found.partial):
            originals = originals.replaced(found.partial, found.partial_originals)
            changed = changed.replaced(found.partial, found.partial_changed)
        kept = np.setdiff1d(np.arange(len(numbers)), found.empty)
        if len(kept) < LEAST_TILES:
            raise ConfigurationError(
                f"{len(kept)} augmented tiles still show enough of their ground, {LEAST_TILES} are the least: the "
                "recipe leaves too little of a tile"
            )
        originals, changed, groups = originals.take(kept), changed.take(kept), numbers[kept]
        tests = [
            two_sample_test(first, second, groups, groups, seed=self._seed)
            for first, second in (
                (originals.artefacts.values, changed.artefacts.values),
                (originals.appearance.values, changed.appearance.values),
            )
        ]
        scores: dict[str, float] = {}
        if found.scores is not None and self._score is not None:
            accuracy, loss = (float(np.nanmean(found.scores[:, column])) for column in (0, 1))
            scores = {
                "affinity": accuracy / max(self._score[0], 1e-9),
                "diversity": loss / max(self._score[1], 1e-9),
            }
        return Outcome(
            strength=strength,
            tiles=len(kept),
            artefact=tests[0],
            appearance=tests[1],
            clues=clues(originals.artefacts, changed.artefacts),
            measures=measure(
                originals,
                changed,
                spread_of=self._untouched(self._tiles.job.tile),
                index_names=tuple(index_pairs(self._sensor)),
                invalid=found.invalid,
                labels=found.labels,
            ),
            unchanged=found.unchanged,
            **scores,
        )

    def _untouched(self, side: int) -> Description:
        """Of all untouched tiles, in the middle of the middle `side` pixels."""
        if side not in self._described:
            self._described[side] = Description.joined(
                [
                    describe(np.stack(images), np.stack(valids), self._sensor)
                    for images, valids in _batches(self._inner(number, side) for number in range(len(self._tiles)))
                ]
            )
        return self._described[side]

    def _inner(self, number: int, side: int) -> tuple[np.ndarray, np.ndarray]:
        return _middle(*self._tiles.untouched(number), side)

    def _scored(self, scorer: TileScorer) -> tuple[float, float]:
        """Accuracy and loss of the model on the untouched tiles.

        Raises `ConfigurationError` where they carry no labels, or one class only.
        """
        augmenter = Augmenter(self._tiles.job, load_recipe({"operations": ["RandomD4"]}))
        originals = [augmenter.original(one.scene, one.tile) for one in self._tiles.placed]
        accuracy, loss = scorer(originals)
        if np.isnan(accuracy).all():
            raise ConfigurationError("no tile has a label that the model knows: affinity needs labels")
        return float(np.nanmean(accuracy)), float(np.nanmean(loss))

    def _gather(
        self,
        outputs: Iterator[tuple[int, OutputTile]],
        tile: int,
        *,
        score: TileScorer | None = None,
        others: AuditTiles | None = None,
    ) -> "_Gathered":
        """Describe tiles as they come, and forget their pixels."""
        sensor = self._sensor if others is None else others.scene.sensor
        collected = _Gathered()
        waiting: list[tuple[np.ndarray, np.ndarray]] = []
        scored: list[OutputTile] = []
        parts: list[Description] = []
        partial: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {"originals": [], "changed": []}
        scores: list[np.ndarray] = []
        place = -1
        for place, (number, output) in enumerate(outputs):
            collected.side = side = min(tile, *output.valid.shape)
            image, valid = _middle(output.image, output.valid, side)
            before, known = self._inner(number, side)
            waiting.append((image, valid))
            both = valid & known
            if both.mean() < _LEAST_SHARE:
                collected.rows_empty.append(place)
            elif not both.all():
                # Under the validity of both, so that a corner without data tells nothing.
                collected.rows_partial.append(place)
                partial["originals"].append((before, both))
                partial["changed"].append((image, both))
            collected.count(number, output, self._tiles)
            if number in self._shown:
                collected.examples[number] = Example(output.image, output.valid)
            if len(waiting) == _BATCH:
                parts.append(_described(waiting, sensor))
                waiting = []
            if score is not None:
                scored.append(output)
                if len(scored) == _BATCH:
                    scores.append(np.stack(score(scored), axis=1))
                    scored = []
        if waiting:
            parts.append(_described(waiting, sensor))
        if score is not None and scored:
            scores.append(np.stack(score(scored), axis=1))
        collected.scores = np.concatenate(scores) if scores else None
        collected.description = Description.joined(parts)
        if collected.rows_partial:
            collected.partial_originals = _in_batches(partial["originals"], self._sensor)
            collected.partial_changed = _in_batches(partial["changed"], sensor)
        return collected


class _Gathered:
    """What was found of a group of tiles while they passed by."""

    description: Description
    partial_originals: Description
    partial_changed: Description

    def __init__(self) -> None:
        self.side = 0
        self.rows_partial: list[int] = []
        self.rows_empty: list[int] = []
        self.scores: np.ndarray | None = None
        self.examples: dict[int, Example] = {}
        self._tiles = self._same = self._labelled = self._kept = self._agree = 0
        self._lost = 0.0

    @property
    def partial(self) -> np.ndarray:
        """Rows to be described under the validity of both tiles."""
        return np.asarray(self.rows_partial, int)

    @property
    def empty(self) -> np.ndarray:
        """Rows that cannot be compared."""
        return np.asarray(self.rows_empty, int)

    @property
    def invalid(self) -> float:
        """Mean share of a tile that became invalid."""
        return self._lost / max(self._tiles, 1)

    @property
    def unchanged(self) -> float:
        """Share of tiles that came out as they went in."""
        return self._same / max(self._tiles, 1)

    @property
    def labels(self) -> tuple[float, float] | None:
        """Share of labels that agree, and that were lost."""
        if not self._labelled:
            return None
        return self._agree / max(self._kept, 1), 1 - self._kept / self._labelled

    def count(self, number: int, output: OutputTile, tiles: AuditTiles) -> None:
        """Count what became invalid, what stayed as it was, and labels."""
        image, valid = tiles.untouched(number)
        tile = tiles.placed[number].tile
        self._tiles += 1
        self._lost += max(0.0, float(valid.mean()) - float(output.valid.mean()))
        self._same += output.image.shape == image.shape and np.array_equal(output.image[:, valid], image[:, valid])
        if output.mask is not None and tile.labels is not None:
            before = np.where(valid, tile.labels[tile.core], tiles.job.ignore_index)
            counts = label_agreement(before, tile.core_transform, output.mask, output.transform, tiles.job.ignore_index)
            self._labelled += counts[0]
            self._kept += counts[1]
            self._agree += counts[2]


def _middle(image: np.ndarray, valid: np.ndarray, side: int) -> tuple[np.ndarray, np.ndarray]:
    """The part of a tile that is looked at, as for a tile of `side` pixels about its centre."""
    rows, columns = inner_window(side, side)
    top, left = ((length - side) // 2 for length in valid.shape)
    window = slice(top + rows.start, top + rows.stop), slice(left + columns.start, left + columns.stop)
    return image[:, *window], valid[window]


def _batches(
    pairs: Iterator[tuple[np.ndarray, np.ndarray]],
) -> Iterator[tuple[list[np.ndarray], list[np.ndarray]]]:
    images: list[np.ndarray] = []
    valids: list[np.ndarray] = []
    for image, valid in pairs:
        images.append(image)
        valids.append(valid)
        if len(images) == _BATCH:
            yield images, valids
            images, valids = [], []
    if images:
        yield images, valids


def _described(pairs: Sequence[tuple[np.ndarray, np.ndarray]], sensor: Any) -> Description:
    return describe(np.stack([image for image, _ in pairs]), np.stack([valid for _, valid in pairs]), sensor)


def _in_batches(pairs: Sequence[tuple[np.ndarray, np.ndarray]], sensor: Any) -> Description:
    return Description.joined(
        [_described(pairs[first : first + _BATCH], sensor) for first in range(0, len(pairs), _BATCH)]
    )
