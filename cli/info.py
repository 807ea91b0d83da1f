"""`geoaug info`: what a scene holds, what geoaug takes it for, and likely problems."""

import math
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from geoaug.cli import options
from geoaug.cli.console import print_error, print_note, stdout_console

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from geoaug.data.catalog.inputs import SceneInput
    from geoaug.data.raster.overview import SceneInfo


@options.takes_options
def info(
    scenes: options.Scenes,
    selection: options.SceneSelection,
    transfer: Annotated[
        Path | None,
        typer.Option(
            "--estimate-transfer",
            metavar="SENSOR.yaml",
            help="Of 8-bit pictures made for the eye: estimate the reflectance of black and white from the darkest and "
            "brightest pixels of the first scene, and write its sensor here, for --sensor.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Show bands, sensor, CRS, grid, storage, values and nodata of scenes, and likely problems."""
    from geoaug.data.catalog.inputs import open_scenes
    from geoaug.data.raster.overview import inspect_scene
    from geoaug.errors import RasterError

    console = stdout_console()
    found = open_scenes(scenes, **selection.keywords)
    for note in found.notes:
        print_note(note)
    errors = list(found.failures)
    for error in errors:
        print_error(str(error))
    for scene in found.scenes:
        try:
            looked = inspect_scene(scene.record, scene.sensor, scene.header, certain=scene.identification.certain)
            _show(console, scene, looked, selection.gsd, selection.split)
        except RasterError as error:
            errors.append(error)
            print_error(str(error))
    if transfer is not None and found.scenes:
        _write_transfer(found.scenes[0], transfer)
    raise typer.Exit(1 if errors else 0)


def _write_transfer(scene: "SceneInput", path: Path) -> None:
    from geoaug.data.raster.overview import read_overview
    from geoaug.sensors import estimate_transfer, write_sensor

    looked = read_overview(scene.record)
    sensor = estimate_transfer(scene.sensor, looked.image, looked.valid)
    write_sensor(replace(sensor, name=path.stem), path)
    shown = ", ".join(f"{band.name} {band.black:.3f} to {band.white:.3f}" for band in sensor.bands)
    print_note(f"{path}: reflectance of black and white: {shown}")


def _show(console: "Console", scene: "SceneInput", found: "SceneInfo", gsd: float | None, split: str | None) -> None:
    from rich.markup import escape

    console.print(f"[bold]{escape(scene.record.path)}[/bold]")
    lines = _lines(scene, found, gsd, split)
    console.print(_rows([(f"[dim]{name}[/dim]", text) for name, text in lines]))
    console.print(_band_table(found))
    remarks = [("[yellow]warning[/yellow]", text) for text in found.warnings]
    remarks += [("[dim]note[/dim]", text) for text in found.remarks]
    if remarks:
        console.print(_rows(remarks))
    console.print()


def _rows(rows: list[tuple[str, str]]) -> "Table":
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, padding=(0, 1), show_header=False)
    table.add_column(no_wrap=True, min_width=7)
    table.add_column(overflow="fold")
    for name, text in rows:
        table.add_row(name, escape(text))
    return table


def _lines(scene: "SceneInput", found: "SceneInfo", gsd: float | None, split: str | None) -> list[tuple[str, str]]:
    from geoaug.data.raster.grid import target_grid

    record, header, grid = scene.record, scene.header, scene.record.grid
    count = len(record.bands) if header is None else header.count
    size = f"{grid.width} x {grid.height} pixels, {count} band{'s' * (count != 1)}, {record.dtype}"
    if grid.gsd_m is not None:
        size += f", {grid.gsd_m:.4g} m"
    crs = "none" if grid.crs is None else grid.crs if header is None or header.crs is None else header.crs.to_string()
    rows, cols = found.block_shape
    blocks = f"{'tiles' if found.tiled else 'strips'} of {cols} x {rows}"
    compression = found.compression or "no compression"
    overviews = f"overviews 1/{', 1/'.join(map(str, found.overviews))}" if found.overviews else "no overviews"
    files = "" if found.files == 1 else f"{found.files} files: "
    nodata = "none" if record.nodata is None else f"{record.nodata:g}"
    alpha = next((band.alpha for band in record.bands if band.alpha is not None), None)
    mask = f", and alpha in band {alpha}" if alpha is not None else ""
    mask = mask or (", and a mask" if any(band.has_mask for band in record.bands) else "")
    about = "about " if found.estimated else ""
    certainty = "certain" if scene.identification.certain else "a guess"
    origin = f"({grid.transform.c:.10g}, {grid.transform.f:.10g})"
    lines = [
        ("size", size),
        ("location", f"{crs[:80]}, origin {origin}"),
        ("stored", f"{files}{found.driver}, {blocks}, {compression}, {overviews}"),
        ("nodata", f"{nodata}{mask}; {about}{found.invalid_share:.1%} of the pixels are invalid"),
        ("sensor", f"{found.sensor.name} ({certainty}): {scene.identification.reason}"),
    ]
    if record.quality is not None:
        layer = record.quality
        what = "classes" if layer.kind == "classes" else "bits"
        numbers = ", ".join(map(str, layer.invalid))
        lines.append(
            ("quality", f"{what} {numbers} of {layer.band.path} make a pixel invalid; --invalid says otherwise")
        )
    if header is None and record.datetime is not None:
        lines.append(("taken", record.datetime))
    if record.label is not None:
        lines.append(("class", record.label))
    if record.mask_path is not None:
        lines.append(("labels", record.mask_path))
    if split is not None:
        part = "all of the scene" if scene.region is None else "a part of the scene"
        lines.append(("split", f"{split}: {part}"))
    if gsd is not None:
        tiles = target_grid(grid, None, gsd)
        lines.append(("tiles", f"cut from {tiles.width} x {tiles.height} pixels of {tiles.gsd_m:.4g} m"))
    return lines


def _band_table(found: "SceneInfo") -> "Table":
    from rich.markup import escape
    from rich.table import Table

    several = len({band.grid for band in found.record.bands}) > 1
    table = Table(box=None, padding=(0, 1), header_style="dim")
    headings = ["", "band", "nm", *(["m"] if several else []), "min", "2 %", "mean", "98 %", "max"]
    values = "display value" if found.sensor.transfer is not None else "reflectance"
    for heading in (*headings, f"{values} 2 to 98 %"):
        table.add_column(heading, justify="left" if heading == "band" else "right", no_wrap=True)
    optical = found.sensor.domain == "optical"
    for number, (stored, row) in enumerate(zip(found.record.bands, found.bands, strict=True), start=1):
        band, gsd = row.band, stored.grid.gsd_m
        reflectance = [(value + band.offset) / band.quantification for value in (row.low, row.high)]
        shown = optical and not math.isnan(row.low)
        table.add_row(
            str(stored.index if found.files == 1 else number),
            escape(band.name),
            "" if band.wavelength_nm is None else f"{band.wavelength_nm:.0f}",
            *(["-" if gsd is None else f"{gsd:.4g}"] if several else []),
            *(_number(value) for value in (row.least, row.low, row.mean, row.high, row.greatest)),
            f"{reflectance[0]:.3f} to {reflectance[1]:.3f}" if shown else "",
        )
    return table


def _number(value: float) -> str:
    if math.isnan(value):
        return "-"
    return f"{value:.0f}" if value == round(value) or abs(value) >= 1000 else f"{value:.4g}"
