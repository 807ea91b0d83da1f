"""`geoaug info`: what a raster holds, what geoaug takes it for, and what will hurt."""

import math
from typing import TYPE_CHECKING

import typer

from geoaug.cli import options
from geoaug.cli.console import print_error, stdout_console

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from geoaug.data.raster.scene_info import SceneInfo


def info(scenes: options.Scenes, bands: options.Bands = None, sensor: options.SensorName = None) -> None:
    """Show bands, sensor, CRS, grid, storage, values and nodata of rasters, and what will hurt."""
    from geoaug.data.raster.inputs import resolve_inputs
    from geoaug.data.raster.scene import open_scene
    from geoaug.data.raster.scene_info import inspect_scene
    from geoaug.errors import RasterError

    console = stdout_console()
    failed = False
    for path in resolve_inputs(scenes):
        try:
            found = inspect_scene(open_scene(path, sensor=sensor, bands=bands))
        except RasterError as error:
            failed = True
            print_error(str(error))
            continue
        _show(console, found)
    raise typer.Exit(1 if failed else 0)


def _show(console: "Console", found: "SceneInfo") -> None:
    from rich.markup import escape

    scene = found.scene
    console.print(f"[bold]{escape(scene.path)}[/bold]")
    console.print(_rows([(f"[dim]{name}[/dim]", text) for name, text in _lines(found)]))
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


def _lines(found: "SceneInfo") -> list[tuple[str, str]]:
    scene = found.scene
    identification = scene.identification
    crs = "none" if scene.crs is None else scene.crs.to_string()
    size = f"{scene.width} x {scene.height} pixels, {scene.count} band{'s' * (scene.count != 1)}, {scene.dtype.name}"
    if scene.gsd_m is not None:
        size += f", {scene.gsd_m:.4g} m"
    rows, cols = scene.block_shape
    blocks = f"{'tiles' if found.tiled else 'strips'} of {cols} x {rows}"
    compression = found.compression or "no compression"
    overviews = f"overviews 1/{', 1/'.join(map(str, found.overviews))}" if found.overviews else "no overviews"
    nodata = "none" if scene.nodata is None else f"{scene.nodata:g}"
    mask = ", and a mask" if scene.has_mask else ""
    about = "about " if found.estimated else ""
    certainty = "certain" if identification.certain else "a guess"
    origin = f"({scene.transform.c:.10g}, {scene.transform.f:.10g})"
    return [
        ("size", size),
        ("place", f"{crs[:80]}, origin {origin}"),
        ("stored", f"{found.driver}, {blocks}, {compression}, {overviews}"),
        ("nodata", f"{nodata}{mask}; {about}{found.invalid_share:.1%} of the pixels are invalid"),
        ("sensor", f"{scene.sensor.name} ({certainty}): {identification.reason}"),
    ]


def _band_table(found: "SceneInfo") -> "Table":
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, padding=(0, 1), header_style="dim")
    for heading in ("", "band", "nm", "min", "2 %", "mean", "98 %", "max", "reflectance 2 to 98 %"):
        table.add_column(heading, justify="left" if heading == "band" else "right", no_wrap=True)
    optical = found.scene.sensor.domain == "optical"
    for number, row in zip(found.scene.band_indexes, found.bands, strict=True):
        band = row.band
        reflectance = [(value + band.offset) / band.quantification for value in (row.low, row.high)]
        shown = optical and not math.isnan(row.low)
        table.add_row(
            str(number),
            escape(band.name),
            "" if band.wavelength_nm is None else f"{band.wavelength_nm:.0f}",
            *(_number(value) for value in (row.least, row.low, row.mean, row.high, row.greatest)),
            f"{reflectance[0]:.3f} to {reflectance[1]:.3f}" if shown else "",
        )
    return table


def _number(value: float) -> str:
    if math.isnan(value):
        return "-"
    return f"{value:.0f}" if value == round(value) or abs(value) >= 1000 else f"{value:.4g}"
