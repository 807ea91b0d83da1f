"""`geoaug preview`: a contact sheet of what `geoaug augment` would write."""

from pathlib import Path
from typing import Annotated

import typer

from geoaug.cli import options
from geoaug.cli.console import note_compilation, note_unnamed_class, print_out

PreviewTile = Annotated[
    int | None,
    typer.Option(
        "--tile",
        "-t",
        help="Side of a tile, in pixels of the scene. Default: 256, or the scene's shorter side.",
        show_default=False,
        rich_help_panel="Tiles",
    ),
]


@options.takes_options
def preview(
    scene: options.OneScene,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The picture to write.", rich_help_panel="Output")
    ] = Path("preview.png"),
    recipe: options.RecipeName = "standard",
    copies: options.Copies = 6,
    tiles: Annotated[int, typer.Option("--tiles", help="How many tiles to show.", rich_help_panel="Tiles")] = 3,
    tile: PreviewTile = None,
    seed: options.Seed = 0,
    *,
    selection: options.SceneSelection,
    labelling: options.LabelSelection,
    device: options.Device = "auto",
) -> None:
    """Draw tiles of a scene beside augmented copies, in true and false colour, with masks and what was drawn.

    The copies are those that [bold]geoaug augment[/bold] writes with the same tile, recipe and seed.
    """
    from geoaug.io.job import AugmentJob
    from geoaug.io.preview import write_preview

    job = AugmentJob(
        scenes=(scene,),
        output=output.parent,
        recipe=recipe,
        copies=copies,
        **selection.keywords,
        gsd_m=selection.gsd,
        **labelling.keywords,
        seed=seed,
        device=device,
    )
    shown = write_preview(job, output, tiles=tiles, tile=tile)
    note_unnamed_class(labelling.labels, labelling.label_field)
    note_compilation(device)
    found = shown.scene.identification
    certainty = "" if found.certain else "uncertain: "
    print_out(f"sensor   {shown.scene.sensor.name}; {certainty}{found.reason}")
    print_out(f"wrote    {output}: {len(shown.windows)} tiles of {shown.tile} pixels, {copies} copies of each")
