"""`geoaug bench`: how fast this machine augments, and how near that comes to copying memory."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from geoaug.cli import options
from geoaug.cli.console import note_compilation, print_note, status_line, stdout_console

if TYPE_CHECKING:
    from geoaug.augment.measure import Measurement, Tiles

_WORK, _OUTPUT = "Measurement", "Output"


def bench(
    device: options.Device = "auto",
    batch: Annotated[int, typer.Option(min=1, help="Tiles at a time.", rich_help_panel=_WORK)] = 64,
    bands: Annotated[
        int, typer.Option(min=1, max=13, help="Bands of a tile, of Sentinel-2's thirteen.", rich_help_panel=_WORK)
    ] = 13,
    tile: Annotated[int, typer.Option(min=8, help="Side of a tile, pixels.", rich_help_panel=_WORK)] = 256,
    size: Annotated[int, typer.Option(min=1, help="Side of the output, pixels.", rich_help_panel=_WORK)] = 224,
    preset: Annotated[
        list[str] | None,
        typer.Option(help="A preset to measure besides; may be given again.", rich_help_panel=_WORK),
    ] = None,
    seconds: Annotated[float, typer.Option(min=0.0, help="Time for each measurement.", rich_help_panel=_WORK)] = 1.0,
    output: Annotated[
        Path | None,
        typer.Option("--json", help="Write all figures to this file, too.", rich_help_panel=_OUTPUT),
    ] = None,
) -> None:
    """Measure this machine: tiles a second by every executor, and the share of the speed of copying memory.

    Tiles are random uint16 with a mask, and come out as normalised float32. "Of copying" compares one reading and one
    writing of each batch with a plain copy on the same device: 100 % is as fast as memory goes.
    """
    from geoaug.augment.measure import Tiles, measure
    from geoaug.errors import ConfigurationError
    from geoaug.io.augmenter import choose_device

    if output is not None:
        if not output.parent.is_dir():
            raise ConfigurationError(f"--json {output}: the folder {output.parent} does not exist")
        if output.is_dir():
            raise ConfigurationError(f"--json {output}: Is a directory; name a file")
        try:
            output.touch()
        except OSError as error:
            raise ConfigurationError(f"--json {output}: {error.strerror}") from error
    where = choose_device(device)
    work = Tiles(batch, bands, tile, size)
    print_note(_machine(where, work))
    note_compilation(where.type)
    found = []
    console = stdout_console()
    with status_line("copying memory") as tell:
        for measurement in measure(work, where, seconds, preset or ()):
            found.append(measurement)
            tell(f"{len(found)} measured: {measurement.task} by {measurement.executor}")
    console.print(_table(found))
    console.print(f"copying: {found[0].copied / 1e9:.1f} GB/s, read and written")
    if output is not None:
        output.write_text(json.dumps(_record(found, work, str(where)), indent=2) + "\n")
        console.print(f"written to {output}", soft_wrap=True)


def _machine(device: Any, work: "Tiles") -> str:
    import torch

    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    return (
        f"{name}: {work.batch} tiles of {work.bands} x {work.tile} x {work.tile} uint16 to float32 "
        f"{work.size} x {work.size}"
    )


def _table(found: "list[Measurement]") -> Any:
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("recipe")
    table.add_column("executor")
    for name in ("tiles/s", "spread", "GB/s", "of copying", "first run"):
        table.add_column(name, justify="right")
    fastest = {task: max(m.rate for m in found if m.task == task) for task in {m.task for m in found}}
    before = ""
    for m in found:
        rates = [m.tiles / took for took in (max(m.seconds), min(m.seconds))]
        style = "bold green" if m.rate == fastest[m.task] else ""
        table.add_row(
            m.task if m.task != before else "",
            m.executor,
            f"{m.rate:,.0f}",
            f"{rates[0]:,.0f} to {rates[1]:,.0f}",
            f"{m.share * m.copied / 1e9:.1f}",
            f"{m.share:.0%}",
            f"{m.preparation:.1f} s",
            style=style,
        )
        before = m.task
    return table


def _record(found: "list[Measurement]", work: "Tiles", device: str) -> dict[str, Any]:
    import platform
    from dataclasses import asdict
    from importlib.metadata import version

    import torch

    import geoaug

    versions = {"geoaug": geoaug.__version__, **{name: version(name) for name in ("torch", "kornia")}}
    return {
        "device": device,
        "machine": f"{platform.system()} {platform.machine()}",
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "versions": versions,
        "tiles": asdict(work),
        "copied_bytes_a_second": found[0].copied,
        "measurements": [{**asdict(m), "tiles_a_second": m.rate, "share_of_copying": m.share} for m in found],
    }
