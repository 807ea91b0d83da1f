"""`geoaug recipes`: the presets, and one to copy."""

from typing import Annotated

import typer

from geoaug.cli.console import print_out, stdout_console

app = typer.Typer(help="List the presets, or show one to copy.", invoke_without_command=True)


@app.callback(invoke_without_command=True)
def recipes(context: typer.Context) -> None:
    """List the presets, or show one to copy."""
    if context.invoked_subcommand is not None:
        return
    from rich.table import Table

    from geoaug.presets import available_recipes

    table = Table(box=None, padding=(0, 1), show_header=False)
    for recipe in available_recipes():
        table.add_row(f"[bold]{recipe.name}[/bold]", recipe.summary)
    stdout_console().print(table)
    print_out("\ngeoaug recipes show standard > mine.yaml    # a copy to change")
    print_out("geoaug augment scene.tif -o tiles --recipe mine.yaml")


@app.command("show")
def show(name: Annotated[str, typer.Argument(help="A preset.")]) -> None:
    """Print the YAML of a preset, comments included, ready to be saved and changed."""
    from geoaug.errors import ConfigurationError
    from geoaug.presets import available_recipes, preset_text

    names = [recipe.name for recipe in available_recipes()]
    if name not in names:
        raise ConfigurationError(f"{name}: not a preset; choose from {', '.join(names)}")
    print_out(preset_text(name))
