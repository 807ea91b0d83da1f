"""`geoaug audit`: how realistic a recipe is, measured on one's own data."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from geoaug.cli import options
from geoaug.cli.console import note_compilation, note_unnamed_class, print_note, print_out, stdout_console, work_bar
from geoaug.cli.interrupt import cancel_on_interrupt

if TYPE_CHECKING:
    from rich.table import Table

    from geoaug.audit.results import AuditReport

_ENDINGS = (".yaml", ".yml")
_AUDIT = "Audit"


@options.takes_options
def audit(
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="RECIPE... DATA...",
            help="Presets (see [bold]geoaug recipes[/bold]) or YAML files, then the data: scenes, products, folders of "
            "chips, or a catalog (.parquet).",
            show_default=False,
        ),
    ],
    output: options.ReportFolder = Path("audit"),
    json: options.ReportJson = False,
    fail_above: Annotated[
        float | None,
        typer.Option(
            "--fail-above",
            metavar="AUC",
            help="End with exit code 1 where the artefact AUC of a recipe, as it is written, is above this: for CI.",
            show_default=False,
            rich_help_panel="Output",
        ),
    ] = None,
    tiles: Annotated[
        int, typer.Option("--tiles", "-n", help="Tiles to compare, at most.", rich_help_panel=_AUDIT)
    ] = 300,
    tile: Annotated[
        int | None,
        typer.Option(
            "--tile",
            "-t",
            help="Side of a tile, in pixels. Default: 64, or the scenes' shorter side.",
            show_default=False,
            rich_help_panel=_AUDIT,
        ),
    ] = None,
    strengths: Annotated[
        str,
        typer.Option("--strengths", help="Factors on what operations are asked for.", rich_help_panel=_AUDIT),
    ] = "0.3,0.6,1",
    operations: Annotated[
        bool,
        typer.Option(
            "--operations/--no-operations", help="Also try each operation alone, on every tile.", rich_help_panel=_AUDIT
        ),
    ] = True,
    against: Annotated[
        str | None,
        typer.Option(
            "--against",
            metavar="SCENE",
            help="Another acquisition of the same ground, to read the appearance against.",
            show_default=False,
            rich_help_panel=_AUDIT,
        ),
    ] = None,
    against_bands: Annotated[
        str | None,
        typer.Option(
            "--against-bands",
            help="Its bands, in the order of --bands. Default: the same names.",
            show_default=False,
            rich_help_panel=_AUDIT,
        ),
    ] = None,
    model: Annotated[
        Path | None,
        typer.Option(
            "--model",
            help="A model file (.safetensors), for affinity and diversity; needs labels or folders of classes.",
            show_default=False,
            rich_help_panel=_AUDIT,
        ),
    ] = None,
    seed: options.Seed = 0,
    min_valid: options.MinValid = 0.5,
    *,
    selection: options.SceneSelection,
    labelling: options.LabelSelection,
    device: options.Device = "auto",
) -> None:
    """Measure how realistic recipes are on your data: what gives augmented tiles away, and how far they shift.

    Augmented tiles are compared with the untouched ones they are made from: a test on artefacts that neither light nor
    air can make (noise, sharpness, stripes...), one on appearance, and shifts in units of the spread between tiles, for
    the whole recipe and each operation over a sweep of strength. The report is one HTML file.

    [dim]geoaug audit standard mine.yaml chips/ -o report[/dim]
    [dim]geoaug audit standard scene.tif --against other_date.tif --fail-above 0.7[/dim]
    """
    recipes, scenes = _sorted_out(inputs)
    from geoaug.audit.job import AuditJob
    from geoaug.errors import ConfigurationError

    if fail_above is not None and not 0.5 <= fail_above <= 1:
        raise ConfigurationError(f"--fail-above {fail_above:g}: an AUC is within 0.5 to 1")
    job = AuditJob(
        recipes=recipes,
        scenes=scenes,
        tile=tile,
        tiles=tiles,
        strengths=_numbers(strengths),
        operations=operations,
        against=against,
        against_bands=against_bands,
        **selection.keywords,
        gsd_m=selection.gsd,
        **labelling.keywords,
        min_valid=min_valid,
        seed=seed,
        device=device,
    )
    job.check()
    note_unnamed_class(labelling.labels, labelling.label_field)
    with cancel_on_interrupt() as cancel, work_bar("audit") as progress:
        from geoaug.audit.realism import run_audit
        from geoaug.audit.report import check_folder, write_report

        check_folder(output)
        scorer = None
        if model is not None:
            from geoaug.models.scoring import tile_scorer

            scorer = tile_scorer(model, device)
        note_compilation(device)
        report, shown = run_audit(job, scorer, progress, cancel)
        page = write_report(report, shown, output)
    if json:
        import json as format_json

        print_out(format_json.dumps(report.to_dict()))
    else:
        stdout_console().print(_summary(report, page))
    if fail_above is not None:
        for recipe in report.above(fail_above):
            print_note(f"{recipe.name}: artefact AUC {recipe.as_written.artefact.auc:.3f} is above {fail_above:g}")
        raise typer.Exit(1 if report.above(fail_above) else 0)


def _sorted_out(inputs: list[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The recipes at the beginning, and the data after them."""
    from geoaug.errors import ConfigurationError
    from geoaug.presets import find_recipe, preset_names

    names = preset_names()
    count = next(
        (place for place, text in enumerate(inputs) if text not in names and not text.lower().endswith(_ENDINGS)),
        len(inputs),
    )
    if count == 0:
        find_recipe(inputs[0])  # says which preset may be meant
        raise ConfigurationError(f"{inputs[0]}: a recipe file is called something.yaml")
    if count == len(inputs):
        raise ConfigurationError("recipes and no data: name scenes, chips or a catalog after them")
    return tuple(inputs[:count]), tuple(inputs[count:])


