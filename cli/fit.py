"""`geoaug fit`: a network trained on a folder, a catalog, or as a configuration says, into one model file."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from geoaug.cli import options
from geoaug.cli.console import print_error, print_note, print_out, stdout_console, work_bar

if TYPE_CHECKING:
    from geoaug.models.fit.choices import Choices
    from geoaug.models.fit.fitting import Fitted

# Values of a configuration are known to LightningCLI alone.
CONTEXT_SETTINGS = {"allow_extra_args": True, "ignore_unknown_options": True}

_DATA, _NETWORK, _TRAINING, _OUTPUT = "Input", "Network", "Training", "Output"


class Decoder(StrEnum):
    """What answers for each pixel."""

    unet = "unet"
    fpn = "fpn"
    deeplabv3plus = "deeplabv3+"


Config = Annotated[
    Path | None,
    typer.Option(
        "--config",
        "-c",
        help="A configuration (examples/*.yaml). Every value of it can be overridden: --trainer.max_epochs 5.",
        show_default=False,
        rich_help_panel=_DATA,
    ),
]
Data = Annotated[
    list[str] | None,
    typer.Option(
        "--data",
        "-d",
        help="A catalog of [bold]geoaug index[/bold], a folder, or files; may be repeated. In place of --config.",
        show_default=False,
        rich_help_panel=_DATA,
    ),
]


@dataclass(frozen=True)
class FitOptions:
    """What is asked for beside --data; None leaves the choice open. The names are those of `FitRequest`."""

    labels: options.Labels = None
    label_field: options.LabelField = None
    target: Annotated[
        str | None,
        typer.Option(
            "--target",
            help="Column of the catalog to learn: numbers, or names of classes.",
            show_default=False,
            rich_help_panel=_DATA,
        ),
    ] = None
    task: Annotated[
        str | None,
        typer.Option(
            "--task",
            help="classification, segmentation, regression, or a class of your own (mylab.depth.DepthTask). Default: "
            "judged from the labels.",
            show_default=False,
            rich_help_panel=_DATA,
        ),
    ] = None
    sensor: options.SensorName = None
    bands: options.Bands = None
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            "-m",
            help="resnet18, resnet34, resnet50...  Default: resnet18.",
            show_default=False,
            rich_help_panel=_NETWORK,
        ),
    ] = None
    decoder: Annotated[
        Decoder | None,
        typer.Option("--decoder", help="For maps. Default: unet.", show_default=False, rich_help_panel=_NETWORK),
    ] = None
    weights: Annotated[
        str | None,
        typer.Option(
            "--weights",
            "-w",
            help="A file, a name of torchvision's (IMAGENET1K_V1), or none. Default: DEFAULT.",
            show_default=False,
            rich_help_panel=_NETWORK,
        ),
    ] = None
    dropout: Annotated[
        float | None,
        typer.Option("--dropout", help="Before the last layer.", show_default=False, rich_help_panel=_NETWORK),
    ] = None
    tile: Annotated[
        int | None,
        typer.Option(
            "--tile",
            "-t",
            min=16,
            help="Side of a tile, pixels of the scene.",
            show_default=False,
            rich_help_panel=_TRAINING,
        ),
    ] = None
    input_size: Annotated[
        int | None,
        typer.Option(
            "--input-size",
            min=16,
            help="Side that chips are enlarged to, pixels.",
            show_default=False,
            rich_help_panel=_TRAINING,
        ),
    ] = None
    recipe: Annotated[
        str | None,
        typer.Option(
            "--recipe",
            "-r",
            help="Augmentation: a preset, a file, or none. Default: by sensor and task.",
            show_default=False,
            rich_help_panel=_TRAINING,
        ),
    ] = None
    epochs: Annotated[
        int | None,
        typer.Option("--epochs", "-e", min=1, help="Default: 30.", show_default=False, rich_help_panel=_TRAINING),
    ] = None
    batch_size: Annotated[
        int | None,
        typer.Option(
            "--batch-size", min=1, help="Default: by the size of tiles.", show_default=False, rich_help_panel=_TRAINING
        ),
    ] = None
    lr: Annotated[
        float | None,
        typer.Option("--lr", help="Peak learning rate of the head.", show_default=False, rich_help_panel=_TRAINING),
    ] = None


@options.takes_options
def fit(
    context: typer.Context,
    config: Config = None,
    data: Data = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="Folder of the training. Default: that of the configuration, or fitted.",
            show_default=False,
            rich_help_panel=_OUTPUT,
        ),
    ] = None,
    *,
    wanted: FitOptions,
    seed: Annotated[int, typer.Option("--seed", help="Of everything.", rich_help_panel=_TRAINING)] = 0,
    device: options.Device = "auto",
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Go on from the last checkpoint in the folder.", rich_help_panel=_OUTPUT),
    ] = False,
    overwrite: Annotated[
        bool,
        typer.Option("--overwrite", help="Begin anew in a folder that holds a training.", rich_help_panel=_OUTPUT),
    ] = False,
    choose_only: Annotated[
        bool,
        typer.Option(
            "--choose-only",
            help="Write the configuration that --data leads to, and train nothing.",
            rich_help_panel=_OUTPUT,
        ),
    ] = False,
) -> None:
    """Fine-tune a network, and leave one file that predicts: model.safetensors.

    With --data alone, everything else is chosen and shown: the task, a split that does not leak, weights, stem, recipe.
    What was chosen is written as a configuration, too, to be changed and given with --config.

    [dim]geoaug fit --data chips/ --model resnet50 -o trained[/dim]
    """
    from geoaug.errors import ConfigurationError
    from geoaug.models.fit.devices import is_first_process, prepared_for_others, started_together
    from geoaug.models.tasks.registry import allow_imports_of

    chosen: dict[str, Any] = {
        name: value.value if isinstance(value, StrEnum) else value for name, value in asdict(wanted).items()
    }
    given = [f"--{name.replace('_', '-')}" for name, value in chosen.items() if value is not None]
    overrides = dotted(context.args)
    overrides += on_device(device)
    if wanted.task is not None:
        allow_imports_of(wanted.task)
    folder = output or Path("fitted")
    if data and config:
        raise ConfigurationError("give --config or --data: a configuration names its data (--data.source overrides it)")
    if resume and config is None and not data:
        config = folder / "config.yaml"
        if not config.is_file():
            raise ConfigurationError(f"{config}: no such configuration; name the folder of the training with -o")
    if config is not None:
        if given:
            raise ConfigurationError(
                f"{', '.join(given)}: {'are' if len(given) > 1 else 'is'} for --data; with --config, write it as in "
                "the file: --model.network.backbone resnet50"
            )
        if not config.is_file():
            raise ConfigurationError(f"{config}: no such configuration")
        arguments = ["--config", str(config), *overrides]
        if output is not None:
            arguments += ["--run.output", str(output)]
    elif data:
        if resume:
            raise ConfigurationError(f"--resume goes on as the training began: geoaug fit --resume -o {folder}")
        path = folder / "chosen.yaml"
        if started_together():
            raise ConfigurationError(
                "several processes would choose at once: run one with --choose-only first, and start all with "
                f"--config {path}"
            )
        if is_first_process():
            if (folder / "checkpoints").exists() and not overwrite:
                raise ConfigurationError(
                    f"{folder}: holds a training already; --resume it, or begin anew with --overwrite"
                )
            from geoaug.models.fit.choices import FitRequest, choose

            most = value_given(overrides, "--trainer.max_epochs")
            if wanted.epochs is None and most and most.isdigit():
                chosen["epochs"] = int(most)
            request = FitRequest(
                data,
                folder,
                **chosen,
                seed=seed,
                device=value_given(overrides, "--trainer.accelerator") or "auto",
                precision=value_given(overrides, "--trainer.precision"),
            )
            with work_bar("looking at the data") as tell:
                choices = choose(request, tell, fetch=not choose_only)
            _show(choices)
            choices.save(path)
            print_out(f"wrote    {path}")
            if choose_only:
                return
        arguments = ["--config", str(path), *overrides]
    else:
        raise ConfigurationError("name what to learn from: --data FOLDER, or --config FILE")
    from geoaug.models.fit.fitting import fit as run

    try:
        with warnings_as_notes(), prepared_for_others():
            fitted = run(arguments, resume=resume, overwrite=overwrite, tell=print_note, bar=on_terminal())
    except KeyboardInterrupt as interrupt:
        print_error("stopped; geoaug fit --resume with the same -o goes on after the last whole epoch")
        raise typer.Exit(130) from interrupt
    if is_first_process():
        _tell_result(fitted)


@contextmanager
def warnings_as_notes() -> Iterator[None]:
    """Warnings that reach a person are a line each, without the code that gave them."""
    with warnings.catch_warnings():
        warnings.showwarning = lambda message, *rest, **more: print_note(str(message))
        yield


def dotted(arguments: list[str]) -> list[str]:
    """What typer did not know: values of a configuration, --trainer.max_epochs 5; anything else is a mistake."""
    from geoaug.errors import ConfigurationError

    for number, text in enumerate(arguments):
        after = number > 0 and arguments[number - 1].startswith("--") and "=" not in arguments[number - 1]
        if text.startswith("--") and ("." in text.partition("=")[0] or text.startswith("--seed_everything")):
            continue
        if not after or text.startswith("--"):
            raise ConfigurationError(f"no such option or argument: {text} (see --help)")
    return list(arguments)


def on_device(device: str) -> list[str]:
    """Options of Lightning's trainer for a device."""
    if device == "auto":
        return []
    from geoaug.io.augmenter import choose_device

    where = choose_device(device)
    if where.type == "cpu":
        return ["--trainer.accelerator", "cpu"]
    return ["--trainer.accelerator", "gpu", *(["--trainer.devices", f"[{where.index}]"] if where.index else [])]


