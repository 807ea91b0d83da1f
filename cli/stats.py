"""`geoaug stats`: statistics of the bands of a catalog, and what its scenes hold where."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from geoaug.cli import options
from geoaug.cli.console import note_unnamed_class, print_error, print_note, print_out, stdout_console, work_bar

if TYPE_CHECKING:
    from rich.console import Console

    from geoaug.statistics import Statistics

_WORK, _OUTPUT, _RUNNING = "Measurement", "Output", "Running"
_MOST_NAMED = 10


def stats(
    source: Annotated[
        str,
        typer.Argument(
            metavar="CATALOG",
            help="A catalog of [bold]geoaug index[/bold] (.parquet), or a folder, file or glob.",
            show_default=False,
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="Write the statistics to this file (.yaml or .json), for Compose(normalize=...) and recipes.",
            show_default=False,
            rich_help_panel=_OUTPUT,
        ),
    ] = None,
    update_catalog: Annotated[
        bool,
        typer.Option(
            "--update-catalog",
            help="Write to the catalog where its scenes are valid and which classes lie where, found in the same pass.",
            rich_help_panel=_OUTPUT,
        ),
    ] = False,
    split: Annotated[
        str | None,
        typer.Option(
            "--split", help="Statistics of this split alone: train.", show_default=False, rich_help_panel=_WORK
        ),
    ] = None,
    nodata: options.Nodata = None,
    bands: options.Bands = None,
    labels: options.Labels = None,
    label_field: options.LabelField = None,
    ignore_index: options.IgnoreIndex = 255,
    share: Annotated[
        float,
        typer.Option(
            help="Part of the blocks to read, by chance; the error of the means is given.", rich_help_panel=_WORK
        ),
    ] = 1.0,
    seed: Annotated[int, typer.Option(help="Of that chance.", rich_help_panel=_WORK)] = 0,
    covariance: Annotated[
        bool, typer.Option("--covariance", help="Covariances between bands, too.", rich_help_panel=_WORK)
    ] = False,
    dtype: Annotated[
        str | None,
        typer.Option(
            help="To read all scenes as, where they are stored in several types: int32, float32...",
            show_default=False,
            rich_help_panel=_WORK,
        ),
    ] = None,
    skip_errors: Annotated[
        bool,
        typer.Option(
            "--skip-errors", help="Leave out and name what cannot be read (exit code 1).", rich_help_panel=_RUNNING
        ),
    ] = False,
    threads: Annotated[
        int | None,
        typer.Option(
            min=1, help="That read at once. Default: one a core.", show_default=False, rich_help_panel=_RUNNING
        ),
    ] = None,
    memory_mb: Annotated[int, typer.Option(min=16, help="For pixels in work, MB.", rich_help_panel=_RUNNING)] = 1024,
) -> None:
    """Mean, std, percentiles and histograms of each band over all valid pixels, and how many pixels each class has.

    Whole numbers of 8 and 16 bits are counted exactly. Scenes of any size are read block by block.
    """
    from geoaug.data.datamodule import as_catalog, is_saved_catalog
    from geoaug.data.sampling.survey import StatisticsPlan, survey_catalog
    from geoaug.errors import ConfigurationError

    if update_catalog and not is_saved_catalog(source):
        raise ConfigurationError(f"--update-catalog needs the file of a catalog, and {source} is none: geoaug index")
    if update_catalog and share < 1:
        raise ConfigurationError("--update-catalog needs all pixels: leave --share out")
    if output is not None and not output.absolute().parent.is_dir():
        raise ConfigurationError(f"{output}: the folder {output.parent} does not exist")
    catalog = as_catalog(source, **({} if nodata is None else {"nodata": nodata}))
    part = catalog if split is None else catalog.split(split)
    with work_bar("reading pixels") as tell:
        found = survey_catalog(
            catalog if update_catalog else part,
            bands=bands,
            dtype=dtype,
            labels=labels,
            label_field=label_field,
            ignore_index=ignore_index,
            coverage=update_catalog,
            statistics=StatisticsPlan(part, covariance=covariance, share=share, seed=seed),
            on_error="skip" if skip_errors else "raise",
            threads=threads,
            memory_mb=memory_mb,
            progress=tell,
        )
    assert found.statistics is not None
    from dataclasses import replace

    measured = replace(found.statistics, split=split)
    note_unnamed_class(labels, label_field)
    _show(stdout_console(), measured)
    doubt = measured.doubt()
    if doubt is not None:
        print_note(doubt)
    if output is not None:
        measured.save(output)
        print_out(f"wrote    {output}")
    if update_catalog:
        found.catalog.save(source)
        shares = found.catalog.column("valid_share")
        print_out(f"wrote    {source}: coverage of {int((shares == shares).sum())} scenes")
    for line, count in list(found.skipped.items())[:_MOST_NAMED]:
        print_error(f"left out: {line}" + (f" ({count} regions)" if count > 1 else ""))
    if len(found.skipped) > _MOST_NAMED:
        print_error(f"left out: {len(found.skipped) - _MOST_NAMED} more")
    raise typer.Exit(1 if found.skipped else 0)


def _show(console: "Console", found: "Statistics") -> None:
    from rich.table import Table

    of = "" if found.split is None else f" of split '{found.split}'"
    part = "" if found.share >= 1 else f" ({100 * found.share:.3g} % of the blocks)"
    scenes = f"{found.scenes:,} scene{'s' * (found.scenes != 1)}"
    console.print(f"{found.count:,} valid pixels in {scenes}{of}{part}; {found.sensor}, {found.dtype}")
    table = Table(box=None, padding=(0, 1))
    heads = ["mean", "std", "min", *(f"{q:g} %" for q in _SHOWN), "max", f"mean ({found.quantity})", "std"]
    table.add_column("band")
    for head in heads:
        table.add_column(head, justify="right")
    for band in found.bands:
        mean = _number(band.mean) + (f" ±{_number(band.mean_error)}" if band.mean_error else "")
        percentiles = [_number(band.percentiles[q]) for q in _SHOWN]
        scaled = (band.mean + band.offset) / band.quantification, band.std / band.quantification
        table.add_row(
            band.name, mean, _number(band.std), _number(band.minimum), *percentiles, _number(band.maximum),
            f"{scaled[0]:.4g}", f"{scaled[1]:.4g}",
        )  # fmt: skip
    console.print(table)
    if not found.class_counts:
        return
    total = sum(found.class_counts.values())
    classes = Table(box=None, padding=(0, 1))
    for head in ("class", "name", "count", "share"):
        classes.add_column(head, justify="left" if head == "name" else "right")
    for number, count in sorted(found.class_counts.items()):
        name = found.classes[number] if 0 <= number < len(found.classes) else ""
        classes.add_row(str(number), name, f"{count:,}", f"{100 * count / total:.2f} %")
    console.print(classes)


_SHOWN = (2.0, 50.0, 98.0)


def _number(value: float) -> str:
    return f"{value:.1f}" if 10 <= abs(value) < 1e7 else f"{value:.4g}"
