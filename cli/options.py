"""Arguments and options that several commands share, with their help; and how a command takes many as one value."""

import dataclasses
import inspect
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from geoaug.data.registry import PRODUCTS

_INPUT, _TILES, _OUTPUT, _RUNNING = "Input", "Tiles", "Output", "Running"


class Format(StrEnum):
    """File formats of tiles."""

    gtiff = "gtiff"
    cog = "cog"


class Compression(StrEnum):
    """Compression of tiles."""

    zstd = "zstd"
    deflate = "deflate"
    lzw = "lzw"
    none = "none"


ReportFolder = Annotated[
    Path, typer.Option("--output", "-o", help="Folder for report.html and report.json.", rich_help_panel="Output")
]
ReportJson = Annotated[
    bool, typer.Option("--json", help="Print the whole report as JSON, and no table.", rich_help_panel="Output")
]
Scenes = Annotated[
    list[str],
    typer.Argument(
        metavar="SCENE...",
        help="Rasters, folders, Sentinel-2 SAFE and Landsat products, files for each band, globs, text lists (.txt), "
        "addresses; STAC items (.json); or a catalog (.parquet).",
        show_default=False,
    ),
]
OneScene = Annotated[
    str,
    typer.Argument(
        metavar="SCENE",
        help="A raster, a Sentinel-2 SAFE or Landsat product, a folder with a file for each band, an address, a STAC "
        "item (.json), or a catalog (.parquet) of one scene.",
        show_default=False,
    ),
]
LayoutKind = Annotated[
    str,
    typer.Option(
        "--kind",
        help="How files are laid out, as for geoaug index. auto: detected from the files. "
        + "; ".join(f"{name}: {summary}" for name, summary in PRODUCTS.summaries.items())
        + ".",
        rich_help_panel=_INPUT,
    ),
]
Invalid = Annotated[
    str | None,
    typer.Option(
        "--invalid",
        help="Classes and flags of quality layers that make pixels invalid: cloud,cloud_shadow,cirrus,snow... or "
        "numbers; none for no quality layer. Default: clouds, their shadows, cirrus, saturated, nodata.",
        show_default=False,
        rich_help_panel=_INPUT,
    ),
]
Nodata = Annotated[
    str | None,
    typer.Option(
        "--nodata",
        metavar="VALUE|none",
        help="The stored value that is no data, where what the files state is wrong or missing; nan is one; none where "
        "every pixel is data. Masks and quality layers count all the same.",
        show_default=False,
        rich_help_panel=_INPUT,
    ),
]
ExpandPalette = Annotated[
    bool,
    typer.Option(
        "--expand-palette",
        help="Take rasters with a palette for the colours that their numbers stand for.",
        rich_help_panel=_INPUT,
    ),
]
Split = Annotated[
    str | None,
    typer.Option(
        "--split",
        help="Only the scenes, and the ground, of this split of a catalog: train, val, test...",
        show_default=False,
        rich_help_panel=_INPUT,
    ),
]
Gsd = Annotated[
    float | None,
    typer.Option(
        "--gsd",
        help="Ground sampling distance in metres that all bands are brought to. Default: that of the finest band.",
        show_default=False,
        rich_help_panel=_TILES,
    ),
]
RecipeName = Annotated[
    str,
    typer.Option(
        "--recipe", "-r", help="A preset (see [bold]geoaug recipes[/bold]) or a YAML file.", rich_help_panel=_TILES
    ),
]
Bands = Annotated[
    str | None,
    typer.Option(
        "--bands",
        "-b",
        help="Bands by name or number, in the order wanted: B04,B03,B02,B08. Default: all.",
        show_default=False,
        rich_help_panel=_INPUT,
    ),
]
SensorName = Annotated[
    str | None,
    typer.Option(
        "--sensor",
        "-s",
        help="Sensor of the scenes: sentinel-2-l2a, landsat-8-l2, rgbn... or a YAML file. Default: detected from "
        "each file.",
        show_default=False,
        rich_help_panel=_INPUT,
    ),
]
Labels = Annotated[
    str | None,
    typer.Option(
        "--labels",
        "-l",
        help="Class labels: a raster on any grid, a vector file (gpkg, shp, geojson...), or a folder with a raster for "
        "each scene. Default: the labels that belong to the scenes, if any.",
        show_default=False,
        rich_help_panel=_INPUT,
    ),
]
LabelField = Annotated[
    str | None,
    typer.Option(
        "--label-field",
        help="The attribute of the vector file that holds the class.",
        show_default=False,
        rich_help_panel=_INPUT,
    ),
]
IgnoreIndex = Annotated[
    int, typer.Option("--ignore-index", help="The class id that marks pixels without a label.", rich_help_panel=_INPUT)
]
Copies = Annotated[
    int, typer.Option("--copies", "-n", help="Augmented tiles made from each window.", rich_help_panel=_TILES)
]
Tile = Annotated[
    int, typer.Option("--tile", "-t", help="Side of a tile, in pixels of the scene.", rich_help_panel=_TILES)
]
Stride = Annotated[
    int | None,
    typer.Option(
        "--stride",
        help="Step from one tile to the next, in pixels. Default: the tile's side. The last tile of a row or "
        "column is moved inwards, and overlaps the one before.",
        show_default=False,
        rich_help_panel=_TILES,
    ),
]
Seed = Annotated[
    int, typer.Option("--seed", help="The same seed gives the same files, byte for byte.", rich_help_panel=_TILES)
]
MinValid = Annotated[
    float,
    typer.Option(
        "--min-valid",
        help="Minimum fraction of valid pixels, 0 to 1, for a tile to be written.",
        rich_help_panel=_TILES,
    ),
]
IncludeOriginal = Annotated[
    bool,
    typer.Option("--include-original", help="Write each tile as it is, too (…_orig.tif).", rich_help_panel=_OUTPUT),
]
Output = Annotated[
    Path,
    typer.Option(
        "--output",
        "-o",
        help="Folder for images/, masks/, manifest.parquet and recipe.yaml.",
        show_default=False,
        rich_help_panel=_OUTPUT,
    ),
]
TileFormat = Annotated[Format, typer.Option("--format", help="File format of the tiles.", rich_help_panel=_OUTPUT)]
TileCompression = Annotated[
    Compression, typer.Option("--compress", help="Compression of the tiles.", rich_help_panel=_OUTPUT)
]
Overwrite = Annotated[
    bool,
    typer.Option(
        "--overwrite",
        help="Overwrite an earlier run's output; other files in the folder are left alone.",
        rich_help_panel=_OUTPUT,
    ),
]
Device = Annotated[
    str, typer.Option("--device", help="auto (cuda where there is one), cpu or cuda.", rich_help_panel=_RUNNING)
]
BatchSize = Annotated[
    int | None,
    typer.Option(
        "--batch-size",
        help="Tiles augmented at once; does not affect the output. Default: what fits a modest amount of memory.",
        show_default=False,
        rich_help_panel=_RUNNING,
    ),
]
Workers = Annotated[
    int | None,
    typer.Option(
        "--workers",
        help="Number of reader threads, and of writer threads; does not affect the output. Default: what suits the "
        "machine.",
        show_default=False,
        rich_help_panel=_RUNNING,
    ),
]


