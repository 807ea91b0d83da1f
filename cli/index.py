"""`geoaug index`: folders and files in, one catalog out; and what is in it at a glance."""

import logging
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from geoaug.cli import options
from geoaug.cli.console import print_error, print_note, print_out, stdout_console, work_bar
from geoaug.data.registry import PRODUCTS

if TYPE_CHECKING:
    from rich.table import Table

    from geoaug.data.catalog.catalog import Catalog

_INPUT, _OUTPUT, _RUNNING = "Input", "Output", "Running"
_SHOWN, _GUESSES_SHOWN = 10, 4


class OnError(StrEnum):
    """What happens to a scene that cannot be read."""

    raise_ = "raise"
    skip = "skip"


def index(
    inputs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="FOLDER...",
            help="Folders, rasters, zipped products, globs, text lists, STAC (.json). With --refresh: as before.",
            show_default=False,
        ),
    ] = None,
    output: Annotated[
        Path,
        typer.Option("--output", "-o", help="The catalog, a GeoParquet file.", rich_help_panel=_OUTPUT),
    ] = Path("catalog.parquet"),
    refresh: Annotated[
        bool,
        typer.Option(
            "--refresh",
            help="Read again only what has changed since the catalog was made; add what is new, drop what is gone.",
            rich_help_panel=_OUTPUT,
        ),
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a catalog that is there.", rich_help_panel=_OUTPUT)
    ] = False,
    kind: Annotated[
        str,
        typer.Option(
            "--kind",
            metavar="KIND",
            help=" ".join(f"{name}: {summary}." for name, summary in PRODUCTS.summaries.items())
            + " auto: detected from the files. Other packages may add more.",
            autocompletion=lambda: ["auto", *PRODUCTS.names],
            rich_help_panel=_INPUT,
        ),
    ] = "auto",
    sensor: options.SensorName = None,
    bands: options.Bands = None,
    labels: Annotated[
        str | None,
        typer.Option(
            "--labels",
            "-l",
            help="Labels of all scenes in one file, or a folder with a raster for each, named as it is.",
            show_default=False,
            rich_help_panel=_INPUT,
        ),
    ] = None,
    invalid: Annotated[
        str | None,
        typer.Option(
            "--invalid",
            help="Classes and flags of quality layers that make pixels invalid: cloud,cloud_shadow,cirrus,snow... or "
            "numbers; none for no quality layer. Default: clouds, their shadows, cirrus, saturated, nodata.",
            show_default=False,
            rich_help_panel=_INPUT,
        ),
    ] = None,
    nodata: options.Nodata = None,
    expand_palette: options.ExpandPalette = False,
    on_error: Annotated[
        OnError,
        typer.Option(
            "--on-error",
            help="skip: leave out and name what cannot be read (exit code 1). raise: stop there.",
            rich_help_panel=_RUNNING,
        ),
    ] = OnError.skip,
    workers: Annotated[
        int | None,
        typer.Option(
            "--workers", min=1, help="Threads that read headers.", show_default=False, rich_help_panel=_RUNNING
        ),
    ] = None,
) -> None:
    """Read the headers of all scenes and save what is known of them, for training, splits and statistics.

    Finds Sentinel-2 and Landsat products, files for each band, chips in folders of classes or beside masks, and plain
    rasters; and the items of STAC that is named.

    [dim]geoaug index scenes/ -o catalog.parquet[/dim]
    """
    from geoaug.data.catalog.catalog import Catalog
    from geoaug.data.catalog.index import index_files
    from geoaug.errors import ConfigurationError

    old = None
    if refresh:
        old = Catalog.open(output)
        before = old.notes.get("index")
        if before is None:
            raise ConfigurationError(f"{output}: was not made by geoaug index; make it anew")
        inputs = inputs or before["inputs"]
        # The options of the first time hold where none are given now.
        sensor, labels = sensor or before["sensor"], labels or before["labels"]
        kind = before["kind"] if kind == "auto" else kind
        nodata = nodata or before.get("nodata")
        expand_palette = expand_palette or before.get("expand_palette", False)
    elif output.exists() and not overwrite:
        raise ConfigurationError(f"{output}: is there already; give --refresh to bring it up to date, or --overwrite")
    if not inputs:
        raise ConfigurationError("name the folders or files to index")
    wanted: list[str | int] | str | None = bands
    unwanted: list[str | int] | str | None = "" if invalid == "none" else invalid
    if refresh and old is not None:
        wanted = bands if bands is not None else old.notes["index"]["bands"]
        unwanted = unwanted if unwanted is not None else old.notes["index"]["invalid"]
    policy: Literal["raise", "skip"] = "raise" if on_error is OnError.raise_ else "skip"
    with _talking(), work_bar("reading headers") as tell:
        catalog = index_files(
            list(inputs), sensor=sensor, bands=wanted, labels=labels, kind=kind, invalid=unwanted, on_error=policy,
            threads=workers, progress=tell, refresh=old, nodata=nodata,
            expand_palette=expand_palette,
        )  # fmt: skip
    catalog.save(output)
    _tell(catalog)
    print_out(f"wrote    {output}")
    raise typer.Exit(1 if catalog.notes["skipped"] else 0)


