"""`geoaug predict`: a model file on scenes, back onto the map; or on chips, into a table."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from geoaug.cli import options
from geoaug.cli.console import print_error, print_note, print_out, work_bar

if TYPE_CHECKING:
    from geoaug.data.raster.record import SceneRecord
    from geoaug.models.networks.model_file import LoadedModel

_WORK, _OUTPUT, _RUNNING = "Prediction", "Output", "Running"
_PASSES = 10


class TableFormat(StrEnum):
    """Of the predictions of chips."""

    parquet = "parquet"
    csv = "csv"


class PrecisionName(StrEnum):
    """That the network multiplies with."""

    float32 = "float32"
    bfloat16 = "bfloat16"


def predict(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="A model file (.safetensors).", show_default=False)],
    scenes: Annotated[
        list[str],
        typer.Argument(
            metavar="SCENE...",
            help="Rasters, folders of scenes, Sentinel-2 SAFE and Landsat products, files for each band, globs, text "
            "lists (.txt), addresses; STAC items (.json); or a catalog (.parquet).",
            show_default=False,
        ),
    ],
    output: Annotated[
        Path,
        typer.Option(
            "--output", "-o", help="Folder for the maps, or the table.", show_default=False, rich_help_panel=_OUTPUT
        ),
    ],
    sensor: options.SensorName = None,
    kind: options.LayoutKind = "auto",
    invalid: options.Invalid = None,
    nodata: options.Nodata = None,
    split: options.Split = None,
    resample: Annotated[
        bool,
        typer.Option(
            "--resample",
            help="Bring scenes to the ground sampling distance of the training; others are refused.",
            rich_help_panel=_WORK,
        ),
    ] = False,
    ignore_gsd: Annotated[
        bool,
        typer.Option("--ignore-gsd", help="Predict at any ground sampling distance, as it is.", rich_help_panel=_WORK),
    ] = False,
    tta: Annotated[
        bool, typer.Option("--tta", help="Average the eight turns and flips of each window.", rich_help_panel=_WORK)
    ] = False,
    tile: Annotated[
        int | None,
        typer.Option(
            "--tile",
            "-t",
            min=32,
            help="Side of a window, pixels. Default: that of the training.",
            show_default=False,
            rich_help_panel=_WORK,
        ),
    ] = None,
    overlap: Annotated[
        int | None,
        typer.Option(
            "--overlap",
            min=0,
            help="Overlap of windows, pixels. Default: a quarter.",
            show_default=False,
            rich_help_panel=_WORK,
        ),
    ] = None,
    probabilities: Annotated[
        bool,
        typer.Option(
            "--probabilities", help="Also write the probability of each class, as a map.", rich_help_panel=_OUTPUT
        ),
    ] = False,
    uncertainty: Annotated[
        bool,
        typer.Option(
            "--uncertainty", help="Entropy and mutual information over passes with dropout.", rich_help_panel=_OUTPUT
        ),
    ] = False,
    passes: Annotated[
        int | None,
        typer.Option(
            "--passes",
            min=2,
            help="Passes with dropout, for --uncertainty. Default: 10.",
            show_default=False,
            rich_help_panel=_RUNNING,
        ),
    ] = None,
    polygons: Annotated[
        Path | None,
        typer.Option(
            "--polygons",
            help="The areas of the classes in this file, too: .gpkg or .parquet.",
            show_default=False,
            rich_help_panel=_OUTPUT,
        ),
    ] = None,
    table: Annotated[
        TableFormat | None,
        typer.Option(
            "--format",
            help="Of the predictions of chips. Default: parquet.",
            show_default=False,
            rich_help_panel=_OUTPUT,
        ),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace maps that are there.", rich_help_panel=_OUTPUT)
    ] = False,
    batch_size: Annotated[
        int, typer.Option("--batch-size", min=1, help="Windows or chips together.", rich_help_panel=_RUNNING)
    ] = 4,
    precision: Annotated[
        PrecisionName,
        typer.Option(
            "--precision", help="bfloat16 is faster where the processor knows it, less exact.", rich_help_panel=_RUNNING
        ),
    ] = PrecisionName.float32,
    device: options.Device = "auto",
) -> None:
    """Predict scenes of any size: maps of classes with colours and names, in each scene's own grid.

    Scenes are rasters, Sentinel-2 and Landsat products, or files for each band. A model of chips gives a table instead:
    predictions.parquet, a row a chip. Bands are found by name.

    [dim]geoaug predict trained/model.safetensors scenes/ -o maps --tta --polygons maps/areas.gpkg[/dim]
    """
    from geoaug.errors import ConfigurationError
    from geoaug.io.augmenter import choose_device
    from geoaug.models.networks.model_file import load_model

    if resample and ignore_gsd:
        raise ConfigurationError("--resample and --ignore-gsd are two ways of the same: give one")
    if passes is not None and not uncertainty:
        raise ConfigurationError("--passes are for --uncertainty: give it, too")
    where = str(choose_device(device))
    loaded = load_model(model, where)
    how: dict[str, Any] = {
        "sensor": sensor,
        "batch_size": batch_size,
        "device": where,
        "test_time": "d4" if tta else "none",
        "precision": precision.value,
        "passes": (passes or _PASSES) if uncertainty else 0,
        "ignore_gsd": ignore_gsd,
    }
    if loaded.card.architecture.decoder == "none":
        of_maps = {
            "--tile": tile, "--overlap": overlap, "--probabilities": probabilities or None, "--polygons": polygons,
            "--resample": resample or None,
        }  # fmt: skip
        given = [name for name, value in of_maps.items() if value is not None]
        if given:
            raise ConfigurationError(f"{', '.join(given)}: for maps, and this model answers once for a whole chip")
        _chips(loaded, scenes, output, table or TableFormat.parquet, how, overwrite=overwrite)
        return
    if table is not None:
        raise ConfigurationError("--format: for the table of chips, and this model answers for each pixel of a scene")
    how |= {"tile": tile, "overlap": overlap, "probabilities": probabilities, "resample": resample}
    selected = {"kind": kind, "invalid": options.unwanted_classes(invalid), "split": split, "nodata": nodata}
    found = _found(scenes, how.pop("sensor"), selected)
    how["nodata"] = nodata
    failed = _maps(loaded, found, output, how, polygons, overwrite=overwrite)
    raise typer.Exit(1 if failed else 0)


def _chips(
    loaded: "LoadedModel", chips: list[str], output: Path, table: TableFormat, how: dict[str, Any], *, overwrite: bool
) -> None:
    import io

    import pyarrow.csv
    import pyarrow.parquet

    from geoaug.errors import ConfigurationError
    from geoaug.io.geotiff import replace_file
    from geoaug.models.predict.chips import predict_chips

    path = output / f"predictions.{table}"
    if path.exists() and not overwrite:
        raise ConfigurationError(f"{path}: is there already; give --overwrite, or another -o")
    with work_bar("predicting chips") as tell:
        found = predict_chips(loaded, chips[0] if len(chips) == 1 else chips, progress=tell, **how)
    content = io.BytesIO()
    if table is TableFormat.csv:
        pyarrow.csv.write_csv(found, content)
    else:
        pyarrow.parquet.write_table(found, content)
    output.mkdir(parents=True, exist_ok=True)
    replace_file(path, content.getvalue())
    print_out(f"wrote    {path}: {found.num_rows:,} chips")


def _maps(
    loaded: "LoadedModel",
    scenes: tuple[list[tuple[str, "str | SceneRecord", str | None]], int],
    output: Path,
    how: dict[str, Any],
    polygons: Path | None,
    *,
    overwrite: bool,
) -> int:
    """Predict each scene; how many could not be read."""
    from geoaug.errors import ConfigurationError, RasterError
    from geoaug.models.predict.polygons import check_polygon_file, map_polygons, save_polygons
    from geoaug.models.predict.scene import predict_scene
    from geoaug.models.tasks.registry import find_task

    card = loaded.card
    layers = find_task(card.task).map_layers(card, probabilities=True)
    if polygons is not None:
        check_polygon_file(polygons)
        if not any(layer.name == "classes" for layer in layers):
            raise ConfigurationError("--polygons are of classes, one for each pixel")
        if polygons.exists() and not overwrite:
            raise ConfigurationError(f"{polygons}: is there already; give --overwrite, or another name")
    found, failed = scenes
    for name, *_ in found:
        there = [path for layer in layers if (path := output / f"{name}_{layer.name}.tif").exists()]
        if there and not overwrite:
            raise ConfigurationError(f"{there[0]}: is there already; give --overwrite, or another -o")
    output.mkdir(parents=True, exist_ok=True)
    areas = []
    with work_bar("predicting") as tell:
        for number, (name, scene, sensor) in enumerate(found):

            def progress(done: int, total: int, before: int = number) -> None:
                tell(before * 1000 + 1000 * done // total, 1000 * len(found))

            try:
                written = predict_scene(loaded, scene, output, name=name, sensor=sensor, progress=progress, **how)
            except RasterError as error:
                failed += 1
                print_error(str(error))
                continue
            for file in written.files.values():
                print_out(f"wrote    {file}")
            if polygons is not None and written.classes is not None:
                frame = map_polygons(written.classes, [one.name for one in card.classes])
                frame.insert(0, "scene", Path(scene).name if isinstance(scene, str) else name)
                areas.append(frame)
    if polygons is not None and areas:
        save_polygons(areas, polygons)
        print_out(f"wrote    {polygons}: {sum(map(len, areas)):,} areas")
    return failed


def _found(
    scenes: list[str], sensor: str | None, selected: dict[str, Any]
) -> tuple[list[tuple[str, "str | SceneRecord", str | None]], int]:
    """Each scene with its id and the sensor that its files were said to have; how many could not be read."""
    from geoaug.data.catalog.inputs import open_scenes

    found = open_scenes(scenes, sensor=sensor, **selected)
    for error in found.failures:
        print_error(str(error))
    for note in found.notes:
        print_note(note)
    if not found.scenes:
        raise found.failures[0]
    # A plain raster is judged anew, together with the bands that the model takes.
    listed: list[tuple[str, str | SceneRecord, str | None]] = [
        (one.record.id, one.record, None) if one.header is None else (one.record.id, one.record.path, sensor)
        for one in found.scenes
    ]
    return listed, len(found.failures)