def value_given(arguments: list[str], name: str) -> str | None:
    """The last value that a configuration's option is given among others, None where it is not."""
    found = None
    for number, text in enumerate(arguments):
        option, equals, value = text.partition("=")
        if option == name:
            found = value if equals else arguments[number + 1] if number + 1 < len(arguments) else None
    return found


def on_terminal() -> bool:
    """Whether somebody watches."""
    import sys

    return sys.stderr.isatty()


def _show(choices: "Choices") -> None:
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, padding=(0, 1), show_header=False)
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    table.add_column(style="dim", overflow="fold")
    for what, choice, why in choices.lines:
        table.add_row(what, escape(choice), escape(why))
    stdout_console().print(table)


def _tell_result(fitted: "Fitted") -> None:
    overall = {
        name: value for name, value in fitted.metrics.items() if name.count("/") == 1 and not name.startswith("train/")
    }
    print_out(f"best epoch {fitted.metrics['epoch']:.0f} of {fitted.epochs}")
    show_metrics(overall)
    print_out(f"wrote    {fitted.model}")


def show_metrics(metrics: dict[str, float]) -> None:
    """Metrics by name, those of one part in a line."""
    parts: dict[str, list[str]] = {}
    for name, value in metrics.items():
        part, _, rest = name.partition("/")
        parts.setdefault(part, []).append(f"{rest} {value:.4g}")
    for part, texts in parts.items():
        print_out(f"{part:8} {', '.join(texts)}")
