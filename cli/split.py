"""`geoaug split`: the scenes of a catalog, or parts of their ground, in training, validation and test."""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from geoaug.cli.console import print_note, print_out, status_line, stdout_console

if TYPE_CHECKING:
    from geoaug.data.catalog.catalog import Catalog
    from geoaug.data.sampling.splits import SplitSummary

_GROUND, _OTHER, _OUTPUT = "Splits of the ground", "Other splits", "Output"


class Method(StrEnum):
    """How a catalog is split."""

    blocks = "blocks"
    kfold = "kfold"
    attribute = "attribute"
    date = "date"
    folder = "folder"
    random = "random"


def split(
    catalog: Annotated[
        Path, typer.Argument(metavar="CATALOG", help="Made by [bold]geoaug index[/bold].", show_default=False)
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="Where the catalog with its splits is written; by default it replaces CATALOG.",
            show_default=False,
            rich_help_panel=_OUTPUT,
        ),
    ] = None,
    method: Annotated[
        Method,
        typer.Option(
            help="blocks: by ground, so that a spot is in one split at all dates. kfold: the same in folds. "
            "attribute, date, folder: by what is known of scenes. random: by chance, scenes that overlap together."
        ),
    ] = Method.blocks,
    shares: Annotated[
        str, typer.Option(help="Of the valid ground, by split (blocks, random).", rich_help_panel=_GROUND)
    ] = "train=0.7,val=0.15,test=0.15",
    block_m: Annotated[
        float | None,
        typer.Option(
            "--block-m",
            help="Side of a block in metres. Default: such that about 200 hold the scenes, two tiles at least.",
            show_default=False,
            rich_help_panel=_GROUND,
        ),
    ] = None,
    buffer_m: Annotated[
        float,
        typer.Option("--buffer-m", min=0, help="Metres that tiles of two splits keep.", rich_help_panel=_GROUND),
    ] = 0.0,
    folds: Annotated[int, typer.Option(min=2, help="How many (kfold).", rich_help_panel=_GROUND)] = 5,
    column: Annotated[
        str | None,
        typer.Option(help="Of the catalog, to split by (attribute).", show_default=False, rich_help_panel=_OTHER),
    ] = None,
    values: Annotated[
        list[str] | None,
        typer.Option(
            help="Values of that column for a split: train=spring,summer. Once for each split.",
            show_default=False,
            rich_help_panel=_OTHER,
        ),
    ] = None,
    starts: Annotated[
        str | None,
        typer.Option(
            help="When each split begins (date): train=,val=2023-01-01,test=2023-07-01.",
            show_default=False,
            rich_help_panel=_OTHER,
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="The same seed gives the same splits.")] = 0,
    size: Annotated[
        int,
        typer.Option(
            min=1, help="Of the tiles that the splits are for, and that are counted, pixels.", rich_help_panel=_OUTPUT
        ),
    ] = 256,
) -> None:
    """Split a catalog into training, validation and test, and say what each holds.

    Splits by ground are checked for leaks before they are written. Where one has no room for a single tile, the
    catalog is written all the same, and the command ends with 1.
    """
    from geoaug.data.catalog.catalog import Catalog
    from geoaug.data.sampling.leaks import check_leaks, shared_ground
    from geoaug.data.sampling.splits import summarise

    known = Catalog.open(catalog)
    asked = _Asked(shares, block_m, buffer_m, folds, column, values or [], starts, seed, size)
    with status_line(f"splitting {len(known)} scenes") as tell:
        found = asked.split(known, method)
        if method in (Method.blocks, Method.kfold):
            tell("measuring how far the splits are apart")
            check_leaks(found, buffer_m)
        shared = None if method in (Method.blocks, Method.kfold, Method.random) else shared_ground(found)
        target = catalog if output is None else output
        found.save(target)
        tell("counting tiles")
        rows = summarise(found, size)
    _show(rows, size)
    roomless = [row for row in rows if not row.tiles]
    for row in roomless:
        print_note(
            f"split '{row.name}' holds no tile of {size} pixels: its blocks are smaller (--block-m), its buffer "
            f"takes them (--buffer-m), or tiles are to be smaller ({_smaller(found, method, size, len(rows))})"
        )
    if shared is not None:
        print_note(f"{shared}; a split by {method.value} does not keep ground apart")
    out = len(found) - _placed(found)
    if out:
        print_note(f"{out} of {len(found)} scenes are in no split")
    print_out(f"written to {target}")
    if roomless:
        raise typer.Exit(1)


