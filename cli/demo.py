"""`geoaug demo`: a made scene, augmented, and where to look."""

import shlex
from pathlib import Path
from typing import Annotated

import typer

from geoaug.cli.console import print_note, print_out, stdout_console

_SIZE = 1024
_COPIES = 3
_MARK = "made-by-geoaug-demo.txt"


def demo(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for all that the demo makes.")] = Path(
        "geoaug-demo"
    ),
    size: Annotated[int, typer.Option("--size", help="Side of the made scene, in pixels of 10 m.")] = _SIZE,
    seed: Annotated[int, typer.Option("--seed", help="Another seed makes another landscape.")] = 0,
) -> None:
    """Make a Sentinel-2-like scene with class labels, augment it, and draw a contact sheet.

    Takes well under a minute. Run it again: it replaces what it made.
    """
    from geoaug.cli.augment import augment_with_progress, exit_code, summary
    from geoaug.data.synthetic.made_scene import write_scene
    from geoaug.errors import ConfigurationError
    from geoaug.io.job import AugmentJob
    from geoaug.io.output import OutputFolder

    _claim(output)
    OutputFolder(output).check(overwrite=True)
    print_note("making a scene: fields, forest, water and a town in 13 bands")
    try:
        made = write_scene(output, size=size, seed=seed)
    except OSError as error:
        raise ConfigurationError(f"{output}: cannot be written ({error.strerror or error})") from error
    job = AugmentJob(
        scenes=(str(made.image),),
        output=output / "tiles",
        sensor="sentinel-2-l1c",
        labels=made.labels,
        copies=_COPIES,
        tile=min(256, size),
        seed=seed,
        overwrite=True,
    )
    report = augment_with_progress(job)
    if report.cancelled:
        raise typer.Exit(exit_code(report))
    print_note("drawing the contact sheet")
    from geoaug.io.preview import write_preview

    picture = output / "preview.png"
    write_preview(job, picture, tiles=2, tile=job.tile)
    stdout_console().print(summary(report))
    print_out(f"""
{picture}
    tiles beside their augmented copies, in true and false colour, with masks: open this first
{made.image}, {made.labels}
    the scene of {size} x {size} pixels in 13 bands, and its class labels
{output}/tiles/images, {output}/tiles/masks
    augmented GeoTIFFs and their masks: drag them into QGIS, they are correctly georeferenced
{output}/tiles/manifest.parquet
    one row a tile: footprint, source, and every number that was drawn

Next, with a scene of your own:
    geoaug info your-scene.tif
    geoaug preview your-scene.tif
or on this one:
    geoaug augment {shlex.quote(str(made.image))} -o tiles --labels {shlex.quote(str(made.labels))} --recipe strong""")
    raise typer.Exit(exit_code(report))


def _claim(folder: Path) -> None:
    """Make the demo's folder and mark it as such; raise `ConfigurationError` where others' files are in it."""
    from geoaug.errors import ConfigurationError

    mark = folder / _MARK
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not mark.is_file() and any(folder.iterdir()):
            raise ConfigurationError(
                f"{folder}: holds files that are not of a demo; name a new or empty folder with --output"
            )
        mark.write_text("geoaug demo made this folder, and replaces scene.tif, labels.tif, preview.png and tiles\n")
    except OSError as error:
        raise ConfigurationError(f"{folder}: cannot be written ({error.strerror or error})") from error
