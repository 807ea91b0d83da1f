"""`geoaug stress`: what a model loses under turns, light, air, clouds, noise, blur and lost bands."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from geoaug.cli import options
from geoaug.cli.console import note_compilation, note_unnamed_class, print_note, print_out, stdout_console, work_bar
from geoaug.cli.interrupt import cancel_on_interrupt

if TYPE_CHECKING:
    from rich.table import Table

    from geoaug.audit.stress.results import StressReport

_STRESS = "Stress"


def stress(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="A model file (.safetensors).", show_default=False)],
    data: Annotated[
        list[str],
        typer.Argument(
            metavar="DATA...",
            help="Data with labels: chips in a folder for each class, scenes, or a catalog (.parquet).",
            show_default=False,
        ),
    ],
    output: options.ReportFolder = Path("stress"),
    json: options.ReportJson = False,
    fail_above: Annotated[
        float | None,
        typer.Option(
            "--fail-above",
            metavar="LOSS",
            help="End with exit code 1 where the mean over all nuisances loses more than this, in units of the metric: "
            "for CI.",
            show_default=False,
            rich_help_panel="Output",
        ),
    ] = None,
    nuisances: Annotated[
        str | None,
        typer.Option(
            "--nuisances",
            metavar="NAMES",
            help="Only these, separated by commas: turn,haze,noise. Default: all that the sensor knows.",
            show_default=False,
            rich_help_panel=_STRESS,
        ),
    ] = None,
    tiles: Annotated[
        int, typer.Option("--tiles", "-n", help="Tiles to judge, at most.", rich_help_panel=_STRESS)
    ] = 300,
    tile: Annotated[
        int | None,
        typer.Option(
            "--tile",
            "-t",
            help="Side of a tile, in pixels. Default: whole chips, or the side that a model of pixels was trained at.",
            show_default=False,
            rich_help_panel=_STRESS,
        ),
    ] = None,
    target: Annotated[
        str | None,
        typer.Option(
            "--target",
            help="Column of a catalog with the truth of each chip. Default: that of the training, or the class.",
            show_default=False,
            rich_help_panel=_STRESS,
        ),
    ] = None,
    split: options.Split = None,
    sensor: options.SensorName = None,
    labels: options.Labels = None,
    label_field: options.LabelField = None,
    seed: Annotated[
        int, typer.Option("--seed", help="Of clouds, noise and whatever else is drawn.", rich_help_panel=_STRESS)
    ] = 0,
    min_valid: Annotated[
        float, typer.Option("--min-valid", help="Least share of valid pixels of a tile.", rich_help_panel=_STRESS)
    ] = 0.5,
    ignore_gsd: Annotated[
        bool,
        typer.Option(
            "--ignore-gsd", help="Measure at any ground sampling distance, as it is.", rich_help_panel=_STRESS
        ),
    ] = False,
    device: options.Device = "auto",
) -> None:
    """Measure what a model loses under nuisances of growing strength, on your data.

    Turns, light, haze, cloud and shadow, noise, blur, resolution, bands shifted or lost, calibration: each alone, on
    every tile. For models that classify chips or pixels, or answer with numbers. The report is one HTML file.

    [dim]geoaug stress trained/model.safetensors chips/ -o report[/dim]
    [dim]geoaug stress model.safetensors catalog.parquet --split test --fail-above 10[/dim]
    """
    from geoaug.audit.report import HTML

    note_unnamed_class(labels, label_field)
    with cancel_on_interrupt() as cancel, work_bar("stress") as progress:
        from geoaug.models.stress import stress as put_under_stress

        note_compilation(device)
        report = put_under_stress(
            model,
            data[0] if len(data) == 1 else data,
            output,
            nuisances=None if nuisances is None else [name.strip() for name in nuisances.split(",") if name.strip()],
            tiles=tiles,
            tile=tile,
            split=split,
            sensor=sensor,
            labels=labels,
            label_field=label_field,
            target=target,
            min_valid=min_valid,
            ignore_gsd=ignore_gsd,
            seed=seed,
            device=device,
            on_progress=progress,
            cancel=cancel,
        )
    if json:
        import json as format_json

        print_out(format_json.dumps(report.to_dict()))
    else:
        stdout_console().print(_summary(report, output / HTML))
    if fail_above is not None and report.loss.value > fail_above:
        print_note(f"the mean over all nuisances loses {report.loss.value:.3g}, which is above {fail_above:g}")
        raise typer.Exit(1)


def _summary(report: "StressReport", page: Path) -> "Table":
    """What was found, on one screen."""
    from rich.markup import escape
    from rich.table import Table

    from geoaug.audit.stress.page import number

    unit = f" ({report.metric.unit})" if report.metric.unit else ""
    table = Table(box=None, padding=(0, 1))
    table.add_column("")
    table.add_column(f"{report.metric.name}{unit}", justify="right", no_wrap=True)
    table.add_column("loss", justify="right", no_wrap=True)
    table.add_column("", overflow="fold")
    table.add_row("[bold]the tiles as they are[/bold]", number(report.clean.value), "", f"{report.tiles} tiles")
    for one in report.nuisances:
        table.add_row(one.name, number(one.mean), number(one.loss.value), escape(one.verdict))
    table.add_row(
        "[bold]mean of the nuisances[/bold]", number(report.mean), number(report.loss.value),
        f"{number(report.loss.low)} to {number(report.loss.high)} lost",
    )  # fmt: skip
    for note in report.notes:
        table.add_row("[yellow]note[/yellow]", "", "", escape(note))
    table.add_row("look at", "", "", f"{escape(str(page))} ({report.seconds:.0f} s)")
    return table
