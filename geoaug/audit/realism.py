"""An audit from its start to its report: tiles read once, recipes and operations tried, outcomes judged."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np

import geoaug
from geoaug.audit.bench import HALVINGS, TESTED, Bench, Prepared, Steps, TileScorer
from geoaug.audit.examples import Example, Examples
from geoaug.audit.job import AuditJob
from geoaug.audit.results import AuditReport, Null, OperationAudit, Outcome, RecipeAudit
from geoaug.audit.sweep import Trial, operation_trials, recipe_trials
from geoaug.audit.tiles import AuditTiles, TileSource
from geoaug.audit.two_sample import TwoSampleTest
from geoaug.audit.verdict import verdict
from geoaug.augment.recipe import Recipe, load_recipe
from geoaug.processors import usable_processors

__all__ = ["run_audit"]


def run_audit(
    job: AuditJob,
    scorer: TileScorer | None = None,
    on_progress: Callable[[int, int], None] | None = None,
    cancel: threading.Event | None = None,
) -> tuple[AuditReport, Examples]:
    """Do an audit.

    Returns:
        What was found, and tiles to look at.

    Raises:
        ConfigurationError: wrong use, fewer than 30 tiles, or a recipe that draws nothing.
        RasterError: no scene can be used.
        KeyboardInterrupt: it was cancelled.
    """
    started = time.perf_counter()
    job.check()
    recipes = [load_recipe(one) for one in job.recipes]
    sweeps = [_sweep(recipe, job) for recipe in recipes]
    source = TileSource(job.reading(), job.tile, job.tiles)
    plans = [_Plan.of(*sweep, source) for sweep in sweeps]
    trials = [trial for plan in plans for trial in plan.trials()]
    steps = Steps(2 * (len(trials) + HALVINGS) + 2 + (job.against is not None), on_progress, cancel)
    steps.done()
    tiles = source.read(max(trial.context for trial in trials))
    steps.done()
    # Tests on one side, which take as long as augmenting and measuring on the other.
    with ThreadPoolExecutor(max(1, usable_processors() - 1), "geoaug-audit") as pool:
        bench = Bench(tiles, scorer, job.seed, pool, steps)
        try:
            halvings = bench.halvings(recipes[0])
            other: Future[Outcome] | None = None
            against: tuple[Example, ...] = ()
            if job.against is not None:
                reading = replace(job.reading(), scenes=(job.against,), bands=job.against_bands or job.bands)
                other, against = bench.against(TileSource(reading, tiles.job.tile, job.tiles))
            tried = [_Tried.of(recipe, plan, bench) for recipe, plan in zip(recipes, plans, strict=True)]
            artefact_null, appearance_null = (_null(bench.results(halvings, name)) for name in TESTED)
            found = [one.judged(bench, artefact_null) for one in tried]
            against_outcome = None if other is None else other.result()
        finally:
            pool.shutdown(cancel_futures=True)
    pictures = {key: examples for one in tried for key, examples in one.pictures.items()}
    notes = [*tiles.notes, *_warnings(found, tiles, job, scorer)]
    report = AuditReport(
        version=geoaug.__version__,
        data=tuple(job.scenes),
        sensor=tiles.scene.sensor.name,
        bands=tiles.scene.sensor.band_names,
        tiles=len(tiles),
        tile=tiles.job.tile,
        inner=bench.side(tiles.job.tile),
        artefact_null=artefact_null,
        appearance_null=appearance_null,
        against=against_outcome,
        recipes=tuple(found),
        notes=tuple(dict.fromkeys(notes)),
        seconds=time.perf_counter() - started,
    )
    return report, Examples(tiles.scene.sensor, bench.originals(), pictures, against)


@dataclass(frozen=True, slots=True, eq=False)
class _Plan:
    """What is tried of one recipe."""

    whole: list[Prepared]
    operations: list[list[Prepared]]

    @staticmethod
    def of(whole: Sequence[Trial], operations: Sequence[Sequence[Trial]], source: TileSource) -> "_Plan":
        return _Plan(
            [Prepared.of(trial, source) for trial in whole],
            [[Prepared.of(trial, source) for trial in each] for each in operations],
        )

    def trials(self) -> Iterator[Prepared]:
        yield from self.whole
        for each in self.operations:
            yield from each


def _sweep(recipe: Recipe, job: AuditJob) -> tuple[list[Trial], list[list[Trial]]]:
    """The trials of the whole recipe, and those of each operation."""
    positions = range(len(recipe.specs)) if job.operations else ()
    return recipe_trials(recipe, job.strengths), [
        operation_trials(recipe, position, job.strengths) for position in positions
    ]


@dataclass(frozen=True, slots=True, eq=False)
class _Tried:
    """A recipe of which all tiles are made, and whose tests are running."""

    recipe: Recipe
    whole: "list[Future[Outcome]]"
    operations: "list[list[Future[Outcome]]]"
    pictures: dict[tuple[str, str], tuple[Example, ...]]

    @staticmethod
    def of(recipe: Recipe, plan: _Plan, bench: "Bench") -> "_Tried":
        pictures: dict[tuple[str, str], tuple[Example, ...]] = {}
        whole = []
        for trial in plan.whole:
            future, examples = bench.outcome(trial)
            whole.append(future)
            if trial.strength in (None, 1.0):
                pictures[recipe.name, ""] = examples
        operations = []
        for position, each in enumerate(plan.operations):
            futures = []
            for trial in each:
                future, examples = bench.outcome(trial)
                futures.append(future)
                pictures[recipe.name, str(position)] = examples
            operations.append(futures)
        return _Tried(recipe, whole, operations, pictures)

    def judged(self, bench: "Bench", null: Null) -> RecipeAudit:
        whole = [bench.result(future) for future in self.whole]
        operations = []
        for spec, futures in zip(self.recipe.specs, self.operations, strict=False):
            outcomes = tuple(bench.result(future) for future in futures)
            operations.append(OperationAudit(spec.name, dict(spec.arguments), outcomes, verdict(outcomes, null)))
        written = [one for one in whole if one.strength in (None, 1.0)]
        return RecipeAudit(
            self.recipe.name, self.recipe.summary, tuple(whole), tuple(operations), verdict(written, null)
        )


def _null(tests: Sequence[TwoSampleTest]) -> Null:
    areas = np.array([test.auc for test in tests])
    mean, wide = float(areas.mean()), 1.96 * float(areas.std(ddof=1))
    return Null(
        mean,
        max(0.0, mean - wide),
        min(1.0, mean + wide),
        float(np.mean([test.logistic for test in tests])),
        float(np.mean([test.trees for test in tests])),
    )


def _warnings(
    recipes: Sequence[RecipeAudit], tiles: AuditTiles, job: AuditJob, scorer: TileScorer | None
) -> Iterator[str]:
    for recipe in recipes:
        if recipe.as_written.unchanged == 1.0:
            yield f"recipe '{recipe.name}' changed no tile at all: what it asks for does nothing to these data"
    if len(tiles) < 100:
        yield f"{len(tiles)} tiles make wide intervals: 200 or more tell finer differences"
    if job.labels is not None or tiles.labelled:
        classes = _classes(tiles, job.ignore_index)
        if not classes:
            yield "no pixel of any tile has a label: the agreement of labels says nothing"
        elif len(classes) == 1:
            yield f"all labels are of one class ({classes.pop()}): their agreement says nothing of where they are"


def _classes(tiles: AuditTiles, ignore_index: int) -> set[int]:
    found: set[int] = set()
    for one in tiles.placed:
        if one.tile.labels is not None:
            found |= set(np.unique(one.tile.labels[one.tile.core]).tolist())
    return found - {ignore_index}
