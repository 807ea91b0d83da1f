"""`geoaug augment`: scenes in; augmented, georeferenced tiles with their labels out."""

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from geoaug.cli import options
from geoaug.cli.console import note_compilation, note_unnamed_class, print_note, progress_bar, stdout_console
from geoaug.cli.interrupt import cancel_on_interrupt

if TYPE_CHECKING:
    from rich.table import Table

    from geoaug.io.job import AugmentJob, AugmentReport

_FAILURES_SHOWN = 10


@options.takes_options
def augment(
    scenes: options.Scenes,
    output: options.Output,
    recipe: options.RecipeName = "standard",
    copies: options.Copies = 3,
    tile: options.Tile = 256,
    stride: options.Stride = None,
    min_valid: options.MinValid = 0.5,
    seed: options.Seed = 0,
    *,
    selection: options.SceneSelection,
    labelling: options.LabelSelection,
    files: options.TileFiles,
    device: options.Device = "auto",
    batch_size: options.BatchSize = None,
    workers: options.Workers = None,
) -> None:
    """Cut scenes into tiles and write augmented copies of each, correctly georeferenced, with their labels.

    Scenes are rasters, Sentinel-2 and Landsat products, files for each band, STAC items, or those of a catalog. Bands
    of several resolutions become one tile, and quality layers make pixels invalid, as in training. The tiles keep the
    scene's pixel type, scale, bands and nodata. Each has the geotransform of its augmented pixel grid, rotation
    included; its random parameters are recorded in manifest.parquet.

    [dim]geoaug augment scene.tif -o tiles --labels fields.gpkg --label-field crop[/dim]
    [dim]geoaug augment S2A_MSIL2A_20240613.SAFE -o tiles --bands B02,B03,B04,B08,B11 --gsd 10[/dim]
    """
    from geoaug.io.job import AugmentJob

    job = AugmentJob(
        scenes=tuple(scenes),
        output=output,
        recipe=recipe,
        copies=copies,
        tile=tile,
        stride=stride,
        **selection.keywords,
        gsd_m=selection.gsd,
        **labelling.keywords,
        **files.keywords,
        seed=seed,
        device=device,
        batch_size=batch_size,
        workers=workers,
        min_valid=min_valid,
    )
    report = augment_with_progress(job)
    stdout_console().print(summary(report))
    raise typer.Exit(exit_code(report))


def augment_with_progress(job: "AugmentJob") -> "AugmentReport":
    """Do the job under a progress bar; Ctrl-C ends it in good order."""
    with cancel_on_interrupt() as cancel, progress_bar() as report_progress:
        # Wrong use that needs no reading is refused before rasterio is loaded.
        job.check()
        note_unnamed_class(None if job.labels is None else str(job.labels), job.label_field)
        from geoaug.io.augment_tiles import run

        note_compilation(job.device)
        report = run(job, report_progress, cancel)
    if report.cancelled:
        print_note("stopped early: the tiles that are written are whole, and the manifest lists them")
    return report


def exit_code(report: "AugmentReport") -> int:
    """0 all done, 1 some inputs failed, 130 stopped."""
    if report.cancelled:
        return 130
    return 1 if report.failures else 0


def summary(report: "AugmentReport") -> "Table":
    """What was done, on one screen."""
    from rich.markup import escape
    from rich.table import Table

    table = Table(show_header=False, box=None, padding=(0, 1))
    table.add_column(style="bold", justify="right", no_wrap=True)
    table.add_column(overflow="fold")
    made = report.written + report.originals
    originals = f", and {report.originals} as they are" if report.originals else ""
    table.add_row("written", f"{_count(report.written, 'augmented tile')}{originals}")
    if report.skipped:
        table.add_row("skipped", f"{report.skipped} of {_count(report.windows, 'window')}: too few valid pixels")
    if report.dropped:
        table.add_row("dropped", f"{_count(report.dropped, 'augmented tile')}: too few valid pixels")
    if report.unlabelled:
        table.add_row("unlabelled", f"{report.unlabelled} of {_count(made, 'tile')} without any labelled pixel")
    for use in report.sensors:
        bands = f"{len(use.bands)} bands" if len(use.bands) > 13 else " ".join(use.bands)
        certainty = "" if use.certain else "[yellow]uncertain:[/yellow] "
        scenes = "" if use.scenes == 1 else f" ({use.scenes} scenes)"
        table.add_row("sensor", f"{use.sensor}{scenes}: {escape(bands)}; {certainty}{escape(use.reason)}")
    for note in report.notes:
        table.add_row("note", escape(note))
    for failure in report.failures[:_FAILURES_SHOWN]:
        table.add_row("[red]failed[/red]", escape(failure.reason))
    if len(report.failures) > _FAILURES_SHOWN:
        table.add_row("[red]failed[/red]", f"and {len(report.failures) - _FAILURES_SHOWN} more")
    rate = f", {made / report.seconds:.0f} tiles/s" if made and report.seconds > 0 else ""
    table.add_row("time", f"{report.seconds:.1f} s{rate}")
    if made or (Path(report.output) / "manifest.parquet").exists():
        table.add_row("look at", escape(f"{report.output}/images, {report.output}/manifest.parquet"))
    if not made:
        table.add_row("[yellow]nothing[/yellow]", "no tile was written")
    return table


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")
