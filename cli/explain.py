"""`geoaug explain`: where in chips a model looks, and which chips it takes to be alike."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from geoaug.cli import options
from geoaug.cli.console import print_out


class Projection(StrEnum):
    """Of features into a plane."""

    pca = "pca"
    tsne = "tsne"


def explain(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="A model file (.safetensors).", show_default=False)],
    chips: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[CHIP...]",
            help="Files, folders or a catalog. Default: the validation split that the model was trained beside.",
            show_default=False,
        ),
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for grad_cam.png and embedding.png.")] = Path(
        "explained"
    ),
    count: Annotated[int, typer.Option("--count", "-n", min=0, help="Chips to show with Grad-CAM; 0 for none.")] = 12,
    most: Annotated[int, typer.Option("--most", min=3, help="Chips in the picture of what is alike.")] = 2000,
    projection: Annotated[
        Projection, typer.Option("--projection", help="Into the plane of the picture.")
    ] = Projection.pca,
    sensor: options.SensorName = None,
    ignore_gsd: Annotated[
        bool, typer.Option("--ignore-gsd", help="Look at chips of any ground sampling distance, as they are.")
    ] = False,
    device: options.Device = "auto",
) -> None:
    """Draw where in chips the answer comes from (Grad-CAM), and the features of many chips in a plane.

    [dim]geoaug explain trained/model.safetensors -o explained[/dim]
    """
    from geoaug.data.catalog.catalog import Catalog
    from geoaug.data.pictures.page import save_figure
    from geoaug.errors import ConfigurationError
    from geoaug.io.augmenter import choose_device
    from geoaug.models.explain import draw_embedding, draw_grad_cam
    from geoaug.models.explain import explain as look
    from geoaug.models.networks.model_file import load_model

    where = str(choose_device(device))
    loaded = load_model(model, where)
    source: Catalog | list[str] | str
    if chips:
        source = chips[0] if len(chips) == 1 else chips
    else:
        data = dict(loaded.card.training.get("configuration") or {}).get("data")
        if data is None or not str(data["source"]).endswith(".parquet"):
            raise ConfigurationError("the model does not know a catalog with a validation split: name chips")
        source = Catalog.open(data["source"]).split((data.get("names") or {}).get("val", "val"))
    found = look(
        loaded,
        source,
        sensor=sensor,
        most=most,
        attention=count,
        ignore_gsd=ignore_gsd,
        device=where,
    )
    output.mkdir(parents=True, exist_ok=True)
    if count:
        save_figure(draw_grad_cam(found, loaded.card), output / "grad_cam.png")
        print_out(f"wrote    {output / 'grad_cam.png'}: {len(found.attention)} chips")
    save_figure(draw_embedding(found, loaded.card, projection.value), output / "embedding.png")
    print_out(f"wrote    {output / 'embedding.png'}: {len(found.names):,} chips")
