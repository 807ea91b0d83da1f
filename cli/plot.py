"""`geoaug plot`: pictures of a catalog, and of batches as training sees them."""

from pathlib import Path
from typing import Annotated

import typer

from geoaug.cli import options
from geoaug.cli.console import print_out

app = typer.Typer(no_args_is_help=True, help="Draw a catalog on a map, or a batch of tiles as training sees it.")

_CatalogArgument = Annotated[
    str,
    typer.Argument(
        metavar="CATALOG",
        help="A catalog of [bold]geoaug index[/bold] (.parquet), or a folder, file or glob.",
        show_default=False,
    ),
]


@app.command("catalog")
def plot_catalog(
    source: _CatalogArgument,
    output: Annotated[Path, typer.Option("--output", "-o", help="The picture: .png, .pdf or .svg.")] = Path("map.png"),
    colour: Annotated[
        str, typer.Option("--colour", help="What colours tell: split, crs, or any column. Default: split, else crs.")
    ] = "auto",
    title: Annotated[str, typer.Option("--title", help="Above the map.")] = "",
) -> None:
    """Draw the footprints of all scenes with their valid ground and splits on a map."""
    from geoaug.data.datamodule import as_catalog
    from geoaug.data.pictures.catalog_picture import draw_catalog
    from geoaug.data.pictures.page import save_figure

    catalog = as_catalog(source)
    save_figure(draw_catalog(catalog, colour=colour, title=title or Path(source).name), output)
    print_out(f"wrote    {output}: {len(catalog):,} scene{'s' * (len(catalog) != 1)}")


@app.command("batch")
def plot_batch(
    source: _CatalogArgument,
    output: Annotated[Path, typer.Option("--output", "-o", help="The picture: .png, .pdf or .svg.")] = Path(
        "batch.png"
    ),
    recipe: Annotated[
        str | None,
        typer.Option("--recipe", "-r", help="Augment by this preset or YAML file.", show_default=False),
    ] = None,
    split: Annotated[str | None, typer.Option("--split", help="Tiles of this split alone.", show_default=False)] = None,
    tile: Annotated[
        int | None,
        typer.Option(
            "--tile", "-t", min=1, help="Side of a tile, pixels. Default: 256, or the whole chip.", show_default=False
        ),
    ] = None,
    count: Annotated[int, typer.Option("--count", "-n", min=1, help="Tiles to show.")] = 12,
    bands: options.Bands = None,
    labels: options.Labels = None,
    label_field: options.LabelField = None,
    ignore_index: options.IgnoreIndex = 255,
    seed: Annotated[int, typer.Option("--seed", help="Of the tiles, and of the augmentation.")] = 0,
    min_valid: Annotated[float, typer.Option("--min-valid", help="Least share of valid pixels of a tile.")] = 0.5,
) -> None:
    """Draw a batch of tiles as training sees it, augmented or not, with labels and validity."""
    from geoaug.data.datamodule import as_catalog
    from geoaug.data.pictures.batch_picture import draw_training_batch
    from geoaug.data.pictures.page import save_figure

    figure = draw_training_batch(
        as_catalog(source),
        recipe=recipe,
        split=split,
        size=tile,
        count=count,
        bands=bands,
        labels=labels,
        label_field=label_field,
        ignore_index=ignore_index,
        seed=seed,
        min_valid=min_valid,
    )
    save_figure(figure, output)
    print_out(f"wrote    {output}: {count} tiles")