def _smaller(catalog: "Catalog", method: Method, size: int, parts: int) -> str:
    """The option that gives smaller tiles, with a size that has room where blocks follow from it."""
    from geoaug.data.sampling.split_ground import distinct_grids, roomy_size

    if method not in (Method.blocks, Method.kfold):
        return "--size"
    fitting = roomy_size(distinct_grids(catalog)[0], parts)
    return f"--size {fitting}" if fitting < size else "--size"


@dataclass(frozen=True)
class _Asked:
    """What was asked for on the command line."""

    shares: str
    block_m: float | None
    buffer_m: float
    folds: int
    column: str | None
    values: list[str]
    starts: str | None
    seed: int
    size: int

    def split(self, catalog: "Catalog", method: Method) -> "Catalog":
        from geoaug.data.sampling import splits
        from geoaug.errors import ConfigurationError

        by_ground = (Method.blocks, Method.kfold)
        for option, value, methods in (
            ("--buffer-m", self.buffer_m, (*by_ground, Method.random)),
            ("--block-m", self.block_m, by_ground),
            ("--column", self.column, (Method.attribute,)),
            ("--values", self.values, (Method.attribute,)),
            ("--starts", self.starts, (Method.date,)),
        ):
            if value and method not in methods:
                words = ", ".join(one.value for one in methods)
                raise ConfigurationError(f"{option} is for --method {words}, not {method.value}")
        ground: dict[str, Any] = {"buffer_m": self.buffer_m, "seed": self.seed}
        blocks: dict[str, Any] = {"block_m": self.block_m, "size": self.size}
        if method is Method.blocks:
            return splits.split_by_blocks(catalog, _numbers(self.shares), **blocks, **ground)
        if method is Method.kfold:
            return splits.split_into_folds(catalog, self.folds, **blocks, **ground)
        if method is Method.random:
            return splits.split_by_chance(catalog, _numbers(self.shares), **ground)
        if method is Method.folder:
            return splits.split_by_folder(catalog)
        if method is Method.date:
            if self.starts is None:
                raise ConfigurationError("say when each split begins: --starts train=,val=2023-01-01")
            return splits.split_by_date(catalog, {name: text or None for name, text in _pairs(self.starts).items()})
        if self.column is None or not self.values:
            raise ConfigurationError("name a column and its values for each split: --column season --values train=dry")
        wanted: dict[str, list[str]] = {}
        for line in self.values:
            name, equals, values = line.partition("=")
            if not equals or not name.strip():
                raise ConfigurationError(f"--values {line!r} is not written as split=value,value")
            wanted.setdefault(name.strip(), []).extend(value.strip() for value in values.split(","))
        return splits.split_by_attribute(catalog, self.column, wanted)


def _pairs(text: str) -> dict[str, str]:
    from geoaug.errors import ConfigurationError

    found = {}
    for part in text.split(","):
        name, equals, value = part.partition("=")
        if not equals or not name.strip():
            raise ConfigurationError(f"{part!r} is not written as name=value")
        if name.strip() in found:
            raise ConfigurationError(f"the split '{name.strip()}' is named twice in {text!r}")
        found[name.strip()] = value.strip()
    return found


def _numbers(text: str) -> dict[str, float]:
    from geoaug.errors import ConfigurationError

    found = {}
    for name, value in _pairs(text).items():
        try:
            found[name] = float(value)
        except ValueError as error:
            raise ConfigurationError(f"the share of '{name}' is {value!r}: it must be a number") from error
    return found


def _placed(found: "Catalog") -> int:
    """How many scenes are in some split."""
    table = found.table
    assigned = table.column("split").is_valid().to_numpy()
    if "regions" in table.column_names:
        assigned = assigned | table.column("regions").is_valid().to_numpy()
    return int(assigned.sum())


def _show(rows: "list[SplitSummary]", size: int) -> None:
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, padding=(0, 1), header_style="dim")
    classes = list(rows[0].classes)
    for number, heading in enumerate(("split", "scenes", "ground km2", f"tiles of {size}", *classes)):
        table.add_column(escape(heading), justify="right" if number else "left")
    for row in rows:
        counts = [str(row.classes[name]) for name in classes]
        ground = "-" if row.ground_km2 != row.ground_km2 else f"{row.ground_km2:.4g}"
        table.add_row(escape(row.name), str(row.scenes), ground, str(row.tiles), *counts)
    stdout_console().print(table)