@dataclasses.dataclass(frozen=True)
class SceneSelection:
    """Which scenes are meant by what is named, and what of them."""

    bands: Bands = None
    sensor: SensorName = None
    kind: LayoutKind = "auto"
    invalid: Invalid = None
    nodata: Nodata = None
    expand_palette: ExpandPalette = False
    split: Split = None
    gsd: Gsd = None

    @property
    def keywords(self) -> dict[str, Any]:
        """As `geoaug.data.open_scenes` takes them."""
        return {
            "bands": self.bands,
            "sensor": self.sensor,
            "kind": self.kind,
            "invalid": unwanted_classes(self.invalid),
            "nodata": self.nodata,
            "expand_palette": self.expand_palette,
            "split": self.split,
        }


@dataclasses.dataclass(frozen=True)
class LabelSelection:
    """The labels of the scenes."""

    labels: Labels = None
    label_field: LabelField = None
    ignore_index: IgnoreIndex = 255

    @property
    def keywords(self) -> dict[str, Any]:
        """As `AugmentJob` takes them."""
        return dataclasses.asdict(self)


@dataclasses.dataclass(frozen=True)
class TileFiles:
    """How tiles are written."""

    include_original: IncludeOriginal = False
    format: TileFormat = Format.gtiff
    compress: TileCompression = Compression.zstd
    overwrite: Overwrite = False

    @property
    def keywords(self) -> dict[str, Any]:
        """As `AugmentJob` takes them."""
        return dataclasses.asdict(self) | {"format": self.format.value, "compress": self.compress.value}


def takes_options(command: Callable[..., None]) -> Callable[..., None]:
    """A command whose parameters that are dataclasses are filled from options of the command line.

    Each field of such a dataclass, annotated as typer wants it, is an option of its own to typer; the command is given
    the one value.
    """
    own = inspect.signature(command).parameters
    groups: dict[str, Any] = {
        name: one.annotation for name, one in own.items() if dataclasses.is_dataclass(one.annotation)
    }

    def run(**given: Any) -> None:
        for name, group in groups.items():
            given[name] = group(**{field.name: given.pop(field.name) for field in dataclasses.fields(group)})
        command(**given)

    parameters = []
    for name, one in own.items():
        if name not in groups:
            parameters.append(one.replace(kind=inspect.Parameter.KEYWORD_ONLY))
            continue
        hints = get_type_hints(groups[name], include_extras=True)
        parameters += [
            inspect.Parameter(
                field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=hints[field.name]
            )
            for field in dataclasses.fields(groups[name])
        ]
    run.__name__, run.__doc__, run.__module__ = command.__name__, command.__doc__, command.__module__
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {one.name: one.annotation for one in parameters}
    return run


def unwanted_classes(invalid: str | None) -> str | None:
    """What `--invalid` means: "none" is no quality layer."""
    return "" if invalid == "none" else invalid
