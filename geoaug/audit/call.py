"""The function `geoaug.audit`: an audit, and its report where a folder is named."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from geoaug.audit.bench import TileScorer
from geoaug.audit.job import AuditJob
from geoaug.audit.realism import run_audit
from geoaug.audit.report import write_report
from geoaug.audit.results import AuditReport

__all__ = ["audit"]


def audit(
    recipes: Any,
    data: str | Path | Sequence[str | Path],
    output: str | Path | None = None,
    *,
    scorer: TileScorer | None = None,
    on_progress: Callable[[int, int], None] | None = None,
    **options: Any,
) -> AuditReport:
    """Measure how realistic recipes are on data, and write the report.

    Args:
        recipes: one or several: presets by name, YAML files, mappings, or `Recipe`s.
        data: scenes, products, chips or a saved catalog.
        output: folder for `report.html` and `report.json`; None: nothing is written.
        scorer: a model, for affinity and diversity.
        on_progress: called with the steps done and all of them.
        **options: see `AuditJob`.

    Raises:
        ConfigurationError: wrong use, fewer than 30 tiles, or a recipe that draws nothing.
        RasterError: no scene can be used.
    """
    several = isinstance(recipes, list | tuple)
    scenes = [str(data)] if isinstance(data, str | Path) else [str(one) for one in data]
    job = AuditJob(recipes=tuple(recipes) if several else (recipes,), scenes=tuple(scenes), **options)
    report, examples = run_audit(job, scorer, on_progress)
    if output is not None:
        write_report(report, examples, output)
    return report