class _Warnings(logging.Handler):
    """The log's warnings as notes, but for those that the summary tells."""

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if (
            record.levelno >= logging.WARNING
            and not text.startswith("left out: ")
            and "is gone, and dropped" not in text
        ):
            print_note(text)


@contextmanager
def _talking() -> Iterator[None]:
    """Warnings reach the person, and Ctrl-C ends with a line that says what is there now (some versions of typer would
    say nothing)."""
    log, warnings = logging.getLogger("geoaug"), _Warnings()
    log.addHandler(warnings)
    try:
        yield
    except KeyboardInterrupt as interrupt:
        print_error("stopped; no catalog was written")
        raise typer.Exit(130) from interrupt
    finally:
        log.removeHandler(warnings)


def _tell(catalog: "Catalog") -> None:
    notes = catalog.notes
    for folder, words in notes["layout"]["folders"].items():
        print_note(f"{folder}: taken for {words}; --kind says otherwise")
    if (passed := notes.get("passed_over")) is not None:
        print_note(f"{passed['count']} files are no scenes by their names, such as {passed['examples'][0]}")
    stdout_console().print(summary(catalog))
    for reason, count in list(notes["guesses"].items())[:_GUESSES_SHOWN]:
        print_note(f"the sensor is a guess ({count} of {len(catalog)} scenes): {reason}")
    if (changed := notes.get("refreshed")) is not None:
        print_out(
            f"{changed['unchanged']} unchanged, {len(changed['read_again'])} read again, {len(changed['added'])} new, "
            f"{len(changed['vanished'])} gone"
        )
        _name_some("gone", changed["vanished"])
    for reason in list(notes["skipped"].values())[:_SHOWN]:
        print_error(reason)
    if len(notes["skipped"]) > _SHOWN:
        print_error(f"and {len(notes['skipped']) - _SHOWN} more, all named in the catalog's notes")
    if notes["skipped"]:
        print_error(f"{len(notes['skipped'])} left out of {len(notes['skipped']) + len(catalog)}")


def _name_some(what: str, paths: list[str]) -> None:
    for path in paths[:_SHOWN]:
        print_note(f"{what}: {path}")
    if len(paths) > _SHOWN:
        print_note(f"{what}: {len(paths) - _SHOWN} more")


def summary(catalog: "Catalog") -> "Table":
    """What the scenes of a catalog are, each line with the commonest first."""
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, padding=(0, 1), show_header=False)
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")

    def row(name: str, values: "Counter[str]") -> None:
        some = [f"{value} ({count})" if len(values) > 1 else value for value, count in values.most_common(_SHOWN)]
        more = f" and {len(values) - _SHOWN} more" if len(values) > _SHOWN else ""
        table.add_row(name, escape(", ".join(some) + more))

    columns = {name: catalog.table.column(name).to_pylist() for name in _COLUMNS}
    kinds = Counter(columns["kind"]).most_common()
    table.add_row("scenes", ", ".join(f"{count} of kind {kind}" for kind, count in kinds))
    row("sensor", Counter(columns["sensor"]))
    row("bands", Counter(_bands_of(catalog)))
    row("CRS", Counter("none" if crs is None else crs[:40] for crs in columns["crs"]))
    row(
        "pixels",
        Counter(f"{width} x {height}" for width, height in zip(columns["width"], columns["height"], strict=True)),
    )
    row("gsd", Counter("unknown" if gsd is None else f"{gsd:.3g} m" for gsd in columns["gsd_m"]))
    row("type", Counter(columns["dtype"]))
    days = sorted(moment.date().isoformat() for moment in columns["datetime"] if moment is not None)
    if days:
        unknown = f"; {len(catalog) - len(days)} without" if len(days) < len(catalog) else ""
        table.add_row("dates", days[0] + (f" to {days[-1]}" if days[-1] != days[0] else "") + unknown)
    if any(label is not None for label in columns["label"]):
        row("classes", Counter(label for label in columns["label"] if label is not None))
    masked = sum(path is not None for path in columns["mask_path"])
    if masked:
        table.add_row("labels", f"{masked} of {len(catalog)} scenes have a file of labels")
    table.add_row("size", _size(sum(columns["size"])))
    return table


_COLUMNS = (
    "kind", "sensor", "crs", "width", "height", "gsd_m", "dtype", "datetime", "label", "mask_path", "size"
)  # fmt: skip


def _bands_of(catalog: "Catalog") -> list[str]:
    import pyarrow as pa
    import pyarrow.compute as pc

    bands = catalog.table.column("bands").combine_chunks()
    names = pa.ListArray.from_arrays(bands.offsets, bands.values.field("name"))
    return [str(text) for text in pc.binary_join(names, " ").to_pylist()]


def _size(size: float) -> str:
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} TB"