def _numbers(text: str) -> tuple[float, ...]:
    from geoaug.errors import ConfigurationError

    try:
        return tuple(float(part) for part in text.split(",") if part.strip())
    except ValueError:
        raise ConfigurationError(f"strengths {text!r}: numbers, separated by commas") from None


def _summary(report: "AuditReport", page: Path) -> "Table":
    """What was found, on one screen."""
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, padding=(0, 1))
    table.add_column("", overflow="fold")
    table.add_column("artefacts", justify="right", no_wrap=True)
    table.add_column("appearance", justify="right", no_wrap=True)
    table.add_column("", overflow="fold")
    for recipe in report.recipes:
        written = recipe.as_written
        table.add_row(
            f"[bold]{escape(recipe.name)}[/bold]",
            f"{written.artefact.auc:.2f} ({written.artefact.low:.2f} to {written.artefact.high:.2f})",
            f"{written.appearance.auc:.2f}",
            escape(recipe.verdict),
        )
        for operation in recipe.operations:
            last = operation.outcomes[-1]
            name = f"  {operation.name}"
            table.add_row(
                escape(name), f"{last.artefact.auc:.2f}", f"{last.appearance.auc:.2f}", escape(operation.verdict)
            )
    if report.against is not None:
        other = report.against
        table.add_row("the other acquisition", f"{other.artefact.auc:.2f}", f"{other.appearance.auc:.2f}", "")
    null = report.artefact_null
    table.add_row(
        "null", f"{null.auc:.2f} ({null.low:.2f} to {null.high:.2f})", f"{report.appearance_null.auc:.2f}",
        f"{report.tiles} untouched tiles of {report.tile} pixels, {len(report.bands)} bands of {report.sensor}",
    )  # fmt: skip
    for note in report.notes:
        table.add_row("[yellow]note[/yellow]", "", "", escape(note))
    table.add_row("look at", "", "", f"{escape(str(page))} ({report.seconds:.0f} s)")
    return table
