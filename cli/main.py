"""The console script `geoaug`: its commands, and how errors end.

An error that geoaug raises on purpose is one line on stderr. Exit codes: 0 all done, 1 some inputs failed, 2 wrong
usage, 130 stopped by Ctrl-C.
"""

import importlib
import os
import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from geoaug.cli.console import print_error, print_out

app = typer.Typer(
    name="geoaug",
    no_args_is_help=True,
    add_completion=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
# Each command with its file and the function in it, or a typer app of several commands; in the order of the help.
COMMANDS = {
    "augment": "augment:augment",
    "preview": "preview:preview",
    "info": "info:info",
    "demo": "demo:demo",
    "audit": "audit:audit",
    "stress": "stress:stress",
    "bench": "bench:bench",
    "index": "index:index",
    "stats": "stats:stats",
    "split": "split:split",
    "fit": "fit:fit",
    "validate": "evaluate:validate",
    "test": "evaluate:measure",
    "predict": "predict:predict",
    "explain": "explain:explain",
    "plot": "plot:app",
    "recipes": "recipes:app",
}


def add_command(name: str, home: str) -> None:
    """Add a command to the app; a file may have CONTEXT_SETTINGS for how its options are parsed."""
    module_name, _, attribute = home.partition(":")
    module = importlib.import_module(f"geoaug.cli.{module_name}")
    found = getattr(module, attribute)
    if isinstance(found, typer.Typer):
        app.add_typer(found, name=name)
    else:
        app.command(name, context_settings=getattr(module, "CONTEXT_SETTINGS", None))(found)


for _name, _home in COMMANDS.items():
    add_command(_name, _home)

# Typer carries a click of its own in some versions and not in others.
_UsageProblem: Any = next(base for base in typer.BadParameter.__mro__ if base.__name__ == "ClickException")


def _version(show: bool) -> None:
    if show:
        import geoaug

        print_out(f"geoaug {geoaug.__version__}")
        raise typer.Exit


@app.callback()
def geoaug_callback(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show where an error came from (also: GEOAUG_DEBUG=1).")
    ] = False,
) -> None:
    """Realistic augmentation for satellite imagery: tiles that stay georeferenced, with their labels.

    New here? [bold]geoaug demo[/bold] makes a scene, augments it and shows where to look.
    """


def run(arguments: Sequence[str] | None = None) -> None:
    """The entry point; ends the process with the exit code."""
    sys.exit(main(sys.argv[1:] if arguments is None else arguments))


def main(arguments: Sequence[str]) -> int:
    """Run a command line and return its exit code."""
    from geoaug.errors import ConfigurationError, GeoaugError

    # Wherever it stands on the line: people add it at the end when something went wrong.
    debug = "--debug" in arguments or os.environ.get("GEOAUG_DEBUG", "") not in ("", "0")
    arguments = [argument for argument in arguments if argument != "--debug"]
    try:
        code = app(args=list(arguments), prog_name="geoaug", standalone_mode=False)
    except (GeoaugError, typer.Abort, KeyboardInterrupt, _UsageProblem) as error:
        if debug:
            raise
        if isinstance(error, typer.Abort | KeyboardInterrupt):
            print_error("stopped")
            return 130
        if isinstance(error, GeoaugError):
            print_error(str(error))
            return 2 if isinstance(error, ConfigurationError) else 1
        return _explain(error)
    except Exception as error:  # a fault of geoaug itself
        if debug:
            raise
        print_error(f"unexpected {type(error).__name__}: {error}; run again with --debug to see where, and report it")
        return 1
    return code if isinstance(code, int) else 0


def _explain(problem: Any) -> int:
    """One line for what typer found wrong with the command line; the help itself where nothing was asked."""
    message = str(problem.format_message()).strip()
    context = getattr(problem, "ctx", None)
    if type(problem).__name__ == "NoArgsIsHelpError":
        print_out(message)
        return int(problem.exit_code)
    where = "geoaug" if context is None else context.command_path
    print_error(f"{message[:1].lower()}{message[1:].rstrip('.')} (see {where} --help)")
    return int(problem.exit_code)
